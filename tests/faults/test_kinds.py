"""Tables with the columns of others: a column of another type, twice, missing or empty is named, whoever reads it."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastalloc.errors import InputError
from fastalloc.foreign import parquet_table
from fastalloc.store import open_dataset
from fastalloc.store.check import check_dataset
from fastalloc.store.segments import segments_of
from fastalloc.trace.lanes.state_table import read_state
from fastalloc.trace.replay.recording import read_trace
from tests.faults.test_files import FAULTS
from tests.fuzz.dataset import small_dataset

OTHERS = {
    "text": lambda column: pa.array([str(value) for value in column.to_pylist()]),
    "float": lambda column: column.cast(pa.float64(), safe=False),
    "moment": lambda column: column.cast(pa.int64(), safe=False).cast(pa.timestamp("us")),
    "decimal": lambda column: column.cast(pa.decimal128(38, 2)),
    "list": lambda column: pa.array([[value] for value in column.to_pylist()], pa.list_(column.type)),
}


@pytest.fixture
def dataset(tmp_path):
    return small_dataset(tmp_path / "d")


def rewritten(path, change):
    """Writes the table at ``path`` as ``change`` has it; the record in its footer stays."""
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def with_column(name, make):
    return lambda table: table.set_column(table.column_names.index(name), name, make(table[name]))


def null_at_first(column):
    return pa.array([None, *column.to_pylist()[1:]], column.type)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(("table", "column"), [("runs", "livelock_5s"), ("runs", "seed"), ("series", "t_ms")])
def test_a_shard_with_a_column_of_another_type(dataset, table, column, kind):
    (shard, *_) = sorted((dataset / table).glob("*.parquet"))
    rewritten(shard, with_column(column, OTHERS[kind]))
    with pytest.raises(InputError, match=rf"{shard.name}: {column}: holds .*, not int64"):
        open_dataset(dataset)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns(["livelock_5s"]), "livelock_5s: column is missing here or in another shard"),
        (lambda table: table.drop_columns(["lane"]), "lane: column is missing"),
        (lambda table: table.append_column("oom", table["oom"]), "oom: column is there 2 times"),
    ],
)
def test_a_shard_with_other_columns(dataset, change, words):
    (*_, shard) = sorted((dataset / "runs").glob("*.parquet"))
    rewritten(shard, change)
    with pytest.raises(InputError, match=words):
        open_dataset(dataset)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (null_at_first, "pages_swapped_out: is empty in a row"),
        (lambda column: pa.array([-2] * len(column)), "pages_swapped_out: holds -2, which no lane measures"),
        (lambda column: pa.array([1 << 40] * len(column)), "is not as its run wrote it"),
    ],
)
def test_a_shard_with_other_values(dataset, make, words):
    (shard, *_) = sorted((dataset / "runs").glob("*.parquet"))
    rewritten(shard, with_column("pages_swapped_out", make))
    told = [fault.message for fault in check_dataset(dataset).faults if fault.path == shard]
    assert [message for message in told if message != "lanes of it are missing"] == [words]
    manifest = dataset / "manifest.json"
    told = json.loads(manifest.read_text())
    del told["files"][f"runs/{shard.name}"]
    manifest.write_text(json.dumps(told))
    assert [fault.message for fault in check_dataset(dataset).faults if fault.path == shard] != []


@pytest.mark.parametrize("column", ["lane", "id"])
def test_a_shard_with_the_lanes_of_others(dataset, column):
    (*_, shard) = sorted((dataset / "ledger").glob("*.parquet"))
    rewritten(shard, with_column(column, lambda values: pa.array([value.as_py() ^ 1 for value in values], pa.int64())))
    told = [fault.message for fault in check_dataset(dataset).faults if fault.path == shard]
    assert "a row's lane or point is not that of its id" in told


@pytest.mark.parametrize(
    "part",
    [5, [], [0, "x", "rc8", {}, 0, 1], [0, "x", "rc8", {}, 0, "1", 0], [0, "x", "rc8", {}, 3, 3, 0],
     [0, "x", "rc8", {}, 0, 1 << 60, 0], [0, "x", "rc8", {}, 0, 1, 2], [True, "x", "rc8", {}, 0, 1, 0]],
)  # fmt: skip
def test_a_footer_with_lanes_that_cannot_be(part):
    assert segments_of("d", {"task": {"id": "x", "segments": [[0, "x", "rc8", {}, 0, 1, 0]]}})
    with pytest.raises(InputError, match="tells no lanes of a sweep"):
        segments_of("d", {"task": {"id": "x", "segments": [part]}})


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("column", ["ts_ns", "cpu", "ptr"])
def test_a_trace_with_a_column_of_another_type(tmp_path, column, kind):
    path = tmp_path / "a.parquet"
    pq.write_table(with_column(column, OTHERS[kind])(pq.read_table(FAULTS / "a.parquet")), path)
    with pytest.raises(InputError, match=rf"a\.parquet: {column}: holds"):
        read_trace(path)


@pytest.mark.parametrize("column", ["ts_ns", "cpu", "ptr", "bytes_req", "bytes_alloc"])
def test_a_trace_with_an_event_that_lacks_what_it_must_tell(tmp_path, column):
    path = tmp_path / "a.parquet"
    empty = with_column(column, lambda values: pa.nulls(len(values), values.type))
    pq.write_table(empty(pq.read_table(FAULTS / "a.parquet")), path)
    with pytest.raises(InputError, match=rf"row \d+, {column}: is empty"):
        read_trace(path)


def test_a_trace_with_an_object_larger_than_its_slot(tmp_path):
    path = tmp_path / "a.parquet"
    change = with_column("bytes_alloc", lambda column: pa.array([1] * len(column), column.type))
    pq.write_table(change(pq.read_table(FAULTS / "a.parquet")), path)
    with pytest.raises(InputError, match=r"row \d+: an object of [0-9,]+ bytes in a slot of 1"):
        read_trace(path)


def test_a_state_whose_slabs_hold_less_than_they_are_said_to(tmp_path):
    small = FAULTS.parent / "fuzz" / "state" / "small.parquet"
    path = tmp_path / "s.parquet"
    change = with_column("order", lambda column: pa.array([0] * len(column), column.type))
    pq.write_table(change(pq.read_table(small)), path)
    assert read_state(small).height
    with pytest.raises(InputError, match="oo_objects: of that size do not fit a slab of that order"):
        read_state(path)


def test_a_footer_that_tells_of_more_rows_than_there_are(tmp_path):
    """The number of rows of the file or of its one group, each a varint of Thrift behind its field's head."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array(range(77), pa.int64())}), sink)
    data, path = bytearray(sink.getvalue()), tmp_path / "a.parquet"
    places = [at for at in range(len(data) // 2, len(data)) if data[at : at + 3] == b"\x16\x9a\x01"]  # 77 in zigzag
    refused = 0
    for at in places:
        data[at + 1 : at + 3] = b"\x98\x01"  # 76
        path.write_bytes(data)
        try:
            assert parquet_table(path).height == 77
        except InputError:
            refused += 1
        data[at + 1 : at + 3] = b"\x9a\x01"
    assert refused >= 2

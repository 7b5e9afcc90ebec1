"""``dataset check`` names every fault that can be planted."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from fastalloc.errors import InputError
from fastalloc.report.verdict import verdicts
from fastalloc.store import check, open_dataset, write
from fastalloc.store.check import check_dataset
from fastalloc.store.write import parquet_bytes
from tests.faults.conftest import fastalloc as fastalloc
from tests.store.test_store import fill, small


@pytest.fixture(scope="module", autouse=True)
def shards_of_two_lanes():
    with pytest.MonkeyPatch.context() as patch:
        for module in (check, write):
            patch.setattr(module, "SHARD_LANES", 2)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two variants, five lanes each."""
    return fill(tmp_path_factory.mktemp("check") / "dataset", small(lanes=5))


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory):
    """A run of one variant, which is checked again and again."""
    return fill(tmp_path_factory.mktemp("check") / "two", small(lanes=4), ("rc8",))


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def faults(path):
    return {str(fault.path.relative_to(path)): fault.message for fault in check_dataset(path).faults}


def test_a_sound_run_has_no_fault(whole):
    found = check_dataset(whole)
    assert (found.shards, found.lanes, found.faults) == (6, 10, [])
    assert found.bytes == sum(file.stat().st_size for file in whole.rglob("*.parquet"))


@pytest.mark.parametrize("table", ["runs", "series", "events", "ledger"])
def test_a_flipped_bit_in_any_column_is_found(two_shards, tmp_path, table):
    copy = shutil.copytree(two_shards, tmp_path / "copy")
    assert faults(copy) == {}
    shard = copy / table / "rc8-000001.parquet"
    sound = shard.read_bytes()
    metadata = pq.read_metadata(shard)
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    for column in columns[:: max(1, len(columns) // 5)]:
        content = bytearray(sound)
        start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        content[start + column.total_compressed_size - 1] ^= 4  # the last byte of its last page
        shard.write_bytes(content)
        assert f"{table}/rc8-000001.parquet" in faults(copy), column.path_in_schema


def test_a_footer_that_one_of_two_readers_refuses_is_found(copy):
    shard = copy / "runs" / "rc8-000001.parquet"
    content = bytearray(shard.read_bytes())
    order = content.rfind(b"\x1c\x00\x00\x1c\x00\x00")  # of a column: the union's one variant
    content[order] = 0
    shard.write_bytes(content)
    assert pq.read_table(shard).num_rows > 0
    assert any("ColumnOrder" in fault.message for fault in check_dataset(copy).faults if fault.path == shard)
    with pytest.raises(InputError, match="runs"):
        verdicts(open_dataset(copy))


def test_missing_shards_are_named(copy):
    for table in ("runs", "series", "events", "ledger"):
        (copy / table / "fix-000001.parquet").unlink()
    (copy / "series" / "rc8-000000.parquet").unlink()
    assert faults(copy) == {
        "runs/fix-000001.parquet": "lanes of it are missing",
        "series/rc8-000000.parquet": "is missing; other tables have this shard",
    }


def test_what_a_full_disk_left_of_a_shard_is_no_fault_of_a_run_that_was_stopped(copy):
    for table in ("runs", "ledger"):
        (copy / table / "fix-000002.parquet").unlink()
    manifest = copy / "manifest.json"
    told = json.loads(manifest.read_text())
    told["variants"][1]["lanes"] = 4
    manifest.write_text(json.dumps(told))
    assert faults(copy) == {
        f"{table}/fix-000002.parquet": "is missing; other tables have this shard" for table in ("runs", "ledger")
    }
    manifest.write_text(json.dumps(told | {"status": "interrupted"}))
    assert faults(copy) == {}
    told["variants"][1]["lanes"] = 5  # a lane that it tells of
    manifest.write_text(json.dumps(told | {"status": "interrupted"}))
    assert faults(copy) == {"runs/fix-000002.parquet": "lanes of it are missing"}


def test_shards_of_elsewhere_are_named(copy, tmp_path):
    other = fill(tmp_path / "other", small(lanes=5, seed=2))
    shutil.copy(other / "series" / "rc8-000000.parquet", copy / "series" / "rc8-000000.parquet")
    shutil.copy(copy / "events" / "rc8-000001.parquet", copy / "events" / "rc8-000002.parquet")
    shutil.copy(copy / "runs" / "fix-000000.parquet", copy / "runs" / "fix-000009.parquet")
    found = faults(copy)
    assert "its footer" in found["series/rc8-000000.parquet"]
    assert "rows of lanes that its shard of runs/ does not hold" in found["events/rc8-000002.parquet"]
    assert found["runs/fix-000009.parquet"] == "2 of its lanes are there twice, the first with id 5"


def test_what_does_not_belong_is_named(copy):
    (copy / "runs" / ".rc8-000000.parquet.99999999").write_bytes(b"half")
    (copy / "events" / "notes.txt").write_text("")
    assert faults(copy) == {
        "runs/.rc8-000000.parquet.99999999": "a temporary file that its writer left",
        "events/notes.txt": "is no shard",
    }


def test_a_shard_with_fewer_rows_than_the_others_is_named(copy):
    shard = copy / "runs" / "rc8-000000.parquet"
    shard.write_bytes(parquet_bytes(pq.read_table(shard).slice(0, 1)).to_pybytes())
    found = faults(copy)
    assert found["runs/rc8-000000.parquet"] == "lanes of it are missing"
    assert "does not hold" in found["series/rc8-000000.parquet"]


def test_the_command_ends_with_one_where_anything_is_wrong(copy, fastalloc):
    (copy / "ledger" / "x").write_text("")
    done = fastalloc("dataset", "check", copy)
    assert done.code == 1
    assert f"{copy / 'ledger' / 'x'}: is no shard" in done.err
    assert done.out.endswith(", 1 fault\n")

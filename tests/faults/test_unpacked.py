"""What is unpacked is sized before: sections of containers, rows that say the same, texts that stand for many."""

import hashlib
import io
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from fastalloc.errors import InputError
from fastalloc.foreign import parquet_batches, parquet_table
from fastalloc.trace.compact.compact import HEADER, HEADER_BYTES, write_trace
from fastalloc.trace.replay.recording import read_trace
from fastalloc.unpacked import ipc_bytes, plain_bytes
from tests.faults.test_files import FAULTS, refused

ROWS = 3000


def packed(table, compression="zstd"):
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as file:
        file.write_table(table)
    return out.getvalue()


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_bytes_of_a_packed_table_are_known(compression):
    table = pa.table({"n": np.arange(ROWS), "text": ["x" * 40] * ROWS, "zeros": np.zeros(ROWS)})
    assert 0 <= ipc_bytes(packed(table, compression)) - table.nbytes < 64 * 8
    names = pa.table({"name": pa.array(["a", "bb"] * ROWS).dictionary_encode()})
    assert 0 <= ipc_bytes(packed(names, compression)) - names.nbytes < 64 * 8


def test_bytes_of_what_polars_packs_are_known():
    out = io.BytesIO()
    pl.DataFrame({"text": ["x" * 50] * ROWS, "n": range(ROWS)}).write_ipc(out, compression="zstd")
    assert ROWS * (16 + 8 + 50) <= ipc_bytes(out.getvalue()) < ROWS * (16 + 8 + 50) * 1.1


def test_texts_count_for_each_row_that_they_stand_in():
    once = pa.array(["x" * 1000])
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), once)
    assert plain_bytes([many]) == ROWS * 1008
    views = pa.array(["x" * 1000, None, "y"], pa.string_view()).slice(1)
    assert plain_bytes([pa.chunked_array([views])]) == 2 * 16 + 1
    assert plain_bytes([pa.array([1, 2, 3], pa.int8())]) == 3 * 8


@pytest.fixture
def names(tmp_path):
    """A table of 3,000 rows and one name of a megabyte: 3 GB, in a file of a few kilobytes."""
    path = tmp_path / "t.parquet"
    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array(["x" * (1 << 20)]))
    parquet.write_table(pa.table({"cache": name, "snap": np.zeros(ROWS, np.int64)}), path, store_schema=False)
    return path


def test_one_name_for_thousands_of_rows_is_refused(names, monkeypatch):
    monkeypatch.setenv("FASTALLOC_MEMORY", "1G")
    for wanted in (None, {"cache": pa.large_string()}):
        with pytest.raises(InputError, match=r"3,145,\d{3},\d{3} bytes with its texts written out"):
            parquet_table(names, wanted)
    assert len(parquet_table(names, {"snap": pa.int64()})) == ROWS
    with pytest.raises(InputError, match="bytes with its texts written out; at most 268,435,456"):
        list(parquet_batches(names, ROWS, ["cache"]))


def test_rows_that_say_the_same_are_counted(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"n": np.zeros(1 << 21, np.int64)}), path)
    assert path.stat().st_size < 10_000
    monkeypatch.setenv("FASTALLOC_MEMORY", "8M")
    with pytest.raises(InputError, match="is 16,777,216 bytes once unpacked; at most 8,388,608"):
        parquet_table(path)


def test_a_column_of_lists_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"n": [[1], [2]], "m": [1, 2]}), path)
    with pytest.raises(InputError, match="n: holds list<element: int64>, where each row has one value"):
        parquet_table(path, {"n": pa.int64()})
    assert len(parquet_table(path, {"m": pa.int64()})) == 2


@pytest.fixture
def container(tmp_path):
    """Writes a compact trace whose table of contents was changed, with its checksum made right again."""
    path = tmp_path / "t.fatrace"
    write_trace(path, read_trace(FAULTS / "a.parquet"))
    data = path.read_bytes()
    head = list(HEADER.unpack(data[: HEADER.size]))
    told = json.loads(data[head[4] :])

    def changed(**meta):
        text = json.dumps(told | {"meta": told["meta"] | meta}).encode()
        body = data[HEADER_BYTES : head[4]] + text
        head[5:] = len(text), hashlib.blake2b(body, digest_size=16).digest()
        path.write_bytes(HEADER.pack(*head).ljust(HEADER_BYTES, b"\0") + body)
        return path

    return changed


@pytest.mark.parametrize(
    "tasks",
    [5, [], {"row": []}, {"row": [], "pid": []}, {"row": [0], "pid": []}, {"row": [-1], "pid": [1]},
     {"row": [3, 1], "pid": [1, 2]}, {"row": [298], "pid": [1]}, {"row": [0], "pid": ["a"]}, {"row": [0.5], "pid": [1]},
     {"row": [[0]], "pid": [[1]]}, {"row": [0], "pid": [1 << 70]}],
)  # fmt: skip
def test_tasks_that_are_none_are_refused(fastalloc, container, tasks):
    """Without one each event would be of a task beyond the table."""
    refused(fastalloc("trace", "info", container(tasks=tasks), "--by", "task"), "meta.tasks")


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"events_left_out": "\x1b[2J"}, "meta.inferred"),
        ({"inferred": {"a step": -1}}, "meta.inferred"),
        ({"inferred": {"a step": 10**4000}}, "meta.inferred"),
        ({"inferred": dict.fromkeys(map(str, range(1000)), 1)}, "1,000 steps; at most 256"),
        ({"more": "x" * (5 << 20)}, "a table of contents of 5,"),
    ],
)
def test_what_a_container_tells_of_itself_has_bounds(fastalloc, container, meta, told):
    refused(fastalloc("replay", container(**meta)), told)


def test_a_section_that_is_large_once_unpacked_is_refused(fastalloc, container, monkeypatch):
    path = container()
    assert fastalloc("trace", "info", path).code == 0
    monkeypatch.setattr("fastalloc.foreign.MOST_PART", 100)
    refused(fastalloc("trace", "info", path), "section kinds", "bytes once unpacked; at most 100 are read")

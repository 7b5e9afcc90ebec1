"""Files cut short anywhere: each is refused with the place, or was cut where a whole part of it ends.

They are cut at every seventh byte and wherever a line ends; `make test-slow` cuts them at every byte.
"""

import gzip
import re

import polars as pl
import pyarrow as pa
import pytest

from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.formats.text import read_text
from fastalloc.trace.replay.recording import read_trace
from tests.trace import tracedat_writer as tw

PLACE = r"byte \d+|line \d+|row \d+"
LINES = [
    f"a-1 [000] ..... 1.00000{i}: kfree: call_site=f ptr=ffff8880049{i}0000\n"
    if i % 2
    else f"a-1 [001] ..... 1.00000{i}: kmalloc: call_site=f ptr=ffff8880049{i + 1}0000 bytes_req=8 bytes_alloc=8 "
    "gfp_flags=GFP_KERNEL node=-1\n"
    for i in range(4)
]
TEXT = "".join(LINES).encode()
WRITERS = {
    "6": tw.write_6,
    "7, zstd": tw.write_7,
    "7, not packed": lambda *args, **named: tw.write_7(*args, **named, packed=False),
}


EVERY = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])


def cut_everywhere(path, data, read, least=0, step=1):
    """What is read of the first bytes of ``data``, ``least`` or more, where that is not refused with its place."""
    left, refused = {}, []
    ends = [at + 1 for at, byte in enumerate(data[:-1]) if byte == ord("\n")]
    for size in sorted({*range(least, len(data), step), *ends}):
        path.unlink(missing_ok=True)  # a file that is cut and written again is flushed to the disk
        path.write_bytes(data[:size])
        try:
            left[size] = read(path)
        except InputError as error:
            refused.append((size, error.where, str(error)))
    assert not [item for item in refused if not re.match(PLACE, item[1])]
    return left


def recording(monkeypatch, writer):
    """A trace.dat of some hundred bytes: pages of 128, two CPUs, one kind of event."""
    monkeypatch.setattr(tw, "PAGE", 128)
    cpus = [tw.Cpu(), tw.Cpu()]
    for i in range(12):
        cpus[i % 2].event(10 * i, tw.record("kfree", 0xFFFFFFFF81001010, 0xFFFF888004900000 + 64 * i))
    for cpu in cpus:
        cpu.close()
    assert len(cpus[0].pages) > 1
    return writer(cpus, [tw.event_format("kfree")])


@EVERY
def test_compact_trace(tmp_path, step):
    path = tmp_path / "t.txt"
    path.write_bytes(TEXT)
    whole = tmp_path / "t.fatrace"
    co.write_trace(whole, read_trace(path))
    assert not cut_everywhere(tmp_path / "cut.fatrace", whole.read_bytes(), co.open_trace, 1, step)


@EVERY
def test_text(tmp_path, step):
    left = cut_everywhere(tmp_path / "cut.txt", TEXT, lambda path: pl.concat(read_text(path)), 1, step)
    ends = [sum(map(len, LINES[:count])) for count in range(1, len(LINES))]
    assert list(left) == ends
    assert [len(events) for events in left.values()] == [1, 2, 3]


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: pa.compress(data, codec="zstd", asbytes=True)])
def test_packed_text(tmp_path, pack):
    left = cut_everywhere(tmp_path / "cut.packed", pack(TEXT), read_trace)
    assert all(len(trace.events) == len(LINES) for trace in left.values())  # only what ends the packing was lost


@EVERY
@pytest.mark.parametrize("name", WRITERS)
def test_trace_dat(tmp_path, monkeypatch, name, step):
    data = recording(monkeypatch, WRITERS[name])
    path = tmp_path / "cut.dat"
    path.write_bytes(data)
    assert read_trace(path).meta["rows_read"] == 12
    left = cut_everywhere(path, data, read_trace, step=step)
    assert all(trace.meta["rows_read"] == 12 for trace in left.values())  # only what follows the last page was lost


@EVERY
def test_packed_trace_dat(tmp_path, monkeypatch, step):
    data = gzip.compress(recording(monkeypatch, tw.write_6))
    assert not cut_everywhere(tmp_path / "cut.dat.gz", data, read_trace, step=step)


@EVERY
def test_parquet(tmp_path, step):
    path = tmp_path / "t.parquet"
    table = pl.DataFrame({"ts_ns": range(4), "cpu": [0] * 4, "event": ["free"] * 4, "ptr": range(1, 5)})
    table.write_parquet(path)
    assert not cut_everywhere(path, path.read_bytes(), read_trace, step=step)

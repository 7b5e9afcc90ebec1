"""Readers against anything: a trace or an InputError, never a traceback."""

import gzip
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastalloc.errors import InputError
from fastalloc.trace.columns import read_parquet
from fastalloc.trace.recording import read_trace

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(0, 2**64).map(hex),
    st.sampled_from(["", "0", "-1", "(nil)", "0x", "true", "ffff888004900000", "18446744073709551615", "4294967296"]),
)
names = st.sampled_from(
    ["ptr", "call_site", "bytes_req", "bytes_alloc", "gfp_flags", "node", "name", "pfn", "order", "accounted", "colour"]
)
events = st.sampled_from(
    [
        "kmalloc",
        "kfree",
        "kmem_cache_alloc",
        "kmem_cache_free",
        "mm_page_alloc",
        "mm_page_free",
        "sched_switch",
        "print",
    ]
)


@st.composite
def lines(draw):
    """A line as a tracing tool prints it, whole or wrong in one place."""
    fields = [f"{name}={draw(numbers)}" for name in draw(st.lists(names, max_size=8))]
    cpu = draw(st.sampled_from(["000", "001", "7", "65536", "99999999999", "x"]))
    time = draw(st.sampled_from(["1.000001", "2.000002000", "1.5", "99999999999999999999.000001", "-1.000000"]))
    line = f"  a b-1 [{cpu}] d..1. {time}: {draw(events)}: {' '.join(fields)}"
    return line[: draw(st.integers(0, len(line)))] if draw(st.booleans()) else line


def tried(data, name="t.txt"):
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        with suppress(InputError):
            read_trace(path)


@QUICK
@given(st.lists(lines(), max_size=12))
def test_lines(text):
    tried("\n".join(text).encode())


@QUICK
@given(st.binary(max_size=300))
def test_bytes(data):
    tried(data)
    tried(gzip.compress(data))
    tried(pa.compress(data, codec="zstd", asbytes=True))
    for magic in (
        b"\x17\x08\x44tracing6\0\0\x08",
        b"\x17\x08\x44tracing7\0\0\x08",
        b"FATRACE\x1a",
        b"PAR1",
        b"\x1f\x8b",
    ):
        tried(magic + data)


columns = {
    "ts_ns": st.integers(-5, 2**63 - 1),
    "cpu": st.integers(-1, 70_000),
    "event": st.sampled_from(["alloc", "free", "bulk_alloc", "page_alloc", "page_free", "marker", "x", None]),
    "ptr": st.integers(0, 2**63 - 1),
    "cache_resolved": st.sampled_from(["", "dentry", None]),
    "bytes_req": st.integers(-1, 2**40),
    "bytes_alloc": st.integers(0, 2**33),
    "order": st.integers(0, 300),
    "pfn": st.integers(0, 2**63 - 1),
    "node": st.integers(-1, 40_000),
}


@QUICK
@given(st.data())
def test_tables(data):
    chosen = data.draw(st.sets(st.sampled_from(sorted(columns)), min_size=1))
    size = data.draw(st.integers(0, 6))
    table = {name: data.draw(st.lists(columns[name], min_size=size, max_size=size)) for name in sorted(chosen)}
    if "ts_ns" in table and data.draw(st.booleans()):
        table["ts_ns"].sort()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        pl.DataFrame(table).write_parquet(path)
        with suppress(InputError):
            list(read_parquet(path))
        with suppress(InputError):
            read_trace(path)

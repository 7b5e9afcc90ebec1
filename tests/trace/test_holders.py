"""Who holds the memory: perf kmem's figures, a planted leak, a planted pin, tasks."""

import hashlib
import json
from functools import cache

import numpy as np
import polars as pl
import pytest

from fastalloc.cli.trace import trace_app
from fastalloc.errors import InputError
from fastalloc.trace.compact.compact import OP_ALLOC
from fastalloc.trace.compact.holders import holders
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.replay.recording import read_trace
from tests.geometry.shared import DATA, shared
from tests.trace.test_replay import run_command

RUN = DATA / "traces" / "d_stack_k612.events.parquet"


def write(tmp_path, rows):
    """A trace of rows (ns, cpu, pid, event, call site, address or frame, size)."""
    records = [
        {
            "ts_ns": ns, "cpu": cpu, "event": event, "src": "kmalloc" if event == "alloc" else event, "call_site": site,
            "ptr": where if event in ("alloc", "free") else 0, "pfn": where if event.startswith("page") else 0,
            "bytes_req": size - 8 if event == "alloc" else 0, "bytes_alloc": size if event == "alloc" else 0,
            "gfp_flags": 0xCC0, "order": 0, "node": -1, "pid": pid,
        }
        for ns, cpu, pid, event, site, where, size in sorted(rows, key=lambda row: row[0])
    ]  # fmt: skip
    path = tmp_path / "t.parquet"
    kinds = {"ptr": pl.UInt64, "pfn": pl.UInt64, "ts_ns": pl.Int64}
    pl.DataFrame(records, schema_overrides=kinds, infer_schema_length=None).write_parquet(path)
    return path


RAW = (("kernel", "d_perf_k61"), ("kernel-7.x", "d_perf_k73"))  # recordings that perf itself can read


@cache
def printed_by_perf(folder, run):
    return read_trace(shared(folder, "raw") / f"{run}.perf-script.txt.gz")


@pytest.mark.parametrize(("folder", "run"), RAW)
def test_callers_are_those_of_perf_kmem(folder, run):
    """Every call site: allocations, bytes, ping-pongs as `perf kmem --caller stat` of perf 6.1 counts them."""
    trace = printed_by_perf(folder, run)
    columns = ["allocs", "bytes_allocated", "bytes_requested", "ping_pong"]
    mine = holders(trace).rows.select(columns).sort(columns)
    perf = pl.read_csv(DATA / "perf" / f"{run}.caller.csv").sort(columns)
    assert mine.cast(pl.Int64).equals(perf.cast(pl.Int64))


@pytest.mark.parametrize(("folder", "run"), RAW)
def test_addresses_are_those_of_perf_kmem(folder, run):
    """Every address: allocations and bytes as `perf kmem --alloc stat` counts them, by a digest of its table."""
    trace = printed_by_perf(folder, run)
    told = pl.read_csv(DATA / "perf" / "alloc.csv").row(by_predicate=pl.col("run") == run, named=True)
    e = trace.events[trace.events["op"] == OP_ALLOC]
    sizes = (trace.kinds[name].to_numpy().astype(np.int64)[e["kind"]] for name in ("bytes_alloc", "bytes_req"))
    alloc, asked = (np.bincount(e["object"], size, len(trace.ptrs)).astype(np.int64) for size in sizes)
    hits = np.bincount(e["object"], minlength=len(trace.ptrs))
    rows = [
        row for row in zip(trace.ptrs.tolist(), hits.tolist(), alloc.tolist(), asked.tolist(), strict=True) if row[1]
    ]
    assert len(rows) == told["addresses"]
    assert [sum(column) for column in list(zip(*rows, strict=True))[1:]] == [
        told["allocs"], told["bytes_allocated"], told["bytes_requested"],
    ]  # fmt: skip
    text = "\n".join(",".join(map(str, row)) for row in rows)
    assert hashlib.sha256(text.encode()).hexdigest() == told["sha256"]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """Ten thousand objects of ``leaks`` of which one in a thousand stays; ``cached`` keeps all, ``grows`` most."""
    rows = []
    for i in range(10_000):
        begin = 1000 * i
        place = DIRECT_MAP + 64 * (i % 50 if i % 1000 != 7 else 1000 + i)
        rows.append((begin, 0, 7, "alloc", "leaks+0x10", place, 64))
        if i % 1000 != 7:
            rows.append((begin + 900, 0, 7, "free", "drop+0x1", place, 0))
        if i % 5 == 0:
            rows.append((begin + 1, 1, 8, "alloc", "cached+0x1", DIRECT_MAP + (1 << 24) + 64 * i, 64))
            rows.append((begin + 2, 1, 8, "alloc", "grows+0x1", DIRECT_MAP + (1 << 25) + 64 * i, 64))
            if i % 50 == 0:
                rows.append((begin + 500, 1, 8, "free", "drop+0x1", DIRECT_MAP + (1 << 25) + 64 * i, 0))
    return read_trace(write(tmp_path_factory.mktemp("leaky"), rows))


def test_a_planted_leak_is_the_first_suspect(leaky):
    found = holders(leaky)
    first = found.suspects.row(0, named=True)
    assert first["holder"] == "leaks+0x10"
    assert first["outlived"] == 10
    assert first["growth_low"] <= 1000 <= first["growth_high"]  # ten in ten milliseconds
    assert found.rows.filter(pl.col("holder") == "leaks+0x10")["live_at_end"].to_list() == [10]


def test_a_planted_pin_is_first_in_the_ledger(tmp_path):
    """Twenty pages of 64 objects; all but one of each go, and another site keeps half of its pages' objects."""
    rows = []
    for page in range(40):
        base = DIRECT_MAP + 4096 * (100 + page)
        site = "pins+0x1" if page < 20 else "fair+0x1"
        rows.append((1000 * page, 0, 1, "page_alloc", "", 100 + page, 0))
        rows += [(1000 * page + 1 + i, 0, 1, "alloc", site, base + 64 * i, 64) for i in range(64)]
        kept = 1 if page < 20 else 32
        rows += [(100_000 + 100 * page + i, 0, 1, "free", "drop", base + 64 * i, 0) for i in range(kept, 64)]
    ledger = holders(read_trace(write(tmp_path, rows))).pins
    assert ledger.to_dicts() == [
        {
            "cache": "kmalloc-64", "holder": "pins+0x1", "slabs": 20, "objects": 20, "bytes_held": 20 * 4096,
            "bytes_used": 20 * 64, "bytes_given_back": 19 * 4096,
        }
    ]  # fmt: skip


def test_tasks_and_caches_hold_what_call_sites_hold(leaky):
    by_task = holders(leaky, "task").rows
    assert dict(by_task.select("holder", "allocs").iter_rows()) == {"pid 7": 10_000, "pid 8": 4_000}
    assert holders(leaky, "cache").rows.select("holder", "allocs").rows() == [("kmalloc-64", 14_000)]


def test_every_view_adds_up():
    trace = read_trace(RUN)
    sums = [
        holders(trace, by).rows.select("allocs", "frees", "live_at_end", "bytes_allocated").sum().row(0)
        for by in ("call-site", "cache", "task")
    ]
    assert sums[0] == sums[1] == sums[2]


def test_the_command(tmp_path):
    shown = json.loads(run_command(trace_app, "info", RUN, "--by", "call-site", "--json").stdout)
    assert shown["by"]["holders"][0]["bytes_at_end"] > 0
    refused = run_command(trace_app, "info", RUN, "--by", "colour")
    assert isinstance(refused.exception, InputError)

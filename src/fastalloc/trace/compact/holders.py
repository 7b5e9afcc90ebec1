"""Who holds the memory of a trace: what each call site, cache or task allocated, and what is left of it.

A *holder* is what allocated: its objects are those that its allocations gave. What was there before the trace has none.

* perf kmem's ``--caller`` figures are ``allocs`` (its Hit), ``bytes_allocated``, ``bytes_requested``, ``ping_pong``.
* A **leak suspect** is a holder whose objects are usually freed, but some are older, at the end, than any that it ever
  saw freed. ``outlived`` counts them; ``growth`` is how many of them come a second, with the 95 % interval of a Poisson
  count. The first one is the one with most quarters of the trace in which such objects were born, then most bytes a
  second by the lower end of the interval. A holder whose addresses are handed out again without a free has frees that
  fire no event, and is none.
* The **pin ledger** lists slabs allocated in the trace that are a quarter full or less at the end, by the holder of
most
  of their objects, and the bytes that come back if those objects moved into full slabs. All objects of such slabs are
  known; of slabs from before the trace they are not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import holding_passes as passes
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.compact.row_passes import columns_of
from fastalloc.trace.compact.tasks import tasks_of

BY = ("call-site", "cache", "task")
NEARLY_EMPTY = 4  # one of so many objects is left, or fewer
LEAST_FREES = 10  # of a leak suspect
LEAST_OUTLIVED = 3
_NS = 1e9


@dataclass(frozen=True)
class Held:
    """``rows``: a row a holder, most bytes at the end first. ``suspects`` and ``pins`` as in the module's text.
    ``peak_bytes`` and ``peak_ns``: the most bytes live at once of what the trace allocated, and when."""

    rows: pl.DataFrame
    suspects: pl.DataFrame
    pins: pl.DataFrame
    peak_bytes: int
    peak_ns: int

    def record(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "peak_bytes": self.peak_bytes,
            "peak_ns": self.peak_ns,
            "holders": self.rows.to_dicts(),
            "leak_suspects": self.suspects.to_dicts(),
            "pins": self.pins.to_dicts(),
        }


def _groups(trace: co.CompactTrace, by: str) -> tuple[list[str], np.ndarray]:
    """Names of the holders, and which one each event is of: uint32[n]."""
    if by == "task":
        return _tasks(trace)
    column = trace.kinds["cache" if by == "cache" else "call_site"].to_numpy().astype(str)
    names, which = np.unique(column, return_inverse=True)
    return names.tolist(), which.astype(np.uint32)[trace.events["kind"]]


def _tasks(trace: co.CompactTrace) -> tuple[list[str], np.ndarray]:
    pids, task = tasks_of(trace)
    return [f"pid {pid}" for pid in pids.tolist()], task


class _Lives:
    """One pass over a trace for holders ``by``."""

    def __init__(self, trace: co.CompactTrace, by: str) -> None:
        e, objects = trace.events, len(trace.ptrs)
        self.trace = trace
        self.names, self.group = _groups(trace, by)
        self.size = trace.kinds["bytes_alloc"].to_numpy().astype(np.int64)
        self.by = np.full(objects, -1, np.int32)
        self.born = np.zeros(objects, np.uint32)
        self.kind = np.zeros(objects, np.uint32)
        self.counts = np.zeros((len(self.names), 3), np.int64)
        frees = int(((e["op"] == co.OP_FREE) | (e["op"] == co.OP_BULK_FREE)).sum())
        life_of, life = np.zeros(frees, np.uint32), np.zeros(frees, np.uint32)
        most = np.zeros(2, np.int64)
        out = passes.Out(self.by, self.born, np.full(objects, -1, np.int32), self.kind)
        pairs = passes.held(columns_of(e), self.group, self.size, out, self.counts, life_of, life, most)
        self.life_of, self.life = life_of[:pairs], life[:pairs]
        self.most, self.peak_row = int(most[0]), int(most[1])
        self.alive = np.flatnonzero(self.by >= 0)

    def count(self, values: np.ndarray | None = None) -> np.ndarray:
        """Sum of ``values`` (1 each if None) over the objects alive at the end, by holder."""
        return np.bincount(self.by[self.alive], values, minlength=len(self.names)).astype(np.int64)


def holders(trace: co.CompactTrace, by: str = "call-site") -> Held:
    """Who holds what in ``trace``, ``by`` one of BY."""
    lives = _Lives(trace, by)
    e, groups = trace.events, len(lives.names)
    unit = trace.meta["time_unit_ns"]
    allocs = (e["op"] == co.OP_ALLOC) | (e["op"] == co.OP_BULK_ALLOC)
    of, kind = lives.group[allocs], e["kind"][allocs]
    asked = trace.kinds["bytes_req"].to_numpy().astype(np.int64)
    peak = np.zeros(groups, np.int64)
    if len(e):
        passes.live_at(e["op"], e["object"], lives.group, lives.peak_row, np.full(len(trace.ptrs), -1, np.int32), peak)
    size, want = lives.size[lives.kind[lives.alive]], asked[lives.kind[lives.alive]]
    rows = pl.DataFrame(
        {
            "holder": lives.names,
            "allocs": np.bincount(of, minlength=groups),
            "frees": lives.counts[:, 0],
            "bytes_requested": np.bincount(of, asked[kind], minlength=groups).astype(np.int64),
            "bytes_allocated": np.bincount(of, lives.size[kind], minlength=groups).astype(np.int64),
            "ping_pong": lives.counts[:, 1],
            "reused_without_free": lives.counts[:, 2],
            "live_at_peak": peak,
            "live_at_end": lives.count(),
            "bytes_at_end": lives.count(size),
            "wasted_at_end": lives.count(size - want),
        }
    ).with_columns(bytes_wasted=pl.col("bytes_allocated") - pl.col("bytes_requested"))
    lived = pl.DataFrame({"holder": lives.life_of, "life": lives.life}).group_by("holder").agg(
        median_life_ns=pl.col("life").median() * unit, longest_life_ns=pl.col("life").max().cast(pl.Int64) * unit
    )  # fmt: skip
    rows = rows.with_row_index("id").join(lived, left_on="id", right_on="holder", how="left")
    rows = rows.join(_growth(lives, rows["longest_life_ns"], unit), on="id", how="left").drop("id")
    rows = rows.filter(pl.col("allocs") > 0).sort(
        "bytes_at_end", "bytes_allocated", "holder", descending=[True, True, False]
    )
    return Held(rows, _suspects(rows), _pins(lives), lives.most, _time(trace, lives.peak_row))


def _time(trace: co.CompactTrace, row: int) -> int:
    e = trace.events
    return int(e["time"][row]) * trace.meta["time_unit_ns"] + trace.meta["first_ns"] if len(e) else 0


def _growth(lives: _Lives, longest: pl.Series, unit: int) -> pl.DataFrame:
    """Objects older at the end than any that was freed: outlived, quarters (of the time in which such may be born),
    bytes of them, and how many come a second with the interval of a Poisson count."""
    time = lives.trace.events["time"]
    last = int(time[-1]) if len(time) else 0
    limit = (longest.fill_null(0).to_numpy() // unit).astype(np.int64)
    of, born = lives.by[lives.alive], lives.born[lives.alive].astype(np.int64)
    window = np.maximum(last - limit, 1)
    old = last - born > limit[of]
    of, born = of[old], born[old]
    outlived = np.bincount(of, minlength=len(lives.names))
    quarter = np.minimum(4 * born // window[of], 3)
    filled = np.unique(4 * of.astype(np.int64) + quarter) // 4
    seconds = window * unit / _NS
    spread = 1.96 * np.sqrt(outlived + 1.0)
    bytes_of = np.bincount(of, lives.size[lives.kind[lives.alive[old]]], minlength=len(lives.names)).astype(np.int64)
    return pl.DataFrame(
        {
            "id": np.arange(len(lives.names), dtype=np.uint32),
            "outlived": outlived,
            "outlived_bytes": bytes_of,
            "outlived_quarters": np.bincount(filled, minlength=len(lives.names)),
            "growth": outlived / seconds,
            "growth_low": np.maximum(outlived - spread, 0) / seconds,
            "growth_high": (outlived + spread) / seconds,
        }
    )


def _suspects(rows: pl.DataFrame) -> pl.DataFrame:
    """Leak suspects, the first one first."""
    often = (pl.col("frees") >= LEAST_FREES) & (pl.col("outlived") >= LEAST_OUTLIVED)
    seen = 10 * pl.col("reused_without_free") < pl.col("outlived")
    mostly = pl.col("frees") * 2 > pl.col("allocs")
    each = pl.col("outlived_bytes") / pl.col("outlived")
    return (
        rows.filter(often & seen & mostly)
        .with_columns(bytes_per_second_low=pl.col("growth_low") * each)
        .sort("outlived_quarters", "bytes_per_second_low", descending=True)
        .select(
            "holder", "allocs", "frees", "outlived", "outlived_bytes", "outlived_quarters", "growth", "growth_low",
            "growth_high", "longest_life_ns", "bytes_per_second_low",
        )
    )  # fmt: skip


def _pins(lives: _Lives) -> pl.DataFrame:
    """Slabs allocated in the trace, nearly empty at its end, by the holder of most of their objects and their cache."""
    trace = lives.trace
    e = trace.events
    given = np.flatnonzero((e["op"] == co.OP_PAGE_ALLOC) & (e["object"] != co.NO_PFN))
    page = np.unique(e["object"][given])
    last = np.full(len(page), -1)
    passes.last_page_events(e["op"], e["object"], page, last)
    keep = e["op"][np.maximum(last, 0)] == co.OP_PAGE_ALLOC if len(page) else np.zeros(0, bool)
    page, row = page[keep].astype(np.int64), last[keep]
    order = trace.kinds["order"].to_numpy().astype(np.int64)[e["kind"][row]]
    address = trace.ptrs[lives.alive]
    inside = address >= np.uint64(DIRECT_MAP)
    alive = lives.alive[inside]
    frame = ((address[inside] - np.uint64(DIRECT_MAP)) >> np.uint64(12)).astype(np.int64)
    at = np.searchsorted(page, frame, side="right") - 1
    known = at >= 0
    known[known] = frame[known] < page[at[known]] + (1 << order[at[known]])
    # An object older than the pages it lies in was freed unseen.
    slab, alive = at[known], alive[known]
    newer = lives.born[alive] >= e["time"][row[slab]]
    slab, alive = slab[newer], alive[newer]
    size = lives.size[lives.kind[alive]]
    table = pl.DataFrame(
        {
            "slab": slab,
            "holder": lives.by[alive],
            "cache": trace.kinds["cache"].gather(lives.kind[alive]),
            "size": size,
            "bytes": 4096 << order[slab],
        },
        schema_overrides={"slab": pl.Int64, "holder": pl.Int32, "bytes": pl.Int64, "size": pl.Int64},
    ).filter((pl.col("size") > 0) & (pl.col("size") * 2 <= pl.col("bytes")))
    slabs = (
        table.group_by("slab", "cache", "size", "bytes")
        .agg(objects=pl.len(), holder=pl.col("holder").mode().min())
        .filter(pl.col("objects") * NEARLY_EMPTY * pl.col("size") <= pl.col("bytes"))
    )
    room = pl.col("bytes").first() // pl.col("size").first()
    needed = (pl.col("objects").sum() + room - 1) // room
    ledger = slabs.group_by("cache", "holder", "size", "bytes").agg(
        slabs=pl.len(), live=pl.col("objects").sum(), needed=needed
    )
    names = pl.DataFrame({"holder": np.arange(len(lives.names), dtype=np.int32), "name": lives.names})
    return (
        ledger.join(names, on="holder")
        .select(
            "cache",
            holder="name",
            slabs="slabs",
            objects="live",
            bytes_held=pl.col("slabs") * pl.col("bytes"),
            bytes_used=pl.col("live") * pl.col("size"),
            bytes_given_back=(pl.col("slabs").cast(pl.Int64) - pl.col("needed").cast(pl.Int64)) * pl.col("bytes"),
        )
        .filter(pl.col("bytes_given_back") > 0)
        .sort("bytes_given_back", "cache", "holder", descending=[True, False, False])
    )


__all__ = ["BY", "Held", "holders"]

"""What is in a trace, in the words of perf kmem."""

from typing import Any

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import tallies
from fastalloc.trace.compact.row_passes import columns_of


def describe(trace: co.CompactTrace) -> dict[str, Any]:
    """``totals`` (events, bytes, pages, CPUs), ``caches`` (a record a cache, most bytes first) and ``inferred``."""
    events, kinds = trace.events, len(trace.kinds)
    counts = np.zeros((kinds, len(co.OPS)), np.int64)
    tallies.counted(events["op"], events["kind"], counts)
    allocs = counts[:, co.OP_ALLOC] + counts[:, co.OP_BULK_ALLOC]
    frees = counts[:, co.OP_FREE] + counts[:, co.OP_BULK_FREE]
    size = trace.kinds["bytes_alloc"].to_numpy().astype(np.int64)
    figures = np.zeros((kinds, 3), np.int64)
    life_of, life = (np.zeros(int(frees.sum()), np.uint32) for _ in range(2))
    objects = len(trace.ptrs)
    pairs = tallies.freed(
        columns_of(events), size, np.full(objects, -1, np.int32), np.zeros(objects, np.int64), figures, life_of, life
    )
    cache = trace.kinds.select("cache").with_row_index("kind")
    lives = pl.DataFrame({"kind": life_of[:pairs], "life": life[:pairs]}).join(cache, on="kind")
    medians = lives.group_by("cache").agg(median_life_ns=pl.col("life").median() * trace.meta["time_unit_ns"])
    caches = (
        trace.kinds.select(
            "cache",
            allocs=allocs,
            frees=frees,
            bytes_requested=allocs * trace.kinds["bytes_req"].to_numpy(),
            bytes_allocated=allocs * size,
            bytes_freed=figures[:, 0],
            bytes_freed_again=figures[:, 1],
            cross_cpu_frees=figures[:, 2],
        )
        .filter(allocs + frees > 0)
        .group_by("cache")
        .sum()
        .join(medians, on="cache", how="left")
        .sort("bytes_allocated", "cache", descending=[True, False])
    )
    total = {
        name: int(caches[name].sum())
        for name in ("bytes_requested", "bytes_allocated", "bytes_freed", "bytes_freed_again")
    }
    span = (int(events["time"][-1]) - int(events["time"][0])) * trace.meta["time_unit_ns"] if len(events) else 0
    page_allocs = events["object"][events["op"] == co.OP_PAGE_ALLOC]
    failed = int((page_allocs == co.NO_PFN).sum())
    totals = {
        "events": len(events),
        "events per second": round(len(events) * 1e9 / span) if span else 0,
        "CPUs": len(np.unique(events["cpu"])),
        "caches": len(caches),
        "allocations": int(caches["allocs"].sum()),
        "frees": int(caches["frees"].sum()),
        "total bytes requested": total["bytes_requested"],
        "total bytes allocated": total["bytes_allocated"],
        "total bytes freed": total["bytes_freed"],
        "of these freed again, no allocation in between": total["bytes_freed_again"],
        "net total bytes allocated": total["bytes_allocated"] - total["bytes_freed"],
        "total bytes wasted on internal fragmentation": total["bytes_allocated"] - total["bytes_requested"],
        "cross CPU frees": int(caches["cross_cpu_frees"].sum()),
        "page allocations": len(page_allocs) - failed,
        "page allocations that failed": failed,
        "page frees": int(counts[:, co.OP_PAGE_FREE].sum()),
    }
    return {"totals": totals, "caches": caches.to_dicts(), "inferred": trace.meta["inferred"]}

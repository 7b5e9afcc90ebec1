"""What is in a trace, in the words of perf kmem."""

from typing import Any

import numpy as np
import polars as pl

from fastalloc.trace import compact as co


def describe(trace: co.CompactTrace) -> dict[str, Any]:
    """``totals`` (events, bytes, pages, CPUs), ``caches`` (a record a cache, most bytes first) and ``inferred``."""
    events = trace.events
    kinds = trace.kinds.with_row_index("kind").with_columns(pl.col("kind").cast(pl.UInt32))
    frame = pl.DataFrame(
        {name: np.ascontiguousarray(events[name]) for name in ("object", "kind", "cpu", "op")} | {"ts": trace.time_ns()}
    ).join(kinds, on="kind", how="left", maintain_order="left")
    objects = frame.lazy().filter(pl.col("op") <= co.OP_BULK_FREE)
    alloc = pl.col("op").is_in([co.OP_ALLOC, co.OP_BULK_ALLOC])
    before = pl.col("ts").shift(1).over("object")
    paired = ~alloc & alloc.shift(1).over("object")
    lives = objects.with_columns(
        alloc=alloc,
        life=pl.when(paired).then(pl.col("ts") - before),
        cross=paired & (pl.col("cpu") != pl.col("cpu").shift(1).over("object")),
        # As perf kmem counts: what was last allocated at the address, even where it was freed already.
        bytes_freed=pl.when(~alloc).then(pl.when(alloc).then("bytes_alloc").forward_fill().over("object")).fill_null(0),
        again=~alloc & (~alloc).shift(1).over("object").fill_null(False),
    )
    caches = (
        lives.group_by("cache")
        .agg(
            allocs=pl.col("alloc").sum(),
            frees=(~pl.col("alloc")).sum(),
            bytes_requested=pl.col("bytes_req").filter(pl.col("alloc")).cast(pl.Int64).sum(),
            bytes_allocated=pl.col("bytes_alloc").filter(pl.col("alloc")).cast(pl.Int64).sum(),
            bytes_freed=pl.col("bytes_freed").cast(pl.Int64).sum(),
            bytes_freed_again=pl.col("bytes_freed").filter("again").cast(pl.Int64).sum(),
            cross_cpu_frees=pl.col("cross").sum(),
            median_life_ns=pl.col("life").median(),
        )
        .sort("bytes_allocated", "cache", descending=[True, False])
        .collect()
    )
    total = {
        name: int(caches[name].sum())
        for name in ("bytes_requested", "bytes_allocated", "bytes_freed", "bytes_freed_again")
    }
    span = int(frame["ts"][-1] - frame["ts"][0]) if len(frame) else 0
    page_allocs = frame.filter((pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("object") != co.NO_PFN))
    totals = {
        "events": len(frame),
        "events per second": round(len(frame) * 1e9 / span) if span else 0,
        "CPUs": int(frame["cpu"].n_unique()),
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
        "page allocations": len(page_allocs),
        "page allocations that failed": int(((frame["op"] == co.OP_PAGE_ALLOC) & (frame["object"] == co.NO_PFN)).sum()),
        "page frees": int((frame["op"] == co.OP_PAGE_FREE).sum()),
    }
    return {"totals": totals, "caches": caches.to_dicts(), "inferred": trace.meta["inferred"]}

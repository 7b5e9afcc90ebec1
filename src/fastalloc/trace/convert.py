"""From a table of events to the compact trace."""

from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.trace import compact as co
from fastalloc.trace.columns import MARKER
from fastalloc.trace.infer import infer_caches
from fastalloc.trace.purchase import before_purchase


def compact_events(
    path: Path,
    events: pl.DataFrame,
    aliases: dict[str, str] | None = None,
    strict: bool = False,
    sizes: pl.DataFrame | None = None,
) -> co.CompactTrace:
    """The trace of ``events`` (see ``columns``), nothing written.

    ``strict`` refuses where anything had to be inferred beyond names given or resolved before. ``path`` is named in
    errors and in the trace; ``aliases`` and ``sizes`` as for ``infer_caches``.
    """
    inferred: dict[str, int] = {}
    rows = len(events)
    if not rows:
        raise InputError(path, "", "holds no event")
    markers = events.filter(pl.col("op") == MARKER).select("ts_ns", text=pl.col("cache").cast(pl.String))
    events = events.filter(pl.col("op") != MARKER)
    objects = pl.col("op") <= co.OP_BULK_FREE
    null = objects & (pl.col("ptr") == 0)
    frees = pl.col("op").is_in([co.OP_FREE, co.OP_BULK_FREE])
    inferred["kfree(NULL), left out"] = int(events.select((null & frees).sum()).item())
    inferred["allocations that failed"] = int(events.select((null & ~frees).sum()).item())
    failed = pl.lit(co.OP_ALLOC_FAILED, pl.UInt8)
    events = events.filter(~(null & frees)).with_columns(op=pl.when(null).then(failed).otherwise("op"))
    events, steps = infer_caches(events, aliases, sizes)
    inferred |= {f"cache {step}": count for step, count in steps.items()}
    unknown = (objects | (pl.col("op") == co.OP_ALLOC_FAILED)) & pl.col("name").is_null()
    inferred["without a cache, left out"] = int(events.select(unknown.sum()).item())
    events = events.filter(~unknown)
    events, moved = before_purchase(_bulk_order(events))
    inferred["allocations put before the purchase of their slab"] = moved
    inferred |= _lives(events)
    if strict:
        given = (
            "cache named by the tracepoint",
            "cache resolved before",
            "kfree(NULL), left out",
            "allocations that failed",
            "allocations put before the purchase of their slab",
        )
        for step, count in inferred.items():
            if count and step not in given and "before the trace" not in step:
                raise InputError(path, step, f"{count} events; --strict takes no inference")
    return _pack(path, rows, events, markers, {step: count for step, count in inferred.items() if count})


def _bulk_order(events: pl.DataFrame) -> pl.DataFrame:
    """Objects of one bulk free in the order in which the kernel frees them: from the last of the array to the first
    [build_detached_freelist]. Rows of a call follow each other with one time and CPU."""
    bulk = (events["op"] == co.OP_BULK_FREE).to_numpy()
    if not bulk.any():
        return events
    row = np.arange(len(events))
    joined = bulk[1:] & bulk[:-1]
    for name in ("ts_ns", "cpu"):
        values = events[name].to_numpy()
        joined &= values[1:] == values[:-1]
    call = np.cumsum(np.concatenate([[True], ~joined]))
    return events[np.lexsort((np.where(bulk, -row, row), call))]


def _lives(events: pl.DataFrame) -> dict[str, int]:
    """Objects whose life the trace does not show whole."""
    lives = events.lazy().filter(pl.col("op") <= co.OP_BULK_FREE)
    alloc = pl.col("op").is_in([co.OP_ALLOC, co.OP_BULK_ALLOC])
    previous = alloc.shift(1).over("ptr")
    counts = (
        lives.select(
            old=(~alloc & previous.is_null()).sum(),
            freed=(~alloc & ~previous).sum(),
            allocated=(alloc & previous).sum(),
        )
        .collect()
        .row(0)
    )
    names = (
        "objects alive before the trace",
        "freed twice: an allocation in between is not in the trace",
        "allocated twice: a free in between is not in the trace",
    )
    return dict(zip(names, counts, strict=True))


def _pack(
    path: Path, rows: int, events: pl.DataFrame, markers: pl.DataFrame, inferred: dict[str, int]
) -> co.CompactTrace:
    kinds_by = ["src", "call_site", "bytes_req", "bytes_alloc", "gfp_flags", "order", "node"]
    events = events.with_columns(cache_name=pl.col("name").fill_null("").cast(pl.Categorical))
    kinds = events.select("cache_name", *kinds_by).unique(maintain_order=True).with_row_index("kind")
    events = events.join(kinds, on=["cache_name", *kinds_by], how="left", maintain_order="left")
    ptr = events["ptr"].to_numpy()
    op = events["op"].to_numpy()
    is_object = op <= co.OP_BULK_FREE
    ptrs, ids = np.unique(ptr[is_object], return_inverse=True)
    time = events["ts_ns"].to_numpy()
    first = int(time[0]) if len(time) else 0
    unit = co.time_unit(int(time[-1]) - first if len(time) else 0)
    packed = np.zeros(len(events), co.EVENT)
    packed["time"] = (time - first) // unit
    packed["object"] = np.minimum(events["pfn"].to_numpy(), co.NO_PFN)
    packed["object"][is_object] = ids
    packed["kind"] = events["kind"].to_numpy()
    packed["cpu"] = events["cpu"].to_numpy()
    packed["op"] = op
    at = pl.int_range(pl.len()).over("cpu")
    ago = events.select(at=at, cpu="cpu", pid="pid").select(pl.col("at") - pl.col("at").shift(1).over("cpu", "pid"))
    packed["ago"] = ago.to_series().fill_null(0).clip(0, co.MAX_AGO).to_numpy()
    packed.flags.writeable = False
    table = kinds.select(cache=pl.col("cache_name").cast(pl.String), **{
        name: pl.col(name).cast(pl.String) if name in ("src", "call_site") else pl.col(name) for name in kinds_by
    })  # fmt: skip
    sources = set(table["src"])
    meta = {
        "source": Path(path).name,
        "first_ns": first,
        "time_unit_ns": unit,
        "rows_read": rows,
        "cpus": int(packed["cpu"].max()) + 1 if len(packed) else 0,
        "bulk_rows": any("bulk" in source for source in sources),
        "inferred": inferred,
    }
    return co.CompactTrace(str(path), packed, ptrs.astype("<u8"), table, markers, meta)

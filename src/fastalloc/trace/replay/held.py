"""Who holds the memory of the slabs at one moment of a replay: by cache and call site, to the last byte."""

import numpy as np
import polars as pl

from fastalloc.kernels.replay.kmem_events import CACHE_SERIES
from fastalloc.trace.compact import holding_passes as passes
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.lanes.lane import LaneResult, cache_of_kind

BEFORE = "(from before the trace)"
FREE = "(free slots)"
TAILS = "(tails of slabs)"


def held_at_peak(trace: CompactTrace, result: LaneResult) -> tuple[pl.DataFrame, int]:
    """Who holds what when ``result`` holds most pages, of the moments that were sampled, and when that is, ns.

    ``trace``: in the order that was replayed. A row a cache and holder: cache, holder (a call site, BEFORE, FREE or
    TAILS), objects, bytes. The bytes of a cache are those of its slabs.
    """
    columns = {"cache": pl.String, "holder": pl.String, "objects": pl.Int64, "bytes": pl.Int64}
    order, size = (result.caches[name].to_numpy().astype(np.int64) for name in ("order", "size"))
    slabs = result.series[:, :, CACHE_SERIES.slabs].astype(np.int64)
    if not slabs.size:
        return pl.DataFrame(schema=columns), 0
    at = int((slabs << order).sum(axis=1).argmax())
    when = int(result.sample_ns[at])
    time = (when - trace.meta["first_ns"]) // trace.meta["time_unit_ns"]
    row = int(np.searchsorted(trace.events["time"], time, side="right")) - 1
    names = result.caches["cache"].to_list()
    of_kind = cache_of_kind(trace, result.config)
    sites = trace.kinds["call_site"].to_numpy().astype(str)
    pairs, group = np.unique(np.array([of_kind.astype(str), sites]), axis=1, return_inverse=True)
    live = np.zeros(pairs.shape[1], np.int64)
    events = trace.events
    by = np.full(len(trace.ptrs), -1, np.int32)
    passes.live_at(events["op"], events["object"], group.ravel().astype(np.uint32)[events["kind"]], row, by, live)
    rows = [
        (names[int(cache)], site, int(count), int(count * size[int(cache)]))
        for (cache, site), count in zip(pairs.T.tolist(), live.tolist(), strict=True)
        if count and int(cache) >= 0
    ]
    known = np.zeros(len(names), np.int64)
    for (cache, _), count in zip(pairs.T.tolist(), live.tolist(), strict=True):
        if int(cache) >= 0:
            known[int(cache)] += count
    out = np.maximum(result.series[at, :, CACHE_SERIES.objects].astype(np.int64), known)
    of_slab = {cache.name: cache.objects for cache in result.config.caches}
    objects = np.array([of_slab[name] for name in names], np.int64)
    for c, name in enumerate(names):
        whole, slots = int(slabs[at, c] << order[c]) * 4096, int(slabs[at, c] * objects[c])
        before, free = int(out[c] - known[c]), int(max(0, slots - out[c]))
        tails = max(0, whole - int(max(slots, out[c]) * size[c]))
        rows += [(name, BEFORE, before, before * int(size[c])), (name, FREE, free, free * int(size[c]))]
        rows.append((name, TAILS, 0, tails))
    found = pl.DataFrame(rows, columns, orient="row").filter(pl.col("bytes") > 0)
    return found.sort("cache", "bytes", "holder", descending=[False, True, False]), when


__all__ = ["BEFORE", "FREE", "TAILS", "held_at_peak"]

"""Bytes of slabs that hold nothing, at the end of a lane, by where they lie."""

import numpy as np

from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, Slab
from fastalloc.kernels.alloc.slub.state import SlubEras
from fastalloc.kernels.alloc.state import SLUB_CTL, SLUB_SLAB
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import tallies
from fastalloc.trace.lanes.lane import Config, cache_of_kind

PAGE_BYTES = 4096


def of_slub(
    slub: SlubEras, size: np.ndarray, num: np.ndarray, order: np.ndarray, full: np.ndarray, live: np.ndarray
) -> dict[str, np.ndarray]:
    """``tail_bytes``, ``partial_bytes`` and ``cpu_bytes`` of each cache, int64[caches].

    ``size``: bytes of a slot; ``full``: slabs that are only counted, all their ``num`` slots in use, of 2**``order``
    pages; ``live``: objects out. What a slab on a node's list has free is partial; every other free slot lies with a
    CPU (its slab, the slabs of its partial list, its sheaves) or in a sheaf of a barn.
    """
    slab = slub.slab[: slub.ctl[SLUB_CTL.slab_top]].astype(np.int64)
    slab = slab[slab[:, SLUB_SLAB.pfn] >= 0]
    cache = slab[:, SLUB_SLAB.cache]
    objects = slab[:, SLUB_SLAB.objects]
    on_node = slab[:, SLUB_SLAB.frozen] == 0

    def by_cache(values: np.ndarray) -> np.ndarray:
        return np.bincount(cache, values, len(size)).astype(np.int64)

    tail = by_cache((PAGE_BYTES << slab[:, SLUB_SLAB.order]) - objects * size[cache])
    tail += full * ((PAGE_BYTES << order) - num * size)
    partial = by_cache((objects - slab[:, SLUB_SLAB.inuse]) * on_node)
    free = full * num + by_cache(objects) - live
    return {"tail_bytes": tail, "partial_bytes": partial * size, "cpu_bytes": (free - partial) * size}


def of_slab(
    slab: Slab, size: np.ndarray, num: np.ndarray, order: np.ndarray, end: np.ndarray, live: np.ndarray
) -> dict[str, np.ndarray]:
    """As ``of_slub`` for SLAB: ``num`` slots a slab of 2**``order`` pages, ``end`` slabs; a CPU has arrays."""
    arrays = slab.queue[: len(size), :, SLAB_ARRAY.avail].sum(axis=1)
    free = end * num - live
    tail = end * ((PAGE_BYTES << order) - num * size)
    return {"tail_bytes": tail, "partial_bytes": (free - arrays) * size, "cpu_bytes": arrays * size}


def rounding_bytes(trace: co.CompactTrace, config: Config) -> np.ndarray:
    """int64[caches]: what the slots of objects that the trace allocated, and that are out at its end, have more than
    was asked for. What objects from before the trace asked for is not known."""
    e, last = trace.events, np.full(len(trace.ptrs), -1, np.int32)
    tallies.last_allocation(e["op"], e["object"], e["kind"], last)
    kinds = last[last >= 0].astype(np.int64)
    cache = cache_of_kind(trace, config)[kinds]
    asked = trace.kinds["bytes_req"].to_numpy()[kinds].astype(np.int64)
    known = cache >= 0
    size = np.array([each.size for each in config.caches], np.int64)
    more = np.maximum(size[cache[known]] - asked[known], 0)
    return np.bincount(cache[known], more, len(size)).astype(np.int64)


__all__ = ["of_slab", "of_slub", "rounding_bytes"]

"""Caches whose objects come back without an event, so that a replay keeps them, and what their pages tell of them.

kfree_rcu() fires no event: until 6.17 its batches end in kmem_cache_free_bulk [mm/slab_common.c, kfree_rcu_work], from
6.18 on objects of caches with sheaves go into a sheaf of the CPU [mm/slub.c, __kfree_rcu_sheaf]. Nor do bulk calls and
the filling of sheaves. Without probes on these functions a trace tells of such a free only in that it shows the address
handed out again. But slabs come and go as blocks of pages, which the trace does show, whoever freed their objects.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import tallies
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.lanes.caches import TracedCache


class Unseen(NamedTuple):
    """``frees``: addresses of ``cache`` handed out again without a free between, of ``allocations``; ``slabs``: how
    many more it has at the end than at the start by the pages of the trace, None where these do not meet objects."""

    cache: str
    allocations: int
    frees: int
    slabs: int | None

    def line(self, predicted: int) -> str:
        """What a user must be told; ``predicted``: slabs more at the end than at the start."""
        told = (
            f"{self.cache} is NOT EXPLAINED: at least {self.frees:,} objects of {self.allocations:,} allocations were "
            "freed without an event (kfree_rcu, bulk calls, sheaves), and are kept here until handed out again: "
        )
        if self.slabs is None:
            return told + f"{predicted:+,} slabs over the trace, and may be any number fewer"
        off = predicted - self.slabs
        return (
            told + f"{predicted:+,} slabs over the trace where its pages tell of {self.slabs:+,}: off by {abs(off):,}"
        )


def unseen_frees(trace: co.CompactTrace, caches: list[TracedCache]) -> list[Unseen]:
    """The caches with more unseen frees than a slab holds objects: fewer make up no slab. ``trace``: as recorded."""
    e, kinds = trace.events, len(trace.kinds)
    again, allocs = np.zeros(kinds, np.int64), np.zeros(kinds, np.int64)
    tallies.handed_out_again(e["op"], e["object"], e["kind"], np.full(len(trace.ptrs), -1, np.int32), again, allocs)
    names, which = trace.cache_names
    frees, given = (np.bincount(which, counts, len(names)).astype(np.int64) for counts in (again, allocs))
    layout = {cache.name: cache for cache in caches}
    found = []
    for row in np.flatnonzero(frees).tolist():
        cache = layout.get(names[row])
        if cache is not None and frees[row] > cache.objects:
            meet = bool(trace.meta.get("direct_map_votes"))
            slabs = slabs_by_pages(trace, which == row, cache.order) if meet else None
            found.append(Unseen(cache.name, int(given[row]), int(frees[row]), slabs))
    return found


def slabs_by_pages(trace: co.CompactTrace, of_cache: np.ndarray, order: int) -> int:
    """Slabs of 2**``order`` pages that a cache was given in ``trace``, less those that went. ``of_cache``: bool[kinds].

    A block of pages is the cache's from the time it is handed out until it goes back if objects of the cache were
    allocated or freed in it meanwhile; the event of the allocation that asked for it may come right before its own.
    """
    e = trace.events
    objects = np.flatnonzero((e["op"] <= co.OP_BULK_FREE) & of_cache[e["kind"]])
    address = trace.ptrs[e["object"][objects]]
    objects, address = objects[address >= np.uint64(DIRECT_MAP)], address[address >= np.uint64(DIRECT_MAP)]
    block = ((address - np.uint64(DIRECT_MAP)) >> np.uint64(12)).astype(np.int64) >> order
    large = trace.kinds["order"].to_numpy() == order
    pages = np.flatnonzero(((e["op"] == co.OP_PAGE_ALLOC) | (e["op"] == co.OP_PAGE_FREE)) & large[e["kind"]])
    frame = e["object"][pages].astype(np.int64)
    own = (frame & ((1 << order) - 1) == 0) & np.isin(frame >> order, block)
    pages, frame = pages[own], frame[own]
    row = np.concatenate([2 * objects, 2 * pages])
    at = np.concatenate([block, frame >> order])
    is_page = np.append(np.zeros(len(objects), bool), np.ones(len(pages), bool))
    sorted_by = np.lexsort((row, at))
    row, at, is_page = row[sorted_by], at[sorted_by], is_page[sorted_by]
    given = is_page & (e["op"][row // 2] == co.OP_PAGE_ALLOC)
    same = at[1:] == at[:-1]
    asked = np.flatnonzero(~is_page[:-1] & given[1:] & same & (row[1:] == row[:-1] + 2))
    is_page[asked], is_page[asked + 1] = True, False  # the two change places
    given[asked], given[asked + 1] = True, False
    begins = is_page | np.append(True, ~same)
    part = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    held = np.bincount(part[~is_page], minlength=len(first)) > 0
    follows = np.append(False, at[first][1:] == at[first][:-1]) & is_page[first]
    taken = given[first] & held
    gone = follows & ~given[first] & np.append(False, held[:-1])
    return int(taken.sum()) - int(gone.sum())


__all__ = ["Unseen", "slabs_by_pages", "unseen_frees"]

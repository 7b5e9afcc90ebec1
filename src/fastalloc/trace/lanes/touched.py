"""What a trace's addresses tell of the slabs that there were before it.

A block of pages is *old* if the trace does not show it handed out before it shows objects of it. Of an old slab, an
object whose first event is an allocation was free at the start, one whose first event is a free was in use. The rest is
known where

* after the last of the former a CPU that allocated from the slab allocates from another next: then the slab had no free
  object left, so those are all that were free [___slab_alloc leaves a CPU slab only when it is used up];
* the slab's pages go back: then all its objects were free in the end, so those that nobody freed were free before.
"""

from dataclasses import dataclass

import numpy as np

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.infer import DIRECT_MAP

NEVER = 1 << 62


@dataclass(frozen=True)
class OldSlab:
    """A slab that was there. ``pfn``: of its first page; ``row``, ``cpu``: the first allocation from it, -1 none;
    ``least`` and ``most``: objects that were free, equal where the trace tells; ``used``: whether it was used up."""

    pfn: int
    row: int
    cpu: int
    least: int
    most: int
    used: bool


class PageEvents:
    """The first event of each page frame in a trace: ``pfn`` (ascending), ``row``, ``given`` (an allocation)."""

    def __init__(self, trace: co.CompactTrace) -> None:
        op, frame = trace.events["op"], trace.events["object"]
        rows = np.flatnonzero(((op == co.OP_PAGE_ALLOC) | (op == co.OP_PAGE_FREE)) & (frame != co.NO_PFN))
        self.pfn, first = np.unique(frame[rows], return_index=True)
        self.row = rows[first]
        self.given = op[self.row] == co.OP_PAGE_ALLOC

    def of(self, pfn: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Row of the first event in each block of ``order`` from ``pfn`` on (ascending; NEVER where there is none), and
        whether that gave pages out."""
        row, given = np.append(self.row, NEVER), np.append(self.given, False)
        begin, end = np.searchsorted(self.pfn, pfn), np.searchsorted(self.pfn, pfn + (1 << order))
        first = np.full(len(pfn), len(row) - 1)
        for block in np.flatnonzero(end > begin).tolist():
            first[block] = begin[block] + row[begin[block] : end[block]].argmin()
        return row[first], given[first]

    @property
    def top(self) -> int:
        """A page frame above all that have an event."""
        return int(self.pfn[-1]) + 1 if len(self.pfn) else 0


def old_slabs(trace: co.CompactTrace, pages: PageEvents, rows: np.ndarray, order: int, objects: int) -> list[OldSlab]:
    """The old slabs of a cache of slabs of ``objects`` in blocks of ``order``, in the order of their first allocation,
    those that only saw frees last. ``rows``: the cache's operations, ascending."""
    e = trace.events
    rows = rows[e["op"][rows] <= co.OP_BULK_FREE]
    address = trace.ptrs[e["object"][rows]]
    rows, address = rows[address >= np.uint64(DIRECT_MAP)], address[address >= np.uint64(DIRECT_MAP)]
    if not len(rows):
        return []
    block = ((address - np.uint64(DIRECT_MAP)) >> np.uint64(12)).astype(np.int64) >> order
    blocks, slab = np.unique(block, return_inverse=True)
    until, given = pages.of(blocks << order, order)
    mine = ~given[slab] & (rows < until[slab])
    free = e["op"][rows] % 2 == 1
    taken = np.flatnonzero(~free)
    after = _next_elsewhere(e["cpu"][rows[taken]], block[taken])
    rows_left = np.full(len(rows), -1)
    rows_left[taken] = after
    rows, slab, free, left = rows[mine], slab[mine], free[mine], rows_left[mine]
    if not len(rows):
        return []
    first = np.sort(np.unique(e["object"][rows], return_index=True)[1])
    was_free, was_out = first[~free[first]], first[free[first]]
    least = np.bincount(slab[was_free], minlength=len(blocks))
    most = objects - np.bincount(slab[was_out], minlength=len(blocks))
    gave_back = (until < NEVER) & ~given
    begin, last, end = (np.full(len(blocks), -1) for _ in range(3))
    begin[slab[was_free][::-1]] = was_free[::-1]
    last[slab[was_free]] = was_free  # ascending: the last stays
    leaves = np.flatnonzero(left > 0)
    end[slab[leaves]] = leaves
    used = (last >= 0) & (end >= last)
    seen = np.unique(slab)
    found = []
    for s in seen.tolist():
        low, high = int(least[s]), max(int(most[s]), int(least[s]))
        if used[s]:
            high = low
        elif gave_back[s]:
            low = high
        at = int(begin[s])
        row, cpu = (int(rows[at]), int(e["cpu"][rows[at]])) if at >= 0 else (-1, -1)
        found.append(OldSlab(int(blocks[s]) << order, row, cpu, low, high, bool(used[s])))
    return sorted(found, key=lambda one: one.row if one.row >= 0 else NEVER)


def _next_elsewhere(cpu: np.ndarray, block: np.ndarray) -> np.ndarray:
    """int64[n]: 1 where the next allocation on the same CPU is from another block, 0 where it is from the same, -1
    where there is none."""
    result = np.full(len(cpu), -1)
    for one in np.unique(cpu):
        at = np.flatnonzero(cpu == one)
        result[at[:-1]] = block[at[1:]] != block[at[:-1]]
    return result


__all__ = ["NEVER", "OldSlab", "PageEvents", "old_slabs"]

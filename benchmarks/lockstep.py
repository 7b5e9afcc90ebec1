"""Lanes side by side in NumPy: every lane takes its next event in the same step, each case under its own mask."""

import numpy as np

from benchmarks.twin import STATS, Work
from fastalloc.trace.compact import compact as co

NONE = -1
(FAST, SLOW, FREE_FAST, FREE_SLOW, ADD, REMOVE, NEW, DISCARD, FROM_PARTIAL, REFILL, FULL) = (
    STATS.index(name)
    for name in (
        "alloc_fastpath", "alloc_slowpath", "free_fastpath", "free_slowpath", "free_add_partial", "free_remove_partial",
        "alloc_slab", "free_slab", "alloc_from_partial", "alloc_refill", "deactivate_full",
    )
)  # fmt: skip


class LockStep:
    """SLUB 2.6.25 of one cache and one CPU, a lane a work; pages without end."""

    def __init__(self, works: list[Work]) -> None:
        lanes, first = len(works), works[0]
        self.op = np.stack([work.events["op"] for work in works], axis=1).astype(np.int64)
        self.object = np.stack([work.events["object"] for work in works], axis=1).astype(np.int64)
        self.objects = int(first.setup["objects"][0])
        room = first.objects // self.objects * 4 + 64
        self.stat = np.zeros((lanes, len(STATS)), np.int64)
        self.page = np.full(lanes, NONE)  # of the CPU
        self.freelist = np.full(lanes, NONE)  # its own
        self.head = np.full(lanes, NONE)  # of the partial list
        self.tail = np.full(lanes, NONE)
        self.inuse = np.zeros((lanes, room), np.int64)
        self.slab_freelist = np.full((lanes, room), NONE)
        self.next = np.full((lanes, room), NONE)
        self.prev = np.full((lanes, room), NONE)
        self.link = np.zeros((lanes, room, self.objects), np.int64)
        self.spare = np.tile(np.arange(room)[::-1], (lanes, 1))
        self.spares = np.full(lanes, room)
        self.where = np.zeros((lanes, first.objects), np.int64)  # slab * objects + index

    def run(self) -> None:
        """All events of all lanes."""
        for op, obj in zip(self.op, self.object, strict=True):
            allocs = op == co.OP_ALLOC
            self._alloc(np.flatnonzero(allocs), obj)
            self._free(np.flatnonzero(~allocs), obj)

    def _alloc(self, lanes: np.ndarray, obj: np.ndarray) -> None:
        empty = self.freelist[lanes] == NONE
        self.stat[lanes[~empty], FAST] += 1
        slow = lanes[empty]
        if len(slow):
            self._refill(slow)
        i, page = self.freelist[lanes], self.page[lanes]
        self.freelist[lanes] = self.link[lanes, page, i]
        self.where[lanes, obj[lanes]] = page * self.objects + i

    def _refill(self, lanes: np.ndarray) -> None:
        """The next partial slab or a new one becomes the CPU's; the one it had is full and on no list."""
        had = lanes[self.page[lanes] != NONE]
        self.stat[had, REFILL] += 1
        self.stat[had, FULL] += 1
        self.stat[lanes, SLOW] += 1
        listed = self.head[lanes] != NONE
        some, none = lanes[listed], lanes[~listed]
        slab = self.head[some]
        self._unlink(some, slab)
        self.stat[some, FROM_PARTIAL] += 1
        self.page[some], self.freelist[some] = slab, self.slab_freelist[some, slab]
        self.spares[none] -= 1
        fresh = self.spare[none, self.spares[none]]
        self.link[none, fresh] = np.append(np.arange(1, self.objects), NONE)
        self.stat[none, NEW] += 1
        self.page[none], self.freelist[none] = fresh, 0
        self.inuse[lanes, self.page[lanes]] = self.objects
        self.slab_freelist[lanes, self.page[lanes]] = NONE

    def _free(self, lanes: np.ndarray, obj: np.ndarray) -> None:
        slab, i = np.divmod(self.where[lanes, obj[lanes]], self.objects)
        own = slab == self.page[lanes]
        fast, slow = lanes[own], lanes[~own]
        self.link[fast, slab[own], i[own]] = self.freelist[fast]
        self.freelist[fast] = i[own]
        self.stat[fast, FREE_FAST] += 1
        slab, i = slab[~own], i[~own]
        prior = self.slab_freelist[slow, slab]
        self.link[slow, slab, i] = prior
        self.slab_freelist[slow, slab] = i
        self.inuse[slow, slab] -= 1
        self.stat[slow, FREE_SLOW] += 1
        emptied, first = self.inuse[slow, slab] == 0, prior == NONE
        gone = slow[emptied & ~first]
        self._unlink(gone, slab[emptied & ~first])
        self.stat[gone, REMOVE] += 1
        back, slabs = slow[emptied], slab[emptied]
        self.spare[back, self.spares[back]] = slabs
        self.spares[back] += 1
        self.stat[back, DISCARD] += 1
        self._append(slow[first & ~emptied], slab[first & ~emptied])

    def _append(self, lanes: np.ndarray, slab: np.ndarray) -> None:
        last = self.tail[lanes]
        self.prev[lanes, slab], self.next[lanes, slab], self.tail[lanes] = last, NONE, slab
        linked = last != NONE
        self.next[lanes[linked], last[linked]] = slab[linked]
        self.head[lanes[~linked]] = slab[~linked]
        self.stat[lanes, ADD] += 1

    def _unlink(self, lanes: np.ndarray, slab: np.ndarray) -> None:
        before, after = self.prev[lanes, slab], self.next[lanes, slab]
        left, right = before != NONE, after != NONE
        self.next[lanes[left], before[left]] = after[left]
        self.head[lanes[~left]] = after[~left]
        self.prev[lanes[right], after[right]] = before[right]
        self.tail[lanes[~right]] = before[~right]

"""When a task refilled a sheaf: told by the slabs that it allocated and by the sheaf that it made [mm/slub.c of 7.2 and
7.3: __pcs_replace_empty_main, refill_objects].

An allocation that finds no object on its CPU takes an empty sheaf, or makes one, lets go of the CPU's lock, fills the
sheaf from the lists, then out of new slabs, and puts it to use. Its own event comes last. If the task is preempted on
the way, others allocate on that CPU, find nothing either, and refill a second sheaf. Of such a refill the trace holds

* the pages of its slabs: mm_page_alloc with __GFP_NOWARN and __GFP_NORETRY, as of a slab, and with __GFP_NOMEMALLOC,
  which refill_sheaf adds. The first object out of the pages tells the cache; where none came, the sheaf was put aside,
  and the task's next allocation tells it;
* where none were to be had so, those of the second try, without __GFP_NORETRY and perhaps of a smaller order; their
  first object tells them;
* the memory of its sheaf: a kmalloc by __pcs_replace_empty_main of a size that goes with the cache's capacity.

Both are of the task's next allocation of that cache. The task looked for objects after its last event before them,
callbacks of call_rcu in its name aside; its refill begins where the rules find none first, looking before each
allocation of that cache on that CPU from there on. The lists it searched once it had its sheaf. How many slabs it
allocated tells how much the lists had given it.

A sheaf of a kmalloc cache is made without another sheaf being made or filled for it [SLAB_ALLOC_NO_RECURSE].
"""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.row_passes import DIRECT_MAP
from fastalloc.trace.compact.weave import ADDED

NEW, FULL = "__pcs_replace_empty_main", "__pcs_replace_full_main"  # who makes a sheaf: for an allocation, for a free
_NORETRY = 0x10000  # of 7.x [include/linux/gfp_types.h]
_REFILL = 0x2000 | 0x80000  # __GFP_NOWARN, __GFP_NOMEMALLOC
_HEADER = 32  # bytes of struct slab_sheaf without its pointers
SOFTIRQ = "rcu_do_batch"  # frees in the name of the task that it interrupts [kernel/rcu/tree.c]
NESTED = 64  # events of interrupts that may lie between a refill and its allocation
LONGEST = 200  # allocations by others, before each of which a refill may have begun


@dataclass(frozen=True)
class Layout:
    """Of a cache: objects a sheaf, 0 none; order of its slabs."""

    capacity: int
    order: int


@dataclass
class _Refill:
    """One refill. Rows of the trace: ``last`` event of the task before it (-1 none), its sheaf's memory (-1 none),
    ``pages`` of its slabs, those of a smaller order apart, the allocation that it is of."""

    cache: int
    last: int
    sheaf: int
    pages: list[int]
    smaller: list[int]
    target: int

    @property
    def begin(self) -> int:
        """The first row that tells of it."""
        return min(row for row in (self.sheaf, *self.pages, *self.smaller) if row >= 0)


@dataclass
class _Allocated:
    """What a refill allocated: rows of its pages, of the cache's order and smaller; the task's ``last`` row before."""

    last: int
    pages: list[int] = field(default_factory=list)
    smaller: list[int] = field(default_factory=list)

    @property
    def first(self) -> int:
        return min([*self.pages, *self.smaller], default=1 << 62)


@dataclass
class _Pending:
    """What a task's refills under way have shown: by cache what they allocated, sheaves (row, bytes, last), pages of no
    known cache (row, order, last)."""

    allocated: dict[int, _Allocated] = field(default_factory=dict)
    sheaves: list[tuple[int, int, int]] = field(default_factory=list)
    unknown: list[tuple[int, int, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.allocated or self.sheaves or self.unknown)


class Refills:
    """Finds the refills of ``trace``. ``task``: int64[n], which task each event is of; ``op``: what each event is."""

    def __init__(self, trace: co.CompactTrace, op: np.ndarray, task: np.ndarray, layouts: dict[str, Layout]) -> None:
        self.trace, self.op, self.task = trace, op, task
        self.names, of_kind = trace.cache_names
        kind = trace.events["kind"]
        self.cache = of_kind[kind]
        none = Layout(0, -1)
        self.capacity = np.array([layouts.get(name, none).capacity for name in self.names], np.int64)
        self.order = np.array([layouts.get(name, none).order for name in self.names], np.int64)
        self.kmalloc = np.array([name.startswith(("kmalloc-", "dma-kmalloc-")) for name in self.names], bool)
        sites = trace.kinds["call_site"].str.split("+").list.first()
        self.makes = (sites == NEW).to_numpy()[kind]
        self.makes_for_free = (sites == FULL).to_numpy()[kind]
        self.softirq = (sites == SOFTIRQ).to_numpy()[kind]
        self.bytes = trace.kinds["bytes_alloc"].to_numpy()[kind]
        mask = trace.kinds["gfp_flags"].to_numpy()
        pages = (op == co.OP_PAGE_ALLOC) & (trace.events["object"] != co.NO_PFN)
        self.allocates = pages & (mask & _REFILL == _REFILL)[kind]
        self.first_try = (mask & _NORETRY != 0)[kind]
        self.pages_order = trace.kinds["order"].to_numpy()[kind]
        self.owner = self._owners()
        self.memory: list[int] = []  # rows that are memory of a kmalloc cache's sheaf
        self.counts: Counter[str] = Counter()

    def _owners(self) -> np.ndarray:
        """The cache of each block of slab pages, by the first object that came out of it; -1 unknown."""
        e = self.trace.events
        owner = np.full(len(e), -1, np.int64)
        blocks = np.flatnonzero(self.allocates)
        allocs = np.flatnonzero((self.op == co.OP_ALLOC) | (self.op == co.OP_SHEAF_ALLOC))
        if not len(blocks) or not len(allocs):
            return owner
        size = 1 << self.pages_order[blocks].astype(np.int64)
        block = np.repeat(blocks, size)
        first = np.repeat(np.cumsum(size) - size, size)
        frame = e["object"][block].astype(np.int64) + np.arange(len(block)) - first
        keys = np.sort(frame << 32 | block)
        page = ((self.trace.ptrs[e["object"][allocs]] - np.uint64(DIRECT_MAP)) >> np.uint64(12)).astype(np.int64)
        # The latest block that each object's page was in; of each block the first object.
        at = np.searchsorted(keys, page << 32 | allocs) - 1
        found = keys[np.maximum(at, 0)]
        of = np.where((at >= 0) & (found >> 32 == page), found & 0xFFFFFFFF, -1)
        known, where = np.unique(of, return_index=True)
        known, where = known[known >= 0], where[known >= 0]
        cache = self.cache[allocs[where]]
        order = self.pages_order[known]
        fits = (self.order[cache] == order) | ((self.order[cache] > order) & ~self.first_try[known])
        owner[known] = np.where(fits, cache, -2)
        return owner

    def _makes_sheaf_of(self, row: int, cache: int) -> bool:
        """Whether the memory of ``row`` is of a size that a sheaf of ``cache`` has."""
        wanted = _HEADER + 8 * int(self.capacity[cache])
        size = int(self.bytes[row])
        return bool(self.capacity[cache]) and size // 2 < wanted <= size

    def find(self) -> Iterator[_Refill]:
        """Task by task, in the order of the trace."""
        order = np.lexsort((np.arange(len(self.task)), self.task))
        task = self.task[order]
        shows = (self.allocates | self.makes | self.makes_for_free)[order]
        at = -1
        for start in np.flatnonzero(shows).tolist():
            if start >= at:
                before = start - 1
                while before >= 0 and self.softirq[order[before]]:
                    before -= 1
                last = int(order[before]) if before >= 0 and task[before] == task[start] else -1
                at = yield from self._follow(order, task, start, last)

    def _follow(self, order: np.ndarray, task: np.ndarray, at: int, last: int) -> Generator[_Refill, None, int]:
        """The refills from place ``at`` of a task's events on, until none is under way; the place behind."""
        pending = _Pending()
        nested = 0
        own = task[at]
        while at < len(order) and task[at] == own and nested <= NESTED:
            row = int(order[at])
            if self.allocates[row]:
                self._pages(pending, row, last)
                nested = 0
            elif self.op[row] in (co.OP_ALLOC, co.OP_SHEAF_ALLOC):
                if self.makes_for_free[row]:
                    self._for_free(order, task, at, row)
                refill = self._completed(pending, row)
                if refill is not None and self.op[row] == co.OP_ALLOC:
                    yield refill
                if self.makes[row]:
                    pending.sheaves.append((row, int(self.bytes[row]), last))
                    nested = 0
            if not (self.allocates[row] or self.makes[row]):
                last = last if self.softirq[row] else row
                nested += 1
                if not pending:
                    break
            at += 1
        return at

    def _pages(self, pending: _Pending, row: int, last: int) -> None:
        owner = int(self.owner[row])
        if owner >= 0:
            known = pending.allocated.setdefault(owner, _Allocated(last))
            smaller = self.pages_order[row] < self.order[owner]
            (known.smaller if smaller else known.pages).append(row)
        elif owner == -1 and self.first_try[row]:
            pending.unknown.append((row, int(self.pages_order[row]), last))

    def _for_free(self, order: np.ndarray, task: np.ndarray, at: int, row: int) -> None:
        """The memory of a sheaf made for a free: of the task's last freed object whose cache it fits."""
        for back in range(1, 16):
            if at < back or task[at - back] != task[at]:
                return
            before = int(order[at - back])
            if self.op[before] == co.OP_FREE and self._makes_sheaf_of(row, int(self.cache[before])):
                if self.kmalloc[self.cache[before]]:
                    self.memory.append(row)
                return

    def _completed(self, pending: _Pending, row: int) -> _Refill | None:
        """The refill that the allocation of ``row`` is of, if any is under way."""
        cache = int(self.cache[row])
        if not self.capacity[cache]:
            return None
        given = [(known, before) for known, order, before in pending.unknown if order == self.order[cache]]
        allocated = pending.allocated.pop(cache, _Allocated(given[0][1] if given else -1))
        allocated.pages += [known for known, _ in given]
        last = allocated.last
        sheaf, made_one = -1, False
        for i in range(len(pending.sheaves) - 1, -1, -1):
            made, _, before = pending.sheaves[i]
            if self._makes_sheaf_of(made, cache):
                del pending.sheaves[i]
                made_one = True
                if self.kmalloc[cache]:
                    self.memory.append(made)
                if made < allocated.first:
                    sheaf, last = made, before
                break
        if given or not self.makes[row]:
            pending.unknown.clear()
        if made_one and not self.makes[row]:
            pending.sheaves.clear()
        if sheaf < 0 and not allocated.pages and not allocated.smaller:
            return None
        return _Refill(cache, last, sheaf, sorted(allocated.pages), allocated.smaller, row)

    def added(self, first_object: int) -> tuple[pl.DataFrame, np.ndarray]:
        """The steps of all refills as events to be woven in (columns ADDED), their sheaves numbered from
        ``first_object`` on, and an address for each of these."""
        e = self.trace.events
        allocs: dict[tuple[int, int], np.ndarray] = {}
        plain = self.op == co.OP_ALLOC
        rows: list[tuple[int, int, int, str, str, int, int, int]] = []
        ptrs: list[int] = []
        for refill in self.find():
            number = first_object + len(ptrs)
            name = self.names[refill.cache]
            ptrs.append(int(self.trace.ptrs[e["object"][refill.target]]) | 1)
            begin = refill.begin
            cpu = int(e["cpu"][begin])
            if (refill.cache, cpu) not in allocs:
                own = plain & (self.cache == refill.cache) & (e["cpu"] == cpu)
                allocs[refill.cache, cpu] = np.flatnonzero(own)
            of_cpu = allocs[refill.cache, cpu]
            low, high = np.searchsorted(of_cpu, (refill.last + 1, begin)).tolist()
            places = [*of_cpu[max(low, high - LONGEST) : high].tolist(), begin]
            steps = [(place, 1, co.OP_BEGIN_REFILL, int(refill.sheaf < 0), cpu) for place in places]
            if refill.last >= 0 and int(e["cpu"][refill.last]) == cpu:
                steps.append((refill.last + 1, 0, co.OP_BEGIN_REFILL, int(refill.sheaf < 0), cpu))
            if refill.sheaf >= 0:
                steps.append((refill.sheaf + 1, 0, co.OP_REFILL_LISTS, 0, cpu))
            for row in refill.smaller:
                rows.append((row, 1, co.OP_SHORTAGE, name, co.OPS[co.OP_SHORTAGE], 0, int(self.pages_order[row]), cpu))
                rows.append((row, 2, co.OP_REFILL_NEW, name, co.OPS[co.OP_REFILL_NEW], 0, number, cpu))
            for row in refill.pages:  # it may lose its CPU between two slabs
                slabs = len(refill.pages) if row == refill.pages[0] else 0
                steps.append((row, 1, co.OP_REFILL_NEW, slabs, int(e["cpu"][row])))
            steps.append((refill.target, 3, co.OP_INSTALL, 0, int(e["cpu"][refill.target])))
            rows += [(place, turn, op, name, co.OPS[op], amount, number, on) for place, turn, op, amount, on in steps]
            by = "pages allocated" if refill.pages or refill.smaller else "the sheaf made"
            self.counts[f"refills of sheaves told by {by}"] += 1
        self.counts["sheaves of kmalloc caches"] = len(self.memory)
        # What goes behind an event comes before what goes ahead of the next.
        table = pl.DataFrame(rows, schema={"place": pl.Int64, "turn": pl.Int64, **ADDED}, orient="row")
        return table.sort("place", "turn", maintain_order=True).select(*ADDED), np.array(ptrs, np.uint64)


__all__ = ["Layout", "Refills"]

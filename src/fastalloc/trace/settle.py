"""The order in which the traced kernel's operations happened, as far as addresses tell; see ``kernels/order_search``.

Caches do not touch each other, so each is settled by itself: with the state of its slabs before the trace, the rules
must give every object out of the slab that its address says. What is found holds for what-ifs too.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from fastalloc.kernels import eras as er
from fastalloc.kernels import order_search as so
from fastalloc.kernels import state as st
from fastalloc.trace import compact as co
from fastalloc.trace import lane as ln
from fastalloc.trace import order_walks, slub_lane, walks
from fastalloc.trace.infer import DIRECT_MAP
from fastalloc.trace.start import Start

NESTED = 64  # events of interrupts and of other tasks' ends that may lie between an operation and its event
PART = 1 << 16
EVERY = 256  # positions between two saved models
SAVED = 12
PATIENCE = 20  # with more allocations of a cache that nothing explains, its order is left as it was recorded


@dataclass(frozen=True)
class Settled:
    """``trace`` with its operations in the order found; ``steps``: what was done, with counts. ``caches``: a row each
    that the addresses contradict: cache, allocations, moved, bought, unexplained, settled (else left as recorded)."""

    trace: co.CompactTrace
    steps: dict[str, int]
    caches: pl.DataFrame


def purchases(events: np.ndarray) -> np.ndarray:
    """Rows of the allocations that stand right before the pages they bought."""
    here, following = events[:-1], events[1:]
    alloc = (here["op"] == co.OP_ALLOC) | (here["op"] == co.OP_BULK_ALLOC)
    same = (here["cpu"] == following["cpu"]) & (here["time"] == following["time"])
    return np.flatnonzero(alloc & same & (following["op"] == co.OP_PAGE_ALLOC))


class _Windows:
    """What is known of when each operation of a trace was: ``before`` and ``after``, the rows of its task's events
    before and after it (-1 and the number of rows where there are none), and ``task``, which numbers runs of one task;
    int32[n] each."""

    def __init__(self, events: np.ndarray) -> None:
        n = len(events)
        cpus = int(events["cpu"].max(initial=0)) + 1
        self.events = events
        self.before, self.task = np.empty(n, np.int32), np.empty(n, np.int32)
        self.after = np.full(n, n, np.int32)
        latest = np.zeros((cpus, order_walks.LATEST), np.int32)
        order_walks.runs_of_tasks(
            events["cpu"], events["ago"], latest, np.zeros(cpus, np.int64), self.before, self.after, self.task
        )

    def fill(self, rows: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
        """The limits of operations ``rows`` into ``out`` (EVENT_FIELDS) at ``places``; E_NESTED_* as if up to NESTED of
        its task's events had been of interrupts."""
        e = self.events
        limits = (so.E_LOW, so.E_HIGH, so.E_NESTED_LOW, so.E_NESTED_HIGH, so.E_TASK, so.E_CALL, so.E_ENDS)
        columns = [out[:, field] for field in limits]
        order_walks.limits(
            rows, places, e["op"], e["cpu"], e["time"], self.before, self.after, self.task, NESTED, *columns
        )


def _freed_slabs(trace: co.CompactTrace, cache: np.ndarray, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the page frees that gave a slab back, and the cache of each: the last object there was of the cache, and
    the pages were not handed out since. ``cache``: int32[kinds]; ``orders`` of the caches."""
    op = trace.events["op"]
    most = int((op == co.OP_PAGE_FREE).sum())
    keys = len(trace.ptrs) + int((op == co.OP_PAGE_ALLOC).sum())
    row, of = np.empty(most, np.int64), np.empty(most, np.int64)
    last, last_cache, given = (np.full(keys, -1, np.int32) for _ in range(3))
    count = walks.freed_slabs(
        op, trace.events["object"], trace.events["kind"], cache, orders, trace.ptrs, *walks.table_of(keys), last,
        last_cache, given, row, of,
    )  # fmt: skip
    return row[:count], of[:count]


def _parts(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Arrays of one length, some ten thousand elements at a time."""
    for begin in range(0, len(arrays[0]), PART):
        yield tuple(array[begin : begin + PART] for array in arrays)


class _Search:
    """Settles the caches of one trace."""

    def __init__(self, trace: co.CompactTrace, config: ln.Config, start: Start) -> None:
        self.trace, self.config, self.start = trace, config, start
        events = trace.events
        cache = ln.cache_of_kind(trace, config)
        self.windows = _Windows(events)
        self.orders = np.array([cache.order for cache in config.caches], np.int64)
        self.freed, self.freed_of = _freed_slabs(trace, cache, self.orders)
        self.bought = np.zeros(len(events), np.bool_)
        self.bought[purchases(events)] = True
        self.short = np.flatnonzero(events["op"] == co.OP_SHORTAGE)
        node = trace.kinds["node"].to_numpy()
        self.node = np.where(node < start.nodes, node, -1)
        usable = (events["op"] <= co.OP_BULK_FREE) | (events["op"] == co.OP_ALLOC_FAILED)
        count = np.zeros(len(config.caches) + 1, np.int64)
        order_walks.count_caches(events["kind"], cache, usable, count)
        edges = np.cumsum(count) - count
        rows = np.empty(int(count.sum()), np.int32)
        order_walks.rows_of_caches(events["kind"], cache, usable, edges.copy(), rows)
        self.rows_of = [rows[edges[c] : edges[c + 1]] for c in range(len(config.caches))]

    def _blocks(self, rows: np.ndarray, c: int) -> np.ndarray:
        """int64[n]: the block of pages, as large as a slab, that the object of each row is in; -1 none."""
        events = self.trace.events
        failed = events["op"][rows] == co.OP_ALLOC_FAILED
        address = self.trace.ptrs[np.where(failed, 0, events["object"][rows])] - np.uint64(DIRECT_MAP)
        return np.where(failed, -1, (address >> np.uint64(12)).astype(np.int64) >> self.orders[c])

    def _events(self, c: int, objects: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int32[n, EVENT_FIELDS] of cache ``c`` and the row of the trace behind each; ``objects``: its rows of ptrs,
        ``blocks``: its blocks of pages, whose places here stand for them."""
        trace = self.trace.events
        rows = self.rows_of[c]
        buyers = rows[self.bought[rows]]
        freed = self.freed[self.freed_of == c]
        # An allocation's BEGIN comes right before it, a slab's end where its pages are freed.
        own = np.arange(len(rows)) + np.searchsorted(buyers, rows, "right") + np.searchsorted(freed, rows)
        gone = np.arange(len(freed)) + np.searchsorted(rows, freed) + np.searchsorted(buyers, freed)
        begins = own[self.bought[rows]] - 1
        at = np.empty(len(rows) + len(buyers) + len(freed), np.int32)
        for which, into in ((buyers, begins), (rows, own), (freed, gone)):
            at[into] = which
        events = np.zeros((len(at), so.EVENT_FIELDS), np.int32)
        events[:, so.E_GFP] = ln.g.GFP_KERNEL
        for which, into in (*_parts(buyers, begins), *_parts(rows, own)):
            op = trace["op"][which]
            failed = op == co.OP_ALLOC_FAILED
            events[into, so.E_OP] = np.where(failed, so.FAILED, op % 2)
            events[into, so.E_OBJECT] = np.where(failed, 0, np.searchsorted(objects, trace["object"][which]))
            events[into, so.E_BLOCK] = np.where(failed, -1, np.searchsorted(blocks, self._blocks(which, c)))
            events[into, so.E_NODE] = self.node[trace["kind"][which]]
            events[into, so.E_CPU] = trace["cpu"][which]
            events[into, so.E_SHORT] = -1
            self.windows.fill(which, into, events)
        short = np.flatnonzero(np.isin(at, (self.short + 1).astype(np.int32)))
        events[short, so.E_SHORT] = trace["object"][at[short] - 1]
        events[begins, so.E_OP] = so.BEGIN
        events[begins, so.E_CALL] = -1 - np.arange(len(begins))
        events[begins, so.E_ENDS] = 1
        pages = trace["object"][freed].astype(np.int64) >> self.orders[c]
        events[gone, so.E_OP] = so.GONE
        events[gone, so.E_SHORT] = 0
        events[gone, so.E_GFP] = 0
        events[gone, so.E_BLOCK] = np.searchsorted(blocks, pages)
        for field in (so.E_LOW, so.E_HIGH, so.E_NESTED_LOW, so.E_NESTED_HIGH):
            events[gone, field] = freed
        for field in (so.E_TASK, so.E_CALL):
            events[gone, field] = -1 - len(trace) - np.arange(len(freed))
        return events, at

    def settle(self, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Events of cache ``c``, their rows in the trace, the order found and ``found``; None where there is nothing
        to settle."""
        rows = self.rows_of[c]
        cache = self.config.caches[c]
        named = self.trace.events["op"][rows] <= co.OP_BULK_FREE
        if not named.any():
            return None
        objects = np.unique(self.trace.events["object"][rows[named]])
        pages = self.trace.events["object"][self.freed[self.freed_of == c]].astype(np.int64)
        seen = [np.unique(self._blocks(part, c)) for (part,) in _parts(rows)]
        blocks = np.unique(np.concatenate([*seen, pages >> cache.order]))
        one = ln.Config(cache.name, [cache], {}, self.config.exact, {})
        run = slub_lane.SlubRun(self.trace, one, self.start, ln.NO_SAMPLES)
        laid = self.start.laid(cache, one)
        blocks = np.union1d(blocks, laid.first_page[laid.first_page >= 0] >> cache.order)
        events, at = self._events(c, objects, blocks)
        had = int(run.slub.ctl[st.U_SLAB_TOP])
        room = had + len(blocks) + int(self.bought[rows].sum()) + len(rows) // cache.objects
        model = so.Model(_sized(run.slub, room, cache.objects), run.lane.handle[objects], np.full(room, -1, np.int64))
        known = np.flatnonzero(laid.first_page >= 0)
        model.block[known] = np.searchsorted(blocks, laid.first_page[known] >> cache.order)
        ring = _stacked(model, SAVED)
        order = np.arange(len(events), dtype=np.int32)
        found = np.zeros(so.FOUND_FIELDS, np.int64)
        move = np.zeros((2, so.MOVE_FIELDS), np.int64)
        so.search(
            ln.unlimited_mem(self.start.nodes, run.slub.kcpu.shape[1]),
            model,
            ring,
            np.zeros(SAVED, np.int64),
            so.Model(*(_empty(part) for part in model)),
            events,
            order,
            np.zeros(2 * len(order), np.int32),
            move[0],
            move[1],
            found,
            EVERY,
            PATIENCE,
        )
        return events, at, order, found


def _sized(slub: er.SlubEras, slabs: int, objects: int) -> er.SlubEras:
    """A copy of ``slub`` of one cache with room for ``slabs`` slabs of ``objects``."""
    top, link_top = int(slub.ctl[st.U_SLAB_TOP]), int(slub.ctl[st.U_LINK_TOP])
    slab = np.zeros((slabs, st.SLAB_FIELDS), np.int32)
    slab[:top] = slub.slab[:top]
    link = np.zeros(max(slabs * objects, link_top), np.int16)
    link[:link_top] = slub.link[:link_top]
    return slub._replace(slab=slab, link=link)


def _empty(part):
    return type(part)(*(np.zeros_like(array) for array in part)) if isinstance(part, tuple) else np.zeros_like(part)


def _stacked(model: so.Model, count: int) -> so.Model:
    """Room for ``count`` models."""
    slub = er.SlubEras(*(np.zeros((count, *array.shape), array.dtype) for array in model.slub))
    return so.Model(slub, *(np.zeros((count, *array.shape), array.dtype) for array in model[1:]))


def settled(trace: co.CompactTrace, config: ln.Config, start: Start) -> Settled:
    """``trace`` with the operations moved that the addresses say were elsewhere."""
    search = _Search(trace, config, start)
    merge = _Merge(trace)
    rows = []
    for c, cache in enumerate(config.caches):
        result = search.settle(c)
        if result is None:
            continue
        events, at, order, found = result
        if not found.any():
            continue
        known = bool(found[so.F_WRONG] <= PATIENCE)
        allocs = int((events[:, so.E_OP] == so.ALLOC).sum())
        rows.append((cache.name, allocs, *(int(found[i]) for i in (so.F_MOVED, so.F_BOUGHT, so.F_WRONG)), known))
        if known:
            merge.add(events[order, so.E_OP], at[order], order)
    columns = {"moved": pl.Int64, "bought": pl.Int64, "unexplained": pl.Int64, "settled": pl.Boolean}
    report = pl.DataFrame(rows, schema={"cache": pl.String, "allocations": pl.Int64, **columns}, orient="row")
    done = report.filter("settled")
    steps = {
        "operations put where addresses say they were": int(done["moved"].sum()),
        "purchases taken as they were made": int(done["bought"].sum()),
        "allocations from a slab that no order explains": int(report["unexplained"].sum()),
    }
    return Settled(merge.trace(), {step: count for step, count in steps.items() if count}, report)


class _Merge:
    """Puts the orders found for single caches into one order of the trace."""

    def __init__(self, trace: co.CompactTrace) -> None:
        self.whole = trace
        self.place = np.arange(len(trace.events), dtype=np.int32)
        self.behind = np.zeros(len(trace.events), np.int32)  # turn among those of a place, in quarters
        self.more: list[tuple[int, int, int, int]] = []

    def add(self, what: np.ndarray, at: np.ndarray, order: np.ndarray) -> None:
        """The events of a cache in the order found: op, row in the trace, and what place each had."""
        key = np.maximum.accumulate(at)  # an operation that came later waits, and all behind it
        own = (what != so.BEGIN) & (what != so.BOUGHT) & (what != so.GONE)
        self.place[at[own]] = key[own]
        self.behind[at[own]] = 4 * np.flatnonzero(own)
        early = (what == so.BEGIN) & np.append(order[1:] != order[:-1] + 1, True)
        for which, op in ((early, co.OP_BEGIN), (what == so.BOUGHT, co.OP_BOUGHT)):
            self.more += [(int(at[i]), int(key[i]), 4 * i - 1, op) for i in np.flatnonzero(which).tolist()]

    def trace(self) -> co.CompactTrace:
        """The trace in the order found; the times of its rows stay ascending."""
        events = self.whole.events
        shortages = np.flatnonzero(events["op"] == co.OP_SHORTAGE)
        shortages = shortages[shortages + 2 < len(events)]
        for off, turn in ((0, -2), (2, 2)):  # around the allocation: the shortage, and the pages that end it
            self.place[shortages + off] = self.place[shortages + 1]
            self.behind[shortages + off] = self.behind[shortages + 1] + turn
        more = np.array(self.more, np.int64).reshape(-1, 4)
        moves = np.flatnonzero(self.place != np.arange(len(events), dtype=np.int32))
        row = np.concatenate([moves, more[:, 0]])
        place = np.concatenate([self.place[moves], more[:, 1]])
        behind = np.concatenate([self.behind[moves], more[:, 2]])
        turns = np.lexsort((behind, place))
        order = np.empty(len(events) + len(more), np.int32)
        order_walks.merged(self.place, self.behind, place[turns], behind[turns], turns, order)
        moved = np.zeros(len(order), co.EVENT)
        inserted = np.flatnonzero(order < 0)
        which = -1 - order[inserted]
        order[inserted] = row[which]
        for name in ("object", "kind", "cpu", "op", "time"):
            moved[name] = events[name][order]
        added = which >= len(moves)
        moved["op"][inserted[added]] = more[which[added] - len(moves), 3]
        moved["time"].sort()
        moved.flags.writeable = False
        return dataclasses.replace(self.whole, events=moved)


__all__ = ["Settled", "purchases", "settled"]

"""The order in which the traced kernel's operations happened, as far as addresses tell; see ``kernels/order_search``.

Caches do not touch each other, so each is settled by itself: with the state of its slabs before the trace, the rules
must give every object out of the slab that its address says. What is found holds for what-ifs too.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import polars as pl

from fastalloc.kernels import eras as er
from fastalloc.kernels import order_search as so
from fastalloc.kernels import state as st
from fastalloc.trace import compact as co
from fastalloc.trace import lane as ln
from fastalloc.trace import slub_lane
from fastalloc.trace.infer import DIRECT_MAP
from fastalloc.trace.start import Start

NESTED = 64  # events of interrupts and of other tasks' ends that may lie between an operation and its event
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
    """Between which rows each operation of a trace was: ``low`` and ``high`` by its task's events before and after,
    ``nested_low`` and ``nested_high`` where NESTED of these may have been of interrupts. int64[n] each.

    ``task`` and ``call`` number runs of one task and objects of one bulk call; ``ends`` as E_ENDS.
    """

    def __init__(self, events: np.ndarray) -> None:
        rows = np.arange(len(events))
        op, cpu, ago = (np.ascontiguousarray(events[name]) for name in ("op", "cpu", "ago"))
        by_cpu = np.argsort(cpu, kind="stable")
        place = np.empty_like(by_cpu)
        place[by_cpu] = rows
        known = (ago > 0) & (ago < co.MAX_AGO)
        before = np.full(len(events), -1)
        before[known] = by_cpu[place[known] - ago[known]]
        after = np.full(len(events), len(events))
        after[before[known]] = rows[known]
        far = ago == co.MAX_AGO  # so long ago, or longer
        before[far] = by_cpu[place[far] - co.MAX_AGO]
        self.task = np.where(known, -1, rows)
        _chase(self.task, before)
        same = np.zeros(len(events), bool)
        bulk = (op == co.OP_BULK_ALLOC) | (op == co.OP_BULK_FREE)
        same[1:] = bulk[1:] & (op[1:] == op[:-1]) & (cpu[1:] == cpu[:-1]) & (events["time"][1:] == events["time"][:-1])
        first = np.maximum.accumulate(np.where(same, 0, rows))
        last = np.minimum.accumulate(np.where(np.append(same[1:], False), len(events), rows)[::-1])[::-1]
        self.call = first
        self.ends = np.where(rows == last, 1, 0) + np.where(rows == first, 2, 0)
        alloc = (op == co.OP_ALLOC) | (op == co.OP_BULK_ALLOC)
        free = (op == co.OP_FREE) | (op == co.OP_BULK_FREE)
        self.low = np.where(alloc, before[first], np.where(free, rows, rows - 1))
        self.high = np.where(free, after[last], rows)
        early, late = self.low.copy(), self.high.copy()
        for _ in range(6):  # 2 ** 6 = NESTED events on
            before = np.where(before >= 0, before[np.maximum(before, 0)], -1)
            after = np.where(after < len(events), after[np.minimum(after, len(events) - 1)], len(events))
        self.nested_low = np.where(alloc, before[first], early)
        self.nested_high = np.where(free, after[last], late)


def _chase(task: np.ndarray, before: np.ndarray) -> None:
    """Fill ``task`` with the first row of each chain of ``before``, where it is -1."""
    link = np.where(task >= 0, np.arange(len(task)), before)
    while True:
        further = link[link]
        if np.array_equal(further, link):
            break
        link = further
    task[:] = link


def _freed_slabs(events: np.ndarray, page: np.ndarray, cache: np.ndarray) -> pl.DataFrame:
    """``row`` and ``cache`` of the page frees that gave a slab back: the last object there (its first ``page``) was of
    the cache, and the pages were not handed out since."""
    op = events["op"]
    objects = np.flatnonzero((op <= co.OP_BULK_FREE) & (cache >= 0))
    inside = pl.DataFrame({"row": objects, "page": page[objects], "cache": cache[objects], "last": objects})
    frees, gives = (np.flatnonzero(op == what) for what in (co.OP_PAGE_FREE, co.OP_PAGE_ALLOC))
    freed = pl.DataFrame({"row": frees, "page": events["object"][frees].astype(np.int64)})
    given = pl.DataFrame({"row": gives, "page": events["object"][gives].astype(np.int64), "given": gives})
    return (
        freed.join_asof(inside, on="row", by="page", check_sortedness=False)
        .drop_nulls("last")
        .join_asof(given, on="row", by="page", check_sortedness=False)
        .filter(pl.col("given").is_null() | (pl.col("given") < pl.col("last") + 2))
        .select("row", "cache")
    )


class _Search:
    """Settles the caches of one trace."""

    def __init__(self, trace: co.CompactTrace, config: ln.Config, start: Start) -> None:
        self.trace, self.config, self.start = trace, config, start
        events = trace.events
        self.cache = ln.cache_of_kind(trace, config)[events["kind"]]
        self.windows = _Windows(events)
        order = np.array([cache.order for cache in config.caches])[np.maximum(self.cache, 0)]
        is_object = events["op"] <= co.OP_BULK_FREE
        address = trace.ptrs[np.where(is_object, events["object"], 0)] - np.uint64(DIRECT_MAP)
        self.block = (address >> np.uint64(12)).astype(np.int64) >> order
        self.freed = _freed_slabs(events, self.block << order, self.cache)
        self.bought = np.zeros(len(events), bool)
        self.bought[purchases(events)] = True
        self.short = np.full(len(events) + 1, -1, np.int64)
        shortages = np.flatnonzero(events["op"] == co.OP_SHORTAGE)
        self.short[shortages + 1] = events["object"][shortages]
        node = trace.kinds["node"].to_numpy().astype(np.int64)
        self.node = np.where(node < start.nodes, node, -1)[events["kind"]]
        usable = (self.cache >= 0) & (is_object | (events["op"] == co.OP_ALLOC_FAILED))
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(self.cache[rows], kind="stable")]
        edges = np.searchsorted(self.cache[rows], np.arange(len(config.caches) + 1))
        self.rows_of = [rows[edges[c] : edges[c + 1]] for c in range(len(config.caches))]

    def _events(self, c: int, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64[n, EVENT_FIELDS] of cache ``c`` and the row of the trace behind each; ``objects``: its rows of ptrs."""
        trace, windows = self.trace.events, self.windows
        rows = self.rows_of[c]
        op = trace["op"][rows]
        failed = op == co.OP_ALLOC_FAILED
        events = np.zeros((len(rows), so.EVENT_FIELDS), np.int64)
        events[:, so.E_OP] = np.where(failed, so.FAILED, op % 2)
        events[:, so.E_OBJECT] = np.where(failed, 0, np.searchsorted(objects, trace["object"][rows]))
        events[:, so.E_BLOCK] = np.where(failed, -1, self.block[rows])
        events[:, so.E_NODE] = self.node[rows]
        events[:, so.E_GFP] = ln.g.GFP_KERNEL
        events[:, so.E_SHORT] = self.short[rows]
        for column, values in (
            (so.E_CPU, trace["cpu"]),
            (so.E_LOW, windows.low),
            (so.E_HIGH, windows.high),
            (so.E_NESTED_LOW, windows.nested_low),
            (so.E_NESTED_HIGH, windows.nested_high),
            (so.E_TASK, windows.task),
            (so.E_CALL, windows.call),
            (so.E_ENDS, windows.ends),
        ):
            events[:, column] = values[rows]
        bought = self.bought[rows]
        begins = events[bought]
        begins[:, so.E_OP] = so.BEGIN
        begins[:, so.E_CALL] = -1 - np.arange(len(begins))
        begins[:, so.E_ENDS] = 1
        freed = self.freed.filter(pl.col("cache") == c)["row"].to_numpy()
        gone = np.zeros((len(freed), so.EVENT_FIELDS), np.int64)
        gone[:, so.E_OP] = so.GONE
        gone[:, so.E_BLOCK] = trace["object"][freed].astype(np.int64) >> self.config.caches[c].order
        gone[:, [so.E_LOW, so.E_HIGH, so.E_NESTED_LOW, so.E_NESTED_HIGH]] = freed[:, None]
        gone[:, [so.E_TASK, so.E_CALL]] = -1 - len(trace) - np.arange(len(freed))[:, None]
        every = np.concatenate([begins, events, gone])
        at = np.concatenate([rows[bought], rows, freed])
        by = np.lexsort((every[:, so.E_OP] != so.BEGIN, at))
        return every[by], at[by]

    def settle(self, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Events of cache ``c``, their rows in the trace, the order found and ``found``; None where there is nothing
        to settle."""
        rows = self.rows_of[c]
        cache = self.config.caches[c]
        named = self.trace.events["op"][rows] <= co.OP_BULK_FREE
        if not named.any():
            return None
        objects = np.unique(self.trace.events["object"][rows[named]])
        events, at = self._events(c, objects)
        one = ln.Config(cache.name, [cache], {}, self.config.exact, {})
        run = slub_lane.SlubRun(self.trace, one, self.start, ln.NO_SAMPLES)
        laid = self.start.laid(cache, one)
        had = int(run.slub.ctl[st.U_SLAB_TOP])
        room = had + len(np.unique(events[:, so.E_BLOCK])) + int(self.bought[rows].sum()) + len(rows) // cache.objects
        model = so.Model(_sized(run.slub, room, cache.objects), run.lane.handle[objects], np.full(room, -1, np.int64))
        model.block[: len(laid.first_page)] = np.where(laid.first_page < 0, -1, laid.first_page >> cache.order)
        ring = _stacked(model, SAVED)
        order = np.arange(len(events))
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
            np.zeros(2 * len(order), np.int64),
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
            merge.add(events[order], at[order], order)
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
        self.place = np.arange(len(trace.events), dtype=np.float64)
        self.behind = np.zeros(len(trace.events))
        self.more: list[tuple[int, float, float, int]] = []

    def add(self, events: np.ndarray, at: np.ndarray, order: np.ndarray) -> None:
        """``events`` of a cache in the order found, their rows in the trace, and what places they had."""
        what = events[:, so.E_OP]
        key = np.maximum.accumulate(at)  # an operation that came later waits, and all behind it
        own = (what != so.BEGIN) & (what != so.BOUGHT) & (what != so.GONE)
        self.place[at[own]] = key[own]
        self.behind[at[own]] = np.flatnonzero(own)
        early = (what == so.BEGIN) & np.append(order[1:] != order[:-1] + 1, True)
        for which, op in ((early, co.OP_BEGIN), (what == so.BOUGHT, co.OP_BOUGHT)):
            self.more += [(at[i], key[i], i - 0.25, op) for i in np.flatnonzero(which).tolist()]

    def trace(self) -> co.CompactTrace:
        """The trace in the order found; the times of its rows stay ascending."""
        events = self.whole.events
        shortages = np.flatnonzero(events["op"] == co.OP_SHORTAGE)
        shortages = shortages[shortages + 2 < len(events)]
        for off, turn in ((0, -0.5), (2, 0.5)):  # around the allocation: the shortage, and the pages that end it
            self.place[shortages + off] = self.place[shortages + 1]
            self.behind[shortages + off] = self.behind[shortages + 1] + turn
        more = events[[row for row, *_ in self.more]].copy()
        more["op"] = [op for *_, op in self.more]
        place = np.concatenate([self.place, [key for _, key, _, _ in self.more]])
        behind = np.concatenate([self.behind, [at for _, _, at, _ in self.more]])
        moved = np.concatenate([events, more])[np.lexsort((behind, place))]
        moved["time"] = np.sort(moved["time"])
        moved["ago"] = 0
        moved.flags.writeable = False
        return dataclasses.replace(self.whole, events=moved)


__all__ = ["Settled", "purchases", "settled"]

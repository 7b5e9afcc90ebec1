"""The order in which the operations of a 7.x trace happened, as far as addresses tell.

The rules of 7.3 are run over all caches in the order of the events, and the addresses held against what they give
(:mod:`.addresses`). A cache with an address that is not the one is run again by itself: at each such address the moves
of :mod:`.sheaf_moves` are tried, from a state saved before, and the one is kept after which rules and addresses agree
for longest. What no move explains is taken as recorded. docs/order.md draws an example.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import SLUB_CTL, SLUB_SLAB
from fastalloc.kernels.replay import kmem_events as kr
from fastalloc.kernels.replay.sheaf_events import OP_FREE_LOCKED
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.compact.sheaf_calls import tasks
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes import slub_lane
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.order.addresses import GO_ON, START, STOP, Addresses, follow_addresses
from fastalloc.trace.order.merge import CacheOrder, Merge
from fastalloc.trace.order.sheaf_limits import ALLOCATES, FREES, Limits, limits
from fastalloc.trace.order.sheaf_moves import Columns, Move, moves

EVERY = 1024  # positions between two saved states, or as many as the cache has objects
BACK = 512  # positions before a disagreement that a move may reach
LOOK = 300  # positions behind it up to which a move is judged
LEAST = 10  # positions that must agree once a move is made
PATIENCE = 20  # with more addresses of a cache that no move explains, it is left in the order of its events
UNEXPLAINED = 2  # sheaves behind such an address that may be wrong too, and are taken as they are


_NONE = np.zeros(0, np.uint8)


class _Run:
    """The rules of ``config`` on their way through events, and what is known of their addresses."""

    def __init__(self, run: slub_lane.SlubRun, frame: np.ndarray, handle: np.ndarray) -> None:
        self.mem, self.slub = run.mem, run.slub
        self.lane = run.lane._replace(handle=handle)
        _, page = np.unique(frame, return_inverse=True)
        self.addresses = Addresses(
            name=np.full(len(self.slub.link), -1, np.int32),
            place=np.full(len(frame), -1, np.int64),
            slab=np.full(len(frame), -1, np.int32),
            frame=frame,
            page=page.astype(np.int32),
            block=np.full(len(self.slub.slab), -1, np.int64),
            holder=np.full((int(page.max(initial=0)) + 1, 2), -1, np.int32),
            ctl=np.zeros(1, np.int64),
            wrong=np.zeros(len(run.caches), np.int64),
        )
        self.follow(run.events.event, 0, 0, START)

    def follow(self, event: np.ndarray, row: int, stop: int, how: int, hits: np.ndarray = _NONE) -> int:
        """As ``follow_addresses``, with room for all slabs."""
        while True:
            parts = self.mem, self.slub, event, self.lane, self.addresses
            found = int(follow_addresses(*parts, row, stop, how, hits))
            if found >= 0:
                return found
            hits = hits[-1 - found - row :]
            row = -1 - found
            self.slub = self.slub._replace(slab=ln.grown(self.slub.slab), link=ln.grown(self.slub.link))
            more = self.addresses
            name, block = (
                np.append(was, np.full(len(now) - len(was), -1, was.dtype))
                for was, now in ((more.name, self.slub.link), (more.block, self.slub.slab))
            )
            self.addresses = more._replace(name=name, block=block)

    def saved(self) -> list[np.ndarray]:
        """All that changes."""
        return [array.copy() for array in self._parts()]

    def restore(self, saved: list[np.ndarray]) -> None:
        """Go back to what was ``saved``."""
        for to, array in zip(self._parts(), saved, strict=True):
            to[: len(array)] = array

    def _parts(self) -> tuple[np.ndarray, ...]:
        known = self.addresses
        return (
            self.mem.zone, self.mem.ctl, *self.slub, self.lane.handle, self.lane.live, self.lane.met,
            known.name, known.place, known.slab, known.block, known.holder, known.ctl,
        )  # fmt: skip


@dataclass(frozen=True)
class _Whole:
    """A trace before its caches are taken apart. ``of_event``: cache of each event, -1 none; ``woven``: which events
    were not recorded; ``recorded``: the row of each, or of the one before it, in the trace as recorded."""

    trace: co.CompactTrace
    config: ln.Config
    start: Start
    prepared: tuple[kr.Events, kr.Lane]
    of_event: np.ndarray
    woven: np.ndarray
    recorded: np.ndarray

    def run(self, c: int) -> slub_lane.SlubRun:
        """Cache ``c`` alone."""
        cache = self.config.caches[c]
        kind = self.prepared[1].kind
        own = np.where(kind["cache"] == c, 0, -1)
        lane = ln.empty_lane(len(self.trace.ptrs), own, kind["node"], kind["gfp"], 1, ln.NO_SAMPLES.row)
        one = ln.Config(cache.name, [cache], {}, self.config.exact, {})
        return slub_lane.SlubRun(self.trace, one, self.start, ln.NO_SAMPLES, prepared=(self.prepared[0], lane))


class _Search:
    """The operations of cache ``c``, in the ``order`` found."""

    def __init__(self, whole: _Whole, c: int, bounds: Limits) -> None:
        cache = whole.config.caches[c]
        self.rows = np.flatnonzero(whole.of_event == c)
        own = whole.trace.events[self.rows]
        recorded, woven = whole.recorded[self.rows], whole.woven[self.rows]
        allocates, frees = (np.isin(own["op"], ops) & ~woven for ops in (ALLOCATES, FREES))
        low, high = (bounds.low, bounds.nested_low), (bounds.high, bounds.nested_high)
        self.columns = Columns(
            own["op"].astype(np.int64),
            own["cpu"].astype(np.int64),
            own["object"].astype(np.int64),
            np.where(woven, np.iinfo(np.int64).min, bounds.task[recorded]),
            tuple(np.where(allocates, bound[recorded], recorded) for bound in low),
            tuple(np.where(frees, bound[recorded], recorded) for bound in high),
            allocates,
            frees,
        )
        self.own = own
        self.objects, own["object"] = np.unique(own["object"], return_inverse=True)
        self.events = np.zeros(len(own) + 2 * kr.AHEAD, own.dtype)
        self.events[: len(own)] = own
        self.shown = self.events.view()
        self.shown.flags.writeable = False
        self.order = np.arange(len(own))
        run = whole.run(c)
        room = int(run.slub.ctl[SLUB_CTL.slab_top]) + kr.SLAB_MARGIN + 64
        links = int(run.slub.ctl[SLUB_CTL.link_top]) + (kr.SLAB_MARGIN + 64) * cache.objects
        run.slub = run.slub._replace(slab=run.slub.slab[:room].copy(), link=run.slub.link[:links].copy())
        self.run = _Run(run, _frames(whole.trace, self.objects), run.lane.handle[self.objects])
        self.capacity = cache.sheaf_capacity
        self.moved = self.locked = self.wrong = 0
        self.saves: list[tuple[int, list[np.ndarray]]] = []

    def _put(self, first: int, order: np.ndarray) -> None:
        self.order[first : first + len(order)] = order
        self.events[first : first + len(order)] = self.own[order]

    def _make(self, move: Move) -> tuple[np.ndarray, np.ndarray]:
        """Make a move; what to undo it with."""
        before = self.order[move.first : move.first + len(move.order)].copy(), self.own["op"][move.locked]
        self.own["op"][move.locked] = OP_FREE_LOCKED
        self._put(move.first, move.order)
        return before

    def resolve(self) -> bool:
        """Search; whether the cache is not to be left in the order of its events."""
        at, n = 0, len(self.order)
        every = max(EVERY, len(self.objects))
        self.saves = [(0, self.run.saved())]
        while at < n:
            stop = min(n, (at // every + 1) * every)
            at = self.run.follow(self.shown, at, stop, STOP)
            if at == n:
                return True
            if at == stop:
                self.saves = [*self.saves[-2:], (at, self.run.saved())]
                continue
            found = self._best(at)
            if found is not None:
                at = found
                continue
            self.wrong += 1
            if self.wrong > PATIENCE:
                return False
            free = min(n, at + UNEXPLAINED * self.capacity)
            self.run.restore(self.saves[-1][1])
            at = self.run.follow(self.shown, self.saves[-1][0], free, GO_ON)
            self.saves = [(at, self.run.saved())]
        return True

    def _best(self, wrong: int) -> int | None:
        """Make the best move for the disagreement at ``wrong``; the position to go on from, None if none helps."""
        run, oldest = self.run, max(self.saves[0][0], wrong - BACK)
        given = int(run.lane.handle[self.events["object"][wrong]])
        slab = run.slub.slab[given >> st.HANDLE_SHIFT] if given >= 0 else None
        known = -1
        if slab is not None:
            known = int(run.addresses.name[slab[SLUB_SLAB.base] + (given & st.HANDLE_INDEX_MASK)])
        place, state = next(save for save in reversed(self.saves) if save[0] <= oldest)
        run.restore(state)
        run.follow(self.shown, place, oldest, GO_ON)
        near = run.saved()
        hits = np.zeros(wrong - oldest, np.uint8)
        run.follow(self.shown, oldest, wrong, GO_ON, hits)
        goal = min(len(self.order), wrong + LOOK)
        best, reached = None, min(goal, wrong + LEAST) - 1
        named = int(self.objects[known]) if known >= 0 else -1
        for move in moves(self.columns, self.order, wrong, hits, named):
            before, ops = self._make(move)
            run.restore(near)
            got = run.follow(self.shown, oldest, goal, STOP)
            self.own["op"][move.locked] = ops
            self._put(move.first, before)
            if got > reached:
                best, reached = move, got
            if got == goal:
                break
        if best is None:
            return None
        self._make(best)
        self.moved += 1
        self.locked += len(best.locked)
        run.restore(near)
        self.saves = [*(save for save in self.saves if save[0] < oldest), (oldest, near)]
        return oldest


def _frames(trace: co.CompactTrace, objects: np.ndarray | slice) -> np.ndarray:
    frames: np.ndarray = (trace.ptrs[objects] - np.uint64(DIRECT_MAP) >> np.uint64(12)).astype(np.int64)
    return frames


def _contradicted(whole: _Whole) -> list[int]:
    """The caches, as rows of ``config.caches``, of which an address is not the one that the rules give."""
    run = slub_lane.SlubRun(whole.trace, whole.config, whole.start, ln.NO_SAMPLES, prepared=whole.prepared)
    every = _Run(run, _frames(whole.trace, slice(None)), run.lane.handle)
    last = max(len(whole.trace.events) - kr.AHEAD, 0)
    every.follow(whole.trace.events, 0, last, GO_ON)
    tail = run.events.tail.view()
    tail.flags.writeable = False
    every.follow(tail, 0, len(whole.trace.events) - last, GO_ON)
    sheaves = np.array([cache.sheaf_capacity > 0 for cache in whole.config.caches])
    return np.flatnonzero((every.addresses.wrong > 0) & sheaves).tolist()


def resolve_sheaf_order(
    trace: co.CompactTrace, config: ln.Config, start: Start, raw: co.CompactTrace
) -> tuple[co.CompactTrace, dict[str, int]]:
    """``trace``, which is ``raw`` with refills and calls woven in, its operations moved to where the addresses say they
    were; what was done, with counts. Caches of which a smaller slab was allocated are left as recorded."""
    if not len(trace.events) or not config.caches:
        return trace, {}
    e = trace.events
    op = e["op"].copy()
    prepared = ln.prepare(trace, config, start.nodes, ln.NO_SAMPLES)
    pages = (op == co.OP_PAGE_ALLOC) | (op == co.OP_PAGE_FREE)
    of_event = np.where(pages, -1, prepared[1].kind["cache"][e["kind"]])
    woven = e["kind"] >= len(raw.kinds)
    whole = _Whole(trace, config, start, prepared, of_event, woven, np.cumsum(~woven) - 1)
    short = np.unique(of_event[op == co.OP_SHORTAGE])
    bounds, found, left = None, [], 0
    moved = locked = unexplained = 0
    for c in _contradicted(whole):
        if c in short:
            continue
        bounds = bounds or limits(raw, tasks(raw))
        search = _Search(whole, c, bounds)
        if not search.resolve():
            left += 1
            continue
        moved, locked, unexplained = moved + search.moved, locked + search.locked, unexplained + search.wrong
        if search.moved:
            op[search.rows] = search.own["op"]
            found.append(search.rows[search.order])
    steps = {
        "operations put where addresses say they were": moved,
        "frees past sheaves that an interrupted call held": locked,
        "addresses that no order explains": unexplained,
        "caches left in the order of their events": left,
    }
    return _merged(trace, op, found), {step: count for step, count in steps.items() if count}


def _merged(trace: co.CompactTrace, op: np.ndarray, found: list[np.ndarray]) -> co.CompactTrace:
    """``trace`` with other ``op``, and the rows of each of some caches in the order ``found``."""
    if not found:
        return trace
    events = trace.events.copy()
    events["op"] = op
    merge = Merge(dataclasses.replace(trace, events=events))
    for rows in found:
        order = CacheOrder(merge.shortages)
        nothing = np.zeros(len(rows), np.int64)
        order.add(nothing, rows, nothing != 0, -1)
        merge.add(order)
    return merge.trace()


__all__ = ["resolve_sheaf_order"]

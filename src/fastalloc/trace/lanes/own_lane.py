"""A lane of an allocator of one's own: one trace through its functions, every object and page accounted for."""

import time as clock
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.errors import told
from fastalloc.kernels.replay import kmem_events as kr
from fastalloc.kernels.replay.kmem_events import CACHE_SERIES, MET
from fastalloc.kernels.replay.sheaf_events import OP_FREE_MANY, OP_KFREE_RCU, OP_SHEAF_ALLOC
from fastalloc.own import memory as om
from fastalloc.own.allocator import own_allocator, why_wrong
from fastalloc.own.compiled import PolicyError
from fastalloc.own.memory import CACHE_COUNT, MAX_ORDER, ZONE_CTL, forget_object, note_object
from fastalloc.trace.compact import compact as co
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.lanes.unused import PAGE_BYTES, rounding_bytes

from numba import njit  # isort: skip

FIRST_PAGES = 4096
MARGIN = 1 << MAX_ORDER  # pages that one operation may take
MOST_BULK = 64  # objects of a call
AT_ROW, AT_WRONG, AT_ADDRESS, AT_OBJECT, AT_WIDTH = range(5)


def _no_alloc_bulk(heap, zone, c, cpu, gfp, count, into, turns):  # type: ignore[no-untyped-def]
    return 0


def _no_free_bulk(heap, zone, c, cpu, count, addresses, turns):  # type: ignore[no-untyped-def]
    pass


@lru_cache(maxsize=16)
def _driver(
    alloc: Callable[..., Any],
    free: Callable[..., Any],
    alloc_bulk: Callable[..., Any] | None,
    free_bulk: Callable[..., Any] | None,
) -> Callable[..., Any]:
    """The loop over events, compiled for an allocator's functions; bulk ones where it has them."""
    allocs_bulk, frees_bulk = alloc_bulk is not None, free_bulk is not None
    alloc_bulk = alloc_bulk or (_no_alloc_bulk if DISABLE_JIT else njit(_no_alloc_bulk))
    free_bulk = free_bulk or (_no_free_bulk if DISABLE_JIT else njit(_no_free_bulk))

    def give(heap, zone, turns, lane, size, at, cpu, obj):  # type: ignore[no-untyped-def]
        address = lane.handle[obj]
        lane.handle[obj] = -1
        c = np.int64(zone.used[address >> om.GRANULE_SHIFT]) - 1
        forget_object(zone, address, size[c])
        lane.live[c] -= 1
        zone.ctl[ZONE_CTL.cache] = c
        before = zone.counts[c, CACHE_COUNT.slow]
        turns[0] = 0
        free(heap, zone, c, cpu, address, turns)
        return zone.counts[c, CACHE_COUNT.slow] - before

    def sample(zone, lane, traffic, row):  # type: ignore[no-untyped-def]
        for c in range(lane.live.shape[0]):
            out = lane.series[row, c]
            out[CACHE_SERIES.slabs] = lane.base[c] + zone.counts[c, CACHE_COUNT.pages]
            out[CACHE_SERIES.objects] = lane.live[c]
            out[CACHE_SERIES.allocated] = zone.counts[c, CACHE_COUNT.new]
            out[CACHE_SERIES.freed] = zone.counts[c, CACHE_COUNT.given]
            for i in range(4):
                out[CACHE_SERIES.alloc_fast + i] = traffic[c, i]
            out[CACHE_SERIES.node_list] = zone.counts[c, CACHE_COUNT.locks]

    def take(heap, zone, turns, lane, size, at, c, cpu, gfp, obj):  # type: ignore[no-untyped-def]
        """More than nine arguments: the lane's groups and what an allocation is asked with."""
        zone.ctl[ZONE_CTL.cache] = c
        turns[0] = 0
        address = alloc(heap, zone, c, cpu, gfp, turns)
        if address >= 0:
            wrong = note_object(zone, address, size[c], c)
            if wrong != om.SOUND:
                at[AT_WRONG] = wrong
                at[AT_ADDRESS] = address
                at[AT_OBJECT] = obj
            lane.handle[obj] = address
            lane.live[c] += 1
        return address >= 0

    def end_of_call(event, lane, row, stop):  # type: ignore[no-untyped-def]
        """The row behind those of a call: of one operation, time, CPU and cache, without a sample between."""
        e, last = event[row], row + 1
        if lane.met[MET.sample] < lane.sample_at.shape[0]:
            stop = min(stop, lane.sample_at[lane.met[MET.sample]])
        c = lane.kind[e["kind"]]["cache"]
        while last < min(stop, row + MOST_BULK):
            other = event[last]
            if other["op"] != e["op"] or other["time"] != e["time"] or other["cpu"] != e["cpu"]:
                break
            if lane.kind[other["kind"]]["cache"] != c:
                break
            last += 1
        return last

    def take_many(event, heap, zone, turns, lane, size, at, rows):  # type: ignore[no-untyped-def]
        """A bulk allocation of the events ``rows``: how many slow paths it took, -1 refused."""
        row, last = rows
        kind = lane.kind[event[row]["kind"]]
        c, cpu, gfp = np.int64(kind["cache"]), np.int64(event[row]["cpu"]), np.int64(kind["gfp"])
        for i in range(row, last):
            obj = np.int64(event[i]["object"])
            if lane.handle[obj] >= 0:
                lane.met[MET.implied_frees] += 1
                give(heap, zone, turns, lane, size, at, cpu, obj)
        into = np.full(last - row, -1, np.int64)
        zone.ctl[ZONE_CTL.cache] = c
        before = zone.counts[c, CACHE_COUNT.slow]
        turns[0] = 0
        given = alloc_bulk(heap, zone, c, cpu, gfp, last - row, into, turns)
        if given == 0:
            return -1
        if given != last - row:
            at[AT_WRONG] = om.PART
            at[AT_ADDRESS] = given
            at[AT_OBJECT] = last - row
        for i in range(last - row):
            obj = np.int64(event[row + i]["object"])
            wrong = note_object(zone, into[i], size[c], c)
            if wrong != om.SOUND and at[AT_WRONG] == 0:
                at[AT_WRONG] = wrong
                at[AT_ADDRESS] = into[i]
                at[AT_OBJECT] = obj
            lane.handle[obj] = into[i]
        lane.live[c] += last - row
        return zone.counts[c, CACHE_COUNT.slow] - before

    def give_many(event, heap, zone, turns, lane, size, at, rows):  # type: ignore[no-untyped-def]
        """A bulk free of the events ``rows``: how many objects that were held, and how many slow paths it took."""
        row, last = rows
        c, cpu = np.int64(lane.kind[event[row]["kind"]]["cache"]), np.int64(event[row]["cpu"])
        addresses = np.empty(last - row, np.int64)
        held = 0
        for i in range(row, last):
            obj = np.int64(event[i]["object"])
            address = lane.handle[obj]
            if address < 0:
                lane.met[MET.unknown_frees] += 1
            elif np.int64(zone.used[address >> om.GRANULE_SHIFT]) - 1 == c:
                forget_object(zone, address, size[c])
                lane.handle[obj] = -1
                addresses[held] = address
                held += 1
            else:
                lane.met[MET.frees] += 1
                give(heap, zone, turns, lane, size, at, cpu, obj)
        lane.live[c] -= held
        zone.ctl[ZONE_CTL.cache] = c
        before = zone.counts[c, CACHE_COUNT.slow]
        turns[0] = 0
        if held > 0:
            free_bulk(heap, zone, c, cpu, held, addresses, turns)
        return held, zone.counts[c, CACHE_COUNT.slow] - before

    if not DISABLE_JIT:
        end_of_call, take_many, give_many = njit(end_of_call), njit(take_many), njit(give_many)
        give, sample, take = njit(give), njit(sample), njit(take)

    def follow(event, heap, zone, turns, lane, size, traffic, at, row, stop):  # type: ignore[no-untyped-def]
        """More than nine arguments: the lane's groups, and the rows to run."""
        samples = lane.sample_at.shape[0]
        while row < stop:
            while lane.met[MET.sample] < samples and lane.sample_at[lane.met[MET.sample]] <= row:
                sample(zone, lane, traffic, lane.met[MET.sample])
                lane.met[MET.sample] += 1
            if zone.ctl[ZONE_CTL.top] + MARGIN > zone.map.shape[0]:
                return row
            at[AT_ROW] = row
            e = event[row]
            op = e["op"]
            kind = lane.kind[e["kind"]]
            c = np.int64(kind["cache"])
            obj = np.int64(e["object"])
            cpu = np.int64(e["cpu"])
            # A grace period is no time here, and there are no prefilled sheaves: such objects come and go as others.
            frees = op in (kr.OP_FREE, kr.OP_BULK_FREE, OP_KFREE_RCU, OP_FREE_MANY)
            if c < 0 or not (frees or op in (kr.OP_ALLOC, kr.OP_BULK_ALLOC, OP_SHEAF_ALLOC)):
                lane.met[MET.aside] += 1
            elif allocs_bulk and op == kr.OP_BULK_ALLOC:
                last = end_of_call(event, lane, row, stop)
                slow = take_many(event, heap, zone, turns, lane, size, at, (row, last))
                if slow < 0:
                    lane.met[MET.failed] += last - row
                else:
                    lane.met[MET.allocs] += last - row
                    traffic[c, 1] += min(slow, last - row)
                    traffic[c, 0] += max(0, last - row - slow)
                row = last - 1
            elif frees_bulk and op in (kr.OP_BULK_FREE, OP_FREE_MANY):
                last = end_of_call(event, lane, row, stop)
                held, slow = give_many(event, heap, zone, turns, lane, size, at, (row, last))
                lane.met[MET.frees] += held
                traffic[c, 3] += min(slow, held)
                traffic[c, 2] += max(0, held - slow)
                row = last - 1
            elif not frees:
                if lane.handle[obj] >= 0:
                    lane.met[MET.implied_frees] += 1
                    give(heap, zone, turns, lane, size, at, cpu, obj)
                before = zone.counts[c, CACHE_COUNT.slow]
                if take(heap, zone, turns, lane, size, at, c, cpu, np.int64(kind["gfp"]), obj):
                    lane.met[MET.allocs] += 1
                    traffic[c, 1 if zone.counts[c, CACHE_COUNT.slow] > before else 0] += 1
                else:
                    lane.met[MET.failed] += 1
            elif lane.handle[obj] >= 0:
                lane.met[MET.frees] += 1
                traffic[c, 3 if give(heap, zone, turns, lane, size, at, cpu, obj) > 0 else 2] += 1
            else:
                lane.met[MET.unknown_frees] += 1
            if at[AT_WRONG] != 0 or zone.ctl[ZONE_CTL.bad] != 0:
                return row
            row += 1
        while lane.met[MET.sample] < samples and lane.sample_at[lane.met[MET.sample]] <= row:
            sample(zone, lane, traffic, lane.met[MET.sample])
            lane.met[MET.sample] += 1
        return row

    return follow if DISABLE_JIT else njit(follow)


class OwnRun:
    """A lane on its way through a trace. ``seconds``: inside the loop."""

    def __init__(self, trace: co.CompactTrace, config: ln.Config, start: Start, samples: ln.Samples) -> None:
        assert config.policy is not None
        self.config, self.allocator = config, own_allocator(*config.policy)
        caches, cpus = config.caches, start.cpus(trace)
        self.zone = om.new_zone(FIRST_PAGES, len(caches), 1 << 40)
        self.heap = self.allocator.arrays(len(caches), cpus, FIRST_PAGES)
        _, lane = ln.prepare(trace, config, start.nodes, samples)
        self.event = np.ascontiguousarray(trace.events)
        self.lane = lane
        self.size = np.array([cache.size for cache in caches], np.int64)
        self.traffic = np.zeros((len(caches), 4), np.int64)
        self.at = np.zeros(AT_WIDTH, np.int64)
        self.turns = np.zeros(1, np.int64)
        call = self.allocator.compiled
        self._follow = _driver(call["alloc"], call["free"], call.get("alloc_bulk"), call.get("free_bulk"))
        self.row, self.seconds = 0, 0.0
        for c, cache in enumerate(caches):
            self._guarded(call["create"], self.heap, c, cache.size, self.turns)
            laid = start.packed(config.sources(cache.name), cache.objects)
            staying = laid.live - len(laid.old)  # that the trace does not free: full slabs
            lane.base[c], lane.live[c] = -(-staying // cache.objects) << cache.order, staying
            for obj in laid.old.tolist():
                self._old_object(c, obj)
        self.begin = lane.base + self.zone.counts[:, CACHE_COUNT.pages]
        self.zone.counts[:, [CACHE_COUNT.new, CACHE_COUNT.given, CACHE_COUNT.slow, CACHE_COUNT.locks]] = 0
        self._run(0)  # compiles, where it must, outside the time taken
        self.seconds = 0.0
        lane.met[MET.sample] = 0

    def _old_object(self, c: int, obj: int) -> None:
        """An object that there was before the trace, allocated by CPU 0."""
        self._grow()
        self.zone.ctl[ZONE_CTL.cache], self.turns[0] = c, 0
        address = self._guarded(self.allocator.compiled["alloc"], self.heap, self.zone, c, 0, 0, self.turns)
        if address >= 0:
            wrong = int(note_object(self.zone, address, int(self.size[c]), c))
            if wrong != om.SOUND:
                raise PolicyError(f"replay {self.config.name}: {why_wrong(wrong, address, obj)}")
            self.lane.handle[obj] = address
            self.lane.live[c] += 1

    def _grow(self) -> None:
        if self.zone.ctl[ZONE_CTL.top] + MARGIN > len(self.zone.map):
            pages = 2 * len(self.zone.map)
            self.heap = self.allocator.grown(self.heap, len(self.zone.map), pages)
            zone = self.zone
            self.zone = zone._replace(
                map=ln.grown(zone.map), owner=ln.grown(zone.owner), next=ln.grown(zone.next), used=ln.grown(zone.used)
            )

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> int:
        try:
            return int(function(*arguments) or 0)
        except Exception as error:
            raise PolicyError(
                f"replay {self.config.name}: its allocator failed at event {int(self.at[AT_ROW]):,}: {told(error)}; "
                f"look with: fastalloc policy check {self.allocator.text.text.where}"
            ) from None

    def _run(self, stop: int) -> None:
        before = clock.perf_counter()
        self.row = self._guarded(
            self._follow,
            *(
                self.event,
                self.heap,
                self.zone,
                self.turns,
                self.lane,
                self.size,
                self.traffic,
                self.at,
                self.row,
                stop,
            ),
        )
        self.seconds += clock.perf_counter() - before

    def to(self, stop: int) -> None:
        """Run the events up to row ``stop``; PolicyError where the allocator failed."""
        while self.row < stop:
            self._run(stop)
            if self.at[AT_WRONG] or self.zone.ctl[ZONE_CTL.bad]:
                page = om.bad_page(int(self.zone.ctl[ZONE_CTL.bad]))
                why = f"page {page} was given back and is not held so, or is in use"
                if self.at[AT_WRONG]:
                    why = why_wrong(*(int(self.at[i]) for i in (AT_WRONG, AT_ADDRESS, AT_OBJECT)))
                raise PolicyError(
                    f"replay {self.config.name}: its allocator failed at event {int(self.at[AT_ROW]):,}: {why}"
                )
            self._grow()


def run(trace: co.CompactTrace, config: ln.Config, start: Start, samples: ln.Samples) -> ln.LaneResult:
    """Run ``trace`` through the allocator of ``config``, its objects placed anew. A slab is a page here, and what the
    allocator counts with ``slow`` and ``lock`` are slow paths and locks."""
    lane_run = OwnRun(trace, config, start, samples)
    lane_run.to(len(trace.events))
    zone, lane, caches = lane_run.zone, lane_run.lane, config.caches
    counts = zone.counts
    held = lane.base + counts[:, CACHE_COUNT.pages]
    fast_alloc, slow_alloc, fast_free, slow_free = lane_run.traffic.T
    table = pl.DataFrame(
        {
            "cache": [cache.name for cache in caches],
            "size": [cache.size for cache in caches],
            "order": [0] * len(caches),
            "start_slabs": lane_run.begin,
            "new": counts[:, CACHE_COUNT.new],
            "freed": counts[:, CACHE_COUNT.given],
            "peak": lane.base + counts[:, CACHE_COUNT.peak],
            "end": lane.base + counts[:, CACHE_COUNT.pages],
            "objects": lane.live,
            "alloc_fast": fast_alloc,
            "alloc_slow": slow_alloc,
            "free_fast": fast_free,
            "free_slow": slow_free,
            "node_list": counts[:, CACHE_COUNT.locks],
            "list_lock": counts[:, CACHE_COUNT.locks],
            # Nobody knows where an allocator of one's own has what is free.
            "tail_bytes": np.zeros_like(held),
            "partial_bytes": held * PAGE_BYTES - lane.live * lane_run.size,
            "cpu_bytes": np.zeros_like(held),
            "rounding_bytes": rounding_bytes(trace, config),
        }
    )
    return ln.LaneResult(
        config, table, lane.series, samples.ns, ln.counts_of(lane.met), len(trace.events), lane_run.seconds
    )


__all__ = ["run"]

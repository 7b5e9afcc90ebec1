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
AT_ROW, AT_WRONG, AT_ADDRESS, AT_OBJECT, AT_WIDTH = range(5)


@lru_cache(maxsize=16)
def _driver(alloc: Callable[..., Any], free: Callable[..., Any]) -> Callable[..., Any]:
    """The loop over events, compiled for an allocator's functions."""

    def give(heap, zone, turns, lane, size, at, cpu, obj):  # type: ignore[no-untyped-def]
        address = lane.handle[obj]
        lane.handle[obj] = -1
        c = zone.owner[head(zone, address)]
        forget_object(zone, address, size[c])
        lane.live[c] -= 1
        zone.ctl[ZONE_CTL.cache] = c
        before = zone.counts[c, CACHE_COUNT.slow]
        turns[0] = 0
        free(heap, zone, c, cpu, address, turns)
        return zone.counts[c, CACHE_COUNT.slow] - before

    def head(zone, address):  # type: ignore[no-untyped-def]
        page = address >> om.PAGE_SHIFT
        while zone.map[page] < 0:
            page -= 1
        return page

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
            wrong = note_object(zone, address, size[c], obj)
            if wrong != om.SOUND:
                at[AT_WRONG] = wrong
                at[AT_ADDRESS] = address
                at[AT_OBJECT] = obj
            lane.handle[obj] = address
            lane.live[c] += 1
        return address >= 0

    if not DISABLE_JIT:
        head, give, sample, take = njit(head), njit(give), njit(sample), njit(take)

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
        self._follow = _driver(call["alloc"], call["free"])
        self.row, self.seconds = 0, 0.0
        for c, cache in enumerate(caches):
            self._guarded(call["create"], self.heap, c, cache.size, self.turns)
            laid = start.packed(config.sources(cache.name), cache.objects)
            lane.base[c], lane.live[c] = laid.base << cache.order, laid.live - len(laid.old)
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
            wrong = int(note_object(self.zone, address, int(self.size[c]), obj))
            if wrong != om.SOUND:
                raise PolicyError(f"replay {self.config.name}: {why_wrong(wrong, address, obj)}")
            self.lane.handle[obj] = address
            self.lane.live[c] += 1

    def _grow(self) -> None:
        if self.zone.ctl[ZONE_CTL.top] + MARGIN > len(self.zone.map):
            pages = 2 * len(self.zone.map)
            self.heap = self.allocator.grown(self.heap, pages)
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
                why = f"page {int(self.zone.ctl[ZONE_CTL.bad]) - 1} was given back and is not held so, or is in use"
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

"""A lane of an allocator of one's own: one trace through its functions, every object and page accounted for."""

import time as clock
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from fastalloc.errors import InputError, told
from fastalloc.kernels.replay.kmem_events import MET
from fastalloc.own import memory as om
from fastalloc.own.allocator import own_allocator, why_wrong
from fastalloc.own.compiled import PolicyError
from fastalloc.own.machine_code import why_refused
from fastalloc.own.memory import CACHE_COUNT, ZONE_CTL, note_object
from fastalloc.own.plain_python import MAY_RAISE
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.tasks import tasks_as_played
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes.own_driver import AT_ADDRESS, AT_OBJECT, AT_ROW, AT_WIDTH, AT_WRONG, MARGIN, driver
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.lanes.unused import PAGE_BYTES, rounding_bytes

from numba.core.errors import NumbaError  # isort: skip

FIRST_PAGES = 4096


class _OutgrownError(Exception):
    """The arrays of a lane are too small, and cannot grow while it runs."""


class _RaisedError(Exception):
    """A function of the allocator raised: which, at which line where that was noted, and what."""


class OwnRun:
    """A lane on its way through a trace. ``pages``: that its arrays hold at first; ``lines``: each statement notes its
    line; ``seconds``: inside the loop."""

    def __init__(
        self,
        trace: co.CompactTrace,
        config: ln.Config,
        start: Start,
        samples: ln.Samples,
        pages: int = FIRST_PAGES,
        lines: bool = False,
    ) -> None:
        assert config.policy is not None
        self.config, self.allocator = config, own_allocator(*config.policy, lines)
        caches, cpus = config.caches, start.cpus(trace)
        self.zone = om.new_zone(pages, len(caches), 1 << 40)
        asks_current, pids = self.allocator.text.asks_current, np.zeros(1, np.int64)
        self.task = np.zeros(1, np.uint32)
        if asks_current:
            pids, self.task = tasks_as_played(trace)
        self.heap = self.allocator.arrays(len(caches), cpus, pages, len(pids))
        _, lane = ln.prepare(trace, config, start.nodes, samples)
        self.event = np.ascontiguousarray(trace.events)
        self.lane = lane
        self.size = np.array([cache.size for cache in caches], np.int64)
        self.traffic = np.zeros((len(caches), 4), np.int64)
        self.at = np.zeros(AT_WIDTH, np.int64)
        self.turns = np.zeros(2, np.int64)
        call = self.allocator.compiled
        bulk = call.get("alloc_bulk"), call.get("free_bulk")
        self._follow, self._drain = driver(call["alloc"], call["free"], *bulk, asks_current)
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
        """An object that there was before the trace, allocated by task 0 on CPU 0."""
        self._grow()
        self.zone.ctl[ZONE_CTL.cache], self.turns[0] = c, 0
        address = self._guarded(self.allocator.compiled["alloc"], self.heap, self.zone, c, 0, 0, self.turns)
        if address != om.NOTHING:
            wrong = int(note_object(self.zone, address, int(self.size[c]), c))
            if wrong != om.SOUND:
                raise self._wrong("alloc", why_wrong(wrong, address, obj))
            self.lane.handle[obj] = address
            self.lane.live[c] += 1

    def _grow(self) -> None:
        if self.zone.ctl[ZONE_CTL.top] + MARGIN > len(self.zone.map):
            if not self.allocator.grows:
                raise _OutgrownError
            pages = 2 * len(self.zone.map)
            self.heap = self.allocator.grown(self.heap, len(self.zone.map), pages)
            zone = self.zone
            self.zone = zone._replace(
                map=ln.grown(zone.map), owner=ln.grown(zone.owner), next=ln.grown(zone.next), used=ln.grown(zone.used)
            )

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> int:
        try:
            return int(function(*arguments) or 0)
        except NumbaError as error:
            text = self.allocator.text.text
            raise InputError(text.where, *why_refused("alloc", text, str(error))) from None
        except MAY_RAISE as error:
            raise _RaisedError(f"line {int(self.turns[1])}: {told(error)}{self._asked()}") from None

    def _asked(self) -> str:
        return f" (replay {self.config.name}, event {int(self.at[AT_ROW]):,})"

    def _wrong(self, function: str, why: str) -> PolicyError:
        text = self.allocator.text.text
        return PolicyError(f"{text.where}: line {text.functions[function].lineno}: {function}: {why}{self._asked()}")

    def _run(self, stop: int) -> None:
        before = clock.perf_counter()
        self.row = self._guarded(
            self._follow,
            *(
                self.event,
                self.task,
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
            if self.at[AT_WRONG]:
                bulk = self.at[AT_WRONG] == om.PART
                why = why_wrong(*(int(self.at[i]) for i in (AT_WRONG, AT_ADDRESS, AT_OBJECT)))
                raise self._wrong("alloc_bulk" if bulk else "alloc", why)
            self._refuse_bad_page()
            self._grow()
        self._refuse_held()

    def _refuse_bad_page(self) -> None:
        if self.zone.ctl[ZONE_CTL.bad]:
            page = om.bad_page(int(self.zone.ctl[ZONE_CTL.bad]))
            raise self._wrong("free", f"page {page} was given back that is not held so, or has an object in use")

    def _refuse_held(self) -> None:
        """Whether as many pages are held as it says."""
        self.turns[0] = 0
        said = self._guarded(self.allocator.compiled["pages_held"], self.heap, self.turns)
        held = int(self.zone.ctl[ZONE_CTL.held])
        if said != held:
            raise self._wrong("pages_held", f"says {said:,}, but {held:,} pages are held")

    def refuse_lost(self) -> None:
        """Free every object and shrink every cache, after which the lane is of no use: no page may be held."""
        self._guarded(self._drain, self.heap, self.zone, self.turns, self.lane, self.size, self.at)
        for c in range(len(self.size)):
            self.zone.ctl[ZONE_CTL.cache], self.turns[0] = c, 0
            self._guarded(self.allocator.compiled["shrink"], self.heap, self.zone, c, self.turns)
        self._refuse_bad_page()
        self._refuse_held()
        held = int(self.zone.ctl[ZONE_CTL.held])
        if held:
            why = f"{held:,} pages are held although every object was freed and every cache shrunk"
            raise self._wrong("free", f"{why}: a page leaked, or an object was lost")


def _through(trace: co.CompactTrace, config: ln.Config, start: Start, samples: ln.Samples) -> OwnRun:
    """A lane at the end of a trace. Where arrays are too small that cannot grow it begins anew with larger ones, and
    where a function raised once more with its lines noted."""
    pages, lines = FIRST_PAGES, False
    while True:
        try:
            lane_run = OwnRun(trace, config, start, samples, pages, lines)
            lane_run.to(len(trace.events))
            return lane_run
        except _OutgrownError:
            pages *= 2
        except _RaisedError as error:
            if lines:
                assert config.policy is not None
                raise PolicyError(f"{config.policy[1]}: {error}") from None
            lines = True


def run(trace: co.CompactTrace, config: ln.Config, start: Start, samples: ln.Samples) -> ln.LaneResult:
    """Run ``trace`` through the allocator of ``config``, its objects placed anew. A slab is a page here, and what the
    allocator counts with ``slow`` and ``lock`` are slow paths and locks."""
    lane_run = _through(trace, config, start, samples)
    lane, caches, counts = lane_run.lane, config.caches, lane_run.zone.counts.copy()
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
            "objects": lane.live.copy(),
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
    met = ln.counts_of(lane.met)
    try:
        lane_run.refuse_lost()
    except _RaisedError as error:
        raise PolicyError(f"{lane_run.allocator.text.text.where}: {error}") from None
    return ln.LaneResult(config, table, lane.series, samples.ns, met, len(trace.events), lane_run.seconds)


__all__ = ["run"]

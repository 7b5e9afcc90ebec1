"""Scenarios to lanes, lanes over threads: progress, cancellation, and results in lane order."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from fastalloc.batch.beginnings import Beginnings
from fastalloc.batch.equal_variants import first_alike
from fastalloc.batch.heap import HEAPS, Layout, build_layout
from fastalloc.batch.lane import MOST_ROOM, ROOM_STEP, Lane, build_lane
from fastalloc.batch.size import refuse_too_large
from fastalloc.batch.sound import Broken as Broken
from fastalloc.batch.sound import CapacityError as CapacityError
from fastalloc.batch.sound import ConservationError as ConservationError
from fastalloc.batch.sound import check_sound as check_sound
from fastalloc.batch.sound import refuse_lost as refuse_lost
from fastalloc.kernels.alloc.kmem_inspect import overflowed
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import OUT_CTL, VM
from fastalloc.kernels.machine.finish import finish_lane
from fastalloc.kernels.machine.run import run_lane
from fastalloc.own.allocator_text import read_own
from fastalloc.own.text import refuse_parameters, refuse_unasked
from fastalloc.scenario.models import Scenario
from fastalloc.threads import threads_of

SLICE_MS = 5000  # simulated time between two looks at progress and cancellation
LOOK_S = 0.1  # between two looks at a call's cancellation
LEFT_AFTER_S = 1.0  # a cancelled call waits so long for lanes that are inside a kernel


class LaneResult(NamedTuple):
    """What one lane reports; all arrays int64, columns as named in :mod:`fastalloc.kernels.lane.metrics`."""

    lane: int
    metrics: np.ndarray  # [METRIC.width]
    series: np.ndarray  # [samples, SERIES.width]
    events: np.ndarray  # [events, EVENT_ROW.width]
    ledger: np.ndarray  # [owner, depth, taker]: objects


class BatchProgress(NamedTuple):
    """How far a call of :func:`run_lanes` or :func:`run_machines` is, over all lanes of all scenarios."""

    lanes_done: int
    lanes: int
    simulated_ms: int
    total_ms: int
    livelocks: int
    wall_s: float
    compiling: bool


class _Tally:
    """Progress of all threads, told to one callback."""

    def __init__(self, lanes: int, total_ms: int, tell: Callable[[BatchProgress], None] | None) -> None:
        self._lock = threading.Lock()
        self._tell, self._lanes, self._total = tell, lanes, total_ms
        self._done = self._simulated = self._livelocks = 0
        self._begun = time.monotonic()

    def add(self, milliseconds: int = 0, lanes: int = 0, livelocks: int = 0, compiling: bool = False) -> None:
        with self._lock:
            self._simulated += milliseconds
            self._done += lanes
            self._livelocks += livelocks
            if self._tell is not None:
                wall = time.monotonic() - self._begun
                self._tell(
                    BatchProgress(
                        self._done, self._lanes, self._simulated, self._total, self._livelocks, wall, compiling
                    )
                )


def advance(lane: int, arrays: Lane, until_ns: int, scenario: Scenario, **options: Any) -> Lane:
    """Run a lane on to ``until_ns``; one that outgrows its arrays is run again from its start in larger ones.

    ``options`` as the lane was built with. Returns the lane, which may be a new one.

    Raises
    ------
    ConservationError, PolicyError, CapacityError
    """
    ended = arrays.mem.ctl[MEMCTL.stopped] or arrays.vm.ctl[VM.error] or overflowed(arrays.heap)
    if arrays.vm.ctl[VM.now] < until_ns and not ended:  # its beginning may go further, or end it
        run_lane(*arrays, until_ns)
    room = 1
    while overflowed(arrays.heap) and room < MOST_ROOM:
        room *= ROOM_STEP
        arrays = build_lane(scenario, lane, room=room, **options)
        run_lane(*arrays, until_ns)
    check_sound(lane, arrays, scenario)
    return arrays


def result_of(lane: int, arrays: Lane) -> LaneResult:
    """Close a lane and copy out what it reports."""
    finish_lane(arrays.mem, arrays.heap, arrays.pools, arrays.io, arrays.vm, arrays.out)
    out = arrays.out
    return LaneResult(
        lane,
        out.metric.copy(),
        out.series[: out.ctl[OUT_CTL.samples]].copy(),
        out.event[: out.ctl[OUT_CTL.events]].copy(),
        out.ledger.copy(),
    )


def warm(*scenarios: Scenario) -> None:
    """Compile the kernels, or load them from the cache; one thread of one process does so before others start.

    Kernels differ by allocator: one scenario of each is enough, see :func:`heap_of`.
    """
    for scenario in scenarios:
        run_lane(*build_lane(scenario, 0, 0), 0)


def refuse_unfit(scenarios: Sequence[Scenario], at_once: int) -> None:
    """Raise InputError for a scenario (of one variant) that no lane can be made of, before any is run: a cache that
    fits no slab, ``at_once`` lanes larger than memory, a machine too small to boot."""
    for scenario in scenarios:
        policy = scenario.policy
        if policy.questions:
            text = read_own(policy.questions, policy.own[1])
            if policy.allocator != "own":
                refuse_unasked(text, policy.allocator)
            refuse_parameters(text, policy.parameters)
    refuse_too_large(scenarios, at_once)
    layouts = [build_layout(scenario) for scenario in scenarios]
    for scenario, layout in zip(scenarios, layouts, strict=True):
        build_lane(scenario, 0, scenario.run.seed, layout=layout)


def heap_of(allocator: str) -> str:
    """Name of the state that kernels are compiled for under a ``policy.allocator``."""
    return HEAPS[allocator].__name__


def run_serial(
    scenario: Scenario, lanes: Sequence[int], *, seed: int, cancel: threading.Event | None = None
) -> list[LaneResult]:
    """Run lanes one after the other in the calling thread; empty when it is cancelled.

    Raises
    ------
    ConservationError, CapacityError
    """
    lane_ms = round(scenario.run.duration_s * 1000)
    results = []
    build: dict[str, Any] = {"seed": seed, "layout": build_layout(scenario)}
    for lane in lanes:
        arrays = build_lane(scenario, lane, **build)
        for begin in range(0, lane_ms, SLICE_MS):
            if cancel is not None and cancel.is_set():
                return []
            arrays = advance(lane, arrays, min(begin + SLICE_MS, lane_ms) * ms.NS_PER_MS, scenario, **build)
        results.append(result_of(lane, arrays))
        refuse_lost(lane, arrays, scenario)
    return results


def run_lanes(
    scenario: Scenario, lanes: Sequence[int], *, seed: int, threads: int = 0, **options: Any
) -> Iterator[LaneResult]:
    """:func:`run_machines` of one scenario: its results in the order of ``lanes``."""
    for _, result in run_machines([scenario], lanes, seed=seed, threads=threads, **options):
        yield result


def run_machines(
    scenarios: Sequence[Scenario],
    lanes: Sequence[int],
    *,
    seed: int,
    threads: int = 0,
    batch: int = 0,
    full_events: bool = False,
    debug: bool = False,
    skip: bool = True,
    progress: Callable[[BatchProgress], None] | None = None,
    broken: Callable[[int, Broken], None] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[tuple[int, LaneResult]]:
    """Run the same lanes of several scenarios (each of one variant); yield the scenario's index and a lane's result,
    scenario by scenario, lanes in the order asked for.

    Threads, batch size and skipping change no result; a cancelled call yields the lanes finished so far in order. A
    scenario that starts as the same machine as an earlier one has its results and is not run again.

    Parameters
    ----------
    lanes : lane numbers; a lane's randomness depends on ``seed`` and its number alone.
    threads : 0 is one a CPU.
    batch : lanes that a thread advances together, slice by slice; 0 is one.
    full_events : keep every event instead of the important ones.
    debug : check conservation after each tick.
    skip : jump over ticks in which nothing is due.
    broken : told the scenario's index and each lane that broke; the others go on. Without it the first one raises.

    More than nine arguments: those behind the first two are options, each with a default.

    Raises
    ------
    ConservationError, CapacityError
    """
    if not lanes:
        return
    lane_ms = [round(scenario.run.duration_s * 1000) for scenario in scenarios]
    tally = _Tally(len(lanes) * len(scenarios), len(lanes) * sum(lane_ms), progress)
    stop = threading.Event()  # the caller's own event is only read
    size = max(1, batch)
    groups = [list(lanes[i : i + size]) for i in range(0, len(lanes), size)]
    first = first_alike(scenarios, lanes[0], seed)
    run_once = [i for i, j in enumerate(first) if i == j]
    beginnings = Beginnings([scenarios[i] for i in run_once], lanes, seed)
    again = {j for i, j in enumerate(first) if i != j}  # whose results serve once more
    kept: dict[int, list[LaneResult | Broken]] = {j: [] for j in again}

    def cancelled() -> bool:
        return stop.is_set() or (cancel is not None and cancel.is_set())

    def run_group(variant: int, layout: Layout, members: Sequence[int]) -> list[LaneResult | Broken]:
        scenario = scenarios[variant]
        build: dict[str, Any] = {"seed": seed, "layout": layout, "full_events": full_events}
        build |= {"debug": debug, "skip": skip}
        place = run_once.index(variant)
        running: list[Lane | Broken] = [
            beginnings.lane(place, scenario, lane, build_lane(scenario, lane, **build), cancelled) for lane in members
        ]
        end_ms = round(scenario.run.duration_s * 1000)
        for begin in range(0, end_ms, SLICE_MS):
            end = min(begin + SLICE_MS, end_ms)
            for i, lane in enumerate(members):
                if cancelled():
                    return []
                running[i] = _advance_or_break(lane, running[i], end * ms.NS_PER_MS, scenario, build)
                tally.add(milliseconds=end - begin)
        results: list[LaneResult | Broken] = []
        for lane, arrays in zip(members, running, strict=True):
            results.append(arrays if isinstance(arrays, Broken) else result_of(lane, arrays))
            if not isinstance(arrays, Broken):
                refuse_lost(lane, arrays, scenario)
        return results

    def whole(i: int, results: list[LaneResult | Broken]) -> Iterator[tuple[int, LaneResult]]:
        for result in results:
            if not isinstance(result, Broken):
                yield i, result
            elif broken is None:
                raise ConservationError(result)
            else:
                broken(i, result.of(scenarios[i].variants[0].name))

    def work() -> Iterator[tuple[int, Layout, list[int]]]:
        for i, scenario in enumerate(scenarios):
            if first[i] == i:
                layout = build_layout(scenario)
                yield from ((i, layout, group) for group in groups)

    # all kernels are compiled (or loaded) by one thread before the others start
    tally.add(compiling=True)
    warm(*{heap_of(scenario.policy.allocator): scenario for scenario in scenarios}.values())
    workers = threads_of(threads)
    pool = ThreadPoolExecutor(workers)
    todo = work()
    waiting = deque(pool.submit(run_group, *item) for item in islice(todo, workers + 1))
    try:
        for i in range(len(scenarios)):
            if first[i] != i:
                results = kept[first[i]]
                tally.add(lane_ms[i] * len(results), len(results), _livelocks(results))
                yield from whole(i, results)
                continue
            for _ in groups:
                results = _awaited(waiting.popleft(), cancel)
                waiting.extend(pool.submit(run_group, *item) for item in islice(todo, 1))
                if not results:
                    return
                tally.add(lanes=len(results), livelocks=_livelocks(results))
                if i in again:
                    kept[i] += results
                yield from whole(i, results)
    finally:
        stop.set()
        pool.shutdown(wait=cancel is None or not cancel.is_set(), cancel_futures=True)


def _advance_or_break(
    lane: int, arrays: Lane | Broken, until_ns: int, scenario: Scenario, build: dict[str, Any]
) -> Lane | Broken:
    """:func:`advance`; a lane that breaks ends there."""
    if isinstance(arrays, Broken):
        return arrays
    try:
        return advance(lane, arrays, until_ns, scenario, **build)
    except ConservationError as error:
        return error.broken


def _awaited(future: "Future[list[LaneResult | Broken]]", cancel: threading.Event | None) -> list[LaneResult | Broken]:
    """The results of a group; none where the call is cancelled and the group does not end soon."""
    if cancel is None:
        return future.result()
    left = LEFT_AFTER_S
    while True:
        try:
            return future.result(LOOK_S)
        except TimeoutError:
            if future.done():
                raise  # its own
            left -= LOOK_S if cancel.is_set() else 0
            if left <= 0:
                return []


def _livelocks(results: Sequence[LaneResult | Broken]) -> int:
    return sum(int(result.metrics[METRIC.livelock_5s]) for result in results if not isinstance(result, Broken))

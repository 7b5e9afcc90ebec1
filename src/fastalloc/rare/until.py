"""Lanes run until an event, from their boot or from a snapshot."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from fastalloc.batch import CapacityError, check_sound, refuse_lost
from fastalloc.batch.heap import Layout, build_layout
from fastalloc.batch.lane import MOST_ROOM, ROOM_STEP, Lane, build_lane
from fastalloc.batch.snapshot import Snapshot, branch, branch_seed, restore
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.rare.events import Event, happened_ns, is_open
from fastalloc.report.hazard import Seen
from fastalloc.scenario.models import Scenario
from fastalloc.threads import threads_of

TASK_LANES = 8  # that a worker of an executor is given at once
LOOK_NS = 250 * ms.NS_PER_MS  # simulated time between two looks
LONGEST_OPEN_NS = 120 * ms.NS_PER_S  # a lane runs on for so long after its end to see what has begun


def seen(
    lane: int, arrays: Lane, event: Event, end_ns: int, scenario: Scenario, cancel: threading.Event | None = None
) -> Seen | None:
    """Run a lane in place until ``event``, at ``end_ns`` at the latest; None when it is cancelled.

    Raises:
        LaneError: the lane's state is not to be trusted.
    """
    now = int(arrays.vm.ctl[VM.now])
    while True:
        at = happened_ns(event, arrays)
        if at is not None:
            return Seen(lane, True, at) if at < end_ns else Seen(lane, False, end_ns)
        if now >= end_ns and (not is_open(event, arrays) or now >= end_ns + LONGEST_OPEN_NS):
            return Seen(lane, False, end_ns)
        if cancel is not None and cancel.is_set():
            return None
        now = min(now + LOOK_NS, end_ns) if now < end_ns else now + LOOK_NS
        run_lane(*arrays, now)
        check_sound(lane, arrays, scenario)


def lanes_until(
    scenario: Scenario,
    lanes: Sequence[int],
    event: Event,
    seed: int,
    *,
    threads: int = 0,
    executor: Executor | None = None,
    workers: int = 0,
    cancel: threading.Event | None = None,
) -> Iterator[Seen]:
    """Each lane of a scenario (of one variant) from its boot until its first event, in the order of ``lanes``.

    Neither threads nor workers change a result. It ends early when it is cancelled; what runs ahead of the last lane
    that is asked for is dropped.

    Args:
        executor: where lanes run instead of in threads of this process.
        workers: how many tasks the executor runs at once.

    Raises:
        LaneError: a lane's state is not to be trusted.
    """
    quiet = scenario.with_settings({"run.series_ms": max(1, round(scenario.run.duration_s * 1000))})
    step = 1 if executor is None else TASK_LANES
    layout = build_layout(quiet) if executor is None else None
    at_once = 2 * (workers or threads_of(threads))
    own = ThreadPoolExecutor(threads_of(threads)) if executor is None else None
    pool: Executor = own or executor  # type: ignore[assignment]
    stop = cancel if cancel is not None else threading.Event()
    extra = (layout, stop) if executor is None else ()
    running: deque[Future[list[Seen]]] = deque()
    begin = 0
    try:
        while running or begin < len(lanes):
            while len(running) < at_once and begin < len(lanes):
                running.append(pool.submit(run_until, quiet, lanes[begin : begin + step], event, seed, *extra))
                begin += step
            found = running.popleft().result()
            yield from found
            if stop.is_set() or not found:
                return
    finally:
        for future in running:
            future.cancel()
        if own is not None:
            own.shutdown(cancel_futures=True)


def run_until(
    scenario: Scenario,
    lanes: Sequence[int],
    event: Event,
    seed: int,
    layout: Layout | None = None,
    cancel: threading.Event | None = None,
) -> list[Seen]:
    """Lanes one after the other in the calling thread; those before the cancelled one where it is cancelled.

    Raises:
        LaneError: a lane's state is not to be trusted.
    """
    end_ns = round(scenario.run.duration_s * ms.NS_PER_S)
    layout = layout or build_layout(scenario)
    done: list[Seen] = []
    for lane in lanes:
        room = 1
        while True:
            try:
                arrays = build_lane(scenario, lane, seed, layout=layout, room=room)
                found = seen(lane, arrays, event, end_ns, scenario, cancel)
                break
            except CapacityError:
                if room >= MOST_ROOM:
                    raise
                room *= ROOM_STEP
        if found is None:
            break
        refuse_lost(lane, arrays, scenario)
        done.append(found)
    return done


def branches_until(
    snapshot: Snapshot,
    event: Event,
    end_ns: int,
    scenario: Scenario,
    count: int,
    *,
    threads: int = 0,
    cancel: threading.Event | None = None,
) -> list[Seen]:
    """Branches 1 to ``count`` of a snapshot, each until the event or ``end_ns``; empty when it is cancelled.

    Branches of the boot are booted with their keys, so that they are lanes like all others.

    Raises:
        LaneError: the state of one is not to be trusted.
    """

    def one(number: int) -> Seen | None:
        if snapshot.now_ns == 0:
            arrays = build_lane(scenario, snapshot.lane, branch_seed(snapshot.seed, snapshot.lane, 0, number))
        else:
            arrays = restore(branch(snapshot, number))
        found = seen(snapshot.lane, arrays, event, end_ns, scenario, cancel)
        if found is not None:
            refuse_lost(snapshot.lane, arrays, scenario)
        return found

    with ThreadPoolExecutor(threads_of(threads)) as pool:
        found = [each for each in pool.map(one, range(1, count + 1)) if each is not None]
    return found if len(found) == count else []

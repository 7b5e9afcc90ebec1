"""Lanes run until an event, from their boot or from a snapshot."""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fastalloc.batch import MOST_ROOM, ROOM_STEP, CapacityError, check_sound
from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import Lane, build_lane
from fastalloc.batch.snapshot import Snapshot, branch, branch_seed, restore
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.rare.events import Event, happened_ns, is_open
from fastalloc.scenario.models import Scenario

LOOK_NS = 250 * ms.NS_PER_MS  # simulated time between two looks
LONGEST_OPEN_NS = 120 * ms.NS_PER_S  # a lane runs on for so long after its end to see what has begun


class Seen(NamedTuple):
    """One lane until its first event or its end."""

    lane: int
    event: bool
    at_ns: int  # of the event, else the end


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
    cancel: threading.Event | None = None,
) -> Iterator[Seen]:
    """Each lane of a scenario (of one variant) from its boot until its first event, in the order of ``lanes``.

    Threads change no result. It ends early when it is cancelled.

    Raises:
        LaneError: a lane's state is not to be trusted.
    """
    end_ns = round(scenario.run.duration_s * ms.NS_PER_S)
    quiet = scenario.with_settings({"run.series_ms": max(1, round(scenario.run.duration_s * 1000))})
    layout = build_layout(quiet)

    def one(lane: int) -> Seen | None:
        room = 1
        while True:
            try:
                return seen(lane, build_lane(quiet, lane, seed, layout=layout, room=room), event, end_ns, quiet, cancel)
            except CapacityError:
                if room >= MOST_ROOM:
                    raise
                room *= ROOM_STEP

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for found in pool.map(one, lanes):
            if found is None:
                return
            yield found


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
        return seen(snapshot.lane, arrays, event, end_ns, scenario, cancel)

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        found = [each for each in pool.map(one, range(1, count + 1)) if each is not None]
    return found if len(found) == count else []

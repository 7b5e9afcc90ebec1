"""The point of no return: a livelocked lane re-keyed at times before its end."""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastalloc.batch.heap import Layout, build_layout
from fastalloc.batch.lane import Lane, build_lane, build_mem
from fastalloc.batch.size import refuse_too_large
from fastalloc.batch.snapshot import Snapshot, named_arrays, restore
from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.page_alloc import setup_zone_migrate_reserve
from fastalloc.kernels.alloc.state import ZONE
from fastalloc.kernels.lane import state as ms
from fastalloc.rare.events import Event
from fastalloc.rare.rewind import AT_ONCE, Rewound
from fastalloc.rare.until import branches_until
from fastalloc.report.statistics import wilson_interval
from fastalloc.scenario.models import Scenario
from fastalloc.threads import threads_of

BEFORE_MS = (3000, 2000, 1000, 500, 200, 100, 50, 20, 0)
BRANCHES = 60


class Chance(NamedTuple):
    """How many branches of a lane came to the event, from one time on."""

    before_ms: float  # before the event; -1 for the boot of the lane
    at_ns: int
    branches: int
    events: int
    low: float  # 95 %, Wilson
    high: float

    @property
    def share(self) -> float:
        return self.events / self.branches


class Decided(NamedTuple):
    """The curve of one lane."""

    lane: int
    event: Event
    event_ns: int
    until_ns: int  # when branches end
    applied: str  # what was changed at each of those times; empty: nothing
    chances: tuple[Chance, ...]  # the boot first, then nearer and nearer to the event


def decided(
    opened: Rewound,
    event: Event,
    *,
    before_ms: Sequence[float] = BEFORE_MS,
    branches: int = BRANCHES,
    until_ns: int | None = None,
    changed: Scenario | None = None,
    applied: str = "",
    threads: int = 0,
    progress: Callable[[Chance], None] | None = None,
    cancel: threading.Event | None = None,
) -> Decided:
    """The chance of the event over the time before it: branches with keys of their own, run until it or ``until_ns``.

    Branch ``n`` has the same key whatever is applied, so two curves of a lane may be compared branch by branch.

    Args:
        until_ns: by default the end of the lane's run.
        changed: the scenario with another policy or other settings, applied at each time (see ``apply``).
        applied: how the result names that.

    More than nine arguments: those behind the event are options, each with a default.

    Raises:
        InputError: the event did not happen in this lane, what is changed cannot be applied to a running lane, or
            memory has no room for as many branches as threads.
        LaneError: the state of a branch is not to be trusted.
    """
    refuse_too_large([opened.scenario], AT_ONCE + threads_of(threads))
    at = opened.find(event)
    if at is None:
        raise InputError(f"lane {opened.lane}", str(event), "did not happen in this lane; choose one in which it did")
    until = opened.end_ns if until_ns is None else until_ns
    times = [(-1.0, 0), *((ms_, at - round(ms_ * ms.NS_PER_MS)) for ms_ in sorted(before_ms, reverse=True))]
    found = []
    for before, time_ns in times:
        if time_ns < 0:
            continue
        snapshot = opened.go_to(time_ns).snapshot()
        if changed is not None:
            snapshot = apply(snapshot, opened.scenario, changed)
        seen = branches_until(
            snapshot, event, until, changed or opened.scenario, branches, threads=threads, cancel=cancel
        )
        if not seen:  # cancelled
            break
        events = sum(each.event for each in seen)
        found.append(Chance(before, time_ns, branches, events, *wilson_interval(events, branches)))
        if progress is not None:
            progress(found[-1])
    return Decided(opened.lane, event, at, until, applied, tuple(found))


def apply(snapshot: Snapshot, before: Scenario, after: Scenario) -> Snapshot:
    """The snapshot of a running lane of ``before`` with the settings of ``after`` from here on.

    A setting can be applied where it is a number that kernels read and nobody writes: every entry of the booted lane's
    arrays in which the two scenarios differ must still have, in the snapshot, the value that it booted with. What
    shapes caches, or is set aside at boot, cannot be had later and is refused.

    Raises:
        InputError: the setting cannot be applied to a running lane.
    """
    where = "--policy or --set"
    layouts = build_layout(before), build_layout(after)
    same = all(np.array_equal(getattr(layouts[0], name), getattr(layouts[1], name)) for name in ("rows", "roles"))
    if not same or type(snapshot.arrays.heap) is not type(build_lane(after, snapshot.lane, snapshot.seed).heap):
        raise InputError(where, "", "changes the caches, which a running machine has already: it must be there at boot")
    booted = build_lane(before, snapshot.lane, before.run.seed)
    wanted = _with_marks_of(after, before, snapshot.lane, layouts[1])
    arrays = restore(snapshot)
    for (name, old), (_, new), (_, now) in zip(*map(named_arrays, (booted, wanted, arrays)), strict=True):
        if old.shape != new.shape:
            raise InputError(where, name, "changes the size of the lane's arrays: it must be there at boot")
        differs = old != new
        if name.startswith("out.") or not differs.any():
            continue
        if (now[differs] != old[differs]).any():
            raise InputError(where, name, "is set aside or counted from boot on: it must be there at boot")
        now[differs] = new[differs]
    for z in np.flatnonzero(booted.mem.zone[:, ZONE.min] != arrays.mem.zone[:, ZONE.min]):
        setup_zone_migrate_reserve(arrays.mem, int(z))
    return snapshot._replace(arrays=arrays)


def _with_marks_of(after: Scenario, before: Scenario, number: int, layout: Layout) -> Lane:
    """A lane of ``after`` that booted with the marks of ``before``: pageblocks held for pages_min are set aside anew
    when marks change, and need not have been there at boot [setup_per_zone_pages_min]."""
    frames = [[(zone.name, zone.frames) for zone in lane_zones(each.machine)] for each in (before, after)]
    if frames[0] != frames[1]:
        return build_lane(after, number, before.run.seed)
    machine = after.machine.model_copy(update={"zones": before.machine.zones})
    held = after.model_copy(update={"machine": machine})
    lane = build_lane(held, number, before.run.seed)
    as_held, wanted = build_mem(held, layout).zone, build_mem(after, layout).zone
    lane.mem.zone[as_held != wanted] = wanted[as_held != wanted]
    return lane

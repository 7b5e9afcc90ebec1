"""A livelocked machine's attempts that are counted in place of being run: the state is what running them leaves.

Compared is every array of the lane after every slice, with one that visits each tick and so runs each attempt.
"""

import copy
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fastalloc.batch.lane import Lane, build_lane
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import COST, IO, VM
from fastalloc.kernels.lane.step_draws import set_seed
from fastalloc.kernels.workload.atomic_noise import OBJECTS, PAGES
from tests.closed_loop.small import OWN_CORES, advance, livelocked_lane, metric, run, small

LOCKED_MS = 16_000  # livelocked for five seconds and more
REPEAT = slice(IO.repeat, IO.repeat_order + 1)  # what the lane remembers of its last attempt is no state of the machine
CONDITIONS = {
    "2 CPUs": {},
    "3 CPUs": {"machine.cpus": 3},
    "4 CPUs": {"machine.cpus": 4},
    "16 CPUs": {"machine.cpus": 16},
    "64 CPUs": {"machine.cpus": 64},
    "100 Hz": {"machine.hz": 100},
    "1000 Hz": {"machine.hz": 1000},
    "no noise": {"workload.atomic_objects_per_s": 0, "workload.atomic_pages_per_s": 0},
    "noise": {"workload.atomic_objects_per_s": 100, "workload.atomic_pages_per_s": 300},
    "noop": {"queue.elevator": "noop"},
    "no reserve": {"machine.min_free_kbytes": 0},
    "large reserve": {"machine.min_free_kbytes": 64},
    "slow CPU": {"costs.wake": 1_500_000, "costs.end_bio": 900_000},
}
OTHERS = {
    "1 CPU": {"machine.cpus": 1},  # which locks in none of 200 lanes
    "turns": {"machine.shared_core": True},  # nor does this
    "constructor": {"policy.sense_ctor": True},
    "no merging": {"policy.slub_nomerge": True},
    "slab": {"policy.allocator": "slab"},
    "slob": {"policy.allocator": "slob"},
    "cpu-partial": {"policy.allocator": "cpu-partial"},
    "sheaves": {"policy.allocator": "sheaves"},
    "fairness": {"policy.entitlement": "rank"},
    "pfmemalloc": {"policy.entitlement": "pfmemalloc"},
    "short": {"policy.short": ["sense", "scsi_cmnd"], "policy.short_eighths": 4},
    "sense pool": {"policy.sense_pool": 2},
    "free_list": {"policy.command_rule": "fix"},
}


def differences(ours: Lane, theirs: Lane) -> list[str]:
    """Names of the arrays that differ, what tells the two ways of running apart left out."""
    found = []
    for group in Lane._fields:
        for name in getattr(ours, group)._fields:
            a, b = (getattr(getattr(lane, group), name).copy() for lane in (ours, theirs))
            if (group, name) == ("io", "ctl"):
                a[REPEAT] = b[REPEAT] = 0
            if (group, name) == ("mem", "ctl"):  # set by each event
                a[MEMCTL.jiffies] = b[MEMCTL.jiffies] = 0
            if (group, name) == ("vm", "ctl"):
                a[[VM.skip, VM.next_jiffy]] = b[[VM.skip, VM.next_jiffy]] = 0
            if not np.array_equal(a, b):
                found.append(f"{group}.{name} at {np.argwhere(a != b)[:4].tolist()}")
    return found


def visiting(arrays: Lane) -> Lane:
    """The same machine, to go on with every tick."""
    theirs = copy.deepcopy(arrays)
    theirs.vm.ctl[VM.skip] = 0
    theirs.vm.ctl[VM.next_jiffy] = theirs.vm.ctl[VM.now] // theirs.vm.ctl[VM.jiffy_ns] + 1
    return theirs


@cache
def locked() -> Lane:
    """A machine that has been livelocked for seconds."""
    return advance(livelocked_lane(), build_lane(small("rc8", OWN_CORES), livelocked_lane(), 1), LOCKED_MS)


def lock(settings) -> tuple[int, Lane] | None:
    """The first of some lanes that is livelocked then, None: none is."""
    scenario = small("rc8", OWN_CORES | {"run.duration_s": 40.0} | settings)
    for lane in range(64):
        arrays = advance(lane, build_lane(scenario, lane, 1), LOCKED_MS)
        if arrays.vm.ctl[VM.livelock_stage] > 0:
            return lane, arrays
    return None


@pytest.mark.parametrize("condition", CONDITIONS)
def test_what_is_counted_is_what_would_have_happened(condition):
    found = lock(CONDITIONS[condition])
    assert found is not None
    lane, ours = found
    theirs = visiting(ours)
    counted = False
    for slice_ms in (0.001, 3.7, 4, 100, 1234.567891, 5000, 9000):
        until = ours.vm.ctl[VM.now] / ms.NS_PER_MS + slice_ms
        advance(lane, ours, until)
        advance(lane, theirs, until)
        assert differences(ours, theirs) == []
        counted |= ours.io.ctl[IO.repeat] != 0  # for as long as nothing else comes
    assert theirs.io.ctl[IO.repeat] == 0
    assert counted or condition == "noise"


@pytest.mark.parametrize("other", OTHERS)
def test_policies_and_allocators_run_as_with_every_tick(other):
    """Whether one of their lanes locks or not."""
    scenario = small("rc8", OWN_CORES | {"run.duration_s": 20.0} | OTHERS[other])
    for lane in (livelocked_lane(), 0, 1):
        ours = build_lane(scenario, lane, 1)
        theirs = build_lane(scenario, lane, 1, skip=False)
        for until in (6000, 9000.5, 20_000):
            advance(lane, ours, until)
            advance(lane, theirs, until)
            assert differences(ours, theirs) == []


@settings(max_examples=60, deadline=None)
@given(some.data())
def test_whatever_arrives_at_a_livelocked_machine(data):
    """Other noise, costs, timers and marks, set while it stands still; some of them end the livelock."""
    ours = copy.deepcopy(locked())
    of = lambda least, most: data.draw(some.integers(least, most))  # noqa: E731
    for kind in (OBJECTS, PAGES):
        ours.vm.ctl[VM.noise_mean_ns[kind]] = of(200_000, 200_000_000)
    for kind in (OBJECTS, PAGES):
        ours.vm.ctl[VM.noise_life_ns[kind]] = of(0, 50_000_000)
    set_seed(ours.vm, of(0, 1 << 40))
    ours.vm.ctl[VM.series_ns] = of(1, 300) * ms.NS_PER_MS
    ours.vm.ctl[VM.mempool_jiffies] = of(1, 1250)
    ours.vm.costs[COST.wake] = of(0, 2_500_000)
    ours.vm.costs[COST.end_bio] = of(0, 5_000_000)
    ours.io.ctl[IO.unplug_jiffies] = of(1, 4)
    ours.mem.ctl[MEMCTL.tokens] = of(0, 12_500)
    for zone in ours.mem.zone:
        zone[ZONE.reserve[:]] = of(0, 40)
        zone[ZONE.min] = of(0, 8)
    theirs = visiting(ours)
    for _ in range(4):
        until = ours.vm.ctl[VM.now] / ms.NS_PER_MS + of(1, 3_000_000_000) / ms.NS_PER_MS
        advance(0, ours, until)
        advance(0, theirs, until)
        assert differences(ours, theirs) == []


def test_attempts_are_run_where_each_is_to_be_seen():
    scenario, lane = small("rc8", OWN_CORES), livelocked_lane()
    plain = advance(lane, build_lane(scenario, lane, 1), LOCKED_MS)
    assert plain.io.ctl[IO.repeat] == 1
    for options in ({"full_events": True}, {"debug": True}, {"skip": False}):
        arrays = advance(lane, build_lane(scenario, lane, 1, **options), LOCKED_MS)
        assert arrays.io.ctl[IO.repeat] == 0
        assert arrays.out.metric.tolist()[: METRIC.events_lost] == plain.out.metric.tolist()[: METRIC.events_lost]


def test_pages_refused_meanwhile_are_counted_too():
    arrays = copy.deepcopy(locked())
    refused = []
    for milliseconds in range(LOCKED_MS + 50, LOCKED_MS + 2000, 50):
        advance(0, arrays, milliseconds)
        refused.append(bool(arrays.io.ctl[IO.repeat_pages]))
    assert sum(refused) > len(refused) / 4


def test_the_timer_tries_once_a_jiffy_all_along():
    result = run(small("rc8", OWN_CORES), livelocked_lane())
    attempts = metric(result, "idle_refused")
    assert attempts >= 250 * metric(result, "livelock_ms") // 1000 - 1

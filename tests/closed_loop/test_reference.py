"""Lanes against the machine of tests/reference/closed_loop: the same events at the same nanosecond, the same state.

Hypothesis draws machines of a few hundred pages on one and two CPUs. Compared are the log (reclaim begun and ended,
naps, waits for bios and requests, commands started and ended, refusals of sense buffers, kswapd woken) and, at times in
between or after every event, all lists in order: buddy, per-CPU, LRU with the flags of each page, slabs with their free
lists, swap slots, nodes of the swap cache's tree, requests with their bios, run queues with vruntimes, wait queues with
timers, RCU.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fastalloc.kernels.lane.metrics import EVENT, METRIC
from fastalloc.kernels.lane.state import OUT_CTL
from tests.closed_loop.small import OWN_CORES, preset, small
from tests.closed_loop.twin import Twin

MS = 1_000_000
TINY = OWN_CORES | {
    "machine.boot_slabs": [],
    "machine.free_pages": {},
    "machine.min_free_kbytes": None,
    "run.duration_s": 1.0,
}
PAGEBLOCKS = some.sampled_from([0, 2, 4, 5])  # their orders; 0: mobility is not heeded
COUNTED = (
    "pages_swapped_out",
    "bio_waits",
    "request_waits",
    "i_mutex_waits",
    "sense_fail",
    "free_list_used",
    "trees_removed",
    "oom",
)


def zone(name, present, pages_min, protection):
    marks = {"min": pages_min, "low": pages_min + pages_min // 4, "high": pages_min + pages_min // 2}
    return {"name": name, "present": present, "protection": protection, "pcp_high": 6, "pcp_batch": 1} | marks


@some.composite
def machines(draw):
    """A machine of two hundred pages or so, under more load than it has memory for."""
    of = lambda *choices: draw(some.sampled_from(choices))  # noqa: E731
    cpus, depth = of(1, 2), of(1, 1, 2, 4)
    present, pages_min = of(150, 220, 300, 500), of(4, 8, 12, 20)
    zones = [zone("DMA32", present, pages_min, [0])]
    if of(False, True):
        zones = [zone("DMA", of(24, 60), of(0, 2), [0, of(0, 10)]), zone("DMA32", present, pages_min, [0, 0])]
    return preset(
        of("rc8", "fix"),
        TINY
        | {
            "machine.zones": zones,
            "machine.cpus": cpus,
            "machine.shared_core": of(False, True),
            "machine.sched_clock": of("tsc", "ticks"),
            "machine.hz": of(100, 250, 1000),
            "machine.swap_pages": of(256, 1024, 8192),
            "disk.irq_cpu": of(*range(cpus)),
            "disk.iops": of(50, 100, 1000),
            "disk.bytes_per_second": of(1_000_000, 8_000_000),
            "queue.nr_requests": of(4, 16, 128),
            "queue.max_segments": of(4, 128),
            "queue.elevator": of("cfq", "cfq", "noop"),
            "host.queue_depth": depth,
            "host.can_queue": depth,
            "workload.copiers": of(0, 1, 3, 6),
            "workload.writers": of(1, 2, 4),
            "workload.writer_pages": of(60, 150, 300),
            "workload.tree_files": of(10, 40),
            "workload.mean_file_pages": of(1, 3, 6),
            "workload.start_spread_ms": of(0, 40),
            "workload.swappiness": of(0, 60, 100),
            "workload.locked_pages": of(0, 0, 10, 40),
            "workload.atomic_objects_per_s": of(0, 5, 1000),
            "workload.atomic_pages_per_s": of(0, 50, 1000),
        },
    )


def drawn(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def counts(twin):
    events = twin.out.event[: twin.out.ctl[OUT_CTL.events]]
    counted = {name: int(twin.out.metric[getattr(METRIC, name)]) for name in COUNTED}
    counted["blocks"] = int(((events[:, 1] == EVENT.reclaim_begin) & (events[:, 5] > 0)).sum())
    return Counter(counted)


def side_by_side(scenario, milliseconds, looks, pageblock_order=0):
    """Both for so long, compared so often."""
    twin = Twin(scenario, pageblock_order=pageblock_order)
    for look in range(1, looks + 1):
        twin.run(milliseconds * MS * look // looks)
        twin.compare()
    return twin


@drawn(6)
@given(machines(), PAGEBLOCKS)
def test_lanes_go_as_the_reference_goes(scenario, pageblock_order):
    side_by_side(scenario, 300, 6, pageblock_order)


@drawn(6)
@given(machines(), some.integers(20, 200), PAGEBLOCKS)
def test_the_state_is_the_same_after_every_event(scenario, begin, pageblock_order):
    twin = side_by_side(scenario, begin, 1, pageblock_order)
    for _ in range(60):
        twin.step()
        twin.compare()


RARE = [
    # writers that fill memory and swap area
    {
        "machine.zones": [zone("DMA32", 300, 8, [0])],
        "machine.swap_pages": 256,
        "disk.iops": 1000,
        "queue.nr_requests": 16,
        "queue.max_segments": 4,
        "queue.elevator": "noop",
        "host.queue_depth": 4,
        "host.can_queue": 4,
        "workload.copiers": 0,
        "workload.writers": 3,
        "workload.writer_pages": 300,
        "workload.start_spread_ms": 0,
    },
    # many writers before a slow disk: bios in the way of sense buffers
    {
        "machine.zones": [zone("DMA", 60, 2, [0, 10]), zone("DMA32", 220, 4, [0, 0])],
        "machine.hz": 100,
        "machine.swap_pages": 8192,
        "disk.irq_cpu": 1,
        "disk.iops": 50,
        "disk.bytes_per_second": 1_000_000,
        "queue.nr_requests": 4,
        "workload.copiers": 6,
        "workload.writers": 4,
        "workload.writer_pages": 150,
        "workload.tree_files": 40,
        "workload.mean_file_pages": 6,
        "workload.start_spread_ms": 40,
        "workload.swappiness": 60,
    },
]
# all from the same moment on
RARE.append(RARE[1] | {"workload.start_spread_ms": 0})
# interrupts that take objects of the same cache, and pages
RARE.append(
    RARE[1]
    | {
        "machine.zones": [zone("DMA", 24, 2, [0, 0]), zone("DMA32", 220, 4, [0, 0])],
        "machine.hz": 250,
        "disk.iops": 100,
        "queue.nr_requests": 128,
        "workload.writer_pages": 60,
        "workload.mean_file_pages": 3,
        "workload.atomic_objects_per_s": 1000,
        "workload.atomic_pages_per_s": 1000,
    }
)
# small requests before a fast disk; and with pages for interrupts
FAST = {
    "machine.zones": [zone("DMA", 60, 2, [0, 10]), zone("DMA32", 300, 8, [0, 0])],
    "disk.iops": 1000,
    "workload.start_spread_ms": 0,
    "workload.atomic_objects_per_s": 5,
    "workload.atomic_pages_per_s": 50,
}
RARE.append(RARE[1] | FAST | {"queue.max_segments": 4})
RARE.append(RARE[1] | FAST | {"workload.copiers": 3, "workload.writer_pages": 60, "workload.atomic_pages_per_s": 1000})
RARE[-1]["workload.locked_pages"] = 20


def test_what_is_rare_is_reached():
    """No sense buffer, no bio, no request, no directory, the free_list, no page at all, reclaim for a block of pages:
    in machines where each is known to happen."""
    reached = Counter()
    for settings_of in RARE:
        reached += counts(side_by_side(preset("fix", TINY | settings_of), 600, 4))
    assert not [name for name in (*COUNTED, "blocks") if not reached[name]]


@pytest.mark.parametrize("shared_core", [False, True])
def test_what_cpus_counted_for_themselves_is_entered_each_second(shared_core):
    """At a tick of a busy CPU, or with a timer on an idle one, from HZ + its number on."""
    twin = Twin(preset("fix", TINY | RARE[-2] | {"machine.shared_core": shared_core, "run.duration_s": 3.0}))
    held_back = Counter()
    for look in range(1, 51):
        twin.run(look * 50 * MS)
        twin.compare()
        for cpu in twin.real.sched.cpus:
            held_back[cpu.number] += any(
                diff for (number, _), diff in twin.real.allocator.vm_stat_diff.items() if number == cpu.number
            )
    assert all(cpu.vmstat_at > 2 * twin.real.hz for cpu in twin.real.sched.cpus)
    assert all(held_back[cpu.number] > 0 for cpu in twin.real.sched.cpus)


@pytest.mark.slow
def test_many_lanes_go_as_the_reference_goes():
    reached = Counter()

    @drawn(400)
    @given(machines(), PAGEBLOCKS)
    def each(scenario, pageblock_order):
        nonlocal reached
        reached += counts(side_by_side(scenario, 1000, 10, pageblock_order))

    each()
    assert not [name for name in (*COUNTED, "blocks") if not reached[name]]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["rc8", "fix"])
@pytest.mark.parametrize("lane", [0, 1, 2])
def test_the_small_livelock_goes_as_the_reference_goes(variant, lane):
    """34 MB, a dozen tasks, 20 s: among these lanes are ones that livelock for good."""
    side_by_side(small(variant, OWN_CORES), 20_000, 20, lane)

"""Machines of any shape under pressure: every invariant at every tick, and no page of the kernel's own in HighMem or
Movable."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fastalloc.batch import refuse_unfit
from fastalloc.batch.lane import Lane, build_lane
from fastalloc.batch.pressed import pressed
from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.kernels.alloc import state as k
from fastalloc.kernels.alloc.state import PAGE, PCP, ZONE
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.tasks import TASK
from fastalloc.kernels.workload.bursts import BURST, HELD
from fastalloc.scenario import Machine, Scenario
from tests.closed_loop.small import advance
from tests.scenario.generated import KERNEL_ONLY, machines

IN_PLAY = 2500  # pages of each zone; the marks stay those of the whole machine
BURSTS = [
    {"pages": 40, "every_ms": 11.0, "spread_ms": 2.0, "life_ms": 30.0},
    {"objects": 60, "object_bytes": 512, "every_ms": 17.0, "life_ms": 25.0},
]


def scenario_of(data, seed: int) -> Scenario | None:
    """The machine under pressure for a quarter of a second; None where there is no such machine."""
    try:
        machine = Machine.model_validate(data)
    except ValidationError:
        return None
    high = max(zone.high for zone in lane_zones(machine))
    if high > 20_000:  # checked each tick, page by page
        machine = Machine.model_validate(data | {"min_free_kbytes": 128, "watermark_scale_factor": None})
    scenario, _ = pressed(machine, in_play=IN_PLAY)
    fast = {"costs.fault_page": 500, "costs.copy_page": 500, "costs.create_file": 1000}
    more = {"workload.bursts": BURSTS, "run.duration_s": 0.25, "run.seed": seed, "workload.start_spread_ms": 4}
    return scenario.with_settings(fast | more)


def task_pages(arrays: Lane) -> set[int]:
    """Pages that tasks hold: being filled, on the lists of reclaim."""
    found: set[int] = set()
    page = arrays.mem.page
    for task in arrays.vm.task:
        found.update(int(task[column]) for column in (TASK.page, TASK.new_page) if task[column] >= 0)
        for column in (TASK.list, TASK.keep, TASK.pvec):
            pfn = int(task[column])
            while pfn >= 0:
                found.add(pfn)
                pfn = int(page[pfn, PAGE.next])
    return found


def check_zones(arrays: Lane, machine: Machine) -> None:
    """In HighMem and Movable every page is free, on a CPU's list, on the LRU or with a task: none is the kernel's."""
    flags = arrays.mem.page[:, PAGE.flags]
    held = task_pages(arrays)
    for z, zone in enumerate(lane_zones(machine)):
        if zone.name not in KERNEL_ONLY:
            continue
        start = int(arrays.mem.zone[z, ZONE.start])
        own = flags[start : start + zone.frames]
        assert not (own & k.PG_SLAB).any()
        listed = int(((own & k.PG_LRU) != 0).sum())
        free = int(arrays.mem.zone[z, ZONE.free]) + int(arrays.mem.pcp[:, z, PCP.count].sum())
        mine = sum(start <= pfn < start + zone.frames for pfn in held)
        assert listed + free + mine == zone.frames
        for b in range(len(arrays.vm.burst)):
            if arrays.vm.burst[b, BURST.cache] < 0:
                pages = arrays.vm.burst_held[b, :, HELD.handle]
                alive = arrays.vm.burst_held[b, :, HELD.until] > 0
                assert not ((pages[alive] >= start) & (pages[alive] < start + zone.frames)).any()


def sound(data, seed: int) -> str:
    """``ran``, or why not; a violation of an invariant raises."""
    scenario = scenario_of(data, seed)
    if scenario is None:
        return "no machine"
    told = ""
    try:
        refuse_unfit([scenario], 1)
        arrays = build_lane(scenario, 0, seed, debug=True)
    except InputError as refused:
        told = str(refused)
    if told:
        assert "machine." in told, told
        return "refused"
    advance(0, arrays, 250)
    check_zones(arrays, scenario.machine)
    assert np.all(arrays.mem.zone[:, ZONE.free] >= 0)
    assert arrays.out.metric[METRIC.burst_requests] > 0
    return "ran"


def generated(examples):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


@generated(6)
@given(machines(most_mb=2048, most_cpus=16), st.integers(0, 1 << 30))
def test_machines_of_any_shape(data, seed):
    sound(data, seed)


@pytest.mark.slow
def test_many_machines_of_any_shape():
    counts: dict[str, int] = {}

    @generated(200)
    @given(machines(), st.integers(0, 1 << 30))
    def each(data, seed):
        ended = sound(data, seed)
        counts[ended] = counts.get(ended, 0) + 1

    each()
    assert counts["ran"] >= 100, counts

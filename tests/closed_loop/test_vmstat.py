"""What kswapd sees of free pages that CPUs count for themselves [mm/vmstat.c, mm/vmscan.c]."""

import pytest

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc.state import PCP, ZONE
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import TASK, TASK_STATE
from fastalloc.kernels.reclaim.vmscan import begin_balance, begin_priority
from fastalloc.linux.watermarks import calculate_pressure_threshold, calculate_threshold, percpu_drift_mark
from tests.closed_loop import driver as d

CPUS = 16


@kernel
def wake_kswapd(mem, vm, out):
    """kswapd begins."""
    begin_balance(mem, vm, out, 0)


@kernel
def look_for_work(mem, vm, cpu):
    """It begins a round."""
    begin_priority(mem, vm, 0, cpu, 0)


def machine_of(release):
    """A machine of 16 CPUs, kswapd on the first."""
    machine = d.Machine(machine__cpus=CPUS, machine__kernel=release)
    zone = machine.mem.zone[-1]
    zone[ZONE.stat_threshold] = zone[ZONE.stat_thresholds[0]]
    machine.call(d.run_on, 0, 0, 0)
    machine.vm.ctl[VM.reclaimers] = 1
    return machine, zone


def sleeps(machine):
    return machine.vm.task[0, TASK.state] == TASK_STATE.kswapd


@pytest.mark.parametrize(("low", "pages_min", "pages"), [(18, 15, 1), (1024, 512, 32), (1 << 16, 1 << 14, 125)])
def test_all_cpus_together_hold_back_no_more_than_lies_between_low_and_min(low, pages_min, pages):
    assert calculate_pressure_threshold(CPUS, low, pages_min) == pages


def test_a_drift_mark_is_where_cpus_can_hold_back_more_than_that():
    assert percpu_drift_mark(CPUS, 10, 100, 260, 300) == 0  # 160 held back at most
    assert percpu_drift_mark(CPUS, 10, 100, 259, 300) == 300 + 160


@pytest.mark.parametrize(
    ("release", "asleep"), [("2.6.25", True), ("2.6.37", True), ("2.6.38", False), ("6.12", False)]
)
def test_kswapd_that_sees_enough_where_nothing_is_left_sleeps_before_2_6_38(release, asleep):
    machine, zone = machine_of(release)
    zone[ZONE.free], zone[ZONE.vm_stat_lag] = 0, -3 * CPUS
    machine.mem.pcp[:, -1, PCP.vm_stat_diff] = -3
    assert zone[ZONE.high] < 3 * CPUS
    machine.call(look_for_work, 0)
    assert sleeps(machine) == asleep


def test_while_kswapd_is_awake_cpus_count_less_for_themselves():
    machine, zone = machine_of("6.12")
    asleep, awake = (int(each) for each in zone[ZONE.stat_thresholds[:]])
    assert (asleep, awake) == (10, 1)
    machine.call(wake_kswapd)
    assert zone[ZONE.stat_threshold] == awake
    zone[ZONE.free], zone[ZONE.vm_stat_lag] = 1000, 0
    machine.call(look_for_work, 0)
    assert sleeps(machine)
    assert zone[ZONE.stat_threshold] == asleep


def test_on_the_kernel_of_the_thread_they_do_not():
    machine, zone = machine_of("2.6.25")
    machine.call(wake_kswapd)
    assert zone[ZONE.stat_threshold] == 10


def test_a_zone_without_a_drift_mark_keeps_its_threshold():
    """set_pgdat_percpu_threshold passes over it: between its low and its min mark is more than the CPU holds back."""
    mem = d.Machine(machine__cpus=1, machine__kernel="6.12").mem
    normal = calculate_threshold(1, int(mem.zone[-1, ZONE.present]))
    low, pages_min = (int(mem.zone[-1, mark]) for mark in (ZONE.low, ZONE.min))
    assert calculate_pressure_threshold(1, low, pages_min) > normal
    assert mem.zone[-1, ZONE.percpu_drift_mark] == 0
    assert mem.zone[-1, ZONE.stat_thresholds[:]].tolist() == [normal, normal]

"""What kswapd sees of free pages that CPUs count for themselves [mm/vmstat.c, mm/vmscan.c]."""

import pytest

from fastalloc.batch.lane import build_lane
from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc.buddy import pcp_drain, rmqueue_bulk
from fastalloc.kernels.alloc.state import MEMCTL, MIGRATE, PCP, ZONE
from fastalloc.kernels.alloc.vmstat import quiet_vmstat
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE
from fastalloc.kernels.machine.run import run_lane
from fastalloc.kernels.reclaim.vmscan import begin_balance, begin_priority
from fastalloc.linux.watermarks import calculate_pressure_threshold, calculate_threshold, percpu_drift_mark
from tests.closed_loop import driver as d
from tests.closed_loop.small import OWN_CORES, small

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


@kernel
def take_batch(mem, cpu):
    """A CPU's list gets a batch."""
    rmqueue_bulk(mem, cpu, mem.ctl[MEMCTL.nr_zones] - 1, MIGRATE.movable)


@kernel
def give_batch(mem, cpu):
    """It gives one back."""
    z = mem.ctl[MEMCTL.nr_zones] - 1
    pcp_drain(mem, cpu, z, mem.zone[z, ZONE.batch])


@kernel
def stop_tick(mem, cpu):
    """A CPU stops its tick."""
    quiet_vmstat(mem, cpu)


def fresh(release, cpus=CPUS):
    """A machine of which no CPU counts anything for itself, and its last zone."""
    machine = d.Machine(machine__cpus=cpus, machine__kernel=release)
    zone = machine.mem.zone[-1]
    machine.mem.pcp[:, -1, PCP.vm_stat_diff] = 0
    zone[ZONE.vm_stat_lag] = 0
    zone[ZONE.stat_threshold] = zone[ZONE.stat_thresholds[0]]
    return machine, zone


@pytest.mark.parametrize(
    ("release", "taken", "freed"),
    [
        ("2.6.25", 9, 9),
        ("2.6.30", 9, 9),
        ("2.6.31", 0, 0),
        ("3.17", 0, 0),
        ("3.18", 0, 9),
        ("6.9", 0, 9),
        ("6.10", 9, 9),
    ],
)
def test_from_2_6_31_to_6_9_a_batch_is_entered_as_one_number(release, taken, freed):
    """31 pages, of which a CPU keeps at most 10 for itself: by the page it enters 11 twice. Freed ones up to 3.17."""
    machine, zone = fresh(release)
    zone[ZONE.batch] = 31
    zone[ZONE.stat_threshold] = 10
    free = zone[ZONE.free]
    machine.call(take_batch, 0)
    assert zone[ZONE.free] == free - 31
    assert zone[ZONE.vm_stat_lag] == machine.mem.pcp[0, -1, PCP.vm_stat_diff] == -taken
    machine.mem.pcp[0, -1, PCP.vm_stat_diff] = zone[ZONE.vm_stat_lag] = 0
    machine.call(give_batch, 0)
    assert zone[ZONE.free] == free
    assert zone[ZONE.vm_stat_lag] == machine.mem.pcp[0, -1, PCP.vm_stat_diff] == freed


@pytest.mark.parametrize("release", ["2.6.25", "6.1"])
def test_a_batch_no_larger_than_the_threshold_is_kept_either_way(release):
    machine, zone = fresh(release)
    zone[ZONE.batch] = zone[ZONE.stat_threshold] = 10
    machine.call(take_batch, 0)
    assert zone[ZONE.vm_stat_lag] == -10


def test_before_2_6_21_free_pages_are_counted_exactly():
    machine, zone = fresh("2.6.20")
    zone[ZONE.batch] = 3
    machine.call(take_batch, 0)
    assert zone[ZONE.vm_stat_lag] == 0
    assert fresh("2.6.21")[1][ZONE.stat_threshold] > 0


@pytest.mark.parametrize(("release", "held"), [("2.6.25", -3), ("4.4", -3), ("4.5", 0), ("7.3", 0)])
def test_since_4_5_a_cpu_that_stops_its_tick_enters_what_it_counted(release, held):
    machine, zone = fresh(release)
    machine.mem.pcp[2, -1, PCP.vm_stat_diff] = zone[ZONE.vm_stat_lag] = -3
    machine.call(stop_tick, 2)
    assert zone[ZONE.vm_stat_lag] == machine.mem.pcp[2, -1, PCP.vm_stat_diff] == held


@pytest.mark.parametrize(("release", "most"), [("4.4", range(10, 99)), ("4.5", range(3))])
def test_cpus_asleep_without_a_tick_hold_back_what_interrupts_took_since_4_5(release, most):
    """In a lane, looked at each 50 ms; an interrupt on a CPU whose tick stands stops none."""
    scenario = small("rc8", OWN_CORES | {"machine.kernel": release, "machine.cpus": 4})
    lane = build_lane(scenario, 0, 1)
    held = []
    for until in range(50_000_000, 4_000_000_000, 50_000_000):  # the first after boot, where no tick was stopped yet
        run_lane(*lane, until)
        asleep = (lane.vm.cpu[:, CPU.running] == 0) & (lane.vm.cpu[:, CPU.ticking] == 0)
        held.append(abs(lane.mem.pcp[asleep][:, :, PCP.vm_stat_diff]).sum())
    assert max(held[1:]) in most

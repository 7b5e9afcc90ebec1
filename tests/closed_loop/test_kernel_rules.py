"""Worked examples of the rules of 2.6.25-rc8 that the closed loop runs on, through its own functions.

Each was read in the tree of the clean runs: kernel/sched_fair.c, kernel/rcuclassic.c, lib/radix-tree.c,
block/cfq-iosched.c, block/blk-core.c, kernel/time/tick-sched.c.
"""

import numpy as np
import pytest

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc.kmem_inspect import cache_slabs, free_objects
from fastalloc.kernels.alloc.radix_tree import radix_tree_preload
from fastalloc.kernels.alloc.rcu import CALLBACK_NODE, call_rcu, rcu_process_callbacks, rcu_tick
from fastalloc.kernels.alloc.slab_owner import slab_take
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.block.elevator import dispatch_remove, elv_completed_request, elv_next_request
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import (
    NICE_0_LOAD,
    WEIGHT_OF_KTHREADS,
    balance,
    enqueue,
    place_entity,
    sched_slice,
    schedule,
    scheduler_tick,
    update_curr,
)
from fastalloc.kernels.lane.due import end_turn, next_tick, pass_turn
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.rq_clock import tick_rq_clock, timer_interrupt, update_rq_clock
from fastalloc.kernels.lane.state import IO, REQUEST, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE
from fastalloc.kernels.reclaim.writepage import cfq_cic_link
from fastalloc.kernels.swap.swapfile import add_to_swap_cache
from fastalloc.linux import gfp as g
from tests.closed_loop import driver as d
from tests.closed_loop.small import metric, run, small

MS = 1_000_000
ANON = g.GFP_ATOMIC | g.NOMEMALLOC | g.NOWARN


@kernel
def slice_of(vm, cpu, t):
    """sched_slice."""
    return sched_slice(vm, cpu, t)


@kernel
def wake_on(vm, t, cpu, now):
    """A task joins a CPU's queue."""
    enqueue(vm, t, cpu, now)


@kernel
def place(vm, cpu, t):
    """place_entity."""
    place_entity(vm, cpu, t)


@kernel
def switch(vm, cpu, now):
    """schedule()."""
    schedule(vm, cpu, now)


@kernel
def look(vm, cpu, now):
    """update_rq_clock."""
    update_rq_clock(vm, cpu, now)


@kernel
def tick_of_clock(vm, cpu, now):
    """What a tick does to the clock."""
    tick_rq_clock(vm, cpu, now)


@kernel
def tick_of_scheduler(vm, cpu, now):
    """scheduler_tick."""
    scheduler_tick(vm, cpu, now)


@kernel
def charge(vm, cpu, now):
    """update_curr."""
    update_curr(vm, cpu, now)


@kernel
def interrupt(vm, cpu, now):
    """A timer's interrupt on an idle CPU."""
    timer_interrupt(vm, cpu, now)


@kernel
def pull(vm, cpu, now):
    """load_balance."""
    balance(vm, cpu, now)


@kernel
def free_node(mem, heap, vm, out, cpu):
    """A radix node is taken and given to RCU."""
    handle = slab_take(mem, heap, out, vm.roles[ROLE.radix], cpu, g.GFP_KERNEL, 0, WHO.radix)
    call_rcu(mem, heap, vm, cpu, CALLBACK_NODE, handle)


@kernel
def tick_of_rcu(mem, heap, vm, cpu, now):
    """What RCU does at a tick."""
    rcu_tick(mem, heap, vm, cpu, now)


@kernel
def ksoftirqd(mem, heap, vm, cpu):
    """One run of ksoftirqd."""
    return rcu_process_callbacks(mem, heap, vm, cpu)


@kernel
def preload(mem, heap, vm, out, cpu, gfp, context):
    """radix_tree_preload."""
    return radix_tree_preload(mem, heap, vm, out, cpu, gfp, context)


@kernel
def add(mem, heap, vm, out, cpu, slot, gfp, context):
    """add_to_swap_cache."""
    return add_to_swap_cache(mem, heap, vm, out, cpu, slot, gfp, context)


@kernel
def link(mem, heap, vm, out, t, cpu):
    """cfq_cic_link."""
    return cfq_cic_link(mem, heap, vm, out, t, cpu)


@kernel
def next_request(io, jiffies):
    """elv_next_request."""
    return elv_next_request(io, jiffies)


@kernel
def complete(io, vm, cpu, jiffies, now):
    """elv_completed_request."""
    elv_completed_request(io, vm, cpu, jiffies, now)


@kernel
def take(io, r):
    """The driver takes the head of its list."""
    dispatch_remove(io, r)


@kernel
def tick_after(vm, cpu, now):
    """The next tick of a CPU."""
    return next_tick(vm, cpu, now)


@kernel
def turn_left(vm, now):
    """The CPU whose turn it is has nothing to do."""
    pass_turn(vm, now)


@kernel
def turn_over(vm, now):
    """A timer ends the turn."""
    end_turn(vm, now)


# ------------------------------------------------------------------------------------------------------------- CFS


def queue_of(n, heavy, cpus):
    """Task 1 runs, the others wait."""
    machine = d.Machine(machine__cpus=cpus, workload__copiers=97)
    for t in range(1, n + 1):
        machine.vm.task[t, TASK.weight] = WEIGHT_OF_KTHREADS if t == n and heavy else NICE_0_LOAD
        machine.vm.task[t, TASK.state] = TASK_STATE.runnable
        machine.call(wake_on, t, 0, 0)
        if t == 1:
            machine.call(switch, 0, 0)
    return machine


def spread_over(tasks):
    """So many of one weight on each CPU, the first of each running."""
    machine = d.Machine(machine__cpus=len(tasks), workload__copiers=97)
    machine.vm.ctl[VM.cpu] = -1
    t = 1
    for cpu, count in enumerate(tasks):
        for i in range(count):
            machine.vm.task[t, [TASK.cpu, TASK.state, TASK.vruntime]] = cpu, TASK_STATE.runnable, 0
            machine.call(wake_on, t, cpu, 0)
            if i == 0:
                machine.call(switch, cpu, 0)
            t += 1
    machine.vm.cpu[:, CPU.buddy] = -1
    machine.vm.cpu[:, CPU.rq_clock] = 10 * MS  # nobody is cache-hot
    return machine


@pytest.mark.parametrize(
    ("n", "one", "two"),
    [(2, 10.0, 20.0), (3, 6.666, 13.33), (4, 5.0, 10.0), (5, 4.0, 8.0), (48, 4.0, 8.0), (96, 4.0, 8.0)],
)
def test_slices_of_equals(n, one, two):
    for cpus, expected in ((1, one), (2, two)):
        machine = queue_of(n, False, cpus)
        assert machine.call(slice_of, 0, 1) / MS == pytest.approx(expected, rel=0.002)


def test_the_inverse_rounds_down():
    assert queue_of(6, False, 1).call(slice_of, 0, 1) == 3_999_344
    assert queue_of(48, False, 1).call(slice_of, 0, 1) == 3_999_893


@pytest.mark.parametrize(("n", "light", "heavy"), [(3, 3.96, 12.1), (6, 2.98, 9.1), (10, 3.32, 10.1), (96, 3.92, 11.9)])
def test_slices_beside_a_thread_of_nice_minus_5(n, light, heavy):
    for cpus in (1, 2):
        machine = queue_of(n, True, cpus)
        assert machine.call(slice_of, 0, 1) / MS == pytest.approx(light * cpus, rel=0.01)
        assert machine.call(slice_of, 0, n) / MS == pytest.approx(heavy * cpus, rel=0.01)


@pytest.mark.parametrize(("n", "bonus"), [(4, 5.0), (10, 2.0), (48, 0.42)])
def test_a_sleeper_gains_the_latency_shared_among_those_queued(n, bonus):
    machine = queue_of(n, False, 1)
    machine.vm.task[1 : n + 1, TASK.vruntime] = 100 * MS
    machine.vm.cpu[0, CPU.min_vruntime] = 100 * MS
    machine.vm.task[n + 1, TASK.vruntime] = 0
    machine.call(place, 0, n + 1)
    assert (100 * MS - machine.vm.task[n + 1, TASK.vruntime]) / MS == pytest.approx(bonus, rel=0.02)


@pytest.mark.parametrize(("lead", "preempts"), [(2.9, False), (3.1, True)])
def test_with_ten_a_sleeper_preempts_who_leads_by_more_than_three_ms(lead, preempts):
    machine = queue_of(10, False, 1)
    machine.set_vruntimes(slice(1, 12), [round((100 + lead) * MS)] + [100 * MS] * 9 + [0])
    machine.vm.cpu[0, CPU.min_vruntime] = 100 * MS
    machine.vm.cpu[0, CPU.resched] = 0
    machine.call(wake_on, 11, 0, 0)
    assert bool(machine.vm.cpu[0, CPU.resched]) == preempts


def test_the_last_one_woken_runs_next_within_a_granularity():
    machine = queue_of(4, False, 1)
    machine.set_vruntimes(slice(1, 5), [100 * MS] * 3 + [101 * MS])  # the buddy: 5 ms / 4 = 1.25 ms
    machine.call(switch, 0, MS)
    assert machine.vm.cpu[0, CPU.head] == 4
    machine = queue_of(4, False, 1)
    machine.set_vruntimes(slice(1, 5), [100 * MS] * 3 + [102 * MS])
    machine.call(switch, 0, 0)
    assert machine.vm.cpu[0, CPU.head] == 2


def test_a_task_that_wakes_on_an_idle_cpu_keeps_its_vruntime():
    """calc_delta_mine of a load of nothing makes 20 s of the 20 ms that a sleeper may gain."""
    for cpus, most_s in ((1, 20.48), (2, 40.96)):
        machine = d.Machine(machine__cpus=cpus)
        machine.vm.cpu[0, CPU.min_vruntime] = 60_000 * MS
        for own_s in (59.0, 60.0 - most_s + 0.01, 1.0):
            machine.vm.task[1, TASK.vruntime] = round(own_s * 1000 * MS)
            machine.call(place, 0, 1)
            assert machine.vm.task[1, TASK.vruntime] == round(max(own_s, 60.0 - most_s) * 1000 * MS)


@pytest.mark.parametrize(
    ("cpus", "turns", "cpu", "first", "step"),
    [(1, False, 0, 0, 10), (2, True, 0, 0, 20), (2, False, 1, 40, 40), (4, False, 1, 60, 60)],
)
def test_tasks_begin_in_the_order_of_their_forks(cpus, turns, cpu, first, step):
    """Half a latency apart where the child swaps vruntimes with its parent, which is on the same CPU: the period of two
    over a load of two. A whole one apart on an idle CPU [place_entity, task_new_fair]; latency 20, 40 and 60 ms."""
    machine = d.Machine(machine__cpus=cpus, machine__shared_core=turns, workload__copiers=3, workload__writers=1)
    tasks = machine.vm.task[1:5]
    assert tasks[:, TASK.cpu].tolist() == [cpu] * 4
    assert tasks[:, TASK.vruntime].tolist() == [(first + step * i) * MS for i in range(4)]
    # on every CPU, so that who moves keeps its distance to kernel threads, which have slept since boot
    assert machine.vm.cpu[:, CPU.min_vruntime].tolist() == [4 * step * MS] * cpus
    assert not machine.vm.task[5:, TASK.vruntime].any()


@pytest.mark.parametrize(
    ("here", "there", "moved"),
    [
        (0, 1, 0),  # the running one stays
        (0, 2, 1),
        (0, 3, 2),  # one and a half come to two: it stops when the imbalance is moved
        (1, 2, 1),  # a task less than balance, and one goes over
        (1, 3, 1),
        (3, 4, 1),  # a task apart, which is more than a quarter
        (4, 5, 0),
        (0, 54, 27),
    ],
)
def test_half_of_what_the_busiest_cpu_has_more_is_pulled(here, there, moved):
    """Two CPUs, tasks of one weight [find_busiest_group, balance_tasks]."""
    machine = spread_over([there, here])
    machine.call(pull, 1, 10 * MS)
    assert machine.vm.cpu[:, CPU.running].tolist() == [there - moved, here + moved]


def test_a_cpu_that_is_about_to_pick_keeps_a_task():
    """kswapd and a copier, both woken just now and none picked: the copier alone would not be enough."""
    machine = d.Machine(machine__cpus=2)
    for t in (1, 0):
        machine.vm.task[t, [TASK.cpu, TASK.vruntime]] = 0, 1 - t  # the copier is the leftmost
        machine.call(wake_on, t, 0, 0)
    machine.vm.cpu[0, CPU.buddy] = -1
    machine.vm.cpu[0, CPU.rq_clock] = 10 * MS
    machine.call(pull, 1, 10 * MS)
    assert machine.vm.cpu[:, CPU.running].tolist() == [1, 1]
    assert machine.vm.task[:2, TASK.cpu].tolist() == [0, 1]


def test_the_balancer_takes_the_leftmost_first_to_the_mean_of_all():
    """Four CPUs, 40 tasks on one: an idle one takes ten, those of least vruntime but for the hot ones."""
    machine = spread_over([40, 0, 0, 0])
    machine.set_vruntimes(slice(1, 41), [(100 - t) * MS for t in range(1, 41)])  # the first runs
    machine.vm.task[40, TASK.ran] = 10 * MS - 499_999
    machine.vm.task[39, TASK.ran] = 10 * MS - 500_000
    machine.call(pull, 1, 10 * MS)
    assert [t for t in range(1, 41) if machine.vm.task[t, TASK.cpu] == 1] == list(range(30, 40))


def test_of_a_herd_that_wakes_on_an_idle_cpu_the_least_vruntime_runs_first():
    machine = d.Machine(workload__copiers=6)
    for t, own in ((1, 7), (2, 5), (3, 3), (4, 9)):
        machine.vm.task[t, TASK.vruntime] = own * MS
        machine.vm.task[t, TASK.state] = TASK_STATE.runnable
        machine.call(wake_on, t, 0, 0)
    assert machine.vm.cpu[0, CPU.buddy] == -1
    assert (machine.vm.cpu[0, CPU.idle_current], machine.vm.cpu[0, CPU.resched]) == (1, 1)
    machine.call(switch, 0, 0)
    assert (machine.vm.cpu[0, CPU.head], machine.vm.cpu[0, CPU.idle_current]) == (3, 0)
    machine.call(wake_on, 5, 0, 0)  # beside one that runs
    assert machine.vm.cpu[0, CPU.buddy] == 5


def test_min_vruntime_follows_the_leftmost_that_waits():
    """Who runs is not in the tree: alone, it leaves min_vruntime behind, and the next to come gets ahead of it."""
    machine = d.Machine(machine__cpus=1, workload__copiers=6)
    vm = machine.vm

    def least():
        return vm.cpu[0, CPU.min_vruntime] // MS

    vm.task[1, TASK.vruntime] = 50 * MS
    vm.cpu[0, CPU.min_vruntime] = 40 * MS
    machine.call(wake_on, 1, 0, 0)
    assert least() == 50  # the first of an empty tree
    machine.call(switch, 0, 0)
    vm.task[1, TASK.vruntime] = 900 * MS  # it has run for 850 ms
    vm.task[2, TASK.vruntime] = 10 * MS
    machine.call(wake_on, 2, 0, 0)
    assert vm.task[2, TASK.vruntime] / MS == pytest.approx(30, abs=0.1)  # 20 ms before min_vruntime
    assert vm.cpu[0, CPU.resched] == 1
    assert least() == 50  # which never falls
    machine.call(switch, 0, 0)
    assert vm.cpu[0, CPU.head] == 2
    assert least() == 900  # who is now the first to wait


# ------------------------------------------------------------------------------------------------ the clock of a CPU


def clock_of(*, ticked, says, idle_since=0):
    """A CPU at HZ 250 whose clock said ``ticked`` at its last tick and says ``says`` now, at the same time, in ms."""
    machine = d.Machine(machine__cpus=2)
    c = machine.vm.cpu[0]
    machine.vm.ctl[VM.cpu] = -1
    c[CPU.tick_clock], c[CPU.rq_clock], c[CPU.clock_raw] = ticked * MS, says * MS, says * MS
    c[CPU.idle_since] = idle_since * MS
    return machine, c


def test_a_clock_goes_no_further_than_a_tick_beyond_the_last_tick():
    machine, c = clock_of(ticked=8, says=8)
    for now, says in ((9 * MS, 9 * MS), (12 * MS, 12 * MS), (13 * MS, 12 * MS + 1), (13 * MS, 12 * MS + 2)):
        machine.call(look, 0, now)
        assert c[CPU.rq_clock] == says
    machine, c = clock_of(ticked=8, says=9)
    machine.call(look, 0, 100 * MS)
    assert c[CPU.rq_clock] == 12 * MS  # the time beyond is lost
    machine.call(look, 0, 99 * MS)  # of a step that had begun before
    assert (c[CPU.rq_clock], c[CPU.clock_raw]) == (12 * MS, 100 * MS)


def test_a_tick_moves_the_clock_by_a_tick_at_least():
    for now, says in ((11, 12), (12, 12), (20, 12)):
        machine, c = clock_of(ticked=8, says=8)
        machine.call(tick_of_clock, 0, now * MS)
        assert c[CPU.rq_clock] == c[CPU.tick_clock] == says * MS
    machine, c = clock_of(ticked=8, says=50)  # ahead of its tick: it goes on from there
    machine.call(tick_of_clock, 0, 51 * MS)
    assert c[CPU.rq_clock] == c[CPU.tick_clock] == 50 * MS + 1


def test_another_cpu_does_not_move_the_clock():
    machine, c = clock_of(ticked=8, says=8)
    for stepping, says in ((1, 8), (0, 10)):
        machine.vm.ctl[VM.cpu] = stepping
        machine.call(look, 0, 10 * MS)
        assert c[CPU.rq_clock] == says * MS


def test_who_runs_after_idling_is_charged_nothing_until_the_next_tick():
    """Idle from 9 to 50 ms: the interrupt's look brings the clock to 12 ms, the end of idling adds 41 ms."""
    machine, c = clock_of(ticked=8, says=9, idle_since=9)
    task = machine.vm.task[1]
    machine.call(wake_on, 1, 0, 50 * MS)
    assert c[CPU.rq_clock] == 12 * MS
    machine.call(switch, 0, 50 * MS)
    assert c[CPU.rq_clock] == 53 * MS + 1
    before = int(task[TASK.vruntime])
    machine.call(charge, 0, 51 * MS)
    machine.call(charge, 0, 52 * MS - 1)
    assert task[TASK.vruntime] - before == 2  # a nanosecond a look
    machine.call(tick_of_scheduler, 0, 52 * MS)
    machine.call(charge, 0, 55 * MS)
    assert task[TASK.vruntime] - before == 3 + 3 * MS
    machine.call(charge, 0, 57 * MS)  # a late tick
    assert task[TASK.vruntime] - before == 3 + 4 * MS


def test_idling_of_less_than_a_tick_counts_twice():
    """Idle from 9 to 10 ms: the interrupt adds it and the end of idling adds it again, so at 10 ms the clock says 11.
    It reaches its limit of 12 ms a millisecond before time does."""
    machine, c = clock_of(ticked=8, says=9, idle_since=9)
    machine.call(wake_on, 1, 0, 10 * MS)
    machine.call(switch, 0, 10 * MS)
    assert c[CPU.rq_clock] == 11 * MS
    before = int(machine.vm.task[1, TASK.vruntime])
    machine.call(charge, 0, 12 * MS - 1)
    assert machine.vm.task[1, TASK.vruntime] - before == MS


def test_a_timer_is_a_tick_of_an_idle_cpu():
    """Idle from 9 to 52 ms, when a timer is due: the tick finds the clock at 12 ms, and idling adds 43 ms behind it."""
    machine, c = clock_of(ticked=8, says=9, idle_since=9)
    machine.call(interrupt, 0, 52 * MS)
    assert (c[CPU.tick_clock], c[CPU.rq_clock], c[CPU.idle_since]) == (12 * MS, 55 * MS, 52 * MS)
    machine.call(interrupt, 0, 52 * MS)  # two timers, one interrupt
    assert (c[CPU.tick_clock], c[CPU.rq_clock]) == (12 * MS, 55 * MS)
    c[CPU.ticking] = 1  # for RCU: its own tick is the interrupt, and comes with its next step
    machine.call(interrupt, 0, 56 * MS)
    assert c[CPU.tick_clock] == 12 * MS
    c[CPU.ticking] = 0
    machine.call(wake_on, 1, 0, 56 * MS)
    machine.call(interrupt, 0, 57 * MS)  # it is busy: its tick comes with its step
    assert c[CPU.tick_clock] == 12 * MS


def test_the_first_of_a_herd_stays_the_first_while_the_clock_stands():
    """Two of near vruntimes; one runs for a millisecond. Behind a long idle time it comes first again, behind one of a
    tenth of a millisecond the other does."""
    for idle_from, first_again in ((9, True), (49, False)):
        machine, _ = clock_of(ticked=48 if idle_from == 49 else 8, says=idle_from, idle_since=idle_from)
        for t, own in ((1, 1000), (2, 1400)):
            machine.vm.task[t, TASK.vruntime] = own * 1000
            machine.vm.task[t, TASK.state] = TASK_STATE.runnable
            machine.call(wake_on, t, 0, 49 * MS + 100_000)
        machine.call(switch, 0, 49 * MS + 100_000)
        assert machine.vm.cpu[0, CPU.head] == 1
        machine.call(switch, 0, 50 * MS + 100_000)
        assert (machine.vm.cpu[0, CPU.head] == 1) == first_again


# ------------------------------------------------------------------------------------------------------------- RCU


def test_nodes_wait_for_a_grace_period_and_come_back_a_hundred_a_softirq():
    machine = queue_of(2, False, 1)
    cache = machine.vm.roles[ROLE.radix]
    for _ in range(300):
        machine.call(free_node, 0)
    cpu = machine.vm.cpu[0]

    def tick(n):
        machine.call(tick_of_rcu, 0, n * 4 * MS)
        return [int(cpu[CPU.rcu_done]), int(cpu[CPU.rcu_current]), int(cpu[CPU.rcu_next])]

    assert tick(1) == [0, 300, 0]  # the grace period begins
    assert tick(2) == [0, 300, 0]  # in kernel mode all the time: no quiescent state
    assert tick(3) == [0, 300, 0]
    machine.call(switch, 0, 13 * MS)
    assert tick(4) == [0, 300, 0]  # reported, and so over
    before = free_objects(machine.heap, cache)
    assert tick(5) == [200, 0, 0]
    assert free_objects(machine.heap, cache) != before or cache_slabs(machine.heap, cache) > 0
    assert machine.vm.task[machine.vm.ctl[VM.kthreads], TASK.state] == TASK_STATE.runnable  # ksoftirqd is woken
    assert machine.call(ksoftirqd, 0)
    assert cpu[CPU.rcu_done] == 100
    assert not machine.call(ksoftirqd, 0)
    assert cpu[CPU.rcu_done] == 0


def test_a_grace_period_waits_for_every_cpu_that_ticks():
    machine = queue_of(2, False, 2)
    machine.vm.cpu[:, CPU.ticking] = 1
    machine.call(free_node, 0)
    for n in range(1, 6):
        machine.call(switch, 0, n * 4 * MS)
        machine.call(tick_of_rcu, 0, n * 4 * MS)
    assert machine.vm.cpu[0, CPU.rcu_current] == 1
    machine.call(tick_of_rcu, 1, 21 * MS)  # idle: notes the grace period ...
    machine.call(tick_of_rcu, 1, 25 * MS)  # ... and reports
    machine.call(tick_of_rcu, 0, 28 * MS)
    assert machine.vm.cpu[0, CPU.rcu_current] == 0


def test_above_qhimark_the_cpu_must_reschedule_and_the_limit_is_gone():
    machine = queue_of(2, False, 1)
    machine.vm.cpu[0, CPU.resched] = 0
    for i in range(10_001):
        assert machine.vm.cpu[0, CPU.resched] == 0, i
        machine.call(free_node, 0)
    assert machine.vm.cpu[0, CPU.resched] == 1
    machine.call(switch, 0, MS)
    for n in range(1, 4):
        machine.call(switch, 0, n * 4 * MS)
        machine.call(tick_of_rcu, 0, n * 4 * MS)
    assert machine.vm.cpu[0, CPU.rcu_done] == 0
    assert machine.vm.cpu[0, CPU.rcu_unlimited] == 0


def test_callbacks_take_the_time_of_the_cpu_that_runs_them():
    machine = d.Machine(machine__cpus=1, costs__rcu_callback=680)
    for _ in range(23):
        machine.call(free_node, 0)
    vm = machine.vm
    vm.cpu[0, CPU.rcu_done], vm.cpu[0, CPU.rcu_next] = 23, 0
    assert not machine.call(ksoftirqd, 0)  # three rounds of ten at most
    assert vm.cpu[0, CPU.rcu_ns] == 23 * 680


def test_a_writers_cycle_takes_what_its_faults_and_its_unmapping_cost():
    """1,000 faults of 20 us and as many pages unmapped at 5 us: 40 cycles a second. Steps vary by a sixteenth."""
    alone = {"machine.cpus": 1, "workload.copiers": 0, "workload.writers": 1, "workload.writer_pages": 1000}
    quiet = {"workload.start_spread_ms": 0, "workload.atomic_objects_per_s": 0, "workload.atomic_pages_per_s": 0}
    costs = {"costs.fault_page": 20_000, "costs.unmap_page": 5_000, "costs.remove_page": 1_000_000}
    result = run(small(settings=alone | quiet | costs | {"run.duration_s": 2.0}))
    assert metric(result, "anonymous_pages") == pytest.approx(80_000, rel=0.01)


# ------------------------------------------------------------------------------------------------- radix preload


def test_any_shortfall_of_the_stock_refuses_and_what_was_had_stays():
    machine = d.Machine(machine__cpus=1)
    vm, heap = machine.vm, machine.heap
    cache = vm.roles[ROLE.radix]
    stock = lambda: int(vm.cpu[0, CPU.stock])  # noqa: E731
    assert stock() == ms.RADIX_STOCK
    assert machine.call(add, 0, 10, ANON, g.PF_MEMALLOC)
    assert stock() == 10  # a leaf
    assert machine.call(add, 0, 11, ANON, g.PF_MEMALLOC)
    assert stock() == 11  # topped up, and no node was missing
    vm.task[1, TASK.context] = 0
    vm.task[1, TASK.flags] = g.PF_MEMALLOC
    assert machine.call(link, 1, 0)
    assert stock() == 0
    for _ in range(3):
        machine.call(free_node, 0)
    machine.exhaust_slots(ROLE.radix)
    assert free_objects(heap, cache) == 0
    vm.cpu[0, CPU.rcu_done], vm.cpu[0, CPU.rcu_next] = 3, 0
    machine.call(ksoftirqd, 0)  # three nodes come back
    machine.starve()
    assert free_objects(heap, cache) == 3
    assert not machine.call(add, 0, 12, ANON, g.PF_MEMALLOC)
    assert stock() == 3
    assert not machine.call(preload, 0, ANON, g.PF_MEMALLOC)
    assert stock() == 3
    # NOMEMALLOC stops anonymous pages alone; a tmpfs page and a first request take any page
    free = machine.mem.zone[-1, ZONE.free]
    assert machine.call(preload, 0, g.GFP_ATOMIC, g.PF_MEMALLOC)
    assert machine.mem.zone[-1, ZONE.free] <= free
    assert stock() == 11


# ------------------------------------------------------------------------------------------------------------- CFQ


def starts(machine):
    found = []
    r = machine.io.ctl[IO.dispatch_head]
    while r >= 0:
        found.append(int(machine.io.request[r, REQUEST.start]))
        r = machine.io.request[r, REQUEST.next]
    return found


def test_sixteen_go_to_the_driver_sorted_and_merge_no_more():
    machine = d.Machine(queue__unplug_thresh=1000)
    for slot in np.random.default_rng(1).permutation(20) * 1000 + 500:
        machine.call(d.submit, 1, 0, int(slot), 0)
    r = machine.call(next_request, 0)
    assert starts(machine) == [500 + 1000 * i for i in range(16)]
    assert machine.io.request[r, REQUEST.started] == 1
    assert machine.io.ctl[IO.dispatched] == 16
    assert not machine.call(d.submit, 1, 0, 1501, 0)  # beside one that the driver has: a request of its own
    assert machine.call(d.submit, 1, 0, 19_501, 0)  # beside one that waits: merged


def test_the_oldest_request_comes_first_once_a_slice():
    """After HZ/4 in the queue; a slice of HZ/25 begins with the first completion after the elevator gave something."""
    machine = d.Machine(queue__unplug_thresh=1000)
    hz = machine.mem.ctl[MEMCTL.hz]
    io = machine.io
    for i in range(60):
        machine.call(d.submit, 1, 0, 900_000 if i == 0 else 1000 * i, 0)
    io.ctl[IO.last_position] = 0

    def given(jiffies):
        """What the driver finds where its list was empty, and has then done."""
        r = machine.call(next_request, jiffies)
        found = starts(machine)
        while r >= 0:
            machine.call(take, r)
            io.ctl[IO.in_flight] += 1
            machine.call(complete, 0, jiffies, 0)
            r = machine.call(next_request, jiffies) if io.ctl[IO.dispatch_head] >= 0 else -1
        return found

    assert given(hz // 4 - 1) == [1000 * i for i in range(1, 17)]  # not yet old enough
    assert io.ctl[IO.slice_end] == hz // 4 - 1 + hz // 25
    assert given(hz // 4 + 2) == [1000 * i for i in range(17, 33)]  # looked at in this slice already
    assert given(hz // 4 - 1 + hz // 25) == [*(1000 * i for i in range(33, 48)), 900_000]


def test_a_task_without_a_context_merges_nothing_under_cfq():
    for elevator, merges in (("cfq", False), ("noop", True)):
        machine = d.Machine(queue__elevator=elevator)
        machine.submit()
        machine.vm.task[2, TASK.context] = 0
        assert machine.call(d.submit, 2, 0, machine.slot + 1, 0) == merges


def test_batch_requests_are_counted_at_the_limit_alone():
    """Below it get_request does not look at the io_context."""
    machine = d.Machine(queue__nr_requests=8)
    machine.vm.task[1, TASK.batch] = 4
    machine.vm.task[1, TASK.batch_jiffy] = 0
    for count in range(9):
        assert machine.call(d.charge, 1, 0)
        assert machine.vm.task[1, TASK.batch] == 4 - max(0, count + 1 - 7), count


# ----------------------------------------------------------------------------------------------------------- turns


def test_ticks_of_two_cpus_are_a_millisecond_apart():
    machine = d.Machine()
    assert [machine.call(tick_after, cpu, 0) for cpu in (0, 1)] == [4 * MS, 1 * MS]
    assert [machine.call(tick_after, cpu, 4 * MS) for cpu in (0, 1)] == [8 * MS, 5 * MS]


def test_a_turn_ends_at_the_next_tick_of_either_cpu_and_passes_to_one_with_an_exit_request():
    machine = d.Machine(machine__shared_core=True)
    ctl, cpus = machine.vm.ctl, machine.vm.cpu
    cpus[:, CPU.ticking] = 1
    cpus[:, CPU.next_tick] = 4 * MS, 1 * MS
    machine.vm.task[1:3, TASK.state] = TASK_STATE.runnable
    machine.call(wake_on, 1, 0, 0)
    machine.call(turn_over, 0)
    assert (ctl[VM.turn], ctl[VM.turn_end]) == (0, 1 * MS)
    machine.call(turn_over, 1 * MS)  # CPU 1 has no work; its timer has gone off
    assert (ctl[VM.turn], ctl[VM.turn_end]) == (0, 4 * MS)
    machine.call(wake_on, 2, 1, 2 * MS)
    cpus[:, CPU.next_tick] = 8 * MS, 5 * MS
    machine.call(turn_over, 4 * MS)  # it is passed over
    assert (ctl[VM.turn], ctl[VM.turn_end]) == (0, 5 * MS)
    assert cpus[1, CPU.due] == ms.NEVER
    cpus[1, CPU.exit_request] = 1
    machine.call(turn_over, 5 * MS)
    assert (ctl[VM.turn], ctl[VM.turn_end]) == (1, 8 * MS)
    assert cpus[1, CPU.due] == 5 * MS
    assert cpus[0, CPU.due] == ms.NEVER
    assert cpus[:, CPU.exit_request].tolist() == [1, 0]


def test_where_all_had_nothing_to_do_cpu_0_is_first_and_cpu_1_has_an_exit_request():
    machine = d.Machine(machine__shared_core=True)
    ctl, cpus = machine.vm.ctl, machine.vm.cpu
    cpus[:, CPU.ticking] = 1
    cpus[:, CPU.next_tick] = 4 * MS, 1 * MS
    ctl[VM.turn] = 1
    machine.call(turn_left, 0)
    assert ctl[VM.all_idle] == 1
    machine.vm.task[1:3, TASK.state] = TASK_STATE.runnable
    machine.call(wake_on, 1, 0, 0)
    machine.call(wake_on, 2, 1, 0)
    machine.call(turn_left, 0)
    assert (ctl[VM.turn], ctl[VM.all_idle]) == (0, 0)
    assert cpus[:, CPU.exit_request].tolist() == [0, 1]

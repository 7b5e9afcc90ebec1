"""The mempools of the swap-out path: the sleep of 5 s, the herd, the reserve of two [iopath.md, section 6]."""

import pytest

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import DEPTH, MEMCTL, SLUB_CTL, ZONE
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.state import IO, POOL, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE
from tests.closed_loop import driver as d
from tests.closed_loop.small import OWN_CORES, events, livelocked_lane, run, small

TAKERS = {
    POOL.bio: (ROLE.bio, WHO.bio),
    POOL.biovec: (ROLE.biovec, WHO.biovec),
    POOL.request: (ROLE.request, WHO.request),
}


def running(machine, task, cpu=0):
    machine.call(d.run_on, task, cpu, 0)
    machine.vm.task[task, TASK.first] = 1


def ask(machine, pool, task, cpu=0):
    return machine.call(d.take_from_pool, pool, TAKERS[pool][1], task, cpu, machine.jiffies)


def starved(pool, **settings):
    """A machine with no slot left for a pool's elements on CPU 0."""
    machine = d.Machine(**settings)
    machine.starve()
    machine.exhaust(TAKERS[pool][0])
    return machine


@pytest.mark.parametrize("pool", TAKERS)
def test_the_slab_first_then_the_reserve_then_sleep(pool):
    machine = d.Machine()
    reserve = int(machine.pools.pool[pool, MEMPOOL.curr])
    assert reserve == {POOL.bio: 2, POOL.biovec: 2, POOL.request: 4}[pool]
    running(machine, 1)
    assert ask(machine, pool, 1) >= 0
    assert machine.pools.pool[pool, MEMPOOL.curr] == reserve  # not touched while the slab can serve
    machine.starve()
    machine.exhaust(TAKERS[pool][0])
    for left in range(reserve - 1, -1, -1):
        machine.vm.task[1, TASK.first] = 1
        assert ask(machine, pool, 1) >= 0
        assert machine.pools.pool[pool, MEMPOOL.curr] == left
    machine.vm.task[1, TASK.first] = 1
    assert ask(machine, pool, 1) == st.NO_OBJECT
    assert machine.vm.task[1, TASK.state] == TASK_STATE.pool[pool]


@pytest.mark.parametrize("hz", [100, 250, 1000])
def test_a_sleeper_wakes_after_five_seconds(hz):
    machine = starved(POOL.bio, machine__hz=hz)
    machine.pools.pool[POOL.bio, MEMPOOL.curr] = 0
    machine.at(70)
    running(machine, 1)
    ask(machine, POOL.bio, 1)
    assert machine.vm.task[1, TASK.wake_jiffy] == 70 + 5 * hz
    # the other tasks start meanwhile and are none of this
    for late in (5 * hz - 1, 5 * hz):
        machine.at(70 + late)
        machine.call(d.timer_tick, machine.jiffies, int(machine.vm.ctl[VM.now]))
        asleep = machine.vm.task[1, TASK.state] == TASK_STATE.bio_pool
        assert asleep == (late < 5 * hz)
    assert machine.metric("mempool_timeouts") == 1
    assert machine.vm.task[1, TASK.timed_out] == 1


def asleep(machine, tasks):
    machine.pools.pool[POOL.bio, MEMPOOL.curr] = 0
    for task in tasks:
        running(machine, task)
        assert ask(machine, POOL.bio, task) == st.NO_OBJECT
    assert machine.vm.ctl[VM.sleepers[TASK_STATE.bio_pool]] == len(tasks)


def in_flight(pages, **settings):
    """A machine with one command of some pages at the disk."""
    machine = d.Machine(**settings)
    machine.submit(pages, task=12)
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    assert machine.io.ctl[IO.device_busy] == 1
    return machine


def test_one_returned_bio_wakes_the_whole_herd():
    machine = in_flight(1)
    machine.starve()
    machine.exhaust(ROLE.bio)
    asleep(machine, [1, 2, 3, 4, 5])
    machine.call(d.finish_disk)
    for _ in range(2):  # the interrupt, then the one bio
        machine.call(d.softirq, 0)
    assert machine.vm.ctl[VM.sleepers[TASK_STATE.bio_pool]] == 0
    assert machine.pools.pool[POOL.bio, MEMPOOL.curr] == 1
    # the one element serves one; the rest sleep again, at the head of the queue
    served = []
    for _ in range(5):
        cpu = next(cpu for cpu in range(2) if machine.vm.cpu[cpu, CPU.running] > 0)
        task = int(machine.vm.cpu[cpu, CPU.head])
        if ask(machine, POOL.bio, task, cpu) >= 0:
            served.append(task)
            machine.call(d.nap, cpu, 1000, 0)
    assert len(served) == 1
    assert machine.vm.ctl[VM.sleepers[TASK_STATE.bio_pool]] == 4


@pytest.mark.parametrize("pages", [1, 2, 3, 10])
def test_two_returned_bios_at_most_go_to_the_reserve(pages):
    """The rest go to the slab, so a request of one or two bios gives the slab nothing."""
    machine = in_flight(pages)
    machine.starve()
    machine.exhaust(ROLE.bio)
    asleep(machine, [1, 2, 3])
    machine.call(d.finish_disk)
    for _ in range(1 + pages):
        machine.call(d.softirq, 0)
    assert machine.io.ctl[IO.bios] == 0
    assert machine.pools.pool[POOL.bio, MEMPOOL.curr] == min(2, pages)
    before = machine.heap.ctl[SLUB_CTL.pages]
    assert machine.exhaust(ROLE.bio) <= max(0, pages - 2)
    assert machine.heap.ctl[SLUB_CTL.pages] == before


def test_old_waiters_are_worse_placed_than_fresh_ones():
    """Between 3/4 min and min a first try still allocates a page; every later one, which keeps WAIT, does not."""
    machine = d.Machine(machine__min_free_kbytes=400)
    zone = machine.mem.zone[-1]
    zone[ZONE.low : ZONE.high + 1] = 1 << 40
    machine.leave_free(int(zone[ZONE.min]) * 7 // 8)
    machine.mem.zone[0, ZONE.min : ZONE.high + 1] = 1 << 40
    machine.exhaust_slots(ROLE.bio)
    machine.pools.pool[POOL.bio, MEMPOOL.curr] = 0
    running(machine, 1)
    machine.vm.task[1, TASK.first] = 0
    assert ask(machine, POOL.bio, 1) == st.NO_OBJECT
    running(machine, 1)
    assert ask(machine, POOL.bio, 1) >= 0
    assert machine.mem.ctl[MEMCTL.depth] == DEPTH.harder


def test_waiters_that_nobody_wakes_sleep_five_seconds_each_round():
    """In whole lanes: after a sleep ended by its timer the next one of the same task begins 5 s later, to the jiffy."""
    rounds = 0
    for lane in (livelocked_lane(), *range(6)):
        result = run(small("rc8", OWN_CORES | {"run.duration_s": 40.0}), lane, full_events=True)
        last = {}
        for time, _, _, task, timed_out, _, _ in events(result, "bio_wait").tolist():
            if timed_out:
                assert -4_000_000 < time - last[task] - 5_000_000_000 < 5_000_000
                rounds += 1
            last[task] = time
    assert rounds > 10

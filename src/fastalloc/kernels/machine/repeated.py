"""Attempts of a livelocked machine that are counted in place of being run: the unplug timer's, while all else sleeps.

Each is a timer tick, a step of kblockd and a step of the request function, see :mod:`fastalloc.kernels.block.refused`.
Besides counters they move the clock of their CPU and charge kblockd what its steps took, which is drawn for each.
"""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc.printk import next_printed
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.block.refused import count_refusals
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import NICE_0_LOAD, WEIGHT_OF_KTHREADS, inverse_of, times_inverse
from fastalloc.kernels.lane.due import next_tick_in
from fastalloc.kernels.lane.rq_clock import tick_idle, tick_rq_clock, update_rq_clock
from fastalloc.kernels.lane.state import COST, IO, VM
from fastalloc.kernels.lane.step_draws import jittered
from fastalloc.kernels.lane.tasks import CPU, TASK
from fastalloc.kernels.workload.atomic_noise import refuse_pages


@internal
def repeat_attempts(mem, heap, io, vm, out, horizon):
    """Count the attempts from the one that is due now to the last that is over before ``horizon`` ns, or before one
    whose report is printed; whether there was any."""
    out_of_line()
    ctl = vm.ctl
    cpu = io.ctl[IO.unplug_cpu]
    c = vm.cpu[cpu]
    task = vm.task[ctl[VM.kthreads] + ctl[VM.nr_cpus] + cpu]
    jiffies = mem.ctl[MEMCTL.jiffies]
    jiffy_ns = ctl[VM.jiffy_ns]
    at = jiffies * jiffy_ns
    period = io.ctl[IO.unplug_jiffies]
    cost = vm.costs[COST.wake]  # of a step of kblockd
    longest = max(1, cost + cost // 8 - cost // 16)
    end = max(1, vm.costs[COST.end_bio])
    if ctl[VM.now] != at or c[CPU.clock] > at or longest >= jiffy_ns or longest + end > period * jiffy_ns:
        return False
    printed = next_printed(mem) if io.ctl[IO.repeat_swallowed] > 0 else ms.NEVER
    if at + longest >= horizon or jiffies >= printed or task[TASK.weight] != WEIGHT_OF_KTHREADS:
        return False
    attempts = 0
    while at + longest < horizon and jiffies < printed:
        attempts += 1
        jiffies += period
        at += period * jiffy_ns
    io.ctl[IO.unplug_jiffy] = jiffies
    jiffies -= period
    first = at - attempts * period * jiffy_ns
    at -= period * jiffy_ns
    vruntime = task[TASK.vruntime]  # it wakes on an idle CPU and keeps it [place_entity]
    inverse = inverse_of(WEIGHT_OF_KTHREADS)
    woken = vruntime
    began = at
    for attempt in range(attempts):
        begins = first + attempt * period * jiffy_ns
        tick_idle(vm, cpu, begins)
        if begins // jiffy_ns >= c[CPU.vmstat_at]:  # with nothing to enter
            c[CPU.vmstat_at] = begins // jiffy_ns + mem.ctl[MEMCTL.hz]
        update_rq_clock(vm, cpu, begins)  # as kblockd wakes, and as it is picked
        update_rq_clock(vm, cpu, begins)
        clock = c[CPU.rq_clock]
        began = begins + max(1, jittered(vm, cost, cpu))  # the request function's step
        tick = next_tick_in(vm, cpu, begins, begins)
        if began >= tick:  # of a CPU whose ticks stand apart
            tick_rq_clock(vm, cpu, tick)
        update_rq_clock(vm, cpu, began)
        c[CPU.idle_since] = began + end
        woken = vruntime
        vruntime += times_inverse((c[CPU.rq_clock] - clock) * NICE_0_LOAD, inverse)
    mem.ctl[MEMCTL.jiffies] = jiffies
    ctl[VM.now] = began
    task[TASK.vruntime] = vruntime
    c[CPU.min_vruntime] = max(c[CPU.min_vruntime], woken)
    task[TASK.ran] = c[CPU.rq_clock]
    c[CPU.picked] = c[CPU.rq_clock]
    c[CPU.exec] = c[CPU.rq_clock]
    c[CPU.next_tick] = next_tick_in(vm, cpu, at, began)
    c[CPU.clock] = began + end
    count_refusals(mem, heap, io, vm, out, cpu, attempts)
    if io.ctl[IO.repeat_pages] != 0:
        refuse_pages(mem, vm, out, began)
    return True

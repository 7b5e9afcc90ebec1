"""The clock by which a CPU's scheduler charges its tasks, ``rq->clock`` of 2.6.25-rc8 [kernel/sched.c].

It follows time, but goes no further than a tick beyond the last tick. The time for which the CPU idled is added in one
piece, which nothing limits. So where an interrupt ends idling of about a tick or longer the clock is ahead of its last
tick by more than a tick, and it stands until the next one: up to a jiffy, in which who runs is charged nothing, keeps
its vruntime and stays the first. A machine that waits for its disk does most of its work in such times.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import CPU


@folded
def update_rq_clock(vm, cpu, now):
    """Move a CPU's clock up to ``now``; other CPUs do not move it. One that stands counts its looks, a nanosecond each
    [update_rq_clock, __update_rq_clock]."""
    if vm.ctl[VM.cpu] >= 0 and vm.ctl[VM.cpu] != cpu:
        return
    c = vm.cpu[cpu]
    passed = now - c[CPU.clock_raw]
    if passed < 0:
        return
    if vm.ctl[VM.clock_by_ticks] != 0:
        passed = 0
    clock = c[CPU.rq_clock]
    limit = c[CPU.tick_clock] + vm.ctl[VM.jiffy_ns]
    c[CPU.clock_raw] = now
    c[CPU.rq_clock] = clock + passed if clock + passed <= limit else max(limit, clock + 1)


@folded
def tick_rq_clock(vm, cpu, now):
    """A tick, which moves the clock by a tick at least [scheduler_tick]."""
    update_rq_clock(vm, cpu, now)
    c = vm.cpu[cpu]
    c[CPU.rq_clock] = max(c[CPU.rq_clock], c[CPU.tick_clock] + vm.ctl[VM.jiffy_ns])
    c[CPU.tick_clock] = c[CPU.rq_clock]


@folded
def end_idle(vm, cpu, now):
    """Add the time for which a CPU idled, whether or not an interrupt has counted part of it before
    [default_idle of arch/x86, sched_clock_idle_wakeup_event]."""
    c = vm.cpu[cpu]
    c[CPU.rq_clock] += now - c[CPU.idle_since]
    c[CPU.clock_raw] = now
    c[CPU.idle_since] = now


@internal
def tick_idle(vm, cpu, now):
    """A tick that finds the CPU idle, and leaves it idle [tick_sched_timer, update_process_times]."""
    if vm.cpu[cpu, CPU.running] == 0 and now > vm.cpu[cpu, CPU.idle_since]:
        tick_rq_clock(vm, cpu, now)
        end_idle(vm, cpu, now)


@folded
def timer_interrupt(vm, cpu, now):
    """A timer on a CPU that stopped its tick is a tick, for one timer does both. A CPU that ticks takes it in its next
    step, or with the other idle ticks."""
    if vm.cpu[cpu, CPU.ticking] == 0:
        vm.cpu[cpu, CPU.timers_run] = 1
        tick_idle(vm, cpu, now)

"""Wait queues and timers: who sleeps on what, and what wakes him [kernel/wait.c, kernel/timer.c].

Wait queues keep the kernel's order: non-exclusive sleepers stand at the head, exclusive ones at the tail.
"""

from fastalloc.compiler.jit import internal
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import dequeue_head, enqueue, select_task_rq
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.rq_clock import timer_interrupt
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import CPU, RECLAIM, TASK, TASK_STATE, WAITQ


@internal
def sleep_on(vm, cpu, state, timeout_jiffies, exclusive, jiffies):
    """Put the running task of ``cpu`` to sleep in ``state``; ``timeout_jiffies`` < 0 sleeps without a timer."""
    t = dequeue_head(vm, cpu)
    task = vm.task[t]
    task[TASK.state] = state
    task[TASK.timed_out] = 0
    vm.ctl[VM.sleepers[state]] += 1
    first = vm.waitq[state, WAITQ.head]
    if first < 0:
        task[TASK.next] = -1
        vm.waitq[state, WAITQ.head] = t
        vm.waitq[state, WAITQ.tail] = t
    elif exclusive:
        task[TASK.next] = -1
        vm.task[vm.waitq[state, WAITQ.tail], TASK.next] = t
        vm.waitq[state, WAITQ.tail] = t
    else:
        task[TASK.next] = first
        vm.waitq[state, WAITQ.head] = t
    if timeout_jiffies < 0:
        task[TASK.wake_jiffy] = ms.NEVER
    else:
        # schedule_timeout(n) fires on the n-th tick after the present one, like the kernel's timer wheel
        task[TASK.wake_jiffy] = jiffies + timeout_jiffies
        vm.ctl[VM.timer_seq] += 1
        task[TASK.wake_seq] = vm.ctl[VM.timer_seq]
        if task[TASK.wake_jiffy] < vm.ctl[VM.next_timer]:
            vm.ctl[VM.next_timer] = task[TASK.wake_jiffy]


@internal
def unlink_sleeper(vm, t):
    """Take a sleeping task off its wait queue."""
    state = vm.task[t, TASK.state]
    vm.ctl[VM.sleepers[state]] -= 1
    previous = -1
    i = vm.waitq[state, WAITQ.head]
    while i != t:
        previous = i
        i = vm.task[i, TASK.next]
    following = vm.task[t, TASK.next]
    if previous >= 0:
        vm.task[previous, TASK.next] = following
    else:
        vm.waitq[state, WAITQ.head] = following
    if following < 0:
        vm.waitq[state, WAITQ.tail] = previous


@internal
def wake_task(vm, t, now):
    """Make a sleeping task runnable."""
    unlink_sleeper(vm, t)
    vm.task[t, TASK.wake_jiffy] = ms.NEVER
    enqueue(vm, t, select_task_rq(vm, t), now)


@internal
def reclaimers_asleep(vm):
    """Whether nobody who reclaims is runnable."""
    for cpu in range(vm.ctl[VM.nr_cpus]):
        t = vm.cpu[cpu, CPU.head]
        n = vm.cpu[cpu, CPU.running]
        while n > 0:
            if vm.task[t, TASK.reclaim] != RECLAIM.out:
                return False
            t = vm.task[t, TASK.next]
            n -= 1
    return True


@internal
def wake_all(vm, state, now):
    """Wake every sleeper of a queue, head first; how many [wake_up on non-exclusive waiters]."""
    woken = 0
    while vm.waitq[state, WAITQ.head] >= 0:
        wake_task(vm, vm.waitq[state, WAITQ.head], now)
        woken += 1
    return woken


@internal
def wake_one(vm, state, now):
    """Wake the first sleeper of a queue, if any [wake_up on exclusive waiters]."""
    if vm.waitq[state, WAITQ.head] >= 0:
        wake_task(vm, vm.waitq[state, WAITQ.head], now)


@internal
def wake_pool(vm, state, now):
    """An element is back in a mempool: wake the herd, or one sleeper where the policy says so; how many."""
    if vm.ctl[POLICY.mempool_wake_one] == 0:
        return wake_all(vm, state, now)
    if vm.waitq[state, WAITQ.head] < 0:
        return 0
    wake_task(vm, vm.waitq[state, WAITQ.head], now)
    return 1


@internal
def run_task_timers(vm, out, jiffies, now):
    """Wake the tasks whose timer is due, in the order in which the timers were set."""
    while True:
        due = -1
        nearest = ms.NEVER
        for t in range(vm.ctl[VM.nr_tasks]):
            when = vm.task[t, TASK.wake_jiffy]
            if when <= jiffies:
                if due < 0 or vm.task[t, TASK.wake_seq] < vm.task[due, TASK.wake_seq]:
                    due = t
            elif when < nearest:
                nearest = when
        if due < 0:
            vm.ctl[VM.next_timer] = nearest
            return
        state = vm.task[due, TASK.state]
        vm.task[due, TASK.timed_out] = 1
        begins = state == TASK_STATE.start and vm.task[due, TASK.ran] == 0
        if begins and vm.ctl[VM.shared_core] != 0:  # a timer of its own, which goes off between ticks [nanosleep]
            vm.ctl[VM.hrtimer] = now + vm.ctl[VM.jiffy_ns] // 2
            vm.ctl[VM.hrtimer_cpu] = vm.task[due, TASK.cpu]
        if TASK_STATE.bio_pool <= state <= TASK_STATE.request_pool:
            out.metric[METRIC.mempool_timeouts] += 1
        timer_interrupt(vm, vm.task[due, TASK.cpu], now)
        wake_task(vm, due, now)

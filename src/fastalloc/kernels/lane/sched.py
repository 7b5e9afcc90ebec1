"""Tasks, run queues, wait queues and timers: who runs where, who sleeps on what [kernel/sched.c, kernel/wait.c].

A simple stand-in for CFS: one FIFO a CPU, a time slice of one jiffy, kernel work (softirq, kblockd) first. Wait
queues keep the kernel's order: non-exclusive sleepers stand at the head, exclusive ones at the tail.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import CPU, OUT_CTL, RECLAIM, TASK, TASK_STATE, VM


@internal
def log_event(vm, out, kind, cpu, task, a, b, c):
    """Append an event row; count the ones that do not fit."""
    n = out.ctl[OUT_CTL.events]
    if n >= out.event.shape[0]:
        out.metric[out.metric.shape[0] - 1] += 1  # events_lost is the last metric
        return
    row = out.event[n]
    row[0] = vm.ctl[VM.now]
    row[1] = kind
    row[2] = cpu
    row[3] = task
    row[4] = a
    row[5] = b
    row[6] = c
    out.ctl[OUT_CTL.events] = n + 1


@internal
def log_event_at(vm, out, when, kind, a, b, c):
    """Append an event that began at ``when`` and was understood only now; rows are in order of writing."""
    n = out.ctl[OUT_CTL.events]
    log_event(vm, out, kind, -1, -1, a, b, c)
    if n < out.event.shape[0]:
        out.event[n, 0] = when


@folded
def next_turn(vm, when, cpu):
    """The first time from ``when`` on at which a virtual CPU has a core of its host.

    Even and odd CPUs take turns of VM.host_slice; a turn begins VM.host_overlap before the other's ends.
    """
    turn = vm.ctl[VM.host_slice]
    into = (when + (cpu & 1) * turn) % (2 * turn)
    if into < turn or into >= 2 * turn - vm.ctl[VM.host_overlap]:
        return when
    return when + 2 * turn - vm.ctl[VM.host_overlap] - into


@folded
def earlier(vm, cpu, other):
    """Whichever of two CPUs is due first; of equals, the lower."""
    if vm.cpu[other, CPU.due] < vm.cpu[cpu, CPU.due]:
        return other
    if vm.cpu[other, CPU.due] == vm.cpu[cpu, CPU.due] and other < cpu:
        return other
    return cpu


@internal
def note_due(vm, cpu, irq):
    """Bring the time at which ``cpu`` is due up to date, after any change to its work or its clock.

    ``irq``: a completed command waits for its softirq. A tournament over the CPUs: node ``i`` has the children
    ``2 * i`` and ``2 * i + 1``, the CPUs are the nodes from VM.nr_cpus on, and the winner of the root, node 1, is the
    CPU that is due first. So an event costs no more with many CPUs than the height of that tree.
    """
    c = vm.cpu[cpu]
    due = ms.NEVER
    if c[CPU.running] > 0 or c[CPU.kblockd] != 0 or c[CPU.softirq] != 0 or c[CPU.request_fn] != 0 or irq:
        due = c[CPU.clock]
        if vm.ctl[VM.host_slice] > 0:
            due = next_turn(vm, due, cpu)
    if due == c[CPU.due]:
        return
    c[CPU.due] = due
    cpus = vm.ctl[VM.nr_cpus]
    node = (cpus + cpu) >> 1
    while node > 0:
        left = 2 * node
        right = left + 1
        first = left - cpus if left >= cpus else vm.cpu[left, CPU.first]
        second = right - cpus if right >= cpus else vm.cpu[right, CPU.first]
        vm.cpu[node, CPU.first] = earlier(vm, first, second)
        node >>= 1


@folded
def first_due(vm):
    """The CPU whose next step comes first."""
    return vm.cpu[1, CPU.first] if vm.ctl[VM.nr_cpus] > 1 else 0


@folded
def enqueue(vm, t, cpu, now):
    """Put a runnable task at the end of a CPU's run queue; an idle CPU starts on it now."""
    task = vm.task
    task[t, TASK.state] = TASK_STATE.runnable
    task[t, TASK.cpu] = cpu
    task[t, TASK.next] = -1
    c = vm.cpu[cpu]
    idle = c[CPU.running] == 0
    if idle:
        c[CPU.head] = t
        if c[CPU.clock] < now:
            c[CPU.clock] = now
        c[CPU.slice] = max(now, c[CPU.clock]) + vm.ctl[VM.jiffy_ns]
    else:
        task[c[CPU.tail], TASK.next] = t
    c[CPU.tail] = t
    c[CPU.running] += 1
    if idle:
        note_due(vm, cpu, False)


@folded
def dequeue_head(vm, cpu):
    """Take the running task off its CPU's queue; the next one gets a fresh slice."""
    c = vm.cpu[cpu]
    t = c[CPU.head]
    c[CPU.head] = vm.task[t, TASK.next]
    c[CPU.running] -= 1
    if c[CPU.running] == 0:
        c[CPU.tail] = -1
    return t


@folded
def pick_cpu(vm, previous):
    """Where a woken task runs: its previous CPU, or the first idle one if that is busy [select_task_rq]."""
    if vm.cpu[previous, CPU.running] == 0:
        return previous
    for cpu in range(vm.ctl[VM.nr_cpus]):
        if vm.cpu[cpu, CPU.running] == 0:
            return cpu
    return previous


@internal
def sleep_on(vm, cpu, state, timeout_jiffies, exclusive, jiffies):
    """Put the running task of ``cpu`` to sleep in ``state``; ``timeout_jiffies`` < 0 sleeps without a timer."""
    t = dequeue_head(vm, cpu)
    task = vm.task[t]
    task[TASK.state] = state
    task[TASK.timed_out] = 0
    vm.ctl[VM.sleepers + state] += 1
    first = vm.waitq[state, 0]
    if first < 0:
        task[TASK.next] = -1
        vm.waitq[state, 0] = t
        vm.waitq[state, 1] = t
    elif exclusive:
        task[TASK.next] = -1
        vm.task[vm.waitq[state, 1], TASK.next] = t
        vm.waitq[state, 1] = t
    else:
        task[TASK.next] = first
        vm.waitq[state, 0] = t
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
    vm.ctl[VM.sleepers + state] -= 1
    previous = -1
    i = vm.waitq[state, 0]
    while i != t:
        previous = i
        i = vm.task[i, TASK.next]
    following = vm.task[t, TASK.next]
    if previous >= 0:
        vm.task[previous, TASK.next] = following
    else:
        vm.waitq[state, 0] = following
    if following < 0:
        vm.waitq[state, 1] = previous


@internal
def wake_task(vm, t, now):
    """Make a sleeping task runnable."""
    unlink_sleeper(vm, t)
    vm.task[t, TASK.wake_jiffy] = ms.NEVER
    enqueue(vm, t, pick_cpu(vm, vm.task[t, TASK.cpu]), now)


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
    while vm.waitq[state, 0] >= 0:
        wake_task(vm, vm.waitq[state, 0], now)
        woken += 1
    return woken


@internal
def wake_one(vm, state, now):
    """Wake the first sleeper of a queue, if any [wake_up on exclusive waiters]."""
    if vm.waitq[state, 0] >= 0:
        wake_task(vm, vm.waitq[state, 0], now)


@internal
def wake_pool(vm, state, now):
    """An element is back in a mempool: wake the herd, or one sleeper where the policy says so; how many."""
    if vm.ctl[POLICY.mempool_wake_one] == 0:
        return wake_all(vm, state, now)
    if vm.waitq[state, 0] < 0:
        return 0
    wake_task(vm, vm.waitq[state, 0], now)
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
        if TASK_STATE.bio_pool <= state <= TASK_STATE.request_pool:
            out.metric[METRIC.mempool_timeouts] += 1
        wake_task(vm, due, now)

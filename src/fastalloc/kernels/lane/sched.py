"""Tasks, run queues, wait queues and timers: who runs where, who sleeps on what [kernel/sched.c, kernel/wait.c].

A simple stand-in for CFS: one FIFO a CPU, a time slice of one jiffy, kernel work (softirq, kblockd) first. Wait
queues keep the kernel's order: non-exclusive sleepers stand at the head, exclusive ones at the tail.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms

MEMPOOL_TIMEOUTS = metrics.METRICS.index("mempool_timeouts")


@internal
def log_event(vm, out, kind, cpu, task, a, b, c):
    """Append an event row; count the ones that do not fit."""
    n = out.ctl[ms.OUT_EVENTS]
    if n >= out.event.shape[0]:
        out.metric[out.metric.shape[0] - 1] += 1  # events_lost is the last metric
        return
    row = out.event[n]
    row[0] = vm.ctl[ms.V_NOW]
    row[1] = kind
    row[2] = cpu
    row[3] = task
    row[4] = a
    row[5] = b
    row[6] = c
    out.ctl[ms.OUT_EVENTS] = n + 1


@internal
def log_event_at(vm, out, when, kind, a, b, c):
    """Append an event that began at ``when`` and was understood only now; rows are in order of writing."""
    n = out.ctl[ms.OUT_EVENTS]
    log_event(vm, out, kind, -1, -1, a, b, c)
    if n < out.event.shape[0]:
        out.event[n, 0] = when


@folded
def next_turn(vm, when, cpu):
    """The first time from ``when`` on at which a virtual CPU has a core of its host.

    Even and odd CPUs take turns of V_HOST_SLICE; a turn begins V_HOST_OVERLAP before the other's ends.
    """
    turn = vm.ctl[ms.V_HOST_SLICE]
    into = (when + (cpu & 1) * turn) % (2 * turn)
    if into < turn or into >= 2 * turn - vm.ctl[ms.V_HOST_OVERLAP]:
        return when
    return when + 2 * turn - vm.ctl[ms.V_HOST_OVERLAP] - into


@folded
def earlier(vm, cpu, other):
    """Whichever of two CPUs is due first; of equals, the lower."""
    if vm.cpu[other, ms.CPU_DUE] < vm.cpu[cpu, ms.CPU_DUE]:
        return other
    if vm.cpu[other, ms.CPU_DUE] == vm.cpu[cpu, ms.CPU_DUE] and other < cpu:
        return other
    return cpu


@internal
def note_due(vm, cpu, irq):
    """Bring the time at which ``cpu`` is due up to date, after any change to its work or its clock.

    ``irq``: a completed command waits for its softirq. A tournament over the CPUs: node ``i`` has the children
    ``2 * i`` and ``2 * i + 1``, the CPUs are the nodes from V_NR_CPUS on, and the winner of the root, node 1, is the
    CPU that is due first. So an event costs no more with many CPUs than the height of that tree.
    """
    c = vm.cpu[cpu]
    due = ms.NEVER
    if c[ms.CPU_RUNNING] > 0 or c[ms.CPU_KBLOCKD] != 0 or c[ms.CPU_SOFTIRQ] != 0 or c[ms.CPU_REQUEST_FN] != 0 or irq:
        due = c[ms.CPU_CLOCK]
        if vm.ctl[ms.V_HOST_SLICE] > 0:
            due = next_turn(vm, due, cpu)
    if due == c[ms.CPU_DUE]:
        return
    c[ms.CPU_DUE] = due
    cpus = vm.ctl[ms.V_NR_CPUS]
    node = (cpus + cpu) >> 1
    while node > 0:
        left = 2 * node
        right = left + 1
        first = left - cpus if left >= cpus else vm.cpu[left, ms.CPU_FIRST]
        second = right - cpus if right >= cpus else vm.cpu[right, ms.CPU_FIRST]
        vm.cpu[node, ms.CPU_FIRST] = earlier(vm, first, second)
        node >>= 1


@folded
def first_due(vm):
    """The CPU whose next step comes first."""
    return vm.cpu[1, ms.CPU_FIRST] if vm.ctl[ms.V_NR_CPUS] > 1 else 0


@folded
def enqueue(vm, t, cpu, now):
    """Put a runnable task at the end of a CPU's run queue; an idle CPU starts on it now."""
    task = vm.task
    task[t, ms.T_STATE] = ms.RUNNABLE
    task[t, ms.T_CPU] = cpu
    task[t, ms.T_NEXT] = -1
    c = vm.cpu[cpu]
    idle = c[ms.CPU_RUNNING] == 0
    if idle:
        c[ms.CPU_HEAD] = t
        if c[ms.CPU_CLOCK] < now:
            c[ms.CPU_CLOCK] = now
        c[ms.CPU_SLICE] = max(now, c[ms.CPU_CLOCK]) + vm.ctl[ms.V_JIFFY_NS]
    else:
        task[c[ms.CPU_TAIL], ms.T_NEXT] = t
    c[ms.CPU_TAIL] = t
    c[ms.CPU_RUNNING] += 1
    if idle:
        note_due(vm, cpu, False)


@folded
def dequeue_head(vm, cpu):
    """Take the running task off its CPU's queue; the next one gets a fresh slice."""
    c = vm.cpu[cpu]
    t = c[ms.CPU_HEAD]
    c[ms.CPU_HEAD] = vm.task[t, ms.T_NEXT]
    c[ms.CPU_RUNNING] -= 1
    if c[ms.CPU_RUNNING] == 0:
        c[ms.CPU_TAIL] = -1
    return t


@folded
def pick_cpu(vm, previous):
    """Where a woken task runs: its previous CPU, or the first idle one if that is busy [select_task_rq]."""
    if vm.cpu[previous, ms.CPU_RUNNING] == 0:
        return previous
    for cpu in range(vm.ctl[ms.V_NR_CPUS]):
        if vm.cpu[cpu, ms.CPU_RUNNING] == 0:
            return cpu
    return previous


@internal
def sleep_on(vm, cpu, state, timeout_jiffies, exclusive, jiffies):
    """Put the running task of ``cpu`` to sleep in ``state``; ``timeout_jiffies`` < 0 sleeps without a timer."""
    t = dequeue_head(vm, cpu)
    task = vm.task[t]
    task[ms.T_STATE] = state
    task[ms.T_TIMED_OUT] = 0
    vm.ctl[ms.V_SLEEPERS + state] += 1
    first = vm.waitq[state, 0]
    if first < 0:
        task[ms.T_NEXT] = -1
        vm.waitq[state, 0] = t
        vm.waitq[state, 1] = t
    elif exclusive:
        task[ms.T_NEXT] = -1
        vm.task[vm.waitq[state, 1], ms.T_NEXT] = t
        vm.waitq[state, 1] = t
    else:
        task[ms.T_NEXT] = first
        vm.waitq[state, 0] = t
    if timeout_jiffies < 0:
        task[ms.T_WAKE_JIFFY] = ms.NEVER
    else:
        # schedule_timeout(n) fires on the n-th tick after the present one, like the kernel's timer wheel
        task[ms.T_WAKE_JIFFY] = jiffies + timeout_jiffies
        vm.ctl[ms.V_TIMER_SEQ] += 1
        task[ms.T_WAKE_SEQ] = vm.ctl[ms.V_TIMER_SEQ]
        if task[ms.T_WAKE_JIFFY] < vm.ctl[ms.V_NEXT_TIMER]:
            vm.ctl[ms.V_NEXT_TIMER] = task[ms.T_WAKE_JIFFY]


@internal
def unlink_sleeper(vm, t):
    """Take a sleeping task off its wait queue."""
    state = vm.task[t, ms.T_STATE]
    vm.ctl[ms.V_SLEEPERS + state] -= 1
    previous = -1
    i = vm.waitq[state, 0]
    while i != t:
        previous = i
        i = vm.task[i, ms.T_NEXT]
    following = vm.task[t, ms.T_NEXT]
    if previous >= 0:
        vm.task[previous, ms.T_NEXT] = following
    else:
        vm.waitq[state, 0] = following
    if following < 0:
        vm.waitq[state, 1] = previous


@internal
def wake_task(vm, t, now):
    """Make a sleeping task runnable."""
    unlink_sleeper(vm, t)
    vm.task[t, ms.T_WAKE_JIFFY] = ms.NEVER
    enqueue(vm, t, pick_cpu(vm, vm.task[t, ms.T_CPU]), now)


@internal
def reclaimers_asleep(vm):
    """Whether nobody who reclaims is runnable."""
    for cpu in range(vm.ctl[ms.V_NR_CPUS]):
        t = vm.cpu[cpu, ms.CPU_HEAD]
        n = vm.cpu[cpu, ms.CPU_RUNNING]
        while n > 0:
            if vm.task[t, ms.T_RECLAIM] != ms.OUT:
                return False
            t = vm.task[t, ms.T_NEXT]
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
    if vm.ctl[ms.V_MEMPOOL_WAKE_ONE] == 0:
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
        for t in range(vm.ctl[ms.V_NR_TASKS]):
            when = vm.task[t, ms.T_WAKE_JIFFY]
            if when <= jiffies:
                if due < 0 or vm.task[t, ms.T_WAKE_SEQ] < vm.task[due, ms.T_WAKE_SEQ]:
                    due = t
            elif when < nearest:
                nearest = when
        if due < 0:
            vm.ctl[ms.V_NEXT_TIMER] = nearest
            return
        state = vm.task[due, ms.T_STATE]
        vm.task[due, ms.T_TIMED_OUT] = 1
        if ms.SLEEP_BIO_POOL <= state <= ms.SLEEP_REQUEST_POOL:
            out.metric[MEMPOOL_TIMEOUTS] += 1
        wake_task(vm, due, now)

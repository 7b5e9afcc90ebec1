"""The fair scheduler of 2.6.25-rc8: who runs on a CPU, and until when [kernel/sched_fair.c].

A CPU's queue is a list whose head runs, unless the CPU idles; behind it the others wait in order of vruntime, equals in
order of arrival, as in the kernel's tree. A slice ends at a tick, and the running task gives way before its next step.
Tasks that are woken on an idle CPU all wait until the interrupt that wakes them is over; so of a herd the one of least
vruntime comes first, not the first to be woken.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.lane.due import note_due
from fastalloc.kernels.lane.rq_clock import end_idle, tick_rq_clock, update_rq_clock
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_KIND, TASK_STATE

NICE_0_LOAD = 1024
WEIGHT_OF_KTHREADS = 3121  # nice -5 [kthreadd]
NR_LATENCY = 5
# at one CPU, ns; times 1 + floor(log2(CPUs)) [sched_init_smp]
LATENCY_NS = 20_000_000
GRANULARITY_NS = 4_000_000
WAKEUP_GRANULARITY_NS = 5_000_000
# the balancer [SD_CPU_INIT]
IMBALANCE_PCT = 125
BALANCE_NS = 64_000_000  # least time between two looks of a busy CPU [busy_factor]
CACHE_HOT_NS = 500_000  # sysctl_sched_migration_cost
LOOKS_MOST = 33  # tasks; sysctl_sched_nr_migrate is 32


@folded
def inverse_of(load):
    """The rounded 32-bit inverse of a load [lw->inv_weight]."""
    return ((1 << 32) - load // 2) // (load + 1)


@folded
def times_inverse(scaled, inverse):
    """``scaled`` over the load that ``inverse`` is of [calc_delta_mine]."""
    if scaled > 1 << 32:
        return (((scaled + (1 << 15)) >> 16) * inverse + (1 << 15)) >> 16
    return (scaled * inverse + (1 << 31)) >> 32


@folded
def calc_delta(delta, weight, load):
    """``delta * weight / load`` through the kernel's rounded 32-bit inverse [calc_delta_mine]."""
    return times_inverse(delta * weight, inverse_of(load))


@folded
def sched_slice(vm, cpu, t):
    """Time that task ``t`` may run before others do, ns [sched_slice, __sched_period]."""
    running = vm.cpu[cpu, CPU.running]
    period = vm.ctl[VM.latency]
    if running > NR_LATENCY:
        period = vm.ctl[VM.granularity] * running
    return calc_delta(period, vm.task[t, TASK.weight], vm.cpu[cpu, CPU.load])


@folded
def leftmost(vm, cpu):
    """The waiting task of least vruntime, the first to come among equals; -1 none [__pick_next_entity]."""
    c = vm.cpu[cpu]
    if c[CPU.idle_current] != 0:
        return c[CPU.head]
    return vm.task[c[CPU.head], TASK.next] if c[CPU.running] > 1 else -1


@folded
def current_task(vm, cpu):
    """The task that runs on a CPU, or that an interrupt finds there; -1 the idle one."""
    return -1 if vm.cpu[cpu, CPU.idle_current] != 0 else vm.cpu[cpu, CPU.head]


@folded
def charge_task(vm, t, ns):
    """Add CPU time to a task's vruntime [__update_curr]."""
    weight = vm.task[t, TASK.weight]
    vm.task[t, TASK.vruntime] += ns if weight == NICE_0_LOAD else calc_delta(ns, NICE_0_LOAD, weight)


@folded
def charge_curr(vm, cpu, t):
    """Charge task ``t`` up to the CPU's clock [update_curr, __update_curr]."""
    c = vm.cpu[cpu]
    if c[CPU.rq_clock] > c[CPU.exec]:
        charge_task(vm, t, c[CPU.rq_clock] - c[CPU.exec])
        c[CPU.exec] = c[CPU.rq_clock]
        vm.task[t, TASK.ran] = c[CPU.rq_clock]


@internal
def update_curr(vm, cpu, now):
    """Charge the running task for what the clock has moved up to ``now``."""
    update_rq_clock(vm, cpu, now)
    if vm.cpu[cpu, CPU.running] > 0 and vm.cpu[cpu, CPU.idle_current] == 0:
        charge_curr(vm, cpu, vm.cpu[cpu, CPU.head])


@folded
def raise_min_vruntime(vm, cpu, t):
    """min_vruntime follows the leftmost of the tree, in which the running task is not, and never falls."""
    if vm.task[t, TASK.vruntime] > vm.cpu[cpu, CPU.min_vruntime]:
        vm.cpu[cpu, CPU.min_vruntime] = vm.task[t, TASK.vruntime]


@folded
def note_queued(vm, cpu, t):
    """Task ``t`` is about to join the tree [__enqueue_entity of rc8]."""
    first = leftmost(vm, cpu)
    if first < 0 or vm.task[t, TASK.vruntime] < vm.task[first, TASK.vruntime]:
        raise_min_vruntime(vm, cpu, t)


@folded
def place_entity(vm, cpu, t):
    """Where a woken task stands: at most the latency, over the load of those queued, ahead of the least vruntime. That
    is 20 s on an empty queue, where a task keeps its own, however long it slept [place_entity of rc6 to rc8,
    calc_delta_mine of a load of 0; 2.6.24 and 2.6.25 give the latency once]."""
    c = vm.cpu[cpu]
    vruntime = c[CPU.min_vruntime]
    first = leftmost(vm, cpu)
    if first >= 0:
        vruntime = min(vruntime, vm.task[first, TASK.vruntime])
    vruntime -= calc_delta(vm.ctl[VM.latency], NICE_0_LOAD, c[CPU.load])
    if vruntime > vm.task[t, TASK.vruntime]:
        vm.task[t, TASK.vruntime] = vruntime


@internal
def wake_up_new_task(vm, t):
    """A parent on CPU 0 has forked task ``t``, which goes to sleep before the parent forks again.

    It is put a slice behind min_vruntime [place_entity: START_DEBIT]. Where it is on its parent's CPU the two swap
    vruntimes, for a child runs before its parent, and the next child counts from there [task_new_fair]. So tasks stand
    apart in the order of their forks, and most of that lasts, for they sleep more than they run.

    Of several CPUs the one after the parent's, which idles, takes all [sched_balance_self]. One that shares a core with
    the parent's takes one child a turn, which waits there, and the others stay with the parent; here all do.
    """
    cpu = 1 if vm.ctl[VM.nr_cpus] > 1 and vm.ctl[VM.shared_core] == 0 else 0
    vm.task[t, TASK.cpu] = cpu
    least = vm.cpu[cpu, CPU.min_vruntime]
    if cpu == 0:
        vm.task[t, TASK.vruntime] = least
        least += vm.ctl[VM.latency] // 2  # two of one weight
    else:
        least += vm.ctl[VM.latency]
        vm.task[t, TASK.vruntime] = least
    # what moves counts from min_vruntime; kernel threads have slept since boot, on whichever CPU
    for each in range(vm.ctl[VM.nr_cpus]):
        vm.cpu[each, CPU.min_vruntime] = least


@folded
def check_preempt_wakeup(vm, cpu, t):
    """A woken task is the next buddy; it preempts when the running one leads by more than the wake-up granularity, less
    where that one is heavier than nice 0 [check_preempt_wakeup]."""
    c = vm.cpu[cpu]
    running = c[CPU.head]
    c[CPU.buddy] = t
    granularity = vm.ctl[VM.wakeup_granularity]
    if vm.task[running, TASK.weight] > NICE_0_LOAD:
        granularity = calc_delta(granularity, NICE_0_LOAD, vm.task[running, TASK.weight])
    if vm.task[t, TASK.vruntime] + granularity < vm.task[running, TASK.vruntime]:
        c[CPU.resched] = 1


@internal
def link_waiting(vm, t, cpu, running):
    """Put a task among those that wait, of which there are some or ``running`` runs, behind its equals; ``running``: -1
    nobody [__enqueue_entity]."""
    c = vm.cpu[cpu]
    vruntime = vm.task[t, TASK.vruntime]
    tail = c[CPU.tail]
    if tail == running or vruntime >= vm.task[tail, TASK.vruntime]:
        vm.task[t, TASK.next] = -1
        vm.task[tail, TASK.next] = t
        c[CPU.tail] = t
        return
    previous = running
    following = vm.task[running, TASK.next] if running >= 0 else c[CPU.head]
    while vm.task[following, TASK.vruntime] <= vruntime:
        previous = following
        following = vm.task[following, TASK.next]
    vm.task[t, TASK.next] = following
    if previous >= 0:
        vm.task[previous, TASK.next] = t
    else:
        c[CPU.head] = t


@folded
def previous_of(vm, t, cpu):
    """The task in front of ``t``, which is not the first, on a CPU's list."""
    previous = vm.cpu[cpu, CPU.head]
    while vm.task[previous, TASK.next] != t:
        previous = vm.task[previous, TASK.next]
    return previous


@internal
def link_task(vm, t, cpu, now):
    """Put a task on a CPU's list; an idle CPU picks one before its next step [cpu_idle, schedule]."""
    c = vm.cpu[cpu]
    note_queued(vm, cpu, t)
    vm.task[t, TASK.cpu] = cpu
    c[CPU.load] += vm.task[t, TASK.weight]
    c[CPU.running] += 1
    if c[CPU.running] > 1:
        link_waiting(vm, t, cpu, current_task(vm, cpu))
        return
    vm.task[t, TASK.next] = -1
    c[CPU.head] = t
    c[CPU.tail] = t
    if c[CPU.clock] < now:
        c[CPU.clock] = now
    c[CPU.idle_current] = 1
    c[CPU.resched] = 1
    c[CPU.buddy] = -1
    c[CPU.rcu_passed] = 1
    note_due(vm, cpu, False)


@internal
def unlink_task(vm, t, cpu):
    """Take a waiting task, not the running one, off a CPU's list [__dequeue_entity]."""
    c = vm.cpu[cpu]
    was_first = leftmost(vm, cpu) == t
    if c[CPU.head] == t:
        c[CPU.head] = vm.task[t, TASK.next]
    else:
        previous = previous_of(vm, t, cpu)
        vm.task[previous, TASK.next] = vm.task[t, TASK.next]
        if c[CPU.tail] == t:
            c[CPU.tail] = previous
    c[CPU.running] -= 1
    c[CPU.load] -= vm.task[t, TASK.weight]
    if c[CPU.buddy] == t:
        c[CPU.buddy] = -1
    first = leftmost(vm, cpu)
    if was_first and first >= 0:
        raise_min_vruntime(vm, cpu, first)


@internal
def enqueue(vm, t, cpu, now):
    """A woken task joins a CPU's queue; nobody's buddy where the CPU is idle
    [enqueue_task_fair, check_preempt_wakeup, check_preempt_curr_idle]."""
    vm.task[t, TASK.state] = TASK_STATE.runnable
    update_curr(vm, cpu, now)
    place_entity(vm, cpu, t)
    link_task(vm, t, cpu, now)
    if vm.cpu[cpu, CPU.idle_current] == 0:
        check_preempt_wakeup(vm, cpu, t)


@folded
def run_next(vm, cpu):
    """The waiting task that runs next comes to the head: the buddy if it is within a granularity of the leftmost, else
    the leftmost [pick_next_entity, pick_next, set_next_entity, __dequeue_entity]."""
    c = vm.cpu[cpu]
    first = c[CPU.head]  # nobody runs now
    second = vm.task[first, TASK.next]
    buddy = c[CPU.buddy]
    if buddy >= 0 and buddy != first:
        lead = vm.task[buddy, TASK.vruntime] - vm.task[first, TASK.vruntime]
        if 0 <= lead <= calc_delta(vm.ctl[VM.wakeup_granularity], NICE_0_LOAD, c[CPU.load]):
            first = buddy
            second = -1  # the leftmost stays
    if second >= 0:
        raise_min_vruntime(vm, cpu, second)
    if first != c[CPU.head]:
        previous = previous_of(vm, first, cpu)
        vm.task[previous, TASK.next] = vm.task[first, TASK.next]
        if c[CPU.tail] == first:
            c[CPU.tail] = previous
        vm.task[first, TASK.next] = c[CPU.head]
        c[CPU.head] = first
    if c[CPU.buddy] == first:
        c[CPU.buddy] = -1
    c[CPU.picked] = c[CPU.rq_clock]
    c[CPU.exec] = c[CPU.rq_clock]
    vm.task[first, TASK.ran] = c[CPU.rq_clock]


@internal
def schedule(vm, cpu, now):
    """The running task, or the idle one, gives way; a quiescent state of RCU, whoever runs next [schedule]."""
    c = vm.cpu[cpu]
    c[CPU.resched] = 0
    c[CPU.rcu_passed] = 1
    if c[CPU.running] == 0:
        return
    if c[CPU.idle_current] != 0:
        c[CPU.idle_current] = 0
        end_idle(vm, cpu, now)
        update_rq_clock(vm, cpu, now)
    else:  # the running one goes back into the tree, behind its equals [put_prev_entity]
        update_curr(vm, cpu, now)
        t = c[CPU.head]
        note_queued(vm, cpu, t)
        if c[CPU.running] > 1:
            c[CPU.head] = vm.task[t, TASK.next]
            link_waiting(vm, t, cpu, -1)
    run_next(vm, cpu)


@internal
def dequeue_head(vm, cpu):
    """The running task goes to sleep; the next one gets a slice of its own. Returns the sleeper [dequeue_task_fair]."""
    c = vm.cpu[cpu]
    t = c[CPU.head]
    c[CPU.head] = vm.task[t, TASK.next]
    c[CPU.running] -= 1
    c[CPU.load] -= vm.task[t, TASK.weight]
    c[CPU.resched] = 0
    c[CPU.rcu_passed] = 1
    if c[CPU.buddy] == t:
        c[CPU.buddy] = -1
    if c[CPU.running] == 0:
        c[CPU.tail] = -1
        c[CPU.head] = -1
    else:
        run_next(vm, cpu)
    return t


@folded
def sleep_curr(vm, cpu, t, now):
    """Task ``t``, which went to sleep in a step, is charged to the end of that step, where the next one begins."""
    c = vm.cpu[cpu]
    if c[CPU.running] == 0 and now >= c[CPU.next_tick]:
        tick_rq_clock(vm, cpu, c[CPU.next_tick])  # within the step; else the next one begins with it
    update_rq_clock(vm, cpu, now)
    charge_curr(vm, cpu, t)
    c[CPU.picked] = c[CPU.rq_clock]
    c[CPU.exec] = c[CPU.rq_clock]
    if c[CPU.running] > 0:
        vm.task[c[CPU.head], TASK.ran] = c[CPU.rq_clock]  # who was picked begins there [set_next_entity]
    c[CPU.idle_since] = now


@folded
def scheduler_tick(vm, cpu, now):
    """A tick: the slice of the running task may be over [task_tick_fair, check_preempt_tick]."""
    c = vm.cpu[cpu]
    tick_rq_clock(vm, cpu, now)
    if c[CPU.running] > 0 and c[CPU.idle_current] == 0:
        charge_curr(vm, cpu, c[CPU.head])
    c[CPU.tick_load] = c[CPU.load]
    if c[CPU.running] > 1 and c[CPU.rq_clock] - c[CPU.picked] > sched_slice(vm, cpu, c[CPU.head]):
        c[CPU.resched] = 1


# ------------------------------------------------------------------------------------------------ several CPUs


@internal
def select_task_rq(vm, t):
    """Where a woken task runs: where it ran, unless the waking CPU has room [select_task_rq_fair, wake_affine]."""
    previous = vm.task[t, TASK.cpu]
    here = vm.ctl[VM.cpu]
    if here < 0 or here == previous or vm.task[t, TASK.kind] >= TASK_KIND.ksoftirqd:
        return previous
    c = vm.cpu[here]
    p = vm.cpu[previous]
    load = min(p[CPU.load], p[CPU.tick_load])  # source_load
    this_load = max(c[CPU.load], c[CPU.tick_load])  # target_load
    mean = c[CPU.load] // c[CPU.running] if c[CPU.running] > 0 else NICE_0_LOAD
    light = this_load <= load and this_load + max(p[CPU.load], p[CPU.tick_load]) <= mean
    half = 100 + (IMBALANCE_PCT - 100) // 2
    if light or 100 * (this_load + vm.task[t, TASK.weight]) <= half * load:
        # its vruntime counts from the queue's own [set_task_cpu]
        vm.task[t, TASK.vruntime] += c[CPU.min_vruntime] - p[CPU.min_vruntime]
        return here
    return previous


@folded
def busiest(vm, cpu):
    """The CPU with the most load beside ``cpu`` of those with a task that waits; -1 none [find_busiest_group]."""
    most = -1
    for other in range(vm.ctl[VM.nr_cpus]):
        if other != cpu and vm.cpu[other, CPU.running] > 1:
            if most < 0 or vm.cpu[other, CPU.load] > vm.cpu[most, CPU.load]:
                most = other
    return most


@folded
def imbalance(vm, cpu, other):
    """Load to be moved from the busiest CPU to this one, 0 where they are in balance: what brings neither beyond the
    mean of all CPUs, or one task where that is less than a task [find_busiest_group]."""
    total = 0
    for each in range(vm.ctl[VM.nr_cpus]):
        total += vm.cpu[each, CPU.load]
    mean = total // vm.ctl[VM.nr_cpus]
    c = vm.cpu[cpu]
    this_load = c[CPU.load]
    most = vm.cpu[other, CPU.load]
    if this_load >= mean or 100 * most <= IMBALANCE_PCT * this_load:
        return 0
    a_task = most // vm.cpu[other, CPU.running]
    wanted = min(min(most - mean, most - a_task), mean - this_load) if most >= mean else 0
    if wanted >= a_task:
        return wanted
    tasks = 1 if c[CPU.running] > 0 and a_task > this_load // c[CPU.running] else 2
    return a_task if most - this_load + NICE_0_LOAD >= a_task * tasks else 0


@internal
def balance(vm, cpu, now):
    """Pull waiting tasks that are not cache-hot from the busiest CPU, the leftmost first, until the imbalance is moved
    [load_balance, load_balance_newidle, balance_tasks, can_migrate_task, pull_task]."""
    other = busiest(vm, cpu)
    if other < 0:
        return
    b = vm.cpu[other]
    c = vm.cpu[cpu]
    left = imbalance(vm, cpu, other)
    running = current_task(vm, cpu)
    heaviest = vm.task[running, TASK.weight] if running >= 0 else 0
    t = leftmost(vm, other)
    looked = 0
    # one stays where it is woken: a CPU that is about to pick is not left without any
    while left > 0 and t >= 0 and looked < LOOKS_MOST and b[CPU.running] > 1:
        looked += 1
        following = vm.task[t, TASK.next]  # [__load_balance_iterator]
        weight = vm.task[t, TASK.weight]
        too_much = weight // 2 > left + NICE_0_LOAD and weight <= heaviest
        hot = t == b[CPU.buddy] or b[CPU.rq_clock] - vm.task[t, TASK.ran] < CACHE_HOT_NS
        if not too_much and not hot and vm.task[t, TASK.kind] < TASK_KIND.ksoftirqd:
            left -= weight
            heaviest = max(heaviest, weight)
            unlink_task(vm, t, other)
            vm.task[t, TASK.vruntime] += c[CPU.min_vruntime] - b[CPU.min_vruntime]
            link_task(vm, t, cpu, now)
            if c[CPU.idle_current] == 0:
                check_preempt_wakeup(vm, cpu, t)
        t = following

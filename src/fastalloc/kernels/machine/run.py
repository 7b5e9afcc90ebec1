"""The machine: one lane's events in order of time.

An event is the disk finishing a command, a tick on which a timer is due, an arrival of noise, or a step of a CPU.
The earliest runs first; equal times run in that order, then by CPU. A CPU's step takes simulated time, and its next
step comes when that time has passed, so CPUs interleave at the granularity of a step (at most QUANTUM_NS).
"""

from fastalloc.compiler.hints import likely
from fastalloc.compiler.jit import compile_entry, entry, folded, internal, out_of_line
from fastalloc.kernels.alloc.kmem import reap
from fastalloc.kernels.alloc.kmem_inspect import (
    note_current,
    overflowed,
)
from fastalloc.kernels.alloc.rcu import idle_ticks, note_idle_tick, rcu_process_callbacks, rcu_tick
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.alloc.taken_back import has_no_cpu_slab
from fastalloc.kernels.alloc.vmstat import quiet_vmstat, vmstat_update
from fastalloc.kernels.block.completion import kblockd_step, softirq_step
from fastalloc.kernels.block.hosts import host_event
from fastalloc.kernels.block.plug import RUN_SOFTIRQ, WORK_UNPLUG, kblockd_schedule_work
from fastalloc.kernels.block.scsi import disk_done, scsi_request_fn
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import BALANCE_NS, balance, current_task, schedule, scheduler_tick, sleep_curr
from fastalloc.kernels.lane.due import end_turn, first_due, next_tick, note_due, pass_turn, timer_set
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.rq_clock import timer_interrupt
from fastalloc.kernels.lane.sched import run_task_timers, sleep_on
from fastalloc.kernels.lane.state import COST, IO, OUT_CTL, ROLE, VM
from fastalloc.kernels.lane.step_draws import jittered
from fastalloc.kernels.lane.swap_lock import held_at_turn_end, spin_lock, spin_unlock, spins
from fastalloc.kernels.lane.tasks import CPU, RECLAIM, TASK, TASK_KIND, TASK_STATE
from fastalloc.kernels.machine.check import STANDS_STILL, check_lane
from fastalloc.kernels.machine.heap_table import NO_HEAP, behind
from fastalloc.kernels.machine.observe import (
    check_livelock,
    note_reports,
    observe,
)
from fastalloc.kernels.machine.repeated import repeat_attempts
from fastalloc.kernels.reclaim.shrink_page_list import swap_lock_time
from fastalloc.kernels.reclaim.vmscan import begin_balance, reclaim_step, wakeup_kswapd
from fastalloc.kernels.workload.atomic_noise import OBJECTS, PAGES, noise_due, noise_event, refuses_any_cpu
from fastalloc.kernels.workload.background import background_event
from fastalloc.kernels.workload.bursts import burst_event
from fastalloc.kernels.workload.copiers import workload_step

QUANTUM_NS = 20_000
MOST_AT_ONCE = 1 << 20  # events at one time
KSWAPD = 0

EVENT_DISK = 0
EVENT_TICK = 1
EVENT_NOISE = 2
EVENT_PAGE_NOISE = 3
EVENT_SERIES = 4
EVENT_LIVELOCK = 5
EVENT_REAP = 6
EVENT_HOST = 7
EVENT_CPU = 8
EVENT_BACKGROUND = 9
EVENT_BURST = 10
EVENT_IDLE_TICK = 11


@folded
def tick(io, vm, out, jiffies, now):
    """A timer tick: the unplug timer hands the queue to kblockd of the CPU that armed it; sleeps end."""
    if io.ctl[IO.unplug_jiffy] <= jiffies:
        io.ctl[IO.unplug_jiffy] = ms.NEVER
        timer_interrupt(vm, io.ctl[IO.unplug_cpu], now)
        kblockd_schedule_work(vm, io.ctl[IO.unplug_cpu], WORK_UNPLUG, now)
    if vm.ctl[VM.next_timer] <= jiffies:
        run_task_timers(vm, out, jiffies, now)


@folded
def kthread_step(mem, heap, io, vm, t, cpu, jiffies):
    """A step of ksoftirqd or kblockd, which sleeps when its work is done; CPU time in ns [ksoftirqd, worker_thread]."""
    if vm.task[t, TASK.kind] == TASK_KIND.kblockd:
        kblockd_step(io, vm, cpu)
        sleep_on(vm, cpu, TASK_STATE.kthread, -1, False, jiffies)
    elif not rcu_process_callbacks(mem, heap, vm, cpu):
        sleep_on(vm, cpu, TASK_STATE.kthread, -1, False, jiffies)
    return vm.costs[COST.wake]


@folded
def task_step(mem, heap, pools, io, vm, out, cpu, jiffies):
    """Run the first task of a CPU's queue for up to QUANTUM_NS; CPU time in ns.

    It stops early where another CPU could notice: after a submission, and when the task sleeps.
    """
    t = vm.cpu[cpu, CPU.head]
    cost = 0
    while True:
        before = vm.task[t, TASK.reclaim]
        if before == RECLAIM.page_list and vm.ctl[VM.shared_core] != 0:
            held = swap_lock_time(mem, vm, t)
            turn_end = min(vm.ctl[VM.turn_end], io.ctl[IO.disk_done_at])
            if held >= 0 and (vm.ctl[VM.now] + cost > turn_end or not spin_lock(vm, cpu)):
                return cost  # its turn has ended, or it spins
            taken = vm.ctl[VM.now] + cost + vm.costs[COST.scan_page]
            cost += reclaim_step(mem, heap, pools, io, vm, out, t, cpu, jiffies)
            if held >= 0 and held_at_turn_end(vm, cpu, taken, held, turn_end):
                return cost
        elif before != RECLAIM.out:
            cost += reclaim_step(mem, heap, pools, io, vm, out, t, cpu, jiffies)
        elif t == KSWAPD:
            begin_balance(mem, vm, out, t)
        elif vm.task[t, TASK.kind] >= TASK_KIND.ksoftirqd:
            return cost + kthread_step(mem, heap, io, vm, t, cpu, jiffies)
        else:
            cost += workload_step(mem, heap, vm, out, t, cpu, jiffies)
        if vm.task[t, TASK.state] != TASK_STATE.runnable:
            return cost + vm.costs[COST.wake]
        if cost >= QUANTUM_NS or (RECLAIM.bio_alloc <= before <= RECLAIM.request_alloc):
            break
        if vm.cpu[cpu, CPU.resched] != 0:
            break
    return cost


@internal
def idle_timers(mem, vm):
    """What else a timer's interrupt on an idle CPU runs."""
    for cpu in range(vm.ctl[VM.nr_cpus]):
        if vm.cpu[cpu, CPU.timers_run] != 0:
            vm.cpu[cpu, CPU.timers_run] = 0
            vmstat_update(mem, vm, cpu)


@folded
def cpu_tick(mem, heap, vm, cpu, due, now):
    """A busy CPU's tick, due since its last step or turn: the scheduler, RCU, and the balancer, which also fills CPUs
    that sleep without a tick [update_process_times, scheduler_tick, rebalance_domains]."""
    c = vm.cpu[cpu]
    scheduler_tick(vm, cpu, due if vm.ctl[VM.shared_core] == 0 else now)  # late in turns
    vmstat_update(mem, vm, cpu)
    rcu_tick(mem, heap, vm, cpu, now)
    if vm.ctl[VM.nr_cpus] > 1:
        if c[CPU.running] > 1:
            for other in range(vm.ctl[VM.nr_cpus]):
                if vm.cpu[other, CPU.running] == 0:
                    balance(vm, other, now)
        if now >= c[CPU.balance]:
            c[CPU.balance] = now + BALANCE_NS
            balance(vm, cpu, now)


@folded
def cpu_step(mem, heap, pools, io, vm, out, cpu, jiffies, now):
    """One step of a CPU: its tick, dispatch in progress, a completion, then the running task; its clock moves on."""
    c = vm.cpu[cpu]
    vm.ctl[VM.cpu] = cpu
    told = vm.ctl[VM.tells_current] != 0
    if told:
        note_current(heap, cpu, current_task(vm, cpu))
    sets_timer = c[CPU.rearm] != 0
    if c[CPU.ticking] == 0:
        c[CPU.ticking] = 1
        c[CPU.next_tick] = next_tick(vm, cpu, now)
        sets_timer = True
    elif now >= c[CPU.next_tick]:
        due, c[CPU.next_tick] = c[CPU.next_tick], next_tick(vm, cpu, now)
        cpu_tick(mem, heap, vm, cpu, due, now)
        sets_timer = True
    if sets_timer and vm.ctl[VM.shared_core] != 0:
        c[CPU.rearm] = 0
        timer_set(vm, cpu, now, io.ctl[IO.irq_cpu], io.ctl[IO.disk_done_at])
        if vm.ctl[VM.turn] != cpu:
            vm.ctl[VM.cpu] = -1
            return
    if vm.ctl[VM.swap_lock] == 1 + cpu and c[CPU.ticket] == 0:
        spin_unlock(vm)
    t, runner = -1, c[CPU.request_fn] - 1
    if runner >= 0:
        if told:
            note_current(heap, cpu, c[CPU.request_task])
        cost = scsi_request_fn(mem, heap, pools, io, vm, out, cpu, jiffies)
    elif c[CPU.softirq] != 0 or softirq_due(io, cpu):
        cost = softirq_step(mem, heap, pools, io, vm, out, cpu)
    else:
        if c[CPU.resched] != 0 and c[CPU.ticket] == 0:
            schedule(vm, cpu, now)
        t = c[CPU.head]
        if told:
            note_current(heap, cpu, t)
        cost = task_step(mem, heap, pools, io, vm, out, cpu, jiffies)
        cost = jittered(vm, cost, cpu)
    cost += c[CPU.rcu_ns]
    c[CPU.rcu_ns] = 0
    clock = now + max(1, cost)
    c[CPU.clock] = clock
    if t >= 0 and vm.task[t, TASK.state] != TASK_STATE.runnable:
        sleep_curr(vm, cpu, t, clock)
        if c[CPU.running] == 0 and vm.ctl[VM.nr_cpus] > 1:
            balance(vm, cpu, clock)
    elif c[CPU.running] == 0 and runner >= 0 and runner != RUN_SOFTIRQ:
        c[CPU.idle_since] = clock  # a task that sleeps ran the request function before it slept
    wakeup_kswapd(mem, vm, clock)
    note_due(vm, cpu, softirq_due(io, cpu))
    if c[CPU.running] == 0:
        note_idle_tick(vm, cpu, clock)
        if c[CPU.ticking] == 0:
            quiet_vmstat(mem, cpu)
    if spins(vm, cpu):
        pass_turn(vm, clock)
    if told:
        note_current(heap, cpu, current_task(vm, cpu))  # whom interrupts find there until its next step
    vm.ctl[VM.cpu] = -1


@folded
def softirq_due(io, cpu):
    """A completed command waits for the softirq of ``cpu``."""
    return cpu == io.ctl[IO.irq_cpu] and io.ctl[IO.done_head] >= 0


@folded
def reap_due(mem, heap, vm, jiffies):
    """The reaper's pass on the CPU whose turn it is, and when the next one comes: each CPU every two seconds, three
    jiffies after the one before it [start_cpu_timer, cache_reap]; its CPU time is not counted."""
    hz = mem.ctl[MEMCTL.hz]
    cpus = vm.ctl[VM.nr_cpus]
    reap(mem, heap, vm.ctl[VM.reaps] % cpus, jiffies, ss.REAPTIMEOUT_LIST3_S * hz)
    vm.ctl[VM.reaps] += 1
    number, cpu = divmod(vm.ctl[VM.reaps], cpus)
    vm.ctl[VM.next_reap] = (hz + ss.REAPTIMEOUT_CPUC_S * hz * number + ss.REAP_SKEW * cpu) * vm.ctl[VM.jiffy_ns]


@folded
def next_event(io, vm, jiffy_ns):
    """The first event that is no step of a CPU: its time and kind; of equal times the kind that comes first here."""
    ctl = vm.ctl
    at = io.ctl[IO.disk_done_at]
    event = EVENT_DISK
    timer = min(ctl[VM.next_timer], io.ctl[IO.unplug_jiffy])
    if ctl[VM.skip] == 0:
        timer = min(timer, ctl[VM.next_jiffy])
    if timer < ms.NEVER and timer * jiffy_ns < at:
        at = timer * jiffy_ns
        event = EVENT_TICK
    when = noise_due(vm, OBJECTS)
    if when < at:
        at = when
        event = EVENT_NOISE
    when = noise_due(vm, PAGES)
    if when < at:
        at = when
        event = EVENT_PAGE_NOISE
    if ctl[VM.next_series] < at:
        at = ctl[VM.next_series]
        event = EVENT_SERIES
    if ctl[VM.livelock_check] < at:
        at = ctl[VM.livelock_check]
        event = EVENT_LIVELOCK
    if ctl[VM.next_reap] < at:
        at = ctl[VM.next_reap]
        event = EVENT_REAP
    if ctl[VM.next_host] < at:
        at = ctl[VM.next_host]
        event = EVENT_HOST
    if ctl[VM.next_background] < at:
        at = ctl[VM.next_background]
        event = EVENT_BACKGROUND
    if ctl[VM.next_burst] < at:
        at = ctl[VM.next_burst]
        event = EVENT_BURST
    if ctl[VM.idle_tick] < at:
        at = ctl[VM.idle_tick]
        event = EVENT_IDLE_TICK
    return at, event


@folded
def may_change_memory(event):
    """Whether an event that is no step of a CPU may take or free memory, or wake a task that does; what noise and
    timers did is looked at where they are run."""
    return event in (EVENT_DISK, EVENT_REAP, EVENT_HOST, EVENT_BACKGROUND, EVENT_BURST, EVENT_IDLE_TICK)


@internal
def skip_attempts(mem, heap, io, vm, out, until):
    """Count the unplug timer's attempts up to the next other event in place of running them; whether any was. A request
    for a page that is refused is no such event: attempt and request do not notice each other."""
    out_of_line()
    unplug_jiffy, page_noise = io.ctl[IO.unplug_jiffy], vm.ctl[VM.next_noise[PAGES]]
    io.ctl[IO.unplug_jiffy] = ms.NEVER
    if io.ctl[IO.repeat_pages] != 0:
        vm.ctl[VM.next_noise[PAGES]] = ms.NEVER
    horizon, _ = next_event(io, vm, vm.ctl[VM.jiffy_ns])
    io.ctl[IO.unplug_jiffy], vm.ctl[VM.next_noise[PAGES]] = unplug_jiffy, page_noise
    return repeat_attempts(mem, heap, io, vm, out, min(horizon, until))


@internal
def noise_among_attempts(mem, heap, io, vm, out, kind, now):
    """An event of noise, and whether the next attempt still meets what the last one met: the event was a request that
    was refused and changed nothing."""
    out_of_line()
    unchanged = io.ctl[IO.repeat] != 0
    if unchanged and kind == OBJECTS:  # on whichever CPU
        for cpu in range(vm.ctl[VM.nr_cpus]):
            unchanged &= has_no_cpu_slab(heap, vm.roles[ROLE.noise], cpu)
    failures = out.metric[METRIC.noise_failures]
    noise_event(mem, heap, vm, out, kind, now)
    if not unchanged or out.metric[METRIC.noise_failures] == failures:
        io.ctl[IO.repeat] = 0
    elif kind == PAGES:
        io.ctl[IO.repeat_pages] = refuses_any_cpu(mem, vm)


@entry
def _run(mem, heap, pools, io, vm, out, until):
    """:func:`run_lane` of a heap behind its operations."""
    ctl = vm.ctl
    jiffy_ns = ctl[VM.jiffy_ns]
    shared = ctl[VM.shared_core] != 0
    for cpu in range(ctl[VM.nr_cpus]):
        vm.cpu[cpu, CPU.due] = -1
        note_due(vm, cpu, softirq_due(io, cpu))
    jiffies = -1
    jiffy_end = 0
    still = 0
    io.ctl[IO.repeat] = 0
    # Most events are steps of CPUs, and of what else is due a step moves only these five
    disk = timer = unplug = livelock = idle = -1
    other_at, other = 0, EVENT_CPU
    event = EVENT_CPU
    while True:
        if (
            event != EVENT_CPU
            or io.ctl[IO.disk_done_at] != disk
            or ctl[VM.next_timer] != timer
            or io.ctl[IO.unplug_jiffy] != unplug
            or ctl[VM.livelock_check] != livelock
            or ctl[VM.idle_tick] != idle
        ):
            disk = io.ctl[IO.disk_done_at]
            timer = ctl[VM.next_timer]
            unplug = io.ctl[IO.unplug_jiffy]
            livelock = ctl[VM.livelock_check]
            idle = ctl[VM.idle_tick]
            if may_change_memory(event):
                io.ctl[IO.repeat] = 0
            other_at, other = next_event(io, vm, jiffy_ns)
        if shared and vm.cpu[ctl[VM.turn], CPU.busy] == 0:
            pass_turn(vm, ctl[VM.now])
        cpu = first_due(vm)
        at = vm.cpu[cpu, CPU.due]
        event = EVENT_CPU
        if at >= other_at:
            at = other_at
            event = other
        if at >= until:
            break
        if shared and event == EVENT_CPU and at >= ctl[VM.turn_end]:  # a turn ends where a step ends
            end_turn(vm, at)
            continue
        if at > ctl[VM.now]:
            ctl[VM.now] = at
            still = 0
        else:
            at = ctl[VM.now]
            still += 1
            if still > MOST_AT_ONCE:
                ctl[VM.error] = STANDS_STILL
                return
        if at >= jiffy_end:
            jiffies = jiffies + 1 if at - jiffy_end < jiffy_ns else at // jiffy_ns
            jiffy_end = (jiffies + 1) * jiffy_ns
            mem.ctl[MEMCTL.jiffies] = jiffies
            if ctl[VM.debug] != 0:  # the state that a call begins with is looked at too
                ctl[VM.error] = check_lane(mem, heap, pools, io, vm)
                if ctl[VM.error] != 0:
                    return
        if likely(event == EVENT_CPU):
            cpu_step(mem, heap, pools, io, vm, out, cpu, jiffies, at)
        elif event == EVENT_DISK:
            disk_done(io, vm)
            irq_cpu = io.ctl[IO.irq_cpu]
            if vm.cpu[irq_cpu, CPU.clock] < at:
                vm.cpu[irq_cpu, CPU.clock] = at
            note_due(vm, irq_cpu, True)
            if shared:
                vm.cpu[irq_cpu, CPU.rearm] = 1
                end_turn(vm, at)
        elif event == EVENT_TICK:
            if ctl[VM.skip] == 0 and ctl[VM.next_jiffy] <= jiffies:
                ctl[VM.next_jiffy] = jiffies + 1
            if ctl[VM.next_timer] <= jiffies:
                io.ctl[IO.repeat] = 0  # a task wakes
            elif io.ctl[IO.repeat] != 0 and skip_attempts(mem, heap, io, vm, out, until):
                jiffies = mem.ctl[MEMCTL.jiffies]
                jiffy_end = (jiffies + 1) * jiffy_ns
                still = 0
                continue
            tick(io, vm, out, jiffies, at)
            idle_timers(mem, vm)
        elif event == EVENT_NOISE:
            noise_among_attempts(mem, heap, io, vm, out, OBJECTS, at)
        elif event == EVENT_PAGE_NOISE:
            noise_among_attempts(mem, heap, io, vm, out, PAGES, at)
        elif event == EVENT_HOST:
            host_event(mem, heap, io, vm, out, at)
        elif event == EVENT_BACKGROUND:
            background_event(mem, heap, vm, out)
        elif event == EVENT_BURST:
            burst_event(mem, heap, vm, out, at)
        elif event == EVENT_IDLE_TICK:
            idle_ticks(mem, heap, vm, at)
        elif event == EVENT_SERIES:
            observe(mem, heap, pools, io, vm, out)
        elif event == EVENT_REAP:
            reap_due(mem, heap, vm, jiffies)
        else:
            check_livelock(mem, heap, pools, io, vm, out)
        if mem.ctl[MEMCTL.reports] != out.ctl[OUT_CTL.reports]:
            note_reports(mem, vm, out)
        if overflowed(heap) or ctl[VM.overflow] != 0 or mem.ctl[MEMCTL.stopped] != 0:
            return
    ctl[VM.now] = until


def run_lane(mem, heap, pools, io, vm, out, until):
    """Run a lane to simulated time ``until`` (ns); callable again with a later time, with the same result as once.

    Stops early when the allocator's arrays overflow, a user's policy or a guard fails (mem.ctl[MEMCTL.stopped]), the
    clock stands still or, in debug mode, at the first broken invariant (both vm.ctl[VM.error]).
    """
    _run(mem, behind(mem, heap, out), pools, io, vm, out, until)


def compile_run(mem, pools, io, vm, out):
    """Compile the program of :func:`run_lane` for groups like these."""
    compile_entry(_run, mem, NO_HEAP, pools, io, vm, out, 0)

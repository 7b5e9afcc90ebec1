"""The machine: one lane's events in order of time.

An event is the disk finishing a command, a tick on which a timer is due, an arrival of noise, or a step of a CPU.
The earliest runs first; equal times run in that order, then by CPU. A CPU's step takes simulated time, and its next
step comes when that time has passed, so CPUs interleave at the granularity of a step (at most QUANTUM_NS).
"""

from fastalloc.compiler.jit import entry, folded, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmem import reap
from fastalloc.kernels.alloc.kmem_inspect import has_reaper, heap_costs, max_cache_slabs, max_heap_pages, overflowed
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.block.completion import kblockd_step, softirq_step
from fastalloc.kernels.block.hosts import host_event
from fastalloc.kernels.block.scsi import disk_done, scsi_request_fn
from fastalloc.kernels.lane import metrics, rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import dequeue_head, enqueue, first_due, note_due, run_task_timers, wake_one
from fastalloc.kernels.machine.check import check_lane
from fastalloc.kernels.machine.observe import check_livelock, note_reports, observe, reserve_idle
from fastalloc.kernels.reclaim.vmscan import begin_balance, reclaim_step
from fastalloc.kernels.workload.atomic_noise import OBJECTS, PAGES, noise_due, noise_event
from fastalloc.kernels.workload.background import background_event
from fastalloc.kernels.workload.copiers import workload_step

SIM_MS = metrics.METRICS.index("sim_ms")
CPU_TICKS = metrics.METRICS.index("cpu_ticks")
LIVELOCK_OPEN = metrics.METRICS.index("livelock_open")
LIVELOCK_MS = metrics.METRICS.index("livelock_ms")
LIVELOCK_ONSET_MS = metrics.METRICS.index("livelock_onset_ms")
STALL_MS = metrics.METRICS.index("stall_ms")
STALL_ONSET_MS = metrics.METRICS.index("stall_onset_ms")
BUSY_MS = metrics.METRICS.index("busy_ms")
REPORTS = metrics.METRICS.index("reports")
MAX_BIO_SLABS = metrics.METRICS.index("max_bio_slabs")
MAX_SLAB_PAGES = metrics.METRICS.index("max_slab_pages")
MIN_FREE_DMA = metrics.METRICS.index("min_free_dma")
DEEPEST = metrics.METRICS.index("deepest")
NO_WATERMARK = metrics.METRICS.index("no_watermark")
FAILED_ALLOCATIONS = metrics.METRICS.index("failed_allocations")
REFUSALS = metrics.METRICS.index("refusals")
PROBES = metrics.METRICS.index("probes")
SPARE_USED = metrics.METRICS.index("spare_used")
UNFAIR_REFUSALS = metrics.METRICS.index("unfair_refusals")
SLAB_FAST = metrics.METRICS.index("slab_fast")
POLICY_TESTS = metrics.METRICS.index("policy_tests")
RESERVE_IDLE = metrics.METRICS.index("reserve_idle")
EMERGENCY_USED = metrics.METRICS.index("emergency_used")
EMERGENCY_LOST = metrics.METRICS.index("emergency_lost")
CHARGES_REFUSED = metrics.METRICS.index("charges_refused")

QUANTUM_NS = 20_000
STREAM_JITTER = 2
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


@folded
def tick(io, vm, out, jiffies, now):
    """A timer tick: the unplug timer hands the queue to kblockd of the CPU that armed it; sleeps end."""
    if io.ctl[ms.Q_UNPLUG_JIFFY] <= jiffies:
        io.ctl[ms.Q_UNPLUG_JIFFY] = ms.NEVER
        cpu = io.ctl[ms.Q_UNPLUG_CPU]
        vm.cpu[cpu, ms.CPU_KBLOCKD] = 1
        if vm.cpu[cpu, ms.CPU_CLOCK] < now:
            vm.cpu[cpu, ms.CPU_CLOCK] = now
        note_due(vm, cpu, False)
    if vm.ctl[ms.V_NEXT_TIMER] <= jiffies:
        run_task_timers(vm, out, jiffies, now)


@folded
def task_step(mem, heap, pools, io, vm, out, cpu, jiffies):
    """Run the first task of a CPU's queue for up to QUANTUM_NS; CPU time in ns.

    It stops early where another CPU could notice: after a submission, and when the task sleeps.
    """
    t = vm.cpu[cpu, ms.CPU_HEAD]
    cost = 0
    while True:
        before = vm.task[t, ms.T_RECLAIM]
        if before != ms.OUT:
            cost += reclaim_step(mem, heap, pools, io, vm, out, t, cpu, jiffies)
        elif t == KSWAPD:
            begin_balance(vm, out, t)
        else:
            cost += workload_step(mem, heap, vm, out, t, cpu, jiffies)
        if vm.task[t, ms.T_STATE] != ms.RUNNABLE:
            return cost + vm.costs[ms.COST_WAKE]
        if cost >= QUANTUM_NS or (ms.R_BIO_ALLOC <= before <= ms.R_REQUEST_ALLOC):
            break
    return cost


@folded
def cpu_step(mem, heap, pools, io, vm, out, cpu, jiffies, now):
    """One step of a CPU: dispatch in progress, a completion, kblockd, then the running task; its clock moves on."""
    c = vm.cpu[cpu]
    is_task = False
    if c[ms.CPU_REQUEST_FN] != 0:
        cost = scsi_request_fn(mem, heap, pools, io, vm, out, cpu, jiffies)
    elif c[ms.CPU_SOFTIRQ] != 0 or softirq_due(io, cpu):
        cost = softirq_step(mem, heap, pools, io, vm, out, cpu)
    elif c[ms.CPU_KBLOCKD] != 0:
        cost = kblockd_step(io, vm, cpu)
    else:
        is_task = True
        cost = task_step(mem, heap, pools, io, vm, out, cpu, jiffies)
        # no two steps of a real CPU take the same time
        vm.ctl[ms.V_JITTER] += 1
        noise = rng.draw(vm.ctl[ms.V_SEED], STREAM_JITTER, vm.ctl[ms.V_LANE], vm.ctl[ms.V_JITTER], cpu)
        cost += rng.below(noise, cost // 8 + 1)
    clock = now + max(1, cost)
    c[ms.CPU_CLOCK] = clock
    if is_task and clock >= c[ms.CPU_SLICE] and c[ms.CPU_RUNNING] > 0:
        if c[ms.CPU_RUNNING] > 1:
            t = dequeue_head(vm, cpu)
            enqueue(vm, t, cpu, clock)
        c[ms.CPU_SLICE] = clock + vm.ctl[ms.V_JIFFY_NS]
    if mem.ctl[st.M_KSWAPD_WANTED] != 0:
        mem.ctl[st.M_KSWAPD_WANTED] = 0
        wake_one(vm, ms.SLEEP_KSWAPD, clock)
    if mem.ctl[st.M_REPORTS] != out.ctl[ms.OUT_REPORTS]:
        note_reports(mem, vm, out, cpu)
    note_due(vm, cpu, softirq_due(io, cpu))


@folded
def softirq_due(io, cpu):
    """A completed command waits for the softirq of ``cpu``."""
    return cpu == io.ctl[ms.H_IRQ_CPU] and io.ctl[ms.H_DONE_HEAD] >= 0


@folded
def reap_due(mem, heap, vm, jiffies):
    """The reaper's pass on the CPU whose turn it is, and when the next one comes: each CPU every two seconds, three
    jiffies after the one before it [start_cpu_timer, cache_reap]; its CPU time is not counted."""
    hz = mem.ctl[st.M_HZ]
    cpus = vm.ctl[ms.V_NR_CPUS]
    reap(mem, heap, vm.ctl[ms.V_REAPS] % cpus, jiffies, ss.REAPTIMEOUT_LIST3_S * hz)
    vm.ctl[ms.V_REAPS] += 1
    number, cpu = divmod(vm.ctl[ms.V_REAPS], cpus)
    vm.ctl[ms.V_NEXT_REAP] = (hz + ss.REAPTIMEOUT_CPUC_S * hz * number + ss.REAP_SKEW * cpu) * vm.ctl[ms.V_JIFFY_NS]


@folded
def next_event(heap, io, vm, jiffy_ns):
    """The first event that is no step of a CPU: its time and kind; of equal times the kind that comes first here."""
    ctl = vm.ctl
    at = io.ctl[ms.H_DISK_DONE_AT]
    event = EVENT_DISK
    timer = min(ctl[ms.V_NEXT_TIMER], io.ctl[ms.Q_UNPLUG_JIFFY])
    if ctl[ms.V_SKIP] == 0:
        timer = min(timer, ctl[ms.V_NEXT_JIFFY])
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
    if ctl[ms.V_NEXT_SERIES] < at:
        at = ctl[ms.V_NEXT_SERIES]
        event = EVENT_SERIES
    if ctl[ms.V_LIVELOCK_CHECK] < at:
        at = ctl[ms.V_LIVELOCK_CHECK]
        event = EVENT_LIVELOCK
    if has_reaper(heap) and ctl[ms.V_NEXT_REAP] < at:
        at = ctl[ms.V_NEXT_REAP]
        event = EVENT_REAP
    if ctl[ms.V_NEXT_HOST] < at:
        at = ctl[ms.V_NEXT_HOST]
        event = EVENT_HOST
    if ctl[ms.V_NEXT_BACKGROUND] < at:
        at = ctl[ms.V_NEXT_BACKGROUND]
        event = EVENT_BACKGROUND
    return at, event


@entry
def run_lane(mem, heap, pools, io, vm, out, until):
    """Run a lane to simulated time ``until`` (ns); callable again with a later time, with the same result as once.

    Stops early when the allocator's arrays overflow or, in debug mode, at the first broken invariant
    (vm.ctl[V_ERROR]).
    """
    ctl = vm.ctl
    jiffy_ns = ctl[ms.V_JIFFY_NS]
    for cpu in range(ctl[ms.V_NR_CPUS]):
        vm.cpu[cpu, ms.CPU_DUE] = -1
        note_due(vm, cpu, softirq_due(io, cpu))
    jiffies = 0
    jiffy_end = 0
    # Most events are steps of CPUs, and of what else is due a step moves only these four
    disk = timer = unplug = livelock = -1
    other_at, other = 0, EVENT_CPU
    event = EVENT_CPU
    while True:
        if (
            event != EVENT_CPU
            or io.ctl[ms.H_DISK_DONE_AT] != disk
            or ctl[ms.V_NEXT_TIMER] != timer
            or io.ctl[ms.Q_UNPLUG_JIFFY] != unplug
            or ctl[ms.V_LIVELOCK_CHECK] != livelock
        ):
            disk = io.ctl[ms.H_DISK_DONE_AT]
            timer = ctl[ms.V_NEXT_TIMER]
            unplug = io.ctl[ms.Q_UNPLUG_JIFFY]
            livelock = ctl[ms.V_LIVELOCK_CHECK]
            other_at, other = next_event(heap, io, vm, jiffy_ns)
        cpu = first_due(vm)
        at = vm.cpu[cpu, ms.CPU_DUE]
        event = EVENT_CPU
        if at >= other_at:
            at = other_at
            event = other
        if at >= until:
            break
        if at < ctl[ms.V_NOW]:
            at = ctl[ms.V_NOW]
        ctl[ms.V_NOW] = at
        if at >= jiffy_end:
            jiffies = at // jiffy_ns
            jiffy_end = (jiffies + 1) * jiffy_ns
            mem.ctl[st.M_JIFFIES] = jiffies
            if ctl[ms.V_DEBUG] != 0:  # the state that a call begins with is looked at too
                ctl[ms.V_ERROR] = check_lane(mem, heap, pools, io, vm)
                if ctl[ms.V_ERROR] != 0:
                    return
        if event == EVENT_CPU:
            cpu_step(mem, heap, pools, io, vm, out, cpu, jiffies, at)
        elif event == EVENT_DISK:
            disk_done(io, vm)
            irq_cpu = io.ctl[ms.H_IRQ_CPU]
            if vm.cpu[irq_cpu, ms.CPU_CLOCK] < at:
                vm.cpu[irq_cpu, ms.CPU_CLOCK] = at
            note_due(vm, irq_cpu, True)
        elif event == EVENT_TICK:
            if ctl[ms.V_SKIP] == 0 and ctl[ms.V_NEXT_JIFFY] <= jiffies:
                ctl[ms.V_NEXT_JIFFY] = jiffies + 1
            tick(io, vm, out, jiffies, at)
        elif event == EVENT_NOISE:
            noise_event(mem, heap, vm, out, OBJECTS, at)
        elif event == EVENT_PAGE_NOISE:
            noise_event(mem, heap, vm, out, PAGES, at)
        elif event == EVENT_HOST:
            host_event(mem, heap, io, vm, out, at)
        elif event == EVENT_BACKGROUND:
            background_event(mem, heap, vm, out)
        elif event == EVENT_SERIES:
            observe(mem, heap, pools, io, vm, out)
        elif has_reaper(heap) and event == EVENT_REAP:
            reap_due(mem, heap, vm, jiffies)
        else:
            check_livelock(mem, heap, pools, io, vm, out)
        if overflowed(heap):
            return
    ctl[ms.V_NOW] = until


@kernel
def finish_lane(mem, heap, pools, io, vm, out):
    """Close what is open at the end of a run and fill the metrics that are kept elsewhere."""
    metric = out.metric
    now = vm.ctl[ms.V_NOW]
    milliseconds = now // ms.NS_PER_MS
    metric[SIM_MS] = milliseconds
    metric[CPU_TICKS] = now // vm.ctl[ms.V_JIFFY_NS] * vm.ctl[ms.V_NR_CPUS]
    if vm.ctl[ms.V_LIVELOCK_STAGE] > 0:
        metric[LIVELOCK_OPEN] = 1
        length = (now - vm.ctl[ms.V_LIVELOCK_SINCE]) // ms.NS_PER_MS
        if length > metric[LIVELOCK_MS]:
            metric[LIVELOCK_MS] = length
            metric[LIVELOCK_ONSET_MS] = vm.ctl[ms.V_LIVELOCK_SINCE] // ms.NS_PER_MS
    if vm.ctl[ms.V_STALL_SINCE] != ms.NEVER:
        length = (now - vm.ctl[ms.V_STALL_SINCE]) // ms.NS_PER_MS
        if length > metric[STALL_MS]:
            metric[STALL_MS] = length
            metric[STALL_ONSET_MS] = vm.ctl[ms.V_STALL_SINCE] // ms.NS_PER_MS
    if io.ctl[ms.H_BUSY] > 0:
        metric[BUSY_MS] += now - io.ctl[ms.H_BUSY_SINCE]
    metric[BUSY_MS] //= ms.NS_PER_MS
    zones = mem.ctl[st.M_NR_ZONES]
    bio_cache = vm.roles[ms.ROLE_BIO]
    metric[REPORTS] = mem.ctl[st.M_REPORTS]
    metric[REPORTS + 1] = mem.ctl[st.M_SUPPRESSED]
    metric[MAX_BIO_SLABS] = max_cache_slabs(heap, bio_cache)
    metric[MAX_SLAB_PAGES] = max_heap_pages(heap)
    metric[MIN_FREE_DMA] = mem.zone[0, st.Z_MIN_FREE] if zones > 1 else 0
    metric[MIN_FREE_DMA + 1] = mem.zone[zones - 1, st.Z_MIN_FREE]
    metric[DEEPEST] = mem.ctl[st.M_DEEPEST]
    metric[NO_WATERMARK] = mem.ctl[st.M_NO_WATERMARK]
    metric[FAILED_ALLOCATIONS] = mem.ctl[st.M_FAILED]
    metric[REFUSALS] = mem.ctl[st.M_REFUSALS]
    metric[PROBES] = mem.ctl[st.M_PROBES]
    metric[SPARE_USED] = mem.ctl[st.M_SPARE_USED]
    metric[UNFAIR_REFUSALS] = mem.ctl[st.M_UNFAIR]
    heap_costs(heap, metric[SLAB_FAST : SLAB_FAST + 4])
    metric[POLICY_TESTS] = mem.ctl[st.M_TESTS]
    metric[POLICY_TESTS + 1] = mem.ctl[st.M_LOCKS]
    metric[RESERVE_IDLE] = vm.ctl[ms.V_IDLE_SUM] // max(1, vm.ctl[ms.V_LOOKS])
    metric[RESERVE_IDLE + 1] = reserve_idle(mem, heap, pools, io, vm)
    metric[EMERGENCY_USED] = mem.ctl[st.M_EMERGENCY_USED]
    metric[EMERGENCY_LOST] = mem.ctl[st.M_MIGRATED]
    metric[CHARGES_REFUSED] = mem.ctl[st.M_CHARGES_REFUSED]

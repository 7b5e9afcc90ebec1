"""Classic RCU: what is freed only after every CPU has passed through a quiescent state [kernel/rcuclassic.c of 2.6.25].

A CPU's callbacks stand in one ring, oldest first: those past their grace period, those that wait for the running or the
next one, those not yet in any. A callback frees a radix node or a dentry; one of a closed file frees nothing that is
modelled but takes its place in the queue.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc.slab_owner import slab_give
from fastalloc.kernels.alloc.vmstat import quiet_vmstat, vmstat_update
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.due import next_tick
from fastalloc.kernels.lane.rq_clock import tick_idle
from fastalloc.kernels.lane.sched import wake_task
from fastalloc.kernels.lane.state import COST, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE

BLIMIT = 10
QHIMARK = 10_000
QLOWMARK = 100
MAX_SOFTIRQ_RESTART = 10

# kind of a callback, below its handle
CALLBACK_NODE = 0
CALLBACK_DENTRY = 1
CALLBACK_FILE = 2
KIND_BITS = 2


@folded
def qlen(c):
    """Callbacks of a CPU that are still to run."""
    return c[CPU.rcu_done] + c[CPU.rcu_current] + c[CPU.rcu_next]


@internal
def run_callback(mem, heap, vm, cpu):
    """Run the oldest callback of a CPU."""
    c = vm.cpu[cpu]
    code = vm.callback[cpu, c[CPU.rcu_head]]
    c[CPU.rcu_head] = (c[CPU.rcu_head] + 1) & (ms.RCU_RING - 1)
    kind = code & ((1 << KIND_BITS) - 1)
    if kind == CALLBACK_NODE:
        slab_give(mem, heap, vm.roles[ROLE.radix], cpu, code >> KIND_BITS)
    elif kind == CALLBACK_DENTRY:
        slab_give(mem, heap, vm.roles[ROLE.dentry], cpu, code >> KIND_BITS)


@internal
def call_rcu(mem, heap, vm, cpu, kind, handle):
    """Queue a callback; above qhimark the limit a softirq is gone and every CPU is asked to reschedule [call_rcu,
    force_quiescent_state]. A full ring, half as long again as qhimark, runs its oldest callback at once."""
    c = vm.cpu[cpu]
    queued = qlen(c)
    if queued == 0:
        c[CPU.rcu_head] = 0  # a queue that is short takes up the same few places of the ring
    if queued == ms.RCU_RING:
        run_callback(mem, heap, vm, cpu)
        queued -= 1
        if c[CPU.rcu_done] > 0:
            c[CPU.rcu_done] -= 1
        elif c[CPU.rcu_current] > 0:
            c[CPU.rcu_current] -= 1
        else:
            c[CPU.rcu_next] -= 1
    vm.callback[cpu, (c[CPU.rcu_head] + queued) & (ms.RCU_RING - 1)] = (handle << KIND_BITS) | kind
    c[CPU.rcu_next] += 1
    if queued + 1 > QHIMARK:
        c[CPU.rcu_unlimited] = 1
        c[CPU.resched] = 1
        if vm.ctl[VM.rcu_signaled] == 0:
            vm.ctl[VM.rcu_signaled] = 1
            for other in range(vm.ctl[VM.nr_cpus]):
                if vm.cpu[other, CPU.rcu_waited] != 0:
                    vm.cpu[other, CPU.resched] = 1


@folded
def rcu_start_batch(vm):
    """Start the next grace period if one is wanted and none runs: it waits for the CPUs whose tick is on."""
    ctl = vm.ctl
    if ctl[VM.rcu_next_pending] != 0 and ctl[VM.rcu_completed] == ctl[VM.rcu_cur]:
        ctl[VM.rcu_next_pending] = 0
        ctl[VM.rcu_cur] += 1
        ctl[VM.rcu_signaled] = 0
        for cpu in range(ctl[VM.nr_cpus]):
            waited = vm.cpu[cpu, CPU.ticking] != 0 or vm.cpu[cpu, CPU.busy] != 0
            vm.cpu[cpu, CPU.rcu_waited] = waited
            ctl[VM.rcu_cpus] += waited


@folded
def rcu_check_quiescent_state(vm, cpu):
    """Note a grace period that is new to this CPU, or report that it has passed its quiescent state."""
    ctl = vm.ctl
    c = vm.cpu[cpu]
    if c[CPU.rcu_seen] != ctl[VM.rcu_cur]:
        c[CPU.rcu_pending] = 1
        c[CPU.rcu_passed] = 0
        c[CPU.rcu_seen] = ctl[VM.rcu_cur]
        return
    if c[CPU.rcu_pending] == 0 or c[CPU.rcu_passed] == 0:
        return
    c[CPU.rcu_pending] = 0
    if c[CPU.rcu_waited] == 0:  # it slept without a tick when the grace period began
        return
    c[CPU.rcu_waited] = 0
    ctl[VM.rcu_cpus] -= 1
    if ctl[VM.rcu_cpus] == 0:
        ctl[VM.rcu_completed] = ctl[VM.rcu_cur]
        rcu_start_batch(vm)


@folded
def rcu_do_batch(mem, heap, vm, cpu):
    """Run what is past its grace period, 10 at a time unless the queue is very long."""
    c = vm.cpu[cpu]
    count = c[CPU.rcu_done]
    if c[CPU.rcu_unlimited] == 0:
        count = min(count, BLIMIT)
    for _ in range(count):
        run_callback(mem, heap, vm, cpu)
    c[CPU.rcu_done] -= count
    c[CPU.rcu_ns] += count * vm.costs[COST.rcu_callback]
    if qlen(c) <= QLOWMARK:
        c[CPU.rcu_unlimited] = 0


@internal
def rcu_process_callbacks(mem, heap, vm, cpu):
    """The RCU softirq of a CPU, with as many passes as one run of the softirqs has; whether callbacks are left for
    ksoftirqd [__rcu_process_callbacks, __do_softirq]."""
    c = vm.cpu[cpu]
    for _ in range(MAX_SOFTIRQ_RESTART):
        if c[CPU.rcu_current] > 0 and vm.ctl[VM.rcu_completed] >= c[CPU.rcu_batch]:
            c[CPU.rcu_done] += c[CPU.rcu_current]
            c[CPU.rcu_current] = 0
        if c[CPU.rcu_next] > 0 and c[CPU.rcu_current] == 0:
            c[CPU.rcu_current] = c[CPU.rcu_next]
            c[CPU.rcu_next] = 0
            c[CPU.rcu_batch] = vm.ctl[VM.rcu_cur] + 1
            vm.ctl[VM.rcu_next_pending] = 1
            rcu_start_batch(vm)
        rcu_check_quiescent_state(vm, cpu)
        rcu_do_batch(mem, heap, vm, cpu)
        if c[CPU.rcu_done] == 0:
            return False
    return True


@folded
def rcu_pending(vm, cpu):
    """Whether RCU has work on a CPU [__rcu_pending]."""
    c = vm.cpu[cpu]
    return (
        (c[CPU.rcu_current] > 0 and vm.ctl[VM.rcu_completed] >= c[CPU.rcu_batch])
        or (c[CPU.rcu_current] == 0 and c[CPU.rcu_next] > 0)
        or c[CPU.rcu_done] > 0
        or c[CPU.rcu_seen] != vm.ctl[VM.rcu_cur]
        or c[CPU.rcu_pending] != 0
    )


@internal
def rcu_tick(mem, heap, vm, cpu, now):
    """A tick: one that hits the idle task is a quiescent state; then the softirq. What one run leaves is ksoftirqd's,
    and the next tick's [rcu_check_callbacks]."""
    if not rcu_pending(vm, cpu):
        return
    c = vm.cpu[cpu]
    if c[CPU.running] == 0:
        c[CPU.rcu_passed] = 1
    if rcu_process_callbacks(mem, heap, vm, cpu):
        t = vm.ctl[VM.kthreads] + cpu
        if vm.task[t, TASK.state] == TASK_STATE.kthread:
            wake_task(vm, t, now)


@folded
def note_idle_tick(vm, cpu, now):
    """An idle CPU keeps its tick while RCU needs it [tick_nohz_stop_sched_tick, rcu_needs_cpu]."""
    c = vm.cpu[cpu]
    needed = qlen(c) > 0 or c[CPU.rcu_waited] != 0
    c[CPU.ticking] = needed
    if needed:
        if c[CPU.next_tick] <= now:
            c[CPU.next_tick] = next_tick(vm, cpu, now)
        vm.ctl[VM.idle_tick] = min(vm.ctl[VM.idle_tick], c[CPU.next_tick])


@internal
def idle_ticks(mem, heap, vm, now):
    """Ticks of the idle CPUs that are due now; when the next one is."""
    vm.ctl[VM.idle_tick] = ms.NEVER
    for cpu in range(vm.ctl[VM.nr_cpus]):
        c = vm.cpu[cpu]
        if c[CPU.running] > 0 or c[CPU.ticking] == 0:
            continue
        if c[CPU.next_tick] <= now:
            c[CPU.next_tick] = next_tick(vm, cpu, now)
            c[CPU.tick_load] = 0
            tick_idle(vm, cpu, now)
            vmstat_update(mem, vm, cpu)
            rcu_tick(mem, heap, vm, cpu, now)
            c[CPU.rcu_ns] = 0  # nobody waits for an idle CPU
        if c[CPU.running] == 0:
            note_idle_tick(vm, cpu, now)
            if c[CPU.ticking] == 0:
                quiet_vmstat(mem, cpu)

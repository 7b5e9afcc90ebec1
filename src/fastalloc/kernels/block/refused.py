"""Attempts at a SCSI command that are refused one as the other, so that they can be counted in place of being run.

A queue whose head was refused with nothing in flight is tried again by the unplug timer alone. While every task sleeps
and nobody takes or frees memory, such an attempt meets what the last one met. That it also leaves what it met, but for
counters, holds for the attempt of 2.6.25-rc8 under no other policy: it takes a command from the private list of its
CPU, is refused the sense buffer by a cache of which that CPU has no slab to retire, and puts the command back. What it
adds to the counters is measured in one that was run.
"""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmem import allocated_by
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.policy_record import QUESTION
from fastalloc.kernels.alloc.printk import swallow
from fastalloc.kernels.alloc.rcu import qlen
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.alloc.taken_back import count_taken_back, has_no_cpu_slab, private_object
from fastalloc.kernels.alloc.vmstat import holds_back
from fastalloc.kernels.block.plug import RUN_KBLOCKD
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import IO, OUT_CTL, POOL, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, TASK_STATE, WAITQ


@folded
def of_rc8_alone(mem, pools, io, vm):
    """Whether an attempt asks nothing but what 2.6.25-rc8 asks: no policy takes part that has a state of its own."""
    for question in range(QUESTION.width):
        if mem.ctl[MEMCTL.ask[question]] != 0:
            return False
    return (
        io.ctl[POLICY.command_rule] == ms.RULE_RC8
        and io.ctl[POLICY.sense] == ms.SENSE_SEPARATE
        and pools.pool[POOL.sense, MEMPOOL.min] == 0
        and mem.ctl[MEMCTL.policed] == 0
        and mem.ctl[MEMCTL.free] == st.FREE_PLAIN
        and mem.ctl[MEMCTL.charge_limit[WHO.command]] == 0
        and mem.ctl[MEMCTL.charge_limit[WHO.sense]] == 0
        and vm.ctl[VM.adversary] < 0
    )


@folded
def all_asleep(vm, cpu):
    """Whether no CPU has anything to do once ``cpu`` is through with the request function, nor RCU: only a timer, an
    interrupt or an arrival changes that."""
    for other in range(vm.ctl[VM.nr_cpus]):
        c = vm.cpu[other]
        if (
            c[CPU.running] != 0
            or c[CPU.softirq] != 0
            or c[CPU.kblockd] != 0
            or (c[CPU.request_fn] != 0 and other != cpu)
            or c[CPU.rcu_waited] != 0
            or qlen(c) != 0
        ):
            return False
    return True


@internal
def changes_counters_alone(mem, heap, pools, io, vm, out, cpu, runner):
    """Whether the attempt that begins, if it is refused its sense buffer, changes nothing but counters, which are
    noted. False where each attempt or each tick is to be seen, and where CPUs take turns, whose turns have times."""
    out_of_line()
    if (
        vm.ctl[VM.skip] == 0
        or vm.ctl[VM.debug] != 0
        or out.ctl[OUT_CTL.full] != 0
        or vm.ctl[VM.shared_core] != 0
        or runner != RUN_KBLOCKD
        or not of_rc8_alone(mem, pools, io, vm)
        or vm.roles[ROLE.command] == vm.roles[ROLE.sense]
        or private_object(heap, vm.roles[ROLE.command], cpu) < 0
        or not has_no_cpu_slab(heap, vm.roles[ROLE.sense], cpu)
        or not all_asleep(vm, cpu)
        or holds_back(mem, cpu)  # what the unplug timer's interrupt would enter
    ):
        return False
    io.ctl[IO.repeat_failed] = mem.ctl[MEMCTL.failed]
    io.ctl[IO.repeat_swallowed] = mem.ctl[MEMCTL.suppressed]
    io.ctl[IO.repeat_tests] = mem.ctl[MEMCTL.tests]
    io.ctl[IO.repeat_sense] = out.metric[METRIC.sense_fail]
    return True


@internal
def note_refusal(mem, io, vm, out):
    """The attempt of which :func:`changes_counters_alone` held was refused: what it added, unless a report of it was
    printed, it wakes kswapd or it was not the sense buffer that it lacked."""
    out_of_line()
    io.ctl[IO.repeat_failed] = mem.ctl[MEMCTL.failed] - io.ctl[IO.repeat_failed]
    io.ctl[IO.repeat_swallowed] = mem.ctl[MEMCTL.suppressed] - io.ctl[IO.repeat_swallowed]
    io.ctl[IO.repeat_tests] = mem.ctl[MEMCTL.tests] - io.ctl[IO.repeat_tests]
    io.ctl[IO.repeat_gfp] = mem.ctl[MEMCTL.report_gfp]
    io.ctl[IO.repeat_order] = mem.ctl[MEMCTL.report_order]
    refused_sense = out.metric[METRIC.sense_fail] - io.ctl[IO.repeat_sense] == 1
    io.ctl[IO.repeat_pages] = 0
    wakes_kswapd = mem.ctl[MEMCTL.kswapd_wanted] != 0 and vm.waitq[TASK_STATE.kswapd, WAITQ.head] >= 0
    io.ctl[IO.repeat] = refused_sense and not wakes_kswapd and mem.ctl[MEMCTL.reports] == out.ctl[OUT_CTL.reports]


@folded
def count_refusals(mem, heap, io, vm, out, cpu, times):
    """What so many attempts like the last one add, the last of them in the present jiffy; none of their reports is
    printed."""
    c = vm.roles[ROLE.command]
    owner, depth = allocated_by(heap, private_object(heap, c, cpu))
    out.ledger[owner, depth, WHO.command] += times
    count_taken_back(heap, c, cpu, times)
    out.metric[METRIC.sense_fail] += times
    out.metric[METRIC.idle_refused] += times
    ctl = mem.ctl
    ctl[MEMCTL.failed] += times * io.ctl[IO.repeat_failed]
    ctl[MEMCTL.tests] += times * io.ctl[IO.repeat_tests]
    ctl[MEMCTL.who] = WHO.sense
    ctl[MEMCTL.cpu] = cpu
    if io.ctl[IO.repeat_swallowed] > 0:
        swallow(mem, times * io.ctl[IO.repeat_swallowed])
        ctl[MEMCTL.report_gfp] = io.ctl[IO.repeat_gfp]
        ctl[MEMCTL.report_order] = io.ctl[IO.repeat_order]

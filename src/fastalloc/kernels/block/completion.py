"""The block softirq: what a finished command frees, and in which order [drivers/scsi/scsi_lib.c, block/blk-core.c].

Each stage is a step of its CPU's clock, so that another CPU can run between the bios' ends and the re-run of the
queue, as on a real machine.
"""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.block.bio import end_swap_bio_write
from fastalloc.kernels.block.block import end_request
from fastalloc.kernels.block.scsi import (
    RUN_KBLOCKD,
    RUN_SOFTIRQ,
    blk_remove_plug,
    free_sgtable,
    lazy_sense,
    scsi_put_command,
    start_request_fn,
)
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import log_event

BUSY_MS = metrics.METRICS.index("busy_ms")
E_COMMAND_END = metrics.EVENTS.index("command_end")

STAGE_IDLE = 0
STAGE_BIO = 1
STAGE_REQUEST = 2
STAGE_COMMAND = 3
STAGE_RUN = 4


@folded
def finish_command(mem, heap, pools, io, vm, out, cpu):
    """Take the next done command: the device is free again, the sg table goes back [scsi_finish_command]."""
    d = io.ctl[ms.H_DONE_HEAD]
    io.ctl[ms.H_DONE_HEAD] = io.command[d, ms.D_NEXT]
    r = io.command[d, ms.D_REQUEST]
    io.ctl[ms.H_BUSY] -= 1
    io.ctl[ms.Q_IN_FLIGHT] -= 1
    if io.ctl[ms.H_BUSY] == 0:
        out.metric[BUSY_MS] += vm.ctl[ms.V_NOW] - io.ctl[ms.H_BUSY_SINCE]  # ns until the lane ends
    free_sgtable(mem, heap, pools, io, cpu, d)
    vm.cpu[cpu, ms.CPU_SOFTIRQ] = STAGE_BIO
    vm.cpu[cpu, ms.CPU_SOFTIRQ_COMMAND] = d
    vm.cpu[cpu, ms.CPU_SOFTIRQ_BIO] = io.request[r, ms.R_BIO_HEAD]
    if out.ctl[ms.OUT_FULL] != 0:
        log_event(vm, out, E_COMMAND_END, cpu, -1, io.request[r, ms.R_NR_BIOS], 0, 0)
    return vm.costs[ms.COST_IRQ]


@folded
def softirq_step(mem, heap, pools, io, vm, out, cpu):
    """One step of the completion that ``cpu`` is working on; CPU time in ns."""
    c = vm.cpu[cpu]
    stage = c[ms.CPU_SOFTIRQ]
    if stage == STAGE_IDLE:
        return finish_command(mem, heap, pools, io, vm, out, cpu)
    d = c[ms.CPU_SOFTIRQ_COMMAND]
    now = vm.ctl[ms.V_NOW]
    if stage == STAGE_BIO:
        b = c[ms.CPU_SOFTIRQ_BIO]
        following = io.bio[b, ms.B_NEXT]
        woken = end_swap_bio_write(mem, heap, pools, io, vm, cpu, b, now)
        c[ms.CPU_SOFTIRQ_BIO] = following
        if following < 0:
            c[ms.CPU_SOFTIRQ] = STAGE_REQUEST
        return vm.costs[ms.COST_END_BIO] + woken * vm.costs[ms.COST_WAKE]
    if stage == STAGE_REQUEST:
        end_request(mem, heap, pools, io, vm, cpu, io.command[d, ms.D_REQUEST], now)
        c[ms.CPU_SOFTIRQ] = STAGE_COMMAND
        return vm.costs[ms.COST_END_BIO]
    if stage == STAGE_COMMAND:
        if io.ctl[ms.H_SENSE] == ms.SENSE_LAZY:
            lazy_sense(mem, heap, pools, io, vm, out, cpu)
        scsi_put_command(mem, heap, pools, io, vm, cpu, d)
        c[ms.CPU_SOFTIRQ] = STAGE_RUN
        return vm.costs[ms.COST_END_BIO] + io.ctl[ms.H_COMPLETION_DELAY]
    c[ms.CPU_SOFTIRQ] = STAGE_IDLE
    blk_remove_plug(io)
    c[ms.CPU_REQUEST_FN] = RUN_SOFTIRQ + 1
    return vm.costs[ms.COST_END_BIO]


@folded
def kblockd_step(io, vm, cpu):
    """kblockd runs the unplug work; CPU time in ns [blk_unplug_work]."""
    vm.cpu[cpu, ms.CPU_KBLOCKD] = 0
    start_request_fn(io, vm, cpu, RUN_KBLOCKD)
    return vm.costs[ms.COST_WAKE]

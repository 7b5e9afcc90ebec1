"""The block softirq: what a finished command frees, and in which order [drivers/scsi/scsi_lib.c, block/blk-core.c].

Each stage is a step of its CPU's clock, so that another CPU can run between the bios' ends and the re-run of the
queue, as on a real machine.
"""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.block.bio import end_swap_bio_write
from fastalloc.kernels.block.block import end_request
from fastalloc.kernels.block.elevator import elv_completed_request
from fastalloc.kernels.block.plug import (
    RUN_KBLOCKD,
    RUN_SOFTIRQ,
    WORK_RUN,
    blk_remove_plug,
    call_request_fn,
    start_request_fn,
)
from fastalloc.kernels.block.scsi import free_sgtable
from fastalloc.kernels.block.scsi_command import lazy_sense, scsi_put_command
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.events import log_event
from fastalloc.kernels.lane.metrics import EVENT, METRIC
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import BIO, COMMAND, COST, IO, OUT_CTL, REQUEST, VM
from fastalloc.kernels.lane.tasks import CPU

STAGE_IDLE = 0
STAGE_BIO = 1
STAGE_REQUEST = 2
STAGE_COMMAND = 3
STAGE_RUN = 4


@folded
def finish_command(mem, heap, pools, io, vm, out, cpu):
    """Take the next done command: the device is free again, the sg table goes back [scsi_finish_command]."""
    d = io.ctl[IO.done_head]
    io.ctl[IO.done_head] = io.command[d, COMMAND.next]
    r = io.command[d, COMMAND.request]
    io.ctl[IO.device_busy] -= 1
    if io.ctl[IO.device_busy] == 0:
        out.metric[METRIC.busy_ms] += vm.ctl[VM.now] - io.ctl[IO.busy_since]  # ns until the lane ends
    free_sgtable(mem, heap, pools, io, cpu, d)
    vm.cpu[cpu, CPU.softirq] = STAGE_BIO
    vm.cpu[cpu, CPU.softirq_command] = d
    vm.cpu[cpu, CPU.softirq_bio] = io.request[r, REQUEST.bio_head]
    if out.ctl[OUT_CTL.full] != 0:
        log_event(vm, out, EVENT.command_end, cpu, -1, io.request[r, REQUEST.nr_bios], 0, 0)
    return vm.costs[COST.irq]


@folded
def softirq_step(mem, heap, pools, io, vm, out, cpu):
    """One step of the completion that ``cpu`` is working on; CPU time in ns."""
    c = vm.cpu[cpu]
    stage = c[CPU.softirq]
    if stage == STAGE_IDLE:
        return finish_command(mem, heap, pools, io, vm, out, cpu)
    d = c[CPU.softirq_command]
    now = vm.ctl[VM.now]
    if stage == STAGE_BIO:
        b = c[CPU.softirq_bio]
        following = io.bio[b, BIO.next]
        woken = end_swap_bio_write(mem, heap, pools, io, vm, cpu, b, now)
        c[CPU.softirq_bio] = following
        if following < 0:
            c[CPU.softirq] = STAGE_REQUEST
        return vm.costs[COST.end_bio] + woken * vm.costs[COST.wake]
    if stage == STAGE_REQUEST:
        elv_completed_request(io, vm, cpu, mem.ctl[MEMCTL.jiffies], now)
        end_request(mem, heap, pools, io, vm, cpu, io.command[d, COMMAND.request], now)
        c[CPU.softirq] = STAGE_COMMAND
        return vm.costs[COST.end_bio]
    if stage == STAGE_COMMAND:
        if io.ctl[POLICY.sense] == ms.SENSE_LAZY:
            lazy_sense(mem, heap, pools, io, vm, out, cpu)
        scsi_put_command(mem, heap, pools, io, vm, cpu, d)
        c[CPU.softirq] = STAGE_RUN
        return vm.costs[COST.end_bio] + io.ctl[IO.completion_delay]
    c[CPU.softirq] = STAGE_IDLE
    blk_remove_plug(io)
    call_request_fn(vm, cpu, RUN_SOFTIRQ)
    return vm.costs[COST.end_bio]


@folded
def kblockd_step(io, vm, cpu):
    """kblockd does its works; CPU time in ns [blk_unplug_work, cfq_kick_queue]."""
    works = vm.cpu[cpu, CPU.kblockd]
    vm.cpu[cpu, CPU.kblockd] = 0
    if works & WORK_RUN:
        blk_remove_plug(io)
        call_request_fn(vm, cpu, RUN_KBLOCKD)
    else:
        start_request_fn(io, vm, cpu, RUN_KBLOCKD)
    return vm.costs[COST.wake]

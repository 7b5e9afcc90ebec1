"""The SCSI mid-layer: dispatch, the disk [drivers/scsi/scsi_lib.c of 2.6.25-rc8].

One host with one device: device_busy and host_busy are the same number, can_queue is folded into the depth.
"""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc.mempool import mempool_alloc, mempool_free
from fastalloc.kernels.alloc.slab_owner import account
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.block.elevator import dispatch_remove, elv_next_request
from fastalloc.kernels.block.plug import blk_plug_device
from fastalloc.kernels.block.refused import changes_counters_alone, note_refusal
from fastalloc.kernels.block.scsi_command import runner_context, scsi_get_command, scsi_put_command
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.events import log_event, log_event_at
from fastalloc.kernels.lane.metrics import EVENT, METRIC, WHO
from fastalloc.kernels.lane.state import COMMAND, COST, IO, OUT_CTL, POOL, REQUEST, VM
from fastalloc.kernels.lane.tasks import CPU
from fastalloc.linux import gfp as g

STREAM_DISK = 3
LIVELOCK_SHORT_NS = 5 * ms.NS_PER_S
LIVELOCK_LONG_NS = 60 * ms.NS_PER_S
STALL_REPORTED_NS = 1_000_000_000  # shorter pauses of the disk are no event


@folded
def sg_pool(segments):
    """Pool index of an sg table: sgpool-8, -16, -32, -64, -128 [scsi_sgtable_index]."""
    i = 0
    size = 8
    while size < segments:
        size *= 2
        i += 1
    return POOL.sg[i]


@folded
def scsi_prep(mem, heap, pools, io, vm, out, cpu, runner, r):
    """Prepare request ``r``: command, sense buffer, sg table; False defers it [scsi_setup_fs_cmnd, scsi_init_io].

    A prepared request keeps its command; a refused one keeps its place at the head.
    """
    request = io.request[r]
    d = scsi_get_command(mem, heap, pools, io, vm, out, cpu, runner)
    if d < 0:
        if io.ctl[IO.device_busy] == 0:
            out.metric[METRIC.idle_refused] += 1
        return False
    pool = sg_pool(request[REQUEST.nr_bios])
    mem.ctl[MEMCTL.who] = WHO.sg
    gfp = g.GFP_ATOMIC | mem.ctl[MEMCTL.gfp_add[WHO.sg]]
    sg = mempool_alloc(mem, heap, pools, pool, cpu, gfp, runner_context(io, runner), True)
    if sg < 0:
        out.metric[METRIC.sg_fail] += 1
        scsi_put_command(mem, heap, pools, io, vm, cpu, d)
        return False
    account(heap, out, sg, WHO.sg)
    io.command[d, COMMAND.sg] = sg
    io.command[d, COMMAND.sg_pool] = pool
    io.command[d, COMMAND.request] = r
    request[REQUEST.command] = d
    return True


@folded
def start_disk(io, vm):
    """Let the disk work on the head of its list: 1/iops or the transfer time, whichever is longer."""
    d = io.ctl[IO.disk_head]
    pages = io.request[io.command[d, COMMAND.request], REQUEST.nr_bios]
    service = max(io.ctl[IO.command_ns], pages * io.ctl[IO.page_ns])
    vm.ctl[VM.disk_draws] += 1
    jitter = rng.below(
        rng.draw(vm.ctl[VM.seed], STREAM_DISK, vm.ctl[VM.lane], vm.ctl[VM.disk_draws], 0), service // 16 + 1
    )
    io.ctl[IO.disk_done_at] = vm.ctl[VM.now] + service - service // 32 + jitter


@folded
def end_stall(io, vm, out):
    """A command starts: close a livelock and a stall, keeping the longest of each."""
    ctl = vm.ctl
    now = ctl[VM.now]
    if ctl[VM.livelock_since] != ms.NEVER:
        length = (now - ctl[VM.livelock_since]) // ms.NS_PER_MS
        if ctl[VM.livelock_stage] > 0:
            log_event(vm, out, EVENT.livelock_end, -1, -1, length, 0, 0)
            if length > out.metric[METRIC.livelock_ms]:
                out.metric[METRIC.livelock_ms] = length
                out.metric[METRIC.livelock_onset_ms] = ctl[VM.livelock_since] // ms.NS_PER_MS
        ctl[VM.livelock_since] = ms.NEVER
        ctl[VM.livelock_check] = ms.NEVER
        ctl[VM.livelock_stage] = 0
    if ctl[VM.stall_since] != ms.NEVER:
        length = (now - ctl[VM.stall_since]) // ms.NS_PER_MS
        if length > out.metric[METRIC.stall_ms]:
            out.metric[METRIC.stall_ms] = length
            out.metric[METRIC.stall_onset_ms] = ctl[VM.stall_since] // ms.NS_PER_MS
        if now - ctl[VM.stall_since] >= STALL_REPORTED_NS:
            log_event_at(vm, out, ctl[VM.stall_since], EVENT.stall_begin, ctl[VM.writeback], 0, 0)
            log_event(vm, out, EVENT.stall_end, -1, -1, length, 0, 0)
        ctl[VM.stall_since] = now


@folded
def scsi_dispatch_cmd(io, vm, out, cpu, runner, r):
    """Take the request off the queue and hand it to the disk [scsi_dispatch_cmd]."""
    request = io.request[r]
    dispatch_remove(io, r)
    io.ctl[IO.in_flight] += 1
    if io.ctl[IO.device_busy] == 0:
        io.ctl[IO.busy_since] = vm.ctl[VM.now]
    io.ctl[IO.device_busy] += 1
    end_stall(io, vm, out)
    out.metric[METRIC.commands] += 1
    out.metric[METRIC.dispatch[runner]] += 1
    d = request[REQUEST.command]
    io.command[d, COMMAND.next] = -1
    if io.ctl[IO.disk_head] < 0:
        io.ctl[IO.disk_head] = d
        io.ctl[IO.disk_tail] = d
        start_disk(io, vm)
    else:
        io.command[io.ctl[IO.disk_tail], COMMAND.next] = d
        io.ctl[IO.disk_tail] = d
    if out.ctl[OUT_CTL.full] != 0:
        log_event(
            vm, out, EVENT.command_start, cpu, -1, request[REQUEST.nr_bios], io.command[d, COMMAND.source], runner
        )


@folded
def scsi_request_fn(mem, heap, pools, io, vm, out, cpu, jiffies):
    """One round of the dispatch loop: prepare the head request, or hand it to the disk; CPU time in ns.

    The loop ends when the queue is empty or plugged, the device full, or the head refused. A refusal with nothing in
    flight plugs the queue: the unplug timer is then the only thing that will try again. The queue lock is dropped
    around queuecommand, so between two rounds the other CPUs run; the next request is prepared while the one before
    is in flight [scsi_request_fn, scsi_prep_return].
    """
    runner = vm.cpu[cpu, CPU.request_fn] - 1
    r = elv_next_request(io, jiffies) if io.ctl[IO.plugged] == 0 else -1
    if r >= 0:
        if io.request[r, REQUEST.command] < 0:
            repeats = vm.ctl[VM.livelock_since] != ms.NEVER and io.ctl[IO.repeat] == 0
            if repeats:
                repeats = changes_counters_alone(mem, heap, pools, io, vm, out, cpu, runner)
            if scsi_prep(mem, heap, pools, io, vm, out, cpu, runner, r):
                return vm.costs[COST.end_bio]
            if repeats:
                note_refusal(mem, io, vm, out)
            if io.ctl[IO.device_busy] == 0:
                blk_plug_device(io, cpu, jiffies)
                if vm.ctl[VM.livelock_since] == ms.NEVER:
                    vm.ctl[VM.livelock_since] = vm.ctl[VM.now]
                    vm.ctl[VM.livelock_check] = vm.ctl[VM.now] + LIVELOCK_SHORT_NS
                    vm.ctl[VM.livelock_sense] = out.metric[METRIC.sense_fail] - 1
        elif io.ctl[IO.device_busy] < io.ctl[IO.queue_depth]:
            scsi_dispatch_cmd(io, vm, out, cpu, runner, r)
            return vm.costs[COST.dispatch]
    vm.cpu[cpu, CPU.request_fn] = 0
    return vm.costs[COST.end_bio]


@folded
def free_sgtable(mem, heap, pools, io, cpu, d):
    """Give the sg table of a command back to its pool or slab [scsi_free_sgtable]."""
    mempool_free(mem, heap, pools, io.command[d, COMMAND.sg_pool], cpu, io.command[d, COMMAND.sg])
    io.command[d, COMMAND.sg] = -1


@folded
def disk_done(io, vm):
    """The head command is complete: it joins the done list, the disk takes the next."""
    d = io.ctl[IO.disk_head]
    io.ctl[IO.disk_head] = io.command[d, COMMAND.next]
    io.command[d, COMMAND.next] = -1
    if io.ctl[IO.done_head] < 0:
        io.ctl[IO.done_head] = d
    else:
        io.command[io.ctl[IO.done_tail], COMMAND.next] = d
    io.ctl[IO.done_tail] = d
    if io.ctl[IO.disk_head] >= 0:
        start_disk(io, vm)
    else:
        io.ctl[IO.disk_tail] = -1
        io.ctl[IO.disk_done_at] = ms.NEVER

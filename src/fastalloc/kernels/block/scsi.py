"""The SCSI mid-layer: command allocation, dispatch, the disk [drivers/scsi/scsi.c, scsi_lib.c of 2.6.25-rc8].

One host with one device: device_busy and host_busy are the same number, can_queue is folded into the depth.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.adversary import squeeze
from fastalloc.kernels.alloc.mempool import MEMPOOL, mempool_alloc, mempool_free
from fastalloc.kernels.alloc.slab_owner import account, slab_give, slab_take
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import EVENT, METRIC, WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.sched import log_event, log_event_at
from fastalloc.kernels.lane.state import COMMAND, COST, CPU, IO, OUT_CTL, POOL, REQUEST, ROLE, VM
from fastalloc.linux import gfp as g

# who runs the request function
RUN_KBLOCKD = 0
RUN_RECLAIMER = 1
RUN_SOFTIRQ = 2

STREAM_DISK = 3
STREAM_SENSE = 12
MILLION = 1_000_000
LIVELOCK_SHORT_NS = 5 * ms.NS_PER_S
LIVELOCK_LONG_NS = 60 * ms.NS_PER_S
STALL_REPORTED_NS = 1_000_000_000  # shorter pauses of the disk are no event


@folded
def runner_context(io, runner):
    """Task context of whoever runs the request function [iopath: who runs request_fn]."""
    if runner == RUN_RECLAIMER:
        return g.PF_MEMALLOC
    if runner == RUN_SOFTIRQ:
        return g.IN_INTERRUPT
    if io.ctl[POLICY.kblockd_memalloc] != 0:
        return g.PF_MEMALLOC
    return 0


@folded
def sg_pool(segments):
    """Pool index of an sg table: sgpool-8, -16, -32, -64, -128 [scsi_sgtable_index]."""
    pool = POOL.sg
    size = 8
    while size < segments:
        size *= 2
        pool += 1
    return pool


@internal
def charge(mem, who):
    """Charge one object to the reserve of ``who``: whether the reserve answers for it, so that it may ignore the
    watermarks; False where nothing is charged [mem_reserve_kmem_cache_charge of Swap over NFS]."""
    limit = mem.ctl[MEMCTL.charge_limit + who]
    if limit == 0:
        return False
    mem.ctl[MEMCTL.locks] += 1
    if mem.ctl[MEMCTL.charge_usage + who] + 1 >= limit:
        mem.ctl[MEMCTL.charges_refused] += 1
        return False
    mem.ctl[MEMCTL.charge_usage + who] += 1
    return True


@folded
def sense_take(mem, heap, pools, io, vm, out, cpu, gfp, context, runner):
    """A sense buffer from its slab, or from the sense mempool where the policy has one; NO_OBJECT counts as a failure
    of the slab either way."""
    if pools.pool[POOL.sense, MEMPOOL.min] == 0:
        sense = slab_take(mem, heap, out, vm.roles[ROLE.sense], cpu, gfp, context, WHO.sense)
        failed = sense < 0
    else:
        before = pools.pool[POOL.sense, MEMPOOL.from_allocator]
        mem.ctl[MEMCTL.who] = WHO.sense
        gfp |= mem.ctl[MEMCTL.gfp_add + WHO.sense]
        sense = mempool_alloc(mem, heap, pools, POOL.sense, cpu, gfp, context, True)
        failed = pools.pool[POOL.sense, MEMPOOL.from_allocator] == before
        mem.ctl[MEMCTL.locks] += failed
        account(heap, out, sense, WHO.sense)
    if failed:
        out.metric[METRIC.sense_fail] += 1
        if out.ctl[OUT_CTL.full] != 0:
            log_event(vm, out, EVENT.sense_fail, cpu, -1, runner, 0, 0)
    return sense


@folded
def uncharge(mem, charged):
    """Give back what COMMAND.charged says."""
    mem.ctl[MEMCTL.charge_usage + WHO.command] -= charged & 1
    mem.ctl[MEMCTL.charge_usage + WHO.sense] -= charged >> 1
    mem.ctl[MEMCTL.locks] += (charged & 1) + (charged >> 1)


@folded
def sense_give(mem, heap, pools, vm, cpu, sense):
    """A sense buffer goes to its mempool, or to its slab."""
    if pools.pool[POOL.sense, MEMPOOL.min] == 0:
        slab_give(mem, heap, vm.roles[ROLE.sense], cpu, sense)
    else:
        mem.ctl[MEMCTL.tests] += 1  # is the pool full?
        mem.ctl[MEMCTL.locks] += mempool_free(mem, heap, pools, POOL.sense, cpu, sense)


@folded
def scsi_get_command(mem, heap, pools, io, vm, out, cpu, runner):
    """A command record with its sense buffer, or -1 [scsi_get_command, __scsi_get_command].

    rc8: a command without a sense buffer is given up although the free_list holds a whole one. The fix
    (164fc5dc) takes the free_list after either failure, and so does e507e30b. Preallocated commands come from nowhere
    else.
    """
    if vm.ctl[VM.squeeze] >= 0:
        squeeze(mem, heap, vm, out)
    context = runner_context(io, runner)
    sense = st.NO_OBJECT
    command = st.NO_OBJECT
    charged = 0
    if io.ctl[POLICY.command_rule] != ms.RULE_PREALLOC:
        gfp = g.GFP_ATOMIC
        if charge(mem, WHO.command):
            gfp |= g.MEMALLOC
            charged = 1
        command = slab_take(mem, heap, out, vm.roles[ROLE.command], cpu, gfp, context, WHO.command)
        if command < 0:
            out.metric[METRIC.cmd_fail] += 1
        elif io.ctl[POLICY.sense] == ms.SENSE_SEPARATE:
            gfp = g.GFP_ATOMIC
            if charge(mem, WHO.sense):
                gfp |= g.MEMALLOC
                charged |= 2
            sense = sense_take(mem, heap, pools, io, vm, out, cpu, gfp, context, runner)
            if sense < 0:
                slab_give(mem, heap, vm.roles[ROLE.command], cpu, command)
                command = st.NO_OBJECT
                if io.ctl[POLICY.command_rule] == ms.RULE_RC8:
                    uncharge(mem, charged)
                    return -1
    source = 0
    if command < 0:
        uncharge(mem, charged)
        charged = 0
        n = io.ctl[IO.free_list]
        if n == 0:
            out.metric[METRIC.free_list_empty] += 1
            return -1
        n -= 1
        io.ctl[IO.free_list] = n
        command = io.free_list[n, 0]
        sense = io.free_list[n, 1]
        source = 1
        out.metric[METRIC.free_list_used] += 1
        if out.metric[METRIC.free_list_used] <= 100 or out.ctl[OUT_CTL.full] != 0:
            log_event(vm, out, EVENT.free_list_used, cpu, -1, io.ctl[IO.device_busy], 0, 0)
    d = io.ctl[IO.free_command]
    io.ctl[IO.free_command] = io.command[d, COMMAND.next]
    io.command[d, COMMAND.command] = command
    io.command[d, COMMAND.sense] = sense
    io.command[d, COMMAND.sg] = -1
    io.command[d, COMMAND.next] = -1
    io.command[d, COMMAND.source] = source
    io.command[d, COMMAND.charged] = charged
    return d


@folded
def scsi_put_command(mem, heap, pools, io, vm, cpu, d):
    """Return a command: the free_list first, else sense, then command to their slabs [__scsi_put_command]."""
    n = io.ctl[IO.free_list]
    uncharge(mem, io.command[d, COMMAND.charged])
    sense = io.command[d, COMMAND.sense]
    if n < io.ctl[IO.free_list_size]:
        io.free_list[n, 0] = io.command[d, COMMAND.command]
        io.free_list[n, 1] = sense
        io.ctl[IO.free_list] = n + 1
    else:
        if sense >= 0:
            sense_give(mem, heap, pools, vm, cpu, sense)
        slab_give(mem, heap, vm.roles[ROLE.command], cpu, io.command[d, COMMAND.command])
    io.command[d, COMMAND.next] = io.ctl[IO.free_command]
    io.ctl[IO.free_command] = d


@folded
def lazy_sense(mem, heap, pools, io, vm, out, cpu):
    """A command is over; with POLICY.sense_error_ppm it ended with CHECK CONDITION and asks for a sense buffer,
    refused: the host's spare one. The buffer is read at once."""
    u = rng.draw(vm.ctl[VM.seed], STREAM_SENSE, vm.ctl[VM.lane], out.metric[METRIC.commands], vm.ctl[VM.now])
    if rng.below(u, MILLION) >= io.ctl[POLICY.sense_error_ppm]:
        return
    sense = sense_take(mem, heap, pools, io, vm, out, cpu, g.GFP_ATOMIC, g.IN_INTERRUPT, RUN_SOFTIRQ)
    if sense < 0:
        out.metric[METRIC.sense_spare] += 1
    else:
        sense_give(mem, heap, pools, vm, cpu, sense)


@folded
def scsi_prep(mem, heap, pools, io, vm, out, cpu, runner, r):
    """Prepare request ``r``: command, sense buffer, sg table; False defers it [scsi_setup_fs_cmnd, scsi_init_io].

    A prepared request keeps its command; a refused one is STARTED too: no merge, no overtaking.
    """
    request = io.request[r]
    request[REQUEST.started] = 1
    d = scsi_get_command(mem, heap, pools, io, vm, out, cpu, runner)
    if d < 0:
        if io.ctl[IO.device_busy] == 0:
            out.metric[METRIC.idle_refused] += 1
        return False
    pool = sg_pool(request[REQUEST.nr_bios])
    mem.ctl[MEMCTL.who] = WHO.sg
    gfp = g.GFP_ATOMIC | mem.ctl[MEMCTL.gfp_add + WHO.sg]
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
def blk_plug_device(io, cpu, jiffies):
    """Plug the queue and arm the unplug timer on this CPU, unless it is plugged [blk_plug_device]."""
    if io.ctl[IO.plugged] == 0:
        io.ctl[IO.plugged] = 1
        io.ctl[IO.unplug_jiffy] = jiffies + io.ctl[IO.unplug_jiffies]
        io.ctl[IO.unplug_cpu] = cpu


@folded
def blk_remove_plug(io):
    """Unplug and stop the timer; whether it was plugged [blk_remove_plug]."""
    if io.ctl[IO.plugged] == 0:
        return False
    io.ctl[IO.plugged] = 0
    io.ctl[IO.unplug_jiffy] = ms.NEVER
    return True


@folded
def hash_remove(io, r, key):
    """Take a request off one of the merge hashes [elv_rqhash_del, elv_rb_del]."""
    bucket = io.request[r, REQUEST.hashed + key]
    previous = -1
    i = io.hash[key, bucket]
    while i != r:
        previous = i
        i = io.request[i, REQUEST.hash_next + key]
    if previous >= 0:
        io.request[previous, REQUEST.hash_next + key] = io.request[r, REQUEST.hash_next + key]
    else:
        io.hash[key, bucket] = io.request[r, REQUEST.hash_next + key]


@internal
def queue_remove(io, r):
    """Take a request off the queue and out of reach of merging."""
    request = io.request[r]
    following = request[REQUEST.next]
    preceding = request[REQUEST.prev]
    if preceding >= 0:
        io.request[preceding, REQUEST.next] = following
    else:
        io.ctl[IO.head] = following
    if following >= 0:
        io.request[following, REQUEST.prev] = preceding
    else:
        io.ctl[IO.tail] = preceding
    hash_remove(io, r, ms.BY_END)
    hash_remove(io, r, ms.BY_START)


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
    queue_remove(io, r)
    io.ctl[IO.in_flight] += 1
    if io.ctl[IO.device_busy] == 0:
        io.ctl[IO.busy_since] = vm.ctl[VM.now]
    io.ctl[IO.device_busy] += 1
    end_stall(io, vm, out)
    out.metric[METRIC.commands] += 1
    out.metric[METRIC.dispatch_kblockd + runner] += 1
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
def start_request_fn(io, vm, cpu, runner):
    """Unplug the queue and let ``cpu`` run the request function from its next step on; False: it was not plugged."""
    if not blk_remove_plug(io):
        return False
    vm.cpu[cpu, CPU.request_fn] = runner + 1
    return True


@folded
def scsi_request_fn(mem, heap, pools, io, vm, out, cpu, jiffies):
    """One round of the dispatch loop: prepare the head request, or hand it to the disk; CPU time in ns.

    The loop ends when the queue is empty or plugged, the device full, or the head refused. A refusal with nothing in
    flight plugs the queue: the unplug timer is then the only thing that will try again. The queue lock is dropped
    around queuecommand, so between two rounds the other CPUs run; the next request is prepared while the one before
    is in flight [scsi_request_fn, scsi_prep_return].
    """
    runner = vm.cpu[cpu, CPU.request_fn] - 1
    r = io.ctl[IO.head]
    if io.ctl[IO.plugged] == 0 and r >= 0:
        if io.request[r, REQUEST.command] < 0:
            if scsi_prep(mem, heap, pools, io, vm, out, cpu, runner, r):
                return vm.costs[COST.end_bio]
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

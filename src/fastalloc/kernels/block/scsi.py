"""The SCSI mid-layer: command allocation, dispatch, the disk [drivers/scsi/scsi.c, scsi_lib.c of 2.6.25-rc8].

One host with one device: device_busy and host_busy are the same number, can_queue is folded into the depth.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.adversary import squeeze
from fastalloc.kernels.alloc.mempool import MP_FROM_ALLOCATOR, MP_MIN, mempool_alloc, mempool_free
from fastalloc.kernels.alloc.slab_owner import account, slab_give, slab_take
from fastalloc.kernels.lane import metrics, rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import log_event, log_event_at
from fastalloc.linux import gfp as g

SENSE_FAIL = metrics.METRICS.index("sense_fail")
SENSE_SPARE = metrics.METRICS.index("sense_spare")
CMD_FAIL = metrics.METRICS.index("cmd_fail")
SG_FAIL = metrics.METRICS.index("sg_fail")
FREE_LIST_USED = metrics.METRICS.index("free_list_used")
FREE_LIST_EMPTY = metrics.METRICS.index("free_list_empty")
IDLE_REFUSED = metrics.METRICS.index("idle_refused")
COMMANDS = metrics.METRICS.index("commands")
DISPATCH_BY = metrics.METRICS.index("dispatch_kblockd")
STALL_MS = metrics.METRICS.index("stall_ms")
STALL_ONSET_MS = metrics.METRICS.index("stall_onset_ms")
LIVELOCK_MS = metrics.METRICS.index("livelock_ms")
LIVELOCK_ONSET_MS = metrics.METRICS.index("livelock_onset_ms")

E_FREE_LIST_USED = metrics.EVENTS.index("free_list_used")
E_SENSE_FAIL = metrics.EVENTS.index("sense_fail")
E_COMMAND_START = metrics.EVENTS.index("command_start")
E_LIVELOCK_END = metrics.EVENTS.index("livelock_end")
E_STALL_BEGIN = metrics.EVENTS.index("stall_begin")
E_STALL_END = metrics.EVENTS.index("stall_end")

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
    if io.ctl[ms.H_KBLOCKD_MEMALLOC] != 0:
        return g.PF_MEMALLOC
    return 0


@folded
def sg_pool(segments):
    """Pool index of an sg table: sgpool-8, -16, -32, -64, -128 [scsi_sgtable_index]."""
    pool = ms.POOL_SG
    size = 8
    while size < segments:
        size *= 2
        pool += 1
    return pool


@internal
def charge(mem, who):
    """Charge one object to the reserve of ``who``: whether the reserve answers for it, so that it may ignore the
    watermarks; False where nothing is charged [mem_reserve_kmem_cache_charge of Swap over NFS]."""
    limit = mem.ctl[st.M_CHARGE_LIMIT + who]
    if limit == 0:
        return False
    mem.ctl[st.M_LOCKS] += 1
    if mem.ctl[st.M_CHARGE_USAGE + who] + 1 >= limit:
        mem.ctl[st.M_CHARGES_REFUSED] += 1
        return False
    mem.ctl[st.M_CHARGE_USAGE + who] += 1
    return True


@folded
def sense_take(mem, heap, pools, io, vm, out, cpu, gfp, context, runner):
    """A sense buffer from its slab, or from the sense mempool where the policy has one; NO_OBJECT counts as a failure
    of the slab either way."""
    if pools.pool[ms.POOL_SENSE, MP_MIN] == 0:
        sense = slab_take(mem, heap, out, vm.roles[ms.ROLE_SENSE], cpu, gfp, context, metrics.W_SENSE)
        failed = sense < 0
    else:
        before = pools.pool[ms.POOL_SENSE, MP_FROM_ALLOCATOR]
        mem.ctl[st.M_WHO] = metrics.W_SENSE
        gfp |= mem.ctl[st.M_GFP_ADD + metrics.W_SENSE]
        sense = mempool_alloc(mem, heap, pools, ms.POOL_SENSE, cpu, gfp, context, True)
        failed = pools.pool[ms.POOL_SENSE, MP_FROM_ALLOCATOR] == before
        mem.ctl[st.M_LOCKS] += failed
        account(heap, out, sense, metrics.W_SENSE)
    if failed:
        out.metric[SENSE_FAIL] += 1
        if out.ctl[ms.OUT_FULL] != 0:
            log_event(vm, out, E_SENSE_FAIL, cpu, -1, runner, 0, 0)
    return sense


@folded
def uncharge(mem, charged):
    """Give back what D_CHARGED says."""
    mem.ctl[st.M_CHARGE_USAGE + metrics.W_COMMAND] -= charged & 1
    mem.ctl[st.M_CHARGE_USAGE + metrics.W_SENSE] -= charged >> 1
    mem.ctl[st.M_LOCKS] += (charged & 1) + (charged >> 1)


@folded
def sense_give(mem, heap, pools, vm, cpu, sense):
    """A sense buffer goes to its mempool, or to its slab."""
    if pools.pool[ms.POOL_SENSE, MP_MIN] == 0:
        slab_give(mem, heap, vm.roles[ms.ROLE_SENSE], cpu, sense)
    else:
        mem.ctl[st.M_TESTS] += 1  # is the pool full?
        mem.ctl[st.M_LOCKS] += mempool_free(mem, heap, pools, ms.POOL_SENSE, cpu, sense)


@folded
def scsi_get_command(mem, heap, pools, io, vm, out, cpu, runner):
    """A command record with its sense buffer, or -1 [scsi_get_command, __scsi_get_command].

    rc8: a command without a sense buffer is given up although the free_list holds a whole one. The fix
    (164fc5dc) takes the free_list after either failure, and so does e507e30b. Preallocated commands come from nowhere
    else.
    """
    if vm.ctl[ms.V_SQUEEZE] >= 0:
        squeeze(mem, heap, vm, out)
    context = runner_context(io, runner)
    sense = st.NO_OBJECT
    command = st.NO_OBJECT
    charged = 0
    if io.ctl[ms.H_RULE] != ms.RULE_PREALLOC:
        gfp = g.GFP_ATOMIC
        if charge(mem, metrics.W_COMMAND):
            gfp |= g.MEMALLOC
            charged = 1
        command = slab_take(mem, heap, out, vm.roles[ms.ROLE_COMMAND], cpu, gfp, context, metrics.W_COMMAND)
        if command < 0:
            out.metric[CMD_FAIL] += 1
        elif io.ctl[ms.H_SENSE] == ms.SENSE_SEPARATE:
            gfp = g.GFP_ATOMIC
            if charge(mem, metrics.W_SENSE):
                gfp |= g.MEMALLOC
                charged |= 2
            sense = sense_take(mem, heap, pools, io, vm, out, cpu, gfp, context, runner)
            if sense < 0:
                slab_give(mem, heap, vm.roles[ms.ROLE_COMMAND], cpu, command)
                command = st.NO_OBJECT
                if io.ctl[ms.H_RULE] == ms.RULE_RC8:
                    uncharge(mem, charged)
                    return -1
    source = 0
    if command < 0:
        uncharge(mem, charged)
        charged = 0
        n = io.ctl[ms.H_FREE_LIST]
        if n == 0:
            out.metric[FREE_LIST_EMPTY] += 1
            return -1
        n -= 1
        io.ctl[ms.H_FREE_LIST] = n
        command = io.free_list[n, 0]
        sense = io.free_list[n, 1]
        source = 1
        out.metric[FREE_LIST_USED] += 1
        if out.metric[FREE_LIST_USED] <= 100 or out.ctl[ms.OUT_FULL] != 0:
            log_event(vm, out, E_FREE_LIST_USED, cpu, -1, io.ctl[ms.H_BUSY], 0, 0)
    d = io.ctl[ms.H_FREE_COMMAND]
    io.ctl[ms.H_FREE_COMMAND] = io.command[d, ms.D_NEXT]
    io.command[d, ms.D_COMMAND] = command
    io.command[d, ms.D_SENSE] = sense
    io.command[d, ms.D_SG] = -1
    io.command[d, ms.D_NEXT] = -1
    io.command[d, ms.D_SOURCE] = source
    io.command[d, ms.D_CHARGED] = charged
    return d


@folded
def scsi_put_command(mem, heap, pools, io, vm, cpu, d):
    """Return a command: the free_list first, else sense, then command to their slabs [__scsi_put_command]."""
    n = io.ctl[ms.H_FREE_LIST]
    uncharge(mem, io.command[d, ms.D_CHARGED])
    sense = io.command[d, ms.D_SENSE]
    if n < io.ctl[ms.H_FREE_LIST_SIZE]:
        io.free_list[n, 0] = io.command[d, ms.D_COMMAND]
        io.free_list[n, 1] = sense
        io.ctl[ms.H_FREE_LIST] = n + 1
    else:
        if sense >= 0:
            sense_give(mem, heap, pools, vm, cpu, sense)
        slab_give(mem, heap, vm.roles[ms.ROLE_COMMAND], cpu, io.command[d, ms.D_COMMAND])
    io.command[d, ms.D_NEXT] = io.ctl[ms.H_FREE_COMMAND]
    io.ctl[ms.H_FREE_COMMAND] = d


@folded
def lazy_sense(mem, heap, pools, io, vm, out, cpu):
    """A command is over; with H_SENSE_ERRORS in a million it ended with CHECK CONDITION and asks for a sense buffer,
    refused: the host's spare one. The buffer is read at once."""
    u = rng.draw(vm.ctl[ms.V_SEED], STREAM_SENSE, vm.ctl[ms.V_LANE], out.metric[COMMANDS], vm.ctl[ms.V_NOW])
    if rng.below(u, MILLION) >= io.ctl[ms.H_SENSE_ERRORS]:
        return
    sense = sense_take(mem, heap, pools, io, vm, out, cpu, g.GFP_ATOMIC, g.IN_INTERRUPT, RUN_SOFTIRQ)
    if sense < 0:
        out.metric[SENSE_SPARE] += 1
    else:
        sense_give(mem, heap, pools, vm, cpu, sense)


@folded
def scsi_prep(mem, heap, pools, io, vm, out, cpu, runner, r):
    """Prepare request ``r``: command, sense buffer, sg table; False defers it [scsi_setup_fs_cmnd, scsi_init_io].

    A prepared request keeps its command; a refused one is STARTED too: no merge, no overtaking.
    """
    request = io.request[r]
    request[ms.R_STARTED] = 1
    d = scsi_get_command(mem, heap, pools, io, vm, out, cpu, runner)
    if d < 0:
        if io.ctl[ms.H_BUSY] == 0:
            out.metric[IDLE_REFUSED] += 1
        return False
    pool = sg_pool(request[ms.R_NR_BIOS])
    mem.ctl[st.M_WHO] = metrics.W_SG
    gfp = g.GFP_ATOMIC | mem.ctl[st.M_GFP_ADD + metrics.W_SG]
    sg = mempool_alloc(mem, heap, pools, pool, cpu, gfp, runner_context(io, runner), True)
    if sg < 0:
        out.metric[SG_FAIL] += 1
        scsi_put_command(mem, heap, pools, io, vm, cpu, d)
        return False
    account(heap, out, sg, metrics.W_SG)
    io.command[d, ms.D_SG] = sg
    io.command[d, ms.D_SG_POOL] = pool
    io.command[d, ms.D_REQUEST] = r
    request[ms.R_COMMAND] = d
    return True


@folded
def blk_plug_device(io, cpu, jiffies):
    """Plug the queue and arm the unplug timer on this CPU, unless it is plugged [blk_plug_device]."""
    if io.ctl[ms.Q_PLUGGED] == 0:
        io.ctl[ms.Q_PLUGGED] = 1
        io.ctl[ms.Q_UNPLUG_JIFFY] = jiffies + io.ctl[ms.Q_UNPLUG_JIFFIES]
        io.ctl[ms.Q_UNPLUG_CPU] = cpu


@folded
def blk_remove_plug(io):
    """Unplug and stop the timer; whether it was plugged [blk_remove_plug]."""
    if io.ctl[ms.Q_PLUGGED] == 0:
        return False
    io.ctl[ms.Q_PLUGGED] = 0
    io.ctl[ms.Q_UNPLUG_JIFFY] = ms.NEVER
    return True


@folded
def hash_remove(io, r, key):
    """Take a request off one of the merge hashes [elv_rqhash_del, elv_rb_del]."""
    bucket = io.request[r, ms.R_HASHED + key]
    previous = -1
    i = io.hash[key, bucket]
    while i != r:
        previous = i
        i = io.request[i, ms.R_HASH_NEXT + key]
    if previous >= 0:
        io.request[previous, ms.R_HASH_NEXT + key] = io.request[r, ms.R_HASH_NEXT + key]
    else:
        io.hash[key, bucket] = io.request[r, ms.R_HASH_NEXT + key]


@internal
def queue_remove(io, r):
    """Take a request off the queue and out of reach of merging."""
    request = io.request[r]
    following = request[ms.R_NEXT]
    preceding = request[ms.R_PREV]
    if preceding >= 0:
        io.request[preceding, ms.R_NEXT] = following
    else:
        io.ctl[ms.Q_HEAD] = following
    if following >= 0:
        io.request[following, ms.R_PREV] = preceding
    else:
        io.ctl[ms.Q_TAIL] = preceding
    hash_remove(io, r, ms.BY_END)
    hash_remove(io, r, ms.BY_START)


@folded
def start_disk(io, vm):
    """Let the disk work on the head of its list: 1/iops or the transfer time, whichever is longer."""
    d = io.ctl[ms.H_DISK_HEAD]
    pages = io.request[io.command[d, ms.D_REQUEST], ms.R_NR_BIOS]
    service = max(io.ctl[ms.H_COMMAND_NS], pages * io.ctl[ms.H_PAGE_NS])
    vm.ctl[ms.V_DISK_DRAWS] += 1
    jitter = rng.below(
        rng.draw(vm.ctl[ms.V_SEED], STREAM_DISK, vm.ctl[ms.V_LANE], vm.ctl[ms.V_DISK_DRAWS], 0), service // 16 + 1
    )
    io.ctl[ms.H_DISK_DONE_AT] = vm.ctl[ms.V_NOW] + service - service // 32 + jitter


@folded
def end_stall(io, vm, out):
    """A command starts: close a livelock and a stall, keeping the longest of each."""
    ctl = vm.ctl
    now = ctl[ms.V_NOW]
    if ctl[ms.V_LIVELOCK_SINCE] != ms.NEVER:
        length = (now - ctl[ms.V_LIVELOCK_SINCE]) // ms.NS_PER_MS
        if ctl[ms.V_LIVELOCK_STAGE] > 0:
            log_event(vm, out, E_LIVELOCK_END, -1, -1, length, 0, 0)
            if length > out.metric[LIVELOCK_MS]:
                out.metric[LIVELOCK_MS] = length
                out.metric[LIVELOCK_ONSET_MS] = ctl[ms.V_LIVELOCK_SINCE] // ms.NS_PER_MS
        ctl[ms.V_LIVELOCK_SINCE] = ms.NEVER
        ctl[ms.V_LIVELOCK_CHECK] = ms.NEVER
        ctl[ms.V_LIVELOCK_STAGE] = 0
    if ctl[ms.V_STALL_SINCE] != ms.NEVER:
        length = (now - ctl[ms.V_STALL_SINCE]) // ms.NS_PER_MS
        if length > out.metric[STALL_MS]:
            out.metric[STALL_MS] = length
            out.metric[STALL_ONSET_MS] = ctl[ms.V_STALL_SINCE] // ms.NS_PER_MS
        if now - ctl[ms.V_STALL_SINCE] >= STALL_REPORTED_NS:
            log_event_at(vm, out, ctl[ms.V_STALL_SINCE], E_STALL_BEGIN, ctl[ms.V_WRITEBACK], 0, 0)
            log_event(vm, out, E_STALL_END, -1, -1, length, 0, 0)
        ctl[ms.V_STALL_SINCE] = now


@folded
def scsi_dispatch_cmd(io, vm, out, cpu, runner, r):
    """Take the request off the queue and hand it to the disk [scsi_dispatch_cmd]."""
    request = io.request[r]
    queue_remove(io, r)
    io.ctl[ms.Q_IN_FLIGHT] += 1
    if io.ctl[ms.H_BUSY] == 0:
        io.ctl[ms.H_BUSY_SINCE] = vm.ctl[ms.V_NOW]
    io.ctl[ms.H_BUSY] += 1
    end_stall(io, vm, out)
    out.metric[COMMANDS] += 1
    out.metric[DISPATCH_BY + runner] += 1
    d = request[ms.R_COMMAND]
    io.command[d, ms.D_NEXT] = -1
    if io.ctl[ms.H_DISK_HEAD] < 0:
        io.ctl[ms.H_DISK_HEAD] = d
        io.ctl[ms.H_DISK_TAIL] = d
        start_disk(io, vm)
    else:
        io.command[io.ctl[ms.H_DISK_TAIL], ms.D_NEXT] = d
        io.ctl[ms.H_DISK_TAIL] = d
    if out.ctl[ms.OUT_FULL] != 0:
        log_event(vm, out, E_COMMAND_START, cpu, -1, request[ms.R_NR_BIOS], io.command[d, ms.D_SOURCE], runner)


@folded
def start_request_fn(io, vm, cpu, runner):
    """Unplug the queue and let ``cpu`` run the request function from its next step on; False: it was not plugged."""
    if not blk_remove_plug(io):
        return False
    vm.cpu[cpu, ms.CPU_REQUEST_FN] = runner + 1
    return True


@folded
def scsi_request_fn(mem, heap, pools, io, vm, out, cpu, jiffies):
    """One round of the dispatch loop: prepare the head request, or hand it to the disk; CPU time in ns.

    The loop ends when the queue is empty or plugged, the device full, or the head refused. A refusal with nothing in
    flight plugs the queue: the unplug timer is then the only thing that will try again. The queue lock is dropped
    around queuecommand, so between two rounds the other CPUs run; the next request is prepared while the one before
    is in flight [scsi_request_fn, scsi_prep_return].
    """
    runner = vm.cpu[cpu, ms.CPU_REQUEST_FN] - 1
    r = io.ctl[ms.Q_HEAD]
    if io.ctl[ms.Q_PLUGGED] == 0 and r >= 0:
        if io.request[r, ms.R_COMMAND] < 0:
            if scsi_prep(mem, heap, pools, io, vm, out, cpu, runner, r):
                return vm.costs[ms.COST_END_BIO]
            if io.ctl[ms.H_BUSY] == 0:
                blk_plug_device(io, cpu, jiffies)
                if vm.ctl[ms.V_LIVELOCK_SINCE] == ms.NEVER:
                    vm.ctl[ms.V_LIVELOCK_SINCE] = vm.ctl[ms.V_NOW]
                    vm.ctl[ms.V_LIVELOCK_CHECK] = vm.ctl[ms.V_NOW] + LIVELOCK_SHORT_NS
                    vm.ctl[ms.V_LIVELOCK_SENSE] = out.metric[SENSE_FAIL] - 1
        elif io.ctl[ms.H_BUSY] < io.ctl[ms.H_DEPTH]:
            scsi_dispatch_cmd(io, vm, out, cpu, runner, r)
            return vm.costs[ms.COST_DISPATCH]
    vm.cpu[cpu, ms.CPU_REQUEST_FN] = 0
    return vm.costs[ms.COST_END_BIO]


@folded
def free_sgtable(mem, heap, pools, io, cpu, d):
    """Give the sg table of a command back to its pool or slab [scsi_free_sgtable]."""
    mempool_free(mem, heap, pools, io.command[d, ms.D_SG_POOL], cpu, io.command[d, ms.D_SG])
    io.command[d, ms.D_SG] = -1


@folded
def disk_done(io, vm):
    """The head command is complete: it joins the done list, the disk takes the next."""
    d = io.ctl[ms.H_DISK_HEAD]
    io.ctl[ms.H_DISK_HEAD] = io.command[d, ms.D_NEXT]
    io.command[d, ms.D_NEXT] = -1
    if io.ctl[ms.H_DONE_HEAD] < 0:
        io.ctl[ms.H_DONE_HEAD] = d
    else:
        io.command[io.ctl[ms.H_DONE_TAIL], ms.D_NEXT] = d
    io.ctl[ms.H_DONE_TAIL] = d
    if io.ctl[ms.H_DISK_HEAD] >= 0:
        start_disk(io, vm)
    else:
        io.ctl[ms.H_DISK_TAIL] = -1
        io.ctl[ms.H_DISK_DONE_AT] = ms.NEVER

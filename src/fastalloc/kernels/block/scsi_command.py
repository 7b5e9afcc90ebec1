"""SCSI commands and their sense buffers: where they come from and where they go back to [drivers/scsi/scsi.c]."""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.adversary import take_everything
from fastalloc.kernels.alloc.mempool import MEMPOOL, mempool_alloc, mempool_free
from fastalloc.kernels.alloc.slab_owner import account, slab_give, slab_take
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.block.plug import RUN_RECLAIMER, RUN_SOFTIRQ
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.events import log_event
from fastalloc.kernels.lane.metrics import EVENT, METRIC, WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import COMMAND, FREE_LIST, IO, OUT_CTL, POOL, ROLE, VM
from fastalloc.linux import gfp as g

STREAM_SENSE = 12
MILLION = 1_000_000


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


@internal
def charge(mem, who):
    """Charge one object to the reserve of ``who``: whether the reserve answers for it, so that it may ignore the
    watermarks; False where nothing is charged [mem_reserve_kmem_cache_charge of Swap over NFS]."""
    limit = mem.ctl[MEMCTL.charge_limit[who]]
    if limit == 0:
        return False
    mem.ctl[MEMCTL.locks] += 1
    if mem.ctl[MEMCTL.charge_usage[who]] + 1 >= limit:
        mem.ctl[MEMCTL.charges_refused] += 1
        return False
    mem.ctl[MEMCTL.charge_usage[who]] += 1
    return True


@folded
def sense_take(mem, heap, pools, io, vm, out, cpu, gfp, context, runner):
    """A sense buffer from its slab, or from the sense mempool where the policy has one; NO_OBJECT counts as a failure
    of the slab either way.

    More than nine arguments: the groups of state that it changes, each an address, and what is asked for.
    """
    if pools.pool[POOL.sense, MEMPOOL.min] == 0:
        sense = slab_take(mem, heap, out, vm.roles[ROLE.sense], cpu, gfp, context, WHO.sense)
        failed = sense < 0
    else:
        before = pools.pool[POOL.sense, MEMPOOL.from_allocator]
        mem.ctl[MEMCTL.who] = WHO.sense
        gfp |= mem.ctl[MEMCTL.gfp_add[WHO.sense]]
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
    mem.ctl[MEMCTL.charge_usage[WHO.command]] -= charged & 1
    mem.ctl[MEMCTL.charge_usage[WHO.sense]] -= charged >> 1
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
    if vm.ctl[VM.adversary] >= 0:
        take_everything(mem, heap, vm, out)
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
        command = io.free_list[n, FREE_LIST.command]
        sense = io.free_list[n, FREE_LIST.sense]
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
        io.free_list[n, FREE_LIST.command] = io.command[d, COMMAND.command]
        io.free_list[n, FREE_LIST.sense] = sense
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

"""bios of the swap path and what their end sets free [fs/bio.c, mm/page_io.c of 2.6.25]."""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL, longest_sleep, mempool_alloc, mempool_free
from fastalloc.kernels.alloc.slab_owner import account_granted
from fastalloc.kernels.alloc.state import MEMCTL, PAGE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.events import log_event
from fastalloc.kernels.lane.metrics import EVENT, METRIC
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.sched import reclaimers_asleep, sleep_on, wake_pool, wake_task
from fastalloc.kernels.lane.state import BIO, IO, OUT_CTL, POOL, VM
from fastalloc.kernels.lane.tasks import TASK, TASK_STATE
from fastalloc.kernels.swap.lru import rotate_reclaimable_page
from fastalloc.linux import gfp as g


@internal
def mempool_take(mem, heap, pools, vm, out, p, who, t, cpu, jiffies):
    """One round of mempool_alloc(GFP_NOIO) by a reclaimer; NO_OBJECT: it now sleeps, 5 s at most.

    More than nine arguments: the groups of state that it changes, each an address, and what is asked for.
    """
    first = vm.task[t, TASK.first] != 0
    from_allocator = pools.pool[p, MEMPOOL.from_allocator]
    mem.ctl[MEMCTL.who] = who
    gfp = g.GFP_NOIO | mem.ctl[MEMCTL.gfp_add[who]]
    handle = mempool_alloc(mem, heap, pools, p, cpu, gfp, vm.task[t, TASK.flags], first)
    if pools.pool[p, MEMPOOL.from_allocator] == from_allocator:
        if p == POOL.bio and first:
            out.metric[METRIC.bio_fast_fail] += 1
    else:
        account_granted(mem, out, handle, who)
    # a task that asks for the first time may have woken by the timer of some other sleep
    timed_out = vm.task[t, TASK.timed_out] if vm.task[t, TASK.first] == 0 else 0
    vm.task[t, TASK.first] = 0
    if handle < 0:
        if p == POOL.bio:
            out.metric[METRIC.bio_waits] += 1
            if out.ctl[OUT_CTL.full] != 0:
                log_event(vm, out, EVENT.bio_wait, cpu, t, timed_out, pools.pool[p, MEMPOOL.curr], 0)
        longest = longest_sleep(mem, pools, p, cpu, gfp, vm.ctl[VM.mempool_jiffies])
        sleep_on(vm, cpu, TASK_STATE.pool[p], longest, vm.ctl[POLICY.mempool_wake_one] != 0, jiffies)
        if reclaimers_asleep(vm):
            out.metric[METRIC.reclaimers_stuck] += 1
    return handle


@folded
def bio_record(io, vm, t, handle):
    """Open a bio record for the page that task ``t`` writes; without ``handle`` it is on its stack."""
    b = io.ctl[IO.free_bio]
    if b >= 0:
        io.ctl[IO.free_bio] = io.bio[b, BIO.next]
    else:
        b = io.ctl[IO.bio_top]
        io.ctl[IO.bio_top] += 1
    io.ctl[IO.bios] += 1
    io.bio[b, BIO.handle] = handle
    io.bio[b, BIO.vec] = -1
    io.bio[b, BIO.page] = vm.task[t, TASK.page]
    io.bio[b, BIO.next] = -1
    io.bio[b, BIO.task] = t if handle < 0 else -1
    vm.task[t, TASK.bio] = b


@folded
def end_swap_bio_write(mem, heap, pools, io, vm, cpu, b, now):
    """A bio ends: writeback cleared, the page rotated, biovec then bio freed, pool waiters woken as a herd."""
    pfn = io.bio[b, BIO.page]
    vm.ctl[VM.writeback] -= 1
    if vm.ctl[VM.writeback] == 0:
        vm.ctl[VM.stall_since] = ms.NEVER
    mem.page[pfn, PAGE.flags] &= ~st.PG_WRITEBACK
    rotate_reclaimable_page(mem, pfn)
    woken = 0
    vec = io.bio[b, BIO.vec]
    if vec >= 0 and mempool_free(mem, heap, pools, POOL.biovec, cpu, vec):
        woken += wake_pool(vm, TASK_STATE.biovec_pool, now)
    if io.bio[b, BIO.task] >= 0:
        wake_task(vm, io.bio[b, BIO.task], now)
        woken += 1
    elif mempool_free(mem, heap, pools, POOL.bio, cpu, io.bio[b, BIO.handle]):
        woken += wake_pool(vm, TASK_STATE.bio_pool, now)
    io.bio[b, BIO.next] = io.ctl[IO.free_bio]
    io.ctl[IO.free_bio] = b
    io.ctl[IO.bios] -= 1
    return woken

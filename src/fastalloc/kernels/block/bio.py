"""bios of the swap path and what their end sets free [fs/bio.c, mm/page_io.c of 2.6.25]."""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MP_CURR, MP_FROM_ALLOCATOR, mempool_alloc, mempool_free
from fastalloc.kernels.alloc.slab_owner import account
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import log_event, reclaimers_asleep, sleep_on, wake_pool, wake_task
from fastalloc.kernels.swap.lru import rotate_reclaimable_page
from fastalloc.linux import gfp as g

BIO_FAST_FAIL = metrics.METRICS.index("bio_fast_fail")
BIO_WAITS = metrics.METRICS.index("bio_waits")
RECLAIMERS_STUCK = metrics.METRICS.index("reclaimers_stuck")
E_BIO_WAIT = metrics.EVENTS.index("bio_wait")


@internal
def mempool_take(mem, heap, pools, vm, out, p, who, t, cpu, jiffies):
    """One round of mempool_alloc(GFP_NOIO) by a reclaimer; NO_OBJECT: it now sleeps, 5 s at most."""
    first = vm.task[t, ms.T_FIRST] != 0
    from_allocator = pools.pool[p, MP_FROM_ALLOCATOR]
    mem.ctl[st.M_WHO] = who
    gfp = g.GFP_NOIO | mem.ctl[st.M_GFP_ADD + who]
    handle = mempool_alloc(mem, heap, pools, p, cpu, gfp, vm.task[t, ms.T_FLAGS], first)
    if pools.pool[p, MP_FROM_ALLOCATOR] == from_allocator:
        if p == ms.POOL_BIO and first:
            out.metric[BIO_FAST_FAIL] += 1
    else:
        account(heap, out, handle, who)
    # a task that asks for the first time may have woken by the timer of some other sleep
    timed_out = vm.task[t, ms.T_TIMED_OUT] if vm.task[t, ms.T_FIRST] == 0 else 0
    vm.task[t, ms.T_FIRST] = 0
    if handle < 0:
        if p == ms.POOL_BIO:
            out.metric[BIO_WAITS] += 1
            if out.ctl[ms.OUT_FULL] != 0:
                log_event(vm, out, E_BIO_WAIT, cpu, t, timed_out, pools.pool[p, MP_CURR], 0)
        sleep_on(
            vm, cpu, ms.SLEEP_BIO_POOL + p, vm.ctl[ms.V_MEMPOOL_JIFFIES], vm.ctl[ms.V_MEMPOOL_WAKE_ONE] != 0, jiffies
        )
        if reclaimers_asleep(vm):
            out.metric[RECLAIMERS_STUCK] += 1
    return handle


@folded
def bio_record(io, vm, t, handle):
    """Open a bio record for the page that task ``t`` writes; without ``handle`` it is on its stack."""
    b = io.ctl[ms.Q_FREE_BIO]
    if b >= 0:
        io.ctl[ms.Q_FREE_BIO] = io.bio[b, ms.B_NEXT]
    else:
        b = io.ctl[ms.Q_BIO_TOP]
        io.ctl[ms.Q_BIO_TOP] += 1
    io.ctl[ms.H_BIOS] += 1
    io.bio[b, ms.B_HANDLE] = handle
    io.bio[b, ms.B_VEC] = -1
    io.bio[b, ms.B_PAGE] = vm.task[t, ms.T_PAGE]
    io.bio[b, ms.B_NEXT] = -1
    io.bio[b, ms.B_TASK] = t if handle < 0 else -1
    vm.task[t, ms.T_BIO] = b


@folded
def end_swap_bio_write(mem, heap, pools, io, vm, cpu, b, now):
    """A bio ends: writeback cleared, the page rotated, biovec then bio freed, pool waiters woken as a herd."""
    pfn = io.bio[b, ms.B_PAGE]
    vm.ctl[ms.V_WRITEBACK] -= 1
    if vm.ctl[ms.V_WRITEBACK] == 0:
        vm.ctl[ms.V_STALL_SINCE] = ms.NEVER
    mem.page[pfn, st.P_FLAGS] &= ~st.PG_WRITEBACK
    rotate_reclaimable_page(mem, pfn)
    woken = 0
    vec = io.bio[b, ms.B_VEC]
    if vec >= 0 and mempool_free(mem, heap, pools, ms.POOL_BIOVEC, cpu, vec):
        woken += wake_pool(vm, ms.SLEEP_BIOVEC_POOL, now)
    if io.bio[b, ms.B_TASK] >= 0:
        wake_task(vm, io.bio[b, ms.B_TASK], now)
        woken += 1
    elif mempool_free(mem, heap, pools, ms.POOL_BIO, cpu, io.bio[b, ms.B_HANDLE]):
        woken += wake_pool(vm, ms.SLEEP_BIO_POOL, now)
    io.bio[b, ms.B_NEXT] = io.ctl[ms.Q_FREE_BIO]
    io.ctl[ms.Q_FREE_BIO] = b
    io.ctl[ms.H_BIOS] -= 1
    return woken

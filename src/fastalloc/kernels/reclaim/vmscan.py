"""Reclaim: kswapd, direct reclaim, the two LRU passes of a tmpfs page [mm/vmscan.c, mm/shmem.c of 2.6.25].

A reclaimer can sleep in the middle of everything, so its place is data: ``T_RECLAIM`` says where it resumes and
:func:`reclaim_step` does one step and returns the CPU time it took, in ns.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import free_pages, zone_watermark_ok
from fastalloc.kernels.block.bio import bio_record, mempool_take
from fastalloc.kernels.block.block import (
    add_request,
    elv_merge,
    get_request,
    ioc_set_batching,
)
from fastalloc.kernels.block.scsi import RUN_RECLAIMER, start_request_fn
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import log_event, sleep_on
from fastalloc.kernels.swap.lru import leave_mapping, leave_swap_cache, look_ahead, lru_add, lru_del
from fastalloc.kernels.swap.swapfile import add_to_swap_cache, get_swap_page, swap_free
from fastalloc.linux import gfp as g

ALLOCSTALL = metrics.METRICS.index("allocstall")
KSWAPD_WAKES = metrics.METRICS.index("kswapd_wakes")
PAGES_SCANNED = metrics.METRICS.index("pages_scanned")
PAGES_RECLAIMED = metrics.METRICS.index("pages_reclaimed")
PAGES_SWAPPED_OUT = metrics.METRICS.index("pages_swapped_out")
BIO_MERGES = metrics.METRICS.index("bio_merges")
BIOS = metrics.METRICS.index("bios")
REQUEST_WAITS = metrics.METRICS.index("request_waits")
MAX_WRITEBACK = metrics.METRICS.index("max_writeback")
WRITES_PUT_OFF = metrics.METRICS.index("writes_put_off")
E_RECLAIM_BEGIN = metrics.EVENTS.index("reclaim_begin")
E_RECLAIM_END = metrics.EVENTS.index("reclaim_end")
E_KSWAPD_WAKE = metrics.EVENTS.index("kswapd_wake")
E_CONGESTION_WAIT = metrics.EVENTS.index("congestion_wait")
E_REQUEST_WAIT = metrics.EVENTS.index("request_wait")

SWAP_CLUSTER_MAX = 32
DEF_PRIORITY = 12
PAGEVEC_SIZE = 14
TMPFS_TO_SWAP = g.GFP_ATOMIC
ANON_TO_SWAP = g.GFP_ATOMIC | g.NOMEMALLOC | g.NOWARN


@internal
def congestion_wait(mem, vm, out, t, cpu, hz_fraction, jiffies):
    """Sleep HZ/``hz_fraction`` jiffies, less if a queue leaves congestion [congestion_wait]."""
    if out.ctl[ms.OUT_FULL] != 0:
        log_event(vm, out, E_CONGESTION_WAIT, cpu, t, 1000 // hz_fraction, 0, 0)
    sleep_on(vm, cpu, ms.SLEEP_CONGESTION, max(1, mem.ctl[st.M_HZ] // hz_fraction), False, jiffies)


@folded
def begin_reclaim(vm, out, t, cpu):
    """Enter direct reclaim: PF_MEMALLOC until it ends [try_to_free_pages]."""
    task = vm.task[t]
    task[ms.T_FLAGS] = g.PF_MEMALLOC
    task[ms.T_PRIORITY] = DEF_PRIORITY
    task[ms.T_RECLAIMED] = 0
    task[ms.T_SCANNED] = 0
    task[ms.T_RECLAIM] = ms.R_PRIORITY
    vm.ctl[ms.V_RECLAIMERS] += 1
    out.metric[ALLOCSTALL] += 1
    if out.ctl[ms.OUT_FULL] != 0:
        log_event(vm, out, E_RECLAIM_BEGIN, cpu, t, task[ms.T_PRIORITY], 0, 0)


@folded
def end_reclaim(vm, out, t, cpu, progress):
    """Leave direct reclaim with its return value."""
    task = vm.task[t]
    task[ms.T_FLAGS] = 0
    task[ms.T_RECLAIM] = ms.OUT
    task[ms.T_PROGRESS] = progress
    task[ms.T_ATTEMPT] = ms.ATTEMPT_RECLAIMED
    vm.ctl[ms.V_RECLAIMERS] -= 1
    if out.ctl[ms.OUT_FULL] != 0:
        log_event(vm, out, E_RECLAIM_END, cpu, t, task[ms.T_RECLAIMED], 0, 0)


# --------------------------------------------------------------------------------------------- lists of a reclaimer


@folded
def keep_page(mem, vm, t, pfn):
    """Set a page aside, in order, to be put back on the LRU when the batch is over."""
    task = vm.task[t]
    mem.page[pfn, st.P_NEXT] = -1
    if task[ms.T_KEEP] < 0:
        task[ms.T_KEEP] = pfn
    else:
        mem.page[task[ms.T_KEEP_TAIL], st.P_NEXT] = pfn
    task[ms.T_KEEP_TAIL] = pfn


@folded
def release_pagevec(mem, vm, t, cpu):
    """Free the reclaimed pages gathered so far [__pagevec_release_nonlru]."""
    pfn = vm.task[t, ms.T_PVEC]
    while pfn >= 0:
        following = mem.page[pfn, st.P_NEXT]
        free_pages(mem, cpu, pfn, 0)
        pfn = following
    vm.task[t, ms.T_PVEC] = -1
    vm.task[t, ms.T_PVEC_COUNT] = 0


@folded
def reclaim_page(mem, vm, out, t, cpu, pfn):
    """A page is free at last: into the pagevec, which is released when it holds 14."""
    task = vm.task[t]
    mem.page[pfn, st.P_NEXT] = task[ms.T_PVEC]
    task[ms.T_PVEC] = pfn
    task[ms.T_PVEC_COUNT] += 1
    task[ms.T_RECLAIMED] += 1
    out.metric[PAGES_RECLAIMED] += 1
    if task[ms.T_PVEC_COUNT] == PAGEVEC_SIZE:
        release_pagevec(mem, vm, t, cpu)


@folded
def isolate_lru_pages(mem, vm, t, z, count):
    """Take up to ``count`` pages off the inactive tail into the task's private list [isolate_lru_pages]."""
    taken = 0
    last = -1
    while taken < count:
        pfn = mem.zone[z, st.Z_INACTIVE_TAIL]
        if pfn < 0:
            break
        lru_del(mem, pfn)
        mem.page[pfn, st.P_FLAGS] |= st.PG_ISOLATED
        mem.page[pfn, st.P_NEXT] = -1
        if last >= 0:
            mem.page[last, st.P_NEXT] = pfn
        else:
            vm.task[t, ms.T_LIST] = pfn
        last = pfn
        taken += 1
    mem.zone[z, st.Z_PAGES_SCANNED] += taken
    vm.ctl[ms.V_LRU_AHEAD] = mem.zone[z, st.Z_INACTIVE_TAIL]
    return taken


@folded
def putback_lru_pages(mem, vm, t, cpu):
    """End of a batch: survivors go back to the head of their list, the pagevec is released."""
    pfn = vm.task[t, ms.T_KEEP]
    while pfn >= 0:
        following = mem.page[pfn, st.P_NEXT]
        mem.page[pfn, st.P_FLAGS] &= ~st.PG_ISOLATED
        lru_add(mem, pfn, (mem.page[pfn, st.P_FLAGS] & st.PG_ACTIVE) != 0)
        pfn = following
    vm.task[t, ms.T_KEEP] = -1
    release_pagevec(mem, vm, t, cpu)


@folded
def shrink_active_list(mem, vm, z, count, priority):
    """Move up to ``count`` pages from the active tail to the inactive list; how many were looked at.

    A mapped page stays while it is referenced, or while swappiness does not ask for mapped pages.
    """
    distress = 100 >> priority
    total = 0
    for i in range(mem.ctl[st.M_NR_ZONES]):
        total += mem.zone[i, st.Z_PRESENT]
    mapped_ratio = vm.ctl[ms.V_ANON_MAPPED] * 100 // total
    reclaim_mapped = mapped_ratio // 2 + distress + vm.ctl[ms.V_SWAPPINESS] >= 100
    done = 0
    while done < count:
        pfn = mem.zone[z, st.Z_ACTIVE_TAIL]
        if pfn < 0:
            break
        lru_del(mem, pfn)
        flags = mem.page[pfn, st.P_FLAGS]
        stays = False
        if (flags & st.PG_MAPPED) != 0:
            stays = not reclaim_mapped or (flags & st.PG_REFERENCED) != 0
            if reclaim_mapped:
                mem.page[pfn, st.P_FLAGS] = flags & ~st.PG_REFERENCED
        lru_add(mem, pfn, stays)
        done += 1
    mem.zone[z, st.Z_PAGES_SCANNED] += done
    return done


# ----------------------------------------------------------------------------------------------- shrink_page_list


@folded
def shmem_writepage(mem, heap, vm, out, t, cpu, pfn):
    """LRU pass 1 of a tmpfs page: into the swap cache, no I/O; False: no slot or no radix node [shmem_writepage]."""
    slot = get_swap_page(vm)
    if slot < 0:
        return False
    if not add_to_swap_cache(mem, heap, vm, out, cpu, slot, TMPFS_TO_SWAP, vm.task[t, ms.T_FLAGS]):
        swap_free(vm, slot)
        return False
    leave_mapping(mem, heap, vm, cpu, pfn)
    mem.page[pfn, st.P_FILE] = -1
    mem.page[pfn, st.P_SLOT] = slot
    mem.page[pfn, st.P_FLAGS] |= st.PG_SWAPCACHE
    return True


@folded
def add_to_swap(mem, heap, vm, out, t, cpu, pfn):
    """An anonymous page gets its slot and is unmapped; False: no slot or no radix node [add_to_swap]."""
    slot = get_swap_page(vm)
    if slot < 0:
        return False
    if not add_to_swap_cache(mem, heap, vm, out, cpu, slot, ANON_TO_SWAP, vm.task[t, ms.T_FLAGS]):
        swap_free(vm, slot)
        return False
    vm.ctl[ms.V_ANON_MAPPED] -= 1
    mem.page[pfn, st.P_SLOT] = slot
    mem.page[pfn, st.P_FLAGS] = (mem.page[pfn, st.P_FLAGS] | st.PG_SWAPCACHE | st.PG_DIRTY) & ~st.PG_MAPPED
    return True


@folded
def shrink_page(mem, heap, vm, out, t, cpu):
    """Deal with the next page of the private list [shrink_page_list]; its CPU time in ns.

    A dirty swap-cache page leaves the task at R_BIO_ALLOC, locked; everything else is settled here.
    """
    look_ahead(mem, vm)
    task = vm.task[t]
    pfn = task[ms.T_LIST]
    task[ms.T_LIST] = mem.page[pfn, st.P_NEXT]
    flags = mem.page[pfn, st.P_FLAGS]
    task[ms.T_SCANNED] += 1 + (1 if (flags & (st.PG_SWAPCACHE | st.PG_MAPPED)) != 0 else 0)
    out.metric[PAGES_SCANNED] += 1
    scan = vm.costs[ms.COST_SCAN_PAGE]
    if (flags & st.PG_WRITEBACK) != 0:
        keep_page(mem, vm, t, pfn)
        return scan
    if (flags & st.PG_ORPHAN) != 0:
        if (flags & st.PG_SWAPCACHE) != 0:
            leave_swap_cache(mem, heap, vm, cpu, pfn)
        reclaim_page(mem, vm, out, t, cpu, pfn)
        return scan + vm.costs[ms.COST_RECLAIM_PAGE]
    referenced = (flags & st.PG_REFERENCED) != 0
    flags &= ~st.PG_REFERENCED
    mem.page[pfn, st.P_FLAGS] = flags
    if referenced and (flags & (st.PG_MAPPED | st.PG_SWAPCACHE)) != 0:
        mem.page[pfn, st.P_FLAGS] = flags | st.PG_ACTIVE
        keep_page(mem, vm, t, pfn)
        return scan
    if (flags & st.PG_ANON) != 0 and (flags & st.PG_SWAPCACHE) == 0:
        if not add_to_swap(mem, heap, vm, out, t, cpu, pfn):
            mem.page[pfn, st.P_FLAGS] |= st.PG_ACTIVE
            keep_page(mem, vm, t, pfn)
            return scan
        flags = mem.page[pfn, st.P_FLAGS]
    if (flags & st.PG_DIRTY) != 0:
        if referenced:
            keep_page(mem, vm, t, pfn)
            return scan
        if (flags & st.PG_SWAPCACHE) == 0:
            if not shmem_writepage(mem, heap, vm, out, t, cpu, pfn):
                mem.page[pfn, st.P_FLAGS] |= st.PG_ACTIVE
            keep_page(mem, vm, t, pfn)
            return scan + vm.costs[ms.COST_SWAP_PAGE]
        mem.page[pfn, st.P_FLAGS] = (flags | st.PG_RECLAIM | st.PG_LOCKED) & ~st.PG_DIRTY
        task[ms.T_PAGE] = pfn
        task[ms.T_FIRST] = 1
        task[ms.T_RECLAIM] = ms.R_BIO_ALLOC
        return scan + vm.costs[ms.COST_SWAP_PAGE]
    leave_swap_cache(mem, heap, vm, cpu, pfn)
    reclaim_page(mem, vm, out, t, cpu, pfn)
    return scan + vm.costs[ms.COST_RECLAIM_PAGE]


# ------------------------------------------------------------------------------------------------- swap_writepage


@internal
def put_off(mem, vm, out, t):
    """Whether the page stays dirty for now: no zone is above the mark of the gate, and the task has not yet looked
    V_PUT_OFF_MOST pages further since its last write [Christoph Lameter: more reclaim in swap_writepage]."""
    mem.ctl[st.M_TESTS] += 1
    task = vm.task[t]
    above = False
    zones = mem.ctl[st.M_NR_ZONES]
    for z in range(zones):
        mark = mem.zone[z, vm.ctl[ms.V_WRITE_GATE]]
        above = above or zone_watermark_ok(mem, z, 0, mark, zones - 1, False, False)
    if above or task[ms.T_PUT_OFF] >= vm.ctl[ms.V_PUT_OFF_MOST]:
        task[ms.T_PUT_OFF] = 0
        return False
    task[ms.T_PUT_OFF] += 1
    out.metric[WRITES_PUT_OFF] += 1
    pfn = task[ms.T_PAGE]
    mem.page[pfn, st.P_FLAGS] = (mem.page[pfn, st.P_FLAGS] | st.PG_DIRTY) & ~(st.PG_RECLAIM | st.PG_LOCKED)
    keep_page(mem, vm, t, pfn)
    task[ms.T_PAGE] = -1
    task[ms.T_RECLAIM] = ms.R_PAGE_LIST
    return True


@internal
def submitted(io, vm, t, cpu, jiffies):
    """The write is on its way: on to the next page, or with a bio on the stack to sleep until it ends."""
    vm.task[t, ms.T_RECLAIM] = ms.R_PAGE_LIST
    if vm.ctl[ms.V_ON_STACK_BIO] != 0:
        vm.task[t, ms.T_RECLAIM] = ms.R_WRITTEN
        start_request_fn(io, vm, cpu, RUN_RECLAIMER)  # who waits for a page unplugs [sync_page]
        sleep_on(vm, cpu, ms.SLEEP_BIO_END, -1, False, jiffies)


@folded
def written(mem, vm, t):
    """A page written while the task waited is looked at again, and may go at once [shrink_page_list, PAGE_SUCCESS]."""
    task = vm.task[t]
    mem.page[task[ms.T_PAGE], st.P_NEXT] = task[ms.T_LIST]
    task[ms.T_LIST] = task[ms.T_PAGE]
    task[ms.T_PAGE] = -1
    task[ms.T_RECLAIM] = ms.R_PAGE_LIST


@folded
def write_step(mem, heap, pools, io, vm, out, t, cpu, jiffies):
    """LRU pass 2: bio, biovec, merge or request, submission; CPU time in ns [swap_writepage, __make_request]."""
    task = vm.task[t]
    step = task[ms.T_RECLAIM]
    wake = vm.costs[ms.COST_WAKE]
    if step == ms.R_BIO_ALLOC:
        if vm.ctl[ms.V_SWAP_BIO_LIMIT] != ms.NEVER:
            mem.ctl[st.M_TESTS] += 1
            if io.ctl[ms.H_BIOS] >= vm.ctl[ms.V_SWAP_BIO_LIMIT]:
                congestion_wait(mem, vm, out, t, cpu, 50, jiffies)
                return wake
        if vm.ctl[ms.V_WRITE_GATE] >= 0 and put_off(mem, vm, out, t):
            return vm.costs[ms.COST_SCAN_PAGE]
        handle = st.NO_OBJECT
        if vm.ctl[ms.V_ON_STACK_BIO] == 0:
            handle = mempool_take(mem, heap, pools, vm, out, ms.POOL_BIO, metrics.W_BIO, t, cpu, jiffies)
            if handle < 0:
                return wake
        bio_record(io, vm, t, handle)
        task[ms.T_FIRST] = 1
        task[ms.T_RECLAIM] = ms.R_BIOVEC_ALLOC
        step = ms.R_BIOVEC_ALLOC
    if step == ms.R_BIOVEC_ALLOC:
        handle = st.NO_OBJECT
        if vm.ctl[ms.V_BIO_INLINE_VECS] == 0 and vm.ctl[ms.V_ON_STACK_BIO] == 0:
            handle = mempool_take(mem, heap, pools, vm, out, ms.POOL_BIOVEC, metrics.W_BIOVEC, t, cpu, jiffies)
            if handle < 0:
                return wake
        b = task[ms.T_BIO]
        pfn = task[ms.T_PAGE]
        io.bio[b, ms.B_VEC] = handle
        io.bio[b, ms.B_SLOT] = mem.page[pfn, st.P_SLOT]
        mem.page[pfn, st.P_FLAGS] = (mem.page[pfn, st.P_FLAGS] | st.PG_WRITEBACK) & ~st.PG_LOCKED
        if vm.ctl[ms.V_ON_STACK_BIO] == 0:
            keep_page(mem, vm, t, pfn)
            task[ms.T_PAGE] = -1
        if vm.ctl[ms.V_WRITEBACK] == 0:
            vm.ctl[ms.V_STALL_SINCE] = vm.ctl[ms.V_NOW]
        vm.ctl[ms.V_WRITEBACK] += 1
        if vm.ctl[ms.V_WRITEBACK] > out.metric[MAX_WRITEBACK]:
            out.metric[MAX_WRITEBACK] = vm.ctl[ms.V_WRITEBACK]
        out.metric[PAGES_SWAPPED_OUT] += 1
        out.metric[BIOS] += 1
        if elv_merge(mem, heap, pools, io, vm, cpu, b, vm.ctl[ms.V_NOW]):
            out.metric[BIO_MERGES] += 1
            submitted(io, vm, t, cpu, jiffies)
            return vm.costs[ms.COST_SUBMIT_BIO]
        step = ms.R_GET_REQUEST
    if step == ms.R_REQUEST_WOKEN:
        ioc_set_batching(io, vm, t, jiffies)
        step = ms.R_GET_REQUEST
    if step == ms.R_GET_REQUEST:
        if not get_request(io, vm, t, jiffies):
            start_request_fn(io, vm, cpu, RUN_RECLAIMER)
            task[ms.T_RECLAIM] = ms.R_REQUEST_WOKEN
            out.metric[REQUEST_WAITS] += 1
            if out.ctl[ms.OUT_FULL] != 0:
                log_event(vm, out, E_REQUEST_WAIT, cpu, t, io.ctl[ms.Q_COUNT], 0, 0)
            sleep_on(vm, cpu, ms.SLEEP_REQUEST, -1, True, jiffies)
            return wake
        task[ms.T_FIRST] = 1
        task[ms.T_RECLAIM] = ms.R_REQUEST_ALLOC
    handle = mempool_take(mem, heap, pools, vm, out, ms.POOL_REQUEST, metrics.W_REQUEST, t, cpu, jiffies)
    if handle < 0:
        return wake
    add_request(io, vm, out, cpu, task[ms.T_BIO], handle, jiffies)
    submitted(io, vm, t, cpu, jiffies)
    return vm.costs[ms.COST_SUBMIT_BIO]


# --------------------------------------------------------------------------------------------------- the outer loops


@folded
def writeback_limit(mem):
    """Pages under writeback above which reclaimers are throttled: 1.1 x 10 % of dirtyable [throttle_vm_writeout]."""
    dirtyable = 1
    for z in range(mem.ctl[st.M_NR_ZONES]):
        dirtyable += mem.zone[z, st.Z_FREE] + mem.zone[z, st.Z_NR_ACTIVE] + mem.zone[z, st.Z_NR_INACTIVE]
    dirty = dirtyable // 10
    return dirty + dirty // 10


@folded
def begin_shrink_zone(mem, vm, t, z):
    """Work out how much of each list this call scans; small amounts are carried over [shrink_zone]."""
    task = vm.task[t]
    zone = mem.zone[z]
    zone[st.Z_SCAN_ACTIVE] += (zone[st.Z_NR_ACTIVE] >> task[ms.T_PRIORITY]) + 1
    zone[st.Z_SCAN_INACTIVE] += (zone[st.Z_NR_INACTIVE] >> task[ms.T_PRIORITY]) + 1
    task[ms.T_NR_ACTIVE] = 0
    task[ms.T_NR_INACTIVE] = 0
    if zone[st.Z_SCAN_ACTIVE] >= SWAP_CLUSTER_MAX:
        task[ms.T_NR_ACTIVE] = zone[st.Z_SCAN_ACTIVE]
        zone[st.Z_SCAN_ACTIVE] = 0
    if zone[st.Z_SCAN_INACTIVE] >= SWAP_CLUSTER_MAX:
        task[ms.T_NR_INACTIVE] = zone[st.Z_SCAN_INACTIVE]
        zone[st.Z_SCAN_INACTIVE] = 0
    task[ms.T_RECLAIM] = ms.R_SHRINK


@folded
def next_zone(mem, vm, t):
    """Choose the next zone to shrink at this priority, or finish the priority."""
    task = vm.task[t]
    z = task[ms.T_ZONE]
    if task[ms.T_KIND] == ms.KIND_KSWAPD:
        if z > task[ms.T_ZONES_LEFT]:
            task[ms.T_RECLAIM] = ms.R_ZONE_DONE
            return
        task[ms.T_ZONE] = z + 1
        zone = mem.zone[z]
        if zone[st.Z_PRESENT] == 0 or (zone[st.Z_ALL_UNRECLAIMABLE] != 0 and task[ms.T_PRIORITY] != DEF_PRIORITY):
            return
        end_zone = task[ms.T_ZONES_LEFT]
        if not zone_watermark_ok(mem, z, 0, zone[st.Z_HIGH], end_zone, False, False):
            task[ms.T_PROGRESS] = 0  # all_zones_ok
        if not zone_watermark_ok(mem, z, 0, 8 * zone[st.Z_HIGH], end_zone, False, False):
            begin_shrink_zone(mem, vm, t, z)
        return
    if z < 0:
        task[ms.T_RECLAIM] = ms.R_ZONE_DONE
        return
    task[ms.T_ZONE] = z - 1
    zone = mem.zone[z]
    if zone[st.Z_PRESENT] == 0 or (zone[st.Z_ALL_UNRECLAIMABLE] != 0 and task[ms.T_PRIORITY] != DEF_PRIORITY):
        return
    task[ms.T_PROGRESS] = 1  # not all unreclaimable
    begin_shrink_zone(mem, vm, t, z)


@folded
def begin_priority(mem, vm, t, cpu, jiffies):
    """Start a scanning priority; kswapd first finds the highest zone below pages_high, or goes to sleep."""
    task = vm.task[t]
    task[ms.T_RECLAIM] = ms.R_ZONE
    task[ms.T_SCANNED] = 0
    if task[ms.T_KIND] != ms.KIND_KSWAPD:
        task[ms.T_ZONE] = mem.ctl[st.M_NR_ZONES] - 1
        task[ms.T_PROGRESS] = 0
        return
    for z in range(mem.ctl[st.M_NR_ZONES] - 1, -1, -1):
        zone = mem.zone[z]
        if zone[st.Z_PRESENT] == 0 or (zone[st.Z_ALL_UNRECLAIMABLE] != 0 and task[ms.T_PRIORITY] != DEF_PRIORITY):
            continue
        if not zone_watermark_ok(mem, z, 0, zone[st.Z_HIGH], 0, False, False):
            task[ms.T_ZONES_LEFT] = z
            task[ms.T_ZONE] = 0
            task[ms.T_PROGRESS] = 1
            return
    task[ms.T_RECLAIM] = ms.OUT
    vm.ctl[ms.V_RECLAIMERS] -= 1
    sleep_on(vm, cpu, ms.SLEEP_KSWAPD, -1, False, jiffies)


@folded
def end_priority(mem, vm, out, t, cpu, jiffies):
    """All zones of a priority are done: leave, or go one lower, with a nap of 100 ms below priority 10."""
    task = vm.task[t]
    enough = task[ms.T_RECLAIMED] >= SWAP_CLUSTER_MAX
    kswapd = task[ms.T_KIND] == ms.KIND_KSWAPD
    if kswapd:
        task[ms.T_TOTAL_SCANNED] += task[ms.T_SCANNED]
    if not kswapd and enough:
        end_reclaim(vm, out, t, cpu, 1)
        return
    balanced = kswapd and task[ms.T_PROGRESS] != 0
    priority = task[ms.T_PRIORITY]
    scanned = task[ms.T_TOTAL_SCANNED] if kswapd else task[ms.T_SCANNED]
    task[ms.T_RECLAIM] = ms.R_PRIORITY
    task[ms.T_PRIORITY] = priority - 1
    if balanced or (kswapd and enough) or priority == 0:
        if not kswapd:
            end_reclaim(vm, out, t, cpu, task[ms.T_PROGRESS])
            return
        task[ms.T_PRIORITY] = DEF_PRIORITY
        task[ms.T_RECLAIMED] = 0
        task[ms.T_TOTAL_SCANNED] = 0
        if balanced:
            task[ms.T_RECLAIM] = ms.OUT
            vm.ctl[ms.V_RECLAIMERS] -= 1
            sleep_on(vm, cpu, ms.SLEEP_KSWAPD, -1, False, jiffies)
            return
    if scanned > 0 and priority < DEF_PRIORITY - 2 and not balanced:
        congestion_wait(mem, vm, out, t, cpu, 10, jiffies)


@folded
def zone_done(mem, vm, t):
    """kswapd gives a zone up as unreclaimable after six fruitless scans of it [balance_pgdat]."""
    task = vm.task[t]
    if task[ms.T_KIND] == ms.KIND_KSWAPD:
        zone = mem.zone[task[ms.T_ZONE] - 1]
        if zone[st.Z_PAGES_SCANNED] >= 6 * (zone[st.Z_NR_ACTIVE] + zone[st.Z_NR_INACTIVE]):
            zone[st.Z_ALL_UNRECLAIMABLE] = 1
    task[ms.T_RECLAIM] = ms.R_ZONE


@folded
def reclaim_step(mem, heap, pools, io, vm, out, t, cpu, jiffies):
    """Advance a reclaimer by one step; CPU time in ns. It may be asleep afterwards."""
    task = vm.task[t]
    step = task[ms.T_RECLAIM]
    if step == ms.R_PAGE_LIST:
        if task[ms.T_LIST] < 0:
            putback_lru_pages(mem, vm, t, cpu)
            task[ms.T_RECLAIM] = ms.R_SHRINK
            return 0
        return shrink_page(mem, heap, vm, out, t, cpu)
    if ms.R_BIO_ALLOC <= step <= ms.R_REQUEST_ALLOC or step == ms.R_REQUEST_WOKEN:
        return write_step(mem, heap, pools, io, vm, out, t, cpu, jiffies)
    if step == ms.R_SHRINK:
        z = task[ms.T_ZONE] - 1 if task[ms.T_KIND] == ms.KIND_KSWAPD else task[ms.T_ZONE] + 1
        scanned = 0
        if task[ms.T_NR_ACTIVE] > 0:
            count = min(task[ms.T_NR_ACTIVE], SWAP_CLUSTER_MAX)
            task[ms.T_NR_ACTIVE] -= count
            scanned = shrink_active_list(mem, vm, z, count, task[ms.T_PRIORITY])
        if task[ms.T_NR_INACTIVE] > 0:
            count = min(task[ms.T_NR_INACTIVE], SWAP_CLUSTER_MAX)
            task[ms.T_NR_INACTIVE] -= count
            isolate_lru_pages(mem, vm, t, z, count)
            task[ms.T_RECLAIM] = ms.R_PAGE_LIST
        elif task[ms.T_NR_ACTIVE] == 0:
            task[ms.T_RECLAIM] = ms.R_THROTTLE
        return scanned * vm.costs[ms.COST_SCAN_PAGE]
    if step == ms.R_THROTTLE:
        if vm.ctl[ms.V_WRITEBACK] > writeback_limit(mem):
            congestion_wait(mem, vm, out, t, cpu, 10, jiffies)
            return 0
        zone_done(mem, vm, t)
        return 0
    if step == ms.R_ZONE:
        next_zone(mem, vm, t)
        return vm.costs[ms.COST_SCAN_PAGE]
    if step == ms.R_ZONE_DONE:
        end_priority(mem, vm, out, t, cpu, jiffies)
        return 0
    if step == ms.R_WRITTEN:
        written(mem, vm, t)
        return 0
    begin_priority(mem, vm, t, cpu, jiffies)
    return vm.costs[ms.COST_SCAN_PAGE]


@folded
def begin_balance(vm, out, t):
    """Set kswapd going; the caller has woken it [wakeup_kswapd, balance_pgdat]."""
    task = vm.task[t]
    task[ms.T_FLAGS] = g.PF_MEMALLOC
    task[ms.T_PRIORITY] = DEF_PRIORITY
    task[ms.T_RECLAIMED] = 0
    task[ms.T_TOTAL_SCANNED] = 0
    task[ms.T_RECLAIM] = ms.R_PRIORITY
    vm.ctl[ms.V_RECLAIMERS] += 1
    out.metric[KSWAPD_WAKES] += 1
    if out.ctl[ms.OUT_FULL] != 0:
        log_event(vm, out, E_KSWAPD_WAKE, -1, t, 0, 0, 0)

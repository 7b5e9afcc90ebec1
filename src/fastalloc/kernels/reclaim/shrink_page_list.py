"""shrink_page_list: what becomes of an isolated page; the two LRU passes of a tmpfs page [mm/vmscan.c, mm/shmem.c]."""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import PAGE
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import COST, VM
from fastalloc.kernels.lane.tasks import RECLAIM, TASK
from fastalloc.kernels.reclaim.page_lists import keep_page, reclaim_page
from fastalloc.kernels.swap.lru import leave_mapping, leave_swap_cache, look_ahead
from fastalloc.kernels.swap.swapfile import (
    add_to_swap_cache,
    begin_search,
    cluster_used_up,
    get_swap_page,
    search_cluster,
    swap_free,
)
from fastalloc.linux import gfp as g

TMPFS_TO_SWAP = g.GFP_ATOMIC
ANON_TO_SWAP = g.GFP_ATOMIC | g.NOMEMALLOC | g.NOWARN
SEARCH_STEP = 4 * 257  # slots looked at before the CPU may do something else; the kernel gives way each 257th


@folded
def shmem_writepage(mem, heap, vm, out, t, cpu, pfn):
    """LRU pass 1 of a tmpfs page: into the swap cache, no I/O; False: no slot or no radix node [shmem_writepage]."""
    slot = get_swap_page(vm, t)
    if slot < 0:
        return False
    if not add_to_swap_cache(mem, heap, vm, out, cpu, slot, TMPFS_TO_SWAP, vm.task[t, TASK.flags]):
        swap_free(vm, slot)
        return False
    leave_mapping(mem, heap, vm, cpu, pfn)
    mem.page[pfn, PAGE.file] = -1
    mem.page[pfn, PAGE.slot] = slot
    mem.page[pfn, PAGE.flags] |= st.PG_SWAPCACHE
    return True


@folded
def add_to_swap(mem, heap, vm, out, t, cpu, pfn):
    """An anonymous page gets its slot and is unmapped; False: no slot or no radix node [add_to_swap]."""
    slot = get_swap_page(vm, t)
    if slot < 0:
        return False
    if not add_to_swap_cache(mem, heap, vm, out, cpu, slot, ANON_TO_SWAP, vm.task[t, TASK.flags]):
        swap_free(vm, slot)
        return False
    vm.ctl[VM.anon_mapped] -= 1
    mem.page[pfn, PAGE.slot] = slot
    mem.page[pfn, PAGE.flags] = (mem.page[pfn, PAGE.flags] | st.PG_SWAPCACHE | st.PG_DIRTY) & ~st.PG_MAPPED
    return True


@folded
def wants_slot(flags):
    """Whether the page will ask for a swap slot: it is dirty tmpfs or anonymous, unreferenced, and has none yet."""
    busy = st.PG_WRITEBACK | st.PG_ORPHAN | st.PG_SWAPCACHE | st.PG_REFERENCED
    return (flags & busy) == 0 and (flags & (st.PG_ANON | st.PG_DIRTY)) != 0


@folded
def swap_lock_time(mem, vm, t):
    """For how long the next page holds swap_lock, ns; -1 it takes none [get_swap_page, swap_duplicate]. A page that is
    to be written or freed only looks at its slot, in no time here [remove_exclusive_swap_page, swap_free]."""
    pfn = vm.task[t, TASK.list]
    if pfn < 0:
        return -1
    flags = mem.page[pfn, PAGE.flags]
    if wants_slot(flags):
        return vm.costs[COST.swap_lock]
    return 0 if (flags & (st.PG_SWAPCACHE | st.PG_WRITEBACK)) == st.PG_SWAPCACHE else -1


@folded
def search_step(vm, t):
    """Go on looking for a free cluster, for a while; CPU time in ns."""
    looked = search_cluster(vm, t, SEARCH_STEP)
    if vm.task[t, TASK.slot_found] != 0:
        vm.task[t, TASK.reclaim] = RECLAIM.page_list
    return looked * vm.costs[COST.swap_slot]


@folded
def shrink_page(mem, heap, vm, out, t, cpu):
    """Deal with the next page of the private list [shrink_page_list]; its CPU time in ns.

    A dirty swap-cache page leaves the task at RECLAIM.bio_alloc, locked; everything else is decided here.
    """
    look_ahead(mem, vm)
    task = vm.task[t]
    pfn = task[TASK.list]
    flags = mem.page[pfn, PAGE.flags]
    if wants_slot(flags) and cluster_used_up(vm, t):
        begin_search(vm, t)
        if task[TASK.slot_found] == 0:
            task[TASK.reclaim] = RECLAIM.slot_search
            return 0
    vm.ctl[VM.slots_looked] = 0
    task[TASK.list] = mem.page[pfn, PAGE.next]
    task[TASK.scanned] += 1 + (1 if (flags & (st.PG_SWAPCACHE | st.PG_MAPPED)) != 0 else 0)
    out.metric[METRIC.pages_scanned] += 1
    scan = vm.costs[COST.scan_page]
    if (flags & st.PG_WRITEBACK) != 0:
        keep_page(mem, vm, t, pfn)
        return scan
    if (flags & st.PG_ORPHAN) != 0:
        if (flags & st.PG_SWAPCACHE) != 0:
            leave_swap_cache(mem, heap, vm, cpu, pfn)
        reclaim_page(mem, vm, out, t, cpu, pfn)
        return scan + vm.costs[COST.reclaim_page]
    referenced = (flags & st.PG_REFERENCED) != 0
    flags &= ~st.PG_REFERENCED
    mem.page[pfn, PAGE.flags] = flags
    if referenced and (flags & (st.PG_MAPPED | st.PG_SWAPCACHE)) != 0:
        mem.page[pfn, PAGE.flags] = flags | st.PG_ACTIVE
        keep_page(mem, vm, t, pfn)
        return scan
    if (flags & st.PG_ANON) != 0 and (flags & st.PG_SWAPCACHE) == 0:
        added = add_to_swap(mem, heap, vm, out, t, cpu, pfn)
        scan += vm.costs[COST.swap_cache] + vm.ctl[VM.slots_looked] * vm.costs[COST.swap_slot]
        if not added:
            mem.page[pfn, PAGE.flags] |= st.PG_ACTIVE
            keep_page(mem, vm, t, pfn)
            return scan
        flags = mem.page[pfn, PAGE.flags]
    if (flags & st.PG_DIRTY) != 0:
        if referenced:
            keep_page(mem, vm, t, pfn)
            return scan
        if (flags & st.PG_SWAPCACHE) == 0:
            if not shmem_writepage(mem, heap, vm, out, t, cpu, pfn):
                mem.page[pfn, PAGE.flags] |= st.PG_ACTIVE
            keep_page(mem, vm, t, pfn)
            scan += vm.ctl[VM.slots_looked] * vm.costs[COST.swap_slot]
            return scan + vm.costs[COST.swap_cache]
        mem.page[pfn, PAGE.flags] = (flags | st.PG_RECLAIM | st.PG_LOCKED) & ~st.PG_DIRTY
        task[TASK.page] = pfn
        task[TASK.first] = 1
        task[TASK.reclaim] = RECLAIM.bio_alloc
        return scan + vm.costs[COST.swap_page]
    leave_swap_cache(mem, heap, vm, cpu, pfn)
    reclaim_page(mem, vm, out, t, cpu, pfn)
    return scan + vm.costs[COST.reclaim_page]

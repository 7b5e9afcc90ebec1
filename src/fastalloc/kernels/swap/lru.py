"""The LRU lists and the life of a page on them [mm/swap.c, include/linux/mm_inline.h of 2.6.25].

Pages go on and off one by one: the per-CPU pagevecs of 14 that batch this in the kernel are not modelled.
"""

from fastalloc.compiler.hints import prefetch
from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import free_pages, page_zone
from fastalloc.kernels.alloc.slab_owner import slab_give
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.swap.swapfile import delete_from_swap_cache, swap_free


@folded
def lru_add(mem, pfn, active):
    """Put a page at the head of its zone's active or inactive list [add_page_to_active_list]."""
    z = page_zone(mem, pfn)
    page = mem.page
    zone = mem.zone[z]
    head = st.Z_ACTIVE_HEAD if active else st.Z_INACTIVE_HEAD
    first = zone[head]
    page[pfn, st.P_NEXT] = first
    page[pfn, st.P_PREV] = -1
    if first >= 0:
        page[first, st.P_PREV] = pfn
    else:
        zone[head + 1] = pfn
    zone[head] = pfn
    flags = page[pfn, st.P_FLAGS] | st.PG_LRU
    if active:
        flags |= st.PG_ACTIVE
        zone[st.Z_NR_ACTIVE] += 1
    else:
        flags &= ~st.PG_ACTIVE
        zone[st.Z_NR_INACTIVE] += 1
    page[pfn, st.P_FLAGS] = flags


@folded
def lru_del(mem, pfn):
    """Take a page off its list [del_page_from_lru]."""
    page = mem.page
    zone = mem.zone[page_zone(mem, pfn)]
    active = (page[pfn, st.P_FLAGS] & st.PG_ACTIVE) != 0
    head = st.Z_ACTIVE_HEAD if active else st.Z_INACTIVE_HEAD
    following = page[pfn, st.P_NEXT]
    preceding = page[pfn, st.P_PREV]
    if preceding >= 0:
        page[preceding, st.P_NEXT] = following
    else:
        zone[head] = following
    if following >= 0:
        page[following, st.P_PREV] = preceding
    else:
        zone[head + 1] = preceding
    zone[st.Z_NR_ACTIVE if active else st.Z_NR_INACTIVE] -= 1
    page[pfn, st.P_FLAGS] &= ~st.PG_LRU


@folded
def look_ahead(mem, vm):
    """Fetch the page behind the last one fetched: a list is walked record by record, each a miss of the cache, and the
    next isolation takes what follows the tail. The page may have left the list since; it is only fetched."""
    ahead = vm.ctl[ms.V_LRU_AHEAD]
    if 0 <= ahead < mem.page.shape[0]:
        ahead = mem.page[ahead, st.P_PREV]
        vm.ctl[ms.V_LRU_AHEAD] = ahead
        prefetch(mem.page, ahead)


@folded
def rotate_reclaimable_page(mem, pfn):
    """Move a page whose write-out is over to the tail of the inactive list [rotate_reclaimable_page]."""
    page = mem.page
    wanted = st.PG_RECLAIM | st.PG_LRU
    if (page[pfn, st.P_FLAGS] & (wanted | st.PG_LOCKED | st.PG_DIRTY | st.PG_ACTIVE)) == wanted:
        zone = mem.zone[page_zone(mem, pfn)]
        if zone[st.Z_INACTIVE_TAIL] != pfn:
            lru_del(mem, pfn)
            last = zone[st.Z_INACTIVE_TAIL]
            page[pfn, st.P_PREV] = last
            page[pfn, st.P_NEXT] = -1
            if last >= 0:
                page[last, st.P_NEXT] = pfn
            else:
                zone[st.Z_INACTIVE_HEAD] = pfn
            zone[st.Z_INACTIVE_TAIL] = pfn
            zone[st.Z_NR_INACTIVE] += 1
            page[pfn, st.P_FLAGS] |= st.PG_LRU
    page[pfn, st.P_FLAGS] &= ~st.PG_RECLAIM


@folded
def leave_mapping(mem, heap, vm, cpu, pfn):
    """A tmpfs page leaves its file's mapping; the last one frees the file's radix node."""
    f = mem.page[pfn, st.P_FILE]
    if f >= 0:
        vm.file[f, ms.F_MAPPED] -= 1
        if vm.file[f, ms.F_MAPPED] == 0 and vm.file[f, ms.F_NODE] >= 0:
            slab_give(mem, heap, vm.roles[ms.ROLE_RADIX], cpu, vm.file[f, ms.F_NODE])
            vm.file[f, ms.F_NODE] = -1


@internal
def leave_swap_cache(mem, heap, vm, cpu, pfn):
    """A page leaves the swap cache: its owner finds it in the slot, an orphan's slot is free [remove_mapping]."""
    slot = mem.page[pfn, st.P_SLOT]
    delete_from_swap_cache(mem, heap, vm, cpu, slot)
    owner = mem.page[pfn, st.P_OWNER]
    if owner >= 0:
        vm.where[owner] = -2 - slot
    else:
        swap_free(vm, slot)
    mem.page[pfn, st.P_SLOT] = -1
    mem.page[pfn, st.P_OWNER] = -1
    mem.page[pfn, st.P_FLAGS] &= ~st.PG_SWAPCACHE


@internal
def truncate_page(mem, heap, vm, cpu, owner):
    """The owner drops a logical page: file removal, munmap [truncate_complete_page, free_swap_and_cache].

    A page that somebody else holds (a reclaimer, the disk) becomes an orphan, which reclaim frees later.
    """
    pfn = vm.where[owner]
    vm.where[owner] = -1
    if pfn == -1:
        return
    if pfn < -1:
        swap_free(vm, -2 - pfn)
        return
    flags = mem.page[pfn, st.P_FLAGS]
    swapcache = (flags & st.PG_SWAPCACHE) != 0
    if (flags & st.PG_MAPPED) != 0:
        vm.ctl[ms.V_ANON_MAPPED] -= 1
    if not swapcache:
        leave_mapping(mem, heap, vm, cpu, pfn)
    mem.page[pfn, st.P_OWNER] = -1
    mem.page[pfn, st.P_FILE] = -1
    if (flags & (st.PG_ISOLATED | st.PG_WRITEBACK | st.PG_LOCKED)) != 0:
        mem.page[pfn, st.P_FLAGS] = (flags | st.PG_ORPHAN) & ~st.PG_MAPPED
        return
    lru_del(mem, pfn)
    if swapcache:
        leave_swap_cache(mem, heap, vm, cpu, pfn)
    free_pages(mem, cpu, pfn, 0)

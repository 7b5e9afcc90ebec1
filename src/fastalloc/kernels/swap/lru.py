"""The LRU lists and the life of a page on them [mm/swap.c, include/linux/mm_inline.h of 2.6.25].

Pages go on and off one by one: the per-CPU pagevecs of 14 that batch this in the kernel are not modelled.
"""

from fastalloc.compiler.hints import prefetch
from fastalloc.compiler.jit import entry, folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import page_zone
from fastalloc.kernels.alloc.page_alloc import free_pages
from fastalloc.kernels.alloc.radix_tree import radix_tree_node_free
from fastalloc.kernels.alloc.state import PAGE, ZONE
from fastalloc.kernels.lane.state import FILE, MAPPING, VM
from fastalloc.kernels.swap.swapfile import delete_from_swap_cache, swap_free


@folded
def lru_add(mem, pfn, active):
    """Put a page at the head of its zone's active or inactive list [add_page_to_active_list]."""
    z = page_zone(mem, pfn)
    page = mem.page
    zone = mem.zone[z]
    head = ZONE.active_head if active else ZONE.inactive_head
    tail = ZONE.active_tail if active else ZONE.inactive_tail
    first = zone[head]
    page[pfn, PAGE.next] = first
    page[pfn, PAGE.prev] = -1
    if first >= 0:
        page[first, PAGE.prev] = pfn
    else:
        zone[tail] = pfn
    zone[head] = pfn
    flags = page[pfn, PAGE.flags] | st.PG_LRU
    if active:
        flags |= st.PG_ACTIVE
        zone[ZONE.nr_active] += 1
    else:
        flags &= ~st.PG_ACTIVE
        zone[ZONE.nr_inactive] += 1
    page[pfn, PAGE.flags] = flags


@folded
def lru_del(mem, pfn):
    """Take a page off its list [del_page_from_lru]."""
    page = mem.page
    zone = mem.zone[page_zone(mem, pfn)]
    active = (page[pfn, PAGE.flags] & st.PG_ACTIVE) != 0
    head = ZONE.active_head if active else ZONE.inactive_head
    tail = ZONE.active_tail if active else ZONE.inactive_tail
    following = page[pfn, PAGE.next]
    preceding = page[pfn, PAGE.prev]
    if preceding >= 0:
        page[preceding, PAGE.next] = following
    else:
        zone[head] = following
    if following >= 0:
        page[following, PAGE.prev] = preceding
    else:
        zone[tail] = preceding
    zone[ZONE.nr_active if active else ZONE.nr_inactive] -= 1
    page[pfn, PAGE.flags] &= ~st.PG_LRU


@entry
def del_page_from_lru(mem, pfn):
    """:func:`lru_del` where Python changes a lane that stands still."""
    lru_del(mem, pfn)


@folded
def look_ahead(mem, vm):
    """Fetch the page behind the last one fetched: a list is walked record by record, each a miss of the cache, and the
    next isolation takes what follows the tail. The page may have left the list since; it is only fetched."""
    ahead = vm.ctl[VM.lru_ahead]
    if 0 <= ahead < mem.page.shape[0]:
        ahead = mem.page[ahead, PAGE.prev]
        vm.ctl[VM.lru_ahead] = ahead
        prefetch(mem.page, ahead)


@folded
def rotate_reclaimable_page(mem, pfn):
    """Move a page whose write-out is over to the tail of the inactive list [rotate_reclaimable_page]."""
    page = mem.page
    wanted = st.PG_RECLAIM | st.PG_LRU
    if (page[pfn, PAGE.flags] & (wanted | st.PG_LOCKED | st.PG_DIRTY | st.PG_ACTIVE)) == wanted:
        zone = mem.zone[page_zone(mem, pfn)]
        if zone[ZONE.inactive_tail] != pfn:
            lru_del(mem, pfn)
            last = zone[ZONE.inactive_tail]
            page[pfn, PAGE.prev] = last
            page[pfn, PAGE.next] = -1
            if last >= 0:
                page[last, PAGE.next] = pfn
            else:
                zone[ZONE.inactive_head] = pfn
            zone[ZONE.inactive_tail] = pfn
            zone[ZONE.nr_inactive] += 1
            page[pfn, PAGE.flags] |= st.PG_LRU
    page[pfn, PAGE.flags] &= ~st.PG_RECLAIM


@folded
def leave_mapping(mem, heap, vm, cpu, pfn):
    """A tmpfs page leaves its file's mapping; the radix node goes with the last one, or when page 0 alone is left
    [radix_tree_delete, radix_tree_shrink]."""
    f = mem.page[pfn, PAGE.file]
    if f >= 0:
        mapping = vm.mapping[f]
        mapping[MAPPING.nrpages] -= 1
        if (mem.page[pfn, PAGE.flags] & st.PG_FIRST) != 0:
            mapping[MAPPING.first] = 0
        if mapping[MAPPING.nrpages] == mapping[MAPPING.first] and vm.file[f, FILE.node] > 0:
            radix_tree_node_free(mem, heap, vm, cpu, vm.file[f, FILE.node] - 1)
            vm.file[f, FILE.node] = 0


@internal
def leave_swap_cache(mem, heap, vm, cpu, pfn):
    """A page leaves the swap cache: its owner finds it in the slot, an orphan's slot is free [remove_mapping]."""
    slot = mem.page[pfn, PAGE.slot]
    delete_from_swap_cache(mem, heap, vm, cpu, slot)
    owner = mem.page[pfn, PAGE.owner]
    if owner >= 0:
        vm.where[owner] = -1 - slot
    else:
        swap_free(vm, slot)
    mem.page[pfn, PAGE.slot] = -1
    mem.page[pfn, PAGE.owner] = -1
    mem.page[pfn, PAGE.flags] &= ~st.PG_SWAPCACHE


@internal
def truncate_page(mem, heap, vm, cpu, owner):
    """The owner drops a logical page: file removal, munmap [truncate_complete_page, free_swap_and_cache].

    A page that somebody else holds (a reclaimer, the disk) becomes an orphan, which reclaim frees later.
    """
    place = vm.where[owner]
    vm.where[owner] = 0
    if place == 0:
        return
    if place < 0:
        swap_free(vm, -1 - place)
        return
    pfn = place - 1
    flags = mem.page[pfn, PAGE.flags]
    swapcache = (flags & st.PG_SWAPCACHE) != 0
    if (flags & st.PG_MAPPED) != 0:
        vm.ctl[VM.anon_mapped] -= 1
    if not swapcache:
        leave_mapping(mem, heap, vm, cpu, pfn)
        mem.page[pfn, PAGE.file] = -1
    mem.page[pfn, PAGE.owner] = -1
    if (flags & (st.PG_ISOLATED | st.PG_WRITEBACK | st.PG_LOCKED)) != 0:
        mem.page[pfn, PAGE.flags] = (flags | st.PG_ORPHAN) & ~st.PG_MAPPED
        return
    lru_del(mem, pfn)
    if swapcache:
        leave_swap_cache(mem, heap, vm, cpu, pfn)
    free_pages(mem, cpu, pfn, 0)

"""The buddy lists of a zone, and the lists of pages that each CPU has [mm/page_alloc.c: rmqueue, __free_one_page]."""

from fastalloc.compiler.jit import folded, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import AREA, MEMCTL, PAGE, PCP, ZONE
from fastalloc.linux import gfp as g


@kernel
def page_bytes(mem):
    """Bytes of a page."""
    return 4096 << mem.ctl[MEMCTL.page_doublings]


@kernel
def page_zone(mem, pfn):
    """Zone index of a page frame."""
    return (mem.page[pfn, PAGE.flags] >> st.PG_ZONE_SHIFT) & 3


@kernel
def area_add(mem, z, order, pfn):
    """Put a free block at the head of its buddy list [__free_one_page]."""
    head = mem.area[z, order, AREA.head]
    page = mem.page
    page[pfn, PAGE.next] = head
    page[pfn, PAGE.prev] = -1
    if head >= 0:
        page[head, PAGE.prev] = pfn
    page[pfn, PAGE.flags] = (z << st.PG_ZONE_SHIFT) | (order << st.PG_ORDER_SHIFT) | st.PG_BUDDY
    mem.area[z, order, AREA.head] = pfn
    mem.area[z, order, AREA.nr] += 1


@kernel
def area_del(mem, z, order, pfn):
    """Take a free block off its buddy list."""
    page = mem.page
    following = page[pfn, PAGE.next]
    preceding = page[pfn, PAGE.prev]
    if preceding >= 0:
        page[preceding, PAGE.next] = following
    else:
        mem.area[z, order, AREA.head] = following
    if following >= 0:
        page[following, PAGE.prev] = preceding
    page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
    mem.area[z, order, AREA.nr] -= 1


@kernel
def free_one_page(mem, z, pfn, order):
    """Give a block back to the buddy lists, merging upwards [__free_one_page]; NR_FREE_PAGES grows."""
    start = mem.zone[z, ZONE.start]
    present = mem.zone[z, ZONE.present]
    mem.zone[z, ZONE.free] += 1 << order
    mem.zone[z, ZONE.all_unreclaimable] = 0
    mem.zone[z, ZONE.pages_scanned] = 0
    index = pfn - start
    while order < g.MAX_ORDER - 1:
        buddy = index ^ (1 << order)
        if buddy >= present:
            break
        flags = mem.page[start + buddy, PAGE.flags]
        if (flags & st.PG_BUDDY) == 0 or ((flags >> st.PG_ORDER_SHIFT) & 15) != order:
            break
        area_del(mem, z, order, start + buddy)
        index &= ~(1 << order)
        order += 1
    area_add(mem, z, order, start + index)


@kernel
def rmqueue(mem, z, order):
    """Take a block of ``2**order`` pages from the buddy, lower half first [__rmqueue_smallest]; -1 none."""
    for current in range(order, g.MAX_ORDER):
        pfn = mem.area[z, current, AREA.head]
        if pfn < 0:
            continue
        area_del(mem, z, current, pfn)
        while current > order:
            current -= 1
            area_add(mem, z, current, pfn + (1 << current))
        free = mem.zone[z, ZONE.free] - (1 << order)
        mem.zone[z, ZONE.free] = free
        if free < mem.zone[z, ZONE.min_free]:
            mem.zone[z, ZONE.min_free] = free
        return pfn
    return -1


@folded
def pcp_push(mem, cpu, z, pfn, cold):
    """Put a page on the hot end of a CPU's list, or on the cold one [rmqueue_bulk keeps physical order;
    free_cold_page]."""
    near, far = (PCP.tail, PCP.head) if cold else (PCP.head, PCP.tail)
    inward, outward = (PAGE.prev, PAGE.next) if cold else (PAGE.next, PAGE.prev)
    page = mem.page
    first = mem.pcp[cpu, z, near]
    page[pfn, inward] = first
    page[pfn, outward] = -1
    page[pfn, PAGE.flags] = (z << st.PG_ZONE_SHIFT) | st.PG_PCP
    if first >= 0:
        page[first, outward] = pfn
    else:
        mem.pcp[cpu, z, far] = pfn
    mem.pcp[cpu, z, near] = pfn
    mem.pcp[cpu, z, PCP.count] += 1


@kernel
def pcp_drain(mem, cpu, z, count):
    """Return ``count`` pages from the cold end of a CPU's list to the buddy [free_pages_bulk]."""
    while count > 0 and mem.pcp[cpu, z, PCP.count] > 0:
        pfn = mem.pcp[cpu, z, PCP.tail]
        preceding = mem.page[pfn, PAGE.prev]
        mem.pcp[cpu, z, PCP.tail] = preceding
        if preceding >= 0:
            mem.page[preceding, PAGE.next] = -1
        else:
            mem.pcp[cpu, z, PCP.head] = -1
        mem.pcp[cpu, z, PCP.count] -= 1
        mem.page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
        free_one_page(mem, z, pfn, 0)
        count -= 1


@kernel
def drain_all_pages(mem):
    """Empty every per-CPU list [drain_all_pages, after a direct reclaim for order > 0]."""
    for cpu in range(mem.pcp.shape[0]):
        for z in range(mem.ctl[MEMCTL.nr_zones]):
            pcp_drain(mem, cpu, z, mem.pcp[cpu, z, PCP.count])


@kernel
def buffered_rmqueue(mem, cpu, z, order):
    """A page from the CPU's list, refilled by a batch under the zone lock; whole blocks straight from the buddy."""
    if order > 0:
        pfn = rmqueue(mem, z, order)
        if pfn >= 0:
            mem.page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
        return pfn
    if mem.pcp[cpu, z, PCP.count] == 0:
        for _ in range(mem.zone[z, ZONE.batch]):
            pfn = rmqueue(mem, z, 0)
            if pfn < 0:
                break
            pcp_push(mem, cpu, z, pfn, True)
        if mem.pcp[cpu, z, PCP.count] == 0:
            return -1
    pfn = mem.pcp[cpu, z, PCP.head]
    following = mem.page[pfn, PAGE.next]
    mem.pcp[cpu, z, PCP.head] = following
    if following >= 0:
        mem.page[following, PAGE.prev] = -1
    else:
        mem.pcp[cpu, z, PCP.tail] = -1
    mem.pcp[cpu, z, PCP.count] -= 1
    mem.page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
    return pfn

"""The buddy lists of a zone, apart by mobility, and each CPU's lists of pages [mm/page_alloc.c of 2.6.25]."""

from fastalloc.compiler.jit import called_folded, folded, internal, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import AREA, MEMCTL, MIGRATE, PAGE, PCP, ZONE
from fastalloc.kernels.alloc.vmstat import mod_zone_page_state
from fastalloc.linux import gfp as g

FALLBACKS = (
    (MIGRATE.reclaimable, MIGRATE.movable),
    (MIGRATE.unmovable, MIGRATE.movable),
    (MIGRATE.reclaimable, MIGRATE.unmovable),
)  # for each MIGRATE, whose pageblocks it falls back to


@kernel
def page_bytes(mem):
    """Bytes of a page."""
    return 4096 << mem.ctl[MEMCTL.page_doublings]


@called_folded
def page_zone(mem, pfn):
    """Zone index of a page frame."""
    return (mem.page[pfn, PAGE.flags] >> st.PG_ZONE_SHIFT) & 3


@kernel
def gfp_migrate(mem, gfp):
    """Which MIGRATE a request is of [allocflags_to_migratetype]."""
    if mem.ctl[MEMCTL.pageblock_order] == 0:
        return MIGRATE.unmovable
    if (gfp & g.MOVABLE) != 0:
        return MIGRATE.movable
    return MIGRATE.reclaimable if (gfp & g.RECLAIMABLE) != 0 else MIGRATE.unmovable


@kernel
def pageblock_migrate(mem, z, pfn):
    """The MIGRATE that a page's pageblock is noted for [get_pageblock_migratetype]."""
    order = mem.ctl[MEMCTL.pageblock_order]
    if order == 0:
        return MIGRATE.unmovable
    return mem.block[z, (pfn - mem.zone[z, ZONE.start]) >> order]


@kernel
def area_add(mem, z, migrate, order, pfn):
    """Put a free block at the head of a buddy list [__free_one_page]."""
    head = mem.area[z, migrate, order, AREA.head]
    page = mem.page
    page[pfn, PAGE.next] = head
    page[pfn, PAGE.prev] = -1
    if head >= 0:
        page[head, PAGE.prev] = pfn
    flags = (z << st.PG_ZONE_SHIFT) | (order << st.PG_ORDER_SHIFT) | (migrate << st.PG_MIGRATE_SHIFT)
    page[pfn, PAGE.flags] = flags | st.PG_BUDDY
    mem.area[z, migrate, order, AREA.head] = pfn
    mem.area[z, migrate, order, AREA.nr] += 1


@kernel
def area_del(mem, z, order, pfn):
    """Take a free block off its buddy list."""
    page = mem.page
    migrate = (page[pfn, PAGE.flags] >> st.PG_MIGRATE_SHIFT) & 3
    following = page[pfn, PAGE.next]
    preceding = page[pfn, PAGE.prev]
    if preceding >= 0:
        page[preceding, PAGE.next] = following
    else:
        mem.area[z, migrate, order, AREA.head] = following
    if following >= 0:
        page[following, PAGE.prev] = preceding
    page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
    mem.area[z, migrate, order, AREA.nr] -= 1


@kernel
def free_order(mem, pfn):
    """The order of the free block that starts at a page, -1 none does [PageBuddy, page_order]."""
    flags = mem.page[pfn, PAGE.flags]
    return (flags >> st.PG_ORDER_SHIFT) & 15 if (flags & st.PG_BUDDY) != 0 else -1


@kernel
def free_one_page(mem, z, pfn, order):
    """Give a block back to the buddy lists, merging upwards [__free_one_page]; NR_FREE_PAGES grows."""
    start = mem.zone[z, ZONE.start]
    present = mem.zone[z, ZONE.present]
    mem.zone[z, ZONE.free] += 1 << order
    mem.zone[z, ZONE.all_unreclaimable] = 0
    mem.zone[z, ZONE.pages_scanned] = 0
    migrate = pageblock_migrate(mem, z, pfn)
    index = pfn - start
    while order < g.MAX_ORDER - 1:
        buddy = index ^ (1 << order)
        if buddy >= present or free_order(mem, start + buddy) != order:
            break
        area_del(mem, z, order, start + buddy)
        index &= ~(1 << order)
        order += 1
    area_add(mem, z, migrate, order, start + index)


@internal
def move_freepages_block(mem, z, pfn, migrate):
    """Put the free blocks of a page's pageblock on the lists of another MIGRATE; how many pages they have
    [move_freepages_block]."""
    start = mem.zone[z, ZONE.start]
    size = 1 << mem.ctl[MEMCTL.pageblock_order]
    page = start + ((pfn - start) & -size)
    end = page + size
    if end > start + mem.zone[z, ZONE.present]:
        return 0  # it goes on in another zone
    moved = 0
    while page < end:
        order = free_order(mem, page)
        if order < 0:
            page += 1
            continue
        area_del(mem, z, order, page)
        area_add(mem, z, migrate, order, page)
        page += 1 << order
        moved += 1 << order
    return moved


@folded
def expand(mem, z, migrate, pfn, order, current):
    """Give the upper halves of a block back until ``2**order`` pages are left; those it is counted out by [expand]."""
    while current > order:
        current -= 1
        area_add(mem, z, migrate, current, pfn + (1 << current))
    free = mem.zone[z, ZONE.free] - (1 << order)
    mem.zone[z, ZONE.free] = free
    if free < mem.zone[z, ZONE.min_free]:
        mem.zone[z, ZONE.min_free] = free


@kernel
def rmqueue_smallest(mem, z, order, migrate):
    """Take a block of ``2**order`` pages off the lists of a MIGRATE, lower half first [__rmqueue_smallest]; -1 none."""
    for current in range(order, g.MAX_ORDER):
        pfn = mem.area[z, migrate, current, AREA.head]
        if pfn < 0:
            continue
        area_del(mem, z, current, pfn)
        expand(mem, z, migrate, pfn, order, current)
        return pfn
    return -1


@internal
def rmqueue_fallback(mem, z, order, migrate):
    """Take it from what is noted for others, the largest block first. Of a large block, or for reclaimable memory, the
    whole pageblock's free pages change hands, and the pageblock too if they are half of it [__rmqueue_fallback]."""
    pageblock = mem.ctl[MEMCTL.pageblock_order]
    for current in range(g.MAX_ORDER - 1, order - 1, -1):
        for turn in range(2):
            other = FALLBACKS[migrate][turn]
            pfn = mem.area[z, other, current, AREA.head]
            if pfn < 0:
                continue
            place = (pfn - mem.zone[z, ZONE.start]) >> pageblock
            if current >= pageblock >> 1 or migrate == MIGRATE.reclaimable:
                if move_freepages_block(mem, z, pfn, migrate) >= 1 << (pageblock - 1):
                    mem.block[z, place] = migrate
                other = migrate
            area_del(mem, z, current, pfn)
            if current == pageblock:
                mem.block[z, place] = migrate
            expand(mem, z, other, pfn, order, current)
            return pfn
    return rmqueue_smallest(mem, z, order, MIGRATE.reserve)


@kernel
def rmqueue(mem, z, order, migrate):
    """Take a block of ``2**order`` pages from the buddy [__rmqueue]; -1 none."""
    pfn = rmqueue_smallest(mem, z, order, migrate)
    if pfn < 0 and mem.ctl[MEMCTL.pageblock_order] != 0:
        pfn = rmqueue_fallback(mem, z, order, migrate)
    return pfn


@folded
def pcp_link(page, pcp, pfn, migrate, cold):
    """Put a page before or, if ``cold``, behind those of its MIGRATE on a CPU's list."""
    end = pcp[PCP.last[migrate]] if cold else pcp[PCP.first[migrate]]
    page[pfn, PAGE.same] = -1 if cold else end
    if end < 0:
        pcp[PCP.first[migrate]] = pfn
        pcp[PCP.last[migrate]] = pfn
    elif cold:
        page[end, PAGE.same] = pfn
        pcp[PCP.last[migrate]] = pfn
    else:
        pcp[PCP.first[migrate]] = pfn


@folded
def pcp_unlink(pcp, migrate, following):
    """The first page of a MIGRATE leaves a CPU's list; ``following`` is the next of them, -1 none."""
    pcp[PCP.first[migrate]] = following
    if following < 0:
        pcp[PCP.last[migrate]] = -1


@folded
def setup_pageset(pcp):
    """An empty list [setup_pageset]."""
    pcp[PCP.head] = -1
    pcp[PCP.tail] = -1
    for migrate in range(MIGRATE.width):
        pcp_unlink(pcp, migrate, -1)


@folded
def page_migrate(page, pfn):
    """The MIGRATE of a page on a CPU's list [page_private]."""
    return (page[pfn, PAGE.flags] >> st.PG_MIGRATE_SHIFT) & 3


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
    migrate = pageblock_migrate(mem, z, pfn)
    page[pfn, PAGE.flags] = (z << st.PG_ZONE_SHIFT) | (migrate << st.PG_MIGRATE_SHIFT) | st.PG_PCP
    if first >= 0:
        page[first, outward] = pfn
    else:
        mem.pcp[cpu, z, far] = pfn
    mem.pcp[cpu, z, near] = pfn
    pcp_link(page, mem.pcp[cpu, z], pfn, migrate, cold)
    mem.pcp[cpu, z, PCP.count] += 1


@kernel
def pcp_drain(mem, cpu, z, count):
    """Return ``count`` pages from the cold end of a CPU's list to the buddy [free_pages_bulk]."""
    page = mem.page
    pcp = mem.pcp[cpu, z]
    cut = 0  # bits of the MIGRATEs that lost their last page
    before = pcp[PCP.count]
    each = mem.ctl[MEMCTL.by_batch] < 2
    while count > 0 and pcp[PCP.count] > 0:
        pfn = pcp[PCP.tail]
        migrate = page_migrate(page, pfn)
        if pcp[PCP.first[migrate]] == pfn:
            pcp_unlink(pcp, migrate, -1)
        else:
            cut |= 1 << migrate
        preceding = page[pfn, PAGE.prev]
        pcp[PCP.tail] = preceding
        if preceding >= 0:
            page[preceding, PAGE.next] = -1
        else:
            pcp[PCP.head] = -1
        pcp[PCP.count] -= 1
        page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
        free_one_page(mem, z, pfn, 0)
        if each:
            mod_zone_page_state(mem, cpu, z, 1)
        count -= 1
    if not each:
        mod_zone_page_state(mem, cpu, z, before - pcp[PCP.count])
    pfn = pcp[PCP.tail]
    while cut != 0 and pfn >= 0:
        migrate = page_migrate(page, pfn)
        if cut >> migrate & 1 != 0 and pcp[PCP.first[migrate]] >= 0:
            pcp[PCP.last[migrate]] = pfn
            page[pfn, PAGE.same] = -1
        cut &= ~(1 << migrate)
        pfn = page[pfn, PAGE.prev]


@kernel
def drain_all_pages(mem):
    """Empty every per-CPU list [drain_all_pages, after a direct reclaim for order > 0]."""
    for cpu in range(mem.pcp.shape[0]):
        for z in range(mem.ctl[MEMCTL.nr_zones]):
            pcp_drain(mem, cpu, z, mem.pcp[cpu, z, PCP.count])


@internal
def rmqueue_bulk(mem, cpu, z, migrate):
    """A batch of pages for a MIGRATE, of which the list has none, at the hot end of a CPU's list, in physical order
    [rmqueue_bulk]."""
    page = mem.page
    pcp = mem.pcp[cpu, z]
    last = -1
    before = pcp[PCP.count]
    each = mem.ctl[MEMCTL.by_batch] == 0
    for _ in range(mem.zone[z, ZONE.batch]):
        pfn = rmqueue(mem, z, 0, migrate)
        if pfn < 0:
            break
        if each:
            mod_zone_page_state(mem, cpu, z, -1)
        following = pcp[PCP.head] if last < 0 else page[last, PAGE.next]
        page[pfn, PAGE.flags] = (z << st.PG_ZONE_SHIFT) | (migrate << st.PG_MIGRATE_SHIFT) | st.PG_PCP
        page[pfn, PAGE.next] = following
        page[pfn, PAGE.prev] = last
        if last < 0:
            pcp[PCP.head] = pfn
        else:
            page[last, PAGE.next] = pfn
        if following < 0:
            pcp[PCP.tail] = pfn
        else:
            page[following, PAGE.prev] = pfn
        pcp_link(page, pcp, pfn, migrate, True)
        pcp[PCP.count] += 1
        last = pfn
    if not each:
        mod_zone_page_state(mem, cpu, z, before - pcp[PCP.count])


@kernel
def buffered_rmqueue(mem, cpu, z, order, migrate):
    """The first page of a MIGRATE on the CPU's list, to which a batch is added where there is none; the first of all
    where none can be had; whole blocks straight from the buddy [buffered_rmqueue]."""
    if order > 0:
        pfn = rmqueue(mem, z, order, migrate)
        if pfn >= 0:
            mod_zone_page_state(mem, cpu, z, -(1 << order))
            mem.page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
        return pfn
    page = mem.page
    pcp = mem.pcp[cpu, z]
    pfn = pcp[PCP.first[migrate]]
    if pfn < 0:
        rmqueue_bulk(mem, cpu, z, migrate)
        pfn = pcp[PCP.head]
        if pfn < 0:
            return -1
        migrate = page_migrate(page, pfn)
    pcp_unlink(pcp, migrate, page[pfn, PAGE.same])
    following = page[pfn, PAGE.next]
    preceding = page[pfn, PAGE.prev]
    if preceding >= 0:
        page[preceding, PAGE.next] = following
    else:
        pcp[PCP.head] = following
    if following >= 0:
        page[following, PAGE.prev] = preceding
    else:
        pcp[PCP.tail] = preceding
    pcp[PCP.count] -= 1
    page[pfn, PAGE.flags] = z << st.PG_ZONE_SHIFT
    return pfn

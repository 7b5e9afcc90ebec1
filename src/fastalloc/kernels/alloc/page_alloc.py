"""The page allocator of 2.6.25: watermarks, zonelists, buddy, per-CPU lists [mm/page_alloc.c].

Two memory models stand behind one entry, :func:`alloc_pages`: the zones of a real machine, and the counting stub
in front of which the golden cases were recorded.
"""

from fastalloc.compiler.jit import called_folded, folded, internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import (
    area_add,
    buffered_rmqueue,
    free_one_page,
    gfp_migrate,
    move_freepages_block,
    page_zone,
    pageblock_migrate,
    pcp_drain,
    pcp_push,
    setup_pageset,
)
from fastalloc.kernels.alloc.policy_hooks import LARGEST, about_request, about_zone, answer, wanted
from fastalloc.kernels.alloc.policy_record import QUESTION
from fastalloc.kernels.alloc.printk import warn_alloc_failed
from fastalloc.kernels.alloc.state import AREA, DEPTH, MEMCTL, MIGRATE, PAGE, PCP, ZONE
from fastalloc.kernels.alloc.vmstat import mod_zone_page_state, zone_page_state
from fastalloc.kernels.alloc.watermarks import is_kswapd_wanted, zone_watermark, zone_watermark_ok
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.linux import gfp as g

# --------------------------------------------------------------------------------- what a request has earned


@internal
def request_harder(gfp, context, rule):
    """Whether attempt B of a request leaves out a quarter of pages_min [__alloc_pages step 5; rule 6.3:
    gfp_to_alloc_flags].

    Since 6.3 not waiting earns it only beside HIGH and without NOMEMALLOC.
    """
    harder = (gfp & (g.WAIT | g.NOHARDER)) == 0
    if rule == st.WATERMARKS_6_3:
        harder = harder and (gfp & g.HIGH) != 0 and (gfp & g.NOMEMALLOC) == 0
    return harder or ((context & g.RT_TASK) != 0 and (context & g.IN_INTERRUPT) == 0)


@kernel
def request_depth(gfp, context, rule):
    """Depth of attempt B of a request, a DEPTH: :func:`request_harder`, and HIGH."""
    return DEPTH.earned[request_harder(gfp, context, rule) + 2 * ((gfp & g.HIGH) != 0)]  # no branches


@kernel
def ignores_watermarks(gfp, context):
    """Attempt C is open: PF_MEMALLOC outside interrupts, or __GFP_MEMALLOC; no NOMEMALLOC [__alloc_pages step 7]."""
    entitled = (context & g.PF_MEMALLOC) != 0 and (context & g.IN_INTERRUPT) == 0
    return (entitled or (gfp & g.MEMALLOC) != 0) and (gfp & g.NOMEMALLOC) == 0


@kernel
def goes_on(gfp, context):
    """A refusal is not final: the request reclaims, or waits for ever (NOFAIL) [__alloc_pages steps 7 and 8]."""
    if (context & g.PF_MEMALLOC) != 0 and (context & g.IN_INTERRUPT) == 0:
        return (gfp & g.NOMEMALLOC) == 0 and (gfp & g.NOFAIL) != 0
    return (gfp & g.WAIT) != 0


# ---------------------------------------------------------------------------------------------- __alloc_pages


@kernel
def get_page_from_freelist(mem, cpu, gfp, order, first_zone, mark_column, harder):
    """Walk the zonelist from ``first_zone`` down; ``mark_column``: ZONE.min, ZONE.low, ZONE.high, or -1 for no mark."""
    high = mark_column == ZONE.min and (gfp & g.HIGH) != 0
    for z in range(first_zone, -1, -1):
        if mem.zone[z, ZONE.present] == 0:
            continue
        if mark_column >= 0 and not zone_watermark_ok(
            mem, z, order, mem.zone[z, mark_column], first_zone, high, harder
        ):
            continue
        pfn = buffered_rmqueue(mem, cpu, z, order, gfp_migrate(mem, gfp))
        if pfn >= 0:
            return pfn
    return -1


@kernel
def note_depth(mem, depth):
    """Remember how deep the last granted request went."""
    mem.ctl[MEMCTL.depth] = depth
    if depth > mem.ctl[MEMCTL.deepest]:
        mem.ctl[MEMCTL.deepest] = depth


@kernel
def watermark_page(mem, cpu, order, first_zone, gfp, context):
    """Attempts B and C: a page from as deep as mask and task allow, or -1."""
    rule = mem.ctl[POLICY.watermark_rule]
    harder = request_harder(gfp, context, rule)
    pfn = get_page_from_freelist(mem, cpu, gfp, order, first_zone, ZONE.min, harder)
    if pfn >= 0:
        note_depth(mem, request_depth(gfp, context, rule))
        return pfn
    if (gfp & g.SHORT) != 0:
        mem.ctl[MEMCTL.tests] += 1
        pfn = get_page_from_freelist(mem, cpu, gfp, order, first_zone, ZONE.short, False)
        if pfn >= 0:
            note_depth(mem, DEPTH.short)
            return pfn
    if ignores_watermarks(gfp, context):
        pfn = get_page_from_freelist(mem, cpu, gfp, order, first_zone, -1, False)
        if pfn >= 0:
            note_depth(mem, DEPTH.none)
            mem.ctl[MEMCTL.no_watermark] += 1
    return pfn


@kernel
def take_spare(mem):
    """One of the pages set aside for slabs of the swap path."""
    pfn = mem.ctl[MEMCTL.spare]
    mem.ctl[MEMCTL.spare] = mem.page[pfn, PAGE.next]
    mem.ctl[MEMCTL.nr_spare] -= 1
    mem.ctl[MEMCTL.spare_used] += 1
    mem.ctl[MEMCTL.locks] += 1
    note_depth(mem, DEPTH.none)
    return pfn


@kernel
def keep_spare(mem, pfn):
    """Set a page aside, unless there are enough; whether it was kept."""
    mem.ctl[MEMCTL.tests] += 1
    if mem.ctl[MEMCTL.nr_spare] >= mem.ctl[POLICY.spare_pages]:
        return False
    mem.ctl[MEMCTL.locks] += 1
    mem.page[pfn, PAGE.next] = mem.ctl[MEMCTL.spare]
    mem.ctl[MEMCTL.spare] = pfn
    mem.ctl[MEMCTL.nr_spare] += 1
    return True


@kernel
def depth_of_level(level, mark):
    """Which DEPTH a level that free pages stay above amounts to, beside ``mark``, the zone's min."""
    if level <= 0:
        return DEPTH.none
    for depth, high, harder in (
        (DEPTH.min, False, False),
        (DEPTH.harder, False, True),
        (DEPTH.high, True, False),
        (DEPTH.atomic, True, True),
    ):
        if level >= zone_watermark(mark, high, harder):
            return depth
    return DEPTH.short


@kernel
def asked_page(mem, cpu, order, first_zone, gfp, context):
    """A page from as deep as the user's policy says, zone by zone; -1 none, -2: the kernel is to decide."""
    out_of_line()
    about_request(mem, wanted(mem, QUESTION.depth), gfp, context, cpu)
    for z in range(first_zone, -1, -1):
        if mem.zone[z, ZONE.present] == 0:
            continue
        mark = mem.zone[z, ZONE.min]
        free = zone_page_state(mem, z) - (1 << order) + 1
        about_zone(mem, z, free)
        level = answer(mem, QUESTION.depth, LARGEST >> 1, -1)
        if level < 0:
            return -2
        if free > level + mem.zone[z, ZONE.emergency] + mem.zone[z, ZONE.reserve[first_zone]]:
            pfn = buffered_rmqueue(mem, cpu, z, order, gfp_migrate(mem, gfp))
            if pfn >= 0:
                note_depth(mem, depth_of_level(level, mark))
                return pfn
    return -1


@called_folded
def alloc_pages_zones(mem, cpu, gfp, order, context):
    """Attempts A, B and C of __alloc_pages (2.6.25): all that happens before direct reclaim.

    Returns the page frame or -1. For a request that :func:`goes_on` -1 is not final: the caller reclaims (or, with
    NOFAIL, naps) and asks again. Every other failure is final and is reported here.
    """
    first_zone = mem.ctl[MEMCTL.nr_zones] - 1
    if (gfp & g.GFP_HIGHMEM) == 0:
        first_zone -= mem.ctl[MEMCTL.user_zones]
    if (gfp & g.GFP_DMA) != 0:
        first_zone = 0
    pfn = get_page_from_freelist(mem, cpu, gfp, order, first_zone, ZONE.low, False)
    if pfn >= 0:
        note_depth(mem, DEPTH.low)
        return pfn
    mem.ctl[MEMCTL.below_low] = 1
    if is_kswapd_wanted(mem, order, first_zone):
        mem.ctl[MEMCTL.kswapd_wanted] = max(mem.ctl[MEMCTL.kswapd_wanted], 1 + order)
    if (gfp & g.POLITE) != 0:
        warn_alloc_failed(mem, cpu, gfp, order)
        return -1
    pfn = -2
    if mem.ctl[MEMCTL.ask[QUESTION.depth]] != 0:
        pfn = asked_page(mem, cpu, order, first_zone, gfp, context)
    if pfn == -2:
        pfn = watermark_page(mem, cpu, order, first_zone, gfp, context)
    if pfn >= 0:
        return pfn
    if (gfp & g.SPARE) != 0 and order == 0 and mem.ctl[MEMCTL.nr_spare] > 0:
        return take_spare(mem)
    if goes_on(gfp, context):
        mem.ctl[MEMCTL.reclaim_order] = order
        return -1
    warn_alloc_failed(mem, cpu, gfp, order)
    return -1


@folded
def stub_free_after(mem, n, order):
    """Pages that the golden cases' stub would have left, and 1 more."""
    return mem.zone[n, ZONE.total] - mem.zone[n, ZONE.hold] - mem.zone[n, ZONE.used] - (1 << order) + 1


@folded
def stub_node(mem, node, both, order, low, high, harder):
    """The first of one or two nodes that may give ``2**order`` pages against pages_low, or against pages_min, -1
    none."""
    mark = mem.zone[node, ZONE.min]
    if stub_free_after(mem, node, order) > zone_watermark(mark + mark // 4 if low else mark, high, harder):
        return node
    if both:
        other = node ^ 1
        mark = mem.zone[other, ZONE.min]
        if stub_free_after(mem, other, order) > zone_watermark(mark + mark // 4 if low else mark, high, harder):
            return other
    return -1


@folded
def stub_reserves(mem, node, both, order):
    """The first of one or two nodes that has ``2**order`` pages at all, -1 none."""
    if stub_free_after(mem, node, order) > 0:
        return node
    if both and stub_free_after(mem, node ^ 1, order) > 0:
        return node ^ 1
    return -1


@folded
def stub_attempts(mem, node, two, gfp, order, context):
    """The stub of the golden cases: three attempts over one node, or over ``two``. Returns the node that gives, or
    -1."""
    both = two and (gfp & g.THISNODE) == 0
    found = stub_node(mem, node, both, order, True, False, False)
    if found >= 0:
        note_depth(mem, DEPTH.low)
        return found
    mem.zone[node, ZONE.below_low] += 1
    rule = mem.ctl[POLICY.watermark_rule]
    # GFP_THISNODE of 2.6.25: all its bits give up half way.
    if two and (gfp & g.GFP_THISNODE) == g.GFP_THISNODE and rule == st.WATERMARKS_2_6_25:
        return -1
    harder = request_harder(gfp, context, rule)
    found = stub_node(mem, node, both, order, False, (gfp & g.HIGH) != 0, harder)
    if found >= 0:
        note_depth(mem, request_depth(gfp, context, rule))
        return found
    if ignores_watermarks(gfp, context):
        found = stub_reserves(mem, node, both, order)
        if found >= 0:
            note_depth(mem, DEPTH.none)
            mem.zone[node if rule == st.WATERMARKS_2_6_25 else found, ZONE.memalloc_used] += 1
    return found


@internal
def stub_attempts_of_two(mem, node, gfp, order, context):
    """:func:`stub_attempts` of two nodes, apart from those of one."""
    out_of_line()
    return stub_attempts(mem, node, True, gfp, order, context)


@folded
def alloc_pages_stub(mem, node, gfp, order, context):
    """Pages that are counted and no more, of a node that has any number of them or by :func:`stub_attempts`. Returns
    the node that gave, or -1."""
    found = -1
    if order < g.MAX_ORDER:
        found = node
        if mem.ctl[MEMCTL.model] == st.MODEL_STUB:
            if mem.ctl[MEMCTL.nr_nodes] == 2:
                found = stub_attempts_of_two(mem, node, gfp, order, context)
            else:
                found = stub_attempts(mem, node, False, gfp, order, context)
    if found < 0:
        mem.zone[node, ZONE.alloc_fail] += 1
        return -1
    mem.zone[found, ZONE.used] += 1 << order
    mem.zone[found, ZONE.alloc_ok] += 1
    return found


@kernel
def alloc_pages(mem, cpu, node, gfp, order, context):
    """``2**order`` pages for ``gfp`` on ``cpu``, or -1; zones model: a page frame, stub model: a node.

    Parameters
    ----------
    node : preferred node, -1 for the CPU's own (stub model only).
    context : PF_MEMALLOC, IN_INTERRUPT and RT_TASK bits of whoever asks.
    """
    out_of_line()
    if mem.ctl[MEMCTL.model] == st.MODEL_ZONES:
        return alloc_pages_zones(mem, cpu, gfp, order, context)
    if node < 0:
        node = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    return alloc_pages_stub(mem, node, gfp, order, context)


@folded
def alloc_slab_page(mem, cpu, node, gfp, order, context):
    """:func:`alloc_pages` for a slab, with what only counts in the caller [alloc_slab_page]."""
    if mem.ctl[MEMCTL.model] == st.MODEL_ZONES:
        return alloc_pages(mem, cpu, node, gfp, order, context)
    return alloc_pages_stub(mem, node if node >= 0 else cpu >> mem.ctl[MEMCTL.cpu_node_shift], gfp, order, context)


@folded
def refused_as_before(mem, cpu, node):
    """Whether the last request, just refused, is refused as well without NOWARN and NORETRY or with NOFAIL: the stub
    does not look at them where there is one node. Then it is counted once more."""
    if mem.ctl[MEMCTL.model] != st.MODEL_STUB or mem.ctl[MEMCTL.nr_nodes] != 1:
        return False
    home = node if node >= 0 else cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    mem.zone[home, ZONE.below_low] += 1
    mem.zone[home, ZONE.alloc_fail] += 1
    return True


@kernel
def free_pages(mem, cpu, pfn, order):
    """Give pages back: order 0 to the CPU's list, whose batch goes to the buddy at ``high`` [free_hot_cold_page]."""
    out_of_line()
    if mem.ctl[MEMCTL.model] != st.MODEL_ZONES:
        mem.zone[pfn, ZONE.used] -= 1 << order
        mem.zone[pfn, ZONE.frees] += 1
        return
    z = page_zone(mem, pfn)
    if order > 0:
        free_one_page(mem, z, pfn, order)
        mod_zone_page_state(mem, cpu, z, 1 << order)
        return
    pcp_push(mem, cpu, z, pfn, False)
    if mem.pcp[cpu, z, PCP.count] >= mem.zone[z, ZONE.pcp_high]:
        pcp_drain(mem, cpu, z, mem.zone[z, ZONE.batch])


@kernel
def free_cold_page(mem, cpu, pfn):
    """Give a page back to the far end of the CPU's list, from where it goes to the buddy first [free_cold_page]."""
    z = page_zone(mem, pfn)
    pcp_push(mem, cpu, z, pfn, True)
    if mem.pcp[cpu, z, PCP.count] >= mem.zone[z, ZONE.pcp_high]:
        pcp_drain(mem, cpu, z, mem.zone[z, ZONE.batch])


@kernel
def setup_pageblocks(mem, z):
    """Note all pageblocks as movable but those at the start of a zone that hold pages_min
    [memmap_init_zone, setup_zone_migrate_reserve at boot]."""
    order = mem.ctl[MEMCTL.pageblock_order]
    if order == 0:
        return
    reserve = (mem.zone[z, ZONE.min] + (1 << order) - 1) >> order
    for block in range(mem.block.shape[1]):
        mem.block[z, block] = MIGRATE.reserve if block < reserve else MIGRATE.movable


@kernel
def setup_zone_migrate_reserve(mem, z):
    """pages_min of a zone has changed: the first movable pageblocks become reserve until there are enough, and those
    too many become movable, with their free pages [setup_zone_migrate_reserve]."""
    order = mem.ctl[MEMCTL.pageblock_order]
    if order == 0:
        return
    start = mem.zone[z, ZONE.start]
    reserve = (mem.zone[z, ZONE.min] + (1 << order) - 1) >> order
    for block in range((mem.zone[z, ZONE.present] + (1 << order) - 1) >> order):
        migrate = mem.block[z, block]
        if reserve > 0 and (migrate == MIGRATE.reserve or migrate == MIGRATE.movable):
            reserve -= 1
            becomes = MIGRATE.reserve
        else:
            becomes = MIGRATE.movable if migrate == MIGRATE.reserve else migrate
        if becomes != migrate:
            mem.block[z, block] = becomes
            move_freepages_block(mem, z, start + (block << order), becomes)


@kernel
def init_zones(mem):
    """Fill the buddy lists with all present pages, top block first so that the lowest is at the head."""
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        for migrate in range(MIGRATE.width):
            for order in range(g.MAX_ORDER):
                mem.area[z, migrate, order, AREA.head] = -1
        setup_pageblocks(mem, z)
        for cpu in range(mem.pcp.shape[0]):
            setup_pageset(mem.pcp[cpu, z])
        start = mem.zone[z, ZONE.start]
        present = mem.zone[z, ZONE.present]
        for column in (ZONE.active_head, ZONE.active_tail, ZONE.inactive_head, ZONE.inactive_tail):
            mem.zone[z, column] = -1
        index = present
        while index > 0:
            order = 0
            while order < g.MAX_ORDER - 1 and (index & (1 << order)) == 0:
                order += 1
            index -= 1 << order
            area_add(mem, z, pageblock_migrate(mem, z, start + index), order, start + index)
            mem.zone[z, ZONE.free] += 1 << order
        mem.zone[z, ZONE.min_free] = mem.zone[z, ZONE.free]

"""Who may take from a zone: its marks against what it counts as free [mm/page_alloc.c: zone_watermark_ok]."""

from fastalloc.compiler.jit import called_folded, folded, internal
from fastalloc.kernels.alloc.state import AREA, MIGRATE, ZONE
from fastalloc.kernels.alloc.vmstat import zone_page_state, zone_page_state_snapshot


@called_folded
def zone_watermark(mark, high, harder):
    """The level that ``free`` must exceed, in pages [zone_watermark_ok]: HIGH halves, then HARDER takes a quarter."""
    level = mark
    if high:
        level -= level // 2
    if harder:
        level -= level // 4
    return level


@folded
def watermark_ok(mem, z, order, mark, class_zone, high, harder, free):
    """:func:`zone_watermark_ok` of a zone with ``free`` pages [__zone_watermark_ok]."""
    level = zone_watermark(mark, high, harder) + mem.zone[z, ZONE.emergency]
    free -= (1 << order) - 1
    if free <= level + mem.zone[z, ZONE.reserve[class_zone]]:
        return False
    for o in range(order):
        for migrate in range(MIGRATE.width):
            free -= mem.area[z, migrate, o, AREA.nr] << o
        level >>= 1
        if free <= level:
            return False
    return True


@called_folded
def zone_watermark_ok(mem, z, order, mark, class_zone, high, harder):
    """Whether zone ``z`` may give ``2**order`` pages against ``mark`` [zone_watermark_ok, 2.6.25]."""
    return watermark_ok(mem, z, order, mark, class_zone, high, harder, zone_page_state(mem, z))


@folded
def zone_watermark_ok_safe(mem, z, order, mark, class_zone):
    """The same as kswapd asks [zone_watermark_ok_safe; before 2.6.38 zone_watermark_ok]."""
    return watermark_ok(mem, z, order, mark, class_zone, False, False, zone_page_state_snapshot(mem, z))


@internal
def is_kswapd_wanted(mem, order, first_zone):
    """Whether a zone of a request that has failed at pages_low is below it, reserves aside: where CPUs hold back that
    none is left, all pass [wakeup_kswapd]."""
    for z in range(first_zone + 1):
        if mem.zone[z, ZONE.present] != 0 and not zone_watermark_ok_safe(mem, z, order, mem.zone[z, ZONE.low], 0):
            return True
    return False

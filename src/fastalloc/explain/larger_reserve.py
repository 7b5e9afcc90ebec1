"""How large vm.min_free_kbytes must be for a burst as deep as the one of a report."""

from math import ceil

from fastalloc.explain.boost import boost_of
from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.verdict import Decision, several_nodes, zone_name
from fastalloc.explain.watermark import Request, ZoneSum, lower_mark
from fastalloc.linux.mem_info import HIDES_ABOVE, ZONES
from fastalloc.linux.watermark_boost import MARKLESS


def larger_reserve(decision: Decision, block: MemInfo, zone: ZoneSum, request: Request) -> list[str]:
    """How large min_free_kbytes must be so that a burst as deep as this one passes, and what that costs.

    kswapd wakes at low; the caller may go down to its mark. The burst took the zone from low to below the mark, so the
    room between the two must be at least that deep: it grows in proportion to min. Of a zone that was drained the depth
    is a lower bound, and for a caller without a mark, who took all of it, no figure follows.
    """
    if zone.lowmem_reserve:  # its reserve refused; the zone of the request itself is where the burst was
        own = [one for one in decision.zones if one.allowed and one.lowmem_reserve == 0 and one.short_by]
        zone = min(own, key=lambda one: one.short_by or 0) if own else zone
    if not zone.min or zone.low is None or zone.high is None or any(one.broken for one in decision.zones):
        return []
    boost = boost_of(zone, decision)
    least, low = zone.min - boost, zone.low - boost
    mark = 0 if zone.mark is None else min(lower_mark(least, 0, request)[0], least)
    depth, room, step = low - (zone.available or 0) + 1, low - mark, low - least
    if least <= 0 or room <= 0 or depth <= room:
        return []
    unit = block.page_kb
    kept = [one for one in decision.zones if one.zone not in MARKLESS and one.min is not None]
    now = unit * sum((one.min or 0) - boost_of(one, decision) for one in kept)
    # From 6.1 a report leaves out the zones above its mask [show_free_areas], and their min is part of the sysctl.
    whole = decision.release.base < HIDES_ABOVE or ZONES.index(decision.caller.mask_zone) >= ZONES.index("Normal")
    name = zone_name(zone, several_nodes(decision))
    if zone.mark is None:
        more_than = f" than {now}" if whole else ""
        return [
            f"vm.min_free_kbytes larger{more_than}: {name} was drained from low ({low}) to {zone.free}, so the "
            f"burst was at least {depth} deep; how much more it wanted is not in the report"
        ]
    # low is min + a quarter, or (4.6+) min + a share of the zone that does not grow with min.
    share = step if step > least // 4 + 1 and zone.high - zone.low == step else 0
    kept_part = mark / least  # of min, that this caller may not go below
    grown = [depth / (1.25 - kept_part)]
    if share and kept_part < 1:
        grown.append((depth - share) / (1 - kept_part))
    wanted = ceil(min(grown))
    if wanted <= least:
        return []
    there = -(-now * wanted // least)
    about, deep = ("about", "") if zone.free else ("at least", "at least ")
    change = f"from {now} to {about} {there}" if whole else f"to {about} {wanted / least:.2f} times what it is"
    cost = f"; that keeps {about} {there - now} kB more free" if whole else ""
    return [
        f"vm.min_free_kbytes {change}: the way from low ({low}) to this caller's mark ({mark}) in "
        f"{name} is {room} pages, this burst was {deep}{depth} deep{cost}"
    ]

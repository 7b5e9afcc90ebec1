"""The cause by class, one sentence, and what to try first with its figure."""

from dataclasses import dataclass, field
from math import ceil

from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.reports import Report
from fastalloc.explain.verdict import Decision
from fastalloc.explain.watermark import ZoneSum

_MARKLESS = ("HighMem", "Movable")  # their min is not made of min_free_kbytes [__setup_per_zone_wmarks]


@dataclass
class Advice:
    """What a report comes to, in words."""

    cause: str  # reserve, fragmentation, mask, gone, cgroup, transient, unknown, or a word of its own
    sentence: str
    first: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)


def advise(report: Report, decision: Decision) -> Advice:
    """Says who asked for what, what refused it, what would have let it pass and what would not."""
    who = _who(report, decision)
    verdict = decision.verdict
    if verdict == "memcg-limit":
        return Advice(
            "cgroup",
            f"{who}: the limit of a memory cgroup refused, not a zone; a higher limit would have let it pass, "
            "more free memory in the machine would not.",
            ["raise memory.max (memory.limit_in_bytes) of the cgroup, or let it reclaim earlier with memory.high"],
            ["vm.min_free_kbytes, a mempool or more memory in the machine: none is asked here"],
        )
    if verdict == "no-mem-info":
        return Advice("unknown", f"{who} and was refused; without its Mem-Info no zone can be checked.")
    if verdict == "other" and (report.kind == "vmalloc" or report.vmalloc):
        return Advice(
            "address-space",
            f"{who}: {report.vmalloc or 'vmalloc failed'}; no zone was short.",
            ["a larger vmalloc area (boot parameter vmalloc= on 32-bit), or who holds it: /proc/vmallocinfo"],
            ["vm.min_free_kbytes: no mark refused"],
        )
    if verdict == "other" and report.sysrq and report.kind != "oom":
        return Advice("none", "The memory was shown by hand (SysRq m): no request failed, so no zone refused.")
    if verdict == "other" and report.kind == "oom":
        return Advice("none", "The kill was asked for by hand (SysRq f): no request failed, so no zone refused.")
    if verdict == "other" and report.kind == "stall":
        return Advice("none", f"{who}: {decision.why}.")
    block = report.mem_info
    assert block is not None
    able = [zone for zone in decision.zones if zone.allowed and zone.verdict != "empty-zone"]
    if verdict == "zone-not-allowed":
        return _barred(who, decision, block)
    if verdict == "passes-now":
        return _transient(who, decision, able)
    if verdict == "other":
        return _wrong_type(who, decision, able)
    if verdict == "fragmentation":
        return _fragmented(who, report, decision, able)
    return _below(who, report, decision, block, able)


def _who(report: Report, decision: Decision) -> str:
    order = report.order or 0
    what = "a page" if order == 0 else f"a block of 2^{order} pages"
    how = "that may not wait" if not decision.caller.may_reclaim and report.kind != "oom" else "that may reclaim"
    if report.mode is None:
        how = "with an unknown mask"
    comm = report.comm or "a task"
    where = "in an interrupt " if decision.caller.interrupt and not decision.caller.may_reclaim else ""
    mask = f"{decision.caller.names}" if report.mode is not None else "mask lost"
    return f"{comm} asked {where}for {what} ({mask}, {how})"


def _nearest(zones: list[ZoneSum]) -> ZoneSum:
    return min(zones, key=lambda zone: (_short(zone), -zone.free))


def _more(pages: int) -> str:
    return "1 page more" if pages == 1 else f"{pages} pages more"


def _short(zone: ZoneSum) -> int:
    if zone.at != "min" and zone.last_try_high:
        return zone.last_try_high["short_by"]
    return zone.short_by or 0


def _barred(who: str, decision: Decision, block: MemInfo) -> Advice:
    elsewhere = [zone for zone in decision.zones if not zone.allowed and zone.free]
    free = sum(zone.free for zone in elsewhere)
    names = ", ".join(sorted({zone.zone for zone in elsewhere}))
    zone = decision.class_zone
    return Advice(
        "mask",
        f"{who}: its mask allows {zone} at most, which has no pages here; {free} pages are free in "
        f"{names or 'no other zone'}; a mask that allows those would let it pass, more free memory there would not.",
        [f"the caller's mask: drop the demand for {zone} where the device can address more (dma_set_mask, GFP_KERNEL)"],
        [f"vm.min_free_kbytes: {zone} has no page to keep"],
    )


def _transient(who: str, decision: Decision, able: list[ZoneSum]) -> Advice:
    zone = next(zone for zone in able if zone.verdict == "passes-now")
    room = (zone.available or 0) - (zone.need_more_than or 0)
    return Advice(
        "transient",
        f"{who} and was refused; when the report was printed {zone.zone} passed again by {room} pages: the shortage "
        "was over within the time of the print.",
        ["the peak before it: trace kmem:mm_page_alloc and vmscan:mm_vmscan_wakeup_kswapd around the next one"],
    )


def _wrong_type(who: str, decision: Decision, able: list[ZoneSum]) -> Advice:
    zone = next(zone for zone in able if zone.verdict == "wrong-type")
    newer = (
        ""
        if decision.rules.order0_highatomic == "NON_BLOCK"
        else ("a kernel that lets an order-0 request that may not block take highatomic blocks (6.12, 6.1.116)")
    )
    return Advice(
        "mask",
        f"{who}: {zone.zone} passes its mark by {(zone.available or 0) - (zone.need_more_than or 0)} pages, but every "
        "free block is of a migrate type that the request may not take (highatomic, CMA or isolated); one block of "
        "another type would have let it pass, a larger reserve would not.",
        [newer or "free pages of the other types: reclaim earlier (vm.watermark_scale_factor)"],
        ["vm.min_free_kbytes alone: the mark was not what refused"],
    )


def _fragmented(who: str, report: Report, decision: Decision, able: list[ZoneSum]) -> Advice:
    order = report.order or 0
    zones = [zone for zone in able if zone.verdict == "fragmentation"]
    zone = max(zones, key=lambda one: one.free)
    if zone.halving is not None:
        loop = zone.halving
        refused = (
            f"{zone.zone} has {zone.free} free pages, but after its blocks below order {loop['order']} only "
            f"{loop['left']} are left where more than {loop['need_more_than']} must be"
        )
    elif not zone.lists_known:
        refused = f"{zone.zone} passes its mark with {zone.free} free pages, so no block of order {order} was there"
    else:
        largest = zone.largest_usable_order
        refused = (
            f"{zone.zone} has {zone.free} free pages and passes its mark, but the largest block that it may take is of "
            f"order {largest if largest is not None else 'none'}"
        )
    first = []
    if report.caches:
        said = next((said for said in report.caches if "cache" in said), None)
        if said is not None and int(said["deforder"]) > int(said["minorder"]):
            first.append(
                f"slub_max_order={said['minorder']} at boot: {said['cache']} then asks for order {said['minorder']}"
            )
    first.append(
        f"smaller requests: kvmalloc, or pages in a list, in place of 2^{order} contiguous ones"
        if order > 3
        else "compaction ahead of need: "
        + ("vm.compaction_proactiveness, or " if decision.release.base >= (5, 9, 0) else "")
        + "echo 1 > /proc/sys/vm/compact_memory"
    )
    useless = ["more free memory of order 0 as such: the pages were there, not in one piece"]
    if decision.caller.may_reclaim:
        useless.append("vm.min_free_kbytes by a little: the mark did not refuse")
    if zone.halving is not None:
        needed = f"at least {_more(zone.halving['short_by'])} in larger blocks would have let it go on"
    else:
        needed = f"one free block of order {order} would have let it pass"
    passes = f"{needed}, more pages of order 0 would not do"
    return Advice("fragmentation", f"{who}: {refused}; {passes}.", first, useless)


def _below(who: str, report: Report, decision: Decision, block: MemInfo, able: list[ZoneSum]) -> Advice:
    zone = _nearest(able)
    if decision.caller.memalloc:
        return Advice(
            "gone",
            f"{who}, without any mark (PF_MEMALLOC or __GFP_MEMALLOC), and found no free block: the reserve itself was "
            "used up.",
            _larger_reserve(decision, block, zone),
            ["a discount for the caller: it has all there is already"],
        )
    mark = f"{zone.mark} + reserve {zone.lowmem_reserve or 0}"
    short = _short(zone)
    refused = (
        f"{zone.zone} came nearest: {zone.available} pages usable where more than {mark} must be, short by {short}"
        if zone.at == "min"
        else f"{zone.zone} passes at min and is short by {short} at high, the mark of the last try before a kill"
    )
    barred = _barred_pages(decision, able)
    would_not = "page cache to drop" if not decision.caller.may_reclaim else "a larger min_free_kbytes"
    passes = f"{_more(short)} free there would have let it pass, {would_not} would not"
    advice = Advice("reserve", f"{who}: {refused}; {passes}.")
    if report.kind == "oom":
        advice.cause = "gone"
        advice.first.append(_who_holds(block))
        advice.useless.append("vm.min_free_kbytes: it only raises the mark that refused")
    elif barred and barred[1] >= short:
        advice.cause = "mask"
        advice.sentence = f"{who}: {refused}; {barred[0]}; {passes}."
        advice.first.append(barred[2])
        advice.first += _larger_reserve(decision, block, zone)
    elif decision.caller.may_reclaim:
        advice.cause = "gone"
        advice.first.append(_who_holds(block))
    else:
        advice.first += _larger_reserve(decision, block, zone)
        advice.first.append("bursts of other sizes: `--machine m.toml`, then `fastalloc reserve m.toml --burst ..`")
        advice.useless.append("swap or more page cache to drop: the caller may not wait for it")
    boosted = next((one for one in able if one.boost and one.short_by and one.short_by <= one.boost), None)
    if boosted is not None and decision.caller.may_reclaim:
        said = f"vm.watermark_boost_factor=0: {boosted.zone} passes without its boost of {boosted.boost} pages"
        advice.first.insert(0, said)
        advice.cause = "boost"
    return advice


def _barred_pages(decision: Decision, able: list[ZoneSum]) -> tuple[str, int, str] | None:
    """Free memory that this caller may not take: of CMA, of highatomic blocks, of a reserve, of a zone above."""
    kept: list[tuple[int, str, str]] = []
    for zone in able:
        for name, words in (("cma", "CMA"), ("highatomic", "highatomic blocks")):
            pages = zone.unusable.get(name, 0)
            if pages:
                kept.append(
                    (
                        pages,
                        f"{pages} free pages of {zone.zone} are {words}, which this caller may not take",
                        f"fewer {words}: "
                        + ("a smaller cma= area" if name == "cma" else "they return when the burst ends"),
                    )
                )
        # The reserve bars memory only where the request has no zone of its own.
        if zone.lowmem_reserve and all(one.lowmem_reserve for one in able):
            said = f"{zone.lowmem_reserve} pages of {zone.zone} are kept from {decision.class_zone} (lowmem_reserve)"
            kept.append((zone.lowmem_reserve, said, "vm.lowmem_reserve_ratio: a larger ratio keeps fewer pages"))
    above = [zone for zone in decision.zones if not zone.allowed and zone.free]
    pages = sum(zone.free for zone in above)
    if pages:
        names = ", ".join(sorted({zone.zone for zone in above}))
        kept.append(
            (pages, f"{pages} pages are free in {names}, which its mask may not use", f"a mask that allows {names}")
        )
    if not kept:
        return None
    pages, said, first = max(kept)
    return said, pages, first


def _who_holds(block: MemInfo) -> str:
    """Where the memory is, by the counters."""
    totals = block.totals
    anon = totals.get("active_anon", totals.get("Active_anon", 0)) + totals.get("inactive_anon", 0)
    cache = totals.get("active_file", 0) + totals.get("inactive_file", 0)
    lists = totals.get("Active", 0) + totals.get("inactive", 0)  # to 2.6.27 one pair of lists for both
    slab = totals.get("slab_unreclaimable", totals.get("slab", 0))
    kinds = ((anon, "anonymous memory"), (cache, "page cache"), (lists, "LRU lists"), (slab, "unreclaimable slab"))
    held = sorted(kinds, reverse=True)
    if not held[0][0]:
        return "who holds the memory: the counters after Mem-Info are not in the text"
    said = ", ".join(f"{name} {pages} pages" for pages, name in held if pages)
    return f"who holds the memory ({said}): " + (
        "slabtop, /proc/slabinfo" if held[0][1] == "unreclaimable slab" else "more memory or swap, or a smaller load"
    )


def _larger_reserve(decision: Decision, block: MemInfo, zone: ZoneSum) -> list[str]:
    """How large min_free_kbytes must be so that a burst as deep as this one passes, and what that costs.

    kswapd wakes at low; the caller may go down to its mark. The burst took the zone from low to below the mark, so the
    room between the two must be at least that deep: it grows in proportion to min.
    """
    if zone.lowmem_reserve:  # its reserve refused; the zone of the request itself is where the burst was
        own = [one for one in decision.zones if one.allowed and one.lowmem_reserve == 0 and one.short_by]
        zone = min(own, key=_short) if own else zone
    if not zone.min or zone.low is None or zone.high is None:
        return []
    boost = zone.boost or 0
    least, low = zone.min - boost, zone.low - boost
    mark = min(zone.mark or 0, least)
    depth, room, step = low - (zone.available or 0) + 1, low - mark, low - least
    if least <= 0 or room <= 0 or depth <= room:
        return []
    # low is min + a quarter, or (4.6+) min + a share of the zone that does not grow with min.
    share = step if step > least // 4 + 1 and zone.high - zone.low == step else 0
    kept_part = mark / least  # of min, that this caller may not go below
    grown = [depth / (1.25 - kept_part)]
    if share and kept_part < 1:
        grown.append((depth - share) / (1 - kept_part))
    wanted = ceil(min(grown))
    unit = block.page_kb
    kept = [one for one in decision.zones if one.zone not in _MARKLESS and one.min is not None]
    now = unit * sum((one.min or 0) - (one.boost or 0) for one in kept)
    there = -(-now * wanted // least)
    return [
        f"vm.min_free_kbytes from {now} to about {there}: the way from low ({low}) to this caller's mark ({mark}) in "
        f"{zone.zone} is {room} pages, this burst was {depth} deep; that keeps about {there - now} kB more free"
    ]

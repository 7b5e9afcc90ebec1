"""The cause by class, one sentence, and what to try first with its figure."""

from fastalloc.explain.barred import closing, free_elsewhere
from fastalloc.explain.below import below_mark
from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.passing import PAGE_FAULTS, passes_now
from fastalloc.explain.reports import Report
from fastalloc.explain.sentence import Advice, more, smaller_requests, who_asked, without_debugging
from fastalloc.explain.verdict import Decision, impossible_size, several_nodes, zone_name
from fastalloc.explain.watermark import ZoneSum


def advise(report: Report, decision: Decision) -> Advice:
    """Says who asked for what, what refused it, what would have let it pass and what would not."""
    who = who_asked(report, decision)
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
        lacks = (
            "the zones of its Mem-Info" if report.mem_info is not None and report.mem_info.totals else "its Mem-Info"
        )
        if report.page_fault:
            return Advice("unknown", f"{who}; without {lacks} no zone can be checked.", [PAGE_FAULTS])
        return Advice("unknown", f"{who} and was refused; without {lacks} no zone can be checked.")
    if verdict == "other" and (report.kind == "vmalloc" or report.vmalloc):
        return _vmalloc(who, report)
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
        return _no_zone(who, report, decision, block)
    if verdict == "other":
        return _wrong_type(who, decision, able)
    if verdict == "passes-now":
        said = passes_now(report, decision, block, able)
    elif verdict == "fragmentation":
        said = _fragmented(who, report, decision, block, able)
    else:
        said = below_mark(report, decision, block, able)
    return _single_pages_instead(said, report.order or 0) if report.vmalloc and report.order else said


def _single_pages_instead(said: Advice, order: int) -> Advice:
    """vmalloc that got no huge pages asks again for single ones; from 6.5 it says nothing of it
    [mm/vmalloc.c: __vmalloc_area_node, __vmalloc_node_range, 5.13 and later]."""
    sentence = said.sentence.removesuffix(".")
    return Advice(
        said.cause,
        f"{sentence}. vmalloc then asks again for single pages, so nothing is lost unless that fails as well (an error "
        "without 'page order' or of order 0).",
        [f"nothing, where no such error follows: from 6.5 vmalloc does not warn of order {order}"],
        [*said.useless, "smaller requests: vmalloc makes them itself"],
    )


def _vmalloc(who: str, report: Report) -> Advice:
    said, useless = f"{who}: {report.vmalloc or 'vmalloc failed'}", ["vm.min_free_kbytes: no mark refused"]
    if impossible_size(report):
        return Advice(
            "size",
            f"{said}: no memory was asked for, since vmalloc refuses 0 bytes and more than all memory at once; another "
            "size would have let it pass, more address space or free memory would not.",
            ["the caller: where its size comes from, an unchecked length or an overflow"],
            ["a larger vmalloc area: none was searched", *useless],
        )
    return Advice(
        "address-space",
        f"{said}; no zone was short.",
        ["a larger vmalloc area (boot parameter vmalloc= on 32-bit), or who holds it: /proc/vmallocinfo"],
        useless,
    )


def _no_zone(who: str, report: Report, decision: Decision, block: MemInfo) -> Advice:
    """No zone that the mask allows has pages, in the machine or on the nodes that the request may use."""
    zone = decision.class_zone
    useless = [f"vm.min_free_kbytes: {zone} has no page to keep"]
    closed, pages = closing(report, decision), free_elsewhere(report, decision, block)
    if closed is not None and pages:
        by, first = closed
        return Advice(
            "nodes",
            f"{who}: its mask allows {zone} at most, and {by} leaves it no node with such a zone; {pages} pages are "
            "free on the nodes that are closed to it; one of those would let it pass, more free memory on its own "
            "would not.",
            [f"{first} in {zone} or below: kernel memory has no place on a node of Movable alone"],
            useless,
        )
    elsewhere = [zone for zone in decision.zones if not zone.allowed and zone.free]
    free = sum(zone.free for zone in elsewhere)
    names = ", ".join(sorted({zone.zone for zone in elsewhere}))
    return Advice(
        "mask",
        f"{who}: its mask allows {zone} at most, which has no pages here; {free} pages are free in "
        f"{names or 'no other zone'}; a mask that allows those would let it pass, more free memory there would not.",
        [f"the caller's mask: drop the demand for {zone} where the device can address more (dma_set_mask, GFP_KERNEL)"],
        useless,
    )


def _wrong_type(who: str, decision: Decision, able: list[ZoneSum]) -> Advice:
    zone = next(zone for zone in able if zone.verdict == "wrong-type")
    name = zone_name(zone, several_nodes(decision))
    newer = (
        ""
        if decision.rules.order0_highatomic == "NON_BLOCK"
        else ("a kernel that lets an order-0 request that may not block take highatomic blocks (6.12, 6.1.116)")
    )
    return Advice(
        "mask",
        f"{who}: {name} passes its mark by {(zone.available or 0) - (zone.need_more_than or 0)} pages, but every "
        "free block is of a migrate type that the request may not take (highatomic, CMA or isolated); one block of "
        "another type would have let it pass, a larger reserve would not.",
        [newer or "free pages of the other types: reclaim earlier (vm.watermark_scale_factor)"],
        ["vm.min_free_kbytes alone: the mark was not what refused"],
    )


_BARRED = {"C": "CMA", "H": "highatomic", "I": "isolated"}  # letters of a free list [show_migration_types]


def _larger(zone: ZoneSum, order: int, block: MemInfo) -> str:
    """Says which free blocks of the order are of a type that the request may not take."""
    info = block.find(zone.node, zone.zone)
    lists = info.lists.blocks if info is not None and info.lists is not None else []
    kinds = {letter for count, letters in lists[order:] if count for letter in letters or ""}
    names = [name for letter, name in _BARRED.items() if letter in kinds]
    return f" (those of order {order} and above are {' or '.join(names)})" if names else ""


def _fragmented(who: str, report: Report, decision: Decision, block: MemInfo, able: list[ZoneSum]) -> Advice:
    order = report.order or 0
    zones = [zone for zone in able if zone.verdict == "fragmentation"]
    zone = max(zones, key=lambda one: one.free)
    name = zone_name(zone, several_nodes(decision))
    if zone.halving is not None:
        loop = zone.halving
        refused = (
            f"{name} has {zone.free} free pages, but after its blocks below order {loop['order']} only "
            f"{loop['left']} are left where more than {loop['need_more_than']} must be"
        )
    elif not zone.lists_known:
        refused = f"{name} passes its mark with {zone.free} free pages, so no block of order {order} was there"
    else:
        largest = zone.largest_usable_order
        refused = (
            f"{name} has {zone.free} free pages and passes its mark, but the largest block that it may take is of "
            f"order {largest if largest is not None else 'none'}"
        )
        if zone.at != "min":  # [__alloc_pages_may_oom]
            refused += " in the last try before a kill, which takes no CMA block"
        else:
            refused += _larger(zone, order, block)
    first = without_debugging(report, block)
    first.append(smaller_requests(order, decision.release))
    useless = ["more free memory of order 0 as such: the pages were there, not in one piece"]
    if decision.caller.may_reclaim:
        useless.append("vm.min_free_kbytes by a little: the mark did not refuse")
    if zone.halving is not None:
        needed = f"at least {more(zone.halving['short_by'])} in larger blocks would have let it go on"
    else:
        needed = f"one free block of order {order} would have let it pass"
    passes = f"{needed}, more pages of order 0 would not do"
    return Advice("fragmentation", f"{who}: {refused}; {passes}.", first, useless)

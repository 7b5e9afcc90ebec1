"""Free memory that a request may not take: of other nodes, of zones above its mask, of CMA, highatomic, a reserve."""

import re
from typing import NamedTuple

from fastalloc.explain.layout import reserve_for
from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.reports import Report
from fastalloc.explain.verdict import Decision, several_nodes, zone_name
from fastalloc.explain.watermark import Request, ZoneSum, free_cma, usable_blocks, usable_letters
from fastalloc.linux.mem_info import HIDES_ABOVE, ZONES


class Barred(NamedTuple):
    """Free pages out of reach. ``useless``: what would not help, since the pages are there."""

    pages: int
    said: str
    first: str
    cause: str = "mask"  # mask, nodes
    useless: str = ""
    low_memory: bool = False  # they are in HighMem


def barred_memory(report: Report, decision: Decision, block: MemInfo, request: Request) -> list[Barred]:
    """Free memory that would have let the request pass, were it allowed there: closed nodes, then the largest first.

    Before an OOM kill the high mark is what had to be passed, and blocks kept for high-order atomic requests have been
    given back by then [unreserve_highatomic_pageblock]; a reserve that nobody else used is no reason for a kill.
    """
    found: list[Barred | None] = [
        _closed_nodes(report, decision, block, request),
        _above(report, decision, block, request),
    ]
    for zone in decision.zones:
        if zone.allowed and zone.available is not None:
            found += _kept(zone, decision, block, request)
    if not request.oom:
        found += _reserved(decision)
    return sorted((one for one in found if one is not None), key=lambda one: (one.cause != "nodes", -one.pages))


def closing(report: Report, decision: Decision) -> tuple[str, str] | None:
    """What confines a request to some nodes, and what to try; None where nothing is known to.

    The kernel names it for a kill [mm/oom_kill.c: constrained_alloc]. A memory policy is the nodemask of a request;
    what a report says of mems_allowed counts where a node outside it is shown.
    """
    shut = {zone.node for zone in _closed_zones(decision)}
    # CONSTRAINT_NONE: no policy and no cpuset closed a node with memory; of __GFP_THISNODE it says nothing.
    if report.constraint == "CONSTRAINT_NONE" and not decision.caller.has("THISNODE"):
        return None
    policy = _policy(report)
    outside_policy = bool(policy) and (not shut or any(not _lists(policy, node) for node in shut))
    if report.constraint == "CONSTRAINT_MEMORY_POLICY" or (outside_policy and report.constraint != "CONSTRAINT_CPUSET"):
        nodes = f" (nodemask={policy})" if policy else ""
        return (
            f"its memory policy{nodes}",
            "the memory policy (numactl --membind, mbind, set_mempolicy): let it have nodes with free memory",
        )
    outside_cpuset = bool(report.mems) and any(not _lists(report.mems or "", node) for node in shut)
    if report.constraint == "CONSTRAINT_CPUSET" or outside_cpuset:
        nodes = f" (mems_allowed={report.mems})" if report.mems else ""
        return f"its cpuset{nodes}", "cpuset.mems: let the cpuset have nodes with free memory"
    if shut and decision.caller.has("THISNODE"):
        return "__GFP_THISNODE", "a request without __GFP_THISNODE, where memory of another node would do"
    return None


def _policy(report: Report) -> str:
    """The nodes of the request's nodemask; empty where it has none."""
    return report.nodemask if report.nodemask and report.nodemask[0].isdigit() else ""


def _lists(nodes: str, node: int) -> bool:
    """True where a list such as ``0-1,4`` has the node."""
    spans = re.findall(r"(\d+)(?:-(\d+))?", nodes)
    return any(int(first) <= node <= int(last or first) for first, last in spans)


def free_elsewhere(report: Report, decision: Decision, block: MemInfo) -> int:
    """Free pages of nodes that a request may not use: those printed, else those that a report leaves out.

    A reclaiming caller's report leaves out nodes outside its cpuset and its nodemask [show_mem_node_skip, 2.6.39 and
    later], but the counters are of the whole machine.
    """
    printed = sum(zone.free for zone in _closed_zones(decision))
    hidden = block.totals.get("free", 0) - sum(zone.free for zone in decision.zones)
    return printed + max(hidden, 0) if block.zones and _hides_nodes(report) else printed


def _hides_nodes(report: Report) -> bool:
    return bool(_policy(report)) or report.constraint in ("CONSTRAINT_CPUSET", "CONSTRAINT_MEMORY_POLICY")


def _closed_zones(decision: Decision) -> list[ZoneSum]:
    """Zones that the mask allows and that are closed all the same: their node is."""
    top = ZONES.index(decision.caller.mask_zone)
    return [one for one in decision.zones if not one.allowed and ZONES.index(one.zone) <= top]


def _closed_nodes(report: Report, decision: Decision, block: MemInfo, request: Request) -> Barred | None:
    closed = closing(report, decision)
    if closed is None:
        return None
    printed = _closed_zones(decision)
    pages = free_elsewhere(report, decision, block)
    passing = [one for one in printed if _would_pass(one, decision, block, request)]
    short = min((_short(one) for one in decision.zones if one.allowed and one.available is not None), default=0)
    if not passing and pages - sum(one.free for one in printed) < max(short, 1):
        return None
    by, first = closed
    # From 6.1 the zones above the mask are left out as well, of all nodes.
    most = "up to " if decision.release.base >= HIDES_ABOVE and decision.caller.mask_zone != "Movable" else ""
    said = f"{most}{pages} pages are free on nodes that {by} closes"
    return Barred(pages, said, first, "nodes", "more memory or swap as such: other nodes have it free")


def _short(zone: ZoneSum) -> int:
    """How short a zone is, before a kill at the high mark."""
    return max(zone.short_by or 0, zone.last_try_high["short_by"] if zone.last_try_high else 0)


def _would_pass(zone: ZoneSum, decision: Decision, block: MemInfo, request: Request) -> bool:
    """A zone that is closed would let the request pass, by its own mark and its own blocks."""
    info = block.find(zone.node, zone.zone)
    class_zone = decision.class_zone or zone.zone
    if ZONES.index(class_zone) < ZONES.index(zone.zone):
        class_zone = zone.zone
    reserve = reserve_for(block, decision.layout, zone.node, zone.zone, class_zone) or 0
    mark = (zone.high if request.oom else zone.min) or 0
    if info is None or zone.free - ((1 << request.order) - 1) <= mark + reserve:
        return False
    return request.order == 0 or info.lists is None or usable_blocks(info.lists, request.order, "UMERC") != 0


def _above(report: Report, decision: Decision, block: MemInfo, request: Request) -> Barred | None:
    """Free memory in zones above the mask's own."""
    top = ZONES.index(decision.caller.mask_zone)
    above = [one for one in decision.zones if not one.allowed and ZONES.index(one.zone) > top]
    above = [one for one in above if _would_pass(one, decision, block, request)]
    pages = sum(one.free for one in above)
    names = ", ".join(sorted({one.zone for one in above}))
    if request.oom and not above and not _hides_nodes(report) and decision.release.base >= HIDES_ABOVE:
        # From 6.1 these zones are left out; the last lines still count HighMem, and what is Movable of it: always 0
        # in a kernel without CONFIG_HIGHMEM [is_highmem_idx].
        hidden = block.totals.get("free", 0) - sum(one.free for one in decision.zones)
        pages = min(hidden, block.tail.get("pages HighMem/MovableOnly", 0))
        names = "HighMem"
        short = max((_short(one) for one in decision.zones if one.allowed), default=0)
        if pages <= short:
            return None
    if not pages:
        return None
    said = f"{pages} pages are free in {names}, which its mask may not use"
    if "HighMem" in names and decision.caller.mask_zone == "Normal" and decision.caller.may_reclaim:
        # What the kernel addresses itself has its place below HighMem; low memory did not come free by reclaim.
        return Barred(
            pages,
            said,
            "a 64-bit kernel, or less use of low memory: it ran out, not all memory",
            useless="more memory: it would be HighMem, which this request may not use",
            low_memory=True,
        )
    if names == "Movable":  # kernel memory has no place there
        return Barred(pages, said, "a smaller ZONE_MOVABLE (kernelcore=, movablecore=, memory onlined as movable)")
    return Barred(pages, said, f"a mask that allows {names}")


def _kept(zone: ZoneSum, decision: Decision, block: MemInfo, request: Request) -> list[Barred]:
    """CMA and highatomic pages of a zone that would pass if it might count and take them."""
    unusable = zone.unusable
    info = block.find(zone.node, zone.zone)
    name = zone_name(zone, several_nodes(decision))
    found: list[Barred] = []

    def enough(pages: int, letter: str) -> bool:
        if not pages or pages < _short(zone) or not _short(zone):
            return False
        letters = usable_letters(request)[1] + letter
        lists = info.lists if info is not None else None
        return request.order == 0 or lists is None or usable_blocks(lists, request.order, letters) != 0

    cma, bar = unusable.get("cma", 0), "this caller may not take"
    if not cma and zone.last_try_high and info is not None and decision.rules.cma != "none":
        # A movable mask may take them, but the last try does not ask for ALLOC_CMA [__alloc_pages_may_oom].
        cma, bar = free_cma(info, block), "the last try before a kill does not count"
    if enough(cma, "C"):
        said = f"{cma} free pages of {name} are CMA, which {bar}"
        asks = decision.caller.has("MOVABLE") and not decision.caller.cma_ok
        found.append(Barred(cma, said, "a mask with __GFP_CMA" if asks else "fewer CMA: a smaller cma= area"))
    highatomic = unusable.get("highatomic", 0)
    if not request.oom and enough(highatomic, "H"):
        # To 6.11 nr_reserved_highatomic counts: whole page blocks, whatever of them is free.
        free = info is not None and "free_highatomic" in info.kb and decision.rules.highatomic == "free"
        said = (
            f"{highatomic} free pages of {name} are in highatomic blocks, which this caller may not take"
            if free
            else f"{highatomic} pages of {name} are set aside in highatomic blocks, used or free, and do not count for "
            "this caller"
        )
        found.append(Barred(highatomic, said, "fewer highatomic blocks: they return when the burst ends"))
    return found


def _reserved(decision: Decision) -> list[Barred]:
    """What zones keep from the request's class; it bars memory only where the request has no zone of its own."""
    able = [one for one in decision.zones if one.allowed and one.verdict != "empty-zone"]
    if not all(one.lowmem_reserve for one in able):
        return []
    first = "vm.lowmem_reserve_ratio: a larger ratio keeps fewer pages"
    return [
        Barred(
            zone.lowmem_reserve or 0,
            f"{zone.lowmem_reserve} pages of {zone.zone} are kept from {decision.class_zone} (lowmem_reserve)",
            first,
        )
        for zone in able
        if (zone.lowmem_reserve or 0) >= (zone.short_by or 0)
    ]

"""A zone that passes when the report is printed: whether the shortage was over, or what else may have refused."""

from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.reports import Report
from fastalloc.explain.sentence import Advice, who_asked
from fastalloc.explain.verdict import Decision, several_nodes, zone_name
from fastalloc.explain.watermark import ZoneSum
from fastalloc.linux.release import span

PAGE_FAULTS = (
    "what lets a page fault fail: a memory cgroup at its limit, of kernel memory too (memory.kmem.limit_in_bytes), a "
    "page table, a driver's fault handler; the lines before the kill"
)
_PEAK = "the peak before it: trace kmem:mm_page_alloc and vmscan:mm_vmscan_wakeup_kswapd around the next one"
# Versions whose vmalloc gives up at a fatal signal and warns of missing pages [mm/vmalloc.c: __vmalloc_area_node,
# vm_area_alloc_pages: fatal_signal_pending; updates such as 5.15.107 no longer warn].
_STOPS_AT_SIGNAL = (span("4.11", "4.13"), span("5.15", "6.3"))


def passes_now(report: Report, decision: Decision, block: MemInfo, able: list[ZoneSum]) -> Advice:
    """Says by how much a zone passes and what that leaves of the failure."""
    zone = next(zone for zone in able if zone.verdict == "passes-now")
    name = zone_name(zone, several_nodes(decision))
    room = _room(zone)
    who = who_asked(report, decision)
    if report.page_fault:
        return _page_fault(who, name, room)
    if report.borrowed == "no head" and report.kind == "failure":
        return _no_head(name, room, able)
    refused = {one.node for one in able} - {one.node for one in able if one.verdict == "passes-now"}
    if decision.caller.has("THISNODE") and report.this_node is None and refused:
        nodes = ", ".join(map(str, sorted(refused)))
        return Advice(
            "unknown",
            f"{who} of one node (__GFP_THISNODE), and was refused; the report does not say which: {name} passes by "
            f"{room} pages, node {nodes} does not.",
            ["the SLUB line after the head, or the caller: they name the node"],
        )
    passing = [one for one in able if one.verdict == "passes-now"]
    cma = _may_be_cma(passing, decision, block)
    if cma:
        return _or_cma(f"{who} and was refused; {name} has {room} pages more than it must", cma)
    at = " at high, the mark of the last try before a kill" if zone.last_try_high else ""
    passed = f"{who} and was refused; when the report was printed {name} passed again by {room} pages{at}"
    short = min((_short_by_list(one, block) for one in passing), default=0)
    if short > 0:
        return _at_its_mark(passed, decision.caller.may_reclaim, short)
    # Before a kill those blocks are given back [mm/page_alloc.c: should_reclaim_retry, unreserve_highatomic_pageblock].
    if report.kind != "oom" and all(one.short_by_range is not None and one.short_by_range[1] for one in passing):
        return _or_highatomic(passed, room, _shows_highatomic(zone, block))
    return _over(report, decision, passed)


def _room(zone: ZoneSum) -> int:
    """By how many pages a zone passes, before a kill at high, which is tried last [__alloc_pages_may_oom]."""
    if zone.last_try_high:
        return zone.last_try_high["available"] - zone.last_try_high["need_more_than"]
    return (zone.available or 0) - (zone.need_more_than or 0)


def _over(report: Report, decision: Decision, passed: str) -> Advice:
    """No zone of the report refuses: what did is not in it."""
    said = f"{passed}: pages were freed since, so these zones do not show what refused"
    if report.vmalloc and not report.order and any(decision.release.base in span for span in _STOPS_AT_SIGNAL):
        said += "; or none did: vmalloc of this version stops, and says the same, once its task is to be killed"
    return Advice("transient", f"{said}.", [_PEAK])


def _may_be_cma(passing: list[ZoneSum], decision: Decision, block: MemInfo) -> int:
    """Free CMA pages whose zones are cut off, where they may be all that the zones pass by; 0 where they are not."""
    takes = decision.caller.cma_ok and not any(one.last_try_high for one in passing)  # that one takes none
    if takes or decision.caller.memalloc or decision.rules.cma == "none":
        return 0
    infos = [block.find(one.node, one.zone) for one in passing]
    room = sum(map(_room, passing))
    known = sum(block.pages(info, "free_cma") or 0 for info in block.zones)
    left = block.totals.get("free_cma", 0) - known
    cut = all(info is not None and "free_cma" not in info.kb for info in infos)
    return left if cut and not any("cma" in one.unusable for one in passing) and 0 < room <= left else 0


def _or_cma(who: str, cma: int) -> Advice:
    """A zone's line ends with its free CMA pages [show_free_areas]."""
    return Advice(
        "unknown",
        f"{who}, but its line is cut where its CMA pages would stand: {cma} free pages are CMA, which this caller "
        "may not take, so whether it passes is not told.",
        ["the same report with whole lines (dmesg, journalctl -k); nr_free_cma of each zone in /proc/zoneinfo"],
    )


def _page_fault(who: str, name: str, room: int) -> Advice:
    return Advice(
        "unknown",
        f"{who}: the OOM killer was called from the fault, not by a request that a zone refused; {name} has {room} "
        "pages more than a page must leave, so the memory of the zones is not what ran out, or it was back when this "
        "was printed.",
        [PAGE_FAULTS],
        ["more memory, vm.min_free_kbytes: no zone refused"],
    )


def _no_head(name: str, room: int, able: list[ZoneSum]) -> Advice:
    known = [one for one in able if one.min is not None and one.available is not None]
    full = min((one.min or 0) + (one.lowmem_reserve or 0) + 1 - (one.available or 0) for one in known)
    asked = (
        f", and at the full mark, that of GFP_KERNEL, every zone is short, the nearest by {full}" if full > 0 else ""
    )
    return Advice(
        "unknown",
        f"The head of this report is lost, and with it order and mask: {name} would give one page even at the mark of "
        f"GFP_ATOMIC, by {room} pages{asked}; a larger block may have been asked for, or nothing at all: memory that "
        "SysRq m shows looks the same.",
        ["the lines before it: 'page allocation failure: order:.., mode:..', 'invoked oom-killer' or 'sysrq: ..'"],
    )


def _short_by_list(zone: ZoneSum, block: MemInfo) -> int:
    """How short a zone is by the sum of its free list: it has the pages of the counter, but all zones' lines are
    printed before the first list, and what a CPU frees or takes comes to the counter by up to 125 pages at a time
    [show_free_areas; mm/vmstat.c: calculate_normal_threshold]."""
    info = block.find(zone.node, zone.zone)
    listed = info.lists.total_kb if info is not None and info.lists is not None else None
    if listed is None or zone.available is None or zone.need_more_than is None:
        return 0
    return zone.need_more_than + 1 - (zone.available + listed // block.page_kb - zone.free)


def _at_its_mark(passed: str, waits: bool, short: int) -> Advice:
    return Advice(
        "gone" if waits else "reserve",
        f"{passed} by its counter, and is short by {short} by its free list (read a moment later; the counter lacks "
        "what CPUs have not added yet): the zone stood at its mark, and nothing says that the shortage was over.",
        [
            _PEAK,
            "who holds the memory" if waits else "kswapd earlier: vm.watermark_scale_factor",
        ],
    )


def _shows_highatomic(zone: ZoneSum, block: MemInfo) -> bool:
    """The zone's free list has blocks kept for high-order atomic requests, letter H [show_free_areas]."""
    info = block.find(zone.node, zone.zone)
    lists = info.lists if info is not None else None
    return lists is not None and any("H" in (letters or "") for _, letters in lists.blocks)


def _or_highatomic(passed: str, room: int, shown: bool) -> Advice:
    """To 6.11 whole page blocks count, used or free, and to 5.5 no report prints how many [__zone_watermark_ok]."""
    seen = "its free list shows such blocks (H)" if shown else "its free list shows none"
    return Advice(
        "unknown" if shown else "transient",
        f"{passed}: pages were freed since, or more than {room} pages are kept for "
        f"high-order atomic requests, which this kernel does not print and this caller may not count ({seen}).",
        [
            _PEAK,
            "where it repeats with as many pages free: fewer high-order atomic requests, or 6.12, which takes off only "
            "the free ones of those pages",
        ],
    )

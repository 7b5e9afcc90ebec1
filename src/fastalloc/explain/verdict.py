"""The verdict of a report: every zone's sum, and what they come to."""

import re
from dataclasses import dataclass, field

from fastalloc.explain.caller import Caller, caller_of
from fastalloc.explain.layout import populated, reserve_for, zone_layout
from fastalloc.explain.mem_info import MemInfo, ZoneInfo
from fastalloc.explain.reports import Report
from fastalloc.explain.version import Kernel
from fastalloc.explain.watermark import Request, ZoneSum, check_zone, hidden_boost, last_try_decided
from fastalloc.linux.mem_info import HIDES_ABOVE, ZONES
from fastalloc.linux.release import Release
from fastalloc.linux.watermark_boost import MARKLESS, MOST_PAGEBLOCK
from fastalloc.linux.watermark_rules import Rules, rules_of

_MOST_BYTES = 1 << 56  # no machine has as much: the widest physical address [arch/riscv/include/asm/pgtable-64.h]
# In vmalloc's words: pages or the array of their addresses, not the address range [mm/vmalloc.c: __vmalloc_area_node].
_PAGES_FAILED = re.compile(r"failed to allocate pages|allocated|page (?:order|array size) \d+ allocation failed")


@dataclass
class Decision:
    """What the kernel decided, by the rules of one version."""

    release: Release
    rules: Rules
    caller: Caller
    verdict: str = "no-mem-info"
    why: str = ""
    class_zone: str | None = None
    layout: tuple[str, ...] = ()
    page_kb: int | None = None
    zones: list[ZoneSum] = field(default_factory=list)


def decide(report: Report, kernel: Kernel, task: dict[str, bool] | None = None) -> Decision:
    """Applies the rules of a kernel to a report.

    ``task``: fields of the caller that the report does not tell, such as ``memalloc``, as they are supposed to be.
    """
    rules = rules_of(kernel.release)
    block = report.mem_info
    layout = zone_layout(block, kernel.release.base, report.text, report.mode or 0) if block is not None else ZONES
    caller = caller_of(report, kernel, rules, layout)
    caller = caller._replace(**task) if task else caller  # type: ignore[arg-type]
    decision = Decision(kernel.release, rules, caller)
    if block is not None:
        decision.layout, decision.page_kb = layout, block.page_kb
    said = _said_outright(report)
    if said is not None:
        decision.verdict, decision.why = said
        if decision.verdict != "memcg-limit" and block is not None and block.zones and not report.vmalloc:
            _sums(decision, report, block, kernel)
        return decision
    if block is not None and not block.zones and block.totals and block.tail and kernel.release.base >= HIDES_ABOVE:
        decision.class_zone = caller.mask_zone
        decision.verdict = "zone-not-allowed"
        decision.why = f"no zone at or below {caller.mask_zone} has pages (from 6.1 the report leaves out those above)"
        return decision
    if block is None or not block.zones:
        decision.why = "no zone line (free/min/low/high) in the text"
        if report.vmalloc:
            decision.why = "vmalloc warning without Mem-Info: the mark cannot be checked"
        return decision
    _sums(decision, report, block, kernel)
    decision.verdict, decision.why = _together(decision, report)
    return decision


def _said_outright(report: Report) -> tuple[str, str] | None:
    """What the text itself says, so that no zone's mark decides."""
    if report.kind == "oom" and (report.sysrq or (report.order or 0) < 0):
        return "other", "the kill was asked for by hand (SysRq): no request failed"
    if report.sysrq:
        return "other", "the memory was shown by hand (SysRq): no request failed"
    if report.kind == "oom" and _is_memcg(report):
        return "memcg-limit", "the limit of a memory cgroup was hit; zone marks play no part"
    if report.kind == "slub":
        named = [said["cache"] for said in report.caches if "(" in said.get("cache", "")]
        if named:
            return "memcg-limit", (
                f"the cache {named[0]} is a memory cgroup's own, and no page allocation failure was printed beside it: "
                "the charge was refused at the cgroup's limit, not the page"
            )
    if report.kind == "vmalloc" or report.vmalloc:
        if not _PAGES_FAILED.search(report.vmalloc):
            if impossible_size(report):
                return "other", "vmalloc: 0 bytes or more than all memory was asked for; no address and no page was"
            return "other", "vmalloc: the address range or a table failed, not a zone's mark"
    if report.kind == "stall":
        return "other", "a stall is not a failure: the request still waits"
    return None


def impossible_size(report: Report) -> bool:
    """vmalloc gives up before it looks for an address: 0 bytes, or more pages than the machine has
    [__vmalloc_node_range: !size || size >> PAGE_SHIFT > totalram_pages()].

    From 5.13 it says so ("exceeds total pages"); before, the size has to tell.
    """
    if "exceeds total pages" in report.vmalloc:
        return True
    asked = re.search(r"allocation failure: (\d+) bytes", report.vmalloc)
    if asked is None:
        return False
    size, block = int(asked[1]), report.mem_info
    tail = block.tail if block is not None else {}
    pages = tail.get("pages RAM", 0) - tail.get("pages reserved", 0)
    return size == 0 or (block is not None and 0 < pages < size // (block.page_kb << 10))


def _is_memcg(report: Report) -> bool:
    if report.constraint:  # of the four there are, those without CONSTRAINT_MEMCG [constrained_alloc]
        return False
    if report.memcg:
        return True
    return any(name.startswith(("mem_cgroup_out_of_memory", "mem_cgroup_oom")) and sure for name, sure in report.frames)


def request_of(report: Report, decision: Decision) -> Request:
    """What was asked of each zone. A kill that no request called for had no last try before it."""
    killed = report.kind == "oom" and not report.page_fault
    return Request(max(report.order or 0, 0), decision.caller, decision.rules, decision.release, killed)


def _sums(decision: Decision, report: Report, block: MemInfo, kernel: Kernel) -> None:
    caller, rules = decision.caller, decision.rules
    class_zone = caller.mask_zone
    if rules.class_zone == "first populated":
        usable = populated(block, decision.layout) & set(ZONES[: ZONES.index(caller.mask_zone) + 1])
        if usable:
            class_zone = max(usable, key=ZONES.index)
    decision.class_zone = class_zone
    request = request_of(report, decision)
    nodes = _nodes(report, caller)
    for info in block.zones:
        zone = ZoneSum(info.node, info.zone, block.pages(info, "free") or 0, _allowed(info, caller, nodes))
        for name in ("min", "low", "high", "boost"):
            setattr(zone, name, block.pages(info, name))
        decision.zones.append(zone)
        if not zone.allowed:
            zone.verdict = "zone-not-allowed"
        elif is_empty(info):
            zone.verdict = "empty-zone"
        elif zone.min is None:
            zone.verdict = "unknown"
            zone.notes.append("its marks are cut off")
        else:
            reserve = reserve_for(block, decision.layout, info.node, info.zone, class_zone)
            zone.lowmem_reserve = reserve
            most = block.pages(info, "managed") or block.pages(info, "present") or block.tail.get("pages RAM")
            most = most or _MOST_BYTES // (block.page_kb << 10)
            # A boost may be above a small zone, to 5.6 by a pageblock, and so may the least min of HighMem and Movable,
            # SWAP_CLUSTER_MAX [boost_watermark, __setup_per_zone_wmarks].
            boost = zone.boost or hidden_boost(zone, kernel.release)
            zone.broken = info.zone not in MARKLESS and (zone.min - boost > most or boost > max(most, MOST_PAGEBLOCK))
            if zone.broken:
                zone.notes.append(
                    f"its min mark is above all pages there are ({most}): the marks themselves are broken"
                )
            if reserve is None:
                zone.notes.append("its lowmem_reserve is not in the text: taken as 0, so it is short by at least this")
            check_zone(zone, info, block, request)
    _without_lost_reserves(decision.zones)


def _without_lost_reserves(zones: list[ZoneSum]) -> None:
    """A zone whose lowmem_reserve is lost cannot be said to pass where others are known to have refused."""
    able = [zone for zone in zones if zone.allowed and zone.mark is not None]
    lost = [zone for zone in able if zone.verdict == "passes-now" and zone.lowmem_reserve is None]
    known = [zone for zone in able if zone not in lost]
    if known and not any(zone.verdict == "passes-now" for zone in known):
        for zone in lost:
            zone.verdict = "unknown"
            zone.notes = ["its lowmem_reserve is not in the text: without it the zone passes, with it it may not"]


def _nodes(report: Report, caller: Caller) -> set[int] | None:
    """The nodes that the request may use; None is all."""
    nodes = _node_list(report.nodemask)
    if caller.has("HARDWALL") and caller.may_reclaim and not caller.interrupt:
        mems = _node_list(report.mems)
        if mems is not None:
            nodes = mems if nodes is None else nodes & mems
    if caller.has("THISNODE") and report.this_node is not None:
        nodes = {report.this_node} if nodes is None else nodes & {report.this_node}
    return nodes


def _node_list(text: str | None) -> set[int] | None:
    if not text or not text[0].isdigit():
        return None
    nodes: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            nodes |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return nodes


def _allowed(info: ZoneInfo, caller: Caller, nodes: set[int] | None) -> bool:
    if nodes is not None and info.node not in nodes:
        return False
    return info.index <= ZONES.index(caller.mask_zone) and info.zone != "Device"


def is_empty(info: ZoneInfo) -> bool:
    """A zone without pages of its own, whose list is printed as "empty"."""
    size = info.kb.get("managed", info.kb.get("present"))
    return size == 0 and info.kb.get("free") == 0


def _together(decision: Decision, report: Report) -> tuple[str, str]:
    """One verdict of all zones, and why in one line."""
    able = [zone for zone in decision.zones if zone.allowed and zone.verdict != "empty-zone"]
    if not able:
        return "zone-not-allowed", f"no zone this caller may use (class {decision.class_zone}) has any page"
    several = several_nodes(decision)
    by_verdict = {name: [zone for zone in able if zone.verdict == name] for name in _ORDER}
    verdict = next((name for name in _ORDER if by_verdict[name]), "unknown")
    if verdict == "passes-now":
        zone = by_verdict[verdict][0]
        if zone.need_more_than is None:
            return verdict, f"{zone_name(zone, several)} has blocks that the caller may take without a mark"
        return verdict, f"{zone_name(zone, several)} passes: {zone.available} usable > {zone.need_more_than}"
    if decision.caller.memalloc and verdict == "below-mark":
        return verdict, "caller ignores the marks (memalloc) and the free lists of its zones were empty"
    last_try = last_try_decided(able)
    why = "; ".join(_why(zone, zone_name(zone, several), report.order or 0, last_try) for zone in able)
    return {"wrong-type": "other", "unknown": "no-mem-info"}.get(verdict, verdict), why


_ORDER = ("passes-now", "wrong-type", "fragmentation", "below-mark", "unknown")


def several_nodes(decision: Decision) -> bool:
    """True where the zones are of more than one node, so that a zone needs its node to be named."""
    return len({zone.node for zone in decision.zones}) > 1


def zone_name(zone: ZoneSum, several: bool) -> str:
    """A zone's name, with its node where there are several."""
    return f"node {zone.node} {zone.zone}" if several else zone.zone


def _why(zone: ZoneSum, name: str, order: int, last_try: bool) -> str:
    if zone.verdict == "below-mark":
        if last_try and zone.last_try_high:
            last = zone.last_try_high
            passes = "passes at min, " if zone.at != "min" else ""
            return (
                f"{name} {passes}short by {last['short_by']} at high, the last try before a kill "
                f"(usable {last['available']}, must be > {last['need_more_than']})"
            )
        if zone.mark is None:
            return f"{name}: its free lists were empty"
        return (
            f"{name} short by {zone.short_by} (usable {zone.available}, must be > {zone.mark}"
            f" + reserve {zone.lowmem_reserve if zone.lowmem_reserve is not None else 'unknown'})"
        )
    if zone.verdict == "fragmentation":
        if zone.halving is not None:
            loop = zone.halving
            return (
                f"{name} passes order 0; the order loop refuses at order {loop['order']} "
                f"(left {loop['left']}, must be > {loop['need_more_than']}: short by {loop['short_by']})"
            )
        largest = zone.largest_usable_order
        said = f"largest {largest}" if largest is not None else "none at all"
        if not zone.lists_known:
            said = "its free list is not in the text"
        return f"{name} passes the mark but has no usable block of order {order} ({said})"
    if zone.verdict == "wrong-type":
        return (
            f"{name} passes the mark (usable {zone.available} > {zone.need_more_than}) but every free block is of a "
            "type that this caller may not take"
        )
    return f"{name}: {', '.join(zone.notes) or 'unknown'}"

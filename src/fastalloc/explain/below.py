"""Below the mark: which zone came nearest, what would have let the request pass, and where the memory is."""

from typing import NamedTuple

from fastalloc.explain.barred import Barred, barred_memory
from fastalloc.explain.boost import boost_words, decided, passes_without
from fastalloc.explain.holders import who_holds, who_holds_of
from fastalloc.explain.larger_reserve import larger_reserve
from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.passing import PAGE_FAULTS
from fastalloc.explain.reports import Report
from fastalloc.explain.sentence import Advice, more, smaller_requests, who_asked, without_debugging
from fastalloc.explain.verdict import Decision, request_of, several_nodes, zone_name
from fastalloc.explain.watermark import Request, ZoneSum, last_try_decided, needed_in_blocks


class Compared(NamedTuple):
    """A zone against the mark that refused: the same for all zones. ``blocks``: pages needed in blocks besides."""

    zone: ZoneSum
    name: str
    mark: int | None
    available: int
    short: int
    blocks: int


def below_mark(report: Report, decision: Decision, block: MemInfo, able: list[ZoneSum]) -> Advice:
    """Says what refused and what would have let it pass."""
    request = request_of(report, decision)
    if all(_not_filled(zone, block) for zone in able):
        return _too_early(who_asked(report, decision))
    at_high = last_try_decided(able)
    known = [zone for zone in able if zone.available is not None and zone.verdict != "unknown"]
    compared = [_compared(zone, decision, block, request, at_high) for zone in known]
    nearest = min(compared, key=lambda one: (one.zone.broken, one.short, -one.zone.free))
    broken = next((one for one in compared if one.zone.broken), None)
    if broken is not None:
        return _broken_marks(who_asked(report, decision), broken, nearest)
    if decision.caller.memalloc:
        return Advice(
            "gone",
            f"{who_asked(report, decision)}, without any mark (PF_MEMALLOC or __GFP_MEMALLOC), and found no free "
            "block: the reserve itself was used up.",
            larger_reserve(decision, block, nearest.zone, request),
            ["a discount for the caller: it has all there is already"],
        )
    if report.borrowed == "no head" and report.mode is None and report.kind == "failure":
        return _no_head(nearest)
    barred = barred_memory(report, decision, block, request)[:2]
    advice = Advice("reserve", _sentence(report, decision, request, nearest, at_high, barred))
    _why_short(advice, report, decision, block, request, nearest, barred)
    if not report.page_fault:  # no mark refused it
        _name_boost(advice, decision, request, compared, at_high, len(barred) if report.kind == "oom" else 0)
    return advice


def _name_boost(
    advice: Advice, decision: Decision, request: Request, compared: list[Compared], at_high: bool, behind: int
) -> None:
    """Names the boost of a zone that passes without it; as the cause where nothing else was against the request.

    ``behind``: so much is tried before. Memory that is out of reach for good outweighs a boost that fades, where
    nothing was left to reclaim.
    """
    found = [
        (one, boost, decided(one.zone, boost, request))
        for one in compared
        if not one.blocks and (boost := passes_without(one.zone, decision, request, at_high))
    ]
    if not found:
        return
    one, boost, alone = max(found, key=lambda each: each[2])
    advice.first.insert(behind if alone else len(advice.first), boost_words(one.zone, one.name, boost, alone))
    if alone and not behind:
        advice.cause = "boost"


def _compared(zone: ZoneSum, decision: Decision, block: MemInfo, request: Request, at_high: bool) -> Compared:
    name = zone_name(zone, several_nodes(decision))
    last = zone.last_try_high if at_high else None
    mark = zone.high if last else zone.mark
    available = (last["available"] if last else zone.available) or 0
    short = (last["short_by"] if last else zone.short_by) or 0
    info = block.find(zone.node, zone.zone)
    # CMA is taken off for the first check alone; of the versions with the loop none has highatomic pages.
    counted = zone.free - zone.unusable.get("order", 0) if decision.rules.cma == "check" else available
    blocks = 0 if info is None else needed_in_blocks(info, request, mark or 0, counted, at_high)
    return Compared(zone, name, mark, available, short, blocks)


def _sentence(
    report: Report, decision: Decision, request: Request, nearest: Compared, at_high: bool, barred: list[Barred]
) -> str:
    who = who_asked(report, decision)
    zone, name = nearest.zone, nearest.name
    of_try = " at high, the mark of the last try before a kill" if at_high else ""
    if at_high and zone.at != "min":
        refused = f"{name} passes at min and is short by {nearest.short}{of_try}"
    else:
        refused = (
            f"{name} came nearest{of_try}: {nearest.available} pages usable where more than {nearest.mark} + reserve "
            f"{zone.lowmem_reserve or 0} must be, short by {nearest.short}"
        )
    said = "".join(f"; {one.said}" for one in barred)
    if report.page_fault:
        return f"{who}: {refused}{said}; the OOM killer was called from the fault, without a try at any mark."
    waits = decision.caller.may_reclaim or report.kind == "oom"
    would_not = "a larger min_free_kbytes" if waits else "page cache to drop"
    return f"{who}: {refused}{said}; {_would_pass(decision, request.order, nearest)}, {would_not} would not."


def _would_pass(decision: Decision, order: int, nearest: Compared) -> str:
    """What the zone lacks: pages, and above order 0 blocks."""
    free = f"{more(nearest.short)} free in {nearest.name}"
    if not nearest.blocks:
        return f"{free} would have let it pass"
    if decision.rules.order_check != "loop":
        return f"{free} and a block of order {order} would have let it pass"
    if nearest.blocks < nearest.short:
        return f"{free}, {nearest.blocks} of them in blocks of order {order}, would have let it pass"
    return f"{more(nearest.blocks)} in {nearest.name} in blocks of order {order} would have let it pass"


def _why_short(
    advice: Advice,
    report: Report,
    decision: Decision,
    block: MemInfo,
    request: Request,
    nearest: Compared,
    barred: list[Barred],
) -> None:
    """The cause, and what to try first."""
    oom, may_wait = report.kind == "oom", decision.caller.may_reclaim
    # The order itself was taken off: a single page would have passed there, so it is the block that is not there.
    one_piece = bool(nearest.blocks) and nearest.short < 1 << request.order
    reserve = [] if oom else larger_reserve(decision, block, nearest.zone, request)
    if oom or (may_wait and not barred):
        advice.cause = "gone"
    if barred:
        advice.cause = barred[0].cause
        advice.first += [one.first for one in barred]
    elif one_piece:
        advice.cause = "fragmentation"
    if nearest.blocks:
        advice.first += without_debugging(report, block)
        advice.first.append(smaller_requests(request.order, decision.release))
    if any(one.low_memory for one in barred):
        zones = [(zone.node, zone.zone) for zone in decision.zones if zone.allowed]
        held = who_holds_of(block, zones)
        advice.first += [f"who holds low memory ({held})"] if held else []
    elif oom or (may_wait and not barred):
        advice.first.append(who_holds(block, report.text))
    advice.useless += [one.useless for one in barred if one.useless]
    if report.page_fault:
        advice.first.append(PAGE_FAULTS)
    elif oom:
        advice.useless.append("vm.min_free_kbytes: it only raises the mark that refused")
    elif not may_wait:
        advice.first += reserve
    if not oom and not barred and not may_wait:
        advice.first.append("bursts of other sizes: `--machine m.toml`, then `fastalloc reserve m.toml --burst ..`")
        advice.useless.append("swap or more page cache to drop: the caller may not wait for it")


def _not_filled(zone: ZoneSum, block: MemInfo) -> bool:
    """A zone with pages to manage, none of them free and no mark set.

    What it is to manage is an estimate until memblock hands its pages over [free_area_init_core; memblock_free_all],
    and the marks come later still [init_per_zone_wmark_min].
    """
    info = block.find(zone.node, zone.zone)
    managed = info is not None and bool(block.pages(info, "managed"))
    # With min_free_kbytes of 0 all marks are 0 too, to 4.5; the reserves are not.
    return managed and not (zone.free or zone.min or zone.low or zone.high or any((info and info.reserve) or ()))


def _no_head(nearest: Compared) -> Advice:
    """Order and mask are lost, and whether anything was asked; the mark is that of GFP_ATOMIC, the lowest there is."""
    asked = f"even GFP_ATOMIC must leave {nearest.mark} + reserve {nearest.zone.lowmem_reserve or 0}"
    return Advice(
        "unknown",
        f"The head of this report is lost, and with it order and mask: {nearest.name} came nearest, with "
        f"{nearest.available} pages usable where {asked}, short by {nearest.short}: whoever asked for a page was "
        "refused, unless no mark was asked (PF_MEMALLOC).",
        ["the lines before it: 'page allocation failure: order:.., mode:..', 'invoked oom-killer' or 'sysrq: ..'"],
    )


def _too_early(who: str) -> Advice:
    return Advice(
        "boot",
        f"{who} before the page allocator had any page: every zone has 0 free and no mark, as it is until memblock "
        "hands the memory over (memblock_free_all); a later call would have passed, a larger reserve would not.",
        ["the caller: take the memory from memblock, or later in boot (after mem_init)"],
        ["vm.min_free_kbytes: no mark is set yet"],
    )


def _broken_marks(who: str, broken: Compared, nearest: Compared) -> Advice:
    """A mark above all pages that there are: nothing that follows from it is a figure."""
    return Advice(
        "marks",
        f"{who}: the marks of {broken.name} are broken, above all pages there are (min {broken.zone.min}), so that no "
        f"amount of free pages passes there; {nearest.name} has {nearest.available} pages usable.",
        ["the kernel: a zone whose managed pages were counted below 0 or twice (memory hotplug, early boot)"],
        ["vm.min_free_kbytes, more memory: what is shared out wrongly stays wrong"],
    )

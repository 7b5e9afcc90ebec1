"""What a report does not say, and what that leaves open."""

from fastalloc.explain.reports import Report
from fastalloc.explain.verdict import Decision, is_empty
from fastalloc.explain.version import Kernel
from fastalloc.linux.watermark_rules import (
    BOOST_UNPRINTED,
    HIGHATOMIC_BOUND,
    HIGHATOMIC_UNPRINTED,
    UNACCEPTED,
    UNSIGNED,
    UNSIGNED_FAST,
)


def missing_of(report: Report, kernel: Kernel, decision: Decision) -> list[str]:
    """Sentences, one for each thing that the text leaves open."""
    said: list[str] = []
    if report.kind == "show-mem":
        return said
    if kernel.note:
        said.append(kernel.note)
    said += decision.caller.notes
    if report.borrowed:
        if report.borrowed == "no head":
            said.append("the head of the report is lost" + (": order 0 is assumed" if decision.zones else ""))
        else:
            said.append(f"the head of the report is lost: order and mask are those of {report.borrowed}")
    if report.kind in ("failure", "oom", "slub") and (report.mem_info is None or not report.mem_info.zones):
        if decision.verdict != "memcg-limit":
            said.append(_no_zones(report))
        return said
    if not decision.zones:
        return said
    said += _not_printed(kernel, decision)
    said += _task(report, decision)
    if decision.caller.has("THISNODE") and report.this_node is None:
        said += _which_node(decision)
    block = report.mem_info
    if block is not None:
        cut = [f"{info.zone}" for info in block.zones if info.lists is not None and not info.lists.whole]
        if cut:
            said.append(f"the free list is cut: {', '.join(cut)}")
        lost = [info.zone for info in block.zones if info.lists is None and not is_empty(info)]
        if lost:
            said.append(f"no free list of {', '.join(lost)}")
        cma = block.totals.get("free_cma", 0)
        unknown = [info.zone for info in block.zones if "free_cma" not in info.kb]
        if cma and unknown and not decision.caller.cma_ok:
            said.append(
                f"{cma} free pages are CMA, of which zone ({', '.join(unknown)}) is cut off: it may be short by more"
            )
    for zone in decision.zones:
        said += [f"{zone.zone}: {note}" for note in zone.notes]
    return said


def _no_zones(report: Report) -> str:
    """Why no zone is there, and how to come by one."""
    whole = "run `dmesg` (or `journalctl -k`) for the whole, or take /proc/zoneinfo and /proc/buddyinfo at the next one"
    if report.mem_info is not None and report.mem_info.totals:
        return f"the zones: the text ends after the counters of the Mem-Info; {whole}"
    if report.kind == "slub":
        # [mm/slub.c: slab_out_of_memory; mm/page_alloc.c: warn_alloc: one in 10 s from 5.4]
        return f"the page allocation failure behind SLUB's line, which has a rate limit of its own; {whole}"
    return f"no Mem-Info: the kernel prints it after the trace unless its rate limit holds it back; {whole}"


def _which_node(decision: Decision) -> list[str]:
    """What follows from that the one node of the request is not named."""
    allowed = {zone.node for zone in decision.zones if zone.allowed}
    if len(allowed) < 2:
        return []
    said = "__GFP_THISNODE confines the request to one node; the report does not say which"
    passing = {zone.node for zone in decision.zones if zone.allowed and zone.verdict == "passes-now"}
    if passing and passing != allowed:
        does, does_not = ", ".join(map(str, sorted(passing))), ", ".join(map(str, sorted(allowed - passing)))
        said += f": node {does} passes and node {does_not} does not, so whether the shortage was over is not known"
    return [said]


def _not_printed(kernel: Kernel, decision: Decision) -> list[str]:
    base, said = kernel.release.base, []
    caller, rules = decision.caller, decision.rules
    order_zero = all("order" not in zone.unusable or zone.unusable["order"] == 0 for zone in decision.zones)
    counts = caller.memalloc or (caller.harder if rules.highatomic_for == "HARDER" else False)
    if base in HIGHATOMIC_UNPRINTED and not counts and rules.highatomic != "none":
        held = [zone.zone for zone in decision.zones if zone.allowed]
        said.append(
            "nr_reserved_highatomic is not printed before 5.6: this caller may not count those pages (at most 1 % and "
            f"a page block of a zone), so {', '.join(held)} may be shorter by as many"
        )
    if base in HIGHATOMIC_BOUND and any(zone.unusable.get("highatomic") for zone in decision.zones):
        said.append(
            "nr_free_highatomic is not printed before 6.15: the pages taken off for highatomic are the reserved ones, "
            "the most it can be; a zone may be short by that many less"
        )
    if base in BOOST_UNPRINTED and not caller.memalloc:
        retry = caller.has("ATOMIC") and order_zero and rules.boost_retry == "ATOMIC"
        said.append(
            "watermark_boost is not printed before 5.16 and is part of the marks"
            + ("; this caller is asked again without it, so its mark may be lower" if retry else "")
        )
    if base in UNACCEPTED and decision.caller.has("HIGHMEM"):
        said.append("unaccepted memory (confidential guests) is taken off too and not printed")
    for zone in decision.zones:
        if zone.available is not None and zone.available < 0 and zone.mark is not None:
            if base in UNSIGNED:
                said.append(f"{zone.zone}: the first comparison is unsigned in this version, so the order loop refused")
            elif base in UNSIGNED_FAST and order_zero:
                said.append(
                    f"{zone.zone}: without the later clamp the short cut compares unsigned and passes when free is "
                    "below what may not be counted"
                )
    return said


def _task(report: Report, decision: Decision) -> list[str]:
    caller = decision.caller
    said: list[str] = []
    if caller.memalloc:
        if not caller.has("MEMALLOC"):
            said.append("PF_MEMALLOC follows from the trace or the task's name (it reclaims)")
        return said
    if caller.may_reclaim and report.kind != "oom":
        open_ = [] if caller.memalloc_known else ["PF_MEMALLOC"]
        open_ += ["a real-time policy"] if not caller.interrupt else []
        said.append(f"the report does not show whether the task had {', '.join([*open_, 'TIF_MEMDIE'])}")
    return said

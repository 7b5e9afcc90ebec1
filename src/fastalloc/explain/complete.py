"""What a report gets once all of a text is read: its trace, and what a lost head leaves to its neighbours."""

import re
from bisect import bisect_left, bisect_right
from itertools import islice, pairwise, zip_longest

from fastalloc.explain.clean import Text
from fastalloc.explain.mem_info import drop_cut_reserves
from fastalloc.explain.reports import DECODED, Report, unknown_lines
from fastalloc.linux.release import Release

_FRAME = re.compile(rf"(\?\s+)?\{{?\b([A-Za-z_][\w.$]*)(?:\+(?:0x[0-9a-f]+/0x|\d+\}})|{DECODED})")
# Where a stack begins that some task prints [lib/dump_stack.c: dump_stack_print_info].
_STACK = re.compile(r"\bCPU\s*:\s*\d+\s+(?:UID\s*:\s*\d+\s+)?P(?:ID|id)\s*:|\bPid\s*:\s*\d+\s*,\s*comm\s*:")
_OUT_OF_ORDER = 60.0  # seconds that lines of one boot may be mixed up
_LAST_LINES = 3
_LONGEST_TRACE = 12_000  # characters after a head without a Mem-Info


def complete(reports: list[Report], slub: list[dict[str, str]], text: Text, boot: Release | None) -> list[Report]:
    """The reports in the order of their first line.

    ``slub``: SLUB lines that no report is near. ``boot``: the kernel that the log names itself.
    """
    reports = sorted([*reports, *_lone_slub(slub)], key=lambda report: report.start)
    reports = [one for one, after in zip_longest(reports, reports[1:]) if not _is_end_of_another(one, after, text)]
    _in_turn(reports)
    for one, other in pairwise(reports):
        _same_reserves(one, other)
    ends = sorted(report.end for report in reports)
    for place, report in enumerate(reports):
        if report.mem_info is not None:
            drop_cut_reserves(report.mem_info.zones)
            report.mem_info.settled_page_kb = report.mem_info.page_kb
        until = reports[place + 1].start if place + 1 < len(reports) else len(text.string)
        report.text = text.string[report.start : max(min(report.end + 300, until), report.start)]
        _trace(report, ends, text, until)
    _borrow(reports)
    named = [place for place, report in enumerate(reports) if report.release and report.comm]
    for place, report in enumerate(reports):
        if report.release is None:
            report.release = _near_release(named, reports, place, text) or boot
    return reports


def _in_turn(reports: list[Report]) -> None:
    """Of heads printed together before any Mem-Info the first has the first block, where as many blocks follow."""
    for _ in reports:
        swapped = False
        for one, other in pairwise(reports):
            first, second = one.mem_info, other.mem_info
            if first is None or second is None or one.caller or one.borrowed or other.borrowed:
                continue
            if other.start < second.start < first.start:
                one.mem_info, other.mem_info = second, first
                swapped = True
        if not swapped:
            break


def _is_end_of_another(report: Report, after: Report | None, text: Text) -> bool:
    """The last lines of an OOM whose head is lost, right before another report: nothing is to be said of it."""
    lone = report.kind == "oom" and report.borrowed == "no head" and report.mem_info is None
    return lone and after is not None and text.index(after.start) - text.index(report.end) <= _LAST_LINES


def _same_reserves(one: Report, other: Report) -> None:
    """Two reports printed at once: a zone keeps the same in both, a lower zone more than a higher.

    Where a zone got different ones, they are dealt out again in that order; a pair that still differs is not known.
    """
    if one.mem_info is None or other.mem_info is None or one.caller or other.start >= one.end:
        return
    zones = sorted([*one.mem_info.zones, *other.mem_info.zones], key=lambda info: (info.index, info.node))
    pairs = [(zones[at], zones[at + 1]) for at in range(0, len(zones) - 1, 2)]
    if len(zones) % 2 or any((first.node, first.zone) != (second.node, second.zone) for first, second in pairs):
        return
    if all(first.reserve == second.reserve for first, second in pairs):
        return
    dealt: list[tuple[int, ...] | None] = [*sorted((info.reserve for info in zones if info.reserve), reverse=True)]
    if len(dealt) < len(zones) or any(dealt[at] != dealt[at + 1] for at in range(0, len(dealt), 2)):
        dealt = [
            first.reserve if first.reserve == second.reserve else None for first, second in pairs for _ in range(2)
        ]
    for info, reserve in zip(zones, dealt, strict=True):
        info.reserve = reserve


def _lone_slub(slub: list[dict[str, str]]) -> list[Report]:
    """A report for each cache and mask of SLUB lines that stand alone."""
    found: dict[tuple[str, str], Report] = {}
    for said in slub:
        key = (said["gfp"], said.get("cache", ""))
        if key not in found:
            report = Report("slub", int(said["line"]), int(said["start"]), int(said["end"]))
            report.mode, report.mode_names = int(said["gfp"], 16), said["names"] or None
            report.order = int(said["minorder"]) if "minorder" in said else None
            found[key] = report
        found[key].caches.append(said)
    return list(found.values())


def _trace(report: Report, ends: list[int], text: Text, until: int) -> None:
    stop = min(until, max(report.end, report.start + 200))
    if report.mem_info is None:
        stop = min(until, report.start + _LONGEST_TRACE)
    body = text.string[report.start : stop]
    stacks = [found.start() for found in islice(_STACK.finditer(body), 2)]
    if report.borrowed:  # the stack of a lost head stands before what is left of the report
        place = bisect_right(ends, report.start)
        before = text.string[ends[place - 1] if place else 0 : report.start]
        is_block = report.mem_info is not None
        begins = max((found.start() for found in _STACK.finditer(before)), default=0 if is_block else len(before))
        body = before[begins:] + (body if is_block else "")
    elif report.mem_info is None and len(stacks) > 1:
        body = body[: stacks[1]]  # the first is its own, the second another task's
    report.frames = [(name, not unsure) for unsure, name in _FRAME.findall(body)]
    report.interrupt = "<IRQ>" in body or "<SOFTIRQ>" in body
    report.unknown_lines = unknown_lines(body)


def _borrow(reports: list[Report]) -> None:
    """A block without a head takes order and mask of the nearest head of the same burst, or of its SLUB line."""
    heads = [report for report in reports if not report.borrowed and report.order is not None]
    starts = [head.start for head in heads]
    for report in reports:
        if not report.borrowed or report.mem_info is None:
            continue
        if report.caches:
            said = report.caches[0]
            report.mode, report.mode_names = int(said["gfp"], 16), said["names"] or None
            report.order = int(said.get("minorder", 0))
            report.borrowed = "its SLUB line"
            continue
        # One whose own stack names another kernel is of another machine or boot.
        near = _around(heads, bisect_left(starts, report.start), report.release)
        if near:
            nearest = min(near, key=lambda head: abs(head.start - report.start))
            report.order, report.mode, report.mode_names = nearest.order, nearest.mode, nearest.mode_names
            report.kind = nearest.kind if nearest.kind in ("failure", "oom") else "failure"
            report.release = report.release or nearest.release
            if nearest.release is None and nearest.comm == report.comm:
                nearest.release = report.release
            report.borrowed = f"the head on line {nearest.line}"


def _around(heads: list[Report], place: int, release: Release | None) -> list[Report]:
    """The nearest head before and the nearest after a place that may be of that kernel."""

    def fits(head: Report) -> bool:
        return release is None or head.release is None or head.release == release

    before = next((head for head in reversed(heads[:place]) if fits(head)), None)
    after = next((head for head in heads[place:] if fits(head)), None)
    return [head for head in (before, after) if head is not None]


def _near_release(named: list[int], reports: list[Report], place: int, text: Text) -> Release | None:
    """The kernel of the nearest report that names one; ``named``: the places of those."""
    after = bisect_left(named, place)
    near = [
        other for other in named[max(after - 1, 0) : after + 1] if _of_one_boot(reports[place], reports[other], text)
    ]
    return reports[min(near, key=lambda other: (abs(other - place), other))].release if near else None


def _of_one_boot(one: Report, other: Report, text: Text) -> bool:
    """False where the later has the lower stamp: they count from the boot [kernel/printk: local_clock]."""
    first, second = sorted((one.start, other.start))
    before, after = text.stamp(first), text.stamp(second)
    return before is None or after is None or after > before - _OUT_OF_ORDER

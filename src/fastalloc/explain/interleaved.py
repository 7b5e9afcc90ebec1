"""Whose line it is where the blocks of two reports are printed in turn."""

from fastalloc.explain.clean import Text
from fastalloc.explain.mem_info import FreeList, ZoneInfo
from fastalloc.explain.reports import Report

Waiting = list[tuple[Report, ZoneInfo]]  # zones that wait for a line, and their reports
_MIXED = 4  # lines: a head and its trace are as many at least, so nearer blocks are printed line by line
_SPAN = 160  # lines that a block may wait for its lists while another report is printed


def of_several(waiting: Waiting) -> bool:
    """Whether zones of more than one report wait."""
    return len({id(report) for report, _ in waiting}) > 1


def at_once(text: Text, waiting: Waiting) -> Waiting:
    """Of the zones that wait, those of blocks that are printed now."""
    beside = {id(report) for report in _beside(text, [report for report, _ in waiting])}
    return [one for one in waiting if id(one[0]) in beside]


def _beside(text: Text, reports: list[Report]) -> list[Report]:
    """The report whose block began last and those that are printed beside it, in the order of their beginnings.

    A block that said nothing more once the later one began was cut, or its task prints for the others
    [kernel/printk: console_unlock] and goes on when the later one is whole.
    """
    found: list[Report] = []
    for report in sorted(reports, key=_begin, reverse=True):
        block, later = report.mem_info, found[-1] if found else report
        if block is None:
            continue
        begins = _begin(later)
        # A report posted as one line is no line from the one before, however far: its head stands in between.
        in_one = text.index(later.start) == text.index(begins) and block.last < later.start
        if block.last < begins and (in_one or not text.near(block.last, begins, _MIXED, 1.0)):
            break
        found.append(report)
    return found[::-1]


def _begin(report: Report) -> int:
    return report.mem_info.start if report.mem_info is not None else report.start


def adding_up(text: Text, place: int, waiting: Waiting, lists: FreeList | None) -> Waiting:
    """Of several blocks the one whose zone has as much free as the list at ``place`` comes to, where it alone has.

    Both are of one moment but for frees in between: an equal sum tells the block where the order of lines does not.
    """
    total = lists.total_kb if lists is not None else None
    same = [one for one in waiting if one[1].kb.get("free") == total]
    if total is None or len(waiting) < 2 or len(same) != 1:
        return []
    block = same[0][0].mem_info
    return same if block is not None and text.near(block.last, place, _SPAN, 1.0) else []

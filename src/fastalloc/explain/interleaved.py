"""Whose line it is where the blocks of two reports are printed in turn."""

from fastalloc.explain.clean import Text
from fastalloc.explain.mem_info import FreeList, MemInfo, ZoneInfo
from fastalloc.explain.reports import Report

Waiting = list[tuple[Report, ZoneInfo]]  # zones that wait for a line, and their reports
_MIXED = 4  # lines: a head and its trace are as many at least, so nearer blocks are printed line by line
_SPAN = 160  # lines that a block may wait for its lists while another report is printed


def of_several(waiting: Waiting) -> bool:
    """Whether zones of more than one report wait."""
    return len({id(report) for report, _ in waiting}) > 1


def at_once(text: Text, waiting: Waiting) -> Waiting:
    """Of the zones that wait, those of blocks that are printed now."""
    beside = {id(block) for block in _beside(text, [report.mem_info for report, _ in waiting if report.mem_info])}
    return [one for one in waiting if id(one[0].mem_info) in beside]


def _beside(text: Text, blocks: list[MemInfo]) -> list[MemInfo]:
    """The block that began last and those that are printed beside it, in the order of their beginnings.

    A block that said nothing more once the later one began was cut, or its task prints for the others
    [kernel/printk: console_unlock] and goes on when the later one is whole.
    """
    found: list[MemInfo] = []
    for block in sorted(blocks, key=lambda block: block.start, reverse=True):
        begins = found[-1].start if found else block.start
        if block.last < begins and not text.near(block.last, begins, _MIXED, 1.0):
            break
        found.append(block)
    return found[::-1]


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

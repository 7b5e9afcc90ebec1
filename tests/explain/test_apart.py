"""Two reports of a text: each line goes to its own, also where the first was cut."""

import pytest

import fastalloc


def head(comm: str, second: int) -> str:
    return (
        f"[{second}.000000] {comm}: page allocation failure: order:0, mode:0x2080020(GFP_ATOMIC)\n"
        f"[{second}.000010] CPU: 0 PID: 1 Comm: {comm} Not tainted 4.9.30 #1\n[{second}.000020] Call Trace:\n"
        f"[{second}.000030]  warn_alloc+0x140/0x160\n[{second}.000040] Mem-Info:\n"
    )


def zone(name: str, free: int, least: int) -> str:
    """A zone's line, in pages."""
    return f"Node 0 {name} free:{4 * free}kB min:{4 * least}kB low:{5 * least}kB high:{6 * least}kB present:90000kB\n"


def lists(name: str, pages: int) -> str:
    return f"Node 0 {name}: {pages}*4kB (M) 0*8kB 0*16kB = {4 * pages}kB\n"


RESERVE = "lowmem_reserve[]: {0} {1} 0 0\n"
WHOLE = (
    head("b", 500) + zone("DMA32", 1100, 500) + RESERVE.format(0, 957) + zone("Normal", 500, 2000)
    + RESERVE.format(0, 0) + lists("DMA32", 1100) + lists("Normal", 500)
)  # fmt: skip


def sums(text: str) -> list[list[tuple[object, ...]]]:
    """Of each report the zones: reserve, short by, and whether its list is there."""
    return [
        [(zone.zone, zone.lowmem_reserve, zone.short_by, zone.lists_known) for zone in answer.decision.zones]
        for answer in fastalloc.explain(text)
    ]


# min 500 -> 250 -> 188; 1100 must be above 188 + 957. min 2000 -> 750; 500 must be above it.
BOTH = [("DMA32", 957, 46, True), ("Normal", 0, 251, True)]


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("reserve", ["", RESERVE.format(0, 0)])
def test_a_report_that_was_cut_takes_nothing_of_the_next(reserve, stamped):
    text = head("a", 100) + zone("Normal", 300, 2000) + reserve + WHOLE
    if not stamped:
        text = "".join(line.split("] ", 1)[-1] + "\n" for line in text.splitlines())
    assert sums(text) == [[("Normal", 0, 451, False)], BOTH]


def test_a_task_that_prints_for_others_goes_on_where_it_was():
    rest = RESERVE.format(0, 0) + lists("Normal", 300)
    assert sums(head("a", 500) + zone("Normal", 300, 2000) + WHOLE + rest) == [[("Normal", 0, 451, True)], BOTH]


def test_lines_of_reports_printed_side_by_side_are_dealt_out_in_turn():
    heads = (head("a", 500) + head("b", 500)).replace("[500.000040] Mem-Info:\n", "") + 2 * "Mem-Info:\n"
    zones = zone("Normal", 300, 2000) + zone("Normal", 400, 2000) + 2 * RESERVE.format(0, 0)
    assert sums(heads + zones + lists("Normal", 300) + lists("Normal", 400)) == [
        [("Normal", 0, 451, True)],
        [("Normal", 0, 351, True)],
    ]


def test_a_node_line_after_a_zone_begins_another_block():
    node = "Node 0 active_anon:4kB inactive_anon:8kB active_file:12kB all_unreclaimable? no\n"
    other = node + zone("DMA", 839, 17) + RESERVE.format(0, 825) + zone("Normal", 500, 2000) + RESERVE.format(0, 0)
    got = sums(head("a", 500) + zone("DMA", 46849, 5632) + 4 * "> This is unusual.\n" + other)
    assert [[row[:2] for row in rows] for rows in got] == [[("DMA", 0)], [("DMA", 825), ("Normal", 0)]]


@pytest.mark.parametrize("stamped", [True, False])
def test_reports_of_one_line_each_take_nothing_of_each_other(stamped):
    parts = [head("a", 100) + zone("Normal", 300, 2000), WHOLE]
    if not stamped:
        parts = ["".join(line.split("] ", 1)[-1] + "\n" for line in part.splitlines()) for part in parts]
    text = "".join(part.replace("\n", " ") + "\n" for part in parts)
    assert sums(text) == [[("Normal", 0, 451, False)], BOTH]

"""The verdict table and the board for a terminal."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from fastalloc.errors import printable
from fastalloc.report.board import Row
from fastalloc.report.statistics import LEAST, TOO_FEW
from fastalloc.report.verdict import Verdict, shows_60s
from fastalloc.terminal import Table


class Column(NamedTuple):
    """A column of a table of verdicts or of a board; ``rank`` as of ``Table.add_column``."""

    heading: str
    rank: int
    cell: Callable[..., str]


DAYS = Column("machine-days\nto a livelock", 1, lambda row: str(row.machine_days))
BOARD = (
    Column("livelocked\nof lanes", 0, lambda row: share(row.livelocked, row.lanes, row.interval)),
    DAYS,
    Column("against\nbaseline", 1, lambda row: f"{100 * row.difference:+.0f} %"),
    Column("longest\nstall", 0, lambda row: f"{row.longest_stall_s:.1f} s"),
    Column("broken by\nlane", 4, lambda row: "held" if row.broken_by is None else str(row.broken_by)),
    Column("links\nbroken", 3, lambda row: " ".join(map(str, row.links)) or "none"),
    Column("swap out\nrelative", 0, lambda row: "-" if row.throughput is None else f"{row.throughput:.2f}"),
    Column("sense failures\na lane", 2, lambda row: count(row.means["sense_fail"])),
    Column("slab peak\na lane", 2, lambda row: megabytes(row.means["slab_peak_pages"], row.page_kb)),
    Column("slab peak pages\na lane", 6, lambda row: f"{row.means['slab_peak_pages']:,.0f}"),
    Column("extra work\nof 1000", 5, lambda row: count(round(_extra(row), 1))),
    Column("idle\nreserve", 5, lambda row: f"{row.means['reserve_idle_kb']:,.0f} kB"),
)


def verdict_columns(found: list[Verdict]) -> list[Column]:
    """What is told of each variant; a livelock of more than 60 s only where the run could show one."""
    columns = [
        Column("livelocked\n> 5 s", 0, lambda v: share(v.livelocked_5s, v.lanes, v.livelocked_5s_interval)),
        Column("livelocked\n> 60 s", 2, share_60s),
        Column("out of\nmemory", 0 if any(v.exhausted for v in found) else 4, lambda v: f"{v.exhausted} of {v.lanes}"),
        Column("longest\nstall", 0, lambda v: f"{v.longest_stall_s:.1f} s"),
        Column("sense failures\na lane", 1, lambda v: count(v.sense_failures)),
        Column("free_list\na lane", 4, lambda v: count(v.free_list_used)),
        Column("reports\na lane", 5, lambda v: count(v.reports)),
        Column("swapped out\na second", 1, lambda v: megabytes(v.swapped_out_per_s, v.page_kb)),
        Column("swapped out\npages/s", 8, lambda v: count(v.swapped_out_per_s)),
        Column("writeback peak\nany lane", 6, lambda v: megabytes(v.max_writeback, v.page_kb)),
        Column("writeback peak pages\nany lane", 8, lambda v: f"{v.max_writeback:,}"),
        Column("slab peak\nany lane", 3, lambda v: megabytes(v.max_slab_pages, v.page_kb)),
        Column("slab peak pages\nany lane", 8, lambda v: f"{v.max_slab_pages:,}"),
        Column("deepest\nreserve", 7, lambda v: v.deepest),
    ]
    return [column for column in columns if column.heading != "livelocked\n> 60 s" or shows_60s(found)]


def print_verdicts(out: Console, verdicts: list[Verdict]) -> None:
    """Table, a sentence a variant, and whose rules ran."""
    table = Table(padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("\nvariant", no_wrap=True)
    columns = verdict_columns(verdicts)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True, rank=column.rank)
    for row in verdicts:
        style = "bold red" if row.livelocked_5s or row.exhausted else "bold green"
        name = Text(printable(row.variant), style=style)
        if row.broken:
            name.append(f" + {row.broken} broken", style="bold red")
        table.add_row(name, *(column.cell(row) for column in columns))
    table.put(out)
    _tell_too_few(out, verdicts)
    out.print()
    for row in verdicts:
        out.print(Text.assemble((f"{printable(row.variant)}: ", "bold"), printable(row.sentence)))
    for line in _rules(verdicts):
        out.print(line)


def _rules(verdicts: list[Verdict]) -> list[Text]:
    """A line for each set of kernel rules that ran, with its variants where there are several."""
    by_rules: dict[str, list[str]] = {}
    for row in verdicts:
        by_rules.setdefault(row.rules, []).append(row.variant)
    by_rules.pop("", None)
    return [
        Text(printable(f"rules{_of(names) if len(by_rules) > 1 else ''}: {rules}")) for rules, names in by_rules.items()
    ]


def _of(names: list[str]) -> str:
    return f" of {', '.join(names)}"


def print_board(out: Console, found: list[Row]) -> None:
    """The board of a comparison; machine-days only where a lane was looked at after its start-up."""
    columns = [column for column in BOARD if column is not DAYS or any(row.machine_days.looked_at for row in found)]
    table = Table(padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("\npolicy", overflow="fold")
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True, rank=column.rank)
    for row in found:
        style = "bold red" if row.livelocked else "bold green"
        table.add_row(Text(printable(row.policy), style=style), *(column.cell(row) for column in columns))
    table.put(out)
    _tell_too_few(out, found)


def _tell_too_few(out: Console, rows: Sequence[Verdict | Row]) -> None:
    """Why a row has no interval."""
    if any(row.lanes < LEAST for row in rows):
        out.print(TOO_FEW)


def _extra(row: Row) -> float:
    return row.means["extra_tests_per_1000"] + row.means["extra_locks_per_1000"]


def share(successes: int, lanes: int, interval: tuple[float, float] | None) -> str:
    """A count and its interval in per cent: ``12 of 16 (51-88 %)``; ``1 of 1`` where there is none."""
    if interval is None:
        return f"{successes} of {lanes}"
    low, high = interval
    return f"{successes} of {lanes} ({100 * low:.0f}-{100 * high:.0f} %)"


def share_60s(verdict: Verdict) -> str:
    """Lanes livelocked for more than 60 s, and how many more the end of the run cut off before."""
    words = share(verdict.livelocked_60s, verdict.lanes, verdict.livelocked_60s_interval)
    cut = verdict.livelocked_60s_cut
    return f"{words}, {cut} cut off" if cut else words


def count(value: float) -> str:
    """A mean count: one decimal while it is small, and never 0 of what is not."""
    if 0 < value < 0.05:
        return f"{value:.1g}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def megabytes(pages: float, page_kb: int) -> str:
    """Pages in MB of 1024 kB, as the kernel counts: one decimal while it is small."""
    value = pages * page_kb / 1024
    return f"{value:,.0f} MB" if value >= 100 or value == 0 else f"{value:.1f} MB"

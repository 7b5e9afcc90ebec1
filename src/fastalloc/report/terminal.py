"""The verdict table for a terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from fastalloc.errors import printable
from fastalloc.report.board import Row
from fastalloc.report.verdict import Verdict
from fastalloc.terminal import Table

HEADINGS = (
    "livelocked\n> 5 s",
    "livelocked\n> 60 s",
    "out of\nmemory",
    "longest\nstall",
    "sense fails\na lane",
    "reports\na lane",
    "free_list\na lane",
    "swapped out\npages/s",
    "writeback\nmost pages",
    "slab\npages",
    "deepest\nreserve",
)


def verdict_table(verdicts: list[Verdict]) -> RenderableType:
    """Table and sentences, for a rich console."""
    table = Table(padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("\nvariant", no_wrap=True)
    table.add_column("\nlanes", justify="right")
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in verdicts:
        table.add_row(
            Text(printable(row.variant), style="bold red" if row.livelocked_5s or row.exhausted else "bold green"),
            str(row.lanes),
            share(row.livelocked_5s, row.livelocked_5s_interval),
            share(row.livelocked_60s, row.livelocked_60s_interval),
            str(row.exhausted),
            f"{row.longest_stall_s:.1f} s",
            count(row.sense_failures),
            count(row.reports),
            count(row.free_list_used),
            count(row.swapped_out_per_s),
            f"{row.max_writeback:,}",
            f"{row.max_slab_pages:,}",
            row.deepest,
        )
    sentences = [Text.assemble((f"{printable(row.variant)}: ", "bold"), printable(row.sentence)) for row in verdicts]
    return Group(table, Text(), *sentences, *_rules(verdicts))


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


def board_table(found: list[Row]) -> RenderableType:
    """The board, for a rich console."""
    table = Table(padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("\npolicy", overflow="fold")
    headings = ("livelocked\nof lanes", "against\nbaseline", "longest\nstall", "broken by\nlane", "links\nbroken",
                "swap out\nrelative", "sense fails\na lane", "slab\npages", "extra work\nof 1000",
                "idle\nKB")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found:
        low, high = row.interval
        table.add_row(
            Text(printable(row.policy), style="bold red" if row.livelocked else "bold green"),
            f"{row.livelocked}/{row.lanes} ({100 * low:.0f}-{100 * high:.0f} %)",
            f"{100 * row.difference:+.0f} %",
            f"{row.longest_stall_s:.1f} s",
            "held" if row.broken_by is None else str(row.broken_by),
            " ".join(map(str, row.links)) or "none",
            "-" if row.throughput is None else f"{row.throughput:.2f}",
            count(row.means["sense_fail"]),
            f"{row.means['max_slab_pages']:,.0f}",
            count(round(row.means["extra_tests_per_1000"] + row.means["extra_locks_per_1000"], 1)),
            f"{row.means['reserve_idle_kb']:,.0f}",
        )
    return table


def share(successes: int, interval: tuple[float, float]) -> str:
    """A count and its interval in per cent: ``12 (51-88 %)``."""
    low, high = interval
    return f"{successes} ({100 * low:.0f}-{100 * high:.0f} %)"


def count(value: float) -> str:
    """A mean count: one decimal while it is small."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"

"""Tables of docs/own.md, from results/own (see results/own/study.py). ``make tables`` runs this."""

import json
from pathlib import Path

import polars as pl
from benchmarks.tables import replaced

PAGE = Path(__file__).with_name("own.md")
RESULTS = Path(__file__).parent.parent / "results" / "own"
ALLOCATORS = ("as traced", "lifetime_classes.py", "task_arenas.py", "buddy_only.py")


def beside_traced() -> pl.DataFrame:
    """A row a run and configuration: figures beside the kernel as traced; locks and slow allocations a thousand
    operations."""
    table = pl.read_csv(RESULTS / "replays.csv")
    traced = table.filter(configuration="as traced").select("run", new="new_pages", peak="peak_pages")
    return table.join(traced, on="run").with_columns(
        more_new=100 * (pl.col("new_pages") / pl.col("new") - 1),
        more_peak=100 * (pl.col("peak_pages") / pl.col("peak") - 1),
        locks_1000=1000 * pl.col("locks") / pl.col("operations"),
        slow_1000=1000 * pl.col("slow_allocations") / pl.col("operations"),
        new_1000=1000 * pl.col("new_pages") / pl.col("operations"),
    )


def medians(allocators: bool) -> pl.DataFrame:
    """Medians over the runs, a row a configuration in the order of the study."""
    rows = beside_traced()
    chosen = pl.col("configuration").is_in(ALLOCATORS)
    rows = rows.filter(chosen if allocators else ~chosen | (pl.col("configuration") == "as traced"))
    figures = ("more_new", "more_peak", "locks_1000", "slow_1000", "new_1000")
    return rows.group_by("configuration", maintain_order=True).agg(pl.col(*figures).median(), runs=pl.len())


def sheaves() -> str:
    """Sheaves that are filled as their cache is used beside fixed capacities."""
    lines = ["| configuration | new pages | peak pages | locks a 1,000 operations |", "|---|---:|---:|---:|"]
    for row in medians(False).iter_rows(named=True):
        lines.append(
            f"| {row['configuration']} | {row['more_new']:+.1f} % | {row['more_peak']:+.1f} % | "
            f"{row['locks_1000']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def allocators() -> str:
    """Allocators of one's own under the same traces."""
    lines = ["| allocator | new pages a 1,000 operations | slow allocations | locks |", "|---|---:|---:|---:|"]
    for row in medians(True).iter_rows(named=True):
        lines.append(
            f"| {row['configuration']} | {row['new_1000']:.1f} | {row['slow_1000']:.1f} | {row['locks_1000']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def lanes() -> str:
    """The closed loop: each policy on the same lanes."""
    head = ["policy", "livelocks", "sense failures", "commands", "pages swapped out", "most slab pages, mean"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in pl.read_csv(RESULTS / "lanes.csv").iter_rows(named=True):
        cells = [f"{row[name]:,}" for name in ("sense_fail", "commands", "pages_swapped_out")]
        cells.append(f"{row['max_slab_pages'] / row['lanes']:,.0f}")
        lines.append(f"| {row['policy']} | {row['livelock_5s']} of {row['lanes']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


SHOWN = 4  # operations of a sequence


def broken() -> str:
    """What ``fastalloc policy check docs/own/broken.py`` found, long sequences cut short."""
    lines: list[str] = []
    for fault in json.loads((RESULTS / "broken.json").read_text(encoding="utf-8")):
        what, *sequence = fault
        head, *operations = sequence
        more = len(operations) - SHOWN
        lines += [what, head, *operations[:SHOWN], *([f"     ... and {more} more"] if more > 0 else [])]
    return "```\n" + "\n".join(lines) + "\n```\n"


def main() -> None:
    """Write the tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name, content in (
        ("sheaves", sheaves()),
        ("allocators", allocators()),
        ("lanes", lanes()),
        ("broken", broken()),
    ):
        text = replaced(text, f"own-{name}", content)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

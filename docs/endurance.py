"""The table of docs/how-true-is-it.md on what was tried to break it, from results/; ``make tables`` runs this."""

import json
from pathlib import Path

from benchmarks.tables import replaced

PAGE = Path(__file__).with_name("how-true-is-it.md")
RESULTS = Path(__file__).parent.parent / "results"


def table() -> str:
    """A row for each kind of trial that results/ tells of."""
    rows = []
    fuzz = json.loads((RESULTS / "fuzz.json").read_text())
    rows.append((f"{fuzz['mutations']:,} mutated files through every reader", "`make fuzz`", "a line and exit code 2"))
    generated = json.loads((RESULTS / "generated.json").read_text())
    told = f"{generated['scenarios']:,} generated scenarios, each tick checked"
    rows.append((told, "`make test-slow`", f"{generated['ran']:,} ran, {generated['refused']:,} refused by name"))
    kills = json.loads((RESULTS / "kills.json").read_text())
    killed, full = kills["killed"].values(), kills["full disk"].values()
    names = ", ".join(kills["killed"])
    told = (
        f"{sum(each['kills'] for each in killed)} kills of {names}, {sum(each['at work'] for each in killed)} at work"
    )
    rows.append((told, "`python -m tests.faults.kills`", "nothing torn, no row lost"))
    told = f"{sum(each['points'] for each in full)} disks too small for what these write"
    rows.append((told, "the same", f"{sum(each['refused'] for each in full)} refused in a line, the rest fitted"))
    soak = json.loads((RESULTS / "soak.json").read_text())
    total = soak["total"]
    told = (
        f"{total['cpu_ticks']:,} CPU-ticks of {len(soak['loads'])} loads, idle ones jumped over; "
        f"{total['slab_fast'] + total['slab_slow']:,} objects taken and given; "
        f"{total['jiffies_checked']:,} ticks checked"
    )
    rows.append((told, "`python -m tests.closed_loop.soak`", f"{soak['broken']} lanes broke"))
    lines = ["| what was tried | with | what came of it |", "|---|---|---|"]
    return "".join(f"{line}\n" for line in [*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def page() -> str:
    """The page with its table."""
    return replaced(PAGE.read_text(encoding="utf-8"), "endurance", table())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

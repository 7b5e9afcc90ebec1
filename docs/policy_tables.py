"""Tables of docs/policies*.md: presets by letter, boards of results/swap-livelock/. ``make tables`` runs this.

A board is the JSON that ``fastalloc compare --json`` prints; its table stands between the markers of its name.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl
from benchmarks.tables import replaced

from fastalloc.scenario import load_policy, policy_names

PAGES = [Path(__file__).with_name(f"policies{part}.md") for part in ("", "-measured", "-allocators", "-remedies")]
RESULTS = Path(__file__).parent.parent / "results"
BOARDS = RESULTS / "swap-livelock"
NAMES = ("policies", "allocators", "kernels")
ALLOCATORS = {
    "slub": "SLUB 2.6.25",
    "slub, min_partial": "with min_partial",
    "cpu-partial": "lists of a CPU",
    "slab": "SLAB",
    "slob": "SLOB",
}
COLUMNS = {
    "policy": "---",
    "livelocked": "---:",
    "chain broken (weakened)": "---",
    "swapped out": "---:",
    "sense failures": "---:",
    "slab pages": "---:",
    "waste, kB": "---:",
    "slow": "---:",
    "locks": "---:",
    "extra tests": "---:",
    "extra locks": "---:",
    "idle, kB": "---:",
}


def presets() -> str:
    """A row a preset, by letter; a preset that stands for several letters is told at each."""
    rows = []
    for name in policy_names():
        preset = load_policy(name)
        measured = (preset.verdict.prevents, preset.verdict.guarantees) if preset.verdict else ("", "")
        for letter in [preset.section, *preset.also]:
            rows.append((letter, name, preset.title, *measured))
    rows.sort(key=lambda row: (row[0] == "kernel", row[0][0], int("".join(filter(str.isdigit, row[0])) or 0), row))
    return _markdown(
        {"": "---", "preset": "---", "what it is": "---", "prevents": "---", "guarantees": "---"},
        [[letter, f"`{name}`", *rest] for letter, name, *rest in rows],
    )


def small(rows: list[dict[str, Any]]) -> str:
    """A row a policy under which some machines livelock, but others than under the first; the fewest first."""
    found = []
    for row in rows[1:]:
        low, high = (round(100 * bound) for bound in row["difference_interval"])
        if row["livelocked"] and row["policy"] not in _same_as_baseline(rows):
            found.append(
                [
                    row["policy"],
                    str(row["livelocked"]),
                    f"{low:+} to {high:+}".replace("+0", "0"),
                    str(row["sense_failing"]),
                ]
            )
    found.sort(key=lambda row: (int(row[1]), row[0]))
    head = {"preset": "---", "livelocked": "---:", "difference, %": "---:", "sense failures on": "---:"}
    return _markdown(head, found)


def _same_as_baseline(rows: list[dict[str, Any]]) -> list[str]:
    """Policies under which not one event differs, by all that the board tells but what a policy asked in vain."""

    def outcome(row: dict[str, Any]) -> str:
        means = {key: mean for key, mean in row["means"].items() if not key.startswith("extra_")}
        return json.dumps({**row, "policy": "", "title": "", "broken_by": None, "means": means})

    return [row["policy"] for row in rows if outcome(row) == outcome(rows[0])]


def board(rows: list[dict[str, Any]]) -> str:
    """A row a policy in the order that they were run; presets in which the same happened share a row."""
    together: dict[str, list[str]] = {}
    for row in rows:
        together.setdefault(json.dumps({**row, "policy": "", "title": "", "broken_by": None}), []).append(row["policy"])
    return _markdown(COLUMNS, [_cells(json.loads(row), names) for row, names in together.items()])


def combinations() -> str:
    """A row a policy: livelocked lanes of the sweep of combinations, under each allocator."""
    table = pl.read_csv(RESULTS / "sweeps" / "policy-combinations.csv")
    rows: dict[str, dict[str, str]] = {}
    for row in table.iter_rows(named=True):
        rows.setdefault(row["variant"], {})[row["allocator"]] = str(row["livelocked"])
    names = sorted(rows, key=lambda name: (not name.startswith("rc8"), name))
    cells = [[f"`{name}`", *(rows[name][allocator] for allocator in ALLOCATORS)] for name in names]
    return _markdown({"": "---", **dict.fromkeys(ALLOCATORS.values(), "---:")}, cells)


def page(path: Path) -> str:
    """A page with its tables made again."""
    text = replaced(path.read_text(encoding="utf-8"), "presets", presets())
    for name in NAMES:
        rows = json.loads((BOARDS / f"{name}.json").read_text(encoding="utf-8"))
        text = replaced(text, f"board {name}", board(rows))
    rows = json.loads((BOARDS / "small.json").read_text(encoding="utf-8"))
    return replaced(replaced(text, "small machines", small(rows)), "combinations", combinations())


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    means = row["means"]
    links = " ".join(map(str, row["links"])) or "none"
    if row["weakened"]:
        links += f" ({' '.join(map(str, row['weakened']))})"
    return [
        ", ".join(names),
        f"{row['livelocked']} of {row['lanes']}",
        links,
        "" if row["throughput"] is None else f"{row['throughput']:.2f}",
        _number(means["sense_fail"]),
        _number(means["slab_peak_pages"]),
        _number(means["slab_waste_kb"]),
        _number(means["slow_per_1000"]),
        _number(means["locks_per_1000"]),
        _number(means["extra_tests_per_1000"]),
        _number(means["extra_locks_per_1000"]),
        _number(means["reserve_idle_kb"]),
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _markdown(columns: dict[str, str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(columns.values())}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path), encoding="utf-8")

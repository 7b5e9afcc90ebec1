"""Tables of the documentation, made from the last run of each benchmark."""

import importlib
from pathlib import Path

import polars as pl

from benchmarks import suite
from benchmarks.measure import latest

PLACES = ("docs/speed.md", "docs/speed-replay.md", "docs/speed-machine.md", "docs/speed-policies.md", "docs/rare.md")


def number(value: float | None) -> str:
    """Three figures, with thousands separated."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: pl.DataFrame) -> str:
    """Markdown: a line a row."""
    compared = rows["ratio"].is_not_null().any()
    head = ["work", "contestant", "median", "least to most", "unit"] + (["ratio", "to"] if compared else [])
    lines = ["| " + " | ".join(head) + " |", "|---|---|---:|---:|---|" + ("---:|---|" if compared else "")]
    for row in rows.iter_rows(named=True):
        cells = [row["work"], row["contestant"], number(row["value"])]
        cells += [f"{number(row['low'])} to {number(row['high'])}", row["unit"]]
        if compared:
            ratio = row["ratio"]
            span = f" ({number(row['ratio_low'])} to {number(row['ratio_high'])})" if ratio is not None else ""
            cells += [f"{number(ratio)}{span}", row["versus"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def section(name: str) -> str:
    """Question, command and table of a benchmark; empty where nothing is kept of it."""
    rows = latest(name)
    if rows is None:
        return ""
    made = rows.row(0, named=True)
    question = importlib.import_module(f"benchmarks.{name}").QUESTION
    where = (
        f"`{made['command']}`, {made['at'][:10]}, {made['cpus']} CPUs ({made['processor']}), model `{made['model']}`"
    )
    return f"## {name}\n\n{question}\n\n{where}:\n\n{table(rows)}\n"


def replaced(text: str, mark: str, content: str) -> str:
    """``text`` with what stands between the markers of ``mark`` replaced; unchanged where there are none."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    if begin not in text or end not in text:
        return text
    head, rest = text.split(begin, 1)
    return f"{head}{begin}\n{content}{end}{rest.split(end, 1)[1]}"


# What the page on speed shows first of each benchmark: a row where all the words stand in it.
HEADLINE = (
    ("startup", "", ("--help",)),
    ("startup", "", ("first tick", "compil")),
    ("closed_loop", "x real time", ("idle",)),
    ("closed_loop", "x real time", ("full load, 50 MB/s",)),
    ("closed_loop", "ns/page copied or swapped", ("full load, 50 MB/s",)),
    ("closed_loop", "x real time", ("livelocked",)),
    ("closed_loop", "", ("17 hours",)),
    ("scaling", "", ("lanes of",)),
    ("sweep", "", ("two threads",)),
    ("c_twin", "", ("d_long_mix", "kernel")),
    ("peers", "", ("remote", " kernel ")),
    ("simpy_peer", "", ("whole machine",)),
)


def headline() -> str:
    """The few figures that stand first, and over all traces the ratio to the C twin."""
    lines = ["| what | figure | beside |", "|---|---:|---|"]
    for name, unit, words in HEADLINE:
        rows = latest(name)
        if rows is None:
            continue
        for row in rows.iter_rows(named=True):
            text = f"{row['work']}: {row['contestant']} "
            if (unit and row["unit"] != unit) or not all(word in f" {text}" for word in words):
                continue
            ratio = f"{number(row['ratio'])} × {row['versus']}" if row["ratio"] is not None else ""
            lines.append(f"| {text.strip()} | {number(row['value'])} {row['unit']} | {ratio} |")
    twin = latest("c_twin")
    if twin is not None:
        ratios = twin["ratio"].drop_nulls()
        lines.append(
            f"| replay kernel over all {len(ratios)} traces | {number(float(ratios.median()))} × the C twin's speed | "  # type: ignore[arg-type]
            f"{number(float(ratios.min()))} to {number(float(ratios.max()))} |"  # type: ignore[arg-type]
        )
    return "\n".join(lines) + "\n"


def write_all(root: Path) -> None:
    """Bring the tables of the documentation up to date."""
    contents = {"bench": headline(), **{f"bench {name}": section(name) for name in suite.NAMES}}
    for place in PLACES:
        path = root / place
        before = text = path.read_text(encoding="utf-8")
        for mark, content in contents.items():
            if content:
                text = replaced(text, mark, content)
        if text != before:
            path.write_text(text, encoding="utf-8")

"""Figures in the sentences of the documentation, from results/. ``make tables`` writes them; a test holds every page.

A figure stands between two comments that no reader sees: ``<!--=small rank livelocked-->80<!--/-->``. The words are

    FILE ROW KEY [FORMAT]       a row (policy or variant) of results/swap-livelock/FILE.json; KEY: means.sense_fail
    FILE A/B KEY [FORMAT]       what row B has less than row A
    FILE * never                rows under which no lane livelocks; ``FILE * rows``: all of them
    counts KEY [FORMAT]         results/swap-livelock/counts.json, which counts.py beside it writes
    csv FILE K=V,K=V COLUMN     sum of a column over rows of results/FILE.csv; COLUMN ``rows`` counts them
"""

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
_FIGURE = re.compile(r"<!--=(?P<words>[^>]*?)-->(?P<shown>[^<\n]*)<!--/-->")


def pages() -> list[Path]:
    """The pages that are kept, README among them."""
    made = ("_build", "reference")
    return [
        DOCS.parent / "README.md",
        *(p for p in sorted(DOCS.rglob("*.md")) if p.relative_to(DOCS).parts[0] not in made),
    ]


def figure(words: str) -> str:
    """What the words name, as it stands in a sentence.

    Raises:
        KeyError, ValueError: there is no such row, key or file.
    """
    file, *rest = words.split()
    if file == "csv":
        return _csv(*rest)
    if file == "counts":
        rest.insert(0, "")
    row, key, *form = rest
    rows = _rows(file)
    if row == "*":
        found: Any = len(rows) if key == "rows" else sum(not _of(each, "livelocked") for each in rows.values())
    elif "/" in row:
        more, less = row.split("/")
        found = _of(rows[more], key) - _of(rows[less], key)
    else:
        found = _of(rows[row], key)
    return _shown(found, *form)


def with_figures(text: str) -> str:
    """A page with its figures as they are now."""
    return _FIGURE.sub(lambda each: f"<!--={each['words']}-->{figure(each['words'])}<!--/-->", text)


def _csv(file: str, conditions: str, column: str, form: str = "") -> str:
    table = pl.read_csv(RESULTS / f"{file}.csv", infer_schema_length=None)
    for name, value in (each.split("=") for each in conditions.split(",") if each != "*"):
        table = table.filter(pl.col(name.replace("~", " ")).cast(pl.String) == value.replace("~", " "))
    if table.is_empty():
        raise ValueError(f"{file}: no row has {conditions}")
    return _shown(len(table) if column == "rows" else table[column].sum(), form)


@cache
def _rows(file: str) -> dict[str, Any]:
    found = json.loads((RESULTS / "swap-livelock" / f"{file}.json").read_text(encoding="utf-8"))
    if isinstance(found, dict):
        return {"": found}
    return {row.get("policy") or row["variant"]: row for row in found}


def _of(row: dict[str, Any], key: str) -> Any:
    found: Any = row
    for part in key.split(".") if key not in row else [key]:
        found = found[part]
    return found


def _shown(value: Any, form: str = "") -> str:
    if form:
        return f"{value:{form}}"
    if isinstance(value, float) and value < 10 and value != int(value):
        return f"{value:.1f}"
    return f"{value:,.0f}"


if __name__ == "__main__":
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = with_figures(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page, file=sys.stderr)

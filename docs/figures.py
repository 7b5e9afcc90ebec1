"""Figures in the sentences of the documentation, from results/. ``make tables`` writes them; a test holds every page.

A figure stands between two comments that no reader sees: ``<!--=small rank livelocked-->80<!--/-->``. The words are

    FILE ROW KEY [FORMAT]       a row (policy or variant) of results/swap-livelock/FILE.json; KEY: means.sense_fail
    FILE A/B KEY [FORMAT]       what row B has less than row A
    FILE * never                rows under which no lane livelocks; ``FILE * rows``: all of them
    counts KEY [FORMAT]         results/swap-livelock/counts.json, which counts.py beside it writes
    csv FILE ROWS COLUMN [FORMAT]       rows of results/FILE.csv, see ``_rows_of``: their number, sum, or as COLUMN says
    share FILE ROWS MORE COLUMN [FORMAT]        of the sum of COLUMN over ROWS those with MORE too, in per cent
    json FILE KEY [FORMAT]      results/FILE.json; KEY has dots; a part ``run=rc8-s1`` takes from a list where run is so
    bench NAME WORK CONTESTANT UNIT [value|low|high|ratio] [FORMAT]     the last run of a benchmark; * is any text
    ratio [FORMAT] of X to Y    X / Y, each one of these; ``more`` for ratio: by how many per cent X is more than Y
    in FILE NUMBER [FORMAT]     a number that stands in this test, which is run
    const FILE NAME [FORMAT]    a constant of this source; NAME may be a key of it (``LIMITS.new``)

A blank in a name is written ~. FORMAT is Python's, of one word; ``%`` is a share in per cent.
"""

import ast
import json
import re
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from benchmarks.measure import latest
from benchmarks.tables import number

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RESULTS = ROOT / "results"
_FIGURE = re.compile(r"<!--=(?P<words>[^>]*?)-->(?P<shown>[^<\n]*)<!--/-->")


def pages() -> list[Path]:
    """The pages that are kept, README among them."""
    made = ("_build", "reference")
    return [
        ROOT / "README.md",
        *(p for p in sorted(DOCS.rglob("*.md")) if p.relative_to(DOCS).parts[0] not in made),
    ]


def figure(words: str) -> str:
    """What the words name, as it stands in a sentence.

    Raises:
        KeyError, ValueError: there is no such row, key or file.
    """
    if words.startswith("bench "):
        return _bench(*words.split()[1:])
    return _shown(*_valued(words))


def with_figures(text: str) -> str:
    """A page with its figures as they are now."""
    return _FIGURE.sub(lambda each: f"<!--={each['words']}-->{figure(each['words'])}<!--/-->", text)


def _valued(words: str) -> tuple[Any, str]:
    """The figure itself, and its format."""
    kind, *rest = words.split()
    known = {"csv": _csv, "share": _share, "json": _json, "in": _in, "counts": _counts, "const": _const}
    if kind in known:
        return known[kind](*rest)
    if kind in ("ratio", "more"):
        form, of = words.removeprefix(kind).split(" of ", 1)
        above, below = (_valued(each)[0] for each in of.split(" to ", 1))
        return above / below if kind == "ratio" else 100 * (above / below - 1), form.strip()
    row, key, *form = rest
    rows = _rows(kind)
    if row == "*":
        found: Any = len(rows) if key == "rows" else sum(not _of(each, "livelocked") for each in rows.values())
    elif "/" in row:
        more, less = row.split("/")
        found = _of(rows[more], key) - _of(rows[less], key)
    else:
        found = _of(rows[row], key)
    return found, "".join(form)


def _counts(key: str, form: str = "") -> tuple[Any, str]:
    return _of(_rows("counts")[""], key), form


def _json(file: str, key: str, form: str = "") -> tuple[Any, str]:
    return _of(json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8")), key.replace("~", " ")), form


def _in(file: str, said: str, form: str = "") -> tuple[Any, str]:
    if not re.search(rf"(?<![\d.]){re.escape(said)}(?![\d.]*\d)", (ROOT / file).read_text(encoding="utf-8")):
        raise ValueError(f"{file} does not say {said}")
    return float(said) if "." in said else int(said), form


def _const(file: str, name: str, form: str = "") -> tuple[Any, str]:
    wanted, *keys = name.split(".")
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            names = [each.id for each in ast.walk(target) if isinstance(each, ast.Name)]
            if wanted in names:
                found = eval(compile(ast.Expression(node.value), file, "eval"), {"__builtins__": {}})
                found = found[names.index(wanted)] if isinstance(target, ast.Tuple) else found
                return (found[keys[0]] if keys else found), form
    raise ValueError(f"{file} has no constant {name}")


def _csv(file: str, conditions: str, column: str, form: str = "") -> tuple[Any, str]:
    """``column``: ``rows`` counts them; ``mean:NAME``, ``median:``, ``min:``, ``max:``; ``by:WEIGHT:NAME`` a mean."""
    table = _rows_of(file, conditions)
    *how, name = column.replace("~", " ").split(":")
    if column == "rows":
        return len(table), form
    if how and how[0] == "by":
        return (table[name] * table[how[1]]).sum() / table[how[1]].sum(), form
    return getattr(table[name], how[0] if how else "sum")(), form


def _share(file: str, conditions: str, more: str, column: str, form: str = "") -> tuple[Any, str]:
    part = _rows_of(file, f"{conditions}&{more}")[column].sum()
    return 100 * part / _rows_of(file, conditions)[column].sum(), form


def _rows_of(file: str, conditions: str) -> pl.DataFrame:
    """``K=V,K!=V``, joined by & where a value has a comma; ``K=`` where nothing stands; ``*`` all rows."""
    table = pl.read_csv(RESULTS / f"{file}.csv", infer_schema_length=None)
    for each in re.split("&" if "&" in conditions else ",", conditions.replace("~", " ")):
        if each != "*":
            name, no, value = re.fullmatch(r"([^=!]+)(!?)=(.*)", each).groups()  # type: ignore[union-attr]
            equal = pl.col(name).is_null() if value == "" else pl.col(name).cast(pl.String) == value
            table = table.filter(~equal if no else equal)
    if table.is_empty():
        raise ValueError(f"{file}: no row has {conditions}")
    return table


def _bench(name: str, work: str, contestant: str, unit: str, field: str = "value", form: str = "") -> str:
    rows = latest(name)
    if rows is None:
        raise ValueError(f"no benchmark {name} is kept")
    asked = {"work": work, "contestant": contestant, "unit": unit}
    for row in rows.iter_rows(named=True):
        if row[field] is not None and all(fnmatchcase(row[key], text.replace("~", " ")) for key, text in asked.items()):
            return f"{row[field]:{form}}" if form else number(row[field])
    raise ValueError(f"{name}: no row {work} {contestant} {unit}")


@cache
def _rows(file: str) -> dict[str, Any]:
    found = json.loads((RESULTS / "swap-livelock" / f"{file}.json").read_text(encoding="utf-8"))
    if isinstance(found, dict):
        return {"": found}
    return {row.get("policy") or row["variant"]: row for row in found}


def _of(row: Any, key: str) -> Any:
    found: Any = row
    for part in key.split(".") if not isinstance(row, dict) or key not in row else [key]:
        if isinstance(found, list):
            name, _, value = part.partition("=")
            found = next(each for each in found if str(each[name]) == value) if value else found[int(name)]
        else:
            found = found[part]
    return found


def _shown(value: Any, form: str = "") -> str:
    if form == "%":
        return f"{100 * value:g}"
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

"""``fastalloc bench``: how fast it is, beside what one would use instead and beside the limit."""

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fastalloc
from fastalloc.cli.options import Json
from fastalloc.errors import InputError
from fastalloc.width import say

if TYPE_CHECKING:
    from benchmarks.measure import Row


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which ones  [default: all]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter runs, of which nothing is kept.")] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Only write the tables of README and docs again, from what is kept.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure speed, side by side with peers and limits; needs the source checkout.

    Rows are appended to results/benchmarks/, from which the tables of README and docs are made. Ratios and instructions
    are compared with the run kept before: exit code 1 where one is a tenth worse beyond the spread.
    """
    root = Path(fastalloc.__file__).resolve().parents[2]
    if not (root / "benchmarks" / "suite.py").exists():
        raise InputError("bench", str(root), "is no source checkout: the benchmarks are not installed")
    sys.path.insert(0, str(root))
    from benchmarks import suite
    from benchmarks import tables as made

    def tell(name: str, row: "Row | None") -> None:
        if row is None:
            say(f"\n{name}: {suite.module(name).QUESTION}")
        else:
            print(f"  {line(row)}")

    def quiet(name: str, row: "Row | None") -> None:
        pass

    slower: list[str] = []
    if not tables:
        results, slower = suite.run(names or suite.NAMES, quick, quiet if json else tell)
        if json:
            record: dict[str, Any] = {name: [asdict(row) for row in rows] for name, rows in results.items()}
            print(json_module.dumps(record, indent=1))
    if not quick:
        made.write_all(root)
    for told in slower:
        say(f"slower than the run before: {told}", err=True)
    if slower:
        raise typer.Exit(1)


def line(row: "Row") -> str:
    """A row as text."""
    from benchmarks.tables import number

    text = f"{row.work:<44} {row.contestant:<28} {number(row.value):>12} {row.unit}"
    if row.ratio is not None:
        text += f"   {number(row.ratio)} x {row.versus} ({number(row.ratio_low)}-{number(row.ratio_high)})"
    return text

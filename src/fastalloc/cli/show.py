"""Prints the verdict of a dataset to stdout."""

from collections.abc import Sequence
from typing import Any

from fastalloc.errors import printable
from fastalloc.store import Dataset
from fastalloc.width import say

POINTS_SHOWN = 60
LIVELOCKED = ("lanes", "livelocked", "share", "95 %")
SELDOM = (
    "95 %",
    "waste at peak",
    "new pages",
    "slow allocs",
    "end pages",
    "list locks",
    "orders",
)  # the later, the sooner left out
REPLAYED = ("orders", "new pages", "peak pages", "end pages", "waste at peak", "slow allocs", "list locks")


def tell_doubts(doubtful: Sequence[str], as_json: bool) -> None:
    """The line above a table that rests on less than was asked; stdout is left to JSON."""
    if doubtful:
        say(f"rests on less than was asked: {'; '.join(doubtful)}", err=as_json)


def _tell_simplified(dataset: Dataset) -> None:
    """The lines above a table of machines that are not simulated as they are."""
    for sentence in dataset.manifest.get("simplified", []):
        say(f"simplified: {printable(sentence)}")


def show(dataset: Dataset, as_json: bool, doubtful: Sequence[str] = ()) -> None:
    """As a table with a sentence a variant, or as JSON and nothing else; ``doubtful``: see ``store.doubts``."""
    from fastalloc.report.verdict import verdict_rows, verdicts

    found = verdicts(dataset)
    if as_json:
        import json

        print(json.dumps(_noted(verdict_rows(found), dataset, doubtful), indent=1))
        return
    from fastalloc.report.terminal import print_verdicts
    from fastalloc.terminal import console

    _tell_simplified(dataset)
    print_verdicts(console(), found)


def show_board(dataset: Dataset, as_json: bool, doubtful: Sequence[str] = ()) -> None:
    """The board of a comparison, as a table or as JSON and nothing else."""
    from fastalloc.report.board import board, board_rows

    found = board(dataset)
    if as_json:
        import json

        print(json.dumps(_noted(board_rows(found), dataset, doubtful), indent=1))
        return
    from fastalloc.report.terminal import print_board
    from fastalloc.terminal import console

    _tell_simplified(dataset)
    print_board(console(), found)


def _noted(rows: list[dict[str, Any]], dataset: Dataset, doubtful: Sequence[str]) -> list[dict[str, Any]]:
    """Rows for JSON with what they rest on, where that is less than was asked or than the machine has."""
    told = {"doubts": list(doubtful), "simplified": dataset.manifest.get("simplified", [])}
    notes = {name: sentences for name, sentences in told.items() if sentences}
    return [row | notes for row in rows]


def show_sweep(dataset: Dataset, as_json: bool, doubtful: Sequence[str] = ()) -> None:
    """The points of a sweep with their livelocks, as a table or as JSON and nothing else."""
    from fastalloc.report.sweep import is_of_traces, point_rows, setting_named

    if as_json:
        import json

        print(json.dumps(_noted(point_rows(dataset), dataset, doubtful), indent=1))
        return
    from fastalloc.terminal import Table, console

    _tell_simplified(dataset)
    rows, axes = point_rows(dataset), dataset.manifest["sweep"]["axes"]
    names, cells = (REPLAYED, _replayed) if is_of_traces(dataset) else (LIVELOCKED, _livelocked)
    table = Table(padding=(0, 2, 0, 0), header_style="bold")
    for name in ("variant", *axes, *names):
        rank = SELDOM.index(name) + 1 if name in SELDOM else 0
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True, rank=rank)
    for row in rows[:POINTS_SHOWN]:
        table.add_row(row["variant"], *(setting_named(key, row[key]) for key in axes), *cells(row))
    out = console()
    table.put(out)
    if len(rows) > POINTS_SHOWN:
        out.print(f"... and {len(rows) - POINTS_SHOWN:,} more points")


def _livelocked(row: dict[str, Any]) -> list[str]:
    interval = "one lane" if row["low"] is None else f"{100 * row['low']:.2f}-{100 * row['high']:.2f} %"
    return [f"{row['lanes']:,}", f"{row['livelocks']:,}", f"{row['share']:.4f}", interval]


def _replayed(row: dict[str, Any]) -> list[str]:
    return [
        *(f"{row[name]:,.0f}" for name in ("orders", "new_pages", "peak_pages", "end_pages")),
        f"{row['peak_waste_bytes'] / 1024:,.0f} KiB",
        f"{100 * row['slow_share']:.2f} %",
        f"{row['list_lock']:,.0f}",
    ]

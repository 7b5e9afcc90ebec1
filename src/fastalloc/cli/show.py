"""Prints the verdict of a dataset to stdout."""

import sys

from fastalloc.store import Dataset

POINTS_SHOWN = 60


def show(dataset: Dataset, as_json: bool) -> None:
    """As a table with a sentence a variant, or as JSON and nothing else."""
    from fastalloc.report.verdict import verdict_rows, verdicts

    found = verdicts(dataset)
    if as_json:
        import json

        print(json.dumps(verdict_rows(found), indent=1))
        return
    from rich.console import Console

    from fastalloc.report.terminal import verdict_table

    console = Console()
    if not sys.stdout.isatty():
        console = Console(width=160)
    console.print(verdict_table(found))


def show_board(dataset: Dataset, as_json: bool) -> None:
    """The board of a comparison, as a table of at most 120 columns or as JSON and nothing else."""
    from fastalloc.report.board import board, board_rows

    found = board(dataset)
    if as_json:
        import json

        print(json.dumps(board_rows(found), indent=1))
        return
    from rich.console import Console

    from fastalloc.report.terminal import board_table

    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(board_table(found))


def show_sweep(dataset: Dataset, as_json: bool) -> None:
    """The points of a sweep with their livelocks, as a table or as JSON and nothing else."""
    from fastalloc.report.sweep import point_rows, point_table

    if as_json:
        import json

        print(json.dumps(point_rows(dataset), indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    points, varied = point_table(dataset), dataset.manifest["sweep"]["varied"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("variant", *varied, "lanes", "livelocked", "share", "95 %"):
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    for row in points.head(POINTS_SHOWN).iter_rows(named=True):
        interval = f"{100 * row['low']:.2f}-{100 * row['high']:.2f} %"
        values = [str(row[key]) for key in varied]
        table.add_row(
            row["variant"], *values, f"{row['lanes']:,}", f"{row['livelocks']:,}", f"{row['share']:.4f}", interval
        )
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
    if len(points) > POINTS_SHOWN:
        console.print(f"... and {len(points) - POINTS_SHOWN:,} more points")

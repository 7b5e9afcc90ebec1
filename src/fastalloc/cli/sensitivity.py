"""``fastalloc sensitivity``: which parameter of a sweep matters most."""

from typing import Annotated

import typer

from fastalloc.cli.options import Json
from fastalloc.errors import printable


def sensitivity(
    dataset: Annotated[str, typer.Argument(help="Folder of a sweep's dataset, or s3://BUCKET/PREFIX.")],
    of: Annotated[str, typer.Option(metavar="METRIC", help="livelock, or a metric of runs/.")] = "livelock",
    json: Json = False,
) -> None:
    """Print how much of the variance between points each parameter explains, alone and with its interactions."""
    from fastalloc.store import open_dataset
    from fastalloc.sweep.sensitivity import sensitivity as analyse

    found = analyse(open_dataset(dataset), of)
    if json:
        import json as json_module

        rows = [part._asdict() | {"influences": [row._asdict() for row in part.influences]} for part in found]
        print(json_module.dumps(rows, indent=1))
        return
    from fastalloc.terminal import Table, console

    out = console()
    for part in found:
        table = Table(padding=(0, 2, 0, 0), header_style="bold")
        for name in ("parameter", "alone", "±", "with interactions", "±"):
            table.add_column(name, justify="left" if name == "parameter" else "right", no_wrap=True)
        for row in part.influences:
            cells = ["" if value is None else f"{value:.3f}" for value in row[1:]]
            table.add_row(row.parameter, *cells)
        out.print(printable(f"{part.title}: {part.of}, {part.method}, {part.points:,} points"), style="bold")
        if not part.influences:
            out.print()
            continue
        table.put(out)
        chance = "unknown" if part.chance is None else f"{100 * part.chance:.1f} % of the variance"
        out.print(f"chance of the lanes: {chance}\n")

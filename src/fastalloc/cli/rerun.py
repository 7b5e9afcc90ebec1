"""``fastalloc rerun``: one lane of a dataset alone, with its full event log."""

import sys
from typing import Annotated

import typer

from fastalloc.cli.options import Trust

SHOWN_EVENTS = 60


def rerun(
    dataset: Annotated[str, typer.Argument(help="Folder of the dataset, or s3://BUCKET/PREFIX.")],
    lane: Annotated[int, typer.Argument(help="The lane's id in runs/.")],
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Parquet file  [default: DATASET/rerun/LANE.parquet]")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Check conservation after every tick.")] = False,
    trust: Trust = False,
) -> None:
    """Run one lane again, compare it with what was stored, and save its full event log."""
    from fastalloc.cli.events import event_lines
    from fastalloc.runner import rerun as rerun_lane
    from fastalloc.runner import save_events
    from fastalloc.store.location import location
    from fastalloc.terminal import console

    done = rerun_lane(dataset, lane, debug=debug)
    path = save_events(done, out or location(dataset) / "rerun" / f"{lane}.parquet")
    shown = console()
    lines = event_lines(done.result.events)
    for line in lines[:SHOWN_EVENTS]:
        shown.print(line, soft_wrap=True)
    if len(lines) > SHOWN_EVENTS:
        shown.print(f"... and {len(lines) - SHOWN_EVENTS:,} more")
    shown.print(f"{len(lines):,} events in {path}")
    if done.differing:
        model = "" if done.same_model else " (the dataset was made by another version of the model)"
        print(f"lane {lane}: differs from the stored row in {', '.join(done.differing)}{model}", file=sys.stderr)
        raise typer.Exit(1)
    shown.print(f"lane {lane}: every metric equals the stored row")

"""``fastalloc rerun``: one lane of a dataset alone, with its full event log."""

from typing import TYPE_CHECKING, Annotated

import typer

from fastalloc.cli.options import Json, Trust
from fastalloc.errors import InputError
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.runner import Rerun
    from fastalloc.store import Dataset


def rerun(
    dataset: Annotated[str, typer.Argument(help="Folder of the dataset, or s3://BUCKET/PREFIX.")],
    lane: Annotated[int, typer.Argument(help="The lane's id in runs/.")],
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Parquet file  [default: DATASET/rerun/LANE.parquet]")
    ] = None,
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="Show events from here on: 12.5s, 300ms, 1s-before-livelock."),
    ] = "0s",
    events: Annotated[int, typer.Option(metavar="N", min=0, help="Show so many; 0 shows all from there on.")] = 60,
    debug: Annotated[bool, typer.Option("--debug", help="Check conservation after every tick.")] = False,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Run one lane again, compare it with what was stored, show events of it, and save its full event log."""
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.rare.rewind import parse_time
    from fastalloc.runner import rerun as rerun_lane
    from fastalloc.runner import save_events
    from fastalloc.store import open_dataset
    from fastalloc.store.location import location, make_folder

    opened = open_dataset(dataset)
    onset_ms, length_s = _stored(opened, lane)
    onset_ns = None if onset_ms < 0 else onset_ms * 1_000_000
    if length_s is not None:
        parse_time(since, onset_ns, round(length_s * 1e9), "--since")  # refused before anything is run
    announce_compiling()
    done = rerun_lane(opened, lane, debug=debug)
    from_ns = parse_time(since, onset_ns, round(done.scenario.run.duration_s * 1e9), "--since")
    path = save_events(done, out or make_folder(location(dataset), "rerun") / f"{lane}.parquet")
    if json:
        import json as json_text

        told = {
            "lane": lane,
            "variant": done.scenario.variants[0].name,
            "events": len(done.result.events),
            "file": str(path),
        }
        print(json_text.dumps(told | {"differing": list(done.differing), "same_model": done.same_model}, indent=1))
    else:
        _show(done, from_ns, events, onset_ms)
        say(f"{len(done.result.events):,} events in {path}")
    if done.differing:
        model = "" if done.same_model else " (the dataset was made by another version of the model)"
        say(f"lane {lane}: differs from the stored row in {', '.join(done.differing)}{model}", err=True)
        raise typer.Exit(1)
    if not json:
        say(f"lane {lane}: every metric equals the stored row")


def _stored(dataset: "Dataset", lane: int) -> tuple[int, float | None]:
    """When the longest livelock of a stored lane began, ms or -1, and how long the lane ran, s.

    A lane that broke has no row; it, and whatever else is wrong, is told where the lane is run.
    """
    from fastalloc.runner import stored_lane

    try:
        own, row = stored_lane(dataset, lane)
    except InputError:
        return -1, None
    return row["livelock_onset_ms"], own.run.duration_s


def _show(done: "Rerun", from_ns: int, most: int, onset_ms: int) -> None:
    """Events from a time on, and which of all they are."""
    import numpy as np

    from fastalloc.cli.events import event_lines
    from fastalloc.kernels.lane.metrics import EVENT_ROW

    log = done.result.events
    at = log[:, EVENT_ROW.t_ns]
    first = int(np.searchsorted(at, from_ns))
    shown = log[first : first + most if most else None]
    if len(shown):
        last = first + len(shown)
        when = f"{at[first] / 1e9:.3f} to {at[last - 1] / 1e9:.3f} s"
        say(f"events {first + 1:,} to {last:,} of {len(log):,}, {when} of {done.scenario.run.duration_s:g} s:")
    for line in event_lines(shown):
        say(line)
    left = len(log) - first - len(shown)
    if left or first:
        livelock = (
            "" if onset_ms < 0 else f" (its livelock begins at {onset_ms / 1000:.3f} s: --since 1s-before-livelock)"
        )
        say(
            f"{first:,} events before these and {left:,} after: --since TIME shows from there, --events 0 all{livelock}"
        )

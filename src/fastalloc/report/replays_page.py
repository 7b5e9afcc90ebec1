"""The HTML page of a sweep over traces: what each setting costs in pages, slow paths and locks; needs no network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt
import polars as pl
from altair.utils.schemapi import debug_mode

from fastalloc.report.charts import plain
from fastalloc.report.filled import filled
from fastalloc.report.sweep import longest, replay_table, setting_named, varying_axes
from fastalloc.store import Dataset
from fastalloc.store.location import Location, location, write_file

PANELS = 36  # maps on the page
TABLE_ROWS = 500
FIGURES = (
    ("peak_pages", "Slab pages at the peak", ",d"),
    ("slow_share", "Allocations on the slow path", ".1%"),
    ("list_lock", "Locks of a node's list", ",d"),
)


class Panel(NamedTuple):
    """A heat map of one figure."""

    title: str
    spec: dict[str, Any]


def write_replays_report(
    dataset: Dataset, path: str | Location | None = None, doubtful: Sequence[str] = ()
) -> Location:
    """Writes the page and returns its path, by default ``report.html`` in the dataset's folder.

    ``doubtful``: sentences on what it lacks, see ``store.doubts``.

    Raises:
        InputError: a shard is unreadable, or the file cannot be written.
    """
    path = location(path) if path else dataset.path / "report.html"
    points = replay_table(dataset)
    with debug_mode(False):
        panels = figure_maps(dataset, points)
    page = filled(
        "replays.html",
        manifest=dataset.manifest,
        doubtful=list(doubtful),
        panels=panels[:PANELS],
        panels_left_out=max(0, len(panels) - PANELS),
        points=points.head(TABLE_ROWS).to_dicts(),
        points_left_out=max(0, len(points) - TABLE_ROWS),
        dataset_path=dataset.path,
        named=setting_named,
    )
    write_file(path, page.encode())
    return path


def figure_maps(dataset: Dataset, points: pl.DataFrame) -> list[Panel]:
    """A map of each figure over the two axes with the most values, for each trace and setting of the rest."""
    axes = varying_axes(dataset, points)
    shown = longest(axes, points)
    rest = [axis for axis in axes if axis not in shown]
    panels = []
    for values, part in points.group_by("variant", *rest, maintain_order=True):
        told = "".join(
            f", {axis.removeprefix('replay.')} = {setting_named(axis, value)}"
            for axis, value in zip(rest, values[1:], strict=True)
        )
        panels += [
            Panel(f"{title}: {values[0]}{told}", _map(part, points, shown, column, form))
            for column, title, form in FIGURES
        ]
    return panels


def _map(part: pl.DataFrame, every: pl.DataFrame, axes: list[str], column: str, form: str) -> dict[str, Any]:
    names = [axis.replace(".", "·") for axis in axes]
    rows = [
        {name: setting_named(axis, row[axis]) for name, axis in zip(names, axes, strict=True)} | {"figure": row[column]}
        for row in part.to_dicts()
    ]
    order = [[setting_named(axis, value) for value in every[axis].unique(maintain_order=True)] for axis in axes]
    x = alt.X(f"{names[0]}:O", title=axes[0], sort=order[0], axis=alt.Axis(labelAngle=0)) if axes else alt.value(40)
    y = alt.Y(f"{names[1]}:O", title=axes[1], sort=order[1]) if len(axes) > 1 else alt.value(20)
    low, high = float(every[column].min() or 0), float(every[column].max() or 0)  # type: ignore[arg-type]
    colour = alt.Color("figure:Q", scale=alt.Scale(scheme="yelloworangered", domain=[low, high]), legend=None)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    cells = base.mark_rect(stroke="#8884", strokeWidth=0.5).encode(color=colour)
    ink = alt.condition(f"datum.figure > {low + 0.6 * (high - low)}", alt.value("white"), alt.value("#333"))
    text = base.mark_text(fontSize=11, fontWeight="bold").encode(alt.Text("figure:Q", format=form), color=ink)
    heights = part[axes[1]].n_unique() if len(axes) > 1 else 1
    return plain(alt.layer(cells, text).properties(width="container", height=30 * heights))

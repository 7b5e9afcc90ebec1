"""The HTML page of a sweep: heat maps of the livelock over two axes, the table of points; needs no network."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import altair as alt
import polars as pl
from altair.utils.schemapi import debug_mode

from fastalloc.report.charts import plain
from fastalloc.report.filled import filled
from fastalloc.report.sensitivity import Sensitivity, influence_chart
from fastalloc.report.surface import curves, smooth_axes, surface
from fastalloc.report.sweep import longest, paired_table, point_table, varying_axes
from fastalloc.store import Dataset
from fastalloc.store.location import Location, location, write_file

PANELS = 24  # heat maps on the page
SURFACES = 12
TABLE_ROWS = 500


class Panel(NamedTuple):
    """A heat map of one variant at fixed values of the other axes."""

    title: str
    spec: dict[str, Any]


def write_sweep_report(
    dataset: Dataset,
    path: str | Location | None = None,
    influences: Sequence[Sensitivity] = (),
    doubtful: Sequence[str] = (),
) -> Location:
    """Writes the page and returns its path, by default ``report.html`` in the dataset's folder.

    Args:
        influences: what matters in the dataset, if that is known.
        doubtful: sentences on what it lacks, see ``store.doubts``.

    Raises:
        InputError: a shard is unreadable, or the file cannot be written.
    """
    path = location(path) if path else dataset.path / "report.html"
    points = point_table(dataset)
    with debug_mode(False):
        panels, left_out = heat_maps(dataset, points)
        responses, calm = response_panels(dataset, points, influences)
        known = [part for part in influences if len(part.influences) > 1][:PANELS]
        matters = [(part, influence_chart(part)) for part in known]
    page = filled(
        "sweep.html",
        manifest=dataset.manifest,
        doubtful=list(doubtful),
        panels=panels,
        panels_left_out=left_out,
        responses=responses,
        calm=calm,
        matters=matters,
        points=points.head(TABLE_ROWS).to_dicts(),
        points_left_out=max(0, len(points) - TABLE_ROWS),
        lanes=int(points["lanes"].sum()),
        livelocks=int(points["livelocks"].sum()),
        paired=paired_table(dataset).head(TABLE_ROWS).to_dicts(),
        dataset_path=dataset.path,
    )
    write_file(path, page.encode())
    return path


def heat_maps(dataset: Dataset, points: pl.DataFrame) -> tuple[list[Panel], int]:
    """Maps over the two axes with the most values, one for each variant and setting of the rest; how many more."""
    axes = varying_axes(dataset, points)
    shown = longest(axes, points)
    cells = len(points.select("variant", *shown).unique())
    if cells < points["variant"].n_unique() * prod(points[axis].n_unique() for axis in shown) / 2:
        return [], 0  # a sample: its points share no rows and columns
    if len(shown) == 1 and smooth_axes(points, shown):
        return [], 0  # its curve tells the same
    rest = [axis for axis in axes if axis not in shown]
    groups = list(points.group_by("variant", *rest, maintain_order=True))
    panels = []
    for values, part in groups[:PANELS]:
        told = ", ".join(f"{axis} = {value}" for axis, value in zip(rest, values[1:], strict=True))
        panels.append(Panel(f"{values[0]}{': ' + told if told else ''}", _heat_map(part, shown)))
    return panels, max(0, len(groups) - PANELS)


def response_panels(
    dataset: Dataset, points: pl.DataFrame, influences: Sequence[Sensitivity]
) -> tuple[list[Panel], list[str]]:
    """Curves over the only axis, or a surface a variant over the two axes that matter most, averaged over the others.

    Besides, the variants that have no surface because they have no livelock.
    """
    axes = smooth_axes(points, varying_axes(dataset, points))
    if len(axes) < 2:
        return ([Panel(f"over {axes[0]}", curves(points, axes[0]))] if axes else []), []
    weights = dict.fromkeys(axes, 0.0)
    for part in influences:
        for row in part.influences:
            if row.parameter in weights:
                weights[row.parameter] = max(weights[row.parameter], row.first if row.total is None else row.total)
    shown = sorted(axes, key=lambda axis: (-weights[axis], -points[axis].n_unique()))[:2]
    shown.sort(key=axes.index)
    averaged = [axis for axis in varying_axes(dataset, points) if axis not in shown]
    told = f", averaged over {', '.join(averaged)}" if averaged else ""
    groups = [(str(values[0]), part) for values, part in points.group_by("variant", maintain_order=True)]
    alive = [(name, part) for name, part in groups if part["livelocks"].sum()]
    panels = [Panel(f"{name}{told}", surface(part, shown)) for name, part in alive[:SURFACES]]
    return panels, [name for name, part in groups if not part["livelocks"].sum()]


def _heat_map(part: pl.DataFrame, axes: list[str]) -> dict[str, Any]:
    columns = [*axes, "lanes", "livelocks", "share", "low", "high"]
    rows = [{name.replace(".", "·"): value for name, value in row.items()} for row in part.select(columns).to_dicts()]
    for row in rows:
        row["interval"] = "one lane" if row["low"] is None else f"{100 * row['low']:.0f}–{100 * row['high']:.0f}"
    names = [axis.replace(".", "·") for axis in axes]
    x = alt.X(f"{names[0]}:O", title=axes[0], axis=alt.Axis(labelAngle=0)) if axes else alt.value(40)
    y = alt.Y(f"{names[1]}:O", title=axes[1], sort="descending") if len(axes) > 1 else alt.value(20)
    colour = alt.Color("share:Q", scale=alt.Scale(scheme="yelloworangered", domain=[0, 1]), legend=None)
    tooltip = [
        *(alt.Tooltip(f"{name}:O", title=axis) for name, axis in zip(names, axes, strict=True)),
        alt.Tooltip("livelocks:Q", format=",d"),
        alt.Tooltip("lanes:Q", format=",d"),
        alt.Tooltip("low:Q", title="95 % from", format=".4f"),
        alt.Tooltip("high:Q", title="to", format=".4f"),
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    cells = base.mark_rect(stroke="#8884", strokeWidth=0.5).encode(color=colour, tooltip=tooltip)
    ink = alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#333"))
    value = base.mark_text(dy=-5, fontSize=11, fontWeight="bold").encode(alt.Text("share:Q", format=".0%"), color=ink)
    spread = base.mark_text(dy=7, fontSize=8).encode(alt.Text("interval:N"), color=ink)
    heights = part[axes[1]].n_unique() if len(axes) > 1 else 1
    chart = alt.layer(cells, value, spread).properties(width="container", height=34 * heights)
    return plain(chart)

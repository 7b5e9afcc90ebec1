"""The HTML page of a sweep: heat maps of the livelock over two axes, the table of points; needs no network."""

from typing import Any, NamedTuple

import altair as alt
import jinja2
import polars as pl
from altair.utils.schemapi import debug_mode

from fastalloc.report.html import TEMPLATES, _embedded, _vega
from fastalloc.report.sweep import paired_table, point_table
from fastalloc.store import Dataset
from fastalloc.store.location import Location, location, write_file

PANELS = 24  # heat maps on the page
TABLE_ROWS = 500


class Panel(NamedTuple):
    """A heat map of one variant at fixed values of the other axes."""

    title: str
    spec: dict[str, Any]


def write_sweep_report(dataset: Dataset, path: str | Location | None = None) -> Location:
    """Writes the page and returns its path, by default ``report.html`` in the dataset's folder.

    Raises:
        InputError: a shard is unreadable, or the file cannot be written.
    """
    path = location(path) if path else dataset.path / "report.html"
    points = point_table(dataset)
    with debug_mode(False):
        panels, left_out = heat_maps(dataset, points)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    environment.filters |= {"spec": _embedded, "digest": lambda text: text[:12]}
    page = environment.get_template("sweep.html").render(
        manifest=dataset.manifest,
        panels=panels,
        panels_left_out=left_out,
        points=points.head(TABLE_ROWS).to_dicts(),
        points_left_out=max(0, len(points) - TABLE_ROWS),
        lanes=int(points["lanes"].sum()),
        livelocks=int(points["livelocks"].sum()),
        paired=paired_table(dataset).head(TABLE_ROWS).to_dicts(),
        dataset_path=dataset.path,
        css=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
        vega=_vega(),
    )
    write_file(path, page.encode())
    return path


def heat_maps(dataset: Dataset, points: pl.DataFrame) -> tuple[list[Panel], int]:
    """Maps over the two axes with the most values, one for each variant and setting of the rest; how many more."""
    axes = [axis for axis in dataset.manifest["sweep"]["axes"] if points[axis].n_unique() > 1]
    shown = sorted(axes, key=lambda axis: -points[axis].n_unique())[:2]
    shown.sort(key=axes.index)
    rest = [axis for axis in axes if axis not in shown]
    groups = list(points.group_by("variant", *rest, maintain_order=True))
    panels = []
    for values, part in groups[:PANELS]:
        told = ", ".join(f"{axis} = {value}" for axis, value in zip(rest, values[1:], strict=True))
        panels.append(Panel(f"{values[0]}{': ' + told if told else ''}", _heat_map(part, shown)))
    return panels, max(0, len(groups) - PANELS)


def _heat_map(part: pl.DataFrame, axes: list[str]) -> dict[str, Any]:
    columns = [*axes, "lanes", "livelocks", "share", "low", "high"]
    rows = [{name.replace(".", "·"): value for name, value in row.items()} for row in part.select(columns).to_dicts()]
    for row in rows:
        row["interval"] = f"{100 * row['low']:.0f}–{100 * row['high']:.0f}"
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
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("$schema", None)
    spec.pop("config", None)
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec

"""The charts of the report, as Vega-Lite specifications without colours of their own background.

Lines and areas take their colours from ``COLOURS``; text, grid and ticks from the page's theme.
"""

from typing import Any

import altair as alt
import polars as pl
from altair.utils import schemapi

from fastalloc.report.selection import AT_ONCE, TOTALS, Lane
from fastalloc.report.zones import FREE, kernel_zone, zone_mark, zone_names

COLOURS = {
    "alarm": "#d64545",
    "calm": "#2f9e6e",
    "free_dma32": "#2b7bba",
    "free_dma": "#8a94a3",
    "free_normal": "#1f8a8a",
    "free_highmem": "#b07cc6",
    "free_movable": "#c98a4b",
    "mark": "#b7791f",
    "writeback": "#7c5cc4",
    "commands": "#2b7bba",
    "running": "#2f9e6e",
    "bio_waiters": "#d64545",
    "request_waiters": "#e0a030",
    "congestion_waiters": "#6c8ead",
    "i_mutex_waiters": "#a3a9b3",
    "sense_fail": "#d64545",
    "free_list_used": "#2f9e6e",
}
HEIGHT = 150
NAMED = {
    "time_s": "second",
    "writeback": "pages under writeback",
    "commands": "commands in flight",
    "bio_waiters": "waiting for a bio",
    "request_waiters": "waiting for a request",
    "congestion_waiters": "napping in reclaim",
    "i_mutex_waiters": "waiting for a directory",
    "running": "running",
    "sense_fail": "sense failures",
    "free_list_used": "served by the free_list",
    "commands_total": "commands started",
    "reports": "reports printed",
}


def free_pages(lane: Lane, top: float) -> dict[str, Any]:
    """Free pages of each zone against the watermarks of the highest that serves the kernel."""
    zone = kernel_zone(lane.row)
    marks = [(name, zone_mark(lane.row, zone, name)) for name in ("min", "low", "high")]
    columns = [f"free_{name.lower()}" for name in zone_names(lane.row)]
    scale = alt.Scale(type="symlog", constant=4, domain=[0, top])
    ticks = [0, 10, 100, 1000, 10_000, 100_000, 1_000_000]
    axis = alt.Axis(values=[tick for tick in ticks if tick <= top], format=",d")
    lines = [
        _base(lane)
        .mark_line(color=COLOURS[name], strokeWidth=width)
        .encode(y=alt.Y(f"{name}:Q", scale=scale, axis=axis, title=None))
        for name, width in ((column, 1.4 if FREE[column] == zone else 1.0) for column in columns)
    ]
    data = alt.Data(values=[{"mark": name, "pages": pages} for name, pages in marks])
    rules = alt.Chart(data).mark_rule(color=COLOURS["mark"], strokeDash=[4, 3]).encode(y=alt.Y("pages:Q", scale=scale))
    return _finish(lane, *lines, rules, fields=columns[::-1])


def writeback(lane: Lane, top: float) -> dict[str, Any]:
    """Pages under writeback."""
    area = (
        _base(lane)
        .mark_area(color=COLOURS["writeback"], opacity=0.55, line={"color": COLOURS["writeback"], "strokeWidth": 1})
        .encode(y=_y("writeback", top))
    )
    return _finish(lane, area, fields=["writeback", "bios", "bio_slabs", "bio_free_slots"])


def commands(lane: Lane, top: float) -> dict[str, Any]:
    """Commands in flight."""
    area = _base(lane).mark_area(color=COLOURS["commands"], opacity=0.7, interpolate="step-after")
    axis = alt.Axis(format=",d", values=list(range(int(top) + 1))) if top <= 4 else None
    area = area.encode(y=_y("commands", top, axis=axis))
    return _finish(lane, area, fields=["commands", "requests", "plugged"], height=70)


def waiting(lane: Lane, top: float) -> dict[str, Any]:
    """Who waits where, stacked."""
    names: list[Any] = list(AT_ONCE)
    area = (
        _base(lane)
        .transform_fold(names, as_=["state", "tasks"])
        .transform_calculate(order=f"indexof({names}, datum.state)")
        .mark_area(interpolate="step-after", opacity=0.85)
        .encode(
            y=alt.Y("tasks:Q", stack="zero", scale=alt.Scale(domain=[0, top]), title=None),
            color=alt.Color("state:N", scale=alt.Scale(domain=names, range=[COLOURS[n] for n in names]), legend=None),
            order=alt.Order("order:Q"),
        )
    )
    return _finish(lane, area, fields=names)


def failures(lane: Lane, top: float) -> dict[str, Any]:
    """Sense failures a second, what the free_list served of them, and ticks for the reports that were printed."""
    lines = [
        _base(lane).mark_area(color=COLOURS[name], opacity=opacity, interpolate="step").encode(y=_y(name, top))
        for name, opacity in (("sense_fail", 0.65), ("free_list_used", 1.0))
    ]
    ticks = (
        alt.Chart(alt.Data(values=lane.reports.to_dicts()))
        .mark_point(shape="triangle-down", filled=True, size=38, color=COLOURS["mark"], opacity=1)
        .encode(
            x=_x(lane),
            y=alt.YValue(4),
            tooltip=[
                alt.Tooltip("time_s:Q", title="report at, s", format=".2f"),
                alt.Tooltip("suppressed:Q", title="suppressed before it"),
            ],
        )
    )
    return _finish(lane, *lines, ticks, fields=["sense_fail", "free_list_used", "reports"])


def commands_started(lane: Lane, top: float) -> dict[str, Any]:
    """Commands that the device was given, a second."""
    area = _base(lane).mark_area(color=COLOURS["commands"], opacity=0.6, interpolate="step")
    return _finish(lane, area.encode(y=_y("commands_total", top)), fields=["commands_total", "swapped_out"], height=90)


def every_lane(spans: pl.DataFrame, lanes: int, end_s: float) -> dict[str, Any]:
    """A strip a lane of one variant, red where it was livelocked."""
    data = alt.Data(values=[{"lane": lane, "begin_s": 0, "end_s": end_s} for lane in range(lanes)])
    y = alt.Y("lane:O", axis=None, scale=alt.Scale(domain=list(range(lanes)), paddingInner=0.25))
    x = alt.X("begin_s:Q", title="seconds", scale=alt.Scale(domain=[0, end_s], nice=False))
    strip = alt.Chart(data).mark_bar(color=COLOURS["calm"], opacity=0.28).encode(x=x, x2=alt.X2("end_s:Q"), y=y)
    locked = (
        alt.Chart(alt.Data(values=spans.to_dicts()))
        .mark_bar(color=COLOURS["alarm"])
        .encode(
            x=x,
            x2=alt.X2("end_s:Q"),
            y=y,
            tooltip=[
                alt.Tooltip("lane:O"),
                alt.Tooltip("begin_s:Q", title="livelocked from, s", format=".1f"),
                alt.Tooltip("end_s:Q", title="to, s", format=".1f"),
            ],
        )
    )
    height = max(24, min(300, lanes * 9))
    return plain(alt.layer(strip, locked).properties(width="container", height=height))


# ------------------------------------------------------------------------------------------------------- parts


def _base(lane: Lane) -> alt.Chart:
    return alt.Chart(alt.NamedData("series")).encode(x=_x(lane))


def _x(lane: Lane, name: str = "time_s") -> alt.X:
    domain = [0, lane.row["sim_ms"] / 1000]
    return alt.X(f"{name}:Q", title="seconds", scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(tickCount=8))


def _y(name: str, top: float, axis: alt.Axis | None = None) -> alt.Y:
    axis = axis or alt.Axis(format=",d", tickCount=4, tickMinStep=1)
    return alt.Y(f"{name}:Q", scale=alt.Scale(domain=[0, top]), axis=axis, title=None)


def _finish(lane: Lane, *marks: alt.Chart, fields: list[str], height: int = HEIGHT) -> dict[str, Any]:
    """Puts the livelocks behind the marks and a rule that shows the values in front."""
    spans = alt.Data(values=[{"begin_s": begin, "end_s": end} for begin, end in lane.livelocks])
    shade = (
        alt.Chart(spans)
        .mark_rect(color=COLOURS["alarm"], opacity=0.13)
        .encode(x=_x(lane, "begin_s"), x2=alt.X2("end_s:Q"))
    )
    near = alt.selection_point(on="pointerover", nearest=True, fields=["time_s"], empty=False)
    columns = ["time_s", *fields]
    shown = [alt.Tooltip(f"{name}:Q", title=_words(name), format=",.6~g") for name in columns]
    rule = (
        _base(lane)
        .mark_rule(strokeWidth=1)
        .encode(opacity=alt.OpacityValue(**alt.condition(near, alt.value(0.6), alt.value(0))), tooltip=shown)
        .add_params(near)
    )
    chart = alt.layer(shade, *marks, rule).properties(width="container", height=height)
    spec = plain(chart)
    return spec  # the page brings the rows of ``series``, once a lane


def _words(name: str) -> str:
    """A column of the series as a reader says it; zones by name."""
    if name in FREE:
        return f"free pages, {FREE[name]}"
    return NAMED.get(name, name.replace("_", " ")) + (" a second" if name in TOTALS else "")


def plain(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """A chart as a specification that takes its look from the page; in Altair's debug mode one of its schema."""
    spec: dict[str, Any] = chart.to_dict(validate=schemapi.DEBUG_MODE)
    spec.pop("$schema", None)
    spec.pop("config", None)  # the page's theme decides
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec

"""The chart of ``fastalloc decided``: the chance of the event over the time before it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from fastalloc.errors import InputError

FLOOR_MS = 10  # where "at the event" stands on the logarithmic axis


def draw(curves: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw curves (as ``--json`` prints them) into an SVG, PNG or HTML file.

    Raises:
        InputError: another kind of file, or it cannot be written.
    """
    if Path(path).suffix not in (".svg", ".png", ".html"):
        raise InputError(path, "", "expected a name that ends in .svg, .png or .html")
    try:
        _chart(curves).save(path)
    except OSError as error:
        raise InputError(path, "", f"cannot be written: {error.strerror or error}") from None


def _chart(curves: Sequence[Mapping[str, Any]]) -> Any:
    event = str(curves[0]["event"])
    values = [
        {
            "before": max(chance["before_ms"], FLOOR_MS),
            "share": chance["share"],
            "low": chance["low"],
            "high": chance["high"],
            "curve": f"{curve['applied']} applied then" if curve["applied"] else "as it was",
        }
        for curve in curves
        for chance in curve["chances"]
        if chance["before_ms"] >= 0
    ]
    boot = [
        {"share": chance["share"], "text": f"from boot: {100 * chance['share']:.0f} %"}
        for chance in curves[0]["chances"]
        if chance["before_ms"] < 0
    ]
    base = alt.Chart(alt.Data(values=values))
    x = alt.X(
        "before:Q",
        scale=alt.Scale(type="log", reverse=True, domain=[FLOOR_MS, max(value["before"] for value in values)]),
        axis=alt.Axis(values=[3000, 1000, 300, 100, 30, 10], format=",d"),
        title=f"ms before the {event} (10: at it)",
    )
    y = alt.Y(
        "share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"), title=f"branches that come to the {event}"
    )
    colour = alt.Color(
        "curve:N",
        scale=alt.Scale(range=["#d64545", "#2f9e6e", "#2b7bba", "#b7791f"]),
        title=None,
        legend=alt.Legend(orient="top"),
    )
    band = base.mark_area(opacity=0.18).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    line = base.mark_line(point=True).encode(x=x, y=y, color=colour)
    rule = alt.Chart(alt.Data(values=boot)).mark_rule(strokeDash=[4, 3], color="#8a94a3").encode(y="share:Q")
    label = (
        alt.Chart(alt.Data(values=boot))
        .mark_text(align="left", dx=4, dy=-6, color="#8a94a3")
        .encode(x=alt.value(0), y="share:Q", text="text:N")
    )
    title = f"lane {curves[0]['lane']}: {event} at {curves[0]['event_s']:.2f} s"
    return alt.layer(band, line, rule, label).properties(width=520, height=260, title=title)

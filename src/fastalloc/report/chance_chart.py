"""The chart of ``fastalloc decided``: the chance of the event over the time before it.

``decided`` keeps its curves in the dataset, a file a lane; the page draws them under the livelock's story.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from fastalloc.bounded import json_of
from fastalloc.errors import InputError, reading
from fastalloc.report.charts import COLOURS, HEIGHT, plain
from fastalloc.store import Dataset
from fastalloc.store.location import Location, make_folder, whole_file, write_file

FOLDER = "decided"  # of a dataset
MOST_DRAWN = 4  # lanes, in a page
RANGE = (COLOURS["alarm"], COLOURS["calm"], COLOURS["commands"], COLOURS["mark"])
FLOOR_MS = 10  # where "at the event" stands on the logarithmic axis


def refuse_kind(path: str) -> None:
    """Raise InputError where a chart cannot be written as the kind of file that a name ends in."""
    if Path(path).suffix not in (".svg", ".png", ".html"):
        raise InputError("--chart", path, "expected a name that ends in .svg, .png or .html")


def draw(curves: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw curves (as ``--json`` prints them) into an SVG, PNG or HTML file.

    Raises:
        InputError: another kind of file, or it cannot be written.
    """
    refuse_kind(path)
    try:
        _chart(curves).properties(width=520, height=260, title=title(curves)).save(path)
    except OSError as error:
        raise InputError(path, "", f"cannot be written: {error.strerror or error}") from None


def keep(dataset: Location, lane_id: int, curves: Sequence[Mapping[str, Any]]) -> None:
    """Keep the curves of a lane in its dataset.

    Raises:
        InputError: it cannot be written.
    """
    write_file(make_folder(dataset, FOLDER) / f"{lane_id}.json", json.dumps(curves, indent=1).encode())


def kept(dataset: Dataset) -> list[list[dict[str, Any]]]:
    """The curves that a dataset keeps, lane by lane.

    Raises:
        InputError: a file of them is damaged.
    """
    folder = dataset.path / FOLDER
    if not folder.exists():
        return []
    files: list[Location] = sorted(folder.glob("*.json"), key=lambda path: (len(path.name), path.name))
    found = []
    for file in files[:MOST_DRAWN]:
        with reading(file, "", "holds no curves of `decided`"):
            curves = json_of(file, whole_file(file))
            if not all({"lane", "event", "event_s", "applied", "chances"} <= set(curve) for curve in curves):
                raise InputError(file, "", "lacks a field of a curve")
            found.append(curves)
    return found


def title(curves: Sequence[Mapping[str, Any]]) -> str:
    """Which lane, and when the event was."""
    return f"lane {curves[0]['lane']}: {curves[0]['event']} at {curves[0]['event_s']:.2f} s"


def legend(curves: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Colour and words of each curve."""
    return list(zip(RANGE, map(_name, curves), strict=False))


def spec(curves: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The chart as a specification for the page."""
    return plain(_chart(curves, legend=None).properties(width="container", height=HEIGHT))


def _name(curve: Mapping[str, Any]) -> str:
    return f"{curve['applied']} applied then" if curve["applied"] else "as it was"


def _chart(curves: Sequence[Mapping[str, Any]], legend: Any = alt.Legend(orient="top")) -> Any:
    event = str(curves[0]["event"])
    names = [_name(curve) for curve in curves]
    values = [
        {
            "before": max(chance["before_ms"], FLOOR_MS),
            "share": chance["share"],
            "low": chance["low"],
            "high": chance["high"],
            "curve": _name(curve),
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
        scale=alt.Scale(domain=names, range=list(RANGE)),
        title=None,
        legend=legend,
    )
    band = base.mark_area(opacity=0.18).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    line = base.mark_line(point=True).encode(x=x, y=y, color=colour)
    rule = alt.Chart(alt.Data(values=boot)).mark_rule(strokeDash=[4, 3], color=COLOURS["free_dma"]).encode(y="share:Q")
    label = (
        alt.Chart(alt.Data(values=boot))
        .mark_text(align="left", dx=4, dy=-6, color=COLOURS["free_dma"])
        .encode(x=alt.value(0), y="share:Q", text="text:N")
    )
    return alt.layer(band, line, rule, label)

"""The Pareto chart: how often a policy livelocks against what it costs, the front drawn in."""

from typing import Any

import altair as alt

from fastalloc.report.board import Row, pareto_front
from fastalloc.report.charts import COLOURS


def pareto_charts(found: list[Row]) -> list[tuple[str, dict[str, Any]]]:
    """Title and specification of the chart against memory and of that against throughput."""
    memory = [(row.means["max_slab_pages"] + row.means.get("reserve_pages", 0.0), row) for row in found]
    cost = [(100 * (1 - row.throughput), row) for row in found if row.throughput is not None]
    charts = [
        ("Against memory", "slab pages and reserve, mean of lanes", memory),
        ("Against throughput", "swap-out lost against the baseline, %", cost),
    ]
    return [(title, _chart(axis, points)) for title, axis, points in charts if points]


def _chart(axis: str, points: list[tuple[float, Row]]) -> dict[str, Any]:
    places = [(x, row.livelocked / row.lanes) for x, row in points]
    front = set(pareto_front(places))
    # policies at one place share a label
    names: dict[tuple[float, float], list[str]] = {}
    for (x, y), (_, row) in zip(places, points, strict=True):
        names.setdefault((x, y), []).append(row.policy)
    data = [
        {"x": x, "y": y, "policy": ", ".join(names[x, y]), "front": i in front, "odd": i % 2}
        for i, (x, y) in enumerate(places)
    ]
    across = alt.X("x:Q", title=axis, scale=alt.Scale(zero=False, nice=True, padding=60))
    up = alt.Y("y:Q", title="lanes that livelocked", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1.05]))
    base = alt.Chart(alt.Data(values=data)).encode(x=across, y=up)
    line = base.transform_filter("datum.front").mark_line(color=COLOURS["calm"], strokeDash=[4, 3]).encode(order="x:Q")
    colour = alt.condition("datum.front", alt.value(COLOURS["calm"]), alt.value(COLOURS["alarm"]))
    dots = base.mark_point(filled=True, size=60, opacity=0.9).encode(color=colour, tooltip=["policy:N", "x:Q", "y:Q"])
    # neighbours take turns above and below their dots
    texts = [
        base.transform_filter(f"datum.odd == {odd}").mark_text(dy=dy, fontSize=10).encode(text="policy:N", color=colour)
        for odd, dy in ((0, -11), (1, 13))
    ]
    spec: dict[str, Any] = alt.layer(line, dots, *texts).properties(width="container", height=300).to_dict()
    spec.pop("$schema", None)
    spec.pop("config", None)
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec

"""The Pareto chart: how often a policy livelocks against what it costs, the front drawn in."""

from typing import Any

import altair as alt

from fastalloc.report.board import Row, pareto_front
from fastalloc.report.charts import COLOURS, plain


def pareto_charts(found: list[Row]) -> list[tuple[str, dict[str, Any]]]:
    """Title and specification of the chart against memory and of that against throughput."""
    memory = [(row.means["max_slab_pages"], row) for row in found]
    cost = [(100 * (1 - row.throughput), row) for row in found if row.throughput is not None]
    charts = [
        ("Against memory", "most slab pages, mean of lanes", memory),
        ("Against throughput", "swap-out lost against the baseline, %", cost),
    ]
    return [(title, _chart(axis, points)) for title, axis, points in charts if points]


def _labels(places: list[tuple[float, float]], names: list[str]) -> dict[int, str]:
    """A label for the first of the points that lie within a fifth of the width and a twentieth of the height."""
    left, right = min(x for x, _ in places), max(x for x, _ in places)
    cells: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(places):
        cells.setdefault((int(5 * (x - left) / (right - left or 1)), int(20 * y)), []).append(i)
    return {
        near[0]: names[near[0]] if len(near) == 1 else f"{names[near[0]]} and {len(near) - 1} more"
        for near in cells.values()
    }


def _chart(axis: str, points: list[tuple[float, Row]]) -> dict[str, Any]:
    places = [(x, row.livelocked / row.lanes) for x, row in points]
    front = set(pareto_front(places))
    label = _labels(places, [row.policy for _, row in points])
    data = [
        {"x": x, "y": y, "policy": row.policy, "label": label.get(i, ""), "front": i in front}
        for i, ((x, y), (_, row)) in enumerate(zip(places, points, strict=True))
    ]
    across = alt.X("x:Q", title=axis, scale=alt.Scale(zero=False, nice=True, padding=60))
    up = alt.Y("y:Q", title="lanes that livelocked", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1.05]))
    base = alt.Chart(alt.Data(values=data)).encode(x=across, y=up)
    line = base.transform_filter("datum.front").mark_line(color=COLOURS["calm"], strokeDash=[4, 3]).encode(order="x:Q")
    colour = alt.condition("datum.front", alt.value(COLOURS["calm"]), alt.value(COLOURS["alarm"]))
    dots = base.mark_point(filled=True, size=60, opacity=0.9).encode(color=colour, tooltip=["policy:N", "x:Q", "y:Q"])
    texts = base.mark_text(dy=-11, fontSize=10).encode(text="label:N", color=colour)
    return plain(alt.layer(line, dots, texts).properties(width="container", height=300))

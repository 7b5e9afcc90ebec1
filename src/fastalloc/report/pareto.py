"""The Pareto chart: what each policy costs in memory and in swap-out, the front drawn in."""

from typing import Any, NamedTuple

import altair as alt

from fastalloc.report.board import Row, no_front, pareto_front
from fastalloc.report.charts import COLOURS, plain

# A chart as it is laid out, in pixels; wider or narrower the labels keep their places in proportion.
WIDTH, HEIGHT = 500, 300
SPAN = 0.1  # of the most memory, which the scale shows at the least: what differs by a per cent looks it
TOP = 1.15  # of the scale upwards, times the highest point
STILL = 0.1  # of the baseline's swap-out: less is a machine that stands still
LETTER, LINE = 5.6, 13  # of a label
NEAR = 5  # points closer than this share a label
ROWS = 12  # that a label may stand above its point


class Label(NamedTuple):
    """A name, where it stands and the point it belongs to; pixels from the lower left."""

    text: str
    x: float
    y: float
    point: tuple[float, float]

    def overlaps(self, other: "Label") -> bool:
        """Whether the two are written into one another."""
        return abs(self.y - other.y) < LINE and abs(self.x - other.x) < LETTER * (len(self.text) + len(other.text)) / 2

    def covers(self, point: tuple[float, float]) -> bool:
        """Whether a point lies under the name."""
        return abs(self.y - point[1]) < LINE / 2 + 3 and abs(self.x - point[0]) < LETTER * len(self.text) / 2 + 4

    def fits(self) -> bool:
        """Whether it lies within the chart."""
        half = LETTER * len(self.text) / 2
        return half + 2 <= self.x <= WIDTH - half + 20 and self.y < HEIGHT


def pareto_charts(found: list[Row]) -> list[tuple[str, dict[str, Any], str]]:
    """Title and specification of the chart of costs, swap-out against slab memory; why it has no front, if so.

    The front is drawn through policies under which no machine stood still: one that does needs no memory.
    """
    points = [
        (row.means["slab_peak_pages"] * row.page_kb / 1024, row.throughput, row)
        for row in found
        if row.throughput is not None
    ]
    return [("What each policy costs", *_chart(points, found[0].policy))] if points else []


def labels(places: list[tuple[float, float]], names: list[str], first: set[int]) -> list[Label]:
    """Names that overlap neither each other nor a point, above their points; those of ``first`` have first choice.

    Points that lie together share a label; a point that no label fits is named by the tooltip alone.
    """
    together: dict[int, list[int]] = {}
    for i in sorted(range(len(places)), key=lambda i: (i not in first, -places[i][1], places[i][0])):
        near = (j for j in together if max(abs(places[i][k] - places[j][k]) for k in (0, 1)) < NEAR)
        together.setdefault(next(near, i), []).append(i)
    placed: list[Label] = []
    for i, members in together.items():
        text = names[i] if len(members) == 1 else f"{names[i]} and {len(members) - 1} more"
        (x, y), aside = places[i], LETTER * len(text) / 2 + 8
        tries = [Label(text, x, y + LINE, (x, y)), Label(text, x + aside, y, (x, y)), Label(text, x - aside, y, (x, y))]
        for row in range(2, ROWS):
            tries += [Label(text, x + shift, y + LINE * row, (x, y)) for shift in (0, aside / 2, -aside / 2)]
        for label in tries:
            free = not any(label.overlaps(other) for other in placed) and not any(map(label.covers, places))
            if free and label.fits():
                placed.append(label)
                break
    return placed


def stands_still(row: Row) -> bool:
    """Whether a machine stood still under the policy: one livelocked, or hardly a page was swapped out."""
    return row.livelocked > 0 or row.throughput is None or row.throughput < STILL


def _chart(points: list[tuple[float, float, Row]], baseline: str) -> tuple[dict[str, Any], str]:
    """Memory to the right, swap-out upwards: the better a policy the further up and left it is; why it has no front."""
    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    margin = max(0.08 * (max(xs) - min(xs)), (SPAN * max(xs) - max(xs) + min(xs)) / 2) or 1.0
    left, right = min(xs) - margin, max(xs) + margin
    top = TOP * max(*ys, 1.0)
    moving = [i for i, (_, _, row) in enumerate(points) if not stands_still(row)]
    ranked = [(xs[i], -ys[i]) for i in moving]
    unranked = no_front(ranked, min(row.lanes for _, _, row in points))
    front = set() if unranked else {moving[i] for i in pareto_front(ranked)}
    pixels = [((x - left) / (right - left) * WIDTH, y / top * HEIGHT) for x, y in zip(xs, ys, strict=True)]
    data = [
        {
            "x": x, "y": y, "policy": row.policy, "front": i in front, "kind": "alarm" if row.livelocked else "calm",
            "share": row.livelocked / row.lanes,
        }
        for i, (x, y, row) in enumerate(points)
    ]  # fmt: skip
    named = []
    for label in labels(pixels, [row.policy for _, _, row in points], front):
        across, up = (lambda px: left + px / WIDTH * (right - left)), (lambda px: px / HEIGHT * top)
        named.append(
            {"x": across(label.x), "y": up(label.y), "x2": across(label.point[0]), "y2": up(label.point[1])}
            | {"label": label.text, "far": abs(label.y - label.point[1]) > LINE}
        )
    axis, swapped = "slab peak a lane, MB", f"pages swapped out, times {baseline}"
    x = alt.X("x:Q", title=axis, scale=alt.Scale(domain=[left, right], nice=False))
    y = alt.Y("y:Q", title=swapped, scale=alt.Scale(domain=[0, top], nice=False))
    dots = alt.Chart(alt.Data(values=data)).encode(x=x, y=y)
    scale = alt.Scale(domain=["calm", "alarm"], range=[COLOURS["calm"], COLOURS["alarm"]])
    colour = alt.Color("kind:N", legend=None, scale=scale)
    line = (
        dots.transform_filter("datum.front").mark_line(color=COLOURS["free_dma"], strokeDash=[4, 3]).encode(order="x:Q")
    )
    tip = [
        alt.Tooltip("policy:N"),
        alt.Tooltip("x:Q", title=axis, format=".1f"),
        alt.Tooltip("y:Q", title=swapped, format=".2f"),
        alt.Tooltip("share:Q", title="lanes that livelocked", format=".0%"),
    ]
    size = alt.condition("datum.front", alt.value(90), alt.value(45))
    shape = alt.Shape("kind:N", legend=None, scale=alt.Scale(domain=["calm", "alarm"], range=["circle", "cross"]))
    marks = dots.mark_point(filled=True, opacity=0.9).encode(color=colour, size=size, shape=shape, tooltip=tip)
    texts = alt.Chart(alt.Data(values=named)).encode(x=x, y=y)
    leaders = (
        texts.transform_filter("datum.far")
        .mark_rule(color=COLOURS["free_dma"], strokeWidth=0.6, opacity=0.6)
        .encode(x2="x2:Q", y2="y2:Q")
    )
    words = texts.mark_text(fontSize=10, color=COLOURS["free_dma"]).encode(text="label:N")
    return plain(alt.layer(leaders, line, marks, words).properties(width="container", height=HEIGHT)), unranked

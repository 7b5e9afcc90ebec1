"""The response of a sweep: the livelock probability smoothed over one axis or two, beside the shares behind it."""

from collections.abc import Sequence
from math import log
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from fastalloc.report.charts import plain
from fastalloc.report.statistics import told_share

WIDTHS = np.geomspace(0.02, 0.5, 14)  # of the kernel, in shares of an axis
CELLS = (48, 30)  # of a drawn surface
STEPS = 120  # of a drawn curve
MOST_POINTS = 1500  # to smooth from; more are put together in cells
LEAST_VALUES = 4  # of an axis that is smoothed over
LOG_FROM = 8  # the last value this many times the first: drawn on a logarithmic scale
BANDS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
COLOURS = ("#f7f4e9", "#fdeebc", "#fddc8c", "#fdbf5f", "#fd9d43", "#fb7536", "#ee4a2b", "#d0202a", "#900026")


def smoothed(places: np.ndarray, hits: np.ndarray, trials: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The share of hits near each place, weighted by a Gaussian of the width that foretells left-out points best.

    Args:
        places: float64[points, axes] in [0, 1].
        hits: float64[points].
        trials: float64[points].
        at: float64[n, axes], where to tell it.
    """
    apart = _distances(places, places)

    def fault(width: float) -> float:
        """Deviance of each point by the others."""
        weights = np.exp(-apart / (2 * width * width))
        np.fill_diagonal(weights, 0)
        share = (weights @ hits + 0.5) / (weights @ trials + 1)
        return -float((hits * np.log(share) + (trials - hits) * np.log1p(-share)).sum())

    width = min(WIDTHS, key=fault)
    apart = _distances(at, places)
    weights = np.exp(-(apart - apart.min(axis=1, keepdims=True)) / (2 * width * width))
    share: np.ndarray = (weights @ hits) / (weights @ trials)
    return share


def smooth_axes(points: pl.DataFrame, axes: Sequence[str]) -> list[str]:
    """Of the axes, those that can be smoothed over: numbers, and enough of them."""
    return [axis for axis in axes if points[axis].dtype.is_numeric() and points[axis].n_unique() >= LEAST_VALUES]


def surface(points: pl.DataFrame, axes: Sequence[str]) -> dict[str, Any]:
    """The surface over two axes as a Vega-Lite specification; points that differ in other axes count together.

    Args:
        points: of one variant, as of ``point_table``.
    """
    at, scales = _together(points, axes), [_Scale(points[axis]) for axis in axes]
    steps = [np.linspace(0, 1, n + 1) for n in CELLS]
    middle = [(step[1:] + step[:-1]) / 2 for step in steps]
    where = np.stack(np.meshgrid(*middle, indexing="ij"), axis=-1).reshape(-1, 2)
    share = _smooth(at, axes, scales, where)
    edges = [scale.value(step).tolist() for scale, step in zip(scales, steps, strict=True)]
    cells = []
    for number, value in enumerate(share.tolist()):
        i, j = divmod(number, CELLS[1])
        cell = {"x": edges[0][i], "x2": edges[0][i + 1], "y": edges[1][j], "y2": edges[1][j + 1]}
        cells.append({name: float(f"{part:.5g}") for name, part in (cell | {"share": value}).items()})
    x = alt.X("x:Q", title=axes[0], axis=scales[0].axis, scale=scales[0].drawn)
    y = alt.Y("y:Q", title=axes[1], axis=scales[1].axis, scale=scales[1].drawn)
    bands = alt.Scale(type="threshold", domain=list(BANDS), range=list(COLOURS))
    legend = alt.Legend(title=None, orient="top", format="~%", gradientLength=300, gradientThickness=10)
    told = alt.Tooltip("share:Q", title="smoothed", format=".3f")
    ground = alt.Chart(alt.NamedData("cells")).mark_rect().encode(
        x=x, x2="x2:Q", y=y, y2="y2:Q", color=alt.Color("share:Q", scale=bands, legend=legend), tooltip=[told]
    )  # fmt: skip
    dots = alt.Chart(alt.NamedData("dots")).encode(x=x, y=y, tooltip=_tooltip(axes))
    dots = dots.mark_point(filled=True, stroke="#333", strokeWidth=0.8, opacity=1, size=34)
    chart = alt.layer(ground, dots.encode(color=alt.Color("share:Q", scale=bands, legend=None)))
    spec = plain(chart.properties(width="container", height=300))
    return spec | {"datasets": {"cells": cells, "dots": _dots(at, axes)}}


def curves(points: pl.DataFrame, axis: str) -> dict[str, Any]:
    """The curves of all variants over one axis, with the share and the 95 % Wilson interval of each point."""
    scale = _Scale(points[axis])
    steps = np.linspace(0, 1, STEPS)
    names = points["variant"].unique(maintain_order=True).to_list()
    lines, dots = [], []
    for name in names:
        at = _together(points.filter(variant=name), [axis])
        share = _smooth(at, [axis], [scale], steps[:, None])
        lines += [
            {"x": x, "share": y, "variant": name}
            for x, y in zip(scale.value(steps).tolist(), share.tolist(), strict=True)
        ]
        dots += [row | {"variant": name} for row in _dots(at, [axis])]
    x = alt.X("x:Q", title=axis, axis=scale.axis, scale=scale.drawn)
    y = alt.Y("share:Q", title="livelocked", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    legend = alt.Legend(title=None, orient="top")
    colour = alt.Color("variant:N", scale=alt.Scale(domain=names, scheme="tableau10"), legend=legend)
    line = alt.Chart(alt.NamedData("lines")).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    base = alt.Chart(alt.NamedData("dots")).encode(x=x, color=colour, tooltip=["variant:N", *_tooltip([axis])])
    bars = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q")
    marks = base.mark_point(filled=True, size=40, opacity=1).encode(y="share:Q")
    spec = plain(alt.layer(bars, line, marks).properties(width="container", height=260))
    return spec | {"datasets": {"lines": lines, "dots": dots}}


class _Scale:
    """An axis between its least and greatest value, as [0, 1]."""

    def __init__(self, values: pl.Series) -> None:
        low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
        self.log = low > 0 and high / low >= LOG_FROM
        self._low, self._high = (log(low), log(high)) if self.log else (low, high)
        self.axis = alt.Axis(tickMinStep=1) if values.dtype.is_integer() else alt.Axis()
        self.drawn = alt.Scale(type="log" if self.log else "linear", domain=[low, high], nice=False)

    def unit(self, values: np.ndarray) -> np.ndarray:
        values = np.log(values) if self.log else values
        found: np.ndarray = (values - self._low) / (self._high - self._low)
        return found

    def value(self, unit: np.ndarray) -> np.ndarray:
        values = self._low + unit * (self._high - self._low)
        found: np.ndarray = np.exp(values) if self.log else values
        return found


def _together(points: pl.DataFrame, axes: Sequence[str]) -> pl.DataFrame:
    """Points of equal values of the axes as one."""
    return points.group_by(*axes, maintain_order=True).agg(pl.sum("lanes", "livelocks"))


def _smooth(at: pl.DataFrame, axes: Sequence[str], scales: Sequence[_Scale], where: np.ndarray) -> np.ndarray:
    unit = [scale.unit(at[axis].to_numpy().astype(float)) for axis, scale in zip(axes, scales, strict=True)]
    places = np.column_stack(unit)
    hits, lanes = at["livelocks"].to_numpy().astype(float), at["lanes"].to_numpy().astype(float)
    if len(at) > MOST_POINTS:
        side = int(MOST_POINTS ** (1 / len(axes)))
        cell = np.minimum((places * side).astype(int), side - 1)
        _, number = np.unique(cell, axis=0, return_inverse=True)
        count = np.bincount(number)
        places = np.column_stack([np.bincount(number, part) / count for part in places.T])
        hits, lanes = np.bincount(number, hits), np.bincount(number, lanes)
    return smoothed(places, hits, lanes, where)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared, float64[len(first), len(second)]."""
    found: np.ndarray = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=-1)
    return found


def _dots(at: pl.DataFrame, axes: Sequence[str]) -> list[dict[str, Any]]:
    """The points themselves, where they are not too many to be seen."""
    rows: list[dict[str, Any]] = []
    if len(at) > MOST_POINTS:
        return rows
    for *values, lanes, hits in at.select(*axes, "lanes", "livelocks").iter_rows():
        low, high = told_share(hits, lanes) or (None, None)
        row = dict(zip(("x", "y"), values, strict=False))
        rows.append(row | {"share": hits / lanes, "low": low, "high": high, "lanes": lanes, "livelocks": hits})
    return rows


def _tooltip(axes: Sequence[str]) -> list[Any]:
    return [
        *(alt.Tooltip(f"{name}:Q", title=axis) for name, axis in zip(("x", "y"), axes, strict=False)),
        alt.Tooltip("livelocks:Q", format=",d"),
        alt.Tooltip("lanes:Q", format=",d"),
        alt.Tooltip("low:Q", title="95 % from", format=".4f"),
        alt.Tooltip("high:Q", title="to", format=".4f"),
    ]

"""Which parameter matters most: variance-based sensitivity indices of a figure over the points of a sweep.

The first-order index of a parameter is the share of the variance between points that its value alone explains, the
total index that share along with all its interactions. Both by SALib, but for full grids, where they are sums.
"""

from collections.abc import Sequence
from math import isfinite
from types import ModuleType
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from fastalloc.errors import InputError
from fastalloc.report.charts import COLOURS, plain
from fastalloc.report.statistics import Z_95

SAME = "the same at every point"
RESAMPLES = 200
SEED = 1
LEAST_POINTS = 64  # for RBD-FAST, which sums 10 harmonics


class Influence(NamedTuple):
    """The indices of one parameter, each with the half width of its 95 % interval; totals where the design has them."""

    parameter: str
    first: float
    first_half: float | None
    total: float | None = None
    total_half: float | None = None


class Sensitivity(NamedTuple):
    """What the variance of a figure between the points of one variant comes from."""

    title: str  # variant, and what is fixed besides
    of: str
    method: str  # "Sobol (Saltelli)", "full grid", "RBD-FAST" or ``SAME``
    points: int
    chance: float | None  # share of the variance that is the chance of the lanes; None where they are too few to tell
    influences: list[Influence]  # the greatest first; none where there is no variance


def saltelli_influences(names: Sequence[str], outcome: np.ndarray) -> list[Influence]:
    """Sobol indices of a Saltelli design [Saltelli et al. 2010].

    Args:
        names: of the D parameters.
        outcome: float64[N (D + 2)], in the order A, A with each column of B in turn, B.
    """
    found = _salib("sobol").analyze(
        _problem(names), outcome, calc_second_order=False, num_resamples=RESAMPLES, seed=SEED
    )
    rows = zip(names, *(map(float, found[key]) for key in ("S1", "S1_conf", "ST", "ST_conf")), strict=True)
    return [_finite(Influence(*row)) for row in rows]


def sampled_influences(names: Sequence[str], points: np.ndarray, outcome: np.ndarray) -> list[Influence]:
    """First-order indices from any independent sample, by RBD-FAST [Tarantola et al. 2006, Plischke 2010].

    Args:
        names: of the D parameters.
        points: float64[N, D], their values; N at least ``LEAST_POINTS``.
        outcome: float64[N].
    """
    # points of equal value of a parameter must stand in no order
    order = np.random.default_rng(SEED).permutation(len(outcome))
    found = _salib("rbd_fast").analyze(
        _problem(names), points[order], outcome[order], num_resamples=RESAMPLES, seed=SEED
    )
    rows = zip(names, *(map(float, found[key]) for key in ("S1", "S1_conf")), strict=True)
    return [_finite(Influence(*row)) for row in rows]


def _finite(found: Influence) -> Influence:
    """An interval that the resamples cannot tell is none."""
    halves: dict[str, Any] = {
        name: None for name in ("first_half", "total_half") if not isfinite(getattr(found, name) or 0.0)
    }
    return found._replace(**halves)


def grid_influences(names: Sequence[str], outcome: np.ndarray, again: np.ndarray | None) -> list[Influence]:
    """Indices of a full grid, on which they are sums; the intervals are those of the chance of the lanes.

    Args:
        names: of the D parameters.
        outcome: float64, an axis a parameter.
        again: float64[resamples, ...], the same from lanes drawn anew; None where there are none.
    """
    found = _grid_indices(outcome)
    if again is None:
        return [Influence(name, first, None, total, None) for name, (first, total) in zip(names, found, strict=True)]
    halves = Z_95 * np.std([np.array(_grid_indices(part)) for part in again], axis=0, ddof=1)
    return [
        Influence(name, first, float(halves[i, 0]), total, float(halves[i, 1]))
        for i, (name, (first, total)) in enumerate(zip(names, found, strict=True))
    ]


def _grid_indices(outcome: np.ndarray) -> list[tuple[float, float]]:
    """(first, total) of each axis; zeros where there is nothing to explain."""
    variance = outcome.var()
    if variance == 0:
        return [(0.0, 0.0)] * outcome.ndim
    found = []
    for axis in range(outcome.ndim):
        others = tuple(other for other in range(outcome.ndim) if other != axis)
        found.append(
            (float(outcome.mean(axis=others).var() / variance), float(outcome.var(axis=axis).mean() / variance))
        )
    return found


def influence_chart(found: Sensitivity) -> dict[str, Any]:
    """Bars as a Vega-Lite specification: the first-order index, and behind it the total; rules are 95 % intervals."""
    bars, rules = [], []
    for row in found.influences:
        for kind, value, half in (("total", row.total, row.total_half), ("alone", row.first, row.first_half)):
            if value is not None:
                bars.append({"parameter": row.parameter, "kind": kind, "value": max(0.0, value)})
                if half is not None:
                    ends = {"low": max(0.0, value - half), "high": value + half}
                    rules.append({"parameter": row.parameter, "kind": kind} | ends)
    names = [row.parameter for row in found.influences]
    axis = alt.Axis(minExtent=0, maxExtent=400, labelLimit=240)
    y = alt.Y("parameter:N", sort=names, title=None, axis=axis, scale=alt.Scale(padding=0.3))
    top = max(1.0, *(rule["high"] for rule in rules)) if rules else 1.0
    x = alt.X("value:Q", title="share of the variance", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, top]))
    base = alt.Chart(alt.Data(values=bars)).encode(y=y, x=x, tooltip=["parameter:N", "kind:N", "value:Q"])
    blue = COLOURS["commands"]
    total = base.transform_filter("datum.kind == 'total'").mark_bar(color=blue, opacity=0.3)
    alone = base.transform_filter("datum.kind == 'alone'").mark_bar(color=blue, height={"band": 0.5})
    lines = (
        alt.Chart(alt.Data(values=rules)).mark_rule(strokeWidth=1.5, opacity=0.8).encode(y=y, x="low:Q", x2="high:Q")
    )
    layers = [total, alone, *([lines] if rules else [])]
    return plain(alt.layer(*layers).properties(width="container", height=max(50, 36 * len(names))))


def _problem(names: Sequence[str]) -> dict[str, object]:
    return {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}


def _salib(method: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(f"SALib.analyze.{method}")
    except ImportError:
        raise InputError("sensitivity", "", "needs the extra: pip install '.[sensitivity]'") from None

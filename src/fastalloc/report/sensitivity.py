"""Which parameter matters most: variance-based sensitivity indices of a figure over the points of a sweep.

The first-order index of a parameter is the share of the variance between points that its value alone explains, the
total index that share along with all its interactions. Both by SALib, but for full grids, where they are sums.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

from fastalloc.errors import InputError
from fastalloc.report.statistics import Z_95

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
    return [Influence(*row) for row in rows]


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
    return [Influence(*row) for row in rows]


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
    """(first, total) of each axis."""
    variance = outcome.var()
    found = []
    for axis in range(outcome.ndim):
        others = tuple(other for other in range(outcome.ndim) if other != axis)
        found.append(
            (float(outcome.mean(axis=others).var() / variance), float(outcome.var(axis=axis).mean() / variance))
        )
    return found


def _problem(names: Sequence[str]) -> dict[str, object]:
    return {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}


def _salib(method: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(f"SALib.analyze.{method}")
    except ImportError:
        raise InputError("sensitivity", "", "needs the extra: pip install 'fastalloc[sensitivity]'") from None

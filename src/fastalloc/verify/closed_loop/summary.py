"""What predictions come to, over all runs of a view: quantiles of predicted / real, lanes that locked up.

A run is one draw. Even where a model is exact, the median of its lanes is not what the run gave. How far off it may be
by chance shows where one lane of each run is taken for the run and its other lanes predict it.
"""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from fastalloc.verify.closed_loop.predict import FigureResult, RunResult


class Spread(NamedTuple):
    """Predicted / real of a figure over the runs whose real value is above 0."""

    figure: str
    runs: int
    q10: float
    median: float
    q90: float
    within: int  # runs, of those that are judged
    judged: int
    # least and most of the three quantiles where lane 0, then lane 1, ... of each run is taken for the run
    chance_q10: tuple[float, float]
    chance_median: tuple[float, float]
    chance_q90: tuple[float, float]


class Summary(NamedTuple):
    """All runs of a view."""

    view: str
    runs: int
    lanes: int
    livelocked: int  # lanes where the kernel ran through
    lanes_without: int  # lanes of runs where the kernel ran through
    kernel_livelocked: int  # runs in which the kernel itself locked up
    never_swapped: int
    out_of_memory: int  # lanes where the kernel had memory
    spreads: list[Spread]


def quantiles(ratios: Iterable[float]) -> tuple[float, float, float]:
    """The 10 %, 50 % and 90 % quantiles of those that are numbers; NaN where none is."""
    finite = [ratio for ratio in ratios if np.isfinite(ratio)]
    low, middle, high = np.quantile(finite, (0.1, 0.5, 0.9)).tolist() if finite else (float("nan"),) * 3
    return low, middle, high


def ratio(predicted: float, real: float) -> float:
    """NaN where the real one is 0."""
    return predicted / real if real else float("nan")


def by_chance(figures: Sequence[FigureResult]) -> list[tuple[float, float]]:
    """Least and most of the three quantiles of one figure over runs, where a lane of each stands for the run.

    The same lane in all of them: runs that begin alike have lanes that begin alike. NaN where a run has one lane.
    """
    lanes = min(len(figure.lanes) for figure in figures)
    if lanes < 2:
        return [(float("nan"), float("nan"))] * 3
    found = [
        quantiles(ratio(median(f.lanes[:lane] + f.lanes[lane + 1 :]), f.lanes[lane]) for f in figures)
        for lane in range(lanes)
    ]
    return [(min(each), max(each)) for each in zip(*found, strict=True)]


def spreads(results: Iterable[RunResult]) -> list[Spread]:
    """A spread a figure, in the order of the first result."""
    by_name: dict[str, list[FigureResult]] = {}
    for result in results:
        for figure in result.figures:
            by_name.setdefault(figure.name, []).append(figure)
    found = []
    for name, figures in by_name.items():
        ratios = [ratio(figure.median, figure.real) for figure in figures]
        judged = [figure.within for figure in figures if figure.within is not None]
        runs = sum(bool(np.isfinite(each)) for each in ratios)
        found.append(Spread(name, runs, *quantiles(ratios), sum(judged), len(judged), *by_chance(figures)))
    return found


def summarise(results: Iterable[RunResult]) -> list[Summary]:
    """A summary a view, in the order in which views come."""
    by_view: dict[str, list[RunResult]] = {}
    for result in results:
        by_view.setdefault(result.view, []).append(result)
    summaries = []
    for view, of_view in by_view.items():
        ran_through = [result for result in of_view if not result.real_livelock]
        summaries.append(
            Summary(
                view,
                len(of_view),
                sum(result.lanes for result in of_view),
                sum(result.livelocked for result in ran_through),
                sum(result.lanes for result in ran_through),
                len(of_view) - len(ran_through),
                sum(result.never_swapped for result in of_view),
                sum(result.out_of_memory for result in of_view if not result.real_out_of_memory),
                spreads(of_view),
            )
        )
    return summaries

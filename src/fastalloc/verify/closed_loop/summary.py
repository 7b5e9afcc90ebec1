"""What predictions come to, over all runs of a view: quantiles of predicted / real, lanes that locked up."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fastalloc.verify.closed_loop.predict import RunResult


class Spread(NamedTuple):
    """Predicted / real of a figure over the runs whose real value is above 0."""

    figure: str
    runs: int
    q10: float
    median: float
    q90: float
    within: int  # runs, of those that are judged
    judged: int


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


def spreads(results: Iterable[RunResult]) -> list[Spread]:
    """A spread a figure, in the order of the first result."""
    by_name: dict[str, list[tuple[float, bool | None]]] = {}
    for result in results:
        for figure in result.figures:
            ratio = figure.median / figure.real if figure.real else float("nan")
            by_name.setdefault(figure.name, []).append((ratio, figure.within))
    found = []
    for name, values in by_name.items():
        ratios = [ratio for ratio, _ in values if np.isfinite(ratio)]
        low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9)).tolist() if ratios else (float("nan"),) * 3
        judged = [within for _, within in values if within is not None]
        found.append(Spread(name, len(ratios), low, middle, high, sum(judged), len(judged)))
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

"""Rates of events and their exact intervals.

Time after a lane's first event is no exposure, so events are those of a Poisson process seen for a fixed time, or
until a fixed number of them. Garwood's interval (Biometrika 28, 1936) holds its level for both ways of stopping: for
the first it is exact, for the second its upper end is the wider one.
"""

from functools import cache
from typing import NamedTuple

from scipy.special import gammainccinv, gammaincinv


class Rate(NamedTuple):
    """Events in an exposure."""

    events: int
    exposure: float  # in the unit that the rate is wanted per
    rate: float
    low: float  # 95 %; 0 where nothing was seen
    high: float


def poisson_rate(events: int, exposure: float, level: float = 0.95) -> Rate:
    """The rate of ``events`` in ``exposure`` with Garwood's interval.

    With none seen the low end is 0 and the high end the one-sided bound at ``level``: 3.0 events at 95 %.

    Raises:
        ValueError: ``exposure`` is not above 0.
    """
    if not exposure > 0:
        raise ValueError("a rate needs time in which it was looked for")
    tail = (1 - level) / 2
    if events == 0:
        return Rate(0, exposure, 0.0, 0.0, float(gammainccinv(1, 1 - level)) / exposure)
    low = float(gammaincinv(events, tail))
    high = float(gammainccinv(events + 1, tail))
    return Rate(events, exposure, events / exposure, low / exposure, high / exposure)


@cache
def events_for_width(width: float) -> int:
    """The fewest events whose 95 % interval has an upper end of at most ``width`` times its lower one: the width of an
    interval depends on nothing else.

    Raises:
        ValueError: ``width`` is not above 1.
    """
    if not width > 1:
        raise ValueError("an interval has a width above 1")
    few, many = 0, 1
    while poisson_rate(many, 1.0).high > width * poisson_rate(many, 1.0).low:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        wide = poisson_rate(middle, 1.0)
        few, many = (middle, many) if wide.high > width * wide.low else (few, middle)
    return many


def differ(events: int, exposure: float, others: int, other_exposure: float) -> float:
    """p of two Poisson rates being one: the exact test of how the events divide, given their sum [Przyborowski and
    Wilenski, Biometrika 31, 1940]. 1 where there is nothing to tell by."""
    total = events + others
    if total == 0 or exposure <= 0 or other_exposure <= 0:
        return 1.0
    from scipy.stats import binomtest  # half a second, and seldom needed

    return float(binomtest(events, total, exposure / (exposure + other_exposure)).pvalue)

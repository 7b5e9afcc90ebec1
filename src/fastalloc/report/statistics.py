"""Statistics of proportions."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

Z_95 = 1.959963984540054
LEAST = 2  # lanes, or pairs of lanes, from which on an interval is told
TOO_FEW = "one lane tells nothing of others, so there is no interval"


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (95 % by default); ``(0.0, 1.0)`` when nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    centre = p + z * z / (2 * trials)
    spread = z * sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # at the ends the interval touches 0 and 1; rounding would leave it a little off
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def paired_interval(only_first: int, only_second: int, pairs: int, z: float = Z_95) -> tuple[float, float]:
    """The interval (95 % by default) of the difference of two proportions that were measured on the same lanes.

    Bonett and Price's adjusted Wald interval (Biometrical Journal 54, 2012); it holds its level with few pairs and
    where no pair differs. ``(-1.0, 1.0)`` when there is no pair.

    Args:
        only_first: pairs in which only the first was a hit.
        only_second: pairs in which only the second was.
        pairs: all of them.
    """
    if pairs == 0:
        return -1.0, 1.0
    first, second = (only_first + 1) / (pairs + 2), (only_second + 1) / (pairs + 2)
    spread = z * sqrt((first + second - (first - second) ** 2) / (pairs + 2))
    return max(-1.0, first - second - spread), min(1.0, first - second + spread)


def told_share(successes: int, trials: int) -> tuple[float, float] | None:
    """:func:`wilson_interval` of at least LEAST trials; fewer have none."""
    return wilson_interval(successes, trials) if trials >= LEAST else None


def told_difference(only_first: int, only_second: int, pairs: int) -> tuple[float, float] | None:
    """:func:`paired_interval` of at least LEAST pairs; fewer have none."""
    return paired_interval(only_first, only_second, pairs) if pairs >= LEAST else None


def with_reason(row: Mapping[str, Any], trials: int) -> dict[str, Any]:
    """A row for JSON; where its intervals are null, ``no_interval`` says why."""
    return dict(row) | ({"no_interval": TOO_FEW} if trials < LEAST else {})

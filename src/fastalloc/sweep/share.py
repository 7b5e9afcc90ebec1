"""The share of requests refused on lanes, with its interval: refusals come in bursts, and in some lanes more than in
others."""

from collections.abc import Sequence
from math import ceil, exp, inf, log, log1p, sqrt

import numpy as np
from scipy.special import stdtrit

from fastalloc.report.proportion import exact_bounds

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
DRAWS = 20_000
AT_ONCE = 400  # of them, so that thousands of lanes fit into memory


def interval(
    refused: Sequence[int], requests: Sequence[int], groups: Sequence[tuple[int, int]] | None
) -> tuple[float, float]:
    """A 95 % interval of a share whose refusals come in clusters.

    Lanes are independent, few, and of a skewed distribution: most lose little and some a lot. No one method of so few
    holds on all machines that were tried (results/reserve/coverage.py), so the ends are the outermost of three:

    - that of Clopper and Pearson for as many bursts as lanes with this variance are worth [Korn and Graubard, Survey
      Methodology 24, 1998], and never for more than there were. It holds where no lane or one was refused anything;
    - Student's t on the scale of logarithms, of the ratio of means;
    - the mean transformed to be free of skewness [Hall, J. R. Statist. Soc. B 54, 1992], with Student's t.

    They take the lanes for ones of their kind: a kind of which none is among them they cannot tell
    (:func:`unseen`); the ends of :func:`share_of_any_lanes` do.

    Args:
        refused, requests: of each lane.
        groups: (groups with a refusal, groups) of each lane; requests of a group are refused together. None where a
            reserve stays empty once it is: most refusals are then in few lanes, and those seen may all be of one kind.
            A lane is what counts, however long it is, and the ends are those that hold whatever the distribution of
            lanes (:func:`share_of_any_lanes`).
    """
    asked = sum(requests)
    if asked == 0:
        return 0.0, 1.0
    if groups is None:
        return share_of_any_lanes(refused, requests)
    bursts = sum(pair[1] for pair in groups)
    lanes, share = len(refused), sum(refused) / asked
    if lanes < 2:
        return 0.0, 1.0
    rest = (np.asarray(refused) - share * np.asarray(requests)) * (lanes / asked)
    error = float(np.sqrt(rest @ rest / (lanes - 1) / lanes))  # of the share
    ends = [_effective(share, error, lanes, bursts)]
    if 0 < share < 1 and error > 0:
        ends += [_logarithmic(share, error, lanes), _transformed(share, error, rest)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _effective(share: float, error: float, lanes: int, bursts: int) -> tuple[float, float]:
    """Korn and Graubard: the exact interval of an effective number of trials, less what few lanes do not tell."""
    trials = share * (1 - share) / error**2 if error > 0 else inf
    few = (_quantile(max(1, bursts - 1)) / _quantile(lanes - 1)) ** 2
    trials = min(trials * few, bursts)
    return exact_bounds(share * trials, trials, ALPHA)


def _logarithmic(share: float, error: float, lanes: int) -> tuple[float, float]:
    width = _quantile(lanes - 1) * error / share
    return share * exp(-width), min(1.0, share * exp(min(width, 700.0)))


def _transformed(share: float, error: float, rest: np.ndarray) -> tuple[float, float]:
    """Hall's interval; the skewness is the one adjusted for few lanes, with fewer than three that of three."""
    from scipy.stats import skew  # half a second, for which not every search waits

    lanes = len(rest)
    third = float(skew(rest, bias=lanes < 3))
    spread = error * sqrt(lanes)

    def back(at: float) -> float:
        if abs(third) < 1e-6:
            return at
        return 3 / third * (float(np.cbrt(1 + third * (at - third / (6 * lanes)))) - 1)

    at = _quantile(lanes - 1) / sqrt(lanes)
    return max(0.0, share - spread * back(at)), min(1.0, share - spread * back(-at))


def _quantile(freedom: int) -> float:
    return float(stdtrit(freedom, 1 - ALPHA / 2))


def share_of_any_lanes(refused: Sequence[int], requests: Sequence[int]) -> tuple[float, float]:
    """A 95 % interval of the share that holds whatever the distribution of lanes is [Gaffke 2005; of lanes in which all
    is refused or nothing it is that of Clopper and Pearson].

    The lanes seen and one more are given weights that are uniform over all that add up to one (DRAWS of them, always
    the same). Nothing is refused in the one more for the lower end, all for the upper; the ends are quantiles of the
    shares that come out.
    """
    asked = np.array([*requests, sum(requests) / len(requests)])
    ends = np.array([[*refused, 0.0], [*refused, asked[-1]]])
    random = np.random.default_rng(DRAWS)
    shares = []
    for _ in range(DRAWS // AT_ONCE):
        weights = random.standard_exponential((AT_ONCE, len(asked)))
        shares.append(ends @ weights.T / (weights @ asked))
    low, high = np.concatenate(shares, axis=1)
    return float(np.quantile(low, ALPHA / 2)), float(np.quantile(high, (1 + CONFIDENCE) / 2))


def lanes_without_a_refusal(limit: float) -> int:
    """Lanes with no refusal at all that it takes to show by lanes alone that a share is below ``limit``."""
    return ceil(log(ALPHA / 2) / log1p(-limit)) + 1


def unseen(lanes: int) -> float:
    """The share of lanes of a kind of which none may be among as many, at 97.5 % [Clopper and Pearson]."""
    return exact_bounds(0, lanes, ALPHA)[1]

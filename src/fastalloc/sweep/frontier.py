"""Where along a parameter the livelock probability falls below a limit: batched bisection with stated confidence."""

from collections.abc import Callable
from typing import NamedTuple

from scipy.stats import beta

from fastalloc.batch import LIVELOCK, run_lanes
from fastalloc.errors import InputError
from fastalloc.scenario import Scenario


class Tried(NamedTuple):
    """What was found at one value."""

    value: int
    lanes: int
    livelocks: int
    low: float  # simultaneous bounds of the probability
    high: float
    verdict: str  # "above", "below" or "undecided"


class Frontier(NamedTuple):
    """Between which values the probability crosses the limit.

    With the confidence stated, all verdicts hold at once; that the crossing is between the two values follows if the
    probability does not rise again beyond.
    """

    key: str
    limit: float
    confidence: float
    above: int | None  # the last value found above the limit
    below: int | None  # the first found below
    tried: list[Tried]


def frontier(
    scenario: Scenario,
    key: str,
    low: int,
    high: int,
    limit: float,
    *,
    lanes: int = 256,
    most_lanes: int = 4096,
    confidence: float = 0.95,
    threads: int = 0,
    tell: Callable[[Tried], None] | None = None,
) -> Frontier:
    """Bisects ``[low, high]`` for where the share of lanes livelocked for more than 5 s falls below ``limit``.

    At each value lanes are doubled from ``lanes`` to ``most_lanes`` until the Clopper-Pearson bounds exclude the limit.
    The error is shared out equally over every look that the search can take, so that the verdicts hold together.

    Args:
        scenario: of one variant.
        key: dotted name of an integer field.

    Raises:
        InputError: no such field, a value is refused, or the ends are in the wrong order.
    """
    if not low < high:
        raise InputError("frontier", key, f"the range {low} to {high} is empty")
    if not 0 < limit < 1:
        raise InputError("frontier", key, f"the limit {limit} is not between 0 and 1")
    looks = 1
    while lanes << looks <= most_lanes:
        looks += 1
    values = 2 + (high - low).bit_length()
    alpha = (1 - confidence) / (looks * values)
    tried: list[Tried] = []

    def probe(value: int) -> str:
        own = scenario.with_settings({key: value}, "--of")
        hits = done = 0
        verdict, bounds = "undecided", (0.0, 1.0)
        for look in range(looks):
            fresh = range(done, lanes << look)
            results = run_lanes(own, fresh, seed=scenario.run.seed, threads=threads)
            hits += sum(int(result.metrics[LIVELOCK]) for result in results)
            done = fresh.stop
            bounds = exact_bounds(hits, done, alpha)
            if bounds[0] > limit or bounds[1] < limit:
                verdict = "above" if bounds[0] > limit else "below"
                break
        tried.append(Tried(value, done, hits, *bounds, verdict))
        if tell is not None:
            tell(tried[-1])
        return verdict

    first, last = probe(low), probe(high)
    above, below = (low if first == "above" else None), (high if last == "below" else None)
    while above is not None and below is not None and below - above > 1:
        middle = (above + below) // 2
        verdict = probe(middle)
        if verdict == "undecided":
            break
        above, below = (middle, below) if verdict == "above" else (above, middle)
    return Frontier(key, limit, confidence, above, below, tried)


def exact_bounds(hits: int, trials: int, alpha: float) -> tuple[float, float]:
    """The Clopper-Pearson interval of a proportion that errs with at most ``alpha``."""
    low = 0.0 if hits == 0 else float(beta.ppf(alpha / 2, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - alpha / 2, hits + 1, trials - hits))
    return low, high

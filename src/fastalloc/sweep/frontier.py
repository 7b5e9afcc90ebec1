"""Where along a parameter the livelock probability falls below a limit: batched bisection with stated confidence."""

from collections.abc import Callable
from math import ceil, log, log1p
from typing import NamedTuple

import numpy as np
import polars as pl

from fastalloc.batch import run_lanes
from fastalloc.batch.size import refuse_too_large
from fastalloc.errors import InputError, meant
from fastalloc.fields import rows_html
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.report.hazard import MachineDays, machine_days
from fastalloc.report.proportion import exact_bounds
from fastalloc.scenario import Scenario
from fastalloc.scenario.own_parameters import parameter_of
from fastalloc.scenario.varied import dotted
from fastalloc.threads import threads_of

# What can be searched along besides fields: the field behind it, how much of the field one of it is.
QUANTITIES = {"pages_min": ("machine.min_free_kbytes", 4)}  # pages of all lowmem zones [setup_per_zone_pages_min]
_TOLD_NAMES = ("livelock_5s", "at_ms", "sim_ms")
_TOLD = [METRIC.names.index(name) for name in _TOLD_NAMES]
REACH = 12  # doublings or halvings of the scenario's own value, where no range is given


class Tried(NamedTuple):
    """What was found at one value."""

    value: int
    lanes: int
    livelocks: int
    low: float  # simultaneous bounds of the probability
    high: float
    verdict: str  # "above", "below" or "undecided"
    machine_days: MachineDays  # to a livelock


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

    def __repr__(self) -> str:
        above = "no value" if self.above is None else f"{self.above:,}"
        below = "no value" if self.below is None else f"{self.below:,}"
        told = f"a livelock is more frequent than {self.limit:g} at {above}, rarer at {below}"
        return (
            f"Frontier of {self.key}: {told} ({100 * self.confidence:g} % confidence, {len(self.tried)} values tried)"
        )

    def _repr_html_(self) -> str:
        rows = [(t.value, t.lanes, t.livelocks, f"{t.low:.3g} to {t.high:.3g}", t.verdict) for t in self.tried]
        return rows_html(repr(self), (self.key, "lanes", "livelocks", "probability", "against the limit"), rows)


def frontier(
    scenario: Scenario,
    key: str,
    low: int | None,
    high: int | None,
    limit: float,
    *,
    lanes: int = 256,
    most_lanes: int | None = None,
    confidence: float = 0.95,
    threads: int = 0,
    tell: Callable[[Tried], None] | None = None,
) -> Frontier:
    """Bisects ``[low, high]`` for where the share of lanes livelocked for more than 5 s falls below ``limit``.

    Without a range it starts from the scenario's own value and doubles or halves it until both ends are found.

    At each value lanes are doubled from ``lanes`` to ``most_lanes`` until the Clopper-Pearson bounds exclude the limit.
    The error is shared out equally over every look that the search can take, so that the verdicts hold together.

    Args:
        scenario: of one variant.
        key: dotted name of an integer field, or ``pages_min``, the sum of the zones' min watermarks in pages.
        low: a value with the livelock; None along with ``high``.
        high: a value without.
        lanes: at first at each value.
        most_lanes: at most at each value; by default four times as many as are needed where none of them livelocks.

    More than nine arguments: those behind the limit are options, each with a default.

    Raises:
        InputError: no such field, a value is refused, the ends are in the wrong order, or a run is too short to see a
            livelock.
    """
    if (low is None) != (high is None):
        raise InputError("--from, --to", key, "a range has two ends: give both or none")
    if low is not None and high is not None and not low < high:
        raise InputError("--from, --to", key, f"the range {low} to {high} is empty: the first must be the smaller")
    if scenario.run.duration_s <= 5:
        short = f"must be above 5, not {scenario.run.duration_s:g}: a livelock counts when it has lasted more than 5 s"
        raise InputError("frontier", "run.duration_s", short)
    if not 0 < limit < 1:
        raise InputError("--where", f"livelock<{limit:g}", "the limit must be above 0 and below 1")
    field, unit = QUANTITIES.get(key, (key, 1))
    if low is None or high is None:
        start = own_value(scenario, key)
        values = 1 + 2 * REACH + (start << REACH).bit_length()
    else:
        values = 2 + (high - low).bit_length()
    looks, alpha = _looks(lanes, most_lanes, limit, (1 - confidence) / values)
    tried: list[Tried] = []

    def probe(value: int) -> str:
        own = scenario.with_settings({field: value * unit}, "--of")
        refuse_too_large([own], min(threads_of(threads), lanes))
        done = 0
        verdict, bounds = "undecided", (0.0, 1.0)
        told = np.empty((0, len(_TOLD)), np.int64)
        for look in range(looks):
            fresh = range(done, lanes << look)
            results = run_lanes(own, fresh, seed=scenario.run.seed, threads=threads)
            told = np.vstack([told, *(result.metrics[_TOLD] for result in results)])
            hits = int(told[:, 0].sum())
            done = fresh.stop
            bounds = exact_bounds(hits, done, alpha)
            if bounds[0] > limit or bounds[1] < limit:
                verdict = "above" if bounds[0] > limit else "below"
                break
        days = machine_days(pl.DataFrame(told, schema=list(_TOLD_NAMES)))
        tried.append(Tried(value, done, hits, *bounds, verdict, days))
        if tell is not None:
            tell(tried[-1])
        return verdict

    if low is None or high is None:
        above, below = _bracket(probe, start)
    else:
        first, last = probe(low), probe(high)
        above, below = (low if first == "above" else None), (high if last == "below" else None)
    while above is not None and below is not None and below - above > 1:
        middle = (above + below) // 2
        verdict = probe(middle)
        if verdict == "undecided":
            break
        above, below = (middle, below) if verdict == "above" else (above, middle)
    return Frontier(key, limit, confidence, above, below, tried)


def own_value(scenario: Scenario, key: str) -> int:
    """What the scenario itself sets; raises InputError where ``key`` is no whole number of it."""
    if key == "pages_min":
        machine = scenario.machine
        if machine.min_free_kbytes is not None:
            return machine.min_free_kbytes // machine.page_kb
        return sum(zone.min for zone, share in zip(machine.zones, machine.shares, strict=True) if share)
    declared = parameter_of(scenario, key)
    if declared is not None:
        return declared
    numbers = {name: each for name, each in dotted(scenario.model_dump()).items() if type(each) is int}
    if key not in numbers:
        known = [*QUANTITIES, *numbers]
        raise InputError("--of", key, f"names no integer field that the scenario sets{meant(key, known)}")
    return int(numbers[key])


def _looks(lanes: int, most_lanes: int | None, limit: float, alpha: float) -> tuple[int, float]:
    """How often a value is looked at, lanes doubled each time, and the error that a look may have."""
    looks = 1
    while True:
        if most_lanes is None:
            # none of n lanes bounds the probability by 1 - (alpha / 2)^(1/n)
            enough = (lanes << (looks - 1)) >= 4 * ceil(log(alpha / looks / 2) / log(1 - limit))
        else:
            enough = lanes << looks > most_lanes
        if enough:
            return looks, alpha / looks
        looks += 1


def fewest_lanes(limit: float, confidence: float) -> int:
    """The fewest lanes, none of them livelocked, that can show a value to be below the limit: by one look alone."""
    return ceil(log(1 - confidence) / log1p(-limit))


def _bracket(probe: Callable[[int], str], start: int) -> tuple[int | None, int | None]:
    """Doubles for a value below the limit, halves for one above: (above, below), None where none is found."""
    ends = {probe(start): start}
    moves: list[tuple[str, Callable[[int], int]]] = [("below", lambda x: max(1, 2 * x)), ("above", lambda x: x // 2)]
    for wanted, move in moves:
        value = start
        for _ in range(REACH):
            if wanted in ends or move(value) == value:
                break
            value = move(value)
            try:
                ends[probe(value)] = value
            except InputError:  # more than the machine can be
                break
    return ends.get("above"), ends.get("below")

"""The hazard of lanes over their age: the start-up apart from the steady state."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from fastalloc.kernels.lane.state import NS_PER_S
from fastalloc.rare.poisson import Rate, differ, poisson_rate
from fastalloc.rare.until import Seen
from fastalloc.report.statistics import wilson_interval

BINS = 8
SAME = 0.05  # p below which the two halves of the time are held to have two rates
FEWEST = 5  # lanes that must have lasted into a bin for it to be shown


class Bin(NamedTuple):
    """Lanes between two ages."""

    from_s: float
    to_s: float
    rate: Rate  # per second


class Hazard(NamedTuple):
    """What a number of lanes tell of an event."""

    lanes: int
    length_s: float  # of a lane
    startup_s: float
    startup_events: int
    startup_share: tuple[float, float, float]  # of lanes, with its 95 % interval
    steady: Rate | None  # per second, after the start-up; None where no lane was looked at then
    steady_p: float  # of the first and second half of the steady state having one rate
    bins: tuple[Bin, ...]

    @property
    def is_steady(self) -> bool:
        """Whether a rate per time means anything."""
        return self.steady is not None and self.steady_p >= SAME


def exposure_s(seen: Sequence[Seen], from_s: float, to_s: float) -> tuple[int, float]:
    """Events between two ages, and how long lanes were there without one, in seconds."""
    events, exposure = 0, 0.0
    for each in seen:
        at = each.at_ns / NS_PER_S
        exposure += max(0.0, min(at, to_s) - from_s)
        events += each.event and from_s <= at < to_s
    return events, exposure


def hazard(seen: Sequence[Seen], length_s: float, startup_s: float) -> Hazard:
    """The hazard of lanes of ``length_s`` with the first ``startup_s`` of each kept apart."""
    startup = min(startup_s, length_s)
    early, _ = exposure_s(seen, 0.0, startup)
    share = early / len(seen) if seen else 0.0
    events, exposure = exposure_s(seen, startup, length_s)
    middle = (startup + length_s) / 2
    first, second = exposure_s(seen, startup, middle), exposure_s(seen, middle, length_s)
    bins = []
    for low, high in pairwise(edges(length_s, startup)):
        happened, time = exposure_s(seen, low, high)
        if time >= FEWEST * (high - low):
            bins.append(Bin(low, high, poisson_rate(happened, time)))
    return Hazard(
        len(seen),
        length_s,
        startup,
        early,
        (share, *wilson_interval(early, len(seen))),
        poisson_rate(events, exposure) if exposure > 0 else None,
        differ(*first, *second),
        tuple(bins),
    )


def edges(length_s: float, startup_s: float) -> list[float]:
    """Ages at which bins begin and end: one edge is the end of the start-up."""
    before = [startup_s * i / 3 for i in range(4)] if 0 < startup_s < length_s else [0.0]
    if startup_s >= length_s:
        return [length_s * i / BINS for i in range(BINS + 1)]
    after = BINS - 3
    return before + [startup_s + (length_s - startup_s) * i / after for i in range(1, after + 1)]

"""The hazard of lanes over their age: the start-up apart from the steady state."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

from fastalloc.report.poisson import Rate, differ, poisson_rate
from fastalloc.report.proportion import exact_bounds

STARTUP_S = 15.0  # after boot: caches are empty and memory fills for the first time
VERDICT_MS = 5000  # a pause of this length is a livelock
DAY_S = 86400.0
NS_PER_S = 1_000_000_000
BINS = 8
SAME = 0.05  # p below which the two halves of the time are held to have two rates
FEWEST = 5  # lanes that must have lasted into a bin for it to be shown


class Seen(NamedTuple):
    """One lane until its first event or its end."""

    lane: int
    event: bool
    at_ns: int  # of the event, else the end


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
    startup_share: tuple[float, float, float]  # of lanes, with its exact 95 % interval
    steady: Rate | None  # per second, after the start-up; None where no lane was looked at then
    steady_p: float  # of the first and second half of the steady state having one rate
    bins: tuple[Bin, ...]

    @property
    def is_steady(self) -> bool:
        """Whether a rate per time means anything."""
        return self.steady is not None and self.steady_p >= SAME


def exposure_s(seen: Sequence[Seen], from_s: float, to_s: float) -> tuple[int, float]:
    """Events between two ages, and how long lanes were there without one, in seconds."""
    at = np.array([each.at_ns for each in seen], float) / NS_PER_S
    return _exposure_s(np.array([each.event for each in seen], bool), at, from_s, to_s)


def _exposure_s(event: np.ndarray, at: np.ndarray, from_s: float, to_s: float) -> tuple[int, float]:
    """The same of bool[lanes] and float64[lanes], in seconds."""
    exposure = np.clip(np.minimum(at, to_s) - from_s, 0, None).sum()
    return int((event & (from_s <= at) & (at < to_s)).sum()), float(exposure)


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
        (share, *(exact_bounds(early, len(seen)) if seen else (0.0, 1.0))),
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


class MachineDays(NamedTuple):
    """Machine-days to an event after the start-up; the interval is Garwood's of 95 %."""

    events: int
    looked_at: float  # machine-days without an event before
    days: float | None  # None: none was seen, or there is no such figure
    low: float | None  # with none seen the one-sided bound: it takes longer
    high: float | None
    why: str  # there is no figure; empty where there is one, or a bound

    def __str__(self) -> str:
        if self.why:
            return self.why
        if self.days is None:
            return f"> {self.low:.2g}"
        return f"{self.days:.2g} ({self.low:.2g}-{self.high:.2g})"


def machine_days(runs: pl.DataFrame) -> MachineDays:
    """Machine-days to a livelock by the metrics of lanes: a bound where none was seen, none of a start-up.

    A livelock is told of 5 s after its onset, so what begins in the last 5 s of a run is not seen and not looked for.

    Args:
        runs: rows of ``runs/``, or of metrics by name: ``livelock_5s``, ``at_ms``, ``sim_ms``.
    """
    event, at_ms, sim_ms = (runs[name].to_numpy() for name in ("livelock_5s", "at_ms", "sim_ms"))
    event = event != 0
    at = np.clip(np.where(event, at_ms, sim_ms) - VERDICT_MS, 0, None) / 1000
    length_s = max(0.0, (sim_ms.max() - VERDICT_MS) / 1000) if len(sim_ms) else 0.0
    events, exposure = _exposure_s(event, at, STARTUP_S, length_s)
    if exposure <= 0:
        return MachineDays(0, 0.0, None, None, None, "start-up")
    middle = (STARTUP_S + length_s) / 2
    same = differ(*_exposure_s(event, at, STARTUP_S, middle), *_exposure_s(event, at, middle, length_s))
    if same < SAME:
        return MachineDays(events, exposure / DAY_S, None, None, None, "not steady")
    rate = poisson_rate(events, exposure / DAY_S)
    if events == 0:
        return MachineDays(0, rate.exposure, None, 1 / rate.high, None, "")
    return MachineDays(events, rate.exposure, 1 / rate.rate, 1 / rate.high, 1 / rate.low, "")

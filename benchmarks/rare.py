"""Rates of rare events: what a bound costs on one core."""

import math
import time
from collections.abc import Iterator

from benchmarks.measure import Row, figure
from fastalloc.batch import warm
from fastalloc.rare.events import Event
from fastalloc.rare.until import run_until
from fastalloc.report.hazard import STARTUP_S
from fastalloc.report.poisson import poisson_rate
from fastalloc.scenario import Scenario, load_scenario

QUESTION = (
    "How many core-hours until `rare` can say that a livelock is rarer than 1e-6 a lane-minute at 95 %, none seen: "
    "start-up and the setting up of lanes included, one core?"
)
LIMIT = 1e-6  # a lane-minute
LANE_S = 135.0  # two minutes after the start-up
# The fix: a lane that livelocks ends there, and is cheaper.
MACHINES = {
    "34 MB": ("swap-livelock-34m", {}),
    "512 MB, lowered reserve": ("swap-livelock", {}),
    "512 MB as it boots": ("swap-livelock", {"machine.min_free_kbytes": 2866}),
}


def scenario(preset: str, settings: dict[str, object]) -> Scenario:
    """The machine under the fix, its series dropped as ``rare`` drops it."""
    asked = {"run.duration_s": LANE_S, "run.series_ms": round(1000 * LANE_S)}
    return load_scenario(preset).variant("fix").with_settings(settings | asked)


def check() -> None:
    """None seen in so many minutes is what bounds the rate. Raises SystemExit if it does not."""
    if abs(poisson_rate(0, minutes_needed()).high / LIMIT - 1) > 1e-9:
        raise SystemExit("the bound is not what the rate says")


def minutes_needed() -> float:
    """Lane-minutes without an event that bound the rate by LIMIT."""
    return -math.log(0.05) / LIMIT


def run(quick: bool) -> Iterator[Row]:
    """Core-hours, and how much faster than the simulated machine that is."""
    check()
    repeats, lanes = (2, 4) if quick else (7, 24)
    for name, (preset, settings) in MACHINES.items():
        wanted = scenario(preset, settings)
        warm(wanted)
        hours, factors = [], []
        for turn in range(repeats):
            begun = time.process_time()
            seen = run_until(wanted, range(turn * lanes, (turn + 1) * lanes), Event("livelock"), 1)
            seconds = time.process_time() - begun
            assert len(seen) == lanes
            minutes = lanes * (LANE_S - STARTUP_S) / 60
            hours.append(seconds / minutes * minutes_needed() / 3600)
            factors.append(lanes * LANE_S / seconds)
        work = f"below {LIMIT:g} a lane-minute at 95 %, {name}"
        yield figure(work, "rare, plain lanes", hours, "core-hours")
        yield figure(work, "rare, plain lanes", factors, "x real time")

"""Lanes that several tests look at, run once."""

import pytest

from fastalloc.batch import run_lanes
from tests.closed_loop.small import OWN_CORES, metric, preset, run, small

LANES = range(16)
LASTS = {"run.duration_s": 75.0}


def lanes(scenario, numbers, **options):
    """Results by lane number."""
    return {result.lane: result for result in run_lanes(scenario, list(numbers), seed=1, threads=1, **options)}


@pytest.fixture(scope="session")
def rc8():
    """Sixteen lanes of the preset as released, 75 s each."""
    return lanes(preset("rc8", LASTS), LANES)


@pytest.fixture(scope="session")
def livelocked(rc8):
    """The lanes of ``rc8`` that livelock."""
    return {lane: result for lane, result in rc8.items() if metric(result, "livelock_5s")}


@pytest.fixture(scope="session")
def logged(livelocked):
    """The three lanes that are livelocked for longest again, with every event."""
    longest = sorted(livelocked, key=lambda lane: -metric(livelocked[lane], "livelock_ms"))[:3]
    return {lane: run(preset("rc8", LASTS), lane, full_events=True) for lane in longest}


@pytest.fixture(scope="session")
def fixed():
    """The same lanes with the fix, with every event."""
    return {lane: run(preset("fix", LASTS), lane, full_events=True) for lane in LANES}


@pytest.fixture(scope="session")
def small_lanes():
    """Sixty lanes of the small machine with cores of its own, by what is set otherwise."""
    known = {}

    def get(variant="rc8", **settings):
        key = (variant, *sorted(settings.items()))
        if key not in known:
            dotted = {name.replace("__", "."): value for name, value in settings.items()}
            known[key] = lanes(small(variant, OWN_CORES | dotted), range(60))
        return known[key]

    return get

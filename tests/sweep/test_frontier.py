"""The frontier search on made-up lanes of which the probability is known."""

from typing import NamedTuple

import numpy as np
import pytest

from fastalloc.batch import LIVELOCK
from fastalloc.errors import InputError
from fastalloc.kernels.names import METRICS
from fastalloc.scenario import load_scenario
from fastalloc.sweep import frontier as module
from fastalloc.sweep.frontier import exact_bounds, frontier


class Made(NamedTuple):
    metrics: np.ndarray


def made_up(scenario, lanes, *, seed, threads):
    """The livelock probability falls from 1/2 to 0 between 100 and 101 commands a second."""
    probability = 0.5 if scenario.disk.iops <= 100 else 0.0
    for lane in lanes:
        metrics = np.zeros(len(METRICS), np.int64)
        metrics[LIVELOCK] = np.random.default_rng([seed, lane, scenario.disk.iops]).random() < probability
        yield Made(metrics)


@pytest.fixture
def scenario(monkeypatch):
    monkeypatch.setattr(module, "run_lanes", made_up)
    return load_scenario("swap-livelock").variant("rc8")


def test_it_finds_the_crossing(scenario):
    found = frontier(scenario, "disk.iops", 1, 1000, 0.1)
    assert (found.above, found.below) == (100, 101)
    assert all(step.verdict == ("above" if step.value <= 100 else "below") for step in found.tried)
    assert len(found.tried) <= 12


def test_it_says_when_it_cannot_tell(scenario):
    found = frontier(scenario, "disk.iops", 1, 1000, 1e-6, lanes=64, most_lanes=128)
    assert (found.above, found.below) == (1, None)
    assert found.tried[-1].verdict == "undecided"
    assert found.tried[-1].lanes == 128


def test_bad_input_is_refused(scenario):
    for arguments in (("disk.iops", 5, 5, 0.1), ("disk.iops", 1, 5, 1.0), ("disk.iopps", 1, 5, 0.1)):
        with pytest.raises(InputError):
            frontier(scenario, *arguments)


def test_exact_bounds_keep_their_level():
    assert exact_bounds(0, 100, 0.05) == (0.0, pytest.approx(0.0362, abs=1e-4))
    assert exact_bounds(10, 10, 0.05) == (pytest.approx(0.6915, abs=1e-4), 1.0)

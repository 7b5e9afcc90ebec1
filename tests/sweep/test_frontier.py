"""The frontier search on made-up lanes of which the probability is known."""

from typing import NamedTuple

import numpy as np
import pytest

from fastalloc.errors import InputError
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.report.proportion import exact_bounds
from fastalloc.scenario import load_scenario
from fastalloc.sweep import frontier as module
from fastalloc.sweep.frontier import frontier


class Made(NamedTuple):
    metrics: np.ndarray


def made_up(scenario, lanes, *, seed, threads):
    """The livelock probability falls from 1/2 to 0 between 100 and 101 commands a second."""
    probability = 0.5 if scenario.disk.iops <= 100 else 0.0
    for lane in lanes:
        metrics = np.zeros(METRIC.width, np.int64)
        if probability:
            metrics[METRIC.livelock_5s] = np.random.default_rng([seed, lane, scenario.disk.iops]).random() < probability
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


def test_without_a_range_it_starts_from_the_scenario(scenario):
    for own in (100, 3, 5000):
        found = frontier(scenario.with_settings({"disk.iops": own}), "disk.iops", None, None, 0.1)
        assert found.tried[0].value == own
        assert (found.above, found.below) == (100, 101)


def test_pages_min_is_searched_in_pages(monkeypatch, scenario):
    """[setup_per_zone_pages_min]: min_free_kbytes in pages, shared among the zones of lowmem."""

    def made(own, lanes, *, seed, threads):
        pages = sum(zone.min for zone in own.machine.zones)
        assert abs(pages - own.machine.min_free_kbytes / 4) <= len(own.machine.zones)
        return made_up(own.with_settings({"disk.iops": 100 if own.machine.min_free_kbytes <= 4 * 37 else 101}),
                       lanes, seed=seed, threads=threads)  # fmt: skip

    monkeypatch.setattr(module, "run_lanes", made)
    found = frontier(scenario, "pages_min", None, None, 0.1)
    assert found.tried[0].value == 64 // 4
    assert (found.key, found.above, found.below) == ("pages_min", 37, 38)


def test_lanes_suffice_for_any_limit(scenario):
    for limit in (0.1, 1e-2, 1e-3):
        found = frontier(scenario, "disk.iops", 64, 128, limit)
        assert (found.above, found.below) == (100, 101)
        most = max(step.lanes for step in found.tried)
        assert exact_bounds(0, most, 0.05)[1] < limit
        assert most < 100 / limit + 512


def test_bad_input_is_refused(scenario):
    for arguments in (
        ("disk.iops", 5, 5, 0.1),
        ("disk.iops", 1, 5, 1.0),
        ("disk.iopps", 1, 5, 0.1),
        ("disk.iops", 1, None, 0.1),
        ("disk.iopps", None, None, 0.1),
    ):
        with pytest.raises(InputError):
            frontier(scenario, *arguments)


def test_a_run_too_short_to_see_a_livelock_is_refused(scenario):
    with pytest.raises(InputError, match="must be above 5, not 5: a livelock counts"):
        frontier(scenario.with_settings({"run.duration_s": 5}), "disk.iops", 1, 5, 0.1)


def test_exact_bounds_keep_their_level():
    assert exact_bounds(0, 100, 0.05) == (0.0, pytest.approx(0.0362, abs=1e-4))
    assert exact_bounds(10, 10, 0.05) == (pytest.approx(0.6915, abs=1e-4), 1.0)

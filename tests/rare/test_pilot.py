"""The pilot of a ladder on made-up lanes."""

import math

import numpy as np
import pytest

from fastalloc.errors import InputError
from fastalloc.rare.pilot import choose_rungs


def lanes(log_hazard, allowed=lambda setting: True, seed=0):
    """Lanes with a known chance of the event at a setting."""
    rng = np.random.default_rng(seed)

    def share(setting, count):
        if not allowed(setting):
            raise InputError("machine", "", "refused")
        return int(rng.binomial(count, -np.expm1(-math.exp(min(3.0, log_hazard(setting)))))), count

    return share


@pytest.mark.parametrize(
    ("log_hazard", "asked"),
    [(lambda s: -0.5 - 0.03 * s, 256), (lambda s: -9 + 0.2 * s, 10), (lambda s: -1 - 0.004 * s, 2000)],
)
def test_rungs_span_about_a_decade_from_where_the_event_is_common(log_hazard, asked):
    for seed in range(10):
        rungs = choose_rungs(lanes(log_hazard, seed=seed), asked, whole=True)
        hazards = [math.exp(log_hazard(rung)) for rung in rungs]
        assert len(rungs) == 4
        assert all(rung == int(rung) for rung in rungs)
        assert hazards == sorted(hazards, reverse=True)
        assert 0.02 < hazards[0] < 0.6
        assert 3 < hazards[0] / hazards[-1] < 100  # the slope is a pilot's
        assert min(rungs[0], asked) <= rungs[-1] <= max(rungs[0], asked)


def test_a_common_event_needs_no_ladder_and_one_that_never_comes_has_none():
    assert choose_rungs(lanes(lambda s: -1.0), 64, whole=True) == []
    with pytest.raises(InputError, match="name the settings"):
        choose_rungs(lanes(lambda s: -40.0), 64, whole=True)


def test_a_setting_that_is_refused_is_no_way():
    found = choose_rungs(lanes(lambda s: -9 + 0.2 * s, lambda s: s < 100), 10, whole=False)
    assert len(found) == 4
    with pytest.raises(InputError, match="name the settings"):
        choose_rungs(lanes(lambda s: -9 + 0.2 * s, lambda s: s < 15), 10, whole=False)

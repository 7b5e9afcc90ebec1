"""The test before splitting: D of made-up states, what it says, and a small one on real lanes."""

import numpy as np
import pytest

from fastalloc.errors import InputError
from fastalloc.rare.events import Event
from fastalloc.rare.splitting import decided_share, decision, interval, splitting_test, words
from fastalloc.scenario import load_scenario


def drawn(rng, a, b, states=80, children=40):
    """Events among the children of states whose chance is Beta(a, b): D = 1 / (a + b + 1)."""
    return rng.binomial(children, rng.beta(a, b, states))


@pytest.mark.parametrize(("a", "b"), [(0.03, 0.12), (0.5, 2.0), (2.0, 18.0), (8.0, 32.0)])
def test_d_is_recovered_and_its_interval_covers(a, b):
    rng = np.random.default_rng([round(100 * a), round(100 * b)])
    truth = 1 / (a + b + 1)
    samples = [drawn(rng, a, b) for _ in range(100)]
    found = [decided_share(events, 40) for events in samples]
    assert np.mean(found) == pytest.approx(truth, abs=0.02 + 3.5 * np.std(found) / np.sqrt(100))
    covered = sum(low <= truth <= high for low, high in (interval(events, 40) for events in samples[:40]))
    assert covered >= 32  # of 40 at 95 %; intervals of drawn states are a little too narrow with 80 of them


def test_coins_decide_nothing_and_fates_everything():
    rng = np.random.default_rng(4)
    coins = [decided_share(rng.binomial(40, np.full(80, 0.2)), 40) for _ in range(200)]
    assert abs(np.mean(coins)) < 0.003
    assert decided_share(np.array([0] * 60 + [40] * 20), 40) == pytest.approx(1.0, abs=1e-9)
    assert decided_share(np.zeros(80, int), 40) is None


def test_what_it_says():
    fate = decision("supply", 408, (80, 400), [0] * 60 + [39] * 20, 40)
    assert fate.could_pay is False
    assert "it does not pay: at most 1.0 times" in words(fate)
    rng = np.random.default_rng(5)
    coins = rng.binomial(40, np.full(80, 0.2)).tolist()
    assert decision("supply", 408, (80, 400), coins, 40).could_pay is True
    assert decision("supply", 408, (80, 82), coins, 40).could_pay is False  # nearly all lanes cross: no selection
    assert "nothing to tell by" in words(decision("supply", 408, (80, 400), [0] * 80, 40))


def test_on_lanes_it_is_the_same_for_any_threads():
    scenario = load_scenario("swap-livelock-34m").variant("rc8").with_settings({"run.duration_s": 5})
    sizes = {"states": 3, "children": 4, "pilot": 8}
    one, two = (splitting_test(scenario, Event("livelock"), threads=n, **sizes) for n in (1, 2))
    assert one == two
    assert (one.states, one.crossed[0]) == (3, 3)
    assert one.crossed[0] < one.crossed[1]
    with pytest.raises(InputError, match="expected one of supply, free"):
        splitting_test(scenario, Event("livelock"), counter="luck")


@pytest.mark.slow
def test_the_livelock_is_decided_before_any_counter_shows_it():
    """At a fifth of the branches 160 states tell D within 0.1; at the first level that selects anything."""
    scenario = load_scenario("swap-livelock-34m").variant("rc8").with_settings({"machine.min_free_kbytes": 48})
    found = splitting_test(scenario, Event("livelock"), states=160)
    print(words(found))
    assert found.could_pay is False
    assert found.low > 0.5

"""The interval of a share on few lanes: coverage on lanes like those of real set-ups, by fixed seeds, and its parts."""

import numpy as np
import pytest

from fastalloc.report.proportion import exact_bounds
from fastalloc.sweep.share import interval, share_of_any_lanes, unseen

BURSTS, ASKED = 60, 100  # of a lane, of a burst


def lanes_of(kind: str, random: np.random.Generator, count: int) -> np.ndarray:
    """float64[count]: the chance of a burst to be refused some of its requests, lane by lane."""
    if kind == "alike":
        return np.full(count, 0.03)
    if kind == "rare":
        return np.full(count, 0.002)
    if kind == "skewed":  # most lanes lose little, some much: a coefficient of variation of 1.3, as measured
        return np.minimum(1.0, random.gamma(0.6, 0.25, count))
    if kind == "heavy":  # the logarithm is normal
        return np.minimum(1.0, 0.02 * random.lognormal(0, 1.2, count))
    return np.where(random.random(count) < 0.8, 0.9, random.uniform(0.2, 0.9, count))  # most lanes lose most


def lane(random: np.random.Generator, chance: float) -> tuple[int, int]:
    """(requests refused, bursts with one): a burst in trouble loses a share of its own, 0.3 on average."""
    bad = random.binomial(BURSTS, chance)
    lost = np.ceil(ASKED * random.beta(1, 2.3, bad))
    return int(lost.sum()), int(bad)


KINDS = ("alike", "rare", "skewed", "heavy", "most")


@pytest.mark.parametrize(("kind", "lanes"), [*((kind, lanes) for kind in KINDS for lanes in (3, 6, 16)), ("rare", 64)])
def test_the_interval_covers_skewed_lanes(kind, lanes):
    """95 % are asked for; of 250 repetitions 1.4 % are a standard deviation."""
    random = np.random.default_rng(17)
    pool = [lane(random, chance) for chance in lanes_of(kind, random, 4000)]
    truth = sum(refused for refused, _ in pool) / (len(pool) * BURSTS * ASKED)
    held, widths = 0, []
    for _ in range(250):
        seen = [pool[at] for at in random.integers(0, len(pool), lanes)]
        low, high = interval([refused for refused, _ in seen], [BURSTS * ASKED] * lanes, [(b, BURSTS) for _, b in seen])
        held += low <= truth <= high
        widths.append(high - low)
    assert held >= 0.93 * 250
    if lanes == 64:
        assert np.median(widths) < 4 * truth


def test_no_interval_is_narrower_than_that_of_its_bursts():
    """Lanes that happen to be equal tell no more than as many bursts, each refused whole."""
    low, high = interval([300] * 6, [6000] * 6, [(3, 60)] * 6)
    assert (low, high) == pytest.approx(exact_bounds(18, 360))


def test_one_lane_tells_nothing():
    assert interval([3], [100], [(1, 10)]) == (0.0, 1.0)


def test_all_refused_and_nothing_refused():
    assert interval([0] * 4, [100] * 4, [(0, 10)] * 4) == pytest.approx(exact_bounds(0, 40))
    assert interval([100] * 4, [100] * 4, [(10, 10)] * 4) == pytest.approx(exact_bounds(40, 40))


def test_lanes_of_a_kind_that_was_not_seen():
    """One lane in ten loses half: six lanes without one tell nothing of it, and the ends of any lanes allow for it."""
    refused, requests = [10, 0, 20, 5, 0, 15], [6000] * 6
    low, high = interval(refused, requests, [(1, 60), (0, 60), (2, 60), (1, 60), (0, 60), (2, 60)])
    assert low < 50 / 36000 < high < 0.05
    least, most = share_of_any_lanes(refused, requests)
    assert least <= 50 / 36000 < 0.1 * 0.5 < most
    assert unseen(6) > 0.1 > unseen(40)

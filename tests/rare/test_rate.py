"""Rates with their intervals: worked examples, coverage under every way of stopping, start-up kept apart."""

import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import nbinom, poisson

from fastalloc.errors import InputError
from fastalloc.rare.events import Event, parse_event
from fastalloc.rare.rare import STEP, Budget, enough
from fastalloc.report.hazard import Seen, exposure_s, hazard, machine_days
from fastalloc.report.poisson import differ, events_for_width, poisson_rate
from fastalloc.report.proportion import exact_bounds

S = 1_000_000_000


def test_the_interval_is_the_set_of_rates_that_are_not_refuted():
    for events in (1, 5, 18, 86):
        rate = poisson_rate(events, 2.0)
        assert rate.rate == events / 2
        assert poisson.sf(events - 1, 2 * rate.low) == pytest.approx(0.025)
        assert poisson.cdf(events, 2 * rate.high) == pytest.approx(0.025)


def test_none_seen_is_a_bound_and_never_nought():
    rate = poisson_rate(0, 10.0)
    assert (rate.rate, rate.low) == (0.0, 0.0)
    assert math.exp(-10 * rate.high) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="time"):
        poisson_rate(0, 0.0)


def test_exposure_ends_with_the_first_event():
    seen = [Seen(0, True, 3 * S), Seen(1, False, 10 * S), Seen(2, True, 7 * S)]
    assert exposure_s(seen, 0, 10) == (2, 20.0)
    assert exposure_s(seen, 0, 5) == (1, 13.0)
    assert exposure_s(seen, 5, 10) == (1, 7.0)  # the first lane is not there any more
    assert exposure_s(seen, 7, 10) == (1, 3.0)


def stopped(rng: np.random.Generator, rate: float, length_s: float, budget: Budget) -> tuple[int, float]:
    """Events and exposure of lanes with a constant rate, as ``rare`` runs them until it says that they are enough."""
    lanes = events = 0
    exposure = 0.0
    while not enough(lanes, events, budget):
        at = rng.exponential(1 / rate, min(STEP, budget.lanes - lanes))
        lanes += len(at)
        events += int((at < length_s).sum())
        exposure += float(np.minimum(at, length_s).sum())
    return events, exposure


@pytest.mark.parametrize("share", [0.2, 1e-2])
@pytest.mark.parametrize("events", [1, 6, 20])
def test_the_share_holds_its_level_when_a_number_of_events_stops(share, events):
    """Summed over all that can happen: lanes until the last event are distributed as a negative binomial."""
    lanes = events + np.arange(round(40 * events / share))
    chance = nbinom.pmf(lanes - events, events, share)
    assert chance.sum() == pytest.approx(1, abs=1e-6)
    low, high = np.transpose([exact_bounds(events, n) for n in lanes.tolist()])
    missed = chance[(share < low) | (high < share)].sum()
    assert missed <= 0.05


@pytest.mark.parametrize("share", [0.2, 1e-2, 1e-3])
@pytest.mark.parametrize("width", [2.0, 4.0, None])
def test_intervals_cover_in_at_least_nine_of_ten_repetitions(share, width):
    """Stopped by width or by lanes; of 100 repetitions at 95 %, fewer than 90 would be an accident of 1 %."""
    length_s = 20.0
    rate = -math.log1p(-share) / length_s
    budget = Budget(max(STEP, round(5 / share)), width=1.01) if width is None else Budget(1 << 22, width=width)
    rng = np.random.default_rng([round(1 / share), round(width or 0)])
    found = [poisson_rate(*stopped(rng, rate, length_s, budget)) for _ in range(100)]
    assert sum(each.low <= rate <= each.high for each in found) >= 90
    if width is not None:
        # at k events the mean of k / T is k / (k - 1) of the rate, and its error in 100 runs a tenth of 1 / sqrt k
        events = np.mean([each.events for each in found])
        mean = np.mean([each.rate for each in found])
        assert abs(mean / rate - 1) < 1 / (events - 1) + 3.5 / math.sqrt(100 * events)


def test_the_width_of_an_interval_is_a_number_of_events():
    for width in (1.5, 2.0, 4.0, 10.0):
        events = events_for_width(width)
        enough_of, too_few = poisson_rate(events, 7.0), poisson_rate(events - 1, 7.0)
        assert enough_of.high <= width * enough_of.low
        assert too_few.high > width * too_few.low


def test_a_start_up_is_no_rate_per_time():
    rng = np.random.default_rng(3)
    onsets = rng.uniform(2, 6, 200)
    seen = [Seen(i, i < 40, round(t * S) if i < 40 else 60 * S) for i, t in enumerate(onsets.tolist())]
    with_startup = hazard(seen, 60.0, 15.0)
    assert with_startup.startup_events == 40
    assert with_startup.steady.events == 0
    assert with_startup.is_steady  # and its bound is of 45 s each of the 160 that are left
    assert with_startup.steady.high == pytest.approx(-math.log(0.05) / (160 * 45))
    assert not hazard(seen, 60.0, 0.0).is_steady
    assert hazard(seen, 10.0, 15.0).steady is None


def test_two_rates_are_told_apart_only_by_enough():
    assert differ(5, 100.0, 5, 100.0) == 1.0
    assert differ(0, 100.0, 3, 100.0) > 0.05
    assert differ(0, 100.0, 12, 100.0) < 0.01
    assert differ(0, 0.0, 0, 10.0) == 1.0


def test_events_by_name():
    assert parse_event("livelock") == Event("livelock")
    assert parse_event("stall > 2.5") == Event("stall", 2.5)
    assert str(parse_event("reserve<64")) == "reserve<64"
    for text in ("", "stall", "stall>0", "stall<2", "reserve<-1", "oom", "reserve<1e3"):
        with pytest.raises(InputError, match="expected livelock"):
            parse_event(text)


def runs(*lanes):
    """Rows of livelocked (verdict after so many seconds) and other lanes of a minute."""
    rows = [(0, -1, 60_000) if at is None else (1, 1000 * at, 60_000) for at in lanes]
    return pl.DataFrame(rows, schema=["livelock_5s", "at_ms", "sim_ms"], orient="row")


def test_machine_days_are_those_after_the_start_up():
    found = machine_days(runs(*[None] * 20, 25, 45, 58))
    seconds = 20 * 40 + (20 - 15) + (40 - 15) + (53 - 15)  # from 15 s to the onset, or to 5 s before the end
    assert found.events == 3
    assert found.looked_at == pytest.approx(seconds / 86400)
    assert found.days == pytest.approx(seconds / 86400 / 3)
    assert found.low < found.days < found.high
    rate = poisson_rate(3, seconds / 86400)
    assert (found.low, found.high) == pytest.approx((1 / rate.high, 1 / rate.low))


def test_machine_days_are_a_bound_or_nothing_but_never_without_end():
    none = machine_days(runs(*[None] * 864))
    assert (none.days, none.high) == (None, None)
    assert str(none) == f"> {864 * 40 / 86400 / -math.log(0.05):.2g}"
    assert machine_days(runs(*[12] * 5)).why == "start-up"  # all lock before anything steady could be seen
    assert machine_days(pl.DataFrame({"livelock_5s": [0], "at_ms": [-1], "sim_ms": [15_000]})).why == "start-up"
    assert machine_days(runs(*[24] * 12, *[None] * 20)).why == "not steady"

"""Same scenario, seed and lane: the same bytes, however the lanes are run [DESIGN, promises 1 and 2]."""

import itertools

import pytest

from fastalloc.batch import result_of, run_lanes
from fastalloc.batch.lane import build_lane
from fastalloc.kernels import machine_state as ms
from fastalloc.kernels.names import METRICS
from tests.closed_loop.small import LIVELOCKED, advance, events, image, metric, run, small

LANES = (0, 1, 2, 5, 7, LIVELOCKED)
VARIANTS = ("rc8", "fix", "nomerge", "depth16")


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def alone(variant):
    """Each lane run alone, in one go."""
    return {lane: image(run(small(variant), lane)) for lane in LANES}


def test_the_lanes_compared_contain_the_livelock_and_its_cure():
    assert metric(run(small("rc8"), LIVELOCKED), "livelock_5s") == 1
    cured = run(small("fix"), LIVELOCKED)
    assert metric(cured, "livelock_5s") == 0
    assert metric(cured, "free_list_used") > 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_neither_threads_nor_batches_nor_company_change_a_byte(variant, alone, threads, batch):
    results = list(run_lanes(small(variant), LANES, seed=1, threads=threads, batch=batch))
    assert [result.lane for result in results] == list(LANES)
    for result in results:
        assert image(result) == alone[result.lane]


def test_the_order_of_lanes_changes_no_byte(variant, alone):
    order = LANES[::-1]
    results = list(run_lanes(small(variant), order, seed=1, threads=2, batch=2))
    assert [result.lane for result in results] == list(order)
    for result in results:
        assert image(result) == alone[result.lane]


@pytest.mark.parametrize("lane", [0, LIVELOCKED])
def test_visiting_every_tick_changes_no_byte(variant, alone, lane):
    assert image(run(small(variant), lane, skip=False)) == alone[lane]


@pytest.mark.parametrize("lane", [0, LIVELOCKED])
def test_checking_after_each_tick_changes_no_byte(variant, alone, lane):
    assert image(run(small(variant), lane, debug=True)) == alone[lane]
    assert image(run(small(variant), lane, debug=True, skip=False)) == alone[lane]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("slice_ms", [3.7, 1000, 6321.123457])
def test_slices_change_no_byte(variant, alone, slice_ms, skip):
    scenario = small(variant)
    end = scenario.run.duration_s * 1000
    for lane in (0, LIVELOCKED):
        arrays = build_lane(scenario, lane, 1, skip=skip)
        for i in itertools.count(1):
            advance(lane, arrays, min(end, i * slice_ms))
            if i * slice_ms >= end:
                break
        assert image(result_of(lane, arrays)) == alone[lane]


def test_a_run_to_the_present_changes_nothing():
    scenario = small()
    arrays = build_lane(scenario, LIVELOCKED, 1)
    for until in (4000, 4000, 4000.000001, 20000, 20000):
        advance(LIVELOCKED, arrays, until)
        assert arrays.vm.ctl[ms.V_NOW] == round(until * ms.NS_PER_MS)
    assert image(result_of(LIVELOCKED, arrays)) == image(run(scenario, LIVELOCKED))


def test_lanes_differ_pair_by_pair(variant, alone):
    for a, b in itertools.combinations(LANES, 2):
        metrics, series, _, ledger = zip(alone[a], alone[b], strict=True)
        assert metrics[0] != metrics[1]
        assert series[0] != series[1]
        assert ledger[0] != ledger[1]


def test_seeds_differ_pair_by_pair():
    seeds = (0, 1, 2, 3, 4, 1 << 40, (1 << 63) - 1)
    images = [image(run(small(), 0, seed, full_events=True)) for seed in seeds]
    for a, b in itertools.combinations(images, 2):
        for ours, theirs in zip(a, b, strict=True):
            assert ours != theirs


def test_a_seed_and_a_lane_are_not_interchangeable():
    assert image(run(small(), 1, 2)) != image(run(small(), 2, 1))


@pytest.mark.parametrize("lane", [0, LIVELOCKED])
def test_a_full_log_changes_only_the_log(variant, lane):
    plain, full = run(small(variant), lane), run(small(variant), lane, full_events=True)
    assert image(plain)[1] == image(full)[1]
    assert plain.ledger.tobytes() == full.ledger.tobytes()
    lost = METRICS.index("events_lost")
    plain.metrics[lost] = full.metrics[lost] = 0
    assert plain.metrics.tobytes() == full.metrics.tobytes()
    assert len(full.events) > 10 * len(plain.events)


def test_the_full_log_contains_the_short_one():
    plain, full = run(small(), LIVELOCKED), run(small(), LIVELOCKED, full_events=True)
    assert metric(plain, "events_lost") == metric(full, "events_lost") == 0
    rows = {tuple(row) for row in full.events.tolist()}
    assert all(tuple(row) in rows for row in plain.events.tolist())


def test_events_that_do_not_fit_are_counted():
    whole = run(small(), LIVELOCKED)
    cut = run(small("rc8", {"run.max_events": 5}), LIVELOCKED)
    assert len(cut.events) == 5
    assert metric(cut, "events_lost") == len(whole.events) - 5
    assert cut.series.tobytes() == whole.series.tobytes()


def test_common_random_numbers_until_the_first_difference():
    """Two policies see the same machine until the policy is first asked: the series agree up to that moment."""
    rc8, fix = run(small("rc8"), LIVELOCKED, full_events=True), run(small("fix"), LIVELOCKED, full_events=True)
    first = int(events(rc8, "sense_fail")[0, 0])
    before = rc8.series[:, 0] * 1_000_000 < first
    assert before.sum() > 10
    assert (rc8.series[before] == fix.series[before]).all()
    assert (rc8.events[rc8.events[:, 0] < first] == fix.events[fix.events[:, 0] < first]).all()

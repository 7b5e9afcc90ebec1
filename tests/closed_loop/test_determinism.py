"""Same scenario, seed and lane: the same bytes, however the lanes are run [DESIGN, promises 1 and 2]."""

import itertools

import pytest

from fastalloc.batch import result_of, run_lanes
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import VM
from tests.closed_loop.small import OWN_CORES, advance, events, image, livelocked_lane, metric, run, small

LANES = (19, 20, 21, 22, 23)
LIVELY = (21, 22)  # of these, two that livelock as released
VARIANTS = ("rc8", "fix", "nomerge", "depth16", "turns")  # turns: rc8 on CPUs that take turns on one core


def machine(variant="rc8", settings=None):
    """The scenario of one of VARIANTS."""
    if variant == "turns":
        return small("rc8", {"machine.shared_core": True} | (settings or {}))
    return small(variant, OWN_CORES | (settings or {}))


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def alone(variant):
    """Each lane run alone, in one go."""
    return {lane: image(run(machine(variant), lane)) for lane in LANES}


def test_the_lanes_compared_contain_the_livelock_and_its_cure():
    """A third of the lanes of this machine livelock, and three of these."""
    assert all(metric(run(machine("rc8"), lane), "livelock_5s") for lane in LIVELY)
    cured = run(machine("fix"), livelocked_lane())
    assert metric(cured, "livelock_5s") == 0
    assert metric(cured, "free_list_used") > 0


@pytest.mark.parametrize(("threads", "batch"), [(1, 3), (1, 8), (2, 1), (2, 3)])
def test_neither_threads_nor_batches_nor_company_change_a_byte(variant, alone, threads, batch):
    results = list(run_lanes(machine(variant), LANES, seed=1, threads=threads, batch=batch))
    assert [result.lane for result in results] == list(LANES)
    for result in results:
        assert image(result) == alone[result.lane]


def test_the_order_of_lanes_changes_no_byte(variant, alone):
    order = LANES[::-1]
    results = list(run_lanes(machine(variant), order, seed=1, threads=2, batch=2))
    assert [result.lane for result in results] == list(order)
    for result in results:
        assert image(result) == alone[result.lane]


@pytest.mark.parametrize("lane", LIVELY)
def test_visiting_every_tick_changes_no_byte(variant, alone, lane):
    assert image(run(machine(variant), lane, skip=False)) == alone[lane]


@pytest.mark.parametrize(("lane", "skip"), [(LIVELY[0], True), (LIVELY[0], False), (LIVELY[1], False)])
def test_checking_after_each_tick_changes_no_byte(variant, alone, lane, skip):
    assert image(run(machine(variant), lane, debug=True, skip=skip)) == alone[lane]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("slice_ms", "lanes"), [(3.7, LIVELY[:1]), (1000, LIVELY), (6321.123457, LIVELY)])
def test_slices_change_no_byte(variant, alone, slice_ms, lanes, skip):
    scenario = machine(variant)
    end = scenario.run.duration_s * 1000
    for lane in lanes:
        arrays = build_lane(scenario, lane, 1, skip=skip)
        for i in itertools.count(1):
            advance(lane, arrays, min(end, i * slice_ms))
            if i * slice_ms >= end:
                break
        assert image(result_of(lane, arrays)) == alone[lane]


def test_a_run_to_the_present_changes_nothing():
    scenario = machine()
    arrays = build_lane(scenario, livelocked_lane(), 1)
    for until in (4000, 4000, 4000.000001, 20000, 20000):
        advance(livelocked_lane(), arrays, until)
        assert arrays.vm.ctl[VM.now] == round(until * ms.NS_PER_MS)
    assert image(result_of(livelocked_lane(), arrays)) == image(run(scenario, livelocked_lane()))


def test_lanes_differ_pair_by_pair(variant, alone):
    for a, b in itertools.combinations(LANES, 2):
        metrics, series, _, ledger = zip(alone[a], alone[b], strict=True)
        assert metrics[0] != metrics[1]
        assert series[0] != series[1]
        assert ledger[0] != ledger[1]


def test_seeds_differ_pair_by_pair():
    seeds = (0, 1, 2, 3, 4, 1 << 40, (1 << 63) - 1)
    images = [image(run(machine(), 0, seed, full_events=True)) for seed in seeds]
    for a, b in itertools.combinations(images, 2):
        for ours, theirs in zip(a, b, strict=True):
            assert ours != theirs


def test_a_seed_and_a_lane_are_not_interchangeable():
    assert image(run(machine(), 1, 2)) != image(run(machine(), 2, 1))


@pytest.mark.parametrize("lane", LIVELY)
def test_a_full_log_changes_only_the_log(variant, lane):
    plain, full = run(machine(variant), lane), run(machine(variant), lane, full_events=True)
    assert image(plain)[1] == image(full)[1]
    assert plain.ledger.tobytes() == full.ledger.tobytes()
    lost = METRIC.events_lost
    plain.metrics[lost] = full.metrics[lost] = 0
    assert plain.metrics.tobytes() == full.metrics.tobytes()
    assert len(full.events) > 10 * len(plain.events)


def test_the_full_log_contains_the_short_one():
    plain, full = run(machine(), livelocked_lane()), run(machine(), livelocked_lane(), full_events=True)
    assert metric(plain, "events_lost") == metric(full, "events_lost") == 0
    rows = {tuple(row) for row in full.events.tolist()}
    assert all(tuple(row) in rows for row in plain.events.tolist())


def test_events_that_do_not_fit_are_counted():
    whole = run(machine(), livelocked_lane())
    cut = run(machine("rc8", {"run.max_events": 5}), livelocked_lane())
    assert len(cut.events) == 5
    assert metric(cut, "events_lost") == len(whole.events) - 5
    assert cut.series.tobytes() == whole.series.tobytes()


def test_common_random_numbers_until_the_first_difference():
    """Two policies see the same machine until the policy is first asked: the series agree up to that moment."""
    rc8, fix = (
        run(machine("rc8", {"run.series_ms": 20}), livelocked_lane(), full_events=True),
        run(machine("fix", {"run.series_ms": 20}), livelocked_lane(), full_events=True),
    )
    first = int(events(rc8, "sense_fail")[0, 0])
    before = rc8.series[:, 0] * 1_000_000 < first
    assert before.sum() > 10
    assert (rc8.series[before] == fix.series[before]).all()
    assert (rc8.events[rc8.events[:, 0] < first] == fix.events[fix.events[:, 0] < first]).all()

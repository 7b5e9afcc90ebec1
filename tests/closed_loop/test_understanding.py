"""The five tests of understanding [iopath.md, end of section 13], on paired lanes: same seeds, one thing changed."""

import numpy as np
import pytest

from fastalloc.kernels.alloc.state import DEPTH
from fastalloc.kernels.lane.metrics import WHO
from tests.closed_loop.small import OWN_CORES, events, image, metric, run, small

RUN_SOFTIRQ = 2
PAIRED = 60


def total(results, name):
    return sum(metric(result, name) for result in results.values())


def livelocks(results):
    return total(results, "livelock_5s")


# (i) with sense unmerged, same load: no sense failure after warm-up unless depth > 32 per CPU


def late_failures(depth, lanes, more=None):
    """Sense failures, with slub_nomerge, on a CPU that had issued a command with a slab object of its own before."""
    late = 0
    for lane in range(lanes):
        settings = OWN_CORES | {"host.queue_depth": depth, "host.can_queue": depth, "machine.min_free_kbytes": 0}
        result = run(small("nomerge", settings | (more or {})), lane, full_events=True)
        starts = events(result, "command_start")
        own = starts[starts[:, 5] == 0]  # not from the free_list
        for failure in events(result, "sense_fail"):
            late += ((own[:, 2] == failure[2]) & (own[:, 0] < failure[0])).any()
    return late


@pytest.mark.parametrize("depth", [1, 16, 30])
def test_1_sense_unmerged_fails_only_while_a_cpu_warms_up(depth):
    """30 in flight, one prepared behind them and the one of the free_list are the 32 objects of one slab."""
    assert late_failures(depth, 10) == 0


def test_1_more_in_flight_than_a_slab_holds_fails_again():
    """CFQ gives the driver no more than 19 at a time, so it takes another elevator; and requests enough, of which noop
    makes more than CFQ, since it merges less."""
    assert late_failures(40, 20) == 0
    assert late_failures(40, 20, {"queue.elevator": "noop", "queue.nr_requests": 1024}) > 0


def test_1_the_load_was_the_same(small_lanes):
    assert total(small_lanes("rc8"), "sense_fail") > 10_000
    assert total(small_lanes("nomerge"), "sense_fail") == 0
    assert total(small_lanes("nomerge"), "bio_waits") > total(small_lanes("rc8"), "bio_waits")


# (ii) with kblockd given PF_MEMALLOC the chain breaks at 6 while F_p > 0


def test_2_kblockd_in_pf_memalloc_breaks_the_chain(small_lanes):
    """Every lane that livelocked goes on, although sense still fails in softirq: kblockd itself never fails."""
    allowed = small_lanes(policy__kblockd_memalloc=True)
    assert livelocks(small_lanes()) >= 10
    assert livelocks(allowed) == 0
    assert total(allowed, "sense_fail") > 0
    assert max(metric(result, "stall_ms") for result in allowed.values()) < 100
    for lane in range(5):
        result = run(small("rc8", OWN_CORES | {"policy.kblockd_memalloc": True}), lane, full_events=True)
        assert (events(result, "sense_fail")[:, 4] == RUN_SOFTIRQ).all()


def test_2_and_only_while_a_free_page_is_left(small_lanes):
    """Its slabs come from below every mark, as else those of a reclaimer alone that runs the request function."""
    tight = {"machine__min_free_kbytes": 16}  # with more to spare it seldom needs them
    plain, allowed = small_lanes(**tight), small_lanes(policy__kblockd_memalloc=True, **tight)
    below = lambda results: sum(bool(each.ledger[WHO.sense, DEPTH.none].any()) for each in results.values())  # noqa: E731
    assert below(plain) < 8 < 24 < below(allowed)
    assert all(metric(result, "min_free_dma") > 0 for result in allowed.values())


# (iii) with mempool keeping WAIT on first try, bios stop at min not 3/4 min but still can take slots


def test_3_with_wait_kept_bios_stop_at_min(small_lanes):
    stripped = sum(result.ledger for result in small_lanes().values())
    kept = sum(result.ledger for result in small_lanes(policy__mempool_rule="keep-wait").values())
    assert stripped[WHO.bio, DEPTH.harder].sum() > 1000  # slabs allocated between min and 3/4 min
    assert kept[WHO.bio, DEPTH.min].sum() > 1000
    for ledger, deepest in ((stripped, DEPTH.harder), (kept, DEPTH.min)):
        assert not ledger[WHO.bio, deepest + 1 :].any()
    # but they take the slots of what others allocated deeper, as before
    for ledger in (stripped, kept):
        assert ledger[WHO.sense, DEPTH.atomic, WHO.bio] > 1000
        assert ledger[WHO.noise, DEPTH.atomic, WHO.bio] > 100


def test_3_so_it_is_no_cure(small_lanes):
    assert livelocks(small_lanes(policy__mempool_rule="keep-wait")) >= livelocks(small_lanes()) // 3


# (iv) HZ changes poll period only


def test_4_hz_changes_the_poll_period(small_lanes):
    for hz, in_5s in ((100, 500), (250, 1250), (1000, 1667)):
        stuck = [result for result in small_lanes(machine__hz=hz).values() if metric(result, "livelock_5s")]
        assert all(abs(metric(result, "at_sense_fail_5s") - in_5s) <= 2 for result in stuck)


def test_4_and_nothing_else(small_lanes):
    """As many lanes livelock, in the same state, after as long: within three standard errors of the difference."""
    by_hz = {hz: small_lanes(machine__hz=hz) for hz in (100, 250, 1000)}
    counts = np.array([livelocks(results) for results in by_hz.values()])
    share = counts.sum() / (3 * PAIRED)
    assert counts.max() - counts.min() <= 3 * np.sqrt(2 * share * (1 - share) * PAIRED)
    onset, pages, error, spread = [], [], [], []
    for results in by_hz.values():
        stuck = [result for result in results.values() if metric(result, "livelock_5s")]
        times = [metric(result, "livelock_onset_ms") for result in stuck]
        onset.append(np.mean(times))
        written = [metric(result, "at_writeback") for result in stuck]
        pages.append(np.mean(written))
        spread.append(np.std(written) / np.sqrt(len(stuck)))
        error.append(np.std(times) / np.sqrt(len(stuck)))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(onset[i] - onset[j]) <= 3 * np.hypot(error[i], error[j])
        assert abs(pages[i] - pages[j]) <= 3 * np.hypot(spread[i], spread[j])


# (v) depth-1 hosts enter step 5 -> 6 more easily: every completion is the last one in flight


def test_5_the_deeper_the_host_the_rarer_the_livelock(small_lanes):
    counts = [
        livelocks(small_lanes(host__queue_depth=depth, host__can_queue=depth) if depth > 1 else small_lanes())
        for depth in (1, 4, 16)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[-1]


def test_5_can_queue_1_makes_any_depth_1(small_lanes):
    for lane in range(6):
        result = run(small("rc8", OWN_CORES | {"host.queue_depth": 16, "host.can_queue": 1}), lane)
        assert image(result) == image(small_lanes()[lane])


def test_5_at_depth_1_every_completion_is_the_last_one_in_flight():
    """In flight when the queue is run again after a completion: always nothing at depth 1, rarely at depth 16."""
    shares = {}
    for depth in (1, 16):
        last = ends = 0
        for lane in range(6):
            result = run(
                small("fix", OWN_CORES | {"host.queue_depth": depth, "host.can_queue": depth}), lane, full_events=True
            )
            starts, done = events(result, "command_start")[:, 0], events(result, "command_end")[:, 0]
            in_flight = np.searchsorted(starts, done, side="right") - np.arange(1, len(done) + 1)
            last += (in_flight == 0).sum()
            ends += len(done)
        shares[depth] = last / ends
    assert shares[1] == 1.0
    assert shares[16] < 0.5

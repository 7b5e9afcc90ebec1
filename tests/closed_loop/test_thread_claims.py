"""What the thread said of its remedies, measured on lanes of the ``swap-livelock`` scenario.

All variants meet the same lanes with the same random events (common random numbers), so the comparisons are paired.
"""

from functools import cache

import numpy as np
import pytest

from fastalloc.batch import LaneResult, run_lanes
from fastalloc.batch.caches import build_caches
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.scenario import Scenario, load_scenario, with_policies

LANES = range(6)


def under(policy: str) -> Scenario:
    return with_policies(load_scenario("swap-livelock"), [policy]).variant(policy)


@cache
def lanes(variant: str) -> list[LaneResult]:
    return list(run_lanes(under(variant), LANES, seed=1, threads=1))


def metric(variant: str, name: str) -> np.ndarray:
    return np.array([result.metrics[METRIC.names.index(name)] for result in lanes(variant)])


def test_rc8_livelocks_in_most_of_these_lanes():
    assert metric("rc8", "livelock_5s").sum() >= 4


@pytest.mark.parametrize("variant", ["ctor", "nomerge-sense", "nomerge-bio", "nomerge-both", "slub_nomerge"])
def test_keeping_bios_and_sense_buffers_apart_stops_all_failures(variant):
    """Hugh: the constructor 'stops all the allocation failures I was seeing'; a SLAB_NOMERGE flag does the same."""
    assert metric(variant, "sense_fail").sum() == 0
    assert metric(variant, "livelock_5s").sum() == 0


def test_the_constructor_and_the_flag_on_the_sense_cache_are_one_remedy():
    """Both give the sense cache slabs of its own and change nothing else: the same machine, event by event."""
    for with_ctor, with_flag in zip(lanes("ctor"), lanes("nomerge-sense"), strict=True):
        assert (with_ctor.metrics == with_flag.metrics).all()
        assert (with_ctor.series == with_flag.series).all()


def test_the_flag_decides_who_shares_kmalloc_128():
    """On sense: bio stays with kmalloc-128; on bio: sense stays; on both: neither (policies.md B3)."""
    shares = {}
    for variant in ("rc8", "nomerge-sense", "nomerge-bio", "nomerge-both"):
        caches = build_caches(under(variant))
        shares[variant] = tuple(caches.root_of(name) for name in ("bio", "scsi_sense_cache"))
    assert shares == {
        "rc8": ("kmalloc-128", "kmalloc-128"),
        "nomerge-sense": ("kmalloc-128", "scsi_sense_cache"),
        "nomerge-bio": ("bio", "kmalloc-128"),
        "nomerge-both": ("bio", "scsi_sense_cache"),
    }


def test_nomerge_on_both_keeps_apart_what_matters():
    """Under slub_nomerge tables of 128 segments and buffers of paths are apart too, which are of 4 kB; bios and sense
    buffers fare alike."""
    shared = {}
    for name in ("nomerge-both", "slub_nomerge"):
        caches = build_caches(under(name))
        shared[name] = caches.index_of("names_cache") == caches.index_of("sgpool-128")
        assert caches.index_of("bio") != caches.index_of("scsi_sense_cache")
        assert not metric(name, "sense_fail").any()
        assert not metric(name, "livelock_5s").any()
    assert shared == {"nomerge-both": True, "slub_nomerge": False}


def test_the_fix_serves_each_failure_from_the_free_list():
    assert metric("fix", "sense_fail").sum() > 0
    served = metric("fix", "free_list_used") + metric("fix", "free_list_empty")
    assert (served == metric("fix", "sense_fail") + metric("fix", "cmd_fail")).all()
    assert metric("fix", "livelock_5s").sum() == 0


def test_without_its_timeout_the_mempool_never_wakes_by_itself():
    """D2e: no sleep ends by the timer, and most livelocks last; with the timer sleepers look again each 5 s.

    kblockd may end one, when an interrupt gives back the object that its sense buffer needs."""
    assert metric("mempool-no-timeout", "mempool_timeouts").sum() == 0
    assert metric("rc8", "mempool_timeouts").sum() > 0
    locked = metric("mempool-no-timeout", "livelock_5s") == 1
    assert locked.any()
    assert (metric("mempool-no-timeout", "livelock_open")[locked] == 1).mean() > 0.5


def test_a_herd_is_worse_than_one_waiter():
    """D2f: with one sleeper woken for one element fewer lanes livelock than with the herd."""
    one, herd = (
        sum(int(result.metrics[METRIC.livelock_5s]) for result in run_lanes(under(name), range(16), seed=1, threads=1))
        for name in ("mempool-wake-one", "rc8")
    )
    assert one < 0.8 * herd


def test_kblockd_with_pf_memalloc_breaks_the_chain():
    """G4: the retry from kblockd takes a page with no watermark, so the first refusal is the last."""
    assert metric("kblockd-memalloc", "livelock_5s").sum() == 0
    assert metric("kblockd-memalloc", "sense_fail").sum() > 0
    assert metric("kblockd-memalloc", "dispatch_kblockd").sum() > 0

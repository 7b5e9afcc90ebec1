"""What a policy costs beside memory and throughput: tests and locks that it adds, bytes that it holds idle."""

import pytest

from fastalloc.batch.caches import build_caches
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, MEMCTL, ZONE
from tests.closed_loop.small import advance, gauge, livelocked_lane, metric, run
from tests.policies.test_closed_loop import BASE, results, scenario, total

ASKS_NOTHING = ["rc8", "fix", "consolidated", "ctor", "nomerge-both", "prealloc", "lazy-sense", "tail-64-96", "slab"]
PAGE = 4096


@pytest.mark.parametrize("name", ASKS_NOTHING)
def test_what_only_moves_memory_adds_no_work(name):
    assert total(name, "policy_tests") == total(name, "policy_locks") == 0


def allocations(arrays):
    return int(arrays.heap.kcpu[:, :, [KMEM_CACHE_CPU.alloc_fastpath, KMEM_CACHE_CPU.alloc_slowpath]].sum())


def frees(arrays):
    return int(arrays.heap.kcpu[:, :, [KMEM_CACHE_CPU.free_fastpath, KMEM_CACHE_CPU.free_slowpath]].sum())


@pytest.mark.parametrize(("name", "count"), [("rank", allocations), ("emergency-free-page", frees)])
def test_a_question_of_the_fast_path_is_asked_once_an_object(name, count):
    """E1 compares ranks at each allocation, F3b looks the cache up at each free; beyond those stand only refusals."""
    arrays = build_lane(scenario(name), 1, 1)
    before = count(arrays)
    advance(1, arrays, 15_000)
    asked = arrays.mem.ctl[MEMCTL.tests] - (count(arrays) - before)
    assert 0 <= asked <= metric(results(name)[1], "failed_allocations")
    assert arrays.mem.ctl[MEMCTL.tests] > 30_000


def test_a_question_of_slow_paths_is_asked_less():
    """H5, E2: at most a fifth of what E1 asks."""
    for name in ("pfmemalloc", "no-watermarks"):
        assert 0 < total(name, "policy_tests") < total("rank", "policy_tests") / 5


def test_the_reserve_is_charged_and_uncharged_under_its_lock():
    """E3: two locks for a command and two for its sense buffer, but for what is still held when the lane ends."""
    for result in results("reserve-tree"):
        assert 0 <= metric(result, "policy_locks") - 4 * (metric(result, "commands") - 1) <= 8


def test_pool_first_takes_a_lock_for_every_element():
    """D2c."""
    arrays = advance(0, build_lane(scenario("mempool-pool-first"), 0, 1), 15_000)
    paths = [MEMPOOL.from_allocator, MEMPOOL.from_pool, MEMPOOL.fail_atomic, MEMPOOL.would_sleep]
    assert arrays.mem.ctl[MEMCTL.locks] == arrays.pools.pool[:, paths].sum() > 10_000


# Two bios, two biovecs, four requests, two tables of each sg pool, and the host's command with its sense buffer.
POOLED = {"bio": 2, "biovec-1": 2, "blkdev_requests": 4} | {f"sgpool-{size}": 2 for size in (8, 16, 32, 64, 128)}


def idle_at_boot(name):
    """Bytes that lie idle before anything runs, as the lane sees them after 400 ms without pressure."""
    return metric(run(scenario(name).with_settings({"run.duration_s": 0.4}), 0), "reserve_idle_end")


def slots(name, caches):
    built = build_caches(scenario(name))
    return sum(count * built.caches[built.index_of(cache)].size for cache, count in caches.items())


def test_the_kernel_itself_holds_its_pools_and_the_free_list():
    assert idle_at_boot("rc8") == slots("rc8", POOLED | {"scsi_cmd_cache": 1, "scsi_sense_cache": 1})


@pytest.mark.parametrize(("name", "more"), [
    ("spare-pages", 4 * PAGE), ("spare-sense", 4 * PAGE), ("emergency-ideal", 4 * PAGE), ("emergency-v1", 0),
    ("emergency-v2", 0), ("rank", 0), ("sense-pool", 128),
])  # fmt: skip
def test_a_reserve_holds_what_it_sets_aside(name, more):
    """Caches that merge away set nothing aside: v1 and v2."""
    assert idle_at_boot(name) == idle_at_boot("rc8") + more


def test_emergency_pages_are_idle_while_they_are_free():
    pages = int(build_lane(scenario("emergency-reserve"), 0, 1).mem.zone[:, ZONE.emergency].sum())
    assert idle_at_boot("emergency-reserve") == idle_at_boot("rc8") + PAGE * pages
    assert 7 <= pages <= 8


def test_the_mean_is_over_time_however_often_the_series_is_written():
    often = BASE.with_settings({"run.series_ms": 50})
    assert metric(run(often, 1), "reserve_idle") == metric(results("rc8")[1], "reserve_idle")


def test_in_a_livelock_the_pools_elements_are_not_idle():
    """The mean is what the elements were at each look: both bios of the pool are in the queue that does not move."""
    lane = run(BASE.with_settings({"run.series_ms": 100}), livelocked_lane())
    slot = 128
    away = 2 - gauge(lane, "bio_pool").mean()
    assert away > 0.5
    assert metric(lane, "reserve_idle") <= idle_at_boot("rc8") - away * slot


def test_a_command_in_flight_is_not_idle():
    """H10 on a host of depth 1: its one command is in flight most of the time."""
    busy = metric(results("prealloc")[0], "busy_ms") / metric(results("prealloc")[0], "sim_ms")
    used = idle_at_boot("prealloc") - metric(results("prealloc")[0], "reserve_idle")
    assert used >= 0.9 * busy * slots("prealloc", {"scsi_cmd_cache": 1, "scsi_sense_cache": 1})

"""What Linux did later, in the closed loop: one test for each rule that has no other."""

import pytest

from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import build_lane
from fastalloc.errors import InputError
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub.slub import slab_alloc, slab_free
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
    ZONE,
)
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.state import ROLE
from fastalloc.linux import gfp as g
from tests.closed_loop.small import advance, image, metric
from tests.policies.test_closed_loop import BASE, results, scenario, total

TASKS = 1 + BASE.workload.copiers + BASE.workload.writers


def test_the_consolidated_command_rule_leaves_the_traces_of_the_fix():
    """C3: James Bottomley's consolidation cures the bug by accident: not one event differs."""
    for consolidated, fixed in zip(results("consolidated"), results("fix"), strict=True):
        assert image(consolidated) == image(fixed)


def test_a_bio_on_the_stack_needs_no_memory_and_keeps_one_page_in_flight_a_task():
    """H11."""
    for result in results("on-stack-bio"):
        assert result.ledger[:, :, [WHO.bio, WHO.biovec]].sum() == 0
        assert metric(result, "bio_fast_fail") == metric(result, "bio_waits") == 0
        assert metric(result, "max_writeback") <= TASKS
    assert total("on-stack-bio", "sense_fail") == 0
    # the price: with no queue of writes nothing merges, and the disk does one page a command
    assert total("on-stack-bio", "pages_swapped_out") < total("rc8", "pages_swapped_out") / 4


@pytest.mark.parametrize("allocator", ["slub", "cpu-partial"])
def test_a_pfmemalloc_slab_is_passed_over_on_slow_paths_alone(allocator):
    """H5: private objects go to anybody, those of the slab's own list and of the partial list to the entitled."""
    chosen = scenario("pfmemalloc").with_settings({"policy.allocator": allocator, "policy.slub_nomerge": True})
    arrays = build_lane(chosen, 0, 1)
    mem, heap = arrays.mem, arrays.heap
    c = int(arrays.vm.roles[ROLE.bio])

    def take(gfp, context):
        return int(slab_alloc(mem, heap, c, 0, -1, gfp, context))

    first = take(g.GFP_NOIO, 0)
    slab = first >> st.HANDLE_SHIFT
    heap.slab[slab, SLUB_SLAB.depth] = DEPTH.none
    held = [first]
    while heap.kcpu[c, 0, KMEM_CACHE_CPU.freelist] >= 0:
        held.append(take(g.GFP_NOIO, 0))
        assert held[-1] >> st.HANDLE_SHIFT == slab  # the fast path does not look
    slab_free(mem, heap, 1, held.pop())  # from the other CPU: onto the slab's own list
    slab_free(mem, heap, 1, held.pop())
    assert take(g.GFP_NOIO | g.NOMEMALLOC, g.PF_MEMALLOC) >> st.HANDLE_SHIFT != slab
    other = heap.kcpu[c, 0, KMEM_CACHE_CPU.page]
    while heap.kcpu[c, 0, KMEM_CACHE_CPU.freelist] >= 0:
        held.append(take(g.GFP_NOIO, 0))
    assert heap.slab[slab, SLUB_SLAB.partial] == 1
    assert take(g.GFP_ATOMIC, 0) >> st.HANDLE_SHIFT not in (slab, other)  # allocated, though the partial list has one
    while heap.kcpu[c, 0, KMEM_CACHE_CPU.freelist] >= 0:
        held.append(take(g.GFP_NOIO, 0))
    assert take(g.GFP_ATOMIC, g.PF_MEMALLOC) >> st.HANDLE_SHIFT == slab


def test_pfmemalloc_slabs_do_not_keep_the_atomic_page():
    """H5 protects what was allocated with no watermark: bios still take slots allocated at 3/8 of min."""
    taken = sum(result.ledger[:, DEPTH.atomic, WHO.bio].sum() for result in results("pfmemalloc"))
    assert taken > 0
    assert total("pfmemalloc", "livelock_5s") > 0


def test_more_reclaim_before_a_write_keeps_bios_from_asking_deep():
    """F6: fewer bios are refused, and no lane livelocks; every page put off was looked at for nothing."""
    assert total("write-gate", "writes_put_off") > 0
    assert total("write-gate", "bio_fast_fail") < total("rc8", "bio_fast_fail") / 10
    assert total("write-gate", "livelock_5s") < total("rc8", "livelock_5s")


def test_the_gate_opens_after_as_many_pages_as_it_may_put_off():
    """With a mark that nobody meets exactly one page in gate_pages + 1 is written, so the machine goes on."""
    arrays = build_lane(scenario("write-gate").with_settings({"policy.gate_pages": 3}), 0, 1)
    arrays.mem.zone[:, ZONE.low] = 1 << 20
    advance(0, arrays, 6000)
    metrics = arrays.out.metric
    put_off, written = (metrics[METRIC.names.index(name)] for name in ("writes_put_off", "pages_swapped_out"))
    assert written > 100
    assert 0 <= put_off - 3 * written <= 3 * TASKS


def test_the_reserve_tree_charges_what_is_in_flight():
    """E3: usage is what commands hold, and never reaches the limit; one charged too many is refused."""
    arrays = build_lane(scenario("reserve-tree").with_settings({"policy.reserve_commands": 1}), 0, 1)
    limit = arrays.mem.ctl[MEMCTL.charge_limit[WHO.sense]]
    assert limit == 2
    for until in range(500, 8000, 50):
        advance(0, arrays, until)
        usage = arrays.mem.ctl[MEMCTL.charge_usage[:]]
        assert 0 <= usage[WHO.sense] < limit
        assert 0 <= usage[WHO.command] < limit
        assert usage.sum() == usage[WHO.sense] + usage[WHO.command]
    assert arrays.mem.ctl[MEMCTL.charges_refused] > 0  # the next command is prepared while one is in flight
    assert total("reserve-tree", "charges_refused") == 0


def test_the_reserve_tree_asks_for_the_pages_of_its_nodes():
    """ceil(objects / objects a slab) and a slab a CPU, for commands (12 a page) and for sense buffers (32)."""
    asked = scenario("reserve-tree").with_settings({"policy.reserve_commands": 40})
    zones = build_lane(asked, 0, 1).mem.zone
    assert abs(zones[:, ZONE.emergency].sum() - (4 + 2 + 2 + 2)) <= 1  # rounded down in each zone


def test_since_scsi_mq_no_sense_buffer_is_asked_of_a_slab():
    for name in ("5.0", "6.1", "6.12", "6.18", "7.3"):
        assert total(name, "sense_fail") == 0
        taken = sum(result.ledger[:, :, WHO.sense].sum() for result in results(name))
        assert taken == 0


def test_every_cache_of_7_3_has_sheaves_and_they_are_kmalloced():
    """Capacity by slot; a main sheaf a CPU and a barn from the start, each an object of a kmalloc cache."""
    arrays = build_lane(scenario("7.3"), 0, 1)
    heap = arrays.heap
    cache = heap.cache[: heap.ctl[SLUB_CTL.nr_caches]]
    by_slot = [4 if size >= 4096 else 12 if size >= 1024 else 28 if size >= 256 else 60 for size in cache[:, 0]]
    assert cache[:, KMEM_CACHE.sheaf_capacity].tolist() == by_slot
    assert (heap.kcpu[: len(cache), :, KMEM_CACHE_CPU.main] >= 0).all()
    mains = heap.kcpu[: len(cache), :, KMEM_CACHE_CPU.main].ravel()
    memory = heap.ctl[mains + SHEAF.memory]
    owner = heap.slab[memory >> st.HANDLE_SHIFT, SLUB_SLAB.cache]
    assert len(set(memory.tolist())) == len(mains)
    assert set(cache[owner, KMEM_CACHE.size].tolist()) == {512, 256, 128, 64}
    assert (heap.knode[: len(cache), 0, KMEM_CACHE_NODE.barn] >= 0).all()


def test_sheaves_of_7_3_do_not_keep_caches_from_merging():
    merged = [build_layout(scenario(name)).roles.tolist() for name in ("6.12", "7.3")]
    assert [len(set(roles)) for roles in merged] == [len(set(merged[0]))] * 2


def test_who_refills_a_sheaf_is_a_rule_of_its_own():
    """7.0-rc1 let only callers who may wait refill; since rc3 GFP_ATOMIC does."""
    refilled = {}
    for refill in ("spinning", "blocking"):
        arrays = build_lane(scenario("7.3").with_settings({"policy.refill": refill}), 0, 1)
        c = int(arrays.vm.roles[ROLE.request])
        before = arrays.heap.kcpu[c, 0, KMEM_CACHE_CPU.sheaf_refill]
        while arrays.heap.ctl[arrays.heap.kcpu[c, 0, KMEM_CACHE_CPU.main] + SHEAF.size] > 0:
            assert slab_alloc(arrays.mem, arrays.heap, c, 0, -1, g.GFP_ATOMIC, 0) >= 0
        before = int(arrays.heap.kcpu[c, 0, KMEM_CACHE_CPU.sheaf_refill])
        assert slab_alloc(arrays.mem, arrays.heap, c, 0, -1, g.GFP_ATOMIC, 0) >= 0
        refilled[refill] = int(arrays.heap.kcpu[c, 0, KMEM_CACHE_CPU.sheaf_refill]) - before
    assert refilled == {"spinning": 28, "blocking": 0}


@pytest.mark.parametrize(("most", "capacity"), [(0, 0), (2, 8), (10, 0)])
def test_a_barn_keeps_as_many_full_sheaves_as_it_is_told(most, capacity):
    told = {"policy.max_full_sheaves": most, "policy.sheaf_capacity": capacity}
    arrays = build_lane(scenario("7.3").with_settings(told), 0, 1)
    heap, c = arrays.heap, int(arrays.vm.roles[ROLE.bio])
    of_sheaf = int(heap.cache[c, KMEM_CACHE.sheaf_capacity])
    assert of_sheaf == (capacity or 60)
    held = [int(slab_alloc(arrays.mem, heap, c, 0, -1, g.GFP_KERNEL, 0)) for _ in range(of_sheaf * (most + 6))]
    for handle in held:
        slab_free(arrays.mem, heap, 0, handle)
    assert heap.knode[c, 0, KMEM_CACHE_NODE.nr_full] == most


def test_the_knobs_of_7_3_mean_nothing_elsewhere():
    with pytest.raises(InputError, match=r"max_full_sheaves: a rule of allocator '7\.3'"):
        scenario("6.12").with_settings({"policy.max_full_sheaves": 3})

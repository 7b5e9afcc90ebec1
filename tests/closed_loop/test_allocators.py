"""The closed loop over SLAB, SLOB and the later eras of SLUB [policies.md, A1, A4, H1, H2, H4, H9].

One machine for all: the small one with cores of its own, 24 lanes of 15 s, seed 1. Where the swap path's caches lie
and who reached whose slots is read from the ledger, as on the board.
"""

import itertools
from functools import cache

import numpy as np
import pytest

from fastalloc.batch import result_of, run_lanes
from fastalloc.batch.heap import HEAPS, build_layout
from fastalloc.batch.lane import build_lane
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.kmem_inspect import cache_slabs, free_objects
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_SLAB
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slob.slob import SLOB_CACHE
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.state import DEPTH, KMEM_CACHE, KMEM_CACHE_CPU, SLUB_CTL, SLUB_SLAB
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.state import ROLE, VM
from fastalloc.kernels.workload.atomic_noise import OBJECTS
from fastalloc.linux import geometry_slab as gs
from fastalloc.linux import gfp as g
from fastalloc.linux.geometry_slub import CacheRequest
from tests.closed_loop.census import held, in_use
from tests.closed_loop.driver import Machine, take
from tests.closed_loop.small import OWN_CORES, advance, image, metric, preset, run, small

ALLOCATORS = ("slab", "slob", "cpu-partial", "sheaves")
LANES = range(24)
LENGTH = {"run.duration_s": 15.0, "run.series_ms": 1000}
SHORT_TREES = {"workload.tree_files": 60, "workload.writer_pages": 700, "workload.copiers": 40}
NOISY = {"workload.atomic_objects_per_s": 3000}
FIXED = {"policy.command_rule": "fix"}


def machine(allocator="slub", **policy):
    return small(
        "rc8", OWN_CORES | LENGTH | {"policy.allocator": allocator} | {f"policy.{k}": policy[k] for k in policy}
    )


@cache
def results(allocator):
    return list(run_lanes(machine(allocator), list(LANES), seed=1, threads=1))


def total(allocator, name):
    return sum(metric(result, name) for result in results(allocator))


def ledger(allocator):
    """Objects by who allocated their slab, at which depth, who took them."""
    return sum(result.ledger for result in results(allocator))


# ------------------------------------------------------------------------------------- nothing lost, nothing differs


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize(
    "settings", [{}, SHORT_TREES, NOISY, FIXED, {"machine.cpus": 4, "machine.min_free_kbytes": 0}, {"machine.cpus": 1}]
)
def test_every_object_in_use_has_its_holder(allocator, settings):
    scenario = machine(allocator).with_settings(settings | {"run.duration_s": 9.0})
    arrays = build_lane(scenario, 1, 1, debug=True)
    for seconds in (1, 3, 5, 7, 9):
        advance(1, arrays, 1000 * seconds)
        assert in_use(arrays).tolist() == held(arrays).tolist()


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_skipping_checking_and_slices_change_no_byte(allocator):
    """A slice ends on a pass of the reaper, and between two."""
    scenario = machine(allocator).with_settings({"run.duration_s": 6.0})
    whole = image(run(scenario, 2))
    assert image(run(scenario, 2, skip=False)) == whole
    assert image(run(scenario, 2, debug=True)) == whole
    arrays = build_lane(scenario, 2, 1)
    for milliseconds in (1000, 1012, 1012.000001, 2999.7, 3000, 6000):
        advance(2, arrays, milliseconds)
    assert image(result_of(2, arrays)) == whole


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize(("threads", "batch"), [(2, 1), (2, 3), (1, 5)])
def test_threads_and_batches_change_no_byte(allocator, threads, batch):
    short = machine(allocator).with_settings({"run.duration_s": 6.0})
    together = [image(result) for result in run_lanes(short, range(6), seed=1, threads=threads, batch=batch)]
    assert together == [image(run(short, lane)) for lane in range(6)]


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_allocators_draw_the_same_events(allocator):
    """Common random numbers: the first arrivals of noise and the first copies are those of SLUB."""
    scenario = machine(allocator).with_settings({"run.duration_s": 0.2})  # memory is full at 0.27 s
    ours, theirs = run(scenario, 5), run(machine().with_settings({"run.duration_s": 0.2}), 5)
    for name in ("noise_allocations", "pages_copied", "files_copied"):
        assert metric(ours, name) == metric(theirs, name) > 0


def test_lanes_of_all_allocators_differ():
    images = [image(results(allocator)[3])[0] for allocator in ("slub", *ALLOCATORS)]
    assert all(a != b for a, b in itertools.combinations(images, 2))


# ----------------------------------------------------------------------------------------------- claims of the thread


def test_slab_keeps_sense_buffers_for_sense_buffers():
    """A1: a cache of its own and up to 120 objects a CPU in hand: no bio takes a slot of a sense slab, none fails."""
    assert ledger("slab")[WHO.sense, :, WHO.bio].sum() == 0
    assert ledger("slab")[:, DEPTH.high :, WHO.bio].sum() == 0
    assert total("slab", "sense_fail") == total("slab", "livelock_5s") == 0
    assert total("slub", "livelock_5s") > 0
    assert total("slab", "bio_waits") > 0  # memory was as short


def test_slab_costs_memory():
    """What its arrays and private slabs hold: more memory in slabs for no use than merged SLUB, where both go on."""
    pairs = [
        (metric(ours, "slab_waste_kb"), metric(theirs, "slab_waste_kb"))
        for ours, theirs in zip(results("slab"), results("slub"), strict=True)
        if not metric(theirs, "livelock_5s")
    ]
    assert len(pairs) > 5
    assert sum(ours for ours, _ in pairs) > sum(theirs for _, theirs in pairs)
    assert np.median([ours / theirs for ours, theirs in pairs]) > 1


def test_slob_isolates_no_better_than_merged_slub():
    """A4: bios sit in pages that sense buffers and other GFP_ATOMIC users allocated; sense failures, livelocks."""
    assert ledger("slob")[WHO.sense, :, WHO.bio].sum() > 0
    assert ledger("slob")[:, DEPTH.high :, WHO.bio].sum() > 0
    assert total("slob", "sense_fail") >= total("slub", "sense_fail") > 0
    assert total("slob", "livelock_5s") >= total("slub", "livelock_5s") > 0


@pytest.mark.parametrize(
    ("allocator", "stranded"),
    [("slub", True), ("slab", True), ("slob", False)],
)
def test_slob_alone_strands_nothing_on_a_cpu(allocator, stranded):
    """CPU 1 takes one sense buffer; with no page to be had CPU 0 takes all it can reach: what is left is CPU 1's."""
    machine = Machine(policy__allocator=allocator)
    assert machine.call(take, ROLE.sense, 1, g.GFP_ATOMIC, 0, WHO.sense) >= 0
    machine.starve()
    assert machine.exhaust(ROLE.sense, 0) > 0
    assert (free_objects(machine.heap, machine.vm.roles[ROLE.sense]) > 0) == stranded


def test_slob_isolates_by_exact_size_alone():
    """On the April machine a hole of a 96-byte sense buffer holds no bio of 104 bytes; as large as a bio it does."""
    stuck = {}
    for size in (96, 104):
        april = preset("rc8", {"policy.allocator": "slob", "policy.sense_bytes": size, "run.duration_s": 20.0})
        stuck[size] = sum(metric(result, "livelock_5s") for result in run_lanes(april, range(12), seed=1, threads=1))
    assert stuck[104] >= stuck[96] + 3


@pytest.mark.parametrize("allocator", ["slub", *ALLOCATORS])
def test_every_object_that_moves_is_counted_fast_or_slow(allocator):
    """Twice the objects of the ledger, less those still out, with those that callers below the ledger take."""
    for result in results(allocator):
        fast, slow = metric(result, "slab_fast"), metric(result, "slab_slow")
        taken = int(result.ledger.sum())
        assert taken < fast + slow
        assert metric(result, "slab_waste_kb") < 4 * metric(result, "max_slab_pages")
        if allocator == "slob":
            assert (fast, slow) == (0, metric(result, "slab_locks"))
        else:
            assert 0 < metric(result, "slab_locks") < fast + slow


def test_batches_spare_the_lock():
    """Locks for each object moved: SLAB's batches and lists of a CPU below SLUB's lists, SLOB one each."""

    def locks(allocator):
        return total(allocator, "slab_locks") / (total(allocator, "slab_fast") + total(allocator, "slab_slow"))

    assert locks("slob") == 1
    assert locks("slab") < locks("slub")
    assert locks("cpu-partial") < locks("slub")


def test_where_slob_livelocks_no_hole_is_left():
    for result in results("slob"):
        if metric(result, "livelock_5s"):
            assert metric(result, "at_bio_free_slots") == 0
            assert metric(result, "at_bio_slabs") == -1  # pages are no cache's


def test_sheaves_keep_what_a_cache_got_back():
    """H9: caches with sheaves do not merge, so no bio sits in a slab that another cache allocated."""
    by_bios = ledger("sheaves")[:, :, WHO.bio].sum(axis=1)
    assert by_bios[WHO.bio] == by_bios.sum() - by_bios[WHO.boot]
    assert total("sheaves", "sense_fail") < total("slub", "sense_fail") / 1000  # where no slab is to be had either


def test_partial_lists_of_a_cpu_leave_more_slots_at_hand():
    """H4: bios share the slabs as before, but a CPU's own list of partial slabs holds slots for its next command."""
    assert ledger("cpu-partial")[WHO.noise, :, WHO.bio].sum() > 0
    assert total("cpu-partial", "sense_fail") < total("slub", "sense_fail")


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_the_fix_makes_progress_with_every_allocator(allocator):
    fixed = run_lanes(machine(allocator, command_rule="fix"), range(12), seed=1, threads=1)
    assert sum(metric(result, "livelock_5s") for result in fixed) == 0


# -------------------------------------------------------------------------------------------------- how they are set up


def test_slab_layouts_are_those_of_its_own_rules():
    layout = build_layout(machine("slab"))
    assert len({int(role) for role in layout.roles}) == len(layout.roles)  # nothing merges
    options = gs.SlabOptions(cache_line=64, cpus_node=2, cpus_possible=2)
    sense = layout.slabs[layout.roles[ROLE.sense]]
    assert sense == gs.slab_geometry(CacheRequest("scsi_sense_cache", 96, 0, sense.flags), options)
    assert (sense.num, sense.limit, sense.shared_limit) == (30, 120, 480)
    inode = layout.slabs[layout.roles[ROLE.inode]]
    assert inode.off_slab
    assert f"kmalloc-{inode.mgmt_cache}" in {slab.name for slab in layout.slabs}


def test_a_slab_remembers_who_allocated_it_not_who_allocated_its_management():
    """The management object of an off-slab cache may allocate a page of its own in between, at another depth."""
    arrays = advance(0, build_lane(machine("slab"), 0, 1), 4000)
    heap, roles = arrays.heap, arrays.vm.roles
    slabs = heap.slab[: heap.ctl[SLAB_CTL.slab_top]]
    slabs = slabs[slabs[:, SLAB_SLAB.pfn] >= 0]
    inodes = slabs[slabs[:, SLAB_SLAB.cache] == roles[ROLE.inode]]
    assert len(inodes) > 10
    assert (inodes[:, SLAB_SLAB.mgmt] >= 0).all()
    assert set(inodes[:, SLAB_SLAB.owner]) == {WHO.inode}
    owners = slabs[slabs[:, SLAB_SLAB.cache] == heap.cache[roles[ROLE.inode], SLAB_CACHE.mgmt_cache]]
    assert WHO.inode in set(owners[:, SLAB_SLAB.owner])


@pytest.mark.parametrize(("hz", "cpus"), [(250, 2), (1000, 2), (100, 4)])
def test_the_reaper_runs_every_two_seconds_on_each_cpu(hz, cpus):
    scenario = machine("slab").with_settings({"machine.hz": hz, "machine.cpus": cpus})
    arrays = build_lane(scenario, 0, 1)
    skew = 3 * 1000 // hz
    for seconds in (1, 3, 5):
        before = arrays.vm.ctl[VM.reaps]
        advance(0, arrays, 1000 * seconds)  # its first pass is due now
        assert arrays.vm.ctl[VM.reaps] == before
        for cpu in range(cpus):
            advance(0, arrays, 1000 * seconds + skew * cpu + 0.001)
            assert arrays.vm.ctl[VM.reaps] == before + cpu + 1


def test_the_reaper_gives_pages_back():
    """After a burst of atomic objects the arrays keep what came back, until the reaper has aged them pass by pass."""
    burst = {"workload.atomic_objects_per_s": 5000, "workload.atomic_object_ms": 100, "workload.writers": 0}
    scenario = machine("slab").with_settings(burst | {"workload.copiers": 1, "workload.tree_files": 20})
    arrays = advance(0, build_lane(scenario, 0, 1), 900)
    arrays.vm.ctl[VM.next_noise[OBJECTS]] = ms.NEVER
    advance(0, arrays, 1000)  # all are back, the reaper has not run
    heap, c = arrays.heap, arrays.vm.roles[ROLE.noise]
    slabs, kept = cache_slabs(heap, c), heap.queue[c, :, SLAB_ARRAY.avail].sum()
    assert kept > 200
    advance(0, arrays, 30_000)
    assert heap.queue[c, :, SLAB_ARRAY.avail].sum() < kept // 4
    assert cache_slabs(heap, c) < slabs
    assert heap.cache[c, SLAB_CACHE.reaped] > 0


def test_slob_knows_a_cache_by_size_and_alignment_alone():
    rows, roles, *_ = build_layout(machine("slob"))
    assert rows[roles[ROLE.noise], : SLOB_CACHE.ctor].tolist() == [136, 8]  # kmalloc(128) behind its header
    assert rows[roles[ROLE.bio], : SLOB_CACHE.ctor].tolist() == [104, 64]
    assert rows[roles[ROLE.sg128], SLOB_CACHE.size] == so.PAGE_BYTES  # whole pages


def test_the_caches_of_sheaves_are_their_own():
    rows, roles, *_ = build_layout(machine("sheaves"))
    path = np.delete(roles, ROLE.noise)
    assert len(set(path)) == len(path)
    assert (rows[path, KMEM_CACHE.era] == er.ERA_SHEAVES).all()
    assert rows[roles[ROLE.noise], KMEM_CACHE.era] == er.ERA_CPU_PARTIAL
    sheaf = rows[rows[path[0], KMEM_CACHE.sheaf_cache]]
    assert sheaf[KMEM_CACHE.size] == 512  # 32 pointers behind their header


@pytest.mark.parametrize(("layout", "objects"), [("2.6.25", (30, True)), ("3.2", (30, True)), ("6.1", (8, False))])
def test_how_much_a_partial_list_may_hold(layout, objects):
    """H4: 30 free objects of small ones; from 5.16 on 120, told in slabs half full."""
    rows, roles, *_ = build_layout(machine("cpu-partial", slub_layout=layout))
    assert (
        rows[roles[ROLE.bio], KMEM_CACHE.cpu_partial],
        rows[roles[ROLE.bio], KMEM_CACHE.cpu_partial_objects],
    ) == objects


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"allocator": "slab", "entitlement": "rank"}, "is modelled for allocator 'slub' alone"),
        ({"allocator": "slob", "entitlement": "pfmemalloc"}, "SLUB of any era alone"),
        ({"allocator": "slob", "spare_pages": 8}, "keeps none"),
        ({"allocator": "sheaves", "min_partial_on_free": True}, "tells nothing to allocator 'sheaves'"),
    ],
)
def test_what_an_allocator_cannot_do_is_refused(policy, message):
    with pytest.raises(InputError, match=message):
        machine(**policy)


# ----------------------------------------------------------------------------------------------- H1 and H2, of SLUB


def test_a_slab_of_the_smallest_order_is_taken_where_the_preferred_one_cannot_be_had():
    """H1: radix nodes want 2 pages; with memory in single pages they take one, of half the objects, and say so."""
    scenario = machine(slub_layout="2.6.26")
    rows, roles, *_ = build_layout(scenario)
    radix = roles[ROLE.radix]
    assert (rows[radix, KMEM_CACHE.order], rows[radix, KMEM_CACHE.min_order]) == (1, 0)
    assert rows[roles[ROLE.bio], KMEM_CACHE.order] == 0  # no change for 128 bytes
    arrays = advance(7, build_lane(scenario, 7, 1, debug=True), 12_000)
    heap = arrays.heap
    assert heap.kcpu[:, :, KMEM_CACHE_CPU.order_fallback].sum() > 0
    slabs = heap.slab[: heap.ctl[SLUB_CTL.slab_top]]
    small_ones = slabs[
        (slabs[:, SLUB_SLAB.pfn] >= 0)
        & (slabs[:, SLUB_SLAB.order] < heap.cache[slabs[:, SLUB_SLAB.cache], KMEM_CACHE.order])
    ]
    assert len(small_ones) > 0
    sizes = heap.cache[small_ones[:, SLUB_SLAB.cache], KMEM_CACHE.size]
    assert (small_ones[:, SLUB_SLAB.objects] == 4096 // sizes).all()
    assert cache_slabs(heap, radix) == (slabs[slabs[:, SLUB_SLAB.pfn] >= 0, SLUB_SLAB.cache] == radix).sum()
    assert in_use(arrays).tolist() == held(arrays).tolist()


def test_without_it_there_is_one_attempt():
    rows, *_ = build_layout(machine())
    assert (rows[:, KMEM_CACHE.min_order] == rows[:, KMEM_CACHE.order]).all()
    assert (rows[:, KMEM_CACHE.keep_empty] == 0).all()


def test_emptied_slabs_stay_while_few_are_partial():
    """H2: up to min_partial slabs of a cache may be empty; without the rule none is once its last object is freed."""
    empty = {}
    for keep in (False, True):
        arrays = build_lane(machine(min_partial_on_free=keep), 1, 1, debug=True)
        empty[keep] = 0
        for looked in range(1, 91):
            advance(1, arrays, 100 * looked)
            slabs = arrays.heap.slab[: arrays.heap.ctl[SLUB_CTL.slab_top]]
            idle = slabs[
                (slabs[:, SLUB_SLAB.pfn] >= 0) & (slabs[:, SLUB_SLAB.inuse] == 0) & (slabs[:, SLUB_SLAB.partial] == 1)
            ]
            counts = np.bincount(idle[:, SLUB_SLAB.cache], minlength=len(arrays.heap.cache))
            assert (counts <= arrays.heap.cache[:, KMEM_CACHE.min_partial]).all()
            empty[keep] += len(idle)
    assert empty[True] > empty[False]


def test_each_allocator_has_its_heap():
    built_in = {allocator: heap for allocator, heap in HEAPS.items() if allocator != "own"}
    assert {allocator: type(build_lane(machine(allocator), 0, 1).heap) for allocator in built_in} == built_in

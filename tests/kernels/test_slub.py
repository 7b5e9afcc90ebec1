"""Worked examples of SLUB as of 2.6.25-rc8: traces, lists, the theft of slots."""

import pytest

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import DEPTH, KMEM_CACHE_CPU, MEMCTL, SLUB_SLAB
from tests.kernels import snapshot
from tests.kernels.build import KMALLOC_128, KMALLOC_2048, cache, zone
from tests.kernels.pair import Pair
from tests.reference.page_alloc import PLAIN, RECLAIMER

PLENTY = [zone(1024)]
ATOMIC = 0x20


def slab_numbers(pair, objects):
    """Slabs by order of creation, 1, 2, ...: fresh pages come in address order."""
    return [pair.slub.slab[snapshot.split(held.handle)[0], SLUB_SLAB.pfn] + 1 for held in objects]


def partial_numbers(pair, c=0):
    return [pair.slub.slab[s, SLUB_SLAB.pfn] + 1 for s in snapshot.partial_list(pair.slub, c)]


def cpu_list(pair, cpu=0, c=0):
    """Number of the CPU's slab and the indices in its private list."""
    row = pair.slub.kcpu[c, cpu]
    s = row[KMEM_CACHE_CPU.page]
    return int(pair.slub.slab[s, SLUB_SLAB.pfn]) + 1, snapshot.free_objects(pair.slub, s, row[KMEM_CACHE_CPU.freelist])


def take(pair, count, cpu=0, c=0):
    return [pair.alloc(c, cpu) for _ in range(count)]


def expect(pair, c=0, **counters):
    total = snapshot.total_stats(pair.slub, c)
    assert {name: total[name] for name in counters} == counters
    pair.compare()


# ---------------------------------------------------------------------------------------------------- traces


def test_one_hundred_objects_then_all_freed():
    pair = Pair(PLENTY)
    objects = take(pair, 100)
    expect(pair, alloc_slab=4, alloc_fastpath=96, alloc_slowpath=4, deactivate_full=3, alloc_refill=3)
    assert slab_numbers(pair, objects) == [1] * 32 + [2] * 32 + [3] * 32 + [4] * 4
    assert partial_numbers(pair) == []
    assert cpu_list(pair) == (4, list(range(4, 32)))
    for held in objects:
        pair.give_back(held)
    expect(pair, free_slowpath=96, free_fastpath=4, free_add_partial=3, free_remove_partial=3, free_slab=3)
    assert partial_numbers(pair) == []  # nothing is parked: MIN_PARTIAL does not count here
    number, free = cpu_list(pair)
    assert (number, len(free)) == (4, 32)
    assert pair.free == 1023


def test_every_second_object_freed_then_sixty_more():
    pair = Pair(PLENTY)
    objects = take(pair, 100)
    for held in objects[::2]:
        pair.give_back(held)
    expect(pair, free_slowpath=48, free_fastpath=2)
    assert partial_numbers(pair) == [1, 2, 3]
    assert [pair.slub.slab[s, SLUB_SLAB.inuse] for s in snapshot.partial_list(pair.slub, 0)] == [16, 16, 16]
    number, free = cpu_list(pair)
    assert (number, len(free)) == (4, 30)
    more = take(pair, 60)
    assert slab_numbers(pair, more) == [4] * 30 + [1] * 16 + [2] * 14
    assert [snapshot.split(held.handle)[1] for held in more[30:46]] == list(range(30, -1, -2))
    assert partial_numbers(pair) == [3]
    number, free = cpu_list(pair)
    assert (number, len(free)) == (2, 2)
    expect(pair, alloc_slab=4, alloc_from_partial=2, alloc_fastpath=96 + 58, alloc_slowpath=6)


def test_one_cpu_frees_what_another_allocated():
    pair = Pair(PLENTY, cpus=2)
    for held in take(pair, 40):
        pair.give_back(held, cpu=1)
    expect(pair, free_slowpath=40, free_frozen=8, free_slab=1, free_add_partial=1, free_remove_partial=1)
    number, free = cpu_list(pair)
    assert (number, len(free)) == (2, 24)
    s = snapshot.live_slabs(pair.slub, 0)[0]
    assert len(snapshot.free_objects(pair.slub, s, pair.slub.slab[s, SLUB_SLAB.freelist])) == 8
    assert pair.slub.slab[s, SLUB_SLAB.inuse] == 24
    more = take(pair, 40)
    assert [snapshot.split(held.handle)[1] for held in more] == [*range(8, 32), *range(7, -1, -1), *range(8)]
    assert len(cpu_list(pair)[1]) == 24
    expect(pair, alloc_fastpath=76, alloc_slowpath=4, alloc_slab=3, free_slab=1, alloc_refill=3)


def test_a_slab_of_one_object_goes_from_full_to_given_back_without_being_partial():
    pair = Pair(PLENTY, [cache(8192, order=1)])
    first, _second, third = take(pair, 3)
    pair.give_back(first)
    expect(pair, free_slowpath=1, free_slab=1, free_add_partial=0, free_remove_partial=0)
    pair.give_back(third)
    expect(pair, free_fastpath=1)
    assert partial_numbers(pair) == []


# ------------------------------------------------------------------------------------------------ deactivation


@pytest.mark.parametrize(("others", "stays"), [(0, True), (4, True), (5, False), (6, False)])
def test_an_empty_cpu_slab_stays_while_fewer_than_five_are_partial(others, stays):
    pair = Pair(PLENTY, [cache(1024)])
    objects = take(pair, 4 * others + 4)
    for held in objects[: 4 * others : 4]:
        pair.give_back(held)
    for held in objects[-4:]:
        pair.give_back(held)
    assert len(partial_numbers(pair)) == others
    pair.flush()
    expect(pair, deactivate_empty=1, free_slab=0 if stays else 1, cpuslab_flush=1)
    assert len(partial_numbers(pair)) == others + stays
    if stays:
        assert partial_numbers(pair)[-1] == others + 1  # at the tail


def test_remotely_freed_slabs_go_to_the_tail_and_the_cpu_s_own_to_the_head():
    pair = Pair(PLENTY, cpus=2)
    first = take(pair, 32)
    pair.give_back(first[0], cpu=1)
    pair.flush()  # only remote frees: tail
    expect(pair, deactivate_to_tail=1, deactivate_remote_frees=1, deactivate_to_head=0)
    take(pair, 1)  # that slab again, full now
    take(pair, 3)  # a second slab
    pair.flush()  # 29 of its own: head
    expect(pair, deactivate_to_tail=1, deactivate_to_head=1)
    pair.give_back(first[1], cpu=1)
    assert partial_numbers(pair) == [2, 1]


def test_deactivation_turns_the_private_list_round():
    pair = Pair(PLENTY, [cache(512)])
    take(pair, 3)
    pair.flush()
    s = snapshot.partial_list(pair.slub, 0)[0]
    assert snapshot.free_objects(pair.slub, s, pair.slub.slab[s, SLUB_SLAB.freelist]) == [7, 6, 5, 4, 3]
    pair.compare()


def test_shrink_frees_the_empty_and_sorts_fullest_first_equals_reversed():
    pair = Pair(PLENTY, [cache(1024)])
    objects = take(pair, 20)
    slab = [objects[4 * n : 4 * n + 4] for n in range(5)]
    for n, count in enumerate([2, 1, 3, 1, 2]):  # left in use: 2, 3, 1, 3, 2
        for held in slab[n][:count]:
            pair.give_back(held)
    pair.shrink()
    assert partial_numbers(pair) == [4, 2, 1, 5, 3]
    pair.compare()
    for held in [*slab[4][2:]]:
        pair.give_back(held)
    assert partial_numbers(pair) == [4, 2, 1, 3]


# -------------------------------------------------------------------------------------------- masks and depths


def test_slots_of_another_cpu_are_out_of_reach():
    pair = Pair(PLENTY, cpus=2)
    take(pair, 1, cpu=1)
    pair.leave_free(0)
    assert len(cpu_list(pair, cpu=1)[1]) == 31
    assert pair.alloc(cpu=0, gfp=ATOMIC) is None
    assert pair.alloc(cpu=1, gfp=ATOMIC) is not None
    assert pair.mem.ctl[MEMCTL.report_gfp] == ATOMIC
    pair.compare()


def test_a_partial_slab_is_given_to_anybody():
    """The slab that a reclaimer allocated below every mark serves the least privileged mask."""
    pair = Pair([zone(256, 64)])
    pair.leave_free(1)
    assert pair.alloc(gfp=ATOMIC, task=RECLAIMER) is not None
    assert pair.slub.slab[0, SLUB_SLAB.depth] == DEPTH.none
    pair.flush()
    assert pair.free == 0
    assert pair.alloc(gfp=0x11210, task=PLAIN) is not None
    expect(pair, alloc_from_partial=1)


@pytest.mark.parametrize(
    ("size", "order", "gfp", "mode"),
    [(128, 0, 0x20, 0x20), (2048, 1, 0x20, 0x4020), (128, 0, 0x188120, 0x20), (2048, 1, 0x80020, 0x4020)],
)
def test_the_mask_that_is_reported_is_the_one_that_reached_the_page_allocator(size, order, gfp, mode):
    pair = Pair([zone(64, 16)], [cache(size, order=order)])
    pair.leave_free(0)
    assert pair.alloc(gfp=gfp) is None
    assert (pair.mem.ctl[MEMCTL.report_gfp], pair.mem.ctl[MEMCTL.report_order]) == (mode, order)
    pair.compare()


def fragmented(free_single_pages):
    """A zone whose free pages are all single."""
    pair = Pair([zone(256, 16)], [KMALLOC_2048])
    pair.leave_free(0)
    for n in reversed(range(0, 2 * free_single_pages, 2)):
        pair.free_pages(n)
    assert snapshot.free_area(pair.mem, 0)[0][1] == []
    return pair


def test_kmalloc_2048_falls_back_to_one_page():
    pair = fragmented(60)
    held = pair.alloc(gfp=ATOMIC)
    assert held.handle >= st.PAGE_HANDLE
    assert pair.free == 59
    assert pair.alloc(gfp=ATOMIC | 0x1000) is None  # not with NORETRY
    pair.give_back(held)
    assert pair.free == 60
    pair.compare()


def test_kmalloc_2048_does_not_fall_back_while_the_request_can_reclaim():
    pair = fragmented(60)
    assert pair.alloc(gfp=0xD0) is None
    assert pair.mem.ctl[MEMCTL.failed] == 0
    assert pair.alloc(gfp=0xD0, task=RECLAIMER).handle >= st.PAGE_HANDLE
    pair.compare()


# ------------------------------------------------------------------------------------------------ stolen slots

# k bios first: bios served and further senses, merged and unmerged
STEALING = [
    (0, (0, 31), (0, 31)),
    (10, (10, 21), (0, 31)),
    (30, (30, 1), (0, 31)),
    (31, (31, 0), (0, 31)),
    (100, (31, 0), (0, 31)),
]


@pytest.mark.parametrize(("bios", "merged", "unmerged"), STEALING)
def test_steal_counts(bios, merged, unmerged):
    """One atomic page for one sense buffer, then no page for anybody: k bios, then senses until one fails."""
    for caches, bio_cache, expected in (([KMALLOC_128], 0, merged), ([KMALLOC_128, KMALLOC_128], 1, unmerged)):
        pair = Pair([zone(256, 64)], caches, pools=[(bio_cache, 0)])
        pair.leave_free(25)  # 3/8 of 64 is 24: one page for GFP_ATOMIC
        assert pair.alloc(0, gfp=ATOMIC) is not None
        served = sum(pair.pool_alloc(0, gfp=0x10, task=RECLAIMER) is not None for _ in range(bios))
        senses = 0
        while pair.alloc(0, gfp=ATOMIC) is not None:
            senses += 1
        assert (served, senses) == expected
        pair.compare()

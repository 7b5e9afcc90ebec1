"""Grouping by mobility: worked examples read in mm/page_alloc.c of 2.6.25-rc8, and walks beside the reference."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fastalloc.kernels.alloc.buddy import rmqueue
from fastalloc.kernels.alloc.page_alloc import setup_zone_migrate_reserve
from fastalloc.kernels.alloc.state import MIGRATE, ZONE
from fastalloc.linux import gfp as g
from tests.kernels import snapshot
from tests.kernels.build import zone
from tests.kernels.pair import Pair

KERNEL, RECLAIMABLE, PAGECACHE = g.GFP_KERNEL, g.GFP_KERNEL | g.RECLAIMABLE, g.GFP_HIGHUSER_PAGECACHE
UNMOVABLE, RECLAIM, MOVABLE, RESERVE = range(4)


def machine(present=64, order=4, **more):
    """One zone of pageblocks of 16 pages."""
    return Pair([zone(present, pageblock_order=order, **more)])


def take(pair, gfp, order=0):
    assert pair.alloc_pages(gfp, order) == "A"
    pair.compare()
    return pair.blocks[-1][0]


def give(pair, pfn):
    pair.free_pages(next(n for n, block in enumerate(pair.blocks) if block[0] == pfn))
    pair.compare()


def types(pair):
    return pair.mem.block[0, : pair.real_pages.zones[0].present >> 4].tolist()


def test_the_order_of_types_is_that_of_the_kernel():
    assert (MIGRATE.unmovable, MIGRATE.reclaimable, MIGRATE.movable, MIGRATE.reserve) == (0, 1, 2, 3)


@pytest.mark.parametrize(("pages_min", "reserve"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_pageblocks_that_hold_pages_min_are_kept_at_the_start(pages_min, reserve):
    pair = machine(pages_min=pages_min)
    assert types(pair) == [RESERVE] * reserve + [MOVABLE] * (4 - reserve)
    pair.compare()


def set_aside(pair, pages_min):
    pair.mem.zone[0, ZONE.min] = pages_min
    setup_zone_migrate_reserve(pair.mem, 0)
    pair.real_pages.zones[0].set_aside(pages_min)
    pair.compare_pages()


def test_a_changed_mark_changes_the_reserve():
    """Pageblocks that somebody has taken over are passed by, what was reserve and is not needed goes back."""
    pair = machine(present=96, pages_min=1)
    assert types(pair) == [RESERVE, MOVABLE, MOVABLE, MOVABLE, MOVABLE, MOVABLE]
    taken = take(pair, KERNEL) >> 4
    assert types(pair)[taken] == UNMOVABLE
    set_aside(pair, 33)
    assert types(pair).count(RESERVE) == 3
    assert types(pair)[taken] == UNMOVABLE
    assert sum(map(len, snapshot.free_area(pair.mem, 0)[RESERVE])) > 0
    set_aside(pair, 0)
    assert types(pair).count(RESERVE) == 0
    assert not any(snapshot.free_area(pair.mem, 0)[RESERVE])


def test_a_kernel_page_takes_a_whole_pageblock_over():
    """The largest free block is one of movable pages and goes to the kernel's lists whole; the pageblock is noted so.
    The next page of a task takes the other pageblock of that block back."""
    pair = machine(present=32)
    assert take(pair, KERNEL) == 0
    assert types(pair) == [UNMOVABLE, MOVABLE]
    assert not any(snapshot.free_area(pair.mem, 0)[MOVABLE])
    assert take(pair, PAGECACHE) == 16
    assert types(pair) == [UNMOVABLE, MOVABLE]
    assert take(pair, KERNEL) == 1


def test_pages_of_tasks_stand_beside_each_other_whatever_the_kernel_takes_between():
    pair = machine(batch=4, pcp_high=24)
    frames = []
    for turn in range(12):
        frames.append(take(pair, PAGECACHE))
        take(pair, KERNEL if turn % 2 else RECLAIMABLE)
    assert all(b == a + 1 for a, b in itertools.pairwise(frames))


def test_a_reclaimable_page_moves_a_pageblock_s_free_pages_however_small_the_block():
    pair = machine(present=16)
    pair.mem.block[0, 0] = pair.real_pages.zones[0].migrate_types[0] = UNMOVABLE
    kernel = [take(pair, KERNEL) for _ in range(13)]  # three are left: orders 0 and 1
    take(pair, RECLAIMABLE)
    lists = snapshot.free_area(pair.mem, 0)
    assert not any(lists[UNMOVABLE])
    assert sum(len(blocks) << order for order, blocks in enumerate(lists[RECLAIM])) == 2
    assert types(pair) == [UNMOVABLE]  # less than half of it was free
    give(pair, kernel[0])  # back to the list of its pageblock's type
    assert sum(map(len, snapshot.free_area(pair.mem, 0)[UNMOVABLE])) == 1


def test_the_reserve_is_taken_last():
    """A block of two pageblocks stands with its first one."""
    pair = machine(present=48, pages_min=1, pages_low=0, pages_high=1)
    taken = [rmqueue(pair.mem, 0, 0, MIGRATE.movable) for _ in range(48)]
    assert taken == [*range(32, 48), *range(32)]


def test_where_no_page_of_the_type_is_left_the_first_on_the_list_is_taken():
    """rmqueue_bulk added none; the list's head goes, whomever it was filled for."""
    pair = machine(present=16, batch=16, pcp_high=96)
    take(pair, PAGECACHE)
    assert pair.free == 0
    pair.mem.zone[0, :3] = 0
    assert rmqueue(pair.mem, 0, 0, MIGRATE.unmovable) == -1


STEP = some.tuples(
    some.sampled_from([KERNEL, RECLAIMABLE, PAGECACHE, PAGECACHE, g.GFP_ATOMIC, None, "marks"]),
    some.integers(0, 3),
    some.integers(0, 10_000),
)


@settings(max_examples=150, deadline=None)
@given(
    some.lists(STEP, max_size=120),
    some.sampled_from([1, 2, 4, 6]),
    some.sampled_from([48, 100, 160]),
    some.sampled_from([(1, 0), (4, 16), (7, 42)]),
    some.sampled_from([0, 5, 20]),
)
def test_random_walks_match_the_reference(steps, order, present, lists, pages_min):
    pair = Pair([zone(present, pages_min, batch=lists[0], pcp_high=lists[1], pageblock_order=order)], cpus=2)
    for gfp, size, which in steps:
        if gfp == "marks":
            set_aside(pair, which % 40)
        elif gfp is None:
            if pair.blocks:
                pair.free_pages(which % len(pair.blocks), cpu=which % 2)
        else:
            pair.alloc_pages(gfp, size if which % 3 == 0 else 0, cpu=which % 2)
        pair.compare_pages()

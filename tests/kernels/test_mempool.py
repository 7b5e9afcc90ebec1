"""mempool of 2.6.25: the masks of its tries, its reserve, and who gets the page at which free count."""

import pytest

from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import DEPTH, KMEM_CACHE_CPU, MEMCTL, SLUB_SLAB, ZONE
from tests.kernels.build import KMALLOC_128, zone
from tests.kernels.pair import Pair
from tests.reference.page_alloc import PLAIN, RECLAIMER

NOIO, ATOMIC = 0x10, 0x20


def exhausted(free, reserve=2, cpus=1, batch=1, pcp_high=0):
    """64 MB in one zone (marks 256, 320, 384) with ``free`` pages free and no free slot in kmalloc-128."""
    pair = Pair([zone(512, 256, batch=batch, pcp_high=pcp_high)], [KMALLOC_128], cpus, pools=[(0, reserve)])
    while pair.slub.kcpu[0, 0, KMEM_CACHE_CPU.freelist] >= 0:
        pair.alloc()
    pair.leave_free(free)
    return pair


@pytest.mark.parametrize(
    ("asked", "first", "later"),
    [(0x10, 0x11200, 0x11210), (0x50, 0x11200, 0x11250), (0xD0, 0x11280, 0x112D0), (0x20, 0x11220, 0x11220)],
)
def test_masks(asked, first, later):
    assert mp.first_try_mask(asked, mp.RULE_2_6_25) == first
    for first_try, mask in ((True, first), (False, later)):
        # NOWARN hides the mask from reports: the mark it gets tells it
        for free, granted in ((97, mask & 0x30 == 0x20), (193, mask & 0x10 == 0), (257, True)):
            pair = exhausted(free, reserve=0)
            assert (pair.pool_alloc(gfp=asked, task=RECLAIMER, first=first_try) is not None) == granted
            pair.compare()


# free pages; then the attempt that gives the page to: a bio's first try (any task), its later tries in a reclaimer,
# a sense buffer by kblockd, the same by a reclaimer. "-" is a failure.
DECISIONS = [
    (400, "A", "A", "A", "A"),
    (321, "A", "A", "A", "A"),
    (320, "B", "B", "B", "B"),
    (257, "B", "B", "B", "B"),
    (256, "B", "-", "B", "B"),
    (193, "B", "-", "B", "B"),
    (192, "-", "-", "B", "B"),
    (97, "-", "-", "B", "B"),
    (96, "-", "-", "-", "C"),
    (1, "-", "-", "-", "C"),
    (0, "-", "-", "-", "-"),
]
ATTEMPT = {DEPTH.low: "A", DEPTH.none: "C"}


@pytest.mark.parametrize(("free", "bio_first", "bio_later", "sense", "sense_reclaimer"), DECISIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_decision_trace(free, bio_first, bio_later, sense, sense_reclaimer, batch):
    def attempt(pair, held):
        if held is None:
            return "-"
        s = held.handle >> st.HANDLE_SHIFT
        return ATTEMPT.get(int(pair.slub.slab[s, SLUB_SLAB.depth]), "B")

    def at(free):
        pair = exhausted(free, reserve=0)
        pair.mem.zone[0, ZONE.batch] = pair.real_pages.zones[0].batch = batch
        pair.mem.zone[0, ZONE.pcp_high] = pair.real_pages.zones[0].pcp_high = 6 * batch
        return pair

    for task in (PLAIN, RECLAIMER):
        pair = at(free)
        assert attempt(pair, pair.pool_alloc(gfp=NOIO, task=task, first=True)) == bio_first
        assert pair.mem.ctl[MEMCTL.reports] == 0
        assert pair.mem.ctl[MEMCTL.kswapd_wanted] == (free <= 320)
    pair = at(free)
    assert attempt(pair, pair.pool_alloc(gfp=NOIO, task=RECLAIMER, first=False)) == bio_later
    assert pair.mem.ctl[MEMCTL.reports] == 0
    for task, expected in ((PLAIN, sense), (RECLAIMER, sense_reclaimer)):
        pair = at(free)
        assert attempt(pair, pair.alloc(gfp=ATOMIC, task=task)) == expected
        assert pair.mem.ctl[MEMCTL.reports] == (expected == "-")
        if expected == "-":
            assert pair.mem.ctl[MEMCTL.report_gfp] == ATOMIC
        pair.compare()


def test_the_first_try_is_more_privileged_than_the_later_ones():
    """A bio that sleeps loses the page it would have got: at 200 free its first try passes, every later one fails."""
    pair = exhausted(200, reserve=0)
    assert pair.pool_alloc(task=RECLAIMER, first=False) is None
    assert pair.mempools.pool[0, MEMPOOL.would_sleep] == 1
    assert pair.pool_alloc(task=RECLAIMER, first=True) is not None
    assert pair.free == 199
    pair.compare()


def test_the_reserve_comes_second_and_is_a_stack():
    pair = exhausted(193)
    assert pair.pool_alloc(task=RECLAIMER) is not None  # a page, though two elements are in reserve
    assert pair.mempools.pool[0, MEMPOOL.curr] == 2
    for _ in range(31):
        pair.pool_alloc(task=RECLAIMER)
    assert pair.mempools.pool[0, MEMPOOL.from_allocator] == 32
    elements = pair.mempools.element[0].tolist()
    taken = [pair.pool_alloc(task=RECLAIMER).handle for _ in range(2)]
    assert taken == elements[::-1]
    assert pair.pool_alloc(task=RECLAIMER) is None
    assert pair.mempools.pool[0, [MEMPOOL.from_pool, MEMPOOL.would_sleep, MEMPOOL.fail_atomic]].tolist() == [2, 1, 0]
    assert pair.pool_alloc(gfp=ATOMIC) is not None  # 3/8 of min still has pages for this mask
    pair.leave_free(0)
    pair.compare()


def test_without_wait_an_empty_pool_refuses():
    pair = exhausted(0, reserve=0)
    assert pair.pool_alloc(gfp=ATOMIC) is None
    assert pair.mempools.pool[0, [MEMPOOL.would_sleep, MEMPOOL.fail_atomic]].tolist() == [0, 1]
    pair.compare()


def test_a_freed_element_refills_the_pool_before_the_slab():
    """Two bios end while the pool is empty: the sense buffer that needs a slot gets neither."""
    pair = exhausted(0)
    first, second, third = pair.objects[0], pair.pool_alloc(), pair.pool_alloc()
    assert pair.mempools.pool[0, MEMPOOL.curr] == 0
    for level, held in enumerate((first, second), 1):
        assert pair.pool_free(0, held)  # wakes the waiters
        assert pair.mempools.pool[0, MEMPOOL.curr] == level
        assert pair.alloc(gfp=ATOMIC) is None
        pair.compare()
    assert not pair.pool_free(0, third)  # full: to the slab, and nobody is woken
    assert pair.mempools.pool[0, [MEMPOOL.free_to_pool, MEMPOOL.free_to_allocator]].tolist() == [2, 1]
    assert pair.alloc(gfp=ATOMIC).handle == third.handle
    pair.compare()


def test_a_slot_freed_to_the_slab_serves_a_waiter_before_the_reserve_does():
    pair = exhausted(0)
    somebody = pair.objects[0]
    assert [pair.pool_alloc(task=RECLAIMER) is None for _ in range(3)] == [False, False, True]
    pair.give_back(somebody)  # kfree of something else: wakes nobody, but the next try finds it
    assert pair.mempools.pool[0, MEMPOOL.curr] == 0
    assert pair.pool_alloc(task=RECLAIMER, first=False).handle == somebody.handle
    pair.compare()

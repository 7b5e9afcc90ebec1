"""Worked examples of the page allocator of 2.6.25: marks, decisions, buddy, per-CPU lists, rate limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fastalloc.kernels.alloc import page_alloc
from fastalloc.kernels.alloc.buddy import drain_all_pages, rmqueue
from fastalloc.kernels.alloc.printk import printk_ratelimit
from fastalloc.kernels.alloc.state import AREA, DEPTH, MEMCTL, MIGRATE, ZONE
from fastalloc.linux.watermarks import calculate_threshold
from tests.kernels import snapshot
from tests.kernels.build import leave_free, make_mem, zone
from tests.kernels.pair import Pair, context_of
from tests.reference import page_alloc as ref
from tests.reference.page_alloc import PLAIN, RECLAIMER, SOFTIRQ, PageAllocator, Task, Zone

REALTIME = Task(realtime=True)

# ------------------------------------------------------------------------------------------------ watermarks

# min of one zone of 16 MB .. 256 GB; the levels of HIGH, HARDER and both
LEVELS = [
    (128, 64, 96, 48),
    (181, 91, 136, 69),
    (256, 128, 192, 96),
    (362, 181, 272, 136),
    (512, 256, 384, 192),
    (724, 362, 543, 272),
    (1024, 512, 768, 384),
    (1448, 724, 1086, 543),
    (2896, 1448, 2172, 1086),
    (16384, 8192, 12288, 6144),
]


@pytest.mark.parametrize(("pages_min", "half", "three_quarters", "three_eighths"), LEVELS)
def test_levels(pages_min, half, three_quarters, three_eighths):
    level = page_alloc.zone_watermark
    assert level(pages_min, False, False) == pages_min
    assert level(pages_min, True, False) == half
    assert level(pages_min, False, True) == three_quarters
    assert level(pages_min, True, True) == three_eighths


# free, order, mark, HIGH, HARDER, lowmem_reserve, nr_free by order, passes
CASES = [
    (257, 0, 256, 0, 0, 0, [], True),
    (256, 0, 256, 0, 0, 0, [], False),
    (129, 0, 256, 1, 0, 0, [], True),
    (128, 0, 256, 1, 0, 0, [], False),
    (193, 0, 256, 0, 1, 0, [], True),
    (192, 0, 256, 0, 1, 0, [], False),
    (97, 0, 256, 1, 1, 0, [], True),
    (96, 0, 256, 1, 1, 0, [], False),
    (300, 1, 256, 0, 0, 0, [100], True),
    (300, 1, 256, 0, 0, 0, [180], False),
    (300, 3, 256, 0, 0, 0, [40, 30, 20], True),
    (300, 3, 256, 0, 0, 0, [100, 60, 20], False),
    (100, 3, 256, 1, 1, 0, [10, 10, 5], False),
    (500, 0, 256, 0, 0, 300, [], False),
    (556, 0, 256, 0, 0, 300, [], False),
    (557, 0, 256, 0, 0, 300, [], True),
    (258, 1, 256, 0, 0, 0, [0], True),
    (257, 1, 256, 0, 0, 0, [0], False),
]


def kernel_watermark_ok(free, order, mark, high, harder, reserve, nr_free):
    mem = make_mem([zone(1, reserve=(reserve,))])
    mem.zone[0, ZONE.free] = free
    mem.area[0, :, :, AREA.nr] = 0
    mem.area[0, MIGRATE.movable, : len(nr_free), AREA.nr] = nr_free
    return bool(page_alloc.zone_watermark_ok(mem, 0, order, mark, 0, bool(high), bool(harder)))


@pytest.mark.parametrize(("free", "order", "mark", "high", "harder", "reserve", "nr_free", "passes"), CASES)
def test_zone_watermark_ok(free, order, mark, high, harder, reserve, nr_free, passes):
    assert kernel_watermark_ok(free, order, mark, high, harder, reserve, nr_free) == passes
    assert ref.zone_watermark_ok(free, order, mark, high, harder, reserve, nr_free) == passes


@settings(max_examples=300)
@given(
    some.integers(0, 2000),
    some.integers(0, 5),
    some.integers(0, 1000),
    some.booleans(),
    some.booleans(),
    some.integers(0, 300),
    some.lists(some.integers(0, 60), min_size=5, max_size=5),
)
def test_zone_watermark_ok_is_the_reference_s(free, order, mark, high, harder, reserve, nr_free):
    case = (free, order, mark, high, harder, reserve, nr_free)
    assert kernel_watermark_ok(*case) == ref.zone_watermark_ok(*case)


# ------------------------------------------------------------------------------------------------- decisions


def one_zone(free, pages_min=256, batch=1, pcp_high=0, present=1024):
    pair = Pair([zone(present, pages_min, batch=batch, pcp_high=pcp_high)])
    pair.leave_free(free)
    return pair


# free, order, mask, task, how it ends without any reclaim, whether a failure is printed
DECISIONS = [
    (321, 0, 0xD0, PLAIN, "A", False),
    (321, 0, 0x20, PLAIN, "A", False),
    (321, 0, 0x11200, RECLAIMER, "A", False),
    (320, 0, 0xD0, PLAIN, "B", False),
    (257, 0, 0xD0, PLAIN, "B", False),
    (256, 0, 0xD0, PLAIN, "reclaim", False),
    (200, 0, 0x10, PLAIN, "reclaim", False),
    (97, 0, 0x20, PLAIN, "B", False),
    (96, 0, 0x20, PLAIN, "fail", True),
    (96, 0, 0x20, RECLAIMER, "C", False),
    (96, 0, 0x20, SOFTIRQ, "fail", True),
    (0, 0, 0x20, RECLAIMER, "fail", True),
    (193, 0, 0x11200, RECLAIMER, "B", False),
    (192, 0, 0x11200, RECLAIMER, "fail", False),
    (192, 0, 0x11200, PLAIN, "fail", False),
    (257, 0, 0x11210, RECLAIMER, "B", False),
    (200, 0, 0x11210, RECLAIMER, "fail", False),
    (200, 0, 0x11210, PLAIN, "reclaim", False),
    (97, 0, 0x10220, RECLAIMER, "B", False),
    (96, 0, 0x10220, RECLAIMER, "fail", False),
    (1, 0, 0xD0, RECLAIMER, "C", False),
    (0, 0, 0xD0, RECLAIMER, "fail", True),
    (0, 0, 0x8D0, RECLAIMER, "for ever", False),
    (200, 0, 0x10D0, PLAIN, "reclaim", False),
    (200, 4, 0xD0, PLAIN, "reclaim", False),
]


@pytest.mark.parametrize(("batch", "pcp_high"), [(1, 0), (3, 18)])
@pytest.mark.parametrize(("free", "order", "gfp", "task", "end", "printed"), DECISIONS)
def test_decisions_before_reclaim(free, order, gfp, task, end, printed, batch, pcp_high):
    pair = Pair([zone(1024, 256, batch=batch, pcp_high=pcp_high)])
    while pair.free > free:  # whole blocks, so that nothing stays on the CPU's list and the count is exact
        order_taken = min((pair.free - free).bit_length() - 1, 10)
        pfn = rmqueue(pair.mem, 0, order_taken, MIGRATE.unmovable)
        assert pfn == pair.real_pages.zones[0].take_block(order_taken)
        pair.blocks.append((pfn, order_taken))
    assert pair.free == free
    assert pair.alloc_pages(gfp, order, task=task) == end
    assert pair.mem.ctl[MEMCTL.reports] == printed
    if printed:
        assert (pair.mem.ctl[MEMCTL.report_gfp], pair.mem.ctl[MEMCTL.report_order]) == (gfp, order)
        assert pair.real_pages.reports == [(0, gfp, order)]
    assert pair.mem.ctl[MEMCTL.kswapd_wanted] == (0 if end == "A" else 1 + order)
    pair.compare()


# CPUs, pages present, pages that a CPU counts for itself [calculate_threshold]: the clean runs' DMA32 of 512 MB on one
# CPU and two; less than 128 MB; each doubling of CPUs and of the zone more; never more than a signed byte takes
THRESHOLDS = [
    (1, 125240, 6),
    (2, 125240, 12),
    (3, 125240, 12),
    (4, 125240, 18),
    (1, 4096, 2),
    (1, 32767, 2),
    (1, 32768, 4),
    (1, 65536, 6),
    (64, 1 << 22, 125),
    (16, 1 << 22, 90),
]


@pytest.mark.parametrize(("cpus", "present", "threshold"), THRESHOLDS)
def test_what_a_cpu_counts_for_itself(cpus, present, threshold):
    assert calculate_threshold(cpus, present) == threshold


def test_a_zone_is_told_of_pages_once_a_cpu_has_too_many():
    """Each of two CPUs may hold six back: until it enters them a request sees neither what was freed nor what was
    taken."""
    pair = Pair([zone(1024, 256, stat_threshold=6)], cpus=2)
    pair.leave_free(258)
    for cpu in range(2):
        pair.refresh_cpu_vm_stats(cpu)
    seen = lambda: snapshot.page_state(pair.mem, 0)  # noqa: E731
    assert (pair.free, seen()) == (258, 258)
    assert pair.alloc_pages(0xD0) == "B"
    assert pair.alloc_pages(0xD0, cpu=1) == "B"  # 256 are left, which is min; 258 are seen
    assert pair.alloc_pages(0xD0) == "B"
    assert (pair.free, seen()) == (255, 258)
    pair.refresh_cpu_vm_stats(1)
    assert seen() == 257  # one above min: the last that passes
    assert pair.alloc_pages(0xD0, cpu=1) == "B"
    pair.refresh_cpu_vm_stats(1)
    assert (pair.free, seen()) == (254, 256)
    assert pair.alloc_pages(0xD0, cpu=1) == "reclaim"
    for _ in range(6):
        pair.free_pages(-1)
    assert (pair.free, seen()) == (260, 256)  # 2 were taken on CPU 0, 6 freed: 4 that it holds back
    assert pair.alloc_pages(0xD0) == "reclaim"
    for _ in range(3):
        pair.free_pages(-1)
    assert (pair.free, seen()) == (263, 263)  # the seventh is one too many
    assert pair.alloc_pages(0xD0) == "B"
    pair.compare()


def test_a_zone_that_would_have_fewer_than_none_has_none():
    pair = Pair([zone(1024, 0, stat_threshold=6)], cpus=2)
    pair.leave_free(3)
    for cpu in range(2):
        pair.refresh_cpu_vm_stats(cpu)
    for _ in range(2):
        pair.free_pages(-1, cpu=0)
    for _ in range(5):
        assert pair.alloc_pages(0xD0, task=RECLAIMER, cpu=1) == "A"  # three are seen
    pair.refresh_cpu_vm_stats(1)
    assert (pair.free, snapshot.page_state(pair.mem, 0)) == (0, 0)  # -2, with 2 on CPU 0
    pair.compare()


# The same with direct reclaim: free, order, mask, [(pages freed, progress)], end, OOM kills, naps of 20 ms, printed
WITH_RECLAIM = [
    (256, 0, 0xD0, [(32, 1)], "D", 0, 0, False),
    (200, 0, 0xD0, [(32, 1), (32, 1)], "D", 0, 1, False),
    (200, 0, 0xD0, [(0, 0), (121, 1)], "D", 1, 0, False),
    (200, 0, 0xD0, [(500, 0)], "E", 0, 0, False),
    (200, 0, 0x10, [(0, 0), (0, 0), (100, 1)], "D", 0, 2, False),
    (200, 0, 0x10, [(100, 0), (0, 0), (0, 1)], "D", 0, 2, False),  # no look at the lists while progress is 0
    (200, 0, 0x11210, [(32, 1)], "fail", 0, 0, False),
    (230, 0, 0x11210, [(32, 1)], "D", 0, 0, False),
    (200, 0, 0x11210, [(0, 0)], "fail", 0, 0, False),
    (200, 0, 0x11210, [(57, 1)], "D", 0, 0, False),
    (200, 0, 0x10D0, [(0, 0)], "fail", 0, 0, True),
    (200, 4, 0xD0, [(0, 0)], "fail", 0, 0, True),
    (200, 4, 0xD0, [(32, 1)], "fail", 0, 0, True),
    (200, 4, 0x4D0, [(32, 1), (32, 1), (300, 1)], "D", 0, 2, False),
    (200, 4, 0x8D0, [(32, 1), (32, 1), (300, 1)], "D", 0, 2, False),
]


@pytest.mark.parametrize(("free", "order", "gfp", "script", "end", "kills", "naps", "printed"), WITH_RECLAIM)
def test_decisions_with_reclaim_in_the_reference(free, order, gfp, script, end, kills, naps, printed):
    pages = PageAllocator([Zone(0, 2048, 256, 320, 384)], cpus=1)
    taken = [pages.zones[0].take_block(0) for _ in range(2048 - free)]
    rounds = iter(script)

    def reclaim():
        freed, progress = next(rounds)
        for _ in range(freed):
            pages.free_pages(0, taken.pop(), 0)
        return bool(progress)

    assert pages.alloc_pages(0, gfp, order, PLAIN, reclaim).attempt == end
    assert next(rounds, None) is None
    assert (pages.oom_kills, pages.naps) == (kills, naps)
    assert [mask for _, mask, _ in pages.reports] == [gfp] * printed


# mask: smallest free count that gives an order-0 page to a plain task, a reclaimer, a reclaimer in an interrupt
SMALLEST = {
    0xD0: (257, 1, 257),
    0x10: (257, 1, 257),
    0x0: (193, 1, 193),
    0x30: (129, 1, 129),
    0x20: (97, 1, 97),
    0x11200: (193, 193, 193),
    0x11210: (257, 257, 257),
    0x11220: (97, 97, 97),
    0x10220: (97, 97, 97),
}


@pytest.mark.parametrize("gfp", SMALLEST)
@pytest.mark.parametrize("column", [0, 1, 2])
def test_smallest_free_count(gfp, column):
    task = (PLAIN, RECLAIMER, SOFTIRQ)[column]
    pair = one_zone(330, present=400)
    smallest = None
    for free in range(330, -1, -1):
        pair.leave_free(free)
        if pair.alloc_pages(gfp, task=task) in ("A", "B", "C"):
            pair.free_pages(-1)
            smallest = free
        else:
            break
    assert smallest == SMALLEST[gfp][column]


# ------------------------------------------------------------------------------------------------- tightness

DEPTHS = [
    (0x10, PLAIN, DEPTH.min, lambda m: m),
    (0x10, REALTIME, DEPTH.harder, lambda m: m - m // 4),
    (0x0, PLAIN, DEPTH.harder, lambda m: m - m // 4),
    (0x10, Task(realtime=True, in_interrupt=True), DEPTH.min, lambda m: m),
    (0x30, PLAIN, DEPTH.high, lambda m: m - m // 2),
    (0x20, PLAIN, DEPTH.atomic, lambda m: (m - m // 2) - (m - m // 2) // 4),
    (0x30, REALTIME, DEPTH.atomic, lambda m: (m - m // 2) - (m - m // 2) // 4),
    (0x20, RECLAIMER, DEPTH.none, lambda m: 0),
]


@settings(max_examples=25)
@given(pages_min=some.integers(8, 500))
def test_at_the_mark_it_fails_and_one_page_above_it_passes(pages_min):
    for gfp, task, depth, level in DEPTHS:
        mem = make_mem([zone(1024, pages_min)])
        mark = level(pages_min)
        leave_free(mem, mark + 1)
        pfn = page_alloc.alloc_pages(mem, 0, -1, gfp, 0, context_of(task))
        assert pfn >= 0
        assert mem.ctl[MEMCTL.depth] == depth
        assert mem.zone[0, ZONE.free] == mark
        assert page_alloc.alloc_pages(mem, 0, -1, gfp, 0, context_of(task)) < 0
        assert mem.zone[0, ZONE.min_free] == mark


@settings(max_examples=25)
@given(pages_low=some.integers(8, 500))
def test_at_pages_low_kswapd_is_wanted_and_one_page_above_it_is_not(pages_low):
    mem = make_mem([zone(1024, pages_low // 2, pages_low=pages_low)])
    leave_free(mem, pages_low + 1)
    assert page_alloc.alloc_pages(mem, 0, -1, 0xD0, 0, 0) >= 0
    assert (mem.ctl[MEMCTL.depth], mem.ctl[MEMCTL.kswapd_wanted]) == (DEPTH.low, 0)
    assert page_alloc.alloc_pages(mem, 0, -1, 0xD0, 0, 0) >= 0
    assert (mem.ctl[MEMCTL.depth], mem.ctl[MEMCTL.kswapd_wanted]) == (DEPTH.min, 1)


@pytest.mark.parametrize(("gfp", "threshold"), [(0xD0, 1024), (0x20, 1014)])
def test_lowmem_reserve_is_not_discounted(gfp, threshold):
    """1 GB: a request that may use DMA32 leaves 1008 pages of DMA alone, whatever its privileges."""
    for free, granted in ((threshold, False), (threshold + 1, True)):
        pair = Pair([zone(4096, 16, reserve=(0, 1008, 1008, 1008)), zone(1024, 400)])
        pair.leave_free(0, z=1)
        pair.leave_free(free)
        assert (pair.alloc_pages(gfp) == "B") == granted
    pair = Pair([zone(4096, 16, reserve=(0, 1008, 1008, 1008)), zone(1024, 400)])
    pair.leave_free(21)
    assert pair.alloc_pages(0xD1) == "A"  # asked for DMA: the reserve is not against it


@pytest.mark.parametrize(("batch", "pcp_high", "left"), [(1, 0, 96), (3, 18, 94), (31, 186, 66)])
def test_a_passed_check_pulls_a_whole_batch(batch, pcp_high, left):
    pair = Pair([zone(1024, 256, batch=batch, pcp_high=pcp_high)])
    for order in (9, 8, 7, 4, 3, 2, 1, 0):  # 927 pages in whole blocks: 97 remain, none on the CPU's list
        pfn = rmqueue(pair.mem, 0, order, MIGRATE.unmovable)
        assert pfn == pair.real_pages.zones[0].take_block(order)
        pair.blocks.append((pfn, order))
    assert pair.free == 97
    assert pair.alloc_pages(0x20) == "B"
    assert pair.free == left
    # pages on the CPU's list do not count: the next request fails with the list full of pages
    assert pair.alloc_pages(0x20) == "fail"
    assert len(snapshot.pcp_list(pair.mem, 0, 0)) == batch - 1
    pair.compare()


# ----------------------------------------------------------------------------------------- buddy, lists, printk


def test_buddy_trace():
    pair = Pair([zone(1024)])
    area = lambda: snapshot.free_area(pair.mem, 0)[MIGRATE.unmovable]  # noqa: E731

    def take(order):
        assert pair.alloc_pages(0xD0, order) == "A"
        return pair.blocks[-1][0]

    def give(pfn):
        pair.free_pages(next(n for n, block in enumerate(pair.blocks) if block[0] == pfn))
        pair.compare()

    assert area()[10] == [0]
    assert [take(0) for _ in range(3)] == [0, 1, 2]
    assert area() == [[3], [], [4], [8], [16], [32], [64], [128], [256], [512], []]
    assert take(3) == 8
    assert area()[3] == []
    give(1)
    assert area()[0] == [1, 3]
    give(0)
    assert area()[:4] == [[3], [0], [4], []]
    give(2)
    assert area()[:4] == [[], [], [], [0]]
    give(8)
    assert area() == [[]] * 10 + [[0]]


def test_per_cpu_list_is_refilled_in_address_order_and_drained_from_the_cold_end():
    pair = Pair([zone(64, batch=3, pcp_high=6)], cpus=2)
    for _ in range(7):
        pair.alloc_pages(0xD0)
    assert [pfn for pfn, _ in pair.blocks] == list(range(7))
    assert snapshot.pcp_list(pair.mem, 0, 0) == [7, 8]
    for _ in range(3):
        pair.free_pages(0)
    assert snapshot.pcp_list(pair.mem, 0, 0) == [2, 1, 0, 7, 8]
    pair.free_pages(0)  # the sixth: three leave, 8 first
    assert snapshot.pcp_list(pair.mem, 0, 0) == [3, 2, 1]
    pair.free_pages(0, cpu=1)
    assert snapshot.pcp_list(pair.mem, 1, 0) == [4]
    pair.compare()
    drain_all_pages(pair.mem)
    pair.real_pages.drain_all_pages()
    pair.compare()
    assert pair.free == 62


def reports(failures, hz=250):
    mem = make_mem([zone(16)], hz=hz)
    real = ref.RateLimit(hz)
    printed = []
    for jiffy in failures:
        mem.ctl[MEMCTL.jiffies] = jiffy
        allowed = bool(printk_ratelimit(mem))
        assert allowed == real.allows(jiffy)
        if allowed:
            printed.append(jiffy)
    return printed


def test_rate_limit_one_failure_a_jiffy():
    """A burst of ten, then one in five seconds: what the reports of April 2008 look like."""
    milliseconds = [4 * jiffy for jiffy in reports(range(4500))]
    assert milliseconds == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 5_000, 10_000, 15_000]


def test_rate_limit_one_failure_a_second():
    seconds = [jiffy // 250 for jiffy in reports(range(0, 250 * 28, 250))]
    assert seconds == [*range(12), 15, 20, 25]


@settings(max_examples=50)
@given(some.lists(some.integers(0, 3000), min_size=1, max_size=60), some.sampled_from([100, 250, 1000]))
def test_rate_limit_at_any_times(gaps, hz):
    reports(np.cumsum(gaps).tolist(), hz)

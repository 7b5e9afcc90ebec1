"""The stealing band: between 3/4 and 3/8 of pages_min only GFP_ATOMIC allocates slabs, and bios ride on them.

Each page that a sense buffer allocates there yields 32 slots of kmalloc-128; the other 31 are anybody's.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fastalloc.kernels.alloc import mempool, page_alloc
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.state import DEPTH, SLUB_CTL, SLUB_SLAB, ZONE
from tests.kernels.build import KMALLOC_128, fill_pool, leave_free, make_mem, make_pools, make_slub, zone

# RAM in MB, pages_min of one zone; 3/4, 3/8, pages in the band, slots, bios that can ride
TABLE = [
    (64, 256, 192, 96, 96, 3072, 2976),
    (128, 362, 272, 136, 136, 4352, 4216),
    (256, 512, 384, 192, 192, 6144, 5952),
    (512, 724, 543, 272, 271, 8672, 8401),
    (1024, 1024, 768, 384, 384, 12288, 11904),
    (2048, 1448, 1086, 543, 543, 17376, 16833),
    (4096, 2048, 1536, 768, 768, 24576, 23808),
    (8192, 2896, 2172, 1086, 1086, 34752, 33666),
]


def band(pages_min):
    return page_alloc.zone_watermark(pages_min, False, True), page_alloc.zone_watermark(pages_min, True, True)


@pytest.mark.parametrize(("ram", "pages_min", "upper", "lower", "pages", "slots", "bios"), TABLE)
def test_table(ram, pages_min, upper, lower, pages, slots, bios):
    assert band(pages_min) == (upper, lower)
    assert upper - lower == pages
    assert (32 * pages, 31 * pages) == (slots, bios)


def contend(pages_min, spare, merged=True, reserve=2):
    """One sense buffer, then bios until one is refused, and again, until neither gets anything.

    Everybody is a plain task, nothing is ever freed. Returns bios on slabs that GFP_ATOMIC allocated in the band,
    senses, and pages left.
    """
    caches = [KMALLOC_128] if merged else [KMALLOC_128, KMALLOC_128]
    upper, _ = band(pages_min)
    mem = make_mem([zone(2 * pages_min + spare, pages_min)])
    heap = make_slub(caches, slabs=2 * pages_min + spare)
    pools = make_pools([(len(caches) - 1, reserve)])
    fill_pool(mem, heap, pools, 0)
    leave_free(mem, upper + spare)
    riders = senses = 0
    moved = True
    while moved:
        moved = False
        if slub.slab_alloc(mem, heap, 0, 0, -1, 0x20, 0) >= 0:
            senses += 1
            moved = True
        while True:
            handle = mempool.mempool_alloc(mem, heap, pools, 0, 0, 0x10, 0, True)
            if handle < 0:
                break
            moved = True
            riders += heap.slab[handle >> st.HANDLE_SHIFT, SLUB_SLAB.depth] == DEPTH.atomic
    assert heap.ctl[SLUB_CTL.overflow] == 0
    assert mem.zone[0, ZONE.min_free] == mem.zone[0, ZONE.free]
    assert pools.pool[0, MEMPOOL.from_pool] == reserve
    return riders, senses, int(mem.zone[0, ZONE.free])


@settings(max_examples=25)
@given(pages_min=some.integers(4, 300), spare=some.integers(0, 150))
def test_bios_that_ride_are_31_times_the_band(pages_min, spare):
    upper, lower = band(pages_min)
    assert upper - lower == pages_min - pages_min // 4 - ((pages_min + 1) // 2 - (pages_min + 1) // 2 // 4)
    riders, senses, left = contend(pages_min, spare)
    assert riders == 31 * (upper - lower)
    assert left == lower
    # each page of the band is opened by a sense; at most the very first sense came before the band was reached
    assert senses - (upper - lower) in (0, 1)


@pytest.mark.parametrize(("pages_min", "bios"), [(256, 2976), (512, 5952)])
def test_the_band_of_64_and_256_megabytes(pages_min, bios):
    assert contend(pages_min, spare=0)[0] == bios


def test_unmerged_nobody_rides():
    riders, senses, left = contend(256, spare=0, merged=False)
    assert riders == 0
    assert left == 192 - (senses + 31) // 32

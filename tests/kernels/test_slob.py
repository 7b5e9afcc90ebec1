"""SLOB: the worked traces T7 and T8, the packing table, and random walks against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slob import slob as k
from fastalloc.kernels.alloc.slob.ring import LONGEST, SLOB_CTL, SLOB_LISTS, SLOB_PAGE
from fastalloc.kernels.alloc.state import ZONE
from fastalloc.kernels.machine.check_heap import check_heap
from fastalloc.linux import gfp as g
from tests.kernels.build import make_mem, zone
from tests.reference import slob as reference

KERNEL = g.GFP_KERNEL


class Machine:
    """The kernels over one zone; pages are named by the order in which they were allocated."""

    def __init__(self, pages=4096):
        self.mem = make_mem([zone(pages)])
        self.slob = k.new_slob(256)
        self.seen = []
        self.live = {}

    def alloc(self, size, align=8):
        handle = int(k.slob_alloc(self.mem, self.slob, 0, -1, KERNEL, 0, size, align))
        return self._name(handle), handle

    def _name(self, handle):
        if handle < 0:
            return None
        return int(k.slob_ordinal(self.slob, handle)), handle & st.HANDLE_INDEX_MASK

    def free(self, handle, size):
        k.slob_free(self.mem, self.slob, 0, handle, size)

    def lists(self):
        """{list: [(page, free units)]}, head first."""
        found = {}
        for head, name in enumerate(SLOB_LISTS):
            pages = []
            p = self.slob.page[head, SLOB_PAGE.next]
            while p != head:
                pages.append((int(self.slob.page[p, SLOB_PAGE.ordinal]), int(self.slob.page[p, SLOB_PAGE.units])))
                p = self.slob.page[p, SLOB_PAGE.next]
            found[name] = pages
        return found

    def blocks(self, handle):
        """Free ranges of the page behind ``handle``."""
        p = handle >> st.HANDLE_SHIFT
        ranges = []
        b = self.slob.page[p, SLOB_PAGE.free]
        while b < k.PAGE_UNITS:
            ranges.append((int(b), int(k.slob_units(self.slob.unit[p], b))))
            b = k.slob_next(self.slob.unit[p], b)
        return ranges

    @property
    def path(self):
        return int(self.slob.ctl[SLOB_CTL.path])


def test_t7_a_full_large_page_is_demoted_to_the_small_list():
    m = Machine()
    handles = [m.alloc(1024)[1] for _ in range(5)]
    assert m.lists() == {"small": [], "medium": [], "large": [(1, 1536)]}
    m.free(handles[0], 1024)
    assert m.lists()["small"] == [(0, 512)]
    assert m.alloc(1024)[0] == (1, 1024)
    assert m.lists()["large"] == [(1, 1024)]
    place, small = m.alloc(104, 64)
    assert place == (0, 0)
    assert m.lists()["small"] == [(0, 460)]
    m.free(handles[1], 1024)
    m.free(handles[2], 1024)
    assert m.lists()["small"] == [(0, 1484)]
    m.free(handles[3], 1024)
    assert m.lists()["small"] == [(0, 1996)]
    m.free(small, 104)
    assert m.path == 6
    assert m.lists()["small"] == []


def test_t8_next_fit_does_not_turn_a_ring_that_is_first_already():
    m = Machine()
    handles = [m.alloc(128, 64)[1] for _ in range(96)]
    assert m.lists()["small"] == []
    for i in (0, 32, 64, 65):
        m.free(handles[i], 128)
    assert m.lists()["small"] == [(2, 128), (1, 64), (0, 64)]
    assert [m.alloc(128, 64)[0] for _ in range(4)] == [(2, 0), (2, 128), (1, 0), (0, 0)]


def test_t8_next_fit_turns_the_ring_to_the_page_that_gave():
    m = Machine()
    handles = [m.alloc(128, 64)[1] for _ in range(96)]
    for page in range(3):
        for slot in range(3):
            m.free(handles[32 * page + slot], 128)
    assert m.lists()["small"] == [(2, 192), (1, 192), (0, 192)]
    assert m.alloc(200)[0] == (2, 0)
    assert m.lists()["small"] == [(2, 92), (1, 192), (0, 192)]
    assert m.alloc(250)[0] == (1, 0)
    assert m.lists()["small"] == [(1, 67), (0, 192), (2, 92)]
    assert m.alloc(128, 64)[0] == (1, 256)
    assert m.lists()["small"][0] == (1, 3)
    assert m.alloc(256)[0] == (3, 0)
    assert m.path == 4
    assert m.lists()["medium"] == [(3, 1920)]


@pytest.mark.parametrize(
    ("size", "align", "per_page", "stride"),
    [
        (104, 8, 39, 104),
        (104, 64, 32, 128),
        (104, 128, 32, 128),
        (96, 64, 32, 128),
        (96, 8, 42, 96),
        (136, 8, 30, 136),
        (200, 8, 20, 200),
        (288, 8, 14, 288),
        (320, 64, 12, 320),
        (320, 128, 10, 384),
        (256, 64, 16, 256),
        (1023, 8, 4, 1024),
        (1024, 8, 4, 1024),
        (2048, 8, 2, 2048),
    ],
)
def test_packing_of_a_page(size, align, per_page, stride):
    m = Machine()
    places = [m.alloc(size, align)[0] for _ in range(per_page + 1)]
    assert places == [(0, i * stride) for i in range(per_page)] + [(1, 0)]


def test_holes_behind_aligned_bios_hold_exactly_as_many_small_objects():
    m = Machine()
    for _ in range(32):
        m.alloc(104, 64)
    assert m.lists()["small"] == [(0, 32 * 12)]
    places = [m.alloc(24)[0] for _ in range(32)]
    assert places == [(0, 128 * i + 104) for i in range(32)]
    assert m.lists()["small"] == []
    assert m.alloc(24)[0] == (1, 0)


@pytest.mark.parametrize(
    ("size", "name"), [(247, "small"), (248, "medium"), (1015, "medium"), (1016, "large"), (4087, "large")]
)
def test_kmalloc_classes_count_the_header(size, name):
    m = Machine()
    handle = int(k.slob_kmalloc(m.mem, m.slob, 0, -1, KERNEL, 0, size))
    assert m._name(handle) == (0, 8)
    room = k.PAGE_UNITS - (size + 9) // 2
    assert m.lists()[name] == ([(0, room)] if room else [])
    k.slob_kfree(m.mem, m.slob, 0, handle)
    assert m.path == 6


def test_kmalloc_of_4088_bytes_and_more_takes_pages():
    m = Machine()
    for size, order in ((4088, 0), (4096, 0), (4097, 1), (32768, 3)):
        free = m.mem.zone[0, ZONE.free]
        handle = int(k.slob_kmalloc(m.mem, m.slob, 0, -1, KERNEL, 0, size))
        assert handle >= st.PAGE_HANDLE
        assert m.path == 4
        assert free - m.mem.zone[0, ZONE.free] == 1 << order
        k.slob_kfree(m.mem, m.slob, 0, handle)
        assert m.path == 6
        assert m.mem.zone[0, ZONE.free] == free


def test_a_refused_page_is_a_refused_object():
    m = Machine()
    m.mem.zone[0, ZONE.min] = m.mem.zone[0, ZONE.low] = 1 << 20
    assert m.alloc(64)[0] is None
    assert m.path == 0


def test_a_constructor_runs_even_when_nothing_was_allocated():
    m = Machine()
    m.slob.cache[0] = (104, 64, 1, 1)
    assert k.slob_cache_alloc(m.mem, m.slob, 0, 0, -1, KERNEL, 0) >= 0
    m.mem.zone[0, ZONE.min] = m.mem.zone[0, ZONE.low] = 1 << 20
    while k.slob_cache_alloc(m.mem, m.slob, 0, 0, -1, KERNEL, 0) >= 0:
        pass
    assert m.slob.ctl[SLOB_CTL.ctor_calls] == 33


STEP = hs.tuples(
    hs.booleans(), hs.integers(1, 4095), hs.sampled_from([0, 8, 16, 64, 128]), hs.integers(0, 1 << 16), hs.booleans()
)


@settings(max_examples=150, deadline=None)
@given(hs.lists(STEP, max_size=200), hs.integers(0, 3))
def test_random_walks_match_the_reference(steps, shape):
    """Sizes are drawn near one class at a time so that pages fill, empty and change lists."""
    m = Machine()
    granted = [True]
    ref = reference.Slob(lambda: granted[0])
    live = []
    for allocate, size, align, pick, grant in steps:
        size = (size, size % 300 + 1, size % 64 + 1, size % 1200 + 1)[shape]
        granted[0] = grant or pick % 4 != 0
        m.mem.zone[0, ZONE.min] = m.mem.zone[0, ZONE.low] = 0 if granted[0] else 1 << 20
        if allocate or not live:
            (name, handle), block = m.alloc(size, align), ref.alloc(size, align)
            assert name == (None if block is None else (block[0].number, block[1]))
            if block is not None:
                live.append((handle, block, size))
        else:
            handle, block, size = live.pop(pick % len(live))
            m.free(handle, size)
            ref.free(block, size)
            if m.path != 6:
                assert m.blocks(handle) == block[0].free
        expected = {name: [(page.number, page.units) for page in ring] for name, ring in ref.lists.items()}
        assert m.lists() == expected
        assert m.slob.ctl[SLOB_CTL.pages] == ref.pages
    assert m.slob.ctl[SLOB_CTL.overflow] == 0


@pytest.mark.parametrize("seed", range(2))
def test_long_lists_are_searched_as_the_reference_does(seed):
    """Hundreds of pages a list: stretches split, empty and join, and what they promise holds after each step."""
    random = np.random.default_rng(seed)
    m = Machine()
    m.slob = k.new_slob(2048)
    ref = reference.Slob(lambda: True)
    live = []
    longest = 0
    for number in range(4000):
        growing = number % 2000 < 1200
        if random.random() < (0.8 if growing else 0.25) or not live:
            size = int(random.choice((40, 96, 128, 200, 600, 900, 1500, 2100, 3000)))
            align = int(random.choice((8, 64, 64, 16)))
            (name, handle), block = m.alloc(size, align), ref.alloc(size, align)
            assert name == (block[0].number, block[1])
            live.append((handle, block, size))
        else:
            handle, block, size = live.pop(int(random.integers(len(live))))
            m.free(handle, size)
            ref.free(block, size)
        if number % 100 == 0:
            assert check_heap(m.slob) == 0
            assert m.slob.ctl[SLOB_CTL.pages] == ref.pages
            longest = max(longest, *(len(ring) for ring in ref.lists.values()))
            for size, align in ((128, 64), (96, 8), (200, 16)):
                expected = sum(_room(page.free, size, align) for page in ref.lists["small"])
                assert k.room_for(m.slob, size, align) == expected
    assert m.lists() == {name: [(p.number, p.units) for p in ring] for name, ring in ref.lists.items()}
    assert longest > 3 * LONGEST


def _room(holes, size, align):
    """Objects that fit the holes of a page one after the other."""
    room = 0
    for first, units in holes:
        at = first
        while True:
            at += -at % (align // 2)
            if at + size // 2 > first + units:
                break
            room += 1
            at += size // 2
    return room


def test_too_few_records_are_reported_not_hidden():
    m = Machine()
    m.slob = k.new_slob(1)
    assert m.alloc(4000)[0] == (0, 0)
    assert m.alloc(4000)[0] is None
    assert m.slob.ctl[SLOB_CTL.overflow] == 1
    assert m.slob.unit.dtype == np.int16

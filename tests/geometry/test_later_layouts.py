"""SLUB's layout from change to change, at the edges of each rule [linux/slub_layouts.py names the sources]."""

import pytest

from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as se
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, calculate_sizes, find_mergeable
from fastalloc.linux.slub_boot import parse_boot_options, read_boot_line
from fastalloc.linux.slub_eras import SlubOptions


def slot(era, size, align=0, flags=0, boot="", kmalloc=False, **more):
    options = parse_boot_options(boot, era, cpus_present=4)
    return calculate_sizes(CacheRequest("x", size, align, flags, **more), options, kmalloc=kmalloc)


# -------------------------------------------------------------------------------------------------------- sheaves


@pytest.mark.parametrize(
    ("size", "capacity"),
    [(8, 60), (255, 60), (256, 28), (1023, 28), (1024, 12), (4095, 12), (4096, 4), (512_000, 4)],
)
def test_sheaf_capacity_by_slot(size, capacity):
    assert se.sheaf_capacity(size, 0, SlubOptions("7.3")) == capacity
    assert se.sheaf_capacity(size, 0, SlubOptions("6.18")) == 0
    assert se.sheaf_capacity(size, 0, SlubOptions("6.17")) == 0


def test_a_sheaf_fills_its_kmalloc_slot():
    for size in (8, 256, 1024, 4096):
        bytes_taken = se.SHEAF_HEADER + 8 * se.sheaf_capacity(size, 0, SlubOptions("7.3"))
        assert bytes_taken == se.kmalloc_size(bytes_taken, se.layout_of("7.3"))


def test_who_asks_for_sheaves_gets_at_least_what_it_asks_for():
    assert se.sheaf_capacity(256, 0, SlubOptions("7.3"), asked=32) == 32  # maple_node
    assert se.sheaf_capacity(192, 0, SlubOptions("7.3"), asked=32) == 60  # vm_area_struct
    assert se.sheaf_capacity(256, 0, SlubOptions("6.18"), asked=32) == 32


@pytest.mark.parametrize(
    "flag", [sf.RED_ZONE, sf.POISON, sf.STORE_USER, sf.TRACE, sf.DEBUG_FREE, sf.NOLEAKTRACE, sf.NO_SHEAVES]
)
def test_caches_without_sheaves(flag):
    assert se.sheaf_capacity(64, flag, SlubOptions("7.3"), asked=32) == 0


def test_sheaves_as_such_do_not_keep_caches_apart():
    options = SlubOptions("7.3")
    caches = [calculate_sizes(CacheRequest("a", 192), options)]
    assert find_mergeable(CacheRequest("b", 192), caches, options) == 0
    assert find_mergeable(CacheRequest("asks", 192, sheaf_capacity=32), caches, options) == -1
    asked = [calculate_sizes(CacheRequest("asks", 192, sheaf_capacity=32), options)]
    assert find_mergeable(CacheRequest("b", 192), asked, options) == -1


def test_consistency_checks_keep_caches_apart_since_7_0():
    for era, apart in (("6.19", False), ("7.0", True)):
        options = SlubOptions(era)
        caches = [calculate_sizes(CacheRequest("a", 192, flags=sf.DEBUG_FREE), options)]
        found = find_mergeable(CacheRequest("b", 192, flags=sf.DEBUG_FREE), caches, options)
        assert (found == -1) is apart


def test_no_cpu_partial_lists_since_7_0():
    assert slot("6.19", 64).cpu_partial == 120
    assert slot("7.0", 64).cpu_partial == 0


# ---------------------------------------------------------------------------------------------------------- slots


def test_free_pointer_inside_a_typesafe_object():
    assert slot("6.11", 192, flags=sf.DESTROY_BY_RCU, freeptr_placed=True).size == 200
    assert slot("6.12", 192, flags=sf.DESTROY_BY_RCU, freeptr_placed=True).size == 192
    assert slot("6.12", 192, flags=sf.DESTROY_BY_RCU).size == 200
    assert slot("7.3", 192, ctor=True, freeptr_placed=True).size == 192
    assert slot("6.19", 192, ctor=True, freeptr_placed=True).size == 200
    assert slot("6.12", 192, flags=sf.DESTROY_BY_RCU | sf.POISON, freeptr_placed=True).size == 200


@pytest.mark.parametrize(
    ("era", "track", "orig"),
    [("3.0", 24, 0), ("3.1", 152, 0), ("5.18", 152, 0), ("5.19", 32, 0), ("6.1", 32, 4), ("7.0", 32, 8)],
)
def test_user_tracking_of_a_kmalloc_cache(era, track, orig):
    base = 512 + 2 * track + orig
    free_pointer = 8 if era == "6.2" else 0
    assert slot(era, 512, 8, sf.STORE_USER, kmalloc=True).size == -(-(base + free_pointer) // 8) * 8


def test_the_size_asked_for_moves_the_free_pointer_of_a_tracked_kmalloc_object():
    assert slot("6.2", 512, 8, sf.STORE_USER, kmalloc=True).offset == 512
    assert slot("6.1", 512, 8, sf.STORE_USER, kmalloc=True).offset == 256
    assert slot("6.11", 512, 8, sf.STORE_USER, kmalloc=True).offset == 256
    assert slot("6.11", 512, 8, sf.STORE_USER | sf.RED_ZONE, kmalloc=True).offset > 512


def test_red_zones_in_front_since_4_6():
    assert slot("4.5", 64, 8, sf.RED_ZONE).size == 64 + 8 + 8
    assert slot("4.6", 64, 8, sf.RED_ZONE).size == 64 + 8 + 8 + 8
    assert slot("6.6", 1024, 1024, sf.RED_ZONE, kmalloc=True).size == 3072


def test_a_red_zoned_object_smaller_than_a_pointer_has_its_free_pointer_behind_it():
    assert slot("5.12", 4, 0, sf.RED_ZONE).offset == 0
    assert slot("5.14", 4, 0, sf.RED_ZONE).offset == 8


@pytest.mark.parametrize(("era", "offset"), [("5.6", 0), ("5.7", 16), ("5.12", 16), ("5.14", 8), ("7.3", 8)])
def test_the_free_pointer_of_a_plain_object(era, offset):
    assert slot(era, 24).offset == offset


@pytest.mark.parametrize(
    ("era", "align"), [("5.3", (8, 8)), ("5.4", (8, 128)), ("6.10", (8, 128)), ("6.11", (32, 128)), ("7.3", (32, 128))]
)
def test_alignment_of_kmalloc(era, align):
    assert tuple(se.kmalloc_align(size, SlubOptions(era)) for size in (96, 128)) == align


def test_kmalloc_caches_by_version_and_page():
    assert se.kmalloc_size(4097, se.layout_of("2.6.29")) == 0
    assert se.kmalloc_size(4097, se.layout_of("2.6.30")) == 8192
    assert se.kmalloc_size(100_000, se.layout_of("6.12"), 65536) == 131072
    assert se.kmalloc_sizes(se.layout_of("3.10"))[:6] == (8, 16, 32, 64, 96, 128)
    assert se.kmalloc_sizes(se.layout_of("6.10"))[:4] == (96, 192, 8, 16)
    for low, first in ((32, (32, 64, 96, 128, 192)), (64, (64, 128, 192, 256)), (128, (128, 256, 512))):
        assert se.kmalloc_sizes(se.layout_of("3.10"), minimum=low)[: len(first)] == first
    assert se.kmalloc_sizes(se.layout_of("6.10"), minimum=64)[:3] == (192, 64, 128)
    assert se.kmalloc_name(1024, se.layout_of("4.19")) == "kmalloc-1024"
    assert se.kmalloc_name(1024, se.layout_of("4.20")) == "kmalloc-1k"


# --------------------------------------------------------------------------------------------------------- orders


def test_the_object_count_is_capped_since_2_6_30():
    assert se.calculate_order(8192, SlubOptions("2.6.29", 8)) == 2
    assert se.calculate_order(8192, SlubOptions("2.6.30", 8)) == 3


def test_present_cpus_count_since_5_11():
    few_of_many = {"cpus_present": 2, "cpus_possible": 64}
    assert SlubOptions("5.10", **few_of_many).min_objects == 4 * (7 + 1)
    assert SlubOptions("5.11", **few_of_many).min_objects == 4 * (2 + 1)


def test_the_object_count_stands_since_6_8():
    """10,928 bytes: two in a slab of order 3 waste a third of it. 6.6 goes down to one object in order 2 first."""
    assert se.calculate_order(10_928, SlubOptions("6.6", 4)) == 2
    assert se.calculate_order(10_928, SlubOptions("6.8", 4)) == 3
    assert se.calculate_order(10_920, SlubOptions("6.6", 4)) == se.calculate_order(10_920, SlubOptions("6.8", 4))


@pytest.mark.parametrize(("era", "least"), [("2.6.26", 5), ("2.6.27", 10), ("3.1", 10), ("3.2", 6)])
def test_min_partial(era, least):
    assert se.min_partial(4096, SlubOptions(era)) == least


def test_64k_pages():
    options = SlubOptions("6.6", 4, page_shift=16)
    assert se.calculate_order(256, options) == 0
    assert (options.page_size << se.calculate_order(4096, options)) // 4096 == 16
    assert se.cpu_partial(4096, 0, options) == 24  # below a page of 64 kB
    assert se.sheaf_capacity(4096, 0, SlubOptions("7.3", page_shift=16)) == 12


def test_pages_above_4_kb_have_larger_orders_in_2_6_25():
    """DEFAULT_MAX_ORDER 2 and DEFAULT_MIN_OBJECTS 8 there, 1 and 4 with pages of 4 kB; one set of both since 2.6.26."""
    for shift, orders in ((16, (1, 2, 2)), (14, (2, 2, 2))):
        for options in (
            SlubOptions("2.6.25", page_shift=shift),
            read_boot_line("", "2.6.25", page_shift=shift).options,
        ):
            assert (options.max_order, options.min_objects) == (2, 8)
            assert tuple(se.calculate_order(size, options) for size in (9000, 20000, 30000)) == orders
    assert read_boot_line("slub_max_order=0", "2.6.25", page_shift=16).options.max_order == 0
    small = read_boot_line("", "2.6.25").options
    assert (small.max_order, small.min_objects) == (1, 4)
    later = SlubOptions("2.6.26", 8, page_shift=16)
    assert (later.max_order, later.min_objects) == (3, 20)


def test_32_bit_words():
    """A slot is a multiple of ARCH_SLAB_MINALIGN, 8 there too, and so is the size that another must have to merge."""
    options = SlubOptions("6.6", 4, pointer=4)
    assert calculate_sizes(CacheRequest("x", 10), options).size == 16
    assert calculate_sizes(CacheRequest("x", 10, flags=sf.STORE_USER), options).size == 56  # 12 + 2 * 20 to 8
    wide = SlubOptions("6.6", 4)
    for size, slot in ((20, 24), (84, 88), (100, 104), (104, 104)):
        made = calculate_sizes(CacheRequest("x", size), options)
        assert (made.size, calculate_sizes(CacheRequest("x", size), wide).size) == (slot, slot)
        assert find_mergeable(CacheRequest("y", slot), [made], options) == 0


def test_a_newer_match_wins_up_to_3_18():
    for era, winner in (("3.18", 1), ("3.19", 0)):
        options = SlubOptions(era)
        alike = [calculate_sizes(CacheRequest(name, 136), options) for name in ("first", "second")]
        assert find_mergeable(CacheRequest("third", 136), alike, options) == winner


def test_kmalloc_caches_take_others_until_4_15():
    for era, root in (("4.15", "kmalloc-128"), ("4.16", "x")):
        caches = CacheSet(SlubOptions(era))
        caches.create(CacheRequest("x", 128))
        assert caches.root_of("x") == root

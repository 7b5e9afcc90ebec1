"""A kernel's command line means to the rules what it means to that kernel [mm/slub.c: setup_slub_*, get_option]."""

import pytest

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slub import CacheRequest, calculate_sizes
from fastalloc.linux.slub_boot import parse_boot_options, read_boot_line

FULL = sf.DEBUG_FREE | sf.RED_ZONE | sf.POISON | sf.STORE_USER


def parse(era, line):
    return parse_boot_options(line, era, cpus_present=2)


def test_orders_are_read_left_to_right():
    assert parse("6.1", "slub_min_order=4 slub_max_order=2").slub_min_order == 4
    lowered = parse("6.12", "slub_min_order=4 slub_max_order=2")
    assert (lowered.slub_min_order, lowered.max_order) == (2, 2)
    raised = parse("6.12", "slub_max_order=2 slub_min_order=4")
    assert (raised.slub_min_order, raised.max_order) == (4, 4)
    assert parse("6.1", "quiet slab_nomerge slub_min_objects=16").slub_nomerge


@pytest.mark.parametrize("line", ["slub_debug", "slub_debug=", "slub_debug=FZPU", "slub_debug=fzpu"])
def test_bare_slub_debug_is_full_debugging(line):
    assert parse("6.6", line).flags_of("dentry", 0) == FULL


@pytest.mark.parametrize(
    ("era", "line", "name", "flags"),
    [
        ("6.1", "slub_debug=FZ,dentry", "dentry", sf.DEBUG_FREE | sf.RED_ZONE),
        ("6.1", "slub_debug=FZ,dentry", "inode_cache", 0),
        ("6.1", "slub_debug=FZ,dentry", "dentry2", 0),
        ("4.19", "slub_debug=FZ,dentry", "dentry2", sf.DEBUG_FREE | sf.RED_ZONE),  # a prefix up to 4.19
        ("4.19", "slub_debug=Z,a,b", "b", 0),  # and one alone
        ("4.20", "slub_debug=Z,a,b", "b", sf.RED_ZONE),
        ("6.1", "slub_debug=Z,kmalloc-*", "kmalloc-1k", sf.RED_ZONE),
        ("6.1", "slub_debug=,dentry", "dentry", FULL),
        ("6.1", "slub_debug=Z,a;P", "a", sf.RED_ZONE),
        ("6.1", "slub_debug=Z,a;P", "b", sf.POISON),
        ("6.1", "slub_debug=-", "a", 0),
        ("6.1", "slub_debug=Zx", "a", sf.RED_ZONE),  # an unknown letter is skipped
        ("6.8", "slab_debug=Z", "a", 0),  # a name of 6.9
        ("6.9", "slab_debug=Z", "a", sf.RED_ZONE),
        ("2.6.33", "slub_debug=A", "a", 0),
        ("2.6.34", "slub_debug=A", "a", sf.FAILSLAB),
    ],
)
def test_slub_debug_of_named_caches(era, line, name, flags):
    assert parse(era, line).flags_of(name, 0) == flags


def test_o_spares_caches_whose_smallest_order_would_grow():
    for era, line in (("3.2", "slub_debug=O"), ("6.1", "slub_debug=FZPUO")):
        options = parse(era, line)
        large = calculate_sizes(CacheRequest("large", 4096), options)
        small = calculate_sizes(CacheRequest("small", 512), options)
        assert large.size == 4096
        assert small.size > 512
    assert calculate_sizes(CacheRequest("large", 4096), parse("6.1", "slub_debug=FZPU")).size > 4096
    assert parse("6.1", "slub_debug=O").flags_of("small", 0) == 0  # from 4.1 on a letter as the others


@pytest.mark.parametrize(
    ("era", "value", "order"),
    [
        ("6.12", "0", 0), ("6.12", "0x2", 2), ("6.12", "02", 2), ("6.12", "2,5", 2), ("6.12", "high", 0),
        ("6.12", "99", 10), ("6.19", "high", 3), ("6.19", "2,5", 3), ("6.19", "2", 2),
    ],
)  # fmt: skip
def test_a_value_is_what_the_kernel_makes_of_it(era, value, order):
    assert parse(era, f"slub_max_order={value}").max_order == order


def test_what_the_kernel_does_not_take_is_told():
    assert "slub_max_order" in read_boot_line("slab_max_order=0", "6.1").unknown[0]
    assert "takes for 0" in read_boot_line("slub_max_order=x", "6.1").unknown[0]
    assert read_boot_line("quiet slub_max_order=0 root=/dev/sda", "6.1").unknown == ()


def test_leak_trace_caches_are_spared_the_user_tracking_since_5_12():
    assert parse("5.12", "slub_debug=U").flags_of("x", sf.NOLEAKTRACE) == sf.NOLEAKTRACE
    assert parse("5.11", "slub_debug=U").flags_of("x", sf.NOLEAKTRACE) == sf.NOLEAKTRACE | sf.STORE_USER

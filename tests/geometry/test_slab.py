"""SLAB's and SLOB's layouts: the worked table and the rules at their edges."""

import pytest

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slab import (
    SlabOptions,
    array_limits,
    boot_caches,
    kmalloc_size,
    kmalloc_sizes,
    slab_geometry,
    slob_geometry,
    slob_kmalloc,
)
from fastalloc.linux.geometry_slub import CacheRequest
from tests.geometry.shared import rows


@pytest.mark.parametrize("row", rows("slab_2_6_25"), ids=lambda row: row["objsize"])
def test_worked_layouts(row):
    size = int(row["objsize"])
    for column, flags, line in (("plain", 0, 64), ("line64", sf.HWCACHE_ALIGN, 64), ("line128", sf.HWCACHE_ALIGN, 128)):
        options = SlabOptions(cache_line=line)
        got = slab_geometry(CacheRequest("x", size, 0, flags), options)
        *head, left, colours = row[column].split("/")
        assert (
            f"{got.buffer_size}/{got.gfporder}/{got.num}/{'off' if got.off_slab else 'on'}/{got.mgmt_size}"
            == "/".join(head)
        ), column
        assert got.colour == int(colours), column
        if not got.off_slab:
            assert (4096 << got.gfporder) - got.num * got.buffer_size - got.mgmt_size == int(left), column
    got = slab_geometry(CacheRequest("x", size, 0, sf.HWCACHE_ALIGN), SlabOptions(cpus_node=4, cpus_possible=4))
    assert (got.limit, got.batchcount, got.shared_limit) == tuple(
        int(row[name]) for name in ("limit", "batch", "shared")
    )
    assert got.free_limit == int(row["free_limit_4_cpus"])
    one = slab_geometry(CacheRequest("x", size, 0, sf.HWCACHE_ALIGN), SlabOptions(cpus_node=1, cpus_possible=1))
    assert one.free_limit == int(row["free_limit_1_cpu"])
    assert one.shared_limit == 0


@pytest.mark.parametrize(
    ("size", "limit"),
    [(256, 120), (257, 54), (1024, 54), (1025, 24), (4096, 24), (4097, 8), (131072, 8), (131073, 1)],
)
def test_array_limits_change_right_above_their_bounds(size, limit):
    got, batch, shared = array_limits(size, SlabOptions())
    assert (got, batch) == (limit, (limit + 1) // 2)
    assert shared == (8 if size <= 4096 else 0)


def test_kmalloc_sizes_depend_on_the_compiled_line():
    assert [size for size in kmalloc_sizes(128) if size in (96, 192)] == []
    assert [size for size in kmalloc_sizes(64) if size in (96, 192)] == [192]
    assert [size for size in kmalloc_sizes(32) if size in (96, 192)] == [96, 192]
    assert kmalloc_size(129, SlabOptions(cache_line=64)) == 192
    assert kmalloc_size(129, SlabOptions(cache_line=64, l1_cache_bytes=128)) == 256
    assert kmalloc_size(4194305, SlabOptions()) == 0


def test_reclaim_account_stays_at_the_first_order_that_holds_an_object():
    plain = slab_geometry(CacheRequest("x", 800, 0, sf.HWCACHE_ALIGN), SlabOptions())
    inode = slab_geometry(CacheRequest("x", 800, 0, sf.HWCACHE_ALIGN | sf.RECLAIM_ACCOUNT), SlabOptions())
    assert (plain.gfporder, plain.num) == (1, 9)
    assert (inode.gfporder, inode.num) == (0, 4)


def test_a_small_machine_keeps_to_order_0():
    got = slab_geometry(CacheRequest("x", 800, 0, sf.HWCACHE_ALIGN), SlabOptions(break_order=0))
    assert (got.gfporder, got.num) == (0, 4)


def test_boot_order_puts_the_caches_of_the_bootstrap_first():
    names = [cache.name for cache in boot_caches(SlabOptions(), 192)]
    assert names[:5] == ["kmem_cache", "size-32", "size-128", "size-64", "size-192"]
    assert names[-1] == "size-4194304"


def test_a_cache_that_fits_no_slab_is_refused():
    with pytest.raises(ValueError, match="'huge'"):
        slab_geometry(CacheRequest("huge", 5 << 20), SlabOptions())


def test_slob_layout():
    bio = slob_geometry(CacheRequest("bio", 104, flags=sf.HWCACHE_ALIGN), 64)
    assert (bio.size, bio.align, bio.list_class, bio.page_order) == (104, 64, "small", -1)
    rcu = slob_geometry(CacheRequest("x", 240, flags=sf.DESTROY_BY_RCU), 64)
    assert (rcu.size, rcu.align, rcu.list_class) == (264, 8, "medium")
    assert slob_geometry(CacheRequest("x", 4095), 64).list_class == "large"
    pages = slob_geometry(CacheRequest("x", 4096), 64)
    assert (pages.list_class, pages.page_order) == ("pages", 0)
    assert [slob_kmalloc(size) for size in (1, 4087, 4088, 4097)] == [(9, -1), (4095, -1), (0, 0), (0, 1)]

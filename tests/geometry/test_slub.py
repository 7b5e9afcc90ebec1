"""SLUB's layout: the worked table, merge decisions, boot options and eras."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hs

from fastalloc.kernels.alloc.state import KMEM_CACHE
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as eras
from fastalloc.linux.geometry_slub import (
    CacheRequest,
    CacheSet,
    SlubOptions,
    calculate_sizes,
    find_mergeable,
)
from fastalloc.scenario.slub_arrays import geometry_row
from tests.geometry.shared import rows

LAYOUTS = {
    "plain": (0, False, 64),
    "line64": (sf.HWCACHE_ALIGN, False, 64),
    "line128": (sf.HWCACHE_ALIGN, False, 128),
    "ctor": (0, True, 64),
    "ctor_line64": (sf.HWCACHE_ALIGN, True, 64),
}


@pytest.mark.parametrize("row", rows("slub_2_6_25"), ids=lambda row: row["objsize"])
def test_worked_layouts(row):
    for column, (flags, ctor, line) in LAYOUTS.items():
        got = calculate_sizes(CacheRequest("x", int(row["objsize"]), 0, flags, ctor), SlubOptions(cache_line=line))
        waste = (4096 << got.order) - got.objects * got.size
        assert f"{got.size}/{got.order}/{got.objects}/{waste}" == row[column], column


def test_a_cache_freed_by_rcu_keeps_its_pointer_behind_the_object_like_one_with_a_constructor():
    for size in (1, 96, 128, 4096):
        rcu = calculate_sizes(CacheRequest("x", size, flags=sf.DESTROY_BY_RCU), SlubOptions())
        ctor = calculate_sizes(CacheRequest("x", size, ctor=True), SlubOptions())
        assert (rcu.size, rcu.offset, rcu.order) == (ctor.size, ctor.offset, ctor.order)


def test_kmalloc_caches_of_2_6_25():
    boot = CacheSet()
    assert [cache.name for cache in boot.caches] == [
        f"kmalloc-{size}" for size in (96, 192, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    ]
    layout = {cache.size: (cache.order, cache.objects, cache.fallback) for cache in boot.caches}
    assert layout[96] == (0, 42, False)
    assert layout[192] == (0, 21, False)
    assert layout[1024] == (0, 4, False)
    assert layout[2048] == (3, 16, True)
    assert layout[4096] == (3, 8, True)
    served = {size: boot.kmalloc_index(size) for size in (1, 8, 9, 65, 96, 97, 128, 129, 192, 193, 4096, 4097)}
    names = {size: boot.caches[i].size if i >= 0 else 0 for size, i in served.items()}
    assert names == {
        1: 8,
        8: 8,
        9: 16,
        65: 96,
        96: 96,
        97: 128,
        128: 128,
        129: 192,
        192: 192,
        193: 256,
        4096: 4096,
        4097: 0,
    }


OWN = "own"


@pytest.mark.parametrize(
    ("sizes", "align", "flags", "ctor", "line", "slot", "target"),
    [
        ((96,), 8, 0, False, 64, 96, "kmalloc-96"),
        ((97, 104), 0, 0, False, 64, 104, OWN),
        ((120,), 0, 0, False, 64, 120, OWN),
        ((121, 128), 0, 0, False, 64, 128, "kmalloc-128"),
        ((185, 192), 0, 0, False, 64, 192, "kmalloc-192"),
        ((193,), 0, 0, False, 64, 200, OWN),
        ((249, 256), 0, 0, False, 64, 256, "kmalloc-256"),
        ((65, 96, 104, 128), 0, sf.HWCACHE_ALIGN, False, 64, 128, "kmalloc-128"),
        ((65, 96, 104, 128), 0, sf.HWCACHE_ALIGN, False, 128, 128, "kmalloc-128"),
        ((96,), 0, sf.HWCACHE_ALIGN, False, 32, 96, "kmalloc-96"),
        ((129, 192), 0, sf.HWCACHE_ALIGN, False, 64, 192, "kmalloc-192"),
        ((129, 192), 0, sf.HWCACHE_ALIGN, False, 128, 256, "kmalloc-256"),
        ((257,), 0, sf.HWCACHE_ALIGN, False, 64, 320, OWN),
        ((257,), 0, sf.HWCACHE_ALIGN, False, 128, 384, OWN),
        ((96,), 16, 0, False, 64, 96, "kmalloc-96"),
        ((96,), 32, 0, False, 64, 96, "kmalloc-96"),
        ((96,), 64, 0, False, 64, 128, "kmalloc-128"),
        ((192,), 64, 0, False, 64, 192, "kmalloc-192"),
        ((192,), 128, 0, False, 64, 256, "kmalloc-256"),
        ((128,), 0, 0, True, 64, 136, OWN),
        ((128,), 0, sf.DESTROY_BY_RCU, False, 64, 136, OWN),
        ((128,), 0, sf.RECLAIM_ACCOUNT, False, 64, 128, OWN),
        ((96,), 0, sf.CACHE_DMA, False, 64, 96, OWN),
        ((2048,), 0, 0, False, 64, 2048, OWN),
        ((4096,), 0, sf.HWCACHE_ALIGN, False, 64, 4096, OWN),
    ],
)
def test_merge_decisions(sizes, align, flags, ctor, line, slot, target):
    for size in sizes:
        caches = CacheSet(SlubOptions(cache_line=line))
        index = caches.create(CacheRequest("new", size, align, flags, ctor))
        assert caches.caches[index].size == slot
        assert caches.root_of("new") == ("new" if target == OWN else target)


def test_the_thread_s_pair_shares_kmalloc_128_until_one_has_a_constructor():
    caches = CacheSet()
    bio = caches.create(CacheRequest("bio", 104, flags=sf.HWCACHE_ALIGN | sf.PANIC))
    sense = caches.create(CacheRequest("scsi_sense_cache", 96, flags=sf.HWCACHE_ALIGN))
    assert bio == sense == caches.index_of("kmalloc-128")
    assert caches.caches[bio].refcount == 3
    hacked = CacheSet()
    hacked.create(CacheRequest("bio", 104, flags=sf.HWCACHE_ALIGN))
    assert hacked.root_of("bio") == "kmalloc-128"
    own = hacked.create(CacheRequest("scsi_sense_cache", 96, flags=sf.HWCACHE_ALIGN, ctor=True))
    assert (hacked.caches[own].name, hacked.caches[own].size, hacked.caches[own].objects) == (
        "scsi_sense_cache",
        128,
        32,
    )


@pytest.mark.parametrize(("line", "slot"), [(64, 320), (128, 384)])
def test_a_260_byte_sense_buffer_shares_with_the_command_itself(line, slot):
    caches = CacheSet(SlubOptions(cache_line=line))
    caches.create(CacheRequest("scsi_cmd_cache", 288, flags=sf.HWCACHE_ALIGN))
    caches.create(CacheRequest("sense_260", 260, flags=sf.HWCACHE_ALIGN))
    assert caches.root_of("sense_260") == "scsi_cmd_cache"
    assert caches.caches[caches.index_of("sense_260")].size == slot


def test_large_biovecs_keep_out_of_kmalloc_but_sg_pools_join_them():
    caches = CacheSet()
    caches.create(CacheRequest("biovec-128", 2048, flags=sf.HWCACHE_ALIGN | sf.PANIC))
    caches.create(CacheRequest("sgpool-64", 2048, flags=sf.HWCACHE_ALIGN))
    assert caches.root_of("biovec-128") == "biovec-128"
    assert caches.root_of("sgpool-64") == "biovec-128"


def test_2_6_25_takes_the_newest_match_and_6_1_the_oldest():
    for era, winner in (("2.6.25", 1), ("6.1", 0)):
        options = SlubOptions(era=era)
        alike = [calculate_sizes(CacheRequest(name, 136), options) for name in ("first", "second")]
        assert find_mergeable(CacheRequest("third", 136), alike, options) == winner


def test_a_merge_grows_objsize_and_inuse_and_never_looks_at_names():
    caches = CacheSet()
    a = caches.create(CacheRequest("a", 98))
    assert (caches.caches[a].objsize, caches.caches[a].inuse) == (98, 104)
    assert caches.create(CacheRequest("kmalloc-x", 103)) == a
    assert (caches.caches[a].objsize, caches.caches[a].inuse, caches.caches[a].refcount) == (103, 104, 2)


def test_destroy_counts_references_and_a_dead_cache_takes_nobody():
    caches = CacheSet()
    a = caches.create(CacheRequest("a", 104))
    assert caches.create(CacheRequest("b", 104)) == a
    assert not caches.destroy("a")
    assert caches.root_of("b") == "a"
    assert caches.destroy("b")
    again = caches.create(CacheRequest("a", 104))
    assert again != a
    with pytest.raises(KeyError):
        caches.index_of("b")


def test_nomerge_keeps_everybody_apart():
    caches = CacheSet(SlubOptions(slub_nomerge=True))
    assert caches.create(CacheRequest("bio", 104, flags=sf.HWCACHE_ALIGN)) == len(caches.caches) - 1
    assert caches.root_of("bio") == "bio"


def test_two_nodes_add_a_cache_that_nothing_merges_into():
    caches = CacheSet(nodes=2)
    assert caches.caches[0].name == "kmem_cache_node"
    assert (caches.caches[0].size, caches.caches[0].objects) == (56, 73)
    assert caches.create(CacheRequest("x", 56)) != 0


def test_bad_requests_are_refused_with_their_name():
    with pytest.raises(ValueError, match="'x'"):
        CacheRequest("x", 0)
    caches = CacheSet()
    with pytest.raises(ValueError, match="kmalloc-96"):
        caches.create(CacheRequest("kmalloc-96", 96))
    with pytest.raises(ValueError, match="no page order"):
        caches.create(CacheRequest("huge", 1 << 24))
    with pytest.raises(ValueError, match=r"2\.4"):
        SlubOptions(era="2.4")


@given(
    hs.integers(1, 1 << 15),
    hs.sampled_from([0, 4, 8, 16, 64, 256, 4096]),
    hs.booleans(),
    hs.sampled_from(list(eras.ERAS)),
)
def test_every_slab_holds_its_objects(size, align, ctor, era):
    got = calculate_sizes(CacheRequest("x", size, align, sf.HWCACHE_ALIGN, ctor), SlubOptions(era=era, cpus_present=4))
    assert got.objects >= 1
    assert got.objects * got.size <= 4096 << got.order
    assert got.size >= size + 8 * ctor
    assert got.size % got.align == 0
    assert got.align >= align


# ------------------------------------------------------------------------------------------------ later eras


@pytest.mark.parametrize(
    ("size", "by_cpus"),
    [
        (192, ((0, 21), (0, 21), (0, 21), (0, 21))),
        (256, ((0, 16), (0, 16), (0, 16), (1, 32))),
        (320, ((0, 12), (0, 12), (1, 25), (1, 25))),
        (384, ((0, 10), (1, 21), (1, 21), (1, 21))),
        (512, ((0, 8), (1, 16), (1, 16), (2, 32))),
        (1024, ((1, 8), (2, 16), (2, 16), (3, 32))),
        (2048, ((2, 8), (3, 16), (3, 16), (3, 16))),
        (4096, ((3, 8), (3, 8), (3, 8), (3, 8))),
        (8192, ((3, 4), (3, 4), (3, 4), (2, 2))),
    ],
)
def test_variable_order_of_2_6_26(size, by_cpus):
    for cpus, (order, objects) in zip((1, 2, 4, 8), by_cpus, strict=True):
        got = calculate_sizes(CacheRequest("x", size), SlubOptions(era="2.6.26", cpus_present=cpus))
        assert (got.order, got.objects) == (order, objects), cpus


def test_2_6_26_merges_into_the_large_kmalloc_caches():
    caches = CacheSet(SlubOptions(era="2.6.26"))
    caches.create(CacheRequest("biovec-128", 2048, flags=sf.HWCACHE_ALIGN))
    assert caches.root_of("biovec-128") == "kmalloc-2048"


def test_a_usercopy_window_keeps_a_cache_alone_since_hardening():
    caches = CacheSet(SlubOptions(era="6.1"))
    assert caches.root_of("kmalloc-1k") == "kmalloc-1k"
    caches.create(CacheRequest("bio", 104, flags=sf.HWCACHE_ALIGN))
    caches.create(CacheRequest("scsi_sense_cache", 96, flags=sf.HWCACHE_ALIGN, usersize=96))
    caches.create(CacheRequest("other", 100, flags=sf.HWCACHE_ALIGN))
    assert caches.root_of("bio") == "bio"
    assert caches.root_of("scsi_sense_cache") == "scsi_sense_cache"
    assert caches.root_of("other") == "bio"


def test_the_account_bit_keeps_charged_caches_apart():
    caches = CacheSet(SlubOptions(era="6.12"))
    caches.create(CacheRequest("plain", 192))
    caches.create(CacheRequest("charged", 192, flags=sf.ACCOUNT))
    assert caches.root_of("charged") == "charged"


@pytest.mark.parametrize(
    ("size", "slots", "slabs_of_16"),
    [(4096, 6, 1), (4095, 24, 3), (1024, 24, 3), (1023, 52, 7), (256, 52, 7), (255, 120, 15)],
)
def test_cpu_partial_by_slot_size(size, slots, slabs_of_16):
    options = SlubOptions(era="6.1")
    assert eras.cpu_partial(size, 0, options) == slots
    assert eras.cpu_partial_slabs(slots, 16) == slabs_of_16
    assert eras.cpu_partial(size, sf.POISON, options) == 0
    assert eras.cpu_partial(size, 0, SlubOptions()) == 0


def test_min_partial_by_slot_size():
    options = SlubOptions(era="6.12")
    assert [eras.min_partial(size, options) for size in (8, 2047, 4095, 4096, 1 << 20, 1 << 30)] == [5, 5, 5, 6, 10, 10]
    assert eras.min_partial(1 << 20, SlubOptions()) == 5


def test_a_lone_present_cpu_counts_the_possible_ones():
    assert SlubOptions(era="6.1", cpus_present=1, cpus_possible=16).min_objects == 24
    assert SlubOptions(era="6.1", cpus_present=2, cpus_possible=16).min_objects == 12
    assert SlubOptions(cpus_present=64).min_objects == 4


def test_geometry_row_is_what_init_cache_reads():
    boot = CacheSet()
    row = geometry_row(boot.caches[boot.index_of("kmalloc-2048")])
    assert row.dtype == np.int64
    assert row.shape == (KMEM_CACHE.width,)
    assert row[
        [KMEM_CACHE.size, KMEM_CACHE.order, KMEM_CACHE.objects, KMEM_CACHE.fallback, KMEM_CACHE.min_partial]
    ].tolist() == [2048, 3, 16, 1, 5]

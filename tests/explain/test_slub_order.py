"""The order that SLUB asks for: the default one in silence, the least one with a report [mm/slub.c: allocate_slab]."""

import pytest

from tests.explain.small import failure, free_list, reserve, zone

LINES = (
    zone("DMA32", 6148, (1613, 2016, 2419)),
    reserve(0, 0),
    free_list("DMA32", (5856, ""), (58, ""), (25, ""), (3, ""), (0, ""), (1, ""), (1, "")),
)


def cache(size: int, with_debugging: int, order: int, name: str = "") -> str:
    return (
        "SLUB: Unable to allocate memory on node -1 (gfp=0x20)\n"
        f"  cache: {name or f'kmalloc-{size}'}, object size: {size}, buffer size: {with_debugging}, default order: 3, "
        f"min order: {order}\n"
    )


@pytest.mark.parametrize(
    ("said", "first"),
    [
        (cache(4096, 4424, 1), "slub_debug=O at boot: debugging alone makes kmalloc-4096 need order 1, not 0"),
        (cache(8192, 8192, 1), "compaction ahead of need"),  # needs its order by itself
        (cache(512, 512, 0), "compaction ahead of need"),  # another request's line
        ("", "compaction ahead of need"),
    ],
)
def test_debugging_is_named_where_it_alone_gives_the_order(said, first):
    answer = failure("3.2.4", 1, "0x4020", *LINES, said)
    assert answer.verdict == "fragmentation"
    assert answer.advice.first[0].startswith(first)
    assert not any("slub_max_order" in one for one in answer.advice.first)


def advised(said: str) -> str:
    return failure("3.2.4", 1, "0x4020", *LINES, said).advice.first[0]


def test_a_free_pointer_behind_the_object_raises_the_order_without_debugging():
    """slub_debug=O compares the order of the object alone with that of its size, drops what debugging stores and
    computes the size anew [mm/slub.c: kmem_cache_open, disable_higher_order_debug]. A constructor's free pointer stays
    behind the object [calculate_sizes]: 4096 + 8 is of order 1 with debugging and without."""
    said = advised(cache(4096, 4424, 1, "inodes"))
    assert said.startswith("slub_debug=O at boot: without debugging inodes needs order 0, or 1 all the same with a")
    assert advised(cache(4088, 4424, 1, "inodes")).endswith("debugging alone makes inodes need order 1, not 0")
    assert advised(cache(4089, 4424, 1, "inodes")).startswith("slub_debug=O at boot: without debugging inodes")
    # No kmalloc cache has a constructor [mm/slab_common.c: create_kmalloc_cache].
    for name in ("kmalloc-4k", "dma-kmalloc-4096", "kmalloc-rcl-4k", "kmalloc_dma-4096"):
        assert advised(cache(4096, 4424, 1, name)).endswith(f"debugging alone makes {name} need order 1, not 0")


@pytest.mark.parametrize("slot", [4104, 4160])
def test_a_free_pointer_alone_is_no_debugging(slot):
    """4096 + 8 with a constructor, up to a line of the cache with SLAB_HWCACHE_ALIGN [calculate_sizes]."""
    assert "slub_debug" not in advised(cache(4096, slot, 1, "inodes"))


def test_debugging_may_add_more_than_the_free_pointer_does():
    """8192 + 8 is of order 2, and a slot of 16,400 bytes of order 3."""
    said = failure("3.2.4", 3, "0x4020", *LINES, cache(8192, 16_400, 3, "inodes")).advice.first[0]
    assert "needs order 1, or 2 with a constructor or RCU" in said

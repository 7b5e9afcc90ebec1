"""The order that SLUB asks for: the default one in silence, the least one with a report [mm/slub.c: allocate_slab]."""

import pytest

from tests.explain.small import failure, free_list, reserve, zone

LINES = (
    zone("DMA32", 6148, (1613, 2016, 2419)),
    reserve(0, 0),
    free_list("DMA32", (5856, ""), (58, ""), (25, ""), (3, ""), (0, ""), (1, ""), (1, "")),
)


def cache(size: int, with_debugging: int, order: int) -> str:
    return (
        "SLUB: Unable to allocate memory on node -1 (gfp=0x20)\n"
        f"  cache: kmalloc-{size}, object size: {size}, buffer size: {with_debugging}, default order: 3, "
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

"""The size of a page where neither a free list nor a counter of pages is left of a report."""

import pytest

from tests.explain.small import failure, reserve, zone


def page_kb(factor: int, zones: int) -> int | None:
    """Of zones whose sizes are all odd numbers of pages of 4 kB times ``factor``."""
    lines = [
        zone(name, 301 * factor, (101 * factor, 127 * factor, 151 * factor), managed=9001 * factor)
        for name in ("DMA", "DMA32", "Normal")[:zones]
    ]
    return failure("5.10.1", 0, "0xa20(GFP_ATOMIC)", *(line + reserve(0, 0, 0, 0) for line in lines)).decision.page_kb


@pytest.mark.parametrize(
    ("factor", "zones", "unit"),
    [
        (1, 3, 4),
        (2, 2, 4),  # eight sizes are multiples of 8 kB by chance in one of 2^8
        (2, 3, 8),
        (4, 2, 16),
        (16, 1, 64),
    ],
)
def test_large_pages_are_told_by_sizes_that_are_hardly_so_by_chance(factor, zones, unit):
    assert page_kb(factor, zones) == unit

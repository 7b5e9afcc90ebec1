"""The boost that fragmentation gives the marks of a zone, where the kernel does not print it [mm/page_alloc.c, 5.0]."""

MARKLESS = ("HighMem", "Movable")  # their min is not made of min_free_kbytes [__setup_per_zone_wmarks]
PAGEBLOCK = 256  # pageblock_nr_pages of s390 and ppc64, a page of 4 or 64 kB; on x86 and arm64 it is a multiple
MOST_PAGEBLOCK = 8192  # 512 MB of 64 kB pages
LOST = 3  # pages that a quarter rounds off


def boost_of_marks(name: str, least: int, low: int) -> int:
    """The boost in the marks ``least`` (min) and ``low`` of a zone, as 5.0 to 5.15 print them; 0 where they show none.

    low - min is the larger of a quarter of min without boost and a share of the zone [__setup_per_zone_wmarks], and
    both printed marks hold the boost [wmark_pages]: min without it is 4 * (low - min) + 3 at most. It grows by
    pageblock_nr_pages, up to a share of the high mark [boost_watermark].
    """
    boost = least - 4 * (low - least)
    if name in MARKLESS or boost <= LOST:
        return 0
    whole = boost // PAGEBLOCK * PAGEBLOCK
    return whole if boost - whole <= LOST else boost

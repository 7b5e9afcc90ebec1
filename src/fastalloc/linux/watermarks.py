"""min_free_kbytes, zone watermarks, lowmem reserves and per-CPU page lists, by kernel era [mm/page_alloc.c].

All counts are pages unless said otherwise. ``sizes`` are the pages that a zone's marks are computed from, lowest zone
first: present pages up to 3.8, managed pages since. An era is named after a kernel that follows its rules;
:func:`era_of` finds that of any kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from fastalloc.linux.release import Base
from fastalloc.linux.slab_flags import fls

# The first kernel of each era: 2.6.9 doubles and trebles min; 2.6.11 adds a quarter and a half of it; 2.6.18 reckons
# these of the zone's share, in highmem too; 4.6 has watermark_scale_factor; 5.7 a higher bound of min_free_kbytes; 6.6
# keeps ZONE_MOVABLE out of the share [read in trees of 2.6.9 to 7.3, facts of setup_per_zone_wmarks].
_FIRST: dict[str, Base] = {
    "2.6.9": (2, 6, 9), "2.6.11": (2, 6, 10), "2.6.25": (2, 6, 18), "4.6": (4, 6, 0), "6.1": (5, 7, 0),
    "6.12": (6, 6, 0),
}  # fmt: skip
ERAS = tuple(_FIRST)
RATIOS_2_6_25 = (256, 256, 32)  # sysctl_lowmem_reserve_ratio: DMA, DMA32, NORMAL
RATIOS_6 = (256, 256, 32, 0, 0)  # and MOVABLE, DEVICE
MIN_FREE_KBYTES = 128
MAX_FREE_KBYTES = {"2.6.9": 16384, "2.6.11": 65536, "2.6.25": 65536, "4.6": 65536, "6.1": 262144, "6.12": 262144}
SCALED = ("4.6", "6.1", "6.12")  # eras with watermark_scale_factor
SWAP_CLUSTER_MAX = 32
PAGEBLOCK = 512
MIGRATE_PCPTYPES = 3


@dataclass(frozen=True)
class Watermarks:
    """Marks of one zone, in pages; ``promo`` is 0 before 5.18."""

    min: int
    low: int
    high: int
    promo: int = 0


def _known(era: str) -> None:
    if era not in ERAS:
        raise ValueError(f"era {era!r}: known are {', '.join(ERAS)}")


def era_of(base: Base) -> str:
    """The era of a kernel; the oldest one for a kernel before 2.6.9."""
    return [era for era, first in _FIRST.items() if first <= base or era == "2.6.9"][-1]


def in_the_share(name: str, era: str, highmem: bool) -> bool:
    """Whether a zone has a share of min_free_kbytes: HighMem has none, nor has Movable where it lies in HighMem
    (``highmem``: the machine has such a zone) or since 6.6 [is_highmem; __setup_per_zone_wmarks]."""
    return name != "HighMem" and not (name == "Movable" and (highmem or era == "6.12"))


def min_free_kbytes(lowmem_kb: int, era: str = "2.6.25") -> int:
    """min_free_kbytes that the boot sets for ``lowmem_kb`` KB [init_per_zone_pages_min, init_per_zone_wmark_min]."""
    _known(era)
    return min(max(isqrt((1 if era == "2.6.9" else 16) * lowmem_kb), MIN_FREE_KBYTES), MAX_FREE_KBYTES[era])


def khugepaged_min_free_kbytes(populated_zones: int, free_buffer_pages: int) -> int:
    """What khugepaged raises min_free_kbytes to: 11 pageblocks a zone, at most 1/20 [mm/khugepaged.c: 6.1, 6.12]."""
    blocks = populated_zones * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    return min(blocks * PAGEBLOCK, free_buffer_pages // 20) * 4


def zone_watermarks(
    kbytes: int,
    sizes: Sequence[int],
    era: str = "2.6.25",
    scale_factor: int = 10,
    lowmem: Sequence[bool] | None = None,
    page_kb: int = 4,
) -> list[Watermarks]:
    """Marks of every zone for ``min_free_kbytes`` [setup_per_zone_pages_min; __setup_per_zone_wmarks].

    Parameters
    ----------
    scale_factor : watermark_scale_factor, in 1/10000 of the zone (4.6 on).
    lowmem : which zones share the reserve, see :func:`in_the_share`; the others get a small fixed one.
    page_kb : KB of a page.
    """
    _known(era)
    shares = [True] * len(sizes) if lowmem is None else list(lowmem)
    total = sum(size for size, share in zip(sizes, shares, strict=True) if share)
    marks = []
    for size, share in zip(sizes, shares, strict=True):
        part = kbytes // page_kb * size // total if total else 0
        lowest = part if share else min(max(size // 1024, SWAP_CLUSTER_MAX), 128)
        if era == "2.6.9":
            marks.append(Watermarks(lowest, 2 * lowest, 3 * lowest))
            continue
        if era == "2.6.11":
            marks.append(Watermarks(lowest, lowest * 5 // 4, lowest * 6 // 4))
            continue
        if era not in SCALED:
            marks.append(Watermarks(lowest, lowest + part // 4, lowest + part // 2))
            continue
        gap = max(part // 4, size * scale_factor // 10000)
        marks.append(Watermarks(lowest, lowest + gap, lowest + 2 * gap, lowest + 3 * gap))
    return marks


def lowmem_reserve(sizes: Sequence[int], ratios: Sequence[int] | None = None, era: str = "2.6.25") -> list[list[int]]:
    """``reserve[z][j]``: pages of zone z kept from requests of class zone j [setup_per_zone_lowmem_reserve].

    A ratio of 0 and, since 5.x, an empty zone keep nothing back. A ratio missing for a zone counts as 0.
    """
    _known(era)
    old = era in ("2.6.9", "2.6.11", "2.6.25")
    given = list(ratios if ratios is not None else RATIOS_2_6_25 if old else RATIOS_6)
    given += [0] * (len(sizes) - len(given))
    table = []
    for z, size in enumerate(sizes):
        row = [0] * len(sizes)
        above = 0
        for j in range(z + 1, len(sizes)):
            above += sizes[j]
            if given[z] and (size or old):
                row[j] = above // given[z]
        table.append(row)
    return table


def zone_batchsize(size: int, era: str = "2.6.25", page_kb: int = 4) -> int:
    """Pages that move at once between a CPU's list and the buddy lists; 0 in small zones [zone_batchsize]."""
    _known(era)
    if era == "6.12":
        batch = min(size >> 12, 256 // page_kb)
        return 1 if batch <= 1 else _power_of_two_below(batch + batch // 2) - 1
    most = (512 if era in ("2.6.9", "2.6.11", "2.6.25") else 1024) // page_kb
    batch = max(1, min(size // 1024, most) // 4)
    return _power_of_two_below(batch + batch // 2) - 1


def _power_of_two_below(x: int) -> int:
    return 1 << (fls(x) - 1)


def pcp_2_6_25(present: int, fraction: int = 0) -> tuple[int, int]:
    """(batch, high) of a zone's per-CPU lists [setup_pageset; percpu_pagelist_fraction: setup_pagelist_highmark]."""
    batch = zone_batchsize(present)
    if fraction:
        high = present // fraction
        return min(max(1, high // 4), 96), high
    return max(1, batch), 6 * batch


def zone_highsize(size: int, low: int, cpus: int, era: str, fraction: int = 0) -> int:
    """pcp->high of 6.1; the lower bound high_min of 6.12, which tunes itself at run time [zone_highsize].

    ``low`` is the zone's low watermark, ``cpus`` the CPUs of its node, ``fraction`` percpu_pagelist_high_fraction.
    """
    if era not in ("6.1", "6.12"):
        raise ValueError(f"era {era!r}: pcp high follows from the low watermark only in 6.1 and 6.12")
    batch = max(1, zone_batchsize(size, era))
    total = size // fraction if fraction else low
    return max(total // max(1, cpus), 4 * batch)


def pcp_lists(size: int, low: int, cpus: int, base: Base, page_kb: int = 4) -> tuple[int, int]:
    """(batch, high) of a zone's per-CPU lists as ``base`` sets them: six batches, since 5.14 by the low mark."""
    era = era_of(base)
    batch = max(1, zone_batchsize(size, era, page_kb))
    if base >= (5, 14, 0):
        return batch, max(low // max(1, cpus), 4 * batch)
    return batch, 6 * zone_batchsize(size, era, page_kb)

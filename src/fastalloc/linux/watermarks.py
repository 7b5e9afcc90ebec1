"""min_free_kbytes, zone watermarks, lowmem reserves and per-CPU page lists, by kernel era [mm/page_alloc.c].

All counts are pages unless said otherwise. ``sizes`` are the pages that a zone's marks are computed from, lowest zone
first: present pages up to 3.8, managed pages since. An ``era`` is a kernel version from 2.6.9 on; CHANGES has what
changed with which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from fastalloc.linux.release import BASES, Base, base_name, parse_base
from fastalloc.linux.slab_flags import fls

RATIOS_2_6_25 = (256, 256, 32)  # sysctl_lowmem_reserve_ratio: DMA, DMA32, NORMAL
RATIOS_6 = (256, 256, 32, 0, 0)  # and MOVABLE, DEVICE
MIN_FREE_KBYTES = 128
SCALE_FACTOR = 10  # watermark_scale_factor that a kernel from 4.6 on boots with
SWAP_CLUSTER_MAX = 32
PAGEBLOCK = 512
MIGRATE_PCPTYPES = 3
LEAST_HIGH_FRACTION = 8  # MIN_PERCPU_PAGELIST_HIGH_FRACTION
STAT_THRESHOLD_MOST = 125  # it is compared with a signed byte


def calculate_threshold(cpus: int, present: int, page_kb: int = 4) -> int:
    """Pages of a zone that a CPU counts for itself at most: more with more CPUs, and with the zone's blocks of 128 MB
    [calculate_threshold, mm/vmstat.c of 2.6.25; calculate_normal_threshold since 2.6.38; a kernel with CONFIG_SMP]."""
    blocks = present * page_kb >> 17
    return min(STAT_THRESHOLD_MOST, 2 * fls(cpus) * (1 + fls(blocks)))


def calculate_pressure_threshold(cpus: int, low: int, pages_min: int) -> int:
    """The same while kswapd is awake, of a zone with a :func:`percpu_drift_mark`: so few that all CPUs together hold
    back no more than lies between low and min [calculate_pressure_threshold, set_pgdat_percpu_threshold, 2.6.38]."""
    return min(STAT_THRESHOLD_MOST, max(1, (low - pages_min) // cpus))


def percpu_drift_mark(cpus: int, threshold: int, pages_min: int, low: int, high: int) -> int:
    """Free pages below which the CPUs' counts matter to kswapd, so that it adds them up; 0 where they never do
    [refresh_zone_stat_thresholds, 2.6.36]."""
    drift = cpus * threshold
    return high + drift if drift > low - pages_min else 0


@dataclass(frozen=True)
class Watermarks:
    """Marks of one zone, in pages; ``promo`` is 0 before 5.18."""

    min: int
    low: int
    high: int
    promo: int = 0


@dataclass(frozen=True)
class MarkRules:
    """How the marks of a kernel come about."""

    name: str = ""  # the first version
    max_free_kbytes: int = 65536
    managed: bool = False  # of managed pages, not of present ones
    sqrt_of: int = 16  # min_free_kbytes is the root of so many times the kB of lowmem
    steps: str = "of share"  # low and high: ``double`` and treble min, a quarter and half ``of min`` or of the zone's
    # share of min_free_kbytes more, or steps ``scaled`` by watermark_scale_factor
    movable_fixed: bool = False  # the Movable zone has a small mark of its own, as highmem
    promo: bool = False
    ratio_zero: bool = False  # a lowmem_reserve_ratio of 0 keeps nothing back; before, it is taken for 1
    empty_keeps_none: bool = False  # a zone without pages keeps nothing back
    empty_above: bool = False  # and nothing is kept back from requests of a class zone without pages
    batch: str = "512K"  # that pcp->batch may come to
    pcp_high: bool = False  # pcp->high follows from the low mark
    pcp_tunes: bool = False  # and tunes itself at run time from there on
    # how a CPU enters free pages in the zone's number; or late, ``by page``, ``by batch`` of its list, taken and freed,
    # or ``by batch taken`` alone
    counted: str = "exactly"
    kswapd_adds_up: bool = False  # what CPUs have not entered, and has them hold back less while it is awake
    idle_enters: bool = False  # a CPU enters what it counted when it stops its tick
    source: str = ""


# (first version, what changed, function of mm/page_alloc.c), read in the trees on both sides of each.
CHANGES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("2.6.9", {"sqrt_of": 1, "max_free_kbytes": 16384, "steps": "double"}, "setup_per_zone_pages_min"),
    ("2.6.10", {"sqrt_of": 16, "max_free_kbytes": 65536, "steps": "of min"}, "setup_per_zone_pages_min of 2.6.11"),
    (
        "2.6.18",
        {"steps": "of share"},
        "setup_per_zone_pages_min, zone_batchsize, setup_per_zone_lowmem_reserve of 2.6.25-rc8",
    ),
    ("2.6.21", {"counted": "by page"}, "rmqueue_bulk, free_pages_bulk: __mod_zone_page_state of NR_FREE_PAGES"),
    ("2.6.31", {"counted": "by batch"}, "rmqueue_bulk, free_pcppages_bulk: __mod_zone_page_state of all"),
    ("2.6.38", {"kswapd_adds_up": True}, "zone_watermark_ok_safe; set_pgdat_percpu_threshold"),
    ("3.9", {"managed": True}, "__setup_per_zone_wmarks"),
    ("3.18", {"counted": "by batch taken"}, "__free_one_page: __mod_zone_freepage_state"),
    ("4.5", {"idle_enters": True}, "__setup_per_zone_wmarks; quiet_vmstat of mm/vmstat.c"),
    ("4.6", {"steps": "scaled"}, "__setup_per_zone_wmarks"),
    ("4.17", {"ratio_zero": True}, "setup_per_zone_lowmem_reserve"),
    ("4.19", {"batch": "1M"}, "zone_batchsize"),
    ("5.7", {"max_free_kbytes": 262144}, "init_per_zone_wmark_min"),
    ("5.8", {"empty_keeps_none": True}, "setup_per_zone_lowmem_reserve"),
    ("5.14", {"pcp_high": True}, "zone_highsize; 5.13 was not read"),
    ("5.18", {"promo": True}, "__setup_per_zone_wmarks"),
    ("6.6", {"movable_fixed": True}, "__setup_per_zone_wmarks"),
    ("6.8", {"pcp_tunes": True}, "zone_set_pageset_high_and_batch: high_min; 6.7 was not read"),
    ("6.10", {"empty_above": True, "counted": "by page"}, "setup_per_zone_lowmem_reserve; account_freepages"),
    ("6.12", {"batch": "256K", "empty_above": False}, "zone_batchsize, setup_per_zone_lowmem_reserve of 6.12.117"),
    ("6.13", {"batch": "1M", "empty_above": True}, "zone_batchsize, setup_per_zone_lowmem_reserve of 6.13.2"),
    ("6.14", {"empty_above": False}, "setup_per_zone_lowmem_reserve"),
    ("6.19", {"batch": "256K"}, "zone_batchsize"),
)


def _table() -> dict[Base, MarkRules]:
    table, rules = {}, MarkRules()
    for first, fields, source in CHANGES:
        rules = replace(rules, **fields, name=first, source=f"mm/page_alloc.c: {source}")
        table[parse_base(first)] = rules
    return table


_RULES = _table()


def marks_of(era: str) -> MarkRules:
    """The rules of a kernel version; ValueError outside 2.6.9 to 7.3."""
    base = parse_base(era)
    if not parse_base(CHANGES[0][0]) <= base <= BASES[-1]:
        raise ValueError(f"kernel {era}: marks are known from {CHANGES[0][0]} to {base_name(BASES[-1])}")
    return _RULES[max(first for first in _RULES if first <= base)]


def era_of(base: Base) -> str:
    """The era of a kernel; the oldest one known for a kernel before 2.6.9, the newest for one after 7.3."""
    return base_name(min(max(base, BASES[0]), BASES[-1]))


def in_the_share(name: str, era: str, highmem: bool) -> bool:
    """Whether a zone has a share of min_free_kbytes: HighMem has none, nor has Movable where it lies in HighMem
    (``highmem``: the machine has such a zone) or since 6.6 [is_highmem; __setup_per_zone_wmarks]."""
    return name != "HighMem" and not (name == "Movable" and (highmem or marks_of(era).movable_fixed))


def min_free_kbytes(lowmem_kb: int, era: str = "2.6.25") -> int:
    """min_free_kbytes that the boot sets for ``lowmem_kb`` kB [init_per_zone_pages_min, init_per_zone_wmark_min]."""
    rules = marks_of(era)
    return min(max(isqrt(rules.sqrt_of * lowmem_kb), MIN_FREE_KBYTES), rules.max_free_kbytes)


def khugepaged_min_free_kbytes(populated_zones: int, free_buffer_pages: int) -> int:
    """What khugepaged raises min_free_kbytes to: 11 pageblocks a zone, at most 1/20 [mm/khugepaged.c: 6.1, 6.12:
    set_recommended_min_free_kbytes; on machines of 512 MB and more that have huge pages on]."""
    blocks = populated_zones * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    return min(blocks * PAGEBLOCK, free_buffer_pages // 20) * 4


def zone_watermarks(
    kbytes: int,
    sizes: Sequence[int],
    era: str = "2.6.25",
    scale_factor: int = SCALE_FACTOR,
    lowmem: Sequence[bool] | None = None,
    page_kb: int = 4,
) -> list[Watermarks]:
    """Marks of every zone for ``min_free_kbytes`` [setup_per_zone_pages_min; __setup_per_zone_wmarks].

    Parameters
    ----------
    scale_factor : watermark_scale_factor, in 1/10000 of the zone (4.6 on).
    lowmem : which zones share the reserve, see :func:`in_the_share`; the others get a small fixed one.
    page_kb : kB of a page.
    """
    rules = marks_of(era)
    shares = [True] * len(sizes) if lowmem is None else list(lowmem)
    total = sum(size for size, share in zip(sizes, shares, strict=True) if share)
    marks = []
    for size, share in zip(sizes, shares, strict=True):
        part = kbytes // page_kb * size // total if total else 0
        lowest = part if share else min(max(size // 1024, SWAP_CLUSTER_MAX), 128)
        if rules.steps == "double":
            marks.append(Watermarks(lowest, 2 * lowest, 3 * lowest))
            continue
        if rules.steps == "of min":
            marks.append(Watermarks(lowest, lowest * 5 // 4, lowest * 6 // 4))
            continue
        if rules.steps == "of share":
            marks.append(Watermarks(lowest, lowest + part // 4, lowest + part // 2))
            continue
        gap = max(part // 4, size * scale_factor // 10000)
        promo = lowest + 3 * gap if rules.promo else 0
        marks.append(Watermarks(lowest, lowest + gap, lowest + 2 * gap, promo))
    return marks


def lowmem_reserve(sizes: Sequence[int], ratios: Sequence[int] | None = None, era: str = "2.6.25") -> list[list[int]]:
    """``reserve[z][j]``: pages of zone z kept from requests of class zone j [setup_per_zone_lowmem_reserve].

    A ratio of 0 keeps nothing back since 4.17 and an empty zone since 5.8. A ratio missing for a zone counts as 0.
    """
    rules = marks_of(era)
    given = list(ratios if ratios is not None else RATIOS_6 if rules.ratio_zero else RATIOS_2_6_25)
    if not rules.ratio_zero:
        given = [max(1, ratio) for ratio in given]
    given += [0] * (len(sizes) - len(given))
    table = []
    for z, size in enumerate(sizes):
        row = [0] * len(sizes)
        above = 0
        for j in range(z + 1, len(sizes)):
            above += sizes[j]
            if given[z] and (size or not rules.empty_keeps_none) and not (rules.empty_above and not sizes[j]):
                row[j] = above // given[z]
        table.append(row)
    return table


def zone_batchsize(size: int, era: str = "2.6.25", page_kb: int = 4) -> int:
    """Pages that move at once between a CPU's list and the buddy lists; 0 in small zones [zone_batchsize]."""
    rules = marks_of(era)
    if rules.batch == "256K":
        batch = min(size >> 12, 256 // page_kb)
        return 1 if batch <= 1 else _power_of_two_below(batch + batch // 2) - 1
    most = (512 if rules.batch == "512K" else 1024) // page_kb
    batch = max(1, min(size // 1024, most) // 4)
    return _power_of_two_below(batch + batch // 2) - 1


def _power_of_two_below(x: int) -> int:
    return 1 << (fls(x) - 1)


def zone_highsize(size: int, low: int, cpus: int, era: str, fraction: int = 0, page_kb: int = 4) -> int:
    """pcp->high since 5.14; where it tunes itself at run time (6.12), its lower bound high_min [zone_highsize].

    ``low`` is the zone's low watermark, ``cpus`` the CPUs of its node, ``fraction`` percpu_pagelist_high_fraction.
    """
    if not marks_of(era).pcp_high:
        raise ValueError(f"kernel {era}: pcp->high follows from the low watermark only since 5.14")
    batch = max(1, zone_batchsize(size, era, page_kb))
    total = size // fraction if fraction else low
    return max(total // max(1, cpus), 4 * batch)


def pcp_high_bounds(size: int, low: int, cpus: int, era: str, fraction: int = 0) -> tuple[int, int]:
    """Between which numbers pcp->high tunes itself; a ``fraction`` set by hand is both, and before 6.7 the first is
    all there is [zone_set_pageset_high_and_batch, MIN_PERCPU_PAGELIST_HIGH_FRACTION]."""
    least = zone_highsize(size, low, cpus, era, fraction)
    return least, least if fraction else zone_highsize(size, low, cpus, era, LEAST_HIGH_FRACTION)


def pcp_lists(size: int, low: int, cpus: int, base: Base, page_kb: int = 4) -> tuple[int, int]:
    """(batch, high) of a zone's per-CPU lists as ``base`` sets them: six batches, since 5.14 by the low mark
    [setup_pageset, zone_highsize]."""
    era = era_of(base)
    batch = zone_batchsize(size, era, page_kb)
    high = zone_highsize(size, low, cpus, era, page_kb=page_kb) if marks_of(era).pcp_high else 6 * batch
    return max(1, batch), high

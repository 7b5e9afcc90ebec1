"""Allocation masks of every kernel from 2.6.9: which bit has which name [include/linux/gfp.h, gfp_types.h].

``gfp_masks.csv`` holds a row for each name and span of versions, with its source. From 6.9 the bits after bit 23
pack by configuration, so that one bit has several names there; the names that a report prints decide.
"""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fastalloc.linux.release import BASES, Base, Span, span

TABLE = Path(__file__).with_name("gfp_masks.csv")

# Flags of vendors' kernels. Each has one bit, and which one depends on what else was taken over and configured: with
# CONFIG_CMA __GFP_CMA is 0x800000 in patches of 5.10, 0x8000000 in Android's 5.15 [include/linux/gfp.h of Android's
# common kernels; Qualcomm's of 4.x have it too].
VENDOR_FLAGS = ("__GFP_CMA",)
_CONFIGURED = 0x800000  # the first bit that a configuration or a vendor gives, from 4.18
ASKS_FOR_CMA: Base = (5, 10, 0)  # Android's from here on give CMA pages to movable requests with __GFP_CMA alone


class Name(NamedTuple):
    """A row of the table. ``bits`` of a combination are several."""

    versions: Span
    flag: str
    bits: int
    combination: bool
    source: str
    note: str


class Mask(NamedTuple):
    """A mask read by the table of one version."""

    number: int
    flags: tuple[str, ...]  # single bits, lowest first
    names: tuple[str, ...]  # as %pGg prints them: combinations first
    unknown: int  # bits without a name in that version
    either: dict[int, tuple[str, ...]]  # a bit that has another name in another configuration


@cache
def names() -> tuple[Name, ...]:
    """All rows of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Name(
                span(row["first_version"], row["last_version"]),
                row["flag"],
                int(row["bits"], 16),
                row["kind"] == "combination",
                row["source"],
                row["note"],
            )
            for row in csv.DictReader(file)
        )


@cache
def bits(base: Base) -> dict[int, tuple[str, ...]]:
    """The names of each single bit in a version, the usual one first."""
    found: dict[int, list[str]] = {}
    for name in names():
        if not name.combination and base in name.versions:
            found.setdefault(name.bits, []).append(name.flag)
    # An x86 distribution kernel has neither tags nor LOCKDEP: its name for a packed bit comes first.
    return {bit: tuple(sorted(flags, key=_unusual)) for bit, flags in found.items()}


def _unusual(flag: str) -> tuple[int, str]:
    order = ("__GFP_NO_OBJ_EXT", "__GFP_NOLOCKDEP", "__GFP_SKIP_ZERO", "__GFP_SKIP_KASAN")
    if flag == "__GFP_NOTRACK_FALSE_POSITIVE":
        return len(order), flag
    return (order.index(flag) if flag in order else -1), flag


@cache
def combinations(base: Base) -> tuple[tuple[str, int], ...]:
    """The named combinations of a version, widest first. With KASAN_HW_TAGS a name has more bits: both are here."""
    found = [(name.flag, name.bits) for name in names() if name.combination and base in name.versions and name.bits]
    return tuple(sorted(found, key=lambda item: -item[1].bit_count()))


def decode(mask: int, base: Base) -> Mask:
    """Reads a mask by the table of version ``base``."""
    table = bits(base)
    flags = tuple(table[bit][0] for bit in sorted(table) if mask & bit)
    unknown = mask & ~sum(table)
    either = {bit: table[bit] for bit in table if mask & bit and len(table[bit]) > 1 and bit >= 1 << 24}
    left, said = mask & ~unknown, []
    for name, value in combinations(base):
        if left & value == value:
            said.append(name)
            left &= ~value
    said += [table[bit][0] for bit in sorted(table) if left & bit]
    return Mask(mask, flags, tuple(said), unknown, either)


def from_names(text: str, base: Base) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Reads the names that a report prints in brackets.

    Returns:
        The mask that they make in version ``base``, the single flags, and the names that this version does not know.
    """
    by_flag = {flag: bit for bit, flags in bits(base).items() for flag in flags}
    combined = dict(combinations(base))  # the last, with the fewest bits, is that of most kernels
    mask, lost = 0, []
    for name in (part.strip() for part in text.split("|")):
        if not name or name.lower() in ("none", "0"):
            continue
        if name in combined:
            mask |= combined[name]
        elif name in by_flag:
            mask |= by_flag[name]
        elif name.startswith("0x"):
            mask |= int(name, 16)
        else:
            lost.append(name)
    return mask, decode(mask, base).flags, tuple(lost)


def made_by(text: str, mask: int, base: Base) -> bool:
    """True where the names that a report prints make its mask in version ``base``, each flag of a vendor one bit."""
    made, _, lost = from_names(text, base)
    rest = mask & ~made
    known = all(name in VENDOR_FLAGS for name in lost)
    return known and not made & ~mask and rest % _CONFIGURED == 0 and rest.bit_count() == len(lost)


@cache
def _all_flags() -> frozenset[str]:
    return frozenset(name.flag for name in names() if not name.combination)


def of_others(lost: tuple[str, ...]) -> tuple[str, ...]:
    """Of names that a version does not know those of vendors and of other versions, whose code a kernel took over."""
    return tuple(name for name in lost if name in VENDOR_FLAGS or name in _all_flags())


@cache
def eras() -> tuple[Span, ...]:
    """Spans of versions in which no bit changes its name."""
    found: list[Span] = []
    for base in BASES:
        if found and bits(found[-1].last) == bits(base):
            found[-1] = Span(found[-1].first, base)
        else:
            found.append(Span(base, base))
    found[-1] = Span(found[-1].first, (99, 0, 0))
    return tuple(found)


# From 4.4 whoever allocates wakes kswapd or reclaims; few masks do neither (boot code, GFP_TRANSHUGE_LIGHT).
_WAKES = {"__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM"}


def plausible(mask: int, base: Base) -> bool:
    """True where every bit has a name in that version and the whole looks like a caller's mask."""
    read = decode(mask, base)
    if read.unknown:
        return False
    flags = set(read.flags)
    if base >= (4, 4, 0):
        return (
            bool(flags & _WAKES) or mask in (0, 1, 4) or "__GFP_NORETRY" in flags or mask == bits_of("__GFP_ZERO", base)
        )
    if flags & {"__GFP_IO", "__GFP_FS"}:  # who may start I/O may sleep
        return "__GFP_WAIT" in flags
    return True


def bits_of(flag: str, base: Base) -> int:
    """The bits of a name in a version; 0 where it has none."""
    return next((name.bits for name in names() if name.flag == flag and base in name.versions), 0)


def candidates(mask: int, within: Span) -> list[Span]:
    """The spans inside ``within`` whose table explains the mask with the fewest names, oldest first."""
    found = []
    for era in eras():
        both = era.meet(within)
        if both is not None and plausible(mask, both.first):
            found.append((len(decode(mask, both.first).names), both))
    fewest = min((count for count, _ in found), default=0)
    merged: list[Span] = []
    for count, era in found:
        if count > fewest:
            continue
        if merged and _same(mask, merged[-1], era):
            merged[-1] = Span(merged[-1].first, era.last)
        else:
            merged.append(era)
    return merged


def _same(mask: int, one: Span, other: Span) -> bool:
    touching = BASES[min(BASES.index(one.last) + 1, len(BASES) - 1)] == other.first if one.last in BASES else False
    return touching and decode(mask, one.last).flags == decode(mask, other.first).flags

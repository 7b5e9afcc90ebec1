"""Pages for an allocator of one's own, and whose they are: what ``take_pages`` and ``give_pages`` are, interpreted and
compiled, and the map of what is handed out against which each object is held."""

from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.records import Record, field

from numba import njit  # isort: skip

PAGE_SHIFT = 12
GRANULE_SHIFT = 3  # objects begin and end at multiples of 8 bytes
GRANULES = 1 << (PAGE_SHIFT - GRANULE_SHIFT)  # a page
MAX_ORDER = 11
NOTHING = -1  # no pages, or no object


class ZONE_CTL(Record):
    """zone.ctl[.]."""

    top = field("first page never taken")
    held = field("pages taken and not given back")
    limit = field("pages that may be held")
    cache = field("whose operation runs")
    taken = field("pages taken so far by the operation that runs")
    bad = field("1 + a page given back that was not taken so, 0 none")
    free = field("first run that was given back, by order: -1 none", width=MAX_ORDER)


class CACHE_COUNT(Record):
    """zone.counts[cache, .]."""

    pages = field("held")
    peak = field("most held")
    new = field("taken so far")
    given = field("given back so far")
    slow = field("calls of slow(zone)")
    locks = field("calls of lock(zone)")


class Zone(NamedTuple):
    """The pages of a machine of an allocator of one's own."""

    map: np.ndarray  # int64[PAGES]: 1 + order at the first page of a run that is held, -1 at the others, 0 free
    owner: np.ndarray  # int64[PAGES]: cache that took the run
    next: np.ndarray  # int64[PAGES]: of runs given back
    ctl: np.ndarray  # int64[ZONE_CTL.width]
    counts: np.ndarray  # int64[caches, CACHE_COUNT.width]
    used: np.ndarray  # int64[PAGES * GRANULES]: 1 + the object that an 8-byte granule belongs to, 0 none


def new_zone(pages: int, caches: int, limit: int) -> Zone:
    """A zone of ``pages`` pages, of which ``limit`` may be held."""
    ctl = np.zeros(ZONE_CTL.width, np.int64)
    ctl[ZONE_CTL.limit] = limit
    ctl[ZONE_CTL.free : ZONE_CTL.free + MAX_ORDER] = -1
    whole = np.zeros(pages, np.int64)
    count = np.zeros((caches, CACHE_COUNT.width), np.int64)
    return Zone(whole, whole.copy(), whole.copy(), ctl, count, np.zeros(pages * GRANULES, np.int32))


@njit
def take_pages(zone: Any, gfp: Any, order: Any) -> Any:
    """The first of ``2**order`` pages, aligned to their number, or NOTHING."""
    ctl = zone.ctl
    if order < 0 or order >= MAX_ORDER or ctl[ZONE_CTL.held] + (1 << order) > ctl[ZONE_CTL.limit]:
        return NOTHING
    page = ctl[ZONE_CTL.free + order]
    if page >= 0:
        ctl[ZONE_CTL.free + order] = zone.next[page]
    else:
        page = (ctl[ZONE_CTL.top] + (1 << order) - 1) >> order << order
        if page + (1 << order) > zone.map.shape[0]:
            return NOTHING
        ctl[ZONE_CTL.top] = page + (1 << order)
    for i in range(1, 1 << order):
        zone.map[page + i] = -1
    zone.map[page] = 1 + order
    c = ctl[ZONE_CTL.cache]
    zone.owner[page] = c
    count = zone.counts[c]
    count[CACHE_COUNT.pages] += 1 << order
    count[CACHE_COUNT.new] += 1 << order
    count[CACHE_COUNT.peak] = max(count[CACHE_COUNT.peak], count[CACHE_COUNT.pages])
    ctl[ZONE_CTL.held] += 1 << order
    ctl[ZONE_CTL.taken] += 1 << order
    return page


@njit
def give_pages(zone: Any, page: Any, order: Any) -> Any:
    """Give a run of pages back."""
    ctl = zone.ctl
    if page < 0 or page >= zone.map.shape[0] or zone.map[page] != 1 + order:
        ctl[ZONE_CTL.bad] = 1 + page if ctl[ZONE_CTL.bad] == 0 else ctl[ZONE_CTL.bad]
        return
    for i in range(1 << order):
        zone.map[page + i] = 0
        for granule in range((page + i) * GRANULES, (page + i + 1) * GRANULES):
            if zone.used[granule] != 0:
                ctl[ZONE_CTL.bad] = 1 + page
    count = zone.counts[zone.owner[page]]
    count[CACHE_COUNT.pages] -= 1 << order
    count[CACHE_COUNT.given] += 1 << order
    ctl[ZONE_CTL.held] -= 1 << order
    zone.next[page] = ctl[ZONE_CTL.free + order]
    ctl[ZONE_CTL.free + order] = page


@njit
def slow(zone: Any) -> Any:
    """The operation leaves its fast path."""
    zone.counts[zone.ctl[ZONE_CTL.cache], CACHE_COUNT.slow] += 1


@njit
def lock(zone: Any) -> Any:
    """The operation takes a lock of all CPUs."""
    zone.counts[zone.ctl[ZONE_CTL.cache], CACHE_COUNT.locks] += 1


# What is wrong with an address.
SOUND, OUTSIDE, ACROSS, TWICE, MISPLACED, BAD_PAGE = range(6)


@njit
def note_object(zone: Any, address: Any, size: Any, number: Any) -> Any:
    """Object ``number`` is handed out: SOUND, or OUTSIDE of pages held, ACROSS the end of their run, in use TWICE,
    MISPLACED at no multiple of 8."""
    if address & ((1 << GRANULE_SHIFT) - 1) != 0:
        return MISPLACED
    page = address >> PAGE_SHIFT
    if address < 0 or page >= zone.map.shape[0] or zone.map[page] == 0:
        return OUTSIDE
    head = page
    while zone.map[head] < 0:
        head -= 1
    if address + size > (head + (1 << (zone.map[head] - 1))) << PAGE_SHIFT:
        return ACROSS
    first = address >> GRANULE_SHIFT
    last = (address + size - 1) >> GRANULE_SHIFT
    for granule in range(first, last + 1):
        if zone.used[granule] != 0:
            return TWICE
    for granule in range(first, last + 1):
        zone.used[granule] = 1 + number
    return SOUND


@njit
def forget_object(zone: Any, address: Any, size: Any) -> Any:
    """An object is freed."""
    for granule in range(address >> GRANULE_SHIFT, ((address + size - 1) >> GRANULE_SHIFT) + 1):
        zone.used[granule] = 0


PROVIDED = {"take_pages": take_pages, "give_pages": give_pages, "slow": slow, "lock": lock}

"""The book of an allocator of one's own: which pages it holds, and which objects lie in them.

Everything it does is held against the book, in the closed loop as in a check or a replay: no object outside of its
pages, none over another that is in use, no page given back that is not held or has an object in use.
``zone`` is any tuple with the first six arrays of :class:`~fastalloc.kernels.alloc.own.state.Own`.
"""

from fastalloc.compiler.jit import internal
from fastalloc.kernels.alloc.own.state import (
    ACROSS,
    CACHE_COUNT,
    GRANULE_SHIFT,
    GRANULES,
    MISPLACED,
    NOTHING,
    OUTSIDE,
    PAGE_SHIFT,
    SOUND,
    TWICE,
    ZONE_CTL,
)


@internal
def take_run(zone, order):
    """Number ``2**order`` pages, aligned to their number, and enter them: the first, or NOTHING without a number."""
    ctl = zone.ctl
    page = ctl[ZONE_CTL.free[order]]
    if page >= 0:
        ctl[ZONE_CTL.free[order]] = zone.next[page]
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
    ctl[ZONE_CTL.most] = max(ctl[ZONE_CTL.most], ctl[ZONE_CTL.held])
    return page


@internal
def give_run(zone, page, order):
    """Strike a run of pages out: whether it may go; what is not held so, or has an object in use, is noted as bad."""
    ctl = zone.ctl
    if ctl[ZONE_CTL.bad] != 0:
        return False
    if page < 0 or order < 0 or page >= zone.map.shape[0] or zone.map[page] != 1 + order:
        ctl[ZONE_CTL.bad] = 1 + page if page >= 0 else page
        return False
    for granule in range(page * GRANULES, (page + (1 << order)) * GRANULES):
        if zone.used[granule] != 0:
            ctl[ZONE_CTL.bad] = 1 + page
            return False
    for i in range(1 << order):
        zone.map[page + i] = 0
    count = zone.counts[zone.owner[page]]
    count[CACHE_COUNT.pages] -= 1 << order
    count[CACHE_COUNT.given] += 1 << order
    ctl[ZONE_CTL.held] -= 1 << order
    zone.next[page] = ctl[ZONE_CTL.free[order]]
    ctl[ZONE_CTL.free[order]] = page
    return True


@internal
def run_of(zone, address):
    """The first page of the run that an address in it lies in."""
    page = address >> PAGE_SHIFT
    while zone.map[page] < 0:
        page -= 1
    return page


@internal
def note_object(zone, address, size, c):
    """An object of cache ``c`` is handed out: SOUND, or OUTSIDE of pages held, ACROSS the end of their run, in use
    TWICE, MISPLACED at no multiple of 8."""
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
        zone.used[granule] = -1
    zone.used[first] = 1 + c
    return SOUND


@internal
def forget_object(zone, address, size):
    """An object is freed."""
    for granule in range(address >> GRANULE_SHIFT, ((address + size - 1) >> GRANULE_SHIFT) + 1):
        zone.used[granule] = 0

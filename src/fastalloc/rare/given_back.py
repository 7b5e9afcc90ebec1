"""Pages given back to the free lists of a lane at one time: how many would have freed it?"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from fastalloc.batch.lane import Lane
from fastalloc.batch.snapshot import Snapshot, restore
from fastalloc.errors import InputError
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import free_one_page
from fastalloc.kernels.alloc.state import MEMCTL, PAGE, ZONE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import MAPPING, VM
from fastalloc.kernels.swap.lru import del_page_from_lru
from fastalloc.rare.events import Event, happened_ns
from fastalloc.rare.rewind import Rewound
from fastalloc.rare.until import branches_until
from fastalloc.report.statistics import wilson_interval

WITHIN_NS = ms.NS_PER_S  # a branch that has not stood still again by then is free
STAYS = st.PG_ISOLATED | st.PG_WRITEBACK | st.PG_LOCKED | st.PG_SWAPCACHE


class Given(NamedTuple):
    """What became of the branches of a lane that was given so many pages."""

    pages: int
    branches: int
    lost: int
    low: float  # 95 %, Wilson, of the share lost
    high: float


class GivenBack(NamedTuple):
    """How many pages it takes at one time."""

    lane: int
    event: Event
    at_ns: int
    too_few: int  # the most pages tried with which every branch is lost; -1: some are free without any
    enough: int | None  # the fewest tried with which none is; None: not with all that could be given
    tried: tuple[Given, ...]  # by pages


def give_back(arrays: Lane, pages: int) -> int:
    """Put pages of tasks on the free lists of the zone that serves the kernel, the coldest first; how many there were.

    As if their owner dropped them: anonymous pages and pages of tmpfs files that nobody holds. What is locked,
    isolated, under writeback or in the swap cache stays, and so does the last page of a file, with its radix node. No
    CPU counts them for itself.
    """
    mem, vm = arrays.mem, arrays.vm
    z = int(mem.ctl[MEMCTL.nr_zones]) - 1 - int(mem.ctl[MEMCTL.user_zones])
    given = 0
    for tail in (ZONE.inactive_tail, ZONE.active_tail):
        pfn = int(mem.zone[z, tail])
        while pfn >= 0 and given < pages:
            before = int(mem.page[pfn, PAGE.prev])
            if _drops(arrays, pfn):
                del_page_from_lru(mem, pfn)
                mem.page[pfn, PAGE.owner] = mem.page[pfn, PAGE.file] = -1
                free_one_page(mem, z, pfn, 0)
                given += 1
            pfn = before
    vm.ctl[VM.lru_ahead] = -1
    return given


def _drops(arrays: Lane, pfn: int) -> bool:
    """The owner forgets a page, where it may [truncate_complete_page]."""
    row, vm = arrays.mem.page[pfn], arrays.vm
    owner, file, flags = int(row[PAGE.owner]), int(row[PAGE.file]), int(row[PAGE.flags])
    if owner < 0 or flags & STAYS or not flags & st.PG_LRU:
        return False
    if file >= 0:
        if vm.mapping[file, MAPPING.nrpages] < 2:
            return False
        vm.mapping[file, MAPPING.nrpages] -= 1
        if flags & st.PG_FIRST:
            vm.mapping[file, MAPPING.first] = 0
    if flags & st.PG_MAPPED:
        vm.ctl[VM.anon_mapped] -= 1
    vm.where[owner] = 0
    return True


def pages_to_free(
    opened: Rewound,
    event: Event,
    at_ns: int,
    *,
    branches: int,
    threads: int = 0,
    progress: Callable[[Given], None] | None = None,
    cancel: threading.Event | None = None,
) -> GivenBack | None:
    """How many pages given back at ``at_ns`` keep a lane from the event that it is in, or about to come to.

    A branch is lost if the event begins within WITHIN_NS or has begun before. More pages are taken to be better: the
    number is doubled until no branch is lost, then both ends of the band in which some are are bisected. The branches
    have the same keys for each number. None when it is cancelled.

    Raises:
        InputError: the event is over, or has been told of already: a livelock is 5 s after its onset.
        LaneError: the state of a branch is not to be trusted.
    """
    start = opened.go_to(at_ns).snapshot()
    if happened_ns(event, start.arrays) is not None:
        raise InputError("--give-back", f"{at_ns / 1e9:g} s", f"the {event} has been told of: name a time before")
    tried: dict[int, Given] = {}

    def lost(pages: int) -> int | None:
        if pages not in tried:
            snapshot = _given(start, pages)
            if snapshot is None:
                raise _NoMoreError
            where: dict[str, Any] = {"threads": threads, "cancel": cancel}
            seen = branches_until(snapshot, event, at_ns + WITHIN_NS, opened.scenario, branches, **where)
            if not seen:
                return None
            count = sum(each.event for each in seen)
            tried[pages] = Given(pages, branches, count, *wilson_interval(count, branches))
            if progress is not None:
                progress(tried[pages])
        return tried[pages].lost

    def found(enough: int | None) -> GivenBack:
        too_few = max((pages for pages, each in tried.items() if each.lost == branches), default=-1)
        return GivenBack(opened.lane, event, at_ns, too_few, enough, tuple(tried[pages] for pages in sorted(tried)))

    pages = 0
    try:
        while left := lost(pages):
            pages = max(1, 2 * pages)
    except _NoMoreError:
        return found(None)
    if left is None:
        return None
    for done in (lambda count: count == 0, lambda count: count < branches):
        low, high = _bracket(tried, done)
        while high - low > 1:
            middle = (low + high) // 2
            left = lost(middle)
            if left is None:
                return None
            low, high = (low, middle) if done(left) else (middle, high)
    return found(min(pages for pages, each in tried.items() if each.lost == 0))


class _NoMoreError(Exception):
    """A lane has not so many pages to give."""


def _bracket(tried: dict[int, Given], done: Callable[[int], bool]) -> tuple[int, int]:
    """The most pages tried that are not enough, and the fewest that are."""
    high = min(pages for pages, each in tried.items() if done(each.lost))
    return max((pages for pages in tried if pages < high), default=high - 1), high


def _given(snapshot: Snapshot, pages: int) -> Snapshot | None:
    arrays = restore(snapshot)
    return snapshot._replace(arrays=arrays) if give_back(arrays, pages) == pages else None

"""Pages for an allocator of one's own outside of the closed loop: what ``take_pages``, ``give_pages``, ``slow`` and
``lock`` are there, interpreted and compiled, over the same book of pages and objects."""

from typing import Any, NamedTuple

import numpy as np

from fastalloc.kernels.alloc.own import pages
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
from fastalloc.linux.gfp import MAX_ORDER
from fastalloc.own import slabs

from numba import njit  # isort: skip

# Of the book, compiled for whoever calls: a kernel has no code of its own.
take_run = njit(pages.take_run.py_func)
give_run = njit(pages.give_run.py_func)
note_object = njit(pages.note_object.py_func)
forget_object = njit(pages.forget_object.py_func)


class Zone(NamedTuple):
    """The pages of a machine of an allocator of one's own, as the first arrays of ``kernels.alloc.own.state.Own``."""

    map: np.ndarray  # int64[PAGES]: 1 + order at the first page of a run that is held, -1 at the others, 0 free
    owner: np.ndarray  # int64[PAGES]: cache that took the run
    next: np.ndarray  # int64[PAGES]: of runs given back
    ctl: np.ndarray  # int64[ZONE_CTL.width]
    counts: np.ndarray  # int64[caches, CACHE_COUNT.width]
    used: np.ndarray  # int16[PAGES * GRANULES]: 1 + cache where an object begins, -1 in the rest of it, 0 free


def new_zone(pages: int, caches: int, limit: int) -> Zone:
    """A zone of ``pages`` pages, of which ``limit`` may be held."""
    ctl = np.zeros(ZONE_CTL.width, np.int64)
    ctl[ZONE_CTL.limit] = limit
    ctl[ZONE_CTL.free[:]] = -1
    whole = np.zeros(pages, np.int64)
    count = np.zeros((caches, CACHE_COUNT.width), np.int64)
    return Zone(whole, whole.copy(), whole.copy(), ctl, count, np.zeros(pages * GRANULES, np.int16))


def bad_page(bad: int) -> int:
    """The page that ``ctl[ZONE_CTL.bad]`` stands for."""
    return bad - 1 if bad > 0 else bad


@njit
def take_pages(zone: Any, gfp: Any, order: Any) -> Any:
    """The first of ``2**order`` pages, aligned to their number, or NOTHING."""
    ctl = zone.ctl
    if order < 0 or order >= MAX_ORDER or ctl[ZONE_CTL.held] + (1 << order) > ctl[ZONE_CTL.limit]:
        return NOTHING
    return take_run(zone, order)


@njit
def give_pages(zone: Any, page: Any, order: Any) -> Any:
    """Give a run of pages back."""
    give_run(zone, page, order)


@njit
def slow(zone: Any) -> Any:
    """The operation leaves its fast path."""
    zone.counts[zone.ctl[ZONE_CTL.cache], CACHE_COUNT.slow] += 1


@njit
def lock(zone: Any) -> Any:
    """The operation takes a lock of all CPUs."""
    zone.counts[zone.ctl[ZONE_CTL.cache], CACHE_COUNT.locks] += 1


@njit
def current(zone: Any) -> Any:
    """The number of the task that runs on this CPU, from 0 on."""
    return zone.ctl[ZONE_CTL.task]


PART = 100  # a bulk allocation gave a part of what was asked for

PROVIDED = {
    "take_pages": take_pages, "give_pages": give_pages, "slow": slow, "lock": lock, "current": current,
    **slabs.PROVIDED,
}  # fmt: skip

__all__ = [
    "ACROSS",
    "CACHE_COUNT",
    "GRANULES",
    "GRANULE_SHIFT",
    "MAX_ORDER",
    "MISPLACED",
    "NOTHING",
    "OUTSIDE",
    "PAGE_SHIFT",
    "PART",
    "PROVIDED",
    "SOUND",
    "TWICE",
    "ZONE_CTL",
    "Zone",
    "bad_page",
    "current",
    "forget_object",
    "give_pages",
    "lock",
    "new_zone",
    "note_object",
    "slow",
    "take_pages",
]

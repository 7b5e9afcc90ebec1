"""The state of an allocator of one's own: the book of its pages and objects, and the arrays that its file declares."""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.records import Record, columns, field
from fastalloc.linux.gfp import MAX_ORDER

PAGE_SHIFT = 12
GRANULE_SHIFT = 3  # objects begin and end at multiples of 8 bytes
GRANULES = 1 << (PAGE_SHIFT - GRANULE_SHIFT)  # a page
NOTHING = -1  # no pages, or no object
FAILED = -(1 << 63)  # what a function returns in place of an exception
MOST_ARRAYS = 24  # of a file

CALLS = ("alloc", "free", "shrink", "flush", "pages_held")
ALLOC, FREE, SHRINK, FLUSH, PAGES_HELD = range(len(CALLS))

# What may be wrong with an address, a page or an answer.
SOUND, OUTSIDE, ACROSS, TWICE, MISPLACED, BAD_PAGE, HELD, RAISED = range(8)


class ZONE_CTL(Record):
    """zone.ctl[.], own.ctl[.]: pages are numbered in the order in which they are taken."""

    top = field("first page never taken")
    held = field("pages taken and not given back")
    limit = field("pages that may be held")
    cache = field("whose operation runs")
    taken = field("pages taken so far by the operation that runs")
    bad = field("1 + a page given back that was not taken so, or has an object in use; 0 none")
    free = columns(MAX_ORDER, "first run that was given back, by order: -1 none")
    most = field("most pages held")
    overflow = field("1: there was no number for a page; the lane's result is void")
    cpu = field("of the call that runs")
    context = field("PF_MEMALLOC and IN_INTERRUPT bits of its caller")
    task = field("number of the task that runs on its CPU")
    slow_calls = field("calls of slow(zone) in the call that runs")
    lock_calls = field("calls of lock(zone) in it")
    fast = field("calls that called slow(zone) never")
    slow = field("calls that did")
    path = field("of the last call: 1 fast, 3 slow, 4 with new pages, 0 refused")
    turns = columns(2, "loops and calls of the call that runs, and the line of the file that it is at")
    address = columns(len(CALLS), "of the machine code of each of CALLS, 0 none")
    place = columns(MOST_ARRAYS, "where each array of the file begins in own.words")
    rows = columns(MOST_ARRAYS, "how many rows it has")
    wrong = field("what was wrong first, SOUND nothing")
    wrong_call = field("in which of CALLS ...")
    wrong_cpu = field("... on which CPU")
    wrong_cache = field("... for which cache")
    wrong_argument = field("... with which mask or address")
    wrong_value = field("the address, page or number of pages that is wrong")


class CACHE_COUNT(Record):
    """zone.counts[cache, .], own.counts[cache, .]."""

    pages = field("held")
    peak = field("most held")
    new = field("taken so far")
    given = field("given back so far")
    slow = field("calls of slow(zone)")
    locks = field("calls of lock(zone)")
    live = field("objects in use (closed loop)")
    size = field("of an object (closed loop)", "bytes")


class OWN_PAGE(Record):
    """own.page[page, .], of the first page of a run."""

    pfn = field("its first page frame")
    owner = field("who asked when it was taken, a WHO")
    depth = field("at which DEPTH")


@group(page=OWN_PAGE.width, counts=CACHE_COUNT.width)
class Own(NamedTuple):
    """An allocator of one's own of one lane. The first six are what ``fastalloc.own.memory.Zone`` has too."""

    map: np.ndarray  # int64[PAGES]: 1 + order at the first page of a run that is held, -1 at the others, 0 free
    owner: np.ndarray  # int64[PAGES]: cache that took the run
    next: np.ndarray  # int64[PAGES]: of runs given back
    ctl: np.ndarray  # int64[ZONE_CTL.width]
    counts: np.ndarray  # int64[caches, CACHE_COUNT.width]
    used: np.ndarray  # int16[PAGES * GRANULES]: 1 + cache where an object begins, -1 in the rest of it, 0 free
    page: np.ndarray  # int32[PAGES, OWN_PAGE.width]
    words: np.ndarray  # int64[.]: the arrays that the file declares, one behind the other
    current: np.ndarray  # int64[cpus]: the task that runs on each, 1 + its row of Vm.task; 0 none [current]

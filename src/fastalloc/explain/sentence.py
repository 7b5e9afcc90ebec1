"""An answer in words, and the words that every verdict uses: who asked, how many pages."""

import re
from dataclasses import dataclass, field

from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.reports import Report
from fastalloc.explain.verdict import Decision
from fastalloc.linux.release import Base, Release

COSTLY_ORDER = 3  # PAGE_ALLOC_COSTLY_ORDER: up to it the kernel retries for ever [mm/page_alloc.c]
_COMPACTS: Base = (2, 6, 35)
_COMPACTS_AHEAD: Base = (5, 9, 0)
_POINTER = 8  # bytes, of a 64-bit kernel
_CACHE_LINE = 64  # bytes
# Caches that have no constructor [mm/slab_common.c: create_kmalloc_cache].
_KMALLOC = re.compile(r"(?:[a-z]+-)*kmalloc(?:_dma)?-")


@dataclass
class Advice:
    """What a report comes to, in words."""

    cause: str  # a word of text.CAUSES
    sentence: str
    first: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)


def who_asked(report: Report, decision: Decision) -> str:
    """Who asked for what, by which mask."""
    if report.page_fault:
        return f"{report.comm or 'a task'} had a page fault fail for want of memory (the request is not in the report)"
    order = report.order or 0
    what = "a page" if order == 0 else f"a block of 2^{order} pages"
    how = "that may not wait" if not decision.caller.may_reclaim and report.kind != "oom" else "that may reclaim"
    comm = report.comm or "a task"
    where = "in an interrupt " if decision.caller.interrupt and not decision.caller.may_reclaim else ""
    mask = f"{decision.caller.names}, {how}" if report.mode is not None else "by a mask that is not in the text"
    return f"{comm} asked {where}for {what} ({mask})"


def more(pages: int) -> str:
    """So many pages more."""
    return "1 page more" if pages == 1 else f"{pages} pages more"


def smaller_requests(order: int, release: Release) -> str:
    """What to try where a block of an order is not there: from 2.6.35 compaction can make one, from 5.9 ahead of need
    [mm/compaction.c]; Red Hat's 2.6.32 has it too."""
    if order > COSTLY_ORDER:
        return f"smaller requests: kvmalloc, or pages in a list, in place of 2^{order} contiguous ones"
    if release.base < _COMPACTS and not release.distribution:
        return f"smaller requests: pages in a list in place of 2^{order} contiguous ones (no compaction before 2.6.35)"
    sysctl = "vm.compaction_proactiveness, or " if release.base >= _COMPACTS_AHEAD else ""
    return f"compaction ahead of need: {sysctl}echo 1 > /proc/sys/vm/compact_memory"


def without_debugging(report: Report, block: MemInfo) -> list[str]:
    """What to try where debugging is why SLUB asked for an order.

    It tries its default order in silence, so a report is of the least order, which the size of an object with its
    debugging gives [mm/slub.c: allocate_slab, slab_out_of_memory]. slub_debug=O leaves out what debugging stores where
    the order of that size is above the order of the object alone, and computes the size anew [kmem_cache_open,
    do_kmem_cache_create: disable_higher_order_debug]: then too the free pointer stands behind an object that a
    constructor or RCU keeps [calculate_sizes], so such a one may need the order all the same.
    """
    unit = block.page_kb << 10
    for said in report.caches:
        if "slaborder" in said or int(said.get("minorder", 0)) != report.order:
            continue
        name, size = said["cache"], int(said["objsize"])
        enough, behind = _order(size, unit), _order(_up(size, _POINTER) + _POINTER, unit)
        if enough >= report.order or not _stores(size, int(said["bufsize"])):
            continue
        if behind == enough or _KMALLOC.match(name):
            return [f"slub_debug=O at boot: debugging alone makes {name} need order {report.order}, not {enough}"]
        outside = f"{behind}{' all the same' if behind == report.order else ''} with a constructor or RCU"
        return [
            f"slub_debug=O at boot: without debugging {name} needs order {enough}, or {outside} "
            "(SLAB_TYPESAFE_BY_RCU), whose free pointer stands behind the object"
        ]
    return []


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _order(size: int, page: int) -> int:
    """get_order()."""
    return (-(-size // page) - 1).bit_length()


def _stores(size: int, slot: int) -> bool:
    """The slot of an object is larger than its free pointer and its alignment make it, so debugging stores there."""
    own = _up(size, _POINTER) + _POINTER
    return slot > own and slot != _up(own, _CACHE_LINE)

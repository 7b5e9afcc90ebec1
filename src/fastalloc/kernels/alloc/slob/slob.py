"""SLOB as of 2.6.25-rc8 [mm/slob.c]: three lists of partly free pages, next fit over pages, first fit within.

An object is named by a handle: page record << 16 | byte offset of the pointer that the caller was given. Objects of
a page and more are page-backed (``PAGE_HANDLE``). A page's free blocks live inside it as in the kernel: a block of
``n`` > 1 units holds ``n`` in its first unit and the index of the next block in its second; a block of one unit
holds the negated index. The last block points to ``PAGE_UNITS``.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.aligned import zeros
from fastalloc.compiler.groups import group
from fastalloc.compiler.jit import kernel
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.slob.ring import (
    FIRST_PAGE,
    FIT_ANY,
    FIT_KMALLOC,
    FIT_LINE,
    SLOB_CTL,
    SLOB_PAGE,
    SLOB_STRETCH,
    link_page,
    raise_most,
    start_rings,
    unlink_page,
)
from fastalloc.kernels.alloc.state import MEMCTL, PAGE
from fastalloc.linux import gfp as g

SLOB_UNIT = 2
PAGE_BYTES = 4096
PAGE_UNITS = 2048
SLOB_BREAK1 = 256
SLOB_BREAK2 = 1024
KMALLOC_ALIGN = 8  # also the header that holds the size of a kmalloc'ed block


class SLOB_CACHE(Record):
    """cache[c, .]."""

    size = field("bytes asked of slob_alloc: with struct slob_rcu where the cache frees by RCU")
    align = field("alignment of each object", "bytes", "struct kmem_cache of mm/slob.c")
    ctor = field(
        "1: each object is run through a constructor when it is handed out", source="struct kmem_cache of mm/slob.c"
    )
    alive = field("1 between kmem_cache_create and kmem_cache_destroy")


@group(cache=SLOB_CACHE.width, page=SLOB_PAGE.width, stretch=SLOB_STRETCH.width)
class Slob(NamedTuple):
    """SLOB of one lane."""

    cache: np.ndarray  # int64[caches, SLOB_CACHE.width]
    page: np.ndarray  # int32[pages + FIRST_PAGE, SLOB_PAGE.width]
    stretch: np.ndarray  # int32[the same, SLOB_STRETCH.width]
    unit: np.ndarray  # int16[pages + FIRST_PAGE, PAGE_UNITS]
    ctl: np.ndarray  # int64[SLOB_CTL.width]


def new_slob(pages, caches=1):
    """An empty SLOB with room for ``pages`` pages and ``caches`` caches."""
    slob = Slob(
        np.zeros((caches, SLOB_CACHE.width), np.int64),
        zeros((pages + FIRST_PAGE, SLOB_PAGE.width), np.int32),
        zeros((pages + FIRST_PAGE, SLOB_STRETCH.width), np.int32),
        zeros((pages + FIRST_PAGE, PAGE_UNITS), np.int16),
        np.zeros(SLOB_CTL.width, np.int64),
    )
    start_rings(slob.page, slob.stretch, slob.ctl)
    slob.ctl[SLOB_CTL.top] = FIRST_PAGE
    slob.ctl[SLOB_CTL.spare] = -1
    return slob


# --------------------------------------------------------------------------------------------------- blocks


@kernel
def set_slob(unit, b, units, following):
    """Write a free block [set_slob]."""
    if units > 1:
        unit[b] = units
        unit[b + 1] = following
    else:
        unit[b] = -following


@kernel
def slob_units(unit, b):
    """Size of free block ``b`` in units [slob_units]."""
    return unit[b] if unit[b] > 0 else 1


@kernel
def slob_next(unit, b):
    """The free block behind ``b``, PAGE_UNITS behind the last [slob_next]."""
    return -unit[b] if unit[b] < 0 else unit[b + 1]


# ------------------------------------------------------------------------------------------- allocate and free


@kernel
def list_of(size):
    """The list, and its head, for objects of ``size`` bytes."""
    if size >= SLOB_BREAK2:
        return 2
    return 1 if size >= SLOB_BREAK1 else 0


@kernel
def fit_of(slob, align):
    """Which bound holds for an alignment: kmalloc's, the first other one that is asked for, any."""
    if align == KMALLOC_ALIGN:
        return FIT_KMALLOC
    if slob.ctl[SLOB_CTL.line] == 0:
        slob.ctl[SLOB_CTL.line] = align
    return FIT_LINE if align == slob.ctl[SLOB_CTL.line] else FIT_ANY


@kernel
def slob_page_alloc(slob, p, units, align):
    """First fit of ``units`` in page ``p``: the first unit of the block, or -1 [slob_page_alloc]."""
    unit = slob.unit[p]
    step = align // SLOB_UNIT
    before = -1
    most = 0
    b = slob.page[p, SLOB_PAGE.free]
    while b < PAGE_UNITS:
        available = slob_units(unit, b)
        following = slob_next(unit, b)
        most = max(most, available)
        delta = 0
        if step > 0:
            delta = (b + step - 1) // step * step - b
        if available >= units + delta:
            if delta > 0:
                # The head up to the aligned address becomes a block of its own.
                set_slob(unit, b, delta, b + delta)
                before = b
                b += delta
                available -= delta
            rest = following
            if available > units:
                rest = b + units
                set_slob(unit, rest, available - units, following)
            if before >= 0:
                set_slob(unit, before, slob_units(unit, before), rest)
            else:
                slob.page[p, SLOB_PAGE.free] = rest
            slob.page[p, SLOB_PAGE.units] -= units
            slob.page[p, SLOB_PAGE.room_of] = 0
            if slob.page[p, SLOB_PAGE.units] == 0:
                unlink_page(slob.page, slob.stretch, slob.ctl, p)
                slob.page[p, SLOB_PAGE.on_list] = 0
            return b
        before = b
        b = following
    # Until something here is freed
    slob.page[p, SLOB_PAGE.most[FIT_ANY]] = most
    if align == KMALLOC_ALIGN:
        slob.page[p, SLOB_PAGE.most[FIT_KMALLOC]] = units - 1
    elif align == slob.ctl[SLOB_CTL.line]:
        slob.page[p, SLOB_PAGE.most[FIT_LINE]] = units - 1
    return -1


@kernel
def note_pages(slob):
    """Remember the most pages held."""
    slob.ctl[SLOB_CTL.max_pages] = max(
        slob.ctl[SLOB_CTL.max_pages], slob.ctl[SLOB_CTL.pages] + slob.ctl[SLOB_CTL.whole]
    )


@kernel
def slob_new_page(mem, slob, cpu, node, gfp, context):
    """A fresh page for the lists: its record, or -1; ZERO is stripped, nothing else [slob_alloc, slob_new_page]."""
    p = slob.ctl[SLOB_CTL.spare]
    if p < 0 and slob.ctl[SLOB_CTL.top] >= slob.page.shape[0]:
        slob.ctl[SLOB_CTL.overflow] = 1
        return -1
    pfn = alloc_pages(mem, cpu, node, gfp & ~g.ZERO, 0, context)
    if pfn < 0:
        return -1
    if p < 0:
        p = slob.ctl[SLOB_CTL.top]
        slob.ctl[SLOB_CTL.top] += 1
    else:
        slob.ctl[SLOB_CTL.spare] = slob.page[p, SLOB_PAGE.next]
    record = slob.page[p]
    record[SLOB_PAGE.units] = PAGE_UNITS
    record[SLOB_PAGE.free] = 0
    record[SLOB_PAGE.pfn] = pfn
    record[SLOB_PAGE.node] = 0
    if mem.ctl[MEMCTL.model] != st.MODEL_ZONES:
        record[SLOB_PAGE.node] = pfn
    else:
        mem.page[pfn, PAGE.flags] |= st.PG_SLAB
    record[SLOB_PAGE.ordinal] = -1
    record[SLOB_PAGE.owner] = mem.ctl[MEMCTL.who]
    record[SLOB_PAGE.depth] = mem.ctl[MEMCTL.depth]
    set_slob(slob.unit[p], 0, PAGE_UNITS, PAGE_UNITS)
    slob.ctl[SLOB_CTL.pages] += 1
    note_pages(slob)
    return p


@kernel
def slob_alloc(mem, slob, cpu, node, gfp, context, size, align):
    """``size`` < 4096 bytes at a multiple of ``align``: page record << 16 | byte offset, or NO_OBJECT [slob_alloc].

    A success rotates the list so that the next search starts at this page, or at its successor when it filled up.
    Pages and stretches of pages that are known not to serve are passed over, where the kernel tries each in vain.
    """
    head = list_of(size)
    units = (size + SLOB_UNIT - 1) // SLOB_UNIT
    fit = fit_of(slob, align)
    page = slob.page
    stretch = slob.stretch
    slob.ctl[SLOB_CTL.locks] += 1
    if page[head, SLOB_PAGE.most[fit]] >= units:
        most = 0
        whole = False  # the walk began at the first page of the stretch
        p = page[head, SLOB_PAGE.next]
        while p != head:
            s = page[p, SLOB_PAGE.stretch]
            if stretch[s, SLOB_STRETCH.first] == p:
                own = page[head, SLOB_PAGE.stretch]
                while s != own and stretch[s, SLOB_STRETCH.most[fit]] < units:
                    s = stretch[s, SLOB_STRETCH.next]
                p = stretch[s, SLOB_STRETCH.first]
                if p == head:
                    break
                most = 0
                whole = True
            following = page[p, SLOB_PAGE.next]
            if min(page[p, SLOB_PAGE.units], page[p, SLOB_PAGE.most[fit]]) >= units and (
                node < 0 or page[p, SLOB_PAGE.node] == node
            ):
                before = page[p, SLOB_PAGE.prev]
                b = slob_page_alloc(slob, p, units, align)
                if b >= 0:
                    first = page[before, SLOB_PAGE.next]
                    if first != head and first != page[head, SLOB_PAGE.next]:
                        unlink_page(page, stretch, slob.ctl, head)
                        link_page(page, stretch, slob.ctl, head, before)
                    slob.ctl[SLOB_CTL.path] = 1
                    return (np.int64(p) << st.HANDLE_SHIFT) | (b * SLOB_UNIT)
            most = max(most, min(page[p, SLOB_PAGE.units], page[p, SLOB_PAGE.most[fit]]))
            if whole and page[following, SLOB_PAGE.stretch] != s:
                stretch[s, SLOB_STRETCH.most[fit]] = most
            p = following
        if node < 0 and fit != FIT_ANY:
            page[head, SLOB_PAGE.most[fit]] = units - 1
    fresh = slob_new_page(mem, slob, cpu, node, gfp, context)
    if fresh < 0:
        slob.ctl[SLOB_CTL.path] = 0
        return np.int64(st.NO_OBJECT)
    link_page(page, stretch, slob.ctl, fresh, head)
    page[fresh, SLOB_PAGE.on_list] = 1 + head
    b = slob_page_alloc(slob, fresh, units, align)
    if page[fresh, SLOB_PAGE.on_list] != 0:
        raise_most(page, stretch, fresh, page[fresh, SLOB_PAGE.units], 0)
    slob.ctl[SLOB_CTL.path] = 4
    return (np.int64(fresh) << st.HANDLE_SHIFT) | (b * SLOB_UNIT)


@kernel
def slob_free(mem, slob, cpu, handle, size):
    """Free ``size`` bytes at ``handle`` [slob_free]; an emptied page goes back at once.

    A page that was full joins the small list, whatever it held.
    """
    p = handle >> st.HANDLE_SHIFT
    b = (handle & st.HANDLE_INDEX_MASK) // SLOB_UNIT
    units = (size + SLOB_UNIT - 1) // SLOB_UNIT
    page = slob.page
    slob.ctl[SLOB_CTL.path] = 1
    slob.ctl[SLOB_CTL.locks] += 1
    if page[p, SLOB_PAGE.units] + units == PAGE_UNITS:
        if page[p, SLOB_PAGE.on_list] != 0:
            unlink_page(page, slob.stretch, slob.ctl, p)
        page[p, SLOB_PAGE.on_list] = 0
        free_pages(mem, cpu, page[p, SLOB_PAGE.pfn], 0)
        page[p, SLOB_PAGE.pfn] = -1
        page[p, SLOB_PAGE.next] = slob.ctl[SLOB_CTL.spare]
        slob.ctl[SLOB_CTL.spare] = p
        slob.ctl[SLOB_CTL.pages] -= 1
        slob.ctl[SLOB_CTL.path] = 6
        return
    unit = slob.unit[p]
    if page[p, SLOB_PAGE.on_list] == 0:
        page[p, SLOB_PAGE.units] = units
        page[p, SLOB_PAGE.room_of] = 0
        page[p, SLOB_PAGE.free] = b
        page[p, SLOB_PAGE.on_list] = 1
        set_slob(unit, b, units, PAGE_UNITS)
        link_page(page, slob.stretch, slob.ctl, p, 0)
        raise_most(page, slob.stretch, p, units, 0)
        return
    page[p, SLOB_PAGE.units] += units
    page[p, SLOB_PAGE.room_of] = 0
    before = -1
    following = page[p, SLOB_PAGE.free]
    while following < b:
        before = following
        following = slob_next(unit, following)
    if b + units == following and following < PAGE_UNITS:
        units += slob_units(unit, following)
        following = slob_next(unit, following)
    if before < 0:
        set_slob(unit, b, units, following)
        page[p, SLOB_PAGE.free] = b
    elif before + slob_units(unit, before) == b:
        units += slob_units(unit, before)
        set_slob(unit, before, units, following)
    else:
        set_slob(unit, b, units, following)
        set_slob(unit, before, slob_units(unit, before), b)
    raise_most(page, slob.stretch, p, units, page[p, SLOB_PAGE.units] - units)


# -------------------------------------------------------------------------------------- kmalloc, kmem_cache


@kernel
def slob_alloc_pages(mem, slob, cpu, node, gfp, context, size):
    """``size`` bytes as whole pages with the caller's mask: a page handle, or NO_OBJECT [slob_new_page]."""
    order = 0
    while (PAGE_BYTES << order) < size:
        order += 1
    pfn = alloc_pages(mem, cpu, node, gfp, order, context)
    if pfn < 0:
        slob.ctl[SLOB_CTL.path] = 0
        return np.int64(st.NO_OBJECT)
    slob.ctl[SLOB_CTL.path] = 4
    slob.ctl[SLOB_CTL.whole] += 1 << order
    note_pages(slob)
    return st.PAGE_HANDLE | (np.int64(order) << st.PAGE_HANDLE_ORDER_SHIFT) | pfn


@kernel
def slob_free_pages(mem, slob, cpu, handle):
    """Give a page-backed object back."""
    order = (handle >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF
    free_pages(mem, cpu, handle & ((1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1), order)
    slob.ctl[SLOB_CTL.whole] -= 1 << order
    slob.ctl[SLOB_CTL.path] = 6


@kernel
def slob_kmalloc(mem, slob, cpu, node, gfp, context, size):
    """kmalloc of ``size`` > 0 bytes behind an 8-byte header [__kmalloc_node]; NO_OBJECT where Linux returns 8."""
    if size >= PAGE_BYTES - KMALLOC_ALIGN:
        return slob_alloc_pages(mem, slob, cpu, node, gfp | g.COMP, context, size)
    handle = slob_alloc(mem, slob, cpu, node, gfp, context, size + KMALLOC_ALIGN, KMALLOC_ALIGN)
    if handle < 0:
        return handle
    slob.unit[handle >> st.HANDLE_SHIFT, (handle & st.HANDLE_INDEX_MASK) // SLOB_UNIT] = size
    return handle + KMALLOC_ALIGN


@kernel
def slob_kfree(mem, slob, cpu, handle):
    """Free a kmalloc'ed object [kfree]."""
    if handle >= st.PAGE_HANDLE:
        slob_free_pages(mem, slob, cpu, handle)
        return
    block = handle - KMALLOC_ALIGN
    size = slob.unit[block >> st.HANDLE_SHIFT, (block & st.HANDLE_INDEX_MASK) // SLOB_UNIT]
    slob_free(mem, slob, cpu, block, size + KMALLOC_ALIGN)


@kernel
def slob_cache_alloc(mem, slob, c, cpu, node, gfp, context):
    """An object of cache ``c`` [kmem_cache_alloc_node]; the constructor runs even when there is none."""
    size = slob.cache[c, SLOB_CACHE.size]
    if slob.cache[c, SLOB_CACHE.ctor] != 0:
        slob.ctl[SLOB_CTL.ctor_calls] += 1
    if size < PAGE_BYTES:
        return slob_alloc(mem, slob, cpu, node, gfp, context, size, slob.cache[c, SLOB_CACHE.align])
    return slob_alloc_pages(mem, slob, cpu, node, gfp, context, size)


@kernel
def slob_cache_free(mem, slob, c, cpu, handle):
    """Free an object of cache ``c`` [kmem_cache_free]."""
    if handle >= st.PAGE_HANDLE:
        slob_free_pages(mem, slob, cpu, handle)
    else:
        slob_free(mem, slob, cpu, handle, slob.cache[c, SLOB_CACHE.size])


@kernel
def room_in(slob, p, units, step, stride):
    """How many blocks of ``units``, ``stride`` apart at multiples of ``step``, the holes of page ``p`` could take."""
    kind = PAGE_UNITS * units + step
    if slob.page[p, SLOB_PAGE.room_of] != kind:
        room = 0
        b = slob.page[p, SLOB_PAGE.free]
        while b < PAGE_UNITS:
            left = slob_units(slob.unit[p], b) - ((b + step - 1) // step * step - b) - units
            if left >= 0:
                room += 1 + left // stride
            b = slob_next(slob.unit[p], b)
        slob.page[p, SLOB_PAGE.room] = room
        slob.page[p, SLOB_PAGE.room_of] = kind
    return slob.page[p, SLOB_PAGE.room]


@kernel
def room_for(slob, size, align):
    """How many objects of ``size`` < 4096 bytes the holes of their list could take without another page."""
    head = list_of(size)
    units = (size + SLOB_UNIT - 1) // SLOB_UNIT
    step = align // SLOB_UNIT
    fit = fit_of(slob, align)
    stride = (units + step - 1) // step * step
    room = 0
    own = slob.page[head, SLOB_PAGE.stretch]
    s = own
    while True:
        p = slob.stretch[s, SLOB_STRETCH.first]
        if slob.stretch[s, SLOB_STRETCH.most[fit]] >= units:
            for _ in range(slob.stretch[s, SLOB_STRETCH.records]):
                if min(slob.page[p, SLOB_PAGE.units], slob.page[p, SLOB_PAGE.most[fit]]) >= units:
                    room += room_in(slob, p, units, step, stride)
                p = slob.page[p, SLOB_PAGE.next]
        s = slob.stretch[s, SLOB_STRETCH.next]
        if s == own:
            return room


@kernel
def slob_ordinal(slob, handle):
    """Number of the page behind an object, given at first sight; -1 for page-backed objects (golden cases)."""
    if handle < 0 or handle >= st.PAGE_HANDLE:
        return -1
    p = handle >> st.HANDLE_SHIFT
    if slob.page[p, SLOB_PAGE.ordinal] < 0:
        slob.page[p, SLOB_PAGE.ordinal] = slob.ctl[SLOB_CTL.ordinals]
        slob.ctl[SLOB_CTL.ordinals] += 1
    return slob.page[p, SLOB_PAGE.ordinal]

"""SLOB as of 2.6.25-rc8 [mm/slob.c]: three lists of partly free pages, next fit over pages, first fit within.

An object is named by a handle: page record << 16 | byte offset of the pointer that the caller was given. Objects of
a page and more are page-backed (``PAGE_HANDLE``). A page's free blocks live inside it as in the kernel: a block of
``n`` > 1 units holds ``n`` in its first unit and the index of the next block in its second; a block of one unit
holds the negated index. The last block points to ``PAGE_UNITS``.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.slob.ring import (
    B_BUYER,
    B_DEPTH,
    B_FREE,
    B_MOST,
    B_NEXT,
    B_NODE,
    B_ON_LIST,
    B_ORDINAL,
    B_PFN,
    B_PREV,
    B_ROOM,
    B_ROOM_OF,
    B_STRETCH,
    B_UNITS,
    FIRST_PAGE,
    FIT_ANY,
    FIT_KMALLOC,
    FIT_LINE,
    S_FIRST,
    S_MOST,
    S_NEXT,
    S_RECORDS,
    SLOB_PAGE_FIELDS,
    STRETCH_FIELDS,
    link_page,
    raise_most,
    start_rings,
    unlink_page,
)
from fastalloc.linux import gfp as g

SLOB_UNIT = 2
PAGE_BYTES = 4096
PAGE_UNITS = 2048
SLOB_BREAK1 = 256
SLOB_BREAK2 = 1024
KMALLOC_ALIGN = 8  # also the header that holds the size of a kmalloc'ed block

# cache[c, .]
O_SIZE = 0  # bytes asked of slob_alloc: with struct slob_rcu where the cache frees by RCU
O_ALIGN = 1
O_CTOR = 2
O_ALIVE = 3
SLOB_CACHE_FIELDS = 4

# slobctl[.]; O_STRETCHES and O_STRETCH_SPARE are the rings'
O_TOP = 0  # page records in use so far
O_SPARE = 1  # retired page records, linked by B_NEXT
O_PATH = 2  # path of the last operation: 0 failed, 1 no page moved, 4 a page was bought, 6 a page was given back
O_OVERFLOW = 3  # 1: the arrays were too small; the lane's result is void
O_ORDINALS = 4  # pages numbered so far (golden cases)
O_PAGES = 5  # pages on the lists or full
O_CTOR_CALLS = 7
O_WHOLE = 8  # pages of page-backed objects
O_MAX_PAGES = 9  # most pages of both kinds
O_LOCKS = 10  # times that slob_lock was taken
O_LINE = 12  # the alignment of FIT_LINE: the first one asked for that is not kmalloc's
SLOBCTL_FIELDS = 13


@group(cache=SLOB_CACHE_FIELDS, page=SLOB_PAGE_FIELDS, stretch=STRETCH_FIELDS)
class Slob(NamedTuple):
    """SLOB of one lane."""

    cache: np.ndarray  # int64[caches, SLOB_CACHE_FIELDS]
    page: np.ndarray  # int32[pages + FIRST_PAGE, SLOB_PAGE_FIELDS]
    stretch: np.ndarray  # int32[the same, STRETCH_FIELDS]
    unit: np.ndarray  # int16[pages + FIRST_PAGE, PAGE_UNITS]
    ctl: np.ndarray  # int64[SLOBCTL_FIELDS]


def new_slob(pages, caches=1):
    """An empty SLOB with room for ``pages`` pages and ``caches`` caches."""
    slob = Slob(
        np.zeros((caches, SLOB_CACHE_FIELDS), np.int64),
        np.zeros((pages + FIRST_PAGE, SLOB_PAGE_FIELDS), np.int32),
        np.zeros((pages + FIRST_PAGE, STRETCH_FIELDS), np.int32),
        np.zeros((pages + FIRST_PAGE, PAGE_UNITS), np.int16),
        np.zeros(SLOBCTL_FIELDS, np.int64),
    )
    start_rings(slob.page, slob.stretch, slob.ctl)
    slob.ctl[O_TOP] = FIRST_PAGE
    slob.ctl[O_SPARE] = -1
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
    if slob.ctl[O_LINE] == 0:
        slob.ctl[O_LINE] = align
    return FIT_LINE if align == slob.ctl[O_LINE] else FIT_ANY


@kernel
def slob_page_alloc(slob, p, units, align):
    """First fit of ``units`` in page ``p``: the first unit of the block, or -1 [slob_page_alloc]."""
    unit = slob.unit[p]
    step = align // SLOB_UNIT
    before = -1
    most = 0
    b = slob.page[p, B_FREE]
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
                slob.page[p, B_FREE] = rest
            slob.page[p, B_UNITS] -= units
            slob.page[p, B_ROOM_OF] = 0
            if slob.page[p, B_UNITS] == 0:
                unlink_page(slob.page, slob.stretch, slob.ctl, p)
                slob.page[p, B_ON_LIST] = 0
            return b
        before = b
        b = following
    # Until something here is freed
    slob.page[p, B_MOST + FIT_ANY] = most
    if align == KMALLOC_ALIGN:
        slob.page[p, B_MOST + FIT_KMALLOC] = units - 1
    elif align == slob.ctl[O_LINE]:
        slob.page[p, B_MOST + FIT_LINE] = units - 1
    return -1


@kernel
def note_pages(slob):
    """Remember the most pages held."""
    slob.ctl[O_MAX_PAGES] = max(slob.ctl[O_MAX_PAGES], slob.ctl[O_PAGES] + slob.ctl[O_WHOLE])


@kernel
def slob_new_page(mem, slob, cpu, node, gfp, context):
    """A fresh page for the lists: its record, or -1; ZERO is stripped, nothing else [slob_alloc, slob_new_page]."""
    p = slob.ctl[O_SPARE]
    if p < 0 and slob.ctl[O_TOP] >= slob.page.shape[0]:
        slob.ctl[O_OVERFLOW] = 1
        return -1
    pfn = alloc_pages(mem, cpu, node, gfp & ~g.ZERO, 0, context)
    if pfn < 0:
        return -1
    if p < 0:
        p = slob.ctl[O_TOP]
        slob.ctl[O_TOP] += 1
    else:
        slob.ctl[O_SPARE] = slob.page[p, B_NEXT]
    record = slob.page[p]
    record[B_UNITS] = PAGE_UNITS
    record[B_FREE] = 0
    record[B_PFN] = pfn
    record[B_NODE] = 0
    if mem.ctl[st.M_MODEL] != st.MODEL_ZONES:
        record[B_NODE] = pfn
    else:
        mem.page[pfn, st.P_FLAGS] |= st.PG_SLAB
    record[B_ORDINAL] = -1
    record[B_BUYER] = mem.ctl[st.M_WHO]
    record[B_DEPTH] = mem.ctl[st.M_DEPTH]
    set_slob(slob.unit[p], 0, PAGE_UNITS, PAGE_UNITS)
    slob.ctl[O_PAGES] += 1
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
    slob.ctl[O_LOCKS] += 1
    if page[head, B_MOST + fit] >= units:
        most = 0
        whole = False  # the walk began at the first page of the stretch
        p = page[head, B_NEXT]
        while p != head:
            s = page[p, B_STRETCH]
            if stretch[s, S_FIRST] == p:
                own = page[head, B_STRETCH]
                while s != own and stretch[s, S_MOST + fit] < units:
                    s = stretch[s, S_NEXT]
                p = stretch[s, S_FIRST]
                if p == head:
                    break
                most = 0
                whole = True
            following = page[p, B_NEXT]
            if min(page[p, B_UNITS], page[p, B_MOST + fit]) >= units and (node < 0 or page[p, B_NODE] == node):
                before = page[p, B_PREV]
                b = slob_page_alloc(slob, p, units, align)
                if b >= 0:
                    first = page[before, B_NEXT]
                    if first != head and first != page[head, B_NEXT]:
                        unlink_page(page, stretch, slob.ctl, head)
                        link_page(page, stretch, slob.ctl, head, before)
                    slob.ctl[O_PATH] = 1
                    return (np.int64(p) << st.HANDLE_SHIFT) | (b * SLOB_UNIT)
            most = max(most, min(page[p, B_UNITS], page[p, B_MOST + fit]))
            if whole and page[following, B_STRETCH] != s:
                stretch[s, S_MOST + fit] = most
            p = following
        if node < 0 and fit != FIT_ANY:
            page[head, B_MOST + fit] = units - 1
    fresh = slob_new_page(mem, slob, cpu, node, gfp, context)
    if fresh < 0:
        slob.ctl[O_PATH] = 0
        return np.int64(st.NO_OBJECT)
    link_page(page, stretch, slob.ctl, fresh, head)
    page[fresh, B_ON_LIST] = 1 + head
    b = slob_page_alloc(slob, fresh, units, align)
    if page[fresh, B_ON_LIST] != 0:
        raise_most(page, stretch, fresh, page[fresh, B_UNITS], 0)
    slob.ctl[O_PATH] = 4
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
    slob.ctl[O_PATH] = 1
    slob.ctl[O_LOCKS] += 1
    if page[p, B_UNITS] + units == PAGE_UNITS:
        if page[p, B_ON_LIST] != 0:
            unlink_page(page, slob.stretch, slob.ctl, p)
        page[p, B_ON_LIST] = 0
        free_pages(mem, cpu, page[p, B_PFN], 0)
        page[p, B_PFN] = -1
        page[p, B_NEXT] = slob.ctl[O_SPARE]
        slob.ctl[O_SPARE] = p
        slob.ctl[O_PAGES] -= 1
        slob.ctl[O_PATH] = 6
        return
    unit = slob.unit[p]
    if page[p, B_ON_LIST] == 0:
        page[p, B_UNITS] = units
        page[p, B_ROOM_OF] = 0
        page[p, B_FREE] = b
        page[p, B_ON_LIST] = 1
        set_slob(unit, b, units, PAGE_UNITS)
        link_page(page, slob.stretch, slob.ctl, p, 0)
        raise_most(page, slob.stretch, p, units, 0)
        return
    page[p, B_UNITS] += units
    page[p, B_ROOM_OF] = 0
    before = -1
    following = page[p, B_FREE]
    while following < b:
        before = following
        following = slob_next(unit, following)
    if b + units == following and following < PAGE_UNITS:
        units += slob_units(unit, following)
        following = slob_next(unit, following)
    if before < 0:
        set_slob(unit, b, units, following)
        page[p, B_FREE] = b
    elif before + slob_units(unit, before) == b:
        units += slob_units(unit, before)
        set_slob(unit, before, units, following)
    else:
        set_slob(unit, b, units, following)
        set_slob(unit, before, slob_units(unit, before), b)
    raise_most(page, slob.stretch, p, units, page[p, B_UNITS] - units)


# -------------------------------------------------------------------------------------- kmalloc, kmem_cache


@kernel
def slob_alloc_pages(mem, slob, cpu, node, gfp, context, size):
    """``size`` bytes as whole pages with the caller's mask: a page handle, or NO_OBJECT [slob_new_page]."""
    order = 0
    while (PAGE_BYTES << order) < size:
        order += 1
    pfn = alloc_pages(mem, cpu, node, gfp, order, context)
    if pfn < 0:
        slob.ctl[O_PATH] = 0
        return np.int64(st.NO_OBJECT)
    slob.ctl[O_PATH] = 4
    slob.ctl[O_WHOLE] += 1 << order
    note_pages(slob)
    return st.PAGE_HANDLE | (np.int64(order) << st.PAGE_HANDLE_ORDER_SHIFT) | pfn


@kernel
def slob_free_pages(mem, slob, cpu, handle):
    """Give a page-backed object back."""
    order = (handle >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF
    free_pages(mem, cpu, handle & ((1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1), order)
    slob.ctl[O_WHOLE] -= 1 << order
    slob.ctl[O_PATH] = 6


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
    size = slob.cache[c, O_SIZE]
    if slob.cache[c, O_CTOR] != 0:
        slob.ctl[O_CTOR_CALLS] += 1
    if size < PAGE_BYTES:
        return slob_alloc(mem, slob, cpu, node, gfp, context, size, slob.cache[c, O_ALIGN])
    return slob_alloc_pages(mem, slob, cpu, node, gfp, context, size)


@kernel
def slob_cache_free(mem, slob, c, cpu, handle):
    """Free an object of cache ``c`` [kmem_cache_free]."""
    if handle >= st.PAGE_HANDLE:
        slob_free_pages(mem, slob, cpu, handle)
    else:
        slob_free(mem, slob, cpu, handle, slob.cache[c, O_SIZE])


@kernel
def room_in(slob, p, units, step, stride):
    """How many blocks of ``units``, ``stride`` apart at multiples of ``step``, the holes of page ``p`` could take."""
    kind = PAGE_UNITS * units + step
    if slob.page[p, B_ROOM_OF] != kind:
        room = 0
        b = slob.page[p, B_FREE]
        while b < PAGE_UNITS:
            left = slob_units(slob.unit[p], b) - ((b + step - 1) // step * step - b) - units
            if left >= 0:
                room += 1 + left // stride
            b = slob_next(slob.unit[p], b)
        slob.page[p, B_ROOM] = room
        slob.page[p, B_ROOM_OF] = kind
    return slob.page[p, B_ROOM]


@kernel
def room_for(slob, size, align):
    """How many objects of ``size`` < 4096 bytes the holes of their list could take without another page."""
    head = list_of(size)
    units = (size + SLOB_UNIT - 1) // SLOB_UNIT
    step = align // SLOB_UNIT
    fit = fit_of(slob, align)
    stride = (units + step - 1) // step * step
    room = 0
    own = slob.page[head, B_STRETCH]
    s = own
    while True:
        p = slob.stretch[s, S_FIRST]
        if slob.stretch[s, S_MOST + fit] >= units:
            for _ in range(slob.stretch[s, S_RECORDS]):
                if min(slob.page[p, B_UNITS], slob.page[p, B_MOST + fit]) >= units:
                    room += room_in(slob, p, units, step, stride)
                p = slob.page[p, B_NEXT]
        s = slob.stretch[s, S_NEXT]
        if s == own:
            return room


@kernel
def slob_ordinal(slob, handle):
    """Number of the page behind an object, given at first sight; -1 for page-backed objects (golden cases)."""
    if handle < 0 or handle >= st.PAGE_HANDLE:
        return -1
    p = handle >> st.HANDLE_SHIFT
    if slob.page[p, B_ORDINAL] < 0:
        slob.page[p, B_ORDINAL] = slob.ctl[O_ORDINALS]
        slob.ctl[O_ORDINALS] += 1
    return slob.page[p, B_ORDINAL]

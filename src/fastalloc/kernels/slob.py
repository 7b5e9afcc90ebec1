"""SLOB as of 2.6.25-rc8 [mm/slob.c]: three lists of partly free pages, next fit over pages, first fit within.

An object is named by a handle: page record << 16 | byte offset of the pointer that the caller was given. Objects of
a page and more are page-backed (``PAGE_HANDLE``). A page's free blocks live inside it as in the kernel: a block of
``n`` > 1 units holds ``n`` in its first unit and the index of the next block in its second; a block of one unit
holds the negated index. The last block points to ``PAGE_UNITS``.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.kernels import gfp as g
from fastalloc.kernels import state as st
from fastalloc.kernels.groups import group
from fastalloc.kernels.jit import kernel
from fastalloc.kernels.page_alloc import alloc_pages, free_pages

SLOB_UNIT = 2
PAGE_BYTES = 4096
PAGE_UNITS = 2048
SLOB_BREAK1 = 256
SLOB_BREAK2 = 1024
KMALLOC_ALIGN = 8  # also the header that holds the size of a kmalloc'ed block

# page[p, .]; records 0, 1, 2 are the heads of the small, medium and large list
B_NEXT = 0
B_PREV = 1
B_UNITS = 2  # free units
B_FREE = 3  # first free block
B_ON_LIST = 4  # 1 + its list, 0 on none
B_PFN = 5
B_NODE = 6
B_ORDINAL = 7  # -1 until a trace operation returned an object of it
B_BUYER = 8  # who asked when it was bought
B_DEPTH = 9  # at which depth
B_MOST = 10  # no free block has more units; of a head: none of its list
SLOB_PAGE_FIELDS = 16  # a cache line
SLOB_LISTS = ("small", "medium", "large")
FIRST_PAGE = len(SLOB_LISTS)

# cache[c, .]
O_SIZE = 0  # bytes asked of slob_alloc: with struct slob_rcu where the cache frees by RCU
O_ALIGN = 1
O_CTOR = 2
O_ALIVE = 3
SLOB_CACHE_FIELDS = 4

# slobctl[.]
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
SLOBCTL_FIELDS = 12


@group(cache=SLOB_CACHE_FIELDS, page=SLOB_PAGE_FIELDS)
class Slob(NamedTuple):
    """SLOB of one lane."""

    cache: np.ndarray  # int64[caches, SLOB_CACHE_FIELDS]
    page: np.ndarray  # int32[pages + FIRST_PAGE, SLOB_PAGE_FIELDS]
    unit: np.ndarray  # int16[pages + FIRST_PAGE, PAGE_UNITS]
    ctl: np.ndarray  # int64[SLOBCTL_FIELDS]


def new_slob(pages, caches=1):
    """An empty SLOB with room for ``pages`` pages and ``caches`` caches."""
    slob = Slob(
        np.zeros((caches, SLOB_CACHE_FIELDS), np.int64),
        np.zeros((pages + FIRST_PAGE, SLOB_PAGE_FIELDS), np.int32),
        np.zeros((pages + FIRST_PAGE, PAGE_UNITS), np.int16),
        np.zeros(SLOBCTL_FIELDS, np.int64),
    )
    for head in range(FIRST_PAGE):
        slob.page[head, B_NEXT] = slob.page[head, B_PREV] = head
    slob.ctl[O_TOP] = FIRST_PAGE
    slob.ctl[O_SPARE] = -1
    return slob


# --------------------------------------------------------------------------------------- lists and blocks


@kernel
def link_page(page, p, after):
    """Insert record ``p`` behind record ``after`` [list_add]."""
    following = page[after, B_NEXT]
    page[p, B_NEXT] = following
    page[p, B_PREV] = after
    page[following, B_PREV] = p
    page[after, B_NEXT] = p


@kernel
def unlink_page(page, p):
    """Take record ``p`` out of its ring [list_del]."""
    page[page[p, B_PREV], B_NEXT] = page[p, B_NEXT]
    page[page[p, B_NEXT], B_PREV] = page[p, B_PREV]


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
def slob_page_alloc(slob, p, size, align):
    """First fit in page ``p``: the first unit of the block, or -1 [slob_page_alloc]."""
    unit = slob.unit[p]
    units = (size + SLOB_UNIT - 1) // SLOB_UNIT
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
            slob.page[p, B_MOST] = min(slob.page[p, B_MOST], slob.page[p, B_UNITS])
            if slob.page[p, B_UNITS] == 0:
                unlink_page(slob.page, p)
                slob.page[p, B_ON_LIST] = 0
            return b
        before = b
        b = following
    slob.page[p, B_MOST] = most
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
    record[B_UNITS] = record[B_MOST] = PAGE_UNITS
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
    A page or list whose blocks are known to be smaller is passed over, where the kernel walks them all in vain.
    """
    head = 0
    if size >= SLOB_BREAK2:
        head = 2
    elif size >= SLOB_BREAK1:
        head = 1
    page = slob.page
    units = (size + SLOB_UNIT - 1) // SLOB_UNIT
    slob.ctl[O_LOCKS] += 1
    if page[head, B_MOST] >= units:
        most = 0
        p = page[head, B_NEXT]
        while p != head:
            following = page[p, B_NEXT]
            if page[p, B_MOST] >= units and (node < 0 or page[p, B_NODE] == node):
                before = page[p, B_PREV]
                b = slob_page_alloc(slob, p, size, align)
                if b >= 0:
                    first = page[before, B_NEXT]
                    if first != head and first != page[head, B_NEXT]:
                        unlink_page(page, head)
                        link_page(page, head, before)
                    slob.ctl[O_PATH] = 1
                    return (np.int64(p) << st.HANDLE_SHIFT) | (b * SLOB_UNIT)
            most = max(most, page[p, B_MOST])
            p = following
        page[head, B_MOST] = most
    fresh = slob_new_page(mem, slob, cpu, node, gfp, context)
    if fresh < 0:
        slob.ctl[O_PATH] = 0
        return np.int64(st.NO_OBJECT)
    link_page(page, fresh, head)
    page[fresh, B_ON_LIST] = 1 + head
    b = slob_page_alloc(slob, fresh, size, align)
    page[head, B_MOST] = max(page[head, B_MOST], page[fresh, B_MOST])
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
            unlink_page(page, p)
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
        page[p, B_UNITS] = page[p, B_MOST] = units
        page[p, B_FREE] = b
        page[p, B_ON_LIST] = 1
        set_slob(unit, b, units, PAGE_UNITS)
        link_page(page, p, 0)
        page[0, B_MOST] = max(page[0, B_MOST], units)
        return
    page[p, B_UNITS] += units
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
    page[p, B_MOST] = max(page[p, B_MOST], units)
    head = page[p, B_ON_LIST] - 1
    page[head, B_MOST] = max(page[head, B_MOST], units)


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
def room_for(slob, size, align):
    """How many objects of ``size`` < 4096 bytes the holes of their list could take without another page."""
    head = 0
    if size >= SLOB_BREAK2:
        head = 2
    elif size >= SLOB_BREAK1:
        head = 1
    units = (size + SLOB_UNIT - 1) // SLOB_UNIT
    step = align // SLOB_UNIT
    stride = (units + step - 1) // step * step
    room = 0
    p = slob.page[head, B_NEXT]
    while p != head:
        b = slob.page[p, B_FREE]
        while b < PAGE_UNITS:
            left = slob_units(slob.unit[p], b) - ((b + step - 1) // step * step - b) - units
            if left >= 0:
                room += 1 + left // stride
            b = slob_next(slob.unit[p], b)
        p = slob.page[p, B_NEXT]
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

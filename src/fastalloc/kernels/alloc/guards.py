"""Guards of the objects that change hands: compiled kernels check no index, so a wrong handle would spread in silence.

An object that is taken must lie within its slab. One that is given back must be an object in use of the cache that is
named: its slab counts between one and all of its objects in use, and it is not the one that was freed last there.
SLUB's fast paths count nothing, so a slab's count is looked at when an object comes back past them; of the CPU slab the
last freed is that of the CPU's own freelist, not of frees by other CPUs. At the first violation the lane is stopped
(``MEMCTL.stopped``), and what was found is kept for ``batch.sound``; such a lane has no result. Linux looks for the
same with ``slub_debug`` [mm/slub.c: check_slab, check_object, on_freelist] and CONFIG_SLAB_FREELIST_HARDENED
[set_freepointer].

``heap`` is whichever allocator the machine has, see :mod:`fastalloc.kernels.alloc.kmem`.
"""

from types import SimpleNamespace

import numpy as np

from fastalloc.compiler.hints import likely, unlikely
from fastalloc.compiler.jit import INLINED, dispatched, folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.heap_ops import by_heap
from fastalloc.kernels.alloc.kmem import free_slab_object, kmem_cache_free, owner_and_depth, policed_alloc
from fastalloc.kernels.alloc.own import face as own_face
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_SLAB
from fastalloc.kernels.alloc.slob.ring import FIRST_PAGE, SLOB_CTL, SLOB_PAGE
from fastalloc.kernels.alloc.slob.slob import PAGE_UNITS, SLOB_CACHE, SLOB_UNIT
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, MEMCTL, PAGE, SLUB_CTL, SLUB_SLAB

GUARDS = (
    "",
    "an object was handed out that is none of its slabs'",
    "an object was given back that is none of its slabs', or is free already",
)
TAKEN, GIVEN = 1, 2


@internal
def is_page_block(mem, handle):
    """Whether a handle from PAGE_HANDLE on names pages that the machine has and that are not free."""
    out_of_line()
    order = (handle >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF
    pfn = handle & ((1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1)
    if mem.ctl[MEMCTL.model] != st.MODEL_ZONES:
        return True  # the golden cases' pages are only counted
    return (
        handle < 2 * st.PAGE_HANDLE
        and order < mem.area.shape[2]
        and pfn + (1 << order) <= mem.page.shape[0]
        and (mem.page[pfn, PAGE.flags] & (st.PG_BUDDY | st.PG_PCP)) == 0
    )


def _within(inuse, objects):
    """Whether a slab that holds an object in use counts between one and all of its objects so."""
    return np.uint64(inuse - 1) < np.uint64(objects)  # one comparison for both ends


_within_kernel = folded(_within)


def _slub_is_whole(mem, heap, c, handle):
    # what a slab counts is looked at when an object comes back
    return handle & st.HANDLE_INDEX_MASK < heap.slab[handle >> st.HANDLE_SHIFT, SLUB_SLAB.objects]


def _slub_is_held(mem, heap, c, cpu, handle):
    s = handle >> st.HANDLE_SHIFT
    if np.uint64(s) >= np.uint64(heap.ctl[SLUB_CTL.slab_top]):
        return False
    slab = heap.slab[s]
    i = handle & st.HANDLE_INDEX_MASK
    cache = slab[SLUB_SLAB.cache]
    objects = slab[SLUB_SLAB.objects]
    # an object of an emergency cache is given back as one of the cache that it stands in for
    if i >= objects or (cache != c and mem.ctl[MEMCTL.free] == st.FREE_PLAIN):
        return False
    k = heap.kcpu[cache, cpu]
    if k[KMEM_CACHE_CPU.page] == s:  # it counts all its objects in use
        return k[KMEM_CACHE_CPU.freelist] != i
    # a retired slab counts none
    return slab[SLUB_SLAB.freelist] != i and _within_kernel(slab[SLUB_SLAB.inuse], objects)


_slub_is_held_kernel = folded(_slub_is_held)


def _eras_is_held(mem, heap, c, cpu, handle):
    if not _slub_is_held_kernel(mem, heap, c, cpu, handle):
        return False
    slab = heap.slab[handle >> st.HANDLE_SHIFT]
    if not _within_kernel(slab[SLUB_SLAB.inuse], slab[SLUB_SLAB.objects]):  # its frees pass the CPU slab by
        return False
    h = max(heap.kcpu[c, cpu, KMEM_CACHE_CPU.main], heap.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_main])  # the era's
    size = heap.ctl[h + SHEAF.size] if h > 0 else 0
    return size <= 0 or heap.ctl[h + SHEAF.objects[size - 1]] != handle


def _slab_is_whole(mem, heap, c, handle):
    num = heap.cache[c, SLAB_CACHE.num]
    inuse = heap.slab[handle >> st.HANDLE_SHIFT, SLAB_SLAB.inuse]
    return handle & st.HANDLE_INDEX_MASK < num and _within_kernel(inuse, num)


def _slab_is_held(mem, heap, c, cpu, handle):
    s = handle >> st.HANDLE_SHIFT
    if np.uint64(s) >= np.uint64(heap.ctl[SLAB_CTL.slab_top]):
        return False
    slab = heap.slab[s]
    i = handle & st.HANDLE_INDEX_MASK
    num = heap.cache[c, SLAB_CACHE.num]
    queue = heap.queue[c, cpu]
    last = queue[SLAB_ARRAY.avail] - 1
    return (
        i < num
        and _within_kernel(slab[SLAB_SLAB.inuse], num)
        and slab[SLAB_SLAB.cache] == c
        and slab[SLAB_SLAB.free] != i
        and (last < 0 or heap.entry[queue[SLAB_ARRAY.base] + last] != handle)
    )


def _slob_is_whole(mem, heap, c, handle):
    units = (heap.cache[c, SLOB_CACHE.size] + SLOB_UNIT - 1) // SLOB_UNIT
    return (handle & st.HANDLE_INDEX_MASK) // SLOB_UNIT + units <= PAGE_UNITS and 0 <= heap.page[
        handle >> st.HANDLE_SHIFT, SLOB_PAGE.units
    ] <= PAGE_UNITS - units


def _slob_is_held(mem, heap, c, cpu, handle):
    p = handle >> st.HANDLE_SHIFT
    if np.uint64(p) >= np.uint64(heap.ctl[SLOB_CTL.top]) or p < FIRST_PAGE:
        return False
    page = heap.page[p]
    units = (heap.cache[c, SLOB_CACHE.size] + SLOB_UNIT - 1) // SLOB_UNIT
    b = (handle & st.HANDLE_INDEX_MASK) // SLOB_UNIT
    return (
        page[SLOB_PAGE.pfn] >= 0
        and b + units <= PAGE_UNITS
        and 0 <= page[SLOB_PAGE.units] <= PAGE_UNITS - units
        and (page[SLOB_PAGE.on_list] == 0 or page[SLOB_PAGE.free] != b)
    )


def _block(mem, heap, handle):
    return is_page_block(mem, handle)


_OF = {
    "Slub": SimpleNamespace(is_whole=_slub_is_whole, is_held=_slub_is_held, is_block=_block),
    "SlubEras": SimpleNamespace(is_whole=_slub_is_whole, is_held=_eras_is_held, is_block=_block),
    "Slab": SimpleNamespace(is_whole=_slab_is_whole, is_held=_slab_is_held, is_block=own_face.is_block),
    "Slob": SimpleNamespace(is_whole=_slob_is_whole, is_held=_slob_is_held, is_block=_block),
    "Own": own_face,
}


def _of(heap):
    return _OF[getattr(heap, "instance_class", type(heap)).__name__]


@dispatched(lambda mem, heap, c, handle: _of(heap).is_whole, **INLINED)
def is_whole(mem, heap, c, handle):
    """Whether an object that cache ``c`` gave lies within its slab, and the slab counts it."""


@dispatched(lambda mem, heap, c, cpu, handle: _of(heap).is_held, **INLINED)
def is_held(mem, heap, c, cpu, handle):
    """Whether ``handle``, whatever it is, names an object in use of a slab of cache ``c``, as far as its slab and
    ``cpu`` can tell: it is not the last that was freed there."""


@dispatched(lambda mem, heap, handle: _of(heap).is_block, **INLINED)
def is_block(mem, heap, handle):
    """Whether a handle from PAGE_HANDLE on names a block of pages that the allocator took in place of a slab."""


@internal
def note_broken(mem, guard, c, handle):
    """Stop the lane; the first violation is kept."""
    out_of_line()
    mem.ctl[MEMCTL.stopped] = 1
    if mem.ctl[MEMCTL.broken] == 0:
        mem.ctl[MEMCTL.broken] = guard
        mem.ctl[MEMCTL.broken_cache] = c
        mem.ctl[MEMCTL.broken_handle] = handle


@folded
def is_sound(mem, heap, c, handle):
    """Whether what cache ``c`` gave is an object of its slab, a block of pages, or nothing."""
    if likely(np.uint64(np.int64(handle)) < np.uint64(st.PAGE_HANDLE)):  # one comparison for both ends
        return is_whole(mem, heap, c, handle)
    return handle < 0 or is_block(mem, heap, handle)


@folded
def _checked_alloc(mem, heap, c, cpu, gfp, context):
    handle = policed_alloc(mem, heap, c, cpu, gfp, context)
    if unlikely(not is_sound(mem, heap, c, handle)):
        note_broken(mem, TAKEN, c, handle)
        return st.NO_OBJECT
    if 0 <= handle < st.PAGE_HANDLE:
        mem.ctl[MEMCTL.granted] = owner_and_depth(heap, handle)
    return handle


@folded
def _checked_free(mem, heap, c, cpu, handle):
    if likely(is_held(mem, heap, c, cpu, handle)):
        free_slab_object(mem, heap, c, cpu, handle)
    elif handle >= st.PAGE_HANDLE and is_block(mem, heap, handle):
        kmem_cache_free(mem, heap, c, cpu, handle)
    else:
        note_broken(mem, GIVEN, c, handle)


@by_heap(lambda mem, heap, c, cpu, gfp, context: _checked_alloc(mem, heap, c, cpu, gfp, context))
def checked_alloc(mem, heap, c, cpu, gfp, context):
    """:func:`~fastalloc.kernels.alloc.kmem.policed_alloc`; a handle that is no object stops the lane.

    Who allocated the slab of a granted object, and at which depth, is in MEMCTL.granted.
    """


@by_heap(lambda mem, heap, c, cpu, handle: _checked_free(mem, heap, c, cpu, handle))
def checked_free(mem, heap, c, cpu, handle):
    """:func:`~fastalloc.kernels.alloc.kmem.kmem_cache_free`; what is no object in use is left alone and stops the
    lane."""

"""What the closed loop asks of SLAB and SLOB beside objects, see :mod:`fastalloc.kernels.alloc.kmem_inspect`."""

from types import SimpleNamespace

from fastalloc.kernels.alloc.slab.lists import nr_slabs
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_SLAB
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slob.ring import FIRST_PAGE, SLOB_CTL, SLOB_PAGE
from fastalloc.kernels.alloc.slob.slob import SLOB_CACHE
from fastalloc.kernels.alloc.state import (
    DEPTH,
)


def untold(heap, c):
    return -1


def nothing_aside(mem, heap):
    pass


def not_told(heap, cpu, t):
    pass


def no_pages_apart(heap):
    return 0


def no_bytes_aside(mem, heap):
    return 0


def _slab_init_caches(heap, geometry):
    """Nothing is left to do: see scenario.slab_arrays."""


def _slab_pages(heap):
    return heap.ctl[SLAB_CTL.pages]


def _slab_max_pages(heap):
    return heap.ctl[SLAB_CTL.max_pages]


def _slab_cache_slabs(heap, c):
    return nr_slabs(heap, c)


def _slab_max_cache_slabs(heap, c):
    return heap.cache[c, SLAB_CACHE.max_slabs]


def _slab_free_objects(heap, c):
    free = nr_slabs(heap, c) * heap.cache[c, SLAB_CACHE.num] - heap.cache[c, SLAB_CACHE.active]
    for q in range(heap.queue.shape[1]):
        free += heap.queue[c, q, SLAB_ARRAY.avail]
    return free


def _slab_deep_objects(heap, c):
    deep = 0
    for s in range(heap.ctl[SLAB_CTL.slab_top]):
        slab = heap.slab[s]
        if slab[SLAB_SLAB.pfn] >= 0 and slab[SLAB_SLAB.cache] == c and slab[SLAB_SLAB.depth] > DEPTH.harder:
            deep += slab[SLAB_SLAB.inuse]
    return deep


def _slab_costs(heap, into):
    into[0] = into[1] = into[2] = 0
    held = 4096 * heap.ctl[SLAB_CTL.pages]
    for c in range(heap.cache.shape[0]):
        cache = heap.cache[c]
        misses = cache[SLAB_CACHE.allocmiss] + cache[SLAB_CACHE.freemiss]
        into[0] += cache[SLAB_CACHE.allochit] + cache[SLAB_CACHE.freehit]
        into[1] += misses + cache[SLAB_CACHE.node_allocs] + cache[SLAB_CACHE.node_frees]
        into[2] += misses + cache[SLAB_CACHE.node_allocs] + cache[SLAB_CACHE.node_overflow]
        used = cache[SLAB_CACHE.active]
        for q in range(heap.queue.shape[1]):
            used -= heap.queue[c, q, SLAB_ARRAY.avail]
        held -= used * cache[SLAB_CACHE.size]
    into[3] = held // 1024


def _slab_overflow_word(heap):
    return SLAB_CTL.overflow


SLAB = SimpleNamespace(
    init_caches=_slab_init_caches,
    heap_pages=_slab_pages,
    pages_apart=no_pages_apart,
    max_heap_pages=_slab_max_pages,
    cache_slabs=_slab_cache_slabs,
    max_cache_slabs=_slab_max_cache_slabs,
    free_objects=_slab_free_objects,
    heap_costs=_slab_costs,
    deep_objects=_slab_deep_objects,
    overflow_word=_slab_overflow_word,
    note_current=not_told,
    set_aside=nothing_aside,
    aside_bytes=no_bytes_aside,
)


def _slob_init_caches(heap, geometry):
    for c in range(geometry.shape[0]):
        for column in range(SLOB_CACHE.width):
            heap.cache[c, column] = geometry[c, column]


def _slob_pages(heap):
    return heap.ctl[SLOB_CTL.pages] + heap.ctl[SLOB_CTL.whole]


def _slob_max_pages(heap):
    return heap.ctl[SLOB_CTL.max_pages]


def _slob_no_slabs(heap, c):
    return -1


def _slob_free_objects(heap, c):
    return so.room_for(heap, heap.cache[c, SLOB_CACHE.size], heap.cache[c, SLOB_CACHE.align])


def _slob_costs(heap, into):
    into[0] = 0
    into[1] = into[2] = heap.ctl[SLOB_CTL.locks]
    units = 0
    for p in range(FIRST_PAGE, heap.ctl[SLOB_CTL.top]):
        if heap.page[p, SLOB_PAGE.pfn] >= 0:
            units += heap.page[p, SLOB_PAGE.units]
    into[3] = units * so.SLOB_UNIT // 1024


def _slob_overflow_word(heap):
    return SLOB_CTL.overflow


SLOB = SimpleNamespace(
    init_caches=_slob_init_caches,
    heap_pages=_slob_pages,
    pages_apart=no_pages_apart,
    max_heap_pages=_slob_max_pages,
    cache_slabs=_slob_no_slabs,
    max_cache_slabs=_slob_no_slabs,
    free_objects=_slob_free_objects,
    heap_costs=_slob_costs,
    deep_objects=untold,
    overflow_word=_slob_overflow_word,
    note_current=not_told,
    set_aside=nothing_aside,
    aside_bytes=no_bytes_aside,
)

"""An allocator of one's own behind the common faces: see :mod:`fastalloc.kernels.alloc.kmem` and ``kmem_inspect``."""

from types import SimpleNamespace

import numpy as np

from fastalloc.compiler.jit import entry
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmalloc import general_cache
from fastalloc.kernels.alloc.own.call import own_alloc, own_free, own_trim
from fastalloc.kernels.alloc.own.pages import run_of
from fastalloc.kernels.alloc.own.state import (
    CACHE_COUNT,
    FLUSH,
    GRANULE_SHIFT,
    GRANULES,
    OWN_PAGE,
    PAGE_SHIFT,
    SHRINK,
    SOUND,
    ZONE_CTL,
)
from fastalloc.kernels.alloc.slab_slob_inspect import no_bytes_aside, no_pages_apart, nothing_aside
from fastalloc.kernels.alloc.state import DEPTH


def _alloc(mem, heap, c, cpu, node, gfp, context):
    return own_alloc(mem, heap, c, cpu, gfp, context)


def _policed_alloc(mem, heap, c, cpu, gfp, context):
    return own_alloc(mem, heap, c, cpu, gfp, context)


def _free(mem, heap, c, cpu, handle):
    own_free(mem, heap, cpu, handle)


def _kmalloc_cache(heap, sizes, size):
    return general_cache(sizes, size)


def _kmalloc(mem, heap, sizes, cpu, gfp, context, size):
    c = general_cache(sizes, size)
    return own_alloc(mem, heap, c, cpu, gfp, context) if c >= 0 else np.int64(st.NO_OBJECT)


def _kfree(mem, heap, cpu, handle):
    own_free(mem, heap, cpu, handle)


def _shrink(mem, heap, sizes, c, cpu, context):
    own_trim(mem, heap, SHRINK, c, cpu)
    return 0


def _flush(mem, heap, c, cpu):
    own_trim(mem, heap, FLUSH, c, cpu)


def _reap(mem, heap, cpu, jiffies, interval):
    pass


def _allocated_by(heap, handle):
    page = run_of(heap, handle)
    return heap.page[page, OWN_PAGE.owner], heap.page[page, OWN_PAGE.depth]


def _path(heap):
    return heap.ctl[ZONE_CTL.path]


def _ordinal(heap, handle):
    return handle >> PAGE_SHIFT


def _index(heap, handle):
    return handle & ((1 << PAGE_SHIFT) - 1)


OWN = SimpleNamespace(
    alloc=_alloc,
    policed_alloc=_policed_alloc,
    free=_free,
    free_object=_free,
    kmalloc_cache=_kmalloc_cache,
    kmalloc=_kmalloc,
    kfree=_kfree,
    shrink=_shrink,
    flush=_flush,
    reap=_reap,
    allocated_by=_allocated_by,
    path=_path,
    ordinal=_ordinal,
    index=_index,
)


def is_whole(mem, heap, c, handle):
    """The book has an object of cache ``c`` there, or the allocation would have failed [note_object]."""
    return True


def is_held(mem, heap, c, cpu, handle):
    """Whether an object of cache ``c`` begins there."""
    granule = handle >> GRANULE_SHIFT
    return np.uint64(granule) < np.uint64(heap.used.shape[0]) and heap.used[granule] == 1 + c


def is_block(mem, heap, handle):
    """No object is a block of pages apart, nor is any of SLAB's."""
    return False


# ------------------------------------------------------------------------------------------------- what is told


def _init_caches(heap, geometry):
    """Nothing is left to do: see ``fastalloc/own/lane.py``."""


def _pages(heap):
    return heap.ctl[ZONE_CTL.held]


def _max_pages(heap):
    return heap.ctl[ZONE_CTL.most]


def _cache_pages(heap, c):
    return heap.counts[c, CACHE_COUNT.pages]


def _max_cache_pages(heap, c):
    return heap.counts[c, CACHE_COUNT.peak]


def _free_objects(heap, c):
    """How many more its pages would hold if nobody else had objects there."""
    count = heap.counts[c]
    return max(0, (count[CACHE_COUNT.pages] << PAGE_SHIFT) // count[CACHE_COUNT.size] - count[CACHE_COUNT.live])


def _deep_objects(heap, c):
    deep = 0
    page = 0
    while page < heap.ctl[ZONE_CTL.top]:
        pages = 1
        if heap.map[page] > 0:
            pages = 1 << (heap.map[page] - 1)
            if heap.page[page, OWN_PAGE.depth] > DEPTH.harder:
                for granule in range(page * GRANULES, (page + pages) * GRANULES):
                    deep += heap.used[granule] == 1 + c
        page += pages
    return deep


def _costs(heap, into):
    into[0] = heap.ctl[ZONE_CTL.fast]
    into[1] = heap.ctl[ZONE_CTL.slow]
    into[2] = 0
    left = heap.ctl[ZONE_CTL.held] << PAGE_SHIFT
    for c in range(heap.counts.shape[0]):
        count = heap.counts[c]
        into[2] += count[CACHE_COUNT.locks]
        left -= count[CACHE_COUNT.live] * count[CACHE_COUNT.size]
    into[3] = left // 1024


def _overflow_word(heap):
    return ZONE_CTL.overflow


def _note_current(heap, cpu, t):
    heap.current[cpu] = 1 + t


OWN_TOLD = SimpleNamespace(
    init_caches=_init_caches,
    heap_pages=_pages,
    pages_apart=no_pages_apart,
    max_heap_pages=_max_pages,
    cache_slabs=_cache_pages,
    max_cache_slabs=_max_cache_pages,
    free_objects=_free_objects,
    heap_costs=_costs,
    deep_objects=_deep_objects,
    overflow_word=_overflow_word,
    note_current=_note_current,
    set_aside=nothing_aside,
    aside_bytes=no_bytes_aside,
)


@entry
def drain(mem, own):
    """Free every object of a lane that is over and shrink every cache: how many pages are held then, of which 0 are
    lost. Stops at what is wrong, as the lane would."""
    for granule in range(own.ctl[ZONE_CTL.top] * GRANULES):
        if own.used[granule] > 0 and own.ctl[ZONE_CTL.wrong] == SOUND:
            own_free(mem, own, np.int64(0), np.int64(granule) << GRANULE_SHIFT)
    for c in range(own.counts.shape[0]):
        own_trim(mem, own, SHRINK, np.int64(c), np.int64(0))
    return own.ctl[ZONE_CTL.held]

"""What the closed loop asks of its allocator beside objects: caches set up, pages and slabs held, free objects.

As in :mod:`fastalloc.kernels.alloc.kmem`, ``heap`` is the state of SLUB, SLAB, SLOB or an allocator of one's own,
and its type decides at compile time; or it is a table of operations.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np

from fastalloc.compiler.jit import INLINED, dispatched
from fastalloc.kernels.alloc import emergency_caches as em
from fastalloc.kernels.alloc.heap_ops import HEAP_OP, is_behind, its_own, word_at
from fastalloc.kernels.alloc.own.face import OWN_TOLD
from fastalloc.kernels.alloc.slab_slob_inspect import SLAB, SLOB, not_told
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.slub.era_7_3.sheaf_calls import add_sheaves
from fastalloc.kernels.alloc.slub.state import ERA_2_6_25, ERA_PERCPU_SHEAVES, SHEAF
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
)
from fastalloc.linux import gfp as g

# ------------------------------------------------------------------------------------------------------- SLUB


def _slub_init_caches(heap, geometry):
    for c in range(geometry.shape[0]):
        su.init_cache(heap, c, geometry[c])
    heap.ctl[SLUB_CTL.nr_caches] = geometry.shape[0]
    heap.ctl[SLUB_CTL.nodes] = 1


def _slub_pages(heap):
    return heap.ctl[SLUB_CTL.pages]


def _slub_pages_apart(heap):
    return heap.ctl[SLUB_CTL.whole]


def _slub_max_pages(heap):
    return heap.ctl[SLUB_CTL.max_pages]


def _slub_cache_slabs(heap, c):
    return heap.knode[c, 0, KMEM_CACHE_NODE.nr_slabs]


def _slub_max_cache_slabs(heap, c):
    return heap.cache[c, KMEM_CACHE.max_slabs]


def _slub_free_objects(heap, c):
    free = 0
    for cpu in range(heap.kcpu.shape[1]):
        s = heap.kcpu[c, cpu, KMEM_CACHE_CPU.page]
        if s >= 0:
            free += heap.slab[s, SLUB_SLAB.objects] - heap.slab[s, SLUB_SLAB.inuse]
            i = heap.kcpu[c, cpu, KMEM_CACHE_CPU.freelist]
            while i >= 0:
                free += 1
                i = heap.link[heap.slab[s, SLUB_SLAB.base] + i]
    for n in range(heap.ctl[SLUB_CTL.nodes]):
        s = heap.knode[c, n, KMEM_CACHE_NODE.partial_head]
        while s >= 0:
            free += heap.slab[s, SLUB_SLAB.objects] - heap.slab[s, SLUB_SLAB.inuse]
            s = heap.slab[s, SLUB_SLAB.next]
    return free


def _eras_free_objects(heap, c):
    free = 0
    for s in range(heap.ctl[SLUB_CTL.slab_top]):
        if heap.slab[s, SLUB_SLAB.pfn] >= 0 and heap.slab[s, SLUB_SLAB.cache] == c:
            free += heap.slab[s, SLUB_SLAB.objects] - heap.slab[s, SLUB_SLAB.inuse]
    for cpu in range(heap.kcpu.shape[1]):
        k = heap.kcpu[c, cpu]
        for f in (KMEM_CACHE_CPU.freelist, KMEM_CACHE_CPU.sheaf_freelist):
            i = k[f]
            while i >= 0:
                free += 1
                i = heap.link[heap.slab[k[f + 1], SLUB_SLAB.base] + i]
        for sheaf in (KMEM_CACHE_CPU.main, KMEM_CACHE_CPU.sheaf_main, KMEM_CACHE_CPU.spare):
            if k[sheaf] >= 0:
                free += heap.ctl[k[sheaf] + SHEAF.size]
    h = heap.knode[c, 0, KMEM_CACHE_NODE.full]
    while h >= 0:
        free += heap.ctl[h + SHEAF.size]
        h = heap.ctl[h + SHEAF.next]
    return free


def _slub_deep_objects(heap, c):
    deep = 0
    for s in range(heap.ctl[SLUB_CTL.slab_top]):
        slab = heap.slab[s]
        if slab[SLUB_SLAB.pfn] >= 0 and slab[SLUB_SLAB.cache] == c and slab[SLUB_SLAB.depth] > DEPTH.harder:
            deep += slab[SLUB_SLAB.inuse]
    return deep


def _slub_costs(heap, into):
    into[0] = into[1] = into[2] = 0
    held = 4096 * heap.ctl[SLUB_CTL.pages]
    for c in range(heap.ctl[SLUB_CTL.nr_caches]):
        for cpu in range(heap.kcpu.shape[1]):
            k = heap.kcpu[c, cpu]
            into[0] += (
                k[KMEM_CACHE_CPU.alloc_fastpath]
                + k[KMEM_CACHE_CPU.free_fastpath]
                + k[KMEM_CACHE_CPU.alloc_pcs]
                + k[KMEM_CACHE_CPU.free_pcs]
            )
            into[1] += k[KMEM_CACHE_CPU.alloc_slowpath] + k[KMEM_CACHE_CPU.free_slowpath]
            if heap.cache[c, KMEM_CACHE.era] != ERA_2_6_25:
                continue  # whose locks are counted
            into[2] += k[KMEM_CACHE_CPU.alloc_from_partial] + k[KMEM_CACHE_CPU.free_remove_partial]
            into[2] += k[KMEM_CACHE_CPU.deactivate_to_head] + k[KMEM_CACHE_CPU.deactivate_to_tail]
            into[2] += k[KMEM_CACHE_CPU.free_add_partial]
        for n in range(heap.ctl[SLUB_CTL.nodes]):
            into[2] += heap.knode[c, n, KMEM_CACHE_NODE.list_locks] + heap.knode[c, n, KMEM_CACHE_NODE.barn_locks]
        used = -free_objects(heap, c)
        for s in range(heap.ctl[SLUB_CTL.slab_top]):
            if heap.slab[s, SLUB_SLAB.pfn] >= 0 and heap.slab[s, SLUB_SLAB.cache] == c:
                used += heap.slab[s, SLUB_SLAB.objects]
        held -= used * heap.cache[c, KMEM_CACHE.objsize]
    into[3] = held // 1024


def _slub_overflow_word(heap):
    return SLUB_CTL.overflow


def _slub_set_aside(mem, heap):
    em.boot_emergency(mem, heap)


def _eras_set_aside(mem, heap):
    """And the barns and main sheaves that caches of era 7.3 are created with, kmalloc's first."""
    em.boot_emergency(mem, heap)
    for c in range(heap.ctl[SLUB_CTL.nr_caches]):
        if heap.cache[c, KMEM_CACHE.era] == ERA_PERCPU_SHEAVES and heap.cache[c, KMEM_CACHE.sheaf_capacity] > 0:
            source = heap.cache[c, KMEM_CACHE.barn_cache]
            if source >= 0:
                barn = su.slab_alloc(mem, heap, source, 0, 0, g.GFP_KERNEL, 0)
                heap.knode[c, 0, KMEM_CACHE_NODE.barn] = barn
            add_sheaves(mem, heap, c, 0, np.int64(g.GFP_KERNEL), 0)


def _slub_aside_bytes(mem, heap):
    if mem.ctl[MEMCTL.emergency_nomerge] == 0:
        return 0
    idle = 0
    for i in range(4):
        idle += em.SIZES[i] * free_objects(heap, mem.ctl[MEMCTL.emergency_cache[i]])
    return idle


SLUB = SimpleNamespace(
    init_caches=_slub_init_caches,
    heap_pages=_slub_pages,
    pages_apart=_slub_pages_apart,
    max_heap_pages=_slub_max_pages,
    cache_slabs=_slub_cache_slabs,
    max_cache_slabs=_slub_max_cache_slabs,
    free_objects=_slub_free_objects,
    heap_costs=_slub_costs,
    deep_objects=_slub_deep_objects,
    overflow_word=_slub_overflow_word,
    note_current=not_told,
    set_aside=_slub_set_aside,
    aside_bytes=_slub_aside_bytes,
)
ERAS = SimpleNamespace(**{**vars(SLUB), "free_objects": _eras_free_objects, "set_aside": _eras_set_aside})

FACES = {"Slub": SLUB, "SlubEras": ERAS, "Slab": SLAB, "Slob": SLOB, "Own": OWN_TOLD}
_its_own = partial(its_own, FACES)

# --------------------------------------------------------------------------------------------- the common face


@_its_own("init_caches")
def init_caches(heap, geometry):
    """Register the caches, a row of ``geometry`` each; SLAB comes with its own set up."""


@_its_own("heap_pages", **INLINED)
def heap_pages(heap):
    """Pages that the allocator holds; what SLUB hands out as pages is its user's."""


@_its_own("pages_apart", **INLINED)
def pages_apart(heap):
    """Pages behind objects that SLUB's users have from the page allocator, beside :func:`heap_pages`."""


@_its_own("max_heap_pages", **INLINED)
def max_heap_pages(heap):
    """Most pages that it held."""


@_its_own("cache_slabs", **INLINED)
def cache_slabs(heap, c):
    """Slabs of cache ``c``; -1 in SLOB, whose pages belong to no cache."""


@_its_own("max_cache_slabs", **INLINED)
def max_cache_slabs(heap, c):
    """Most slabs that cache ``c`` had; -1 in SLOB."""


@_its_own("free_objects")
def free_objects(heap, c):
    """Free objects of cache ``c`` wherever they are stranded; in SLOB how many more its pages would hold."""


@_its_own("deep_objects")
def deep_objects(heap, c):
    """Objects handed out, or on a CPU's freelist, of slabs of cache ``c`` that were allocated below 3/4 min, where a
    GFP_NOIO caller cannot allocate: in the bio cache, slots that callers with __GFP_HIGH paid for. -1: not known."""


@_its_own("heap_costs")
def heap_costs(heap, into):
    """Fill the metrics METRIC.slab_costs."""


@_its_own("overflow_word", **INLINED)
def overflow_word(heap):
    """The number of the word of ``heap.ctl`` that is not 0 once the arrays were too small."""


def _overflowed(heap):
    return heap.ctl[overflow_word(heap)] != 0


def _behind_overflowed(heap):
    return word_at(heap.table[HEAP_OP.overflow]) != 0


@dispatched(lambda heap: _behind_overflowed if is_behind(heap) else _overflowed, **INLINED)
def overflowed(heap):
    """Whether the arrays were too small; the lane's result is void then."""


@_its_own("note_current", **INLINED)
def note_current(heap, cpu, t):
    """Task ``t`` runs on a CPU from here on, -1 none: for an allocator of one's own that tells tasks apart."""


@_its_own("set_aside")
def set_aside(mem, heap):
    """Slabs that a policy sets aside at boot."""


@_its_own("aside_bytes")
def aside_bytes(mem, heap):
    """Bytes of the objects that are free in slabs of emergency caches, where these share with nobody."""

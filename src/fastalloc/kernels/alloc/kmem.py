"""kmem_cache_alloc, kmalloc and their kin over whichever allocator the machine has.

``heap`` is the state of that allocator: :class:`~fastalloc.kernels.alloc.state.Slub`,
:class:`~fastalloc.kernels.alloc.slab.state.Slab`, :class:`~fastalloc.kernels.alloc.slob.slob.Slob`, or of an allocator
that the user wrote :class:`~fastalloc.kernels.alloc.own.state.Own`. Which one is a matter of its type and is decided
when a kernel is compiled, as CONFIG_SLUB, CONFIG_SLAB and CONFIG_SLOB decide it in Linux: no branch is left in the
compiled code. The machine is compiled once for all of them: its ``heap`` is
:class:`~fastalloc.kernels.alloc.heap_ops.HeapOps`.

``sizes`` maps kmalloc sizes to caches, int64[KMALLOC_SLOTS]: entry ``(size + 7) >> 3`` up to 4096 bytes, then one for
each page order; -1 where the page allocator serves the size.
"""

from functools import partial
from types import SimpleNamespace

from fastalloc.compiler.jit import INLINED, folded, kernel
from fastalloc.kernels.alloc import emergency_caches as em
from fastalloc.kernels.alloc import entitlement as en
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.heap_ops import by_heap, its_own
from fastalloc.kernels.alloc.kmalloc import general_cache, get_order, page_handle
from fastalloc.kernels.alloc.own.face import OWN
from fastalloc.kernels.alloc.slab.free import slab_cache_free
from fastalloc.kernels.alloc.slab.reap import cache_reap, do_drain, slab_cache_shrink
from fastalloc.kernels.alloc.slab.slab import slab_cache_alloc
from fastalloc.kernels.alloc.slab.state import SLAB_CACHE, SLAB_CTL, SLAB_SLAB
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slob.ring import SLOB_CTL, SLOB_PAGE
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.slub.state import ERA_2_6_25
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.linux import gfp as g

# What shrink returns besides the 0 and 1 of SLAB, SLOB and later SLUBs.
SHRUNK = -1
SHRINK_FAILED = -2
DEPTH_BITS = 8  # below the owner, where one word tells both


# ------------------------------------------------------------------------------------------------------- SLUB


# The same functions, compiled into the caller.
_slab_alloc_inlined = kernel(su.slab_alloc.py_func, folded)
_slab_free_inlined = kernel(su.slab_free.py_func, folded)


def _slub_alloc(mem, heap, c, cpu, node, gfp, context):
    return _slab_alloc_inlined(mem, heap, c, cpu, node, gfp, context)


def _slub_policed_alloc(mem, heap, c, cpu, gfp, context):
    if mem.ctl[MEMCTL.policed] != 0:
        return en.guarded_alloc(mem, heap, c, cpu, gfp, context)
    return _slab_alloc_inlined(mem, heap, c, cpu, -1, gfp, context)


def _plain_alloc(mem, heap, c, cpu, gfp, context):
    return kmem_cache_alloc(mem, heap, c, cpu, -1, gfp, context)


def _slub_free(mem, heap, c, cpu, handle):
    if mem.ctl[MEMCTL.free] != st.FREE_PLAIN:
        em.free_named(mem, heap, c, cpu, handle)
    else:
        _slab_free_inlined(mem, heap, cpu, handle)


def _slub_free_object(mem, heap, c, cpu, handle):
    if mem.ctl[MEMCTL.free] != st.FREE_PLAIN:
        em.free_named(mem, heap, c, cpu, handle)
    else:
        su.free_object(mem, heap, cpu, handle)


def _slub_kmalloc_cache(heap, sizes, size):
    return general_cache(sizes, size)


def _slub_kmalloc(mem, heap, sizes, cpu, gfp, context, size):
    c = general_cache(sizes, size)
    if c >= 0:
        return su.slab_alloc(mem, heap, c, cpu, -1, gfp, context)
    handle = page_handle(mem, cpu, gfp | g.COMP, context, get_order(size))
    heap.ctl[SLUB_CTL.path] = 8 if handle >= 0 else 0
    heap.ctl[SLUB_CTL.whole] += 1 << get_order(size) if handle >= 0 else 0
    return handle


def _slub_kfree(mem, heap, cpu, handle):
    su.slab_free(mem, heap, cpu, handle)


def _slub_shrink(mem, heap, sizes, c, cpu, context):
    if heap.cache[c, KMEM_CACHE.era] != ERA_2_6_25:
        su.kmem_cache_shrink(mem, heap, c, cpu)
        slabs = 0
        for n in range(heap.ctl[SLUB_CTL.nodes]):
            slabs += heap.knode[c, n, KMEM_CACHE_NODE.nr_slabs]
        return int(slabs > 0)
    # slabs_by_inuse: a list head for each possible number of objects in use.
    size = 16 * heap.cache[c, KMEM_CACHE.objects]
    scratch = _slub_kmalloc_kernel(mem, heap, sizes, cpu, g.GFP_KERNEL, context, size)
    if scratch < 0:
        return SHRINK_FAILED
    su.kmem_cache_shrink(mem, heap, c, cpu)
    su.slab_free(mem, heap, cpu, scratch)
    return SHRUNK


def _slub_flush(mem, heap, c, cpu):
    su.flush_slab(mem, heap, c, cpu, cpu)


def _slub_reap(mem, heap, cpu, jiffies, interval):
    pass


def _slub_allocated_by(heap, handle):
    s = handle >> st.HANDLE_SHIFT
    return heap.slab[s, SLUB_SLAB.owner], heap.slab[s, SLUB_SLAB.depth]


def _slub_path(heap):
    return heap.ctl[SLUB_CTL.path]


def _slub_ordinal(heap, handle):
    if handle >= st.PAGE_HANDLE:
        return -1
    s = handle >> st.HANDLE_SHIFT
    ordinal = heap.slab[s, SLUB_SLAB.ordinal]
    if ordinal < 0:
        c = heap.slab[s, SLUB_SLAB.cache]
        ordinal = heap.cache[c, KMEM_CACHE.ordinals]
        heap.cache[c, KMEM_CACHE.ordinals] += 1
        heap.slab[s, SLUB_SLAB.ordinal] = ordinal
    return ordinal


def _slub_index(heap, handle):
    return -1 if handle >= st.PAGE_HANDLE else handle & st.HANDLE_INDEX_MASK


_slub_kmalloc_kernel = kernel(_slub_kmalloc)

SLUB = SimpleNamespace(
    alloc=_slub_alloc,
    policed_alloc=_slub_policed_alloc,
    free=_slub_free,
    free_object=_slub_free_object,
    kmalloc_cache=_slub_kmalloc_cache,
    kmalloc=_slub_kmalloc,
    kfree=_slub_kfree,
    shrink=_slub_shrink,
    flush=_slub_flush,
    reap=_slub_reap,
    allocated_by=_slub_allocated_by,
    path=_slub_path,
    ordinal=_slub_ordinal,
    index=_slub_index,
)


# ------------------------------------------------------------------------------------------------------- SLAB


_array_alloc_inlined = kernel(slab_cache_alloc.py_func, folded)
_array_free_inlined = kernel(slab_cache_free.py_func, folded)


def _slab_alloc(mem, heap, c, cpu, node, gfp, context):
    return _array_alloc_inlined(mem, heap, c, cpu, node, gfp, context)


def _slab_free(mem, heap, c, cpu, handle):
    _array_free_inlined(mem, heap, cpu, handle)


def _slab_kmalloc(mem, heap, sizes, cpu, gfp, context, size):
    c = general_cache(sizes, size)
    if c < 0:
        heap.ctl[SLAB_CTL.path] = 0
        return st.NO_OBJECT
    return slab_cache_alloc(mem, heap, c, cpu, -1, gfp, context)


def _slab_kfree(mem, heap, cpu, handle):
    slab_cache_free(mem, heap, cpu, handle)


def _slab_shrink(mem, heap, sizes, c, cpu, context):
    return slab_cache_shrink(mem, heap, c, cpu)


def _slab_flush(mem, heap, c, cpu):
    do_drain(mem, heap, c, cpu)


def _slab_reap(mem, heap, cpu, jiffies, interval):
    cache_reap(mem, heap, cpu, jiffies, interval)


def _slab_path(heap):
    return heap.ctl[SLAB_CTL.path]


def _slab_ordinal(heap, handle):
    s = handle >> st.HANDLE_SHIFT
    ordinal = heap.slab[s, SLAB_SLAB.ordinal]
    if ordinal < 0:
        c = heap.slab[s, SLAB_SLAB.cache]
        ordinal = heap.cache[c, SLAB_CACHE.ordinals]
        heap.cache[c, SLAB_CACHE.ordinals] += 1
        heap.slab[s, SLAB_SLAB.ordinal] = ordinal
    return ordinal


def _slab_index(heap, handle):
    return handle & st.HANDLE_INDEX_MASK


def _slab_allocated_by(heap, handle):
    s = handle >> st.HANDLE_SHIFT
    return heap.slab[s, SLAB_SLAB.owner], heap.slab[s, SLAB_SLAB.depth]


SLAB = SimpleNamespace(
    alloc=_slab_alloc,
    policed_alloc=_plain_alloc,
    free=_slab_free,
    free_object=_slab_free,
    kmalloc_cache=_slub_kmalloc_cache,
    kmalloc=_slab_kmalloc,
    kfree=_slab_kfree,
    shrink=_slab_shrink,
    flush=_slab_flush,
    reap=_slab_reap,
    allocated_by=_slab_allocated_by,
    path=_slab_path,
    ordinal=_slab_ordinal,
    index=_slab_index,
)

# ------------------------------------------------------------------------------------------------------- SLOB


def _slob_alloc(mem, heap, c, cpu, node, gfp, context):
    return so.slob_cache_alloc(mem, heap, c, cpu, node, gfp, context)


def _slob_free(mem, heap, c, cpu, handle):
    if c < 0:
        so.slob_kfree(mem, heap, cpu, handle)
    else:
        so.slob_cache_free(mem, heap, c, cpu, handle)


def _slob_kmalloc_cache(heap, sizes, size):
    return -1


def _slob_kmalloc(mem, heap, sizes, cpu, gfp, context, size):
    return so.slob_kmalloc(mem, heap, cpu, -1, gfp, context, size)


def _slob_kfree(mem, heap, cpu, handle):
    so.slob_kfree(mem, heap, cpu, handle)


def _slob_shrink(mem, heap, sizes, c, cpu, context):
    return 0


def _slob_flush(mem, heap, c, cpu):
    pass


def _slob_path(heap):
    return heap.ctl[SLOB_CTL.path]


def _slob_ordinal(heap, handle):
    return so.slob_ordinal(heap, handle)


def _slob_allocated_by(heap, handle):
    p = handle >> st.HANDLE_SHIFT
    return heap.page[p, SLOB_PAGE.owner], heap.page[p, SLOB_PAGE.depth]


SLOB = SimpleNamespace(
    alloc=_slob_alloc,
    policed_alloc=_plain_alloc,
    free=_slob_free,
    free_object=_slob_free,
    kmalloc_cache=_slob_kmalloc_cache,
    kmalloc=_slob_kmalloc,
    kfree=_slob_kfree,
    shrink=_slob_shrink,
    flush=_slob_flush,
    reap=_slub_reap,
    allocated_by=_slob_allocated_by,
    path=_slob_path,
    ordinal=_slob_ordinal,
    index=_slub_index,
)


# ------------------------------------------------------------------------------------------------ the machine's


@folded
def unpacked(word):
    """Owner and depth of :func:`owner_and_depth`."""
    return word >> DEPTH_BITS, word & ((1 << DEPTH_BITS) - 1)


def _allocated_by_behind(heap, handle):
    return unpacked(owner_and_depth(heap, handle))


HEAP_OPS = SimpleNamespace(allocated_by=_allocated_by_behind)

ALLOCATORS = {"Slub": SLUB, "SlubEras": SLUB, "Slab": SLAB, "Slob": SLOB, "Own": OWN, "HeapOps": HEAP_OPS}
_its_own = partial(its_own, ALLOCATORS)


@folded
def _owner_and_depth(heap, handle):
    owner, depth = allocated_by(heap, handle)
    return owner << DEPTH_BITS | depth


# --------------------------------------------------------------------------------------------- the common face


@_its_own("alloc", **INLINED)
def kmem_cache_alloc(mem, heap, c, cpu, node, gfp, context):
    """An object of cache ``c``, a handle, or NO_OBJECT; ``node`` is -1 or the NUMA node asked for."""


@_its_own("policed_alloc", **INLINED)
def policed_alloc(mem, heap, c, cpu, gfp, context):
    """:func:`kmem_cache_alloc` under the machine's policy, which only SLUB asks."""


@_its_own("free", **INLINED)
def kmem_cache_free(mem, heap, c, cpu, handle):
    """Free an object of cache ``c``; -1: of kmalloc."""


@_its_own("free_object", **INLINED)
def free_slab_object(mem, heap, c, cpu, handle):
    """:func:`kmem_cache_free` of what is known to be no block of pages."""


@_its_own("kmalloc_cache", **INLINED)
def kmalloc_cache(heap, sizes, size):
    """The cache that serves kmalloc(``size``); -1 where there is none and :func:`kmalloc` knows what to do."""


@_its_own("kmalloc")
def kmalloc(mem, heap, sizes, cpu, gfp, context, size):
    """``size`` bytes (1 or more): a handle, or NO_OBJECT."""


@_its_own("kfree")
def kfree(mem, heap, cpu, handle):
    """Free what kmalloc gave."""


@_its_own("shrink")
def kmem_cache_shrink(mem, heap, sizes, c, cpu, context):
    """Give back what is free of cache ``c``: SHRUNK, SHRINK_FAILED, or the return value of SLAB and SLOB."""


@_its_own("flush")
def flush_cpu(mem, heap, c, cpu):
    """Empty what ``cpu`` keeps of cache ``c``: SLUB's CPU slab, SLAB's array."""


@_its_own("reap")
def reap(mem, heap, cpu, jiffies, interval):
    """One pass of the periodic reaper on ``cpu``; only SLAB has one."""


@_its_own("allocated_by", **INLINED)
def allocated_by(heap, handle):
    """Who allocated the slab of an object, and at which DEPTH; pages are not asked for."""


@by_heap(lambda heap, handle: _owner_and_depth(heap, handle))
def owner_and_depth(heap, handle):
    """:func:`allocated_by` in one word."""


@_its_own("path", **INLINED)
def last_path(heap):
    """The path that the last operation took, in the numbers of the golden cases."""


@_its_own("ordinal", **INLINED)
def ordinal(heap, handle):
    """Number of the object's slab in the order in which a trace met the slabs of its cache; -1 for pages."""


@_its_own("index", **INLINED)
def object_index(heap, handle):
    """Index of the object in its slab (SLOB: byte offset in the page); -1 for pages."""

"""SLUB [mm/slub.c]: the object paths, common to all eras.

An object is named by a handle (see :mod:`fastalloc.kernels.alloc.state`). ``context`` holds the PF_MEMALLOC and
IN_INTERRUPT bits of whoever asks; ``gfp`` is looked at only when a slab has to be allocated, as in the kernel.

Frees into a slab that is not the CPU's own: :mod:`fastalloc.kernels.alloc.slub.slab_free`. What is not common leaves
for the cache's era, see :mod:`fastalloc.kernels.alloc.slub.era_switch`.
"""

from fastalloc.compiler.jit import folded, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import free_pages
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_2_6_25.slow_paths import slab_alloc_2_6_25
from fastalloc.kernels.alloc.slub.era_switch import (
    OWN,
    era_alloc,
    era_close,
    era_destroy,
    era_flush,
    era_give,
    era_has_sheaves,
    era_shrink,
    era_take,
)
from fastalloc.kernels.alloc.slub.partial import (
    add_partial,
    discard_slab,
    new_slab,
    remove_partial,
)
from fastalloc.kernels.alloc.slub.slab_free import __slab_free
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.linux import gfp as g

OF_GEOMETRY = len(KMEM_CACHE.geometry)
OF_LATER = len(KMEM_CACHE.later)
OF_SHEAVES = len(KMEM_CACHE_CPU.sheaves)


# ------------------------------------------------------------------------------------------- allocate and free


@folded
def __slab_alloc(mem, slub, c, cpu, node, gfp, context):
    """An allocation that the private list does not serve, by the rules of the cache's era."""
    mem.ctl[MEMCTL.cpu] = cpu
    handle = era_alloc(mem, slub, c, cpu, node, gfp, context)
    if handle == OWN:
        handle = slab_alloc_2_6_25(mem, slub, c, cpu, node, gfp, context)
    return handle


@folded
def take_private(slub, c, cpu, node):
    """The fast path of an allocation: whether the CPU has an object to itself, and the first of these, or NO_OBJECT."""
    k = slub.kcpu[c, cpu]
    i = k[KMEM_CACHE_CPU.freelist]
    if i >= 0:
        s = k[KMEM_CACHE_CPU.page]
        if node < 0 or slub.slab[s, SLUB_SLAB.node] == node:
            k[KMEM_CACHE_CPU.freelist] = slub.link[slub.slab[s, SLUB_SLAB.base] + i]
            k[KMEM_CACHE_CPU.alloc_fastpath] += 1
            return True, (s << st.HANDLE_SHIFT) | i
    return era_take(slub, k, node)


@kernel
def slab_alloc(mem, slub, c, cpu, node, gfp, context):
    """An object of cache ``c`` on ``cpu``: its handle, or NO_OBJECT [slab_alloc].

    ``node`` is -1 or the NUMA node asked for. The path taken is left in ``slub.ctl[SLUB_CTL.path]``.
    """
    taken, handle = take_private(slub, c, cpu, node)
    if taken:
        slub.ctl[SLUB_CTL.path] = er.PATH_FREELIST
        return handle
    return __slab_alloc(mem, slub, c, cpu, node, gfp, context)


@folded
def give_private(mem, slub, c, cpu, s, i):
    """The fast path of a free: object ``i`` of slab ``s`` to what the CPU has to itself, or False."""
    k = slub.kcpu[c, cpu]
    if k[KMEM_CACHE_CPU.page] != s:
        return era_has_sheaves(slub, k) and era_give(mem, slub, cpu, k, s, i)
    slub.link[slub.slab[s, SLUB_SLAB.base] + i] = k[KMEM_CACHE_CPU.freelist]
    k[KMEM_CACHE_CPU.freelist] = i
    k[KMEM_CACHE_CPU.free_fastpath] += 1
    return True


@folded
def free_object(mem, slub, cpu, handle):
    """Free an object that a slab holds."""
    s = handle >> st.HANDLE_SHIFT
    i = handle & st.HANDLE_INDEX_MASK
    c = slub.slab[s, SLUB_SLAB.cache]
    if give_private(mem, slub, c, cpu, s, i):
        slub.ctl[SLUB_CTL.path] = er.PATH_FREELIST
        return
    slub.ctl[SLUB_CTL.path] = er.PATH_STAYS
    if __slab_free(mem, slub, c, cpu, s, i):
        slub.ctl[SLUB_CTL.path] = er.PATH_STAYS_FROZEN


@kernel
def slab_free(mem, slub, cpu, handle):
    """Free an object on ``cpu`` [slab_free]; page-backed objects go to the page allocator."""
    if handle >= st.PAGE_HANDLE:
        order = (handle >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF
        free_pages(mem, cpu, handle & ((1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1), order)
        slub.ctl[SLUB_CTL.whole] -= 1 << order
        slub.ctl[SLUB_CTL.path] = er.PATH_KMALLOC_PAGES
        return
    free_object(mem, slub, cpu, handle)


# ------------------------------------------------------------------------------------------- whole-cache paths


@kernel
def flush_slab(mem, slub, c, cpu, owner):
    """Retire CPU ``owner``'s slab if it has one, and what else later eras keep by CPU [flush_slab]."""
    era_flush(mem, slub, c, cpu, owner)


@kernel
def flush_all(mem, slub, c, cpu):
    """Retire the slabs of the other CPUs in ascending order, then of this one [flush_all, on_each_cpu].

    Later kernels do it by workers, which run in any order (5.15 on); here in ascending one.
    """
    if slub.cache[c, KMEM_CACHE.era] != er.ERA_2_6_25:
        for other in range(slub.kcpu.shape[1]):
            flush_slab(mem, slub, c, other, other)
        return
    for other in range(slub.kcpu.shape[1]):
        if other != cpu:
            flush_slab(mem, slub, c, other, other)
    flush_slab(mem, slub, c, cpu, cpu)


@kernel
def discard_empty_slabs(mem, slub, c, cpu, n):
    """Give back the empty slabs of a node's partial list."""
    s = slub.knode[c, n, KMEM_CACHE_NODE.partial_head]
    while s >= 0:
        following = slub.slab[s, SLUB_SLAB.next]
        if slub.slab[s, SLUB_SLAB.inuse] == 0:
            remove_partial(slub, c, s)
            discard_slab(mem, slub, c, cpu, s)
        s = following


@kernel
def kmem_cache_shrink(mem, slub, c, cpu):
    """Flush, free the empty partial slabs, sort the rest fullest first, equals reversed [kmem_cache_shrink].

    Later eras leave slabs with more than 32 free objects in their order, behind the others.
    """
    flush_all(mem, slub, c, cpu)
    slab = slub.slab
    most = slub.cache[c, KMEM_CACHE.objects] - 1
    if slub.cache[c, KMEM_CACHE.era] != er.ERA_2_6_25 and most > er.SHRINK_PROMOTE_MAX:
        most = er.SHRINK_PROMOTE_MAX
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        era_shrink(mem, slub, c, cpu, n)
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        discard_empty_slabs(mem, slub, c, cpu, n)
        # Selection by free objects: each pass moves the slabs of one occupancy, first of the old order last.
        chain = slub.knode[c, n, KMEM_CACHE_NODE.partial_head]
        slub.knode[c, n, KMEM_CACHE_NODE.partial_head] = -1
        slub.knode[c, n, KMEM_CACHE_NODE.partial_tail] = -1
        slub.knode[c, n, KMEM_CACHE_NODE.nr_partial] = 0
        for free in range(most + 1, 0, -1):
            rest = -1
            rest_tail = -1
            s = chain
            while s >= 0:
                following = slab[s, SLUB_SLAB.next]
                left = slab[s, SLUB_SLAB.objects] - slab[s, SLUB_SLAB.inuse]
                if left == free or left > most:
                    add_partial(slub, c, s, left > most)
                else:
                    slab[s, SLUB_SLAB.next] = -1
                    if rest_tail >= 0:
                        slab[rest_tail, SLUB_SLAB.next] = s
                    else:
                        rest = s
                    rest_tail = s
                s = following
            chain = rest
            if chain < 0:
                break


@kernel
def init_cache(slub, c, geometry):
    """Register cache ``c`` with its geometry row; no CPU slab yet.

    ``geometry`` holds the columns KMEM_CACHE.geometry, or a whole row when the cache is of a later era.
    """
    for i in range(OF_GEOMETRY):
        column = KMEM_CACHE.geometry[i]
        slub.cache[c, column] = geometry[column]
    for i in range(OF_LATER):
        column = KMEM_CACHE.later[i]
        slub.cache[c, column] = geometry[column] if column < geometry.shape[0] else 0
    if geometry.shape[0] <= KMEM_CACHE.min_order:
        slub.cache[c, KMEM_CACHE.min_order] = slub.cache[c, KMEM_CACHE.order]
    slub.cache[c, KMEM_CACHE.free_slab] = -1
    slub.cache[c, KMEM_CACHE.alive] = 1
    slub.cache[c, KMEM_CACHE.rank] = er.FIRST_RANK
    for cpu in range(slub.kcpu.shape[1]):
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.freelist] = -1
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.page] = -1
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.partial] = -1
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.main] = er.NO_MAIN[slub.cache[c, KMEM_CACHE.era]]
        for i in range(OF_SHEAVES):
            slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaves[i]] = -1
    for n in range(slub.knode.shape[1]):
        slub.knode[c, n, KMEM_CACHE_NODE.full] = -1
        slub.knode[c, n, KMEM_CACHE_NODE.empty] = -1
        slub.knode[c, n, KMEM_CACHE_NODE.barn] = -1
        slub.knode[c, n, KMEM_CACHE_NODE.partial_head] = -1
        slub.knode[c, n, KMEM_CACHE_NODE.partial_tail] = -1


@kernel
def kmem_cache_close(mem, slub, c, cpu):
    """Flush and free the empty slabs; whether none is left [kmem_cache_close]. The counters stay behind."""
    era_destroy(mem, slub, c)
    before = slub.cache[c, KMEM_CACHE.era] == er.ERA_SHEAVES
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        # Before the CPUs' partial lists are flushed, for that is where objects of the barn may land.
        if before:
            era_shrink(mem, slub, c, cpu, n)
    flush_all(mem, slub, c, cpu)
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        if not before:
            era_shrink(mem, slub, c, cpu, n)
    left = 0
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        discard_empty_slabs(mem, slub, c, cpu, n)
        left += slub.knode[c, n, KMEM_CACHE_NODE.nr_slabs]
    era_destroy(mem, slub, c)
    if left == 0:
        era_close(mem, slub, c, cpu)
    return left == 0


@kernel
def early_kmem_cache_node_alloc(mem, slub, c, cpu, node):
    """The first object of ``kmem_cache_node`` on ``node``, outside the counters [early_kmem_cache_node_alloc]."""
    s = new_slab(mem, slub, c, cpu, node, g.GFP_KERNEL, 0)
    if s >= 0:
        slub.slab[s, SLUB_SLAB.freelist] = slub.link[slub.slab[s, SLUB_SLAB.base]]
        slub.slab[s, SLUB_SLAB.inuse] = 1
        add_partial(slub, c, s, False)
    return s

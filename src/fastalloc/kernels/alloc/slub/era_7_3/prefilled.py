"""Prefilled sheaves of Linux 7.2 and 7.3 [mm/slub.c]: private ones whose objects cannot be refused later."""

import numpy as np

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import ignores_watermarks
from fastalloc.kernels.alloc.slub.barn import EMPTY, FULL, barn_get, barn_put, pop_object
from fastalloc.kernels.alloc.slub.era_7_3 import node_lists as nl
from fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves import (
    NEW_SHEAF,
    OWN_SOURCE,
    PAGES,
    alloc_empty_sheaf,
    flush_and_free,
    free_empty_sheaf,
    refill_sheaf,
    sheaf_call,
)
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL
from fastalloc.linux import gfp as g


@internal
def entitled_refill(mem, slub, c, cpu, h, gfp, context):
    """A prefilled sheaf gets more, if it can be without the reserves; whether it is full
    [__prefill_sheaf_pfmemalloc]."""
    capacity = slub.ctl[h + SHEAF.capacity]
    if refill_sheaf(mem, slub, c, cpu, h, gfp | g.NOMEMALLOC, context, capacity):
        return True
    if not ignores_watermarks(gfp, context):
        return False
    slub.ctl[h + SHEAF.reserve] = 1
    return refill_sheaf(mem, slub, c, cpu, h, gfp, context, capacity)


@internal
def prefill_oversize(mem, slub, c, cpu, gfp, context, size, source):
    """A sheaf of more objects than the cache's sheaves have, -1 if it cannot be had."""
    if slub.cache[c, KMEM_CACHE.sheaf_cache] < 0 and slub.cache[c, KMEM_CACHE.sheaf_capacity] > 0:
        source = np.int64(OWN_SOURCE)  # sheaves cost no memory
    elif source < 0:
        source = np.int64(PAGES)
    h = sheaf_call(mem, slub, np.int64(NEW_SHEAF), c, cpu, source, gfp, context, size)
    if h < 0:
        return np.int64(-1)
    k = slub.kcpu[c, cpu]
    k[KMEM_CACHE_CPU.sheaf_prefill_oversize] += 1
    got = nl.refill_objects(mem, slub, c, cpu, gfp, context, slub.ctl, h + SHEAF.objects[0], size)
    if got < size:
        nl.free_bulk(mem, slub, c, cpu, slub.ctl, h + SHEAF.objects[0], got)
        free_empty_sheaf(mem, slub, c, cpu, h)
        return np.int64(-1)
    slub.ctl[h + SHEAF.size] = size
    k[KMEM_CACHE_CPU.alloc_slowpath] += size
    return np.int64(h)


@kernel
def prefill_sheaf(mem, slub, c, cpu, gfp, context, size, source):
    """A private sheaf with at least ``size`` objects, -1 when they cannot be had [kmem_cache_prefill_sheaf].

    ``source``: the kmalloc cache of a sheaf of just that size, -1 pages, should the cache's own be too small.
    """
    out_of_line()
    mem.ctl[MEMCTL.cpu] = cpu
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    if k[KMEM_CACHE_CPU.main] < 0 or size > slub.cache[c, KMEM_CACHE.sheaf_capacity]:
        return prefill_oversize(mem, slub, c, cpu, gfp, context, size, source)
    h = k[KMEM_CACHE_CPU.spare]
    k[KMEM_CACHE_CPU.spare] = -1
    if h >= 0:
        k[KMEM_CACHE_CPU.sheaf_prefill_fast] += 1
    else:
        k[KMEM_CACHE_CPU.sheaf_prefill_slow] += 1
        h = np.int64(barn_get(slub, c, n, FULL))
        if h < 0:
            h = np.int64(barn_get(slub, c, n, EMPTY))
        if h >= 0 and slub.ctl[h + SHEAF.size] > 0:
            k[KMEM_CACHE_CPU.barn_get] += 1
        else:
            k[KMEM_CACHE_CPU.barn_get_fail] += 1
    if h < 0:
        capacity = slub.cache[c, KMEM_CACHE.sheaf_capacity]
        h = np.int64(alloc_empty_sheaf(mem, slub, c, cpu, gfp, context, capacity))
        if h < 0:
            return np.int64(-1)
    slub.ctl[h + SHEAF.reserve] = 0
    if slub.ctl[h + SHEAF.size] < size and not entitled_refill(mem, slub, c, cpu, h, gfp, context):
        flush_and_free(mem, slub, c, cpu, h)
        return np.int64(-1)
    return h


@kernel
def alloc_from_sheaf(slub, h):
    """The next object of a prefilled sheaf, NO_OBJECT when it is empty [kmem_cache_alloc_from_sheaf]."""
    if slub.ctl[h + SHEAF.size] == 0:
        return np.int64(st.NO_OBJECT)
    return np.int64(pop_object(slub.ctl, h))


@kernel
def return_sheaf(mem, slub, c, cpu, h, gfp, context):
    """Give a prefilled sheaf back: as the CPU's spare, refilled to the barn, or flushed [kmem_cache_return_sheaf]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    oversize = slub.ctl[h + SHEAF.capacity] != slub.cache[c, KMEM_CACHE.sheaf_capacity]
    if oversize or k[KMEM_CACHE_CPU.main] < 0 or slub.ctl[h + SHEAF.reserve] != 0:
        flush_and_free(mem, slub, c, cpu, h)
        return
    if k[KMEM_CACHE_CPU.spare] < 0:
        k[KMEM_CACHE_CPU.spare] = h
        k[KMEM_CACHE_CPU.sheaf_return_fast] += 1
        return
    k[KMEM_CACHE_CPU.sheaf_return_slow] += 1
    takes = slub.knode[c, n, KMEM_CACHE_NODE.nr_full] < slub.cache[c, KMEM_CACHE.max_full]
    capacity = slub.ctl[h + SHEAF.capacity]
    if takes and refill_sheaf(mem, slub, c, cpu, h, gfp | g.NOMEMALLOC | g.NOWARN, context, capacity):
        barn_put(slub, c, n, h, FULL)
        k[KMEM_CACHE_CPU.barn_put] += 1
        return
    flush_and_free(mem, slub, c, cpu, h)

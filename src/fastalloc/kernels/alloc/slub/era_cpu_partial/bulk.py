"""Several objects at once under the rules of :mod:`fastalloc.kernels.alloc.slub.era_cpu_partial.slow_paths`."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_cpu_partial.slow_paths import free_turning, slab_alloc
from fastalloc.kernels.alloc.slub.partial import (
    TURNS,
    put_back,
)
from fastalloc.kernels.alloc.state import (
    KMEM_CACHE_CPU,
    MEMCTL,
    SLUB_SLAB,
)

one_object = internal(slab_alloc.py_func)


@internal
def free_chain(mem, slub, c, cpu, s, head, tail, count):
    """``count`` linked objects of slab ``s`` at once [do_slab_free, __slab_free]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    if k[KMEM_CACHE_CPU.page] == s:
        slub.link[slub.slab[s, SLUB_SLAB.base] + tail] = k[KMEM_CACHE_CPU.freelist]
        k[KMEM_CACHE_CPU.freelist] = head
        k[KMEM_CACHE_CPU.free_fastpath] += count
        return
    outcome, prior = put_back(slub, c, cpu, s, head, tail, count)
    if outcome == TURNS:
        free_turning(mem, slub, c, cpu, s, prior)


@internal
def free_bulk(mem, slub, c, cpu, out, at, size, turned):
    """``size`` objects of the array, from its end, as chains of one slab each; ``turned``: the other way round, as the
    hooks of a free rebuild them [build_detached_freelist, slab_free_freelist_hook, 4.17 on]."""
    out_of_line()
    while size > 0:
        size -= 1
        handle = out[at + size]
        s = handle >> st.HANDLE_SHIFT
        base = slub.slab[s, SLUB_SLAB.base]
        first = handle & st.HANDLE_INDEX_MASK
        last = first
        count = 1
        same = size
        misses = er.LOOKAHEAD
        j = size
        while j > 0:
            j -= 1
            other = out[at + j]
            if other >> st.HANDLE_SHIFT == s:
                i = other & st.HANDLE_INDEX_MASK
                if turned:
                    slub.link[base + last] = i
                else:
                    slub.link[base + i] = last
                last = i
                count += 1
                same -= 1
                out[at + j] = out[at + same]
                out[at + same] = other
                continue
            misses -= 1
            if misses == 0:
                break
        size = same
        if turned:
            free_chain(mem, slub, c, cpu, s, first, last, count)
        else:
            free_chain(mem, slub, c, cpu, s, last, first, count)


@internal
def alloc_bulk(mem, slub, c, cpu, gfp, context, out, at, count):
    """``count`` objects, all or none; whether they were had [kmem_cache_alloc_bulk, 4.3 on]."""
    out_of_line()
    mem.ctl[MEMCTL.cpu] = cpu
    for got in range(count):
        handle = one_object(mem, slub, c, cpu, -1, gfp, context, KMEM_CACHE_CPU.freelist)
        if handle < 0:
            free_bulk(mem, slub, c, cpu, out, at, got, False)
            return False
        out[at + got] = handle
    return True

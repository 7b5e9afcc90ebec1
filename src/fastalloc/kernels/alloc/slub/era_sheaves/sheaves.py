"""SLUB behind sheaves that caches ask for: Linux 6.18 [mm/slub.c]. Arrays of objects per CPU, a barn of full and empty
ones per node.

Each CPU has a main sheaf, a stack that serves and takes objects, and at times a spare one. Objects in a sheaf are in
use as far as their slabs can tell. Under the sheaves lie the rules of
:mod:`~fastalloc.kernels.alloc.slub.era_cpu_partial`.

Not modelled: sheaves filled by kfree_rcu. A CPU's main sheaf is made at its first use, not with the cache.
"""

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.policy_hooks import goes_elsewhere
from fastalloc.kernels.alloc.policy_record import MATCH_FREE_TO, TO_SLAB
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.barn import (
    EMPTY,
    FULL,
    barn_get,
    barn_put,
    exchange_for_full,
    new_record,
    pop_object,
    push_object,
    retire_record,
    staying_objects,
    swap_sheaves,
    wanted_objects,
)
from fastalloc.kernels.alloc.slub.era_cpu_partial import slow_paths as cp
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.linux import gfp as g

F = KMEM_CACHE_CPU.sheaf_freelist
MAIN = KMEM_CACHE_CPU.sheaf_main

take_object = internal(cp.slab_alloc.py_func)
give_object = internal(cp.slab_free.py_func)


@internal
def alloc_empty_sheaf(mem, slub, c, cpu, gfp, context):
    """A new empty sheaf, -1 when its memory cannot be had [alloc_empty_sheaf]."""
    out_of_line()
    memory = st.NO_OBJECT
    source = slub.cache[c, KMEM_CACHE.sheaf_cache]
    if source >= 0:
        memory = take_object(mem, slub, source, cpu, -1, gfp, context, KMEM_CACHE_CPU.freelist)
        if memory < 0:
            return -1
    h = new_record(slub, slub.cache[c, KMEM_CACHE.sheaf_capacity])
    if h < 0:
        return -1
    slub.ctl[h + SHEAF.memory] = memory
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_alloc] += 1
    return h


@internal
def free_empty_sheaf(mem, slub, c, cpu, h):
    """Give an empty sheaf's memory back [free_empty_sheaf]."""
    out_of_line()
    memory = slub.ctl[h + SHEAF.memory]
    retire_record(slub.ctl, h)
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_free] += 1
    if memory >= 0:
        s = memory >> st.HANDLE_SHIFT
        give_object(
            mem, slub, slub.slab[s, SLUB_SLAB.cache], cpu, s, memory & st.HANDLE_INDEX_MASK, KMEM_CACHE_CPU.freelist
        )


@internal
def sheaf_free(mem, slub, c, cpu, h, keep):
    """Free the objects of sheaf ``h`` above the first ``keep`` to their slabs, newest first [kmem_cache_free_bulk]."""
    out_of_line()
    while slub.ctl[h + SHEAF.size] > keep:
        handle = pop_object(slub.ctl, h)
        give_object(mem, slub, c, cpu, handle >> st.HANDLE_SHIFT, handle & st.HANDLE_INDEX_MASK, F)


@internal
def sheaf_flush(mem, slub, c, cpu, h, staying):
    """Free the objects of sheaf ``h`` above the first ``staying`` [sheaf_flush_unused, sheaf_flush_main]."""
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_flush] += slub.ctl[h + SHEAF.size] - staying
    sheaf_free(mem, slub, c, cpu, h, staying)


@internal
def refill_sheaf(mem, slub, c, cpu, h, gfp, context, wanted):
    """Fill sheaf ``h`` to ``wanted`` objects from the slabs, all or nothing [refill_sheaf, __kmem_cache_alloc_bulk]."""
    out_of_line()
    before = slub.ctl[h + SHEAF.size]
    while slub.ctl[h + SHEAF.size] < wanted:
        handle = take_object(mem, slub, c, cpu, -1, gfp, context, F)
        if handle < 0:
            sheaf_free(mem, slub, c, cpu, h, before)
            return False
        push_object(slub.ctl, h, handle)
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_refill] += slub.ctl[h + SHEAF.size] - before
    return True


@internal
def replace_empty_main(mem, slub, c, cpu, gfp, context):
    """Find a sheaf with objects for the CPU: its spare, the barn's, one refilled by a caller who may wait
    [__pcs_replace_empty_main]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    if k[KMEM_CACHE_CPU.spare] >= 0 and slub.ctl[k[KMEM_CACHE_CPU.spare] + SHEAF.size] > 0:
        swap_sheaves(k, MAIN)
        return True
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    if exchange_for_full(slub, c, n, k, MAIN):
        return True
    k[KMEM_CACHE_CPU.barn_get_fail] += 1
    if (gfp & g.WAIT) == 0:
        return False
    h = k[KMEM_CACHE_CPU.spare]
    k[KMEM_CACHE_CPU.spare] = -1
    if h < 0:
        h = barn_get(slub, c, n, EMPTY)
    if h < 0:
        h = alloc_empty_sheaf(mem, slub, c, cpu, gfp, context)
        if h < 0:
            return False
    # Objects from below the watermarks must not end up where anybody may take them.
    wanted = wanted_objects(mem, slub, c, cpu, h, gfp, context)
    if not refill_sheaf(mem, slub, c, cpu, h, gfp | g.NOMEMALLOC | g.NOWARN, context, wanted):
        free_empty_sheaf(mem, slub, c, cpu, h)
        return False
    if k[KMEM_CACHE_CPU.spare] < 0:
        k[KMEM_CACHE_CPU.spare] = k[MAIN]
    else:
        barn_put(slub, c, n, k[MAIN], EMPTY)
    k[MAIN] = h
    return True


@internal
def replace_full_main(mem, slub, c, cpu, context):
    """Find a sheaf with room for the CPU [__pcs_replace_full_main, __pcs_install_empty_sheaf].

    The spare, an empty one of the barn, the spare flushed when the barn is full, a new one, the main one flushed.
    """
    out_of_line()
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    node = slub.knode[c, n]
    spare = k[KMEM_CACHE_CPU.spare]
    if spare < 0:
        empty = barn_get(slub, c, n, EMPTY)
    elif slub.ctl[spare + SHEAF.size] < slub.cache[c, KMEM_CACHE.sheaf_capacity]:
        swap_sheaves(k, MAIN)
        return
    elif node[KMEM_CACHE_NODE.nr_full] >= er.MAX_FULL_SHEAVES:
        k[KMEM_CACHE_CPU.barn_put_fail] += 1
        sheaf_flush(mem, slub, c, cpu, spare, staying_objects(mem, slub, c, cpu, spare))
        k[KMEM_CACHE_CPU.spare] = -1
        empty = spare
    else:
        empty = barn_get(slub, c, n, EMPTY)
    exchanged = empty >= 0  # both under one lock
    if empty < 0:
        empty = alloc_empty_sheaf(mem, slub, c, cpu, g.GFP_NOWAIT | g.NOWARN, context)
        if empty < 0:
            if spare >= 0:
                k[KMEM_CACHE_CPU.barn_put_fail] += 1
            full = k[MAIN]
            sheaf_flush(mem, slub, c, cpu, full, staying_objects(mem, slub, c, cpu, full))
            return
    if k[KMEM_CACHE_CPU.spare] < 0:
        k[KMEM_CACHE_CPU.spare] = k[MAIN]
    else:
        k[KMEM_CACHE_CPU.barn_put] += 1
        barn_put(slub, c, n, k[MAIN], FULL)
        node[KMEM_CACHE_NODE.barn_locks] -= exchanged
    k[MAIN] = empty


@internal
def has_main(mem, slub, c, cpu, context):
    """Whether the CPU has a main sheaf, made now if it never had."""
    if slub.kcpu[c, cpu, MAIN] < 0:
        slub.kcpu[c, cpu, MAIN] = alloc_empty_sheaf(mem, slub, c, cpu, g.GFP_NOWAIT | g.NOWARN, context)
    return slub.kcpu[c, cpu, MAIN] >= 0


@internal
def slab_alloc(mem, slub, c, cpu, node, gfp, context):
    """An object from the main sheaf, else from the slabs [slab_alloc_node, alloc_from_pcs]; or NO_OBJECT."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    here = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    if (node < 0 or node == here) and has_main(mem, slub, c, cpu, context):
        if slub.ctl[k[MAIN] + SHEAF.size] > 0 or replace_empty_main(mem, slub, c, cpu, gfp, context):
            handle = pop_object(slub.ctl, k[MAIN])
            if node < 0 or slub.slab[handle >> st.HANDLE_SHIFT, SLUB_SLAB.node] == node:
                k[KMEM_CACHE_CPU.alloc_pcs] += 1
                slub.ctl[SLUB_CTL.path] = er.PATH_SHEAF
                return handle
            push_object(slub.ctl, k[MAIN], handle)
    return take_object(mem, slub, c, cpu, node, gfp, context, F)


@internal
def slab_free(mem, slub, c, cpu, s, i):
    """Free into the main sheaf; objects of another node go straight to their slabs [slab_free, free_to_pcs]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    here = slub.slab[s, SLUB_SLAB.node] == cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    if here and (mem.ctl[MEMCTL.slab_match] & MATCH_FREE_TO) != 0:
        here = not goes_elsewhere(mem, slub, s, TO_SLAB)
    if here and has_main(mem, slub, c, cpu, 0):
        if slub.ctl[k[MAIN] + SHEAF.size] == slub.cache[c, KMEM_CACHE.sheaf_capacity]:
            replace_full_main(mem, slub, c, cpu, 0)
        push_object(slub.ctl, k[MAIN], (s << st.HANDLE_SHIFT) | i)
        k[KMEM_CACHE_CPU.free_pcs] += 1
        slub.ctl[SLUB_CTL.path] = er.PATH_SHEAF
        return
    give_object(mem, slub, c, cpu, s, i, F)


# ------------------------------------------------------------------------------------------- whole-cache paths


@internal
def flush_sheaves(mem, slub, c, cpu, owner):
    """Empty CPU ``owner``'s sheaves; the main one stays, the spare one goes [pcs_flush_all]."""
    out_of_line()
    k = slub.kcpu[c, owner]
    if k[KMEM_CACHE_CPU.spare] >= 0:
        sheaf_flush(mem, slub, c, cpu, k[KMEM_CACHE_CPU.spare], 0)
        free_empty_sheaf(mem, slub, c, cpu, k[KMEM_CACHE_CPU.spare])
        k[KMEM_CACHE_CPU.spare] = -1
    if k[MAIN] >= 0:
        sheaf_flush(mem, slub, c, cpu, k[MAIN], 0)


@internal
def barn_shrink(mem, slub, c, cpu, n):
    """Empty a barn [barn_shrink]."""
    out_of_line()
    for which in (FULL, EMPTY):
        while slub.knode[c, n, KMEM_CACHE_NODE.sheaf_list[which]] >= 0:
            h = barn_get(slub, c, n, which)
            sheaf_flush(mem, slub, c, cpu, h, 0)
            free_empty_sheaf(mem, slub, c, cpu, h)


@internal
def free_main_sheaves(mem, slub, c, cpu):
    """Give back the main sheaves of a cache that is destroyed, after its flush [pcs_destroy]."""
    out_of_line()
    for owner in range(slub.kcpu.shape[1]):
        h = slub.kcpu[c, owner, MAIN]
        if h >= 0:
            free_empty_sheaf(mem, slub, c, cpu, h)
            slub.kcpu[c, owner, MAIN] = -1


# ------------------------------------------------------------------------------------------ prefilled sheaves


@kernel
def prefill_sheaf(mem, slub, c, cpu, gfp, context, size):
    """A private sheaf with at least ``size`` <= capacity objects, -1 when they cannot be had
    [kmem_cache_prefill_sheaf]."""
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    h = k[KMEM_CACHE_CPU.spare]
    k[KMEM_CACHE_CPU.spare] = -1
    if h < 0:
        h = barn_get(slub, c, n, FULL)
        if h >= 0:
            k[KMEM_CACHE_CPU.barn_get] += 1
        else:
            k[KMEM_CACHE_CPU.barn_get_fail] += 1
            h = barn_get(slub, c, n, EMPTY)
    if h < 0:
        h = alloc_empty_sheaf(mem, slub, c, cpu, gfp, context)
        if h < 0:
            return -1
    slub.ctl[h + SHEAF.reserve] = 0
    full = slub.cache[c, KMEM_CACHE.sheaf_capacity]
    if slub.ctl[h + SHEAF.size] < size and not refill_sheaf(mem, slub, c, cpu, h, gfp | g.NOMEMALLOC, context, full):
        entitled = (context & g.PF_MEMALLOC) != 0 and (context & g.IN_INTERRUPT) == 0 and (gfp & g.NOMEMALLOC) == 0
        if not entitled or not refill_sheaf(mem, slub, c, cpu, h, gfp, context, full):
            sheaf_flush(mem, slub, c, cpu, h, 0)
            free_empty_sheaf(mem, slub, c, cpu, h)
            return -1
        slub.ctl[h + SHEAF.reserve] = 1
    return h


@kernel
def alloc_from_sheaf(slub, h):
    """The next object of a prefilled sheaf, NO_OBJECT when it is empty [kmem_cache_alloc_from_sheaf]."""
    if slub.ctl[h + SHEAF.size] == 0:
        return st.NO_OBJECT
    return pop_object(slub.ctl, h)


@kernel
def return_sheaf(mem, slub, c, cpu, h, gfp, context):
    """Give a prefilled sheaf back: as the CPU's spare, refilled to the barn, or flushed [kmem_cache_return_sheaf]."""
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    if slub.ctl[h + SHEAF.reserve] == 0:
        if k[KMEM_CACHE_CPU.spare] < 0:
            k[KMEM_CACHE_CPU.spare] = h
            return
        full = slub.cache[c, KMEM_CACHE.sheaf_capacity]
        if slub.knode[c, n, KMEM_CACHE_NODE.nr_full] < er.MAX_FULL_SHEAVES and refill_sheaf(
            mem, slub, c, cpu, h, gfp, context, full
        ):
            barn_put(slub, c, n, h, FULL)
            k[KMEM_CACHE_CPU.barn_put] += 1
            return
    sheaf_flush(mem, slub, c, cpu, h, 0)
    free_empty_sheaf(mem, slub, c, cpu, h)

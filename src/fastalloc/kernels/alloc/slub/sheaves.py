"""SLUB behind sheaves: Linux 6.18 on [mm/slub.c]. Arrays of objects per CPU, a barn of full and empty ones per node.

Each CPU has a main sheaf, a stack that serves and takes objects, and at times a spare one. Objects in a sheaf are in
use as far as their slabs can tell. Under the sheaves lie the rules of :mod:`fastalloc.kernels.alloc.slub.cpu_partial`.

Not modelled: sheaves filled by kfree_rcu. A CPU's main sheaf is made at its first use, not with the cache.
"""

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import cpu_partial as cp
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.linux import gfp as g

F = er.K_SHEAF_FREELIST

take_object = internal(cp.slab_alloc.py_func)
give_object = internal(cp.slab_free.py_func)


@internal
def alloc_empty_sheaf(mem, slub, c, cpu, gfp, context):
    """A new empty sheaf, -1 when its memory cannot be had [alloc_empty_sheaf]."""
    out_of_line()
    ctl = slub.ctl
    h = ctl[er.U_SHEAF_SPARE]
    fresh = h == 0
    if fresh:
        h = ctl[er.U_SHEAF_TOP] if ctl[er.U_SHEAF_TOP] > 0 else st.SLUBCTL_FIELDS
        if er.H_OBJECTS + slub.cache[c, er.C_SHEAF_CAPACITY] > ctl[er.U_SHEAF_STRIDE] or (
            h + ctl[er.U_SHEAF_STRIDE] > ctl.shape[0]
        ):
            ctl[st.U_OVERFLOW] = 1
            return -1
    memory = st.NO_OBJECT
    source = slub.cache[c, er.C_SHEAF_CACHE]
    if source >= 0:
        memory = take_object(mem, slub, source, cpu, -1, gfp, context, st.K_FREELIST)
        if memory < 0:
            return -1
    if fresh:
        ctl[er.U_SHEAF_TOP] = h + ctl[er.U_SHEAF_STRIDE]
    else:
        ctl[er.U_SHEAF_SPARE] = ctl[h + er.H_NEXT]
    ctl[h + er.H_SIZE] = 0
    ctl[h + er.H_MEMORY] = memory
    ctl[h + er.H_RESERVE] = 0
    slub.kcpu[c, cpu, er.K_SHEAF_ALLOC] += 1
    return h


@internal
def free_empty_sheaf(mem, slub, c, cpu, h):
    """Give an empty sheaf's memory back [free_empty_sheaf]."""
    out_of_line()
    ctl = slub.ctl
    memory = ctl[h + er.H_MEMORY]
    ctl[h + er.H_NEXT] = ctl[er.U_SHEAF_SPARE]
    ctl[er.U_SHEAF_SPARE] = h
    slub.kcpu[c, cpu, er.K_SHEAF_FREE] += 1
    if memory >= 0:
        s = memory >> st.HANDLE_SHIFT
        give_object(mem, slub, slub.slab[s, st.S_CACHE], cpu, s, memory & st.HANDLE_INDEX_MASK, st.K_FREELIST)


@internal
def pop_object(ctl, h):
    """The last object of sheaf ``h``."""
    ctl[h + er.H_SIZE] -= 1
    return ctl[h + er.H_OBJECTS + ctl[h + er.H_SIZE]]


@internal
def push_object(ctl, h, handle):
    """Put an object into sheaf ``h``, which has room."""
    ctl[h + er.H_OBJECTS + ctl[h + er.H_SIZE]] = handle
    ctl[h + er.H_SIZE] += 1


@internal
def sheaf_free(mem, slub, c, cpu, h, keep):
    """Free the objects of sheaf ``h`` above the first ``keep`` to their slabs, newest first [kmem_cache_free_bulk]."""
    out_of_line()
    while slub.ctl[h + er.H_SIZE] > keep:
        handle = pop_object(slub.ctl, h)
        give_object(mem, slub, c, cpu, handle >> st.HANDLE_SHIFT, handle & st.HANDLE_INDEX_MASK, F)


@internal
def sheaf_flush(mem, slub, c, cpu, h):
    """Free all objects of sheaf ``h`` [sheaf_flush_unused, sheaf_flush_main]."""
    slub.kcpu[c, cpu, er.K_SHEAF_FLUSH] += slub.ctl[h + er.H_SIZE]
    sheaf_free(mem, slub, c, cpu, h, 0)


@internal
def refill_sheaf(mem, slub, c, cpu, h, gfp, context):
    """Fill sheaf ``h`` from the slabs, all or nothing [refill_sheaf, __kmem_cache_alloc_bulk]."""
    out_of_line()
    before = slub.ctl[h + er.H_SIZE]
    while slub.ctl[h + er.H_SIZE] < slub.cache[c, er.C_SHEAF_CAPACITY]:
        handle = take_object(mem, slub, c, cpu, -1, gfp, context, F)
        if handle < 0:
            sheaf_free(mem, slub, c, cpu, h, before)
            return False
        push_object(slub.ctl, h, handle)
    slub.kcpu[c, cpu, er.K_SHEAF_REFILL] += slub.ctl[h + er.H_SIZE] - before
    return True


@internal
def barn_put(slub, c, n, h, head):
    """Put sheaf ``h`` in front of a barn's list: ``head`` is N_FULL or N_EMPTY."""
    node = slub.knode[c, n]
    slub.ctl[h + er.H_NEXT] = node[head]
    node[head] = h
    node[head + 2] += 1


@internal
def barn_get(slub, c, n, head):
    """Take the first sheaf of a barn's list, -1 none."""
    node = slub.knode[c, n]
    h = node[head]
    if h >= 0:
        node[head] = slub.ctl[h + er.H_NEXT]
        node[head + 2] -= 1
    return h


@internal
def swap_sheaves(k):
    """Exchange main and spare."""
    h = k[er.K_MAIN]
    k[er.K_MAIN] = k[er.K_SPARE]
    k[er.K_SPARE] = h


@internal
def replace_empty_main(mem, slub, c, cpu, gfp, context):
    """Find a sheaf with objects for the CPU: its spare, the barn's, one refilled by a caller who may wait
    [__pcs_replace_empty_main]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    if k[er.K_SPARE] >= 0 and slub.ctl[k[er.K_SPARE] + er.H_SIZE] > 0:
        swap_sheaves(k)
        return True
    n = cpu >> mem.ctl[st.M_CPU_NODE_SHIFT]
    full = barn_get(slub, c, n, er.N_FULL)
    if full >= 0:
        k[er.K_BARN_GET] += 1
        barn_put(slub, c, n, k[er.K_MAIN], er.N_EMPTY)
        k[er.K_MAIN] = full
        return True
    k[er.K_BARN_GET_FAIL] += 1
    if (gfp & g.WAIT) == 0:
        return False
    h = k[er.K_SPARE]
    k[er.K_SPARE] = -1
    if h < 0:
        h = barn_get(slub, c, n, er.N_EMPTY)
    if h < 0:
        h = alloc_empty_sheaf(mem, slub, c, cpu, gfp, context)
        if h < 0:
            return False
    # Objects from below the watermarks must not end up where anybody may take them.
    if not refill_sheaf(mem, slub, c, cpu, h, gfp | g.NOMEMALLOC | g.NOWARN, context):
        free_empty_sheaf(mem, slub, c, cpu, h)
        return False
    if k[er.K_SPARE] < 0:
        k[er.K_SPARE] = k[er.K_MAIN]
    else:
        barn_put(slub, c, n, k[er.K_MAIN], er.N_EMPTY)
    k[er.K_MAIN] = h
    return True


@internal
def replace_full_main(mem, slub, c, cpu, context):
    """Find a sheaf with room for the CPU [__pcs_replace_full_main, __pcs_install_empty_sheaf].

    The spare, an empty one of the barn, the spare flushed when the barn is full, a new one, the main one flushed.
    """
    out_of_line()
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[st.M_CPU_NODE_SHIFT]
    node = slub.knode[c, n]
    spare = k[er.K_SPARE]
    if spare < 0:
        empty = barn_get(slub, c, n, er.N_EMPTY)
    elif slub.ctl[spare + er.H_SIZE] < slub.cache[c, er.C_SHEAF_CAPACITY]:
        swap_sheaves(k)
        return
    elif node[er.N_NR_FULL] >= er.MAX_FULL_SHEAVES:
        k[er.K_BARN_PUT_FAIL] += 1
        sheaf_flush(mem, slub, c, cpu, spare)
        k[er.K_SPARE] = -1
        empty = spare
    else:
        empty = barn_get(slub, c, n, er.N_EMPTY)
    if empty < 0:
        empty = alloc_empty_sheaf(mem, slub, c, cpu, g.GFP_NOWAIT | g.NOWARN, context)
        if empty < 0:
            if spare >= 0:
                k[er.K_BARN_PUT_FAIL] += 1
            sheaf_flush(mem, slub, c, cpu, k[er.K_MAIN])
            return
    if k[er.K_SPARE] < 0:
        k[er.K_SPARE] = k[er.K_MAIN]
    else:
        k[er.K_BARN_PUT] += 1
        barn_put(slub, c, n, k[er.K_MAIN], er.N_FULL)
    k[er.K_MAIN] = empty


@internal
def has_main(mem, slub, c, cpu, context):
    """Whether the CPU has a main sheaf, made now if it never had."""
    if slub.kcpu[c, cpu, er.K_MAIN] < 0:
        slub.kcpu[c, cpu, er.K_MAIN] = alloc_empty_sheaf(mem, slub, c, cpu, g.GFP_NOWAIT | g.NOWARN, context)
    return slub.kcpu[c, cpu, er.K_MAIN] >= 0


@internal
def slab_alloc(mem, slub, c, cpu, node, gfp, context):
    """An object from the main sheaf, else from the slabs [slab_alloc_node, alloc_from_pcs]; or NO_OBJECT."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    here = cpu >> mem.ctl[st.M_CPU_NODE_SHIFT]
    if (node < 0 or node == here) and has_main(mem, slub, c, cpu, context):
        if slub.ctl[k[er.K_MAIN] + er.H_SIZE] > 0 or replace_empty_main(mem, slub, c, cpu, gfp, context):
            handle = pop_object(slub.ctl, k[er.K_MAIN])
            if node < 0 or slub.slab[handle >> st.HANDLE_SHIFT, st.S_NODE] == node:
                k[er.K_ALLOC_PCS] += 1
                slub.ctl[st.U_PATH] = er.PATH_SHEAF
                return handle
            push_object(slub.ctl, k[er.K_MAIN], handle)
    return take_object(mem, slub, c, cpu, node, gfp, context, F)


@internal
def slab_free(mem, slub, c, cpu, s, i):
    """Free into the main sheaf; objects of another node go straight to their slabs [slab_free, free_to_pcs]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    if slub.slab[s, st.S_NODE] == cpu >> mem.ctl[st.M_CPU_NODE_SHIFT] and has_main(mem, slub, c, cpu, 0):
        if slub.ctl[k[er.K_MAIN] + er.H_SIZE] == slub.cache[c, er.C_SHEAF_CAPACITY]:
            replace_full_main(mem, slub, c, cpu, 0)
        push_object(slub.ctl, k[er.K_MAIN], (s << st.HANDLE_SHIFT) | i)
        k[er.K_FREE_PCS] += 1
        slub.ctl[st.U_PATH] = er.PATH_SHEAF
        return
    give_object(mem, slub, c, cpu, s, i, F)


# ------------------------------------------------------------------------------------------- whole-cache paths


@internal
def flush_sheaves(mem, slub, c, cpu, owner):
    """Empty CPU ``owner``'s sheaves; the main one stays, the spare one goes [pcs_flush_all]."""
    out_of_line()
    k = slub.kcpu[c, owner]
    if k[er.K_SPARE] >= 0:
        sheaf_flush(mem, slub, c, cpu, k[er.K_SPARE])
        free_empty_sheaf(mem, slub, c, cpu, k[er.K_SPARE])
        k[er.K_SPARE] = -1
    if k[er.K_MAIN] >= 0:
        sheaf_flush(mem, slub, c, cpu, k[er.K_MAIN])


@internal
def barn_shrink(mem, slub, c, cpu, n):
    """Empty a barn [barn_shrink]."""
    out_of_line()
    for head in (er.N_FULL, er.N_EMPTY):
        while slub.knode[c, n, head] >= 0:
            h = barn_get(slub, c, n, head)
            sheaf_flush(mem, slub, c, cpu, h)
            free_empty_sheaf(mem, slub, c, cpu, h)


@internal
def free_main_sheaves(mem, slub, c, cpu):
    """Give back the main sheaves of a cache that is destroyed, after its flush [pcs_destroy]."""
    out_of_line()
    for owner in range(slub.kcpu.shape[1]):
        h = slub.kcpu[c, owner, er.K_MAIN]
        if h >= 0:
            free_empty_sheaf(mem, slub, c, cpu, h)
            slub.kcpu[c, owner, er.K_MAIN] = -1


# ------------------------------------------------------------------------------------------ prefilled sheaves


@kernel
def prefill_sheaf(mem, slub, c, cpu, gfp, context, size):
    """A private sheaf with at least ``size`` <= capacity objects, -1 when they cannot be had
    [kmem_cache_prefill_sheaf]."""
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[st.M_CPU_NODE_SHIFT]
    h = k[er.K_SPARE]
    k[er.K_SPARE] = -1
    if h < 0:
        h = barn_get(slub, c, n, er.N_FULL)
        if h >= 0:
            k[er.K_BARN_GET] += 1
        else:
            k[er.K_BARN_GET_FAIL] += 1
            h = barn_get(slub, c, n, er.N_EMPTY)
    if h < 0:
        h = alloc_empty_sheaf(mem, slub, c, cpu, gfp, context)
        if h < 0:
            return -1
    slub.ctl[h + er.H_RESERVE] = 0
    if slub.ctl[h + er.H_SIZE] < size and not refill_sheaf(mem, slub, c, cpu, h, gfp | g.NOMEMALLOC, context):
        entitled = (context & g.PF_MEMALLOC) != 0 and (context & g.IN_INTERRUPT) == 0 and (gfp & g.NOMEMALLOC) == 0
        if not entitled or not refill_sheaf(mem, slub, c, cpu, h, gfp, context):
            sheaf_flush(mem, slub, c, cpu, h)
            free_empty_sheaf(mem, slub, c, cpu, h)
            return -1
        slub.ctl[h + er.H_RESERVE] = 1
    return h


@kernel
def alloc_from_sheaf(slub, h):
    """The next object of a prefilled sheaf, NO_OBJECT when it is empty [kmem_cache_alloc_from_sheaf]."""
    if slub.ctl[h + er.H_SIZE] == 0:
        return st.NO_OBJECT
    return pop_object(slub.ctl, h)


@kernel
def return_sheaf(mem, slub, c, cpu, h, gfp, context):
    """Give a prefilled sheaf back: as the CPU's spare, refilled to the barn, or flushed [kmem_cache_return_sheaf]."""
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[st.M_CPU_NODE_SHIFT]
    if slub.ctl[h + er.H_RESERVE] == 0:
        if k[er.K_SPARE] < 0:
            k[er.K_SPARE] = h
            return
        if slub.knode[c, n, er.N_NR_FULL] < er.MAX_FULL_SHEAVES and refill_sheaf(mem, slub, c, cpu, h, gfp, context):
            barn_put(slub, c, n, h, er.N_FULL)
            k[er.K_BARN_PUT] += 1
            return
    sheaf_flush(mem, slub, c, cpu, h)
    free_empty_sheaf(mem, slub, c, cpu, h)

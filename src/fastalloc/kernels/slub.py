"""SLUB as of 2.6.25-rc8 [mm/slub.c]: the object paths.

An object is named by a handle (see :mod:`fastalloc.kernels.state`). ``context`` holds the PF_MEMALLOC and
IN_INTERRUPT bits of whoever asks; ``gfp`` is looked at only when a slab has to be bought, as in the kernel.
"""

from fastalloc.kernels import gfp as g
from fastalloc.kernels import state as st
from fastalloc.kernels.jit import kernel
from fastalloc.kernels.page_alloc import alloc_pages, free_pages, goes_on

# ------------------------------------------------------------------------------------------------ partial list


@kernel
def add_partial(slub, c, s, tail):
    """Put slab ``s`` on its node's partial list, at the tail or the head [add_partial]."""
    slab = slub.slab
    node = slub.knode[c, slab[s, st.S_NODE]]
    node[st.N_NR_PARTIAL] += 1
    slab[s, st.S_PARTIAL] = 1
    if tail:
        last = node[st.N_PARTIAL_TAIL]
        slab[s, st.S_PREV] = last
        slab[s, st.S_NEXT] = -1
        if last >= 0:
            slab[last, st.S_NEXT] = s
        else:
            node[st.N_PARTIAL_HEAD] = s
        node[st.N_PARTIAL_TAIL] = s
    else:
        first = node[st.N_PARTIAL_HEAD]
        slab[s, st.S_NEXT] = first
        slab[s, st.S_PREV] = -1
        if first >= 0:
            slab[first, st.S_PREV] = s
        else:
            node[st.N_PARTIAL_TAIL] = s
        node[st.N_PARTIAL_HEAD] = s


@kernel
def remove_partial(slub, c, s):
    """Take slab ``s`` off its node's partial list [remove_partial]."""
    slab = slub.slab
    node = slub.knode[c, slab[s, st.S_NODE]]
    following = slab[s, st.S_NEXT]
    preceding = slab[s, st.S_PREV]
    if preceding >= 0:
        slab[preceding, st.S_NEXT] = following
    else:
        node[st.N_PARTIAL_HEAD] = following
    if following >= 0:
        slab[following, st.S_PREV] = preceding
    else:
        node[st.N_PARTIAL_TAIL] = preceding
    node[st.N_NR_PARTIAL] -= 1
    slab[s, st.S_PARTIAL] = 0


# ------------------------------------------------------------------------------------------------------ slabs


@kernel
def new_slab(mem, slub, c, cpu, node, gfp, context):
    """Buy a slab at the cache's order with the caller's mask; its record, or -1 [new_slab, allocate_slab]."""
    cache = slub.cache[c]
    order = cache[st.C_ORDER]
    objects = cache[st.C_OBJECTS]
    s = cache[st.C_FREE_SLAB]
    fresh = s < 0
    if fresh:
        s = slub.ctl[st.U_SLAB_TOP]
        if s >= slub.slab.shape[0] or slub.ctl[st.U_LINK_TOP] + objects > slub.link.shape[0]:
            slub.ctl[st.U_OVERFLOW] = 1
            return -1
    pfn = alloc_pages(mem, cpu, node, (gfp & g.GFP_SLAB_LEVEL_MASK) | cache[st.C_ALLOCFLAGS], order, context)
    if pfn < 0:
        return -1
    slab = slub.slab
    if fresh:
        slub.ctl[st.U_SLAB_TOP] = s + 1
        slab[s, st.S_BASE] = slub.ctl[st.U_LINK_TOP]
        slub.ctl[st.U_LINK_TOP] += objects
    else:
        cache[st.C_FREE_SLAB] = slab[s, st.S_NEXT]
    where = 0
    if mem.ctl[st.M_MODEL] != st.MODEL_ZONES:
        where = pfn
    else:
        mem.page[pfn, st.P_FLAGS] |= st.PG_SLAB
    slab[s, st.S_CACHE] = c
    slab[s, st.S_NODE] = where
    slab[s, st.S_INUSE] = 0
    slab[s, st.S_FREELIST] = 0
    slab[s, st.S_FROZEN] = 0
    slab[s, st.S_PFN] = pfn
    slab[s, st.S_OBJECTS] = objects
    slab[s, st.S_ORDINAL] = -1
    slab[s, st.S_BUYER] = slub.ctl[st.U_WHO]
    slab[s, st.S_DEPTH] = mem.ctl[st.M_DEPTH]
    slab[s, st.S_PARTIAL] = 0
    base = slab[s, st.S_BASE]
    for i in range(objects - 1):
        slub.link[base + i] = i + 1
    slub.link[base + objects - 1] = -1
    if cache[st.C_CTOR] != 0:
        cache[st.C_CTOR_CALLS] += objects + 1
    slub.knode[c, where, st.N_NR_SLABS] += 1
    cache[st.C_PAGES] += 1 << order
    if cache[st.C_PAGES] > cache[st.C_MAX_PAGES]:
        cache[st.C_MAX_PAGES] = cache[st.C_PAGES]
    slub.ctl[st.U_PAGES] += 1 << order
    if slub.ctl[st.U_PAGES] > slub.ctl[st.U_MAX_PAGES]:
        slub.ctl[st.U_MAX_PAGES] = slub.ctl[st.U_PAGES]
    return s


@kernel
def discard_slab(mem, slub, c, cpu, s):
    """Give a slab's pages back and retire its record [discard_slab]."""
    slab = slub.slab
    order = slub.cache[c, st.C_ORDER]
    slub.knode[c, slab[s, st.S_NODE], st.N_NR_SLABS] -= 1
    slub.cache[c, st.C_PAGES] -= 1 << order
    slub.ctl[st.U_PAGES] -= 1 << order
    free_pages(mem, cpu, slab[s, st.S_PFN], order)
    slab[s, st.S_NEXT] = slub.cache[c, st.C_FREE_SLAB]
    slab[s, st.S_PFN] = -1
    slub.cache[c, st.C_FREE_SLAB] = s


@kernel
def deactivate_slab(mem, slub, c, cpu, owner):
    """Retire CPU ``owner``'s slab (run on ``cpu``): its private objects go back one by one [deactivate_slab].

    An empty slab stays, at the tail, while fewer than MIN_PARTIAL slabs are partial [unfreeze_slab].
    """
    slab = slub.slab
    k = slub.kcpu[c, owner]
    s = k[st.K_PAGE]
    tail = True
    if slab[s, st.S_FREELIST] >= 0:
        k[st.K_DEACTIVATE_REMOTE_FREES] += 1
    base = slab[s, st.S_BASE]
    i = k[st.K_FREELIST]
    while i >= 0:
        tail = False
        following = slub.link[base + i]
        slub.link[base + i] = slab[s, st.S_FREELIST]
        slab[s, st.S_FREELIST] = i
        slab[s, st.S_INUSE] -= 1
        i = following
    k[st.K_FREELIST] = -1
    k[st.K_PAGE] = -1
    slab[s, st.S_FROZEN] = 0
    if slab[s, st.S_INUSE] > 0:
        if slab[s, st.S_FREELIST] >= 0:
            add_partial(slub, c, s, tail)
            if tail:
                k[st.K_DEACTIVATE_TO_TAIL] += 1
            else:
                k[st.K_DEACTIVATE_TO_HEAD] += 1
        else:
            k[st.K_DEACTIVATE_FULL] += 1
    else:
        k[st.K_DEACTIVATE_EMPTY] += 1
        if slub.knode[c, slab[s, st.S_NODE], st.N_NR_PARTIAL] < slub.cache[c, st.C_MIN_PARTIAL]:
            add_partial(slub, c, s, True)
        else:
            k[st.K_FREE_SLAB] += 1
            discard_slab(mem, slub, c, cpu, s)


@kernel
def get_partial(mem, slub, c, cpu, node, gfp):
    """The first partial slab of the node, then of a node that holds more than MIN_PARTIAL [get_partial]; -1 none.

    No look at the mask: a partial slab is given to anybody. The defrag test of get_any_partial always passes.
    """
    shift = mem.ctl[st.M_CPU_NODE_SHIFT]
    here = node if node >= 0 else cpu >> shift
    s = slub.knode[c, here, st.N_PARTIAL_HEAD]
    if s < 0 and slub.ctl[st.U_NODES] > 1 and (gfp & g.THISNODE) == 0:
        home = cpu >> shift
        for i in range(slub.ctl[st.U_NODES]):
            other = home ^ i
            if slub.knode[c, other, st.N_NR_PARTIAL] > slub.cache[c, st.C_MIN_PARTIAL]:
                s = slub.knode[c, other, st.N_PARTIAL_HEAD]
                break
    if s >= 0:
        remove_partial(slub, c, s)
    return s


# ------------------------------------------------------------------------------------------- allocate and free


@kernel
def load_freelist(slub, c, cpu, s):
    """Take slab ``s`` over for ``cpu``: its first free object is the result, the rest the private list."""
    slab = slub.slab
    i = slab[s, st.S_FREELIST]
    slub.kcpu[c, cpu, st.K_FREELIST] = slub.link[slab[s, st.S_BASE] + i]
    slab[s, st.S_FREELIST] = -1
    slab[s, st.S_INUSE] = slab[s, st.S_OBJECTS]
    return (s << st.HANDLE_SHIFT) | i


@kernel
def slab_alloc_slow(mem, slub, c, cpu, node, gfp, context):
    """Refill from the CPU slab's own list, the partial list, or a new slab [__slab_alloc]."""
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    s = k[st.K_PAGE]
    if s >= 0:
        if node < 0 or slab[s, st.S_NODE] == node:
            k[st.K_ALLOC_REFILL] += 1
            if slab[s, st.S_FREELIST] >= 0:
                k[st.K_ALLOC_SLOWPATH] += 1
                slub.ctl[st.U_PATH] = 2
                return load_freelist(slub, c, cpu, s)
        deactivate_slab(mem, slub, c, cpu, cpu)
    s = get_partial(mem, slub, c, cpu, node, gfp)
    if s >= 0:
        k[st.K_ALLOC_FROM_PARTIAL] += 1
        slub.ctl[st.U_PATH] = 3
    else:
        s = new_slab(mem, slub, c, cpu, node, gfp, context)
        if s < 0:
            final = mem.ctl[st.M_MODEL] != st.MODEL_ZONES or not goes_on(gfp, context)
            if slub.cache[c, st.C_FALLBACK] != 0 and (gfp & g.NORETRY) == 0 and final:
                order = 0
                while (4096 << order) < slub.cache[c, st.C_OBJSIZE]:
                    order += 1
                pfn = alloc_pages(mem, cpu, node, gfp | g.COMP, order, context)
                if pfn >= 0:
                    slub.ctl[st.U_PATH] = 5
                    return st.PAGE_HANDLE | (order << st.PAGE_HANDLE_ORDER_SHIFT) | pfn
            slub.ctl[st.U_PATH] = 0
            return st.NO_OBJECT
        k[st.K_ALLOC_SLAB] += 1
        slub.ctl[st.U_PATH] = 4
    slab[s, st.S_FROZEN] = 1 + cpu
    k[st.K_PAGE] = s
    k[st.K_ALLOC_SLOWPATH] += 1
    return load_freelist(slub, c, cpu, s)


@kernel
def slab_alloc(mem, slub, c, cpu, node, gfp, context):
    """An object of cache ``c`` on ``cpu``: its handle, or NO_OBJECT [slab_alloc].

    ``node`` is -1 or the NUMA node asked for. The path taken is left in ``slub.ctl[U_PATH]``.
    """
    i = slub.kcpu[c, cpu, st.K_FREELIST]
    if i >= 0:
        s = slub.kcpu[c, cpu, st.K_PAGE]
        if node < 0 or slub.slab[s, st.S_NODE] == node:
            slub.kcpu[c, cpu, st.K_FREELIST] = slub.link[slub.slab[s, st.S_BASE] + i]
            slub.kcpu[c, cpu, st.K_ALLOC_FASTPATH] += 1
            slub.ctl[st.U_PATH] = 1
            return (s << st.HANDLE_SHIFT) | i
    return slab_alloc_slow(mem, slub, c, cpu, node, gfp, context)


@kernel
def slab_free_slow(mem, slub, c, cpu, s, i):
    """Free into a slab that is not this CPU's [__slab_free]: an emptied slab goes back at once."""
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    k[st.K_FREE_SLOWPATH] += 1
    prior = slab[s, st.S_FREELIST]
    slub.link[slab[s, st.S_BASE] + i] = prior
    slab[s, st.S_FREELIST] = i
    slab[s, st.S_INUSE] -= 1
    if slab[s, st.S_FROZEN] != 0:
        k[st.K_FREE_FROZEN] += 1
        slub.ctl[st.U_PATH] = 2
    elif slab[s, st.S_INUSE] == 0:
        slub.ctl[st.U_PATH] = 6
        if prior >= 0:
            remove_partial(slub, c, s)
            k[st.K_FREE_REMOVE_PARTIAL] += 1
            slub.ctl[st.U_PATH] = 5
        k[st.K_FREE_SLAB] += 1
        discard_slab(mem, slub, c, cpu, s)
    elif prior < 0:
        add_partial(slub, c, s, True)
        k[st.K_FREE_ADD_PARTIAL] += 1
        slub.ctl[st.U_PATH] = 3
    else:
        slub.ctl[st.U_PATH] = 4


@kernel
def slab_free(mem, slub, cpu, handle):
    """Free an object on ``cpu`` [slab_free]; page-backed objects go to the page allocator."""
    if handle >= st.PAGE_HANDLE:
        order = (handle >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF
        free_pages(mem, cpu, handle & ((1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1), order)
        slub.ctl[st.U_PATH] = 8
        return
    s = handle >> st.HANDLE_SHIFT
    i = handle & st.HANDLE_INDEX_MASK
    c = slub.slab[s, st.S_CACHE]
    if slub.kcpu[c, cpu, st.K_PAGE] == s:
        slub.link[slub.slab[s, st.S_BASE] + i] = slub.kcpu[c, cpu, st.K_FREELIST]
        slub.kcpu[c, cpu, st.K_FREELIST] = i
        slub.kcpu[c, cpu, st.K_FREE_FASTPATH] += 1
        slub.ctl[st.U_PATH] = 1
        return
    slab_free_slow(mem, slub, c, cpu, s, i)


# ------------------------------------------------------------------------------------------- whole-cache paths


@kernel
def flush_slab(mem, slub, c, cpu, owner):
    """Retire CPU ``owner``'s slab if it has one [flush_slab]."""
    if slub.kcpu[c, owner, st.K_PAGE] >= 0:
        slub.kcpu[c, owner, st.K_CPUSLAB_FLUSH] += 1
        deactivate_slab(mem, slub, c, cpu, owner)


@kernel
def flush_all(mem, slub, c, cpu):
    """Retire the slabs of the other CPUs in ascending order, then of this one [flush_all, on_each_cpu]."""
    for other in range(slub.kcpu.shape[1]):
        if other != cpu:
            flush_slab(mem, slub, c, other, other)
    flush_slab(mem, slub, c, cpu, cpu)


@kernel
def kmem_cache_shrink(mem, slub, c, cpu):
    """Flush, free the empty partial slabs, sort the rest fullest first, equals reversed [kmem_cache_shrink]."""
    flush_all(mem, slub, c, cpu)
    slab = slub.slab
    objects = slub.cache[c, st.C_OBJECTS]
    for n in range(slub.ctl[st.U_NODES]):
        s = slub.knode[c, n, st.N_PARTIAL_HEAD]
        while s >= 0:
            following = slab[s, st.S_NEXT]
            if slab[s, st.S_INUSE] == 0:
                remove_partial(slub, c, s)
                discard_slab(mem, slub, c, cpu, s)
            s = following
        # Selection by inuse: each pass moves the slabs of one occupancy, first of the old order last.
        chain = slub.knode[c, n, st.N_PARTIAL_HEAD]
        slub.knode[c, n, st.N_PARTIAL_HEAD] = -1
        slub.knode[c, n, st.N_PARTIAL_TAIL] = -1
        slub.knode[c, n, st.N_NR_PARTIAL] = 0
        for inuse in range(1, objects):
            rest = -1
            rest_tail = -1
            s = chain
            while s >= 0:
                following = slab[s, st.S_NEXT]
                if slab[s, st.S_INUSE] == inuse:
                    add_partial(slub, c, s, False)
                else:
                    slab[s, st.S_NEXT] = -1
                    if rest_tail >= 0:
                        slab[rest_tail, st.S_NEXT] = s
                    else:
                        rest = s
                    rest_tail = s
                s = following
            chain = rest
            if chain < 0:
                break


@kernel
def init_cache(slub, c, geometry):
    """Register cache ``c`` with its geometry row (columns C_SIZE .. C_MIN_PARTIAL); no CPU slab yet."""
    for column in range(st.C_MIN_PARTIAL + 1):
        slub.cache[c, column] = geometry[column]
    slub.cache[c, st.C_FREE_SLAB] = -1
    slub.cache[c, st.C_ALIVE] = 1
    for cpu in range(slub.kcpu.shape[1]):
        slub.kcpu[c, cpu, st.K_FREELIST] = -1
        slub.kcpu[c, cpu, st.K_PAGE] = -1
    for n in range(slub.knode.shape[1]):
        slub.knode[c, n, st.N_PARTIAL_HEAD] = -1
        slub.knode[c, n, st.N_PARTIAL_TAIL] = -1


@kernel
def kmem_cache_close(mem, slub, c, cpu):
    """Flush and free the empty slabs; whether none is left [kmem_cache_close]. The counters stay behind."""
    flush_all(mem, slub, c, cpu)
    left = 0
    for n in range(slub.ctl[st.U_NODES]):
        s = slub.knode[c, n, st.N_PARTIAL_HEAD]
        while s >= 0:
            following = slub.slab[s, st.S_NEXT]
            if slub.slab[s, st.S_INUSE] == 0:
                remove_partial(slub, c, s)
                discard_slab(mem, slub, c, cpu, s)
            s = following
        left += slub.knode[c, n, st.N_NR_SLABS]
    return left == 0


@kernel
def early_kmem_cache_node_alloc(mem, slub, c, cpu, node):
    """The first object of ``kmem_cache_node`` on ``node``, outside the counters [early_kmem_cache_node_alloc]."""
    s = new_slab(mem, slub, c, cpu, node, g.GFP_KERNEL, 0)
    if s >= 0:
        slub.slab[s, st.S_FREELIST] = slub.link[slub.slab[s, st.S_BASE]]
        slub.slab[s, st.S_INUSE] = 1
        add_partial(slub, c, s, False)
    return s

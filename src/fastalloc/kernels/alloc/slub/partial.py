"""Slabs of SLUB and the partial lists they are on, common to all eras [mm/slub.c]."""

from fastalloc.compiler.jit import folded, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages, ignores_watermarks, keep_spare
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.linux import gfp as g


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


# What putting an object back does to its slab.
STAYS = 0  # a CPU holds it
STAYS_LISTED = 1
TURNS = 2  # no CPU holds it, and that is the first free object or the last one in use


@folded
def put_back(slub, c, cpu, s, i):
    """Put object ``i`` on the own list of slab ``s``, which is not ``cpu``'s [__slab_free].

    Returns STAYS, STAYS_LISTED or TURNS, and the head of that list before, -1 none.
    """
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    k[st.K_FREE_SLOWPATH] += 1
    prior = slab[s, st.S_FREELIST]
    inuse = slab[s, st.S_INUSE] - 1
    slub.link[slab[s, st.S_BASE] + i] = prior
    slab[s, st.S_FREELIST] = i
    slab[s, st.S_INUSE] = inuse
    if slab[s, st.S_FROZEN] != 0:
        k[st.K_FREE_FROZEN] += 1
        return STAYS, prior
    return TURNS if prior < 0 or inuse == 0 else STAYS_LISTED, prior


@kernel
def pfmemalloc_match(mem, slub, s, gfp, context):
    """Whether the caller may be given the slab: one from below all watermarks is for the entitled where the policy
    says so; asked on slow paths alone [pfmemalloc_match, 3.6]."""
    if mem.ctl[st.M_PFMEMALLOC] == 0:
        return True
    mem.ctl[st.M_TESTS] += 1
    if slub.slab[s, st.S_DEPTH] != st.DEPTH_NONE:
        return True
    return ignores_watermarks(gfp, context)


@kernel
def slab_record(slub, c):
    """The record that the next slab of cache ``c`` will take, -1 when the arrays are full."""
    s = slub.cache[c, st.C_FREE_SLAB]
    if s < 0:
        s = slub.ctl[st.U_SLAB_TOP]
        if s >= slub.slab.shape[0] or slub.ctl[st.U_LINK_TOP] + slub.cache[c, st.C_OBJECTS] > slub.link.shape[0]:
            slub.ctl[st.U_OVERFLOW] = 1
            return -1
    return s


@kernel
def install_slab(mem, slub, c, s, pfn, order, objects):
    """Make record ``s`` a slab of ``objects`` free objects over ``2**order`` pages at ``pfn`` [allocate_slab]."""
    cache = slub.cache[c]
    slab = slub.slab
    if s == slub.ctl[st.U_SLAB_TOP]:
        slub.ctl[st.U_SLAB_TOP] = s + 1
        slab[s, st.S_BASE] = slub.ctl[st.U_LINK_TOP]
        slub.ctl[st.U_LINK_TOP] += cache[st.C_OBJECTS]
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
    slab[s, st.S_BUYER] = mem.ctl[st.M_WHO]
    slab[s, st.S_DEPTH] = mem.ctl[st.M_DEPTH]
    slab[s, st.S_PARTIAL] = 0
    slab[s, st.S_ORDER] = order
    base = slab[s, st.S_BASE]
    for i in range(objects - 1):
        slub.link[base + i] = i + 1
    slub.link[base + objects - 1] = -1
    if cache[st.C_CTOR] != 0:
        cache[st.C_CTOR_CALLS] += objects + 1
    slub.knode[c, where, st.N_NR_SLABS] += 1
    if slub.knode[c, where, st.N_NR_SLABS] > cache[er.C_MAX_SLABS]:
        cache[er.C_MAX_SLABS] = slub.knode[c, where, st.N_NR_SLABS]
    cache[st.C_PAGES] += 1 << order
    if cache[st.C_PAGES] > cache[st.C_MAX_PAGES]:
        cache[st.C_MAX_PAGES] = cache[st.C_PAGES]
    slub.ctl[st.U_PAGES] += 1 << order
    if slub.ctl[st.U_PAGES] > slub.ctl[st.U_MAX_PAGES]:
        slub.ctl[st.U_MAX_PAGES] = slub.ctl[st.U_PAGES]


@kernel
def new_slab(mem, slub, c, cpu, node, gfp, context):
    """Buy a slab with the caller's mask; its record, or -1 [new_slab, allocate_slab].

    2.6.25 makes one attempt at the cache's order. From 2.6.26 on it is a polite one and, refused, the smallest order
    that holds an object is tried as the caller asked.
    """
    cache = slub.cache[c]
    s = slab_record(slub, c)
    if s < 0:
        return -1
    order = cache[st.C_ORDER]
    smallest = order
    asked = (gfp & g.GFP_SLAB_LEVEL_MASK) | cache[st.C_ALLOCFLAGS]
    mask = asked
    if cache[er.C_MIN_ORDER] < order:
        smallest = cache[er.C_MIN_ORDER]
        mask = (asked | g.NOWARN | g.NORETRY) & ~g.NOFAIL
    while True:
        pfn = alloc_pages(mem, cpu, node, mask, order, context)
        if pfn >= 0 or order == smallest:
            break
        order = smallest
        mask = asked
    if pfn < 0:
        return -1
    objects = cache[st.C_OBJECTS]
    if order < cache[st.C_ORDER]:
        objects = (4096 << order) // cache[st.C_SIZE]
        slub.kcpu[c, cpu, er.K_ORDER_FALLBACK] += 1
    install_slab(mem, slub, c, s, pfn, order, objects)
    return s


@kernel
def record_owner(mem, slub, c, s):
    """The cache whose slabs fit the record of a slab that came to ``c`` by a wrong free: it has room for no more."""
    for i in range(4):
        e = mem.ctl[st.M_EMERGENCY_CACHE + i]
        if e >= 0 and slub.cache[e, st.C_OBJECTS] == slub.slab[s, st.S_OBJECTS]:
            return e
    return c


@kernel
def discard_slab(mem, slub, c, cpu, s):
    """Give a slab's pages back and retire its record [discard_slab]."""
    slab = slub.slab
    order = slab[s, st.S_ORDER]
    slub.knode[c, slab[s, st.S_NODE], st.N_NR_SLABS] -= 1
    slub.cache[c, st.C_PAGES] -= 1 << order
    slub.ctl[st.U_PAGES] -= 1 << order
    spare = (slub.cache[c, st.C_ALLOCFLAGS] & g.SPARE) != 0 and order == 0
    if not spare or not keep_spare(mem, slab[s, st.S_PFN]):
        free_pages(mem, cpu, slab[s, st.S_PFN], order)
    owner = c
    if mem.ctl[st.M_FREE] == st.FREE_NAMED and slab[s, st.S_OBJECTS] < slub.cache[c, st.C_OBJECTS]:
        owner = record_owner(mem, slub, c, s)
    slab[s, st.S_NEXT] = slub.cache[owner, st.C_FREE_SLAB]
    slab[s, st.S_PFN] = -1
    slub.cache[owner, st.C_FREE_SLAB] = s

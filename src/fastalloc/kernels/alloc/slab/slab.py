"""SLAB as of 2.6.25-rc8 [mm/slab.c] allocates: from a CPU's array, the shared array, the lists, a new slab.

A slab of an off-slab cache keeps its management in an object of another, on-slab cache. Compiled kernels do not
recurse: an allocation that needs such an object stops, gets it, and goes on (:func:`cache_alloc_stages`).
"""

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.arrays import shared_queue, transfer_objects
from fastalloc.kernels.alloc.slab.lists import first_slab, list_add, nr_slabs, requeue, slab_get_obj
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.linux import gfp as g

NEEDS_MGMT = -2


@internal
def cache_grow_add(mem, slab, c, node, pfn, mgmt, depth):
    """Enter a new slab at the tail of ``node``'s free list; False when the arrays are too small [cache_grow].

    ``depth``: at which its pages were allocated, a DEPTH.
    """
    out_of_line()
    cache = slab.cache[c]
    num = cache[SLAB_CACHE.num]
    record = slab.slab
    s = cache[SLAB_CACHE.free_slab]
    if s >= 0:
        cache[SLAB_CACHE.free_slab] = record[s, SLAB_SLAB.next]
    else:
        s = slab.ctl[SLAB_CTL.slab_top]
        if s >= record.shape[0] or slab.ctl[SLAB_CTL.link_top] + num > slab.link.shape[0]:
            slab.ctl[SLAB_CTL.overflow] = 1
            return False
        slab.ctl[SLAB_CTL.slab_top] = s + 1
        record[s, SLAB_SLAB.base] = slab.ctl[SLAB_CTL.link_top]
        slab.ctl[SLAB_CTL.link_top] += num
    record[s, SLAB_SLAB.cache] = c
    record[s, SLAB_SLAB.node] = node
    record[s, SLAB_SLAB.inuse] = 0
    record[s, SLAB_SLAB.free] = 0
    record[s, SLAB_SLAB.pfn] = pfn
    record[s, SLAB_SLAB.ordinal] = -1
    record[s, SLAB_SLAB.mgmt] = mgmt
    record[s, SLAB_SLAB.owner] = mem.ctl[MEMCTL.who]
    record[s, SLAB_SLAB.depth] = depth
    base = record[s, SLAB_SLAB.base]
    for i in range(num - 1):
        slab.link[base + i] = i + 1
    slab.link[base + num - 1] = -1
    if cache[SLAB_CACHE.ctor] != 0:
        cache[SLAB_CACHE.ctor_calls] += num
    list_add(slab, c, s, ss.ON_FREE, True)
    cache[SLAB_CACHE.grown] += 1
    slab.node[c, node, SLAB_LIST3.free_objects] += num
    cache[SLAB_CACHE.max_slabs] = max(cache[SLAB_CACHE.max_slabs], nr_slabs(slab, c))
    slab.ctl[SLAB_CTL.pages] += 1 << cache[SLAB_CACHE.order]
    slab.ctl[SLAB_CTL.max_pages] = max(slab.ctl[SLAB_CTL.max_pages], slab.ctl[SLAB_CTL.pages])
    return True


@internal
def next_colour(slab, c, n):
    """Advance the node's colour; the offset itself changes nothing that is modelled [cache_grow]."""
    colour = slab.node[c, n, SLAB_LIST3.colour_next] + 1
    if colour >= slab.cache[c, SLAB_CACHE.colour]:
        colour = 0
    slab.node[c, n, SLAB_LIST3.colour_next] = colour


@internal
def kmem_getpages(mem, slab, c, cpu, node, gfp, context):
    """Pages of one slab [kmem_getpages]; stub model: the node, or -1."""
    mask = (gfp & g.GFP_SLAB_LEVEL_MASK) | slab.cache[c, SLAB_CACHE.allocflags]
    return alloc_pages(mem, cpu, node, mask, slab.cache[c, SLAB_CACHE.order], context)


@internal
def cache_alloc_refill(slab, c, cpu, n):
    """An object from the CPU's array, refilled from the shared array or the node's slabs; -1: grow first.

    [____cache_alloc, cache_alloc_refill]
    """
    out_of_line()
    queue = slab.queue
    available = queue[c, cpu, SLAB_ARRAY.avail]
    if available == 0:
        batch = queue[c, cpu, SLAB_ARRAY.batchcount]
        if queue[c, cpu, SLAB_ARRAY.touched] == 0 and batch > ss.BATCHREFILL_LIMIT:
            batch = ss.BATCHREFILL_LIMIT
        base = queue[c, cpu, SLAB_ARRAY.base]
        shared = shared_queue(slab, n)
        available = transfer_objects(slab, c, cpu, shared, batch)
        if available == 0:
            while available < batch:
                s = first_slab(slab, c, n)
                if s < 0:
                    break
                while slab.slab[s, SLAB_SLAB.free] >= 0 and available < batch:
                    slab.entry[base + available] = slab_get_obj(slab, c, s)
                    available += 1
                requeue(slab, c, s)
            slab.cache[c, SLAB_CACHE.allocations] += available
            slab.node[c, n, SLAB_LIST3.free_objects] -= available
            queue[c, cpu, SLAB_ARRAY.avail] = available
            if available == 0:
                return -1
    queue[c, cpu, SLAB_ARRAY.touched] = 1
    queue[c, cpu, SLAB_ARRAY.avail] = available - 1
    return slab.entry[queue[c, cpu, SLAB_ARRAY.base] + available - 1]


@internal
def cache_alloc_node(slab, c, n):
    """One object straight from the slabs of node ``n``; -1: none there [____cache_alloc_node]."""
    s = first_slab(slab, c, n)
    if s < 0:
        return -1
    slab.cache[c, SLAB_CACHE.node_allocs] += 1
    handle = slab_get_obj(slab, c, s)
    slab.node[c, n, SLAB_LIST3.free_objects] -= 1
    requeue(slab, c, s)
    return handle


# Where an allocation stands: the CPU's array; the slabs of the wanted node; the nodes that hold free objects
# (fallback_alloc); pages from anywhere. A failed growth leads to the next one, a good one back to the same.
STAGE_ARRAY = 0
STAGE_NODE = 1
STAGE_FALLBACK = 2
STAGE_ANYWHERE = 3


@internal
def cache_alloc_stages(mem, slab, c, cpu, node, gfp, context, stage, pfn, mgmt):
    """Allocate from ``stage`` on; a handle, NO_OBJECT, or NEEDS_MGMT with the stage and pages left in ``ctl``.

    ``pfn >= 0`` resumes: the pages were allocated, ``mgmt`` is their management object or NO_OBJECT (pages go back).
    More than nine arguments: what was asked for, and the three words of where it stands, which live in registers.
    """
    out_of_line()
    ctl = slab.ctl
    home = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    numa = ctl[SLAB_CTL.nodes] > 1
    where = ctl[SLAB_CTL.where]
    depth = ctl[SLAB_CTL.depth]
    resumed = pfn >= 0
    while True:
        if not resumed:
            if stage == STAGE_ARRAY:
                where = home
                handle = cache_alloc_refill(slab, c, cpu, home)
            elif stage == STAGE_NODE:
                where = node
                handle = cache_alloc_node(slab, c, node)
            else:
                handle = st.NO_OBJECT
                for i in range(2):
                    n = home ^ i
                    if handle < 0 and slab.node[c, n, SLAB_LIST3.free_objects] > 0:
                        handle = cache_alloc_node(slab, c, n)
            if handle >= 0:
                return handle
            # cache_grow: on the node itself without waiting or warning, at last with the caller's own mask anywhere.
            if stage == STAGE_FALLBACK:
                pfn = kmem_getpages(mem, slab, c, cpu, home, gfp, context)
                where = pfn if mem.ctl[MEMCTL.model] != st.MODEL_ZONES else 0
                if pfn >= 0:
                    next_colour(slab, c, where)
            else:
                next_colour(slab, c, where)
                mask = gfp | g.GFP_THISNODE if numa else gfp
                pfn = kmem_getpages(mem, slab, c, cpu, where, mask, context)
            depth = mem.ctl[MEMCTL.depth]
            if pfn >= 0 and slab.cache[c, SLAB_CACHE.off_slab] != 0:
                ctl[SLAB_CTL.stage] = stage
                ctl[SLAB_CTL.pfn] = pfn
                ctl[SLAB_CTL.where] = where
                ctl[SLAB_CTL.depth] = depth
                return NEEDS_MGMT
        grew = False
        if pfn >= 0:
            grew = not (resumed and mgmt < 0) and cache_grow_add(mem, slab, c, where, pfn, mgmt, depth)
            if not grew:
                free_pages(mem, cpu, pfn, slab.cache[c, SLAB_CACHE.order])
        resumed = False
        if grew:
            if stage == STAGE_FALLBACK:
                return cache_alloc_node(slab, c, where)
        elif not numa or stage == STAGE_FALLBACK or (stage == STAGE_NODE and (gfp & g.THISNODE) != 0):
            return st.NO_OBJECT
        else:
            stage += 1


@internal
def slab_cache_alloc_slow(mem, slab, c, cpu, node, gfp, context):
    """An allocation that misses the array; gets management objects as it goes [__cache_alloc, alloc_slabmgmt]."""
    out_of_line()
    cache = slab.cache
    home = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    stage = STAGE_NODE
    if node < 0 or node == home or slab.ctl[SLAB_CTL.nodes] == 1:
        node = home
        stage = STAGE_ARRAY
        cache[c, SLAB_CACHE.allocmiss] += 1
    grown = cache[c, SLAB_CACHE.grown]
    handle = cache_alloc_stages(mem, slab, c, cpu, node, gfp, context, stage, -1, -1)
    while handle == NEEDS_MGMT:
        stage = slab.ctl[SLAB_CTL.stage]
        pfn = slab.ctl[SLAB_CTL.pfn]
        where = slab.ctl[SLAB_CTL.where]
        own = cache[c, SLAB_CACHE.mgmt_cache]
        mask = gfp & g.GFP_SLAB_LEVEL_MASK & ~(g.HARDWALL | g.THISNODE)
        first = STAGE_NODE
        if slab.ctl[SLAB_CTL.nodes] > 1:
            mask &= ~g.GFP_THISNODE
        mgmt = -1
        if where == home:
            first = STAGE_ARRAY
            if slab.queue[own, cpu, SLAB_ARRAY.avail] > 0:
                cache[own, SLAB_CACHE.allochit] += 1
            else:
                cache[own, SLAB_CACHE.allocmiss] += 1
        mgmt = cache_alloc_stages(mem, slab, own, cpu, where, mask, context, first, -1, -1)
        slab.ctl[SLAB_CTL.where] = where
        handle = cache_alloc_stages(mem, slab, c, cpu, node, gfp, context, stage, pfn, mgmt)
    slab.ctl[SLAB_CTL.path] = 0
    if handle >= 0:
        slab.ctl[SLAB_CTL.path] = 4 if cache[c, SLAB_CACHE.grown] > grown else 2
    return handle


@kernel
def slab_cache_alloc(mem, slab, c, cpu, node, gfp, context):
    """An object of cache ``c`` on ``cpu``: its handle, or NO_OBJECT [kmem_cache_alloc, kmem_cache_alloc_node].

    ``node`` is -1 or the node asked for; the path taken is left in ``slab.ctl[SLAB_CTL.path]``.
    """
    available = slab.queue[c, cpu, SLAB_ARRAY.avail]
    if available > 0 and (node < 0 or node == cpu >> mem.ctl[MEMCTL.cpu_node_shift]):
        slab.cache[c, SLAB_CACHE.allochit] += 1
        slab.queue[c, cpu, SLAB_ARRAY.touched] = 1
        slab.queue[c, cpu, SLAB_ARRAY.avail] = available - 1
        slab.ctl[SLAB_CTL.path] = 1
        return slab.entry[slab.queue[c, cpu, SLAB_ARRAY.base] + available - 1]
    return slab_cache_alloc_slow(mem, slab, c, cpu, node, gfp, context)

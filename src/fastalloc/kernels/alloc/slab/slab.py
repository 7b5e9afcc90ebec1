"""SLAB as of 2.6.25-rc8 [mm/slab.c]: arrays per CPU, shared and alien arrays, three lists a node, the reaper.

A slab of an off-slab cache keeps its management in an object of another, on-slab cache. Compiled kernels do not
recurse: an allocation that needs such an object stops, gets it, and goes on (:func:`cache_alloc_stages`); a slab that
is destroyed leaves its object in ``pending``, freed before anything else looks (:func:`free_pending`).
"""

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.linux import gfp as g

NEEDS_MGMT = -2

# ---------------------------------------------------------------------------------------------------- queues


@kernel
def shared_queue(slab, n):
    """Number of node ``n``'s shared array among a cache's queues; CPU ``i``'s own array is queue ``i``."""
    return slab.reap_node.shape[0] + n


@kernel
def alien_queue(slab, n, other):
    """Number of the array in which node ``n`` gathers objects of node ``other``."""
    nodes = slab.ctl[SLAB_CTL.nodes]
    return slab.reap_node.shape[0] + nodes + n * nodes + other


@internal
def transfer_objects(slab, c, to, source, most):
    """Move the newest ``most`` entries, order kept, as far as they fit; how many [transfer_objects]."""
    queue = slab.queue
    available = queue[c, source, SLAB_ARRAY.avail]
    count = min(min(available, most), queue[c, to, SLAB_ARRAY.limit] - queue[c, to, SLAB_ARRAY.avail])
    if count <= 0:
        return 0
    read = queue[c, source, SLAB_ARRAY.base] + available - count
    write = queue[c, to, SLAB_ARRAY.base] + queue[c, to, SLAB_ARRAY.avail]
    for i in range(count):
        slab.entry[write + i] = slab.entry[read + i]
    queue[c, source, SLAB_ARRAY.avail] -= count
    queue[c, to, SLAB_ARRAY.avail] += count
    queue[c, to, SLAB_ARRAY.touched] = 1
    return count


@internal
def drop_oldest(slab, c, q, count):
    """Forget the oldest ``count`` entries of a queue: the rest moves down."""
    left = slab.queue[c, q, SLAB_ARRAY.avail] - count
    base = slab.queue[c, q, SLAB_ARRAY.base]
    for i in range(left):
        slab.entry[base + i] = slab.entry[base + count + i]
    slab.queue[c, q, SLAB_ARRAY.avail] = left


# ----------------------------------------------------------------------------------------------------- lists


@internal
def list_del(slab, c, s):
    """Take slab ``s`` off the list it is on."""
    record = slab.slab
    n = record[s, SLAB_SLAB.node]
    which = record[s, SLAB_SLAB.list]
    slab.node[c, n, SLAB_LIST3.nr_full + which] -= 1
    if which == ss.ON_FULL:
        return
    head = SLAB_LIST3.partial_head if which == ss.ON_PARTIAL else SLAB_LIST3.free_head
    following = record[s, SLAB_SLAB.next]
    preceding = record[s, SLAB_SLAB.prev]
    if preceding >= 0:
        record[preceding, SLAB_SLAB.next] = following
    else:
        slab.node[c, n, head] = following
    if following >= 0:
        record[following, SLAB_SLAB.prev] = preceding
    else:
        slab.node[c, n, head + 1] = preceding


@kernel
def list_add(slab, c, s, which, tail):
    """Put slab ``s`` at the head or tail of its node's list ``which``."""
    record = slab.slab
    n = record[s, SLAB_SLAB.node]
    record[s, SLAB_SLAB.list] = which
    slab.node[c, n, SLAB_LIST3.nr_full + which] += 1
    if which == ss.ON_FULL:
        return
    head = SLAB_LIST3.partial_head if which == ss.ON_PARTIAL else SLAB_LIST3.free_head
    end = head + 1 if tail else head
    neighbour = slab.node[c, n, end]
    record[s, SLAB_SLAB.next] = -1 if tail else neighbour
    record[s, SLAB_SLAB.prev] = neighbour if tail else -1
    if neighbour < 0:
        slab.node[c, n, head] = s
        slab.node[c, n, head + 1] = s
        return
    record[neighbour, SLAB_SLAB.next if tail else SLAB_SLAB.prev] = s
    slab.node[c, n, end] = s


@internal
def slab_get_obj(slab, c, s):
    """The next free object of slab ``s``, counted as active [slab_get_obj, STATS_INC_ACTIVE, STATS_SET_HIGH]."""
    record = slab.slab
    i = record[s, SLAB_SLAB.free]
    record[s, SLAB_SLAB.free] = slab.link[record[s, SLAB_SLAB.base] + i]
    record[s, SLAB_SLAB.inuse] += 1
    cache = slab.cache
    cache[c, SLAB_CACHE.active] += 1
    if cache[c, SLAB_CACHE.active] > cache[c, SLAB_CACHE.high_mark]:
        cache[c, SLAB_CACHE.high_mark] = cache[c, SLAB_CACHE.active]
    return (s << st.HANDLE_SHIFT) | i


@internal
def first_slab(slab, c, n):
    """Head of the partial list, else of the free list (which is then touched); -1 none."""
    s = slab.node[c, n, SLAB_LIST3.partial_head]
    if s < 0:
        slab.node[c, n, SLAB_LIST3.free_touched] = 1
        s = slab.node[c, n, SLAB_LIST3.free_head]
    return s


@internal
def requeue(slab, c, s):
    """A slab objects were taken from goes to the head of full or partial."""
    list_del(slab, c, s)
    list_add(slab, c, s, ss.ON_FULL if slab.slab[s, SLAB_SLAB.free] < 0 else ss.ON_PARTIAL, False)


# ------------------------------------------------------------------------------------------------------ free


@internal
def slab_destroy(mem, slab, c, cpu, s):
    """Give a slab's pages back and retire its record; its management object is left pending [slab_destroy]."""
    record = slab.slab
    free_pages(mem, cpu, record[s, SLAB_SLAB.pfn], slab.cache[c, SLAB_CACHE.order])
    slab.ctl[SLAB_CTL.pages] -= 1 << slab.cache[c, SLAB_CACHE.order]
    if record[s, SLAB_SLAB.mgmt] >= 0:
        slab.pending[slab.ctl[SLAB_CTL.pending]] = record[s, SLAB_SLAB.mgmt]
        slab.ctl[SLAB_CTL.pending] += 1
    record[s, SLAB_SLAB.pfn] = -1
    record[s, SLAB_SLAB.next] = slab.cache[c, SLAB_CACHE.free_slab]
    slab.cache[c, SLAB_CACHE.free_slab] = s


@internal
def free_block(mem, slab, c, cpu, q, count):
    """Give the oldest ``count`` entries of queue ``q`` back to their slabs; the entries stay [free_block].

    A slab goes to the tail of partial; an empty one to the head of free, or away above ``free_limit``.
    """
    out_of_line()
    record = slab.slab
    base = slab.queue[c, q, SLAB_ARRAY.base]
    num = slab.cache[c, SLAB_CACHE.num]
    for k in range(count):
        handle = slab.entry[base + k]
        s = handle >> st.HANDLE_SHIFT
        i = handle & st.HANDLE_INDEX_MASK
        n = record[s, SLAB_SLAB.node]
        list_del(slab, c, s)
        slab.link[record[s, SLAB_SLAB.base] + i] = record[s, SLAB_SLAB.free]
        record[s, SLAB_SLAB.free] = i
        record[s, SLAB_SLAB.inuse] -= 1
        slab.cache[c, SLAB_CACHE.active] -= 1
        slab.node[c, n, SLAB_LIST3.free_objects] += 1
        if record[s, SLAB_SLAB.inuse] > 0:
            list_add(slab, c, s, ss.ON_PARTIAL, True)
        elif slab.node[c, n, SLAB_LIST3.free_objects] > slab.node[c, n, SLAB_LIST3.free_limit]:
            slab.node[c, n, SLAB_LIST3.free_objects] -= num
            slab_destroy(mem, slab, c, cpu, s)
        else:
            list_add(slab, c, s, ss.ON_FREE, False)


@internal
def cache_flusharray(mem, slab, c, cpu):
    """Make room in a CPU's array: its oldest ``batchcount`` go to the shared array, or to the slabs if that is full."""
    out_of_line()
    queue = slab.queue
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    count = queue[c, cpu, SLAB_ARRAY.batchcount]
    shared = shared_queue(slab, n)
    room = queue[c, shared, SLAB_ARRAY.limit] - queue[c, shared, SLAB_ARRAY.avail]
    if room > 0:
        count = min(count, room)
        read = queue[c, cpu, SLAB_ARRAY.base]
        write = queue[c, shared, SLAB_ARRAY.base] + queue[c, shared, SLAB_ARRAY.avail]
        for i in range(count):
            slab.entry[write + i] = slab.entry[read + i]
        queue[c, shared, SLAB_ARRAY.avail] += count
    else:
        free_block(mem, slab, c, cpu, cpu, count)
    freeable = slab.node[c, n, SLAB_LIST3.nr_free]
    if freeable > slab.cache[c, SLAB_CACHE.max_freeable]:
        slab.cache[c, SLAB_CACHE.max_freeable] = freeable
    drop_oldest(slab, c, cpu, count)


@internal
def drain_alien_cache(mem, slab, c, cpu, n, other):
    """Empty node ``n``'s array of ``other``'s objects: into ``other``'s shared array, the rest into its slabs."""
    out_of_line()
    q = alien_queue(slab, n, other)
    if slab.queue[c, q, SLAB_ARRAY.avail] == 0:
        return
    shared = shared_queue(slab, other)
    if slab.queue[c, shared, SLAB_ARRAY.limit] > 0:
        transfer_objects(slab, c, shared, q, slab.queue[c, q, SLAB_ARRAY.limit])
    free_block(mem, slab, c, cpu, q, slab.queue[c, q, SLAB_ARRAY.avail])
    slab.queue[c, q, SLAB_ARRAY.avail] = 0


@internal
def cache_free(mem, slab, cpu, handle):
    """Free into the CPU's array or, for another node, its alien array; management stays pending [__cache_free]."""
    out_of_line()
    queue = slab.queue
    s = handle >> st.HANDLE_SHIFT
    c = slab.slab[s, SLAB_SLAB.cache]
    q = cpu
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    owner = slab.slab[s, SLAB_SLAB.node]
    if owner != n:
        slab.cache[c, SLAB_CACHE.node_frees] += 1
        q = alien_queue(slab, n, owner)
        if queue[c, q, SLAB_ARRAY.avail] == queue[c, q, SLAB_ARRAY.limit]:
            slab.cache[c, SLAB_CACHE.node_overflow] += 1
            drain_alien_cache(mem, slab, c, cpu, n, owner)
        slab.ctl[SLAB_CTL.path] = 3
    elif queue[c, q, SLAB_ARRAY.avail] < queue[c, q, SLAB_ARRAY.limit]:
        slab.cache[c, SLAB_CACHE.freehit] += 1
        slab.ctl[SLAB_CTL.path] = 1
    else:
        slab.cache[c, SLAB_CACHE.freemiss] += 1
        cache_flusharray(mem, slab, c, cpu)
        slab.ctl[SLAB_CTL.path] = 2
    slab.entry[queue[c, q, SLAB_ARRAY.base] + queue[c, q, SLAB_ARRAY.avail]] = handle
    queue[c, q, SLAB_ARRAY.avail] += 1


@internal
def free_pending(mem, slab, cpu):
    """Free the management objects of the slabs just destroyed, first destroyed first; their caches are on-slab."""
    out_of_line()
    count = slab.ctl[SLAB_CTL.pending]
    slab.ctl[SLAB_CTL.pending] = 0
    path = slab.ctl[SLAB_CTL.path]
    for k in range(count):
        cache_free(mem, slab, cpu, slab.pending[k])
    slab.ctl[SLAB_CTL.path] = path


@kernel
def slab_cache_free(mem, slab, cpu, handle):
    """Free an object on ``cpu`` [kmem_cache_free, kfree]."""
    cache_free(mem, slab, cpu, handle)
    if slab.ctl[SLAB_CTL.pending] > 0:
        free_pending(mem, slab, cpu)


# -------------------------------------------------------------------------------------------------- allocate


@kernel
def cache_slabs(slab, c):
    """Slabs of cache ``c``."""
    slabs = 0
    for n in range(slab.ctl[SLAB_CTL.nodes]):
        node = slab.node[c, n]
        slabs += node[SLAB_LIST3.nr_full] + node[SLAB_LIST3.nr_partial] + node[SLAB_LIST3.nr_free]
    return slabs


@internal
def cache_grow_add(mem, slab, c, node, pfn, mgmt, depth):
    """Enter a new slab at the tail of ``node``'s free list; False when the arrays are too small [cache_grow].

    ``depth``: at which its pages were bought, a DEPTH.
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
    record[s, SLAB_SLAB.buyer] = mem.ctl[MEMCTL.who]
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
    cache[SLAB_CACHE.max_slabs] = max(cache[SLAB_CACHE.max_slabs], cache_slabs(slab, c))
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

    ``pfn >= 0`` resumes: the pages were bought, ``mgmt`` is their management object or NO_OBJECT (pages go back).
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


# --------------------------------------------------------------------------------------------- shrink and reap


@internal
def do_drain(mem, slab, c, cpu):
    """Empty a CPU's array into the slabs, on that CPU [do_drain]."""
    out_of_line()
    free_block(mem, slab, c, cpu, cpu, slab.queue[c, cpu, SLAB_ARRAY.avail])
    slab.queue[c, cpu, SLAB_ARRAY.avail] = 0
    free_pending(mem, slab, cpu)


@internal
def drain_array(mem, slab, c, cpu, q, force):
    """Age an array: a touched one loses its mark, others a fifth of their limit, or all by ``force`` [drain_array]."""
    out_of_line()
    queue = slab.queue
    available = queue[c, q, SLAB_ARRAY.avail]
    if available == 0:
        return
    if queue[c, q, SLAB_ARRAY.touched] != 0 and not force:
        queue[c, q, SLAB_ARRAY.touched] = 0
        return
    count = available if force else (queue[c, q, SLAB_ARRAY.limit] + 4) // 5
    if count > available:
        count = (available + 1) // 2
    free_block(mem, slab, c, cpu, q, count)
    drop_oldest(slab, c, q, count)
    free_pending(mem, slab, cpu)


@internal
def drain_freelist(mem, slab, c, cpu, n, most):
    """Destroy up to ``most`` free slabs from the tail of the list; how many [drain_freelist]."""
    out_of_line()
    count = 0
    while count < most:
        s = slab.node[c, n, SLAB_LIST3.free_tail]
        if s < 0:
            break
        list_del(slab, c, s)
        slab.node[c, n, SLAB_LIST3.free_objects] -= slab.cache[c, SLAB_CACHE.num]
        slab_destroy(mem, slab, c, cpu, s)
        free_pending(mem, slab, cpu)
        count += 1
    return count


@kernel
def slab_cache_shrink(mem, slab, c, cpu):
    """Empty all arrays and the free lists; 1 when slabs remain in use [kmem_cache_shrink, __cache_shrink]."""
    out_of_line()
    nodes = slab.ctl[SLAB_CTL.nodes]
    cpus = slab.reap_node.shape[0]
    for other in range(cpus):
        if other != cpu:
            do_drain(mem, slab, c, other)
    do_drain(mem, slab, c, cpu)
    if nodes > 1:
        for n in range(nodes):
            drain_alien_cache(mem, slab, c, cpu, n, n ^ 1)
            free_pending(mem, slab, cpu)
    for n in range(nodes):
        drain_array(mem, slab, c, cpu, shared_queue(slab, n), True)
    left = 0
    for n in range(nodes):
        drain_freelist(mem, slab, c, cpu, n, slab.node[c, n, SLAB_LIST3.free_objects])
        if slab.node[c, n, SLAB_LIST3.nr_full] > 0 or slab.node[c, n, SLAB_LIST3.nr_partial] > 0:
            left = 1
    return left


@internal
def cache_reap(mem, slab, cpu, jiffies, interval):
    """One pass of the CPU's reaper over the cache chain [cache_reap, reap_alien, next_reap_node].

    ``interval`` is REAPTIMEOUT_LIST3, 4 s in jiffies.
    """
    out_of_line()
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    nodes = slab.ctl[SLAB_CTL.nodes]
    for position in range(slab.ctl[SLAB_CTL.chain]):
        c = slab.chain[position]
        if slab.reap_node[cpu] != n:
            drain_alien_cache(mem, slab, c, cpu, n, slab.reap_node[cpu])
            free_pending(mem, slab, cpu)
        drain_array(mem, slab, c, cpu, cpu, False)
        list3 = slab.node[c, n]
        if list3[SLAB_LIST3.next_reap] > jiffies:
            continue
        list3[SLAB_LIST3.next_reap] = jiffies + interval
        drain_array(mem, slab, c, cpu, shared_queue(slab, n), False)
        if list3[SLAB_LIST3.free_touched] != 0:
            list3[SLAB_LIST3.free_touched] = 0
        else:
            num = slab.cache[c, SLAB_CACHE.num]
            most = (list3[SLAB_LIST3.free_limit] + 5 * num - 1) // (5 * num)
            slab.cache[c, SLAB_CACHE.reaped] += drain_freelist(mem, slab, c, cpu, n, most)
    slab.reap_node[cpu] = (slab.reap_node[cpu] + 1) % nodes

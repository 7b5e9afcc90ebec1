"""SLAB gives objects and slabs back [mm/slab.c: __cache_free, free_block, slab_destroy].

A slab that is destroyed leaves its off-slab management object in ``pending``, freed before anything else looks
(:func:`free_pending`): compiled kernels do not recurse.
"""

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import free_pages
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.arrays import alien_queue, drop_oldest, shared_queue, transfer_objects
from fastalloc.kernels.alloc.slab.lists import list_add, list_del
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB
from fastalloc.kernels.alloc.state import MEMCTL


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

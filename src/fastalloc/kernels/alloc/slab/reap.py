"""SLAB shrinks a cache, and its reaper runs every two seconds on each CPU [mm/slab.c: __cache_shrink, cache_reap]."""

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc.slab.arrays import drop_oldest, shared_queue
from fastalloc.kernels.alloc.slab.free import drain_alien_cache, free_block, free_pending, slab_destroy
from fastalloc.kernels.alloc.slab.lists import list_del
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3
from fastalloc.kernels.alloc.state import MEMCTL


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

"""What Linux 7.2 and 7.3 do with the sheaves of a whole cache and with many objects at once [mm/slub.c]. The rules of
single objects are in :mod:`fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves`.

``out`` is an array of handles, ``at`` the place in it from which on a call fills or reads it.
"""

import numpy as np

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub.barn import EMPTY, FULL, barn_get, barn_put, exchange_for_full, swap_sheaves
from fastalloc.kernels.alloc.slub.era_7_3 import node_lists as nl
from fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves import (
    alloc_empty_sheaf,
    flush_and_free,
    flush_main,
    free_empty_sheaf,
    goes_to_sheaf,
    is_full,
)
from fastalloc.kernels.alloc.slub.rcu import queue_sheaf
from fastalloc.kernels.alloc.slub.state import ERA_PERCPU_SHEAVES, NO_MAIN, SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL

# --------------------------------------------------------------------------------------------- the whole cache


@kernel
def add_sheaves(mem, slub, c, cpu, gfp, context):
    """A main sheaf for each CPU, all made on ``cpu``; False when one cannot be had [init_percpu_sheaves].

    The cache has sheaves once it has them all.
    """
    capacity = slub.cache[c, KMEM_CACHE.sheaf_capacity]
    made = np.int64(-1)
    h = np.int64(-1)
    for _ in range(slub.kcpu.shape[1]):
        h = np.int64(alloc_empty_sheaf(mem, slub, c, cpu, gfp, context, capacity))
        if h < 0:
            break
        slub.ctl[h + SHEAF.next] = made
        made = h
    for owner in range(slub.kcpu.shape[1] - 1, -1, -1):
        if made < 0:
            break
        slub.kcpu[c, owner, KMEM_CACHE_CPU.main] = made
        made = slub.ctl[made + SHEAF.next]
    return h >= 0


@kernel
def remove_sheaves(mem, slub, c, cpu):
    """The main sheaves of all CPUs, of a cache that goes [pcs_destroy]."""
    last = slub.kcpu.shape[1]
    for owner in range(last):
        # As they were made: of a set that is not whole the first CPUs have none.
        h = slub.kcpu[c, owner, KMEM_CACHE_CPU.main]
        if h >= 0:
            slub.kcpu[c, owner, KMEM_CACHE_CPU.main] = NO_MAIN[ERA_PERCPU_SHEAVES]
            free_empty_sheaf(mem, slub, c, cpu, h)


@internal
def flush_cpu(mem, slub, c, cpu):
    """What the flush worker of a CPU does: only the main sheaf stays, empty [pcs_flush_all]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    spare = k[KMEM_CACHE_CPU.spare]
    waiting = k[KMEM_CACHE_CPU.rcu_free]
    k[KMEM_CACHE_CPU.spare] = -1
    k[KMEM_CACHE_CPU.rcu_free] = -1
    if spare >= 0:
        flush_and_free(mem, slub, c, cpu, spare)
    if waiting >= 0:
        queue_sheaf(slub, c, cpu, waiting, -1)
    if k[KMEM_CACHE_CPU.main] >= 0:
        flush_main(mem, slub, c, cpu)


@internal
def shrink_barn(mem, slub, c, cpu, n):
    """Empty a barn: full sheaves flushed, all freed, from the head on [barn_shrink]."""
    out_of_line()
    node = slub.knode[c, n]
    full = node[KMEM_CACHE_NODE.full]
    empty = node[KMEM_CACHE_NODE.empty]
    node[KMEM_CACHE_NODE.full] = -1
    node[KMEM_CACHE_NODE.empty] = -1
    node[KMEM_CACHE_NODE.nr_full] = 0
    node[KMEM_CACHE_NODE.nr_empty] = 0
    while full >= 0:
        following = slub.ctl[full + SHEAF.next]
        flush_and_free(mem, slub, c, cpu, full)
        full = following
    while empty >= 0:
        following = slub.ctl[empty + SHEAF.next]
        free_empty_sheaf(mem, slub, c, cpu, empty)
        empty = following


@kernel
def hand_over_rcu_sheaves(slub, c):
    """The sheaves that collect for kfree_rcu go to call_rcu as they are [flush_rcu_sheaves_on_cache]."""
    for cpu in range(slub.kcpu.shape[1]):
        h = slub.kcpu[c, cpu, KMEM_CACHE_CPU.rcu_free]
        if h >= 0:
            slub.kcpu[c, cpu, KMEM_CACHE_CPU.rcu_free] = -1
            queue_sheaf(slub, c, cpu, h, -1)


# ------------------------------------------------------------------------------------------------ many at once


@internal
def alloc_from_pcs_bulk(slub, c, n, k, out, at, count):
    """Blocks from the top of main sheaves, of which none is refilled for them; how many objects
    [alloc_from_pcs_bulk]."""
    got = 0
    while got < count:
        h = k[KMEM_CACHE_CPU.main]
        size = slub.ctl[h + SHEAF.size]
        if size == 0:
            spare = k[KMEM_CACHE_CPU.spare]
            if spare >= 0 and slub.ctl[spare + SHEAF.size] > 0:
                swap_sheaves(k, KMEM_CACHE_CPU.main)
            elif not exchange_for_full(slub, c, n, k, KMEM_CACHE_CPU.main):
                k[KMEM_CACHE_CPU.barn_get_fail] += 1
                break
            continue
        batch = min(count - got, size)
        for i in range(batch):
            out[at + got + i] = slub.ctl[h + SHEAF.objects[size - batch + i]]
        slub.ctl[h + SHEAF.size] = size - batch
        k[KMEM_CACHE_CPU.alloc_fastpath] += batch
        got += batch
    return got


@internal
def alloc_bulk(mem, slub, c, cpu, gfp, context, out, at, count):
    """``count`` objects, all or none; whether they were had [kmem_cache_alloc_bulk]."""
    out_of_line()
    mem.ctl[MEMCTL.cpu] = cpu
    k = slub.kcpu[c, cpu]
    got = 0
    if k[KMEM_CACHE_CPU.main] >= 0:
        got = alloc_from_pcs_bulk(slub, c, cpu >> mem.ctl[MEMCTL.cpu_node_shift], k, out, at, count)
    rest = count - got
    if rest > 0:
        more = nl.refill_objects(mem, slub, c, cpu, gfp, context, out, at + got, rest)
        if more < rest:
            nl.free_bulk(mem, slub, c, cpu, out, at + got, more)
            nl.free_bulk(mem, slub, c, cpu, out, at, got)
            return False
        k[KMEM_CACHE_CPU.alloc_slowpath] += rest
    return True


@internal
def room_for_bulk(slub, c, n, k):
    """A main sheaf with room, from the spare or the barn alone; whether there is one [__free_to_pcs_batch]."""
    spare = k[KMEM_CACHE_CPU.spare]
    node = slub.knode[c, n]
    if spare < 0:
        h = barn_get(slub, c, n, EMPTY)
        if h < 0:
            return False
        k[KMEM_CACHE_CPU.spare] = k[KMEM_CACHE_CPU.main]
        k[KMEM_CACHE_CPU.main] = h
        return True
    if not is_full(slub, spare):
        swap_sheaves(k, KMEM_CACHE_CPU.main)
        return True
    if node[KMEM_CACHE_NODE.nr_full] >= slub.cache[c, KMEM_CACHE.max_full] or node[KMEM_CACHE_NODE.empty] < 0:
        k[KMEM_CACHE_CPU.barn_put_fail] += 1
        return False
    h = barn_get(slub, c, n, EMPTY)
    barn_put(slub, c, n, k[KMEM_CACHE_CPU.main], FULL)
    node[KMEM_CACHE_NODE.barn_locks] -= 1  # exchanged under one lock
    k[KMEM_CACHE_CPU.barn_put] += 1
    k[KMEM_CACHE_CPU.main] = h
    return True


@internal
def free_many(mem, slub, c, cpu, out, at, size):
    """``size`` objects: those of this node into sheaves as far as there is room, without a new one or a flush, the
    rest to the slabs, then those that no sheaf takes [kmem_cache_free_bulk, free_to_pcs_bulk]."""
    out_of_line()
    mem.ctl[MEMCTL.cpu] = cpu
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    remote = 0
    for i in range(size):
        handle = out[at + i]
        if not goes_to_sheaf(mem, slub, handle >> st.HANDLE_SHIFT, n):
            out[at + i] = out[at + remote]
            out[at + remote] = handle
            remote += 1
    place = at + remote
    left = size - remote
    while left > 0 and k[KMEM_CACHE_CPU.main] >= 0:
        if is_full(slub, k[KMEM_CACHE_CPU.main]) and not room_for_bulk(slub, c, n, k):
            break
        h = k[KMEM_CACHE_CPU.main]
        held = slub.ctl[h + SHEAF.size]
        batch = min(left, slub.ctl[h + SHEAF.capacity] - held)
        for i in range(batch):
            slub.ctl[h + SHEAF.objects[held + i]] = out[place + i]
        slub.ctl[h + SHEAF.size] = held + batch
        k[KMEM_CACHE_CPU.free_fastpath] += batch
        place += batch
        left -= batch
    nl.free_bulk(mem, slub, c, cpu, out, place, left)
    nl.free_bulk(mem, slub, c, cpu, out, at, remote)
    k[KMEM_CACHE_CPU.free_slowpath] += left + remote

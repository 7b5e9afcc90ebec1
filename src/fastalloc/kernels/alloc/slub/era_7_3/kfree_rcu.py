"""kfree_rcu through sheaves, and the end of a grace period, in Linux 7.2 and 7.3 [mm/slub.c]."""

import numpy as np

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import free_pages
from fastalloc.kernels.alloc.slub.barn import EMPTY, FULL, barn_get, barn_put
from fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves import (
    alloc_empty_sheaf,
    empty_sheaf_at_hand,
    flush_and_free,
    flush_unused,
    free_empty_sheaf,
    goes_to_sheaf,
    is_full,
)
from fastalloc.kernels.alloc.slub.rcu import next_callback, queue_sheaf
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.linux import gfp as g

# Paths of the golden cases.
INTO_RCU_SHEAF, FILLED_RCU_SHEAF, INTO_RCU_LIST = 10, 11, 12


@internal
def kfree_rcu(mem, slub, c, cpu, handle, context):
    """An object into the CPU's rcu sheaf; False: it is for the old batching [kfree_rcu_sheaf, __kfree_rcu_sheaf]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    slub.ctl[SLUB_CTL.path] = INTO_RCU_LIST
    if slub.slab[handle >> st.HANDLE_SHIFT, SLUB_SLAB.node] != n:
        return False
    h = k[KMEM_CACHE_CPU.rcu_free]
    if h < 0:
        if k[KMEM_CACHE_CPU.main] >= 0:
            spare = k[KMEM_CACHE_CPU.spare]
            if spare >= 0 and slub.ctl[spare + SHEAF.size] > 0:
                h = np.int64(barn_get(slub, c, n, EMPTY))
            else:
                h = np.int64(empty_sheaf_at_hand(slub, c, n, k))
            if h < 0:
                capacity = slub.cache[c, KMEM_CACHE.sheaf_capacity]
                h = np.int64(alloc_empty_sheaf(mem, slub, c, cpu, np.int64(g.NOWARN), context, capacity))
        if h < 0:
            k[KMEM_CACHE_CPU.free_rcu_sheaf_fail] += 1
            slub.ctl[SLUB_CTL.path] = INTO_RCU_LIST
            return False
        k[KMEM_CACHE_CPU.rcu_free] = h
    size = slub.ctl[h + SHEAF.size]
    slub.ctl[h + SHEAF.objects[size]] = handle
    slub.ctl[h + SHEAF.size] = size + 1
    slub.ctl[SLUB_CTL.path] = INTO_RCU_SHEAF
    if is_full(slub, h):
        slub.ctl[SLUB_CTL.path] = FILLED_RCU_SHEAF
        k[KMEM_CACHE_CPU.rcu_free] = -1
        queue_sheaf(slub, c, cpu, h, n)
    k[KMEM_CACHE_CPU.free_rcu_sheaf] += 1
    return True


@internal
def rcu_free_sheaf(mem, slub, cpu, h):
    """A grace period after kfree_rcu's sheaf ``h`` was queued, on the CPU that runs the callback: to the barn of its
    node, or flushed [rcu_free_sheaf, rcu_free_sheaf_nobarn]."""
    out_of_line()
    c = slub.ctl[h + SHEAF.cache]
    n = slub.ctl[h + SHEAF.node]
    k = slub.kcpu[c, cpu]
    if n < 0:
        flush_and_free(mem, slub, c, cpu, h)
        return
    fits = slub.knode[c, n, KMEM_CACHE_NODE.nr_full] < slub.cache[c, KMEM_CACHE.max_full]
    for i in range(slub.ctl[h + SHEAF.size]):
        s = slub.ctl[h + SHEAF.objects[i]] >> st.HANDLE_SHIFT
        fits = fits and goes_to_sheaf(mem, slub, s, np.int64(slub.slab[s, SLUB_SLAB.node]))
    if fits:
        barn_put(slub, c, n, h, FULL)
        k[KMEM_CACHE_CPU.barn_put] += 1
        return
    k[KMEM_CACHE_CPU.barn_put_fail] += 1
    flush_unused(mem, slub, c, cpu, h)
    if slub.knode[c, n, KMEM_CACHE_NODE.nr_empty] < slub.cache[c, KMEM_CACHE.max_empty]:
        barn_put(slub, c, n, h, EMPTY)
    else:
        free_empty_sheaf(mem, slub, c, cpu, h)


@internal
def rcu_free_slab(mem, slub, cpu, s):
    """The pages of a slab of a SLAB_TYPESAFE_BY_RCU cache, and its record [rcu_free_slab]."""
    slab = slub.slab
    c = slab[s, SLUB_SLAB.cache]
    free_pages(mem, cpu, slab[s, SLUB_SLAB.pfn], slab[s, SLUB_SLAB.order])
    slab[s, SLUB_SLAB.frozen] = 0
    slab[s, SLUB_SLAB.pfn] = -1
    slab[s, SLUB_SLAB.next] = slub.cache[c, KMEM_CACHE.free_slab]
    slub.cache[c, KMEM_CACHE.free_slab] = s


@kernel
def rcu_do_batch(mem, slub):
    """A grace period ends: all callbacks queued so far run, CPU by CPU, each on the one that queued it."""
    out_of_line()
    first = slub.ctl[SLUB_CTL.rcu_head]
    count = slub.ctl[SLUB_CTL.nr_callbacks]
    slub.ctl[SLUB_CTL.nr_callbacks] = 0
    slub.ctl[SLUB_CTL.rcu_head] = -1
    slub.ctl[SLUB_CTL.rcu_tail] = -1
    for cpu in range(slub.kcpu.shape[1]):
        entry = first
        kept = np.int64(-1)
        left = 0
        for _ in range(count):
            following = next_callback(slub, entry)
            queued_on = slub.ctl[entry + SHEAF.cpu] if entry >= 0 else slub.slab[-2 - entry, SLUB_SLAB.frozen] - 1
            if queued_on != cpu:
                # Relinked among those of later CPUs, for what runs may take the record of this one.
                if left == 0:
                    first = entry
                elif kept >= 0:
                    slub.ctl[kept + SHEAF.next] = entry
                else:
                    slub.slab[-2 - kept, SLUB_SLAB.next] = entry
                kept = entry
                left += 1
            elif entry >= 0:
                rcu_free_sheaf(mem, slub, cpu, entry)
            else:
                rcu_free_slab(mem, slub, cpu, -2 - entry)
            entry = following
        count = left

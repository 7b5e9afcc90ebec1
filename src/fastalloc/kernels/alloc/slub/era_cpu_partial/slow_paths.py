"""SLUB with per-CPU partial lists: Linux 3.2 to 6.17 [mm/slub.c; rules as of 6.12, without debugging].

What differs from 2.6.25: a slab that was full goes, at its first remote free, to the partial list of the CPU that
frees; a full CPU slab is let go without any list; a retired CPU slab keeps the order of its private objects; an
emptied slab stays while its node has fewer than min_partial; a slab that cannot be had at the cache's order is tried
at the smallest one. Functions take ``f``, the column of the CPU slab's private list (a
CPU_SLAB begins there), so that the sheaves of 6.18 can stand on the same rules.

Before 6.8 a slab on a CPU's partial list was frozen too: frees into it counted as free_frozen, which they do not here.
"""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.policy_hooks import goes_elsewhere
from fastalloc.kernels.alloc.policy_record import MATCH_FREE_TO, TO_NODE
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_cpu_partial.cpu_lists import (
    deactivate_slab,
    find_slab,
    put_cpu_partial,
    unfreeze_partials,
)
from fastalloc.kernels.alloc.slub.partial import (
    STAYS,
    TURNS,
    add_partial,
    crowded,
    discard_slab,
    pfmemalloc_match,
    put_back,
    remove_partial,
)
from fastalloc.kernels.alloc.state import (
    CPU_SLAB,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
)
from fastalloc.linux import gfp as g


@folded
def load_freelist(slub, c, cpu, s, f):
    """Make ``s`` the CPU slab: its first free object is the result, the rest the private list [get_freelist]."""
    slab = slub.slab
    i = slab[s, SLUB_SLAB.freelist]
    slub.kcpu[c, cpu, f] = slub.link[slab[s, SLUB_SLAB.base] + i]
    slub.kcpu[c, cpu, f + CPU_SLAB.page] = s
    slab[s, SLUB_SLAB.freelist] = -1
    slab[s, SLUB_SLAB.inuse] = slab[s, SLUB_SLAB.objects]
    slab[s, SLUB_SLAB.frozen] = 1 + cpu
    return (s << st.HANDLE_SHIFT) | i


@internal
def slab_alloc_slower(mem, slub, c, cpu, node, gfp, context, f):
    """The rest of :func:`slab_alloc`: a slab of the wrong node, the node's list, a new slab [___slab_alloc]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    s = k[f + CPU_SLAB.page]
    if s >= 0:
        if node >= 0 and slab[s, SLUB_SLAB.node] != node:
            k[KMEM_CACHE_CPU.alloc_node_mismatch] += 1
        deactivate_slab(mem, slub, c, cpu, cpu, f)
    while k[KMEM_CACHE_CPU.partial] >= 0:
        s = k[KMEM_CACHE_CPU.partial]
        k[KMEM_CACHE_CPU.partial] = slab[s, SLUB_SLAB.next]
        if (node < 0 or slab[s, SLUB_SLAB.node] == node) and pfmemalloc_match(mem, slub, s, gfp, context):
            k[KMEM_CACHE_CPU.cpu_partial_alloc] += 1
            slub.ctl[SLUB_CTL.path] = er.PATH_CPU_PARTIAL
            return load_freelist(slub, c, cpu, s, f)
        slab[s, SLUB_SLAB.next] = -1
        unfreeze_partials(mem, slub, c, cpu, cpu, s)
    s = -1
    if node >= 0 and (gfp & g.THISNODE) == 0:  # the node asked for is tried alone first, without waiting
        s = find_slab(mem, slub, c, cpu, node, g.GFP_NOWAIT | g.THISNODE, context)
    if s < 0:
        s = find_slab(mem, slub, c, cpu, node, gfp, context)
    if s < 0:
        slub.ctl[SLUB_CTL.path] = er.PATH_REFUSED
        return st.NO_OBJECT
    return load_freelist(slub, c, cpu, s, f)


@folded
def ___slab_alloc(mem, slub, c, cpu, node, gfp, context, f):
    """An allocation that the private list does not serve [___slab_alloc]."""
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    s = k[f + CPU_SLAB.page]
    k[KMEM_CACHE_CPU.alloc_slowpath] += 1
    slub.ctl[SLUB_CTL.path] = er.PATH_CPU_SLAB
    fits = s >= 0 and (node < 0 or slab[s, SLUB_SLAB.node] == node) and pfmemalloc_match(mem, slub, s, gfp, context)
    if fits:
        if slab[s, SLUB_SLAB.freelist] >= 0:
            k[KMEM_CACHE_CPU.alloc_refill] += 1
            return load_freelist(slub, c, cpu, s, f)
        # Full: it is let go, on no list.
        k[f + CPU_SLAB.page] = -1
        slab[s, SLUB_SLAB.frozen] = 0
        k[KMEM_CACHE_CPU.deactivate_bypass] += 1
    first = k[KMEM_CACHE_CPU.partial]
    if (
        (fits or s < 0)
        and first >= 0
        and (node < 0 or slab[first, SLUB_SLAB.node] == node)
        and pfmemalloc_match(mem, slub, first, gfp, context)
    ):
        k[KMEM_CACHE_CPU.partial] = slab[first, SLUB_SLAB.next]
        k[KMEM_CACHE_CPU.cpu_partial_alloc] += 1
        slub.ctl[SLUB_CTL.path] = er.PATH_CPU_PARTIAL
        return load_freelist(slub, c, cpu, first, f)
    return slab_alloc_slower(mem, slub, c, cpu, node, gfp, context, f)


@folded
def slab_alloc(mem, slub, c, cpu, node, gfp, context, f):
    """An object of cache ``c``: private list, shared list of the CPU slab, CPU's partial list, node's, new slab
    [slab_alloc_node, ___slab_alloc]; its handle, or NO_OBJECT."""
    k = slub.kcpu[c, cpu]
    s = k[f + CPU_SLAB.page]
    i = k[f]
    if i >= 0 and (node < 0 or slub.slab[s, SLUB_SLAB.node] == node):
        k[f] = slub.link[slub.slab[s, SLUB_SLAB.base] + i]
        k[KMEM_CACHE_CPU.alloc_fastpath] += 1
        slub.ctl[SLUB_CTL.path] = er.PATH_FREELIST
        return (s << st.HANDLE_SHIFT) | i
    return ___slab_alloc(mem, slub, c, cpu, node, gfp, context, f)


@internal
def free_to_node(mem, slub, c, cpu, s, prior):
    """:func:`free_turning` where the CPU's partial list does not take the slab."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    slub.knode[c, slab[s, SLUB_SLAB.node], KMEM_CACHE_NODE.list_locks] += 1
    if slab[s, SLUB_SLAB.inuse] == 0 and crowded(mem, slub, c, cpu, s, slub.cache[c, KMEM_CACHE.min_partial]):
        slub.ctl[SLUB_CTL.path] = er.PATH_GIVEN_BACK
        if prior >= 0:
            remove_partial(slub, c, s)
            k[KMEM_CACHE_CPU.free_remove_partial] += 1
            slub.ctl[SLUB_CTL.path] = er.PATH_OFF_PARTIAL
        k[KMEM_CACHE_CPU.free_slab] += 1
        discard_slab(mem, slub, c, cpu, s)
    elif prior < 0:
        add_partial(slub, c, s, True)
        k[KMEM_CACHE_CPU.free_add_partial] += 1
        slub.ctl[SLUB_CTL.path] = er.PATH_TO_PARTIAL


@folded
def free_turning(mem, slub, c, cpu, s, prior):
    """A slab held by no CPU got its first free object (``prior`` < 0) or has none left in use [__slab_free]."""
    elsewhere = False
    if prior < 0 and (mem.ctl[MEMCTL.slab_match] & MATCH_FREE_TO) != 0:
        elsewhere = goes_elsewhere(mem, slub, s, TO_NODE)
    if prior < 0 and slub.cache[c, KMEM_CACHE.cpu_partial] > 0 and not elsewhere:
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.cpu_partial_free] += 1
        slub.ctl[SLUB_CTL.path] = er.PATH_CPU_PARTIAL
        put_cpu_partial(mem, slub, c, cpu, s, True)
    else:
        free_to_node(mem, slub, c, cpu, s, prior)


@folded
def slab_free(mem, slub, c, cpu, s, i, f):
    """Free object ``i`` of slab ``s`` [slab_free]."""
    k = slub.kcpu[c, cpu]
    if k[f + CPU_SLAB.page] != s:
        outcome, prior = put_back(slub, c, cpu, s, i, i, 1)
        slub.ctl[SLUB_CTL.path] = er.PATH_STAYS_FROZEN if outcome == STAYS else er.PATH_STAYS
        if outcome == TURNS:
            free_turning(mem, slub, c, cpu, s, prior)
        return
    slub.link[slub.slab[s, SLUB_SLAB.base] + i] = k[f]
    k[f] = i
    k[KMEM_CACHE_CPU.free_fastpath] += 1
    slub.ctl[SLUB_CTL.path] = er.PATH_FREELIST

"""The slow paths of 2.6.25-rc8 [mm/slub.c]: a CPU slab is refilled or retired, a slab is freed into from afar.

``gfp`` is looked at only when a slab has to be allocated, as in the kernel.
"""

from fastalloc.compiler.jit import folded, internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import page_bytes
from fastalloc.kernels.alloc.page_alloc import alloc_pages, goes_on
from fastalloc.kernels.alloc.policy_hooks import goes_elsewhere
from fastalloc.kernels.alloc.policy_record import MATCH_FREE_TO, TO_HEAD
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.partial import (
    add_partial,
    crowded,
    discard_slab,
    new_slab,
    pfmemalloc_match,
    remove_partial,
)
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.linux import gfp as g


@kernel
def deactivate_slab(mem, slub, c, cpu, owner):
    """Retire CPU ``owner``'s slab (run on ``cpu``): its private objects go back one by one [deactivate_slab].

    An empty slab stays, at the tail, while fewer than MIN_PARTIAL slabs are partial [unfreeze_slab].
    """
    slab = slub.slab
    k = slub.kcpu[c, owner]
    s = k[KMEM_CACHE_CPU.page]
    tail = True
    if slab[s, SLUB_SLAB.freelist] >= 0:
        k[KMEM_CACHE_CPU.deactivate_remote_frees] += 1
    base = slab[s, SLUB_SLAB.base]
    i = k[KMEM_CACHE_CPU.freelist]
    while i >= 0:
        tail = False
        following = slub.link[base + i]
        slub.link[base + i] = slab[s, SLUB_SLAB.freelist]
        slab[s, SLUB_SLAB.freelist] = i
        slab[s, SLUB_SLAB.inuse] -= 1
        i = following
    k[KMEM_CACHE_CPU.freelist] = -1
    k[KMEM_CACHE_CPU.page] = -1
    slab[s, SLUB_SLAB.frozen] = 0
    if slab[s, SLUB_SLAB.inuse] > 0:
        if slab[s, SLUB_SLAB.freelist] >= 0:
            add_partial(slub, c, s, tail)
            k[KMEM_CACHE_CPU.deactivate_to_tail if tail else KMEM_CACHE_CPU.deactivate_to_head] += 1
        else:
            k[KMEM_CACHE_CPU.deactivate_full] += 1
    else:
        k[KMEM_CACHE_CPU.deactivate_empty] += 1
        if crowded(mem, slub, c, cpu, s, slub.cache[c, KMEM_CACHE.min_partial]):
            k[KMEM_CACHE_CPU.free_slab] += 1
            discard_slab(mem, slub, c, cpu, s)
        else:
            add_partial(slub, c, s, True)


@kernel
def flush_slab(mem, slub, c, cpu, owner):
    """Retire CPU ``owner``'s slab if it has one [flush_slab]."""
    if slub.kcpu[c, owner, KMEM_CACHE_CPU.page] >= 0:
        slub.kcpu[c, owner, KMEM_CACHE_CPU.cpuslab_flush] += 1
        deactivate_slab(mem, slub, c, cpu, owner)


@kernel
def get_partial(mem, slub, c, cpu, node, gfp, context):
    """The first partial slab of the node, then of a node that holds more than MIN_PARTIAL [get_partial]; -1 none.

    No look at the mask: a partial slab is given to anybody, pfmemalloc slabs of a policy that has them apart. The
    defrag test of get_any_partial always passes.
    """
    shift = mem.ctl[MEMCTL.cpu_node_shift]
    here = node if node >= 0 else cpu >> shift
    s = slub.knode[c, here, KMEM_CACHE_NODE.partial_head]
    if s < 0 and slub.ctl[SLUB_CTL.nodes] > 1 and (gfp & g.THISNODE) == 0:
        home = cpu >> shift
        for i in range(slub.ctl[SLUB_CTL.nodes]):
            other = home ^ i
            if slub.knode[c, other, KMEM_CACHE_NODE.nr_partial] > slub.cache[c, KMEM_CACHE.min_partial]:
                s = slub.knode[c, other, KMEM_CACHE_NODE.partial_head]
                break
    while s >= 0 and not pfmemalloc_match(mem, slub, s, gfp, context):
        s = slub.slab[s, SLUB_SLAB.next]
    if s >= 0:
        remove_partial(slub, c, s)
    return s


@folded
def load_freelist(slub, c, cpu, s):
    """Take slab ``s`` over for ``cpu``: its first free object is the result, the rest the private list."""
    slab = slub.slab
    i = slab[s, SLUB_SLAB.freelist]
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.freelist] = slub.link[slab[s, SLUB_SLAB.base] + i]
    slab[s, SLUB_SLAB.freelist] = -1
    slab[s, SLUB_SLAB.inuse] = slab[s, SLUB_SLAB.objects]
    return (s << st.HANDLE_SHIFT) | i


@kernel
def slab_alloc_2_6_25(mem, slub, c, cpu, node, gfp, context):
    """Refill from the CPU slab's own list, the partial list, or a new slab [__slab_alloc]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    s = k[KMEM_CACHE_CPU.page]
    if s >= 0:
        if (node < 0 or slab[s, SLUB_SLAB.node] == node) and pfmemalloc_match(mem, slub, s, gfp, context):
            k[KMEM_CACHE_CPU.alloc_refill] += 1
            if slab[s, SLUB_SLAB.freelist] >= 0:
                k[KMEM_CACHE_CPU.alloc_slowpath] += 1
                slub.ctl[SLUB_CTL.path] = er.PATH_CPU_SLAB
                return load_freelist(slub, c, cpu, s)
        deactivate_slab(mem, slub, c, cpu, cpu)
    s = get_partial(mem, slub, c, cpu, node, gfp, context)
    if s >= 0:
        k[KMEM_CACHE_CPU.alloc_from_partial] += 1
        slub.ctl[SLUB_CTL.path] = er.PATH_PARTIAL
    else:
        s = new_slab(mem, slub, c, cpu, node, gfp, context)
        if s < 0:
            final = mem.ctl[MEMCTL.model] != st.MODEL_ZONES or not goes_on(gfp, context)
            if slub.cache[c, KMEM_CACHE.fallback] != 0 and (gfp & g.NORETRY) == 0 and final:
                order = 0
                while (page_bytes(mem) << order) < slub.cache[c, KMEM_CACHE.objsize]:
                    order += 1
                pfn = alloc_pages(mem, cpu, node, gfp | g.COMP, order, context)
                if pfn >= 0:
                    slub.ctl[SLUB_CTL.path] = er.PATH_PAGES
                    slub.ctl[SLUB_CTL.whole] += 1 << order
                    return st.PAGE_HANDLE | (order << st.PAGE_HANDLE_ORDER_SHIFT) | pfn
            slub.ctl[SLUB_CTL.path] = er.PATH_REFUSED
            return st.NO_OBJECT
        k[KMEM_CACHE_CPU.alloc_slab] += 1
        slub.ctl[SLUB_CTL.path] = er.PATH_NEW_SLAB
    slab[s, SLUB_SLAB.frozen] = 1 + cpu
    k[KMEM_CACHE_CPU.page] = s
    k[KMEM_CACHE_CPU.alloc_slowpath] += 1
    return load_freelist(slub, c, cpu, s)


@kernel
def grow_slab(mem, slub, c, cpu, gfp, context):
    """Allocate a slab and make it the CPU's, whatever is at hand: its first object, or NO_OBJECT [2.6.25 rules]."""
    s = new_slab(mem, slub, c, cpu, -1, gfp, context)
    if s < 0:
        slub.ctl[SLUB_CTL.path] = er.PATH_REFUSED
        return st.NO_OBJECT
    k = slub.kcpu[c, cpu]
    if k[KMEM_CACHE_CPU.page] >= 0:
        deactivate_slab(mem, slub, c, cpu, cpu)
    slub.slab[s, SLUB_SLAB.frozen] = 1 + cpu
    k[KMEM_CACHE_CPU.page] = s
    k[KMEM_CACHE_CPU.alloc_slab] += 1
    k[KMEM_CACHE_CPU.alloc_slowpath] += 1
    slub.ctl[SLUB_CTL.path] = er.PATH_NEW_SLAB
    return load_freelist(slub, c, cpu, s)


@folded
def list_turned(mem, slub, c, cpu, s):
    """A slab that was full goes to the tail of its node's list."""
    tail = True
    if (mem.ctl[MEMCTL.slab_match] & MATCH_FREE_TO) != 0:
        tail = not goes_elsewhere(mem, slub, s, TO_HEAD)
    add_partial(slub, c, s, tail)
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.free_add_partial] += 1
    slub.ctl[SLUB_CTL.path] = er.PATH_TO_PARTIAL


@internal
def free_turning(mem, slub, c, cpu, s, prior):
    """A slab held by no CPU got its first free object (``prior`` < 0) or has none left in use [__slab_free].

    An emptied slab goes back at once, or where KMEM_CACHE.keep_empty partial ones are.
    """
    out_of_line()
    k = slub.kcpu[c, cpu]
    if slub.slab[s, SLUB_SLAB.inuse] == 0 and crowded(mem, slub, c, cpu, s, slub.cache[c, KMEM_CACHE.keep_empty]):
        slub.ctl[SLUB_CTL.path] = er.PATH_GIVEN_BACK
        if prior >= 0:
            remove_partial(slub, c, s)
            k[KMEM_CACHE_CPU.free_remove_partial] += 1
            slub.ctl[SLUB_CTL.path] = er.PATH_OFF_PARTIAL
        k[KMEM_CACHE_CPU.free_slab] += 1
        discard_slab(mem, slub, c, cpu, s)
    elif prior < 0:
        list_turned(mem, slub, c, cpu, s)


@folded
def slab_turned(mem, slub, c, cpu, s, prior):
    """:func:`free_turning`, with what most of them are in the caller."""
    if prior < 0 and slub.slab[s, SLUB_SLAB.inuse] > 0:
        list_turned(mem, slub, c, cpu, s)
    else:
        free_turning(mem, slub, c, cpu, s, prior)

"""Objects straight from slabs in Linux 7.2 and 7.3 [mm/slub.c]: no CPU slab, only the partial lists of the nodes.

A refill takes whole free lists and gives the last one's surplus back; a single object leaves its slab where it is; a
flush gives each slab its objects as one chain. ``out`` is an array of handles (of a sheaf, or a caller's), ``at`` the
place from which on it is filled. The dice that keep a CPU off other nodes' lists always say yes.
"""

import numpy as np

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub.partial import (
    add_partial,
    crowded,
    discard_slab,
    new_slab,
    pfmemalloc_match,
    remove_partial,
)
from fastalloc.kernels.alloc.slub.state import LOOKAHEAD
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.linux import gfp as g

# Paths of the golden cases.
FROM_SLAB = 5
FROM_NEW_SLAB = 6
TO_SLAB = 7
SLAB_WENT = 9


@folded
def refill_from_node(mem, slub, c, n, gfp, context, out, at, wanted):
    """Whole free lists from the head of node ``n``'s list on, the last slab's surplus to the tail; how many objects
    [get_partial_node_bulk, __refill_objects_node, __slab_try_return_freelist]."""
    s = slub.knode[c, n, KMEM_CACHE_NODE.partial_head]
    if s < 0:
        return 0
    return refill_from_listed(mem, slub, c, n, gfp, context, out, at, wanted)


@internal
def refill_from_listed(mem, slub, c, n, gfp, context, out, at, wanted):
    """:func:`refill_from_node`, whose list is not empty."""
    out_of_line()
    slab = slub.slab
    got = 0
    s = slub.knode[c, n, KMEM_CACHE_NODE.partial_head]
    slub.knode[c, n, KMEM_CACHE_NODE.list_locks] += 1
    while s >= 0 and got < wanted:
        following = slab[s, SLUB_SLAB.next]
        if pfmemalloc_match(mem, slub, s, gfp, context):
            remove_partial(slub, c, s)
            base = slab[s, SLUB_SLAB.base]
            i = slab[s, SLUB_SLAB.freelist]
            before = got
            while i >= 0 and got < wanted:
                out[at + got] = (s << st.HANDLE_SHIFT) | i
                got += 1
                i = slub.link[base + i]
            slab[s, SLUB_SLAB.freelist] = i
            slab[s, SLUB_SLAB.inuse] += got - before
            if i >= 0:
                add_partial(slub, c, s, True)
                slub.knode[c, n, KMEM_CACHE_NODE.list_locks] += 1
        s = following
    return got


@internal
def take_from_new_slab(slub, c, s, out, at, wanted):
    """The first objects of a new slab; with some left it goes to the head of the list [alloc_from_new_slab]."""
    out_of_line()
    slab = slub.slab
    count = min(wanted, slab[s, SLUB_SLAB.objects])
    for i in range(count):
        out[at + i] = (s << st.HANDLE_SHIFT) | i
    slab[s, SLUB_SLAB.inuse] = count
    slab[s, SLUB_SLAB.freelist] = -1
    if count < slab[s, SLUB_SLAB.objects]:
        slab[s, SLUB_SLAB.freelist] = count
        add_partial(slub, c, s, False)
        slub.knode[c, slab[s, SLUB_SLAB.node], KMEM_CACHE_NODE.list_locks] += 1
    return count


@internal
def counted_new_slab(mem, slub, c, cpu, node, gfp, context):
    """A new slab, counted and stamped with the operation that allocates it; its record, or -1."""
    s = new_slab(mem, slub, c, cpu, node, gfp, context)
    if s >= 0:
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.alloc_slab] += 1
        slub.slab[s, SLUB_SLAB.count] = slub.ctl[SLUB_CTL.operation]
    return s


@folded
def refill_from_lists(mem, slub, c, cpu, gfp, context, out, at, wanted):
    """Up to ``wanted`` objects from the local list and lists of other nodes that can spare slabs; how many
    [refill_objects]."""
    home = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    got = refill_from_node(mem, slub, c, home, gfp, context, out, at, wanted)
    if got < wanted and slub.ctl[SLUB_CTL.nodes] > 1:
        for i in range(slub.ctl[SLUB_CTL.nodes]):
            n = home ^ i
            if slub.knode[c, n, KMEM_CACHE_NODE.nr_partial] > slub.cache[c, KMEM_CACHE.min_partial]:
                got += refill_from_node(mem, slub, c, n, gfp, context, out, at + got, wanted - got)
                if got >= wanted:
                    break
    return got


@folded
def refill_from_new_slabs(mem, slub, c, cpu, gfp, context, out, at, wanted):
    """Up to ``wanted`` objects out of new slabs of the local node; how many [refill_objects, alloc_from_new_slab]."""
    home = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    got = 0
    while got < wanted:
        s = counted_new_slab(mem, slub, c, cpu, home, gfp, context)
        if s < 0:
            break
        got += take_from_new_slab(slub, c, s, out, at + got, wanted - got)
    return got


@internal
def refill_objects(mem, slub, c, cpu, gfp, context, out, at, wanted):
    """Up to ``wanted`` objects, from the lists, then out of new slabs; how many [refill_objects]."""
    out_of_line()
    got = refill_from_lists(mem, slub, c, cpu, gfp, context, out, at, wanted)
    return got + refill_from_new_slabs(mem, slub, c, cpu, gfp, context, out, at + got, wanted - got)


@folded
def get_from_partial_node(mem, slub, c, n, gfp, context):
    """One object of the first slab of the list that may be used, which stays where it is while it has more; a handle,
    or NO_OBJECT [get_from_partial_node]."""
    s = slub.knode[c, n, KMEM_CACHE_NODE.partial_head]
    if s < 0:
        return np.int64(st.NO_OBJECT)
    return get_from_listed(mem, slub, c, n, gfp, context)


@internal
def get_from_listed(mem, slub, c, n, gfp, context):
    """:func:`get_from_partial_node`, whose list is not empty."""
    out_of_line()
    slab = slub.slab
    s = slub.knode[c, n, KMEM_CACHE_NODE.partial_head]
    slub.knode[c, n, KMEM_CACHE_NODE.list_locks] += 1
    while s >= 0 and not pfmemalloc_match(mem, slub, s, gfp, context):
        s = slab[s, SLUB_SLAB.next]
    if s < 0:
        return np.int64(st.NO_OBJECT)
    i = slab[s, SLUB_SLAB.freelist]
    following = slub.link[slab[s, SLUB_SLAB.base] + i]
    slab[s, SLUB_SLAB.freelist] = following
    slab[s, SLUB_SLAB.inuse] += 1
    if following < 0:
        remove_partial(slub, c, s)
    return np.int64((s << st.HANDLE_SHIFT) | i)


@folded
def slab_alloc_once(mem, slub, c, cpu, node, gfp, context):
    """One object from the lists, else from a new slab; a handle, or NO_OBJECT [get_from_partial, new_slab]."""
    home = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    handle = get_from_partial_node(mem, slub, c, node if node >= 0 else home, gfp, context)
    if handle < 0 and slub.ctl[SLUB_CTL.nodes] > 1 and (node < 0 or (gfp & g.THISNODE) == 0):
        for i in range(slub.ctl[SLUB_CTL.nodes]):
            n = home ^ i
            if slub.knode[c, n, KMEM_CACHE_NODE.nr_partial] > slub.cache[c, KMEM_CACHE.min_partial]:
                handle = get_from_partial_node(mem, slub, c, n, gfp, context)
                if handle >= 0:
                    break
    if handle >= 0:
        return handle
    s = counted_new_slab(mem, slub, c, cpu, node, gfp, context)
    if s < 0:
        return np.int64(st.NO_OBJECT)
    slab = slub.slab
    slab[s, SLUB_SLAB.inuse] = 1
    slab[s, SLUB_SLAB.freelist] = -1
    if slab[s, SLUB_SLAB.objects] > 1:
        slab[s, SLUB_SLAB.freelist] = 1
        add_partial(slub, c, s, False)
        slub.knode[c, slab[s, SLUB_SLAB.node], KMEM_CACHE_NODE.list_locks] += 1
    return np.int64(s << st.HANDLE_SHIFT)


@internal
def slab_alloc(mem, slub, c, cpu, node, gfp, context):
    """One object without a sheaf [___slab_alloc]: a node asked for, but not insisted on, is tried alone first, without
    waiting and without HIGH."""
    out_of_line()
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.alloc_slowpath] += 1
    alone = node >= 0 and (gfp & g.THISNODE) == 0
    while True:
        mask = (gfp & g.NOMEMALLOC) | g.NOWARN | g.THISNODE if alone else gfp
        handle = slab_alloc_once(mem, slub, c, cpu, node, mask, context)
        if handle >= 0 or not alone:
            return handle
        alone = False


@internal
def slab_free_chain(mem, slub, c, cpu, s, head, tail, count):
    """``count`` linked objects in front of the list of slab ``s``; TO_SLAB or SLAB_WENT [__slab_free].

    A slab that this empties goes, uncounted slabs aside, where min_partial others are listed: it is tested before it
    would be listed itself.
    """
    out_of_line()
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    prior = slab[s, SLUB_SLAB.freelist]
    inuse = slab[s, SLUB_SLAB.inuse] - count
    slub.link[slab[s, SLUB_SLAB.base] + tail] = prior
    slab[s, SLUB_SLAB.freelist] = head
    slab[s, SLUB_SLAB.inuse] = inuse
    if prior >= 0 and inuse > 0:
        return TO_SLAB
    node = slub.knode[c, slab[s, SLUB_SLAB.node]]
    node[KMEM_CACHE_NODE.list_locks] += 1
    if prior >= 0 and slab[s, SLUB_SLAB.partial] == 0:
        return TO_SLAB
    if inuse == 0 and crowded(mem, slub, c, cpu, s, slub.cache[c, KMEM_CACHE.min_partial]):
        if prior >= 0:
            remove_partial(slub, c, s)
            k[KMEM_CACHE_CPU.free_remove_partial] += 1
        k[KMEM_CACHE_CPU.free_slab] += 1
        discard_slab(mem, slub, c, cpu, s)
        return SLAB_WENT
    if prior < 0:
        add_partial(slub, c, s, True)
        k[KMEM_CACHE_CPU.free_add_partial] += 1
    return TO_SLAB


@internal
def slab_free(mem, slub, c, cpu, handle):
    """One object back to its slab; TO_SLAB or SLAB_WENT."""
    i = handle & st.HANDLE_INDEX_MASK
    return slab_free_chain(mem, slub, c, cpu, handle >> st.HANDLE_SHIFT, i, i, 1)


@internal
def free_bulk(mem, slub, c, cpu, out, at, size):
    """``size`` objects to their slabs, from the end of the array, a chain a slab; ``out`` is put in another order
    [__kmem_cache_free_bulk, build_detached_freelist]."""
    out_of_line()
    while size > 0:
        size -= 1
        handle = out[at + size]
        s = handle >> st.HANDLE_SHIFT
        base = slub.slab[s, SLUB_SLAB.base]
        tail = handle & st.HANDLE_INDEX_MASK
        head = tail
        count = 1
        same = size
        misses = LOOKAHEAD
        j = size
        while j > 0:
            j -= 1
            other = out[at + j]
            if other >> st.HANDLE_SHIFT == s:
                i = other & st.HANDLE_INDEX_MASK
                slub.link[base + i] = head
                head = i
                count += 1
                same -= 1
                out[at + j] = out[at + same]
                out[at + same] = other
                continue
            misses -= 1
            if misses == 0:
                break
        size = same
        slab_free_chain(mem, slub, c, cpu, s, head, tail, count)

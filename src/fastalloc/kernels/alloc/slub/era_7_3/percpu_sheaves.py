"""SLUB of Linux 7.2 and 7.3 [mm/slub.c]: percpu sheaves before the slabs of every cache; 7.0 and 7.1 were not read.

Each CPU has a main sheaf, a stack that serves and takes objects, and at times a spare one; a barn a node keeps full
and empty ones. Sheaves are kmalloc'ed objects of the same machine, and so an allocation or a free may need another one
inside: :func:`sheaf_call` calls itself.

Not modelled: trylocks that fail, interrupts and migration in the middle, kmalloc_nolock, slab_strict_numa.
"""

import numpy as np

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import page_bytes
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.policy_hooks import goes_elsewhere
from fastalloc.kernels.alloc.policy_record import MATCH_FREE_TO, MATCH_PFMEMALLOC, TO_SLAB
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.barn import (
    EMPTY,
    FULL,
    barn_get,
    barn_put,
    drop_sheaf,
    exchange_for_full,
    new_sheaf,
    pop_object,
    push_object,
    staying_objects,
    swap_sheaves,
    wanted_objects,
)
from fastalloc.kernels.alloc.slub.era_7_3 import node_lists as nl
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
)
from fastalloc.linux import gfp as g

# Paths of the golden cases, those past the sheaves are in node_lists.
FROM_MAIN, FROM_SPARE, FROM_BARN, FROM_REFILL = 1, 2, 3, 4
NO_PATH = 0  # none of them has an object, or room
TO_MAIN, TO_SPARE, TO_BARN_EMPTY, TO_NEW, TO_FLUSHED_SPARE, TO_SAME_MAIN = 1, 2, 3, 4, 5, 6

# What sheaf_call is to do.
ALLOC, ALLOC_NO_RECURSE, FREE, FREE_TO_PCS, FREE_TO_SLAB, NEW_SHEAF, FREE_SHEAF = range(7)
OWN_SOURCE, PAGES = -1, -2  # where NEW_SHEAF has memory from, in place of a node: the usual cache, pages, or a cache
OBJCGS_CLEAR_MASK = g.NOFAIL | g.THISNODE | g.COMP  # bits of a caller's mask that a sheaf is not had with


@folded
def can_free_to_pcs(rules, slub, s, n):
    """Whether a sheaf of node ``n`` takes objects of slab ``s``: not another node's, not the reserves'
    [can_free_to_pcs]. ``rules``: MEMCTL.slab_match."""
    return slub.slab[s, SLUB_SLAB.node] == n and (
        (rules & MATCH_PFMEMALLOC) == 0 or slub.slab[s, SLUB_SLAB.depth] != DEPTH.none
    )


@folded
def goes_to_sheaf(mem, slub, s, n):
    """:func:`can_free_to_pcs`, and a user's policy does not send it elsewhere."""
    rules = mem.ctl[MEMCTL.slab_match]
    if not can_free_to_pcs(rules, slub, s, n):
        return False
    return (rules & MATCH_FREE_TO) == 0 or not goes_elsewhere(mem, slub, s, TO_SLAB)


@internal
def flush_unused(mem, slub, c, cpu, h):
    """All objects of a sheaf that no CPU uses to the slabs [sheaf_flush_unused]."""
    size = slub.ctl[h + SHEAF.size]
    if size == 0:
        return
    slub.ctl[h + SHEAF.size] = 0
    nl.free_bulk(mem, slub, c, cpu, slub.ctl, h + SHEAF.objects[0], size)
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_flush] += size


@internal
def flush_main(mem, slub, c, cpu):
    """The main sheaf's objects to the slabs, by batches from its top [sheaf_flush_main]."""
    flush_full(mem, slub, c, cpu, slub.kcpu[c, cpu, KMEM_CACHE_CPU.main], 0)


@internal
def flush_full(mem, slub, c, cpu, h, staying):
    """The objects of a full sheaf above the first ``staying`` to the slabs, by batches from its top
    [sheaf_flush_main]."""
    while slub.ctl[h + SHEAF.size] > staying:
        size = slub.ctl[h + SHEAF.size]
        batch = min(size - staying, er.PCS_BATCH_MAX)
        slub.ctl[h + SHEAF.size] = size - batch
        nl.free_bulk(mem, slub, c, cpu, slub.ctl, h + SHEAF.objects[size - batch], batch)
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_flush] += batch


@folded
def refill_sheaf(mem, slub, c, cpu, h, gfp, context, wanted):
    """Fill sheaf ``h`` to ``wanted`` objects from the slabs; whether it holds them [refill_sheaf]."""
    size = slub.ctl[h + SHEAF.size]
    missing = wanted - size
    if missing <= 0:
        return True
    got = nl.refill_objects(mem, slub, c, cpu, gfp, context, slub.ctl, h + SHEAF.objects[size], missing)
    slub.ctl[h + SHEAF.size] = size + got
    slub.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_refill] += got
    return got == missing


@internal
def sheaf_with_objects(slub, c, n, k):
    """A main sheaf with objects from what the CPU and the barn have: FROM_SPARE, FROM_BARN or NO_PATH
    [__pcs_replace_empty_main]."""
    spare = k[KMEM_CACHE_CPU.spare]
    if spare >= 0 and slub.ctl[spare + SHEAF.size] > 0:
        swap_sheaves(k, KMEM_CACHE_CPU.main)
        return FROM_SPARE
    if exchange_for_full(slub, c, n, k, KMEM_CACHE_CPU.main):
        return FROM_BARN
    k[KMEM_CACHE_CPU.barn_get_fail] += 1
    return NO_PATH


@internal
def empty_sheaf_at_hand(slub, c, n, k):
    """The spare sheaf, which is empty, or the barn's first empty one, -1 none."""
    h = k[KMEM_CACHE_CPU.spare]
    if h >= 0:
        k[KMEM_CACHE_CPU.spare] = -1
        return h
    return barn_get(slub, c, n, EMPTY)


@internal
def install_full(slub, c, n, k, h):
    """Put the refilled sheaf ``h`` to use. While it was filled another may have been put to use: then it becomes the
    spare one, or goes to the barn [__pcs_replace_empty_main]."""
    main = k[KMEM_CACHE_CPU.main]
    spare = k[KMEM_CACHE_CPU.spare]
    if slub.ctl[main + SHEAF.size] == 0:
        if spare < 0:
            k[KMEM_CACHE_CPU.spare] = main
        else:
            barn_put(slub, c, n, main, EMPTY)
        k[KMEM_CACHE_CPU.main] = h
    elif spare < 0:
        k[KMEM_CACHE_CPU.spare] = h
    elif slub.ctl[spare + SHEAF.size] == 0:
        barn_put(slub, c, n, spare, EMPTY)
        k[KMEM_CACHE_CPU.spare] = h
    else:
        barn_put(slub, c, n, h, FULL)
        k[KMEM_CACHE_CPU.barn_put] += 1


@internal
def is_full(slub, h):
    """Whether sheaf ``h`` has no room."""
    return slub.ctl[h + SHEAF.size] >= slub.ctl[h + SHEAF.capacity]


@internal
def room_at_hand(mem, slub, c, cpu, k):
    """A main sheaf with room from what the CPU and the barn have: how it was found, NO_PATH: a new sheaf is needed
    [__pcs_replace_full_main]."""
    out_of_line()
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    spare = k[KMEM_CACHE_CPU.spare]
    if spare >= 0:
        if not is_full(slub, spare):
            swap_sheaves(k, KMEM_CACHE_CPU.main)
            return TO_SPARE
        if slub.knode[c, n, KMEM_CACHE_NODE.nr_full] >= slub.cache[c, KMEM_CACHE.max_full]:
            k[KMEM_CACHE_CPU.barn_put_fail] += 1
            k[KMEM_CACHE_CPU.spare] = -1
            staying = staying_objects(mem, slub, c, cpu, spare)
            if staying > 0:
                flush_full(mem, slub, c, cpu, spare, staying)
            else:
                flush_unused(mem, slub, c, cpu, spare)
            install_empty(slub, c, n, k, spare)
            return TO_FLUSHED_SPARE
    h = barn_get(slub, c, n, EMPTY)
    if h < 0:
        return NO_PATH
    if spare < 0:
        k[KMEM_CACHE_CPU.spare] = k[KMEM_CACHE_CPU.main]
    else:
        barn_put(slub, c, n, k[KMEM_CACHE_CPU.main], FULL)
        slub.knode[c, n, KMEM_CACHE_NODE.barn_locks] -= 1  # exchanged under one lock
        k[KMEM_CACHE_CPU.barn_put] += 1
    k[KMEM_CACHE_CPU.main] = h
    return TO_BARN_EMPTY


@internal
def install_empty(slub, c, n, k, h):
    """Put an empty sheaf to use; its own memory may have come out of the main one meanwhile
    [__pcs_install_empty_sheaf]."""
    if k[KMEM_CACHE_CPU.spare] < 0:
        k[KMEM_CACHE_CPU.spare] = k[KMEM_CACHE_CPU.main]
        k[KMEM_CACHE_CPU.main] = h
    elif not is_full(slub, k[KMEM_CACHE_CPU.main]):
        barn_put(slub, c, n, h, EMPTY)
    elif not is_full(slub, k[KMEM_CACHE_CPU.spare]):
        swap_sheaves(k, KMEM_CACHE_CPU.main)
        barn_put(slub, c, n, h, EMPTY)
    else:
        barn_put(slub, c, n, k[KMEM_CACHE_CPU.main], FULL)
        k[KMEM_CACHE_CPU.barn_put] += 1
        k[KMEM_CACHE_CPU.main] = h


@internal
def sheaf_pages(mem, cpu, gfp, context, capacity):
    """Pages for a sheaf beyond the largest kmalloc cache: a page handle, or NO_OBJECT."""
    order = 0
    while (page_bytes(mem) << order) < er.SHEAF_HEADER + 8 * capacity:
        order += 1
    pfn = alloc_pages(mem, cpu, -1, gfp | g.COMP, order, context)
    if pfn < 0:
        return st.NO_OBJECT
    return st.PAGE_HANDLE | (order << st.PAGE_HANDLE_ORDER_SHIFT) | pfn


@internal
def sheaf_call(mem, slub, what, c, cpu, node, gfp, context, thing):
    """An operation of cache ``c`` that may need, or free, the memory of a sheaf: one function, for it calls itself.

    ALLOC : an object's handle, or NO_OBJECT [slab_alloc_node, alloc_from_pcs]. ALLOC_NO_RECURSE makes no sheaf for it
        [SLAB_ALLOC_NO_RECURSE].
    FREE : the object of handle ``thing`` [slab_free]; FREE_TO_PCS: into a sheaf [free_to_pcs]; FREE_TO_SLAB: past them.
    NEW_SHEAF : an empty sheaf, -1 when its memory cannot be had [__alloc_empty_sheaf]; ``thing``: its capacity.
        ``node`` names the cache of its memory, or is OWN_SOURCE or PAGES.
    FREE_SHEAF : of the empty sheaf ``thing`` [free_empty_sheaf].
    """
    out_of_line()
    ctl = slub.ctl
    k = slub.kcpu[c, cpu]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    none = np.int64(-1)
    if FREE <= what <= FREE_TO_SLAB:
        main = k[KMEM_CACHE_CPU.main]
        if what == FREE and main >= 0 and goes_to_sheaf(mem, slub, thing >> st.HANDLE_SHIFT, n):
            what = np.int64(FREE_TO_PCS)
        if what != FREE_TO_PCS:
            path = np.int64(nl.slab_free(mem, slub, c, cpu, thing))
            k[KMEM_CACHE_CPU.free_slowpath] += 1
        else:
            path = np.int64(TO_MAIN)
            if is_full(slub, main):
                path = np.int64(room_at_hand(mem, slub, c, cpu, k))
                if path == NO_PATH:
                    capacity = slub.cache[c, KMEM_CACHE.sheaf_capacity]
                    had_spare = k[KMEM_CACHE_CPU.spare] >= 0
                    mask = np.int64(g.NOWARN)
                    source = np.int64(OWN_SOURCE)
                    h = sheaf_call(mem, slub, np.int64(NEW_SHEAF), c, cpu, source, mask, context, capacity)
                    if h < 0:
                        k[KMEM_CACHE_CPU.barn_put_fail] += had_spare
                        full = k[KMEM_CACHE_CPU.main]
                        flush_full(mem, slub, c, cpu, full, staying_objects(mem, slub, c, cpu, full))
                    else:
                        install_empty(slub, c, n, k, h)
                    path = np.int64(TO_SAME_MAIN if k[KMEM_CACHE_CPU.main] == main else TO_NEW)
            push_object(ctl, k[KMEM_CACHE_CPU.main], thing)
            k[KMEM_CACHE_CPU.free_fastpath] += 1
        ctl[SLUB_CTL.path] = path
        return none
    if what == NEW_SHEAF:
        memory = none
        source = np.int64(slub.cache[c, KMEM_CACHE.sheaf_cache])
        if node >= 0:
            source = node
        mask = np.int64((gfp | g.ZERO) & ~OBJCGS_CLEAR_MASK)
        if node == PAGES:
            memory = np.int64(sheaf_pages(mem, cpu, mask, context, thing))
            if memory < 0:
                return none
        elif source >= 0:
            how = np.int64(ALLOC_NO_RECURSE if slub.cache[c, KMEM_CACHE.is_kmalloc] != 0 else ALLOC)
            memory = sheaf_call(mem, slub, how, source, cpu, none, mask, context, none)
            if memory < 0:
                return none
        return np.int64(new_sheaf(slub, k, thing, memory))
    if what == FREE_SHEAF:
        memory = np.int64(drop_sheaf(slub, k, thing))
        if memory >= st.PAGE_HANDLE:
            order = (memory >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF
            free_pages(mem, cpu, memory & ((1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1), order)
        elif memory >= 0:
            source = np.int64(slub.slab[memory >> st.HANDLE_SHIFT, SLUB_SLAB.cache])
            sheaf_call(mem, slub, np.int64(FREE), source, cpu, none, none, context, memory)
        return none
    path = np.int64(NO_PATH)
    if node >= 0 and node != n:
        k[KMEM_CACHE_CPU.alloc_node_mismatch] += 1
    elif k[KMEM_CACHE_CPU.main] >= 0:
        path = np.int64(FROM_MAIN)
        if ctl[k[KMEM_CACHE_CPU.main] + SHEAF.size] == 0:
            path = np.int64(sheaf_with_objects(slub, c, n, k))
            blocked = slub.cache[c, KMEM_CACHE.refill] == er.REFILL_BLOCKING and (gfp & g.WAIT) == 0
            if path == NO_PATH and not blocked:
                h = np.int64(empty_sheaf_at_hand(slub, c, n, k))
                if h < 0 and what != ALLOC_NO_RECURSE:
                    capacity = slub.cache[c, KMEM_CACHE.sheaf_capacity]
                    source = np.int64(OWN_SOURCE)
                    if slub.cache[c, KMEM_CACHE.sheaf_cache] < 0:
                        h = np.int64(new_sheaf(slub, k, capacity, none))
                    else:
                        h = sheaf_call(mem, slub, np.int64(NEW_SHEAF), c, cpu, source, gfp, context, capacity)
                # Objects from below the watermarks must not end up where anybody may take them.
                wanted = np.int64(0)
                if h >= 0:
                    wanted = np.int64(wanted_objects(mem, slub, c, cpu, h, gfp, context))
                if h >= 0 and refill_sheaf(mem, slub, c, cpu, h, gfp | g.NOMEMALLOC | g.NOWARN, context, wanted):
                    install_full(slub, c, n, k, h)
                    path = np.int64(FROM_REFILL)
                elif h >= 0:
                    if ctl[h + SHEAF.size] > 0:
                        flush_unused(mem, slub, c, cpu, h)
                    if ctl[h + SHEAF.memory] < 0:
                        drop_sheaf(slub, k, h)
                    else:
                        sheaf_call(mem, slub, np.int64(FREE_SHEAF), c, cpu, none, none, context, h)
        main = k[KMEM_CACHE_CPU.main]
        if path != NO_PATH:
            top = ctl[main + SHEAF.objects[ctl[main + SHEAF.size] - 1]]
            if node >= 0 and slub.slab[top >> st.HANDLE_SHIFT, SLUB_SLAB.node] != node:
                k[KMEM_CACHE_CPU.alloc_node_mismatch] += 1
                path = np.int64(NO_PATH)
    if path != NO_PATH:
        handle = np.int64(pop_object(ctl, k[KMEM_CACHE_CPU.main]))
        k[KMEM_CACHE_CPU.alloc_fastpath] += 1
    else:
        handle = np.int64(nl.slab_alloc(mem, slub, c, cpu, node, gfp, context))
        if handle >= 0:
            is_new = slub.slab[handle >> st.HANDLE_SHIFT, SLUB_SLAB.count] == np.int32(ctl[SLUB_CTL.operation])
            path = np.int64(nl.FROM_NEW_SLAB if is_new else nl.FROM_SLAB)
    ctl[SLUB_CTL.path] = path
    return handle


@internal
def alloc_empty_sheaf(mem, slub, c, cpu, gfp, context, capacity):
    """A new sheaf of ``capacity`` objects, -1 when its memory cannot be had [__alloc_empty_sheaf]."""
    out_of_line()
    return sheaf_call(mem, slub, np.int64(NEW_SHEAF), c, cpu, np.int64(OWN_SOURCE), gfp, context, capacity)


@internal
def free_empty_sheaf(mem, slub, c, cpu, h):
    """Give an empty sheaf's memory back [free_empty_sheaf]."""
    out_of_line()
    context = mem.ctl[MEMCTL.context]
    sheaf_call(mem, slub, np.int64(FREE_SHEAF), c, cpu, np.int64(-1), np.int64(0), context, h)


@internal
def flush_and_free(mem, slub, c, cpu, h):
    """A sheaf is of no use any more."""
    flush_unused(mem, slub, c, cpu, h)
    free_empty_sheaf(mem, slub, c, cpu, h)

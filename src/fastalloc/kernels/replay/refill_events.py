"""Refills of sheaves in their steps, where a trace tells when each was [mm/slub.c: __pcs_replace_empty_main].

A task that finds no object on its CPU takes an empty sheaf, lets go of the CPU's lock, fills the sheaf from the lists
and out of new slabs, and only then puts it to use: others of the CPU may refill sheaves meanwhile. The sheaf of a
refill under way is in ``handle``, as an object that no allocation gives out.
"""

import numpy as np

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc.slub.era_7_3 import node_lists as nl
from fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves import (
    alloc_empty_sheaf,
    empty_sheaf_at_hand,
    flush_and_free,
    install_full,
)
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_SLAB
from fastalloc.linux import gfp as g

OP_BEGIN_REFILL = 17  # an allocation looks for objects here; of ``amount`` 1 in the lists of slabs too
OP_REFILL_LISTS = 18  # it looks in the lists
OP_REFILL_NEW = 19  # it allocates a slab, the first one of ``amount``, 0 a further one or not known
OP_INSTALL = 20  # it puts the sheaf to use
REFILL = g.GFP_KERNEL | g.NOMEMALLOC | g.NOWARN


@internal
def fill_from_lists(mem, slub_, c, cpu, h):
    """Fill sheaf ``h`` from the lists as far as they go."""
    size = slub_.ctl[h + SHEAF.size]
    missing = slub_.ctl[h + SHEAF.capacity] - size
    got = nl.refill_from_lists(mem, slub_, c, cpu, REFILL, 0, slub_.ctl, h + SHEAF.objects[size], missing)
    slub_.ctl[h + SHEAF.size] = size + got
    slub_.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_refill] += got


@internal
def fill_before_new_slabs(mem, slub_, c, cpu, h, allocated):
    """What ``allocated`` new slabs (0 not known) do not hold sheaf ``h`` had from the lists: it looked there before the
    first one, though later than it began."""
    ctl = slub_.ctl
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    size = ctl[h + SHEAF.size]
    capacity = ctl[h + SHEAF.capacity]
    before = size
    s = slub_.knode[c, n, KMEM_CACHE_NODE.partial_head]
    while allocated > 0 and capacity - size > allocated * slub_.cache[c, KMEM_CACHE.objects] and s >= 0:
        free = slub_.slab[s, SLUB_SLAB.objects] - slub_.slab[s, SLUB_SLAB.inuse]
        got = nl.refill_from_node(mem, slub_, c, n, REFILL, 0, ctl, h + SHEAF.objects[size], min(free, capacity - size))
        size += got
        s = slub_.knode[c, n, KMEM_CACHE_NODE.partial_head] if got > 0 else -1
    ctl[h + SHEAF.size] = size
    slub_.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_refill] += size - before


@internal
def fill_from_new_slabs(mem, slub_, c, cpu, h):
    """Fill sheaf ``h`` out of new slabs."""
    size = slub_.ctl[h + SHEAF.size]
    missing = slub_.ctl[h + SHEAF.capacity] - size
    got = nl.refill_from_new_slabs(mem, slub_, c, cpu, REFILL, 0, slub_.ctl, h + SHEAF.objects[size], missing)
    slub_.ctl[h + SHEAF.size] = size + got
    slub_.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_refill] += got


@internal
def fill_from_one_slab(mem, slub_, c, cpu, h):
    """Fill sheaf ``h`` out of one new slab, as far as it goes."""
    size = slub_.ctl[h + SHEAF.size]
    missing = slub_.ctl[h + SHEAF.capacity] - size
    s = -1
    if missing > 0:
        s = nl.counted_new_slab(mem, slub_, c, cpu, cpu >> mem.ctl[MEMCTL.cpu_node_shift], REFILL, 0)
    if s >= 0:
        got = nl.take_from_new_slab(slub_, c, s, slub_.ctl, h + SHEAF.objects[size], missing)
        slub_.ctl[h + SHEAF.size] = size + got
        slub_.kcpu[c, cpu, KMEM_CACHE_CPU.sheaf_refill] += got


@internal
def begin_refill(mem, slub_, c, cpu):
    """An empty sheaf, where the CPU and the barn have no objects; -1 where they have, and the allocation that finds
    them fills no sheaf."""
    k = slub_.kcpu[c, cpu]
    spare = k[KMEM_CACHE_CPU.spare]
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    if k[KMEM_CACHE_CPU.main] < 0 or slub_.ctl[k[KMEM_CACHE_CPU.main] + SHEAF.size] > 0:
        return np.int64(-1)
    if (spare >= 0 and slub_.ctl[spare + SHEAF.size] > 0) or slub_.knode[c, n, KMEM_CACHE_NODE.full] >= 0:
        return np.int64(-1)
    k[KMEM_CACHE_CPU.barn_get_fail] += 1
    h = np.int64(empty_sheaf_at_hand(slub_, c, n, k))
    if h < 0:
        capacity = slub_.cache[c, KMEM_CACHE.sheaf_capacity]
        h = np.int64(alloc_empty_sheaf(mem, slub_, c, cpu, np.int64(g.GFP_KERNEL), 0, capacity))
    return h


@kernel
def refill_event(mem, slub_, handle, op, c, cpu, amount, obj):
    """One of the events above."""
    out_of_line()
    h = np.int64(handle[obj])
    if op == OP_BEGIN_REFILL:
        if h < 0:
            h = np.int64(begin_refill(mem, slub_, c, cpu))
            handle[obj] = h
            if h >= 0 and amount > 0:
                fill_from_lists(mem, slub_, c, cpu, h)
    elif h >= 0:
        if op == OP_REFILL_LISTS:
            fill_from_lists(mem, slub_, c, cpu, h)
        elif op == OP_REFILL_NEW:
            fill_before_new_slabs(mem, slub_, c, cpu, h, amount)
            fill_from_one_slab(mem, slub_, c, cpu, h)
        else:
            fill_from_new_slabs(mem, slub_, c, cpu, h)
            handle[obj] = -1
            if slub_.ctl[h + SHEAF.size] == slub_.ctl[h + SHEAF.capacity]:
                install_full(slub_, c, cpu >> mem.ctl[MEMCTL.cpu_node_shift], slub_.kcpu[c, cpu], h)
            else:
                flush_and_free(mem, slub_, c, cpu, h)

"""Sheaves, arrays of objects, and the barns that keep full and empty ones, as all eras with sheaves have them
[mm/slub.c].

A sheaf is a record in ``slub.ctl``, named by its place. Retired records are linked for reuse, the larger ones of
oversize sheaves beside those of the usual size.
"""

import numpy as np

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc.policy_hooks import about_cache, about_request, answer, note_failure, wanted
from fastalloc.kernels.alloc.policy_record import ASKED, QUESTION
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL

# The lists of a barn.
FULL = 0
EMPTY = 1


@internal
def further_record(slub, capacity):
    """A record that was not retired last: the next one that has room, or a new one; -1: there is no room for one."""
    out_of_line()
    ctl = slub.ctl
    before = -1
    h = ctl[SLUB_CTL.sheaf_spare]
    while h > 0 and ctl[h + SHEAF.room] < capacity:
        before = h
        h = ctl[h + SHEAF.next]
    if h > 0:
        ctl[before + SHEAF.next] = ctl[h + SHEAF.next]
        return h
    h = ctl[SLUB_CTL.sheaf_top] if ctl[SLUB_CTL.sheaf_top] > 0 else SLUB_CTL.width
    length = max(ctl[SLUB_CTL.sheaf_stride], SHEAF.width + capacity)
    if ctl[SLUB_CTL.sheaf_stride] == 0 or h + length > ctl.shape[0]:
        ctl[SLUB_CTL.overflow] = 1
        return -1
    ctl[SLUB_CTL.sheaf_top] = h + length
    ctl[h + SHEAF.room] = length - SHEAF.width
    return h


@internal
def new_record(slub, capacity):
    """A record for a sheaf of ``capacity`` objects, empty and held by no object; -1: there is no room for one."""
    ctl = slub.ctl
    h = ctl[SLUB_CTL.sheaf_spare]
    if h > 0 and ctl[h + SHEAF.room] >= capacity:
        ctl[SLUB_CTL.sheaf_spare] = ctl[h + SHEAF.next]
    else:
        h = further_record(slub, capacity)
        if h < 0:
            return -1
    ctl[h + SHEAF.next] = -1
    ctl[h + SHEAF.size] = 0
    ctl[h + SHEAF.capacity] = capacity
    ctl[h + SHEAF.memory] = -1
    ctl[h + SHEAF.reserve] = 0
    return h


@internal
def retire_record(ctl, h):
    """The sheaf is no more."""
    ctl[h + SHEAF.next] = ctl[SLUB_CTL.sheaf_spare]
    ctl[SLUB_CTL.sheaf_spare] = h


@internal
def new_sheaf(slub, k, capacity, memory):
    """An empty sheaf in ``memory``, -1: no room for one."""
    h = np.int64(new_record(slub, capacity))
    if h >= 0:
        slub.ctl[h + SHEAF.memory] = memory
        k[KMEM_CACHE_CPU.sheaf_alloc] += 1
    return h


@internal
def drop_sheaf(slub, k, h):
    """The empty sheaf is no more; the memory it was in."""
    k[KMEM_CACHE_CPU.sheaf_free] += 1
    retire_record(slub.ctl, h)
    return slub.ctl[h + SHEAF.memory]


@folded
def pop_object(ctl, h):
    """The last object of sheaf ``h``, which holds one."""
    size = ctl[h + SHEAF.size] - 1
    ctl[h + SHEAF.size] = size
    return ctl[h + SHEAF.objects[size]]


@folded
def push_object(ctl, h, handle):
    """Put an object into sheaf ``h``, which has room."""
    size = ctl[h + SHEAF.size]
    ctl[h + SHEAF.objects[size]] = handle
    ctl[h + SHEAF.size] = size + 1


@internal
def barn_put(slub, c, n, h, which):
    """Put sheaf ``h`` in front of a barn's list, FULL or EMPTY."""
    node = slub.knode[c, n]
    slub.ctl[h + SHEAF.next] = node[KMEM_CACHE_NODE.sheaf_list[which]]
    node[KMEM_CACHE_NODE.sheaf_list[which]] = h
    node[KMEM_CACHE_NODE.nr_sheaves[which]] += 1
    node[KMEM_CACHE_NODE.barn_locks] += 1


@internal
def barn_get(slub, c, n, which):
    """Take the first sheaf of a barn's list, -1 none, for which no lock is taken."""
    node = slub.knode[c, n]
    h = node[KMEM_CACHE_NODE.sheaf_list[which]]
    if h >= 0:
        node[KMEM_CACHE_NODE.barn_locks] += 1
        node[KMEM_CACHE_NODE.sheaf_list[which]] = slub.ctl[h + SHEAF.next]
        node[KMEM_CACHE_NODE.nr_sheaves[which]] -= 1
    return h


@internal
def swap_sheaves(k, main):
    """Exchange main and spare; ``main``: where the era has the main one, KMEM_CACHE_CPU.main or sheaf_main."""
    h = k[main]
    k[main] = k[KMEM_CACHE_CPU.spare]
    k[KMEM_CACHE_CPU.spare] = h


@internal
def exchange_for_full(slub, c, n, k, main):
    """The empty main sheaf for the first full one of the barn, whose empty list takes any number; whether there was
    one [barn_replace_empty_sheaf]. ``main`` as in :func:`swap_sheaves`."""
    full = barn_get(slub, c, n, FULL)
    if full < 0:
        return False
    k[KMEM_CACHE_CPU.barn_get] += 1
    barn_put(slub, c, n, k[main], EMPTY)
    slub.knode[c, n, KMEM_CACHE_NODE.barn_locks] -= 1  # both under one lock
    k[main] = full
    return True


@internal
def wanted_objects(mem, slub, c, cpu, h, gfp, context):
    """To how many objects a sheaf is filled that is to serve next: all that it has room for, or as a policy says."""
    if mem.ctl[MEMCTL.ask[QUESTION.refill]] == 0:
        return slub.ctl[h + SHEAF.capacity]
    return asked_refill(mem, slub, c, cpu, h, gfp, context)


@internal
def asked_refill(mem, slub, c, cpu, h, gfp, context):
    """The policy's answer, which is 1 object at least."""
    out_of_line()
    wants = wanted(mem, QUESTION.refill)
    about_request(mem, wants, gfp, context, cpu)
    about_sheaf(mem, wants, slub, c, cpu, h)
    capacity = slub.ctl[h + SHEAF.capacity]
    filled = answer(mem, QUESTION.refill, capacity, capacity)
    if filled == 0:
        note_failure(mem, QUESTION.refill, filled, capacity)
    return max(slub.ctl[h + SHEAF.size], max(1, filled))


@internal
def about_sheaf(mem, wants, slub, c, cpu, h):
    """Tell of sheaf ``h``, of its barn and of its cache."""
    n = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    about_cache(mem, wants, slub, c, n)
    told = mem.ctl[MEMCTL.asked[:]]
    told[ASKED.sheaf_size] = slub.ctl[h + SHEAF.size]
    told[ASKED.sheaf_capacity] = slub.ctl[h + SHEAF.capacity]
    told[ASKED.sheaf_full] = slub.knode[c, n, KMEM_CACHE_NODE.nr_full]
    told[ASKED.sheaf_empty] = slub.knode[c, n, KMEM_CACHE_NODE.nr_empty]


@internal
def staying_objects(mem, slub, c, cpu, h):
    """How many objects stay in a sheaf that is flushed because it is full: none, or as a policy says."""
    if mem.ctl[MEMCTL.ask[QUESTION.flush]] == 0:
        return np.int64(0)
    wants = wanted(mem, QUESTION.flush)
    about_request(mem, wants, 0, mem.ctl[MEMCTL.context], cpu)
    about_sheaf(mem, wants, slub, c, cpu, h)
    return np.int64(answer(mem, QUESTION.flush, slub.ctl[h + SHEAF.size] - 1, 0))

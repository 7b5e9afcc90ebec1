"""The common calls of Linux 7.2 and 7.3 [mm/slub.c]: what a CPU's main sheaf serves and takes at once, and the way past
it, to :func:`~fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves.sheaf_call`.

A cache of another era has no sheaf in KMEM_CACHE_CPU.main, and so nobody asks for the era here.
"""

import numpy as np

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.policy_hooks import asked_free_to, is_sent
from fastalloc.kernels.alloc.policy_record import KERNEL, MATCH_FREE_TO, TO_SLAB
from fastalloc.kernels.alloc.slub.barn import pop_object, push_object
from fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves import (
    ALLOC,
    FREE_TO_PCS,
    FREE_TO_SLAB,
    TO_MAIN,
    can_free_to_pcs,
    goes_to_sheaf,
    is_full,
    sheaf_call,
)
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, MEMCTL, SLUB_CTL


@folded
def main_serves(slub, k, node):
    """Whether the CPU's main sheaf has an object for any node, or for one where there is but one."""
    h = k[KMEM_CACHE_CPU.main]
    return h >= 0 and (node < 0 or slub.ctl[SLUB_CTL.nodes] == 1) and slub.ctl[h + SHEAF.size] > 0


@folded
def take_from_main(slub, k, node):
    """The fast path of an allocation: whether the CPU's main sheaf has an object, and the last of these, or NO_OBJECT
    [alloc_from_pcs]."""
    if main_serves(slub, k, node):
        k[KMEM_CACHE_CPU.alloc_fastpath] += 1
        return True, pop_object(slub.ctl, k[KMEM_CACHE_CPU.main])
    return False, np.int64(st.NO_OBJECT)


@folded
def slab_alloc_slow(mem, slub, c, cpu, node, gfp, context):
    """An object of cache ``c`` on ``cpu`` that the main sheaf does not give: a handle, or NO_OBJECT; ``node`` is -1 or
    the one asked for."""
    slub.ctl[SLUB_CTL.operation] += 1
    return sheaf_call(mem, slub, np.int64(ALLOC), c, cpu, node, gfp, context, np.int64(-1))


@folded
def give_to_main(mem, slub, cpu, k, s, i):
    """The fast path of a free: object ``i`` of slab ``s`` into the CPU's main sheaf, or False [free_to_pcs]. A policy
    that says where objects go is asked past it."""
    h = k[KMEM_CACHE_CPU.main]
    if h < 0:
        return False
    rules = mem.ctl[MEMCTL.slab_match]
    if (
        (rules & MATCH_FREE_TO) != 0
        or is_full(slub, h)
        or not can_free_to_pcs(rules, slub, s, cpu >> mem.ctl[MEMCTL.cpu_node_shift])
    ):
        return False
    k[KMEM_CACHE_CPU.free_fastpath] += 1
    push_object(slub.ctl, h, (s << st.HANDLE_SHIFT) | i)
    return True


@folded
def asks_free_to(mem, slub, c, cpu, s):
    """Whether a policy says where an object of slab ``s`` goes, which the CPU's main sheaf could take."""
    rules = mem.ctl[MEMCTL.slab_match]
    if slub.kcpu[c, cpu, KMEM_CACHE_CPU.main] < 0 or (rules & MATCH_FREE_TO) == 0:
        return False
    return can_free_to_pcs(rules, slub, s, cpu >> mem.ctl[MEMCTL.cpu_node_shift])


@folded
def give_asked(mem, slub, c, cpu, s, i):
    """A free for which :func:`asks_free_to`: the policy is asked."""
    k = slub.kcpu[c, cpu]
    h = k[KMEM_CACHE_CPU.main]
    mem.ctl[MEMCTL.cpu] = cpu
    given = asked_free_to(mem, slub, c, cpu >> mem.ctl[MEMCTL.cpu_node_shift], s)
    if given == KERNEL and not is_full(slub, h):
        k[KMEM_CACHE_CPU.free_fastpath] += 1
        push_object(slub.ctl, h, (s << st.HANDLE_SHIFT) | i)
    else:
        free_answered(mem, slub, c, cpu, s, i, given)


@internal
def free_answered(mem, slub, c, cpu, s, i, given):
    """Free an object of a slab whose objects sheaves take, ``given``: what the policy says, KERNEL where there is none.
    The main sheaf is full, or not to take it."""
    out_of_line()
    what = np.int64(FREE_TO_PCS)
    if given != KERNEL and is_sent(mem, slub, s, TO_SLAB, given):
        what = np.int64(FREE_TO_SLAB)
    slub.ctl[SLUB_CTL.operation] += 1
    handle = (s << st.HANDLE_SHIFT) | i
    sheaf_call(mem, slub, what, c, cpu, np.int64(-1), np.int64(0), mem.ctl[MEMCTL.context], handle)


@internal
def slab_free_slow(mem, slub, c, cpu, s, i):
    """Free object ``i`` of slab ``s`` of cache ``c`` on ``cpu``, whose main sheaf did not take it at once."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    h = k[KMEM_CACHE_CPU.main]
    handle = (s << st.HANDLE_SHIFT) | i
    what = np.int64(FREE_TO_SLAB)
    if h >= 0 and goes_to_sheaf(mem, slub, s, cpu >> mem.ctl[MEMCTL.cpu_node_shift]):
        if not is_full(slub, h):
            k[KMEM_CACHE_CPU.free_fastpath] += 1
            slub.ctl[SLUB_CTL.path] = TO_MAIN
            push_object(slub.ctl, h, handle)
            return
        what = np.int64(FREE_TO_PCS)
    slub.ctl[SLUB_CTL.operation] += 1
    sheaf_call(mem, slub, what, c, cpu, np.int64(-1), np.int64(0), mem.ctl[MEMCTL.context], handle)

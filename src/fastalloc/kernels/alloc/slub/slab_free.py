"""A free into a slab that is not the CPU's own, by the rules of 2.6.25 [mm/slub.c, __slab_free].

Caches of a later era leave at :func:`free_unasked` and :func:`free_asking`, see
:mod:`fastalloc.kernels.alloc.slub.era_switch`.
"""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc.policy_hooks import goes_elsewhere
from fastalloc.kernels.alloc.policy_record import MATCH_FREE_TO, TO_HEAD
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_switch import era_free, era_has_sheaves, era_turning
from fastalloc.kernels.alloc.slub.partial import (
    SHEAVES,
    STAYS,
    TURNS,
    add_partial,
    crowded,
    discard_slab,
    put_back,
    remove_partial,
)
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, MEMCTL, SLUB_CTL, SLUB_SLAB


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
def free_unasked(slub, c, cpu, s, i):
    """The first part of :func:`__slab_free`, and all of most frees: it asks no policy, so nobody need know the time and
    the CPU. STAYS or STAYS_LISTED; or TURNS or SHEAVES, which :func:`free_asking` goes on from, with the head of the
    slab's list before."""
    if era_has_sheaves(slub, slub.kcpu[c, cpu]):
        return SHEAVES, -1
    return put_back(slub, c, cpu, s, i, i, 1)


@folded
def free_asking(mem, slub, c, cpu, s, i, outcome, prior):
    """The rest of a free that :func:`free_unasked` left at TURNS or SHEAVES: a policy may be asked."""
    mem.ctl[MEMCTL.cpu] = cpu
    if outcome == SHEAVES:
        era_free(mem, slub, c, cpu, s, i)
    elif not era_turning(mem, slub, c, cpu, s, prior):
        if prior < 0 and slub.slab[s, SLUB_SLAB.inuse] > 0:  # most of them
            list_turned(mem, slub, c, cpu, s)
        else:
            free_turning(mem, slub, c, cpu, s, prior)


@folded
def __slab_free(mem, slub, c, cpu, s, i):
    """Free into a slab that is not this CPU's; whether a CPU holds it [__slab_free]."""
    outcome, prior = free_unasked(slub, c, cpu, s, i)
    if outcome >= TURNS:
        free_asking(mem, slub, c, cpu, s, i, outcome, prior)
    return outcome == STAYS

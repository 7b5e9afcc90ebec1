"""A free into a slab that is not the CPU's own [mm/slub.c, __slab_free].

What is not common to all eras leaves at :func:`free_unasked` and :func:`free_asking`, see
:mod:`fastalloc.kernels.alloc.slub.era_switch`.
"""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc.slub.era_switch import era_free, era_has_sheaves, era_turning
from fastalloc.kernels.alloc.slub.partial import (
    SHEAVES,
    STAYS,
    TURNS,
    put_back,
)
from fastalloc.kernels.alloc.state import MEMCTL


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
    else:
        era_turning(mem, slub, c, cpu, s, prior)


@folded
def __slab_free(mem, slub, c, cpu, s, i):
    """Free into a slab that is not this CPU's; whether a CPU holds it [__slab_free]."""
    outcome, prior = free_unasked(slub, c, cpu, s, i)
    if outcome >= TURNS:
        free_asking(mem, slub, c, cpu, s, i, outcome, prior)
    return outcome == STAYS

"""Slots, not pages, are the reserve: those of a slab that a sense buffer's request allocated are not for bios."""

from fastalloc.own import KERNEL, WHO, parameter

STATE = {"slab": ["refused"]}
lease = parameter("lease", 1000, 0, 60_000, "refusals after which a slab is everybody's")


def entitlement(who, slab, state):
    if slab.owner != WHO.sense or who == WHO.sense or who == WHO.command:
        return KERNEL
    state.slab.refused += 1
    return state.slab.refused > lease

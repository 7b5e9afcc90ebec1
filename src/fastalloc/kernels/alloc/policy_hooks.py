"""Questions that a user's own policy answers while a lane runs.

An answer is a function of the address of ``mem.ctl``: there it finds what it is told (ASKED) and its own words of
state (OWN). That of free_to, which is asked of each free, is told nothing: it gets the records' addresses. A lane holds
the answer's address, 0 where the policy leaves a question to the kernel; see ``own/compiled.py``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastalloc.compiler.jit import folded, hint, internal, out_of_line
from fastalloc.kernels.alloc.policy_record import (
    ASKED,
    KERNEL,
    OWN,
    QUESTION,
    TELLS_ALL,
    TELLS_CACHE,
    TELLS_NOW,
    TELLS_SLAB,
)
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_NODE, MEMCTL, SLUB_SLAB, ZONE

from llvmlite import ir  # isort: skip
from numba import types  # isort: skip

FAILED = -(1 << 63)  # what is answered in place of an exception
LARGEST = (1 << 63) - 1
answers: dict[int, Callable[..., int]] = {}  # by address, for interpreted kernels


def _ask(typingctx, address, ctl):
    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        function = ir.FunctionType(word, [word.as_pointer()])
        data = context.make_array(signature.args[1])(context, builder, args[1]).data
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), [data])

    return types.int64(types.int64, ctl), codegen


ask: Any = hint(_ask, lambda address, ctl: answers[address](ctl))
"""``ask(address, ctl)``: call the function at ``address``."""


def _ask_of_slab(typingctx, address, ctl, slab, cache, node, s):
    """By Numba's own convention, as a C function would be one call more."""

    def codegen(context, builder, signature, args):
        word, status = ir.IntType(64), ir.IntType(32)
        rows = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[1:5], args[1:5], strict=True)
        ]
        with builder.goto_entry_block():
            given, raised = builder.alloca(word), builder.alloca(ir.IntType(8).as_pointer())
        builder.store(raised.type.pointee(None), raised)
        kinds = [given.type, raised.type, *(row.type for row in rows), word]
        function = builder.inttoptr(args[0], ir.FunctionType(status, kinds).as_pointer())
        outcome = builder.call(function, [given, raised, *rows, args[5]])
        return builder.select(builder.icmp_signed("==", outcome, status(0)), builder.load(given), word(FAILED))

    return types.int64(types.int64, ctl, slab, cache, node, types.int64), codegen


ask_of_slab: Any = hint(_ask_of_slab, lambda address, *rows: FAILED)
"""``ask_of_slab(address, ctl, slab, cache, node, s)``: call the function at ``address``, which looks at slab ``s``, its
cache and its node's lists. Kernels that are interpreted tell TELLS_ALL instead."""


@internal
def answer(mem, question, most, otherwise):
    """The answer to ``question``, 0 to ``most``; ``otherwise`` where it is KERNEL, or where the policy failed: it is
    asked nothing more then, and the lane ends."""
    out_of_line()
    ctl = mem.ctl
    if ctl[MEMCTL.policy_failed] != 0:
        return otherwise
    ctl[MEMCTL.tests] += 1
    given = ask(ctl[MEMCTL.ask[question]], ctl)
    if given == KERNEL:
        return otherwise
    if given < 0 or given > most:
        note_failure(mem, question, given, most)
        return otherwise
    return given


@internal
def note_failure(mem, question, given, most):
    """The policy failed: the lane ends, with what it was asked and what it gave."""
    out_of_line()
    ctl = mem.ctl
    ctl[MEMCTL.policy_failed] = 1 + question
    ctl[MEMCTL.tells[QUESTION.free_to]] |= TELLS_ALL  # where it is looked whether one failed
    ctl[MEMCTL.stopped] = 1
    ctl[MEMCTL.policy_given] = given
    ctl[MEMCTL.policy_most] = most
    for i in range(ASKED.width):
        ctl[MEMCTL.policy_asked[i]] = ctl[MEMCTL.asked[i]]


@folded
def wanted(mem, question):
    """What is to be told of the question: TELLS_NOW and the like."""
    return mem.ctl[MEMCTL.tells[question]]


@folded
def about_request(mem, wants, gfp, context, cpu):
    """Tell who asks."""
    told = mem.ctl[MEMCTL.asked[:]]
    told[ASKED.who] = mem.ctl[MEMCTL.who]
    told[ASKED.gfp] = gfp
    told[ASKED.context] = context
    told[ASKED.cpu] = cpu
    if (wants & TELLS_NOW) != 0:
        tell_time(mem)


@internal
def tell_time(mem):
    """Tell how late it is."""
    out_of_line()
    hz = max(mem.ctl[MEMCTL.hz], 1)
    jiffies = mem.ctl[MEMCTL.jiffies]
    mem.ctl[MEMCTL.asked[ASKED.now]] = jiffies // hz * 1000 + jiffies % hz * 1000 // hz


@internal
def about_zone(mem, z, free):
    """Tell of a zone that would have ``free`` pages left."""
    told = mem.ctl[MEMCTL.asked[:]]
    told[ASKED.zone_id] = z
    told[ASKED.zone_free] = free
    told[ASKED.zone_min] = mem.zone[z, ZONE.min]
    told[ASKED.zone_low] = mem.zone[z, ZONE.low]
    told[ASKED.zone_high] = mem.zone[z, ZONE.high]


@folded
def about_cache(mem, wants, slub, c, n):
    """Tell of cache ``c``, its lists those of node ``n``."""
    mem.ctl[MEMCTL.asked[ASKED.cache_id]] = c
    if (wants & TELLS_CACHE) != 0:
        tell_cache(mem, slub, c, n)


@internal
def tell_cache(mem, slub, c, n):
    """Tell all of cache ``c`` but its number."""
    out_of_line()
    told = mem.ctl[MEMCTL.asked[:]]
    cache = slub.cache[c]
    told[ASKED.cache_size] = cache[KMEM_CACHE.size]
    told[ASKED.cache_objsize] = cache[KMEM_CACHE.objsize]
    told[ASKED.cache_objects] = cache[KMEM_CACHE.objects]
    told[ASKED.cache_order] = cache[KMEM_CACHE.order]
    told[ASKED.cache_pages] = cache[KMEM_CACHE.pages]
    told[ASKED.cache_min_partial] = cache[KMEM_CACHE.min_partial]
    told[ASKED.cache_partial] = slub.knode[c, n, KMEM_CACHE_NODE.nr_partial]
    told[ASKED.cache_slabs] = slub.knode[c, n, KMEM_CACHE_NODE.nr_slabs]


@folded
def about_slab(mem, wants, slub, s):
    """Tell of slab ``s`` and of its cache."""
    slab = slub.slab[s]
    about_cache(mem, wants, slub, slab[SLUB_SLAB.cache], slab[SLUB_SLAB.node])
    told = mem.ctl[MEMCTL.asked[:]]
    told[ASKED.slab_id] = s
    if (wants & TELLS_SLAB) == 0:
        return
    told[ASKED.slab_free] = slab[SLUB_SLAB.objects] - slab[SLUB_SLAB.inuse]
    told[ASKED.slab_total] = slab[SLUB_SLAB.objects]
    told[ASKED.slab_owner] = slab[SLUB_SLAB.owner]
    told[ASKED.slab_depth] = slab[SLUB_SLAB.depth]


@internal
def forget_slab(mem, s):
    """A slab is new: the policy's words of its record begin anew."""
    out_of_line()
    words = mem.ctl[MEMCTL.own[OWN.slab_words]]
    place = mem.ctl[MEMCTL.own[OWN.slab]] + s * words
    for i in range(words):
        mem.ctl[place + i] = 0


@internal
def asked_match(mem, slub, s, gfp, context):
    """Whether the policy lets the caller have an object of slab ``s``: by who it is, then by which slab is next."""
    out_of_line()
    wants = wanted(mem, QUESTION.entitlement) | wanted(mem, QUESTION.next_slab)
    about_request(mem, wants, gfp, context, mem.ctl[MEMCTL.cpu])
    about_slab(mem, wants, slub, s)
    if mem.ctl[MEMCTL.ask[QUESTION.entitlement]] != 0 and answer(mem, QUESTION.entitlement, 1, 1) == 0:
        return False
    return mem.ctl[MEMCTL.ask[QUESTION.next_slab]] == 0 or answer(mem, QUESTION.next_slab, 1, 1) != 0


@internal
def asked_keep(mem, slub, c, cpu, s, kept):
    """How many partial slabs there must be for the empty slab ``s`` to go; ``kept``: by the kernel's rule."""
    out_of_line()
    wants = wanted(mem, QUESTION.keep)
    about_request(mem, wants, 0, mem.ctl[MEMCTL.context], cpu)
    about_slab(mem, wants, slub, s)
    mem.ctl[MEMCTL.asked[ASKED.cache_min_partial]] = kept
    return answer(mem, QUESTION.keep, LARGEST, kept)


@folded
def asked_free_to(mem, slub, c, n, s):
    """Where a freed object of slab ``s`` of cache ``c`` and node ``n`` goes by the policy: TO_SLAB and the like,
    KERNEL; whether it may say so is not looked at."""
    ctl = mem.ctl
    if (wanted(mem, QUESTION.free_to) & TELLS_ALL) != 0:
        return told_free_to(mem, slub, s)
    ctl[MEMCTL.tests] += 1
    address = ctl[MEMCTL.ask[QUESTION.free_to]]
    return ask_of_slab(address, ctl, slub.slab[s], slub.cache[c], slub.knode[c, n], s)


@internal
def told_free_to(mem, slub, s):
    """The answer of one that is told all; KERNEL where the policy failed."""
    out_of_line()
    if mem.ctl[MEMCTL.policy_failed] != 0:
        return np.int64(KERNEL)
    mem.ctl[MEMCTL.tests] += 1
    tell_free(mem, slub, s)
    return ask(mem.ctl[MEMCTL.ask[QUESTION.free_to]], mem.ctl)


@internal
def goes_elsewhere(mem, slub, s, where):
    """Whether the policy sends a freed object of slab ``s`` to ``where``, TO_SLAB and the like, which this kernel would
    not do by itself."""
    out_of_line()
    given = asked_free_to(mem, slub, slub.slab[s, SLUB_SLAB.cache], slub.slab[s, SLUB_SLAB.node], s)
    return given != KERNEL and is_sent(mem, slub, s, where, given)


@internal
def tell_free(mem, slub, s):
    """Tell of the slab whose object is freed."""
    out_of_line()
    wants = wanted(mem, QUESTION.free_to)
    about_request(mem, wants, 0, mem.ctl[MEMCTL.context], mem.ctl[MEMCTL.cpu])
    about_slab(mem, wants, slub, s)


@internal
def is_sent(mem, slub, s, where, given):
    """Whether the answer, which is not KERNEL, is ``where``; any other ends the lane."""
    out_of_line()
    if given == where:
        return True
    tell_free(mem, slub, s)
    note_failure(mem, QUESTION.free_to, given, LARGEST if given < 0 else -1 - where)
    return False

"""Calls into the machine code of an allocator of one's own, and what it may call: pages of the machine's zones.

A function of the file is called by its address with those of ``mem`` and ``own``, which it knows nothing about, and of
:func:`take_pages` and :func:`give_pages`; see ``fastalloc/own/lane.py``. Its pages come from the zones by the mask that
it asks with, in the context of whoever called it, like everybody's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastalloc.compiler.addresses import WORD, address_of, as_word, call_address, compile_for
from fastalloc.compiler.jit import hint, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.own.pages import forget_object, give_run, note_object, take_run
from fastalloc.kernels.alloc.own.state import (
    ALLOC,
    BAD_PAGE,
    CACHE_COUNT,
    FAILED,
    FREE,
    GRANULE_SHIFT,
    HELD,
    NOTHING,
    OWN_PAGE,
    PAGES_HELD,
    RAISED,
    SOUND,
    ZONE_CTL,
)
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.state import MEMCTL, PAGE
from fastalloc.linux.gfp import MAX_ORDER

from numba import types  # isort: skip

functions: dict[int, Callable[..., Any]] = {}  # by address, for interpreted kernels


@internal
def take_pages(mem, own, gfp, order):
    """The first of ``2**order`` pages from as deep in the zones as ``gfp`` and its caller may go, or NOTHING."""
    out_of_line()
    if order < 0 or order >= MAX_ORDER:
        return np.int64(NOTHING)
    ctl = own.ctl
    pfn = alloc_pages(mem, ctl[ZONE_CTL.cpu], -1, gfp, order, ctl[ZONE_CTL.context])
    if pfn < 0:
        return np.int64(NOTHING)
    page = take_run(own, order)
    if page < 0:
        ctl[ZONE_CTL.overflow] = 1
        free_pages(mem, ctl[ZONE_CTL.cpu], pfn, order)
        return np.int64(NOTHING)
    mem.page[pfn, PAGE.flags] |= st.PG_SLAB
    own.page[page, OWN_PAGE.pfn] = pfn
    own.page[page, OWN_PAGE.owner] = mem.ctl[MEMCTL.who]
    own.page[page, OWN_PAGE.depth] = mem.ctl[MEMCTL.depth]
    return np.int64(page)


@internal
def give_pages(mem, own, page, order):
    """Give a run of pages back to its zone."""
    out_of_line()
    if give_run(own, page, order):
        free_pages(mem, own.ctl[ZONE_CTL.cpu], np.int64(own.page[page, OWN_PAGE.pfn]), order)
    return np.int64(0)


def _ask_own(typingctx, address, mem, own, c, cpu, argument):
    kinds = (mem, own, types.int64, types.int64)
    for dispatcher in (take_pages, give_pages):
        compile_for(typingctx, dispatcher, kinds)

    def codegen(context, builder, signature, args):
        groups = [as_word(context, builder, signature.args[i], args[i]) for i in (1, 2)]
        places = [address_of(context, builder, typingctx, each, kinds) for each in (take_pages, give_pages)]
        arrays = []
        for name in ("ctl", "words"):
            kind = own.members[own.members.fields.index(name)]
            value = context.get_getattr(own, name)(context, builder, own, args[2], name)
            data = context.make_array(kind)(context, builder, value).data
            arrays.append(builder.ptrtoint(data, WORD))
        return call_address(builder, args[0], [*arrays, *groups, *places, *args[3:]])

    return types.int64(types.int64, mem, own, types.int64, types.int64, types.int64), codegen


ask_own: Any = hint(
    _ask_own, lambda address, mem, own, c, cpu, argument: functions[address](mem, own, c, cpu, argument)
)
"""``ask_own(address, mem, own, c, cpu, argument)``: call the function of the file at ``address``."""


@internal
def note_wrong(mem, own, what, call, argument, value):
    """Something is wrong: the lane ends with this event, the first finding is kept."""
    out_of_line()
    ctl = own.ctl
    mem.ctl[MEMCTL.stopped] = 1
    if ctl[ZONE_CTL.wrong] == SOUND:
        ctl[ZONE_CTL.wrong] = what
        ctl[ZONE_CTL.wrong_call] = call
        ctl[ZONE_CTL.wrong_cpu] = ctl[ZONE_CTL.cpu]
        ctl[ZONE_CTL.wrong_cache] = ctl[ZONE_CTL.cache]
        ctl[ZONE_CTL.wrong_argument] = argument
        ctl[ZONE_CTL.wrong_value] = value


@internal
def call(mem, own, which, c, cpu, argument):
    """Run one of CALLS for cache ``c`` on ``cpu``, and look at its pages: what it returned, or FAILED."""
    out_of_line()
    ctl = own.ctl
    ctl[ZONE_CTL.cache] = c
    ctl[ZONE_CTL.cpu] = cpu
    ctl[ZONE_CTL.task] = own.current[cpu]
    ctl[ZONE_CTL.slow_calls] = 0
    ctl[ZONE_CTL.lock_calls] = 0
    given = ask_own(ctl[ZONE_CTL.address[which]], mem, own, c, cpu, argument)
    own.counts[c, CACHE_COUNT.slow] += ctl[ZONE_CTL.slow_calls]
    own.counts[c, CACHE_COUNT.locks] += ctl[ZONE_CTL.lock_calls]
    if ctl[ZONE_CTL.slow_calls] > 0:
        ctl[ZONE_CTL.slow] += 1
    else:
        ctl[ZONE_CTL.fast] += 1
    if given == FAILED:
        note_wrong(mem, own, RAISED, which, argument, 0)
    elif ctl[ZONE_CTL.bad] != 0:
        note_wrong(mem, own, BAD_PAGE, which, argument, ctl[ZONE_CTL.bad])
    else:
        held = ask_own(ctl[ZONE_CTL.address[PAGES_HELD]], mem, own, c, cpu, np.int64(0))
        if held == FAILED:
            note_wrong(mem, own, RAISED, PAGES_HELD, np.int64(0), 0)
        elif held != ctl[ZONE_CTL.held]:
            note_wrong(mem, own, HELD, which, argument, held)
    return given if ctl[ZONE_CTL.wrong] == SOUND else np.int64(FAILED)


@internal
def own_alloc(mem, own, c, cpu, gfp, context):
    """An object of cache ``c``: its address, or NO_OBJECT."""
    out_of_line()
    ctl = own.ctl
    if ctl[ZONE_CTL.wrong] != SOUND:
        return np.int64(st.NO_OBJECT)
    ctl[ZONE_CTL.context] = context
    taken = ctl[ZONE_CTL.taken]
    address = call(mem, own, ALLOC, c, cpu, gfp)
    ctl[ZONE_CTL.path] = 0
    if address == NOTHING or ctl[ZONE_CTL.wrong] != SOUND:
        return np.int64(st.NO_OBJECT)
    found = note_object(own, address, own.counts[c, CACHE_COUNT.size], c)
    if found != SOUND:
        note_wrong(mem, own, found, ALLOC, gfp, address)
        return np.int64(st.NO_OBJECT)
    own.counts[c, CACHE_COUNT.live] += 1
    ctl[ZONE_CTL.path] = 1 if ctl[ZONE_CTL.slow_calls] == 0 else 3 if ctl[ZONE_CTL.taken] == taken else 4
    return address


@internal
def own_free(mem, own, cpu, address):
    """Free an object; its cache is known."""
    out_of_line()
    ctl = own.ctl
    if ctl[ZONE_CTL.wrong] != SOUND:
        return
    c = np.int64(own.used[address >> GRANULE_SHIFT]) - 1
    ctl[ZONE_CTL.context] = mem.ctl[MEMCTL.context]
    forget_object(own, address, own.counts[c, CACHE_COUNT.size])
    own.counts[c, CACHE_COUNT.live] -= 1
    call(mem, own, FREE, c, cpu, address)
    ctl[ZONE_CTL.path] = 1 if ctl[ZONE_CTL.slow_calls] == 0 else 3


@internal
def own_trim(mem, own, which, c, cpu):
    """Shrink cache ``c``, or flush what ``cpu`` keeps of it."""
    if own.ctl[ZONE_CTL.wrong] == SOUND and own.ctl[ZONE_CTL.address[which]] != 0:
        call(mem, own, which, c, cpu, np.int64(0))

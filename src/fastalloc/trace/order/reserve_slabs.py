"""Slabs allocated below all watermarks, told by who passes them over.

From 3.6 on such a slab is passed over by callers that may not go there [pfmemalloc_match]. No event says how deep a
a new slab came from, nor who may: where a caller passes over a slab that another kind of caller allocated, and
everything that follows agrees once the slab is taken for such, it is one, and the kind that allocated it may go there.
"""

import numpy as np

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc.state import DEPTH, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.linux import gfp as g
from fastalloc.trace.order.model import (
    ALLOC,
    GONE,
    IS_ENTITLED,
    IS_NOT,
    LOOK,
    ORDER_EVENT,
    copy_model,
    first_saved,
    follow,
    one_of,
)


@internal
def take_for_reserve(model, events, row, kind, reserve, entitled):
    """Take the slab that row ``row`` of the trace allocated for one from below all watermarks, or not; operations of
    ``kind`` are then entitled to such slabs, or not. False if that allocation is among ``events`` no more."""
    out_of_line()
    known = False
    for i in range(events.shape[0]):
        e = events[i]
        if e[ORDER_EVENT.op] == ALLOC and e[ORDER_EVENT.row] == row:
            e[ORDER_EVENT.reserve] = reserve
            known = True
        if e[ORDER_EVENT.op] != GONE and e[ORDER_EVENT.kind] == kind:
            e[ORDER_EVENT.gfp] = g.GFP_KERNEL | (g.MEMALLOC if entitled else 0)
    for s in range(model.slub.ctl[SLUB_CTL.slab_top]):
        if model.allocated_by[s, 0] == row and model.slub.slab[s, SLUB_SLAB.pfn] != -1:
            model.slub.slab[s, SLUB_SLAB.depth] = DEPTH.none if reserve else DEPTH.low
    return known


@internal
def change_names(model, x, s):
    """Take operation ``x`` as the rules have it: slab ``s``, which they gave, is the block of its object."""
    out_of_line()
    have = model.block[s] if x[ORDER_EVENT.op] == ALLOC else np.int64(-1)
    for i in range(model.slub.ctl[SLUB_CTL.slab_top]):
        if model.block[i] == x[ORDER_EVENT.block]:
            model.block[i] = have
    if x[ORDER_EVENT.op] == ALLOC:
        model.block[s] = x[ORDER_EVENT.block]


@internal
def passed_over(search, wrong, s):
    """Whether slab ``s``, which the rules give at position ``wrong``, was from below all watermarks: with that alone
    rules and addresses agree from the first saved model as far as is looked, and without it they do not, once the
    slabs have changed names. Then it is one in ``search.trial``, which is the cache at that model."""
    out_of_line()
    model = search.model
    trial = search.trial
    events = search.events
    entitled = search.entitled
    at = search.saved_at
    x = events[search.order[wrong]]
    row = model.allocated_by[s, 0]
    kind = model.allocated_by[s, 1]
    if search.mem.ctl[MEMCTL.slab_match] == 0 or row < 0 or model.slub.slab[s, SLUB_SLAB.depth] == DEPTH.none:
        return False
    if kind == x[ORDER_EVENT.kind] or entitled[kind] == IS_NOT or entitled[x[ORDER_EVENT.kind]] == IS_ENTITLED:
        return False
    slot = first_saved(at, wrong)
    goal = wrong + LOOK
    if slot < 0 or goal > search.order.shape[0]:
        return False
    copy_model(trial, model, search.cpus)
    change_names(trial, x, s)
    if follow(search, trial, wrong + 1, goal) == goal:
        return False
    copy_model(trial, one_of(search.saved, slot), search.cpus)
    known = take_for_reserve(trial, events, row, kind, 1, True)
    if not known or follow(search, trial, at[slot], goal) < goal:
        take_for_reserve(trial, events, row, kind, 0, entitled[kind] == IS_ENTITLED)
        return False
    entitled[kind] = IS_ENTITLED
    copy_model(trial, one_of(search.saved, slot), search.cpus)
    take_for_reserve(trial, events, row, kind, 1, True)
    return True

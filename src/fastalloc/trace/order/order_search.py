"""The order of operations on one cache, resolved by the addresses that the traced kernel handed out.

The event of an allocation comes after the operation, that of a free before it, and what happens on two CPUs in between
is in the trace in some order only. But each address says from which slab its object came, and each block of pages that
comes and goes says when a slab did. The rules of mm/slub.c are run in the order of the events (:mod:`.model`); where
they take an object from another slab than the kernel did, an operation nearby happened earlier or later than its event
says. :func:`search_order` goes back, moves one operation (or one bulk call, or what a task did in a row) within what is
known of its time, and keeps the move with which the rules agree with the addresses for longest (:mod:`.moves`). Slabs
from below all watermarks are told by who passes them over (:mod:`.reserve_slabs`). docs/order.md draws an example.
"""

import numpy as np

from fastalloc.compiler.jit import entry, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.trace.order.model import (
    ALLOC,
    BEGIN,
    FOUND,
    LOOK,
    MOVE,
    NEW_SLAB,
    ORDER_EVENT,
    WHERE,
    copy_model,
    first_saved,
    follow,
    go_back,
    one_of,
    save_only,
    saved_before,
)
from fastalloc.trace.order.moves import best_move, make_move
from fastalloc.trace.order.reserve_slabs import change_names, passed_over

ALL_TRIES = 60_000  # for one cache


@internal
def block_given(search, x, s):
    """The block of pages that the rules gave operation ``x`` an object of, -1 unknown."""
    return search.model.block[s] if x[ORDER_EVENT.op] == ALLOC else np.int64(-1)


@internal
def began_right_before(search, row):
    """Whether the operation before position ``row`` is the BEGIN of the allocation there."""
    x = search.events[search.order[row]]
    before = search.events[search.order[max(row - 1, 0)]]
    return (
        x[ORDER_EVENT.op] == ALLOC
        and before[ORDER_EVENT.op] == BEGIN
        and before[ORDER_EVENT.object] == x[ORDER_EVENT.object]
    )


@entry
def search_order(search, every, patience, last):
    """Resolve a part of a cache's operations: ``search.order``, from ``search.where`` on.

    ``search.model`` is the cache there. Unless the part is the ``last``, it ends, at a multiple of ``every``, so far
    from the end that no decision looks beyond; what is before the first saved model will not change any more. A model
    is saved every ``every`` positions. What no move explains is taken as the rules have it, blocks changing names;
    after ``patience`` of these the order stays as it is from there on.
    """
    model = search.model
    order = search.order
    events = search.events
    at = search.saved_at
    found = search.found
    where = search.where
    end = order.shape[0]
    if not last:
        end = (end - LOOK - 1) // every * every
    row = where[WHERE.position]
    if where[WHERE.slot] < 0:
        save_only(search, row)
    while row < end:
        # 1. as far as rules and addresses agree
        stop = min(end, (row // every + 1) * every)
        row = follow(search, model, row, stop)
        if where[WHERE.overflow] != 0:
            return
        if row == stop:
            slot = (where[WHERE.slot] + 1) % at.shape[0]
            copy_model(one_of(search.saved, slot), model, search.cpus)
            at[slot] = row
            where[WHERE.slot] = slot
            continue
        x = events[order[row]]
        s = model.handle[x[ORDER_EVENT.object]] >> st.HANDLE_SHIFT
        if found[FOUND.wrong] < patience and found[FOUND.tries] < ALL_TRIES:
            # 2. a slab from below all watermarks, passed over by who may not have it
            if x[ORDER_EVENT.op] == ALLOC and passed_over(search, row, s):
                found[FOUND.reserve] += 1
                row = at[first_saved(at, row)]
                copy_model(model, search.trial, search.cpus)
                save_only(search, row)
                continue
            # 3. an operation that happened earlier or later
            if best_move(search, row, block_given(search, x, s)):
                found[FOUND.moved] += 1
                make_move(events, order, search.scratch, search.best)
                row = go_back(search, saved_before(at, search.best[MOVE.first]))
                continue
        # 4. a new slab although the rules had a free object
        if began_right_before(search, row):
            found[FOUND.new_slab] += 1
            events[order[max(row - 1, 0)], ORDER_EVENT.op] = NEW_SLAB
            slot = saved_before(at, row - 1)
            if slot >= 0:
                row = go_back(search, slot)
                continue
        # 5. nothing explains it: as the rules have it
        found[FOUND.wrong] += 1
        change_names(model, x, s)
        row += 1
        save_only(search, row)
    where[WHERE.position] = row

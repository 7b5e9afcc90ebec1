"""The order of operations on one cache, settled by the addresses that the traced kernel handed out.

The event of an allocation comes after the operation, that of a free before it, and what happens on two CPUs in between
is in the trace in some order only. But each address says from which slab its object came, and each block of pages that
comes and goes says when a slab did. The rules of mm/slub.c are run in the order of the events; where they take
an object from another slab than the kernel did, an operation nearby happened earlier or later than its event says.
:func:`search` goes back, moves one operation (or one bulk call, or what a task did in a row) within what is known of
its time, and keeps the move with which the rules agree with the addresses for longest.

From 3.6 on a slab bought below all watermarks is passed over by callers that may not go there [pfmemalloc_match]. No
event says how deep a purchase went, nor who may: where a caller passes over a slab that another kind of caller bought,
and everything that follows agrees once the slab is taken for such (:func:`passed_over`), it is one, and the kind that
bought it may go there.

A purchase is two operations: BEGIN, where the allocation finds nothing and lets go of a full CPU slab, and the
allocation itself, which installs the slab that it bought, whatever its CPU got in the meantime [___slab_alloc,
retry_load_slab].
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.jit import entry, folded, internal, out_of_line
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import cpu_partial as cp
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
)
from fastalloc.kernels.replay.kmem_events import BUYING, alloc_refused_of, nothing_free, shortage, take_bought
from fastalloc.linux import gfp as g

# op of a life's event
ALLOC, FREE, BEGIN, FAILED, GONE, BOUGHT = range(6)  # BOUGHT: a BEGIN that finds nothing, come what may


# events[i, .]
class ORDER_EVENT(Record):
    """Columns."""

    op = field()
    cpu = field()
    object = field()
    block = field("block of pages of the object or slab, by its size")
    node = field("asked for, -1 any")
    gfp = field()
    short = field("largest order there was for this purchase, -1 any")
    low = field("rows of the trace between which the operation was, by its task's events before and after")
    high = field()
    nested_low = field("the same where those events may have been of interrupts in between")
    nested_high = field()
    task = field()
    call = field("objects of one bulk call share it")
    ends = field("1: last event of its call, 2: first")
    row = field("of the trace")
    kind = field()
    reserve = field("1: what it buys is from below all watermarks")


# move[.]: events of ``group`` in column ``column`` among positions first to last go to the front (or the back)
M_FIRST, M_LAST, M_COLUMN, M_GROUP, M_FRONT, MOVE_FIELDS = range(6)


# found[.]
class FOUND(Record):
    """Columns."""

    moved = field("moves made")
    wrong = field("allocations that no move explains")
    tries = field()
    bought = field("purchases taken as they were made")
    reserve = field("slabs from below all watermarks")


# entitled[kind]: whether its callers may have slabs from below all watermarks
MAY_BE, IS_ENTITLED, IS_NOT = range(3)


# where[.]: how far a search is
class WHERE(Record):
    """Columns."""

    position = field()
    slot = field("the model saved last, -1 before the first")
    overflow = field("1: a model had no room for its slabs, and what was found is void")


STEPS = 64  # other operations that one may pass
BEGIN_STEPS = 1024
REACH = 600  # positions around a disagreement at which an operation is tried
NEAR = 48  # of these, the ones tried whatever their slab
LOOK = 300  # positions behind a disagreement up to which a move is judged
MAX_TRIES = 12_000  # for one disagreement
ALL_TRIES = 60_000  # for one cache


class Model(NamedTuple):
    """The cache as the rules have it; with a leading axis, several of them."""

    slub: er.SlubEras
    handle: np.ndarray  # int64[objects]
    block: np.ndarray  # int64[slabs]: the block that stands for each slab, -1 not known
    bought: np.ndarray  # int64[slabs, 2]: row and kind of the allocation that bought each slab, where it is known


@internal
def follow_order(mem, model, events, order, row, stop, where):
    """Run the positions from ``row`` on; the first at which rules and addresses disagree, else ``stop``."""
    out_of_line()
    f = KMEM_CACHE_CPU.freelist
    slub = model.slub
    handle = model.handle
    block = model.block
    mask = (1 << st.HANDLE_SHIFT) - 1
    while row < stop:
        e = events[order[row]]
        op = e[ORDER_EVENT.op]
        cpu = e[ORDER_EVENT.cpu]
        held = handle[e[ORDER_EVENT.object]]
        if op == ALLOC:
            if held >= 0:
                cp.slab_free(mem, slub, 0, cpu, held >> st.HANDLE_SHIFT, held & mask, f)
            before = slub.kcpu[0, cpu, KMEM_CACHE_CPU.alloc_slab]
            if e[ORDER_EVENT.short] >= 0:
                shortage(mem, e[ORDER_EVENT.short])
            if e[ORDER_EVENT.reserve] != 0:
                mem.ctl[MEMCTL.depth] = DEPTH.none
            if held == BUYING:
                held = take_bought(mem, slub, 0, cpu, e[ORDER_EVENT.node], e[ORDER_EVENT.gfp])
            else:
                held = cp.slab_alloc(mem, slub, 0, cpu, e[ORDER_EVENT.node], e[ORDER_EVENT.gfp], 0, f)
            mem.ctl[MEMCTL.model] = st.MODEL_UNLIMITED
            mem.ctl[MEMCTL.depth] = DEPTH.low
            handle[e[ORDER_EVENT.object]] = held
            if slub.ctl[SLUB_CTL.overflow] != 0:
                where[WHERE.overflow] = 1
                return row
            if held < 0:  # in a shortage
                row += 1
                continue
            s = held >> st.HANDLE_SHIFT
            if slub.kcpu[0, cpu, KMEM_CACHE_CPU.alloc_slab] != before:
                block[s] = e[ORDER_EVENT.block]
                model.bought[s, 0] = e[ORDER_EVENT.row]
                model.bought[s, 1] = e[ORDER_EVENT.kind]
            elif block[s] < 0:
                block[s] = e[ORDER_EVENT.block]
            elif block[s] != e[ORDER_EVENT.block]:
                return row
        elif op == FREE:
            if held >= 0:
                cp.slab_free(mem, slub, 0, cpu, held >> st.HANDLE_SHIFT, held & mask, f)
            handle[e[ORDER_EVENT.object]] = st.NO_OBJECT
        elif op in (BEGIN, BOUGHT):
            if held == st.NO_OBJECT and (op == BOUGHT or nothing_free(mem, slub, 0, cpu, e[ORDER_EVENT.node])):
                handle[e[ORDER_EVENT.object]] = BUYING
        elif op == FAILED:
            alloc_refused_of(mem, slub, 0, cpu, e[ORDER_EVENT.node], e[ORDER_EVENT.gfp])
        else:
            for s in range(slub.ctl[SLUB_CTL.slab_top]):
                if block[s] == e[ORDER_EVENT.block] and slub.slab[s, SLUB_SLAB.pfn] != -1:
                    return row
        row += 1
    return row


@folded
def one_of(ring, i):
    """Model ``i`` of several."""
    slub = ring.slub
    return Model(
        er.SlubEras(slub.cache[i], slub.kcpu[i], slub.knode[i], slub.slab[i], slub.link[i], slub.ctl[i]),
        ring.handle[i],
        ring.block[i],
        ring.bought[i],
    )


@internal
def copy_model(to, model):
    """Make ``to`` what ``model`` is."""
    out_of_line()
    a = to.slub
    b = model.slub
    for i in range(KMEM_CACHE.width):
        a.cache[0, i] = b.cache[0, i]
    for cpu in range(b.kcpu.shape[1]):
        for i in range(KMEM_CACHE_CPU.width):
            a.kcpu[0, cpu, i] = b.kcpu[0, cpu, i]
    for n in range(b.knode.shape[1]):
        for i in range(KMEM_CACHE_NODE.width):
            a.knode[0, n, i] = b.knode[0, n, i]
    for i in range(b.ctl.shape[0]):
        a.ctl[i] = b.ctl[i]
    top = b.ctl[SLUB_CTL.slab_top]
    for s in range(top):
        for i in range(SLUB_SLAB.width):
            a.slab[s, i] = b.slab[s, i]
        to.block[s] = model.block[s]  # a slab beyond gets its block when it is bought
        to.bought[s, 0] = model.bought[s, 0]
        to.bought[s, 1] = model.bought[s, 1]
    for i in range(b.ctl[SLUB_CTL.link_top]):
        a.link[i] = b.link[i]
    for i in range(model.handle.shape[0]):
        to.handle[i] = model.handle[i]


@internal
def make_move(events, order, scratch, move):
    """Apply ``move`` to ``order``; the others keep their order, as do those that move."""
    out_of_line()
    n = 0
    for turn in range(2):
        for i in range(move[M_FIRST], move[M_LAST] + 1):
            inside = events[order[i], move[M_COLUMN]] == move[M_GROUP]
            if inside == ((turn == 0) == (move[M_FRONT] != 0)):
                scratch[n] = order[i]
                n += 1
    for i in range(n):
        order[move[M_FIRST] + i] = scratch[i]


@internal
def saved_before(at, row):
    """The latest saved model not behind ``row``, -1 none."""
    best = -1
    for i in range(at.shape[0]):
        if at[i] >= 0 and at[i] <= row and (best < 0 or at[i] > at[best]):
            best = i
    return best


@internal
def first_saved(at, row):
    """The earliest saved model not behind ``row``, -1 none."""
    best = -1
    for i in range(at.shape[0]):
        if at[i] >= 0 and at[i] <= row and (best < 0 or at[i] < at[best]):
            best = i
    return best


@internal
def agrees_until(mem, ring, at, trial, events, order, scratch, move, wrong, goal, where):
    """How far rules and addresses agree with ``move`` made, as if position ``wrong`` had kept its place."""
    out_of_line()
    use = saved_before(at, move[M_FIRST])
    if use < 0:
        return wrong
    first = move[M_FIRST]
    last = move[M_LAST]
    x = order[wrong]
    room = scratch.shape[0] // 2
    for i in range(first, last + 1):
        scratch[room + i - first] = order[i]
    make_move(events, order, scratch, move)
    copy_model(trial, one_of(ring, use))
    reached = follow_order(mem, trial, events, order, at[use], goal, where)
    now = wrong
    if first <= wrong <= last:
        now = first
        while order[now] != x:
            now += 1
    for i in range(first, last + 1):
        order[i] = scratch[room + i - first]
    return goal if reached >= goal else reached - now + wrong


@internal
def best_move(mem, ring, at, trial, events, order, scratch, wrong, have, move, best, found, where):
    """Fill ``best`` with the move after which rules and addresses agree for longest; False if none helps."""
    out_of_line()
    n = order.shape[0]
    goal = min(n, wrong + LOOK)
    oldest = wrong
    for i in range(at.shape[0]):
        if at[i] >= 0:
            oldest = min(oldest, at[i])
    x = events[order[wrong]]
    reached = wrong
    tries = 0
    # First when a purchase began, then what tasks did between their events, then what interrupts may have hidden.
    for turn in range(3):
        if reached > wrong:
            break
        nested = turn != 1
        column = ORDER_EVENT.call if nested else ORDER_EVENT.task
        for step in range(2 * REACH):
            c = wrong + (step // 2 if step % 2 == 0 else -(step // 2 + 1))
            if (step % 2 == 0 and step // 2 > LOOK) or c < oldest or c >= n or reached >= goal:
                continue
            y = events[order[c]]
            if y[ORDER_EVENT.op] == GONE or tries >= MAX_TRIES:
                continue
            begin = y[ORDER_EVENT.op] == BEGIN
            if turn == 0 and not (begin and y[ORDER_EVENT.object] == x[ORDER_EVENT.object]):
                continue
            of_interest = (
                y[ORDER_EVENT.block] == x[ORDER_EVENT.block]
                or y[ORDER_EVENT.block] == have
                or y[ORDER_EVENT.task] == x[ORDER_EVENT.task]
            )
            if step // 2 > NEAR and not of_interest:
                continue
            for later in range(2):
                if (later and begin) or (nested and (y[ORDER_EVENT.ends] >> later) & 1 == 0):
                    continue
                low = y[ORDER_EVENT.nested_low if nested else ORDER_EVENT.low]
                high = y[ORDER_EVENT.nested_high if nested else ORDER_EVENT.high]
                steps = 0
                d = c
                while steps < (BEGIN_STEPS if begin else STEPS) and tries < MAX_TRIES and reached < goal:
                    d = d + 1 if later else d - 1
                    if d < oldest or d >= goal:
                        break
                    z = events[order[d]]
                    if z[column] == y[column]:
                        low = max(low, z[ORDER_EVENT.low])
                        high = min(high, z[ORDER_EVENT.high])
                        continue
                    if (later and z[ORDER_EVENT.low] >= high) or (not later and low >= z[ORDER_EVENT.high]):
                        break
                    steps += 1
                    tries += 1
                    move[M_FIRST] = min(c, d)
                    move[M_LAST] = max(c, d)
                    move[M_COLUMN] = column
                    move[M_GROUP] = y[column]
                    move[M_FRONT] = 1 - later
                    got = agrees_until(mem, ring, at, trial, events, order, scratch, move, wrong, goal, where)
                    if got > reached:
                        reached = got
                        for i in range(MOVE_FIELDS):
                            best[i] = move[i]
    found[FOUND.tries] += tries
    return reached > wrong


@internal
def take_for_reserve(model, events, row, kind, reserve, entitled):
    """Take the slab that row ``row`` of the trace bought for one from below all watermarks, or not; operations of
    ``kind`` are then entitled to such slabs, or not. False if that purchase is among ``events`` no more."""
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
        if model.bought[s, 0] == row and model.slub.slab[s, SLUB_SLAB.pfn] != -1:
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
def passed_over(mem, model, ring, at, trial, events, order, wrong, s, entitled, where):
    """Whether slab ``s``, which the rules give at position ``wrong``, was from below all watermarks: with that alone
    rules and addresses agree from the first saved model as far as is looked, and without it they do not, once the
    slabs have changed names. Then it is one in ``trial``, which is the cache at that model."""
    out_of_line()
    x = events[order[wrong]]
    row = model.bought[s, 0]
    kind = model.bought[s, 1]
    if mem.ctl[MEMCTL.pfmemalloc] == 0 or row < 0 or model.slub.slab[s, SLUB_SLAB.depth] == DEPTH.none:
        return False
    if kind == x[ORDER_EVENT.kind] or entitled[kind] == IS_NOT or entitled[x[ORDER_EVENT.kind]] == IS_ENTITLED:
        return False
    slot = first_saved(at, wrong)
    goal = wrong + LOOK
    if slot < 0 or goal > order.shape[0]:
        return False
    copy_model(trial, model)
    change_names(trial, x, s)
    if follow_order(mem, trial, events, order, wrong + 1, goal, where) == goal:
        return False
    copy_model(trial, one_of(ring, slot))
    known = take_for_reserve(trial, events, row, kind, 1, True)
    if not known or follow_order(mem, trial, events, order, at[slot], goal, where) < goal:
        take_for_reserve(trial, events, row, kind, 0, entitled[kind] == IS_ENTITLED)
        return False
    entitled[kind] = IS_ENTITLED
    copy_model(trial, one_of(ring, slot))
    take_for_reserve(trial, events, row, kind, 1, True)
    return True


@entry
def search(
    mem, model, ring, at, trial, events, order, scratch, move, best, found, where, entitled, every, patience, last
):  # fmt: skip
    """Settle a part of a cache's operations: ``order`` (int32[n], rows of ``events``), from ``where`` on.

    ``model`` is the cache there. Unless the part is the ``last``, it ends, at a multiple of ``every``, so far from the
    end that no decision looks beyond; what is before the first saved model will not change any more.
    ``ring``, ``at``: room for models saved every ``every`` positions; ``trial`` one more; ``scratch``: int32[2 * n].
    What no move explains is taken as the rules have it, blocks changing names; after ``patience`` of these the order
    stays as it is from there on. ``found``: FOUND.width. ``entitled``: uint8[kinds].
    """
    end = order.shape[0]
    if not last:
        end = (end - LOOK - 1) // every * every
    row = where[WHERE.position]
    slot = where[WHERE.slot]
    if slot < 0:
        at[:] = -1
        at[0] = row
        copy_model(one_of(ring, 0), model)
        slot = 0
    while row < end:
        stop = min(end, (row // every + 1) * every)
        row = follow_order(mem, model, events, order, row, stop, where)
        if where[WHERE.overflow] != 0:
            return
        if row == stop:
            slot = (slot + 1) % at.shape[0]
            copy_model(one_of(ring, slot), model)
            at[slot] = row
            continue
        x = events[order[row]]
        s = model.handle[x[ORDER_EVENT.object]] >> st.HANDLE_SHIFT
        have = model.block[s] if x[ORDER_EVENT.op] == ALLOC else np.int64(-1)
        tries = found[FOUND.wrong] < patience and found[FOUND.tries] < ALL_TRIES
        if (
            tries
            and x[ORDER_EVENT.op] == ALLOC
            and passed_over(mem, model, ring, at, trial, events, order, row, s, entitled, where)
        ):
            found[FOUND.reserve] += 1
            row = at[first_saved(at, row)]
            copy_model(model, trial)
            at[:] = -1
            slot = 0
            at[0] = row
            copy_model(one_of(ring, 0), model)
            continue
        if tries and best_move(mem, ring, at, trial, events, order, scratch, row, have, move, best, found, where):
            found[FOUND.moved] += 1
            make_move(events, order, scratch, best)
            for i in range(at.shape[0]):
                if at[i] > best[M_FIRST]:
                    at[i] = -1
            slot = saved_before(at, best[M_FIRST])
            copy_model(model, one_of(ring, slot))
            row = at[slot]
            continue
        before = events[order[max(row - 1, 0)]]
        if (
            x[ORDER_EVENT.op] == ALLOC
            and before[ORDER_EVENT.op] == BEGIN
            and before[ORDER_EVENT.object] == x[ORDER_EVENT.object]
        ):
            found[FOUND.bought] += 1
            before[ORDER_EVENT.op] = BOUGHT
            slot = saved_before(at, row - 1)
            if slot >= 0:
                copy_model(model, one_of(ring, slot))
                row = at[slot]
                for i in range(at.shape[0]):
                    if at[i] > row:
                        at[i] = -1
                continue
        found[FOUND.wrong] += 1
        change_names(model, x, s)
        row += 1
        at[:] = -1
        slot = 0
        at[0] = row
        copy_model(one_of(ring, 0), model)
    where[WHERE.position] = row
    where[WHERE.slot] = slot


__all__ = ["ORDER_EVENT", "Model", "search"]

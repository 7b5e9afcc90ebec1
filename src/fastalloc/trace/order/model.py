"""The rules of mm/slub.c run over the operations of one cache, in an order that is being looked for.

An allocation with a new slab is two operations: BEGIN, where the allocation finds nothing and lets go of a full CPU
slab, and the allocation itself, which installs the new slab, whatever its CPU got in the meantime [___slab_alloc,
retry_load_slab].
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_cpu_partial import slow_paths as cp
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
    Mem,
)
from fastalloc.kernels.replay.kmem_events import NEEDS_SLAB, alloc_refused_of, nothing_free, shortage, take_new_slab

# ORDER_EVENT.op
ALLOC, FREE, BEGIN, FAILED, GONE, NEW_SLAB = range(6)  # NEW_SLAB: a BEGIN that finds nothing, come what may


class ORDER_EVENT(Record):
    """events[i, .]: an operation on the cache, or the end of a slab."""

    op = field("ALLOC, FREE, BEGIN, FAILED, GONE or NEW_SLAB")
    cpu = field("CPU that it ran on")
    object = field("number of the object in the trace, -1 none")
    block = field("block of pages of the object or slab, by its size")
    node = field("asked for, -1 any")
    gfp = field("mask of the allocation")
    short = field("largest order there was for this new slab, -1 any")
    low = field("rows of the trace between which the operation was, by its task's events before and after")
    high = field("the later end of that span")
    nested_low = field("the same where those events may have been of interrupts in between")
    nested_high = field("the later end of that one")
    task = field("who ran it")
    call = field("objects of one bulk call share it")
    ends = field("1: last event of its call, 2: first")
    row = field("of the trace")
    kind = field("row of the trace's kinds: call site and mask")
    reserve = field("1: its new slab is from below all watermarks")


class FOUND(Record):
    """found[.]: counts of what the search did."""

    moved = field("moves made")
    wrong = field("allocations that no move explains")
    tries = field("moves tried")
    new_slab = field("new slabs taken as the kernel took them")
    reserve = field("slabs from below all watermarks")


class WHERE(Record):
    """where[.]: how far a search is."""

    position = field("operations behind which rules and addresses agree")
    slot = field("the model saved last, -1 before the first")
    overflow = field("1: a model had no room for its slabs, and what was found is void")


class MOVE(Record):
    """move[.]: events of ``group`` in ``column``, at positions ``first`` to ``last``, go to the front or the back."""

    first = field("position of the first event moved")
    last = field("position of the last one")
    column = field("of ORDER_EVENT")
    group = field("its value")
    front = field("1: to the front")


# entitled[kind]: whether its callers may have slabs from below all watermarks
MAY_BE, IS_ENTITLED, IS_NOT = range(3)

LOOK = 300  # positions behind a disagreement up to which a move is judged


class Model(NamedTuple):
    """The cache as the rules have it; with a leading axis, several of them."""

    slub: er.SlubEras
    handle: np.ndarray  # int64[objects]
    block: np.ndarray  # int64[slabs]: the block that stands for each slab, -1 not known
    allocated_by: (
        np.ndarray
    )  # int64[slabs, 2]: row and kind of the allocation that got each slab as a new one, where it is known


class Search(NamedTuple):
    """What one search works on."""

    mem: Mem
    model: Model  # the cache at the position of the search
    saved: Model  # models saved every some positions, with a leading axis
    saved_at: np.ndarray  # int64[models saved]: position of each, -1 unused
    trial: Model  # for trying out
    events: np.ndarray  # int32[n, ORDER_EVENT.width]
    order: np.ndarray  # int32[n]: rows of ``events`` in the order found so far
    scratch: np.ndarray  # int32[2 * n]
    move: np.ndarray  # int64[MOVE.width]: the one being tried
    best: np.ndarray  # int64[MOVE.width]: the best so far
    found: np.ndarray  # int64[FOUND.width]
    where: np.ndarray  # int64[WHERE.width]
    entitled: np.ndarray  # uint8[kinds]
    cpus: np.ndarray  # int64[CPUs with an operation of the cache]: what the others have does not change


@internal
def follow(search, model, row, stop):
    """Run positions ``row`` to ``stop`` in ``model``: the first where rules and addresses disagree, else ``stop``."""
    return follow_order(search.mem, model, search.events, search.order, row, stop, search.where)


@internal
def follow_order(mem, model, events, order, row, stop, where):
    """Run the positions from ``row`` on; the first where rules and addresses disagree, else ``stop``."""
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
            if held == NEEDS_SLAB:
                held = take_new_slab(mem, slub, 0, cpu, e[ORDER_EVENT.node], e[ORDER_EVENT.gfp])
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
                model.allocated_by[s, 0] = e[ORDER_EVENT.row]
                model.allocated_by[s, 1] = e[ORDER_EVENT.kind]
            elif block[s] < 0:
                block[s] = e[ORDER_EVENT.block]
            elif block[s] != e[ORDER_EVENT.block]:
                return row
        elif op == FREE:
            if held >= 0:
                cp.slab_free(mem, slub, 0, cpu, held >> st.HANDLE_SHIFT, held & mask, f)
            handle[e[ORDER_EVENT.object]] = st.NO_OBJECT
        elif op in (BEGIN, NEW_SLAB):
            if held == st.NO_OBJECT and (op == NEW_SLAB or nothing_free(mem, slub, 0, cpu, e[ORDER_EVENT.node])):
                handle[e[ORDER_EVENT.object]] = NEEDS_SLAB
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
        ring.allocated_by[i],
    )


@internal
def copy_model(to, model, cpus):
    """Make ``to`` what ``model`` is; they differ in the state of ``cpus`` alone, not of other CPUs."""
    out_of_line()
    a = to.slub
    b = model.slub
    for i in range(KMEM_CACHE.width):
        a.cache[0, i] = b.cache[0, i]
    for k in range(cpus.shape[0]):
        for i in range(KMEM_CACHE_CPU.width):
            a.kcpu[0, cpus[k], i] = b.kcpu[0, cpus[k], i]
    for n in range(b.knode.shape[1]):
        for i in range(KMEM_CACHE_NODE.width):
            a.knode[0, n, i] = b.knode[0, n, i]
    for i in range(b.ctl.shape[0]):
        a.ctl[i] = b.ctl[i]
    top = b.ctl[SLUB_CTL.slab_top]
    for s in range(top):
        for i in range(SLUB_SLAB.width):
            a.slab[s, i] = b.slab[s, i]
        to.block[s] = model.block[s]  # a slab beyond gets its block when it is allocated
        to.allocated_by[s, 0] = model.allocated_by[s, 0]
        to.allocated_by[s, 1] = model.allocated_by[s, 1]
    for i in range(b.ctl[SLUB_CTL.link_top]):
        a.link[i] = b.link[i]
    for i in range(model.handle.shape[0]):
        to.handle[i] = model.handle[i]


@internal
def save_only(search, row):
    """Forget the models saved, but for the one at the position ``row`` of the search."""
    search.saved_at[:] = -1
    search.saved_at[0] = row
    copy_model(one_of(search.saved, 0), search.model, search.cpus)
    search.where[WHERE.slot] = 0


@internal
def go_back(search, slot):
    """Take the search back to the model saved in ``slot``; the position there."""
    row = search.saved_at[slot]
    copy_model(search.model, one_of(search.saved, slot), search.cpus)
    for i in range(search.saved_at.shape[0]):
        if search.saved_at[i] > row:
            search.saved_at[i] = -1
    search.where[WHERE.slot] = slot
    return row


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

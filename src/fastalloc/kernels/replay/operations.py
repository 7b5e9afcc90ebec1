"""The open loop: a recorded trace of allocator operations, run through the kernels that the closed loop uses.

A trace is columns, a row an operation; the operations are those of the golden cases. Creating and destroying caches
and checkpoints need geometry and tables, so :func:`replay` stops before such a row and its caller serves it.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.jit import by_type, entry, internal, kernel, out_of_line
from fastalloc.kernels.alloc import kmem
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmalloc import free_page_handle, general_cache, page_handle
from fastalloc.kernels.alloc.mempool import BOGUS_HANDLE, MEMPOOL, mempool_alloc, mempool_free, mempool_resize
from fastalloc.kernels.alloc.slab.state import REAPTIMEOUT_LIST3_S
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_7_3 import prefilled as pre
from fastalloc.kernels.alloc.slub.era_7_3 import sheaf_calls as sc
from fastalloc.kernels.alloc.slub.era_7_3.kfree_rcu import kfree_rcu, rcu_do_batch
from fastalloc.kernels.alloc.slub.era_cpu_partial.bulk import alloc_bulk, free_bulk
from fastalloc.kernels.alloc.state import KMEM_CACHE, MEMCTL, SLUB_CTL, ZONE
from fastalloc.linux import gfp as g

OPS = (
    "ALLOC",
    "FREE",
    "KMALLOC",
    "KFREE",
    "SHRINK",
    "FLUSH",
    "REAP",
    "HOLD",
    "SETMIN",
    "MPALLOC",
    "MPFREE",
    "MPRESIZE",
    "CREATE",
    "DESTROY",
    "CKPT",
    "PGALLOC",
    "PGFREE",
    "KFREE_RCU",
    "GP",
    "BULK_ALLOC",
    "BULK_FREE",
    "PREFILL",
    "SHEAF_ALLOC",
    "SHEAF_RETURN",
)
(
    OP_ALLOC,
    OP_FREE,
    OP_KMALLOC,
    OP_KFREE,
    OP_SHRINK,
    OP_FLUSH,
    OP_REAP,
    OP_HOLD,
    OP_SETMIN,
    OP_MPALLOC,
    OP_MPFREE,
    OP_MPRESIZE,
    OP_CREATE,
    OP_DESTROY,
    OP_CKPT,
    OP_PGALLOC,
    OP_PGFREE,
    OP_KFREE_RCU,
    OP_GP,
    OP_BULK_ALLOC,
    OP_BULK_FREE,
    OP_PREFILL,
    OP_SHEAF_ALLOC,
    OP_SHEAF_RETURN,
) = range(len(OPS))
OPS_2_6_25 = OP_KFREE_RCU  # so many of them a case of 2.6.25 may hold

REAPTIMEOUT_LIST3 = 1000 * REAPTIMEOUT_LIST3_S  # jiffies, HZ 1000


@group()
class Trace(NamedTuple):
    """The operations, a row each."""

    op: np.ndarray  # uint8[rows]: OP_*
    cpu: np.ndarray  # uint8[rows]
    cache: np.ndarray  # int16[rows]: cache, pool or node
    obj: np.ndarray  # int32[rows]: slot of the object in ``handle``
    gfp: np.ndarray  # uint32[rows]
    context: np.ndarray  # uint8[rows]: PF_MEMALLOC, IN_INTERRUPT
    arg: np.ndarray  # int32[rows]


@group()
class Play(NamedTuple):
    """What a replay keeps beside the allocator, and what it records for each row."""

    handle: np.ndarray  # int64[objects]: what the allocations returned, NO_OBJECT else
    row_of: np.ndarray  # int64[caches]: allocator's row of each cache of the trace, -1 none
    order: np.ndarray  # int64[1 + caches]: how many caches live, then their rows, newest first
    sizes: np.ndarray  # int64[KMALLOC_SLOTS]
    resizes: np.ndarray  # int64[1]: 0 skips MPRESIZE, which SLOB does not survive; 2: it has no mask (later kernels)
    res: np.ndarray  # uint8[rows]
    path: np.ndarray  # uint8[rows]
    slab: np.ndarray  # int32[rows]: ordinal, -1 none
    idx: np.ndarray  # int32[rows]: object index, -1 none
    rcu_list: np.ndarray  # int64[objects]: what kfree_rcu has no sheaf for, in the order of its calls
    rcu_cpu: np.ndarray  # int64[objects]: where each was called
    rcu_held: np.ndarray  # int64[1]: how many they are


@kernel
def set_nodes(mem, column, node, value):
    """Set a column of one node, or of all for -1."""
    for n in range(mem.ctl[MEMCTL.nr_nodes]):
        if node < 0 or node == n:
            mem.zone[n, column] = value


@kernel
def pool_op(mem, heap, pools, trace, play, row):
    """MPALLOC, MPFREE, MPRESIZE; the result code, and the element in the row's place of ``handle``."""
    out_of_line()
    op = trace.op[row]
    cpu = np.int64(trace.cpu[row])
    p = np.int64(trace.cache[row])
    slot = np.int64(trace.obj[row])
    gfp = np.int64(trace.gfp[row])
    context = np.int64(trace.context[row])
    if op == OP_MPALLOC:
        taken = pools.pool[p, MEMPOOL.from_pool]
        handle = mempool_alloc(mem, heap, pools, p, cpu, gfp, context, True)
        play.handle[slot] = handle
        if handle >= 0:
            return 1 + (pools.pool[p, MEMPOOL.from_pool] - taken)
        return 0 if (gfp & g.WAIT) == 0 else 3
    if op == OP_MPFREE:
        return 2 if mempool_free(mem, heap, pools, p, cpu, play.handle[slot]) else 1
    if play.resizes[0] == 0:
        return 0
    if play.resizes[0] == 2:
        gfp = np.int64(g.GFP_KERNEL)
    return 1 if mempool_resize(mem, heap, pools, play.sizes, p, cpu, gfp, context, np.int64(trace.arg[row])) else 0


def later_op(mem, heap, trace, play, row):
    """An operation that SLUB has in later kernels alone; the result code."""
    return _later_of(heap)(mem, heap, trace, play, row)


@internal
def _place(heap, play, row, handle):
    """Say where the object of the row lies."""
    play.slab[row] = kmem.ordinal(heap, handle)
    play.idx[row] = kmem.object_index(heap, handle)


@internal
def _kfree_rcu(mem, slub, play, c, cpu, slot, context):
    handle = play.handle[slot]
    if slub.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES and kfree_rcu(mem, slub, c, cpu, handle, context):
        return
    held = play.rcu_held[0]
    play.rcu_list[held] = handle
    play.rcu_cpu[held] = cpu
    play.rcu_held[0] = held + 1


@internal
def _grace_period(mem, slub, play):
    """All callbacks, then what the old way of kfree_rcu holds: CPU by CPU, newest first."""
    rcu_do_batch(mem, slub)
    held = play.rcu_held[0]
    play.rcu_held[0] = 0
    for cpu in range(slub.kcpu.shape[1]):
        for i in range(held - 1, -1, -1):
            if play.rcu_cpu[i] == cpu:
                su.slab_free(mem, slub, cpu, play.rcu_list[i])


@internal
def _bulk_alloc(mem, slub, play, c, cpu, slot, gfp, context, count):
    if slub.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES:
        done = sc.alloc_bulk(mem, slub, c, cpu, gfp, context, play.handle, slot, count)
    else:
        done = alloc_bulk(mem, slub, c, cpu, gfp, context, play.handle, slot, count)
    for i in range(count):
        if done:
            kmem.ordinal(slub, play.handle[slot + i])
        else:
            play.handle[slot + i] = st.NO_OBJECT
    return done


@internal
def _bulk_free(mem, slub, play, c, cpu, slot, count):
    """Free those of ``count`` objects that were had; how many."""
    held = 0
    for i in range(count):
        handle = play.handle[slot + i]
        if handle >= 0:
            play.handle[slot + held] = handle
            held += 1
    if slub.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES:
        sc.free_many(mem, slub, c, cpu, play.handle, slot, held)
    else:
        free_bulk(mem, slub, c, cpu, play.handle, slot, held, True)
    for i in range(count):
        play.handle[slot + i] = st.NO_OBJECT
    return held


def _later_op(mem, heap, trace, play, row):
    out_of_line()
    op = trace.op[row]
    cpu = np.int64(trace.cpu[row])
    slot = np.int64(trace.obj[row])
    gfp = np.int64(trace.gfp[row])
    context = np.int64(trace.context[row])
    arg = np.int64(trace.arg[row])
    if op == OP_GP:
        _grace_period(mem, heap, play)
        return 1
    c = play.row_of[trace.cache[row]]
    if c < 0:  # its creation was refused: nothing can be had of it
        for i in range(arg if op == OP_BULK_ALLOC else 1):
            play.handle[slot + i] = st.NO_OBJECT
        return 0
    if op == OP_KFREE_RCU:
        _place(heap, play, row, play.handle[slot])
        _kfree_rcu(mem, heap, play, c, cpu, slot, context)
        play.path[row] = heap.ctl[SLUB_CTL.path]
        return 1
    if op == OP_BULK_ALLOC:
        done = _bulk_alloc(mem, heap, play, c, cpu, slot, gfp, context, arg)
        if done:
            _place(heap, play, row, play.handle[slot])
        return int(done)
    if op == OP_BULK_FREE:
        return _bulk_free(mem, heap, play, c, cpu, slot, arg)
    if op == OP_PREFILL:
        bytes_needed = er.SHEAF_HEADER + 8 * arg
        source = general_cache(play.sizes, bytes_needed)
        h = pre.prefill_sheaf(mem, heap, c, cpu, gfp, context, arg, source)
        play.handle[slot] = h
        if h < 0:
            return 0
        play.idx[row] = heap.ctl[h + er.SHEAF.size]
        return 1
    if op == OP_SHEAF_RETURN:
        pre.return_sheaf(mem, heap, c, cpu, play.handle[slot], gfp, context)
        return 1
    handle = np.int64(st.NO_OBJECT)
    if play.handle[arg] >= 0:
        handle = pre.alloc_from_sheaf(heap, play.handle[arg])
    play.handle[slot] = handle
    if handle < 0:
        return 0
    _place(heap, play, row, handle)
    return 1


def _no_op(mem, heap, trace, play, row):
    return 0


def _later_of(heap):
    return _later_op if getattr(heap, "instance_class", type(heap)) is er.SlubEras else _no_op


@by_type(later_op)
def _later(mem, heap, trace, play, row):
    return _later_of(heap)


@kernel
def rare_op(mem, heap, pools, trace, play, row):
    """Everything but allocations and frees of single objects; the result code."""
    out_of_line()
    op = trace.op[row]
    cpu = np.int64(trace.cpu[row])
    cache = np.int64(trace.cache[row])
    slot = trace.obj[row]
    gfp = np.int64(trace.gfp[row])
    context = np.int64(trace.context[row])
    arg = np.int64(trace.arg[row])
    if (op == OP_SHRINK or (op == OP_FLUSH and cache >= 0)) and play.row_of[cache] < 0:
        return 0
    if op == OP_SHRINK:
        outcome = kmem.kmem_cache_shrink(mem, heap, play.sizes, play.row_of[cache], cpu, context)
        if outcome == kmem.SHRINK_FAILED:
            return 0
        play.idx[row] = outcome
    elif op == OP_FLUSH:
        if cache >= 0:
            kmem.flush_cpu(mem, heap, play.row_of[cache], cpu)
        else:
            for k in range(play.order[0]):
                kmem.flush_cpu(mem, heap, play.order[1 + k], cpu)
    elif op == OP_REAP:
        mem.ctl[MEMCTL.jiffies] = arg
        kmem.reap(mem, heap, cpu, arg, REAPTIMEOUT_LIST3)
    elif op == OP_HOLD:
        set_nodes(mem, ZONE.hold, cache, arg)
    elif op == OP_SETMIN:
        set_nodes(mem, ZONE.min, cache, arg)
    elif op == OP_PGALLOC:
        play.handle[slot] = page_handle(mem, cpu, gfp, context, arg)
        return 1 if play.handle[slot] >= 0 else 0
    elif op == OP_PGFREE:
        free_page_handle(mem, cpu, play.handle[slot])
    elif op >= OPS_2_6_25:
        return later_op(mem, heap, trace, play, row)
    else:
        return pool_op(mem, heap, pools, trace, play, row)
    return 1


@entry
def replay(mem, heap, pools, trace, play, row, stop):
    """Run the rows from ``row`` on; the first row not run: ``stop``, or one the caller must serve.

    Such rows are CREATE, DESTROY and CKPT. An operation on an object that was not had is skipped with result 0.
    """
    while row < stop:
        op = trace.op[row]
        mem.ctl[MEMCTL.context] = trace.context[row]
        if op <= OP_KFREE:
            cpu = np.int64(trace.cpu[row])
            slot = trace.obj[row]
            c = np.int64(-1)
            if op <= OP_FREE:
                c = play.row_of[trace.cache[row]]
            if op in (OP_ALLOC, OP_KMALLOC):
                gfp = np.int64(trace.gfp[row])
                context = np.int64(trace.context[row])
                arg = np.int64(trace.arg[row])
                handle = np.int64(st.NO_OBJECT)
                node = arg
                if op == OP_KMALLOC:
                    c = kmem.kmalloc_cache(heap, play.sizes, arg)
                    node = np.int64(-1)
                if c >= 0:
                    handle = kmem.kmem_cache_alloc(mem, heap, c, cpu, node, gfp, context)
                elif op == OP_KMALLOC:
                    handle = kmem.kmalloc(mem, heap, play.sizes, cpu, gfp, context, arg)
                play.handle[slot] = handle
            else:
                handle = play.handle[slot]
            if handle < 0:
                play.res[row] = 0
                play.path[row] = 0
                play.slab[row] = -1
                play.idx[row] = -1
            else:
                play.res[row] = 1
                play.slab[row] = kmem.ordinal(heap, handle)
                play.idx[row] = kmem.object_index(heap, handle)
                if op in (OP_FREE, OP_KFREE):
                    kmem.kmem_cache_free(mem, heap, c, cpu, handle)
                play.path[row] = kmem.last_path(heap)
        elif op in (OP_CREATE, OP_DESTROY, OP_CKPT):
            break
        else:
            play.path[row] = 0
            play.slab[row] = -1
            play.idx[row] = -1
            frees = op in (OP_MPFREE, OP_PGFREE, OP_KFREE_RCU, OP_SHEAF_RETURN)
            if frees and play.handle[trace.obj[row]] < 0:
                play.res[row] = 0
            else:
                play.res[row] = rare_op(mem, heap, pools, trace, play, row)
                if op in (OP_MPALLOC, OP_MPFREE):
                    handle = play.handle[trace.obj[row]]
                    if 0 <= handle < st.PAGE_HANDLE:
                        play.slab[row] = kmem.ordinal(heap, handle)
                        play.idx[row] = kmem.object_index(heap, handle)
                    elif handle == BOGUS_HANDLE:
                        play.path[row] = 9
        row += 1
    return row

"""The open loop: a recorded trace of allocator operations, run through the kernels that the closed loop uses.

A trace is columns, a row an operation; the operations are those of the golden cases. Creating and destroying caches
and checkpoints need geometry and tables, so :func:`replay` stops before such a row and its caller serves it.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.jit import entry, kernel, out_of_line
from fastalloc.kernels.alloc import kmem
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import BOGUS_HANDLE, MEMPOOL, mempool_alloc, mempool_free, mempool_resize
from fastalloc.kernels.alloc.slab.state import REAPTIMEOUT_LIST3_S
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
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
    resizes: np.ndarray  # int64[1]: 0 skips MPRESIZE, which SLOB does not survive
    res: np.ndarray  # uint8[rows]
    path: np.ndarray  # uint8[rows]
    slab: np.ndarray  # int32[rows]: ordinal, -1 none
    idx: np.ndarray  # int32[rows]: object index, -1 none


@kernel
def set_nodes(mem, column, node, value):
    """Set a column of one node, or of all for -1."""
    for n in range(mem.ctl[MEMCTL.nr_nodes]):
        if node < 0 or node == n:
            mem.zone[n, column] = value


@kernel
def pool_op(mem, heap, pools, play, op, cpu, p, slot, gfp, context, arg):
    """MPALLOC, MPFREE, MPRESIZE; the result code, and the element in ``handle[slot]``."""
    out_of_line()
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
    return 1 if mempool_resize(mem, heap, pools, play.sizes, p, cpu, gfp, context, arg) else 0


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
        play.handle[slot] = kmem.page_handle(mem, cpu, gfp, context, arg)
        return 1 if play.handle[slot] >= 0 else 0
    elif op == OP_PGFREE:
        kmem.free_page_handle(mem, cpu, play.handle[slot])
    else:
        return pool_op(mem, heap, pools, play, op, cpu, cache, slot, gfp, context, arg)
    return 1


@entry
def replay(mem, heap, pools, trace, play, row, stop):
    """Run the rows from ``row`` on; the first row not run: ``stop``, or one the caller must serve.

    Such rows are CREATE, DESTROY and CKPT. An operation on an object that was not had is skipped with result 0.
    """
    while row < stop:
        op = trace.op[row]
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
            frees = op in (OP_MPFREE, OP_PGFREE)
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

"""What adds up over the events of a trace, in one pass each, compiled."""

import numpy as np

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.replay.kmem_events import MET, OP_ALLOC, OP_BULK_FREE, OP_FREE


@kernel
def lives(op, obj, last, counts):
    """Objects whose life is not whole. ``last``: int8[objects], all -1; ``counts``: int64[3], those freed that were
    there before, those freed twice, those allocated twice."""
    for i in range(op.shape[0]):
        if op[i] > OP_BULK_FREE:
            continue
        free = op[i] % 2 != OP_ALLOC
        before = last[obj[i]]
        if free and before < 0:
            counts[0] += 1
        elif free and before == 1:
            counts[1] += 1
        elif not free and before == 0:
            counts[2] += 1
        last[obj[i]] = free


@kernel
def counted(op, kind, counts):
    """Add up events by kind and op: int64[kinds, ops]."""
    for i in range(op.shape[0]):
        counts[kind[i], op[i]] += 1


@kernel
def first_events(op, obj, first):
    """The row of each object's first event: ``first`` int32[objects], all -1 at first."""
    for i in range(op.shape[0]):
        if op[i] <= OP_BULK_FREE and first[obj[i]] < 0:
            first[obj[i]] = i


@kernel
def last_allocation(op, obj, kind, last):
    """The kind of the allocation by which each object is out at the end: ``last`` int32[objects], all -1 at first, and
    where it is not. Bulk allocations do not tell what was asked for, and are passed over."""
    for i in range(op.shape[0]):
        if op[i] == OP_ALLOC:
            last[obj[i]] = kind[i]
        elif op[i] == OP_FREE or op[i] == OP_BULK_FREE:
            last[obj[i]] = -1


@kernel
def handed_out_again(op, obj, kind, last, again, allocs):
    """Allocations by kind, and those of them whose object was handed out again though no event freed it: int64[kinds]
    both. ``last``: int32[objects], all -1."""
    for i in range(op.shape[0]):
        if op[i] > OP_BULK_FREE:
            continue
        o = obj[i]
        if op[i] % 2 != OP_ALLOC:
            last[o] = -1
            continue
        if last[o] >= 0:
            again[last[o]] += 1
        last[o] = kind[i]
        allocs[kind[i]] += 1


@kernel
def crossed(op, obj, kind, cpu, last, counts):
    """Objects freed on another CPU than they were allocated on, by the kind that allocated them: ``counts``
    int64[kinds]; ``last`` int32[objects], all -1."""
    for i in range(op.shape[0]):
        if op[i] > OP_BULK_FREE:
            continue
        before = last[obj[i]]
        if before >= 0 and op[i] % 2 != OP_ALLOC and op[before] % 2 == OP_ALLOC and cpu[before] != cpu[i]:
            counts[kind[before]] += 1
        last[obj[i]] = i


@kernel
def met_by_cache(op, obj, kind, cache, out, counts):
    """What each cache's operations meet, whatever its layout: ``counts`` int64[caches, kmem_replay.COUNTS]. ``cache``:
    int32[kinds], -1 none; ``out``: uint8[objects], 1 for those out at the start."""
    for i in range(op.shape[0]):
        c = np.int64(cache[kind[i]])
        if op[i] > OP_BULK_FREE or c < 0:
            continue
        if op[i] % 2 == OP_ALLOC:
            counts[c, MET.implied_frees] += out[obj[i]]
            counts[c, MET.allocs] += 1
            out[obj[i]] = 1
        elif out[obj[i]]:
            counts[c, MET.frees] += 1
            out[obj[i]] = 0
        else:
            counts[c, MET.unknown_frees] += 1


@kernel
def freed(columns, size, last, held, figures, life_of, life):
    """What frees tell: by kind ``figures`` int64[kinds, 3], bytes of what was last allocated at the address, of these
    freed again, objects freed on another CPU; and for each object freed that was allocated here the kind of its free
    and its life in time units, ``life_of`` and ``life`` uint32[frees]. Returns how many these are.

    ``size``: bytes that each kind allocates; ``last`` int32[objects], all -1; ``held`` int64[objects], zeros.
    """
    op, obj, kind, cpu, time = columns
    found = 0
    for i in range(op.shape[0]):
        if op[i] > OP_BULK_FREE:
            continue
        o = obj[i]
        before = last[o]
        last[o] = i
        if op[i] % 2 == OP_ALLOC:
            held[o] = size[kind[i]]
            continue
        figures[kind[i], 0] += held[o]
        if before >= 0 and op[before] % 2 != OP_ALLOC:
            figures[kind[i], 1] += held[o]
        elif before >= 0:
            figures[kind[i], 2] += cpu[before] != cpu[i]
            life_of[found] = kind[i]
            life[found] = time[i] - time[before]
            found += 1
    return found

"""Passes over the events of a trace that draw its order, compiled; see ``races``."""

import numpy as np

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.replay.kmem_events import FREES, OP_BULK_FREE


@kernel
def limits(cpu, time, rows, latest, latest_time, before, after):
    """Times of each CPU's event before and after each of ``rows`` (ascending), its own where there is none: uint32.

    ``latest``: int64[cpus] -1, ``latest_time`` uint32[cpus].
    """
    k = 0
    for i in range(cpu.shape[0]):
        c = cpu[i]
        if latest[c] >= 0:
            after[latest[c]] = time[i]
        own = k < rows.shape[0] and rows[k] == i
        if own:
            before[k] = latest_time[c] if latest[c] != -1 else time[i]
            after[k] = time[i]
        latest[c] = k if own else -2
        latest_time[c] = time[i]
        k += own


@kernel
def free_and_alloc(op, obj, rows, latest, freed, again):
    """Places in ``rows`` of each free that is followed, at its address, by an allocation of ``rows`` too; how many.

    ``latest``: int32[objects] all -1.
    """
    found = 0
    k = 0
    for i in range(op.shape[0]):
        own = k < rows.shape[0] and rows[k] == i
        if op[i] <= OP_BULK_FREE:
            last = latest[obj[i]]
            if own and last >= 0 and op[i] & FREES == 0:
                freed[found] = last
                again[found] = k
                found += 1
            latest[obj[i]] = k if own and op[i] & FREES != 0 else -1
        k += own
    return found


@kernel
def merge(source, rows, order, at, target):
    """Events of ``source`` into ``target``: ``rows`` (ascending) by their times ``at``, in ``order``, the others where
    they were; what is at one time by row. Times are those of the places."""
    here = 0
    k = 0
    moved = 0
    for i in range(source.shape[0]):
        own = k < rows.shape[0] and rows[k] == i
        k += own
        if own:
            continue
        time = np.float64(source[i]["time"])
        while moved < rows.shape[0] and (
            at[order[moved]] < time or (at[order[moved]] == time and rows[order[moved]] < i)
        ):
            copy(source, rows[order[moved]], target, here)
            moved += 1
            here += 1
        copy(source, i, target, here)
        here += 1
    while moved < rows.shape[0]:
        copy(source, rows[order[moved]], target, here)
        moved += 1
        here += 1


@kernel
def copy(source, i, target, here):
    """Row ``here`` of ``target`` is row ``i`` of ``source``, at the time of its place."""
    target[here]["object"] = source[i]["object"]
    target[here]["kind"] = source[i]["kind"]
    target[here]["cpu"] = source[i]["cpu"]
    target[here]["op"] = source[i]["op"]
    target[here]["ago"] = source[i]["ago"]
    target[here]["time"] = source[here]["time"]

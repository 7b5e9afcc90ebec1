"""Passes over the events of a trace that tell who holds what, compiled; see ``holders``."""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.replay.kmem_events import OP_ALLOC, OP_BULK_FREE, OP_PAGE_ALLOC, OP_PAGE_FREE


class Out(NamedTuple):
    """What is known of each object."""

    by: np.ndarray  # int32, all -1 at first: the group that allocated it, -2 - group once freed
    born: np.ndarray  # uint32: when
    born_cpu: np.ndarray  # int32: where, -1 once freed
    kind: np.ndarray  # uint32: the kind that allocated it


@kernel
def held(columns, group, size, out, counts, life_of, life, most):
    """Lives of objects by the group that allocated them. ``group``: uint32[n] of each event; ``size``: bytes of each
    kind; ``out``: what is known of each object.

    ``counts``: int64[groups, 3], frees, ping-pongs (as perf kmem counts them: every free on another CPU than the
    allocation's, a second free of the same address always) and addresses handed out again without a free. ``life_of``,
    ``life``: group and life of each object freed; returns how many. ``most``: int64[2], the most bytes live at once and
    the row.
    """
    op, obj, kind, cpu, time = columns
    by, born, born_cpu, held_kind = out
    found = 0
    net = np.int64(0)
    for i in range(op.shape[0]):
        if op[i] > OP_BULK_FREE:
            continue
        o = obj[i]
        if op[i] % 2 == OP_ALLOC:
            net += size[kind[i]]
            if by[o] >= 0:
                net -= size[held_kind[o]]
                counts[by[o], 2] += 1
            by[o] = group[i]
            held_kind[o] = kind[i]
            born[o] = time[i]
            born_cpu[o] = cpu[i]
            if net > most[0]:
                most[0] = net
                most[1] = i
            continue
        if by[o] == -1:
            continue
        own = by[o] if by[o] >= 0 else -2 - by[o]
        if born_cpu[o] != cpu[i]:
            counts[own, 1] += 1
        born_cpu[o] = -1
        if by[o] >= 0:
            counts[own, 0] += 1
            life_of[found] = own
            life[found] = time[i] - born[o]
            found += 1
            net -= size[held_kind[o]]
            by[o] = -2 - own
    return found


@kernel
def live_at(op, obj, group, row, by, live):
    """Objects of each group out after ``row``: ``live`` int64[groups]; ``by`` int32[objects], all -1."""
    for i in range(row + 1):
        if op[i] > OP_BULK_FREE:
            continue
        o = obj[i]
        if by[o] >= 0:
            live[by[o]] -= 1
            by[o] = -1
        if op[i] % 2 == OP_ALLOC:
            by[o] = group[i]
            live[group[i]] += 1


@kernel
def last_page_events(op, obj, page, last):
    """The row of the last event of each of the page frames ``page`` (ascending), -1 none: ``last`` int64[n]."""
    for i in range(op.shape[0]):
        if op[i] == OP_PAGE_ALLOC or op[i] == OP_PAGE_FREE:
            at = np.searchsorted(page, obj[i])
            if at < page.shape[0] and page[at] == obj[i]:
                last[at] = i


@kernel
def tasks_of(cpu, ago, begins, begin_task, at, ring, task):
    """The task of each event: uint32[n]. ``begins``: rows (ascending) at which ``begin_task`` is told, the others have
    the task of the event ``ago`` events back on their CPU. ``at``: int64[cpus] zeros, ``ring`` uint32[cpus, 256]."""
    k = 0
    for i in range(cpu.shape[0]):
        c = cpu[i]
        if k < begins.shape[0] and begins[k] == i:
            task[i] = begin_task[k]
            k += 1
        else:
            task[i] = ring[c, (at[c] - ago[i]) % 256]
        ring[c, at[c] % 256] = task[i]
        at[c] += 1

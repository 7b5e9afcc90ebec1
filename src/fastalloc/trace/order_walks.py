"""Passes over the events of a compact trace that settle their order, compiled; see ``settle``."""

import numpy as np

from fastalloc.kernels.jit import kernel
from fastalloc.kernels.kmem_replay import OP_ALLOC, OP_BULK_ALLOC, OP_BULK_FREE

LATEST = 256  # events of a CPU that are looked back on


@kernel
def runs_of_tasks(cpu, ago, latest, at, before, after, task):
    """Which events of a task follow each other, from ``ago`` (see ``compact``). ``latest``: int32[cpus, LATEST],
    ``at`` int64[cpus] zeros; ``after`` holds the number of rows at first."""
    for i in range(cpu.shape[0]):
        c = cpu[i]
        back = np.int64(ago[i])
        task[i] = i
        before[i] = latest[c, (at[c] - back) % LATEST] if 0 < back <= at[c] else -1
        if before[i] >= 0 and back < 255:  # else so long ago, or longer
            task[i] = task[before[i]]
            after[before[i]] = i
        latest[c, at[c] % LATEST] = i
        at[c] += 1


@kernel
def same_call(op, cpu, time, i, j):
    """Whether rows ``i`` and ``j``, neighbours, are of one bulk call."""
    return (
        (op[i] == OP_BULK_ALLOC or op[i] == OP_BULK_FREE)
        and op[i] == op[j]
        and cpu[i] == cpu[j]
        and (time[i] == time[j])
    )


@kernel
def limits(
    rows, places, op, cpu, time, before, after, tasks, nested, low, high, nested_low, nested_high, task, call, ends
):
    """Between which rows each of ``rows`` was: an allocation after its task's event before, a free before the one
    after; ``nested_`` where so many of these may have been of interrupts. ``call``: first row of its bulk call;
    ``ends`` 1 for the last of it, 2 for the first."""
    n = op.shape[0]
    for k in range(rows.shape[0]):
        i = np.int64(rows[k])
        first = i
        last = i
        while first > 0 and same_call(op, cpu, time, first - 1, first):
            first -= 1
        while last + 1 < n and same_call(op, cpu, time, last, last + 1):
            last += 1
        p = places[k]
        task[p] = tasks[i]
        call[p] = first
        ends[p] = (1 if i == last else 0) + (2 if i == first else 0)
        low[p] = i
        high[p] = i
        nested_low[p] = i
        nested_high[p] = i
        if op[i] > OP_BULK_FREE:
            low[p] = i - 1
            nested_low[p] = i - 1
        elif op[i] % 2 == OP_ALLOC:
            at = np.int64(before[first])
            low[p] = at
            steps = 1
            while at >= 0 and steps < nested:
                at = np.int64(before[at])
                steps += 1
            nested_low[p] = at
        else:
            at = np.int64(after[last])
            high[p] = at
            steps = 1
            while at < n and steps < nested:
                at = np.int64(after[at])
                steps += 1
            nested_high[p] = at


@kernel
def count_caches(kind, cache, usable, count):
    """How many usable rows each cache has: ``count`` int64[caches + 1]."""
    for i in range(kind.shape[0]):
        if usable[i] and cache[kind[i]] >= 0:
            count[cache[kind[i]]] += 1


@kernel
def rows_of_caches(kind, cache, usable, edges, rows):
    """The usable rows, cache by cache; ``edges``: where each cache begins."""
    for i in range(kind.shape[0]):
        if usable[i] and cache[kind[i]] >= 0:
            c = cache[kind[i]]
            rows[edges[c]] = i
            edges[c] += 1


@kernel
def merged(place, behind, to, turn, which, order):
    """Rows and moves in one order. Row i is at ``place[i]``, and stays where that is i; moves go ``to`` places
    (ascending, with their ``turn``), and are -1 - ``which`` in ``order``."""
    at = 0
    move = 0
    for i in range(place.shape[0]):
        if place[i] != i:
            continue
        while move < to.shape[0] and (to[move] < i or (to[move] == i and turn[move] < behind[i])):
            order[at] = -1 - which[move]
            at += 1
            move += 1
        order[at] = i
        at += 1
    while move < to.shape[0]:
        order[at] = -1 - which[move]
        at += 1
        move += 1

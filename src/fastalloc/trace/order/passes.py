"""Passes over the events of a compact trace that resolve their order, compiled; see ``resolve_order``."""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.jit import kernel
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.replay.kmem_events import (
    OP_ALLOC,
    OP_ALLOC_FAILED,
    OP_BULK_ALLOC,
    OP_BULK_FREE,
    OP_PAGE_ALLOC,
    OP_SHORTAGE,
)
from fastalloc.linux import gfp as g
from fastalloc.trace.order import model as om
from fastalloc.trace.order.model import ORDER_EVENT

LONG_AGO = 255  # an ``ago`` that only says: so many or more
NESTED = 64  # events of interrupts and of other tasks' ends that may lie between an operation and its event


# state[.]: how far the operations of a cache were gathered
class OWN_AT(Record):
    """Columns."""

    row = field("of its own rows")
    gone = field("of the slabs that went")


class Runs(NamedTuple):
    """The rows of each CPU, and the runs of tasks among them; see ``rows_of_cpus``."""

    edges: np.ndarray  # int64[cpus + 1]: where those of each CPU begin and end
    rows: np.ndarray  # int32[n]
    since: np.ndarray  # uint8[n]
    until: np.ndarray  # uint8[n]
    task: np.ndarray  # int32[n]


class Own(NamedTuple):
    """The operations of one cache."""

    rows: np.ndarray  # ascending
    place_of: np.ndarray  # number of each object of ``ptrs`` in this cache
    block_of: np.ndarray  # the block that each such number is in
    gone: np.ndarray  # rows of the page frees that ended its slabs
    gone_block: np.ndarray  # their blocks


class Moves(NamedTuple):
    """Where events go, ascending by place."""

    row: np.ndarray  # int64: of the event
    to: np.ndarray  # int64: its place
    turn: np.ndarray  # int64: before or behind what stays there
    op: np.ndarray  # int64: what it becomes, -1 it stays what it is


@kernel
def count_cpus(cpu, count):
    """How many events each CPU has: ``count`` int64[cpus]."""
    for i in range(cpu.shape[0]):
        count[cpu[i]] += 1


@kernel
def rows_of_cpus(cpu, ago, begin, at, rows, since, until, task):
    """The rows of each CPU, in ``rows`` (int32[n]) from ``begin`` (int64[cpus]) on, and there ``since`` and ``until``
    (uint8[n]): how many events of its CPU ago each event's task had its last, as ``ago`` (see ``compact``), and in how
    many it has its next; 0 none, or so many that ``ago`` does not say. ``task`` (int32[n]) numbers runs of one task,
    row by row. ``at``: int64[cpus] zeros."""
    for i in range(cpu.shape[0]):
        c = cpu[i]
        place = begin[c] + at[c]
        rows[place] = i
        task[i] = i
        back = np.int64(ago[i])
        since[place] = back if back <= at[c] else 0
        if 0 < back <= at[c] and back < LONG_AGO:
            task[i] = task[rows[place - back]]
            until[place - back] = back
        at[c] += 1


@kernel
def is_operation(op):
    """Whether an event of this ``op`` is an operation on a cache."""
    return op <= OP_BULK_FREE or op == OP_ALLOC_FAILED


@kernel
def count_caches(op, kind, cache, count, named):
    """Operations of each cache (``count`` int64[caches]), and which caches have one with an object (``named`` bool)."""
    for i in range(op.shape[0]):
        c = cache[kind[i]]
        if c >= 0 and is_operation(op[i]):
            count[c] += 1
            named[c] |= op[i] <= OP_BULK_FREE


@kernel
def rows_of_caches(op, kind, cache, edges, rows):
    """The rows of the operations, cache by cache; ``edges``: where each cache begins."""
    for i in range(op.shape[0]):
        c = cache[kind[i]]
        if c >= 0 and is_operation(op[i]):
            rows[edges[c]] = i
            edges[c] += 1


@kernel
def needs_slab(op, cpu, time, i):
    """Whether row ``i`` is an allocation right before the pages of its new slab."""
    if op[i] != OP_ALLOC and op[i] != OP_BULK_ALLOC:
        return False
    return i + 1 < op.shape[0] and op[i + 1] == OP_PAGE_ALLOC and cpu[i] == cpu[i + 1] and time[i] == time[i + 1]


@kernel
def objects_of(op, obj, cpu, time, own, gone, held):
    """Mark the objects that a cache of rows ``own`` had: ``held`` bool[objects]; the most slabs that it had allocated
    and not given back at once. ``gone``: rows of the page frees that ended its slabs."""
    slabs = 0
    most = 0
    ended = 0
    for k in range(own.shape[0]):
        i = np.int64(own[k])
        while ended < gone.shape[0] and gone[ended] < i:
            ended += 1
            slabs -= 1
        if op[i] <= OP_BULK_FREE:
            held[obj[i]] = True
        if needs_slab(op, cpu, time, i):
            slabs += 1
            most = max(most, slabs)
    return most


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
def row_before(rows, since, place, steps):
    """The row of the event that is ``steps`` of its task's before the one at ``place`` among its CPU's ``rows``, as far
    as is known; -1 none."""
    for _ in range(steps):
        if since[place] == 0:
            return np.int64(-1)
        place -= since[place]
    return np.int64(rows[place])


@kernel
def row_after(rows, until, place, steps, none):
    """The same ``steps`` after it; ``none`` where there is none."""
    for _ in range(steps):
        if until[place] == 0:
            return np.int64(none)
        place += until[place]
    return np.int64(rows[place])


@kernel
def set_limits(op, cpu, time, rows, since, until, i, place, e):
    """Between which rows the operation of row ``i``, at ``place`` among its CPU's, was: an allocation after its task's
    event before, a free before the one after; nested_* as if up to NESTED of these had been of interrupts."""
    n = op.shape[0]
    first = i
    last = i
    while first > 0 and same_call(op, cpu, time, first - 1, first):
        first -= 1
    while last + 1 < n and same_call(op, cpu, time, last, last + 1):
        last += 1
    e[ORDER_EVENT.call] = first
    e[ORDER_EVENT.ends] = (1 if i == last else 0) + (2 if i == first else 0)
    e[ORDER_EVENT.low] = i
    e[ORDER_EVENT.high] = i
    e[ORDER_EVENT.nested_low] = i
    e[ORDER_EVENT.nested_high] = i
    if op[i] > OP_BULK_FREE:
        e[ORDER_EVENT.low] = i - 1
        e[ORDER_EVENT.nested_low] = i - 1
    elif op[i] % 2 == OP_ALLOC:
        e[ORDER_EVENT.low] = row_before(rows, since, place + first - i, 1)
        e[ORDER_EVENT.nested_low] = row_before(rows, since, place + first - i, NESTED)
    else:
        e[ORDER_EVENT.high] = row_after(rows, until, place + last - i, 1, n)
        e[ORDER_EVENT.nested_high] = row_after(rows, until, place + last - i, NESTED, n)


@kernel
def place_in(rows, row):
    """Where ``row`` is in ``rows``, ascending."""
    low = 0
    high = rows.shape[0] - 1
    while low < high:
        middle = (low + high) // 2
        if rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def gather(columns, runs, node, cache, state, events, have, entitled):
    """The next operations of a ``cache`` (an Own) into ``events`` (int32[., ORDER_EVENT.width]) behind the first
    ``have``, as many as fit; how many there are then. ``runs``: as of ``rows_of_cpus``; ``node`` of each kind;
    ``entitled``: uint8[kinds].

    The BEGIN of an allocation with a new slab comes right before it, a slab's end where its pages are freed.
    """
    op, obj, kind, cpu, time = columns
    edges, rows, since, until, task = runs
    own, place_of, block_of, gone, gone_block = cache
    n = op.shape[0]
    k = state[OWN_AT.row]
    ended = state[OWN_AT.gone]
    while have + 2 <= events.shape[0]:
        if ended < gone.shape[0] and (k == own.shape[0] or gone[ended] < own[k]):
            i = np.int64(gone[ended])
            e = events[have]
            e[:] = 0
            e[ORDER_EVENT.op] = om.GONE
            e[ORDER_EVENT.block] = gone_block[ended]
            e[ORDER_EVENT.low] = i
            e[ORDER_EVENT.high] = i
            e[ORDER_EVENT.nested_low] = i
            e[ORDER_EVENT.nested_high] = i
            e[ORDER_EVENT.task] = -1 - n - i
            e[ORDER_EVENT.call] = -1 - n - i
            e[ORDER_EVENT.row] = i
            ended += 1
            have += 1
            continue
        if k == own.shape[0]:
            break
        i = np.int64(own[k])
        new_slab = needs_slab(op, cpu, time, i)
        e = events[have + (1 if new_slab else 0)]
        failed = op[i] == OP_ALLOC_FAILED
        e[ORDER_EVENT.op] = om.FAILED if failed else op[i] % 2
        e[ORDER_EVENT.object] = 0 if failed else place_of[obj[i]]
        e[ORDER_EVENT.block] = -1 if failed else block_of[place_of[obj[i]]]
        e[ORDER_EVENT.node] = node[kind[i]]
        e[ORDER_EVENT.cpu] = cpu[i]
        e[ORDER_EVENT.gfp] = g.GFP_KERNEL | (g.MEMALLOC if entitled[kind[i]] == om.IS_ENTITLED else 0)
        e[ORDER_EVENT.kind] = kind[i]
        e[ORDER_EVENT.reserve] = 0
        e[ORDER_EVENT.short] = obj[i - 1] if i > 0 and op[i - 1] == OP_SHORTAGE else -1
        e[ORDER_EVENT.task] = task[i]
        e[ORDER_EVENT.row] = i
        begin = edges[cpu[i]]
        end = edges[np.int64(cpu[i]) + 1]
        place = place_in(rows[begin:end], i)
        set_limits(op, cpu, time, rows[begin:end], since[begin:end], until[begin:end], i, place, e)
        if new_slab:
            first = events[have]
            for field in range(ORDER_EVENT.width):
                first[field] = e[field]
            first[ORDER_EVENT.op] = om.BEGIN
            first[ORDER_EVENT.call] = -1 - i
            first[ORDER_EVENT.ends] = 1
            have += 1
        have += 1
        k += 1
    state[OWN_AT.row] = k
    state[OWN_AT.gone] = ended
    return have


@kernel
def put(source, i, op, target, at):
    """Row ``at`` of ``target`` is row ``i`` of ``source``, its task unknown, its op ``op`` unless that is negative."""
    target[at]["object"] = source[i]["object"]
    target[at]["kind"] = source[i]["kind"]
    target[at]["cpu"] = source[i]["cpu"]
    target[at]["op"] = source[i]["op"] if op < 0 else op


@kernel
def merge(source, away, stays, turn_of, moves, times, target):
    """Events of ``source`` in the order found, into ``target``, times ascending.

    Rows ``away`` (ascending) leave their places, ``moves`` say where they go, and what comes in beside; ``turn_of`` is
    the turn of the rows ``stays`` (ascending), 0 of others. ``times``: of the events that ``target`` has more,
    ascending.
    """
    row, to, turn, op = moves
    at = 0
    move = 0
    gone = 0
    known = 0
    for i in range(source.shape[0]):
        if gone < away.shape[0] and away[gone] == i:
            gone += 1
            continue
        while known < stays.shape[0] and stays[known] < i:
            known += 1
        own = np.int64(turn_of[known]) if known < stays.shape[0] and stays[known] == i else np.int64(0)
        while move < to.shape[0] and (to[move] < i or (to[move] == i and turn[move] < own)):
            put(source, row[move], op[move], target, at)
            move += 1
            at += 1
        put(source, i, -1, target, at)
        at += 1
    while move < to.shape[0]:
        put(source, row[move], op[move], target, at)
        move += 1
        at += 1
    more = 0
    for i in range(target.shape[0]):
        if more < times.shape[0] and (i - more == source.shape[0] or times[more] < source[i - more]["time"]):
            target[i]["time"] = times[more]
            more += 1
        else:
            target[i]["time"] = source[i - more]["time"]

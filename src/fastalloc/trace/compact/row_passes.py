"""Passes over the rows of a trace, in the order of their events, compiled; see ``rows`` for the columns.

A table of numbers by key is open-addressed: ``slots`` is a power of two of row numbers, EMPTY where there is none, and
``keys`` the key of each row; it is at most half full.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.replay.kmem_events import (
    OP_ALLOC,
    OP_BULK_ALLOC,
    OP_BULK_FREE,
    OP_PAGE_ALLOC,
    OP_PAGE_FREE,
    OP_SHORTAGE,
)

EMPTY = 0xFFFFFFFF
DIRECT_MAP = 0xFFFF888000000000  # where x86-64 maps all memory without address randomisation
ORDERS = 21
AMBIGUOUS = -2
REFUSED = -2  # and less: so much less the number of the block
_EMPTY = np.uint32(EMPTY)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_MIX_LOW = np.uint64(0x9E3779B9)
_MIX_HIGH = np.uint64(0x7F4A7C15)
_BASE = np.uint64(DIRECT_MAP)
_PAGE_SHIFT = np.uint64(12)
_ORDER_SHIFT = np.uint64(56)


class Columns(NamedTuple):
    """The columns of a trace's events, as kernels get them."""

    op: np.ndarray  # uint8[rows]
    object: np.ndarray  # uint32[rows]
    kind: np.ndarray  # uint32[rows]
    cpu: np.ndarray  # uint16[rows]
    time: np.ndarray  # uint32[rows]


def columns_of(events: np.ndarray) -> Columns:
    """Views of the columns of ``events``."""
    return Columns(*(events[name] for name in Columns._fields))


class Table(NamedTuple):
    """A hash table: ``slots`` hold numbers of ``keys``, EMPTY none."""

    slots: np.ndarray  # uint32[a power of 2]
    keys: np.ndarray  # uint64[keys]
    orders: np.ndarray  # bool[ORDERS]: of blocks that are keys


def table_of(keys: int) -> Table:
    """An empty table with room for so many ``keys``."""
    room = 1 << max(keys, 1).bit_length()
    slots = np.full(2 * room, EMPTY, np.uint32)
    return Table(slots, np.zeros(max(keys, 1), np.uint64), np.zeros(ORDERS, np.bool_))


@kernel
def place(slots, keys, key):
    """Where ``key`` is in ``slots``, or the empty place where it would be."""
    mask = np.uint64(slots.shape[0] - 1)
    mixed = (key & _LOW) * _MIX_LOW ^ (key >> _HALF) * _MIX_HIGH  # neither product leaves 64 bits
    at = (mixed ^ (mixed >> np.uint64(29))) & mask
    while slots[at] != _EMPTY and keys[slots[at]] != key:
        at = (at + np.uint64(1)) & mask
    return at


@kernel
def number(op, address, slots, keys, ids, count):
    """Number the addresses of object events as they first come, from ``count`` on; ``keys`` has room for all. ``ids``:
    the numbers, and the page frame of other events, at most 32 bits. Returns how many there are then."""
    for i in range(op.shape[0]):
        if op[i] > OP_BULK_FREE:
            ids[i] = min(address[i], np.uint64(EMPTY))
            continue
        at = place(slots, keys, address[i])
        if slots[at] == _EMPTY:
            slots[at] = count
            keys[count] = address[i]
            count += 1
        ids[i] = slots[at]
    return count


@kernel
def renumber(op, ids, rank):
    """Give every object the number ``rank`` of its number."""
    for i in range(op.shape[0]):
        if op[i] <= OP_BULK_FREE:
            ids[i] = rank[ids[i]]


@kernel
def compress(column, mask):
    """Move the elements of ``mask`` to the front."""
    at = 0
    for i in range(column.shape[0]):
        if mask[i]:
            column[at] = column[i]
            at += 1


@kernel
def in_use(op, ids, used):
    """Mark the objects that there are: bool[objects]."""
    for i in range(op.shape[0]):
        if op[i] <= OP_BULK_FREE:
            used[ids[i]] = True


@kernel
def from_neighbour(op, obj, name, near, frees):
    """Unnamed allocations take the cache of the free that is next at their address; with ``frees``, unnamed frees that
    of the allocation before. ``near``: int32[objects], all -1. Returns how many."""
    found = 0
    rows = op.shape[0]
    for step in range(rows):
        i = step if frees else rows - 1 - step
        if op[i] > OP_BULK_FREE:
            continue
        if name[i] < 0 and (op[i] % 2 != OP_ALLOC) == frees:
            other = near[obj[i]]
            if other >= 0 and (op[other] % 2 == OP_ALLOC) == frees and name[other] >= 0:
                name[i] = name[other]
                found += 1
        near[obj[i]] = i
    return found


@kernel
def block_of(slots, keys, page, orders):
    """The latest block that ``page`` is in, -1 none. ``orders``: bool[ORDERS], the orders there are. Blocks lie at
    multiples of their size."""
    latest = np.int64(-1)
    for order in range(ORDERS):
        if orders[order]:
            key = (page >> np.uint64(order)) | (np.uint64(order) << _ORDER_SHIFT)
            at = place(slots, keys, key)
            if slots[at] != _EMPTY:
                latest = max(latest, np.int64(slots[at]))
    return latest


@kernel
def hand_out(slots, keys, pfn, order, block):
    """Block number ``block`` is ``pfn`` on, of ``order``; its place is that of the last such block."""
    keys[block] = (np.uint64(pfn) >> np.uint64(order)) | (np.uint64(order) << _ORDER_SHIFT)
    at = place(slots, keys, keys[block])
    slots[at] = block


@kernel
def pages(columns, name, ptrs, order_of, left_out, table, alone_table, group_name, fill):
    """Names by pages: a block between two times it was handed out is a group, a page never handed out is one itself.

    With ``fill`` 0 collects in ``group_name`` (int32[blocks, then objects], -1 at first) the one name of each group,
    AMBIGUOUS where there are several; with 1 gives it to the unnamed objects of the group and returns how many.
    ``left_out``: a name that says nothing of pages. ``table`` is for the blocks, ``alone_table`` for pages that are in
    none.
    """
    op, obj, kind = columns.op, columns.object, columns.kind
    slots, keys, orders = table
    page_slots, page_keys = alone_table.slots, alone_table.keys
    blocks = np.int64(0)
    found = np.int64(0)
    alone = np.int64(0)
    room = keys.shape[0]
    for i in range(op.shape[0]):
        if op[i] == OP_PAGE_ALLOC:
            if obj[i] != _EMPTY:
                orders[order_of[kind[i]]] = True
                hand_out(slots, keys, np.uint64(obj[i]), order_of[kind[i]], blocks)
                blocks += 1
        elif op[i] <= OP_BULK_FREE and ptrs[obj[i]] >= _BASE:
            page = (ptrs[obj[i]] - _BASE) >> _PAGE_SHIFT
            group = block_of(slots, keys, page, orders)
            if group < 0:
                at = place(page_slots, page_keys, page)
                if page_slots[at] == _EMPTY:
                    page_slots[at] = alone
                    page_keys[alone] = page
                    alone += 1
                group = room + np.int64(page_slots[at])
            if fill:
                if name[i] < 0 and group_name[group] >= 0:
                    name[i] = group_name[group]
                    found += 1
            elif name[i] >= 0 and name[i] != left_out:
                if group_name[group] == -1:
                    group_name[group] = name[i]
                elif group_name[group] != name[i]:
                    group_name[group] = AMBIGUOUS
    return found


@kernel
def base_votes(op, obj, kind, cpu, ptrs, order_of, last, votes):
    """Where memory may be mapped: the address of an object less that of the block of pages that its CPU was given last,
    where that is the GiB it begins in. ``last``: int64[cpus] all -1; ``votes`` uint64, filled; how many there are."""
    count = 0
    gib = np.uint64(1 << 30)
    for i in range(op.shape[0]):
        if op[i] == OP_PAGE_ALLOC:
            last[cpu[i]] = i if obj[i] != _EMPTY else -1
        elif (op[i] == OP_ALLOC or op[i] == OP_BULK_ALLOC) and last[cpu[i]] >= 0 and count < votes.shape[0]:
            page = last[cpu[i]]
            last[cpu[i]] = -1
            away = ptrs[obj[i]] - (np.uint64(obj[page]) << _PAGE_SHIFT)
            if away % gib < np.uint64(4096) << np.uint64(order_of[kind[page]]):
                votes[count] = away - away % gib
                count += 1
    return count


@kernel
def turn_bulk_frees(op, time, cpu, obj, kind, task, name):
    """Objects of one bulk free in the order in which the kernel frees them: from the last of the array to the first
    [build_detached_freelist]. Rows of a call follow each other with one time and CPU."""
    i = 0
    while i < op.shape[0]:
        last = i
        if op[i] == OP_BULK_FREE:
            while (
                last + 1 < op.shape[0]
                and op[last + 1] == OP_BULK_FREE
                and time[last + 1] == time[i]
                and cpu[last + 1] == cpu[i]
            ):
                last += 1
            a, b = i, last
            while a < b:
                obj[a], obj[b] = obj[b], obj[a]
                kind[a], kind[b] = kind[b], kind[a]
                task[a], task[b] = task[b], task[a]
                name[a], name[b] = name[b], name[a]
                a += 1
                b -= 1
        i = last + 1


@kernel
def new_slabs(columns, ptrs, order_of, table, row_of, refusal, seen, last_of, block):
    """Which allocations belong before the event of their block of pages; see ``new_slabs.py``.

    ``row_of``: int32[blocks], ``refusal`` int32[blocks] the row of the larger block refused just before, ``seen``
    uint8[blocks], ``last_of`` int64[cpus] all -1; ``block`` int32[rows], -1 at first: the number of the block that an
    allocation got, REFUSED and less for a refusal. Returns how many new slabs there are.
    """
    op, obj, kind, cpu, time = columns
    slots, keys, orders = table
    blocks = np.int64(0)
    found = np.int64(0)
    for i in range(op.shape[0]):
        if op[i] == OP_PAGE_ALLOC:
            last = last_of[cpu[i]]
            last_of[cpu[i]] = i
            if obj[i] == _EMPTY:
                continue
            order = order_of[kind[i]]
            orders[order] = True
            hand_out(slots, keys, np.uint64(obj[i]), order, blocks)
            row_of[blocks] = i
            refused = last >= 0 and obj[last] == _EMPTY and order_of[kind[last]] > order
            refusal[blocks] = last if refused else -1
            blocks += 1
        elif (op[i] == OP_ALLOC or op[i] == OP_BULK_ALLOC) and ptrs[obj[i]] >= _BASE:
            page = (ptrs[obj[i]] - _BASE) >> _PAGE_SHIFT
            b = block_of(slots, keys, page, orders)
            if b >= 0 and not seen[b]:
                seen[b] = 1
                if cpu[row_of[b]] == cpu[i]:
                    seen[b] = 2
                    block[i] = b
                    found += 1
    # The objects that the same bulk call took before go with it.
    for i in range(op.shape[0] - 2, -1, -1):
        if block[i] < 0 and block[i + 1] >= 0 and op[i] == OP_BULK_ALLOC and op[i + 1] == OP_BULK_ALLOC:
            if cpu[i] == cpu[i + 1] and time[i] == time[i + 1]:
                block[i] = block[i + 1]
    for b in range(blocks):
        if seen[b] == 2 and refusal[b] >= 0:
            block[refusal[b]] = REFUSED - b
    return found


@kernel
def rotate(column, first, last):
    """The element at ``first`` goes to ``last``, those in between one to the front."""
    held = column[first]
    for i in range(first, last):
        column[i] = column[i + 1]
    column[last] = held


@kernel
def shortages(columns, task, name, order_of, row_of, block):
    """Refusals that ``new_slabs`` marked become shortages: they go right before their block, with its time, and their
    object is its order."""
    op, obj, kind, cpu, time = columns
    i = 0
    while i < op.shape[0]:
        if block[i] > REFUSED:
            i += 1
            continue
        b = REFUSED - block[i]
        to = row_of[b]
        op[i] = OP_SHORTAGE
        obj[i] = order_of[kind[to]]
        time[i] = time[to]
        block[i] = -1
        rotate(op, i, to - 1)
        rotate(obj, i, to - 1)
        rotate(kind, i, to - 1)
        rotate(time, i, to - 1)
        rotate(cpu, i, to - 1)
        rotate(task, i, to - 1)
        rotate(name, i, to - 1)
        rotate(block, i, to - 1)
        b -= 1
        while b >= 0 and row_of[b] > i:
            row_of[b] -= 1
            b -= 1


@kernel
def moved(column, rows, to, order, held):
    """Put ``rows`` (int64, ascending) of a column before the row ``to`` of each, in place. ``order``: the turn of the
    rows, by ``to``; ``held``: what the column has at ``rows``."""
    at = column.shape[0] - 1
    gap = rows.shape[0] - 1
    turn = gap
    for i in range(column.shape[0] - 1, -1, -1):
        if gap >= 0 and rows[gap] == i:
            gap -= 1
            continue
        column[at] = column[i]
        at -= 1
        while turn >= 0 and to[order[turn]] == i:
            column[at] = held[order[turn]]
            at -= 1
            turn -= 1


@kernel
def used(op, kind, name, pairs, only_allocs):
    """Mark in ``pairs`` (bool[kinds, names + 1]) which kinds go with which names, the last column none."""
    none = pairs.shape[1] - 1  # no index of a kernel counts from the end
    for i in range(op.shape[0]):
        if not only_allocs or op[i] == OP_ALLOC:
            pairs[kind[i], name[i] if name[i] >= 0 else none] = True


@kernel
def named_by(op, kind, name, by_kind, least, most):
    """Unnamed rows with an op from ``least`` to ``most`` take the name ``by_kind`` (-1 none); how many objects did."""
    found = 0
    for i in range(op.shape[0]):
        if name[i] < 0 and least <= op[i] <= most and by_kind[kind[i]] >= 0:
            name[i] = by_kind[kind[i]]
            found += op[i] <= OP_BULK_FREE
    return found


@kernel
def since_task(cpu, task, at, last, ago):
    """How many events of its CPU ago each event's task had its last: 0 none, 255 so many or more. ``at``: int64[cpus]
    zeros, ``last`` int64[tasks] all -1."""
    for i in range(cpu.shape[0]):
        now = at[cpu[i]]
        if last[task[i]] >= 0:
            ago[i] = min(now - last[task[i]], 255)
        last[task[i]] = now
        at[cpu[i]] += 1


@kernel
def renamed(kind, name, number):
    """Kinds become ``number[kind, name]``, the last column for no name."""
    none = number.shape[1] - 1
    for i in range(kind.shape[0]):
        kind[i] = number[kind[i], name[i] if name[i] >= 0 else none]


@kernel
def freed_slabs(columns, cache, orders, ptrs, table, seen, row, of):
    """Page frees that gave a slab back: their ``row`` and the cache ``of`` it; returns how many. ``cache`` of each
    kind, ``orders`` of each cache; ``table`` with room for all objects and blocks, ``seen`` int32[3, so many], all
    -1."""
    op, obj, kind = columns.op, columns.object, columns.kind
    slots, keys = table.slots, table.keys
    last, last_cache, given = seen[0], seen[1], seen[2]
    pages = 0
    found = 0
    for i in range(op.shape[0]):
        c = np.int64(cache[kind[i]])
        if op[i] <= OP_BULK_FREE:
            if c < 0:
                continue
            order = np.uint64(orders[c])
            page = (((ptrs[obj[i]] - _BASE) >> _PAGE_SHIFT) >> order) << order
        elif op[i] == OP_PAGE_ALLOC or op[i] == OP_PAGE_FREE:
            page = np.uint64(obj[i])
        else:
            continue
        at = place(slots, keys, page)
        if slots[at] == _EMPTY:
            if op[i] == OP_PAGE_FREE:
                continue
            slots[at] = pages
            keys[pages] = page
            pages += 1
        key = slots[at]
        if op[i] <= OP_BULK_FREE:
            last[key] = i
            last_cache[key] = c
        elif op[i] == OP_PAGE_ALLOC:
            given[key] = i
        elif last[key] >= 0 and given[key] < last[key] + 2:
            row[found] = i
            of[found] = last_cache[key]
            found += 1
    return found

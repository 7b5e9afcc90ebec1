"""What a trace cannot say: when exactly each operation happened.

The event of an allocation comes after the operation, that of a free before it. Between the two the CPU may have
allocated pages, served an interrupt or lost its host. All that is known of an operation is that it lies between its own
event and its CPU's event before (allocations) or after (frees); the order on one CPU is certain, that of two CPUs is
not. One order of two such operations may turn a free into one that empties a list, and what follows may differ by
hundreds of slabs: a prediction is a distribution, and :func:`reordered` draws from it.
"""

import dataclasses

import numpy as np

from fastalloc.trace.compact.compact import OP_ALLOC, OP_BULK_ALLOC, OP_BULK_FREE, CompactTrace
from fastalloc.trace.compact.release_memory import give_back
from fastalloc.trace.replay import drawn_order_passes

PASSES = 4  # each pass mends most pairs that the last one set wrong
_PART = 1 << 16


def _shares(loose: np.ndarray, kind: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the kinds ``loose``, and a number from 0 to 1 for each: every row has its own, whatever is loose."""
    random = np.random.default_rng(seed)
    rows, shares = [], []
    for begin in range(0, len(kind), _PART):
        part = np.flatnonzero(loose[kind[begin : begin + _PART]])
        shares.append(random.random(min(_PART, len(kind) - begin))[part])
        rows.append((part + begin).astype(np.int32))
    return np.concatenate(rows), np.concatenate(shares)


def reordered(trace: CompactTrace, seed: int, loose: np.ndarray) -> CompactTrace:
    """``trace`` with every operation of the kinds ``loose`` (bool[kinds]) moved within what is known of its time,
    uniformly; ``seed`` 0 changes nothing.

    Times of the events stay ascending: they are those of the rows, not of the operations.
    """
    if seed == 0 or not len(trace.events):
        return trace
    rows, at = _drawn(trace, seed, loose)
    order = np.argsort(at, kind="stable").astype(np.int32)
    give_back()
    moved = np.empty_like(trace.events)
    drawn_order_passes.merge(trace.events, rows, order, at, moved)
    moved.flags.writeable = False
    del rows, at, order
    give_back()
    return dataclasses.replace(trace, events=moved, drawn_from=trace)


def _drawn(trace: CompactTrace, seed: int, loose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the kinds ``loose``, and the time drawn for each operation."""
    events = trace.events
    rows, share = _shares(loose, events["kind"], seed)
    op, cpu, time = events["op"][rows], events["cpu"][rows], events["time"][rows]
    before, after = np.empty_like(time), np.empty_like(time)
    cpus = int(events["cpu"].max()) + 1
    latest = np.full(cpus, -1), np.zeros(cpus, np.uint32)
    drawn_order_passes.limits(events["cpu"], events["time"], rows, *latest, before, after)
    allocs = (op == OP_ALLOC) | (op == OP_BULK_ALLOC)
    frees = (op <= OP_BULK_FREE) & ~allocs
    # A failed allocation stays where it is: it came to nothing after the failures of the page allocator before it.
    at = time - np.where(allocs, share * (time - before), 0) + np.where(frees, share * (after - time), 0)
    pairs = np.empty(int(allocs.sum()), np.int32), np.empty(int(allocs.sum()), np.int32)
    count = drawn_order_passes.free_and_alloc(
        events["op"], events["object"], rows, np.full(len(trace.ptrs), -1, np.int32), *pairs
    )
    freed, again = (places[:count] for places in pairs)
    of_cpus = [np.flatnonzero(cpu == number) for number in np.unique(cpu)]
    for _ in range(PASSES):
        # An address is not handed out before it was freed.
        late = at[freed] > at[again]
        pair = freed[late], again[late]
        meet = (at[pair[0]] + at[pair[1]]) / 2
        meet = np.clip(meet, np.maximum(time[pair[0]], before[pair[1]]), np.minimum(after[pair[0]], time[pair[1]]))
        at[pair[0]] = meet
        at[pair[1]] = meet
        # No operation passes the one before it on its CPU.
        for places in of_cpus:
            at[places] = np.maximum.accumulate(at[places])
    return rows, at

"""What a trace cannot say: when exactly each operation happened.

The event of an allocation comes after the operation, that of a free before it. Between the two the CPU may have
bought pages, served an interrupt or lost its host. All that is known of an operation is that it lies between its own
event and its CPU's event before (allocations) or after (frees); the order on one CPU is certain, that of two CPUs is
not. One order of two such operations may turn a free into one that empties a list, and what follows may differ by
hundreds of slabs: a prediction is a distribution, and :func:`reordered` draws from it.
"""

import dataclasses

import numpy as np

from fastalloc.trace.compact import OP_ALLOC, OP_BULK_ALLOC, OP_BULK_FREE, CompactTrace

PASSES = 4  # each pass settles most pairs that the last one set wrong


def _free_and_alloc(events: np.ndarray, frees: np.ndarray, allocs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each free that another allocation of the same address follows, and of that allocation."""
    rows = np.flatnonzero(frees | allocs)
    rows = rows[np.argsort(events["object"][rows], kind="stable")]
    objects = events["object"][rows]
    pairs = np.flatnonzero((objects[1:] == objects[:-1]) & frees[rows[:-1]] & allocs[rows[1:]])
    return rows[pairs], rows[pairs + 1]


def reordered(trace: CompactTrace, seed: int, loose: np.ndarray) -> CompactTrace:
    """``trace`` with every operation of the kinds ``loose`` (bool[kinds]) moved within what is known of its time,
    uniformly; ``seed`` 0 changes nothing.

    Times of the events stay ascending: they are those of the rows, not of the operations.
    """
    if seed == 0:
        return trace
    events = trace.events
    time = events["time"].astype(np.float64)
    by_cpu = np.argsort(events["cpu"], kind="stable")
    inside = events["cpu"][by_cpu]
    same = np.flatnonzero(inside[1:] == inside[:-1])
    before = time.copy()
    after = time.copy()
    before[by_cpu[same + 1]] = time[by_cpu[same]]
    after[by_cpu[same]] = time[by_cpu[same + 1]]
    free_to_move = loose[events["kind"]]
    share = np.where(free_to_move, np.random.default_rng(seed).random(len(events)), 0)
    op = events["op"]
    allocs = (op == OP_ALLOC) | (op == OP_BULK_ALLOC)
    frees = (op <= OP_BULK_FREE) & ~allocs
    # A failed allocation stays where it is: it came to nothing after the failures of the page allocator before it.
    at = time - np.where(allocs, share * (time - before), 0) + np.where(frees, share * (after - time), 0)
    freed, again = _free_and_alloc(events, frees, allocs)
    freed, again = freed[free_to_move[freed]], again[free_to_move[freed]]
    cpus = [by_cpu[(inside == cpu) & free_to_move[by_cpu]] for cpu in np.unique(inside)]
    for _ in range(PASSES):
        # An address is not handed out before it was freed.
        late = at[freed] > at[again]
        pair = freed[late], again[late]
        meet = (at[pair[0]] + at[pair[1]]) / 2
        meet = np.clip(meet, np.maximum(time[pair[0]], before[pair[1]]), np.minimum(after[pair[0]], time[pair[1]]))
        at[pair[0]] = meet
        at[pair[1]] = meet
        # No operation passes the one before it on its CPU.
        for rows in cpus:
            at[rows] = np.maximum.accumulate(at[rows])
    order = np.argsort(at, kind="stable")
    moved = events[order]
    moved["time"] = np.sort(events["time"])
    moved.flags.writeable = False
    return dataclasses.replace(trace, events=moved)

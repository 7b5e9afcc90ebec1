"""Which task each event of a compact trace is of."""

import numpy as np

from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import holding_passes as passes


def tasks_of(trace: co.CompactTrace) -> tuple[np.ndarray, np.ndarray]:
    """The pids that there are, ascending (int64), and which of them each event has: uint32[n].

    Raises InputError where the trace keeps no tasks.
    """
    return _tasks(trace, trace.events["cpu"], trace.events["ago"])


def _tasks(trace: co.CompactTrace, cpu: np.ndarray, ago: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``tasks_of`` from the columns as they were recorded."""
    cpus = int(cpu.max(initial=0)) + 1
    table = trace.meta.get("tasks")
    if table is None:
        raise InputError(trace.path, "", "keeps no tasks; convert it again")
    if len(table["row"]) != len(table["pid"]):
        raise InputError(trace.path, "meta.tasks", "must have a pid for each row")
    pids, which = np.unique(np.array(table["pid"], np.int64), return_inverse=True)
    task = np.zeros(len(cpu), np.uint32)
    begins, ring = np.array(table["row"], np.int64), np.zeros((cpus, 256), np.uint32)
    at = np.zeros(cpus, np.int64)
    passes.tasks_of(cpu, ago, begins, which.astype(np.uint32), at, ring, task)
    return pids, task


ALLOCATES = (co.OP_ALLOC, co.OP_BULK_ALLOC, co.OP_SHEAF_ALLOC, co.OP_SHEAF_MEMORY)
FREES = (co.OP_FREE, co.OP_BULK_FREE, co.OP_KFREE_RCU, co.OP_FREE_MANY, co.OP_FREE_LOCKED)


def tasks_as_played(trace: co.CompactTrace) -> tuple[np.ndarray, np.ndarray]:
    """As ``tasks_of``, of a trace whose events may have another order than was recorded, or others woven in: of those
    it is 0. In an order drawn the n-th allocation of an address is of the task whose n-th was in the order that it was
    drawn from, and so is a free; of what is neither it is 0."""
    if trace.drawn_from is not None:
        return _tasks_as_drawn(trace.events, *tasks_as_played(trace.drawn_from), trace.drawn_from.events)
    if not trace.moved:
        return tasks_of(trace)
    rows = rows_recorded(trace)
    own = rows >= 0
    cpu, ago = (np.empty(int(own.sum()), trace.events[name].dtype) for name in ("cpu", "ago"))
    cpu[rows[own]], ago[rows[own]] = trace.events["cpu"][own], trace.events["ago"][own]
    pids, task = _tasks(trace, cpu, ago)
    played = np.zeros(len(rows), np.uint32)
    played[own] = task[rows[own]]
    return pids, played


def rows_recorded(trace: co.CompactTrace) -> np.ndarray:
    """int64[n]: the row that each event had as it was recorded, -1 of those woven in."""
    count = len(trace.events) - sum(int((step.before < 0).sum()) for step in trace.moved)
    rows = np.arange(count)
    for step in trace.moved:
        count, own = len(rows) + int((step.before < 0).sum()), step.before >= 0
        stays, moves = np.ones(len(rows), np.bool_), np.full(len(step.before), -1, np.int64)
        stays[step.before[own]] = False
        moves[own] = rows[step.before[own]]
        others = np.ones(count, np.bool_)
        others[step.place] = False
        after = np.empty(count, np.int64)
        after[others], after[step.place] = rows[stays], moves
        rows = after
    return rows


def _tasks_as_drawn(
    events: np.ndarray, pids: np.ndarray, task: np.ndarray, drawn_from: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    most = max(len(drawn_from), len(events)) + 1
    (there, was), (here, rows) = (_turns(each, most) for each in (drawn_from, events))
    place = np.minimum(np.searchsorted(there, here), max(len(there) - 1, 0))
    played = np.zeros(len(events), np.uint32)
    if len(there):
        found = there[place] == here
        played[rows[found]] = task[was[place[found]]]
    return pids, played


def _turns(events: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each allocation and free which it is (its address, what it does, its turn among those, below ``most``) as one
    number, ascending, and its row: int64[n] both."""
    frees = np.isin(events["op"], FREES)
    rows = np.flatnonzero(frees | np.isin(events["op"], ALLOCATES))
    key = events["object"][rows].astype(np.int64) << 1 | frees[rows]
    order = np.argsort(key, kind="stable")
    key, rows = key[order], rows[order]
    return key * most + np.arange(len(rows)) - np.searchsorted(key, key), rows


__all__ = ["rows_recorded", "tasks_as_played", "tasks_of"]

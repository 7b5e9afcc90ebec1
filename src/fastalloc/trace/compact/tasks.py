"""Which task each event of a compact trace is of."""

import numpy as np

from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import holding_passes as passes


def tasks_of(trace: co.CompactTrace) -> tuple[np.ndarray, np.ndarray]:
    """The pids that there are, ascending (int64), and which of them each event has: uint32[n].

    Raises InputError where the trace keeps no tasks.
    """
    events = trace.events
    cpus = int(events["cpu"].max(initial=0)) + 1
    table = trace.meta.get("tasks")
    if table is None:
        raise InputError(trace.path, "", "keeps no tasks; convert it again")
    if len(table["row"]) != len(table["pid"]):
        raise InputError(trace.path, "meta.tasks", "must have a pid for each row")
    pids, which = np.unique(np.array(table["pid"], np.int64), return_inverse=True)
    task = np.zeros(len(events), np.uint32)
    begins, ring = np.array(table["row"], np.int64), np.zeros((cpus, 256), np.uint32)
    at = np.zeros(cpus, np.int64)
    passes.tasks_of(events["cpu"], events["ago"], begins, which.astype(np.uint32), at, ring, task)
    return pids, task


ALLOCATES = (co.OP_ALLOC, co.OP_BULK_ALLOC, co.OP_SHEAF_ALLOC, co.OP_SHEAF_MEMORY)
FREES = (co.OP_FREE, co.OP_BULK_FREE, co.OP_KFREE_RCU, co.OP_FREE_MANY, co.OP_FREE_LOCKED)


def tasks_as_played(trace: co.CompactTrace) -> tuple[np.ndarray, np.ndarray]:
    """As ``tasks_of``, of a trace whose events may have another order than was recorded, or others woven in: the n-th
    allocation of an address is of the task whose n-th was recorded, and so is a free; of what is neither it is 0."""
    recorded = trace.recorded or trace
    pids, task = tasks_of(recorded)
    if recorded is trace:
        return pids, task
    most = max(len(recorded.events), len(trace.events)) + 1
    (there, was), (here, rows) = (_turns(each.events, most) for each in (recorded, trace))
    place = np.minimum(np.searchsorted(there, here), max(len(there) - 1, 0))
    played = np.zeros(len(trace.events), np.uint32)
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


__all__ = ["tasks_as_played", "tasks_of"]

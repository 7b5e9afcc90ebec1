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


__all__ = ["tasks_of"]

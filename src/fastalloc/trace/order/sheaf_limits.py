"""Between which events of its task an operation of a 7.x trace was.

An allocation's event comes after it, that of a free before it. What interrupts do is recorded in the name of the task
that they interrupt; a call site that also shows in the name of an idle task is taken to be an interrupt's.
"""

from dataclasses import dataclass

import numpy as np

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.refills import NEW, SOFTIRQ
from fastalloc.trace.order.passes import NESTED

ALLOCATES = (co.OP_ALLOC, co.OP_SHEAF_ALLOC, co.OP_SHEAF_MEMORY)
FREES = (co.OP_FREE, co.OP_KFREE_RCU, co.OP_FREE_MANY)


@dataclass(frozen=True)
class Limits:
    """Of each event of a recorded trace: its ``task``; the task's event before and after it, ``low`` and ``high``
    leaving out interrupts, ``nested`` ones as if NESTED of those events had been of interrupts; -1 and n none."""

    task: np.ndarray
    low: np.ndarray
    high: np.ndarray
    nested_low: np.ndarray
    nested_high: np.ndarray


def limits(trace: co.CompactTrace, task: np.ndarray) -> Limits:
    """The limits of all events of ``trace``, as recorded; ``task`` of each as of ``sheaf_calls.tasks``."""
    n = len(task)
    kind = trace.events["kind"]
    sites = trace.kinds["call_site"].to_list()
    idle = {sites[k] for k in np.unique(kind[task < 0]).tolist()} - {""} if "tasks" in trace.meta else set()
    passed = np.array([site in idle or site.startswith((SOFTIRQ, NEW)) for site in sites], bool)
    order = np.argsort(task, kind="stable")
    # Neither do pages and the memory of a sheaf: they may be of the refill of that very allocation.
    op = trace.events["op"]
    own = ~(passed[kind] & (op <= co.OP_BULK_FREE) | (op == co.OP_PAGE_ALLOC))[order]
    at = np.arange(n)
    begins = np.append(True, np.diff(task[order]) != 0)
    begin = np.maximum.accumulate(np.where(begins, at, 0))
    ends = np.append(np.flatnonzero(begins)[1:], n)
    end = np.repeat(ends, np.diff(np.append(np.flatnonzero(begins), n)))
    before = np.append(-1, np.maximum.accumulate(np.where(own, at, -1))[:-1])
    after = np.append(np.minimum.accumulate(np.where(own, at, n)[::-1])[::-1][1:], n)
    found = []
    for place in (before, at - NESTED, after, at + NESTED):
        known = np.where((place >= begin) & (place < end), order[np.clip(place, 0, n - 1)], -1)
        column = np.empty(n, np.int64)
        column[order] = known
        found.append(column)
    low, nested_low, high, nested_high = found
    high[high < 0] = nested_high[nested_high < 0] = n
    return Limits(task, low, high, nested_low, nested_high)


__all__ = ["ALLOCATES", "FREES", "Limits", "limits"]

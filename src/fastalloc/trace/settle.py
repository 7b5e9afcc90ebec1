"""When an allocation that bought a slab began, where the latest time possible cannot be.

``purchase`` puts such an allocation right before the event of its pages. If the rules find a free object for it there,
it must have looked before that object was free: it began earlier, and waited for its pages. Nothing says how much
earlier, so it is put as early as may be, right behind its CPU's event before. The order found holds for what-ifs too.
"""

import dataclasses

import numpy as np

from fastalloc.kernels import state as st
from fastalloc.trace import compact as co
from fastalloc.trace import slub_lane
from fastalloc.trace.lane import NO_SAMPLES, Config, cache_of_kind
from fastalloc.trace.start import Start


def purchases(events: np.ndarray) -> np.ndarray:
    """Rows of the allocations that stand right before the pages they bought."""
    here, following = events[:-1], events[1:]
    alloc = (here["op"] == co.OP_ALLOC) | (here["op"] == co.OP_BULK_ALLOC)
    same = (here["cpu"] == following["cpu"]) & (here["time"] == following["time"])
    return np.flatnonzero(alloc & same & (following["op"] == co.OP_PAGE_ALLOC))


def settled(trace: co.CompactTrace, config: Config, start: Start) -> tuple[co.CompactTrace, int]:
    """``trace`` with the purchases moved that ``config`` would not have made, and how many there were."""
    rows = purchases(trace.events)
    caches = cache_of_kind(trace, config)[trace.events["kind"][rows]]
    rows, caches = rows[caches >= 0], caches[caches >= 0]
    if not len(rows):
        return trace, 0
    run = slub_lane.SlubRun(trace, config, start, NO_SAMPLES)
    wrong = []
    for row, c in zip(rows.tolist(), caches.tolist(), strict=True):
        run.to(row)
        before = run.slub.kcpu[c, :, st.K_ALLOC_SLAB].sum()
        run.to(row + 1)
        if run.slub.kcpu[c, :, st.K_ALLOC_SLAB].sum() == before:
            wrong.append(row)
    moved = np.array(wrong, np.int64)
    cpu = trace.events["cpu"]
    by_cpu = np.argsort(cpu, kind="stable")
    same = cpu[by_cpu[1:]] == cpu[by_cpu[:-1]]
    previous = np.arange(-1, len(cpu) - 1)
    previous[by_cpu[1:][same]] = by_cpu[:-1][same]
    at = 2 * np.arange(len(cpu))
    at[moved] = 2 * previous[moved] + 1
    events = trace.events.copy()
    events["time"][moved] = trace.events["time"][np.maximum(previous[moved], 0)]
    events = events[np.argsort(at, kind="stable")]
    events.flags.writeable = False
    return dataclasses.replace(trace, events=events), len(moved)


__all__ = ["purchases", "settled"]

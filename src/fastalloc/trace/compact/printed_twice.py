"""Large kmalloc requests whose event came twice: one from inside the allocator, one from its caller.

A request above the largest kmalloc cache emits ``kmalloc`` in ``__kmalloc_large_node`` and again in
``__do_kmalloc_node`` [mm/slub.c of 6.11 to 7.3, not yet of 6.10]. The first has a function of the allocator as its call
site.
"""

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.infer import LARGE
from fastalloc.trace.compact.rows import Rows

INSIDE = r"^_*(do_)?kv?malloc"  # call sites in the allocator


def printed_twice(rows: Rows) -> np.ndarray:
    """bool[n]: events that the same request prints again: of one address, CPU, task and size, the first from
    inside the allocator, nothing of that address in between."""
    twice = np.zeros(len(rows.events), np.bool_)
    if LARGE not in rows.names:
        return twice
    large = np.flatnonzero((rows.op <= co.OP_BULK_FREE) & (rows.name == rows.names.index(LARGE)))
    by_object = large[np.argsort(rows.object[large], kind="stable")]
    first, second = by_object[:-1], by_object[1:]
    inside = rows.kinds["call_site"].cast(pl.String).str.contains(INSIDE).to_numpy()
    sizes = rows.kinds["bytes_req"].to_numpy()
    again = rows.object[first] == rows.object[second]
    again &= (rows.op[first] == co.OP_ALLOC) & (rows.op[second] == co.OP_ALLOC)
    again &= (rows.cpu[first] == rows.cpu[second]) & (rows.task[first] == rows.task[second])
    again &= sizes[rows.kind[first]] == sizes[rows.kind[second]]
    twice[first[again & inside[rows.kind[first]]]] = True
    return twice

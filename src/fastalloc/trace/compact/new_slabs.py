"""When an allocation that needed a new slab asked for it.

The event of an allocation comes last: after the page allocator gave the pages of a new slab, and after whatever
interrupted it on its CPU. What the allocation found on its CPU and node it found before it asked for pages. So the
first object out of a block of pages, allocated on the CPU that was given the block, belongs before the event of that
block, and the objects that the same bulk call took before it do too.

Where the page allocator had refused a larger block just before, the event of the refusal becomes a *shortage*: the
order of the block that was given instead, standing before the allocation that lives with it.
"""

import numpy as np

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import row_passes
from fastalloc.trace.compact.rows import Rows


def before_new_slabs(rows: Rows) -> int:
    """Move such allocations, timed as the event of their block; how many blocks became new slabs so."""
    blocks = int((rows.op == co.OP_PAGE_ALLOC).sum())
    block = np.full(len(rows), -1, np.int32)
    cpus = int(rows.cpu.max(initial=0)) + 1
    order_of = rows.kinds["order"].to_numpy()
    row_of = np.zeros(blocks, np.int32)
    count = row_passes.new_slabs(
        row_passes.columns_of(rows.events), rows.ptrs, order_of, row_passes.table_of(blocks), row_of,
        np.zeros(blocks, np.int32), np.zeros(blocks, np.uint8), np.full(cpus, -1), block,
    )  # fmt: skip
    row_passes.shortages(row_passes.columns_of(rows.events), rows.task, rows.name, order_of, row_of, block)
    _move(rows, np.flatnonzero(block >= 0), block, row_of)
    return int(count)


def _move(rows: Rows, which: np.ndarray, block: np.ndarray, row_of: np.ndarray) -> None:
    """Rows ``which`` go right before the row of their ``block``."""
    to = row_of[block[which]].astype(np.int64)
    order = np.lexsort((which, to))
    rows.time[which] = rows.time[to]
    for column in (rows.time, rows.object, rows.kind, rows.cpu, rows.op, rows.task, rows.name):
        row_passes.moved(column, which, to, order, column[which])


__all__ = ["before_new_slabs"]

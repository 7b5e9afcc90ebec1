"""Orders of single caches put together: places as a plain sort by place and turn gives them."""

import dataclasses

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as some

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.tasks import rows_recorded
from fastalloc.trace.compact.weave import ADDED, woven
from fastalloc.trace.order import model as om
from fastalloc.trace.order.merge import CacheOrder, Merge


def trace_of(ops):
    events = np.zeros(len(ops), co.EVENT)
    events["op"] = ops
    events["object"] = np.arange(len(ops))
    events["time"] = np.arange(len(ops)) * 10
    none = pl.DataFrame()
    return co.CompactTrace("", events, np.zeros(len(ops), np.uint64), none, none, {})


def expected(trace, orders):
    """An operation that came later waits, and all of its cache behind it: (place, turn) sorted, rows in their place."""
    rows = {row: (row, 0) for row in range(len(trace.events))}
    more = []
    for ops, order in orders:
        latest = -1
        for turn, (op, row) in enumerate(zip(ops, order, strict=True)):
            latest = max(latest, row)
            if op in (om.ALLOC, om.FREE):
                rows[row] = (latest, 4 * turn)
            elif op == om.NEW_SLAB or (op == om.BEGIN and (turn + 1 == len(order) or order[turn + 1] != row)):
                more.append((latest, 4 * turn - 1, row, co.OP_NEW_SLAB if op == om.NEW_SLAB else co.OP_BEGIN))
            if op == om.ALLOC and row % 5 == 0:
                more.append((latest, 4 * turn - 1, row, co.OP_RESERVE))
    events = [(*where, row, int(trace.events["op"][row])) for row, where in rows.items()] + more
    return [(row, op) for _, _, row, op in sorted(events)]


@some.composite
def orders(draw):
    """Rows of a trace shared out among three caches, each cache's operations a little out of order."""
    cache = draw(some.lists(some.integers(0, 3), min_size=1, max_size=40))
    found = []
    for c in range(3):
        operations = []
        for row, of in enumerate(cache):
            if of != c:
                continue
            kind = draw(some.sampled_from([om.ALLOC, om.FREE, om.GONE, om.BEGIN, om.NEW_SLAB]))
            if kind in (om.BEGIN, om.NEW_SLAB):
                operations.append((kind, row))
                kind = om.ALLOC
            operations.append((kind, row))
        for _ in range(draw(some.integers(0, 3))):
            if operations:
                taken = operations.pop(draw(some.integers(0, len(operations) - 1)))
                operations.insert(draw(some.integers(0, len(operations))), taken)
        found.append(operations)
    return len(cache), found


@given(orders(), some.integers(1, 9))
def test_as_a_sort_by_place_and_turn(drawn, part):
    rows, found = drawn
    trace = trace_of([co.OP_ALLOC] * rows)
    merge = Merge(trace)
    for operations in found:
        order = CacheOrder(merge.shortages)
        for begin in range(0, len(operations), part):
            some_of_them = operations[begin : begin + part]
            following = operations[begin + part][1] if begin + part < len(operations) else -1
            op, row = np.array(some_of_them, np.int64).reshape(-1, 2).T
            order.add(op, row, (op == om.ALLOC) & (row % 5 == 0), following)
        merge.add(order)
    after = merge.trace()
    events = after.events
    plain = [([op for op, _ in operations], [row for _, row in operations]) for operations in found]
    assert list(zip(events["object"].tolist(), events["op"].tolist(), strict=True)) == expected(trace, plain)
    assert (np.diff(events["time"].astype(np.int64)) >= 0).all()
    own = events["op"] == co.OP_ALLOC
    assert rows_recorded(after).tolist() == np.where(own, events["object"].astype(np.int64), -1).tolist()


def test_a_shortage_goes_with_its_allocation():
    trace = trace_of([co.OP_ALLOC, co.OP_SHORTAGE, co.OP_ALLOC, co.OP_PAGE_ALLOC, co.OP_FREE])
    merge = Merge(trace)
    order = CacheOrder(merge.shortages)
    order.add(np.array([om.ALLOC, om.FREE, om.ALLOC]), np.array([0, 4, 2]), np.zeros(3, bool), -1)
    merge.add(order)
    assert merge.trace().events["object"].tolist() == [0, 4, 1, 2, 3]
    assert rows_recorded(merge.trace()).tolist() == [0, 4, 1, 2, 3]


def test_rows_recorded_after_two_steps():
    trace = trace_of([co.OP_ALLOC] * 4)
    added = pl.DataFrame(
        {"place": [1, 4, 1], "op": [co.OP_PREFILL] * 3, "cache": "", "src": "", "amount": 0, "object": 9, "cpu": 0},
        ADDED,
    )
    kinds = pl.DataFrame({"call_site": "", **dict.fromkeys(("bytes_req", "bytes_alloc", "order", "node"), 0)})
    kinds = kinds.with_columns(cache=pl.lit(""), src=pl.lit(""), gfp_flags=pl.lit(0, pl.UInt32))
    trace = dataclasses.replace(trace, kinds=kinds, meta={"cpus": 1})
    trace = woven(trace, trace.events["op"], added, trace.ptrs)
    assert rows_recorded(trace).tolist() == [0, -1, -1, 1, 2, 3, -1]
    merge = Merge(trace)
    order = CacheOrder(merge.shortages)
    order.add(np.array([om.ALLOC] * 4), np.array([3, 0, 4, 5]), np.zeros(4, bool), -1)
    merge.add(order)
    assert rows_recorded(merge.trace()).tolist() == [-1, -1, 1, 0, 2, 3, -1]

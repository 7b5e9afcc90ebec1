"""Calls that no tracepoint shows and probes recorded: prefilled sheaves, and the grace periods of kfree_rcu.

A table of probes has a row a call: ts_ns, cpu, event, cache, sheaf (address), n (objects in it) and want (asked for).
Of its events ``prefill``, ``return_sheaf`` and ``rcu_sheaf_cb`` become events of the trace. An allocation on a CPU
where a sheaf of its cache is between prefill and return comes out of that sheaf: all nodes of a store do
[lib/maple_tree.c].
"""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from fastalloc.foreign import parquet_table
from fastalloc.trace.compact import compact as co

KFREE_RCU = "__kfree_rcu_sheaf"  # source of the rows that a probe of kfree_rcu left
GRACE_PERIOD, PREFILL, RETURN = "rcu_sheaf_cb", "prefill", "return_sheaf"
_OPS = {GRACE_PERIOD: co.OP_GRACE_PERIOD, PREFILL: co.OP_PREFILL, RETURN: co.OP_RETURN_SHEAF}
AMOUNT = 1 << 20  # objects of a sheaf are fewer


def read_sheaf_calls(path: Path) -> pl.DataFrame:
    """The rows of a table of probes that a replay takes: ts_ns, cpu, event, cache, sheaf, amount; by time.

    Raises InputError for a file that is no such table.
    """
    numbers = dict.fromkeys(("ts_ns", "cpu", "sheaf", "n", "want"), pa.int64()) | {"sheaf": pa.uint64()}
    table = parquet_table(path, numbers | dict.fromkeys(("event", "cache"), pa.large_string()))
    table = table.filter(pl.col("event").is_in(list(_OPS)))
    amount = pl.when(pl.col("event") == PREFILL).then("want").otherwise("n").clip(0, AMOUNT)
    return table.select("ts_ns", "cpu", "event", "cache", "sheaf", amount=amount).sort("ts_ns", maintain_order=True)


def with_sheaf_calls(trace: co.CompactTrace, calls: pl.DataFrame | None) -> tuple[co.CompactTrace, dict[str, int]]:
    """``trace`` with ``calls`` woven in and rows of kfree_rcu as such; what was done, with counts.

    Without ``calls`` nobody knows when grace periods end: the objects are taken to be free at once.
    """
    e = trace.events
    rcu = (trace.kinds["src"] == KFREE_RCU).to_numpy()
    op = np.where((e["op"] == co.OP_BULK_FREE) & rcu[e["kind"]], co.OP_KFREE_RCU, e["op"]).astype(np.uint8)
    counts = {"objects of kfree_rcu": int((op == co.OP_KFREE_RCU).sum())}
    if calls is None:
        return dataclasses.replace(trace, events=_with_ops(e, op)), {name: n for name, n in counts.items() if n}
    names = calls.select("cache", "event", "amount").unique(maintain_order=True)
    more = names.select(
        pl.col("cache"), src="event", call_site=pl.lit(""), bytes_req=pl.lit(0), bytes_alloc=pl.lit(0),
        gfp_flags="amount", order=pl.lit(0), node=pl.lit(-1),
    )  # fmt: skip
    kinds = pl.concat([trace.kinds, more.select(trace.kinds.columns).cast(trace.kinds.schema)])
    number = names.with_row_index("number", offset=len(trace.kinds))
    kind = calls.join(number, on=["cache", "event", "amount"], how="left", maintain_order="left")["number"].to_numpy()
    # A sheaf is known by an address at which no object begins.
    sheaves, sheaf = np.unique(calls["sheaf"].to_numpy() | np.uint64(1), return_inverse=True)
    unit, first = trace.meta["time_unit_ns"], trace.meta["first_ns"]
    time = (calls["ts_ns"].to_numpy() - first) // unit
    within = (time >= 0) & (time <= (int(e["time"][-1]) if len(e) else -1))
    rows = np.zeros(len(calls), co.EVENT)
    rows["time"], rows["kind"], rows["cpu"] = np.where(within, time, 0), kind, calls["cpu"].to_numpy()
    rows["op"] = calls["event"].replace_strict(_OPS, return_dtype=pl.UInt8).to_numpy()
    rows["object"] = len(trace.ptrs) + sheaf
    rows["ago"] = co.MAX_AGO
    rows = rows[within]
    # A prefill is written before what comes out of it, a return behind.
    early = rows["op"] == co.OP_PREFILL
    place = np.where(
        early, np.searchsorted(e["time"], rows["time"], "left"), np.searchsorted(e["time"], rows["time"], "right")
    )
    events = np.insert(_with_ops(e, op), place, rows)
    counts["objects out of prefilled sheaves"] = _mark_allocations(events, kinds)
    counts["grace periods"] = int((rows["op"] == co.OP_GRACE_PERIOD).sum())
    events.flags.writeable = False
    ptrs = np.concatenate([trace.ptrs, sheaves])
    woven = dataclasses.replace(trace, events=events, kinds=kinds, ptrs=ptrs)
    return woven, {name: n for name, n in counts.items() if n}


def _with_ops(events: np.ndarray, op: np.ndarray) -> np.ndarray:
    changed = events.copy()
    changed["op"] = op
    return changed


def _mark_allocations(events: np.ndarray, kinds: pl.DataFrame) -> int:
    """Set the op of allocations that come out of a prefilled sheaf; how many."""
    prefilled = kinds.filter(pl.col("src") == PREFILL)["cache"].unique()
    caches, cache_of = np.unique(kinds["cache"].to_numpy().astype(str), return_inverse=True)
    wanted = np.isin(caches, prefilled.to_numpy().astype(str))[cache_of][events["kind"]]
    ops = (co.OP_ALLOC, co.OP_PREFILL, co.OP_RETURN_SHEAF)
    rows = np.flatnonzero(wanted & np.isin(events["op"], ops))
    in_use: dict[tuple[int, int], int] = {}
    out = []
    kind, cpu, op = events["kind"], events["cpu"], events["op"]
    for row in rows.tolist():
        where = int(cache_of[kind[row]]), int(cpu[row])
        if op[row] == co.OP_PREFILL:
            in_use[where] = in_use.get(where, 0) + 1
        elif op[row] == co.OP_RETURN_SHEAF:
            in_use[where] = max(in_use.get(where, 0) - 1, 0)
        elif in_use.get(where):
            out.append(row)
    events["op"][out] = co.OP_SHEAF_ALLOC
    return len(out)


__all__ = ["read_sheaf_calls", "with_sheaf_calls"]

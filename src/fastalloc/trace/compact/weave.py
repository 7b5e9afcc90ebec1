"""Events that a trace does not hold, woven into it."""

import dataclasses

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co

ADDED = {
    "place": pl.Int64,  # the row before which the event goes
    "op": pl.UInt8,
    "cache": pl.String,
    "src": pl.String,
    "amount": pl.UInt32,  # stands where a mask is in other events
    "object": pl.Int64,
    "cpu": pl.UInt16,
}


def woven(trace: co.CompactTrace, op: np.ndarray, added: pl.DataFrame, ptrs: np.ndarray) -> co.CompactTrace:
    """``trace`` with ``op`` (uint8[n]) instead of its own, and ``added`` (columns ADDED), of one place in their order;
    ``ptrs``: all addresses, those of added objects last."""
    e = trace.events
    names = added.select("cache", "src", "amount").unique(maintain_order=True)
    more = names.select(
        pl.col("cache"), pl.col("src"), call_site=pl.lit(""), bytes_req=pl.lit(0), bytes_alloc=pl.lit(0),
        gfp_flags="amount", order=pl.lit(0), node=pl.lit(-1),
    )  # fmt: skip
    kinds = pl.concat([trace.kinds, more.select(trace.kinds.columns).cast(trace.kinds.schema)])
    number = names.with_row_index("number", offset=len(trace.kinds))
    kind = added.join(number, on=["cache", "src", "amount"], how="left", maintain_order="left")["number"]
    place = added["place"].to_numpy()
    order = np.argsort(place, kind="stable")
    rows = np.zeros(len(added), co.EVENT)
    rows["kind"], rows["op"] = kind.to_numpy(), added["op"].to_numpy()
    rows["object"], rows["cpu"] = added["object"].to_numpy(), added["cpu"].to_numpy()
    rows["time"] = e["time"][np.minimum(place, len(e) - 1)] if len(e) else 0
    rows["ago"] = co.MAX_AGO
    events = e.copy()
    events["op"] = op
    events = np.insert(events, place[order], rows[order])
    moved = co.Moved(place[order] + np.arange(len(order)), np.full(len(order), -1, np.int64))
    events.flags.writeable = False
    meta = {**trace.meta, "cpus": max(int(trace.meta["cpus"]), int(rows["cpu"].max(initial=0)) + 1)}
    return dataclasses.replace(trace, events=events, kinds=kinds, ptrs=ptrs, meta=meta, moved=(*trace.moved, moved))


__all__ = ["ADDED", "woven"]

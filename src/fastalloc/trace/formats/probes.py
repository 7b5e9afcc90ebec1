"""Records of the probes that ``fastalloc record`` makes: bulk calls, frees by kfree_rcu, calls of whole sheaves.

A probe's event has the name ``fa_...``. Those of bulk calls end in the index of their first object: a call of many
objects leaves several records, each an array ``o`` of its next ones; ``n`` is how many the call has in all.
"""

import re
from typing import Any

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co
from fastalloc.trace.formats.tracedat import Format

_BULK = re.compile(r"fa_bulk_(alloc|free)_(\d{1,4})")
KFREE_RCU = "fa_kfree_rcu"
SOURCES = {"alloc": "kmem_cache_alloc_bulk", "free": "kmem_cache_free_bulk", KFREE_RCU: "__kfree_rcu_sheaf"}
SHEAF_CALLS = {"fa_prefill": "prefill", "fa_return_sheaf": "return_sheaf", "fa_rcu_sheaf": "rcu_sheaf_cb"}


def op_of(name: str) -> int | None:
    """The operation of a probe's records, where they are of objects."""
    found = _BULK.fullmatch(name)
    if found is not None:
        return co.OP_BULK_ALLOC if found[1] == "alloc" else co.OP_BULK_FREE
    return co.OP_BULK_FREE if name == KFREE_RCU else None


def wanted(name: str) -> tuple[str, ...]:
    """Fields that the format of a probe's event must have."""
    return ("n", "o") if op_of(name) is not None else ("s", "sheaf", "n")


def source_of(name: str) -> str:
    """What the rows of a probe are called in a trace."""
    found = _BULK.fullmatch(name)
    return SOURCES[found[1] if found else name]


def objects(pages: np.ndarray, at: np.ndarray, form: Format, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
    """The objects of a probe's records at ``at``, one after the other: the record of each (index of ``at``), its number
    in that record, its address. ``count``: the field ``n`` of each record as it is."""
    field = form.fields["o"]
    room = max(1, field.size // 8)
    found = _BULK.fullmatch(form.name)
    first = int(found[2]) if found is not None else 0
    signed = count.astype(np.uint32).astype(np.int32).astype(np.int64)
    have = np.clip(signed - first, 0, room) if found is not None else (signed != 0).astype(np.int64)
    which = np.repeat(np.arange(len(at)), have)
    number = np.arange(len(which)) - np.repeat(np.cumsum(have) - have, have)
    address = np.zeros(len(which), np.uint64)
    for i in range(8):
        address |= pages[at[which] + field.offset + 8 * number + i].astype(np.uint64) << np.uint64(8 * i)
    return which, number, address


def in_one_call(events: pl.DataFrame) -> pl.DataFrame:
    """Rows of one CPU in order; the records behind a call's first one get its time, so that they are one call.

    ``part``: whether a row is of such a record.
    """
    begins = pl.col("op").is_in([co.OP_BULK_ALLOC, co.OP_BULK_FREE]) & ~pl.col("part")
    begin = pl.when(begins).then("ts_ns").forward_fill().fill_null(pl.col("ts_ns"))
    whole = events.with_columns(ts_ns=pl.when(pl.col("part")).then(begin).otherwise("ts_ns"))
    return whole.sort("ts_ns", "record")


def with_names(calls: pl.DataFrame) -> pl.DataFrame:
    """Calls of whole sheaves by time, each with the name of its cache as far as any record of that cache tells it; the
    records of kfree_rcu, which tell no more, are left out."""
    told = calls.filter(~pl.col("cache").is_in(["", "(fault)"])).select("s", name="cache").unique("s")
    named = calls.filter(pl.col("event") != "").join(told, on="s", how="left")
    numbers = (pl.col(name).cast(pl.Int64, strict=False) for name in ("cpu", "n", "want"))
    return named.select(
        "ts_ns", *numbers, "event", "sheaf", cache=pl.col("name").fill_null(""), pid=pl.col("common_pid").cast(pl.Int64)
    ).sort("ts_ns", maintain_order=True)


__all__ = ["SHEAF_CALLS", "in_one_call", "objects", "op_of", "source_of", "wanted", "with_names"]

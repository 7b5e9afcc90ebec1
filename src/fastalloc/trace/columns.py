"""What every reader hands on: one table of kmem events, a row an event, and Parquet of that table.

================  ==========  =====================================================================================
column            type        meaning
================  ==========  =====================================================================================
``ts_ns``         int64       trace clock, never falling
``cpu``           uint16
``op``            uint8       one of ``compact.OPS``, or MARKER
``src``           string      the tracepoint
``cache``         string      name that the event itself gives, "" where it gives none
``resolved``      string      name that somebody worked out before, "" or absent
``ptr``           uint64      object events: address, 0 for kfree(NULL)
``call_site``     string      symbol or address
``bytes_req``     uint32      object events; 0 for frees
``bytes_alloc``   uint32
``gfp_flags``     uint32
``order``         uint8       page events
``pfn``           uint64      page events; NO_PFN of the kernel (2**64 - 1) for an attempt that failed
``node``          int16       -1 any
================  ==========  =====================================================================================
"""

from pathlib import Path

import polars as pl

from fastalloc.errors import InputError
from fastalloc.trace import compact as co

MARKER = 255
MAX_ORDER = 20
SCHEMA = {
    "ts_ns": pl.Int64,
    "cpu": pl.UInt16,
    "op": pl.UInt8,
    "src": pl.Categorical,
    "cache": pl.Categorical,
    "resolved": pl.Categorical,
    "ptr": pl.UInt64,
    "call_site": pl.Categorical,
    "bytes_req": pl.UInt32,
    "bytes_alloc": pl.UInt32,
    "gfp_flags": pl.UInt32,
    "order": pl.UInt8,
    "pfn": pl.UInt64,
    "node": pl.Int16,
    "pid": pl.Int32,
}
OPS_OF = {
    "kmalloc": co.OP_ALLOC,
    "kmalloc_node": co.OP_ALLOC,
    "kmem_cache_alloc": co.OP_ALLOC,
    "kmem_cache_alloc_node": co.OP_ALLOC,
    "kfree": co.OP_FREE,
    "kmem_cache_free": co.OP_FREE,
    "mm_page_alloc": co.OP_PAGE_ALLOC,
    "mm_page_free": co.OP_PAGE_FREE,
    "tracing_mark_write": MARKER,
    "print": MARKER,
}  # by tracepoint
_REQUIRED = ("ts_ns", "cpu", "event", "ptr")
_DEFAULTS = {"node": -1}


def read_parquet(path: Path, resolved: bool = True) -> pl.DataFrame:
    """The events of a Parquet file with the columns of a decoded trace (``event`` instead of ``op``).

    ``resolved=False`` leaves out what the column ``cache_resolved`` says. Raises InputError for a file that is no
    Parquet, lacks a column, holds an event unknown, or runs backwards in time.
    """
    try:
        scan = pl.scan_parquet(path)
        names = scan.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(path, "", f"is not readable as Parquet: {str(error).splitlines()[0]}") from error
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise InputError(path, missing[0], f"column is missing; there are {', '.join(names)}")
    ops = {name: op for op, name in enumerate(co.OPS)} | {"marker": MARKER}
    columns = [pl.col("event").cast(pl.String).replace_strict(ops, default=None, return_dtype=pl.UInt8).alias("op")]
    for name, kind in SCHEMA.items():
        source = "cache_resolved" if name == "resolved" else name
        if name == "op":
            continue
        if source in names and (resolved or name != "resolved"):
            empty = "" if kind == pl.Categorical else _DEFAULTS.get(name, 0)
            column = pl.col(source)
            if kind == pl.Categorical:
                column = column.cast(pl.String).fill_null("").cast(kind)
            else:
                column = column.fill_null(empty).cast(kind)
        else:
            column = pl.lit("" if kind == pl.Categorical else _DEFAULTS.get(name, 0), dtype=kind)
        columns.append(column.alias(name))
    try:
        events = scan.select(columns).select(*SCHEMA).collect()
    except pl.exceptions.PolarsError as error:
        raise InputError(path, "", f"has a column of a wrong type: {str(error).splitlines()[0]}") from error
    return checked(path, events, "row", pl.Series(range(0)))


def hexadecimal(column: pl.Expr) -> pl.Expr:
    """Hexadecimal of up to 16 digits as uint64; null where it is none."""
    digits = column.str.strip_prefix("0x").str.zfill(16)
    high = digits.str.slice(0, 8).str.to_integer(base=16, strict=False).cast(pl.UInt64)
    low = digits.str.slice(8).str.to_integer(base=16, strict=False).cast(pl.UInt64)
    return high * 2**32 + low


def checked(path: Path, events: pl.DataFrame, unit: str, lines: pl.Series) -> pl.DataFrame:
    """``events``, refused with its row (or line of ``lines``): unknown events, blocks too large, time running back."""

    def place(row: int) -> str:
        return f"{unit} {int(lines[row]) if len(lines) else row}"

    unknown = events["op"].is_null()
    if unknown.any():
        raise InputError(path, place(int(unknown.arg_max() or 0)), "an event that is no kmem event and no marker")
    large = events["order"] > MAX_ORDER
    if large.any():
        row = int(large.arg_max() or 0)
        raise InputError(path, place(row), f"a block of order {events['order'][row]}; at most {MAX_ORDER} make sense")
    back = events["ts_ns"].diff().fill_null(0) < 0
    if back.any():
        row = int(back.arg_max() or 0)
        before, here = events["ts_ns"][row - 1], events["ts_ns"][row]
        raise InputError(path, place(row), f"time runs backwards, from {before} to {here} ns; sort the trace by time")
    return events

"""What every reader hands on, frame by frame: a table of kmem events, a row an event; and Parquet of that table.

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

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from fastalloc.errors import InputError, reading
from fastalloc.foreign import MOST_CPUS, parquet_batches, parquet_kinds, parquet_rows, refuse, refuse_kind
from fastalloc.memory import memory_limit, size_in_words
from fastalloc.trace.compact import compact as co

MARKER = 255
FRAME = 1 << 15  # events of a frame; of fewer the steps of Polars take longer than the events
EVENT_BYTES = 75  # that a decode takes for each: three times the compact trace [tests/trace/test_memory.py]
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
    "mm_page_free_direct": co.OP_PAGE_FREE,  # its name to 3.2
    "tracing_mark_write": MARKER,
    "print": MARKER,
}  # by tracepoint
_REQUIRED = ("ts_ns", "cpu", "event", "ptr")
_ALLOCATIONS = [co.OP_ALLOC, co.OP_BULK_ALLOC]
_OF_OBJECTS = [*_ALLOCATIONS, co.OP_FREE, co.OP_BULK_FREE]
# What an event of these kinds tells where there is such a column; of every kind where none is named.
_FILLED: dict[str, list[int]] = {
    "ts_ns": [], "cpu": [], "ptr": _OF_OBJECTS, "bytes_req": _ALLOCATIONS, "bytes_alloc": _ALLOCATIONS,
}  # fmt: skip
_DEFAULTS = {"node": -1}


def read_parquet(path: Path, resolved: bool = True) -> Iterator[pl.DataFrame]:
    """The events of a Parquet file with the columns of a decoded trace (``event`` instead of ``op``), FRAME at a time.

    ``resolved=False`` leaves out what the column ``cache_resolved`` says. Raises InputError for a file that is no
    Parquet, lacks a column, holds an event unknown, or runs backwards in time.
    """
    kinds = parquet_kinds(path)
    refuse_many(path, parquet_rows(path), memory_limit())
    missing = [name for name in _REQUIRED if name not in kinds]
    if missing:
        raise InputError(path, missing[0], f"column is missing; there are {', '.join(kinds)}")
    wanted = {"event", *SCHEMA, *(["cache_resolved"] if resolved else [])} - {"resolved"}
    for name in sorted(wanted & set(kinds)):
        text = SCHEMA.get(name, pl.Categorical) == pl.Categorical
        if not (pa.types.is_null(kinds[name]) or (name == "call_site" and pa.types.is_integer(kinds[name]))):
            refuse_kind(path, name, kinds[name], pa.string() if text else pa.int64())
    columns = _columns(wanted & set(kinds))
    check = Checked(path, "row")
    for batch in parquet_batches(path, FRAME, sorted(wanted & set(kinds))):
        with reading(path, f"row {check.rows} or later", "has a column of a wrong type"):
            found = pl.DataFrame(pl.from_arrow(batch))
            frame = found.select(columns).select(*SCHEMA)
        for name, ops in _FILLED.items():
            if name in found.columns:
                empty = found[name].is_null() & (frame["op"].is_in(ops) if ops else True)
                refuse(path, empty, name, "is empty", first=check.rows)
        yield check(frame)
        pa.default_memory_pool().release_unused()


def _columns(names: set[str]) -> list[pl.Expr]:
    """SCHEMA from the columns ``names`` of a file."""
    ops = {name: op for op, name in enumerate(co.OPS[: co.OP_ALLOC_FAILED + 1])} | {"marker": MARKER}
    columns = [pl.col("event").cast(pl.String).replace_strict(ops, default=None, return_dtype=pl.UInt8).alias("op")]
    for name, kind in SCHEMA.items():
        source = "cache_resolved" if name == "resolved" else name
        if name == "op":
            continue
        default = "" if kind == pl.Categorical else _DEFAULTS.get(name, 0)
        if source not in names:
            column = pl.lit(default, dtype=kind)
        elif kind == pl.Categorical:
            column = pl.col(source).cast(pl.String).fill_null("").cast(kind)
        else:
            column = pl.col(source).fill_null(default).cast(kind)
        columns.append(column.alias(name))
    return columns


def hexadecimal(column: pl.Expr) -> pl.Expr:
    """Hexadecimal of up to 16 digits as uint64; null where it is none."""
    digits = column.str.strip_prefix("0x").str.zfill(16)
    high = digits.str.slice(0, 8).str.to_integer(base=16, strict=False).cast(pl.UInt64)
    low = digits.str.slice(8).str.to_integer(base=16, strict=False).cast(pl.UInt64)
    return high * 2**32 + low


def refuse_many(path: Path, rows: int, limit: int) -> None:
    """Raise InputError where so many events take more than ``limit`` bytes while they are decoded."""
    if rows * EVENT_BYTES > limit:
        raise InputError(
            path,
            "",
            f"{rows:,} events or more take {size_in_words(rows * EVENT_BYTES)} while they are decoded; "
            f"{size_in_words(limit)} may be taken: record for a shorter time, or allow more with --memory",
        )


class Checked:
    """Frames of one trace, refused with their row (or line): unknown events, blocks too large, time running back.

    ``rows``: how many there were so far.
    """

    def __init__(self, path: Path, unit: str) -> None:
        self.path, self.unit = path, unit
        self.rows, self.limit = 0, memory_limit()
        self.last: int | None = None

    def __call__(self, events: pl.DataFrame, lines: pl.Series | None = None) -> pl.DataFrame:
        """``events``, the next ones; ``lines``: their places, counted on where not given."""

        def refuse(wrong: pl.Series, reason: str) -> InputError:
            row = int(wrong.arg_max() or 0)
            return InputError(self.path, f"{self.unit} {self.rows + row if lines is None else lines[row]}", reason)

        refuse_many(self.path, self.rows + len(events), self.limit)
        unknown = events["op"].is_null()
        if unknown.any():
            raise refuse(unknown, "an event that is no kmem event and no marker")
        many = events["cpu"] >= MOST_CPUS
        if many.any():
            raise refuse(many, f"CPU {events['cpu'].filter(many)[0]}; no kernel has more than {MOST_CPUS:,}")
        large = events["order"] > MAX_ORDER
        if large.any():
            order = events["order"].filter(large)[0]
            raise refuse(large, f"a block of order {order}; at most {MAX_ORDER} make sense")
        given = events["bytes_alloc"]
        less = events["op"].is_in(_ALLOCATIONS) & (given > 0) & (events["bytes_req"] > given)
        if less.any():
            asked, got = events.filter(less).select("bytes_req", "bytes_alloc").row(0)
            raise refuse(less, f"an object of {asked:,} bytes in a slot of {got:,}")
        before = events["ts_ns"].shift(1)
        if len(events) and self.last is not None:
            before[0] = self.last
        back = (events["ts_ns"] < before).fill_null(False)
        if back.any():
            then, now = before.filter(back)[0], events["ts_ns"].filter(back)[0]
            raise refuse(back, f"time runs backwards, from {then} to {now} ns; sort the trace by time")
        if len(events):
            self.rows += len(events)
            self.last = events["ts_ns"][-1]
        return events

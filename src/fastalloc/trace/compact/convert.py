"""From the events that a reader gives to the compact trace."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import row_passes, tallies
from fastalloc.trace.compact.direct_map import move_to_direct_map
from fastalloc.trace.compact.infer import infer_caches
from fastalloc.trace.compact.new_slabs import before_new_slabs
from fastalloc.trace.compact.printed_twice import printed_twice
from fastalloc.trace.compact.release_memory import give_back
from fastalloc.trace.compact.rows import KIND, Rows, rows_of

_CARRIED = KIND[:-2]  # what a kind of the compact trace has beside its cache
# Steps that are no inference.
_GIVEN = (
    "cache named by the tracepoint",
    "cache resolved before",
    "kfree(NULL), left out",
    "allocations that failed",
    "allocations put before the pages of their new slab",
)


def compact_events(
    path: Path,
    frames: Iterable[pl.DataFrame],
    aliases: dict[str, str] | None = None,
    strict: bool = False,
    sizes: pl.DataFrame | None = None,
) -> co.CompactTrace:
    """The trace of the events in ``frames`` (see ``columns``), nothing written.

    ``strict`` refuses where anything had to be inferred beyond names given or resolved before. ``path`` is named in
    errors and in the trace; ``aliases`` and ``sizes`` as for ``infer_caches``.
    """
    rows = rows_of(path, frames)
    give_back()
    placed = move_to_direct_map(rows)
    inferred = {"kfree(NULL), left out": rows.nulls, "allocations that failed": rows.failed}
    inferred |= {f"cache {step}": count for step, count in infer_caches(rows, aliases, sizes).items()}
    unknown = ((rows.op <= co.OP_BULK_FREE) | (rows.op == co.OP_ALLOC_FAILED)) & (rows.name < 0)
    inferred["without a cache, left out"] = int(unknown.sum())
    if unknown.any():
        rows.keep(~unknown)
    del unknown
    twice = printed_twice(rows)
    inferred["large kmalloc whose event came twice, one left out"] = int(twice.sum())
    if twice.any():
        rows.keep(~twice)
    del twice
    row_passes.turn_bulk_frees(rows.op, rows.time, rows.cpu, rows.object, rows.kind, rows.task, rows.name)
    if not _names_allocations(rows):
        inferred["allocations put before the pages of their new slab"] = before_new_slabs(rows)
    inferred |= _lives(rows)
    if strict:
        refuse_inferred(path, inferred)
    return _pack(path, rows, {step: count for step, count in inferred.items() if count}, placed)


def _names_allocations(rows: Rows) -> bool:
    """Whether kmem_cache_alloc tells its cache, as in 7.x: there sheaves are refilled, and no allocation gets a slab
    for itself [include/trace/events/kmem.h of 7.2 and 7.3]."""
    named = pl.col("src").cast(pl.String).str.starts_with("kmem_cache_alloc") & (pl.col("cache").cast(pl.String) != "")
    return bool(rows.kinds.select(named.any()).item()) if len(rows.kinds) else False


def refuse_inferred(path: Path, inferred: dict[str, int]) -> None:
    """Raise InputError for the first step of ``inferred`` that anything had to be inferred in."""
    for step, count in inferred.items():
        if count and step not in _GIVEN and "before the trace" not in step:
            raise InputError(path, step, f"{count} events; --strict takes no inference")


def _lives(rows: Rows) -> dict[str, int]:
    """Objects whose life the trace does not show whole."""
    names = (
        "objects alive before the trace",
        "freed twice: an allocation in between is not in the trace",
        "allocated twice: a free in between is not in the trace",
    )
    counts = np.zeros(3, np.int64)
    tallies.lives(rows.op, rows.object, np.full(len(rows.ptrs), -1, np.int8), counts)
    return dict(zip(names, counts.tolist(), strict=True))


def _pack(path: Path, rows: Rows, inferred: dict[str, int], placed: dict[str, int | bool]) -> co.CompactTrace:
    table = _kinds(rows)
    packed = rows.events
    cpus = int(rows.cpu.max()) + 1 if len(rows) else 0
    tasks = int(rows.task.max(initial=0)) + 1
    row_passes.since_task(rows.cpu, rows.task, np.zeros(cpus, np.int64), np.full(tasks, -1), packed["ago"])
    begins = np.flatnonzero((packed["ago"] == 0) | (packed["ago"] == co.MAX_AGO))
    pids = np.array(rows.pids or [0], np.int64)[rows.task[begins]]
    packed.flags.writeable = False
    meta = {
        "source": Path(path).name,
        "first_ns": rows.first,
        "time_unit_ns": rows.unit,
        "rows_read": rows.read,
        "cpus": cpus,
        "bulk_rows": bool(table["src"].str.contains("bulk").any()),
        "inferred": inferred,
        "tasks": {"row": begins.tolist(), "pid": pids.tolist()},
        **placed,
    }
    return co.CompactTrace(str(path), packed, rows.ptrs.astype("<u8"), table, rows.markers, meta)


def _kinds(rows: Rows) -> pl.DataFrame:
    """The table of kinds and caches that go together; ``rows.kind`` becomes its rows."""
    pairs = rows.pairs()
    row_passes.used(rows.op, rows.kind, rows.name, pairs, False)
    kind, name = np.nonzero(pairs)
    names = pl.Series([*rows.names, ""], dtype=pl.String)
    every = rows.kinds.select(_CARRIED)[kind].with_columns(cache=names.gather(name))
    table = every.unique(maintain_order=True).with_row_index("kind")
    number = np.zeros(pairs.shape, np.uint32)
    number[kind, name] = every.join(table, on=["cache", *_CARRIED], how="left", maintain_order="left")["kind"]
    row_passes.renamed(rows.kind, rows.name, number)
    return table.select("cache", *_CARRIED)

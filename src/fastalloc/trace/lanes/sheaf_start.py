"""The sheaves that there were before a 7.x trace.

Three tables beside a state dump, of its first snapshot each. ``sheafstate``: a row a sheaf, ``rec`` being ``main``,
``spare`` or ``rcu_free`` (of a cpu), ``barn_full`` or ``barn_empty`` (of a node, idx in the order of its list),
``in_flight`` (on no list), with its address and sheaf_capacity, the cache's. ``sheafobjects``: a row an object in a
sheaf, the highest idx is taken first. ``allslabs``: every slab there is, those on no list too.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from fastalloc.errors import InputError
from fastalloc.foreign import MOST_CPUS, MOST_NODES, MOST_OBJECTS, parquet_table, refuse
from fastalloc.kernels.replay import sheaf_events as sv

_WHERE = {
    "main": sv.MAIN,
    "spare": sv.SPARE,
    "rcu_free": sv.RCU_FREE,
    "barn_full": sv.BARN_FULL,
    "barn_empty": sv.BARN_EMPTY,
    "in_flight": sv.QUEUED,
}
_OTHERS = ("barn", "main_BOOT")  # counts of a barn; the sheaf without room that a cache without sheaves has
MOST_CAPACITY = 1 << 16


@dataclass(frozen=True)
class Sheaf:
    """One sheaf: ``where`` as in kernels/replay/sheaf_events.py; addresses of its objects, the one taken first last."""

    where: int
    cpu: int
    node: int
    objects: list[int]


@dataclass(frozen=True)
class SheafStart:
    """By cache: its sheaves, those of a barn's list last first; its capacity, 0 where it has none; every slab that it
    had, as (page frame, inuse, objects, on a list)."""

    sheaves: dict[str, list[Sheaf]] = field(default_factory=dict)
    capacity: dict[str, int] = field(default_factory=dict)
    slabs: dict[str, list[tuple[int, int, int, bool]]] = field(default_factory=dict)


def _first(path: Path, kinds: dict[str, pa.DataType]) -> pl.DataFrame:
    table = parquet_table(path, {"snap": pa.int64(), "cache": pa.large_string(), **kinds})
    return table.filter(pl.col("snap") == pl.col("snap").min())


def read_sheaves(state: Path, objects: Path | None, slabs: Path | None) -> SheafStart:
    """The sheaves of a recording, from the tables that there are.

    Raises InputError for a file that is no such table, a record unknown, a CPU, node or capacity that no kernel has, a
    sheaf with more objects than its cache's sheaves hold, an object in two sheaves, a full sheaf without one.
    """
    numbers = dict.fromkeys(("cpu", "node", "idx", "size", "sheaf_capacity"), pa.int64())
    table = _first(state, {"rec": pa.large_string(), "sheaf": pa.uint64(), **numbers})
    refuse(state, table["cache"].is_null(), "cache", "is empty")
    unknown = ~table["rec"].is_in([*_WHERE, *_OTHERS])
    refuse(state, unknown, "rec", f"{table['rec'].filter(unknown).first()!r} is none of {', '.join(_WHERE)}")
    for name, most in (("cpu", MOST_CPUS - 1), ("node", MOST_NODES - 1), ("sheaf_capacity", MOST_CAPACITY)):
        refuse(state, ~table[name].is_between(0, most).fill_null(True), name, f"is not in 0 .. {most:,}")
    size = table["size"].fill_null(0)
    wrong = (size < 0) | ((size > table["sheaf_capacity"].fill_null(0)) & table["rec"].is_in(list(_WHERE)))
    refuse(state, wrong, "size", "is not in 0 .. sheaf_capacity")
    capacity = dict(table.filter(pl.col("rec") != "main_BOOT").select("cache", "sheaf_capacity").iter_rows())
    capacity |= dict.fromkeys(table.filter(pl.col("rec") == "main_BOOT")["cache"], 0)
    inside: dict[int, list[int]] = {}
    if objects is not None:
        rows = _first(objects, {"sheaf": pa.uint64(), "idx": pa.int64(), "ptr": pa.uint64()}).sort("sheaf", "idx")
        for name in ("sheaf", "idx", "ptr"):
            refuse(objects, rows[name].is_null(), name, "is empty")
        if rows["ptr"].is_duplicated().any():
            raise InputError(objects, "ptr", "one object is in two sheaves")
        for (sheaf,), part in rows.group_by("sheaf", maintain_order=True):
            inside[int(str(sheaf))] = part["ptr"].to_list()
    sheaves: dict[str, list[Sheaf]] = {}
    wanted = table.filter(pl.col("rec").is_in(list(_WHERE))).sort("idx", descending=True, nulls_last=False)
    for row in wanted.iter_rows(named=True):
        held = inside.get(row["sheaf"], [])[: row["size"] or 0]
        found = Sheaf(_WHERE[row["rec"]], row["cpu"] or 0, row["node"] or 0, held)
        if found.where == sv.BARN_FULL and not held and objects is not None:
            told = f"a full sheaf of a barn, {row['sheaf']:#x}, of which no object is told"
            raise InputError(objects, f"cache {row['cache']}", told)
        sheaves.setdefault(row["cache"], []).append(found)
    every: dict[str, list[tuple[int, int, int, bool]]] = {}
    if slabs is not None:
        columns = {**dict.fromkeys(("pfn", "inuse", "objects"), pa.int64()), "on_partial": pa.bool_()}
        rows = _first(slabs, columns)
        for name, most in (("pfn", 1 << 40), ("inuse", MOST_OBJECTS), ("objects", MOST_OBJECTS)):
            refuse(slabs, ~rows[name].is_between(0, most), name, f"is not in 0 .. {most:,}")
        refuse(slabs, rows["inuse"] > rows["objects"], "inuse", "is more than objects")
        refuse(slabs, rows["cache"].is_null() | rows["on_partial"].is_null(), "cache, on_partial", "is empty")
        for name, *slab in rows.select("cache", *columns).iter_rows():
            every.setdefault(name, []).append((slab[0], slab[1], slab[2], slab[3]))
    return SheafStart(sheaves, capacity, every)


def table_of(
    sheaves: list[tuple[int, Sheaf, np.ndarray]], mains: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """What ``set_up_sheaves`` takes: of each sheaf the row of its cache and the handles of its objects; ``mains``:
    (cache, cpu) of further main sheaves, which are empty."""
    rows = np.zeros((len(sheaves) + len(mains), sv.SHEAF_COLUMNS), np.int64)
    for i, (c, sheaf, held) in enumerate(sheaves):
        where = sheaf.where
        if where in (sv.BARN_FULL, sv.BARN_EMPTY):  # a kernel takes an object from what lies on the list of full ones
            where = sv.BARN_FULL if len(held) else sv.BARN_EMPTY
        rows[i] = c, where, sheaf.cpu, sheaf.node, len(held)
    for i, (c, cpu) in enumerate(mains, len(sheaves)):
        rows[i] = c, sv.MAIN, cpu, 0, 0
    handles = [held for _, _, held in sheaves]
    return rows, np.concatenate(handles).astype(np.int64) if handles else np.zeros(0, np.int64)


__all__ = ["Sheaf", "SheafStart", "read_sheaves", "table_of"]

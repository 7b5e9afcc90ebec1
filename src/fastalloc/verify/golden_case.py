"""Reader of golden cases: what a real allocator did with a trace of operations, table by table.

A case is a folder with ``manifest.json``, ``trace.parquet`` and a folder for each build. Everything is checked before
anything runs: a column that is missing, an operation that does not exist, an object freed twice or never allocated.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastalloc.bounded import json_of
from fastalloc.errors import InputError, reader, reading
from fastalloc.foreign import content_of, parquet_table
from fastalloc.kernels.replay import operations as rp
from fastalloc.linux.gfp import MAX_ORDER

CPUS = 8  # of a case that does not say
MOST_ARG = (1 << 31) - 1
COLUMNS = {"op": 0, "cpu": 0, "cache": -1, "obj_id": -1, "gfp": 0, "ctx_flags": 0, "arg": -1}  # name: least value
_OF_A_CACHE = (rp.OP_ALLOC, rp.OP_BULK_ALLOC, rp.OP_SHEAF_ALLOC)
_ALLOCS: dict[int, tuple[int, ...]] = {
    rp.OP_FREE: _OF_A_CACHE,
    rp.OP_KFREE_RCU: _OF_A_CACHE,
    rp.OP_BULK_FREE: _OF_A_CACHE,
    rp.OP_KFREE: (rp.OP_KMALLOC,),
    rp.OP_MPFREE: (rp.OP_MPALLOC,),
    rp.OP_PGFREE: (rp.OP_PGALLOC,),
    rp.OP_SHEAF_RETURN: (rp.OP_PREFILL,),
}
_BULK_OPS = (rp.OP_BULK_ALLOC, rp.OP_BULK_FREE)
_CACHE_OPS = (
    *(rp.OP_ALLOC, rp.OP_FREE, rp.OP_SHRINK, rp.OP_FLUSH, rp.OP_CREATE, rp.OP_DESTROY, rp.OP_KFREE_RCU),
    *(rp.OP_BULK_ALLOC, rp.OP_BULK_FREE, rp.OP_PREFILL, rp.OP_SHEAF_ALLOC, rp.OP_SHEAF_RETURN),
)
LATER_BUILD = re.compile(r"(sheaves|cpupartial)(\d)(\d+)(_numa2)?")  # rules and version of a kernel after 2.6.25
_POOL_OPS = (rp.OP_MPALLOC, rp.OP_MPFREE, rp.OP_MPRESIZE)


@dataclass(frozen=True)
class CaseCache:
    """A cache as the manifest asks for it; bytes. ``cpu`` created it if ``setup``, else a CREATE operation does."""

    name: str
    size: int
    align: int
    flags: int
    ctor: bool
    cpu: int
    setup: bool
    sheaf_capacity: int = 0


@dataclass(frozen=True)
class CasePool:
    """A mempool: ``kind`` is slab, kmalloc or pages, ``param`` its cache, size in bytes or order."""

    name: str
    kind: str
    param: int
    min_nr: int
    cpu: int


@dataclass(frozen=True)
class GoldenCase:
    """A case without its expected tables.

    ``trace`` holds the operations with objects numbered densely (``objects`` of them); ``builds`` the names of the
    build folders; ``free_pages`` and ``pages_min`` are per node and None where memory is unlimited. An object of
    BULK_ALLOC and BULK_FREE stands for the ``arg`` objects from it on; ``arg`` of SHEAF_ALLOC is the sheaf's object.

    ``cpus`` are possible and on line. Of the cases of later kernels: ``cpus_of_node``; whether tables list sheaves
    whole (``lists_whole``) or their first 8 objects; sizes of structs, by build and name, bytes.
    """

    path: Path
    name: str
    caches: tuple[CaseCache, ...]
    pools: tuple[CasePool, ...]
    free_pages: int | None
    pages_min: int
    trace: rp.Trace
    objects: int
    builds: tuple[str, ...]
    cpus: int = CPUS
    cpus_of_node: tuple[tuple[int, ...], ...] = ()
    lists_whole: bool = True
    struct_sizes: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of operations."""
        return len(self.trace.op)


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError says where it is broken."""
    with reading(path, "", "not JSON"):
        return json_of(path, content_of(path).decode("utf-8"), lines=True)


def read_table(path: Path, columns: tuple[str, ...] = ()) -> pl.DataFrame:
    """A Parquet table that has at least ``columns``."""
    table = parquet_table(path)
    for column in columns:
        if column not in table.columns:
            raise InputError(path, f"column {column}", "is missing")
    return table


def _field(path: Path, where: str, record: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise InputError(path, f"{where}{name}", "is missing")
    value = record[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise InputError(path, f"{where}{name}", f"{value!r} is not what belongs here")
    return value


def _number(path: Path, where: str, record: Any, name: str, least: int, most: int = 1 << 40) -> int:
    value: int = _field(path, where, record, name, int)
    if not least <= value <= most:
        raise InputError(path, f"{where}{name}", f"{value} is not within {least} .. {most}")
    return value


@dataclass(frozen=True)
class _Manifest:
    """``manifest.json`` of a case, in the fields of GoldenCase."""

    caches: tuple[CaseCache, ...]
    pools: tuple[CasePool, ...]
    free_pages: int | None
    pages_min: int
    cpus: int
    cpus_of_node: tuple[tuple[int, ...], ...]
    lists_whole: bool
    struct_sizes: dict[str, dict[str, int]]


def _cpus_of_node(path: Path, manifest: Any, cpus: int) -> tuple[tuple[int, ...], ...]:
    if "cpus_of_node" not in manifest:
        return ()
    nodes = _field(path, "", manifest, "cpus_of_node", list)
    if any(not isinstance(node, list) or any(type(cpu) is not int for cpu in node) for node in nodes):
        raise InputError(path, "cpus_of_node", "is no list of lists of CPUs")
    if sorted(cpu for node in nodes for cpu in node) != list(range(cpus)):
        raise InputError(path, "cpus_of_node", f"does not hold each of {cpus} CPUs once")
    return tuple(tuple(node) for node in nodes)


def _struct_sizes(path: Path, manifest: Any) -> dict[str, dict[str, int]]:
    """``expect.BUILD.struct_sizes``: names and bytes in turn."""
    sizes = {}
    for build, expected in manifest.get("expect", {}).items():
        words = str(expected.get("struct_sizes", "")).split()
        try:
            sizes[build] = {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}
        except ValueError as error:
            raise InputError(path, f"expect.{build}.struct_sizes", "is no list of names and bytes") from error
    return sizes


def _manifest(path: Path, modern: bool) -> _Manifest:
    manifest = read_json(path)
    cpus = CPUS
    if isinstance(manifest, dict) and "cpus" in manifest and modern:
        cpus = _number(path, "", manifest, "cpus", 1, 64)
    caches = []
    for i, record in enumerate(_field(path, "", manifest, "caches", list)):
        where = f"caches[{i}]."
        flags = _field(path, where, record, "flags", (str, int))
        try:
            bits = int(flags, 16) if isinstance(flags, str) else flags
        except ValueError as error:
            raise InputError(path, f"{where}flags", f"{flags!r} is not a hexadecimal number") from error
        caches.append(
            CaseCache(
                name=_field(path, where, record, "name", str),
                size=_number(path, where, record, "size", 1),
                align=_number(path, where, record, "align", 0),
                flags=bits,
                ctor=bool(_field(path, where, record, "ctor", (bool, int))),
                cpu=_number(path, where, record, "created_on_cpu", 0, cpus - 1),
                setup=_field(path, where, record, "created", str) == "setup",
                sheaf_capacity=_number(path, where, record, "sheaf_capacity", 0, 1 << 10) if modern else 0,
            )
        )
    pools = []
    for i, record in enumerate(_field(path, "", manifest, "pools", list)):
        where = f"pools[{i}]."
        kind = _field(path, where, record, "kind", str)
        if kind not in ("slab", "kmalloc", "pages"):
            raise InputError(path, f"{where}kind", f"{kind!r} is none of slab, kmalloc, pages")
        most = {"slab": len(caches) - 1, "kmalloc": 1 << 22, "pages": MAX_ORDER - 1}[kind]
        pools.append(
            CasePool(
                name=_field(path, where, record, "name", str),
                kind=kind,
                param=_number(path, where, record, "param", 1 if kind == "kmalloc" else 0, most),
                min_nr=_number(path, where, record, "min_nr", 0 if modern else 1, 1 << 20),
                cpu=_number(path, where, record, "created_on_cpu", 0, cpus - 1),
            )
        )
    memory = _field(path, "", manifest, "memory", dict)
    mode = _field(path, "memory.", memory, "mode", str)
    if mode not in ("limited", "unlimited"):
        raise InputError(path, "memory.mode", f"{mode!r} is neither limited nor unlimited")
    free = None
    pages_min = 0
    if mode == "limited":
        free = _number(path, "memory.", memory, "free_pages_at_start_per_node", 0)
        pages_min = _number(path, "memory.", memory, "pages_min_per_node", 0)
    return _Manifest(
        caches=tuple(caches),
        pools=tuple(pools),
        free_pages=free,
        pages_min=pages_min,
        cpus=cpus,
        cpus_of_node=_cpus_of_node(path, manifest, cpus) if modern else (),
        lists_whole=not modern or manifest.get("lists", "whole") == "whole",
        struct_sizes=_struct_sizes(path, manifest) if modern else {},
    )


class _Rows:
    """Checks over the columns of a trace; each failure names the first bad row."""

    def __init__(self, path: Path, table: pl.DataFrame) -> None:
        self.path = path
        self.column: dict[str, np.ndarray] = {}
        for name, least in COLUMNS.items():
            series = table[name]
            if not series.dtype.is_integer():
                raise InputError(path, f"column {name}", f"holds {series.dtype}, not integers")
            if series.null_count():
                raise InputError(path, f"row {series.is_null().arg_max()}, {name}", "is empty")
            values = series.to_numpy()
            self.column[name] = values
            self.refuse(values < least, name, "{} is negative")

    def refuse(self, bad: np.ndarray, name: str, reason: str) -> None:
        """Raise for the first row where ``bad`` holds; ``{}`` in the reason is the value of column ``name``."""
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(self.path, f"row {row}, {name}", reason.format(self.column[name][row]))

    def refuse_at(self, rows: np.ndarray, name: str, reason: str) -> None:
        """Raise for the smallest of ``rows``, if any."""
        if rows.size:
            row = int(rows.min())
            raise InputError(self.path, f"row {row}, {name}", reason.format(self.column[name][row]))


def _check_values(rows: _Rows, operations: int, cpus: int, caches: int, pools: int) -> None:
    op, cache, arg = rows.column["op"], rows.column["cache"], rows.column["arg"]
    rows.refuse(op >= operations, "op", "there is no operation {}")
    rows.refuse(rows.column["cpu"] >= cpus, "cpu", "there is no CPU {}")
    rows.refuse(rows.column["ctx_flags"] > 3, "ctx_flags", "{} has unknown bits")
    rows.refuse(rows.column["gfp"] >= 1 << 21, "gfp", "{} has unknown bits")
    rows.refuse(np.isin(op, _CACHE_OPS) & (cache >= caches), "cache", "the manifest has no cache {}")
    rows.refuse(np.isin(op, _CACHE_OPS) & (op != rp.OP_FLUSH) & (cache < 0), "cache", "{} names no cache")
    rows.refuse(np.isin(op, _POOL_OPS) & ((cache >= pools) | (cache < 0)), "cache", "the manifest has no pool {}")
    rows.refuse(arg > MOST_ARG, "arg", f"{{}} is not within -1 .. {MOST_ARG}")
    rows.refuse((op == rp.OP_KMALLOC) & (arg < 1), "arg", "a size of {} bytes")
    rows.refuse((op == rp.OP_MPRESIZE) & (arg < 1), "arg", "a reserve of {} elements")
    rows.refuse((op == rp.OP_PGALLOC) & ((arg < 0) | (arg > 20)), "arg", "a page order of {}")
    rows.refuse((op == rp.OP_REAP) & (arg < 0), "arg", "a time of {} jiffies")
    rows.refuse(np.isin(op, (*_BULK_OPS, rp.OP_PREFILL)) & ((arg < 1) | (arg > 1 << 20)), "arg", "{} objects")


def _ids(rows: _Rows, operations: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(row, id) of every object that one of ``operations`` names; bulk operations name several."""
    op, ids = rows.column["op"], rows.column["obj_id"].astype(np.int64)
    mine = np.flatnonzero(np.isin(op, operations))
    count = np.where(np.isin(op[mine], _BULK_OPS), rows.column["arg"][mine], 1).astype(np.int64)
    row = np.repeat(mine, count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, ids[row] + within


def _check_objects(rows: _Rows) -> tuple[np.ndarray, np.ndarray, int]:
    """Every object allocated once, freed at most once, later, by a matching operation; dense numbers for the ids, and
    for the sheaves that SHEAF_ALLOC names in ``arg``."""
    op, cache, arg = rows.column["op"], rows.column["cache"], rows.column["arg"].copy()
    allocs = tuple(sorted({alloc for some in _ALLOCS.values() for alloc in some}))
    named = np.isin(op, (*allocs, *_ALLOCS))
    rows.refuse(named & (rows.column["obj_id"] < 0), "obj_id", "{} names no object")
    alloc_rows, alloc_ids = _ids(rows, allocs)
    free_rows, free_ids = _ids(rows, tuple(_ALLOCS))
    known, first = np.unique(alloc_ids, return_index=True)
    again = np.ones(alloc_rows.size, dtype=bool)
    again[first] = False
    rows.refuse_at(alloc_rows[again], "obj_id", "object {} is allocated a second time")
    slot = np.searchsorted(known, free_ids)
    missing = ~np.isin(free_ids, known)
    rows.refuse_at(free_rows[missing], "obj_id", "object {} was never allocated")
    origin = alloc_rows[first][slot]
    rows.refuse_at(free_rows[origin > free_rows], "obj_id", "object {} is freed before it is allocated")
    second = np.ones(free_rows.size, dtype=bool)
    second[np.unique(slot, return_index=True)[1]] = False
    rows.refuse_at(free_rows[second], "obj_id", "object {} is freed twice")
    fits = np.zeros((len(rp.OPS), len(rp.OPS)), dtype=bool)
    for free, sources in _ALLOCS.items():
        fits[free, list(sources)] = True
    rows.refuse_at(free_rows[~fits[op[free_rows], op[origin]]], "op", "operation {} does not free such an object")
    owned = ~np.isin(op[free_rows], (rp.OP_KFREE, rp.OP_PGFREE))
    rows.refuse_at(
        free_rows[owned & (cache[free_rows] != cache[origin])], "cache", "the object was not allocated from {}"
    )
    dense = np.zeros(len(op), dtype=np.int32)
    mine = np.flatnonzero(named)
    dense[mine] = np.searchsorted(known, rows.column["obj_id"][mine])
    taking = np.flatnonzero(op == rp.OP_SHEAF_ALLOC)
    sheaf = np.minimum(np.searchsorted(known, arg[taking]), max(known.size - 1, 0))
    made = alloc_rows[first][sheaf] if known.size else taking
    good = (known[sheaf] == arg[taking]) & (op[made] == rp.OP_PREFILL) & (made < taking) if known.size else taking < 0
    rows.refuse_at(taking[~good], "arg", "there is no sheaf {}")
    arg[taking] = sheaf
    return dense, arg, int(known.size)


def _check_lives(rows: _Rows, caches: tuple[CaseCache, ...]) -> None:
    """Caches are used only between their creation and their destruction."""
    op, cache = rows.column["op"], rows.column["cache"]
    for index, asked in enumerate(caches):
        mine = np.flatnonzero(np.isin(op, _CACHE_OPS) & (cache == index))
        kinds = op[mine]
        change = np.where(kinds == rp.OP_CREATE, 1, np.where(kinds == rp.OP_DESTROY, -1, 0))
        before = int(asked.setup) + np.concatenate(([0], np.cumsum(change)[:-1])) if mine.size else change
        created = kinds == rp.OP_CREATE
        rows.refuse_at(mine[created & (before != 0)], "cache", "cache {} exists")
        rows.refuse_at(mine[~created & (before != 1)], "cache", "cache {} does not exist here")


@reader("is no golden case")
def read_case(folder: Path) -> GoldenCase:
    """The case in ``folder``, checked. Raises InputError naming file, row or field, and reason."""
    builds = tuple(sorted(ops.parent.name for ops in folder.glob("*/ops.parquet")))
    modern = any(LATER_BUILD.fullmatch(build) for build in builds)
    manifest = _manifest(folder / "manifest.json", modern)
    path = folder / "trace.parquet"
    if not path.exists():
        raise InputError(path, "", "no such file")
    rows = _Rows(path, read_table(path, tuple(COLUMNS)))
    operations = len(rp.OPS) if modern else rp.OPS_2_6_25
    _check_values(rows, operations, manifest.cpus, len(manifest.caches), len(manifest.pools))
    dense, arg, objects = _check_objects(rows)
    _check_lives(rows, manifest.caches)
    column = rows.column
    trace = rp.Trace(
        op=column["op"].astype(np.uint8),
        cpu=column["cpu"].astype(np.uint8),
        cache=column["cache"].astype(np.int16),
        obj=dense,
        gfp=column["gfp"].astype(np.uint32),
        context=column["ctx_flags"].astype(np.uint8),
        arg=arg.astype(np.int32),
    )
    if not builds:
        raise InputError(folder, "", "no build folder with an ops.parquet")
    return GoldenCase(path=folder, name=folder.name, trace=trace, objects=objects, builds=builds, **vars(manifest))

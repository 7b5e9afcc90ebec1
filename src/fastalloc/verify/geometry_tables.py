"""Checks a golden ``geometry`` folder (SLUB, SLAB, SLOB of 2.6.25-rc8) against the layout rules.

Files: ``geom_<build>.parquet``, ``kmalloc_<build>.csv``, ``base_<build>.csv``; ``misc_<build>.csv`` holds the
struct sizes they depend on. Every row and every column is compared; rules give the answers, never the file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from fastalloc.foreign import content_of, parquet_table
from fastalloc.linux import geometry_slab as slab
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, calculate_sizes, find_mergeable
from fastalloc.linux.slub_eras import SlubOptions, get_order
from fastalloc.verify.tables import TableResult, compare_rows

Row = Mapping[str, Any]
_BUILD = re.compile(r"(slub|slab|slob)(\d+)(_\w+)?")
_KEYS = ("size", "align", "flags", "ctor")
CPUS = 8  # of the recorded builds


def _request(row: Row) -> CacheRequest:
    return CacheRequest("new", row["size"], row["align"], int(row["flags"], 16), bool(row["ctor"]))


# ------------------------------------------------------------------------------------------------------- SLUB


def _slub_options(build: re.Match[str]) -> SlubOptions:
    return SlubOptions(cpus_present=CPUS, cache_line=int(build[2]), debug="nodebug" not in (build[3] or ""))


def _slub_row(row: Row, options: SlubOptions, boot: CacheSet) -> Row:
    request = _request(row)
    index = find_mergeable(request, boot.caches, options)
    target = {"merge_target": boot.caches[index].name if index >= 0 else None}
    try:
        g = calculate_sizes(request, options)
    except ValueError:  # no order holds an object: creation is refused [mm/slub.c: kmem_cache_open]
        return target
    return target | {
        "slub_size": g.size,
        "slub_objsize": g.objsize,
        "slub_inuse": g.inuse,
        "slub_offset": g.offset,
        "slub_order": g.order,
        "slub_objects": g.objects,
        "slub_align": g.align,
        "slub_cache_flags": hex(g.flags) if g.flags else "0",
    }


def _slub_kmalloc(row: Row, boot: CacheSet) -> Row:
    index = boot.kmalloc_index(row["size"])
    if index < 0:
        return {"cache": None, "page_order": get_order(row["size"])}
    return {"cache": boot.caches[index].name, "page_order": None}


def _slub_base(boot: CacheSet) -> list[Row]:
    names = ("name", "size", "objsize", "inuse", "offset", "order", "objects")
    return [{**{name: getattr(g, name) for name in names}, "fallback": int(g.fallback)} for g in reversed(boot.caches)]


# ------------------------------------------------------------------------------------------------------- SLAB


def _slab_row(row: Row, options: slab.SlabOptions) -> Row:
    request = _request(row)
    try:
        g = slab.slab_geometry(request, options)
    except ValueError:  # no slab holds an object: creation is refused [mm/slab.c: kmem_cache_create]
        return {}
    return {
        "slab_buffer_size": g.buffer_size,
        "slab_gfporder": g.gfporder,
        "slab_num": g.num,
        "slab_colour": g.colour,
        "slab_colour_off": g.colour_off,
        "slab_off_slab": int(g.off_slab),
        "slab_mgmt_size": g.mgmt_size,
        "slab_mgmt_cache": f"size-{g.mgmt_cache}" if g.off_slab else None,
        "ac_limit": g.limit,
        "ac_batchcount": g.batchcount,
        "shared_factor": g.shared,
        "shared_limit": g.shared_limit,
        "free_limit_node0": g.free_limit,
    }


def _slab_base(options: slab.SlabOptions, kmem_cache_size: int) -> list[Row]:
    names = (
        "name",
        "buffer_size",
        "gfporder",
        "num",
        "colour",
        "colour_off",
        "mgmt_size",
        "limit",
        "batchcount",
        "shared",
    )
    caches = slab.boot_caches(options, kmem_cache_size)
    return [{**{name: getattr(g, name) for name in names}, "off_slab": int(g.off_slab)} for g in reversed(caches)]


def _slab_kmalloc(row: Row, options: slab.SlabOptions) -> Row:
    slot = slab.kmalloc_size(row["size"], options)
    return {"cache": f"size-{slot}" if slot else None}


# ------------------------------------------------------------------------------------------------------- SLOB


def _slob_row(row: Row, line: int) -> Row:
    g = slab.slob_geometry(_request(row), line)
    return {
        "slob_size": g.size,
        "slob_align": g.align,
        "slob_class": g.list_class,
        "slob_page_order": g.page_order if g.page_order >= 0 else None,
    }


def _slob_kmalloc(row: Row) -> Row:
    size, order = slab.slob_kmalloc(row["size"])
    return {
        "slob_class": slab.slob_class(size) if size else "pages",
        "slob_alloc_size": size or None,
        "page_order": order if order >= 0 else None,
    }


# ------------------------------------------------------------------------------------------------------ folder


def _check_base(name: str, rows: Sequence[Row], expected: Sequence[Row]) -> TableResult:
    """Boot caches, newest first: the same ones in the same order."""
    padded = iter([*expected, *[{}] * (len(rows) - len(expected))])
    result = compare_rows(name, rows, (), lambda _row: next(padded))
    if len(expected) > len(rows):
        result.compare(len(rows), {"name": None}, expected[len(rows)])
    return result


def _struct_sizes(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    return {name: int(value) for name, value in (line.split(",") for line in path.read_text().split())}


def _check(folder: Path, kind: str, build: re.Match[str], path: Path) -> TableResult | None:
    frame = (
        parquet_table(path) if path.suffix == ".parquet" else pl.read_csv(content_of(path), infer_schema_length=None)
    )
    rows = list(frame.iter_rows(named=True))
    name = path.name
    line = int(build[2])
    nodes = 2 if "numa" in (build[3] or "") else 1
    if build[1] == "slub":
        options = _slub_options(build)
        boot = CacheSet(options, nodes)
        if kind == "geom":
            return compare_rows(name, rows, _KEYS, partial(_slub_row, options=options, boot=boot))
        if kind == "kmalloc":
            return compare_rows(name, rows, ("size",), partial(_slub_kmalloc, boot=boot))
        return _check_base(name, rows, _slub_base(boot))
    if build[1] == "slab":
        sizes = _struct_sizes(folder / f"misc_{build[0]}.csv")
        machine = slab.SlabOptions(
            cache_line=line,
            cpus_node=CPUS // nodes,
            cpus_possible=CPUS,
            break_order=sizes.get("slab_break_gfp_order", 1),
        )
        if kind == "geom":
            return compare_rows(name, rows, _KEYS, partial(_slab_row, options=machine))
        if kind == "kmalloc":
            return compare_rows(name, rows, ("size",), partial(_slab_kmalloc, options=machine))
        return _check_base(name, rows, _slab_base(machine, sizes.get("sizeof_kmem_cache", 192)))
    if kind == "geom":
        return compare_rows(name, rows, _KEYS, partial(_slob_row, line=line))
    if kind == "kmalloc":
        return compare_rows(name, rows, ("size",), _slob_kmalloc)
    return None


def check_geometry_folder(folder: Path) -> Iterator[TableResult]:
    """A result for each table of a golden ``geometry`` folder, in name order.

    Raises ValueError, naming the file, when a table lacks the columns it is asked by or holds a malformed value.
    """
    for path in sorted(folder.iterdir()):
        kind, _, rest = path.stem.partition("_")
        build = _BUILD.fullmatch(rest)
        if kind not in ("geom", "kmalloc", "base") or build is None:
            continue
        try:
            result = _check(folder, kind, build, path)
        except (KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
        if result is not None:
            yield result

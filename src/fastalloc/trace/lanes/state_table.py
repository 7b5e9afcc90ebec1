"""The table of where every slab lay before the trace began, checked before a lane is laid out by it."""

from pathlib import Path

import polars as pl
import pyarrow as pa

from fastalloc.errors import InputError
from fastalloc.foreign import MOST_CPUS, MOST_NODES, MOST_OBJECTS, MOST_ORDER, parquet_kinds, parquet_table, refuse

_PAGE_BYTES = 4096
_TEXTS = ("rec", "cache")
_NUMBERS = ("snap", "cpu", "node", "idx", "pfn", "inuse", "objects", "free_cpu", "free_slab", "nr_slabs", "oo_objects")
_OF_CACHES = ("size", "object_size", "order", "cpu_partial_slabs", "min_partial")
_OPTIONAL = ("refcount", "nr_partial", "total_objects", "cpu_partial")
_MOST = {
    "cpu": MOST_CPUS - 1,
    "node": MOST_NODES - 1,
    "idx": 1 << 32,
    "pfn": 1 << 40,
    "inuse": MOST_OBJECTS,
    "objects": MOST_OBJECTS,
    "free_cpu": MOST_OBJECTS,
    "free_slab": MOST_OBJECTS,
    "nr_slabs": 1 << 32,
    "size": 1 << 31,
    "object_size": 1 << 31,
    "order": MOST_ORDER,
    "cpu_partial_slabs": 1 << 16,
    "min_partial": 1 << 31,
    "oo_objects": MOST_OBJECTS,
}
# What a record of each kind must tell.
_NEEDS = {
    "cache": ("oo_objects", *_OF_CACHES),
    "node": ("node", "nr_slabs"),
    "node_partial": ("node", "pfn", "inuse", "objects"),
    "cpu_slab": ("cpu", "pfn", "inuse", "objects"),
    "cpu_partial": ("cpu", "pfn", "inuse", "objects"),
}


def read_state(path: Path) -> pl.DataFrame:
    """The first snapshot of a state dump; its rows as in the file, its numbers int64.

    Raises InputError for a file that is none, or that tells of a slab with more objects than its cache has, of a CPU,
    node or order that no kernel has, of a cache twice or not at all.
    """
    names = parquet_kinds(path)
    texts = dict.fromkeys(_TEXTS, pa.large_string())
    numbers = dict.fromkeys((*_NUMBERS, *_OF_CACHES, *(name for name in _OPTIONAL if name in names)), pa.int64())
    state = parquet_table(path, texts | numbers)
    refuse(path, state["snap"].is_null(), "snap", "is empty")
    state = state.filter(pl.col("snap") == state["snap"].min())
    if not len(state):
        raise InputError(path, "", "holds no record")
    for name in _TEXTS:
        refuse(path, state[name].is_null(), name, "is empty")
    for name, most in _MOST.items():
        refuse(path, ~state[name].is_between(0, most).fill_null(True), name, f"is not in 0 .. {most:,}")
    unknown = ~state["rec"].is_in(list(_NEEDS))
    if unknown.any():
        refuse(path, unknown, "rec", f"{state['rec'].filter(unknown)[0]!r} is none of {', '.join(_NEEDS)}")
    for rec, needed in _NEEDS.items():
        for name in needed:
            refuse(path, (state["rec"] == rec) & state[name].is_null(), name, f"is empty in a record {rec}")
    _check_slabs(path, state)
    return state


def _check_slabs(path: Path, state: pl.DataFrame) -> None:
    """Every slab fits its cache, which is told of once."""
    caches = state.filter(pl.col("rec") == "cache")
    twice = caches["cache"].is_duplicated()
    if twice.any():
        raise InputError(path, f"cache {caches['cache'].filter(twice)[0]}", "is told of twice in one snapshot")
    for name in ("size", "object_size", "oo_objects"):
        refuse(path, (state["rec"] == "cache") & (state[name] < 1), name, "must be at least 1")
    slab = _PAGE_BYTES * 2.0 ** state["order"].fill_null(0)
    less = (state["rec"] == "cache") & (state["size"] * state["oo_objects"] > slab)
    refuse(path, less, "oo_objects", "of that size do not fit a slab of that order")
    layouts = caches.select("cache", most="oo_objects")
    most = state.join(layouts, on="cache", how="left", maintain_order="left")["most"]
    listed = ~state["rec"].is_in(["cache", "node"])
    refuse(path, listed & most.is_null(), "cache", "no record tells of its layout")
    refuse(path, listed & ((state["objects"] < 1) | (state["objects"] > most)), "objects", "are not 1 .. oo_objects")
    refuse(path, listed & (state["inuse"] > state["objects"]), "inuse", "is more than objects")
    free = state["free_cpu"].fill_null(0) + state["free_slab"].fill_null(0)
    refuse(path, (state["rec"] == "cpu_slab") & (free > state["objects"]), "free_cpu", "and free_slab exceed objects")


__all__ = ["read_state"]

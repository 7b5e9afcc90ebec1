"""The caches of a traced kernel: layout and settings, from a state dump, a geometry table, or the trace itself."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from fastalloc.errors import InputError
from fastalloc.foreign import MOST_OBJECTS, MOST_ORDER, csv_table
from fastalloc.kernels.alloc.slub.state import MAX_EMPTY_SHEAVES, MAX_FULL_SHEAVES
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as se
from fastalloc.linux.versions import Kernel
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.compact.infer import LARGE


class TracedCache(NamedTuple):
    """One cache; bytes, except order and counts. ``cpu_partial``: slabs a CPU's partial list holds, 0 none."""

    name: str
    size: int
    object_size: int
    order: int
    objects: int
    min_partial: int
    cpu_partial: int
    era: str = "cpu-partial"  # whose rules move its slabs
    sheaf_capacity: int = 0  # of the eras with sheaves: objects a sheaf, 0: the cache has none
    max_full: int = MAX_FULL_SHEAVES  # sheaves that a barn takes
    max_empty: int = MAX_EMPTY_SHEAVES
    align: int = 0  # of its objects, 0 not told


REPLAYED = ("2.6.25", "cpu-partial", "sheaves", "7.3")  # eras that the loop of a replay follows
SHEAVES_ASKED_FOR = 32  # objects [lib/maple_tree.c, maple_tree_init]
SHEAVES_ASKED = ("maple_node", "vm_area_struct")  # kmem_cache_create with sheaf_capacity 32 [6.18: lib, mm]


NO_SHEAVES = ("kmem_cache", "kmem_cache_node")  # [mm/slub.c, kmem_cache_init: SLAB_NO_OBJ_EXT and no sheaves]


def with_sheaves(
    caches: list[TracedCache], options: se.SlubOptions, known: dict[str, int] | None = None
) -> list[TracedCache]:
    """The caches with the capacity of their sheaves: ``known`` by name, else by the rules of ``options``."""
    return [cache._replace(sheaf_capacity=(known or {}).get(cache.name, _capacity(cache, options))) for cache in caches]


def _capacity(cache: TracedCache, options: se.SlubOptions) -> int:
    flags = sf.NO_SHEAVES if cache.name in NO_SHEAVES else options.slub_debug
    asked = SHEAVES_ASKED_FOR if cache.name == "maple_node" else 0
    return se.sheaf_capacity(cache.size, flags, options, asked)


def era_of_cache(name: str, kernel: Kernel) -> str:
    """The era whose rules move a cache's slabs under a kernel; in 6.18 and 6.19 few caches have sheaves."""
    return "cpu-partial" if kernel.era == "sheaves" and name not in SHEAVES_ASKED else kernel.era


MOST_ALIGN = 1 << 16  # bytes
_STATE = ("size", "object_size", "order", "oo_objects", "cpu_partial_slabs", "min_partial")


def caches_of_state(state: pl.DataFrame) -> list[TracedCache]:
    """The caches of a state dump (see ``start``), in its order."""
    rows = state.filter(pl.col("rec") == "cache").select("cache", *_STATE).unique(maintain_order=True)
    return [
        TracedCache(name, size, object_size, order, objects, min_partial, cpu_partial)
        for name, size, object_size, order, objects, cpu_partial, min_partial in rows.iter_rows()
    ]


_GEOMETRY = {
    "slab_size": (1, 1 << 31),
    "object_size": (1, 1 << 31),
    "order": (0, MOST_ORDER),
    "objs_per_slab": (1, MOST_OBJECTS),
    "cpu_partial": (0, 1 << 20),
    "min_partial": (0, 1 << 31),
}  # what each column may hold


def caches_of_geometry(
    path: Path, run: str = "", content: bytes | None = None
) -> tuple[list[TracedCache], dict[str, str]]:
    """The caches of a table of /sys/kernel/slab (CSV, may be gz), and merged names with the name that stands for them.

    ``run``: the boot, where the table holds several in its column ``run``; ``content``: what is in the file, where it
    was read before. Raises InputError for a missing column.
    """
    table = csv_table(path, _GEOMETRY, ("cache",), content=content)
    if "run" in table.columns and table["run"].n_unique() > 1:
        table = table.filter(pl.col("run") == run)
        if not len(table):
            raise InputError(path, "run", f"holds no boot {run!r}")
    aliases = {}
    if "alias_of" in table.columns:
        merged = table.filter(pl.col("alias_of").fill_null("") != "")
        aliases = dict(merged.select("cache", "alias_of").iter_rows())
        table = table.filter(pl.col("alias_of").fill_null("") == "")
    twice = table.filter(table["cache"].is_duplicated())["cache"]
    if len(twice):
        raise InputError(path, "cache", f"{twice[0]!r} is there more than once")
    align = pl.lit(0)
    if "align" in table.columns:
        align = pl.col("align").cast(pl.String).str.to_integer(strict=False).fill_null(0).clip(0, MOST_ALIGN)
    caches = [
        TracedCache(
            name, size, object_size, order, objects, min_partial, se.cpu_partial_slabs(cpu_partial, objects), align=told
        )
        for name, size, object_size, order, objects, cpu_partial, min_partial, told in table.select(
            "cache", *_GEOMETRY, align.alias("align")
        ).iter_rows()
    ]
    return caches, aliases


def traced_order(order: int, options: se.SlubOptions) -> int:
    """An order of the kernel's pages as one of pages of 4 kB, in which traces and tables count."""
    return order + options.page_shift - se.PAGE_SHIFT


def laid_out(name: str, size: int, object_size: int, options: se.SlubOptions, era: str = "cpu-partial") -> TracedCache:
    """The cache of slots of ``size`` bytes as the rules of ``options`` lay it out."""
    order = se.calculate_order(size, options)
    objects = (options.page_size << order) // size
    wanted = se.cpu_partial(size, 0, options)
    lists = se.cpu_partial_slabs(wanted, objects)
    pages = traced_order(order, options)
    return TracedCache(name, size, object_size, pages, objects, se.min_partial(size, options), lists, era)


def caches_of_trace(trace: CompactTrace, known: set[str], options: se.SlubOptions, kernel: Kernel) -> list[TracedCache]:
    """The caches that only the trace names, laid out by the rules of ``options`` from the sizes of their events.

    Raises InputError for a size that no slab holds.
    """
    sizes = (
        trace.kinds.filter((pl.col("cache") != "") & (pl.col("cache") != LARGE) & (pl.col("bytes_alloc") > 0))
        .group_by("cache", maintain_order=True)
        .agg(pl.col("bytes_alloc").max(), pl.col("bytes_req").max())
    )
    caches = []
    for name, size, _ in sizes.iter_rows():
        if name not in known:
            try:
                caches.append(laid_out(name, size, size, options, era_of_cache(name, kernel)))
            except ValueError as error:
                raise InputError(trace.path, f"cache {name}", str(error)) from None
    return caches

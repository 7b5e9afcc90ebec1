"""Checks caches read from running kernels (``geometry.csv.gz`` with ``geometry_boots.csv`` beside it).

One row per (kernel, boot, cache name). Primary rows are checked for order, objects per slab, cpu_partial,
min_partial, sheaf_capacity where the kernel has sheaves, and slab_size, where sysfs shows all it follows from. Which
cache an alias merged into is checked in :mod:`fastalloc.verify.alias_table`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from fastalloc.errors import InputError
from fastalloc.foreign import csv_rows
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as eras
from fastalloc.linux.geometry_slub import CacheRequest, calculate_sizes
from fastalloc.linux.slub_boot import parse_boot_options
from fastalloc.linux.slub_eras import PAGE_SIZE, SlubOptions
from fastalloc.linux.versions import kernel_of
from fastalloc.verify.tables import TableResult, Underivable, require

Row = Mapping[str, Any]

SHEAVES = {"maple_node": 32, "vm_area_struct": 32}  # kmem_cache_args.sheaf_capacity [lib/maple_tree.c, mm/vma_init.c]
_FLAG_FILES = {
    "hwcache_align": sf.HWCACHE_ALIGN,
    "reclaim_account": sf.RECLAIM_ACCOUNT,
    "cache_dma": sf.CACHE_DMA,
    "destroy_by_rcu": sf.DESTROY_BY_RCU,
    "red_zone": sf.RED_ZONE,
    "poison": sf.POISON,
    "store_user": sf.STORE_USER,
    "sanity_checks": sf.DEBUG_FREE,
    "trace": sf.TRACE,
}


def count_cpus(ranges: str) -> int:
    """CPUs of a sysfs list such as ``0-3,8``."""
    total = 0
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def present_cpus(boot: Row) -> int:
    """CPUs of a machine by which orders go, on line or not (boot option maxcpus): what QEMU was given as ``-smp``,
    ``2,maxcpus=16`` too, as far as they are possible (nr_cpus) [mm/slub.c: calculate_order, num_present_cpus]."""
    online, possible = count_cpus(boot["cpus_online"]), count_cpus(boot["cpus_possible"])
    given = str(boot.get("smp") or "").partition(",")[0]
    return max(online, min(int(given), possible)) if given.isdecimal() else online


def shown_flags(row: Row) -> int:
    """The SLAB_* flags that the files of a cache's sysfs folder show; SLAB_ACCOUNT and NO_MERGE have no file."""
    return sum(bit for name, bit in _FLAG_FILES.items() if row[name])


def read_tables(path: Path) -> tuple[pl.DataFrame, dict[tuple[str, str], SlubOptions]]:
    """The cache table with its row numbers, and the machine behind each (kernel, boot).

    Raises ValueError naming the file when a table is malformed.
    """
    boots_path = path.with_name("geometry_boots.csv")
    try:
        table = csv_rows(path, typed=True).with_row_index("row")
        boots = csv_rows(boots_path, typed=True)
        require(path, table, "kernel", "boot", "is_primary", "slab_size", "order", "objs_per_slab", "cpu_partial")
        require(boots_path, boots, "kernel", "boot", "boot_args", "cpus_possible", "cpus_online")
        machines = {
            (boot["kernel"], boot["boot"]): parse_boot_options(
                boot["boot_args"] or "",
                kernel_of(boot["kernel"]).version,
                cpus_present=present_cpus(boot),
                cpus_possible=count_cpus(boot["cpus_possible"]),
            )
            for boot in boots.iter_rows(named=True)
        }
    except InputError:
        raise
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{path} with {boots_path.name}: {type(error).__name__}: {error}") from error
    return table, machines


def check_primaries(table: pl.DataFrame, machines: dict[tuple[str, str], SlubOptions], name: str) -> TableResult:
    """Order, objects per slab, cpu_partial, min_partial and sheaf_capacity of every primary row, from its slot size
    and the boot. SLAB_NOLEAKTRACE, whose caches have no sheaves, is in no file."""
    result = TableResult(f"{name}: primary")
    columns = ("order", "objs_per_slab", "cpu_partial", "min_partial")
    sheaves = "sheaf_capacity" in table.columns
    for row in table.filter(pl.col("is_primary") == 1).iter_rows(named=True):
        options = machines[row["kernel"], row["boot"]]
        size = row["slab_size"]
        order = eras.calculate_order(size, options)
        got = {
            "order": order,
            "objs_per_slab": (PAGE_SIZE << order) // size,
            "cpu_partial": eras.cpu_partial(size, shown_flags(row), options),
            "min_partial": eras.min_partial(size, options),
        }
        expected = {column: row[column] for column in columns}
        if sheaves and row["sheaf_capacity"] is not None:
            expected["sheaf_capacity"] = row["sheaf_capacity"]
            got["sheaf_capacity"] = eras.sheaf_capacity(size, boot_flags(row), options, SHEAVES.get(row["cache"], 0))
            if not expected["sheaf_capacity"] and got["sheaf_capacity"]:
                reason = "without sheaves: SLAB_NOLEAKTRACE, which sysfs does not show, would explain it"
                result.underivable.append(Underivable(row["row"], row["cache"], reason))
                expected.pop("sheaf_capacity")
        result.compare(row["row"], expected, got)
    return result


def boot_flags(row: Row) -> int:
    """The flags that a row shows, with SLAB_NO_SHEAVES of the caches that SLUB itself is made of."""
    return shown_flags(row) | (sf.NO_SHEAVES if row["cache"] in ("kmem_cache", "kmem_cache_node") else 0)


def check_slots(table: pl.DataFrame, machines: dict[tuple[str, str], SlubOptions], name: str) -> TableResult:
    """slab_size of every primary row, from object size, alignment, flags and constructor as sysfs shows them.

    SLAB_KMALLOC has no file; the caches of that name are the static ones. A free pointer that the creator placed inside
    the object (6.12 on) is in no file either: a row that needs it is listed as such, and its slot follows from it.
    """
    result = TableResult(f"{name}: slot size")
    for row in table.filter(pl.col("is_primary") == 1).iter_rows(named=True):
        options = machines[row["kernel"], row["boot"]]
        request = CacheRequest(row["cache"], row["object_size"], row["align"], shown_flags(row), bool(row["ctor"]))
        layout = calculate_sizes(request, options, kmalloc="kmalloc-" in row["cache"])
        inside = layout
        if layout.size != row["slab_size"]:
            inside = calculate_sizes(replace(request, freeptr_placed=True), options)
        if layout.size != row["slab_size"] == inside.size:
            reason = (
                "its free pointer lies inside the object [kmem_cache_args.use_freeptr_offset]; sysfs has no file of it"
            )
            result.underivable.append(Underivable(row["row"], row["cache"], reason))
            layout = inside
        result.compare(row["row"], {"slab_size": row["slab_size"]}, {"slab_size": layout.size})
    return result

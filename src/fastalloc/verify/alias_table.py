"""Checks which cache merged into which on running kernels (alias rows of ``geometry.csv.gz``).

What a cache was created with is read from a ``slab_nomerge`` boot of the same kernel. Two things are in no file of
sysfs: SLAB_ACCOUNT, and the order of creation. Hence two tables:

* *one boot alone*: sizes, alignment and visible flags against the caches of that boot. A row is underivable when
  both values of SLAB_ACCOUNT give a target.
* *with the other boots*: the missing flags and who is older are read from the other boots of that kernel (folder
  names carry a letter for SLAB_ACCOUNT), then every cache is created anew through the merge rule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, Geometry, calculate_sizes, find_mergeable
from fastalloc.linux.slub_eras import SlubOptions
from fastalloc.verify.kernel_geometry import shown_flags
from fastalloc.verify.tables import TableResult, Underivable

Row = Mapping[str, Any]
Boot = tuple[str, str]


@dataclass
class Learned:
    """What folder names of some boots tell about a kernel's caches."""

    account: set[str] = field(default_factory=set)  # names with SLAB_ACCOUNT
    known: set[str] = field(default_factory=set)  # names whose SLAB_ACCOUNT is known
    unmergeable: set[str] = field(default_factory=set)  # names with a folder of their own
    older: set[str] = field(default_factory=set)  # first of their group


def folder_flags(slab_dir: str) -> int:
    """Flags that the letters of a shared folder's name stand for: ``:A-0000192`` [mm/slub.c: create_unique_id]."""
    letters = slab_dir[1:].partition("-")[0] if slab_dir.startswith(":") and "-" in slab_dir else ""
    bits = {"A": sf.ACCOUNT, "a": sf.RECLAIM_ACCOUNT, "d": sf.CACHE_DMA, "D": sf.CACHE_DMA32, "F": sf.DEBUG_FREE}
    return sum(bits.get(letter, 0) for letter in letters)


def learn(rows: Iterator[Row]) -> Learned:
    """Read flags and seniority from the folder names of boots with merging."""
    told = Learned()
    for row in rows:
        name, slab_dir = row["cache"], row["slab_dir"]
        if not slab_dir.startswith(":"):
            told.unmergeable.add(name)
            continue
        told.known.add(name)
        if folder_flags(slab_dir) & sf.ACCOUNT:
            told.account.add(name)
        if row["is_primary"]:
            told.older.add(name)
    return told


class KernelTable:
    """The rows of one table by boot, and for each boot the unmerged boot that is most like it."""

    def __init__(self, table: pl.DataFrame, machines: dict[Boot, SlubOptions]) -> None:
        self.machines = machines
        self.rows: dict[Boot, list[Row]] = {}
        for row in table.iter_rows(named=True):
            self.rows.setdefault((row["kernel"], row["boot"]), []).append(row)

    def merging(self) -> list[Boot]:
        """Boots with merging on and at least one merged name."""
        return [boot for boot, rows in self.rows.items() if any(not row["is_primary"] for row in rows)]

    def unmerged(self, boot: Boot) -> dict[str, Row]:
        """Rows by name of the unmerged, undebugged boot that shares most of ``boot``'s machine."""
        mine = self.rows[boot][0]
        best: tuple[int, Boot] | None = None
        for other, rows in self.rows.items():
            options = self.machines[other]
            if other[0] != boot[0] or not options.slub_nomerge or options.slub_debug:
                continue
            alike = sum(rows[0][column] == mine[column] for column in ("smp", "numa_nodes", "qemu_cpu", "mem_mb"))
            alike += ("cgroup" in rows[0]["boot_args"]) == ("cgroup" in mine["boot_args"]) if mine["boot_args"] else 0
            if best is None or alike > best[0]:
                best = (alike, other)
        return {row["cache"]: row for row in self.rows[best[1]]} if best else {}


def request_of(row: Row, flags: int = 0) -> CacheRequest:
    """What the cache of an unmerged row was created with, as far as sysfs shows; ``flags`` are added."""
    return CacheRequest(
        row["cache"],
        row["object_size"],
        row["align"],
        shown_flags(row) | flags,
        bool(row["ctor"]),
        row["usersize"] or 0,
    )


def _shared_caches(rows: list[Row], options: SlubOptions) -> list[Geometry]:
    """The caches of a boot that share their slabs or could: those whose folder is named after a size."""
    caches = []
    for row in rows:
        if row["is_primary"] and row["slab_dir"].startswith(":"):
            layout = calculate_sizes(request_of(row, folder_flags(row["slab_dir"])), options)
            caches.append(replace(layout, size=row["slab_size"]))
    return caches


def check_aliases_alone(tables: KernelTable, name: str) -> TableResult:
    """Each alias against the shared caches of its own boot, SLAB_ACCOUNT unknown."""
    result = TableResult(f"{name}: alias, one boot alone")
    for boot in tables.merging():
        options = tables.machines[boot]
        requests = tables.unmerged(boot)
        caches = _shared_caches(tables.rows[boot], options)
        for row in tables.rows[boot]:
            if row["is_primary"]:
                continue
            if row["cache"] not in requests:
                reason = "no boot with slab_nomerge shows what it was created with"
                result.underivable.append(Underivable(row["row"], row["cache"], reason))
                continue
            plain, charged = (
                {cache.name for cache in caches if find_mergeable(request, [cache], options) == 0}
                for request in (request_of(requests[row["cache"]], account) for account in (0, sf.ACCOUNT))
            )
            if len(plain | charged) == 1:
                result.compare(row["row"], {"alias_of": row["alias_of"]}, {"alias_of": min(plain | charged)})
            elif row["alias_of"] in plain | charged:
                reason = (
                    f"no file shows SLAB_ACCOUNT: without it the target is {' or '.join(sorted(plain)) or 'none'}, "
                    f"with it {' or '.join(sorted(charged)) or 'none'}"
                )
                result.underivable.append(Underivable(row["row"], row["cache"], reason))
            else:
                result.compare(row["row"], {"alias_of": row["alias_of"]}, {"alias_of": None})
    return result


def merge_all(requests: dict[str, Row], told: Learned, options: SlubOptions) -> CacheSet:
    """Create every cache, the first of each group before the others, through the merge rule."""
    caches = CacheSet(options, boot=False)
    for older in (True, False):
        for cache, row in requests.items():
            if (cache in told.older) == older:
                flags = sf.ACCOUNT if cache in told.account else 0
                if cache in told.unmergeable:
                    flags |= sf.NOLEAKTRACE  # or another hidden reason never to merge
                caches.create(request_of(row, flags))
    return caches


def check_aliases(tables: KernelTable, name: str) -> TableResult:
    """Each alias by creating all caches anew, with the flags and seniority that the other boots show."""
    result = TableResult(f"{name}: alias, with the other boots")
    for boot in tables.merging():
        others = (row for b in tables.merging() if b[0] == boot[0] and b != boot for row in tables.rows[b])
        told = learn(others)
        requests = tables.unmerged(boot)
        caches = merge_all(requests, told, tables.machines[boot])
        for row in tables.rows[boot]:
            if row["is_primary"]:
                continue
            if row["cache"] not in requests or row["cache"] not in told.known:
                reason = "no other boot of this kernel shows its SLAB_ACCOUNT and what it was created with"
                result.underivable.append(Underivable(row["row"], row["cache"], reason))
                continue
            result.compare(row["row"], {"alias_of": row["alias_of"]}, {"alias_of": caches.root_of(row["cache"])})
    return result

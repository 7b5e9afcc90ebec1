"""What /sys/kernel/slab and /proc/slabinfo say of each cache at one moment: counts, no lists.

A table of readings is CSV with a row a cache. Column ``cache`` is the name that /proc/slabinfo shows; every other one
holds the text of the sysfs file of its name as it was read, so counts may carry nodes (``975 N0=500 N1=475``) and CPUs
(``21(2) C3=21(2)``). What the counts mean [mm/slub.c, 6.1 to 6.12: show_slab_objects, slabs_cpu_partial_show]:

* ``total_objects`` - ``objects``: objects free in the slabs on node lists; all of CPU slabs count as in use.
* ``cpu_slabs``: for every CPU that has a slab of its own, that one and the slabs on its partial list. A CPU without one
  is skipped, its partial list too.
* ``slabs_cpu_partial``: slabs on the partial list of each CPU in parentheses; the objects beside are an estimate.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fastalloc.errors import InputError, reader
from fastalloc.foreign import MOST_CPUS, MOST_NODES, MOST_OBJECTS, MOST_ORDER, content_of, csv_rows
from fastalloc.forked import refuse_forked
from fastalloc.linux import slub_eras as se
from fastalloc.trace.compact.recording_name import run_of
from fastalloc.trace.lanes.caches import TracedCache, caches_of_geometry
from fastalloc.trace.lanes.sheaf_start import MOST_CAPACITY

MOST_SLABS = 1 << 32  # or objects: 16 TB of pages
_BLOCKS = tuple(1 << order for order in range(MOST_ORDER + 1))
_PER_NODE = re.compile(r"N(\d+)=(\d+)")
_PER_CPU = re.compile(r"C(\d+)=\d+\((\d+)\)")
COUNTS = ("slabs", "objects", "total_objects")
SLABINFO = b"slabinfo - version"
NOWHERE = 1 << 60  # a page frame that no memory has


@dataclass(frozen=True)
class CacheReading:
    """The counts of one cache, by node. ``partial`` and ``cpu_slabs`` are None where they were not read; ``on_cpu``:
    slabs on the partial list of each CPU that has any, None where not read. ``free``: objects free on node lists."""

    slabs: tuple[int, ...]
    free: tuple[int, ...]
    partial: tuple[int, ...] | None = None
    cpu_slabs: int | None = None
    on_cpu: dict[int, int] | None = None


@dataclass(frozen=True)
class Readings:
    """``caches`` by name. ``first_pfn``: first page frame of each node, where it is known; ``source``: "sysfs" or
    "slabinfo"; ``shrunk``: whether the caches were shrunk just before, None where nobody says; ``capacity``: objects a
    sheaf, by cache, where it was read."""

    caches: dict[str, CacheReading]
    source: str
    first_pfn: tuple[int, ...] = (0,)
    shrunk: bool | None = None
    settings: dict[str, str] = field(default_factory=dict)
    capacity: dict[str, int] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """Nodes that any cache has slabs on."""
        return max((len(cache.slabs) for cache in self.caches.values()), default=1)


def _whole(path: Path, row: int, column: str, text: str) -> tuple[int, tuple[int, ...]]:
    """The count in front, and by node."""
    first = text.split()[:1]
    if not first or not first[0].isdecimal():
        raise InputError(path, f"row {row}, {column}", f"{text!r} is no count")
    nodes = _counts(path, f"row {row}, {column}", _PER_NODE.findall(text), MOST_NODES)
    total = _counts(path, f"row {row}, {column}", [("0", first[0])], 1)[0]
    if not nodes:
        return total, (total,)
    return total, tuple(nodes.get(node, 0) for node in range(max(nodes) + 1))


def _counts(path: Path, where: str, pairs: Iterable[tuple[str, str]], most: int) -> dict[int, int]:
    """Counts by node or CPU, of which no kernel has more than ``most``."""
    for number, count in pairs:
        if len(number) > 9 or int(number) >= most or len(count) > 10 or int(count) > MOST_SLABS:
            raise InputError(path, where, f"{number}={count} is more than a machine has")
    return {int(number): int(count) for number, count in pairs}


MOST_TEXT = 1 << 26  # bytes of a text of /proc


def _text(path: Path) -> str:
    return content_of(path, MOST_TEXT).decode("utf-8", "replace")


_ZONE = re.compile(r"^Node (\d+), zone|^\s*start_pfn:\s*(\d+)", re.MULTILINE)


def first_pages(path: Path) -> tuple[int, ...]:
    """The first page frame of each node by a copy of /proc/zoneinfo beside the readings at ``path``: ``RUN.zoneinfo``
    or ``zoneinfo``; node 0 alone where there is none."""
    file = next(
        (file for name in (f"{run_of(path)}.zoneinfo", "zoneinfo") if (file := path.with_name(name)).is_file()), None
    )
    if file is None:
        return (0,)
    first: dict[int, int] = {}
    node = 0
    for header, pfn in _ZONE.findall(_text(file)):
        node = int(header[:9]) if header else node
        if node >= MOST_NODES or len(pfn) > 13:
            raise InputError(file, f"node {node}", "no machine has that many nodes or pages")
        if pfn:  # an empty zone begins at 0
            first[node] = min(first.get(node, int(pfn) or NOWHERE), int(pfn) or NOWHERE)
    return tuple(first.get(node, NOWHERE) if node else 0 for node in range(max(first, default=0) + 1))


@reader()
def read_readings(path: Path, content: bytes | None = None) -> Readings:
    """The readings of a table (see above) or of a copy of /proc/slabinfo; ``content``: what is in the file, where it
    was read before. Raises InputError with row and column."""
    refuse_forked(str(path))
    if content is None:
        content = content_of(path)
    first_pfn = first_pages(path)
    told = path.with_name("record.txt")
    # record.txt: of a folder that `fastalloc record` made
    shrunk = "shrunk=1" in _text(told).split() if told.is_file() else None
    if content.startswith(SLABINFO):
        return _slabinfo(path, content, first_pfn)
    table = csv_rows(path, content)
    missing = [name for name in ("cache", *COUNTS) if name not in table.columns]
    if missing:
        raise InputError(path, missing[0], "column is missing")
    if "label" in table.columns and "type" in table.columns:  # snapshots over time: the first whole one
        full = table.filter(pl.col("type") == "full")
        table = full.filter(pl.col("label") == full["label"].head(1))
    return readings_of(path, table, first_pfn, shrunk)


def readings_of(path: Path, table: pl.DataFrame, first_pfn: tuple[int, ...], shrunk: bool | None) -> Readings:
    """The readings in ``table``; rows without a count of slabs, such as those of merged names, are left out."""
    caches, capacity = {}, {}
    for row, values in enumerate(table.iter_rows(named=True), start=2):
        texts = {name: (value or "").strip() for name, value in values.items()}
        if not texts["slabs"] or texts.get("alias_of"):
            continue
        _, slabs = _whole(path, row, "slabs", texts["slabs"])
        _, objects = _whole(path, row, "objects", texts["objects"])
        _, total = _whole(path, row, "total_objects", texts["total_objects"])
        nodes = max(len(slabs), len(total))
        free = tuple(_at(total, node) - _at(objects, node) for node in range(nodes))
        if min(free) < 0:
            raise InputError(path, f"row {row}, objects", f"{texts['objects']!r} is above {texts['total_objects']!r}")
        partial = cpu_slabs = on_cpu = None
        if texts.get("partial"):
            _, by_node = _whole(path, row, "partial", texts["partial"])
            # Read a moment after the slabs, which may have grown: at most all of them are on the list.
            partial = tuple(min(_at(by_node, node), _at(slabs, node)) for node in range(nodes))
        if texts.get("cpu_slabs"):
            cpu_slabs, _ = _whole(path, row, "cpu_slabs", texts["cpu_slabs"])
        if texts.get("slabs_cpu_partial"):
            pairs = _PER_CPU.findall(texts["slabs_cpu_partial"])
            on_cpu = _counts(path, f"row {row}, slabs_cpu_partial", pairs, MOST_CPUS)
        if texts.get("sheaf_capacity"):
            capacity[texts["cache"]], _ = _whole(path, row, "sheaf_capacity", texts["sheaf_capacity"])
            if capacity[texts["cache"]] > MOST_CAPACITY:
                raise InputError(path, f"row {row}, sheaf_capacity", f"at most {MOST_CAPACITY:,} make sense")
        if texts["cache"] in caches:
            raise InputError(path, f"row {row}, cache", f"{texts['cache']!r} is there before")
        caches[texts["cache"]] = CacheReading(
            tuple(_at(slabs, node) for node in range(nodes)), free, partial, cpu_slabs, on_cpu
        )
    if shrunk is None and caches and not capacity:
        # Shrinking takes every CPU's slab; few caches have one again by the time they are read. With sheaves none has.
        asked = [cache for cache in caches.values() if cache.cpu_slabs is not None and any(cache.slabs)]
        shrunk = len([cache for cache in asked if not cache.cpu_slabs]) * 2 > len(asked) if asked else None
    return Readings(caches, "sysfs", first_pfn, shrunk, capacity=capacity)


def _at(counts: tuple[int, ...], node: int) -> int:
    return counts[node] if node < len(counts) else 0


_COLUMNS = 16  # name, five of objects, `: tunables` and three, `: slabdata` and three


def _slabinfo(path: Path, content: bytes, first_pfn: tuple[int, ...]) -> Readings:
    """A copy of /proc/slabinfo, version 2.1 [get_slabinfo, mm/slub.c]."""
    caches = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if line.startswith(("slabinfo", "#")) or not line.strip():
            continue
        # What follows of a SLAB with CONFIG_DEBUG_SLAB are statistics, behind another colon.
        words = line.split()[:_COLUMNS]
        if len(words) < _COLUMNS or not all(re.fullmatch("[0-9]{1,10}", word) for word in (*words[1:6], *words[-3:])):
            raise InputError(path, f"line {number}", "is no line of /proc/slabinfo version 2.1")
        active, total, slabs = int(words[1]), int(words[2]), int(words[-2])
        if max(total, slabs) > MOST_SLABS:
            raise InputError(
                path, f"line {number}", f"{max(total, slabs):,} slabs or objects are more than memory holds"
            )
        if not (int(words[3]) and 0 < int(words[4]) <= MOST_OBJECTS and int(words[5]) in _BLOCKS):
            raise InputError(path, f"line {number}", "tells of slabs that no kernel lays out")
        caches[words[0]] = CacheReading((slabs,), (max(total - active, 0),))
    return Readings(caches, "slabinfo", first_pfn)


@reader()
def caches_of_readings(
    path: Path, version: str, content: bytes | None = None
) -> tuple[list[TracedCache], dict[str, str]]:
    """The caches that a file of readings lays out, and merged names with the name that stands for them.

    ``version``: the kernel whose rules tell what the file does not; ``content``: as of ``read_readings``.
    """
    if content is None:
        content = content_of(path)
    if content.startswith(SLABINFO):
        return _caches_of_slabinfo(content, version), {}
    has_layouts = "order" in csv_rows(path, content).columns
    return caches_of_geometry(path, content=content) if has_layouts else ([], {})


def _caches_of_slabinfo(content: bytes, version: str) -> list[TracedCache]:
    """Layouts by /proc/slabinfo; what it does not tell follows from the rules of ``version``."""
    options = se.SlubOptions(era=version)
    caches = []
    for line in content.decode("utf-8", "replace").splitlines():
        words = line.split()
        if line.startswith(("slabinfo", "#")) or len(words) < _COLUMNS:
            continue
        size, objects, pages = int(words[3]), int(words[4]), int(words[5])
        wanted = se.cpu_partial_slabs(se.cpu_partial(size, 0, options), objects)
        order = pages.bit_length() - 1
        caches.append(TracedCache(words[0], size, size, order, objects, se.min_partial(size, options), wanted))
    return caches


__all__ = ["CacheReading", "Readings", "caches_of_readings", "first_pages", "read_readings", "readings_of"]

"""Where every object lay before the trace began.

A state dump is Parquet with a row a record, ``rec`` being ``cache``, ``node`` (nr_slabs), ``node_partial`` (a node's
list in its order: idx, pfn, inuse, objects), ``cpu_slab`` (cpu, pfn, inuse, objects, free_cpu, free_slab) or
``cpu_partial`` (a CPU's list in its order). Slabs that are full and on no list are only in ``nr_slabs``.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fastalloc.kernels.replay.start_slabs import LAID, LIST_CPU, LIST_CPU_PARTIAL, LIST_NODE, LIST_NONE
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.lanes.caches import TracedCache
from fastalloc.trace.lanes.lane import Config
from fastalloc.trace.lanes.readings import NOWHERE
from fastalloc.trace.lanes.sheaf_start import Sheaf, SheafStart

PERCPU_SHEAVES = "7.3"
_LISTS = {"node_partial": LIST_NODE, "cpu_slab": LIST_CPU, "cpu_partial": LIST_CPU_PARTIAL}


@dataclass(frozen=True)
class Laid:
    """How a cache's objects lay. ``slabs``: int64[n, LAID.width], the cache's row not filled in; object ``old[i]``
    (rows of ``ptrs``) is number ``index[i]`` of slab ``slab[i]``. ``base``: slabs beside these that lie full and
    untouched; ``live``: objects out; ``first_page``: page frame of each slab, -1 where they are packed anew.
    ``sheaves``: the sheaves, with number of the slab and index in it of each object."""

    slabs: np.ndarray
    old: np.ndarray
    slab: np.ndarray
    index: np.ndarray
    base: int
    live: int
    first_page: np.ndarray
    sheaves: tuple[tuple[Sheaf, np.ndarray, np.ndarray], ...] = ()


_NOTHING = np.zeros(0, np.int64)
NOTHING_LAID = Laid(np.zeros((0, LAID.width), np.int64), _NOTHING, _NOTHING, _NOTHING, 0, 0, _NOTHING)


def packed(objects: int, out: int, old: np.ndarray) -> Laid:
    """``out`` objects in full slabs of ``objects`` and a last one that may have room, its first objects free.

    ``old``: those of them that the trace frees, spread evenly; slabs that hold none of them are only counted.
    """
    if not out:
        return NOTHING_LAID
    last = (out - 1) // objects
    where = np.arange(len(old)) * out // max(len(old), 1) // objects
    wanted, slab = np.unique(np.append(where, last), return_inverse=True)
    slab = slab[:-1]
    free = np.where(wanted == last, objects * (last + 1) - out, 0)
    index = free[slab] + _rank(slab)
    slabs = np.zeros((len(wanted), LAID.width), np.int64)
    slabs[:, LAID.free] = free
    slabs[:, LAID.list] = np.where(free > 0, LIST_NODE, LIST_NONE)
    fits = index < objects
    return Laid(slabs, old[fits], slab[fits], index[fits], last + 1 - len(wanted), out, np.full(len(wanted), -1))


def _rank(group: np.ndarray) -> np.ndarray:
    """How many elements before an element are of its group."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    first = np.searchsorted(ordered, ordered)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - first
    return rank


class Start:
    """Where a lane's slabs were. ``old``: rows of ``ptrs`` alive before the trace, by their cache's name;
    ``first_pfn``: first page frame of each node, where that is known better than from the listed slabs."""

    def __init__(
        self,
        state: pl.DataFrame | None,
        old: dict[str, np.ndarray],
        ptrs: np.ndarray,
        first_pfn: tuple[int, ...] | None = None,
        sheaves: SheafStart | None = None,
    ) -> None:
        self.state: dict[str, list[dict[str, Any]]] = {}
        self.old = old
        self.ptrs = ptrs
        self.sheaves = sheaves or SheafStart()
        self.nodes = 1
        self.first_pfn = [0]
        self.objects_of: dict[str, int] = {}  # a full slab of the traced kernel
        self._laid: dict[tuple[Any, ...], Laid] = {}
        if state is not None:
            layouts = state.filter((pl.col("rec") == "cache") & pl.col("oo_objects").is_not_null())
            self.objects_of = dict(layouts.select("cache", "oo_objects").iter_rows())
            listed = state.filter(pl.col("rec") != "cache").sort("idx", nulls_last=True)
            for row in listed.iter_rows(named=True):
                self.state.setdefault(row["cache"], []).append(row)
            self.nodes = 1 + max(state["node"].drop_nulls(), default=0)
            lists = state.filter(pl.col("rec") == "node_partial")
            there = set(state["node"].drop_nulls())
            self.first_pfn = [
                min(lists.filter(pl.col("node") == n)["pfn"], default=0 if n in there else NOWHERE)
                for n in range(self.nodes)
            ]
        of_sheaves = (sheaf.node for part in self.sheaves.sheaves.values() for sheaf in part)
        self.nodes = max(self.nodes, 1 + max(of_sheaves, default=0))
        if self.nodes > 1 and self.sheaves.slabs:
            self.first_pfn = self._edges()
        if first_pfn is not None:
            self.nodes = max(self.nodes, len(first_pfn))
            self.first_pfn = list(first_pfn)
        self.first_pfn += [NOWHERE] * (self.nodes - len(self.first_pfn))
        known = [sheaf.cpu for part in self.sheaves.sheaves.values() for sheaf in part]
        known += [row["cpu"] for part in self.state.values() for row in part if row["cpu"] is not None]
        self.least_cpus = max((cpu + 1 for cpu in known), default=1)
        # Slabs there may have been, with a margin.
        rows = (self.old, self.state, self.sheaves.slabs)
        self.room = 2 * sum(len(part) for table in rows for part in table.values())

    def _edges(self) -> list[int]:
        """First page frame of each node: as many of all slabs lie on it as its caches count."""
        pfns = np.sort([slab[0] for part in self.sheaves.slabs.values() for slab in part])
        counts = np.zeros(self.nodes, np.int64)
        for name, rows in self.state.items():
            for row in rows if name in self.sheaves.slabs else ():
                if row["rec"] == "node":
                    counts[row["node"]] += row["nr_slabs"] or 0
        ends = np.cumsum(counts)[:-1]
        return [0, *(int(pfns[end]) if end < len(pfns) else int(pfns[-1]) + 1 for end in ends)]

    def node_of(self, pfn: int) -> int:
        """The node that page frame ``pfn`` is of, as far as the listed slabs tell."""
        return max((n for n in range(self.nodes) if n == 0 or self.first_pfn[n] <= pfn), default=0)

    def cpus(self, trace: CompactTrace) -> int:
        """CPUs of the trace and of the state."""
        return max(int(trace.meta["cpus"]), self.least_cpus)

    def _outstanding(self, names: list[str]) -> tuple[int, np.ndarray]:
        """How many objects of the traced caches ``names`` are out at the start, as far as state and trace tell, and
        the rows of ``ptrs`` of those that the trace frees."""
        out = 0
        for name in names:
            rows = self.state.get(name, [])
            listed = [row for row in rows if row["rec"] != "node"]
            inside = sum(row["inuse"] - (row["free_cpu"] or 0) for row in listed)
            slabs = sum(row["nr_slabs"] or 0 for row in rows if row["rec"] == "node")
            inside += (slabs - len(listed)) * self.objects_of.get(name, 0)
            inside -= sum(len(sheaf.objects) for sheaf in self.sheaves.sheaves.get(name, ()))
            out += max(inside, len(self.old.get(name, ())))
        old = [self.old[name] for name in names if name in self.old]
        return out, np.concatenate(old) if old else np.zeros(0, np.int64)

    def packed(self, names: list[str], objects: int) -> Laid:
        """The objects of the traced caches ``names`` in slabs of ``objects``."""
        key = (*names, objects)
        if key not in self._laid:
            self._laid[key] = packed(objects, *self._outstanding(names))
        return self._laid[key]

    def laid(self, cache: TracedCache, config: Config) -> Laid:
        """The slabs of ``cache``: as they lay where ``config`` lays it out as the traced kernel did, else packed."""
        if cache.name not in config.exact:
            return self.packed(config.sources(cache.name), cache.objects)
        key = (cache.name, cache.era, cache.sheaf_capacity)
        if key not in self._laid:
            known = cache.name in self.sheaves.capacity
            self._laid[key] = self._with_sheaves(cache) if known else self._as_it_was(cache)
        return self._laid[key]

    def _as_it_was(self, cache: TracedCache) -> Laid:
        rows = self.state.get(cache.name, [])
        old = self.old.get(cache.name, _NOTHING)
        listed = [row for row in rows if row["rec"] != "node"]
        known = sum(row["nr_slabs"] or 0 for row in rows if row["rec"] == "node")
        if not len(listed) and not len(old):
            return dataclasses.replace(NOTHING_LAID, base=known, live=known * cache.objects)
        # A CPU's list grows at its head: its last slab first.
        listed = [row for row in listed if row["rec"] != "cpu_partial"] + [
            row for row in reversed(listed) if row["rec"] == "cpu_partial"
        ]
        slabs = [
            (
                0, _LISTS[row["rec"]], self.node_of(row["pfn"]) if row["node"] is None else row["node"],
                -1 if row["cpu"] is None else row["cpu"],
                (row["free_cpu"] or 0) if row["rec"] == "cpu_slab" else 0,
                (row["free_slab"] or 0) if row["rec"] == "cpu_slab" else row["objects"] - row["inuse"], 0,
            )
            for row in listed
        ]  # fmt: skip
        pages = np.uint64(1 << cache.order)
        pfns = (self.ptrs[old] - np.uint64(DIRECT_MAP)) // np.uint64(4096) // pages * pages
        place = {row["pfn"]: i for i, row in enumerate(listed)}
        for pfn in pfns.tolist():
            if pfn not in place:
                place[pfn] = len(slabs)
                slabs.append((0, LIST_NONE, self.node_of(pfn), -1, 0, 0, 0))
        table = np.array(slabs, np.int64)
        slab = np.array([place[pfn] for pfn in pfns.tolist()], np.int64)
        index = table[slab, LAID.private] + table[slab, LAID.free] + _rank(slab)
        base = max(0, known - len(table))
        out = sum(row["inuse"] - (row["free_cpu"] or 0) for row in listed)
        fits = index < cache.objects
        live = out + cache.objects * (len(table) + base - len(listed))
        pages_of = np.array([*(row["pfn"] for row in listed), *(pfn for pfn, i in place.items() if i >= len(listed))])
        return Laid(table, old[fits], slab[fits], index[fits], base, live, pages_of)

    def _with_sheaves(self, cache: TracedCache) -> Laid:
        """The same of a cache of 7.x. What lies in sheaves larger than those of ``cache`` is free in its slab."""
        rows = self.state.get(cache.name, [])
        old = self.old.get(cache.name, _NOTHING)
        pages = 1 << cache.order
        known = sum(row["nr_slabs"] or 0 for row in rows if row["rec"] == "node")
        table: list[list[int]] = []
        place: dict[int, int] = {}

        def add(pfn: int, which: int, node: int | None, free: int) -> int:
            if pfn not in place:
                place[pfn] = len(table)
                table.append([0, which, self.node_of(pfn) if node is None else node, -1, 0, free, 0])
            return place[pfn]

        for row in rows:
            if row["rec"] == "node_partial":
                add(row["pfn"], LIST_NODE, row["node"], row["objects"] - row["inuse"])
        for pfn, inuse, objects, listed in self.sheaves.slabs.get(cache.name, ()):
            add(pfn, LIST_NODE if listed else LIST_NONE, None, objects - inuse)

        def slabs_of(ptrs: np.ndarray) -> np.ndarray:
            pfns = (ptrs - np.uint64(DIRECT_MAP)) // np.uint64(4096) // np.uint64(pages) * np.uint64(pages)
            return np.array([add(pfn, LIST_NONE, None, 0) for pfn in pfns.tolist()], np.int64)

        sheaves = self.sheaves.sheaves.get(cache.name, [])
        fitting = [s for s in sheaves if cache.era == PERCPU_SHEAVES and len(s.objects) <= cache.sheaf_capacity]
        for sheaf in sheaves:
            if sheaf not in fitting:
                for slab in slabs_of(np.array(sheaf.objects, np.uint64)).tolist():
                    table[slab][LAID.free] += 1
                    table[slab][LAID.list] = LIST_NODE
        kept = [np.array(sheaf.objects, np.uint64) for sheaf in fitting]
        where = slabs_of(np.concatenate([self.ptrs[old], *kept]))
        slabs = np.array(table, np.int64).reshape(-1, LAID.width)
        index = slabs[where, LAID.free] + _rank(where) if len(where) else where
        ends = np.cumsum([len(old), *map(len, kept)])
        parts = [
            (sheaf, where[a:b][index[a:b] < cache.objects], index[a:b][index[a:b] < cache.objects])
            for sheaf, a, b in zip(fitting, ends[:-1], ends[1:], strict=True)
        ]
        base = max(0, known - len(slabs))
        live = cache.objects * (len(slabs) + base) - int(slabs[:, LAID.free].sum()) - sum(len(s) for _, s, _ in parts)
        fits = index[: len(old)] < cache.objects
        first = np.array(list(place), np.int64)
        return Laid(slabs, old[fits], where[: len(old)][fits], index[: len(old)][fits], base, live, first, tuple(parts))

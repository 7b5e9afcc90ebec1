"""Where every object lay before the trace began.

A state dump is Parquet with a row a record, ``rec`` being ``cache``, ``node`` (nr_slabs), ``node_partial`` (a node's
list in its order: idx, pfn, inuse, objects), ``cpu_slab`` (cpu, pfn, inuse, objects, free_cpu, free_slab) or
``cpu_partial`` (a CPU's list in its order). Slabs that are full and on no list are only in ``nr_slabs``.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.kernels import eras as er
from fastalloc.kernels import kmem_replay as kr
from fastalloc.kernels import state as st
from fastalloc.kernels.slub_slab import add_partial
from fastalloc.trace.caches import TracedCache
from fastalloc.trace.compact import CompactTrace
from fastalloc.trace.infer import DIRECT_MAP
from fastalloc.trace.lane import Config

_COLUMNS = (
    "snap",
    "rec",
    "cache",
    "cpu",
    "node",
    "idx",
    "pfn",
    "inuse",
    "objects",
    "free_cpu",
    "free_slab",
    "nr_slabs",
    "oo_objects",
)


def read_state(path: Path) -> pl.DataFrame:
    """The first snapshot of a state dump. Raises InputError for a file that is none."""
    try:
        state = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(path, "", f"is not readable as Parquet: {str(error).splitlines()[0]}") from error
    missing = [name for name in _COLUMNS if name not in state.columns]
    if missing:
        raise InputError(path, missing[0], "column is missing")
    return state.filter(pl.col("snap") == state["snap"].min())


class Start:
    """Puts a lane's slabs where they were. ``old``: rows of ``ptrs`` alive before the trace and their cache's name."""

    def __init__(self, state: pl.DataFrame | None, old: dict[str, np.ndarray], ptrs: np.ndarray) -> None:
        self.state: dict[str, list[dict]] = {}
        self.old = old
        self.ptrs = ptrs
        self.nodes = 1
        self.objects_of: dict[str, int] = {}  # a full slab of the traced kernel
        if state is not None:
            layouts = state.filter((pl.col("rec") == "cache") & pl.col("oo_objects").is_not_null())
            self.objects_of = dict(layouts.select("cache", "oo_objects").iter_rows())
            listed = state.filter(pl.col("rec") != "cache").sort("idx", nulls_last=True)
            for row in listed.iter_rows(named=True):
                self.state.setdefault(row["cache"], []).append(row)
            self.nodes = len(set(state["node"].drop_nulls())) or 1
            lists = state.filter(pl.col("rec") == "node_partial")
            self.first_pfn = [min(lists.filter(pl.col("node") == n)["pfn"], default=0) for n in range(self.nodes)]

    def node_of(self, pfn: int) -> int:
        """The node that page frame ``pfn`` is of, as far as the listed slabs tell."""
        return max((n for n in range(self.nodes) if n == 0 or self.first_pfn[n] <= pfn), default=0)

    @property
    def room(self) -> int:
        """Slabs there may have been, with a margin."""
        return 2 * (sum(map(len, self.old.values())) + sum(map(len, self.state.values())))

    def cpus(self, trace: CompactTrace) -> int:
        """CPUs of the trace and of the state."""
        known = [row["cpu"] for part in self.state.values() for row in part if row["cpu"] is not None]
        return max(int(trace.meta["cpus"]), 1, *(cpu + 1 for cpu in known))

    def outstanding(self, names: list[str]) -> tuple[int, np.ndarray]:
        """How many objects of the traced caches ``names`` are out at the start, as far as state and trace tell, and
        the rows of ``ptrs`` of those that the trace frees."""
        out = 0
        for name in names:
            rows = self.state.get(name, [])
            listed = [row for row in rows if row["rec"] != "node"]
            inside = sum(row["inuse"] - (row["free_cpu"] or 0) for row in listed)
            slabs = sum(row["nr_slabs"] or 0 for row in rows if row["rec"] == "node")
            inside += (slabs - len(listed)) * self.objects_of.get(name, 0)
            out += max(inside, len(self.old.get(name, ())))
        old = [self.old[name] for name in names if name in self.old]
        return out, np.concatenate(old) if old else np.zeros(0, np.int64)

    def install(self, mem, slub, lane, c: int, cache: TracedCache, config: Config) -> None:
        """Put the slabs of cache ``c`` in place and the handles of its old objects into ``lane.handle``.

        Where the cache is laid out as in the traced kernel they lie as they did; else its objects are packed anew.
        """
        out, old = self.outstanding(config.sources(cache.name))
        if cache.name in config.exact:
            self._as_it_was(mem, slub, lane, c, cache, self.state.get(cache.name, []), old)
        elif out:
            self._packed(mem, slub, lane, c, cache, out, old)

    def _as_it_was(self, mem, slub, lane, c, cache, rows, old) -> None:
        place = {}  # first page: record, next index that is out
        slab, kcpu = slub.slab, slub.kcpu

        def put(row, free):
            s = kr.place(mem, slub, c, self.node_of(row["pfn"]), free)
            place[row["pfn"]] = [s, free]
            return s

        for row in rows:
            if row["rec"] == "node_partial":
                add_partial(slub, c, put(row, row["objects"] - row["inuse"]), True)
            elif row["rec"] == "cpu_slab":
                private, shared = row["free_cpu"] or 0, row["free_slab"] or 0
                s = put(row, private + shared)
                base = slab[s, st.S_BASE]
                kcpu[c, row["cpu"], [st.K_FREELIST, st.K_PAGE]] = 0 if private else -1, s
                slab[s, st.S_FREELIST] = private if shared else -1
                if private:
                    slub.link[base + private - 1] = -1
                slab[s, st.S_INUSE] = cache.objects - shared
                slab[s, st.S_FROZEN] = 1 + row["cpu"]
        for row in reversed([row for row in rows if row["rec"] == "cpu_partial"]):
            s = put(row, row["objects"] - row["inuse"])
            below = int(kcpu[c, row["cpu"], er.K_PARTIAL])
            slab[s, st.S_NEXT] = below
            slab[s, st.S_COUNT] = 1 + (int(slab[below, st.S_COUNT]) if below >= 0 else 0)
            slab[s, st.S_FROZEN] = 1 + row["cpu"]
            kcpu[c, row["cpu"], er.K_PARTIAL] = s
        pages = 1 << cache.order
        pfns = (self.ptrs[old] - np.uint64(DIRECT_MAP)) // np.uint64(4096) // np.uint64(pages) * np.uint64(pages)
        for obj, pfn in zip(old.tolist(), pfns.tolist(), strict=True):
            if pfn not in place:
                place[pfn] = [kr.place(mem, slub, c, self.node_of(pfn), 0), 0]
            s, index = place[pfn]
            if index < cache.objects:
                place[pfn][1] = index + 1
                lane.handle[obj] = (int(s) << st.HANDLE_SHIFT) | index
        known = sum(row["nr_slabs"] or 0 for row in rows if row["rec"] == "node")
        lane.base[c] = max(0, known - len(place))
        full = len(place) + int(lane.base[c]) - sum(row["rec"] != "node" for row in rows)
        out = sum(row["inuse"] - (row["free_cpu"] or 0) for row in rows if row["rec"] != "node")
        lane.live[c] = out + cache.objects * full

    def _packed(self, mem, slub, lane, c, cache, out, old) -> None:
        def put(free):
            s = int(kr.place(mem, slub, c, 0, free))
            if free:
                add_partial(slub, c, s, True)
            return s

        pack(lane, c, cache.objects, out, old, put)


def pack(lane: kr.Lane, c: int, objects: int, out: int, old: np.ndarray, put: Callable[[int], int]) -> None:
    """Lay ``out`` objects of cache ``c`` into full slabs and a last one that may have room.

    ``old``: those of them that the trace frees, spread evenly. ``put(free)`` makes a slab with ``free`` of its
    ``objects`` free, the first ones, and returns its record; slabs that hold no old object are only counted.
    """
    positions = np.arange(len(old)) * out // max(len(old), 1)
    wanted = set((positions // objects).tolist())
    last = (out - 1) // objects
    wanted.add(last)
    record = {}
    for where in sorted(wanted):
        free = objects * (last + 1) - out if where == last else 0
        record[where] = put(free), free
    taken: dict[int, int] = {}
    for obj, where in zip(old.tolist(), (positions // objects).tolist(), strict=True):
        s, free = record[where]
        index = taken.get(where, free)
        if index < objects:
            taken[where] = index + 1
            lane.handle[obj] = (s << st.HANDLE_SHIFT) | index
    lane.base[c] = last + 1 - len(wanted)
    lane.live[c] = out

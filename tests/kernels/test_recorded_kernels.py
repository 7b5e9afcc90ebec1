"""The per-CPU partial era against kernels 6.1 and 6.12 that were traced: slabs allocated, cache by cache.

Each run starts from the recorded state of all slabs (which are partial, whose, in which order) and is fed every
recorded allocation and free. What remains: a bulk free gives all objects of a slab back in one step, and an interrupt
may fall between a trace point and the slab operation.
"""

import numpy as np
import polars as pl
import pytest

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.partial import add_partial, install_slab, slab_record
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_CTL, SLUB_SLAB
from tests.geometry.shared import shared
from tests.kernels.build import make_unlimited_mem

DIRECT_MAP = 0xFFFF888000000000


class Recorded:
    """A traced run and the lane that follows it."""

    def __init__(self, folder, run):
        state = pl.read_parquet(folder / f"{run}.slabstate.parquet")
        state = state.filter(pl.col("snap") == state["snap"].min())
        self.events = pl.read_parquet(folder / f"{run}.events.parquet").filter(
            pl.col("event").is_in(["alloc", "free", "bulk_alloc", "bulk_free"]) & (pl.col("ptr") != 0)
        )
        self.summary = pl.read_csv(folder / f"{run}.summary.csv")
        caches = list(state.filter(pl.col("rec") == "cache").iter_rows(named=True))
        self.names = [cache["cache"] for cache in caches]
        self.index = {name: c for c, name in enumerate(self.names)}
        self.order = [cache["order"] for cache in caches]
        cpus = int(self.events["cpu"].max()) + 1
        self.mem = make_unlimited_mem(cpus)
        self.slub = er.SlubEras(
            cache=np.zeros((len(caches), KMEM_CACHE.width), np.int64),
            kcpu=np.zeros((len(caches), cpus, KMEM_CACHE_CPU.width), np.int64),
            knode=np.zeros((len(caches), 1, KMEM_CACHE_NODE.width), np.int64),
            slab=np.zeros((40_000, SLUB_SLAB.width), np.int32),
            link=np.zeros(2_000_000, np.int16),
            ctl=np.zeros(SLUB_CTL.width, np.int64),
        )
        self.slub.ctl[SLUB_CTL.nodes] = 1
        for c, cache in enumerate(caches):
            row = np.zeros(KMEM_CACHE.width, np.int64)
            row[[KMEM_CACHE.size, KMEM_CACHE.order, KMEM_CACHE.objects]] = (
                cache["size"],
                cache["order"],
                cache["oo_objects"],
            )
            row[KMEM_CACHE.min_partial] = cache["min_partial"]
            row[[KMEM_CACHE.era, KMEM_CACHE.cpu_partial, KMEM_CACHE.min_order]] = (
                er.ERA_CPU_PARTIAL,
                cache["cpu_partial_slabs"],
                row[KMEM_CACHE.order],
            )
            slub.init_cache(self.slub, c, row)
        self.slab_at = {}  # record of each slab there was at the start, by cache and first page
        self.left = {}  # its objects that are still out
        self._start(state)

    def _install(self, c, pfn, free):
        """A slab with ``free`` objects on its own list, on no list itself."""
        objects = int(self.slub.cache[c, KMEM_CACHE.objects])
        s = int(slab_record(self.slub, c))
        install_slab(self.mem, self.slub, c, s, 0, self.order[c], objects)
        base = self.slub.slab[s, SLUB_SLAB.base]
        if free:
            self.slub.link[base + free - 1] = -1
        else:
            self.slub.slab[s, SLUB_SLAB.freelist] = -1
        self.slub.slab[s, SLUB_SLAB.inuse] = objects - free
        self.slab_at[c, pfn] = s
        self.left[s] = list(range(free, objects))
        return s

    def _start(self, state):
        for row in state.sort("idx", nulls_last=True).iter_rows(named=True):
            if row["rec"] not in ("node_partial", "cpu_slab", "cpu_partial"):
                continue
            c = self.index[row["cache"]]
            if row["rec"] == "node_partial":
                add_partial(self.slub, c, self._install(c, row["pfn"], row["objects"] - row["inuse"]), True)
            elif row["rec"] == "cpu_slab":
                private = row["free_cpu"]
                s = self._install(c, row["pfn"], private + row["free_slab"])
                slab, k = self.slub.slab[s], self.slub.kcpu[c, row["cpu"]]
                base = slab[SLUB_SLAB.base]
                k[[KMEM_CACHE_CPU.freelist, KMEM_CACHE_CPU.page]] = 0 if private else -1, s
                slab[SLUB_SLAB.freelist] = private if row["free_slab"] else -1
                if private:
                    self.slub.link[base + private - 1] = -1
                slab[[SLUB_SLAB.inuse, SLUB_SLAB.frozen]] = row["inuse"], 1 + row["cpu"]
        parked = state.filter(pl.col("rec") == "cpu_partial").sort("idx", descending=True)
        for row in parked.iter_rows(named=True):
            c = self.index[row["cache"]]
            s = self._install(c, row["pfn"], row["objects"] - row["inuse"])
            k = self.slub.kcpu[c, row["cpu"]]
            below = int(k[KMEM_CACHE_CPU.partial])
            count = 1 + (int(self.slub.slab[below, SLUB_SLAB.count]) if below >= 0 else 0)
            self.slub.slab[s, [SLUB_SLAB.next, SLUB_SLAB.count, SLUB_SLAB.frozen]] = below, count, 1 + row["cpu"]
            k[KMEM_CACHE_CPU.partial] = s

    def _old_object(self, c, ptr):
        """An object that was out before the trace began: of its slab, whichever is still out."""
        pages = 1 << self.order[c]
        pfn = ((ptr - DIRECT_MAP) >> 12) // pages * pages
        s = self.slab_at.get((c, pfn))
        if s is None:
            s = self._install(c, pfn, 0)
        return (s << st.HANDLE_SHIFT) | self.left[s].pop() if self.left[s] else None

    def follow(self):
        live = {}
        known = self.events.filter(pl.col("cache_resolved").is_in(self.names))
        for event, name, cpu, ptr in known.select("event", "cache_resolved", "cpu", "ptr").iter_rows():
            c = self.index[name]
            if event.endswith("alloc"):
                live[ptr] = int(slub.slab_alloc(self.mem, self.slub, c, cpu, -1, 0xD0, 0))
                continue
            handle = live.pop(ptr, None)
            if handle is None:
                handle = self._old_object(c, ptr)
            if handle is not None:
                slub.slab_free(self.mem, self.slub, cpu, handle)

    def allocated(self):
        """Slabs allocated, by cache name."""
        counts = self.slub.kcpu[:, :, KMEM_CACHE_CPU.alloc_slab].sum(axis=1)
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}


@pytest.mark.parametrize(
    "run", ["d_w1_k61_smp2", "d_w1_k612_smp2", "d_w1_k61_smp2_maxorder0", "d_w1_k612_smp2_minorder2", "d_w4_k61_smp4"]
)
def test_slabs_allocated_by_a_traced_kernel(run):
    lane = Recorded(shared("kernel", "traces"), run)
    lane.follow()
    assert lane.slub.ctl[SLUB_CTL.overflow] == 0
    allocated = lane.allocated()
    real = {row["cache"]: row["slab_allocs"] for row in lane.summary.iter_rows(named=True) if row["slab_allocs"]}
    pages = {name: count << lane.order[lane.index[name]] for name, count in real.items()}
    mine = {name: allocated[name] << lane.order[lane.index[name]] for name in real}
    exact = sum(allocated[name] == count for name, count in real.items())
    assert abs(sum(mine.values()) - sum(pages.values())) <= 0.04 * sum(pages.values())
    assert exact >= 0.9 * len(real)

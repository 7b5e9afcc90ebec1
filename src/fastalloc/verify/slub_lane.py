"""A golden case on SLUB: boot, create and destroy with their hidden allocations, tables."""

import numpy as np

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc import kmem
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_CTL, SLUB_SLAB, Slub
from fastalloc.linux import gfp as g
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, SlubOptions
from fastalloc.scenario.slub_arrays import geometry_row
from fastalloc.verify.golden_case import CPUS, GoldenCase
from fastalloc.verify.lane import Lane, kmalloc_sizes

PARTIAL_LISTED = 100


@kernel
def chain_length(link, base, first):
    """Objects of a free chain."""
    count = 0
    while first >= 0:
        count += 1
        first = link[base + first]
    return count


class SlubLane(Lane):
    """SLUB of a build: cache line, NUMA nodes, CONFIG_SLUB_DEBUG."""

    def __init__(self, case: GoldenCase, nodes: int, cache_line: int, debug: bool, room: int) -> None:
        super().__init__(case, nodes)
        self.caches = CacheSet(SlubOptions(cpus_present=CPUS, cache_line=cache_line, debug=debug), nodes)
        rows = len(self.caches.caches) + len(case.caches) + 1
        self.heap = Slub(
            cache=np.zeros((rows, KMEM_CACHE.width), dtype=np.int64),
            kcpu=np.zeros((rows, CPUS, KMEM_CACHE_CPU.width), dtype=np.int64),
            knode=np.zeros((rows, nodes, KMEM_CACHE_NODE.width), dtype=np.int64),
            slab=np.zeros((room, SLUB_SLAB.width), dtype=np.int32),
            link=np.zeros(room * 64, dtype=np.int16),
            ctl=np.zeros(SLUB_CTL.width, dtype=np.int64),
        )
        self.heap.ctl[SLUB_CTL.nodes] = nodes
        # sizeof(struct kmem_cache), by what CONFIG_SLUB_DEBUG and CONFIG_NUMA put in.
        self.kmem_size = 184 + (88 if debug else 0) + (24 if nodes > 1 else 0)
        self.row: dict[int, int] = {}  # row of each cache of the set
        self.fresh_row = 0
        self.free_rows: list[int] = []  # as the per-CPU slots: the last one given back is the next one taken
        self.structs: dict[int, tuple[int, list[int]]] = {}  # handles of a cache's struct and node structs
        for index in range(len(self.caches.caches)):
            self._open(index)
            self._node_structs(index, 0, 0, 0)
        self.play.sizes[:] = kmalloc_sizes(
            lambda size: self.row[self.caches.kmalloc_index(size)] if self.caches.kmalloc_index(size) >= 0 else -1
        )
        self._reorder()

    def _open(self, index: int) -> int:
        if self.free_rows:
            row = self.free_rows.pop()
        else:
            row = self.fresh_row
            self.fresh_row += 1
        self.row[index] = row
        self.heap.cache[row, KMEM_CACHE.ordinals] = 0
        self.heap.cache[row, KMEM_CACHE.pages] = 0
        self.heap.knode[row] = 0
        su.init_cache(self.heap, row, geometry_row(self.caches.caches[index]))
        return row

    def _node_structs(self, index: int, cpu: int, home: int, context: int) -> list[int] | None:
        """A struct kmem_cache_node on each node but ``home``, which holds one inside the cache's own struct."""
        handles: list[int] = []
        for node in range(self.nodes):
            if node == home:
                continue
            if index == 0:
                handles.append(su.early_kmem_cache_node_alloc(self.mem, self.heap, 0, cpu, node))
                continue
            handle = su.slab_alloc(self.mem, self.heap, self.row[0], cpu, node, g.GFP_KERNEL, context)
            if handle < 0:
                for taken in handles:
                    su.slab_free(self.mem, self.heap, cpu, taken)
                return None
            handles.append(handle)
        return handles

    def _reorder(self) -> None:
        living = [index for index, cache in enumerate(self.caches.caches) if cache.refcount != 0]
        self.order = living[::-1]
        rows = [self.row[index] for index in self.order]
        self.play.order[0] = len(rows)
        self.play.order[1 : 1 + len(rows)] = rows

    def create(self, index: int, cpu: int, context: int) -> bool:
        asked = self.case.caches[index]
        request = CacheRequest(asked.name, asked.size, asked.align, asked.flags, asked.ctor)
        known = len(self.caches.caches)
        root = self.caches.create(request)
        if len(self.caches.caches) > known:
            struct = kmem.kmalloc(self.mem, self.heap, self.play.sizes, cpu, g.GFP_KERNEL, context, self.kmem_size)
            nodes = None
            if struct >= 0:
                home = self.heap.slab[struct >> st.HANDLE_SHIFT, SLUB_SLAB.node]
                nodes = self._node_structs(root, cpu, home, context)
                if nodes is None:
                    kmem.kfree(self.mem, self.heap, cpu, struct)
            if nodes is None:
                self.caches.destroy(asked.name)
                return False
            self.structs[root] = (struct, nodes)
            self._open(root)
        self.play.row_of[index] = self.row[root]
        self._reorder()
        return True

    def destroy(self, index: int, cpu: int) -> None:
        name = self.case.caches[index].name
        root = self.caches.index_of(name)
        self.play.row_of[index] = -1
        if not self.caches.destroy(name):
            return
        row = self.row[root]
        if not su.kmem_cache_close(self.mem, self.heap, row, cpu):
            raise self.still_in_use(index)
        struct, nodes = self.structs.pop(root)
        for handle in nodes:
            su.slab_free(self.mem, self.heap, cpu, handle)
        kmem.kfree(self.mem, self.heap, cpu, struct)
        self.heap.cache[row, KMEM_CACHE.alive] = 0
        self.free_rows.append(row)
        self._reorder()

    def ctor_calls(self) -> int:
        return int(self.heap.cache[:, KMEM_CACHE.ctor_calls].sum())

    def overflowed(self) -> bool:
        return bool(self.heap.ctl[SLUB_CTL.overflow])

    def allocator_rows(self) -> None:
        heap = self.heap
        slabs = heap.slab[: heap.ctl[SLUB_CTL.slab_top]]
        inuse = np.zeros(heap.knode.shape[:2], dtype=np.int64)
        used = slabs[slabs[:, SLUB_SLAB.pfn] >= 0]
        np.add.at(inuse, (used[:, SLUB_SLAB.cache], used[:, SLUB_SLAB.node]), used[:, SLUB_SLAB.inuse])
        self.tables.setdefault("stats_sum", [])
        for index in self.order:
            row = self.row[index]
            name = self.caches.caches[index].name
            before = len(self.tables["cpu"])
            for cpu in range(CPUS):
                self._cpu_row(row, name, cpu, inuse)
            if len(self.tables["cpu"]) > before:
                totals = heap.kcpu[row, :, KMEM_CACHE_CPU.stats[:]].sum(axis=0)
                self.add("stats_sum", cache=name, **dict(zip(st.SLUB_STATS, map(int, totals), strict=True)))
            for node in range(self.nodes):
                self._node_row(row, name, node, int(inuse[row, node]))

    def _cpu_row(self, row: int, name: str, cpu: int, inuse: np.ndarray) -> None:
        heap = self.heap
        record = heap.kcpu[row, cpu]
        stats = record[KMEM_CACHE_CPU.stats[:]]
        s = int(record[KMEM_CACHE_CPU.page])
        if s < 0 and not stats.any():
            return
        slab, free, page_free = -2, 0, 0
        if s >= 0:
            slab = int(heap.slab[s, SLUB_SLAB.ordinal])
            free = chain_length(heap.link, heap.slab[s, SLUB_SLAB.base], record[KMEM_CACHE_CPU.freelist])
            page_free = chain_length(heap.link, heap.slab[s, SLUB_SLAB.base], heap.slab[s, SLUB_SLAB.freelist])
            inuse[row, heap.slab[s, SLUB_SLAB.node]] -= free
        counts = dict(zip(st.SLUB_STATS, map(int, stats), strict=True))
        self.add("cpu", cache=name, cpu=cpu, **counts, cpu_slab=slab, cpu_free=free, page_free=page_free)

    def _node_row(self, row: int, name: str, node: int, live: int) -> None:
        heap = self.heap
        record = heap.knode[row, node]
        listed: list[str] = []
        partial_inuse = 0
        s = int(record[KMEM_CACHE_NODE.partial_head])
        while s >= 0:
            slab = heap.slab[s]
            partial_inuse += int(slab[SLUB_SLAB.inuse])
            if len(listed) < PARTIAL_LISTED:
                listed.append(f"{slab[SLUB_SLAB.ordinal]}:{slab[SLUB_SLAB.inuse]}")
            s = int(slab[SLUB_SLAB.next])
        slabs, partial = int(record[KMEM_CACHE_NODE.nr_slabs]), int(record[KMEM_CACHE_NODE.nr_partial])
        self.add(
            "node",
            cache=name,
            node=node,
            nr_slabs=slabs,
            nr_partial=partial,
            partial_inuse=partial_inuse,
            live_objects=live,
            slabinfo_active=partial_inuse + (slabs - partial) * int(heap.cache[row, KMEM_CACHE.objects]),
            partial_list=" ".join(listed) or None,
        )

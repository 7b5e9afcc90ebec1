"""Golden traces on the SLUB reference: kmalloc, create with merging, destroy, shrink, the tables.

Layouts and merge targets come from :mod:`fastalloc.linux.geometry_slub`, which has tables of its own to answer to.
"""

from typing import Any

from fastalloc.kernels.alloc.state import SLUB_STATS
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, SlubOptions
from fastalloc.verify.golden_case import CPUS
from tests.reference.machine import GFP_KERNEL, Machine
from tests.reference.page_alloc import PLAIN
from tests.reference.slub import Cache, CpuSlab, Object, PageObject
from tests.reference.stub_pages import Block

PAGE_SIZE = 4096
LIST_HEAD = 16


class CountingCache(Cache):
    """A cache that numbers its slabs at first sight and counts constructor runs."""

    def __init__(self, machine: "SlubMachine", layout, slots: list[CpuSlab]):
        super().__init__(
            machine.pages,
            layout.objects,
            layout.order,
            layout.objsize,
            layout.allocflags,
            layout.fallback,
            nodes=len(machine.pages.nodes),
        )
        self.machine = machine
        self.name = layout.name
        self.ctor = layout.ctor
        self.cpu = slots
        self.ordinals: dict[Any, int] = {}

    def new_slab(self, cpu, gfp, task, node=-1):
        slab = super().new_slab(cpu, gfp, task, node)
        if slab and self.ctor:
            self.machine.ctor_calls += self.objects + 1  # the first object twice
        return slab


class SlubMachine(Machine):
    """SLUB of a build."""

    def __init__(self, case, nodes: int, line: int, debug: bool):
        super().__init__(case, nodes)
        self.set = CacheSet(SlubOptions(cpus_present=CPUS, cache_line=line, debug=debug), nodes)
        self.kmem_size = 184 + 88 * debug + 24 * (nodes > 1)
        self.caches: dict[int, CountingCache] = {}  # by their index in the set
        self.spare_slots: list[list[CpuSlab]] = []  # per-CPU slots given back, the last one on top
        self.structs: dict[int, tuple[Any, list[Any]]] = {}
        self.living: set[int] = set()
        for index in range(len(self.set.caches)):
            self.open(index)
            for node in range(1, nodes):
                if index == 0:
                    self.first_node_struct(node)
                else:
                    self.caches[0].alloc(0, GFP_KERNEL, PLAIN, node)

    def open(self, index: int) -> CountingCache:
        slots = self.spare_slots.pop() if self.spare_slots else [CpuSlab() for _ in range(CPUS)]
        self.caches[index] = CountingCache(self, self.set.caches[index], slots)
        return self.caches[index]

    def first_node_struct(self, node: int) -> None:
        """kmem_cache_node's own struct on another node: cut by hand from a new slab [early_kmem_cache_node_alloc]."""
        cache = self.caches[0]
        slab = cache.new_slab(0, GFP_KERNEL, PLAIN, node)
        slab.freelist.popleft()
        slab.inuse += 1
        cache.partials[node].appendleft(slab)

    # -- objects; the path is read off the counters that moved

    def cache_alloc(self, cache: CountingCache, cpu, node, gfp, task):
        stats = cache.cpu[cpu].stats
        before = stats.copy()
        thing = cache.alloc(cpu, gfp, task, node)
        moved = stats - before
        if thing is None:
            self.path = 0
        elif isinstance(thing, PageObject):
            self.path = 5
        elif moved["alloc_fastpath"]:
            self.path = 1
        elif moved["alloc_from_partial"]:
            self.path = 3
        else:
            self.path = 4 if moved["alloc_slab"] else 2
        return thing

    def give(self, cpu, thing) -> None:
        if isinstance(thing, Block):
            self.pages.give(thing)
            self.path = 8
            return
        if isinstance(thing, PageObject):
            self.pages.give(thing.page)
            self.path = 8
            return
        cache = thing.slab.cache
        stats = cache.cpu[cpu].stats
        before = stats.copy()
        cache.free(cpu, thing)
        moved = stats - before
        if moved["free_fastpath"]:
            self.path = 1
        elif moved["free_frozen"]:
            self.path = 2
        elif moved["free_add_partial"]:
            self.path = 3
        elif moved["free_remove_partial"]:
            self.path = 5
        else:
            self.path = 6 if moved["free_slab"] else 4

    def alloc(self, index, cpu, node, gfp, task):
        return self.cache_alloc(self.cache_of(index), cpu, node, gfp, task)

    def free(self, index, cpu, thing):
        self.give(cpu, thing)

    def kmalloc(self, cpu, size, gfp, task):
        if size > PAGE_SIZE:
            block = self.pages.take(cpu, gfp, (size - 1).bit_length() - 12, task)
            self.path = 8 if block else 0
            return block
        return self.cache_alloc(self.caches[self.set.kmalloc_index(size)], cpu, -1, gfp, task)

    def kfree(self, cpu, thing):
        self.give(cpu, thing)

    def place(self, thing):
        if not isinstance(thing, Object):
            return (-1, -1)
        ordinals = thing.slab.cache.ordinals
        return (ordinals.setdefault(thing.slab, len(ordinals)), thing.index)

    def cache_of(self, index: int) -> CountingCache:
        return self.caches[self.set.index_of(self.case.caches[index].name)]

    def exists(self, index):
        return index in self.living

    # -- caches

    def node_structs(self, cpu, home, task) -> list | None:
        """A struct on every node but the one that holds the cache's own struct."""
        taken: list = []
        for node in range(len(self.pages.nodes)):
            if node == home:
                continue
            thing = self.caches[0].alloc(cpu, GFP_KERNEL, task, node)
            if thing is None:
                for other in taken:
                    self.give(cpu, other)
                return None
            taken.append(thing)
        return taken

    def create(self, index, cpu, task):
        asked = self.case.caches[index]
        known = len(self.set.caches)
        target = self.set.create(CacheRequest(asked.name, asked.size, asked.align, asked.flags, asked.ctor))
        if target == known:
            struct = self.kmalloc(cpu, self.kmem_size, GFP_KERNEL, task)
            nodes = None
            if struct is not None:
                nodes = self.node_structs(cpu, struct.slab.node, task)
                if nodes is None:
                    self.give(cpu, struct)
            if nodes is None:
                self.set.destroy(asked.name)
                return False
            self.structs[target] = (struct, nodes)
            self.open(target)
        self.living.add(index)
        return True

    def destroy(self, index, cpu):
        name = self.case.caches[index].name
        target = self.set.index_of(name)
        self.living.remove(index)
        if not self.set.destroy(name):
            return  # somebody else still uses it under another name
        cache = self.caches.pop(target)
        cache.flush_all(cpu)
        cache.free_empty(cpu)
        assert not cache.slabs, "a cache is destroyed with objects in use"
        self.spare_slots.append(cache.cpu)
        struct, nodes = self.structs.pop(target)
        for thing in nodes:
            self.give(cpu, thing)
        self.give(cpu, struct)

    def shrink(self, index, cpu, task):
        cache = self.cache_of(index)
        room = self.kmalloc(cpu, LIST_HEAD * cache.objects, GFP_KERNEL, task)
        if room is None:
            return False, -1
        cache.shrink(cpu)
        self.kfree(cpu, room)
        return True, -1

    def flush(self, index, cpu):
        newest_first = [self.caches[i] for i in sorted(self.caches, reverse=True)]
        for cache in newest_first if index < 0 else [self.cache_of(index)]:
            if cache.cpu[cpu].slab:
                cache.cpu[cpu].stats["cpuslab_flush"] += 1
                cache.deactivate_slab(cpu)

    # -- tables

    def allocator_rows(self):
        self.tables.setdefault("stats_sum", [])
        for index in sorted(self.caches, reverse=True):
            cache = self.caches[index]
            totals = dict.fromkeys(SLUB_STATS, 0)
            shown = False
            for cpu, c in enumerate(cache.cpu):
                counts = {stat: c.stats[stat] for stat in SLUB_STATS}
                if c.slab is None and not any(counts.values()):
                    continue
                shown = True
                totals = {stat: totals[stat] + counts[stat] for stat in SLUB_STATS}
                self.add(
                    "cpu",
                    cache=cache.name,
                    cpu=cpu,
                    **counts,
                    cpu_slab=cache.ordinals.get(c.slab, -1) if c.slab else -2,
                    cpu_free=len(c.freelist),
                    page_free=len(c.slab.freelist) if c.slab else 0,
                )
            if shown:
                self.add("stats_sum", cache=cache.name, **totals)
            for node, partial in enumerate(cache.partials):
                slabs = [slab for slab in cache.slabs if slab.node == node]
                waiting = sum(len(c.freelist) for c in cache.cpu if c.slab and c.slab.node == node)
                inuse = sum(slab.inuse for slab in partial)
                self.add(
                    "node",
                    cache=cache.name,
                    node=node,
                    nr_slabs=len(slabs),
                    nr_partial=len(partial),
                    partial_inuse=inuse,
                    live_objects=sum(slab.inuse for slab in slabs) - waiting,
                    slabinfo_active=inuse + (len(slabs) - len(partial)) * cache.objects,
                    partial_list=" ".join(f"{cache.ordinals.get(s, -1)}:{s.inuse}" for s in list(partial)[:100])
                    or None,
                )

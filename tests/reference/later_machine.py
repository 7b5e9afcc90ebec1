"""Golden traces of 6.12 and 7.3 on their SLUB references: boot, create with merging, destroy, grace periods, tables.

Layouts and merge targets come from :mod:`fastalloc.linux.geometry_slub`, which has tables of its own to answer to.
"""

from collections.abc import Callable
from typing import Any

from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, SlubOptions
from fastalloc.linux.slab_flags import DESTROY_BY_RCU, get_order
from tests.reference.machine import GFP_KERNEL, NOWHERE, STRUCT_MEMPOOL, Machine, Pool
from tests.reference.page_alloc import NOMEMALLOC, NORETRY, NOWARN, PLAIN, WAIT, Task
from tests.reference.stub_pages import Block, StubPages63

COMP = 0x4000
IO = 0x40


class LaterMachine(Machine):
    """A kernel with caches ``kmem_cache`` and ``kmem_cache_node``. A subclass adds its kind of cache.

    It is the ``kernel`` of its caches: who runs, the page allocator, call_rcu, kmalloc.
    """

    era = ""

    def __init__(self, case, build: str, nodes: int):
        super().__init__(case, nodes)
        self.nr_cpus, self.nr_nodes = case.cpus, nodes
        self.task = PLAIN
        self.now = -1  # number of the operation
        self.pages = StubPages63(nodes, case.cpus)
        self.build = build
        self.home = {cpu: n for n, cpus in enumerate(case.cpus_of_node) for cpu in cpus} if nodes > 1 else {}
        self.pages.node_of_cpu = self.node_of_cpu
        self.callbacks: list[list[Callable[[int], None]]] = [[] for _ in range(self.nr_cpus)]
        self.rcu_sheaves: list[tuple[Any, Any]] = []  # (cache, sheaf) that wait for the end of a grace period
        self.rcu_list: list[list[Any]] = [[] for _ in range(self.nr_cpus)]  # the old way of kfree_rcu
        self.set = CacheSet(SlubOptions(self.era, self.nr_cpus, hardened_usercopy=False), nodes, boot=False)
        sizes = case.struct_sizes[build]
        self.set.boot(sizes["kmem_cache"], sizes["kmem_cache_node"])
        self.caches: dict[int, Any] = {}  # by their index in the set
        self.structs: dict[int, Any] = {}
        self.living: set[int] = set()
        self.boot()

    def early_node_struct(self, node: int) -> None:
        """kmem_cache_node's own struct, cut by hand from a new slab at the head of the list
        [early_kmem_cache_node_alloc]."""
        slab = self.caches[1].new_slab(0, GFP_KERNEL, node)
        slab.freelist.pop(0)
        self.caches[1].add_partial(slab, tail=False)

    # -- what a subclass adds

    def open(self, index: int) -> Any:
        """The cache of a layout."""
        raise NotImplementedError

    def add_sheaves(self, index: int, cpu: int) -> bool:
        """What a cache gets beside its structs."""
        return True

    def remove_sheaves(self, index: int, cpu: int) -> None:
        """The other way round."""

    def close(self, index: int, cpu: int) -> None:
        """All slabs go."""
        raise NotImplementedError

    def play_sheaf(self, op, cpu, cache, thing_id, gfp, arg) -> tuple[int, int, int, int]:
        """PREFILL or SHEAF_RETURN."""
        raise NotImplementedError

    # -- as the caches see it

    def node_of_cpu(self, cpu: int) -> int:
        return self.home.get(cpu, 0)

    def take_pages(self, cpu: int, gfp: int, order: int, node: int) -> Any:
        return self.pages.take(cpu, gfp, order, self.task, node)

    def give_pages(self, block: Any) -> None:
        self.pages.give(block)

    def call_rcu(self, cpu: int, function: Callable[[int], None], sheaf=None) -> None:
        self.callbacks[cpu].append(function)

    def constructed(self, cache: Any, objects: int) -> None:
        self.ctor_calls += objects * cache.ctor

    def cache_alloc(self, cache: Any, cpu: int, gfp: int, node: int = -1, **more: Any) -> Any:
        thing = cache.alloc(cpu, gfp, node, **more)
        self.path = cache.path if thing is not None else 0
        return thing

    # -- set-up

    def boot(self) -> None:
        structs, nodes = self.open(0), self.open(1)
        for node in range(self.nr_nodes):
            self.early_node_struct(node)
        for node in range(self.nr_nodes):
            nodes.alloc(0, GFP_KERNEL, node)
        for index in (0, 1):
            self.structs[index] = (structs.alloc(0, 0, -1), [])
            self.caches[index].flush_cpu(0)  # [bootstrap]
        for index in range(2, len(self.set.caches)):
            assert self.new_structs(index, 0)
            self.open(index)
        for index in range(2, len(self.set.caches)):
            assert self.add_sheaves(index, 0)

    def new_structs(self, index: int, cpu: int) -> bool:
        """The struct of a cache and its node structs; False when memory was refused."""
        struct = self.caches[0].alloc(cpu, GFP_KERNEL, -1)
        if struct is None:
            return False
        self.structs[index] = (struct, [])
        for node in range(self.nr_nodes):
            thing = self.caches[1].alloc(cpu, GFP_KERNEL, node)
            if thing is None:
                self.free_structs(index, cpu)
                return False
            self.structs[index][1].append(thing)
        return True

    def free_structs(self, index: int, cpu: int) -> None:
        struct, nodes = self.structs.pop(index)
        for thing in nodes:
            self.caches[1].free(cpu, thing)
        self.caches[0].free(cpu, struct)

    def create(self, index, cpu, task):
        asked = self.case.caches[index]
        known = len(self.set.caches)
        request = CacheRequest(
            asked.name, asked.size, asked.align, asked.flags, asked.ctor, sheaf_capacity=asked.sheaf_capacity
        )
        target = self.set.create(request)
        if target == known:
            made = self.new_structs(target, cpu)
            if made:
                self.open(target)
                made = self.add_sheaves(target, cpu)
                if not made:
                    self.remove_sheaves(target, cpu)
                    del self.caches[target]
                    self.free_structs(target, cpu)
            if not made:
                self.set.destroy(asked.name)
                return False
        self.living.add(index)
        return True

    def destroy(self, index, cpu):
        name = self.case.caches[index].name
        target = self.set.index_of(name)
        self.living.remove(index)
        if not self.set.destroy(name):
            return  # somebody else still uses it under another name
        self.close(target, cpu)
        assert not self.caches[target].slabs, "a cache is destroyed with objects in use"
        self.remove_sheaves(target, cpu)
        del self.caches[target]
        self.free_structs(target, cpu)

    def create_pool(self, index: int) -> None:
        asked = self.case.pools[index]
        pool = Pool(asked.name, asked.min_nr, *self.pool_functions(index))
        least = max(1, asked.min_nr)  # a pool of none holds one all the same
        self.kmalloc(asked.cpu, STRUCT_MEMPOOL, GFP_KERNEL, PLAIN)
        pool.array = self.kmalloc(asked.cpu, 8 * least, GFP_KERNEL, PLAIN)
        pool.elements = [pool.get(asked.cpu, GFP_KERNEL, PLAIN) for _ in range(least)]
        self.pools.append(pool)

    # -- objects

    def alloc(self, index, cpu, node, gfp, task):
        return self.cache_alloc(self.cache_of(index), cpu, gfp, node)

    def free(self, index, cpu, thing):
        self.kfree(cpu, thing)

    def kmalloc(self, cpu, size, gfp, task=None, node=-1, recurse=True):
        index = self.set.kmalloc_index(size)
        if index < 0:
            block = self.pages.take(cpu, gfp | COMP, get_order(size), self.task)
            self.path = 8 if block else 0
            return block
        return self.cache_alloc(self.caches[index], cpu, gfp, node, **({} if recurse else {"recurse": False}))

    def kfree(self, cpu, thing):
        if isinstance(thing, Block):
            self.pages.give(thing)
            self.path = 8
            return
        thing.slab.cache.free(cpu, thing)
        self.path = thing.slab.cache.path

    def place(self, thing):
        if isinstance(thing, Block):
            return NOWHERE
        ordinals = thing.slab.cache.ordinals
        return (ordinals.setdefault(thing.slab, len(ordinals)), thing.index)

    def cache_of(self, index: int) -> Any:
        return self.caches[self.set.index_of(self.case.caches[index].name)]

    def exists(self, index):
        return index in self.living

    def newest_first(self) -> list[Any]:
        """Of the boot caches ``kmem_cache`` is the oldest, whatever was registered before it."""
        return [self.caches[i] for i in sorted(self.caches, reverse=True)]

    # -- mempools [mm/mempool.c]

    def pool_alloc(self, pool, cpu, gfp, task):
        full = gfp | NOMEMALLOC | NORETRY | NOWARN
        polite = full & ~(WAIT | IO)
        for mask in (polite, full) if polite != full else (full,):
            thing = pool.get(cpu, mask, task)
            if thing is not None:
                pool.counts["from_allocator"] += 1
                return 1, thing
            if pool.elements:
                pool.counts["from_pool"] += 1
                return 2, pool.elements.pop()
        res, count = (3, "fail_would_sleep") if gfp & WAIT else (0, "fail_atomic")
        pool.counts[count] += 1
        return res, None

    def pool_free(self, pool, cpu, thing):
        if len(pool.elements) < max(1, pool.min_nr):
            pool.elements.append(thing)
            pool.counts["free_to_pool"] += 1
            return 2
        pool.put(cpu, thing)
        pool.counts["free_to_allocator"] += 1
        return 1

    def pool_resize(self, pool, cpu, new, gfp, task):
        return super().pool_resize(pool, cpu, new, GFP_KERNEL, task)

    # -- operations

    def play(self, row, op, cpu, cache, thing_id, gfp, context, arg):
        self.task = Task(memalloc=bool(context & 1), in_interrupt=bool(context & 2))
        self.now = row
        if op == "BULK_ALLOC":
            things = self.cache_of(cache).alloc_bulk(cpu, gfp, arg) if self.exists(cache) else None
            self.live |= {thing_id + i: things[i] if things else None for i in range(arg)}
            places = [self.place(thing) for thing in things or ()]
            return (1, 0, *places[0]) if things else (0, 0, *NOWHERE)
        if op == "BULK_FREE":
            things = [thing for i in range(arg) if (thing := self.live.pop(thing_id + i)) is not None]
            if things:
                self.cache_of(cache).free_many(cpu, things)
            return (len(things), 0, *NOWHERE)
        if op in ("PREFILL", "SHEAF_RETURN"):
            return self.play_sheaf(op, cpu, cache, thing_id, gfp, arg)
        return super().play(row, op, cpu, cache, thing_id, gfp, context, arg)

    def play_rare(self, row, op, cpu, cache, gfp, task, arg):
        if op == "GP":
            self.grace_period()
            return (1, 0, *NOWHERE)
        return super().play_rare(row, op, cpu, cache, gfp, task, arg)

    def run_callbacks(self) -> None:
        """All callbacks queued so far, on the CPUs that queued them."""
        queued, self.callbacks = self.callbacks, [[] for _ in range(self.nr_cpus)]
        for cpu, functions in enumerate(queued):
            for function in functions:
                function(cpu)

    def grace_period(self) -> None:
        self.run_callbacks()
        for cpu, waiting in enumerate(self.rcu_list):
            things, waiting[:] = waiting[::-1], []
            for thing in things:
                self.kfree(cpu, thing)

    # -- tables

    def checkpoint(self, row: int) -> None:
        super().checkpoint(row)
        for entry in self.tables["glob"][-self.nr_nodes :]:
            entry["rcu_callbacks"] = sum(len(queue) for queue in self.callbacks)
            entry["kfree_rcu_list"] = sum(len(waiting) for waiting in self.rcu_list)

    def geometry_rows(self) -> None:
        """The layout of the caches after set-up, newest first."""
        self.tables["geometry"] = []
        for index in sorted(self.caches, reverse=True):
            layout = self.set.caches[index]
            self.tables["geometry"].append(
                {
                    "cache": layout.name,
                    "size": layout.size,
                    "object_size": layout.objsize,
                    "order": layout.order,
                    "objects": layout.objects,
                    "min_order": get_order(layout.size),
                    "min_partial": layout.min_partial,
                    "sheaf_capacity": layout.sheaf_capacity if self.era == "7.2" else layout.cpu_partial_slabs,
                    "align": layout.align,
                    "refcount": layout.refcount,
                    "offset": layout.offset,
                    "inuse": layout.inuse,
                    "ctor": int(layout.ctor),
                    "rcu_slabs": layout.flags & DESTROY_BY_RCU,
                }
            )

    def start(self) -> None:
        self.geometry_rows()
        super().start()

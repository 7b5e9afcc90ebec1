"""Golden traces on the SLAB reference: the recorded start, create and destroy with their parts, the tables.

A machine boots from an ``init.json``; what is created after it goes through the model. :func:`start_state` writes the
state back in that form, so that a generated case has a start of its own.
"""

from typing import Any

from fastalloc.linux.geometry_slab import SlabOptions, boot_caches, kmalloc_size, slab_geometry
from fastalloc.linux.geometry_slub import CacheRequest
from fastalloc.verify.golden_case import CPUS
from tests.reference.machine import GFP_KERNEL, Machine, Pool
from tests.reference.page_alloc import PLAIN
from tests.reference.slab import ALIEN_LIMIT, Array, Object, Slab, SlabCache
from tests.reference.stub_pages import Block

STATS = ("num_active", "num_allocations", "high_mark", "grown", "reaped", "errors", "max_freeable")
STATS += ("node_allocs", "node_frees", "node_overflow", "allochit", "allocmiss", "freehit", "freemiss")
ARRAY_HEADER = 24
KMEM_LIST3 = 104
CCUPDATE = 72
POISON = 0xBAADF00D


class SlabMachine(Machine):
    """SLAB of a build; ``start`` is the content of an init.json that holds the first ``booted`` caches of the case."""

    def __init__(self, case, nodes: int, line: int, start: Any, booted: int | None = None):
        super().__init__(case, nodes)
        self.options = SlabOptions(cache_line=line, cpus_node=CPUS // nodes, cpus_possible=CPUS)
        self.chain: list[SlabCache] = []  # newest first
        self.by_name: dict[str, SlabCache] = {}
        self.parts: dict[str, list[Object]] = {}  # in the order DESTROY frees them
        self.ordinals: dict[SlabCache, dict[Slab, int]] = {}
        self.reap_node = [0] * CPUS
        self.booted = len(case.caches) if booted is None else booted
        self.living: dict[int, SlabCache] = {}
        self.boot(start)

    # -- the recorded start

    def layout(self, index: int):
        asked = self.case.caches[index]
        request = CacheRequest(asked.name, asked.size, asked.align, asked.flags, asked.ctor)
        return slab_geometry(request, self.options)

    def open(self, layout) -> SlabCache:
        cache = SlabCache(self.pages, layout, self.jiffies, lambda: self.by_name[f"size-{layout.mgmt_cache}"])
        self.chain.insert(0, cache)
        self.by_name[cache.name] = cache
        self.ordinals[cache] = {}
        return cache

    def boot(self, start) -> None:
        records = {record["name"]: record for record in start["chain"]}
        for layout in boot_caches(self.options, records["kmem_cache"]["buffer_size"]):
            self.open(layout)
        for index, asked in enumerate(self.case.caches[: self.booted]):
            if asked.setup:
                self.living[index] = self.open(self.layout(index))
        assert [cache.name for cache in self.chain] == [record["name"] for record in start["chain"]]
        slabs: dict[tuple[str, int], Slab] = {}
        for cache in self.chain:
            self.load_slabs(cache, records[cache.name], slabs)
        for cache in self.chain:
            self.load_arrays(cache, records[cache.name], slabs)
        for asked, record in zip(self.case.pools, start["pools"], strict=False):
            pool = Pool(asked.name, asked.min_nr, *self.pool_functions(len(self.pools)))
            name, place = record["elements_array"]
            pool.array = Object(slabs[name, place[0]], place[1])
            for element in record["elements"]:
                if asked.kind == "pages" or not isinstance(element, list):
                    pool.elements.append(self.count_pages(self.pages.node_of_cpu(asked.cpu), asked.param))
                else:
                    pool.elements.append(Object(slabs[element[0], element[1][0]], element[1][1]))
            self.pools.append(pool)

    def count_pages(self, node: int, order: int) -> Block:
        self.pages.nodes[node].used += 2**order
        self.pages.nodes[node].ok += 1
        return Block(node, order)

    def load_slabs(self, cache: SlabCache, record, slabs) -> None:
        cache.stats.update(dict(zip(STATS, record["stats"], strict=True)))
        present = 0
        for number, saved in enumerate(record["nodes"]):
            node = cache.node[number]
            for kind in ("full", "partial", "free"):
                for entry in saved[kind]:
                    slab = Slab(cache, number, self.count_pages(number, cache.order), list(entry["free_chain"]))
                    slabs[cache.name, entry["id"]] = slab
                    getattr(node, kind).append(slab)
                    present += 1
            for field in ("free_objects", "free_limit", "colour_next", "free_touched", "next_reap"):
                setattr(node, field, saved[field])
        gone = cache.stats["grown"] - present
        self.pages.nodes[0].ok += gone
        self.pages.nodes[0].frees += gone
        cache.ctor_calls = cache.stats["grown"] * cache.num if cache.layout.ctor else 0

    def load_arrays(self, cache: SlabCache, record, slabs) -> None:
        def fill(array: Array | None, saved) -> None:
            if saved is not None and array is not None:
                array.limit, array.touched = saved["limit"], saved["touched"]
                array.entry = [Object(slabs[cache.name, s], index) for s, index in saved["entry"]]

        for array, saved in zip(cache.cpu, record["cpu"], strict=True):
            fill(array, saved)
        for node, saved in zip(cache.node, record["nodes"], strict=True):
            fill(node.shared, saved["shared"])
            for array, alien in zip(node.alien, saved.get("alien") or [], strict=False):
                fill(array, alien)
            for kind in ("full", "partial", "free"):
                for slab, entry in zip(getattr(node, kind), saved[kind], strict=True):
                    if entry["mgmt"] is not None:
                        owner, *place = entry["mgmt"]
                        s, index = place if len(place) == 2 else place[0]
                        slab.mgmt = Object(slabs[owner, s], index)

    def setup(self) -> None:
        """What the recorded start does not hold yet."""
        for index, asked in enumerate(self.case.caches):
            if asked.setup and index not in self.living:
                assert self.create(index, asked.cpu, PLAIN)
        for index in range(len(self.pools), len(self.case.pools)):
            self.create_pool(index)

    # -- objects

    def alloc(self, index, cpu, node, gfp, task):
        cache = self.living[index]
        thing = cache.alloc(cpu, gfp, task, node)
        self.path = cache.path
        return thing

    def free(self, index, cpu, thing):
        self.kfree(cpu, thing)

    def kmalloc(self, cpu, size, gfp, task, node=-1):
        slot = kmalloc_size(size, self.options)
        if not slot:
            self.path = 0
            return None
        cache = self.by_name[f"size-{slot}"]
        thing = cache.alloc(cpu, gfp, task, node)
        self.path = cache.path
        return thing

    def kfree(self, cpu, thing):
        cache = thing.slab.cache
        cache.free(cpu, thing)
        self.path = cache.path

    def place(self, thing):
        ordinals = self.ordinals[thing.slab.cache]
        return (ordinals.setdefault(thing.slab, len(ordinals)), thing.index)

    def exists(self, index):
        return index in self.living

    # -- caches

    def create(self, index, cpu, task):
        """[kmem_cache_create, do_tune_cpucache, alloc_kmemlist]"""
        layout = self.layout(index)
        descriptor = self.by_name["kmem_cache"].alloc(cpu, GFP_KERNEL, task)
        if descriptor is None:
            return False
        arrays, lists = [], []
        update = self.kmalloc(cpu, CCUPDATE, GFP_KERNEL, task)
        if update is not None:
            for other in range(CPUS):
                node = self.pages.node_of_cpu(other)
                array = self.kmalloc(cpu, ARRAY_HEADER + 8 * layout.limit, GFP_KERNEL, task, node)
                if array is None:
                    for taken in reversed(arrays):  # the last one first
                        self.kfree(cpu, taken)
                    arrays = []
                    break
                arrays.append(array)
            self.kfree(cpu, update)
        done = bool(arrays)
        for node in range(len(self.pages.nodes)) if done else ():
            parts = self.node_parts(cpu, layout, node, task)
            if parts is None:
                done = False
                break
            lists.append(parts)
        if not done:
            undone = [thing for parts in reversed(lists) for thing in parts]
            for thing in [*undone, *arrays, descriptor]:
                self.kfree(cpu, thing)
            return False
        cache = self.open(layout)
        self.parts[cache.name] = [*arrays, *(thing for parts in lists for thing in parts), descriptor]
        self.living[index] = cache
        return True

    def node_parts(self, cpu, layout, node, task) -> list[Object] | None:
        """What a node of a cache is made of, in the order it is freed: shared array, alien arrays, list."""
        got: dict[str, Object] = {}
        wanted = []
        if len(self.pages.nodes) > 1:
            wanted.append(("aliens", 8 * len(self.pages.nodes)))
            wanted += [("alien", ARRAY_HEADER + 8 * (ALIEN_LIMIT if layout.limit > 1 else layout.limit))]
        if layout.shared:
            wanted.append(("shared", ARRAY_HEADER + 8 * layout.shared_limit))
        wanted.append(("list3", KMEM_LIST3))
        complete = True
        for name, size in wanted:
            thing = self.kmalloc(cpu, size, GFP_KERNEL, task, node if len(self.pages.nodes) > 1 else -1)
            if thing is None:
                complete = False
                break
            got[name] = thing
        if complete:
            return [got[name] for name in ("shared", "alien", "aliens", "list3") if name in got]
        # The undoing of a list that failed frees the alien arrays first.
        for name in ("alien", "aliens", "shared"):
            if name in got:
                self.kfree(cpu, got[name])
        return None

    def destroy(self, index, cpu):
        cache = self.living.pop(index)
        self.chain.remove(cache)
        assert not cache.shrink(cpu), "a cache is destroyed with objects in use"
        self.ctor_calls += cache.ctor_calls
        del self.by_name[cache.name]
        for thing in self.parts.pop(cache.name):
            self.kfree(cpu, thing)

    def shrink(self, index, cpu, task):
        return True, self.living[index].shrink(cpu)

    def flush(self, index, cpu):
        for cache in list(self.chain) if index < 0 else [self.living[index]]:
            cache.drain_cpu(cpu)

    def reap(self, cpu):
        for cache in self.chain:
            cache.reap(cpu, self.jiffies, self.reap_node[cpu])
        self.reap_node[cpu] = (self.reap_node[cpu] + 1) % len(self.pages.nodes)

    # -- tables

    def checkpoint(self, row):
        gone = self.ctor_calls
        self.ctor_calls += sum(cache.ctor_calls for cache in self.chain)
        super().checkpoint(row)
        self.ctor_calls = gone

    def allocator_rows(self):
        for cache in self.chain:
            for cpu, array in enumerate(cache.cpu):
                self.add(
                    "cpu",
                    cache=cache.name,
                    cpu=cpu,
                    avail=len(array.entry),
                    limit=array.limit,
                    batchcount=array.batchcount,
                    touched=array.touched,
                )
            for number in range(len(cache.node)):
                self.node_row(cache, number)

    def node_row(self, cache: SlabCache, number: int) -> None:
        node = cache.node[number]
        slabs = len(node.full) + len(node.partial) + len(node.free)
        aliens = [alien for n in cache.node for alien in n.alien if alien]
        shareds = [n.shared for n in cache.node if n.shared]
        held = sum(len(array.entry) for array in [*cache.cpu, *aliens, *shareds])
        totals = {"live_objects": cache.stats["num_active"] - held, **{stat: cache.stats[stat] for stat in STATS}}
        last = number == len(cache.node) - 1
        shared = node.shared or Array(0)
        assert node.free_objects == sum(len(slab.free) for slab in [*node.partial, *node.free])
        self.add(
            "node",
            cache=cache.name,
            node=number,
            slabs_full=len(node.full),
            slabs_partial=len(node.partial),
            slabs_free=len(node.free),
            active_objs=slabs * cache.num - node.free_objects,
            num_objs=slabs * cache.num,
            free_objects=node.free_objects,
            free_limit=node.free_limit,
            shared_avail=len(shared.entry),
            shared_limit=shared.limit,
            shared_batchcount=POISON if shared.limit else 0,
            shared_touched=shared.touched,
            alien_avail=sum(len(alien.entry) for alien in node.alien if alien),
            colour_next=node.colour_next,
            next_reap=node.next_reap,
            free_touched=node.free_touched,
            pages=slabs << cache.order,
            **{column: value if last else None for column, value in totals.items()},
        )


def start_state(machine: SlabMachine) -> dict:
    """The state of a machine in the form of init.json."""
    number: dict[Slab, int] = {}

    def slab_id(slab: Slab) -> int:
        return number.setdefault(slab, len(number))

    def place(thing: Object) -> list:
        return [thing.slab.cache.name, [slab_id(thing.slab), thing.index]]

    def array(a: Array | None) -> dict | None:
        if a is None:
            return None
        entries = [[slab_id(thing.slab), thing.index] for thing in a.entry]
        return {"limit": a.limit, "batchcount": a.batchcount, "touched": a.touched, "entry": entries}

    def slab_record(slab: Slab) -> dict:
        mgmt = None
        if slab.mgmt:
            name, (where, index) = place(slab.mgmt)
            mgmt = [name, where, index]
        return {"id": slab_id(slab), "inuse": slab.inuse, "mgmt": mgmt, "free_chain": list(slab.free)}

    chain = []
    for cache in machine.chain:
        layout = cache.layout
        nodes = []
        for node in cache.node:
            lists = {kind: [slab_record(slab) for slab in getattr(node, kind)] for kind in ("full", "partial", "free")}
            fields = ("free_objects", "free_limit", "colour_next", "free_touched", "next_reap")
            nodes.append(
                {
                    **lists,
                    **{name: getattr(node, name) for name in fields},
                    "shared": array(node.shared),
                    "alien": [array(alien) for alien in node.alien],
                }
            )
        chain.append(
            {
                "name": cache.name,
                "buffer_size": layout.buffer_size,
                "num": cache.num,
                "gfporder": cache.order,
                "colour": layout.colour,
                "off_slab": int(layout.off_slab),
                "limit": layout.limit,
                "batchcount": layout.batchcount,
                "shared": layout.shared,
                "stats": [cache.stats[stat] for stat in STATS],
                "cpu": [array(a) for a in cache.cpu],
                "nodes": nodes,
            }
        )
    pools = []
    for pool in machine.pools:
        elements = [0 if isinstance(e, Block) else place(e) for e in pool.elements]
        pools.append({"name": pool.name, "elements_array": place(pool.array), "elements": elements})
    return {"chain": chain, "pools": pools}

"""A golden case on SLAB: the recorded start state, create and destroy with their hidden allocations, tables."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastalloc.errors import InputError
from fastalloc.kernels.alloc import kmem
from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmalloc import general_cache
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.arrays import alien_queue, shared_queue
from fastalloc.kernels.alloc.slab.lists import list_add
from fastalloc.kernels.alloc.slab.reap import slab_cache_shrink
from fastalloc.kernels.alloc.slab.slab import slab_cache_alloc
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB, Slab
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.replay import operations as rp
from fastalloc.linux import gfp as g
from fastalloc.linux.geometry_slab import (
    ALIEN_LIMIT,
    ARRAY_CACHE,
    KMEM_LIST3,
    SlabGeometry,
    SlabOptions,
    boot_caches,
    kmalloc_size,
    slab_geometry,
)
from fastalloc.linux.geometry_slub import CacheRequest
from fastalloc.verify.golden_case import CPUS, GoldenCase, read_json
from fastalloc.verify.lane import Lane, kmalloc_sizes

SHARED_BATCHCOUNT = 0xBAADF00D  # what the source gives arrays that nobody refills from by batch
CCUPDATE = 8 + 8 * CPUS  # sizeof(struct ccupdate_struct)
ENTRIES = CPUS * 120 + 2 * ss.MAX_ENTRIES + 4 * ALIEN_LIMIT
ON = {"full": ss.ON_FULL, "partial": ss.ON_PARTIAL, "free": ss.ON_FREE}


class SlabLane(Lane):
    """SLAB of a build. What is dynamic at the start comes from ``init.json``, every layout from the rules."""

    def __init__(self, case: GoldenCase, build: str, nodes: int, cache_line: int, room: int) -> None:
        super().__init__(case, nodes)
        self.options = SlabOptions(cache_line=cache_line, cpus_node=CPUS // nodes, cpus_possible=CPUS)
        self.init_path = case.path / build / "init.json"
        self.init = read_json(self.init_path)
        created = int((case.trace.op == rp.OP_CREATE).sum())
        chain = self._get(self.init, "chain", list)
        rows = len(chain) + created
        held = sum(len(node[name]) for record in chain for node in self._get(record, "nodes", list) for name in ON)
        objects = sum(
            len(node[name]) * self._get(record, "num", int)
            for record in chain
            for node in record["nodes"]
            for name in ON
        )
        self.heap = Slab(
            cache=np.zeros((rows, SLAB_CACHE.width), dtype=np.int64),
            queue=np.zeros((rows, CPUS + nodes + nodes * nodes, SLAB_ARRAY.width), dtype=np.int64),
            entry=np.zeros(rows * ENTRIES, dtype=np.int64),
            node=np.zeros((rows, nodes, SLAB_LIST3.width), dtype=np.int64),
            slab=np.zeros((held + room, SLAB_SLAB.width), dtype=np.int64),
            link=np.zeros(objects + room * 64, dtype=np.int16),
            chain=np.zeros(rows, dtype=np.int64),
            reap_node=np.zeros(CPUS, dtype=np.int64),
            pending=np.zeros(ss.MAX_ENTRIES + 1, dtype=np.int64),
            ctl=np.zeros(SLAB_CTL.width, dtype=np.int64),
        )
        self.heap.ctl[SLAB_CTL.nodes] = nodes
        self.names: list[str] = []  # of each row
        self.row: dict[str, int] = {}  # of each living name
        self.order: list[int] = []  # rows, newest first
        self.structs: dict[int, list[int]] = {}  # handles that make up a cache, in the order they are freed
        self._boot(chain)

    def _get(self, record: Any, name: str, kind: type) -> Any:
        if not isinstance(record, dict) or not isinstance(record.get(name), kind):
            raise InputError(self.init_path, name, "is missing or not what belongs here")
        return record[name]

    # ------------------------------------------------------------------------------------------ start state

    def _layouts(self, chain: list[Any]) -> Iterator[SlabGeometry]:
        """Layouts of the caches at the start, oldest first."""
        descriptor = next((int(record["buffer_size"]) for record in chain if record.get("name") == "kmem_cache"), 192)
        yield from boot_caches(self.options, descriptor)
        for cache in self.case.caches:
            if cache.setup:
                yield slab_geometry(self._request(cache), self.options)

    @staticmethod
    def _request(cache: Any) -> CacheRequest:
        return CacheRequest(cache.name, cache.size, cache.align, cache.flags, cache.ctor)

    def _boot(self, chain: list[Any]) -> None:
        self.tables["init"] = []
        recorded = {self._get(record, "name", str): record for record in chain}
        for layout in self._layouts(chain):
            if layout.name not in recorded:
                raise InputError(self.init_path, "chain", f"cache {layout.name} is missing")
            self._open(layout)
        if len(self.row) != len(chain):
            raise InputError(self.init_path, "chain", "holds caches that the manifest does not create")
        slabs: dict[tuple[str, int], int] = {}
        for name, record in recorded.items():
            self._load_slabs(name, record, slabs)
        for name, record in recorded.items():
            self._load_arrays(name, record, slabs)
        self.play.sizes[:] = kmalloc_sizes(self._general)
        for index, cache in enumerate(self.case.caches):
            if cache.setup:
                self.play.row_of[index] = self.row[cache.name]
        self.slabs = slabs

    def _general(self, size: int) -> int:
        slot = kmalloc_size(size, self.options)
        return self.row[f"size-{slot}"] if slot else -1

    def _open(self, layout: SlabGeometry) -> int:
        """A fresh row with empty arrays and lists."""
        heap = self.heap
        row = len(self.names)
        cache = heap.cache[row]
        cache[SLAB_CACHE.num] = layout.num
        cache[SLAB_CACHE.order] = layout.gfporder
        cache[SLAB_CACHE.colour] = layout.colour
        cache[SLAB_CACHE.off_slab] = layout.off_slab
        cache[SLAB_CACHE.mgmt_cache] = -1
        cache[SLAB_CACHE.ctor] = layout.ctor
        cache[SLAB_CACHE.limit] = layout.limit
        cache[SLAB_CACHE.batchcount] = layout.batchcount
        cache[SLAB_CACHE.alive] = 1
        cache[SLAB_CACHE.free_slab] = -1
        alien = ALIEN_LIMIT if layout.limit > 1 else layout.limit
        limits = [layout.limit] * CPUS + [layout.shared_limit] * self.nodes
        limits += [alien if n != other else 0 for n in range(self.nodes) for other in range(self.nodes)]
        base = row * ENTRIES
        for q, limit in enumerate(limits):
            heap.queue[row, q] = (0, limit, layout.batchcount if q < CPUS else SHARED_BATCHCOUNT, 0, base)
            base += limit
        for n in range(self.nodes):
            node = heap.node[row, n]
            node[SLAB_LIST3.lists[:]] = -1
            node[SLAB_LIST3.free_limit] = layout.free_limit
            node[SLAB_LIST3.next_reap] = self.mem.ctl[MEMCTL.jiffies] + rp.REAPTIMEOUT_LIST3
        self.names.append(layout.name)
        self.row[layout.name] = row
        if layout.off_slab:
            cache[SLAB_CACHE.mgmt_cache] = self.row.get(f"size-{layout.mgmt_cache}", -1)
        self.order.insert(0, row)
        self._reorder()
        return row

    def _reorder(self) -> None:
        self.heap.ctl[SLAB_CTL.chain] = self.play.order[0] = len(self.order)
        self.heap.chain[: len(self.order)] = self.order
        self.play.order[1 : 1 + len(self.order)] = self.order

    def _load_slabs(self, name: str, record: Any, slabs: dict[tuple[str, int], int]) -> None:
        heap = self.heap
        row = self.row[name]
        cache = heap.cache[row]
        for q, off_slab in enumerate(heap.cache[:, SLAB_CACHE.off_slab]):
            if off_slab and heap.cache[q, SLAB_CACHE.mgmt_cache] < 0:  # created before the cache that manages it
                layout = next(item for item in self._layouts(self.init["chain"]) if item.name == self.names[q])
                heap.cache[q, SLAB_CACHE.mgmt_cache] = self.row[f"size-{layout.mgmt_cache}"]
        cache[SLAB_CACHE.stats[:]] = self._get(record, "stats", list)
        order = int(cache[SLAB_CACHE.order])
        num = int(cache[SLAB_CACHE.num])
        present = 0
        for n, node in enumerate(self._get(record, "nodes", list)):
            for list_name, which in ON.items():
                for entry in self._get(node, list_name, list):
                    s = int(heap.ctl[SLAB_CTL.slab_top])
                    base = int(heap.ctl[SLAB_CTL.link_top])
                    heap.ctl[SLAB_CTL.slab_top] += 1
                    heap.ctl[SLAB_CTL.link_top] += num
                    chain = entry["free_chain"]
                    heap.link[base + np.array(chain, dtype=np.int64)] = [*chain[1:], -1][: len(chain)]
                    heap.slab[s, SLAB_SLAB.cache] = row
                    heap.slab[s, SLAB_SLAB.node] = n
                    heap.slab[s, SLAB_SLAB.inuse] = entry["inuse"]
                    heap.slab[s, SLAB_SLAB.free] = chain[0] if chain else -1
                    heap.slab[s, SLAB_SLAB.pfn] = n
                    heap.slab[s, SLAB_SLAB.base] = base
                    heap.slab[s, SLAB_SLAB.ordinal] = -1
                    heap.slab[s, SLAB_SLAB.mgmt] = -1
                    list_add(heap, row, s, which, True)
                    slabs[name, entry["id"]] = s
                    present += 1
                    self._count_pages(n, order)
            state = heap.node[row, n]
            state[SLAB_LIST3.free_objects] = node["free_objects"]
            state[SLAB_LIST3.colour_next] = node["colour_next"]
            state[SLAB_LIST3.next_reap] = node["next_reap"]
            state[SLAB_LIST3.free_touched] = node["free_touched"]
            self._compare(name, n, record, node, row)
        gone = int(cache[SLAB_CACHE.grown]) - present
        self.mem.zone[0, ZONE.alloc_ok] += gone
        self.mem.zone[0, ZONE.frees] += gone
        if cache[SLAB_CACHE.ctor]:
            cache[SLAB_CACHE.ctor_calls] = cache[SLAB_CACHE.grown] * num

    def _count_pages(self, node: int, order: int) -> None:
        self.mem.zone[node, ZONE.used] += 1 << order
        self.mem.zone[node, ZONE.alloc_ok] += 1

    def _compare(self, name: str, n: int, record: Any, node: Any, row: int) -> None:
        """The layout rules against the layout recorded at the start: a row of the ``init`` table."""
        cache = self.heap.cache[row]
        shared = self.heap.queue[row, shared_queue(self.heap, n), SLAB_ARRAY.limit]
        rules = {
            "num": cache[SLAB_CACHE.num],
            "gfporder": cache[SLAB_CACHE.order],
            "colour": cache[SLAB_CACHE.colour],
            "off_slab": cache[SLAB_CACHE.off_slab],
            "limit": cache[SLAB_CACHE.limit],
            "batchcount": cache[SLAB_CACHE.batchcount],
            "free_limit": self.heap.node[row, n, SLAB_LIST3.free_limit],
            "shared_limit": shared,
        }
        asked = {**record, "free_limit": node["free_limit"], "shared_limit": (node["shared"] or {"limit": 0})["limit"]}
        self.tables["init"].append(
            {
                "cache": name,
                "node": n,
                "expected": {column: int(asked[column]) for column in rules},
                "got": {column: int(value) for column, value in rules.items()},
            }
        )

    def _handle(self, slabs: dict[tuple[str, int], int], name: str, place: list[int]) -> int:
        try:
            return (slabs[name, place[0]] << st.HANDLE_SHIFT) | place[1]
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(self.init_path, name, f"there is no object {place}") from error

    def _load_arrays(self, name: str, record: Any, slabs: dict[tuple[str, int], int]) -> None:
        heap = self.heap
        row = self.row[name]
        arrays = list(enumerate(self._get(record, "cpu", list)))
        for n, node in enumerate(record["nodes"]):
            for list_name in ON:
                for entry in node[list_name]:
                    if entry["mgmt"] is not None:
                        owner, *place = entry["mgmt"]
                        place = place[0] if len(place) == 1 else place
                        heap.slab[slabs[name, entry["id"]], SLAB_SLAB.mgmt] = self._handle(slabs, owner, place)
            if node["shared"] is not None:
                arrays.append((shared_queue(heap, n), node["shared"]))
            for other, alien in enumerate(node.get("alien") or []):
                if alien is not None:
                    arrays.append((alien_queue(heap, n, other), alien))
        for q, array in arrays:
            handles = [self._handle(slabs, name, place) for place in array["entry"]]
            base = heap.queue[row, q, SLAB_ARRAY.base]
            heap.entry[base : base + len(handles)] = handles
            heap.queue[row, q, SLAB_ARRAY.avail] = len(handles)
            heap.queue[row, q, SLAB_ARRAY.limit] = array["limit"]
            heap.queue[row, q, SLAB_ARRAY.touched] = array["touched"]

    def setup(self) -> None:
        """Only the pools are left to be filled in."""
        for index, recorded in enumerate(self._get(self.init, "pools", list) if self.case.pools else []):
            asked = self.case.pools[index]
            source, kind = self.pool_source(index)
            pool = self.pools.pool[index]
            pool[MEMPOOL.cache] = source
            pool[MEMPOOL.kind] = kind
            pool[MEMPOOL.min] = asked.min_nr
            pool[MEMPOOL.curr] = len(recorded["elements"])
            pool[MEMPOOL.elements] = self._handle(self.slabs, *recorded["elements_array"])
            for k, element in enumerate(recorded["elements"]):
                if kind == mp.MP_PAGES:
                    node = asked.cpu >> int(self.mem.ctl[MEMCTL.cpu_node_shift])
                    handle = st.PAGE_HANDLE | (source << st.PAGE_HANDLE_ORDER_SHIFT) | node
                    self._count_pages(node, source)
                else:
                    handle = self._handle(self.slabs, *element)
                self.pools.element[index, k] = handle

    # ----------------------------------------------------------------------------------- create and destroy

    def _kmalloc_node(self, cpu: int, node: int, context: int, size: int) -> int:
        row = general_cache(self.play.sizes, size)
        return int(slab_cache_alloc(self.mem, self.heap, row, cpu, node, g.GFP_KERNEL, context))

    def _take(self, wanted: list[tuple[int, int]], cpu: int, context: int) -> tuple[list[int], bool]:
        """Handles of objects of (node, size), as many as are to be had; whether these are all."""
        handles: list[int] = []
        for node, size in wanted:
            handle = self._kmalloc_node(cpu, node, context, size)
            if handle < 0:
                return handles, False
            handles.append(handle)
        return handles, True

    def _give(self, cpu: int, handles: list[int]) -> None:
        for handle in handles:
            kmem.kfree(self.mem, self.heap, cpu, handle)

    def _parts(self, layout: SlabGeometry, cpu: int, context: int) -> list[int] | None:
        """Arrays and lists of a new cache, in the order that DESTROY frees them [do_tune_cpucache, alloc_kmemlist].

        None when memory for one was refused; what was had is given back in the source's order: the arrays last first
        while they are not in place, each node's alien arrays before its shared one, then the nodes before, the
        arrays [__kmem_cache_destroy].
        """
        shift = int(self.mem.ctl[MEMCTL.cpu_node_shift])
        update, complete = self._take([(-1, CCUPDATE)], cpu, context)
        if not complete:
            return None
        array = ARRAY_CACHE + 8 * layout.limit
        arrays, complete = self._take([(other >> shift, array) for other in range(CPUS)], cpu, context)
        if not complete:
            self._give(cpu, arrays[::-1] + update)
            return None
        self._give(cpu, update)
        lists: list[list[int]] = []
        alien = ARRAY_CACHE + 8 * (ALIEN_LIMIT if layout.limit > 1 else layout.limit)
        for n in range(self.nodes):
            wanted = [(n, 8 * self.nodes)] + [(n, alien)] * (self.nodes - 1) if self.nodes > 1 else []
            if layout.shared:
                wanted.append((n, ARRAY_CACHE + 8 * layout.shared_limit))
            got, complete = self._take([*wanted, (n, KMEM_LIST3)], cpu, context)
            aliens = got[: self.nodes] if self.nodes > 1 else []
            rest = got[len(aliens) :]
            aliens = aliens[1:] + aliens[:1]
            if not complete:
                self._give(cpu, aliens + rest)
                for mine in lists[::-1]:
                    self._give(cpu, mine)
                self._give(cpu, arrays)
                return None
            lists.append(rest[:-1] + aliens + rest[-1:])
        return arrays + [handle for mine in lists for handle in mine]

    def create(self, index: int, cpu: int, context: int) -> bool:
        asked = self.case.caches[index]
        layout = slab_geometry(self._request(asked), self.options)
        descriptor = slab_cache_alloc(self.mem, self.heap, self.row["kmem_cache"], cpu, -1, g.GFP_KERNEL, context)
        if descriptor < 0:
            return False
        parts = self._parts(layout, cpu, context)
        if parts is None:
            kmem.kfree(self.mem, self.heap, cpu, descriptor)
            return False
        row = self._open(layout)
        self.structs[row] = [*parts, descriptor]
        self.play.row_of[index] = row
        return True

    def destroy(self, index: int, cpu: int) -> None:
        row = int(self.play.row_of[index])
        name = self.names[row]
        if row not in self.structs:
            raise InputError(self.init_path, name, "does not say where the parts of the cache are that DESTROY frees")
        self.order.remove(row)
        self._reorder()
        if slab_cache_shrink(self.mem, self.heap, row, cpu):
            raise self.still_in_use(index)
        for handle in self.structs.pop(row):
            kmem.kfree(self.mem, self.heap, cpu, handle)
        self.heap.cache[row, SLAB_CACHE.alive] = 0
        del self.row[name]
        self.play.row_of[index] = -1

    # ----------------------------------------------------------------------------------------------- tables

    def ctor_calls(self) -> int:
        return int(self.heap.cache[:, SLAB_CACHE.ctor_calls].sum())

    def overflowed(self) -> bool:
        return bool(self.heap.ctl[SLAB_CTL.overflow])

    def allocator_rows(self) -> None:
        heap = self.heap
        for row in self.order:
            name = self.names[row]
            cache = heap.cache[row].tolist()
            queue = heap.queue[row].tolist()
            for cpu in range(CPUS):
                available, limit, batch, touched, _base = queue[cpu]
                self.add("cpu", cache=name, cpu=cpu, avail=available, limit=limit, batchcount=batch, touched=touched)
            arrays = sum(array[SLAB_ARRAY.avail] for array in queue)
            stats = dict(zip(ss.SLAB_STATS, cache[SLAB_CACHE.stats[:]], strict=True))
            totals = {"live_objects": stats["num_active"] - arrays, **stats}
            for n in range(self.nodes):
                node = heap.node[row, n].tolist()
                shared = queue[CPUS + n]
                slabs = node[SLAB_LIST3.nr_full] + node[SLAB_LIST3.nr_partial] + node[SLAB_LIST3.nr_free]
                first = CPUS + self.nodes + n * self.nodes
                self.add(
                    "node",
                    cache=name,
                    node=n,
                    slabs_full=node[SLAB_LIST3.nr_full],
                    slabs_partial=node[SLAB_LIST3.nr_partial],
                    slabs_free=node[SLAB_LIST3.nr_free],
                    active_objs=slabs * cache[SLAB_CACHE.num] - node[SLAB_LIST3.free_objects],
                    num_objs=slabs * cache[SLAB_CACHE.num],
                    free_objects=node[SLAB_LIST3.free_objects],
                    free_limit=node[SLAB_LIST3.free_limit],
                    shared_avail=shared[SLAB_ARRAY.avail],
                    shared_limit=shared[SLAB_ARRAY.limit],
                    shared_batchcount=SHARED_BATCHCOUNT if shared[SLAB_ARRAY.limit] else 0,
                    shared_touched=shared[SLAB_ARRAY.touched],
                    alien_avail=sum(array[SLAB_ARRAY.avail] for array in queue[first : first + self.nodes]),
                    colour_next=node[SLAB_LIST3.colour_next],
                    next_reap=node[SLAB_LIST3.next_reap],
                    free_touched=node[SLAB_LIST3.free_touched],
                    pages=slabs << cache[SLAB_CACHE.order],
                    **{column: value if n == self.nodes - 1 else None for column, value in totals.items()},
                )

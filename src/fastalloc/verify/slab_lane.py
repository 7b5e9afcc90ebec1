"""A golden case on SLAB: the recorded start state, create and destroy with their hidden allocations, tables."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastalloc.errors import InputError
from fastalloc.kernels.alloc import kmem
from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab import slab as sb
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.state import Slab
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
            cache=np.zeros((rows, ss.SLAB_CACHE_FIELDS), dtype=np.int64),
            queue=np.zeros((rows, CPUS + nodes + nodes * nodes, ss.QUEUE_FIELDS), dtype=np.int64),
            entry=np.zeros(rows * ENTRIES, dtype=np.int64),
            node=np.zeros((rows, nodes, ss.LIST3_FIELDS), dtype=np.int64),
            slab=np.zeros((held + room, ss.SLAB_RECORD_FIELDS), dtype=np.int64),
            link=np.zeros(objects + room * 64, dtype=np.int16),
            chain=np.zeros(rows, dtype=np.int64),
            reap_node=np.zeros(CPUS, dtype=np.int64),
            pending=np.zeros(ss.MAX_ENTRIES + 1, dtype=np.int64),
            ctl=np.zeros(ss.SLABCTL_FIELDS, dtype=np.int64),
        )
        self.heap.ctl[ss.T_NODES] = nodes
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
        cache[ss.A_NUM] = layout.num
        cache[ss.A_ORDER] = layout.gfporder
        cache[ss.A_COLOUR] = layout.colour
        cache[ss.A_OFF_SLAB] = layout.off_slab
        cache[ss.A_MGMT_CACHE] = -1
        cache[ss.A_CTOR] = layout.ctor
        cache[ss.A_LIMIT] = layout.limit
        cache[ss.A_BATCHCOUNT] = layout.batchcount
        cache[ss.A_ALIVE] = 1
        cache[ss.A_FREE_SLAB] = -1
        alien = ALIEN_LIMIT if layout.limit > 1 else layout.limit
        limits = [layout.limit] * CPUS + [layout.shared_limit] * self.nodes
        limits += [alien if n != other else 0 for n in range(self.nodes) for other in range(self.nodes)]
        base = row * ENTRIES
        for q, limit in enumerate(limits):
            heap.queue[row, q] = (0, limit, layout.batchcount if q < CPUS else SHARED_BATCHCOUNT, 0, base)
            base += limit
        for n in range(self.nodes):
            node = heap.node[row, n]
            node[ss.L3_PARTIAL_HEAD : ss.L3_FREE_TAIL + 1] = -1
            node[ss.L3_FREE_LIMIT] = layout.free_limit
            node[ss.L3_NEXT_REAP] = self.mem.ctl[st.M_JIFFIES] + rp.REAPTIMEOUT_LIST3
        self.names.append(layout.name)
        self.row[layout.name] = row
        if layout.off_slab:
            cache[ss.A_MGMT_CACHE] = self.row.get(f"size-{layout.mgmt_cache}", -1)
        self.order.insert(0, row)
        self._reorder()
        return row

    def _reorder(self) -> None:
        self.heap.ctl[ss.T_CHAIN] = self.play.order[0] = len(self.order)
        self.heap.chain[: len(self.order)] = self.order
        self.play.order[1 : 1 + len(self.order)] = self.order

    def _load_slabs(self, name: str, record: Any, slabs: dict[tuple[str, int], int]) -> None:
        heap = self.heap
        row = self.row[name]
        cache = heap.cache[row]
        for q, off_slab in enumerate(heap.cache[:, ss.A_OFF_SLAB]):
            if off_slab and heap.cache[q, ss.A_MGMT_CACHE] < 0:  # created before the cache that manages it
                layout = next(item for item in self._layouts(self.init["chain"]) if item.name == self.names[q])
                heap.cache[q, ss.A_MGMT_CACHE] = self.row[f"size-{layout.mgmt_cache}"]
        for column, value in zip(ss.SLAB_STATS, self._get(record, "stats", list), strict=True):
            cache[ss.A_STAT + ss.SLAB_STATS.index(column)] = value
        order = int(cache[ss.A_ORDER])
        num = int(cache[ss.A_NUM])
        present = 0
        for n, node in enumerate(self._get(record, "nodes", list)):
            for list_name, which in ON.items():
                for entry in self._get(node, list_name, list):
                    s = int(heap.ctl[ss.T_SLAB_TOP])
                    base = int(heap.ctl[ss.T_LINK_TOP])
                    heap.ctl[ss.T_SLAB_TOP] += 1
                    heap.ctl[ss.T_LINK_TOP] += num
                    chain = entry["free_chain"]
                    heap.link[base + np.array(chain, dtype=np.int64)] = [*chain[1:], -1][: len(chain)]
                    heap.slab[s, ss.L_CACHE] = row
                    heap.slab[s, ss.L_NODE] = n
                    heap.slab[s, ss.L_INUSE] = entry["inuse"]
                    heap.slab[s, ss.L_FREE] = chain[0] if chain else -1
                    heap.slab[s, ss.L_PFN] = n
                    heap.slab[s, ss.L_BASE] = base
                    heap.slab[s, ss.L_ORDINAL] = -1
                    heap.slab[s, ss.L_MGMT] = -1
                    sb.list_add(heap, row, s, which, True)
                    slabs[name, entry["id"]] = s
                    present += 1
                    self._count_pages(n, order)
            state = heap.node[row, n]
            state[ss.L3_FREE_OBJECTS] = node["free_objects"]
            state[ss.L3_COLOUR_NEXT] = node["colour_next"]
            state[ss.L3_NEXT_REAP] = node["next_reap"]
            state[ss.L3_FREE_TOUCHED] = node["free_touched"]
            self._compare(name, n, record, node, row)
        gone = int(cache[ss.A_GROWN]) - present
        self.mem.zone[0, st.Z_ALLOC_OK] += gone
        self.mem.zone[0, st.Z_FREES] += gone
        if cache[ss.A_CTOR]:
            cache[ss.A_CTOR_CALLS] = cache[ss.A_GROWN] * num

    def _count_pages(self, node: int, order: int) -> None:
        self.mem.zone[node, st.Z_USED] += 1 << order
        self.mem.zone[node, st.Z_ALLOC_OK] += 1

    def _compare(self, name: str, n: int, record: Any, node: Any, row: int) -> None:
        """The layout rules against the layout recorded at the start: a row of the ``init`` table."""
        cache = self.heap.cache[row]
        shared = self.heap.queue[row, sb.shared_queue(self.heap, n), ss.Q_LIMIT]
        rules = {
            "num": cache[ss.A_NUM],
            "gfporder": cache[ss.A_ORDER],
            "colour": cache[ss.A_COLOUR],
            "off_slab": cache[ss.A_OFF_SLAB],
            "limit": cache[ss.A_LIMIT],
            "batchcount": cache[ss.A_BATCHCOUNT],
            "free_limit": self.heap.node[row, n, ss.L3_FREE_LIMIT],
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
                        heap.slab[slabs[name, entry["id"]], ss.L_MGMT] = self._handle(slabs, owner, place)
            if node["shared"] is not None:
                arrays.append((sb.shared_queue(heap, n), node["shared"]))
            for other, alien in enumerate(node.get("alien") or []):
                if alien is not None:
                    arrays.append((sb.alien_queue(heap, n, other), alien))
        for q, array in arrays:
            handles = [self._handle(slabs, name, place) for place in array["entry"]]
            base = heap.queue[row, q, ss.Q_BASE]
            heap.entry[base : base + len(handles)] = handles
            heap.queue[row, q, ss.Q_AVAIL] = len(handles)
            heap.queue[row, q, ss.Q_LIMIT] = array["limit"]
            heap.queue[row, q, ss.Q_TOUCHED] = array["touched"]

    def setup(self) -> None:
        """Only the pools are left to be filled in."""
        for index, recorded in enumerate(self._get(self.init, "pools", list) if self.case.pools else []):
            asked = self.case.pools[index]
            source, kind = self.pool_source(index)
            pool = self.pools.pool[index]
            pool[mp.MP_CACHE] = source
            pool[mp.MP_KIND] = kind
            pool[mp.MP_MIN] = asked.min_nr
            pool[mp.MP_CURR] = len(recorded["elements"])
            pool[mp.MP_ELEMENTS] = self._handle(self.slabs, *recorded["elements_array"])
            for k, element in enumerate(recorded["elements"]):
                if kind == mp.MP_PAGES:
                    node = asked.cpu >> int(self.mem.ctl[st.M_CPU_NODE_SHIFT])
                    handle = st.PAGE_HANDLE | (source << st.PAGE_HANDLE_ORDER_SHIFT) | node
                    self._count_pages(node, source)
                else:
                    handle = self._handle(self.slabs, *element)
                self.pools.element[index, k] = handle

    # ----------------------------------------------------------------------------------- create and destroy

    def _kmalloc_node(self, cpu: int, node: int, context: int, size: int) -> int:
        row = kmem.general_cache(self.play.sizes, size)
        return int(sb.slab_cache_alloc(self.mem, self.heap, row, cpu, node, g.GFP_KERNEL, context))

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
        shift = int(self.mem.ctl[st.M_CPU_NODE_SHIFT])
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
        descriptor = sb.slab_cache_alloc(self.mem, self.heap, self.row["kmem_cache"], cpu, -1, g.GFP_KERNEL, context)
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
        if sb.slab_cache_shrink(self.mem, self.heap, row, cpu):
            raise self.still_in_use(index)
        for handle in self.structs.pop(row):
            kmem.kfree(self.mem, self.heap, cpu, handle)
        self.heap.cache[row, ss.A_ALIVE] = 0
        del self.row[name]
        self.play.row_of[index] = -1

    # ----------------------------------------------------------------------------------------------- tables

    def ctor_calls(self) -> int:
        return int(self.heap.cache[:, ss.A_CTOR_CALLS].sum())

    def overflowed(self) -> bool:
        return bool(self.heap.ctl[ss.T_OVERFLOW])

    def allocator_rows(self) -> None:
        heap = self.heap
        for row in self.order:
            name = self.names[row]
            cache = heap.cache[row].tolist()
            queue = heap.queue[row].tolist()
            for cpu in range(CPUS):
                available, limit, batch, touched, _base = queue[cpu]
                self.add("cpu", cache=name, cpu=cpu, avail=available, limit=limit, batchcount=batch, touched=touched)
            arrays = sum(array[ss.Q_AVAIL] for array in queue)
            stats = dict(zip(ss.SLAB_STATS, cache[ss.A_STAT :], strict=False))
            totals = {"live_objects": stats["num_active"] - arrays, **stats}
            for n in range(self.nodes):
                node = heap.node[row, n].tolist()
                shared = queue[CPUS + n]
                slabs = node[ss.L3_NR_FULL] + node[ss.L3_NR_PARTIAL] + node[ss.L3_NR_FREE]
                first = CPUS + self.nodes + n * self.nodes
                self.add(
                    "node",
                    cache=name,
                    node=n,
                    slabs_full=node[ss.L3_NR_FULL],
                    slabs_partial=node[ss.L3_NR_PARTIAL],
                    slabs_free=node[ss.L3_NR_FREE],
                    active_objs=slabs * cache[ss.A_NUM] - node[ss.L3_FREE_OBJECTS],
                    num_objs=slabs * cache[ss.A_NUM],
                    free_objects=node[ss.L3_FREE_OBJECTS],
                    free_limit=node[ss.L3_FREE_LIMIT],
                    shared_avail=shared[ss.Q_AVAIL],
                    shared_limit=shared[ss.Q_LIMIT],
                    shared_batchcount=SHARED_BATCHCOUNT if shared[ss.Q_LIMIT] else 0,
                    shared_touched=shared[ss.Q_TOUCHED],
                    alien_avail=sum(array[ss.Q_AVAIL] for array in queue[first : first + self.nodes]),
                    colour_next=node[ss.L3_COLOUR_NEXT],
                    next_reap=node[ss.L3_NEXT_REAP],
                    free_touched=node[ss.L3_FREE_TOUCHED],
                    pages=slabs << cache[ss.A_ORDER],
                    **{column: value if n == self.nodes - 1 else None for column, value in totals.items()},
                )

"""A golden case on a later SLUB: 7.2 and 7.3 with percpu sheaves, 6.12 with per-CPU partial lists."""

from collections.abc import Iterator

import numpy as np

from fastalloc.errors import InputError
from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.state import SHEAF, SlubEras
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.replay import cache_life
from fastalloc.kernels.replay import operations as rp
from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, Geometry, SlubOptions
from fastalloc.linux.slub_eras import SHEAF_HEADER
from fastalloc.scenario.slub_arrays import geometry_row
from fastalloc.verify.golden_case import GoldenCase
from fastalloc.verify.lane import Lane, Row, kmalloc_sizes
from fastalloc.verify.slub_lane import PARTIAL_LISTED, chain_length

FIRST = 8  # objects of a sheaf that a short list shows
RULES = {"sheaves": "7.3", "cpupartial": "cpu-partial"}
KNOWN = (("sheaves", "7.3"), ("cpupartial", "6.12"))  # rules and version that a build may name

SHEAF_STATS = (
    *("alloc_fastpath", "alloc_slowpath", "free_rcu_sheaf", "free_rcu_sheaf_fail", "free_fastpath", "free_slowpath"),
    *("free_add_partial", "free_remove_partial", "alloc_slab", "alloc_node_mismatch", "free_slab", "order_fallback"),
    *("cmpxchg_double_fail", "sheaf_flush", "sheaf_refill", "sheaf_alloc", "sheaf_free", "barn_get", "barn_get_fail"),
    *("barn_put", "barn_put_fail", "sheaf_prefill_fast", "sheaf_prefill_slow", "sheaf_prefill_oversize"),
    *("sheaf_return_fast", "sheaf_return_slow"),
)
PARTIAL_STATS = (
    *("alloc_fastpath", "alloc_slowpath", "free_fastpath", "free_slowpath", "free_frozen", "free_add_partial"),
    *("free_remove_partial", "alloc_from_partial", "alloc_slab", "alloc_refill", "alloc_node_mismatch", "free_slab"),
    *("cpuslab_flush", "deactivate_full", "deactivate_empty", "deactivate_to_head", "deactivate_to_tail"),
    *("deactivate_remote_frees", "deactivate_bypass", "order_fallback", "cmpxchg_double_cpu_fail"),
    *("cmpxchg_double_fail", "cpu_partial_alloc", "cpu_partial_free", "cpu_partial_node", "cpu_partial_drain"),
)
NEVER_COUNTED = ("cmpxchg_double_fail", "cmpxchg_double_cpu_fail")  # one thread


def node_shift(case: GoldenCase, nodes: int) -> int:
    """What shifts a CPU's number to its node's. Raises InputError where no shift does."""
    if nodes == 1:
        return 32
    for shift in range(8):
        if all(cpu >> shift == node for node, cpus in enumerate(case.cpus_of_node) for cpu in cpus):
            return shift
    raise InputError(case.path / "manifest.json", "cpus_of_node", "nodes do not follow from the CPUs by a shift")


class LaterLane(Lane):
    """SLUB of a build that names rules and version: ``sheaves73``, ``cpupartial612``."""

    def __init__(self, case: GoldenCase, build: str, rules: str, version: str, nodes: int, room: int) -> None:
        super().__init__(case, nodes)
        if (rules, version) not in KNOWN:
            known = ", ".join(f"{name} of {number}" for name, number in KNOWN)
            raise InputError(case.path / build, "", f"{rules} of Linux {version}: known are {known}")
        sizes = case.struct_sizes.get(build, {})
        if not {"kmem_cache", "kmem_cache_node"} <= sizes.keys():
            raise InputError(case.path / "manifest.json", f"expect.{build}.struct_sizes", "kmem_cache is missing")
        if nodes > 1 and len(case.cpus_of_node) != nodes:
            raise InputError(case.path / "manifest.json", "cpus_of_node", f"does not name {nodes} nodes")
        self.era = RULES[rules]
        self.sheaves = rules == "sheaves"
        self.stats = SHEAF_STATS if self.sheaves else PARTIAL_STATS
        self.mem.ctl[[MEMCTL.cpu_node_shift, MEMCTL.slab_match]] = node_shift(case, nodes), 1
        self.mem.ctl[POLICY.watermark_rule] = st.WATERMARKS_6_3
        self.play.resizes[0] = 2
        self.pools.pool[:, MEMPOOL.least] = 1
        options = SlubOptions(version, case.cpus, hardened_usercopy=False)
        self.caches = CacheSet(options, nodes, boot=False)
        self.caches.boot(sizes["kmem_cache"], sizes["kmem_cache_node"])
        boot = len(self.caches.caches)
        rows = boot + len(case.caches) + int((case.trace.op == rp.OP_CREATE).sum())
        self.heap = SlubEras(
            cache=np.zeros((rows, KMEM_CACHE.width), np.int64),
            kcpu=np.zeros((rows, case.cpus, KMEM_CACHE_CPU.width), np.int64),
            knode=np.zeros((rows, nodes, KMEM_CACHE_NODE.width), np.int64),
            slab=np.zeros((room, SLUB_SLAB.width), np.int32),
            link=np.zeros(room * 64, np.int16),
            ctl=er.ctl_with_sheaves(room, 64),
        )
        self.heap.ctl[[SLUB_CTL.nodes, SLUB_CTL.nr_caches]] = nodes, rows
        self.structs = np.full((rows, 1 + nodes), st.NO_OBJECT, np.int64)
        self.play.sizes[:] = kmalloc_sizes(self.caches.kmalloc_index)  # a cache's row is its index
        for index in range(boot):
            self._register(index)
        cache_life.boot_caches(self.mem, self.heap, self.play.sizes, self.structs, boot)
        self.living: set[int] = set(range(boot))
        self._reorder()

    def _register(self, index: int) -> None:
        layout = self.caches.caches[index]
        source = -1
        if layout.sheaf_capacity:
            source = self.caches.kmalloc_index(SHEAF_HEADER + 8 * layout.sheaf_capacity)
        row = geometry_row(layout, self.era, layout.sheaf_capacity, source, no_reclaim_first=True)
        row[KMEM_CACHE.rcu_slabs] = bool(layout.flags & sf.DESTROY_BY_RCU)
        su.init_cache(self.heap, index, row)

    def _reorder(self) -> None:
        order = sorted(self.living, reverse=True)
        self.play.order[0] = len(order)
        self.play.order[1 : 1 + len(order)] = order

    def setup(self) -> None:
        super().setup()
        self.pools.pool[:, MEMPOOL.rule] = mp.RULE_RETRY
        self.tables["geometry"] = [self._geometry(self.caches.caches[i]) for i in sorted(self.living, reverse=True)]

    def create(self, index: int, cpu: int, context: int) -> bool:
        asked = self.case.caches[index]
        known = len(self.caches.caches)
        root = self.caches.create(
            CacheRequest(
                asked.name, asked.size, asked.align, asked.flags, asked.ctor, sheaf_capacity=asked.sheaf_capacity
            )
        )
        if root == known:
            self._register(root)
            if not cache_life.create_cache(self.mem, self.heap, self.play.sizes, self.structs, root, cpu, context):
                self.caches.destroy(asked.name)
                return False
            self.living.add(root)
        self.play.row_of[index] = root
        self._reorder()
        return True

    def destroy(self, index: int, cpu: int) -> None:
        name = self.case.caches[index].name
        root = self.caches.index_of(name)
        self.play.row_of[index] = -1
        if not self.caches.destroy(name):
            return
        if not cache_life.destroy_cache(self.mem, self.heap, self.structs, root, cpu, 0):
            raise self.still_in_use(index)
        self.living.remove(root)
        self._reorder()

    def ctor_calls(self) -> int:
        return int(self.heap.cache[:, KMEM_CACHE.ctor_calls].sum())

    def overflowed(self) -> bool:
        return bool(self.heap.ctl[SLUB_CTL.overflow])

    # ----------------------------------------------------------------------------------------------- tables

    def checkpoint(self, row: int) -> None:
        super().checkpoint(row)
        for entry in self.tables["glob"][-self.nodes :]:
            entry["rcu_callbacks"] = int(self.heap.ctl[SLUB_CTL.nr_callbacks])
            entry["kfree_rcu_list"] = int(self.play.rcu_held[0])

    def _geometry(self, layout: Geometry) -> Row:
        return {
            "cache": layout.name,
            "size": layout.size,
            "object_size": layout.objsize,
            "order": layout.order,
            "objects": layout.objects,
            "min_order": sf.get_order(layout.size),
            "min_partial": layout.min_partial,
            "sheaf_capacity": layout.sheaf_capacity if self.sheaves else layout.cpu_partial_slabs,
            "align": layout.align,
            "refcount": layout.refcount,
            "offset": layout.offset,
            "inuse": layout.inuse,
            "ctor": int(layout.ctor),
            "rcu_slabs": layout.flags & sf.DESTROY_BY_RCU,
        }

    def _sheaf(self, h: int) -> np.ndarray:
        """int64[size]: handles in sheaf ``h``, bottom first; empty without one."""
        if h < 0:
            return np.zeros(0, np.int64)
        first = h + SHEAF.objects[0]
        objects: np.ndarray = self.heap.ctl[first : first + self.heap.ctl[h + SHEAF.size]]
        return objects

    def _chain(self, h: int) -> Iterator[int]:
        """The sheaves of a list of a barn."""
        while h >= 0:
            yield h
            h = int(self.heap.ctl[h + SHEAF.next])

    def _waiting(self) -> tuple[list[int], list[int]]:
        """The sheaves and the slabs that wait for the end of a grace period."""
        entry = int(self.heap.ctl[SLUB_CTL.rcu_head])
        sheaves, slabs = [], []
        for _ in range(int(self.heap.ctl[SLUB_CTL.nr_callbacks])):
            if entry >= 0:
                sheaves.append(entry)
                entry = int(self.heap.ctl[entry + SHEAF.next])
            else:
                slabs.append(-2 - entry)
                entry = int(self.heap.slab[-2 - entry, SLUB_SLAB.next])
        return sheaves, slabs

    def _listed(self, h: int) -> str | None:
        top = self._sheaf(h)[::-1]
        if not self.case.lists_whole:
            top = top[:FIRST]
        ordinals = self.heap.slab[top >> st.HANDLE_SHIFT, SLUB_SLAB.ordinal]
        return " ".join(f"{s}.{i}" for s, i in zip(ordinals, top & st.HANDLE_INDEX_MASK, strict=True)) or None

    def allocator_rows(self) -> None:
        self.tables.setdefault("stats_sum", [])
        waiting, gone = self._waiting()
        slabs = self.heap.slab[: self.heap.ctl[SLUB_CTL.slab_top]]
        owned = slabs[:, SLUB_SLAB.pfn] >= 0
        owned[gone] = False  # pages that wait for the end of a grace period are the cache's no more
        for row in sorted(self.living, reverse=True):
            name = self.caches.caches[row].name
            totals = dict.fromkeys(self.stats, 0)
            before = len(self.tables["cpu"])
            for cpu in range(self.case.cpus):
                counts = self._cpu_row(row, name, cpu)
                totals = {stat: totals[stat] + counts[stat] for stat in self.stats}
            if len(self.tables["cpu"]) > before:
                self.add("stats_sum", cache=name, **totals)
            held = slabs[(slabs[:, SLUB_SLAB.cache] == row) & owned]
            inside = [self._sheaves_by_node(sheaves) for sheaves in self._sheaves_of(row, waiting)]
            for node in range(self.nodes):
                self._node_row(row, name, node, held[held[:, SLUB_SLAB.node] == node], inside)

    def _counts(self, row: int, cpu: int) -> dict[str, int]:
        record = self.heap.kcpu[row, cpu]
        return {stat: 0 if stat in NEVER_COUNTED else int(record[getattr(KMEM_CACHE_CPU, stat)]) for stat in self.stats}

    def _cpu_row(self, row: int, name: str, cpu: int) -> dict[str, int]:
        counts = self._counts(row, cpu)
        record = self.heap.kcpu[row, cpu]
        columns: Row = {}
        if self.sheaves:
            sheaves = {
                which: int(record[getattr(KMEM_CACHE_CPU, column)])
                for which, column in (("main", "main"), ("spare", "spare"), ("rcu", "rcu_free"))
            }
            shown = len(self._sheaf(sheaves["main"])) > 0 or sheaves["spare"] >= 0 or sheaves["rcu"] >= 0
            for which, h in sheaves.items():
                columns[f"{which}_size"] = len(self._sheaf(h)) if h >= 0 else -1
            for which, h in sheaves.items():
                columns[f"{which}_objects"] = self._listed(h)
        else:
            columns = self._partial_columns(record)
            shown = columns["cpu_slab"] != -2 or columns["cpu_partial_slabs"] > 0
        if shown or any(counts.values()):
            self.add("cpu", cache=name, cpu=cpu, **counts, **columns)
        return counts

    def _partial_columns(self, record: np.ndarray) -> Row:
        """A CPU's slab and its partial list."""
        slab, link = self.heap.slab, self.heap.link
        s = int(record[KMEM_CACHE_CPU.page])
        columns: Row = {"cpu_slab": -2, "cpu_free": 0, "page_free": 0}
        if s >= 0:
            columns["cpu_slab"] = int(slab[s, SLUB_SLAB.ordinal])
            lists = {"cpu_free": record[KMEM_CACHE_CPU.freelist], "page_free": slab[s, SLUB_SLAB.freelist]}
            for name, first in lists.items():
                columns[name] = int(chain_length(link, slab[s, SLUB_SLAB.base], first))
        listed = []
        s = int(record[KMEM_CACHE_CPU.partial])
        while s >= 0:
            listed.append(f"{slab[s, SLUB_SLAB.ordinal]}:{slab[s, SLUB_SLAB.inuse]}")
            s = int(slab[s, SLUB_SLAB.next])
        return {**columns, "cpu_partial_slabs": len(listed), "cpu_partial_list": " ".join(listed) or None}

    def _sheaves_of(self, row: int, waiting: list[int]) -> tuple[list[int], list[int], list[int]]:
        """Sheaves of a cache: the CPUs', the barns', those of kfree_rcu."""
        kcpu = self.heap.kcpu[row]
        cpus = [int(h) for h in kcpu[:, [KMEM_CACHE_CPU.main, KMEM_CACHE_CPU.spare]].ravel()]
        barns = [h for node in self.heap.knode[row] for h in self._chain(int(node[KMEM_CACHE_NODE.full]))]
        rcu = [int(h) for h in kcpu[:, KMEM_CACHE_CPU.rcu_free]]
        return cpus, barns, rcu + [h for h in waiting if self.heap.ctl[h + SHEAF.cache] == row]

    def _sheaves_by_node(self, sheaves: list[int]) -> np.ndarray:
        """int64[nodes]: objects in ``sheaves`` by the node that they lie on."""
        handles = np.concatenate([self._sheaf(h) for h in sheaves] or [np.zeros(0, np.int64)])
        return np.bincount(self.heap.slab[handles >> st.HANDLE_SHIFT, SLUB_SLAB.node], minlength=self.nodes)

    def _node_row(self, row: int, name: str, node: int, held: np.ndarray, inside: list[np.ndarray]) -> None:
        record = self.heap.knode[row, node]
        barn = record[KMEM_CACHE_NODE.barn] >= 0
        sheaves = record[KMEM_CACHE_NODE.nr_full] + record[KMEM_CACHE_NODE.nr_empty]
        partial, s = [], int(record[KMEM_CACHE_NODE.partial_head])
        while s >= 0:
            partial.append(s)
            s = int(self.heap.slab[s, SLUB_SLAB.next])
        slabs = int(record[KMEM_CACHE_NODE.nr_slabs])
        if slabs == 0 and sheaves == 0:
            return
        listed = self.heap.slab[partial]
        total = int(held[:, SLUB_SLAB.objects].sum())
        free = int((listed[:, SLUB_SLAB.objects] - listed[:, SLUB_SLAB.inuse]).sum())
        columns: Row = {
            "nr_slabs": slabs,
            "nr_partial": int(record[KMEM_CACHE_NODE.nr_partial]),
            "partial_inuse": int(listed[:, SLUB_SLAB.inuse].sum()),
            "partial_empty": int((listed[:, SLUB_SLAB.inuse] == 0).sum()),
            "total_objects": total,
            "slabinfo_active": total - free,
        }
        live = int(held[:, SLUB_SLAB.inuse].sum())
        if self.sheaves:
            in_sheaves = [int(count[node]) for count in inside]
            columns |= dict(zip(("in_cpu_sheaves", "in_barn", "in_rcu"), in_sheaves, strict=True))
            full = self._chain(int(record[KMEM_CACHE_NODE.full]))
            columns |= {
                "live_objects": live - sum(in_sheaves),
                "barn_full": int(record[KMEM_CACHE_NODE.nr_full]) if barn else -1,
                "barn_empty": int(record[KMEM_CACHE_NODE.nr_empty]) if barn else -1,
                "barn_sizes": " ".join(str(len(self._sheaf(h))) for h in full) or None,
            }
        else:
            columns["live_objects"] = live - self._private(row, node)
        slab = self.heap.slab
        first = [f"{slab[s, SLUB_SLAB.ordinal]}:{slab[s, SLUB_SLAB.inuse]}" for s in partial[:PARTIAL_LISTED]]
        self.add("node", cache=name, node=node, **columns, partial_list=" ".join(first) or None)

    def _private(self, row: int, node: int) -> int:
        """Free objects on private lists of CPUs whose slab is on ``node``."""
        count = 0
        for record in self.heap.kcpu[row]:
            s = int(record[KMEM_CACHE_CPU.page])
            if s >= 0 and self.heap.slab[s, SLUB_SLAB.node] == node:
                base = self.heap.slab[s, SLUB_SLAB.base]
                count += int(chain_length(self.heap.link, base, record[KMEM_CACHE_CPU.freelist]))
        return count

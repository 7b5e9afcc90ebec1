"""A machine that a golden case runs on: the counting page allocator, one slab allocator, pools, and its tables."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastalloc.errors import InputError
from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmalloc import KMALLOC_LARGEST_SLOT, KMALLOC_SLOTS, get_order
from fastalloc.kernels.alloc.mempool import MEMPOOL, Pools
from fastalloc.kernels.alloc.state import AREA, MEMCTL, MIGRATE, PAGE, PCP, ZONE, Mem
from fastalloc.kernels.replay import operations as rp
from fastalloc.linux.gfp import MAX_ORDER
from fastalloc.verify.golden_case import CPUS, GoldenCase

Row = dict[str, Any]


def stub_mem(nodes: int) -> Mem:
    """The counting page allocator with unlimited memory on ``nodes`` nodes (1 or 2), CPUs split evenly."""
    ctl = np.zeros(MEMCTL.width, dtype=np.int64)
    ctl[MEMCTL.model] = st.MODEL_UNLIMITED
    ctl[MEMCTL.nr_zones] = nodes
    ctl[MEMCTL.nr_nodes] = nodes
    ctl[MEMCTL.hz] = 1000
    ctl[MEMCTL.cpu_node_shift] = 3 if nodes == 1 else 2
    return Mem(
        zone=np.zeros((nodes, ZONE.width), dtype=np.int64),
        area=np.zeros((nodes, MIGRATE.width, MAX_ORDER, AREA.width), dtype=np.int64),
        block=np.zeros((nodes, 1), dtype=np.int64),
        pcp=np.zeros((CPUS, nodes, PCP.width), dtype=np.int64),
        page=np.zeros((1, PAGE.width), dtype=np.int32),
        ctl=ctl,
    )


def kmalloc_sizes(row_of_size: Callable[[int], int]) -> np.ndarray:
    """The table of :mod:`fastalloc.kernels.alloc.kmem`, int64[KMALLOC_SLOTS], from a rule size -> row or -1."""
    sizes = np.full(KMALLOC_SLOTS, -1, dtype=np.int64)
    for size in range(8, 4097, 8):
        sizes[size >> 3] = row_of_size(size)
    for order in range(1, MAX_ORDER):
        sizes[KMALLOC_LARGEST_SLOT + 1 + order] = row_of_size(4096 << order)
    return sizes


class OverflowedError(Exception):
    """The lane's arrays were too small: build it again, larger."""


class Lane:
    """One case on one build. Subclasses add the allocator: its caches, its start state, its tables.

    ``room`` scales the arrays that grow with the trace; :class:`OverflowedError` asks for more.
    """

    heap: Any

    def __init__(self, case: GoldenCase, nodes: int) -> None:
        self.case = case
        self.nodes = nodes
        self.mem = stub_mem(nodes)
        largest = max([pool.min_nr for pool in case.pools] + [1])
        resizes = case.trace.arg[case.trace.op == rp.OP_MPRESIZE]
        largest = max(largest, int(resizes.max(initial=1)))
        self.pools = Pools(
            pool=np.zeros((max(len(case.pools), 1), MEMPOOL.width), dtype=np.int64),
            element=np.full((max(len(case.pools), 1), largest), st.NO_OBJECT, dtype=np.int64),
        )
        rows = case.rows
        self.play = rp.Play(
            handle=np.full(case.objects + 1, st.NO_OBJECT, dtype=np.int64),
            row_of=np.full(max(len(case.caches), 1), -1, dtype=np.int64),
            order=np.zeros(len(case.caches) + 64, dtype=np.int64),
            sizes=np.full(KMALLOC_SLOTS, -1, dtype=np.int64),
            resizes=np.ones(1, dtype=np.int64),
            res=np.zeros(rows, dtype=np.uint8),
            path=np.zeros(rows, dtype=np.uint8),
            slab=np.full(rows, -1, dtype=np.int32),
            idx=np.full(rows, -1, dtype=np.int32),
            rcu_list=np.full(case.objects + 1, st.NO_OBJECT, dtype=np.int64),
            rcu_cpu=np.zeros(case.objects + 1, dtype=np.int64),
            rcu_held=np.zeros(1, dtype=np.int64),
        )
        self.tables: dict[str, list[Row]] = {"cpu": [], "node": [], "glob": [], "pool": []}
        of_nodes = np.isin(case.trace.op, (rp.OP_HOLD, rp.OP_SETMIN))
        allocs = case.trace.op == rp.OP_ALLOC
        for column, named in (
            ("arg", allocs & (case.trace.arg >= nodes)),
            ("cache", of_nodes & (case.trace.cache >= nodes)),
        ):
            if named.any():
                row = int(np.argmax(named))
                raise InputError(case.path / "trace.parquet", f"row {row}, {column}", f"no such node among {nodes}")

    # ------------------------------------------------------------------------------- what the allocators add

    def create(self, index: int, cpu: int, context: int) -> bool:
        """kmem_cache_create of cache ``index`` of the case; False when memory for it was refused."""
        raise NotImplementedError

    def destroy(self, index: int, cpu: int) -> None:
        """kmem_cache_destroy of cache ``index``."""
        raise NotImplementedError

    def allocator_rows(self) -> None:
        """Append the rows of this checkpoint to the cpu and node tables (and what else the allocator has)."""
        raise NotImplementedError

    def ctor_calls(self) -> int:
        """Constructor runs since boot."""
        raise NotImplementedError

    def overflowed(self) -> bool:
        """Whether the arrays were too small."""
        raise NotImplementedError

    def pool_source(self, index: int) -> tuple[int, int]:
        """(MEMPOOL.cache, MEMPOOL.kind) of pool ``index``."""
        pool = self.case.pools[index]
        if pool.kind == "slab":
            return int(self.play.row_of[pool.param]), mp.MP_SLAB
        if pool.kind == "pages":
            return pool.param, mp.MP_PAGES
        order = get_order(pool.param)
        slot = (pool.param + 7) >> 3 if pool.param <= 4096 else KMALLOC_LARGEST_SLOT + 1 + order
        row = int(self.play.sizes[slot])
        return (row, mp.MP_SLAB) if row >= 0 else (order, mp.MP_PAGES)

    # --------------------------------------------------------------------------------------------- the run

    def setup(self) -> None:
        """Caches, then pools, as the manifest orders; memory is still unlimited."""
        for index, cache in enumerate(self.case.caches):
            if cache.setup:
                self.create(index, cache.cpu, 0)
        for index, pool in enumerate(self.case.pools):
            source, kind = self.pool_source(index)
            mp.mempool_create(
                self.mem, self.heap, self.pools, self.play.sizes, index, pool.cpu, source, kind, pool.min_nr
            )

    def limit_memory(self) -> None:
        """From now on a node has what it uses plus the case's free pages."""
        if self.case.free_pages is None:
            return
        self.mem.ctl[MEMCTL.model] = st.MODEL_STUB
        self.mem.zone[:, ZONE.total] = self.mem.zone[:, ZONE.used] + self.case.free_pages
        self.mem.zone[:, ZONE.min] = self.case.pages_min

    def run(self) -> None:
        """The whole trace. Raises :class:`OverflowedError` when the arrays were too small."""
        self.setup()
        self.limit_memory()
        self.checkpoint(-1)
        trace, play = self.case.trace, self.play
        row = 0
        while True:
            row = rp.replay(self.mem, self.heap, self.pools, trace, play, row, self.case.rows)
            if self.overflowed():
                raise OverflowedError
            if row == self.case.rows:
                break
            cpu, context = int(trace.cpu[row]), int(trace.context[row])
            play.res[row] = 1
            if trace.op[row] == rp.OP_CKPT:
                self.checkpoint(row)
            elif trace.op[row] == rp.OP_CREATE:
                play.res[row] = self.create(int(trace.cache[row]), cpu, context)
            elif play.row_of[trace.cache[row]] >= 0:
                self.destroy(int(trace.cache[row]), cpu)
            else:
                play.res[row] = 0
            row += 1

    def still_in_use(self, index: int) -> InputError:
        """The error of a DESTROY with live objects."""
        name = self.case.caches[index].name
        return InputError(self.case.path / "trace.parquet", "DESTROY", f"cache {name} still has objects in use")

    def add(self, table: str, **columns: Any) -> None:
        """Append a row of the present checkpoint."""
        self.tables[table].append({"ckpt": self.checkpoints, "op_index": self.op_index, **columns})

    checkpoints = -1
    op_index = -1

    def checkpoint(self, row: int) -> None:
        """Record the state tables."""
        self.checkpoints += 1
        self.op_index = row
        self.allocator_rows()
        limited = self.mem.ctl[MEMCTL.model] == st.MODEL_STUB
        calls = self.ctor_calls()
        for n in range(self.nodes):
            zone = [int(value) for value in self.mem.zone[n]]
            self.add(
                "glob",
                node=n,
                free=zone[ZONE.total] - zone[ZONE.hold] - zone[ZONE.used] if limited else None,
                used=zone[ZONE.used],
                hold=zone[ZONE.hold] if limited else None,
                pages_min=zone[ZONE.min] if limited else None,
                page_alloc_ok=zone[ZONE.alloc_ok],
                page_alloc_fail=zone[ZONE.alloc_fail],
                page_frees=zone[ZONE.frees],
                below_low=zone[ZONE.below_low],
                memalloc_used=zone[ZONE.memalloc_used],
                ctor_calls=calls,
            )
        names = ("from_allocator", "from_pool", "fail_atomic", "fail_would_sleep", "free_to_pool", "free_to_allocator")
        for index, pool in enumerate(self.case.pools):
            record = [int(value) for value in self.pools.pool[index]]
            counts = dict(zip(names, record[MEMPOOL.counts[:]], strict=True))
            self.add("pool", pool=pool.name, curr_nr=record[MEMPOOL.curr], min_nr=record[MEMPOOL.min], **counts)

"""Plays the rows of a golden trace on a reference model and records the tables that a golden case holds.

This is the part that all allocators share: what each operation means, mempools, the counting page allocator, tables.
A subclass adds the slab allocator. An object's place is (slab ordinal, index); (-1, -1) for pages.
"""

from dataclasses import dataclass, field
from typing import Any

from fastalloc.kernels.replay.operations import OPS
from fastalloc.verify.golden_case import CPUS, GoldenCase
from tests.reference.page_alloc import NOMEMALLOC, NORETRY, NOWARN, PLAIN, WAIT, Task
from tests.reference.stub_pages import Block, StubPages

GFP_KERNEL = 0xD0
IO = 0x40
NOWHERE = (-1, -1)
STRUCT_MEMPOOL = 72


class Bogus:
    """Address 8: what SLOB's kmalloc returns for "no memory", and what a mempool takes for an element."""


@dataclass
class Pool:
    """A mempool [mm/mempool.c]; ``get`` and ``put`` are its allocator."""

    name: str
    min_nr: int
    get: Any
    put: Any
    array: Any = None  # what holds the elements
    elements: list[Any] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("from_allocator", "from_pool", "fail_atomic", "fail_would_sleep", "free_to_pool", "free_to_allocator"), 0
        )
    )


class Machine:
    """A case on one build."""

    resizes = True  # mempool_resize works

    def __init__(self, case: GoldenCase, nodes: int = 1):
        self.case = case
        self.pages = StubPages(nodes, CPUS)
        self.live: dict[int, Any] = {}  # what the trace holds: object or None, by its dense id
        self.pools: list[Pool] = []
        self.jiffies = 0
        self.ctor_calls = 0
        self.ops: list[tuple[int, int, int, int]] = []  # res, path, slab, idx
        self.tables: dict[str, list[dict]] = {"cpu": [], "node": [], "glob": [], "pool": []}
        self.stamp: dict[str, int] = {"ckpt": -1, "op_index": -1}

    # -- what an allocator adds; None stands for "no memory". ``path`` is that of the last alloc or free.

    path = 0

    def alloc(self, index: int, cpu: int, node: int, gfp: int, task: Task) -> Any:
        raise NotImplementedError

    def free(self, index: int, cpu: int, thing: Any) -> None:
        raise NotImplementedError

    def kmalloc(self, cpu: int, size: int, gfp: int, task: Task) -> Any:
        raise NotImplementedError

    def kfree(self, cpu: int, thing: Any) -> None:
        raise NotImplementedError

    def place(self, thing: Any) -> tuple[int, int]:
        """(ordinal, index) of an object; a slab is numbered when it is first asked for."""
        raise NotImplementedError

    def exists(self, index: int) -> bool:
        raise NotImplementedError

    def create(self, index: int, cpu: int, task: Task) -> bool:
        raise NotImplementedError

    def destroy(self, index: int, cpu: int) -> None:
        raise NotImplementedError

    def shrink(self, index: int, cpu: int, task: Task) -> tuple[bool, int]:
        """(done, return value)."""
        return True, 0

    def flush(self, index: int, cpu: int) -> None:
        """One CPU's queue of one cache, or of all caches for -1."""

    def reap(self, cpu: int) -> None:
        """One pass of the periodic reaper."""

    def allocator_rows(self) -> None:
        raise NotImplementedError

    # -- mempools

    def pool_functions(self, index: int) -> tuple[Any, Any]:
        asked = self.case.pools[index]
        if asked.kind == "slab":
            return (
                lambda cpu, gfp, task: self.alloc(asked.param, cpu, -1, gfp, task),
                lambda cpu, thing: self.free(asked.param, cpu, thing),
            )
        if asked.kind == "pages":
            return (
                lambda cpu, gfp, task: self.pages.take(cpu, gfp, asked.param, task),
                lambda _cpu, block: self.pages.give(block),
            )
        return (lambda cpu, gfp, task: self.kmalloc(cpu, asked.param, gfp, task) or self.failed_kmalloc(), self.kfree)

    def failed_kmalloc(self) -> Any:
        """What kmalloc of the pool's size returns when there is no memory."""
        return None

    def create_pool(self, index: int) -> None:
        asked = self.case.pools[index]
        pool = Pool(asked.name, asked.min_nr, *self.pool_functions(index))
        self.kmalloc(asked.cpu, STRUCT_MEMPOOL, GFP_KERNEL, PLAIN)
        pool.array = self.kmalloc(asked.cpu, 8 * asked.min_nr, GFP_KERNEL, PLAIN)
        pool.elements = [pool.get(asked.cpu, GFP_KERNEL, PLAIN) for _ in range(asked.min_nr)]
        self.pools.append(pool)

    def pool_alloc(self, pool: Pool, cpu: int, gfp: int, task: Task) -> tuple[int, Any]:
        mask = (gfp | NOMEMALLOC | NORETRY | NOWARN) & ~(WAIT | IO)
        thing = pool.get(cpu, mask, task)
        res, count = 1, "from_allocator"
        if thing is None and pool.elements:
            thing = pool.elements.pop()
            res, count = 2, "from_pool"
        elif thing is None:
            res, count = (3, "fail_would_sleep") if gfp & WAIT else (0, "fail_atomic")
        pool.counts[count] += 1
        return res, thing

    def pool_free(self, pool: Pool, cpu: int, thing: Any) -> int:
        if len(pool.elements) < pool.min_nr:
            pool.elements.append(thing)
            pool.counts["free_to_pool"] += 1
            return 2
        pool.put(cpu, thing)
        pool.counts["free_to_allocator"] += 1
        return 1

    def pool_resize(self, pool: Pool, cpu: int, new: int, gfp: int, task: Task) -> int:
        if not self.resizes:
            return 0
        if new <= pool.min_nr:
            while len(pool.elements) > new:
                pool.put(cpu, pool.elements.pop())
            pool.min_nr = new
            return 1
        array = self.kmalloc(cpu, 8 * new, gfp, task)
        if array is None:
            return 0
        self.kfree(cpu, pool.array)
        pool.array, pool.min_nr = array, new
        while len(pool.elements) < new:
            thing = pool.get(cpu, gfp, task)
            if thing is None:
                break  # a reserve that is not full is no failure
            pool.elements.append(thing)
        return 1

    # -- the run

    def setup(self) -> None:
        for index, cache in enumerate(self.case.caches):
            if cache.setup:
                assert self.create(index, cache.cpu, PLAIN)
        for index in range(len(self.case.pools)):
            self.create_pool(index)

    def run(self) -> "Machine":
        self.setup()
        self.start()
        return self

    def start(self) -> None:
        """Everything from the first checkpoint on."""
        if self.case.free_pages is not None:
            self.pages.limit(self.case.free_pages, self.case.pages_min)
        self.checkpoint(-1)
        trace = self.case.trace
        columns = (trace.op, trace.cpu, trace.cache, trace.obj, trace.gfp, trace.context, trace.arg)
        for row, (op, *rest) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            self.path = 0
            self.ops.append(self.play(row, OPS[op], *rest))

    def play(self, row: int, op: str, cpu, cache, thing_id, gfp, context, arg) -> tuple[int, int, int, int]:
        """One row: res, path, slab, idx."""
        task = Task(memalloc=bool(context & 1), in_interrupt=bool(context & 2))
        if op in ("ALLOC", "KMALLOC"):
            if op == "KMALLOC":
                thing = self.kmalloc(cpu, arg, gfp, task)
            else:
                thing = self.alloc(cache, cpu, arg, gfp, task) if self.exists(cache) else None
            self.live[thing_id] = thing
            return (0, 0, *NOWHERE) if thing is None else (1, self.path, *self.place(thing))
        if op == "MPALLOC":
            res, thing = self.pool_alloc(self.pools[cache], cpu, gfp, task)
            self.live[thing_id] = thing
            return (res, 0, *NOWHERE) if thing is None else (res, *self.where(thing))
        if op in ("FREE", "KFREE", "MPFREE", "PGFREE"):
            thing = self.live.pop(thing_id)
            if thing is None:
                return (0, 0, *NOWHERE)
            if op == "PGFREE":
                self.pages.give(thing)
                return (1, 0, *NOWHERE)
            if op == "MPFREE":
                where = self.where(thing)
                return (self.pool_free(self.pools[cache], cpu, thing), *where)
            place = self.place(thing)
            if op == "FREE":
                self.free(cache, cpu, thing)
            else:
                self.kfree(cpu, thing)
            return (1, self.path, *place)
        if op == "PGALLOC":
            self.live[thing_id] = self.pages.take(cpu, gfp, arg, task)
            return (int(self.live[thing_id] is not None), 0, *NOWHERE)
        return self.play_rare(row, op, cpu, cache, gfp, task, arg)

    def where(self, thing: Any) -> tuple[int, int, int]:
        """(path, slab, idx) of a pool's element."""
        if isinstance(thing, Bogus):
            return (9, *NOWHERE)
        return (0, *(NOWHERE if isinstance(thing, Block) else self.place(thing)))

    def play_rare(self, row: int, op: str, cpu, cache, gfp, task, arg) -> tuple[int, int, int, int]:
        res, idx = 1, -1
        if op in ("SHRINK", "FLUSH", "DESTROY") and cache >= 0 and not self.exists(cache):
            res = 0
        elif op == "SHRINK":
            res, idx = self.shrink(cache, cpu, task)
        elif op == "FLUSH":
            self.flush(cache, cpu)
        elif op == "REAP":
            self.jiffies = arg
            self.reap(cpu)
        elif op in ("HOLD", "SETMIN"):
            for n, node in enumerate(self.pages.nodes):
                if cache in (-1, n):
                    setattr(node, "hold" if op == "HOLD" else "pages_min", arg)
        elif op == "MPRESIZE":
            res = self.pool_resize(self.pools[cache], cpu, arg, gfp, task)
        elif op == "CREATE":
            res = self.create(cache, cpu, task)
        elif op == "DESTROY":
            self.destroy(cache, cpu)
        elif op == "CKPT":
            self.checkpoint(row)
        return (int(res), 0, -1, idx)

    # -- tables

    def add(self, table: str, **columns: Any) -> None:
        self.tables.setdefault(table, []).append({**self.stamp, **columns})

    def checkpoint(self, row: int) -> None:
        self.stamp = {"ckpt": self.stamp["ckpt"] + 1, "op_index": row}
        self.allocator_rows()
        for n, node in enumerate(self.pages.nodes):
            known = self.pages.limited
            self.add(
                "glob",
                node=n,
                free=node.free if known else None,
                used=node.used,
                hold=node.hold if known else None,
                pages_min=node.pages_min if known else None,
                page_alloc_ok=node.ok,
                page_alloc_fail=node.fail,
                page_frees=node.frees,
                below_low=node.below_low,
                memalloc_used=node.memalloc_used,
                ctor_calls=self.ctor_calls,
            )
        for pool in self.pools:
            self.add("pool", pool=pool.name, curr_nr=len(pool.elements), min_nr=pool.min_nr, **pool.counts)

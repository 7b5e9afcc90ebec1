"""Objects taken through a mempool on one CPU and freed on another: how often is a lock taken, and how much memory held?

    python results/mempool-refill/study.py     # two minutes

The allocators are those of ``fastalloc verify``, the operations those of its cases. Writes mempool-refill.csv (a row a
setting) and mempool-refill.svg; `make tables` writes the tables of the docs.
"""

import itertools
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slub.state import REFILL_BLOCKING, SHEAF_HEADER
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, ZONE
from fastalloc.kernels.replay import operations as rp
from fastalloc.linux import gfp as g
from fastalloc.linux.slab_flags import NO_MERGE
from fastalloc.verify.golden_case import CaseCache, CasePool, GoldenCase
from fastalloc.verify.later_lane import LaterLane

HERE = Path(__file__).parent
SIZE = 256  # a bio with its inline vectors
AS_BUILT = 28  # objects a sheaf of such a cache holds
KERNELS = {"6.12": ("cpupartial", "6.12"), "7.0-rc1 rule": ("sheaves", "7.3"), "7.3": ("sheaves", "7.3")}
FREED = ("the same CPU", "another CPU", "another node")
STRUCTS = {"kmem_cache": 136, "kmem_cache_node": 64}
OPERATIONS = 200_000  # counted; as many run before them
PLENTY = 1 << 40


@dataclass(frozen=True)
class Load:
    """Pairs of CPUs, one that allocates and one that frees, oldest first."""

    freed: str = "another CPU"
    pairs: int = 4
    in_flight: int = 128  # of a pair
    batch: int = 16  # objects allocated, or freed, in one go: the mean of a geometric distribution
    capacity: int = AS_BUILT
    pool: int = 2  # elements: BIO_POOL_SIZE
    waits: bool = False  # allocated without a mempool, by a caller who may block
    memory: int = PLENTY  # pages free at the start


AXES = {
    "in_flight": (1, 8, 32, 128, 512, 2048),
    "batch": (1, 4, 16, 64),
    "pairs": (1, 2, 4, 8, 16),
    "capacity": (4, 8, 16, 28, 60, 120),
    "waits": (True,),
}
SHORT = {"pool": (2, 32, 128, 512), "memory": (24,)}  # 384 objects in slabs, where 512 are in flight


class StudyLane(LaterLane):
    """A machine of the golden cases under one of KERNELS, with a rule or a capacity of our own."""

    def __init__(self, case: GoldenCase, kernel: str, load: Load, nodes: int) -> None:
        self.kernel, self.load = kernel, load
        super().__init__(case, "study", *KERNELS[kernel], nodes, 1 << 17)

    def _register(self, index: int) -> None:
        super()._register(index)
        row = self.heap.cache[index]
        if self.kernel == "7.0-rc1 rule":
            row[KMEM_CACHE.refill] = REFILL_BLOCKING
        if self.caches.caches[index].name == "bio" and row[KMEM_CACHE.sheaf_capacity]:
            row[KMEM_CACHE.sheaf_capacity] = self.load.capacity
            row[KMEM_CACHE.sheaf_cache] = self.caches.kmalloc_index(SHEAF_HEADER + 8 * self.load.capacity)


def operations(load: Load, rows: int) -> tuple[np.ndarray, ...]:
    """op, cpu and object of each row; a pair is drawn, allocates a batch, and its other CPU frees what is too much."""
    random = np.random.default_rng(1)
    op, cpu, obj = np.zeros(rows, np.uint8), np.zeros(rows, np.uint8), np.zeros(rows, np.int32)
    begun, done = np.zeros(load.pairs, int), np.zeros(load.pairs, int)
    row = 0
    while row < rows:
        pair = int(random.integers(load.pairs))
        frees = pair if load.freed == FREED[0] else load.pairs + pair
        count = int(random.geometric(1 / load.batch))
        over = begun[pair] + count - done[pair] - load.in_flight
        for what, who, first, more in (
            (rp.OP_MPALLOC, pair, begun, count),
            (rp.OP_MPFREE, frees, done, max(over, 0)),
        ):
            end = min(row + more, rows)
            op[row:end], cpu[row:end] = what, who
            obj[row:end] = (first[pair] + np.arange(end - row)) * load.pairs + pair
            first[pair] += end - row
            row = end
    return op, cpu, obj


def case_of(load: Load) -> GoldenCase:
    """The load as a case."""
    rows = 2 * OPERATIONS
    op, cpu, obj = operations(load, rows)
    if load.waits:
        op = np.where(op == rp.OP_MPALLOC, rp.OP_ALLOC, rp.OP_FREE).astype(np.uint8)
    trace = rp.Trace(
        op=op, cpu=cpu, cache=np.zeros(rows, np.int16), obj=obj, gfp=np.full(rows, g.GFP_NOIO, np.uint32),
        context=np.zeros(rows, np.uint8), arg=np.full(rows, -1, np.int32),
    )  # fmt: skip
    far = load.freed == "another node"
    halves = (tuple(range(load.pairs)), tuple(range(load.pairs, 2 * load.pairs)))
    return GoldenCase(
        path=Path("study"), name="study", trace=trace, objects=int(obj.max()) + 1, builds=("study",),
        caches=(CaseCache("bio", SIZE, 0, NO_MERGE, False, 0, True),),  # bios merge with nobody: SLAB_TYPESAFE_BY_RCU
        pools=(CasePool("bios", "slab", 0, load.pool, 0),),
        free_pages=None if load.memory == PLENTY else load.memory, pages_min=0, cpus=2 * load.pairs,
        cpus_of_node=halves if far else (), struct_sizes={"study": STRUCTS},
    )  # fmt: skip


def counters(lane: StudyLane) -> dict[str, int]:
    """What the machine has counted so far, the memory of sheaves included."""
    slub = lane.heap
    row = lane.play.row_of[0]
    totals = {
        "list_locks": slub.knode[:, :, KMEM_CACHE_NODE.list_locks].sum(),
        "barn_locks": slub.knode[:, :, KMEM_CACHE_NODE.barn_locks].sum(),
        "from_pool": lane.pools.pool[0, MEMPOOL.from_pool],
        "refused": lane.pools.pool[0, MEMPOOL.would_sleep],
    }
    for name in ("alloc_slowpath", "free_slowpath", "barn_get", "barn_put", "sheaf_refill", "sheaf_flush"):
        totals[name] = slub.kcpu[row, :, getattr(KMEM_CACHE_CPU, name)].sum()
    return {name: int(number) for name, number in totals.items()}


def measured(kernel: str, load: Load) -> dict[str, object]:
    """A row of the table: counters a thousand operations of the second half, slabs and pages held at the end."""
    nodes = 2 if load.freed == "another node" else 1
    lane = StudyLane(case_of(load), kernel, load, nodes)
    lane.setup()
    lane.limit_memory()
    seen = []
    for begin in (0, OPERATIONS):
        state = lane.mem, lane.heap, lane.pools, lane.case.trace, lane.play
        if rp.replay(*state, begin, begin + OPERATIONS) != begin + OPERATIONS or lane.overflowed():
            raise SystemExit("the arrays of the study are too small")
        seen.append(counters(lane))
    each = {name: round((seen[1][name] - seen[0][name]) * 1000 / OPERATIONS, 2) for name in seen[0]}
    row = lane.play.row_of[0]
    return {
        "kernel": kernel, **asdict(load), **each,
        "slabs": int(lane.heap.knode[row, :, KMEM_CACHE_NODE.nr_slabs].sum()),
        "pages": int(lane.mem.zone[:nodes, ZONE.used].sum()),
    }  # fmt: skip


def table() -> pl.DataFrame:
    """All settings: each axis by itself, and the pool's where memory is short; by where an object is freed."""
    loads = {Load(freed=freed): "base" for freed in FREED}
    for axis, values in AXES.items():
        for freed, value in itertools.product(FREED, values):
            loads.setdefault(replace(Load(freed=freed), **{axis: value}), axis)
    for freed, pool, memory in itertools.product(FREED, SHORT["pool"], SHORT["memory"]):
        loads.setdefault(Load(freed=freed, pool=pool, memory=memory), "pool")
    rows = [{"axis": axis, **measured(kernel, load)} for load, axis in loads.items() for kernel in KERNELS]
    return pl.DataFrame(rows).with_columns(memory=pl.when(pl.col("memory") < PLENTY).then("memory"))


TITLES = {
    "in_flight": "objects in flight, a pair",
    "batch": "objects a batch",
    "pairs": "pairs of CPUs",
    "capacity": "objects a sheaf",
}
LOCKS = {"list_locks": "list_lock", "barn_locks": "lock of the barn"}
COLOURS = ["#777777", "#d62728", "#1f77b4"]


def chart(found: pl.DataFrame) -> alt.Chart:
    """Locks along each axis, a row of panels a place where objects are freed."""
    panels = []
    ticks = alt.Axis(values=[0, 1, 10, 100, 1000])
    dashes = alt.Legend(symbolType="stroke", symbolStrokeWidth=2, symbolSize=300)
    for freed, (axis, title) in itertools.product(FREED[1:], TITLES.items()):
        rows = found.filter(pl.col("axis").is_in(["base", axis]), pl.col("freed") == freed)
        long = rows.rename(LOCKS).unpivot(list(LOCKS.values()), index=["kernel", axis], variable_name="lock")
        lines = alt.Chart(long).mark_line(point=alt.OverlayMarkDef(size=22)).encode(
            alt.X(f"{axis}:Q", title=title).scale(type="log", base=2),
            alt.Y("value:Q", title="locks / 1000 operations", axis=ticks).scale(type="symlog", domain=[0, 1000]),
            alt.Color("kernel:N", title=None, sort=list(KERNELS)).scale(domain=list(KERNELS), range=COLOURS),
            alt.StrokeDash("lock:N", title=None, sort=list(LOCKS.values()), legend=dashes),
        )  # fmt: skip
        panels.append(lines.properties(width=170, height=130, title=f"freed on {freed}"))
    return alt.concat(*panels, columns=len(TITLES))


def tables(found: pl.DataFrame) -> str:
    """The tables of the docs: where objects are freed, and a pool where memory is short."""
    lines = [
        "| freed on | kernel | list_lock | barn | allocations past the sheaf | frees past it | slabs |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for freed, kernel in itertools.product(FREED, KERNELS):
        row = found.row(by_predicate=_is(freed, kernel, "base"), named=True)
        lines.append(
            f"| {freed} | {kernel} | {row['list_locks']:.0f} | {row['barn_locks']:.0f} | "
            f"{row['alloc_slowpath'] / 5:.1f} % | {row['free_slowpath'] / 5:.1f} % | {row['slabs']} |"
        )
    lines += [
        "",
        "| elements of the pool | kernel | list_lock | out of the pool | has to sleep |",
        "|---:|---|---:|---:|---:|",
    ]
    for pool, kernel in itertools.product(SHORT["pool"], KERNELS):
        row = found.row(by_predicate=_is("another node", kernel, "pool") & (pl.col("pool") == pool), named=True)
        pooled, refused = row["from_pool"] / 5, row["refused"] / 5
        lines.append(f"| {pool} | {kernel} | {row['list_locks']:.0f} | {pooled:.1f} % | {refused:.1f} % |")
    return "\n".join(lines)


def _is(freed: str, kernel: str, axis: str) -> pl.Expr:
    return (pl.col("freed") == freed) & (pl.col("kernel") == kernel) & (pl.col("axis") == axis)


if __name__ == "__main__":
    found = table()
    found.write_csv(HERE / "mempool-refill.csv")
    chart(found).save(HERE / "mempool-refill.svg")

"""A machine of some hundred pages on which a policy of one's own is asked what kernels ask, operation by operation."""

import ctypes
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmalloc import KMALLOC_SLOTS
from fastalloc.kernels.alloc.mempool import LONGEST_SLEEP, MEMPOOL, Pools
from fastalloc.kernels.alloc.page_alloc import init_zones
from fastalloc.kernels.alloc.policy_hooks import FAILED, answers
from fastalloc.kernels.alloc.policy_record import ASKED, KERNEL, MATCH_FREE_TO, QUESTION, TELLS_ALL
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_7_3.sheaf_calls import add_sheaves
from fastalloc.kernels.alloc.slub.slub import init_cache
from fastalloc.kernels.alloc.state import (
    AREA,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    MIGRATE,
    PAGE,
    PCP,
    SLUB_CTL,
    SLUB_SLAB,
    ZONE,
)
from fastalloc.kernels.replay import operations as rp
from fastalloc.linux import gfp as g
from fastalloc.linux.geometry_slub import CacheSet
from fastalloc.linux.slub_eras import SlubOptions
from fastalloc.own.compiled import OwnPolicy, ask_by_slab, install
from fastalloc.own.plain_python import MAY_RAISE
from fastalloc.scenario.slub_arrays import geometry_row
from fastalloc.verify.own.operations import CACHES, CONTEXTS, CPUS, MASKS, POOLS, SLOTS, Operation

ERAS = {"slub": "2.6.25", "cpu-partial": "cpu-partial", "sheaves": "sheaves", "7.3": "7.3"}
SIZES = (512, 1024, 1024)  # of the caches: few objects a slab, so that there are many slabs
FRAMES = 48
SLABS = 512
CAPACITY = 6  # objects a sheaf: few, so that sheaves are filled and flushed often
OPS = {
    "alloc": rp.OP_ALLOC,
    "free": rp.OP_FREE,
    "pool alloc": rp.OP_MPALLOC,
    "pool free": rp.OP_MPFREE,
    "shrink": rp.OP_SHRINK,
    "flush": rp.OP_FLUSH,
}
WOULD_SLEEP = 3
Answer = Callable[[np.ndarray], int]
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)


class Machine(NamedTuple):
    """Its arrays; ``room``: words of the policy's state from ``len(MEMCTL)`` on."""

    mem: st.Mem
    heap: Any
    pools: Pools
    play: rp.Play


def machine(allocator: str, policy: OwnPolicy, address: Mapping[str, int]) -> Machine:
    """A machine whose kernel asks the answers at ``address``."""
    era = ERAS[allocator]
    mem = _mem()
    mem = mem._replace(ctl=install(policy, mem.ctl, CPUS, CACHES + 1, SLABS))
    if allocator != "slub":
        ask_by_slab(policy, mem.ctl)
    mem.ctl[MEMCTL.ask[:]] = 0
    if "free_to" not in address:
        mem.ctl[MEMCTL.slab_match] &= ~MATCH_FREE_TO
    for name, place in address.items():
        mem.ctl[MEMCTL.ask[QUESTION.names.index(name)]] = place
        if place != policy.address[name]:  # Python's
            mem.ctl[MEMCTL.tells[QUESTION.names.index(name)]] |= TELLS_ALL
    if allocator == "slub":
        mem.ctl[MEMCTL.policed] = 1
    mem.ctl[MEMCTL.policed] |= "fallback" in address
    init_zones(mem)
    kind: Any = st.Slub if allocator == "slub" else er.SlubEras
    heap = kind(
        np.zeros((CACHES + 1, KMEM_CACHE.width), np.int64),
        np.zeros((CACHES + 1, CPUS, KMEM_CACHE_CPU.width), np.int64),
        np.zeros((CACHES + 1, 1, KMEM_CACHE_NODE.width), np.int64),
        np.zeros((SLABS, SLUB_SLAB.width), np.int32),
        np.zeros(SLABS * 64, np.int16),
        np.zeros(SLUB_CTL.width, np.int64) if allocator == "slub" else er.ctl_with_sheaves(64 * CACHES, CAPACITY),
    )
    heap.ctl[[SLUB_CTL.nodes, SLUB_CTL.nr_caches]] = 1, CACHES + 1
    for c, row in enumerate(_rows(era)):
        init_cache(heap, c, row)
        if era == "7.3" and c < CACHES:
            add_sheaves(mem, heap, c, 0, g.GFP_KERNEL, 0)
    play = rp.Play(
        np.full(SLOTS, st.NO_OBJECT, np.int64), np.arange(CACHES, dtype=np.int64),
        np.array([CACHES, *range(CACHES)], np.int64), np.full(KMALLOC_SLOTS, CACHES, np.int64), np.zeros(1, np.int64),
        np.zeros(1, np.uint8), np.zeros(1, np.uint8), np.full(1, -1, np.int32), np.full(1, -1, np.int32),
        np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64),
    )  # fmt: skip
    pools = Pools(np.zeros((POOLS, MEMPOOL.width), np.int64), np.zeros((POOLS, 4), np.int64))
    for p in range(POOLS):
        pools.pool[p, [MEMPOOL.cache, MEMPOOL.min, MEMPOOL.kind, MEMPOOL.bytes]] = p, 2, mp.MP_SLAB, SIZES[p]
    return Machine(mem, heap, pools, play)


def _mem() -> st.Mem:
    zone = np.zeros((1, ZONE.width), np.int64)
    zone[0, [ZONE.present, ZONE.min, ZONE.low, ZONE.high]] = FRAMES, 8, 10, 12
    zone[0, [ZONE.batch, ZONE.pcp_high]] = 1, 4
    ctl = np.zeros(MEMCTL.width, np.int64)
    ctl[[MEMCTL.model, MEMCTL.nr_zones, MEMCTL.nr_nodes, MEMCTL.hz]] = st.MODEL_ZONES, 1, 1, 1000
    ctl[MEMCTL.cpu_node_shift] = 30
    page = np.full((1024, PAGE.width), -1, np.int32)
    page[:, PAGE.flags] = 0
    area = np.zeros((1, MIGRATE.width, g.MAX_ORDER, AREA.width), np.int64)
    return st.Mem(zone, area, np.zeros((1, 1), np.int64), np.zeros((CPUS, 1, PCP.width), np.int64), page, ctl)


def _rows(era: str) -> list[np.ndarray]:
    caches = CacheSet(SlubOptions(cpus_present=CPUS))
    rows = [geometry_row(caches.caches[caches.kmalloc_index(size)], era, CAPACITY) for size in (*SIZES, 2048)]
    for row in rows:
        row[KMEM_CACHE.fallback] = 0
        row[[KMEM_CACHE.max_full, KMEM_CACHE.max_empty]] = 1, 1
    rows[-1][KMEM_CACHE.era] = min(int(rows[-1][KMEM_CACHE.era]), er.ERA_CPU_PARTIAL)
    return rows


class Outcome(NamedTuple):
    """What came of a sequence: what the policy failed at (``mem.ctl`` then), broken conservation, what each operation
    gave, the words of state at the end, how many operations were done, and what was answered where that is known."""

    failed: np.ndarray | None
    broken: str
    rows: list[tuple[int, ...]]
    state: list[int]
    done: int
    answers: list[tuple[str, int]]


class Asked:
    """Answers of a policy that is interpreted, as the machine code that kernels call; ``error``: the first raised."""

    def __init__(self, functions: Mapping[str, Answer]) -> None:
        self.error: BaseException | None = None
        self.ctl: np.ndarray | None = None
        self.answers: list[tuple[str, int]] = []
        self.counts: Counter[str] = Counter()
        self._alive = {name: self._callback(name, function) for name, function in functions.items()}
        if DISABLE_JIT:
            self.address = {name: 1 + len(answers) + i for i, name in enumerate(self._alive)}
            answers.update({self.address[name]: self._guarded(name, functions[name]) for name in self._alive})
        else:
            self.address = {name: ctypes.cast(each, ctypes.c_void_p).value or 0 for name, each in self._alive.items()}

    def _guarded(self, name: str, function: Answer) -> Answer:
        def guarded(ctl: np.ndarray) -> int:
            self.counts[name] += 1
            try:
                given = function(ctl)
            except MAY_RAISE as error:
                self.error = self.error or error
                return FAILED
            self.answers.append((name, given))
            return given

        return guarded

    def _callback(self, name: str, function: Answer) -> Any:
        guarded = self._guarded(name, function)

        def called(pointer: int) -> int:
            assert self.ctl is not None
            return guarded(self.ctl)

        return _FUNCTION(called)


def trace_of(operations: Sequence[Operation]) -> rp.Trace:
    """Operations as kernels read them."""
    return rp.Trace(
        np.array([OPS[op.kind] for op in operations], np.uint8),
        np.array([op.cpu for op in operations], np.uint8),
        np.array([op.cache for op in operations], np.int16),
        np.array([op.slot for op in operations], np.int32),
        np.array([MASKS[op.mask] for op in operations], np.uint32),
        np.array([CONTEXTS[op.context] for op in operations], np.uint8),
        np.full(len(operations), -1, np.int32),
    )


def whole(operations: Sequence[Operation], trace: rp.Trace, allocator: str, policy: OwnPolicy) -> np.ndarray:
    """``mem.ctl`` after a sequence that runs in one call, by whoever asked last."""
    m = machine(allocator, policy, policy.address)
    n = len(operations)
    play = m.play._replace(
        res=np.zeros(n, np.uint8), path=np.zeros(n, np.uint8),
        slab=np.full(n, -1, np.int32), idx=np.full(n, -1, np.int32),
    )  # fmt: skip
    rp.replay(m.mem, m.heap, m.pools, trace, play, 0, n)
    return m.mem.ctl


def run(
    operations: Sequence[Operation],
    allocator: str,
    policy: OwnPolicy,
    address: Mapping[str, int],
    asked: Asked | None = None,
) -> Outcome:
    """Run a sequence on a machine of its own."""
    m = machine(allocator, policy, address)
    ctl = m.mem.ctl
    if asked is not None:
        asked.error, asked.ctl, asked.answers = None, ctl, []
    n = len(operations)
    trace = trace_of(operations)
    play = m.play._replace(
        res=np.zeros(n, np.uint8), path=np.zeros(n, np.uint8),
        slab=np.full(n, -1, np.int32), idx=np.full(n, -1, np.int32),
    )  # fmt: skip
    broken = ""
    rows: list[tuple[int, ...]] = []
    for row, op in enumerate(operations):
        if op.kind.endswith("alloc") and play.handle[op.slot] >= 0:
            continue  # its free was left out
        ctl[MEMCTL.who] = op.who
        ctl[MEMCTL.jiffies] += op.ms
        rp.replay(m.mem, m.heap, m.pools, trace, play, row, row + 1)
        if op.kind == "pool alloc" and play.res[row] == WOULD_SLEEP and "sleep" in address:
            _sleep(ctl, op, m.pools, address["sleep"])
        if op.kind.endswith("free"):
            play.handle[op.slot] = st.NO_OBJECT
        rows.append((row, int(play.res[row]), int(play.path[row]), int(play.slab[row]), int(play.idx[row])))
        if ctl[MEMCTL.policy_failed] != 0:
            return Outcome(ctl.copy(), "", rows, [], row + 1, asked.answers if asked else [])
        live = play.handle[play.handle >= 0]
        if len(np.unique(live)) < len(live):
            broken = f"operation {row + 1}: an object was handed out twice"
            break
    if not broken:
        broken = _pages_kept(m)
    return Outcome(None, broken, rows, ctl[MEMCTL.width :].tolist(), n, asked.answers if asked else [])


def _pages_kept(m: Machine) -> str:
    """Whether slabs and free pages are all the memory that there is."""
    free = int(m.mem.zone[0, ZONE.free]) + int(m.mem.pcp[:, 0, 0].sum())
    held = int(m.heap.ctl[SLUB_CTL.pages])
    if free + held != FRAMES:
        return f"{FRAMES - free - held} pages are neither free nor in slabs"
    return ""


def _sleep(ctl: np.ndarray, op: Operation, pools: Pools, address: int) -> None:
    told = ctl[MEMCTL.asked[:]]
    told[[ASKED.who, ASKED.gfp, ASKED.cpu, ASKED.pool_id]] = op.who, MASKS[op.mask], op.cpu, op.cache
    told[[ASKED.pool_free, ASKED.pool_min]] = pools.pool[op.cache, [MEMPOOL.curr, MEMPOOL.min]]
    given = answers[address](ctl) if DISABLE_JIT else _FUNCTION(address)(ctl.ctypes.data)
    if given != KERNEL and not 0 <= given <= LONGEST_SLEEP:
        ctl[MEMCTL.policy_failed] = 1 + QUESTION.sleep
        ctl[[MEMCTL.policy_given, MEMCTL.policy_most]] = given, LONGEST_SLEEP
        ctl[MEMCTL.policy_asked[:]] = told

"""A lane of SLUB, of any era: one trace through one configuration of caches, driven event by event."""

import re
import time as clock

import numpy as np
import polars as pl

from fastalloc.compiler.aligned import zeros
from fastalloc.errors import InputError
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.policy_record import MATCH_PFMEMALLOC
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.kernels.replay import kmem_events as kr
from fastalloc.kernels.replay.kmem_events import CACHE_SERIES, MET
from fastalloc.kernels.replay.sheaf_events import MAIN, set_up_sheaves
from fastalloc.kernels.replay.start_slabs import LAID, set_up
from fastalloc.linux.slab_flags import get_order
from fastalloc.own.compiled import OwnPolicy, PolicyError, ask_by_slab, install, own_policy
from fastalloc.own.failure import failure
from fastalloc.trace.compact import compact as co
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes.caches import TracedCache
from fastalloc.trace.lanes.fits import refuse_unfit
from fastalloc.trace.lanes.sheaf_start import table_of
from fastalloc.trace.lanes.start import PERCPU_SHEAVES, Laid, Start
from fastalloc.trace.lanes.unused import of_slub, rounding_bytes

SHEAF_CAPACITY = 32
MOST_ROOM = 1 << 10
LAYOUT = ("size", "objects", "order")


_KMALLOC = re.compile(r"kmalloc-\d+k?")


def _rows(caches: list[TracedCache], own_memory: bool) -> np.ndarray:
    columns = np.array(
        [
            (
                cache.size, cache.object_size, cache.order, cache.objects, cache.min_partial,
                er.ERA_NAMES.index(cache.era), cache.cpu_partial,
                cache.order if cache.era == "2.6.25" else min(get_order(cache.object_size), cache.order),
            )
            for cache in caches
        ],
        np.int64,
    )  # fmt: skip
    rows = np.zeros((len(caches), KMEM_CACHE.width), np.int64)
    fields = [KMEM_CACHE.size, KMEM_CACHE.objsize, KMEM_CACHE.order, KMEM_CACHE.objects, KMEM_CACHE.min_partial]
    rows[:, [*fields, KMEM_CACHE.era, KMEM_CACHE.cpu_partial, KMEM_CACHE.min_order]] = columns
    for row, cache in zip(rows, caches, strict=True):
        row[KMEM_CACHE.sheaf_capacity] = cache.sheaf_capacity or SHEAF_CAPACITY
        row[[KMEM_CACHE.max_full, KMEM_CACHE.max_empty]] = cache.max_full, cache.max_empty
        row[KMEM_CACHE.is_kmalloc] = cache.name.startswith("kmalloc")
    rows[:, KMEM_CACHE.sheaf_cache] = -1  # where sheaves lie the trace says, as of any object
    if own_memory:
        kmalloc = {cache.size: c for c, cache in reversed(list(enumerate(caches))) if _KMALLOC.fullmatch(cache.name)}
        for row, cache in zip(rows, caches, strict=True):
            needed = er.SHEAF_HEADER + 8 * cache.sheaf_capacity
            size = min((size for size in kmalloc if size >= needed), default=0)
            row[KMEM_CACHE.sheaf_cache] = kmalloc.get(size, -1)
    rows[:, KMEM_CACHE.first_try] = er.TRY_NO_RECLAIM
    return rows


def _install(mem: st.Mem, slub: er.SlubEras, lane: kr.Lane, config: ln.Config, start: Start) -> None:
    """Register the caches, put their slabs where they were, and let ``lane`` know where each old object lies."""
    laid = [start.laid(cache, config) for cache in config.caches]
    count = np.array([len(part.slabs) for part in laid])
    slabs = np.concatenate([part.slabs for part in laid])
    slabs[:, LAID.cache] = np.repeat(np.arange(len(laid)), count)
    refuse_unfit(config, laid, slabs, slub.kcpu.shape[1], slub.knode.shape[1])
    set_up(mem, slub, _rows(config.caches, config.own_sheaf_memory), slabs)
    before = np.repeat(np.cumsum(count) - count, [len(part.old) for part in laid])
    slab = np.concatenate([part.slab for part in laid]) + before
    index = np.concatenate([part.index for part in laid])
    lane.handle[np.concatenate([part.old for part in laid])] = (slabs[slab, LAID.record] << st.HANDLE_SHIFT) | index
    lane.base[:] = [part.base for part in laid]
    lane.live[:] = [part.live for part in laid]
    _put_sheaves(slub, config.caches, laid, slabs[:, LAID.record], np.cumsum(count) - count)


def _put_sheaves(
    slub: er.SlubEras, caches: list[TracedCache], laid: list[Laid], record: np.ndarray, first: np.ndarray
) -> None:
    """The sheaves that there were, and an empty one for each CPU that had none."""
    sheaves = [
        (c, sheaf, (record[first[c] + slab] << st.HANDLE_SHIFT) | index)
        for c, part in enumerate(laid)
        for sheaf, slab, index in part.sheaves
    ]
    has = {(c, sheaf.cpu) for c, sheaf, _ in sheaves if sheaf.where == MAIN}
    mains = [
        (c, cpu)
        for c, cache in enumerate(caches)
        if cache.era == PERCPU_SHEAVES and cache.sheaf_capacity
        for cpu in range(slub.kcpu.shape[1])
        if (c, cpu) not in has
    ]
    set_up_sheaves(slub, *table_of(sheaves, mains))


def most_sheaves(caches: list[TracedCache], cpus: int, nodes: int, room: int) -> tuple[int, int]:
    """How many sheaves there is room for, and of how many objects: of each cache those of the CPUs, and ``room`` times
    what barns hold at a time."""
    sheaves = sum(
        3 * cpus + room * (cache.max_full + max(cache.max_empty, 14) + 16) * nodes
        for cache in caches
        if cache.era in ("sheaves", PERCPU_SHEAVES)
    )
    return sheaves, max((cache.sheaf_capacity or SHEAF_CAPACITY for cache in caches), default=0)


def _ctl(caches: list[TracedCache], cpus: int, nodes: int, room: int) -> np.ndarray:
    """Scalars, and room for sheaves."""
    sheaves, capacity = most_sheaves(caches, cpus, nodes, room)
    return er.ctl_with_sheaves(sheaves, capacity) if sheaves else np.zeros(SLUB_CTL.width, np.int64)


class SlubRun:
    """A lane on its way through a trace. ``seconds``: inside the kernel. ``prepared``: what ``lane.prepare`` gives."""

    def __init__(
        self,
        trace: co.CompactTrace,
        config: ln.Config,
        start: Start,
        samples: ln.Samples,
        room: int = 1,
        prepared: tuple[kr.Events, kr.Lane] | None = None,
    ) -> None:
        self.config, self.caches = config, config.caches
        caches = config.caches
        cpus, nodes = start.cpus(trace), start.nodes
        self.mem = ln.unlimited_mem(nodes, cpus)
        passed_over = "entitled" in trace.meta and all(cache.era != "2.6.25" for cache in caches)
        self.mem.ctl[MEMCTL.slab_match] = MATCH_PFMEMALLOC if passed_over else 0
        self.mem.ctl[MEMCTL.hz] = 1_000_000_000 // int(trace.meta["time_unit_ns"])
        most = max(cache.objects for cache in caches)
        slabs = kr.SLAB_MARGIN + ln.FIRST_SLABS * room
        laid = sum(len(start.laid(cache, config).slabs) * cache.objects for cache in caches)
        self.policy = own_policy(*config.policy) if config.policy else OwnPolicy()
        if self.policy.text:
            ctl = install(self.policy, self.mem.ctl, cpus, len(caches), slabs + start.room)
            ask_by_slab(self.policy, ctl)
            self.mem = self.mem._replace(ctl=ctl)
        self.slub = er.SlubEras(
            cache=zeros((len(caches), KMEM_CACHE.width), np.int64),
            kcpu=zeros((len(caches), cpus, KMEM_CACHE_CPU.width), np.int64),
            knode=zeros((len(caches), nodes, KMEM_CACHE_NODE.width), np.int64),
            slab=zeros((slabs + start.room, SLUB_SLAB.width), np.int32),
            link=zeros(kr.SLAB_MARGIN * most + 64 * slabs + max(64 * start.room, laid), np.int16),
            ctl=_ctl(caches, cpus, nodes, room),
        )
        self.slub.ctl[SLUB_CTL.nodes] = nodes
        self.events, self.lane = prepared or ln.prepare(trace, config, nodes, samples)
        _install(self.mem, self.slub, self.lane, config, start)
        self.begin = self.lane.base + self.slub.knode[:, :, KMEM_CACHE_NODE.nr_slabs].sum(axis=1)
        self.row, self.seconds = 0, 0.0
        kr.follow(self.mem, self.slub, self.events, self.lane, 0, 0)  # compiles, where it must, outside the time taken
        self.lane.met[MET.sample] = 0

    def to(self, stop: int) -> None:
        """Run the events up to row ``stop``."""
        while self.row < stop:
            before = clock.perf_counter()
            self.row = kr.follow(self.mem, self.slub, self.events, self.lane, self.row, stop)
            self.seconds += clock.perf_counter() - before
            if self.row < stop:
                more = len(self.slub.slab) * len(self.policy.state["slab"])  # its words are the last of mem.ctl
                self.mem = self.mem._replace(ctl=np.concatenate([self.mem.ctl, np.zeros(more, np.int64)]))
                self.slub = self.slub._replace(slab=ln.grown(self.slub.slab), link=ln.grown(self.slub.link))
        if self.mem.ctl[MEMCTL.policy_failed]:
            assert self.config.policy is not None
            raise PolicyError(f"replay {self.config.name}: {failure(*self.config.policy, self.mem.ctl)}")


def run(trace: co.CompactTrace, config: ln.Config, start: Start, samples: ln.Samples) -> ln.LaneResult:
    """Run ``trace`` through ``config`` from ``start`` on."""
    room = 1
    while True:
        whole = SlubRun(trace, config, start, samples, room)
        whole.to(len(trace.events))
        if not whole.slub.ctl[SLUB_CTL.overflow]:
            break
        room *= 4
        if room > MOST_ROOM:
            raise InputError(trace.path, config.name, "needs more slabs or sheaves at once than there is room for")
    table = _table(whole.caches, whole.slub, whole.lane, whole.begin)
    size, num, order = (np.array([getattr(cache, name) for cache in whole.caches]) for name in LAYOUT)
    unused = of_slub(whole.slub, size, num, order, whole.lane.base, whole.lane.live)
    table = table.with_columns(**unused, rounding_bytes=rounding_bytes(trace, config))
    counts = ln.counts_of(whole.lane.met)
    return ln.LaneResult(config, table, whole.lane.series, samples.ns, counts, whole.row, whole.seconds)


def _table(caches: list[TracedCache], slub: er.SlubEras, lane: kr.Lane, begin: np.ndarray) -> pl.DataFrame:
    orders = np.array([cache.order for cache in caches])
    counters = slub.kcpu[:, :, KMEM_CACHE_CPU.stats[:]].sum(axis=1)
    later = slub.kcpu[:, :, KMEM_CACHE_CPU.era_stats[:]].sum(axis=1)
    own = {name: counters[:, i] for i, name in enumerate(st.SLUB_STATS)}
    own |= {name: later[:, i] for i, name in enumerate(er.ERA_STATS)}
    moves = own["alloc_from_partial"] + own["free_remove_partial"] + own["free_add_partial"]
    moves += own["deactivate_to_head"] + own["deactivate_to_tail"]
    # Most pages held at once; a slab of a smaller order makes them no whole number of slabs.
    peak = lane.base - (-slub.cache[:, KMEM_CACHE.max_pages] >> orders)
    counted = np.array([cache.era != "2.6.25" for cache in caches])  # of the later eras each lock is
    list_locks, barn_locks = (
        slub.knode[:, :, field].sum(axis=1) for field in (KMEM_CACHE_NODE.list_locks, KMEM_CACHE_NODE.barn_locks)
    )
    return pl.DataFrame(
        {
            "cache": [cache.name for cache in caches],
            "size": [cache.size for cache in caches],
            "order": orders,
            "start_slabs": begin,
            "new": own["alloc_slab"],
            "freed": own["free_slab"],
            "peak": np.maximum(peak, lane.series[:, :, CACHE_SERIES.slabs].max(axis=0, initial=0)),
            "end": lane.base + slub.knode[:, :, KMEM_CACHE_NODE.nr_slabs].sum(axis=1),
            "objects": lane.live,
            "alloc_fast": own["alloc_fastpath"] + own["alloc_pcs"],
            "alloc_slow": own["alloc_slowpath"],
            "free_fast": own["free_fastpath"] + own["free_pcs"],
            "free_slow": own["free_slowpath"],
            "node_list": moves + own["cpu_partial_node"],
            "list_lock": np.where(counted, list_locks, moves) + barn_locks,
            "barn_lock": barn_locks,
            **own,
        }
    )

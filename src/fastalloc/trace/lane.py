"""One trace through one configuration of caches: a lane of SLUB, driven event by event."""

import time as clock
from dataclasses import dataclass

import numpy as np
import polars as pl

from fastalloc.kernels import eras as er
from fastalloc.kernels import gfp as g
from fastalloc.kernels import kmem_replay as kr
from fastalloc.kernels import slub as su
from fastalloc.kernels import state as st
from fastalloc.trace import compact as co
from fastalloc.trace.caches import TracedCache
from fastalloc.trace.start import Start

GFP_DIRECT_RECLAIM = 0x400  # of the traced kernels
SHEAF_CAPACITY = 32
SAMPLES = 240
FIRST_SLABS = 4096  # room to begin with, beside the slabs there were


@dataclass(frozen=True)
class Config:
    """A configuration: its caches, and which of them each cache of the trace goes to.

    ``exact``: names of caches that are laid out as in the traced kernel, so that its start state fits them.
    ``split``: cache for single kinds, where one cache of the trace stands for several.
    """

    name: str
    caches: list[TracedCache]
    goes_to: dict[str, str]
    exact: frozenset[str]
    split: dict[int, str]


@dataclass(frozen=True)
class LaneResult:
    """What a lane did.

    ``caches``: a row a cache (see :func:`replay_lane`). ``series``: int32[samples, caches, kernels.SERIES] and
    ``sample_ns`` its times. ``seconds``: inside the kernel.
    """

    config: Config
    caches: pl.DataFrame
    series: np.ndarray
    sample_ns: np.ndarray
    counts: dict[str, int]
    events: int
    seconds: float


def old_objects(trace: co.CompactTrace) -> dict[str, np.ndarray]:
    """Rows of ``trace.ptrs`` whose first event is a free, by the cache of that event, in the order of addresses."""
    events = trace.events
    rows = np.flatnonzero(events["op"] <= co.OP_BULK_FREE)
    objects = events["object"][rows]
    first = np.full(len(trace.ptrs), len(events), np.int64)
    np.minimum.at(first, objects, rows)
    seen = first < len(events)
    op = np.where(seen, events["op"][np.minimum(first, len(events) - 1)], co.OP_ALLOC)
    old = np.flatnonzero((op == co.OP_FREE) | (op == co.OP_BULK_FREE))
    frame = pl.DataFrame({"object": old, "cache": trace.kinds["cache"].gather(events["kind"][first[old]])})
    return {str(name[0]): part["object"].to_numpy() for name, part in frame.group_by("cache", maintain_order=True)}


def unlimited_mem(nodes: int, cpus: int) -> st.Mem:
    """A page allocator that always gives; CPUs are spread over ``nodes`` in order."""
    mem = st.Mem(
        zone=np.zeros((nodes, st.ZONE_FIELDS), np.int64),
        area=np.zeros((nodes, g.MAX_ORDER, 2), np.int64),
        pcp=np.zeros((cpus, nodes, 3), np.int64),
        page=np.zeros((1, st.PAGE_FIELDS), np.int32),
        ctl=np.zeros(st.MEMCTL_FIELDS, np.int64),
    )
    shift = 32
    if nodes > 1:
        shift = max(0, (max(cpus, nodes) // nodes - 1).bit_length())
    mem.ctl[[st.M_MODEL, st.M_NR_NODES, st.M_CPU_NODE_SHIFT]] = st.MODEL_UNLIMITED, nodes, shift
    return mem


def _grown(array: np.ndarray) -> np.ndarray:
    larger = np.zeros((2 * array.shape[0], *array.shape[1:]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


def _row(cache: TracedCache) -> np.ndarray:
    row = np.zeros(st.CACHE_FIELDS, np.int64)
    row[[st.C_SIZE, st.C_OBJSIZE, st.C_ORDER, st.C_OBJECTS]] = cache.size, cache.object_size, cache.order, cache.objects
    row[st.C_MIN_PARTIAL] = cache.min_partial
    row[er.C_ERA] = er.ERA_NAMES.index(cache.era)
    row[er.C_CPU_PARTIAL] = cache.cpu_partial
    row[er.C_MIN_ORDER] = cache.order
    row[[er.C_SHEAF_CAPACITY, er.C_SHEAF_CACHE]] = SHEAF_CAPACITY, -1
    return row


def event_words(events: np.ndarray) -> np.ndarray:
    """EVENT[n] as uint64[2 * n], as the kernel reads them."""
    return np.ascontiguousarray(events).view("<u8")


def empty_lane(
    objects: int, cache: np.ndarray, node: np.ndarray, gfp: np.ndarray, caches: int, sample_at: np.ndarray
) -> kr.Lane:
    """A lane that holds no object yet; ``cache`` (-1 none), ``node`` (-1 any) and ``gfp`` of each kind of event."""
    cache, node, gfp = (column.astype(np.int64) for column in (cache, node, gfp))
    kind = np.where(cache < 0, np.int64(kr.LEFT_OUT), cache) | np.maximum(node + 1, 0) << 16 | gfp << 32
    return kr.Lane(
        handle=np.full(max(objects, 1), st.NO_OBJECT, np.int64),
        kind=kind.astype(np.uint64),
        live=np.zeros(caches, np.int64),
        base=np.zeros(caches, np.int64),
        met=np.zeros(kr.COUNTS, np.int64),
        sample_at=sample_at,
        series=np.zeros((len(sample_at), caches, len(kr.SERIES)), np.int32),
    )


def replay_lane(
    trace: co.CompactTrace, config: Config, start: Start, sample_ns: np.ndarray | None = None
) -> LaneResult:
    """Run ``trace`` through ``config`` from ``start`` on.

    ``sample_ns``: int64, ascending times of the series in nanoseconds of the trace clock; SAMPLES even ones if None.

    ``caches`` of the result: cache, order, size, start_slabs, new, freed, peak, end (slabs), objects (out at the
    end), and the counters of the allocator over the run, by name.
    """
    caches = config.caches
    index = {cache.name: c for c, cache in enumerate(caches)}
    cpus = max(int(trace.meta["cpus"]), 1)
    if start.state:
        rows = [row["cpu"] for part in start.state.values() for row in part if row["cpu"] is not None]
        cpus = max([cpus, *(cpu + 1 for cpu in rows)])
    nodes = start.nodes
    mem = unlimited_mem(nodes, cpus)
    most = max(cache.objects for cache in caches)
    slabs = kr.SLAB_MARGIN + FIRST_SLABS
    slub = er.SlubEras(
        cache=np.zeros((len(caches), st.CACHE_FIELDS), np.int64),
        kcpu=np.zeros((len(caches), cpus, st.KCPU_FIELDS), np.int64),
        knode=np.zeros((len(caches), nodes, st.KNODE_FIELDS), np.int64),
        slab=np.zeros((slabs + _start_slabs(start), st.SLAB_FIELDS), np.int32),
        link=np.zeros(kr.SLAB_MARGIN * most + 64 * slabs + 64 * _start_slabs(start), np.int16),
        ctl=er.ctl_with_sheaves(len(caches) * (2 * cpus + 24 * nodes), SHEAF_CAPACITY)
        if any(cache.era == "sheaves" for cache in caches)
        else np.zeros(st.SLUBCTL_FIELDS, np.int64),
    )
    slub.ctl[st.U_NODES] = nodes
    for c, cache in enumerate(caches):
        su.init_cache(slub, c, _row(cache))
    names = trace.kinds["cache"].to_list()
    gfp = trace.kinds["gfp_flags"].to_numpy().astype(np.int64)
    kind_cache = [index.get(config.split.get(k) or config.goes_to.get(name, name), -1) for k, name in enumerate(names)]
    span = trace.events["time"]
    unit, first = trace.meta["time_unit_ns"], trace.meta["first_ns"]
    if sample_ns is None:
        last = int(span[-1]) if len(span) else 0
        sample_ns = np.linspace(0, last, SAMPLES + 1)[1:].astype(np.int64) * unit + first
    sample_at = np.searchsorted(span, (sample_ns - first) // unit, side="right").astype(np.int64)
    node = trace.kinds["node"].to_numpy()
    lane = empty_lane(
        len(trace.ptrs),
        np.array(kind_cache),
        np.where(node < nodes, node, -1),
        np.where(gfp & GFP_DIRECT_RECLAIM, g.GFP_KERNEL, g.GFP_NOWAIT),
        len(caches),
        sample_at,
    )
    for c, cache in enumerate(caches):
        start.install(mem, slub, lane, c, cache, cache.name in config.exact)
    begin = lane.base + slub.knode[:, :, st.N_NR_SLABS].sum(axis=1)
    events = kr.Events(event_words(trace.events))
    row, stop, seconds = 0, len(trace.events), 0.0
    kr.follow(mem, slub, events, lane, 0, 0)  # compiles, where it must, outside the time taken
    lane.met[kr.N_SAMPLE] = 0
    while True:
        before = clock.perf_counter()
        row = kr.follow(mem, slub, events, lane, row, stop)
        seconds += clock.perf_counter() - before
        if row >= stop:
            break
        slub = slub._replace(slab=_grown(slub.slab), link=_grown(slub.link))
    orders = np.array([cache.order for cache in caches])
    counters = slub.kcpu[:, :, st.K_STAT : st.K_STAT + len(st.SLUB_STATS)].sum(axis=1)
    later = slub.kcpu[:, :, er.K_ERA_STAT : er.K_ERA_STAT + len(er.ERA_STATS)].sum(axis=1)
    table = pl.DataFrame(
        {
            "cache": [cache.name for cache in caches],
            "size": [cache.size for cache in caches],
            "order": orders,
            "start_slabs": begin,
            "new": counters[:, st.SLUB_STATS.index("alloc_slab")],
            "freed": counters[:, st.SLUB_STATS.index("free_slab")],
            "peak": lane.base + (slub.cache[:, st.C_MAX_PAGES] >> orders),
            "end": lane.base + slub.knode[:, :, st.N_NR_SLABS].sum(axis=1),
            "objects": lane.live,
            **{name: counters[:, i] for i, name in enumerate(st.SLUB_STATS)},
            **{name: later[:, i] for i, name in enumerate(er.ERA_STATS)},
        }
    )
    count = lane.met
    counts = {
        "allocations": int(count[kr.N_ALLOCS]),
        "frees": int(count[kr.N_FREES]),
        "frees of objects not out": int(count[kr.N_UNKNOWN_FREES]),
        "frees implied by a second allocation": int(count[kr.N_IMPLIED_FREES]),
        "allocations refused": int(count[kr.N_FAILED]),
    }
    return LaneResult(config, table, lane.series, sample_ns, counts, stop, seconds)


def _start_slabs(start: Start) -> int:
    old = sum(len(objects) for objects in start.old.values())
    return 2 * (old + sum(len(rows) for rows in start.state.values()))

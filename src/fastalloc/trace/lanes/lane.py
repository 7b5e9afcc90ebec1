"""What a lane of a replay needs and gives, whichever allocator it runs."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from fastalloc.compiler.aligned import zeros
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import AREA, MEMCTL, MIGRATE, PAGE, PCP, ZONE
from fastalloc.kernels.replay import kmem_events as kr
from fastalloc.kernels.replay.kmem_events import CACHE_SERIES, MET
from fastalloc.linux import gfp as g
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import tallies
from fastalloc.trace.compact.sheaf_calls import AMOUNTS
from fastalloc.trace.lanes.caches import TracedCache

# Bits of masks of the traced kernels.
GFP_DIRECT_RECLAIM = 0x400
GFP_NOMEMALLOC = 0x80000
SAMPLES = 240
FIRST_SLABS = 4096  # room to begin with, beside the slabs there were

# Columns of a lane's caches that all allocators have: operations by the path they took; slabs moved on and off the
# lists of a node (SLAB: batches moved between arrays and lists) and how often their lock was taken.
TRAFFIC = ("alloc_fast", "alloc_slow", "free_fast", "free_slow", "node_list", "list_lock")


# Who allocates sheaves, as the traces of 7.2 and 7.3 name it.
SHEAF_SITES = (
    "__pcs_replace_empty_main",
    "__pcs_replace_full_main",
    "__kfree_rcu_sheaf",
    "kmem_cache_prefill_sheaf",
    "kmem_cache_prefill_sheaf_noprof",
)


@dataclass(frozen=True)
class Config:
    """A configuration: its caches, and which of them each cache of the trace goes to.

    ``exact``: names of caches that are laid out as in the traced kernel, so that its start state fits them.
    ``split``: cache for single kinds, where one cache of the trace stands for several. ``allocator``: slub or slab.
    ``own_sheaf_memory``: sheaves take their memory from the configuration's own kmalloc caches, and the calls for it
    that the traced kernel made are left out; ``no_sheaf_memory``: these alone. ``policy``: one of one's own: its text,
    the name of its file, its parameters.
    """

    name: str
    caches: list[TracedCache]
    goes_to: dict[str, str]
    exact: frozenset[str]
    split: dict[int, str]
    allocator: str = "slub"
    own_sheaf_memory: bool = False
    no_sheaf_memory: bool = False
    policy: tuple[str, str, dict[str, int]] | None = None

    def sources(self, name: str) -> list[str]:
        """The traced caches whose objects cache ``name`` holds."""
        return [name, *(other for other, into in self.goes_to.items() if into == name)]


@dataclass(frozen=True)
class LaneResult:
    """What a lane did.

    ``caches``: a row a cache: cache, order, size, start_slabs, new, freed, peak, end (slabs), objects (out at the
    end), TRAFFIC, and the allocator's own counters by name. ``series``: int32[samples, caches, kernels.SERIES] and
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
    first = np.full(len(trace.ptrs), -1, np.int32)
    tallies.first_events(events["op"], events["object"], first)
    op = np.where(first >= 0, events["op"][np.maximum(first, 0)], co.OP_ALLOC) if len(events) else first
    old = np.flatnonzero((op == co.OP_FREE) | (op == co.OP_BULK_FREE))
    frame = pl.DataFrame({"object": old, "cache": trace.kinds["cache"].gather(events["kind"][first[old]])})
    return {str(name[0]): part["object"].to_numpy() for name, part in frame.group_by("cache", maintain_order=True)}


def unlimited_mem(nodes: int, cpus: int) -> st.Mem:
    """A page allocator that always gives; CPUs are spread over ``nodes`` in order."""
    mem = st.Mem(
        zone=np.zeros((nodes, ZONE.width), np.int64),
        area=np.zeros((nodes, MIGRATE.width, g.MAX_ORDER, AREA.width), np.int64),
        block=np.zeros((nodes, 1), np.int64),
        pcp=np.zeros((cpus, nodes, PCP.width), np.int64),
        page=np.zeros((1, PAGE.width), np.int32),
        ctl=np.zeros(MEMCTL.width, np.int64),
    )
    shift = 32
    if nodes > 1:
        # The smallest that puts the last CPU on a node that there is.
        shift = next(shift for shift in range(32) if (cpus - 1) >> shift < nodes)
    mem.ctl[[MEMCTL.model, MEMCTL.nr_nodes, MEMCTL.cpu_node_shift]] = st.MODEL_UNLIMITED, nodes, shift
    return mem


def grown(array: np.ndarray) -> np.ndarray:
    larger = zeros((2 * array.shape[0], *array.shape[1:]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


def empty_lane(
    objects: int, cache: np.ndarray, node: np.ndarray, gfp: np.ndarray, caches: int, sample_at: np.ndarray
) -> kr.Lane:
    """A lane that holds no object yet; ``cache`` (-1 none), ``node`` (-1 any) and ``gfp`` of each kind of event."""
    kind = np.zeros(len(cache), kr.KIND)
    kind["cache"], kind["node"], kind["gfp"] = cache, node, gfp
    handle = zeros(max(objects, 1), np.int64)
    handle[:] = st.NO_OBJECT
    return kr.Lane(
        handle=handle,
        kind=kind,
        live=np.zeros(caches, np.int64),
        base=np.zeros(caches, np.int64),
        met=np.zeros(MET.width, np.int64),
        sample_at=sample_at,
        series=np.zeros((len(sample_at), caches, CACHE_SERIES.width), np.int32),
    )


def cache_of_kind(trace: co.CompactTrace, config: Config) -> np.ndarray:
    """int32[kinds]: row of ``config.caches`` that each kind goes to, -1 none."""
    index = {cache.name: c for c, cache in enumerate(config.caches)}
    names, which = trace.cache_names
    rows: np.ndarray = np.array([index.get(config.goes_to.get(name, name), -1) for name in names], np.int32)[which]
    for kind, name in config.split.items():
        rows[kind] = index[name]
    if config.own_sheaf_memory or config.no_sheaf_memory:
        sites = trace.kinds["call_site"].str.split("+").list.first().is_in(SHEAF_SITES)
        rows[sites.to_numpy()] = -1
    return rows


@dataclass(frozen=True)
class Samples:
    """When slabs are counted: ``ns`` of the trace clock, before event ``row``; int64, ascending."""

    ns: np.ndarray
    row: np.ndarray


NO_SAMPLES = Samples(np.zeros(0, np.int64), np.zeros(0, np.int64))


def samples_of(trace: co.CompactTrace, ns: np.ndarray | None = None) -> Samples:
    """Samples at ``ns``; SAMPLES even ones if None."""
    span = trace.events["time"]
    unit, first = trace.meta["time_unit_ns"], trace.meta["first_ns"]
    if ns is None:
        last = int(span[-1]) if len(span) else 0
        ns = np.linspace(0, last, SAMPLES + 1)[1:].astype(np.int64) * unit + first
    return Samples(ns, np.searchsorted(span, (ns - first) // unit, side="right").astype(np.int64))


def prepare(trace: co.CompactTrace, config: Config, nodes: int, samples: Samples) -> tuple[kr.Events, kr.Lane]:
    """Events and lane of ``config``, all arrays at their start."""
    gfp = trace.kinds["gfp_flags"].to_numpy()
    node = trace.kinds["node"].to_numpy()
    mask = np.where(gfp & GFP_DIRECT_RECLAIM, g.GFP_KERNEL, g.GFP_NOWAIT)
    mask[trace.meta.get("entitled", [])] |= g.MEMALLOC
    calls = trace.kinds["src"].is_in(AMOUNTS).to_numpy()  # what they carry is an amount
    mask[calls] = gfp[calls]
    # Where slabs are others, or hold others' objects too, as many are not allocated.
    other = (trace.kinds["src"] == co.OPS[co.OP_REFILL_NEW]) & ~trace.kinds["cache"].is_in(config.exact)
    mask[other.to_numpy()] = 0
    lane = empty_lane(
        len(trace.ptrs),
        cache_of_kind(trace, config),
        np.where(node < nodes, node, -1),
        mask,
        len(config.caches),
        samples.row,
    )
    return kr.events_of(trace.events), lane


def counts_of(met: np.ndarray) -> dict[str, int]:
    """What a lane met, ``kmem_replay.COUNTS``, by name."""
    return {
        "allocations": int(met[MET.allocs]),
        "frees": int(met[MET.frees]),
        "frees of objects not out": int(met[MET.unknown_frees]),
        "frees implied by a second allocation": int(met[MET.implied_frees]),
        "allocations refused": int(met[MET.failed]),
    }

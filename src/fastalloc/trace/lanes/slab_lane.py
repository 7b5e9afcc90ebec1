"""A lane of SLAB as of 2.6.25: the same slots as the traced caches, laid out and kept as mm/slab.c does."""

import time as clock

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.lists import list_add
from fastalloc.kernels.alloc.slab.state import SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB
from fastalloc.kernels.replay import slab_events as sr
from fastalloc.kernels.replay.kmem_events import MET
from fastalloc.kernels.replay.start_slabs import LAID
from fastalloc.linux import geometry_slab as gs
from fastalloc.linux.geometry_slub import CacheRequest
from fastalloc.scenario.slab_arrays import new_slab
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.sheaf_calls import as_plain_calls
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.lanes.unused import of_slab, rounding_bytes

NODES = 2  # that the kernels of SLAB know


def layouts_of(config: ln.Config, cpus: int, nodes: int) -> list[gs.SlabGeometry]:
    """A layout for each cache of ``config``, then for the kmalloc caches of management objects that it lacks."""
    options = gs.SlabOptions(cpus_node=max(1, cpus // nodes), cpus_possible=cpus)
    try:
        layouts = [
            gs.slab_geometry(CacheRequest(cache.name, cache.size, 8, 0, False), options) for cache in config.caches
        ]
    except ValueError as error:
        raise InputError("--what-if", config.name, str(error)) from error
    known = {layout.name for layout in layouts}
    for slot in sorted({layout.mgmt_cache for layout in layouts if layout.off_slab}):
        if f"kmalloc-{slot}" not in known:
            layouts.append(gs.slab_geometry(CacheRequest(f"kmalloc-{slot}", slot, 8, 0, False), options, early=True))
    return layouts


def _put(heap: ss.Slab, c: int, free: int) -> int:
    """A slab of cache ``c``, its first ``free`` objects free, its management in no object; the record."""
    s = int(heap.ctl[SLAB_CTL.slab_top])
    base = int(heap.ctl[SLAB_CTL.link_top])
    num = int(heap.cache[c, SLAB_CACHE.num])
    heap.ctl[SLAB_CTL.slab_top] += 1
    heap.ctl[SLAB_CTL.link_top] += num
    record = heap.slab[s]
    record[[SLAB_SLAB.cache, SLAB_SLAB.inuse, SLAB_SLAB.free]] = c, num - free, 0 if free else -1
    record[[SLAB_SLAB.pfn, SLAB_SLAB.base, SLAB_SLAB.ordinal, SLAB_SLAB.mgmt]] = 0, base, -1, -1
    heap.link[base : base + free] = np.arange(1, free + 1)
    if free:
        heap.link[base + free - 1] = -1
    heap.node[c, 0, SLAB_LIST3.free_objects] += free
    heap.cache[c, SLAB_CACHE.active] += num - free
    list_add(heap, c, s, ss.ON_PARTIAL if free else ss.ON_FULL, True)
    return s


def run(trace: co.CompactTrace, config: ln.Config, start: Start, samples: ln.Samples) -> ln.LaneResult:
    """Run ``trace`` through ``config`` from ``start`` on, its objects packed anew. Raises InputError for a machine of
    more than two nodes."""
    cpus, nodes = start.cpus(trace), start.nodes
    if nodes > NODES:
        raise InputError("--what-if", config.name, f"SLAB is modelled for {NODES} nodes, the trace has {nodes}")
    mem = ln.unlimited_mem(nodes, cpus)
    layouts = layouts_of(config, cpus, nodes)
    room = sr.SLAB_MARGIN + ln.FIRST_SLABS + start.room
    links = sr.SLAB_MARGIN * max(layout.num for layout in layouts) + 64 * room
    heap = new_slab(layouts, cpus, nodes, slabs=room, links=links, next_reap=sr.REAPTIMEOUT_LIST3)
    events, lane = ln.prepare(as_plain_calls(trace), config, nodes, samples)
    more = len(layouts) - len(config.caches)  # kmalloc caches that no event of the trace names
    lane = lane._replace(
        live=np.zeros(len(layouts), np.int64),
        base=np.zeros(len(layouts), np.int64),
        series=np.pad(lane.series, ((0, 0), (0, more), (0, 0))),
    )
    for c, cache in enumerate(config.caches):
        laid = start.packed(config.sources(cache.name), layouts[c].num)
        record = np.array([_put(heap, c, free) for free in laid.slabs[:, LAID.free].tolist()], np.int64)
        lane.handle[laid.old] = (record[laid.slab] << st.HANDLE_SHIFT) | laid.index
        lane.base[c], lane.live[c] = laid.base, laid.live
    begin = lane.base + heap.node[:, :, SLAB_LIST3.nr[:]].sum(axis=(1, 2))
    peak = begin.copy()
    due = 1000 + ss.REAP_SKEW * np.arange(cpus, dtype=np.int64)
    marks = sr.Marks(due, begin, peak)
    unit = int(trace.meta["time_unit_ns"])
    row, stop, seconds = 0, len(trace.events), 0.0
    sr.follow_slab(mem, heap, events, unit, marks, lane, 0, 0)  # compiles, where it must
    lane.met[MET.sample] = 0
    while True:
        before = clock.perf_counter()
        row = sr.follow_slab(mem, heap, events, unit, marks, lane, row, stop)
        seconds += clock.perf_counter() - before
        if row >= stop:
            break
        heap = heap._replace(slab=ln.grown(heap.slab), link=ln.grown(heap.link))
    end = lane.base + heap.node[:, :, SLAB_LIST3.nr[:]].sum(axis=(1, 2))
    own = {name: heap.cache[:, SLAB_CACHE.stats[i]] for i, name in enumerate(ss.SLAB_STATS)}
    batches = own["allocmiss"] + own["freemiss"] + own["node_overflow"]
    sizes = {cache.name: cache.size for cache in config.caches}
    table = pl.DataFrame(
        {
            "cache": [layout.name for layout in layouts],
            "size": [sizes.get(layout.name, layout.buffer_size) for layout in layouts],
            "order": [layout.gfporder for layout in layouts],
            "start_slabs": begin,
            "new": own["grown"],
            "freed": begin + own["grown"] - end,
            "peak": peak,
            "end": end,
            "objects": lane.live,
            "alloc_fast": own["allochit"],
            "alloc_slow": own["allocmiss"] + own["node_allocs"],
            "free_fast": own["freehit"],
            "free_slow": own["freemiss"] + own["node_frees"],
            "node_list": batches,
            "list_lock": batches + own["node_allocs"],
            **own,
        }
    )
    size, order = (table[name].to_numpy() for name in ("size", "order"))
    num = np.array([layout.num for layout in layouts])
    rounding = np.zeros(len(layouts), np.int64)
    rounding[: len(config.caches)] = rounding_bytes(trace, config)
    table = table.with_columns(**of_slab(heap, size, num, order, end, lane.live), rounding_bytes=rounding)
    return ln.LaneResult(config, table, lane.series, samples.ns, ln.counts_of(lane.met), stop, seconds)


__all__ = ["layouts_of", "run"]

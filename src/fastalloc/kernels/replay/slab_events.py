"""The open loop of a recorded kmem trace over SLAB, with the reaper that runs every two seconds on each CPU."""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.jit import kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.free import slab_cache_free
from fastalloc.kernels.alloc.slab.lists import nr_slabs
from fastalloc.kernels.alloc.slab.reap import cache_reap
from fastalloc.kernels.alloc.slab.slab import slab_cache_alloc
from fastalloc.kernels.alloc.slab.state import SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.replay import kmem_events as kr
from fastalloc.kernels.replay.kmem_events import CACHE_SERIES, MET

SLAB_MARGIN = 8  # new slabs of one allocation at most, those of management objects included
REAPTIMEOUT_CPUC = 1000 * ss.REAPTIMEOUT_CPUC_S  # jiffies, HZ 1000
REAPTIMEOUT_LIST3 = 1000 * ss.REAPTIMEOUT_LIST3_S


@kernel
def slabs_of(slab, lane, c):
    """Slabs of cache ``c``, those that only ``lane.base`` counts included."""
    return lane.base[c] + nr_slabs(slab, c)


@kernel
def sample_slab(slab, lane, begin, row):
    """Write one row of the series; ``begin``: slabs of each cache at the start."""
    out_of_line()
    for c in range(lane.live.shape[0]):
        out = lane.series[row, c]
        cache = slab.cache[c]
        slabs = slabs_of(slab, lane, c)
        partial = np.int64(0)
        for n in range(slab.ctl[SLAB_CTL.nodes]):
            partial += slab.node[c, n, SLAB_LIST3.nr_partial]
        out[CACHE_SERIES.slabs] = slabs
        out[CACHE_SERIES.objects] = lane.live[c]
        out[CACHE_SERIES.partial] = partial
        out[CACHE_SERIES.allocated] = cache[SLAB_CACHE.grown]
        out[CACHE_SERIES.freed] = begin[c] + cache[SLAB_CACHE.grown] - slabs
        out[CACHE_SERIES.alloc_fast] = cache[SLAB_CACHE.allochit]
        out[CACHE_SERIES.alloc_slow] = cache[SLAB_CACHE.allocmiss]
        out[CACHE_SERIES.free_fast] = cache[SLAB_CACHE.freehit]
        out[CACHE_SERIES.free_slow] = cache[SLAB_CACHE.freemiss]
        out[CACHE_SERIES.node_list] = (
            cache[SLAB_CACHE.allocmiss] + cache[SLAB_CACHE.freemiss] + cache[SLAB_CACHE.node_overflow]
        )


@kernel
def reap_due(mem, slab, now, due):
    """Run the reapers whose time has come; ``due``: jiffies of each CPU's next pass."""
    out_of_line()
    while True:
        first = 0
        for cpu in range(due.shape[0]):
            if due[cpu] < due[first]:
                first = cpu
        if due[first] > now:
            return
        mem.ctl[MEMCTL.jiffies] = due[first]
        cache_reap(mem, slab, first, due[first], REAPTIMEOUT_LIST3)
        due[first] += REAPTIMEOUT_CPUC


@kernel
def alloc_refused(mem, slab, c, cpu, node, gfp):
    """An allocation that the traced kernel could not serve; what is found without new pages is put back."""
    out_of_line()
    mem.ctl[MEMCTL.model] = st.MODEL_STUB  # of no pages at all
    held = slab_cache_alloc(mem, slab, c, cpu, node, gfp, 0)
    mem.ctl[MEMCTL.model] = st.MODEL_UNLIMITED
    if held >= 0:
        slab_cache_free(mem, slab, cpu, held)


class Marks(NamedTuple):
    """What a replay of SLAB keeps beside the lane."""

    due: np.ndarray  # int64[cpus]: see :func:`reap_due`
    begin: np.ndarray  # int64[caches]: slabs at the start
    peak: np.ndarray  # int64[caches]: most slabs so far


@kernel
def follow_slab(mem, slab, events, unit_ns, marks, lane, row, stop):
    """Run the events from ``row`` on. Returns ``stop``, or the row at which the slab arrays are too small.

    ``unit_ns``: of the events' times.
    """
    due, begin, peak = marks
    samples = lane.sample_at.shape[0]
    handle = lane.handle
    room = slab.slab.shape[0] - SLAB_MARGIN
    link_room = slab.link.shape[0]
    for i in range(lane.live.shape[0]):
        link_room = min(link_room, slab.link.shape[0] - SLAB_MARGIN * slab.cache[i, SLAB_CACHE.num])
    next_reap = due[0]
    while row < stop:
        while lane.met[MET.sample] < samples and lane.sample_at[lane.met[MET.sample]] <= row:
            sample_slab(slab, lane, begin, lane.met[MET.sample])
            lane.met[MET.sample] += 1
        e = events.event[row]
        now = np.int64(e["time"]) * unit_ns // 1_000_000
        if now >= next_reap:
            reap_due(mem, slab, now, due)
            next_reap = due[0]
            for i in range(due.shape[0]):
                next_reap = min(next_reap, due[i])
        op = e["op"]
        kind = lane.kind[e["kind"]]
        c = np.int64(kind["cache"])
        node = np.int64(kind["node"])
        gfp = kind["gfp"]
        cpu = np.int64(e["cpu"])
        if op > kr.OP_BULK_FREE or c < 0:
            if op == kr.OP_ALLOC_FAILED and c >= 0:
                alloc_refused(mem, slab, c, cpu, node, gfp)
            row += 1
            continue
        obj = np.int64(e["object"])
        held = handle[obj]
        if op in (kr.OP_ALLOC, kr.OP_BULK_ALLOC):
            if slab.ctl[SLAB_CTL.slab_top] >= room or slab.ctl[SLAB_CTL.link_top] >= link_room:
                return row
            if held >= 0:
                lane.met[MET.implied_frees] += 1
                lane.live[slab.slab[held >> st.HANDLE_SHIFT, SLAB_SLAB.cache]] -= 1
                slab_cache_free(mem, slab, cpu, held)
            grown = slab.cache[c, SLAB_CACHE.grown]
            held = slab_cache_alloc(mem, slab, c, cpu, node, gfp, 0)
            handle[obj] = held
            if slab.cache[c, SLAB_CACHE.grown] > grown:
                peak[c] = max(peak[c], slabs_of(slab, lane, c))
                own = slab.cache[c, SLAB_CACHE.mgmt_cache]
                if own >= 0:
                    peak[own] = max(peak[own], slabs_of(slab, lane, own))
            if held >= 0:
                lane.met[MET.allocs] += 1
                lane.live[c] += 1
            else:
                lane.met[MET.failed] += 1
        elif held >= 0:
            lane.met[MET.frees] += 1
            lane.live[slab.slab[held >> st.HANDLE_SHIFT, SLAB_SLAB.cache]] -= 1
            slab_cache_free(mem, slab, cpu, held)
            handle[obj] = st.NO_OBJECT
        else:
            lane.met[MET.unknown_frees] += 1
        row += 1
    while lane.met[MET.sample] < samples and lane.sample_at[lane.met[MET.sample]] <= row:
        sample_slab(slab, lane, begin, lane.met[MET.sample])
        lane.met[MET.sample] += 1
    return row

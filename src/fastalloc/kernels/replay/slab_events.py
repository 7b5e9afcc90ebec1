"""The open loop of a recorded kmem trace over SLAB, with the reaper that runs every two seconds on each CPU."""

import numpy as np

from fastalloc.compiler.jit import kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab import slab as sb
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.replay import kmem_events as kr

SLAB_MARGIN = 8  # slabs that one allocation may buy at most, those of management objects included
REAPTIMEOUT_CPUC = 1000 * ss.REAPTIMEOUT_CPUC_S  # jiffies, HZ 1000
REAPTIMEOUT_LIST3 = 1000 * ss.REAPTIMEOUT_LIST3_S


@kernel
def slabs_of(slab, lane, c):
    """Slabs of cache ``c``, those that only ``lane.base`` counts included."""
    return lane.base[c] + sb.cache_slabs(slab, c)


@kernel
def sample_slab(slab, lane, begin, row):
    """Write one row of the series; ``begin``: slabs of each cache at the start."""
    out_of_line()
    for c in range(lane.live.shape[0]):
        out = lane.series[row, c]
        cache = slab.cache[c]
        slabs = slabs_of(slab, lane, c)
        partial = np.int64(0)
        for n in range(slab.ctl[ss.T_NODES]):
            partial += slab.node[c, n, ss.L3_NR_PARTIAL]
        out[kr.R_SLABS] = slabs
        out[kr.R_OBJECTS] = lane.live[c]
        out[kr.R_PARTIAL] = partial
        out[kr.R_BOUGHT] = cache[ss.A_GROWN]
        out[kr.R_FREED] = begin[c] + cache[ss.A_GROWN] - slabs
        out[kr.R_ALLOC_FAST] = cache[ss.A_ALLOCHIT]
        out[kr.R_ALLOC_SLOW] = cache[ss.A_ALLOCMISS]
        out[kr.R_FREE_FAST] = cache[ss.A_FREEHIT]
        out[kr.R_FREE_SLOW] = cache[ss.A_FREEMISS]
        out[kr.R_NODE_LIST] = cache[ss.A_ALLOCMISS] + cache[ss.A_FREEMISS] + cache[ss.A_NODE_OVERFLOW]


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
        mem.ctl[st.M_JIFFIES] = due[first]
        sb.cache_reap(mem, slab, first, due[first], REAPTIMEOUT_LIST3)
        due[first] += REAPTIMEOUT_CPUC


@kernel
def alloc_refused(mem, slab, c, cpu, node, gfp):
    """An allocation that the traced kernel could not serve; what is found without new pages is put back."""
    out_of_line()
    mem.ctl[st.M_MODEL] = st.MODEL_STUB  # of no pages at all
    held = sb.slab_cache_alloc(mem, slab, c, cpu, node, gfp, 0)
    mem.ctl[st.M_MODEL] = st.MODEL_UNLIMITED
    if held >= 0:
        sb.slab_cache_free(mem, slab, cpu, held)


@kernel
def follow_slab(mem, slab, events, unit_ns, due, begin, peak, lane, row, stop):
    """Run the events from ``row`` on. Returns ``stop``, or the row at which the slab arrays are too small.

    ``unit_ns``: of the events' times; ``due``: see :func:`reap_due`; ``peak``: most slabs of each cache so far.
    """
    samples = lane.sample_at.shape[0]
    handle = lane.handle
    room = slab.slab.shape[0] - SLAB_MARGIN
    link_room = slab.link.shape[0]
    for i in range(lane.live.shape[0]):
        link_room = min(link_room, slab.link.shape[0] - SLAB_MARGIN * slab.cache[i, ss.A_NUM])
    next_reap = due[0]
    while row < stop:
        while lane.met[kr.N_SAMPLE] < samples and lane.sample_at[lane.met[kr.N_SAMPLE]] <= row:
            sample_slab(slab, lane, begin, lane.met[kr.N_SAMPLE])
            lane.met[kr.N_SAMPLE] += 1
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
            if slab.ctl[ss.T_SLAB_TOP] >= room or slab.ctl[ss.T_LINK_TOP] >= link_room:
                return row
            if held >= 0:
                lane.met[kr.N_IMPLIED_FREES] += 1
                lane.live[slab.slab[held >> st.HANDLE_SHIFT, ss.L_CACHE]] -= 1
                sb.slab_cache_free(mem, slab, cpu, held)
            grown = slab.cache[c, ss.A_GROWN]
            held = sb.slab_cache_alloc(mem, slab, c, cpu, node, gfp, 0)
            handle[obj] = held
            if slab.cache[c, ss.A_GROWN] > grown:
                peak[c] = max(peak[c], slabs_of(slab, lane, c))
                own = slab.cache[c, ss.A_MGMT_CACHE]
                if own >= 0:
                    peak[own] = max(peak[own], slabs_of(slab, lane, own))
            if held >= 0:
                lane.met[kr.N_ALLOCS] += 1
                lane.live[c] += 1
            else:
                lane.met[kr.N_FAILED] += 1
        elif held >= 0:
            lane.met[kr.N_FREES] += 1
            lane.live[slab.slab[held >> st.HANDLE_SHIFT, ss.L_CACHE]] -= 1
            sb.slab_cache_free(mem, slab, cpu, held)
            handle[obj] = st.NO_OBJECT
        else:
            lane.met[kr.N_UNKNOWN_FREES] += 1
        row += 1
    while lane.met[kr.N_SAMPLE] < samples and lane.sample_at[lane.met[kr.N_SAMPLE]] <= row:
        sample_slab(slab, lane, begin, lane.met[kr.N_SAMPLE])
        lane.met[kr.N_SAMPLE] += 1
    return row

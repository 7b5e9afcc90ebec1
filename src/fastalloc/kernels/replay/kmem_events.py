"""The open loop of a recorded kmem trace: one call drives the object paths through all events.

Unlike :mod:`fastalloc.kernels.replay.operations`, which serves golden cases, an event names its object by the address
that the traced kernel used; where the object lies in this lane is in ``handle``.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.hints import likely, prefetch, unlikely
from fastalloc.compiler.jit import entry, internal, kernel, out_of_line
from fastalloc.compiler.records import Record, block, field
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_7_3.main_sheaf import asks_free_to, give_asked, main_serves
from fastalloc.kernels.alloc.slub.era_cpu_partial.cpu_lists import deactivate_slab
from fastalloc.kernels.alloc.slub.era_cpu_partial.slow_paths import load_freelist
from fastalloc.kernels.alloc.slub.partial import SHEAVES, TURNS, new_slab
from fastalloc.kernels.alloc.slub.slab_free import free_asking, free_unasked
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
    ZONE,
)
from fastalloc.kernels.replay.sheaf_events import FIRST_SHEAF_OP, NO_OPERATION, UNKNOWN_FREE, no_pages, sheaf_event

OP_ALLOC = 0
OP_FREE = 1
OP_BULK_ALLOC = 2
OP_BULK_FREE = 3
OP_PAGE_ALLOC = 4
OP_PAGE_FREE = 5
OP_ALLOC_FAILED = 6
OP_SHORTAGE = 7
OP_BEGIN = 8
OP_NEW_SLAB = 9
OP_RESERVE = 10

FREES = 1  # the bit that tells OP_FREE and OP_BULK_FREE from OP_ALLOC and OP_BULK_ALLOC
KIND = np.dtype([("cache", "<i4"), ("node", "<i4"), ("gfp", "<i8")])  # cache -1: left out; node -1: any
AHEAD = 12  # events between fetching the place of an object into the cache and using it

SLAB_MARGIN = 256  # new slabs of one allocation at most, with every sheaf that it refills


class CACHE_SERIES(Record):
    """series[sample, cache, .]."""

    slabs = field("slabs held", "slabs")
    objects = field("objects out", "objects")
    partial = field("slabs on the partial lists of nodes and CPUs", "slabs")
    allocated = field("new slabs so far", "slabs", label="slabs_allocated")
    freed = field("slabs given back so far", "slabs", label="slabs_freed")
    alloc_fast = field("allocations on what a CPU has to itself, so far")
    alloc_slow = field("other allocations so far")
    free_fast = field("frees on what a CPU has to itself, so far")
    free_slow = field("other frees so far")
    traffic = block("alloc_fast", "free_slow")
    node_list = field("moves on the lists of nodes so far")


class MET(Record):
    """met[.]: what the lane met."""

    allocs = field("allocations served")
    frees = field("frees of objects that were out")
    unknown_frees = field("of an object that the lane does not hold")
    implied_frees = field("the address was handed out again")
    failed = field("allocations that got no memory")
    sample = field("next row of ``sample_at``")
    aside = field("events that neither allocate nor free")


@group()
class Events(NamedTuple):
    """The compact trace as it lies in the mapped file."""

    event: np.ndarray  # EVENT[rows], see trace/compact/compact.py
    tail: np.ndarray  # EVENT[2 * AHEAD]: the last AHEAD rows (all, if there are fewer), and nothing behind them


def events_of(event):
    """The events of a trace, with what the kernel needs to look ahead of the last ones."""
    tail = np.zeros(2 * AHEAD, event.dtype)
    last = event[-AHEAD:]
    tail[: len(last)] = last
    return Events(np.ascontiguousarray(event), tail)


@group(series=CACHE_SERIES.width)
class Lane(NamedTuple):
    """What a lane keeps beside the allocator."""

    handle: np.ndarray  # int64[objects]: where the object lies, NO_OBJECT when it is not out
    kind: np.ndarray  # KIND[kinds]
    live: np.ndarray  # int64[caches]: objects out
    base: np.ndarray  # int64[caches]: slabs that lie full and untouched beside the modelled ones
    met: np.ndarray  # int64[COUNTS]
    sample_at: np.ndarray  # int64[samples]: rows before which a sample is taken, ascending
    series: np.ndarray  # int32[samples, caches, SERIES]


@kernel
def sample(slub_, lane, row):
    """Write one row of the series."""
    out_of_line()
    kcpu = slub_.kcpu
    for c in range(lane.live.shape[0]):
        out = lane.series[row, c]
        slabs = lane.base[c]
        partial = np.int64(0)
        for n in range(slub_.ctl[SLUB_CTL.nodes]):
            slabs += slub_.knode[c, n, KMEM_CACHE_NODE.nr_slabs]
            partial += slub_.knode[c, n, KMEM_CACHE_NODE.nr_partial]
        for r in range(CACHE_SERIES.width):
            out[r] = 0
        out[CACHE_SERIES.slabs] = slabs
        out[CACHE_SERIES.objects] = lane.live[c]
        out[CACHE_SERIES.partial] = partial
        for cpu in range(kcpu.shape[1]):
            k = kcpu[c, cpu]
            out[CACHE_SERIES.allocated] += k[KMEM_CACHE_CPU.alloc_slab]
            out[CACHE_SERIES.freed] += k[KMEM_CACHE_CPU.free_slab]
            out[CACHE_SERIES.alloc_fast] += k[KMEM_CACHE_CPU.alloc_fastpath] + k[KMEM_CACHE_CPU.alloc_pcs]
            out[CACHE_SERIES.alloc_slow] += k[KMEM_CACHE_CPU.alloc_slowpath]
            out[CACHE_SERIES.free_fast] += k[KMEM_CACHE_CPU.free_fastpath] + k[KMEM_CACHE_CPU.free_pcs]
            out[CACHE_SERIES.free_slow] += k[KMEM_CACHE_CPU.free_slowpath]
            out[CACHE_SERIES.node_list] += (
                k[KMEM_CACHE_CPU.alloc_from_partial]
                + k[KMEM_CACHE_CPU.free_add_partial]
                + k[KMEM_CACHE_CPU.free_remove_partial]
                + k[KMEM_CACHE_CPU.deactivate_to_head]
                + k[KMEM_CACHE_CPU.deactivate_to_tail]
                + k[KMEM_CACHE_CPU.cpu_partial_node]
            )


@internal
def free_elsewhere(mem, slub_, lane, cpu, held):
    """Free an object of a cache that the event does not name: that of its slab."""
    out_of_line()
    lane.live[slub_.slab[held >> st.HANDLE_SHIFT, SLUB_SLAB.cache]] -= 1
    slub.slab_free(mem, slub_, cpu, held)


@internal
def shortage(mem, order):
    """Until pages were given again there are no blocks above ``order``."""
    out_of_line()
    for n in range(mem.zone.shape[0]):
        mem.zone[n, ZONE.total] = mem.zone[n, ZONE.used] + (1 << order)
    mem.ctl[MEMCTL.model] = st.MODEL_STUB


@internal
def alloc_refused_of(mem, slub_, c, cpu, node, gfp):
    """An allocation that the traced kernel could not serve: no page is to be had, but a CPU slab that is full is let
    go on the way. What is found in spite of that is put back."""
    out_of_line()
    no_pages(mem)
    held = slub.slab_alloc(mem, slub_, c, cpu, node, gfp, 0)
    mem.ctl[MEMCTL.model] = st.MODEL_UNLIMITED
    if held >= 0:
        slub.slab_free(mem, slub_, cpu, held)


NEEDS_SLAB = -2  # in place of a handle: the allocation found nothing, and waits for its pages


@internal
def nothing_free(mem, slub_, c, cpu, node):
    """Whether an allocation that begins now needs a new slab; it lets go of a full CPU slab at once [___slab_alloc].

    True says that it gets a new slab, whatever there is by then. By the rules of cpu_partial.
    """
    out_of_line()
    k = slub_.kcpu[c, cpu]
    if k[KMEM_CACHE_CPU.freelist] >= 0 or k[KMEM_CACHE_CPU.partial] >= 0:
        return False
    s = k[KMEM_CACHE_CPU.page]
    if s >= 0 and slub_.slab[s, SLUB_SLAB.freelist] >= 0:
        return False
    own = node if node >= 0 else cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    for n in range(slub_.ctl[SLUB_CTL.nodes]):
        if slub_.knode[c, n, KMEM_CACHE_NODE.nr_partial] > (0 if n == own else slub_.cache[c, KMEM_CACHE.min_partial]):
            return False
    if s >= 0:
        slub_.slab[s, SLUB_SLAB.frozen] = 0
        k[KMEM_CACHE_CPU.page] = -1
        k[KMEM_CACHE_CPU.deactivate_bypass] += 1
    return True


@internal
def take_new_slab(mem, slub_, c, cpu, node, gfp):
    """The first object of a slab that was asked for at BEGIN; what its CPU got in the meantime is retired
    [___slab_alloc, retry_load_slab]."""
    out_of_line()
    k = slub_.kcpu[c, cpu]
    k[KMEM_CACHE_CPU.alloc_slowpath] += 1
    if k[KMEM_CACHE_CPU.page] >= 0:
        k[KMEM_CACHE_CPU.cpuslab_flush] += 1
        deactivate_slab(mem, slub_, c, cpu, cpu, KMEM_CACHE_CPU.freelist)
    s = new_slab(mem, slub_, c, cpu, node, gfp, 0)
    if s < 0:
        return st.NO_OBJECT
    k[KMEM_CACHE_CPU.alloc_slab] += 1
    return load_freelist(slub_, c, cpu, s, KMEM_CACHE_CPU.freelist)


@internal
def seldom(mem, slub_, lane, e, obj):
    """An event that is no operation of its own."""
    out_of_line()
    op = e["op"]
    cpu = np.int64(e["cpu"])
    kind = lane.kind[e["kind"]]
    c = np.int64(kind["cache"])
    node = np.int64(kind["node"])
    if op >= FIRST_SHEAF_OP:
        came_to = sheaf_event(mem, slub_, lane.handle, lane.live, op, c, cpu, kind["gfp"], obj)
        lane.met[MET.aside] -= came_to != NO_OPERATION
        lane.met[MET.unknown_frees] += came_to == UNKNOWN_FREE
    elif op == OP_ALLOC_FAILED:
        alloc_refused_of(mem, slub_, c, cpu, node, kind["gfp"])
    elif op == OP_SHORTAGE:
        shortage(mem, obj)
    elif op == OP_RESERVE:
        # Of the new slab of the allocation behind it; with settings under which its CPU serves that, of nothing.
        k = slub_.kcpu[c, cpu]
        served = k[KMEM_CACHE_CPU.freelist] >= 0 and (
            node < 0 or slub_.slab[k[KMEM_CACHE_CPU.page], SLUB_SLAB.node] == node
        )
        if lane.handle[obj] == NEEDS_SLAB or not (served or main_serves(slub_, k, node)):
            mem.ctl[MEMCTL.depth] = DEPTH.none
    elif slub_.cache[c, KMEM_CACHE.era] == er.ERA_CPU_PARTIAL and lane.handle[obj] == st.NO_OBJECT:
        if op == OP_NEW_SLAB or nothing_free(mem, slub_, c, cpu, node):
            lane.handle[obj] = NEEDS_SLAB


@internal
def most_objects(slub_, lane):
    """Objects of the largest slab."""
    out_of_line()
    most = 0
    for c in range(lane.live.shape[0]):
        most = max(most, slub_.cache[c, KMEM_CACHE.objects])
    return most


@internal
def objects_out(lane):
    """Objects out of all caches, and those of them that were handed out without a free in the trace."""
    out_of_line()
    out = 0
    for c in range(lane.live.shape[0]):
        out += lane.live[c]
    return out + lane.met[MET.implied_frees]


@internal
def other_rows(lane):
    """Rows that are no allocation served and no free of an object that was out."""
    return lane.met[MET.unknown_frees] + lane.met[MET.failed] + lane.met[MET.aside]


@internal
def held_before(mem, slub_, lane, cpu, held, obj):
    """An allocation is given a place that is not empty; whether that is NEEDS_SLAB.

    Else the address was handed out again: its free is not in the trace.
    """
    out_of_line()
    if held == NEEDS_SLAB:
        return True
    lane.met[MET.implied_frees] += 1
    free_elsewhere(mem, slub_, lane, cpu, held)
    lane.handle[obj] = st.NO_OBJECT
    return False


@internal
def link_room_of(slub_, lane):
    """Links in use up to which the next event may begin."""
    return slub_.link.shape[0] - SLAB_MARGIN * most_objects(slub_, lane)


@internal
def run_events(mem, slub_, event, lane, row, end, link_room):
    """Run the events from ``row`` on: ``end``, or the row at which the slab arrays are too small.

    Allocations and frees are not counted. AHEAD rows must follow. ``link_room``: of :func:`link_room_of`.
    """
    out_of_line()
    handle = lane.handle
    room = slub_.slab.shape[0] - SLAB_MARGIN
    kinds = lane.kind
    live = lane.live
    following = np.int64(event[row]["op"])
    while row < end:
        prefetch(handle, np.int64(event[row + AHEAD]["object"]))
        e = event[row]
        obj = np.int64(e["object"])
        op = following
        following = np.int64(event[row + 1]["op"])
        kind = kinds[e["kind"]]
        c = np.int64(kind["cache"])
        if likely(op <= OP_BULK_FREE and c >= 0):
            cpu = np.int64(e["cpu"])
            held = handle[obj]
            if op & FREES == 0:
                node = np.int64(kind["node"])
                taken = False
                if likely(held == st.NO_OBJECT) or not held_before(mem, slub_, lane, cpu, held, obj):
                    taken, held = slub.take_private(slub_, c, cpu, node)
                if not taken:  # and not held < 0: what is known where it was decided is not tested again
                    if unlikely(slub_.ctl[SLUB_CTL.slab_top] >= room or slub_.ctl[SLUB_CTL.link_top] >= link_room):
                        return row
                    gfp = kind["gfp"]
                    mem.ctl[MEMCTL.jiffies] = np.int64(e["time"])
                    if unlikely(held == NEEDS_SLAB):
                        held = take_new_slab(mem, slub_, c, cpu, node, gfp)
                    else:
                        held = slub.__slab_alloc(mem, slub_, c, cpu, node, gfp, 0)
                    mem.ctl[MEMCTL.depth] = DEPTH.low
                handle[obj] = held
                if likely(taken or held >= 0):
                    live[c] += 1
                else:
                    lane.met[MET.failed] += 1
            elif likely(held >= 0):
                handle[obj] = st.NO_OBJECT
                s = held >> st.HANDLE_SHIFT
                i = held & st.HANDLE_INDEX_MASK
                # The test is foreseen, so that what follows need not wait for the slab's record.
                if unlikely(slub_.slab[s, SLUB_SLAB.cache] != c):
                    free_elsewhere(mem, slub_, lane, cpu, held)
                else:
                    live[c] -= 1
                    if not slub.give_private(mem, slub_, c, cpu, s, i):
                        outcome, prior = free_unasked(slub_, c, cpu, s, i)
                        if unlikely(outcome >= TURNS):
                            mem.ctl[MEMCTL.jiffies] = np.int64(e["time"])
                            if outcome == SHEAVES and asks_free_to(mem, slub_, c, cpu, s):
                                give_asked(mem, slub_, c, cpu, s, i)
                            else:
                                free_asking(mem, slub_, c, cpu, s, i, outcome, prior)
            else:
                lane.met[MET.unknown_frees] += 1
        else:
            if op >= FIRST_SHEAF_OP and (
                slub_.ctl[SLUB_CTL.slab_top] >= room or slub_.ctl[SLUB_CTL.link_top] >= link_room
            ):
                return row
            lane.met[MET.aside] += 1
            if op == OP_PAGE_ALLOC:
                mem.ctl[MEMCTL.model] = st.MODEL_UNLIMITED
            elif op == OP_SHORTAGE or (op > OP_PAGE_FREE and c >= 0):
                seldom(mem, slub_, lane, e, obj)
        row += 1
    return row


@internal
def follow_until(mem, slub_, events, lane, row, end):
    """:func:`run_events`, and how many allocations and frees there were: their sum is the rows that were nothing else,
    their difference what more is out."""
    first, out, others = row, objects_out(lane), other_rows(lane)
    last = max(events.event.shape[0] - AHEAD, 0)
    link_room = link_room_of(slub_, lane)
    if row < last:
        row = run_events(mem, slub_, events.event, lane, row, min(end, last), link_room)
    if last <= row < end:
        row = last + run_events(mem, slub_, events.tail, lane, row - last, end - last, link_room)
    both = row - first - (other_rows(lane) - others)
    more = objects_out(lane) - out
    lane.met[MET.allocs] += (both + more) // 2
    lane.met[MET.frees] += (both - more) // 2
    return row


@entry
def follow(mem, slub_, events, lane, row, stop):
    """Run the events from ``row`` on. Returns ``stop``, or the row at which the slab arrays are too small: the caller
    enlarges them and goes on from there."""
    samples = lane.sample_at.shape[0]
    while row < stop:
        s = lane.met[MET.sample]
        end = stop
        if s < samples:
            end = min(stop, lane.sample_at[s])
            if end <= row:
                sample(slub_, lane, s)
                lane.met[MET.sample] = s + 1
                continue
        row = follow_until(mem, slub_, events, lane, row, end)
        if row < end:
            return row
    while lane.met[MET.sample] < samples and lane.sample_at[lane.met[MET.sample]] <= row:
        sample(slub_, lane, lane.met[MET.sample])
        lane.met[MET.sample] += 1
    return row

"""The loop of a lane of an allocator of one's own over the events of a trace, and what frees all at its end."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.kernels.replay import kmem_events as kr
from fastalloc.kernels.replay.kmem_events import CACHE_SERIES, MET
from fastalloc.kernels.replay.sheaf_events import OP_FREE_LOCKED, OP_FREE_MANY, OP_KFREE_RCU, OP_SHEAF_ALLOC
from fastalloc.own import memory as om
from fastalloc.own.memory import CACHE_COUNT, MAX_ORDER, ZONE_CTL, forget_object, note_object

from numba import njit  # isort: skip

MARGIN = 1 << MAX_ORDER  # pages that one operation may take
MOST_BULK = 64  # objects of a call
AT_ROW, AT_WRONG, AT_ADDRESS, AT_OBJECT, AT_WIDTH = range(5)


def _no_alloc_bulk(heap, zone, c, cpu, gfp, count, into, turns):  # type: ignore[no-untyped-def]
    return 0


def _no_free_bulk(heap, zone, c, cpu, count, addresses, turns):  # type: ignore[no-untyped-def]
    pass


@lru_cache(maxsize=16)
def driver(
    alloc: Callable[..., Any],
    free: Callable[..., Any],
    alloc_bulk: Callable[..., Any] | None,
    free_bulk: Callable[..., Any] | None,
    asks_current: bool,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The loop over events, and what frees all at the end, compiled for an allocator's functions; bulk ones where it
    has them. Where it asks for the task that runs, ``task`` is that of each event."""
    allocs_bulk, frees_bulk = alloc_bulk is not None, free_bulk is not None
    alloc_bulk = alloc_bulk or (_no_alloc_bulk if DISABLE_JIT else njit(_no_alloc_bulk))
    free_bulk = free_bulk or (_no_free_bulk if DISABLE_JIT else njit(_no_free_bulk))

    def give(heap, zone, turns, lane, size, at, cpu, obj):  # type: ignore[no-untyped-def]
        address = lane.handle[obj]
        lane.handle[obj] = -1
        c = np.int64(zone.used[address >> om.GRANULE_SHIFT]) - 1
        forget_object(zone, address, size[c])
        lane.live[c] -= 1
        zone.ctl[ZONE_CTL.cache] = c
        before = zone.counts[c, CACHE_COUNT.slow]
        turns[0] = 0
        free(heap, zone, c, cpu, address, turns)
        return zone.counts[c, CACHE_COUNT.slow] - before

    def sample(zone, lane, traffic, row):  # type: ignore[no-untyped-def]
        for c in range(lane.live.shape[0]):
            out = lane.series[row, c]
            out[CACHE_SERIES.slabs] = lane.base[c] + zone.counts[c, CACHE_COUNT.pages]
            out[CACHE_SERIES.objects] = lane.live[c]
            out[CACHE_SERIES.allocated] = zone.counts[c, CACHE_COUNT.new]
            out[CACHE_SERIES.freed] = zone.counts[c, CACHE_COUNT.given]
            for i in range(4):
                out[CACHE_SERIES.traffic[i]] = traffic[c, i]
            out[CACHE_SERIES.node_list] = zone.counts[c, CACHE_COUNT.locks]

    def take(heap, zone, turns, lane, size, at, c, cpu, gfp, obj):  # type: ignore[no-untyped-def]
        """More than nine arguments: the lane's groups and what an allocation is asked with."""
        zone.ctl[ZONE_CTL.cache] = c
        turns[0] = 0
        address = alloc(heap, zone, c, cpu, gfp, turns)
        if address != om.NOTHING:
            wrong = note_object(zone, address, size[c], c)
            if wrong != om.SOUND:
                at[AT_WRONG] = wrong
                at[AT_ADDRESS] = address
                at[AT_OBJECT] = obj
            lane.handle[obj] = address
            lane.live[c] += 1
        return address != om.NOTHING

    def end_of_call(event, lane, row, stop):  # type: ignore[no-untyped-def]
        """The row behind those of a call: of one operation, time, CPU and cache, without a sample between."""
        e, last = event[row], row + 1
        if lane.met[MET.sample] < lane.sample_at.shape[0]:
            stop = min(stop, lane.sample_at[lane.met[MET.sample]])
        c = lane.kind[e["kind"]]["cache"]
        while last < min(stop, row + MOST_BULK):
            other = event[last]
            if other["op"] != e["op"] or other["time"] != e["time"] or other["cpu"] != e["cpu"]:
                break
            if lane.kind[other["kind"]]["cache"] != c:
                break
            last += 1
        return last

    def take_many(event, heap, zone, turns, lane, size, at, rows):  # type: ignore[no-untyped-def]
        """A bulk allocation of the events ``rows``: how many slow paths it took, -1 refused."""
        row, last = rows
        kind = lane.kind[event[row]["kind"]]
        c, cpu, gfp = np.int64(kind["cache"]), np.int64(event[row]["cpu"]), np.int64(kind["gfp"])
        for i in range(row, last):
            obj = np.int64(event[i]["object"])
            if lane.handle[obj] >= 0:
                lane.met[MET.implied_frees] += 1
                give(heap, zone, turns, lane, size, at, cpu, obj)
        into = np.full(last - row, -1, np.int64)
        zone.ctl[ZONE_CTL.cache] = c
        before = zone.counts[c, CACHE_COUNT.slow]
        turns[0] = 0
        given = alloc_bulk(heap, zone, c, cpu, gfp, last - row, into, turns)
        if given == 0:
            return -1
        if given != last - row:
            at[AT_WRONG] = om.PART
            at[AT_ADDRESS] = given
            at[AT_OBJECT] = last - row
        for i in range(last - row):
            obj = np.int64(event[row + i]["object"])
            wrong = note_object(zone, into[i], size[c], c)
            if wrong != om.SOUND and at[AT_WRONG] == 0:
                at[AT_WRONG] = wrong
                at[AT_ADDRESS] = into[i]
                at[AT_OBJECT] = obj
            lane.handle[obj] = into[i]
        lane.live[c] += last - row
        return zone.counts[c, CACHE_COUNT.slow] - before

    def give_many(event, heap, zone, turns, lane, size, at, rows):  # type: ignore[no-untyped-def]
        """A bulk free of the events ``rows``: how many objects that were held, and how many slow paths it took."""
        row, last = rows
        c, cpu = np.int64(lane.kind[event[row]["kind"]]["cache"]), np.int64(event[row]["cpu"])
        addresses = np.empty(last - row, np.int64)
        held = 0
        for i in range(row, last):
            obj = np.int64(event[i]["object"])
            address = lane.handle[obj]
            if address < 0:
                lane.met[MET.unknown_frees] += 1
            elif np.int64(zone.used[address >> om.GRANULE_SHIFT]) - 1 == c:
                forget_object(zone, address, size[c])
                lane.handle[obj] = -1
                addresses[held] = address
                held += 1
            else:
                lane.met[MET.frees] += 1
                give(heap, zone, turns, lane, size, at, cpu, obj)
        lane.live[c] -= held
        zone.ctl[ZONE_CTL.cache] = c
        before = zone.counts[c, CACHE_COUNT.slow]
        turns[0] = 0
        if held > 0:
            free_bulk(heap, zone, c, cpu, held, addresses, turns)
        return held, zone.counts[c, CACHE_COUNT.slow] - before

    if not DISABLE_JIT:
        end_of_call, take_many, give_many = njit(end_of_call), njit(take_many), njit(give_many)
        give, sample, take = njit(give), njit(sample), njit(take)

    def follow(event, task, heap, zone, turns, lane, size, traffic, at, row, stop):  # type: ignore[no-untyped-def]
        """More than nine arguments: the lane's groups, and the rows to run."""
        samples = lane.sample_at.shape[0]
        while row < stop:
            while lane.met[MET.sample] < samples and lane.sample_at[lane.met[MET.sample]] <= row:
                sample(zone, lane, traffic, lane.met[MET.sample])
                lane.met[MET.sample] += 1
            if zone.ctl[ZONE_CTL.top] + MARGIN > zone.map.shape[0]:
                return row
            at[AT_ROW] = row
            if asks_current:
                zone.ctl[ZONE_CTL.task] = task[row]
            e = event[row]
            op = e["op"]
            kind = lane.kind[e["kind"]]
            c = np.int64(kind["cache"])
            obj = np.int64(e["object"])
            cpu = np.int64(e["cpu"])
            # A grace period is no time here, and there are no prefilled sheaves: such objects come and go as others.
            frees = op in (kr.OP_FREE, kr.OP_BULK_FREE, OP_KFREE_RCU, OP_FREE_MANY, OP_FREE_LOCKED)
            if c < 0 or not (frees or op in (kr.OP_ALLOC, kr.OP_BULK_ALLOC, OP_SHEAF_ALLOC)):
                lane.met[MET.aside] += 1
            elif allocs_bulk and op == kr.OP_BULK_ALLOC:
                last = end_of_call(event, lane, row, stop)
                slow = take_many(event, heap, zone, turns, lane, size, at, (row, last))
                if slow < 0:
                    lane.met[MET.failed] += last - row
                else:
                    lane.met[MET.allocs] += last - row
                    traffic[c, 1] += min(slow, last - row)
                    traffic[c, 0] += max(0, last - row - slow)
                row = last - 1
            elif frees_bulk and op in (kr.OP_BULK_FREE, OP_FREE_MANY):
                last = end_of_call(event, lane, row, stop)
                held, slow = give_many(event, heap, zone, turns, lane, size, at, (row, last))
                lane.met[MET.frees] += held
                traffic[c, 3] += min(slow, held)
                traffic[c, 2] += max(0, held - slow)
                row = last - 1
            elif not frees:
                if lane.handle[obj] >= 0:
                    lane.met[MET.implied_frees] += 1
                    give(heap, zone, turns, lane, size, at, cpu, obj)
                before = zone.counts[c, CACHE_COUNT.slow]
                if take(heap, zone, turns, lane, size, at, c, cpu, np.int64(kind["gfp"]), obj):
                    lane.met[MET.allocs] += 1
                    traffic[c, 1 if zone.counts[c, CACHE_COUNT.slow] > before else 0] += 1
                else:
                    lane.met[MET.failed] += 1
            elif lane.handle[obj] >= 0:
                lane.met[MET.frees] += 1
                traffic[c, 3 if give(heap, zone, turns, lane, size, at, cpu, obj) > 0 else 2] += 1
            else:
                lane.met[MET.unknown_frees] += 1
            if at[AT_WRONG] != 0 or zone.ctl[ZONE_CTL.bad] != 0:
                return row
            row += 1
        while lane.met[MET.sample] < samples and lane.sample_at[lane.met[MET.sample]] <= row:
            sample(zone, lane, traffic, lane.met[MET.sample])
            lane.met[MET.sample] += 1
        return row

    def drain(heap, zone, turns, lane, size, at):  # type: ignore[no-untyped-def]
        """Free every object that is out."""
        for obj in range(lane.handle.shape[0]):
            if lane.handle[obj] >= 0 and zone.ctl[ZONE_CTL.bad] == 0:
                give(heap, zone, turns, lane, size, at, np.int64(0), obj)

    # Without the GIL, so that Ctrl-C is heard while a slow allocator runs.
    return (follow, drain) if DISABLE_JIT else (njit(nogil=True)(follow), njit(nogil=True)(drain))


__all__ = ["AT_ADDRESS", "AT_OBJECT", "AT_ROW", "AT_WIDTH", "AT_WRONG", "MARGIN", "driver"]

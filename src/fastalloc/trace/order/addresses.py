"""The rules of 7.x run over recorded events, held against the addresses that the traced kernel handed out.

An object keeps its place in its slab until the slab goes. So once an address was handed out it is known which place
it is, and the next time that the rules give that place the address must be this one; what was never handed out is known
by its block of pages. Sheaves are stacks: nearly every operation that happened elsewhere than its event says shows at
once.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.jit import entry, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_SLAB
from fastalloc.kernels.replay.kmem_events import OP_ALLOC, link_room_of, run_events
from fastalloc.kernels.replay.sheaf_events import OP_SHEAF_ALLOC, OP_SHEAF_MEMORY

DISAGREES, NOT_KNOWN, AGREES = range(-1, 2)
STOP, GO_ON, START = range(3)  # of follow_addresses


@group()
class Addresses(NamedTuple):
    """Which address each place in a slab is. A slab in use is numbered, in its ``ordinal``, once an object of it is
    met; a number that it has no more says that what was known is of an earlier slab."""

    name: np.ndarray  # int32[links]: object at each place, -1 not known
    place: np.ndarray  # int64[objects]: handle, -1 not known
    slab: np.ndarray  # int32[objects]: number of the slab of ``place``
    frame: np.ndarray  # int64[objects]: page frame of its address
    page: np.ndarray  # int32[objects]: number of that page
    block: np.ndarray  # int64[slabs]: block of pages, -1 not known
    holder: np.ndarray  # int32[pages, 2]: record and number of the slab on it
    ctl: np.ndarray  # int64[1]: slabs numbered so far
    wrong: np.ndarray  # int64[caches]: allocations that disagreed


@internal
def forget(slub_, addresses, s):
    """Slab record ``s`` is in use anew: number it, and none of its places is known."""
    out_of_line()
    slab = slub_.slab[s]
    slab[SLUB_SLAB.ordinal] = addresses.ctl[0]
    addresses.ctl[0] += 1
    addresses.block[s] = -1
    for i in range(slab[SLUB_SLAB.base], slab[SLUB_SLAB.base] + slab[SLUB_SLAB.objects]):
        addresses.name[i] = -1


@internal
def is_in_use(slub_, s, number):
    """Whether slab record ``s`` is still the slab of that ``number``."""
    return s >= 0 and slub_.slab[s, SLUB_SLAB.pfn] != -1 and slub_.slab[s, SLUB_SLAB.ordinal] == number


@internal
def agrees(slub_, addresses, handle, obj):
    """Whether the address of ``obj`` can be that of the place ``handle``."""
    if handle < 0:
        return DISAGREES
    s = handle >> st.HANDLE_SHIFT
    if slub_.slab[s, SLUB_SLAB.ordinal] < 0:
        forget(slub_, addresses, s)
    known = addresses.name[slub_.slab[s, SLUB_SLAB.base] + (handle & st.HANDLE_INDEX_MASK)]
    if known >= 0:
        return AGREES if known == obj else DISAGREES
    place = addresses.place[obj]
    if place >= 0 and is_in_use(slub_, place >> st.HANDLE_SHIFT, addresses.slab[obj]):
        return DISAGREES
    if addresses.block[s] >= 0:
        same = addresses.block[s] == addresses.frame[obj] >> slub_.slab[s, SLUB_SLAB.order]
        return NOT_KNOWN if same else DISAGREES
    holder = addresses.holder[addresses.page[obj]]
    return DISAGREES if is_in_use(slub_, holder[0], holder[1]) else NOT_KNOWN


@internal
def learn(slub_, addresses, handle, obj):
    """From now on ``obj`` is the place ``handle``, and no other is."""
    out_of_line()
    s = handle >> st.HANDLE_SHIFT
    if slub_.slab[s, SLUB_SLAB.ordinal] < 0:
        forget(slub_, addresses, s)
    i = slub_.slab[s, SLUB_SLAB.base] + (handle & st.HANDLE_INDEX_MASK)
    before = addresses.name[i]
    if before >= 0:
        addresses.place[before] = -1
    place = addresses.place[obj]
    if place >= 0:
        t = place >> st.HANDLE_SHIFT
        if is_in_use(slub_, t, addresses.slab[obj]):
            addresses.name[slub_.slab[t, SLUB_SLAB.base] + (place & st.HANDLE_INDEX_MASK)] = -1
    addresses.name[i] = obj
    addresses.place[obj] = handle
    addresses.slab[obj] = slub_.slab[s, SLUB_SLAB.ordinal]
    addresses.block[s] = addresses.frame[obj] >> slub_.slab[s, SLUB_SLAB.order]
    addresses.holder[addresses.page[obj], 0] = s
    addresses.holder[addresses.page[obj], 1] = slub_.slab[s, SLUB_SLAB.ordinal]


@internal
def next_object(mem, slub_, c, cpu):
    """What an allocation on ``cpu`` gets that fills no sheaf, -1 none."""
    k = slub_.kcpu[c, cpu]
    barn = slub_.knode[c, cpu >> mem.ctl[MEMCTL.cpu_node_shift], KMEM_CACHE_NODE.full]
    for h in (k[KMEM_CACHE_CPU.main], k[KMEM_CACHE_CPU.spare], barn):
        if h >= 0 and slub_.ctl[h + SHEAF.size] > 0:
            return slub_.ctl[h + SHEAF.objects[slub_.ctl[h + SHEAF.size] - 1]]
    return np.int64(-1)


@internal
def hold_against(slub_, addresses, lane, e):
    """How the address of event ``e`` fits the place that the rules gave it; what was not known is learnt."""
    op = e["op"]
    if op != OP_ALLOC and op != OP_SHEAF_ALLOC and op != OP_SHEAF_MEMORY:
        return AGREES
    obj = np.int64(e["object"])
    handle = lane.handle[obj]
    if handle < 0:
        return AGREES
    found = agrees(slub_, addresses, handle, obj)
    if found == NOT_KNOWN:
        learn(slub_, addresses, handle, obj)
    return found


@entry
def follow_addresses(mem, slub_, event, lane, addresses, row, stop, how, hits):
    """Run the events (EVENT[n], AHEAD rows behind ``stop``) from ``row`` on: the first whose address is not the one
    that the rules give, which has happened; ``stop``; or -1 - the row at which the slab arrays are too small.

    ``how``: STOP there; GO_ON, such addresses are taken for right, and counted by cache; START, nothing is run, and
    learnt where the objects lie that are out. ``hits``: uint8[stop - row], before which of the events the allocation
    of event ``stop``, of cache 0, can have got its address from its CPU's sheaves; or empty.
    """
    link_room = link_room_of(slub_, lane)
    if how == START:
        for i in range(lane.handle.shape[0]):
            if lane.handle[i] >= 0:
                learn(slub_, addresses, lane.handle[i], i)
        return row
    first = row
    cpu = np.int64(event[stop]["cpu"])
    obj = np.int64(event[stop]["object"])
    while row < stop:
        if hits.shape[0] > 0:
            hits[row - first] = agrees(slub_, addresses, next_object(mem, slub_, 0, cpu), obj) != DISAGREES
        if run_events(mem, slub_, event, lane, row, row + 1, link_room) == row:
            return -1 - row
        if hold_against(slub_, addresses, lane, event[row]) == DISAGREES:
            if how == STOP:
                return row
            handle = lane.handle[event[row]["object"]]
            addresses.wrong[slub_.slab[handle >> st.HANDLE_SHIFT, SLUB_SLAB.cache]] += 1
            learn(slub_, addresses, handle, np.int64(event[row]["object"]))
        row += 1
    return row


__all__ = ["GO_ON", "START", "STOP", "Addresses", "follow_addresses"]

"""A heap behind its operations: whole lanes are compared in test_checked, whose interpreted ones know no table."""

import numpy as np
import pytest
from numba import config

from fastalloc.batch.lane import build_lane
from fastalloc.compiler.jit import DISABLE_JIT, entry
from fastalloc.kernels.alloc.heap_ops import HEAP_OP
from fastalloc.kernels.alloc.kmem import allocated_by
from fastalloc.kernels.alloc.kmem_inspect import cache_slabs, free_objects, heap_pages, overflow_word, overflowed
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.state import ROLE
from fastalloc.kernels.machine.heap_table import OPERATIONS, behind
from fastalloc.linux import gfp as g
from tests.closed_loop.small import small

pytestmark = pytest.mark.skipif(DISABLE_JIT, reason="interpreted kernels get the heap itself")


def lane(allocator):
    return build_lane(small("rc8", {"policy.allocator": allocator}), 0, 1)


@entry
def taken(mem, heap, out, c, who):
    """An object taken: its handle, and who allocated its slab at which depth."""
    handle = slab_take(mem, heap, out, c, 0, g.GFP_ATOMIC, g.IN_INTERRUPT, who)
    if handle < 0:
        return handle, -1, -1
    owner, depth = allocated_by(heap, handle)
    return handle, owner, depth


@entry
def given(mem, heap, c, handle):
    slab_give(mem, heap, c, 0, handle)


@entry
def looked_at(heap, c):
    return heap_pages(heap), cache_slabs(heap, c), free_objects(heap, c), overflowed(heap)


def test_each_operation_has_a_place_of_its_name():
    names = [face.__name__ for face in OPERATIONS]
    assert names == [name for name in HEAP_OP.names if name not in ("overflow", "raised")]
    assert HEAP_OP.names[-1] == "raised"  # which an operation finds from the words behind it
    table = behind(*(getattr(lane("slub"), name) for name in ("mem", "heap", "out"))).table
    addresses = table[: len(names)]
    assert (addresses != 0).all()
    assert len(set(addresses.tolist())) == len(names)


def test_a_program_is_what_the_type_of_its_heap_says():
    """Two lanes alike, one asked through the table: the same handles until nothing is left (SLAB compiles soonest)."""
    typed, asked = lane("slab"), lane("slab")
    for arrays in (typed, asked):
        arrays.mem.zone[:, ZONE.min : ZONE.high + 1] = arrays.mem.zone[:, ZONE.free].max() - 40
    table = behind(asked.mem, asked.heap, asked.out)
    c = int(typed.vm.roles[ROLE.noise])
    handles = []
    while True:
        found = taken(typed.mem, typed.heap, typed.out, c, WHO.noise)
        assert taken(asked.mem, table, asked.out, c, WHO.noise) == found
        if found[0] < 0:
            break
        handles.append(found[0])
    assert len(handles) > 40
    for handle in handles[::2]:
        given(typed.mem, typed.heap, c, handle)
        given(asked.mem, table, c, handle)
    assert looked_at(table, c) == looked_at(typed.heap, c)
    assert all((mine == other).all() for mine, other in zip(typed.heap, asked.heap, strict=True))
    assert (typed.out.ledger == asked.out.ledger).all()
    assert typed.mem.ctl[MEMCTL.failed] == asked.mem.ctl[MEMCTL.failed] > 0


@pytest.mark.skipif(not config.BOUNDSCHECK, reason="make test-bounds runs it")
def test_an_index_out_of_bounds_in_an_operation_is_an_error():
    arrays = lane("slub")
    table = behind(arrays.mem, arrays.heap, arrays.out)
    with pytest.raises(IndexError, match="out of bounds in cache_slabs"):
        looked_at(table, 1000)


def test_a_heap_that_was_too_small_is_seen_through_the_table():
    arrays = lane("slub")
    table = behind(arrays.mem, arrays.heap, arrays.out)
    c = np.int64(arrays.vm.roles[ROLE.noise])
    assert not looked_at(table, c)[3]
    arrays.heap.ctl[overflow_word(arrays.heap)] = 1
    assert looked_at(table, c)[3]

"""At the mark it fails, one above it passes: watermarks, MIN_PARTIAL, SLAB's array limit and free_limit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_LIST3
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, ZONE
from fastalloc.kernels.replay import operations as rp
from fastalloc.linux import gfp as g
from fastalloc.verify.golden import run_case
from fastalloc.verify.golden_case import GoldenCase, read_case
from fastalloc.verify.lane import stub_mem

HAND50 = Path(__file__).parents[1] / "data" / "golden" / "hand50"
MIN = 256

# Operations as (op, cpu, object or -1, argument); cache 0, GFP_KERNEL.
Operation = tuple[int, int, int, int]


def with_trace(operations: list[Operation]) -> GoldenCase:
    """The case hand50 (one cache of 800 bytes, 5 objects a slab) with another trace."""
    op, cpu, obj, arg = (np.array(column) for column in zip(*operations, strict=True))
    count = len(operations)
    trace = rp.Trace(
        op=op.astype(np.uint8),
        cpu=cpu.astype(np.uint8),
        cache=np.zeros(count, dtype=np.int16),
        obj=np.maximum(obj, 0).astype(np.int32),
        gfp=np.full(count, g.GFP_KERNEL, dtype=np.uint32),
        context=np.zeros(count, dtype=np.uint8),
        arg=arg.astype(np.int32),
    )
    return replace(read_case(HAND50), trace=trace, objects=int(obj.max()) + 1)


def allocate(cpu: int, objects: range) -> list[Operation]:
    return [(rp.OP_ALLOC, cpu, obj, -1) for obj in objects]


def free(cpu: int, objects: range) -> list[Operation]:
    return [(rp.OP_FREE, cpu, obj, 0) for obj in objects]


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("mask", "context", "level"),
    [
        (g.GFP_KERNEL, 0, MIN),
        (g.GFP_NOWAIT, 0, MIN * 3 // 4),
        (g.WAIT | g.HIGH, 0, MIN // 2),
        (g.GFP_ATOMIC, 0, MIN * 3 // 8),
        (g.GFP_ATOMIC | g.NOMEMALLOC, g.PF_MEMALLOC, MIN * 3 // 8),
        (g.GFP_ATOMIC, g.PF_MEMALLOC | g.IN_INTERRUPT, MIN * 3 // 8),
        (g.GFP_ATOMIC, g.PF_MEMALLOC, 0),
    ],
)
@pytest.mark.parametrize("above", [0, 1])
def test_watermark(mask: int, context: int, level: int, order: int, above: int) -> None:
    mem = stub_mem(1)
    mem.ctl[MEMCTL.model] = st.MODEL_STUB
    mem.zone[0, ZONE.min] = MIN
    mem.zone[0, ZONE.total] = level + (1 << order) - 1 + above
    got = alloc_pages(mem, 0, -1, mask, order, context)
    assert (got >= 0) == bool(above)
    assert mem.zone[0, ZONE.used] == (above << order)


@pytest.mark.parametrize(("partial", "kept"), [(4, True), (5, False)])
def test_min_partial(partial: int, kept: bool) -> None:
    """An empty CPU slab that is retired stays while fewer than 5 slabs are partial."""
    operations = allocate(2, range(1)) + free(2, range(1))
    operations += allocate(0, range(1, 5 * partial + 2))
    operations += [(rp.OP_FREE, 1, 1 + 5 * k, 0) for k in range(partial)]
    before = run_case(with_trace(operations), "slub64")
    after = run_case(with_trace([*operations, (rp.OP_FLUSH, 2, -1, 0)]), "slub64")
    row = int(after.play.row_of[0])
    assert before.heap.knode[row, 0, KMEM_CACHE_NODE.nr_partial] == partial
    assert after.heap.knode[row, 0, KMEM_CACHE_NODE.nr_partial] == 5
    slabs = [lane.heap.knode[row, 0, KMEM_CACHE_NODE.nr_slabs] for lane in (before, after)]
    assert slabs[1] == slabs[0] - (not kept)
    assert after.heap.kcpu[row, 2, KMEM_CACHE_CPU.deactivate_empty] == 1
    assert after.heap.kcpu[row, 2, KMEM_CACHE_CPU.free_slab] == (not kept)


@pytest.mark.parametrize("above", [0, 1])
def test_array_limit(above: int) -> None:
    """SLAB's array takes ``limit`` objects; the next free flushes ``batchcount`` first."""
    limit, batch = 54, 27
    count = limit + above
    lane = run_case(with_trace(allocate(0, range(count)) + free(1, range(count))), "slab64")
    row = int(lane.play.row_of[0])
    assert lane.heap.queue[row, 1, SLAB_ARRAY.limit] == limit
    assert lane.heap.cache[row, SLAB_CACHE.freemiss] == above
    assert lane.play.path[-1] == 1 + above
    assert lane.heap.queue[row, 1, SLAB_ARRAY.avail] == count - above * batch


def test_free_limit() -> None:
    """SLAB destroys an emptied slab only when more than ``free_limit`` objects are free on the node."""
    count = 1200
    lane = run_case(with_trace(allocate(0, range(count)) + free(1, range(count))), "slab64")
    row = int(lane.play.row_of[0])
    node = lane.heap.node[row, 0]
    num = int(lane.heap.cache[row, SLAB_CACHE.num])
    assert node[SLAB_LIST3.free_limit] == 9 * 27 + num
    assert node[SLAB_LIST3.free_limit] - num < node[SLAB_LIST3.free_objects] <= node[SLAB_LIST3.free_limit]
    assert lane.mem.zone[0, ZONE.frees] > 0

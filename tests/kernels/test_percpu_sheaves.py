"""Percpu sheaves of 7.3: examples worked by hand. Whole histories are in ``tests/golden/test_generated_later``."""

import numpy as np

from fastalloc.kernels.alloc.slub import prefilled, sheaf_calls
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, ZONE
from fastalloc.linux import gfp as g
from tests.kernels.test_eras import ATOMIC, KERNEL, Machine, index_of, row, slab_of


def machine(capacity=4, pages=None, **more):
    """A cache of 4 objects a slab whose sheaves cost nothing, two CPUs."""
    made = row(era="7.3", capacity=capacity, **more)
    made[[KMEM_CACHE.max_full, KMEM_CACHE.max_empty]] = 10, 10
    m = Machine(made, pages=pages)
    assert sheaf_calls.add_sheaves(m.mem, m.slub, 0, 0, np.int64(KERNEL), 0)
    return m


def locks(m):
    return m.slub.knode[0, 0, [KMEM_CACHE_NODE.list_locks, KMEM_CACHE_NODE.barn_locks]].tolist()


def test_everybody_refills_a_sheaf_from_whole_slabs():
    m = machine(capacity=6)
    first = m.alloc(gfp=ATOMIC)
    # Two slabs of four: the last object copied is the first handed out, the rest waits at the head of the list.
    assert (slab_of(first), index_of(first)) == (1, 1)
    assert m.node_partial() == [1]
    assert m.stats()["sheaf_refill"] == 6
    assert "alloc_slowpath" not in m.stats()
    assert locks(m) == [1, 0]  # to list the second slab


def test_a_flush_frees_a_chain_a_slab_and_locks_once_for_it():
    m = machine(capacity=8, min_partial=0)
    held = [m.alloc() for _ in range(8)]
    for handle in held:
        m.free(handle)
    before = locks(m)[0]
    m.flush()
    assert m.slabs() == 0
    assert m.stats()["free_slab"] == 2
    assert locks(m)[0] - before == 2  # each slab went from full to empty in one step
    assert "free_slowpath" not in m.stats()


def test_a_reserve_from_below_the_watermarks_is_not_recycled():
    m = machine(pages=8)
    m.mem.ctl[MEMCTL.context] = 0
    m.mem.zone[0, ZONE.min] = 100
    assert prefilled.prefill_sheaf(m.mem, m.slub, 0, 0, KERNEL, 0, 3, -1) == -1
    h = prefilled.prefill_sheaf(m.mem, m.slub, 0, 0, KERNEL, g.PF_MEMALLOC, 3, -1)
    assert (m.slub.ctl[h + SHEAF.reserve], m.slub.ctl[h + SHEAF.size]) == (1, 4)
    prefilled.return_sheaf(m.mem, m.slub, 0, 0, h, KERNEL, 0)
    assert m.sheaf(KMEM_CACHE_CPU.spare) is None
    assert m.stats()["sheaf_flush"] == 4


def test_a_partly_full_sheaf_returns_as_the_spare():
    m = machine()
    h = prefilled.prefill_sheaf(m.mem, m.slub, 0, 0, KERNEL, 0, 3, -1)
    taken = [int(prefilled.alloc_from_sheaf(m.slub, h)) for _ in range(5)]
    assert taken[4] == -1  # empty: no fallback
    m.free(taken.pop(0))
    prefilled.return_sheaf(m.mem, m.slub, 0, 0, h, KERNEL, 0)
    assert m.sheaf(KMEM_CACHE_CPU.spare) == []
    assert (m.stats()["sheaf_prefill_slow"], m.stats()["sheaf_return_fast"]) == (1, 1)

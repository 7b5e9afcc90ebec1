"""Percpu sheaves of 7.3: examples worked by hand. Whole histories are in ``tests/golden/test_generated_later``."""

import numpy as np

from fastalloc.kernels.alloc.slub.era_7_3 import prefilled, sheaf_calls
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, ZONE
from fastalloc.kernels.replay import refill_events
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


class Refills:
    """Refills of cache 0 on CPU 0, step by step; ``sheaf``: of each, -1 none."""

    def __init__(self, m, count):
        self.m, self.sheaf = m, np.full(count, -1, np.int64)

    def step(self, op, number, amount=0):
        refill_events.refill_event(self.m.mem, self.m.slub, self.sheaf, op, 0, 0, np.int64(amount), number)


def test_a_sheaf_refilled_late_becomes_the_spare_or_goes_to_the_barn():
    m = machine()
    k, node, ctl = m.slub.kcpu[0, 0], m.slub.knode[0, 0], m.slub.ctl
    refills = Refills(m, 6)
    for number in range(5):
        refills.step(refill_events.OP_BEGIN_REFILL, number)
    sheaf, empty = refills.sheaf.tolist(), k[KMEM_CACHE_CPU.main]
    refills.step(refill_events.OP_INSTALL, 0)
    assert k[[KMEM_CACHE_CPU.main, KMEM_CACHE_CPU.spare]].tolist() == [sheaf[0], empty]
    refills.step(refill_events.OP_BEGIN_REFILL, 5)
    assert refills.sheaf[5] == -1  # there are objects
    refills.step(refill_events.OP_INSTALL, 1)
    assert (k[KMEM_CACHE_CPU.spare], node[KMEM_CACHE_NODE.empty]) == (sheaf[1], empty)
    refills.step(refill_events.OP_INSTALL, 2)
    assert node[KMEM_CACHE_NODE.full] == sheaf[2]
    k[KMEM_CACHE_CPU.spare] = -1
    refills.step(refill_events.OP_INSTALL, 3)
    assert k[KMEM_CACHE_CPU.spare] == sheaf[3]
    ctl[sheaf[0] + SHEAF.size] = 0  # the main one
    refills.step(refill_events.OP_INSTALL, 4)
    assert (k[KMEM_CACHE_CPU.main], node[KMEM_CACHE_NODE.empty]) == (sheaf[4], sheaf[0])


def test_a_refill_looks_in_the_lists_for_what_it_did_not_buy():
    m = machine(capacity=6)
    refills = Refills(m, 2)
    for number in range(2):
        refills.step(refill_events.OP_BEGIN_REFILL, number, amount=1)
    refills.step(refill_events.OP_REFILL_NEW, 0, amount=2)
    assert m.node_partial() == []
    refills.step(refill_events.OP_REFILL_NEW, 0)  # the second one
    assert m.node_partial() == [1]  # with two objects
    refills.step(refill_events.OP_REFILL_NEW, 1, amount=1)
    assert (m.slabs(), m.node_partial()) == (3, [])
    assert m.slub.ctl[refills.sheaf[1] + SHEAF.size] == 6

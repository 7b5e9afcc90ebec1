"""Sheaves and barns: examples worked by hand."""

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_sheaves import sheaves
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_CTL, ZONE
from fastalloc.linux import gfp as g
from tests.kernels.eras import ATOMIC, KERNEL, Machine, index_of, row, sheaf_row


def test_a_main_sheaf_is_a_stack():
    m = Machine(sheaf_row())
    first = m.alloc()
    assert m.path == er.PATH_SHEAF
    # A caller who may wait fills a whole sheaf; the empty main one becomes the spare.
    assert (index_of(first), len(m.sheaf(KMEM_CACHE_CPU.sheaf_main)), m.sheaf(KMEM_CACHE_CPU.spare)) == (3, 3, [])
    assert m.stats()["sheaf_refill"] == 4
    m.free(first)
    assert m.alloc() == first
    # The common calls of 7.3, which ask for no era, must find nothing of it.
    assert m.sheaf(KMEM_CACHE_CPU.main) is None


def test_a_caller_who_may_not_wait_gets_one_object_from_the_slabs():
    m = Machine(sheaf_row())
    handle = m.alloc(gfp=ATOMIC)
    assert (index_of(handle), m.path) == (0, 4)
    assert m.sheaf(KMEM_CACHE_CPU.sheaf_main) == []
    assert m.stats()["barn_get_fail"] == 1
    assert "sheaf_refill" not in m.stats()


def test_the_stock_of_one_cpu_reaches_another_through_the_barn():
    m = Machine(sheaf_row())
    things = [m.alloc(gfp=ATOMIC) for _ in range(12)]
    for handle in things:
        m.free(handle)
    # The spare sheaf keeps the oldest four; the main one went to the barn when it was full in its turn.
    assert m.sheaf(KMEM_CACHE_CPU.sheaf_main) == things[8:12]
    assert m.sheaf(KMEM_CACHE_CPU.spare) == things[0:4]
    assert m.barn(KMEM_CACHE_NODE.full) == [things[4:8]]
    got = m.alloc(cpu=1, gfp=ATOMIC)
    assert got == things[7]
    assert m.stats(1)["barn_get"] == 1
    assert m.barn(KMEM_CACHE_NODE.full) == []
    assert m.barn(KMEM_CACHE_NODE.empty) == [[]]


def test_a_full_barn_sends_a_spare_sheaf_back_to_the_slabs():
    m = Machine(sheaf_row(capacity=2))
    sheaf_room = 2 * (2 + er.MAX_FULL_SHEAVES)
    things = [m.alloc(gfp=ATOMIC) for _ in range(sheaf_room + 1)]
    for handle in things[:-1]:
        m.free(handle)
    assert len(m.barn(KMEM_CACHE_NODE.full)) == er.MAX_FULL_SHEAVES
    assert "barn_put_fail" not in m.stats()
    m.free(things[-1])
    assert m.stats()["barn_put_fail"] == 1
    assert m.stats()["sheaf_flush"] == 2
    assert m.sheaf(KMEM_CACHE_CPU.sheaf_main) == [things[-1]]
    assert len(m.barn(KMEM_CACHE_NODE.full)) == er.MAX_FULL_SHEAVES


def test_a_sheaf_that_cannot_be_filled_is_given_up_and_the_object_comes_from_the_slabs():
    m = Machine(sheaf_row(), pages=1)
    for _ in range(2):
        m.alloc(gfp=ATOMIC)
    assert m.alloc() >= 0
    # The two objects it did get went back, and with them their slab to the CPU's partial list.
    assert m.path == er.PATH_CPU_PARTIAL
    assert m.stats()["sheaf_free"] == 1
    assert "sheaf_refill" not in m.stats()


def test_refills_do_not_touch_what_only_pf_memalloc_may_take():
    m = Machine(sheaf_row(), pages=8)
    m.mem.zone[0, ZONE.min] = 100
    assert m.alloc(context=g.PF_MEMALLOC) >= 0
    assert m.path == 4
    assert m.sheaf(KMEM_CACHE_CPU.sheaf_main) == []


def test_sheaves_cost_memory_where_a_cache_is_named():
    m = Machine(sheaf_row(source=1), row(size=64))
    m.alloc()
    assert m.stats()["sheaf_alloc"] == 2
    assert m.slabs(1) == 1
    m.flush()
    assert m.stats()["sheaf_free"] == 1
    assert slub.kmem_cache_close(m.mem, m.slub, 0, 0) == 0  # one object is still out


def test_a_destroyed_cache_leaves_nothing_behind():
    m = Machine(sheaf_row(source=1), row(size=64))
    for handle in [m.alloc() for _ in range(30)]:
        m.free(handle, cpu=1)
    assert slub.kmem_cache_close(m.mem, m.slub, 0, 0)
    assert m.slabs(0) == 0
    assert m.stats(0)["sheaf_alloc"] + m.stats(1)["sheaf_alloc"] == m.stats(0)["sheaf_free"] + m.stats(1).get(
        "sheaf_free", 0
    )
    slub.kmem_cache_shrink(m.mem, m.slub, 1, 0)
    assert m.slub.ctl[SLUB_CTL.pages] == m.slabs(1)


def test_a_prefilled_sheaf_is_a_reserve_that_cannot_fail():
    m = Machine(sheaf_row(), pages=1)
    h = sheaves.prefill_sheaf(m.mem, m.slub, 0, 0, KERNEL, 0, 3)
    assert len(m.objects(h)) == 4
    assert m.alloc() == st.NO_OBJECT
    taken = [int(sheaves.alloc_from_sheaf(m.slub, h)) for _ in range(5)]
    assert all(handle >= 0 for handle in taken[:4])
    assert taken[4] == st.NO_OBJECT
    for handle in taken[:4]:
        m.free(handle)
    sheaves.return_sheaf(m.mem, m.slub, 0, 0, h, KERNEL, 0)
    assert m.sheaf(KMEM_CACHE_CPU.spare) is not None


def test_a_reserve_from_below_the_watermarks_is_not_recycled():
    m = Machine(sheaf_row(), pages=8)
    m.mem.zone[0, ZONE.min] = 100
    assert sheaves.prefill_sheaf(m.mem, m.slub, 0, 0, KERNEL, 0, 3) == -1
    h = sheaves.prefill_sheaf(m.mem, m.slub, 0, 0, KERNEL, g.PF_MEMALLOC, 3)
    assert m.slub.ctl[h + SHEAF.reserve] == 1
    sheaves.return_sheaf(m.mem, m.slub, 0, 0, h, KERNEL, 0)
    assert m.sheaf(KMEM_CACHE_CPU.spare) is None
    assert m.barn(KMEM_CACHE_NODE.full) == []

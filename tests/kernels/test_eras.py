"""The later eras of SLUB: examples worked by hand, and random walks against the reference."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hs

from fastalloc.kernels.alloc import kmem
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_CTL, SLUB_SLAB, ZONE
from fastalloc.linux.geometry_slub import CacheRequest, SlubOptions, calculate_sizes
from fastalloc.scenario.slub_arrays import geometry_row
from tests.kernels.eras import ATOMIC, KERNEL, Machine, index_of, row, sheaf_row, slab_of
from tests.reference import slub_eras as reference
from tests.reference.cpu_partial import CpuPartialCache


def test_each_era_is_a_folder_and_no_folder_is_without_one():
    folders = {path.parent.name for path in Path(slub.__file__).parent.glob("*/__init__.py")}
    assert folders == {f"era_{name}".replace(".", "_").replace("-", "_") for name in er.ERA_NAMES}


# ---------------------------------------------------------------------------------------------- cpu-partial


def test_a_full_slab_that_loses_an_object_goes_to_the_freeing_cpu():
    m = Machine(row())
    things = [m.alloc() for _ in range(5)]
    assert [slab_of(h) for h in things] == [0, 0, 0, 0, 1]
    m.free(things[0], cpu=1)
    assert m.path == er.PATH_CPU_PARTIAL
    assert (m.cpu_partial(1), m.cpu_partial(0), m.node_partial()) == ([0], [], [])
    m.free(things[1], cpu=0)
    assert m.path == 4
    assert "free_frozen" not in m.stats(0)  # since 6.8 such a list freezes no slab
    # CPU 1 takes it from its own list and hands out the last freed object first.
    again = m.alloc(cpu=1)
    assert (slab_of(again), index_of(again), m.path) == (0, 1, er.PATH_CPU_PARTIAL)
    assert m.stats(1)["cpu_partial_alloc"] == 1


def test_a_full_partial_list_moves_to_the_node_as_a_whole():
    m = Machine(row())
    things = [m.alloc() for _ in range(4 * 4)]
    for slab in range(3):
        m.free(things[4 * slab], cpu=1)
        if slab < 2:
            assert m.cpu_partial(1) == list(range(slab, -1, -1))
    assert m.cpu_partial(1) == [2]
    assert m.node_partial() == [1, 0]
    assert m.stats(1)["cpu_partial_drain"] == 1
    assert m.stats(1)["free_add_partial"] == 2


def test_list_lock_is_counted_where_the_kernel_takes_it():
    m = Machine(row())
    things = [m.alloc() for _ in range(4 * 4)]
    locks = [0]

    def taken():
        locks.append(int(m.slub.knode[0, 0, KMEM_CACHE_NODE.list_locks]))
        return locks[-1] - locks[-2]

    assert taken() == 0  # new slabs are on no list
    m.free(things[0], cpu=1)
    m.free(things[4], cpu=1)
    assert taken() == 0  # a CPU's list has no lock
    m.free(things[8], cpu=1)
    assert taken() == 1  # two slabs to one node
    for handle in things[9:11]:
        m.free(handle)
    m.free(things[1])
    assert taken() == 0  # a slab in use, listed before and behind
    m.free(things[11])
    assert taken() == 1  # emptied on CPU 1's list, which is found out under the lock
    m.alloc(), m.alloc(cpu=1)
    assert taken() == 1  # CPU 0 takes from the node, CPU 1 from its own list
    m.flush()
    assert taken() == 1  # slab 0 of its list to the node; slab 1 is full again and goes on no list


def test_an_emptied_slab_stays_until_min_partial_is_met():
    """2.6.25 gives the page back at once; here two slabs may stay empty on the node."""
    m = Machine(row(limit=1, min_partial=2))
    things = [m.alloc() for _ in range(4 * 5)]
    for handle in things[: 4 * 4]:
        m.free(handle, cpu=1)
    # Slab 0 was drained to the node when slab 1 came, and so on; each was empty by then.
    assert m.cpu_partial(1) == [3]
    assert m.node_partial() == [0, 1]
    assert m.slabs() == 4
    assert (m.stats(1)["deactivate_empty"], m.stats(1)["free_slab"]) == (1, 1)

    old = Machine(row(era="2.6.25", min_partial=2))
    things = [old.alloc() for _ in range(4 * 5)]
    for handle in things[: 4 * 4]:
        old.free(handle, cpu=1)
    assert (old.slabs(), old.node_partial()) == (1, [])


@pytest.mark.parametrize(("nr_partial", "kept"), [(1, True), (2, False)])
def test_min_partial_counts_on_a_free_into_a_node_slab(nr_partial, kept):
    m = Machine(row(limit=1, min_partial=2))
    things = [m.alloc() for _ in range(4 * 4)]
    for slab in range(nr_partial + 1):
        m.free(things[4 * slab], cpu=1)
    assert len(m.node_partial()) == nr_partial
    for handle in things[1:4]:
        m.free(handle, cpu=1)
    assert m.path == (4 if kept else 5)
    assert (0 in m.node_partial()) is kept


def test_a_full_cpu_slab_is_let_go_without_a_list():
    m = Machine(row())
    for _ in range(5):
        m.alloc()
    assert m.stats() == {"alloc_fastpath": 3, "alloc_slowpath": 2, "alloc_slab": 2, "deactivate_bypass": 1}


def test_a_retired_slab_keeps_the_order_of_its_private_objects():
    """2.6.25 pushes them one by one and so turns them round."""
    for era, first in (("cpu-partial", 1), ("2.6.25", 3)):
        m = Machine(row(era=era))
        m.alloc()
        m.flush()
        assert m.node_partial() == [0]
        assert index_of(m.alloc(cpu=1)) == first


def test_remote_frees_put_a_retired_slab_at_the_tail():
    m = Machine(row())
    first = m.alloc(cpu=0)
    m.flush(0)
    assert m.node_partial() == [0]
    m.alloc(cpu=1)
    second = m.alloc(cpu=0)
    assert (slab_of(first), slab_of(second)) == (0, 1)
    m.free(second, cpu=1)
    m.flush(1)
    assert m.node_partial() == [0]
    m.flush(0)
    assert m.node_partial() == [0, 1]
    assert m.stats(0)["deactivate_to_tail"] == 1


def test_a_cpu_takes_slabs_from_the_node_until_half_its_list_is_full():
    m = Machine(row(limit=4, min_partial=10))
    things = [m.alloc(cpu=1) for _ in range(4 * 8)]
    for slab in range(7):
        m.free(things[4 * slab], cpu=1)
    m.flush(1)
    assert len(m.node_partial()) == 7
    m.alloc(cpu=0)
    # The first is the CPU slab; further ones follow while no more than 4 / 2 are on the list.
    assert m.stats(0)["cpu_partial_node"] == 3
    assert len(m.cpu_partial(0)) == 3
    assert len(m.node_partial()) == 3


def test_the_old_way_of_counting_free_objects():
    m = Machine(row(limit=3, by_objects=True))
    things = [m.alloc() for _ in range(4 * 6)]
    for slab in range(4):
        m.free(things[4 * slab], cpu=1)
    assert len(m.cpu_partial(1)) == 4
    m.free(things[16], cpu=1)
    assert (len(m.cpu_partial(1)), len(m.node_partial())) == (1, 4)


def test_a_refused_order_falls_back_to_the_smallest():
    made = row(size=1024, order=2)
    m = Machine(made, pages=5)
    things = [m.alloc() for _ in range(17)]
    assert m.stats()["order_fallback"] == 1
    assert m.slub.slab[slab_of(things[16]), [SLUB_SLAB.objects, SLUB_SLAB.order]].tolist() == [4, 0]
    assert [m.alloc() >= 0 for _ in range(4)] == [True, True, True, False]
    assert m.path == 0
    for handle in things:
        m.free(handle)
    m.shrink()
    assert m.mem.zone[0, ZONE.used] == m.slabs()


def test_shrink_sorts_the_fullest_first_and_leaves_the_rest_alone():
    m = Machine(row(size=64, limit=0, min_partial=10))
    things = [m.alloc(cpu=1) for _ in range(64 * 6)]
    m.flush(1)
    for slab, count in enumerate((33, 2, 40, 32, 2, 1)):
        for i in range(count):
            m.free(things[64 * slab + i])
    assert m.node_partial() == [0, 1, 2, 3, 4, 5]
    m.shrink()
    assert m.node_partial() == [5, 4, 1, 3, 0, 2]


# ------------------------------------------------------------------------------------------------- two nodes


def node_of(m, handle):
    return int(m.slub.slab[slab_of(handle), SLUB_SLAB.node])


def test_a_named_node_turns_the_cpu_slab_and_the_partial_list_away():
    m = Machine(row(), nodes=2)
    here = [m.alloc() for _ in range(8)]
    m.free(here[0])
    assert m.cpu_partial(0) == [0]
    there = m.alloc(node=1)
    assert (node_of(m, here[0]), node_of(m, there)) == (0, 1)
    assert m.stats()["alloc_node_mismatch"] == 1
    # The slabs that did not fit wait on their own node.
    assert m.cpu_partial(0) == []
    assert m.node_partial() == [0]


def test_another_node_lends_partial_slabs_only_above_min_partial():
    m = Machine(row(min_partial=2, limit=1), nodes=2)
    things = [m.alloc(cpu=0) for _ in range(4 * 5)]
    for slab in range(3):
        m.free(things[4 * slab], cpu=0)
    m.flush(0)
    assert m.chain(m.slub.knode[0, 0, KMEM_CACHE_NODE.partial_head]) == [0, 1, 2]
    assert node_of(m, m.alloc(cpu=1)) == 0
    m = Machine(row(min_partial=3, limit=1), nodes=2)
    things = [m.alloc(cpu=0) for _ in range(4 * 5)]
    for slab in range(3):
        m.free(things[4 * slab], cpu=0)
    m.flush(0)
    assert node_of(m, m.alloc(cpu=1)) == 1


def test_sheaves_hold_objects_of_their_own_node():
    m = Machine(sheaf_row(), nodes=2)
    handle = m.alloc(cpu=0)
    m.free(handle, cpu=1)
    assert m.path != er.PATH_SHEAF
    assert m.sheaf(KMEM_CACHE_CPU.sheaf_main, cpu=1) is None
    far = m.alloc(cpu=0, node=1)
    assert node_of(m, far) == 1
    assert m.stats()["alloc_node_mismatch"] == 1
    assert node_of(m, m.alloc(cpu=0, node=0)) == 0
    assert m.path == er.PATH_SHEAF


# ---------------------------------------------------------------------------------- all eras, one workload


def test_eras_live_side_by_side():
    """One workload meets all eras in one lane: allocated pages differ, objects never do."""
    layout = calculate_sizes(CacheRequest("x", 128), SlubOptions())
    m = Machine(*(geometry_row(layout, era, sheaf_capacity=32) for era in er.ERA_NAMES))
    live = [[m.alloc(c) for _ in range(200)] for c in range(3)]
    assert [len(set(handles)) for handles in live] == [200] * 3
    for c in range(3):
        for handle in live[c]:
            m.free(handle, cpu=1)
    # 2.6.25 returned every emptied slab but the CPU slab, the others keep a stock.
    assert m.slabs(0) == 1
    assert m.slabs(1) > 1
    assert m.slabs(2) > 1
    for c in range(3):
        m.shrink(0, c)
        # What the barn held landed on this CPU's partial list; a second pass finds it there.
        assert (m.slabs(c) == 0) == (c < 2)
        m.shrink(0, c)
        assert m.slabs(c) == 0
    assert m.slub.ctl[SLUB_CTL.pages] == 0


def test_geometry_row_carries_the_rules_of_the_era():
    layout = calculate_sizes(CacheRequest("x", 256), SlubOptions(era="6.1", cpus_present=8))
    made = geometry_row(layout, "cpu-partial")
    assert made[[KMEM_CACHE.era, KMEM_CACHE.cpu_partial, KMEM_CACHE.min_order]].tolist() == [1, 4, 0]
    assert geometry_row(layout, "cpu-partial", by_objects=True)[KMEM_CACHE.cpu_partial] == 52
    assert geometry_row(layout, "sheaves", 60, 7)[[KMEM_CACHE.sheaf_capacity, KMEM_CACHE.sheaf_cache]].tolist() == [
        60,
        7,
    ]
    plain = geometry_row(layout)
    assert plain[KMEM_CACHE.min_order] == layout.order  # one attempt
    plain[KMEM_CACHE.min_order] = 0
    assert not plain[KMEM_CACHE.era :].any()
    early = geometry_row(layout, order_fallback=True, keep_empty=True)
    assert early[[KMEM_CACHE.era, KMEM_CACHE.min_order, KMEM_CACHE.keep_empty]].tolist() == [
        er.ERA_2_6_25,
        0,
        layout.min_partial,
    ]
    with pytest.raises(ValueError, match="slub"):
        geometry_row(layout, "slub")


# ------------------------------------------------------------------------------- against the reference

OP = hs.tuples(hs.integers(0, 19), hs.integers(0, 1), hs.integers(0, 1 << 16))


class Pair:
    """The kernels and the reference, step by step."""

    def __init__(self, era, size, order, limit, min_partial, by_objects, pages, capacity):
        made = row(size, era, order, limit, min_partial, capacity, by_objects=by_objects)
        self.m = Machine(made, pages=pages)
        self.pages = reference.Pages(pages)
        args = (self.pages, size, order, 0, min_partial)
        lists = {"limit": limit, "by_objects": by_objects}
        self.ref = (
            reference.SheafCache(*args, capacity=capacity, **lists)
            if era == "sheaves"
            else CpuPartialCache(*args, **lists)
        )
        self.sheaves = era == "sheaves"
        self.live = []

    def step(self, op, cpu, pick):
        if op < 9:
            gfp = ATOMIC if op < 3 else KERNEL
            handle = self.m.alloc(cpu=cpu, gfp=gfp)
            thing = (
                self.ref.alloc(cpu, gfp == KERNEL)
                if isinstance(self.ref, reference.SheafCache)
                else self.ref.alloc(cpu, gfp)
            )
            assert (handle < 0) == (thing is None)
            if thing is not None:
                assert index_of(handle) == thing[1]
                self.live.append((handle, thing))
        elif op < 18 and self.live:
            handle, thing = self.live.pop(pick % len(self.live) if op < 15 else -1)
            self.m.free(handle, cpu)
            self.ref.free(cpu, thing)
        elif op == 18:
            self.m.flush(cpu)
            self.ref.flush_cpu(cpu)
        else:
            self.m.shrink(cpu)
            self.ref.shrink(cpu)
        self.check()

    def check(self):
        m, ref = self.m, self.ref
        assert m.slabs() == len(ref.slabs)
        assert m.mem.zone[0, ZONE.total] - m.mem.zone[0, ZONE.used] == self.pages.free
        assert [m.slub.slab[s, [SLUB_SLAB.inuse, SLUB_SLAB.objects]].tolist() for s in m.node_partial()] == [
            [slab.inuse, slab.objects] for slab in ref.partials[0]
        ]
        for c, cpu in enumerate(ref.cpus):
            assert m.stats(c) == {name: count for name, count in ref.stats[c].items() if count}
            assert [int(m.slub.slab[s, SLUB_SLAB.inuse]) for s in m.cpu_partial(c)] == [
                slab.inuse for slab in cpu.partial
            ]
            pcs = ref.pcs[c] if self.sheaves else reference.Sheaves()
            for which, sheaf in ((KMEM_CACHE_CPU.sheaf_main, pcs.main), (KMEM_CACHE_CPU.spare, pcs.spare)):
                got = m.sheaf(which, c)
                assert (got is None) == (sheaf is None)
                if sheaf is not None:
                    assert [index_of(handle) for handle in got] == [index for _, index in sheaf]
        if self.sheaves:
            assert [[index_of(h) for h in full] for full in m.barn(KMEM_CACHE_NODE.full)] == [
                [index for _, index in full] for full in ref.full
            ]
            assert len(m.barn(KMEM_CACHE_NODE.empty)) == len(ref.empty)
        assert m.slub.ctl[SLUB_CTL.overflow] == 0


@given(
    hs.sampled_from(["cpu-partial", "sheaves"]),
    hs.sampled_from([(1024, 0), (1024, 2), (64, 0), (512, 1), (2048, 0), (4096, 0), (4096, 1)]),
    hs.integers(0, 4),
    hs.integers(0, 3),
    hs.booleans(),
    hs.sampled_from([6, 40, 300]),
    hs.integers(1, 6),
    hs.lists(OP, max_size=150),
)
def test_random_walks_match_the_reference(era, shape, limit, min_partial, by_objects, pages, capacity, steps):
    pair = Pair(era, *shape, limit, min_partial, by_objects, pages, capacity)
    for op, cpu, pick in steps:
        pair.step(op, cpu, pick)


@pytest.mark.parametrize("era", ["cpu-partial", "sheaves"])
@pytest.mark.parametrize("pages", [40, 1000])
def test_long_walks_match_the_reference(era, pages):
    """Phases of growth and decline, so that lists fill and drain."""
    rng = np.random.default_rng(7)
    pair = Pair(era, 256, 1, 3, 2, False, pages, 5)
    for i in range(4000):
        growing = (i // 250) % 2 == 0
        chances = [0.5, 0.2, 0.25, 0.04, 0.005, 0.005] if growing else [0.2, 0.1, 0.5, 0.19, 0.005, 0.005]
        op = int(rng.choice([4, 1, 10, 16, 18, 19], p=chances))
        pair.step(op, int(rng.integers(2)), int(rng.integers(1 << 16)))


def test_the_common_face_takes_a_lane_of_any_era():
    m = Machine(row(era="2.6.25"), row(), sheaf_row())
    for c in range(3):
        handle = kmem.kmem_cache_alloc(m.mem, m.slub, c, 0, -1, KERNEL, 0)
        assert m.slub.slab[slab_of(handle), SLUB_SLAB.cache] == c
        kmem.kmem_cache_free(m.mem, m.slub, c, 0, handle)

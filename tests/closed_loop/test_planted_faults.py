"""The debug mode finds what is broken: every violation it can name is planted and named."""

import pytest

from fastalloc.batch import ConservationError, check_sound
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MP_CURR, MP_MIN
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.machine.check import VIOLATIONS
from fastalloc.kernels.machine.run import run_lane
from tests.closed_loop.census import held, in_use
from tests.closed_loop.small import advance, small

DMA32 = 1
JIFFY_MS = 4


def busy_lane(debug=True, after=1000, asleep=2, **settings):
    """A lane in the middle of swap-out, one ns before a tick; every tick is visited, and checked before it runs."""
    arrays = build_lane(small("rc8", settings), 1, 1, debug=debug, skip=False)
    for k in range(after, after + 4000):
        advance(1, arrays, k * JIFFY_MS - 1e-6)
        queue = arrays.io.ctl
        if (
            queue[ms.H_DISK_HEAD] >= 0
            and queue[ms.Q_HEAD] >= 0
            and arrays.vm.ctl[ms.V_SLEEPERS + ms.SLEEP_BIO_POOL] >= asleep
        ):
            return arrays
    raise AssertionError("the lane never got there")


def verdict(arrays):
    """The violation that the next tick names, "" for none."""
    before = int(arrays.vm.ctl[ms.V_NOW])
    run_lane(*arrays, before + 40 * ms.NS_PER_MS)
    name = VIOLATIONS[arrays.vm.ctl[ms.V_ERROR]]
    if name:
        assert arrays.vm.ctl[ms.V_NOW] - before <= 2 * JIFFY_MS * ms.NS_PER_MS
        with pytest.raises(ConservationError, match=name.split(":")[0].replace("+", r"\+")):
            check_sound(1, arrays)
    return name


def partial_slab(arrays):
    """A slab with free slots on its own list."""
    heap = arrays.heap
    for s in range(heap.ctl[st.U_SLAB_TOP]):
        if heap.slab[s, st.S_PFN] >= 0 and heap.slab[s, st.S_FREELIST] >= 0 and not heap.slab[s, st.S_FROZEN]:
            return s
    raise AssertionError("no partial slab")


def bump(group, field, by=1):
    def plant(arrays):
        getattr(arrays, group).ctl[field] += by

    return plant


def zone(field, by=1):
    def plant(arrays):
        arrays.mem.zone[DMA32, field] += by

    return plant


def pcp_count(arrays):
    arrays.mem.pcp[0, DMA32, st.PCP_COUNT] += 1


def page_lost(arrays):
    """A free block leaves the buddy lists and turns up nowhere."""
    mem = arrays.mem
    z, order = next((z, order) for z in range(2) for order in range(11) if mem.area[z, order, st.AREA_NR] > 0)
    mem.area[z, order, st.AREA_HEAD] = mem.page[mem.area[z, order, st.AREA_HEAD], st.P_NEXT]
    mem.area[z, order, st.AREA_NR] -= 1
    mem.zone[z, st.Z_FREE] -= 1 << order


def buddy_block_lost(arrays):
    area = arrays.mem.area
    z, order = next((z, order) for z in range(2) for order in range(11) if area[z, order, st.AREA_NR] > 0)
    area[z, order, st.AREA_HEAD] = arrays.mem.page[area[z, order, st.AREA_HEAD], st.P_NEXT]


def lru_page_lost(arrays):
    head = arrays.mem.zone[DMA32, st.Z_INACTIVE_HEAD]
    arrays.mem.zone[DMA32, st.Z_INACTIVE_HEAD] = arrays.mem.page[head, st.P_NEXT]


def slab_inuse(arrays):
    arrays.heap.slab[partial_slab(arrays), st.S_INUSE] += 1


def slab_list_cut(arrays):
    arrays.heap.slab[partial_slab(arrays), st.S_FREELIST] = -1


def slab_count(arrays):
    arrays.heap.knode[arrays.vm.roles[ms.ROLE_BIO], 0, st.N_NR_SLABS] -= 1


def partial_count(arrays):
    arrays.heap.knode[arrays.vm.roles[ms.ROLE_BIO], 0, st.N_NR_PARTIAL] += 1


def slab_order(arrays):
    arrays.heap.slab[partial_slab(arrays), st.S_ORDER] += 1


def slab_array_overfull(arrays):
    queue = arrays.heap.queue[arrays.vm.roles[ms.ROLE_BIO], 0]
    queue[ss.Q_AVAIL] = queue[ss.Q_LIMIT] + 1


def slab_free_object_twice(arrays):
    arrays.heap.node[arrays.vm.roles[ms.ROLE_BIO], 0, ss.L3_FREE_OBJECTS] += 1


def slab_active(arrays):
    arrays.heap.cache[arrays.vm.roles[ms.ROLE_BIO], ss.A_ACTIVE] -= 1


def slab_list_count(arrays):
    arrays.heap.node[arrays.vm.roles[ms.ROLE_BIO], 0, ss.L3_NR_FULL] += 1


def slab_management_waits(arrays):
    arrays.heap.ctl[ss.T_PENDING] = 1


def slob_hole_lost(arrays):
    p = arrays.heap.page[0, so.B_NEXT]
    arrays.heap.page[p, so.B_UNITS] -= 1


def sheaf_overfull(arrays):
    heap = arrays.heap
    h = heap.kcpu[arrays.vm.roles[ms.ROLE_BIO], 0, er.K_MAIN]
    heap.ctl[h + er.H_SIZE] = heap.cache[arrays.vm.roles[ms.ROLE_BIO], er.C_SHEAF_CAPACITY] + 1


def barn_count(arrays):
    arrays.heap.knode[arrays.vm.roles[ms.ROLE_BIO], 0, er.N_NR_EMPTY] += 1


def pool_overfull(arrays):
    arrays.pools.pool[ms.POOL_SG, MP_CURR] = arrays.pools.pool[ms.POOL_SG, MP_MIN] + 1


def pool_negative(arrays):
    arrays.pools.pool[ms.POOL_BIO, MP_CURR] = -1


def request_lost(arrays):
    """The tail of the queue is forgotten: one request is not found any more."""
    tail = arrays.io.ctl[ms.Q_TAIL]
    before = arrays.io.request[tail, ms.R_PREV]
    assert before >= 0
    arrays.io.request[before, ms.R_NEXT] = -1


def bio_lost(arrays):
    arrays.io.request[arrays.io.ctl[ms.Q_HEAD], ms.R_NR_BIOS] -= 1


def command_lost(arrays):
    arrays.io.ctl[ms.H_DISK_HEAD] = -1


def sleeper_lost(arrays):
    head = arrays.vm.waitq[ms.SLEEP_BIO_POOL, 0]
    arrays.vm.waitq[ms.SLEEP_BIO_POOL, 0] = arrays.vm.task[head, ms.T_NEXT]


def free_list_too_long(arrays):
    arrays.io.ctl[ms.H_FREE_LIST] = arrays.io.ctl[ms.H_FREE_LIST_SIZE] + 1


def slot_twice(arrays):
    arrays.vm.cluster[0] += 1


FAULTS = [
    (1, zone(st.Z_FREE)),
    (1, zone(st.Z_FREE, -1)),
    (1, buddy_block_lost),
    (2, pcp_count),
    (3, zone(st.Z_NR_INACTIVE)),
    (3, zone(st.Z_NR_ACTIVE, -1)),
    (3, lru_page_lost),
    (4, page_lost),
    (4, bump("vm", ms.V_RESERVED)),
    (4, bump("heap", st.U_PAGES)),
    (5, slab_inuse),
    (5, slab_list_cut),
    (6, slab_count),
    (6, partial_count),
    (7, pool_overfull),
    (7, pool_negative),
    (8, bump("io", ms.Q_COUNT)),
    (8, bump("io", ms.Q_COUNT, -1)),
    (8, request_lost),
    (9, bump("io", ms.H_BIOS)),
    (9, bio_lost),
    (10, bump("vm", ms.V_WRITEBACK)),
    (10, bump("vm", ms.V_WRITEBACK, -1)),
    (11, bump("io", ms.H_BUSY)),
    (11, command_lost),
    (12, sleeper_lost),
    (12, bump("vm", ms.V_SLEEPERS + ms.SLEEP_REQUEST)),
    (13, free_list_too_long),
    (14, bump("vm", ms.V_SWAP_FREE)),
    (14, slot_twice),
    (15, slab_order),
]
OTHER_HEAPS = [
    ("slab", 4, bump("heap", ss.T_PAGES)),
    ("slab", 5, slab_active),
    ("slab", 5, slab_free_object_twice),
    ("slab", 6, slab_list_count),
    ("slab", 16, slab_array_overfull),
    ("slab", 16, slab_management_waits),
    ("slob", 4, bump("heap", so.O_WHOLE)),
    ("slob", 4, bump("heap", so.O_PAGES)),
    ("slob", 5, slob_hole_lost),
    ("cpu-partial", 4, bump("heap", st.U_PAGES)),
    ("cpu-partial", 5, slab_list_cut),
    ("sheaves", 16, sheaf_overfull),
    ("sheaves", 16, barn_count),
]


@pytest.mark.parametrize(("violation", "plant"), FAULTS)
def test_a_planted_fault_is_named(violation, plant):
    arrays = busy_lane()
    plant(arrays)
    assert verdict(arrays) == VIOLATIONS[violation]


@pytest.mark.parametrize(("allocator", "violation", "plant"), OTHER_HEAPS)
def test_a_planted_fault_of_another_allocator_is_named(allocator, violation, plant):
    arrays = busy_lane(after=0, asleep=0, **{"policy.allocator": allocator, "policy.command_rule": "fix"})
    plant(arrays)
    assert verdict(arrays) == VIOLATIONS[violation]


def test_a_fault_planted_within_a_tick_is_named_at_the_next_event():
    """Between two calls of run_lane anywhere in a tick: the state that a call begins with is looked at."""
    arrays = busy_lane()
    advance(1, arrays, arrays.vm.ctl[ms.V_NOW] / ms.NS_PER_MS + 0.7)
    arrays.io.ctl[ms.H_BIOS] += 1
    run_lane(*arrays, int(arrays.vm.ctl[ms.V_NOW]) + 40 * ms.NS_PER_MS)
    assert arrays.vm.ctl[ms.V_ERROR] == 9


def test_every_violation_is_planted():
    planted = {violation for violation, _ in FAULTS} | {violation for _, violation, _ in OTHER_HEAPS}
    assert planted == set(range(1, len(VIOLATIONS)))


def test_without_a_fault_nothing_is_named():
    assert verdict(busy_lane()) == ""


def test_without_debug_nothing_is_looked_for():
    arrays = busy_lane(debug=False)
    arrays.vm.ctl[ms.V_RESERVED] += 1
    assert verdict(arrays) == ""


def test_the_census_sees_an_object_that_nobody_holds():
    arrays = busy_lane()
    role, cpu = next(
        (role, cpu)
        for role in (ms.ROLE_BIO, ms.ROLE_BIOVEC, ms.ROLE_REQUEST, ms.ROLE_DENTRY)
        for cpu in range(2)
        if arrays.heap.kcpu[arrays.vm.roles[role], cpu, st.K_FREELIST] >= 0
    )
    k = arrays.heap.kcpu[arrays.vm.roles[role], cpu]
    k[st.K_FREELIST] = arrays.heap.link[arrays.heap.slab[k[st.K_PAGE], st.S_BASE] + k[st.K_FREELIST]]
    difference = in_use(arrays) - held(arrays)
    assert difference[arrays.vm.roles[role]] == 1
    assert difference.sum() == 1

"""The debug mode finds what is broken: every violation it can name is planted and named."""

import numpy as np
import pytest

from fastalloc.batch import ConservationError, check_sound
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3
from fastalloc.kernels.alloc.slob.ring import SLOB_CTL, SLOB_PAGE
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import (
    AREA,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    PAGE,
    PCP,
    SLUB_CTL,
    SLUB_SLAB,
    ZONE,
)
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import IO, POOL, REQUEST, ROLE, VM
from fastalloc.kernels.lane.tasks import TASK, TASK_STATE
from fastalloc.kernels.machine.check import STANDS_STILL, VIOLATIONS
from fastalloc.kernels.machine.run import run_lane
from tests.closed_loop.census import held, in_use
from tests.closed_loop.small import advance, small

DMA32 = 1
JIFFY_MS = 4
LANE = 2


def busy_lane(debug=True, after=750, asleep=2, **settings):
    """A lane in the middle of swap-out, one ns before a tick; every tick is visited, and checked before it runs."""
    arrays = build_lane(small("rc8", settings), LANE, 1, debug=debug, skip=False)
    for k in range(after, after + 4000):
        advance(LANE, arrays, k * JIFFY_MS - 1e-6)
        queue = arrays.io.ctl
        if (
            queue[IO.disk_head] >= 0
            and max(queue[IO.head], queue[IO.dispatch_head]) >= 0
            and arrays.vm.ctl[VM.sleepers[TASK_STATE.bio_pool]] >= asleep
        ):
            return arrays
    raise AssertionError("the lane never got there")


def verdict(arrays):
    """The violation that the next tick names, "" for none."""
    before = int(arrays.vm.ctl[VM.now])
    run_lane(*arrays, before + 40 * ms.NS_PER_MS)
    name = VIOLATIONS[arrays.vm.ctl[VM.error]]
    if name:
        assert arrays.vm.ctl[VM.now] - before <= 2 * JIFFY_MS * ms.NS_PER_MS
        with pytest.raises(ConservationError, match=name.split(":")[0].replace("+", r"\+")):
            check_sound(1, arrays)
    return name


def partial_slab(arrays):
    """A slab with free slots on its own list."""
    heap = arrays.heap
    for s in range(heap.ctl[SLUB_CTL.slab_top]):
        if (
            heap.slab[s, SLUB_SLAB.pfn] >= 0
            and heap.slab[s, SLUB_SLAB.freelist] >= 0
            and not heap.slab[s, SLUB_SLAB.frozen]
        ):
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
    arrays.mem.pcp[0, DMA32, PCP.count] += 1


def counted_too_many(arrays):
    """A CPU has more pages for itself than it may, of which the zone knows."""
    arrays.mem.pcp[0, DMA32, PCP.vm_stat_diff] += 100
    arrays.mem.zone[DMA32, ZONE.vm_stat_lag] += 100


def page_lost(arrays):
    """A free block leaves the buddy lists and turns up nowhere."""
    mem = arrays.mem
    place = next(zip(*mem.area[..., AREA.nr].nonzero(), strict=True))
    mem.area[(*place, AREA.head)] = mem.page[mem.area[(*place, AREA.head)], PAGE.next]
    mem.area[(*place, AREA.nr)] -= 1
    mem.zone[place[0], ZONE.free] -= 1 << place[-1]


def buddy_block_lost(arrays):
    area = arrays.mem.area
    place = next(zip(*area[..., AREA.nr].nonzero(), strict=True))
    area[(*place, AREA.head)] = arrays.mem.page[area[(*place, AREA.head)], PAGE.next]


def lru_page_lost(arrays):
    head = arrays.mem.zone[DMA32, ZONE.inactive_head]
    arrays.mem.zone[DMA32, ZONE.inactive_head] = arrays.mem.page[head, PAGE.next]


def slab_inuse(arrays):
    arrays.heap.slab[partial_slab(arrays), SLUB_SLAB.inuse] += 1


def slab_list_cut(arrays):
    arrays.heap.slab[partial_slab(arrays), SLUB_SLAB.freelist] = -1


def slab_count(arrays):
    arrays.heap.knode[arrays.vm.roles[ROLE.bio], 0, KMEM_CACHE_NODE.nr_slabs] -= 1


def partial_count(arrays):
    arrays.heap.knode[arrays.vm.roles[ROLE.bio], 0, KMEM_CACHE_NODE.nr_partial] += 1


def slab_order(arrays):
    arrays.heap.slab[partial_slab(arrays), SLUB_SLAB.order] += 1


def slab_array_overfull(arrays):
    queue = arrays.heap.queue[arrays.vm.roles[ROLE.bio], 0]
    queue[SLAB_ARRAY.avail] = queue[SLAB_ARRAY.limit] + 1


def slab_free_object_twice(arrays):
    arrays.heap.node[arrays.vm.roles[ROLE.bio], 0, SLAB_LIST3.free_objects] += 1


def slab_active(arrays):
    arrays.heap.cache[arrays.vm.roles[ROLE.bio], SLAB_CACHE.active] -= 1


def slab_list_count(arrays):
    arrays.heap.node[arrays.vm.roles[ROLE.bio], 0, SLAB_LIST3.nr_full] += 1


def slab_management_waits(arrays):
    arrays.heap.ctl[SLAB_CTL.pending] = 1


def slob_hole_lost(arrays):
    p = arrays.heap.page[0, SLOB_PAGE.next]
    arrays.heap.page[p, SLOB_PAGE.units] -= 1


def sheaf_overfull(arrays):
    heap = arrays.heap
    h = heap.kcpu[arrays.vm.roles[ROLE.bio], 0, KMEM_CACHE_CPU.sheaf_main]
    heap.ctl[h + SHEAF.size] = heap.cache[arrays.vm.roles[ROLE.bio], KMEM_CACHE.sheaf_capacity] + 1


def barn_count(arrays):
    arrays.heap.knode[arrays.vm.roles[ROLE.bio], 0, KMEM_CACHE_NODE.nr_empty] += 1


def pool_overfull(arrays):
    arrays.pools.pool[POOL.sg[0], MEMPOOL.curr] = arrays.pools.pool[POOL.sg[0], MEMPOOL.min] + 1


def pool_negative(arrays):
    arrays.pools.pool[POOL.bio, MEMPOOL.curr] = -1


def request_lost(arrays):
    """The tail of the queue is forgotten: one request is not found any more."""
    queue = arrays.io.ctl
    before = max(
        arrays.io.request[queue[tail], REQUEST.prev] for tail in (IO.tail, IO.dispatch_tail) if queue[tail] >= 0
    )
    assert before >= 0
    arrays.io.request[before, REQUEST.next] = -1


def bio_lost(arrays):
    queue = arrays.io.ctl
    arrays.io.request[max(queue[IO.head], queue[IO.dispatch_head]), REQUEST.nr_bios] -= 1


def command_lost(arrays):
    arrays.io.ctl[IO.disk_head] = -1


def sleeper_lost(arrays):
    head = arrays.vm.waitq[TASK_STATE.bio_pool, 0]
    arrays.vm.waitq[TASK_STATE.bio_pool, 0] = arrays.vm.task[head, TASK.next]


def free_list_too_long(arrays):
    arrays.io.ctl[IO.free_list] = arrays.io.ctl[IO.free_list_size] + 1


def slot_twice(arrays):
    arrays.vm.slot[np.flatnonzero(arrays.vm.slot == 0)[0]] = 1


FAULTS = [
    (1, zone(ZONE.free)),
    (1, zone(ZONE.free, -1)),
    (1, buddy_block_lost),
    (2, pcp_count),
    (3, zone(ZONE.nr_inactive)),
    (3, zone(ZONE.nr_active, -1)),
    (3, lru_page_lost),
    (4, page_lost),
    (4, bump("vm", VM.reserved)),
    (4, bump("heap", SLUB_CTL.pages)),
    (5, slab_inuse),
    (5, slab_list_cut),
    (6, slab_count),
    (6, partial_count),
    (7, pool_overfull),
    (7, pool_negative),
    (8, bump("io", IO.count)),
    (8, bump("io", IO.count, -1)),
    (8, request_lost),
    (9, bump("io", IO.bios)),
    (9, bio_lost),
    (10, bump("vm", VM.writeback)),
    (10, bump("vm", VM.writeback, -1)),
    (11, bump("io", IO.device_busy)),
    (11, command_lost),
    (12, sleeper_lost),
    (12, bump("vm", VM.sleepers[TASK_STATE.request])),
    (13, free_list_too_long),
    (14, bump("vm", VM.swap_free)),
    (14, slot_twice),
    (15, slab_order),
    (17, zone(ZONE.vm_stat_lag)),
    (17, counted_too_many),
]
OTHER_HEAPS = [
    ("slab", 4, bump("heap", SLAB_CTL.pages)),
    ("slab", 5, slab_active),
    ("slab", 5, slab_free_object_twice),
    ("slab", 6, slab_list_count),
    ("slab", 16, slab_array_overfull),
    ("slab", 16, slab_management_waits),
    ("slob", 4, bump("heap", SLOB_CTL.whole)),
    ("slob", 4, bump("heap", SLOB_CTL.pages)),
    ("slob", 5, slob_hole_lost),
    ("cpu-partial", 4, bump("heap", SLUB_CTL.pages)),
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
    advance(1, arrays, arrays.vm.ctl[VM.now] / ms.NS_PER_MS + 0.7)
    arrays.io.ctl[IO.bios] += 1
    run_lane(*arrays, int(arrays.vm.ctl[VM.now]) + 40 * ms.NS_PER_MS)
    assert arrays.vm.ctl[VM.error] == 9


def test_a_clock_that_stands_still_is_named():
    arrays = busy_lane(debug=False)
    arrays.vm.ctl[VM.series_ns] = 0
    arrays.vm.ctl[[VM.next_sample, VM.next_series]] = arrays.vm.ctl[VM.now]
    run_lane(*arrays, int(arrays.vm.ctl[VM.now]) + 40 * ms.NS_PER_MS)
    assert arrays.vm.ctl[VM.error] == STANDS_STILL


def test_every_violation_is_planted():
    planted = {violation for violation, _ in FAULTS} | {violation for _, violation, _ in OTHER_HEAPS} | {STANDS_STILL}
    assert planted == set(range(1, len(VIOLATIONS)))


def test_without_a_fault_nothing_is_named():
    assert verdict(busy_lane()) == ""


def test_without_debug_nothing_is_looked_for():
    arrays = busy_lane(debug=False)
    arrays.vm.ctl[VM.reserved] += 1
    assert verdict(arrays) == ""


def test_the_census_sees_an_object_that_nobody_holds():
    arrays = busy_lane()
    role, cpu = next(
        (role, cpu)
        for role in (ROLE.bio, ROLE.biovec, ROLE.request, ROLE.dentry)
        for cpu in range(2)
        if arrays.heap.kcpu[arrays.vm.roles[role], cpu, KMEM_CACHE_CPU.freelist] >= 0
    )
    k = arrays.heap.kcpu[arrays.vm.roles[role], cpu]
    k[KMEM_CACHE_CPU.freelist] = arrays.heap.link[
        arrays.heap.slab[k[KMEM_CACHE_CPU.page], SLUB_SLAB.base] + k[KMEM_CACHE_CPU.freelist]
    ]
    difference = in_use(arrays) - held(arrays)
    assert difference[arrays.vm.roles[role]] == 1
    assert difference.sum() == 1

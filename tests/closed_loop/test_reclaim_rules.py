"""Worked examples of reclaim and of the swap cache's tree, read in mm/vmscan.c, mm/page_alloc.c and lib/radix-tree.c of
2.6.25-rc8."""

import random

import pytest

from fastalloc.batch.zones import pageblock_order
from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_cold_page, free_pages
from fastalloc.kernels.alloc.state import MEMCTL, PAGE, PCP, ZONE
from fastalloc.kernels.lane.state import FILE, MAPPING, VM
from fastalloc.kernels.lane.tasks import ATTEMPT, RECLAIM, TASK, TASK_STATE
from fastalloc.kernels.reclaim.page_lists import putback_lru_pages
from fastalloc.kernels.reclaim.vmscan import (
    end_balance,
    end_priority,
    end_reclaim,
    next_zone,
    reclaim_mapped,
    shrink_active_list,
    shrink_inactive_list,
    wakeup_kswapd,
)
from fastalloc.kernels.swap.lru import leave_mapping, lru_add
from fastalloc.kernels.swap.swapfile import add_to_swap_cache, delete_from_swap_cache
from fastalloc.kernels.workload.atomic_noise import PAGES, noise_event
from fastalloc.kernels.workload.copiers import getname, putname
from fastalloc.linux import gfp as g
from tests.closed_loop import driver as d
from tests.closed_loop.small import small
from tests.kernels.snapshot import chain, pcp_list
from tests.reference.closed_loop.radix_tree import RadixTree

DMA32 = 1
KSWAPD = 0


@kernel
def put_on_list(mem, pfn, active):
    """A page at the head of a list."""
    lru_add(mem, pfn, active)


@kernel
def isolate_batch(mem, vm, t):
    """shrink_inactive_list, up to the page list."""
    shrink_inactive_list(mem, vm, t)


@kernel
def end_of_balance(mem, vm, t, cpu, jiffies):
    """The end of balance_pgdat."""
    end_balance(mem, vm, t, cpu, jiffies)


@kernel
def wake_kswapd(mem, vm, now):
    """What follows a step that allocated."""
    wakeup_kswapd(mem, vm, now)


@kernel
def leave_reclaim(mem, vm, out, t, cpu):
    """The end of direct reclaim."""
    end_reclaim(mem, vm, out, t, cpu, 1)


@kernel
def path_buffer(mem, heap, vm, out, t, cpu):
    """A task begins open()."""
    vm.task[t, TASK.attempt] = ATTEMPT.fresh
    return getname(mem, heap, vm, out, t, cpu, 0)


@kernel
def path_done(mem, heap, vm, t, cpu):
    """It ends."""
    putname(mem, heap, vm, t, cpu)


@kernel
def put_back(mem, vm, t, cpu):
    """The end of a batch."""
    putback_lru_pages(mem, vm, t, cpu)


@kernel
def scan_active(mem, vm, t, z, count):
    """shrink_active_list."""
    return shrink_active_list(mem, vm, t, z, count)


@kernel
def wants_mapped(mem, vm, z, priority):
    """calc_reclaim_mapped."""
    return reclaim_mapped(mem, vm, z, priority)


@kernel
def finish_priority(mem, vm, out, t, cpu, jiffies):
    """The end of a scanning priority."""
    end_priority(mem, vm, out, t, cpu, jiffies)


@kernel
def interrupt(mem, heap, vm, out, kind, now):
    """An object or a page is wanted in an interrupt."""
    noise_event(mem, heap, vm, out, kind, now)


@kernel
def zone_of_kswapd(mem, vm, t):
    """kswapd looks at its next zone."""
    next_zone(mem, vm, t)


@kernel
def enter(mem, heap, vm, out, cpu, slot):
    """A slot into the swap cache's tree."""
    return add_to_swap_cache(mem, heap, vm, out, cpu, slot, g.GFP_ATOMIC, g.PF_MEMALLOC)


@kernel
def drop(mem, heap, vm, cpu, slot):
    """A slot out of it."""
    delete_from_swap_cache(mem, heap, vm, cpu, slot)


@kernel
def leave(mem, heap, vm, cpu, pfn):
    """A page out of its file."""
    leave_mapping(mem, heap, vm, cpu, pfn)


def with_pages(count, active=False, flags=0, **settings):
    """A machine with pages on a list of its DMA32 zone; task 1 reclaims that."""
    machine = d.Machine(**settings)
    for _ in range(count):
        pfn = alloc_pages(machine.mem, 0, -1, g.GFP_KERNEL, 0, 0)
        machine.mem.page[pfn, PAGE.flags] |= flags
        machine.call(put_on_list, pfn, active)
    machine.vm.task[1, TASK.zone] = DMA32 - 1  # direct reclaim goes down
    return machine


def test_a_short_list_is_isolated_until_32_were_looked_at():
    """Ten pages, none of which can go: 10, 10, 10 and 10 once more."""
    machine = with_pages(10)
    task = machine.vm.task[1]
    task[TASK.scan_left] = 32
    for left in (22, 12, 2, -8):
        machine.call(isolate_batch, 1)
        assert (task[TASK.scan_left], task[TASK.reclaim]) == (left, RECLAIM.page_list)
        task[TASK.keep], task[TASK.list] = task[TASK.list], -1
        machine.call(put_back, 1, 0)
    machine.call(isolate_batch, 1)
    assert task[TASK.reclaim] == RECLAIM.shrink
    assert machine.mem.zone[DMA32, ZONE.pages_scanned] == 40


def test_an_empty_list_ends_the_scan():
    machine = with_pages(0)
    machine.vm.task[1, TASK.scan_left] = 32
    machine.call(isolate_batch, 1)
    assert machine.vm.task[1, TASK.reclaim] == RECLAIM.shrink


def test_no_active_page_is_looked_at_twice():
    """Twelve referenced pages stay active; the scan of 32 ends with them."""
    machine = with_pages(12, active=True, flags=st.PG_MAPPED | st.PG_ANON | st.PG_REFERENCED, workload__swappiness=100)
    order = chain(machine.mem.zone[DMA32, ZONE.active_head], lambda p: machine.mem.page[p, PAGE.next])
    machine.vm.task[1, TASK.priority] = 12
    assert machine.call(scan_active, 1, DMA32, 32) == 12
    assert chain(machine.mem.zone[DMA32, ZONE.active_head], lambda p: machine.mem.page[p, PAGE.next]) == order
    assert machine.call(scan_active, 1, DMA32, 32) == 12  # not referenced since
    assert machine.mem.zone[DMA32, ZONE.nr_inactive] == 12


@pytest.mark.parametrize(
    ("swappiness", "mapped", "active", "inactive", "scanned", "priority", "wanted"),
    [
        (60, 0, 100, 100, 0, 12, False),
        (60, 0, 100, 100, 0, 1, True),  # 60 + 100 / 2
        (60, 0, 100, 100, 0, 2, False),  # 60 + 25
        (100, 0, 100, 100, 0, 12, True),
        (0, 0, 100, 100, 600, 12, True),  # near OOM: three times the lists
        (0, 0, 100, 100, 599, 12, False),
        (60, 4352, 1000, 9, 0, 12, True),  # half is mapped: 25 + 60 + 100 * 61 / 100 / 2
        (60, 4352, 100, 99, 0, 12, False),  # 25 + 60, the lists are even
    ],
)
def test_when_mapped_pages_leave_the_active_list(swappiness, mapped, active, inactive, scanned, priority, wanted):
    machine = d.Machine(workload__swappiness=swappiness)
    zone = machine.mem.zone[DMA32]
    zone[[ZONE.nr_active, ZONE.nr_inactive, ZONE.pages_scanned]] = active, inactive, scanned
    machine.vm.ctl[VM.anon_mapped] = mapped  # of 8704 pages
    assert machine.call(wants_mapped, DMA32, priority) == wanted


@pytest.mark.parametrize(("scanned", "naps"), [(40, True), (0, False)])
def test_direct_reclaim_naps_after_its_last_priority_too(scanned, naps):
    machine = d.Machine()
    machine.call(d.run_on, 1, 0, 0)
    task = machine.vm.task[1]
    task[[TASK.reclaim, TASK.priority, TASK.scanned, TASK.reclaimed]] = RECLAIM.zone_done, 0, scanned, 5
    machine.call(finish_priority, 1, 0, 0)
    assert task[TASK.reclaim] == RECLAIM.last_nap
    assert (task[TASK.state] == TASK_STATE.congestion) == naps


def test_kswapd_gives_up_a_zone_without_pages_although_it_scans_it_not():
    machine = d.Machine()
    task = machine.vm.task[KSWAPD]
    task[[TASK.zone, TASK.zones_left, TASK.priority]] = 0, 1, 12
    zone = machine.mem.zone[0]
    assert zone[ZONE.free] > 8 * zone[ZONE.high] + zone[ZONE.reserve[1]]
    machine.call(zone_of_kswapd, KSWAPD)
    assert zone[ZONE.all_unreclaimable] == 1
    assert task[TASK.reclaim] == RECLAIM.zone


@pytest.mark.parametrize(("above", "wakes"), [(0, True), (1, False)])
def test_an_interrupt_that_finds_less_than_low_wakes_kswapd(above, wakes):
    machine = d.Machine()
    machine.mem.zone[0, ZONE.reserve[1]] = 1000  # the DMA zone is not for it
    machine.leave_free(int(machine.mem.zone[DMA32, ZONE.low]) + above)
    machine.call(interrupt, PAGES, 0)
    assert (machine.vm.task[KSWAPD, TASK.state] != TASK_STATE.kswapd) == wakes


def isolated(machine):
    """The batch of task 1, in order."""
    return chain(machine.vm.task[1, TASK.list], lambda p: machine.mem.page[p, PAGE.next])


def with_frames(frames, active=()):
    """A machine with these frames of a free block of DMA32 on its inactive list, the last one oldest, or on its active
    one; and the first frame of the block."""
    machine = d.Machine()
    base = alloc_pages(machine.mem, 0, -1, g.GFP_KERNEL, 6, 0)
    for frame in reversed(frames):
        machine.mem.page[base + frame, PAGE.flags] = DMA32 << st.PG_ZONE_SHIFT
        machine.call(put_on_list, base + frame, frame in active)
    machine.vm.task[1, [TASK.zone, TASK.scan_left]] = DMA32 - 1, 32
    return machine, base


@pytest.mark.parametrize(
    ("order", "batch"),
    [
        (0, [9, 2, 5]),
        (1, [9, 8, 2, 5, 4]),  # 8 is at the head, 3 is active, 4 is next but one
        (2, [9, 8, 2, 5, 4, 6]),  # the other three of a block of four in the order of their frames
    ],
)
def test_the_rest_of_a_block_comes_along_wherever_it_stands(order, batch):
    """From the tail: 9, 2, 5, 6, 4, 8; 3 is on the active list [isolate_lru_pages]."""
    machine, base = with_frames([8, 4, 6, 5, 2, 9, 3], active=[3])
    machine.vm.task[1, TASK.order] = order
    machine.call(isolate_batch, 1)
    assert [pfn - base for pfn in isolated(machine)][: len(batch)] == batch
    assert machine.mem.zone[DMA32, ZONE.nr_active] == 1
    assert machine.mem.zone[DMA32, ZONE.nr_inactive] == 0


def test_the_last_block_takes_a_batch_past_32():
    """31 pages without a buddy on the list, then one with: 33 are looked at, so no multiple of 32."""
    lone = list(range(0, 62, 2))
    machine, base = with_frames([63, 62, *reversed(lone)])
    machine.vm.task[1, TASK.order] = 1
    machine.call(isolate_batch, 1)
    assert [pfn - base for pfn in isolated(machine)] == [*lone, 62, 63]
    assert machine.vm.task[1, TASK.scan_left] == 32 - 33
    assert machine.mem.zone[DMA32, ZONE.pages_scanned] == 33


def test_active_pages_come_along_too():
    """Asked for one page of the active list: with its buddy it is two."""
    machine, base = with_frames([5, 7, 4], active=[5, 7, 4])
    machine.vm.task[1, [TASK.order, TASK.priority]] = 1, 12
    assert machine.call(scan_active, 1, DMA32, 1) == 2
    assert chain(machine.mem.zone[DMA32, ZONE.active_head], lambda p: machine.mem.page[p, PAGE.next]) == [base + 7]


@pytest.mark.parametrize(("order", "asked", "goes_on"), [(0, 0, False), (0, 1, True), (1, 1, False), (2, 1, False)])
def test_kswapd_goes_on_for_a_larger_order_asked_for_meanwhile(order, asked, goes_on):
    machine = d.Machine()
    machine.call(d.run_on, KSWAPD, 0, 0)
    task = machine.vm.task[KSWAPD]
    task[[TASK.reclaim, TASK.order, TASK.priority]] = RECLAIM.zone_done, order, 3
    machine.vm.ctl[VM.kswapd_max_order] = asked
    machine.call(end_of_balance, KSWAPD, 0, 0)
    assert (task[TASK.state] != TASK_STATE.kswapd) == goes_on
    assert machine.vm.ctl[VM.kswapd_max_order] == 0
    assert task[TASK.order] == max(order, asked)


def test_kswapd_is_told_the_largest_order():
    """Of two requests that missed pages_low; one of a single page more changes nothing."""
    machine = d.Machine()
    machine.leave_free(0)
    for order in (0, 1, 0):
        assert alloc_pages(machine.mem, 0, -1, g.GFP_KERNEL, order, 0) < 0
        assert machine.mem.ctl[MEMCTL.reclaim_order] == order
    assert machine.mem.ctl[MEMCTL.kswapd_wanted] == 2
    machine.call(wake_kswapd, 0)
    assert machine.vm.ctl[VM.kswapd_max_order] == 1
    assert machine.vm.task[KSWAPD, TASK.state] != TASK_STATE.kswapd


def test_reclaim_for_a_block_drains_the_lists_of_all_cpus():
    machine = d.Machine()
    mem = machine.mem
    for order, left in ((0, 1), (1, 0)):
        free_pages(mem, 0, alloc_pages(mem, 1, -1, g.GFP_KERNEL, 0, 0), 0)
        machine.vm.task[1, TASK.order] = order
        machine.vm.ctl[VM.reclaimers] = 1
        machine.call(leave_reclaim, 1, 0)
        assert (mem.pcp[0, DMA32, PCP.count] > 0) == left


def test_the_third_open_file_needs_a_block_of_two_pages():
    """Buffers of paths are of 4 kB, two in a slab of order 1 [getname, calculate_order of 2.6.25]."""
    machine = d.Machine()
    assert [machine.call(path_buffer, 1 + i, 0) for i in range(2)] == [True, True]
    machine.leave_free(0)
    assert not machine.call(path_buffer, 3, 0)
    assert machine.vm.task[3, TASK.order] == 1
    assert machine.vm.task[3, TASK.reclaim] == RECLAIM.priority
    machine.call(path_done, 2, 0)
    machine.vm.task[4, TASK.path] = -1
    assert machine.call(path_buffer, 4, 0)


@pytest.mark.parametrize(
    ("huge_pages", "mem_pages", "order"), [(True, 2560, 9), (True, 2559, 0), (False, 5120, 10), (False, 5119, 0)]
)
def test_mobility_is_heeded_from_five_pageblocks_on(huge_pages, mem_pages, order):
    zones = [
        {
            "name": "DMA32",
            "present": mem_pages,
            "min": 4,
            "low": 5,
            "high": 6,
            "protection": [0],
            "pcp_high": 6,
            "pcp_batch": 1,
        }
    ]
    scenario = small("rc8").with_settings(
        {"machine.zones": zones, "machine.huge_pages": huge_pages, "machine.free_pages": {}}
    )
    assert pageblock_order(scenario.machine) == order


def test_reclaimed_pages_are_cold():
    machine = d.Machine()
    mem = machine.mem
    pages = [alloc_pages(mem, 0, -1, g.GFP_KERNEL, 0, 0) for _ in range(4)]
    before = pcp_list(mem, 0, DMA32)
    free_pages(mem, 0, pages[0], 0)
    free_cold_page(mem, 0, pages[1])
    free_cold_page(mem, 0, pages[2])
    assert pcp_list(mem, 0, DMA32) == [pages[0], *before, pages[1], pages[2]]
    while mem.pcp[0, DMA32, PCP.count] < mem.zone[DMA32, ZONE.pcp_high] - 1:
        free_pages(mem, 0, alloc_pages(mem, 1, -1, g.GFP_KERNEL, 0, 0), 0)
    free_cold_page(mem, 0, pages[3])
    assert pages[3] not in pcp_list(mem, 0, DMA32)  # the batch of one goes at that end
    assert pages[2] in pcp_list(mem, 0, DMA32)


# --------------------------------------------------------------------------------------- the swap cache's radix tree


def nodes_of(vm):
    return int((vm.leaf[:, 1] > 0).sum()) + int((vm.middle[:, 0] >= 0).sum()) + int(vm.ctl[VM.swap_top] >= 0)


@pytest.mark.parametrize(
    ("slots", "nodes"),
    [
        ([5], 1),
        ([5, 63], 1),
        ([5, 64], 3),
        ([64], 2),
        ([5, 5000], 5),  # two new roots over the leaf, then two down
        ([5000], 3),
        ([5000, 5], 5),
        ([5000, 64, 5], 6),
    ],
)
def test_nodes_of_the_swap_cache(slots, nodes):
    machine = d.Machine()
    for slot in slots:
        assert machine.call(enter, 0, slot)
    assert nodes_of(machine.vm) == nodes


def test_a_root_with_its_first_child_alone_goes():
    machine = d.Machine()
    for slot in (5, 64, 5000):
        assert machine.call(enter, 0, slot)
    assert nodes_of(machine.vm) == 6
    machine.call(drop, 0, 5000)
    assert nodes_of(machine.vm) == 3
    machine.call(drop, 0, 64)
    assert nodes_of(machine.vm) == 1
    machine.call(drop, 0, 5)
    assert nodes_of(machine.vm) == 0


def test_the_tree_has_the_nodes_of_a_radix_tree_in_any_order_of_slots():
    choose = random.Random(1)
    machine = d.Machine()
    tree = RadixTree(lambda: None, lambda node: None, least_height=1)
    entered = []
    for _ in range(1500):
        if entered and choose.random() < 0.49:
            slot = entered.pop(choose.randrange(len(entered)))
            machine.call(drop, 0, slot)
            tree.delete(slot)
        else:
            slot = choose.choice([choose.randrange(200), choose.randrange(9000), choose.randrange(60_000)])
            if slot in entered:
                continue
            entered.append(slot)
            assert machine.call(enter, 0, slot)
            tree.insert(slot)
        assert nodes_of(machine.vm) == tree.nodes()


@pytest.mark.parametrize(("order", "after"), [((0, 1, 2), 3), ((2, 1, 0), 2), ((1, 0, 2), 3)])
def test_a_file_s_node_goes_when_page_0_alone_is_left(order, after):
    machine = d.Machine()
    vm, page = machine.vm, machine.mem.page
    vm.mapping[0, [MAPPING.nrpages, MAPPING.first]] = 3, 1
    vm.file[0, FILE.node] = 1 + vm.stock[0, 0]
    pages = [alloc_pages(machine.mem, 0, -1, g.GFP_KERNEL, 0, 0) for _ in range(3)]
    for index, pfn in enumerate(pages):
        page[pfn, [PAGE.file, PAGE.owner]] = 0, 100 + index
        page[pfn, PAGE.flags] |= st.PG_FIRST if index == 0 else 0
    for gone, index in enumerate(order, 1):
        machine.call(leave, 0, pages[index])
        assert (vm.file[0, FILE.node] == 0) == (gone >= after)

"""How 2.6.25-rc8 finds swap slots: worked examples, and its search against the kernel's own loop [mm/swapfile.c]."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import TASK
from fastalloc.kernels.swap.swapfile import (
    FOUND_CLUSTER,
    FOUND_NONE,
    begin_search,
    cluster_used_up,
    get_swap_page,
    search_cluster,
    swap_free,
)
from tests.closed_loop import driver as d


@kernel
def next_slot(vm, t):
    """get_swap_page, its search made in one go; the slot."""
    if cluster_used_up(vm, t):
        begin_search(vm, t)
        while vm.task[t, TASK.slot_found] == 0:
            vm.ctl[VM.slots_looked] += search_cluster(vm, t, 1000)
    return get_swap_page(vm, t)


@kernel
def begin(vm, t):
    """A search begins."""
    begin_search(vm, t)


@kernel
def search(vm, t, most):
    """A search goes on."""
    return search_cluster(vm, t, most)


@kernel
def free_slot(vm, slot):
    """swap_free."""
    swap_free(vm, slot)


def used(machine, slots):
    vm = machine.vm
    for slot in slots:
        vm.slot[slot] = 1
    vm.ctl[VM.swap_free] -= len(slots)


def test_a_cluster_is_looked_for_slot_by_slot_from_the_lowest_and_need_not_be_aligned():
    machine = d.Machine()
    vm = machine.vm
    taken = [slot for slot in range(40_001) if slot < 3 or slot % 200 != 7]
    used(machine, taken)
    vm.ctl[VM.lowest_slot] = 3
    vm.ctl[VM.cluster_left] = 0
    vm.ctl[VM.slots_looked] = 0
    first = machine.call(next_slot, 1)
    assert first == taken[-1] + 1
    assert vm.ctl[VM.slots_looked] == first + 256 - 3
    assert vm.ctl[VM.cluster_left] == 255
    assert [machine.call(next_slot, 1) for _ in range(255)] == list(range(first + 1, first + 256))
    assert vm.ctl[VM.cluster_left] == 0


def test_others_go_on_behind_the_old_cluster_while_one_searches():
    machine = d.Machine()
    vm = machine.vm
    slots = [machine.call(next_slot, 1) for _ in range(256)]
    assert slots == list(range(256))
    machine.call(begin, 1)
    assert vm.ctl[VM.cluster_left] == 255  # at once, before the search
    assert machine.call(search, 1, 100) == 100
    assert machine.call(next_slot, 2) == 256
    while vm.task[1, TASK.slot_found] == 0:
        machine.call(search, 1, 100)
    assert machine.call(next_slot, 1) == 257  # the run began behind what task 2 had taken
    assert vm.ctl[VM.cluster_left] == 254


def test_a_slot_given_back_stays_behind_the_cursor():
    """A failed add_to_swap_cache burns a slot of the cluster."""
    machine = d.Machine()
    slots = []
    for _ in range(10):
        slots.append(machine.call(next_slot, 1))
        machine.call(free_slot, slots[-1])
    assert slots == list(range(10))
    assert machine.vm.ctl[VM.cluster_left] == 255 - 9
    assert machine.vm.ctl[VM.lowest_slot] == 0


def looked_at_in_turn(slots, offset, last, highest):
    """scan_swap_map's loop as it is written; how many slots it looks at, and where the run begins, None if nowhere."""
    looked = 0
    while last <= highest:
        looked += 1
        if slots[offset]:
            last = offset + 256
        elif offset == last:
            return looked, offset - 255
        offset += 1
    return looked, None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([0, 0.001, 0.004, 0.01, 0.1, 0.9, 1]),
    st.lists(st.integers(1, 3000), min_size=1),
)
def test_a_search_in_pieces_is_the_kernels_loop(seed, density, pieces):
    machine = SEARCHED
    vm = machine.vm
    random = np.random.default_rng(seed)
    size = int(random.integers(600, 6000))
    vm.slot[:] = 0
    vm.slot[:size] = random.random(size) < density
    lowest = int(random.integers(0, size - 300))
    vm.ctl[VM.lowest_slot], vm.ctl[VM.highest_slot] = lowest, size - int(random.integers(1, 5))
    vm.task[1, TASK.slot_found] = 0
    machine.call(begin, 1)
    looked = 0
    for piece in [*pieces, vm.slot.shape[0]]:
        looked += machine.call(search, 1, piece)
        if vm.task[1, TASK.slot_found]:
            break
    expected, run = looked_at_in_turn(vm.slot, lowest, lowest + 255, vm.ctl[VM.highest_slot])
    assert looked == expected
    assert vm.task[1, TASK.slot_found] == (FOUND_NONE if run is None else FOUND_CLUSTER)
    if run is not None:
        assert vm.ctl[VM.cluster_next] == run


SEARCHED = d.Machine()

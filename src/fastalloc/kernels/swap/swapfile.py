"""Swap slots and the radix tree of the swap cache [mm/swapfile.c: scan_swap_map; mm/swap_state.c].

Slots are taken one after the other from a run of 256 free ones, which need not be aligned; when 256 have been taken,
the next such run is looked for from the lowest free slot up, slot by slot, without the lock: others go on meanwhile
behind the old run, and the search gives way as often as anything else.

The tree's nodes are real slab objects: a leaf for 64 slots, one above it for 4096, one above all. Slot 0, the header's
in the kernel, is a slot like any other here.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc.radix_tree import radix_tree_node_alloc, radix_tree_node_free, radix_tree_preload
from fastalloc.kernels.lane.state import RADIX_NODE, VM
from fastalloc.kernels.lane.tasks import TASK

SWAPFILE_CLUSTER = 256
RADIX_SLOTS = 64
GROUP_SLOTS = RADIX_SLOTS * RADIX_SLOTS

FOUND_CLUSTER = 1
FOUND_NONE = 2


@folded
def cluster_used_up(vm, t):
    """Whether task ``t`` must look for a free cluster before it takes its next slot."""
    ctl = vm.ctl
    return ctl[VM.cluster_left] == 0 and vm.task[t, TASK.slot_found] == 0 and ctl[VM.swap_free] > 0


@folded
def begin_search(vm, t):
    """The cluster is used up: count a new one at once, then look for it, unless fewer than 256 slots are free."""
    ctl = vm.ctl
    task = vm.task[t]
    ctl[VM.cluster_left] = SWAPFILE_CLUSTER - 1
    if ctl[VM.swap_free] < SWAPFILE_CLUSTER:
        task[TASK.slot_found] = FOUND_NONE
        return
    task[TASK.search] = ctl[VM.lowest_slot]
    task[TASK.search_last] = ctl[VM.lowest_slot] + SWAPFILE_CLUSTER - 1


@internal
def search_cluster(vm, t, most):
    """Look at up to ``most`` slots for 256 free ones in a row; how many were looked at. TASK.slot_found
    is set at the end.

    The kernel looks at each slot in turn. A run that would end at ``last`` is looked at backwards here: only its last
    used slot matters, so most of the slots in between need not be read. The outcome and the count are the kernel's.
    """
    ctl = vm.ctl
    task = vm.task[t]
    start = task[TASK.search]
    offset = start
    last = task[TASK.search_last]
    highest = ctl[VM.highest_slot]
    while last <= highest:
        probe = min(last, start + most - 1)
        used = probe
        while used >= offset and vm.slot[used] == 0:
            used -= 1
        if used >= offset:
            if used + SWAPFILE_CLUSTER > highest:  # the search ends at the first used slot that is so near to the end
                used = max(offset, highest - SWAPFILE_CLUSTER + 1)
                while vm.slot[used] == 0:
                    used += 1
            offset = used + 1
            last = used + SWAPFILE_CLUSTER
        elif probe == last:
            ctl[VM.cluster_next] = last - SWAPFILE_CLUSTER + 1
            task[TASK.slot_found] = FOUND_CLUSTER
            return last + 1 - start
        else:
            offset = probe + 1
        if offset == start + most and last <= highest:
            task[TASK.search] = offset
            task[TASK.search_last] = last
            return most
    task[TASK.slot_found] = FOUND_NONE
    return offset - start


@internal
def get_swap_page(vm, t):
    """A free swap slot, or -1 when there is none; slots looked at are added to VM.slots_looked [scan_swap_map].

    :func:`cluster_used_up` has been asked before.
    """
    ctl = vm.ctl
    found = vm.task[t, TASK.slot_found]
    vm.task[t, TASK.slot_found] = 0
    if ctl[VM.swap_free] == 0:
        return -1
    if found == 0:
        ctl[VM.cluster_left] -= 1
    slot = ctl[VM.cluster_next]
    if found == FOUND_NONE or slot > ctl[VM.highest_slot]:
        slot = ctl[VM.lowest_slot]
    while vm.slot[slot] != 0:
        slot += 1
        ctl[VM.slots_looked] += 1
        if slot > ctl[VM.highest_slot]:
            slot = ctl[VM.lowest_slot]
    if slot == ctl[VM.lowest_slot]:
        ctl[VM.lowest_slot] += 1
    if slot == ctl[VM.highest_slot]:
        ctl[VM.highest_slot] -= 1
    ctl[VM.swap_free] -= 1
    if ctl[VM.swap_free] == 0:
        ctl[VM.lowest_slot] = ctl[VM.swap_pages]
        ctl[VM.highest_slot] = 0
    vm.slot[slot] = 1
    ctl[VM.cluster_next] = slot + 1
    return slot


@folded
def swap_free(vm, slot):
    """Give a swap slot back; the cursor and what is left of the cluster stay [swap_free]."""
    vm.slot[slot] = 0
    vm.ctl[VM.swap_free] += 1
    if slot < vm.ctl[VM.lowest_slot]:
        vm.ctl[VM.lowest_slot] = slot
    if slot > vm.ctl[VM.highest_slot]:
        vm.ctl[VM.highest_slot] = slot


@folded
def missing_nodes(vm, cpu, slot):
    """Nodes that the tree lacks for ``slot``, put in from the CPU's stock [radix_tree_insert, radix_tree_extend].

    A tree of the first 64 slots is one leaf; the first slot behind them adds the node above, the first behind 4096 the
    one above that. A tree that is not empty grows by a root for each level.
    """
    group = slot // GROUP_SLOTS
    if group > 0 and vm.ctl[VM.swap_top] < 0:
        if vm.middle[0, RADIX_NODE.handle] < 0 and vm.middle[0, RADIX_NODE.below] > 0:
            vm.middle[0, RADIX_NODE.handle] = radix_tree_node_alloc(vm, cpu)
        vm.ctl[VM.swap_top] = radix_tree_node_alloc(vm, cpu)
    middle = vm.middle[group]
    if middle[RADIX_NODE.handle] < 0 and (slot >= RADIX_SLOTS or vm.ctl[VM.swap_top] >= 0):
        middle[RADIX_NODE.handle] = radix_tree_node_alloc(vm, cpu)
    leaf = vm.leaf[slot // RADIX_SLOTS]
    if leaf[RADIX_NODE.below] == 0:
        if middle[RADIX_NODE.below] == 0:
            vm.ctl[VM.swap_groups] += 1
        middle[RADIX_NODE.below] += 1
        leaf[RADIX_NODE.handle] = radix_tree_node_alloc(vm, cpu)
    leaf[RADIX_NODE.below] += 1


@folded
def add_to_swap_cache(mem, heap, vm, out, cpu, slot, gfp, context):
    """Enter ``slot`` in the tree: the stock is filled first, and then serves the nodes that are missing; success."""
    if not radix_tree_preload(mem, heap, vm, out, cpu, gfp, context):
        return False
    missing_nodes(vm, cpu, slot)
    return True


@folded
def delete_from_swap_cache(mem, heap, vm, cpu, slot):
    """Drop ``slot`` from the tree; empty nodes are freed, upwards, and then a root that has its first child alone
    [__delete_from_swap_cache, radix_tree_delete, radix_tree_shrink]."""
    leaf = vm.leaf[slot // RADIX_SLOTS]
    leaf[RADIX_NODE.below] -= 1
    if leaf[RADIX_NODE.below] > 0:
        return
    radix_tree_node_free(mem, heap, vm, cpu, leaf[RADIX_NODE.handle])
    leaf[RADIX_NODE.handle] = -1
    ctl = vm.ctl
    middle = vm.middle[slot // GROUP_SLOTS]
    middle[RADIX_NODE.below] -= 1
    if middle[RADIX_NODE.below] == 0:
        ctl[VM.swap_groups] -= 1
        if middle[RADIX_NODE.handle] >= 0:
            radix_tree_node_free(mem, heap, vm, cpu, middle[RADIX_NODE.handle])
            middle[RADIX_NODE.handle] = -1
    first = vm.middle[0]
    if ctl[VM.swap_top] >= 0 and ctl[VM.swap_groups] == (first[RADIX_NODE.below] > 0):
        radix_tree_node_free(mem, heap, vm, cpu, ctl[VM.swap_top])
        ctl[VM.swap_top] = -1
    alone = first[RADIX_NODE.below] == 1 and vm.leaf[0, RADIX_NODE.below] > 0
    if ctl[VM.swap_top] < 0 and first[RADIX_NODE.handle] >= 0 and alone:
        radix_tree_node_free(mem, heap, vm, cpu, first[RADIX_NODE.handle])
        first[RADIX_NODE.handle] = -1

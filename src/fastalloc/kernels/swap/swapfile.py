"""Swap slots and the radix tree of the swap cache [mm/swapfile.c: scan_swap_map; mm/swap_state.c].

Slots come in clusters of 256; a new cluster is the next wholly free one, else the first free slot anywhere. The
tree's leaves (one node per 64 slots) are real slab objects, its few inner nodes are not modelled.
"""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.state import ROLE, VM

SWAPFILE_CLUSTER = 256
RADIX_SLOTS = 64
W_RADIX = WHO.radix


@folded
def get_swap_page(vm):
    """A free swap slot, or -1 [get_swap_page, scan_swap_map]."""
    ctl = vm.ctl
    if ctl[VM.swap_free] == 0:
        return -1
    pages = ctl[VM.swap_pages]
    clusters = vm.cluster.shape[0]
    if ctl[VM.cluster_left] == 0:
        cursor = ctl[VM.cluster_cursor]
        for _ in range(clusters):
            if vm.cluster[cursor] == 0:
                break
            cursor += 1
            if cursor == clusters:
                cursor = 0
        ctl[VM.cluster_cursor] = cursor
        ctl[VM.cluster_left] = SWAPFILE_CLUSTER
        if vm.cluster[cursor] == 0:
            ctl[VM.cluster_next] = cursor * SWAPFILE_CLUSTER
        else:
            ctl[VM.cluster_next] = ctl[VM.lowest_slot]
    slot = ctl[VM.cluster_next]
    if slot >= pages:
        slot = 0
    while vm.slot[slot] != 0:
        if vm.cluster[slot // SWAPFILE_CLUSTER] == SWAPFILE_CLUSTER:
            slot = (slot // SWAPFILE_CLUSTER + 1) * SWAPFILE_CLUSTER
        else:
            slot += 1
        if slot >= pages:
            slot = 0
    ctl[VM.cluster_next] = slot + 1
    ctl[VM.cluster_left] -= 1
    ctl[VM.swap_free] -= 1
    vm.slot[slot] = 1
    vm.cluster[slot // SWAPFILE_CLUSTER] += 1
    return slot


@folded
def swap_free(vm, slot):
    """Give a swap slot back [swap_free]."""
    vm.slot[slot] = 0
    vm.cluster[slot // SWAPFILE_CLUSTER] -= 1
    vm.ctl[VM.swap_free] += 1
    if slot < vm.ctl[VM.lowest_slot]:
        vm.ctl[VM.lowest_slot] = slot


@folded
def add_to_swap_cache(mem, heap, vm, out, cpu, slot, gfp, context):
    """Make room in the tree for ``slot``: a new leaf for the first page of 64 [add_to_swap_cache]; success."""
    leaf = slot // RADIX_SLOTS
    if vm.leaf[leaf, 1] == 0:
        handle = slab_take(mem, heap, out, vm.roles[ROLE.radix], cpu, gfp, context, W_RADIX)
        if handle < 0:
            return False
        vm.leaf[leaf, 0] = handle
    vm.leaf[leaf, 1] += 1
    return True


@folded
def delete_from_swap_cache(mem, heap, vm, cpu, slot):
    """Drop ``slot`` from the tree; the last page of a leaf frees its node [__delete_from_swap_cache]."""
    leaf = slot // RADIX_SLOTS
    vm.leaf[leaf, 1] -= 1
    if vm.leaf[leaf, 1] == 0:
        slab_give(mem, heap, vm.roles[ROLE.radix], cpu, vm.leaf[leaf, 0])
        vm.leaf[leaf, 0] = -1

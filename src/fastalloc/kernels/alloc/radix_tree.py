"""Nodes of radix trees: a CPU's stock, filled before an insertion, freed by RCU [lib/radix-tree.c].

Every tree here has an atomic mask of its own, so its insertions take from the stock.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc.rcu import CALLBACK_NODE, call_rcu
from fastalloc.kernels.alloc.slab_owner import slab_take
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.state import ROLE
from fastalloc.kernels.lane.tasks import CPU
from fastalloc.linux import gfp as g


@folded
def stock_node(vm, cpu, handle):
    """Add a node to a CPU's stock."""
    vm.stock[cpu, vm.cpu[cpu, CPU.stock]] = handle
    vm.cpu[cpu, CPU.stock] += 1


@internal
def radix_tree_preload(mem, heap, vm, out, cpu, gfp, context):
    """Fill a CPU's stock to 11 nodes; False at the first that cannot be had, and what was added stays."""
    while vm.cpu[cpu, CPU.stock] < ms.RADIX_STOCK:
        handle = slab_take(mem, heap, out, vm.roles[ROLE.radix], cpu, gfp | g.RECLAIMABLE, context, WHO.radix)
        if handle < 0:
            return False
        stock_node(vm, cpu, handle)
    return True


@folded
def radix_tree_node_alloc(vm, cpu):
    """A node from a CPU's stock, which holds one: its tree's mask cannot wait."""
    vm.cpu[cpu, CPU.stock] -= 1
    return vm.stock[cpu, vm.cpu[cpu, CPU.stock]]


@folded
def radix_tree_node_free(mem, heap, vm, cpu, handle):
    """A node goes back to its slab after a grace period."""
    call_rcu(mem, heap, vm, cpu, CALLBACK_NODE, handle)

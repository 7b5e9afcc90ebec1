"""An adversary that shows what is guaranteed: before each attempt at a command it takes all that it can get."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages
from fastalloc.kernels.alloc.slab_owner import slab_take
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms
from fastalloc.linux import gfp as g


@internal
def squeeze(mem, heap, vm, out):
    """Take every 128-byte slot and every page that an atomic caller gets, on every CPU, and keep them for ever.

    What is left to the attempt that follows is what its policy holds for it alone: pools, private slots, entitlement.
    """
    out_of_line()
    context = vm.ctl[ms.V_SQUEEZE]
    gfp = g.GFP_ATOMIC | g.NOWARN
    for cpu in range(vm.ctl[ms.V_NR_CPUS]):
        while slab_take(mem, heap, out, vm.roles[ms.ROLE_NOISE], cpu, gfp, context, metrics.W_NOISE) >= 0:
            pass
        mem.ctl[st.M_WHO] = metrics.W_NOISE
        while alloc_pages(mem, cpu, -1, gfp, 0, context) >= 0:
            vm.ctl[ms.V_SQUEEZED] += 1

"""An adversary that shows what is guaranteed: before each attempt at a command it takes all that it can get."""

from fastalloc.kernels import gfp as g
from fastalloc.kernels import machine_state as ms
from fastalloc.kernels import names
from fastalloc.kernels import state as st
from fastalloc.kernels.jit import internal, out_of_line
from fastalloc.kernels.objects import slab_take
from fastalloc.kernels.page_alloc import alloc_pages


@internal
def squeeze(mem, heap, vm, out):
    """Take every 128-byte slot and every page that an atomic caller gets, on every CPU, and keep them for ever.

    What is left to the attempt that follows is what its policy holds for it alone: pools, private slots, entitlement.
    """
    out_of_line()
    context = vm.ctl[ms.V_SQUEEZE]
    gfp = g.GFP_ATOMIC | g.NOWARN
    for cpu in range(vm.ctl[ms.V_NR_CPUS]):
        while slab_take(mem, heap, out, vm.roles[ms.ROLE_NOISE], cpu, gfp, context, names.W_NOISE) >= 0:
            pass
        mem.ctl[st.M_WHO] = names.W_NOISE
        while alloc_pages(mem, cpu, -1, gfp, 0, context) >= 0:
            vm.ctl[ms.V_SQUEEZED] += 1

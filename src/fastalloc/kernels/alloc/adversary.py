"""An adversary that shows what is guaranteed: before each attempt at a command it takes all that it can get."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc.page_alloc import alloc_pages
from fastalloc.kernels.alloc.slab_owner import slab_take
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.state import ROLE, VM
from fastalloc.linux import gfp as g


@internal
def take_everything(mem, heap, vm, out):
    """Take every 128-byte slot and every page that an atomic caller gets, on every CPU, and keep them for ever.

    What is left to the attempt that follows is what its policy holds for it alone: pools, private slots, entitlement.
    """
    out_of_line()
    context = vm.ctl[VM.adversary]
    gfp = g.GFP_ATOMIC | g.NOWARN
    for cpu in range(vm.ctl[VM.nr_cpus]):
        while slab_take(mem, heap, out, vm.roles[ROLE.noise], cpu, gfp, context, WHO.noise) >= 0:
            pass
        mem.ctl[MEMCTL.who] = WHO.noise
        while alloc_pages(mem, cpu, -1, gfp, 0, context) >= 0:
            vm.ctl[VM.adversary_pages] += 1

"""Slab objects of the closed loop: on whose behalf one is taken, and who allocated the slab it comes from.

``heap`` is whichever allocator the machine has, see :mod:`fastalloc.kernels.alloc.kmem`.
"""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.guards import checked_alloc, checked_free
from fastalloc.kernels.alloc.heap_ops import by_heap
from fastalloc.kernels.alloc.kmem import allocated_by, unpacked
from fastalloc.kernels.alloc.state import MEMCTL


@folded
def account_granted(mem, out, handle, who):
    """Enter the object granted last in the ledger: who allocated its slab, at which depth, who took the slot.

    Of a cache: what pages or kmalloc gave is not noted in MEMCTL.granted.
    """
    if 0 <= handle < st.PAGE_HANDLE:
        owner, depth = unpacked(mem.ctl[MEMCTL.granted])
        out.ledger[owner, depth, who] += 1


@folded
def account(heap, out, handle, who):
    """:func:`account_granted` of an object that may have been granted long ago, as an element of a mempool's."""
    if 0 <= handle < st.PAGE_HANDLE:
        owner, depth = allocated_by(heap, handle)
        out.ledger[owner, depth, who] += 1


@folded
def _take(mem, heap, out, c, cpu, gfp, context, who):
    mem.ctl[MEMCTL.who] = who
    handle = checked_alloc(mem, heap, c, cpu, gfp | mem.ctl[MEMCTL.gfp_add[who]], context)
    account_granted(mem, out, handle, who)
    return handle


@folded
def _give(mem, heap, c, cpu, handle):
    checked_free(mem, heap, c, cpu, handle)


@by_heap(lambda mem, heap, out, c, cpu, gfp, context, who: _take(mem, heap, out, c, cpu, gfp, context, who))
def slab_take(mem, heap, out, c, cpu, gfp, context, who):
    """kmem_cache_alloc on behalf of ``who``: a new slab remembers who asked, the ledger its takers."""


@by_heap(lambda mem, heap, c, cpu, handle: _give(mem, heap, c, cpu, handle))
def slab_give(mem, heap, c, cpu, handle):
    """kmem_cache_free of an object of cache ``c``."""

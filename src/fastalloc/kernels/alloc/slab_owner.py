"""Slab objects of the closed loop: on whose behalf one is taken, and who allocated the slab it comes from.

``heap`` is whichever allocator the machine has, see :mod:`fastalloc.kernels.alloc.kmem`.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.guards import checked_alloc, checked_free
from fastalloc.kernels.alloc.kmem import allocated_by
from fastalloc.kernels.alloc.state import MEMCTL


@folded
def account(heap, out, handle, who):
    """Enter a granted object in the ledger: who allocated its slab, at which depth, who took the slot."""
    if 0 <= handle < st.PAGE_HANDLE:
        owner, depth = allocated_by(heap, handle)
        out.ledger[owner, depth, who] += 1


@internal
def slab_take(mem, heap, out, c, cpu, gfp, context, who):
    """kmem_cache_alloc on behalf of ``who``: a new slab remembers who asked, the ledger its takers."""
    mem.ctl[MEMCTL.who] = who
    handle = checked_alloc(mem, heap, c, cpu, gfp | mem.ctl[MEMCTL.gfp_add[who]], context)
    account(heap, out, handle, who)
    return handle


@internal
def slab_give(mem, heap, c, cpu, handle):
    """kmem_cache_free of an object of cache ``c``."""
    checked_free(mem, heap, c, cpu, handle)

"""Objects that are whole pages, and which cache or page order serves a kmalloc size."""

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.linux import gfp as g

KMALLOC_LARGEST_SLOT = 4096 >> 3


KMALLOC_SLOTS = KMALLOC_LARGEST_SLOT + 1 + g.MAX_ORDER


@kernel
def get_order(size):
    """Smallest page order that holds ``size`` bytes; MAX_ORDER when none does."""
    order = 0
    while order < g.MAX_ORDER and (4096 << order) < size:
        order += 1
    return order


@kernel
def page_handle(mem, cpu, gfp, context, order):
    """Whole pages as an object: a page-backed handle, or NO_OBJECT [kmalloc_large, mempool_alloc_pages]."""
    pfn = alloc_pages(mem, cpu, -1, gfp, order, context)
    if pfn < 0:
        return st.NO_OBJECT
    return st.PAGE_HANDLE | (order << st.PAGE_HANDLE_ORDER_SHIFT) | pfn


@kernel
def free_page_handle(mem, cpu, handle):
    """Give the pages of a page-backed handle back."""
    order = (handle >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF
    free_pages(mem, cpu, handle & ((1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1), order)


@kernel
def general_cache(sizes, size):
    """The cache that serves kmalloc(``size``), -1 when pages do [get_slab, __find_general_cachep]."""
    if size <= 4096:
        return sizes[(size + 7) >> 3]
    order = get_order(size)
    if order >= g.MAX_ORDER:
        return -1
    return sizes[KMALLOC_LARGEST_SLOT + 1 + order]

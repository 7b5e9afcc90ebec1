"""The slabs that there were before a recorded trace, put in place before its first event."""

from fastalloc.compiler.jit import entry, internal
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.slub.partial import add_partial, install_slab, slab_record
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, SLUB_SLAB

# Where it lies: on no list (full), a node's partial list, as a CPU's own slab, on a CPU's partial list
LIST_NONE, LIST_NODE, LIST_CPU, LIST_CPU_PARTIAL = range(4)


class LAID(Record):
    """laid[slab, .]: a slab that there was before the trace."""

    cache = field("row of its cache")
    list = field("where it lies: LIST_NONE to LIST_CPU_PARTIAL")
    node = field("of its pages")
    cpu = field("whose slab it is, or whose list it is on; -1 none")
    private = field("free objects on its CPU's own list")
    free = field("free objects on the slab's own list")
    record = field("its record, filled in by set_up")


@internal
def place(mem, slub_, c, node, free):
    """A slab of cache ``c`` with its first ``free`` objects on its own list, on no list itself; its record."""
    s = slab_record(slub_, c)
    objects = slub_.cache[c, KMEM_CACHE.objects]
    install_slab(mem, slub_, c, s, node, slub_.cache[c, KMEM_CACHE.order], objects)
    if free > 0:
        slub_.link[slub_.slab[s, SLUB_SLAB.base] + free - 1] = -1
    else:
        slub_.slab[s, SLUB_SLAB.freelist] = -1
    slub_.slab[s, SLUB_SLAB.inuse] = objects - free
    return s


@entry
def set_up(mem, slub_, caches, laid):
    """Register cache c as ``caches[c]`` says, and put the slabs of ``laid`` in place, lists in the order of its rows.

    LAID.private free objects of a CPU's own slab are on that CPU's list, LAID.free of any slab on the slab's own.
    """
    for c in range(caches.shape[0]):
        slub.init_cache(slub_, c, caches[c])
    slab = slub_.slab
    for row in range(laid.shape[0]):
        c = laid[row, LAID.cache]
        private = laid[row, LAID.private]
        free = laid[row, LAID.free]
        s = place(mem, slub_, c, laid[row, LAID.node], private + free)
        laid[row, LAID.record] = s
        k = slub_.kcpu[c, max(laid[row, LAID.cpu], 0)]
        if laid[row, LAID.list] == LIST_NODE:
            add_partial(slub_, c, s, True)
        elif laid[row, LAID.list] == LIST_CPU:
            k[KMEM_CACHE_CPU.freelist] = 0 if private > 0 else -1
            k[KMEM_CACHE_CPU.page] = s
            slab[s, SLUB_SLAB.freelist] = private if free > 0 else -1
            if private > 0:
                slub_.link[slab[s, SLUB_SLAB.base] + private - 1] = -1
            slab[s, SLUB_SLAB.inuse] = slub_.cache[c, KMEM_CACHE.objects] - free
            slab[s, SLUB_SLAB.frozen] = 1 + laid[row, LAID.cpu]
        elif laid[row, LAID.list] == LIST_CPU_PARTIAL:
            below = k[KMEM_CACHE_CPU.partial]
            slab[s, SLUB_SLAB.next] = below
            slab[s, SLUB_SLAB.count] = 1 + (slab[below, SLUB_SLAB.count] if below >= 0 else 0)
            slab[s, SLUB_SLAB.frozen] = -1 - laid[row, LAID.cpu]
            k[KMEM_CACHE_CPU.partial] = s

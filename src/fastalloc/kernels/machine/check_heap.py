"""Conservation of slots: every object of a slab is in use or free in exactly one place, and the counts agree."""

from fastalloc.compiler.jit import dispatched, internal, kernel
from fastalloc.kernels.alloc.heap_ops import through
from fastalloc.kernels.alloc.own.state import CACHE_COUNT, GRANULES, ZONE_CTL
from fastalloc.kernels.alloc.slab.lists import nr_slabs
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB
from fastalloc.kernels.alloc.slob import ring as sr
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slob.ring import FIRST_PAGE, SLOB_CTL, SLOB_PAGE, SLOB_STRETCH
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_CTL, SLUB_SLAB

# Numbers of check.VIOLATIONS.
SLAB_OBJECTS = 5
CACHE_SLABS = 6
HELD_PAGES = 15
ARRAY_LIMIT = 16


def _check_slub(heap):
    counts = 0
    pages = 0
    for s in range(heap.ctl[SLUB_CTL.slab_top]):
        if heap.slab[s, SLUB_SLAB.pfn] < 0:
            continue
        counts += 1
        pages += 1 << heap.slab[s, SLUB_SLAB.order]
        free = 0
        i = heap.slab[s, SLUB_SLAB.freelist]
        while i >= 0:
            free += 1
            i = heap.link[heap.slab[s, SLUB_SLAB.base] + i]
        if free + heap.slab[s, SLUB_SLAB.inuse] != heap.slab[s, SLUB_SLAB.objects]:
            return SLAB_OBJECTS
    slabs = 0
    for c in range(heap.ctl[SLUB_CTL.nr_caches]):
        for n in range(heap.ctl[SLUB_CTL.nodes]):
            slabs += heap.knode[c, n, KMEM_CACHE_NODE.nr_slabs]
            partial = 0
            s = heap.knode[c, n, KMEM_CACHE_NODE.partial_head]
            while s >= 0:
                partial += 1
                s = heap.slab[s, SLUB_SLAB.next]
            if partial != heap.knode[c, n, KMEM_CACHE_NODE.nr_partial]:
                return CACHE_SLABS
    if slabs != counts:
        return CACHE_SLABS
    return 0 if pages == heap.ctl[SLUB_CTL.pages] else HELD_PAGES


slub_slots = internal(_check_slub)


def _check_eras(heap):
    """As SLUB, and no sheaf holds more than it may, no barn other sheaves than it counts."""
    for c in range(heap.ctl[SLUB_CTL.nr_caches]):
        capacity = heap.cache[c, KMEM_CACHE.sheaf_capacity]
        for cpu in range(heap.kcpu.shape[1]):
            for column in (KMEM_CACHE_CPU.main, KMEM_CACHE_CPU.sheaf_main, KMEM_CACHE_CPU.spare):
                h = heap.kcpu[c, cpu, column]
                if h >= 0 and not 0 <= heap.ctl[h + SHEAF.size] <= capacity:
                    return ARRAY_LIMIT
        for n in range(heap.ctl[SLUB_CTL.nodes]):
            for head, count in (
                (KMEM_CACHE_NODE.full, KMEM_CACHE_NODE.nr_full),
                (KMEM_CACHE_NODE.empty, KMEM_CACHE_NODE.nr_empty),
            ):
                sheaves = 0
                h = heap.knode[c, n, head]
                while h >= 0:
                    sheaves += 1
                    if not 0 <= heap.ctl[h + SHEAF.size] <= capacity:
                        return ARRAY_LIMIT
                    h = heap.ctl[h + SHEAF.next]
                if sheaves != heap.knode[c, n, count]:
                    return ARRAY_LIMIT
    return slub_slots(heap)


def _check_slab(heap):
    counts = 0
    pages = 0
    active = 0
    free = 0
    for s in range(heap.ctl[SLAB_CTL.slab_top]):
        if heap.slab[s, SLAB_SLAB.pfn] < 0:
            continue
        c = heap.slab[s, SLAB_SLAB.cache]
        counts += 1
        pages += 1 << heap.cache[c, SLAB_CACHE.order]
        inside = 0
        i = heap.slab[s, SLAB_SLAB.free]
        while i >= 0:
            inside += 1
            i = heap.link[heap.slab[s, SLAB_SLAB.base] + i]
        if inside + heap.slab[s, SLAB_SLAB.inuse] != heap.cache[c, SLAB_CACHE.num]:
            return SLAB_OBJECTS
        free += inside
        active += heap.slab[s, SLAB_SLAB.inuse]
    for c in range(heap.cache.shape[0]):
        counts -= nr_slabs(heap, c)
        active -= heap.cache[c, SLAB_CACHE.active]
        for n in range(heap.ctl[SLAB_CTL.nodes]):
            free -= heap.node[c, n, SLAB_LIST3.free_objects]
        for q in range(heap.queue.shape[1]):
            if not 0 <= heap.queue[c, q, SLAB_ARRAY.avail] <= heap.queue[c, q, SLAB_ARRAY.limit]:
                return ARRAY_LIMIT
    if active != 0 or free != 0:
        return SLAB_OBJECTS
    if counts != 0:
        return CACHE_SLABS
    if heap.ctl[SLAB_CTL.pending] != 0:
        return ARRAY_LIMIT
    return 0 if pages == heap.ctl[SLAB_CTL.pages] else HELD_PAGES


@kernel
def _to_boundary(b, align):
    """Units from unit ``b`` to the next multiple of ``align`` bytes; 0 where no alignment is known."""
    step = max(1, align // so.SLOB_UNIT)
    return -b % step


@kernel
def _stretches_hold(heap, head):
    """The stretches of a list name its records in their order, and none of their pages can serve more than they."""
    s = heap.page[head, SLOB_PAGE.stretch]
    p = heap.stretch[s, SLOB_STRETCH.first]
    for _ in range(heap.page.shape[0]):
        for _ in range(heap.stretch[s, SLOB_STRETCH.records]):
            if heap.page[p, SLOB_PAGE.stretch] != s:
                return False
            for fit in range(sr.FITS):
                known = min(heap.page[p, SLOB_PAGE.units], heap.page[p, SLOB_PAGE.most[fit]])
                if known > heap.stretch[s, SLOB_STRETCH.most[fit]] or known > heap.page[head, SLOB_PAGE.most[fit]]:
                    return False
            p = heap.page[p, SLOB_PAGE.next]
        s = heap.stretch[s, SLOB_STRETCH.next]
        if p != heap.stretch[s, SLOB_STRETCH.first]:
            return False
        if s == heap.page[head, SLOB_PAGE.stretch]:
            return True
    return False


def _check_slob(heap):
    pages = 0
    for p in range(FIRST_PAGE, heap.ctl[SLOB_CTL.top]):
        if heap.page[p, SLOB_PAGE.pfn] < 0:
            continue
        pages += 1
        if heap.page[p, SLOB_PAGE.on_list] == 0:
            continue
        units = most = kmalloc_most = line_most = 0
        b = heap.page[p, SLOB_PAGE.free]
        while b < so.PAGE_UNITS:
            block = so.slob_units(heap.unit[p], b)
            units += block
            most = max(most, block)
            kmalloc_most = max(kmalloc_most, block - _to_boundary(b, so.KMALLOC_ALIGN))
            line_most = max(line_most, block - _to_boundary(b, heap.ctl[SLOB_CTL.line]))
            b = so.slob_next(heap.unit[p], b)
        if units != heap.page[p, SLOB_PAGE.units] or units == 0:
            return SLAB_OBJECTS
        known = heap.page[p, SLOB_PAGE.most[:]]
        if known[sr.FIT_ANY] < most or known[sr.FIT_KMALLOC] < kmalloc_most or known[sr.FIT_LINE] < line_most:
            return SLAB_OBJECTS
    for head in range(FIRST_PAGE):
        if not _stretches_hold(heap, head):
            return SLAB_OBJECTS
    return 0 if pages == heap.ctl[SLOB_CTL.pages] else HELD_PAGES


def _check_own(heap):
    """The book of an allocator of one's own agrees with itself; each operation was held against it."""
    pages = objects = page = 0
    while page < heap.ctl[ZONE_CTL.top]:
        run = 1 << (heap.map[page] - 1) if heap.map[page] > 0 else 0
        pages += run
        for granule in range(page * GRANULES, (page + run) * GRANULES):
            objects += heap.used[granule] > 0
        page += max(1, run)
    live = held = 0
    for c in range(heap.counts.shape[0]):
        live += heap.counts[c, CACHE_COUNT.live]
        held += heap.counts[c, CACHE_COUNT.pages]
    if objects != live:
        return SLAB_OBJECTS
    if held != pages:
        return CACHE_SLABS
    return 0 if pages == heap.ctl[ZONE_CTL.held] else HELD_PAGES


CHECKS = {
    "Slub": _check_slub,
    "SlubEras": _check_eras,
    "Slab": _check_slab,
    "Slob": _check_slob,
    "Own": _check_own,
    "HeapOps": through("check_heap"),
}


def _check_of(heap):
    return CHECKS[getattr(heap, "instance_class", type(heap)).__name__]


@dispatched(_check_of)
def check_heap(heap):
    """The number of the first violated invariant, 0 when all hold."""

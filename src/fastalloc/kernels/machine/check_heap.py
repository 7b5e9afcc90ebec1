"""Conservation of slots: every object of a slab is in use or free in exactly one place, and the counts agree."""

from fastalloc.compiler.jit import by_type, internal, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab import slab as sb
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slob import ring as sr
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slub import state as er

# Numbers of check.VIOLATIONS.
SLAB_OBJECTS = 5
CACHE_SLABS = 6
HELD_PAGES = 15
ARRAY_LIMIT = 16


def _check_slub(heap):
    counts = 0
    pages = 0
    for s in range(heap.ctl[st.U_SLAB_TOP]):
        if heap.slab[s, st.S_PFN] < 0:
            continue
        counts += 1
        pages += 1 << heap.slab[s, st.S_ORDER]
        free = 0
        i = heap.slab[s, st.S_FREELIST]
        while i >= 0:
            free += 1
            i = heap.link[heap.slab[s, st.S_BASE] + i]
        if free + heap.slab[s, st.S_INUSE] != heap.slab[s, st.S_OBJECTS]:
            return SLAB_OBJECTS
    slabs = 0
    for c in range(heap.ctl[st.U_NR_CACHES]):
        for n in range(heap.ctl[st.U_NODES]):
            slabs += heap.knode[c, n, st.N_NR_SLABS]
            partial = 0
            s = heap.knode[c, n, st.N_PARTIAL_HEAD]
            while s >= 0:
                partial += 1
                s = heap.slab[s, st.S_NEXT]
            if partial != heap.knode[c, n, st.N_NR_PARTIAL]:
                return CACHE_SLABS
    if slabs != counts:
        return CACHE_SLABS
    return 0 if pages == heap.ctl[st.U_PAGES] else HELD_PAGES


slub_slots = internal(_check_slub)


def _check_eras(heap):
    """As SLUB, and no sheaf holds more than it may, no barn other sheaves than it counts."""
    for c in range(heap.ctl[st.U_NR_CACHES]):
        capacity = heap.cache[c, er.C_SHEAF_CAPACITY]
        for cpu in range(heap.kcpu.shape[1]):
            for column in (er.K_MAIN, er.K_SPARE):
                h = heap.kcpu[c, cpu, column]
                if h >= 0 and not 0 <= heap.ctl[h + er.H_SIZE] <= capacity:
                    return ARRAY_LIMIT
        for n in range(heap.ctl[st.U_NODES]):
            for head in (er.N_FULL, er.N_EMPTY):
                sheaves = 0
                h = heap.knode[c, n, head]
                while h >= 0:
                    sheaves += 1
                    if not 0 <= heap.ctl[h + er.H_SIZE] <= capacity:
                        return ARRAY_LIMIT
                    h = heap.ctl[h + er.H_NEXT]
                if sheaves != heap.knode[c, n, head + 2]:
                    return ARRAY_LIMIT
    return slub_slots(heap)


def _check_slab(heap):
    counts = 0
    pages = 0
    active = 0
    free = 0
    for s in range(heap.ctl[ss.T_SLAB_TOP]):
        if heap.slab[s, ss.L_PFN] < 0:
            continue
        c = heap.slab[s, ss.L_CACHE]
        counts += 1
        pages += 1 << heap.cache[c, ss.A_ORDER]
        inside = 0
        i = heap.slab[s, ss.L_FREE]
        while i >= 0:
            inside += 1
            i = heap.link[heap.slab[s, ss.L_BASE] + i]
        if inside + heap.slab[s, ss.L_INUSE] != heap.cache[c, ss.A_NUM]:
            return SLAB_OBJECTS
        free += inside
        active += heap.slab[s, ss.L_INUSE]
    for c in range(heap.cache.shape[0]):
        counts -= sb.cache_slabs(heap, c)
        active -= heap.cache[c, ss.A_ACTIVE]
        for n in range(heap.ctl[ss.T_NODES]):
            free -= heap.node[c, n, ss.L3_FREE_OBJECTS]
        for q in range(heap.queue.shape[1]):
            if not 0 <= heap.queue[c, q, ss.Q_AVAIL] <= heap.queue[c, q, ss.Q_LIMIT]:
                return ARRAY_LIMIT
    if active != 0 or free != 0:
        return SLAB_OBJECTS
    if counts != 0:
        return CACHE_SLABS
    if heap.ctl[ss.T_PENDING] != 0:
        return ARRAY_LIMIT
    return 0 if pages == heap.ctl[ss.T_PAGES] else HELD_PAGES


@kernel
def _to_boundary(b, align):
    """Units from unit ``b`` to the next multiple of ``align`` bytes; 0 where no alignment is known."""
    step = max(1, align // so.SLOB_UNIT)
    return -b % step


@kernel
def _stretches_hold(heap, head):
    """The stretches of a list name its records in their order, and none of their pages can serve more than they."""
    s = heap.page[head, sr.B_STRETCH]
    p = heap.stretch[s, sr.S_FIRST]
    for _ in range(heap.page.shape[0]):
        for _ in range(heap.stretch[s, sr.S_RECORDS]):
            if heap.page[p, sr.B_STRETCH] != s:
                return False
            for fit in range(sr.FITS):
                known = min(heap.page[p, so.B_UNITS], heap.page[p, sr.B_MOST + fit])
                if known > heap.stretch[s, sr.S_MOST + fit] or known > heap.page[head, sr.B_MOST + fit]:
                    return False
            p = heap.page[p, so.B_NEXT]
        s = heap.stretch[s, sr.S_NEXT]
        if p != heap.stretch[s, sr.S_FIRST]:
            return False
        if s == heap.page[head, sr.B_STRETCH]:
            return True
    return False


def _check_slob(heap):
    pages = 0
    for p in range(so.FIRST_PAGE, heap.ctl[so.O_TOP]):
        if heap.page[p, so.B_PFN] < 0:
            continue
        pages += 1
        if heap.page[p, so.B_ON_LIST] == 0:
            continue
        units = most = kmalloc_most = line_most = 0
        b = heap.page[p, so.B_FREE]
        while b < so.PAGE_UNITS:
            block = so.slob_units(heap.unit[p], b)
            units += block
            most = max(most, block)
            kmalloc_most = max(kmalloc_most, block - _to_boundary(b, so.KMALLOC_ALIGN))
            line_most = max(line_most, block - _to_boundary(b, heap.ctl[so.O_LINE]))
            b = so.slob_next(heap.unit[p], b)
        if units != heap.page[p, so.B_UNITS] or units == 0:
            return SLAB_OBJECTS
        known = heap.page[p, sr.B_MOST : sr.B_MOST + sr.FITS]
        if known[sr.FIT_ANY] < most or known[sr.FIT_KMALLOC] < kmalloc_most or known[sr.FIT_LINE] < line_most:
            return SLAB_OBJECTS
    for head in range(so.FIRST_PAGE):
        if not _stretches_hold(heap, head):
            return SLAB_OBJECTS
    return 0 if pages == heap.ctl[so.O_PAGES] else HELD_PAGES


CHECKS = {"Slub": _check_slub, "SlubEras": _check_eras, "Slab": _check_slab, "Slob": _check_slob}


def check_heap(heap):
    """The number of the first violated invariant, 0 when all hold."""
    return CHECKS[type(heap).__name__](heap)


@by_type(check_heap)
def _check_heap(heap):
    return CHECKS[heap.instance_class.__name__]

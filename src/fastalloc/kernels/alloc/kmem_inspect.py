"""What the closed loop asks of its allocator beside objects: caches set up, pages and slabs held, free objects.

As in :mod:`fastalloc.kernels.alloc.kmem`, ``heap`` is the state of SLUB, SLAB or SLOB, and its type decides at
compile time.
"""

from types import SimpleNamespace

from fastalloc.compiler.jit import INLINED, by_type
from fastalloc.kernels.alloc import emergency_caches as em
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab import slab as sb
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.slub import state as er

# ------------------------------------------------------------------------------------------------------- SLUB


def _slub_init_caches(heap, geometry):
    for c in range(geometry.shape[0]):
        su.init_cache(heap, c, geometry[c])
    heap.ctl[st.U_NR_CACHES] = geometry.shape[0]
    heap.ctl[st.U_NODES] = 1


def _slub_pages(heap):
    return heap.ctl[st.U_PAGES]


def _slub_max_pages(heap):
    return heap.ctl[st.U_MAX_PAGES]


def _slub_cache_slabs(heap, c):
    return heap.knode[c, 0, st.N_NR_SLABS]


def _slub_max_cache_slabs(heap, c):
    return heap.cache[c, er.C_MAX_SLABS]


def _slub_free_objects(heap, c):
    free = 0
    for cpu in range(heap.kcpu.shape[1]):
        s = heap.kcpu[c, cpu, st.K_PAGE]
        if s >= 0:
            free += heap.slab[s, st.S_OBJECTS] - heap.slab[s, st.S_INUSE]
            i = heap.kcpu[c, cpu, st.K_FREELIST]
            while i >= 0:
                free += 1
                i = heap.link[heap.slab[s, st.S_BASE] + i]
    for n in range(heap.ctl[st.U_NODES]):
        s = heap.knode[c, n, st.N_PARTIAL_HEAD]
        while s >= 0:
            free += heap.slab[s, st.S_OBJECTS] - heap.slab[s, st.S_INUSE]
            s = heap.slab[s, st.S_NEXT]
    return free


def _eras_free_objects(heap, c):
    free = 0
    for s in range(heap.ctl[st.U_SLAB_TOP]):
        if heap.slab[s, st.S_PFN] >= 0 and heap.slab[s, st.S_CACHE] == c:
            free += heap.slab[s, st.S_OBJECTS] - heap.slab[s, st.S_INUSE]
    for cpu in range(heap.kcpu.shape[1]):
        k = heap.kcpu[c, cpu]
        for f in (st.K_FREELIST, er.K_SHEAF_FREELIST):
            i = k[f]
            while i >= 0:
                free += 1
                i = heap.link[heap.slab[k[f + 1], st.S_BASE] + i]
        for sheaf in (er.K_MAIN, er.K_SPARE):
            if k[sheaf] >= 0:
                free += heap.ctl[k[sheaf] + er.H_SIZE]
    h = heap.knode[c, 0, er.N_FULL]
    while h >= 0:
        free += heap.ctl[h + er.H_SIZE]
        h = heap.ctl[h + er.H_NEXT]
    return free


def _slub_deep_objects(heap, c):
    deep = 0
    for s in range(heap.ctl[st.U_SLAB_TOP]):
        slab = heap.slab[s]
        if slab[st.S_PFN] >= 0 and slab[st.S_CACHE] == c and slab[st.S_DEPTH] > st.DEPTH_HARDER:
            deep += slab[st.S_INUSE]
    return deep


def _untold(heap, c):
    return -1


def _slub_costs(heap, into):
    into[0] = into[1] = into[2] = 0
    held = 4096 * heap.ctl[st.U_PAGES]
    for c in range(heap.ctl[st.U_NR_CACHES]):
        for cpu in range(heap.kcpu.shape[1]):
            k = heap.kcpu[c, cpu]
            into[0] += k[st.K_ALLOC_FASTPATH] + k[st.K_FREE_FASTPATH] + k[er.K_ALLOC_PCS] + k[er.K_FREE_PCS]
            into[1] += k[st.K_ALLOC_SLOWPATH] + k[st.K_FREE_SLOWPATH]
            into[2] += k[st.K_ALLOC_FROM_PARTIAL] + k[st.K_FREE_REMOVE_PARTIAL]
            into[2] += k[st.K_DEACTIVATE_TO_HEAD] + k[st.K_DEACTIVATE_TO_TAIL]
            into[2] += k[er.K_BARN_GET] + k[er.K_BARN_GET_FAIL] + k[er.K_BARN_PUT] + k[er.K_BARN_PUT_FAIL]
            # a CPU's list goes to the nodes under one lock
            into[2] += k[er.K_CPU_PARTIAL_DRAIN if heap.cache[c, er.C_CPU_PARTIAL] > 0 else st.K_FREE_ADD_PARTIAL]
        used = -free_objects(heap, c)
        for s in range(heap.ctl[st.U_SLAB_TOP]):
            if heap.slab[s, st.S_PFN] >= 0 and heap.slab[s, st.S_CACHE] == c:
                used += heap.slab[s, st.S_OBJECTS]
        held -= used * heap.cache[c, st.C_OBJSIZE]
    into[3] = held // 1024


def _slub_overflowed(heap):
    return heap.ctl[st.U_OVERFLOW] != 0


def _no_reaper(heap):
    return False


def _slub_set_aside(mem, heap):
    em.boot_emergency(mem, heap)


def _slub_aside_bytes(mem, heap):
    if mem.ctl[st.M_EMERGENCY_APART] == 0:
        return 0
    idle = 0
    for i in range(4):
        idle += em.SIZES[i] * free_objects(heap, mem.ctl[st.M_EMERGENCY_CACHE + i])
    return idle


def _nothing_aside(mem, heap):
    pass


def _no_bytes_aside(mem, heap):
    return 0


SLUB = SimpleNamespace(
    init_caches=_slub_init_caches,
    heap_pages=_slub_pages,
    max_heap_pages=_slub_max_pages,
    cache_slabs=_slub_cache_slabs,
    max_cache_slabs=_slub_max_cache_slabs,
    free_objects=_slub_free_objects,
    heap_costs=_slub_costs,
    deep_objects=_slub_deep_objects,
    overflowed=_slub_overflowed,
    has_reaper=_no_reaper,
    set_aside=_slub_set_aside,
    aside_bytes=_slub_aside_bytes,
)
ERAS = SimpleNamespace(**{**vars(SLUB), "free_objects": _eras_free_objects})

# ------------------------------------------------------------------------------------------------------- SLAB


def _slab_init_caches(heap, geometry):
    """Nothing is left to do: see scenario.slab_arrays."""


def _slab_pages(heap):
    return heap.ctl[ss.T_PAGES]


def _slab_max_pages(heap):
    return heap.ctl[ss.T_MAX_PAGES]


def _slab_cache_slabs(heap, c):
    return sb.cache_slabs(heap, c)


def _slab_max_cache_slabs(heap, c):
    return heap.cache[c, ss.A_MAX_SLABS]


def _slab_free_objects(heap, c):
    free = sb.cache_slabs(heap, c) * heap.cache[c, ss.A_NUM] - heap.cache[c, ss.A_ACTIVE]
    for q in range(heap.queue.shape[1]):
        free += heap.queue[c, q, ss.Q_AVAIL]
    return free


def _slab_deep_objects(heap, c):
    deep = 0
    for s in range(heap.ctl[ss.T_SLAB_TOP]):
        slab = heap.slab[s]
        if slab[ss.L_PFN] >= 0 and slab[ss.L_CACHE] == c and slab[ss.L_DEPTH] > st.DEPTH_HARDER:
            deep += slab[ss.L_INUSE]
    return deep


def _slab_costs(heap, into):
    into[0] = into[1] = into[2] = 0
    held = 4096 * heap.ctl[ss.T_PAGES]
    for c in range(heap.cache.shape[0]):
        cache = heap.cache[c]
        misses = cache[ss.A_ALLOCMISS] + cache[ss.A_FREEMISS]
        into[0] += cache[ss.A_ALLOCHIT] + cache[ss.A_FREEHIT]
        into[1] += misses + cache[ss.A_NODE_ALLOCS] + cache[ss.A_NODE_FREES]
        into[2] += misses + cache[ss.A_NODE_ALLOCS] + cache[ss.A_NODE_OVERFLOW]
        used = cache[ss.A_ACTIVE]
        for q in range(heap.queue.shape[1]):
            used -= heap.queue[c, q, ss.Q_AVAIL]
        held -= used * cache[ss.A_SIZE]
    into[3] = held // 1024


def _slab_overflowed(heap):
    return heap.ctl[ss.T_OVERFLOW] != 0


def _reaper(heap):
    return True


SLAB = SimpleNamespace(
    init_caches=_slab_init_caches,
    heap_pages=_slab_pages,
    max_heap_pages=_slab_max_pages,
    cache_slabs=_slab_cache_slabs,
    max_cache_slabs=_slab_max_cache_slabs,
    free_objects=_slab_free_objects,
    heap_costs=_slab_costs,
    deep_objects=_slab_deep_objects,
    overflowed=_slab_overflowed,
    has_reaper=_reaper,
    set_aside=_nothing_aside,
    aside_bytes=_no_bytes_aside,
)

# ------------------------------------------------------------------------------------------------------- SLOB


def _slob_init_caches(heap, geometry):
    for c in range(geometry.shape[0]):
        for column in range(so.SLOB_CACHE_FIELDS):
            heap.cache[c, column] = geometry[c, column]


def _slob_pages(heap):
    return heap.ctl[so.O_PAGES] + heap.ctl[so.O_WHOLE]


def _slob_max_pages(heap):
    return heap.ctl[so.O_MAX_PAGES]


def _slob_no_slabs(heap, c):
    return -1


def _slob_free_objects(heap, c):
    return so.room_for(heap, heap.cache[c, so.O_SIZE], heap.cache[c, so.O_ALIGN])


def _slob_costs(heap, into):
    into[0] = 0
    into[1] = into[2] = heap.ctl[so.O_LOCKS]
    units = 0
    for p in range(so.FIRST_PAGE, heap.ctl[so.O_TOP]):
        if heap.page[p, so.B_PFN] >= 0:
            units += heap.page[p, so.B_UNITS]
    into[3] = units * so.SLOB_UNIT // 1024


def _slob_overflowed(heap):
    return heap.ctl[so.O_OVERFLOW] != 0


SLOB = SimpleNamespace(
    init_caches=_slob_init_caches,
    heap_pages=_slob_pages,
    max_heap_pages=_slob_max_pages,
    cache_slabs=_slob_no_slabs,
    max_cache_slabs=_slob_no_slabs,
    free_objects=_slob_free_objects,
    heap_costs=_slob_costs,
    deep_objects=_untold,
    overflowed=_slob_overflowed,
    has_reaper=_no_reaper,
    set_aside=_nothing_aside,
    aside_bytes=_no_bytes_aside,
)

FACES = {"Slub": SLUB, "SlubEras": ERAS, "Slab": SLAB, "Slob": SLOB}

# --------------------------------------------------------------------------------------------- the common face


def _of(heap):
    """The face of a Numba type or a plain tuple."""
    return FACES[getattr(heap, "instance_class", type(heap)).__name__]


def init_caches(heap, geometry):
    """Register the caches, a row of ``geometry`` each; SLAB comes with its own set up."""
    _of(heap).init_caches(heap, geometry)


def heap_pages(heap):
    """Pages that the allocator holds; what SLUB hands out as pages is its user's."""
    return _of(heap).heap_pages(heap)


def max_heap_pages(heap):
    """Most pages that it held."""
    return _of(heap).max_heap_pages(heap)


def cache_slabs(heap, c):
    """Slabs of cache ``c``; -1 in SLOB, whose pages belong to no cache."""
    return _of(heap).cache_slabs(heap, c)


def max_cache_slabs(heap, c):
    """Most slabs that cache ``c`` had; -1 in SLOB."""
    return _of(heap).max_cache_slabs(heap, c)


def free_objects(heap, c):
    """Free objects of cache ``c`` wherever they are stranded; in SLOB how many more its pages would hold."""
    return _of(heap).free_objects(heap, c)


def deep_objects(heap, c):
    """Objects handed out, or on a CPU's freelist, of slabs of cache ``c`` that were bought below 3/4 min, where a
    GFP_NOIO caller cannot buy: in the bio cache, slots that callers with __GFP_HIGH paid for. -1: not known."""
    return _of(heap).deep_objects(heap, c)


def heap_costs(heap, into):
    """Fill the metrics from slab_fast to slab_waste_kb, int64[4]."""
    _of(heap).heap_costs(heap, into)


def overflowed(heap):
    """Whether the arrays were too small; the lane's result is void then."""
    return _of(heap).overflowed(heap)


def has_reaper(heap):
    """Whether a reaper runs from time to time; known when a kernel is compiled."""
    return _of(heap).has_reaper(heap)


def set_aside(mem, heap):
    """Slabs that a policy sets aside at boot."""
    _of(heap).set_aside(mem, heap)


def aside_bytes(mem, heap):
    """Bytes of the objects that are free in slabs of emergency caches, where these share with nobody."""
    return _of(heap).aside_bytes(mem, heap)


@by_type(set_aside)
def _set_aside(mem, heap):
    return _of(heap).set_aside


@by_type(aside_bytes)
def _aside_bytes(mem, heap):
    return _of(heap).aside_bytes


@by_type(init_caches)
def _init_caches(heap, geometry):
    return _of(heap).init_caches


@by_type(heap_pages, **INLINED)
def _heap_pages(heap):
    return _of(heap).heap_pages


@by_type(max_heap_pages, **INLINED)
def _max_heap_pages(heap):
    return _of(heap).max_heap_pages


@by_type(cache_slabs, **INLINED)
def _cache_slabs(heap, c):
    return _of(heap).cache_slabs


@by_type(max_cache_slabs, **INLINED)
def _max_cache_slabs(heap, c):
    return _of(heap).max_cache_slabs


@by_type(free_objects)
def _free_objects(heap, c):
    return _of(heap).free_objects


@by_type(deep_objects)
def _deep_objects(heap, c):
    return _of(heap).deep_objects


@by_type(heap_costs)
def _heap_costs(heap, into):
    return _of(heap).heap_costs


@by_type(overflowed, **INLINED)
def _overflowed(heap):
    return _of(heap).overflowed


@by_type(has_reaper, **INLINED)
def _has_reaper(heap):
    return _of(heap).has_reaper

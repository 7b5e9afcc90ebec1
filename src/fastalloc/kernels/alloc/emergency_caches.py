"""Emergency caches: where an allocation goes whose cache gets no slab [Pekka Enberg, patches of April 2008].

Four caches of 32 to 256 bytes. As posted they serve GFP_TEMPORARY alone, from the first class larger than the
object, and in the second version every CPU gets one slab of each at boot; an object of them is then freed into the
cache that its user names. In the ideal form each class has slabs of its own, which every CPU reaches and which stay
when empty.
"""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub.partial import add_partial, discard_slab, new_slab, remove_partial
from fastalloc.kernels.alloc.slub.slub import free_turning, slab_alloc, slab_free
from fastalloc.kernels.lane import metrics
from fastalloc.linux import gfp as g

EMERGENCY_CACHES = ("none", "v1", "v2", "ideal")
NONE, V1, V2, IDEAL = range(len(EMERGENCY_CACHES))
SIZES = (32, 64, 128, 256)


@internal
def take_preallocated(slub, e):
    """An object of a cache without CPU slabs, or NO_OBJECT."""
    s = slub.knode[e, 0, st.N_PARTIAL_HEAD]
    if s < 0:
        return st.NO_OBJECT
    slab = slub.slab
    i = slab[s, st.S_FREELIST]
    slab[s, st.S_FREELIST] = slub.link[slab[s, st.S_BASE] + i]
    slab[s, st.S_INUSE] += 1
    if slab[s, st.S_FREELIST] < 0:
        remove_partial(slub, e, s)
    slub.ctl[st.U_PATH] = 3
    return (s << st.HANDLE_SHIFT) | i


@internal
def emergency_alloc(mem, slub, c, cpu, gfp, context):
    """An object for a request that cache ``c`` could not serve, or NO_OBJECT [emergency_alloc].

    As posted a class that is used up asks the next larger one; a class serves what is *smaller* than it.
    """
    out_of_line()
    mem.ctl[st.M_TESTS] += 1
    if (gfp & g.TEMPORARY) == 0 and (gfp & g.GFP_TEMPORARY) != g.GFP_TEMPORARY:
        return st.NO_OBJECT
    ideal = mem.ctl[st.M_EMERGENCY] == IDEAL
    size = slub.cache[c, st.C_OBJSIZE]
    for i in range(4):
        largest = 32 << i
        if size > largest or (size == largest and not ideal):
            continue
        e = mem.ctl[st.M_EMERGENCY_CACHE + i]
        if ideal:
            handle = take_preallocated(slub, e)
        else:
            handle = slab_alloc(mem, slub, e, cpu, -1, gfp, context)
        if handle >= 0:
            mem.ctl[st.M_EMERGENCY_USED] += 1
            return handle
        if ideal:
            break
    return st.NO_OBJECT


@internal
def boot_emergency(mem, slub):
    """Set the slabs aside that a version has from the start [pre_alloc_cpu_slabs].

    The second version installs its slab over whatever slab the CPU has, and loses the first object of it.
    """
    version = mem.ctl[st.M_EMERGENCY]
    if version != V2 and version != IDEAL:
        return
    mem.ctl[st.M_WHO] = metrics.W_BOOT
    for i in range(4):
        e = mem.ctl[st.M_EMERGENCY_CACHE + i]
        slabs = slub.kcpu.shape[1] if version == V2 else mem.ctl[st.M_EMERGENCY_SLABS]
        for n in range(slabs):
            s = new_slab(mem, slub, e, n if version == V2 else 0, -1, g.GFP_KERNEL, 0)
            if s < 0:
                return
            if version == IDEAL:
                add_partial(slub, e, s, True)
                continue
            slab = slub.slab
            k = slub.kcpu[e, n]
            slab[s, st.S_FROZEN] = 1 + n
            k[st.K_PAGE] = s
            k[st.K_FREELIST] = slub.link[slab[s, st.S_BASE] + slab[s, st.S_FREELIST]]
            slab[s, st.S_FREELIST] = -1
            slab[s, st.S_INUSE] = slab[s, st.S_OBJECTS]


@internal
def adopt_slab(mem, slub, c, s):
    """Slab ``s`` of another cache is from now on one of ``c``: so it is counted, and so it will be freed."""
    slab = slub.slab
    other = slab[s, st.S_CACHE]
    pages = 1 << slab[s, st.S_ORDER]
    slub.knode[other, 0, st.N_NR_SLABS] -= 1
    slub.knode[c, 0, st.N_NR_SLABS] += 1
    slub.cache[other, st.C_PAGES] -= pages
    slub.cache[c, st.C_PAGES] += pages
    slab[s, st.S_CACHE] = c
    mem.ctl[st.M_MIGRATED] += 1


@internal
def free_named(mem, slub, c, cpu, handle):
    """kmem_cache_free of 2.6.25: the caller names the cache, and nobody compares it with the slab's, or looks it up.

    An object of another cache lands on its slab as it should; a slab that so gets its first free object joins the
    partial list of the *named* cache, and one that so becomes empty is given back as if it were the named cache's.
    Where the kernel would only get its counters wrong the slab changes its cache here.
    """
    out_of_line()
    s = handle >> st.HANDLE_SHIFT
    by_page = mem.ctl[st.M_FREE] == st.FREE_BY_PAGE
    if by_page:
        mem.ctl[st.M_TESTS] += 1
    if by_page or handle >= st.PAGE_HANDLE or slub.slab[s, st.S_CACHE] == c:
        slab_free(mem, slub, cpu, handle)
        return
    i = handle & st.HANDLE_INDEX_MASK
    slab = slub.slab
    k = slub.kcpu[c, cpu]
    k[st.K_FREE_SLOWPATH] += 1
    prior = slab[s, st.S_FREELIST]
    slub.link[slab[s, st.S_BASE] + i] = prior
    slab[s, st.S_FREELIST] = i
    slab[s, st.S_INUSE] -= 1
    if slab[s, st.S_FROZEN] != 0:
        k[st.K_FREE_FROZEN] += 1
        slub.ctl[st.U_PATH] = 2
        return
    slub.ctl[st.U_PATH] = 4
    if prior < 0:
        adopt_slab(mem, slub, c, s)
        free_turning(mem, slub, c, cpu, s, prior)
    elif slab[s, st.S_INUSE] == 0:
        remove_partial(slub, slab[s, st.S_CACHE], s)
        adopt_slab(mem, slub, c, s)
        k[st.K_FREE_SLAB] += 1
        discard_slab(mem, slub, c, cpu, s)

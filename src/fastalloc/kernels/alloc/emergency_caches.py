"""Emergency caches: where an allocation goes whose cache gets no slab [Pekka Enberg, patches of April 2008].

Four caches of 32 to 256 bytes. As posted they serve GFP_TEMPORARY alone, from the first class larger than the
object, and in the second version every CPU gets one slab of each at boot; an object of them is then freed into the
cache that its user names. In the ideal form each class has slabs of its own, which every CPU reaches and which stay
when empty.
"""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub.era_2_6_25.slow_paths import free_turning
from fastalloc.kernels.alloc.slub.partial import add_partial, discard_slab, new_slab, remove_partial
from fastalloc.kernels.alloc.slub.slub import slab_alloc, slab_free
from fastalloc.kernels.alloc.slub.state import PATH_PARTIAL, PATH_STAYS, PATH_STAYS_FROZEN
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.policy import POLICY, choices
from fastalloc.linux import gfp as g

EMERGENCY_CACHES = choices("emergency_caches")
NONE, V1, V2, IDEAL = range(len(EMERGENCY_CACHES))
SIZES = (32, 64, 128, 256)


@internal
def take_preallocated(slub, e):
    """An object of a cache without CPU slabs, or NO_OBJECT."""
    s = slub.knode[e, 0, KMEM_CACHE_NODE.partial_head]
    if s < 0:
        return st.NO_OBJECT
    slab = slub.slab
    i = slab[s, SLUB_SLAB.freelist]
    slab[s, SLUB_SLAB.freelist] = slub.link[slab[s, SLUB_SLAB.base] + i]
    slab[s, SLUB_SLAB.inuse] += 1
    if slab[s, SLUB_SLAB.freelist] < 0:
        remove_partial(slub, e, s)
    slub.ctl[SLUB_CTL.path] = PATH_PARTIAL
    return (s << st.HANDLE_SHIFT) | i


@internal
def emergency_alloc(mem, slub, c, cpu, gfp, context):
    """An object for a request that cache ``c`` could not serve, or NO_OBJECT [emergency_alloc].

    As posted a class that is used up asks the next larger one; a class serves what is *smaller* than it.
    """
    out_of_line()
    mem.ctl[MEMCTL.tests] += 1
    if (gfp & g.TEMPORARY) == 0 and (gfp & g.GFP_TEMPORARY) != g.GFP_TEMPORARY:
        return st.NO_OBJECT
    ideal = mem.ctl[POLICY.emergency_caches] == IDEAL
    size = slub.cache[c, KMEM_CACHE.objsize]
    for i in range(4):
        largest = 32 << i
        if size > largest or (size == largest and not ideal):
            continue
        e = mem.ctl[MEMCTL.emergency_cache[i]]
        if ideal:
            handle = take_preallocated(slub, e)
        else:
            handle = slab_alloc(mem, slub, e, cpu, -1, gfp, context)
        if handle >= 0:
            mem.ctl[MEMCTL.emergency_used] += 1
            return handle
        if ideal:
            break
    return st.NO_OBJECT


@internal
def boot_emergency(mem, slub):
    """Set the slabs aside that a version has from the start [pre_alloc_cpu_slabs].

    The second version installs its slab over whatever slab the CPU has, and loses the first object of it.
    """
    version = mem.ctl[POLICY.emergency_caches]
    if version != V2 and version != IDEAL:
        return
    mem.ctl[MEMCTL.who] = WHO.boot
    for i in range(4):
        e = mem.ctl[MEMCTL.emergency_cache[i]]
        slabs = slub.kcpu.shape[1] if version == V2 else mem.ctl[POLICY.emergency_slabs]
        for n in range(slabs):
            s = new_slab(mem, slub, e, n if version == V2 else 0, -1, g.GFP_KERNEL, 0)
            if s < 0:
                return
            if version == IDEAL:
                add_partial(slub, e, s, True)
                continue
            slab = slub.slab
            k = slub.kcpu[e, n]
            slab[s, SLUB_SLAB.frozen] = 1 + n
            k[KMEM_CACHE_CPU.page] = s
            k[KMEM_CACHE_CPU.freelist] = slub.link[slab[s, SLUB_SLAB.base] + slab[s, SLUB_SLAB.freelist]]
            slab[s, SLUB_SLAB.freelist] = -1
            slab[s, SLUB_SLAB.inuse] = slab[s, SLUB_SLAB.objects]


@internal
def adopt_slab(mem, slub, c, s):
    """Slab ``s`` of another cache is from now on one of ``c``: so it is counted, and so it will be freed."""
    slab = slub.slab
    other = slab[s, SLUB_SLAB.cache]
    pages = 1 << slab[s, SLUB_SLAB.order]
    slub.knode[other, 0, KMEM_CACHE_NODE.nr_slabs] -= 1
    slub.knode[c, 0, KMEM_CACHE_NODE.nr_slabs] += 1
    slub.cache[other, KMEM_CACHE.pages] -= pages
    slub.cache[c, KMEM_CACHE.pages] += pages
    slab[s, SLUB_SLAB.cache] = c
    mem.ctl[MEMCTL.migrated] += 1


@internal
def free_named(mem, slub, c, cpu, handle):
    """kmem_cache_free of 2.6.25: the caller names the cache, and nobody compares it with the slab's, or looks it up.

    An object of another cache lands on its slab as it should; a slab that so gets its first free object joins the
    partial list of the *named* cache, and one that so becomes empty is given back as if it were the named cache's.
    Where the kernel would only get its counters wrong the slab changes its cache here.
    """
    out_of_line()
    s = handle >> st.HANDLE_SHIFT
    by_page = mem.ctl[MEMCTL.free] == st.FREE_BY_PAGE
    if by_page:
        mem.ctl[MEMCTL.tests] += 1
    if by_page or handle >= st.PAGE_HANDLE or slub.slab[s, SLUB_SLAB.cache] == c:
        slab_free(mem, slub, cpu, handle)
        return
    i = handle & st.HANDLE_INDEX_MASK
    slab = slub.slab
    k = slub.kcpu[c, cpu]
    k[KMEM_CACHE_CPU.free_slowpath] += 1
    prior = slab[s, SLUB_SLAB.freelist]
    slub.link[slab[s, SLUB_SLAB.base] + i] = prior
    slab[s, SLUB_SLAB.freelist] = i
    slab[s, SLUB_SLAB.inuse] -= 1
    if slab[s, SLUB_SLAB.frozen] != 0:
        k[KMEM_CACHE_CPU.free_frozen] += 1
        slub.ctl[SLUB_CTL.path] = PATH_STAYS_FROZEN
        return
    slub.ctl[SLUB_CTL.path] = PATH_STAYS
    if prior < 0:
        adopt_slab(mem, slub, c, s)
        free_turning(mem, slub, c, cpu, s, prior)
    elif slab[s, SLUB_SLAB.inuse] == 0:
        remove_partial(slub, slab[s, SLUB_SLAB.cache], s)
        adopt_slab(mem, slub, c, s)
        k[KMEM_CACHE_CPU.free_slab] += 1
        discard_slab(mem, slub, c, cpu, s)

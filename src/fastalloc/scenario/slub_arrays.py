"""A cache's layout as the row of SLUB's arrays."""

import numpy as np

from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.state import KMEM_CACHE
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as eras
from fastalloc.linux.geometry_slub import Geometry
from fastalloc.linux.slub_eras import SlubOptions


def geometry_row(
    geometry: Geometry,
    era: str = "2.6.25",
    sheaf_capacity: int = 32,
    sheaf_cache: int = -1,
    by_objects: bool = False,
    order_fallback: bool = False,
    keep_empty: bool = False,
    no_reclaim_first: bool = False,
) -> np.ndarray:
    """The cache's row for ``slub.init_cache``: int64[KMEM_CACHE.width].

    Parameters
    ----------
    era : whose rules move its slabs, one of ``kernels.alloc.slub.state.ERA_NAMES``; any layout may meet any of
        them. A layout without a per-CPU partial list of its own gets that of 6.1 where the rules want one.
    sheaf_capacity, sheaf_cache : of the eras with sheaves: objects a sheaf, and the index of the cache that sheaves
        are taken from (``sheaves``: of era ``cpu-partial``; ``7.3``: of the same), -1 where they cost no
        memory.
    by_objects : the partial list counts free objects, as before 5.16, instead of slabs.
    order_fallback, keep_empty : of era ``2.6.25``: a smaller slab is tried where the order cannot be had (2.6.26); an
        emptied slab stays while fewer than min_partial are partial. Later eras do both.
    no_reclaim_first : of era ``cpu-partial``: the first try at a larger order neither reclaims nor touches the
        reserves, as from 4.4 on.
    """
    if era not in er.ERA_NAMES:
        raise ValueError(f"era {era!r}: known are {', '.join(er.ERA_NAMES)}")
    row = np.zeros(KMEM_CACHE.width, dtype=np.int64)
    row[KMEM_CACHE.size] = geometry.size
    row[KMEM_CACHE.objsize] = geometry.objsize
    row[KMEM_CACHE.align] = geometry.align
    row[KMEM_CACHE.flags] = geometry.flags
    row[KMEM_CACHE.order] = geometry.order
    row[KMEM_CACHE.objects] = geometry.objects
    row[KMEM_CACHE.fallback] = geometry.fallback
    row[KMEM_CACHE.allocflags] = geometry.allocflags
    row[KMEM_CACHE.ctor] = geometry.ctor
    row[KMEM_CACHE.min_partial] = geometry.min_partial
    row[KMEM_CACHE.min_order] = geometry.order
    if order_fallback or era != "2.6.25":
        row[KMEM_CACHE.min_order] = min(geometry.order, sf.get_order(geometry.size))
    row[KMEM_CACHE.keep_empty] = geometry.min_partial if keep_empty else 0
    if era == "2.6.25":
        return row
    objects = geometry.cpu_partial or eras.cpu_partial(geometry.size, geometry.flags, SlubOptions(era="6.1"))
    row[KMEM_CACHE.era] = er.ERA_NAMES.index(era)
    row[KMEM_CACHE.cpu_partial] = objects if by_objects else eras.cpu_partial_slabs(objects, geometry.objects)
    row[KMEM_CACHE.cpu_partial_objects] = by_objects
    row[KMEM_CACHE.sheaf_capacity] = sheaf_capacity
    row[[KMEM_CACHE.max_full, KMEM_CACHE.max_empty]] = er.MAX_FULL_SHEAVES, er.MAX_EMPTY_SHEAVES
    row[KMEM_CACHE.sheaf_cache] = sheaf_cache
    row[KMEM_CACHE.is_kmalloc] = bool(geometry.flags & sf.KMALLOC_CACHE)
    if no_reclaim_first or era == "7.3":
        row[KMEM_CACHE.first_try] = er.TRY_NO_RECLAIM
    return row

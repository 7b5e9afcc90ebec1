"""A cache's layout as the row of SLUB's arrays."""

import numpy as np

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import state as er
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
) -> np.ndarray:
    """The cache's row for ``slub.init_cache``: int64[CACHE_FIELDS].

    Parameters
    ----------
    era : whose rules move its slabs, one of ``kernels.alloc.slub.state.ERA_NAMES``; any layout may meet any of
        them. A layout without a per-CPU partial list of its own gets that of 6.1 where the rules want one.
    sheaf_capacity, sheaf_cache : of era ``sheaves``: objects a sheaf, and the index of the cache (of era
        ``cpu-partial``) that sheaves are taken from, -1 where they cost no memory.
    by_objects : the partial list counts free objects, as before 5.16, instead of slabs.
    order_fallback, keep_empty : of era ``2.6.25``: a smaller slab is tried where the order cannot be had (2.6.26); an
        emptied slab stays while fewer than min_partial are partial. Later eras do both.
    """
    if era not in er.ERA_NAMES:
        raise ValueError(f"era {era!r}: known are {', '.join(er.ERA_NAMES)}")
    row = np.zeros(st.CACHE_FIELDS, dtype=np.int64)
    row[st.C_SIZE] = geometry.size
    row[st.C_OBJSIZE] = geometry.objsize
    row[st.C_ALIGN] = geometry.align
    row[st.C_FLAGS] = geometry.flags
    row[st.C_ORDER] = geometry.order
    row[st.C_OBJECTS] = geometry.objects
    row[st.C_FALLBACK] = geometry.fallback
    row[st.C_ALLOCFLAGS] = geometry.allocflags
    row[st.C_CTOR] = geometry.ctor
    row[st.C_MIN_PARTIAL] = geometry.min_partial
    row[er.C_MIN_ORDER] = geometry.order
    if order_fallback or era != "2.6.25":
        row[er.C_MIN_ORDER] = min(geometry.order, sf.get_order(geometry.size))
    row[er.C_KEEP_EMPTY] = geometry.min_partial if keep_empty else 0
    if era == "2.6.25":
        return row
    objects = geometry.cpu_partial or eras.cpu_partial(geometry.size, geometry.flags, SlubOptions(era="6.1"))
    row[er.C_ERA] = er.ERA_NAMES.index(era)
    row[er.C_CPU_PARTIAL] = objects if by_objects else eras.cpu_partial_slabs(objects, geometry.objects)
    row[er.C_CPU_PARTIAL_OBJECTS] = by_objects
    row[er.C_SHEAF_CAPACITY] = sheaf_capacity
    row[er.C_SHEAF_CACHE] = sheaf_cache
    return row

"""Small machines for tests: the arrays of one lane, ready for the kernels.

>>> mem = make_mem([zone(4096, pages_min=128)], cpus=2)
>>> slub = make_slub([KMALLOC_128], cpus=2)
>>> pools = make_pools([(0, 2)])
"""

import numpy as np

from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import page_alloc
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import buffered_rmqueue
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.state import (
    AREA,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    MIGRATE,
    PAGE,
    PCP,
    SLUB_CTL,
    SLUB_SLAB,
    ZONE,
)
from fastalloc.linux import gfp as g

KMALLOC_CACHE = 0x20000000


def zone(
    present, pages_min=0, pages_low=None, pages_high=None, reserve=(0, 0, 0, 0), batch=1, pcp_high=0, pageblock_order=0,
    stat_threshold=0,
):  # fmt: skip
    """A zone; low and high follow from min as setup_per_zone_pages_min sets them unless they are given. All zones of a
    machine have one order of pageblocks."""
    return {
        "present": present,
        "pages_min": pages_min,
        "pages_low": pages_min + pages_min // 4 if pages_low is None else pages_low,
        "pages_high": pages_min + pages_min // 2 if pages_high is None else pages_high,
        "lowmem_reserve": (*reserve, 0, 0, 0, 0)[:4],
        "batch": batch,
        "pcp_high": pcp_high,
        "pageblock_order": pageblock_order,
        "stat_threshold": stat_threshold,
    }


def cache(size, order=0, objects=None, objsize=None, allocflags=None, fallback=False, min_partial=5, ctor=False):
    """A cache without debugging: whatever is not given follows from the slot size and the order."""
    return {
        "size": size,
        "order": order,
        "objects": (4096 << order) // size if objects is None else objects,
        "objsize": size if objsize is None else objsize,
        "allocflags": (g.COMP if order else 0) if allocflags is None else allocflags,
        "fallback": fallback,
        "min_partial": min_partial,
        "ctor": ctor,
    }


KMALLOC_128 = cache(128)
KMALLOC_2048 = cache(2048, order=3, fallback=True)
SCSI_CMD = cache(320)


def make_mem(zones, cpus=1, hz=250):
    """The page allocator over ``zones`` (lowest first), all pages free; zones start at multiples of 1024 pages."""
    rows = np.zeros((len(zones), ZONE.width), np.int64)
    start = 0
    for z, spec in enumerate(zones):
        rows[z, ZONE.min] = spec["pages_min"]
        rows[z, ZONE.low] = spec["pages_low"]
        rows[z, ZONE.high] = spec["pages_high"]
        rows[z, ZONE.present] = spec["present"]
        rows[z, ZONE.start] = start
        rows[z, ZONE.reserve[:]] = spec["lowmem_reserve"]
        rows[z, ZONE.batch] = spec["batch"]
        rows[z, ZONE.pcp_high] = spec["pcp_high"]
        rows[z, ZONE.stat_threshold] = spec["stat_threshold"]
        start += -(-spec["present"] // 1024) * 1024
    mem = st.Mem(
        zone=rows,
        area=np.zeros((len(zones), MIGRATE.width, g.MAX_ORDER, AREA.width), np.int64),
        block=np.zeros((len(zones), 1 + max(spec["present"] for spec in zones)), np.int64),
        pcp=np.zeros((cpus, len(zones), PCP.width), np.int64),
        page=np.full((max(start, 1), PAGE.width), -1, np.int32),
        ctl=np.zeros(MEMCTL.width, np.int64),
    )
    mem.page[:, PAGE.flags] = 0
    mem.ctl[MEMCTL.model] = st.MODEL_ZONES
    mem.ctl[MEMCTL.pageblock_order] = zones[0]["pageblock_order"]
    mem.ctl[MEMCTL.nr_zones] = len(zones)
    mem.ctl[MEMCTL.hz] = hz
    mem.ctl[MEMCTL.tokens] = 10 * 5 * hz
    mem.ctl[MEMCTL.cpu_node_shift] = 32
    mem.ctl[MEMCTL.nr_nodes] = 1
    page_alloc.init_zones(mem)
    return mem


def make_unlimited_mem(cpus=1):
    """A page allocator that never says no and knows no page frames."""
    mem = make_mem([zone(1)], cpus)
    mem.ctl[MEMCTL.model] = st.MODEL_UNLIMITED
    return mem


def make_slub(caches, cpus=1, slabs=1024):
    """SLUB with room for ``slabs`` slabs ever alive at once."""
    most = max(spec["objects"] for spec in caches)
    group = st.Slub(
        cache=np.zeros((len(caches), KMEM_CACHE.width), np.int64),
        kcpu=np.zeros((len(caches), cpus, KMEM_CACHE_CPU.width), np.int64),
        knode=np.zeros((len(caches), 1, KMEM_CACHE_NODE.width), np.int64),
        slab=np.zeros((slabs, SLUB_SLAB.width), np.int32),
        link=np.zeros(slabs * most, np.int16),
        ctl=np.zeros(SLUB_CTL.width, np.int64),
    )
    group.ctl[SLUB_CTL.nr_caches] = len(caches)
    group.ctl[SLUB_CTL.nodes] = 1
    for c, spec in enumerate(caches):
        geometry = np.zeros(KMEM_CACHE.min_partial + 1, np.int64)
        geometry[KMEM_CACHE.size] = spec["size"]
        geometry[KMEM_CACHE.objsize] = spec["objsize"]
        geometry[KMEM_CACHE.align] = 8
        geometry[KMEM_CACHE.flags] = KMALLOC_CACHE
        geometry[KMEM_CACHE.order] = spec["order"]
        geometry[KMEM_CACHE.objects] = spec["objects"]
        geometry[KMEM_CACHE.fallback] = spec["fallback"]
        geometry[KMEM_CACHE.allocflags] = spec["allocflags"]
        geometry[KMEM_CACHE.ctor] = spec["ctor"]
        geometry[KMEM_CACHE.min_partial] = spec["min_partial"]
        slub.init_cache(group, c, geometry)
    return group


def make_pools(pools):
    """Empty mempools, one for each (cache, min_nr); :func:`fill_pool` sets the elements aside."""
    most = max((min_nr for _, min_nr in pools), default=0)
    group = mp.Pools(
        pool=np.zeros((len(pools), MEMPOOL.width), np.int64),
        element=np.full((len(pools), max(most, 1)), st.NO_OBJECT, np.int64),
    )
    for p, (c, min_nr) in enumerate(pools):
        group.pool[p, MEMPOOL.cache] = c
        group.pool[p, MEMPOOL.min] = min_nr
    return group


def fill_pool(mem, slub_group, pools, p, cpu=0):
    """mempool_create: min_nr elements, allocated with GFP_KERNEL, not counted as frees."""
    pool = pools.pool[p]
    while pool[MEMPOOL.curr] < pool[MEMPOOL.min]:
        handle = slub.slab_alloc(mem, slub_group, pool[MEMPOOL.cache], cpu, -1, g.GFP_KERNEL, 0)
        assert handle != st.NO_OBJECT
        pools.element[p, pool[MEMPOOL.curr]] = handle
        pool[MEMPOOL.curr] += 1


def leave_free(mem, free, z=0, cpu=0):
    """Take pages of zone ``z`` past every mark until ``free`` are left in the buddy; the frames taken.

    Exact for zones whose batch is 1; never lets more than ``free`` remain while pages can be had one at a time.
    """
    taken = []
    while mem.zone[z, ZONE.free] > free:
        pfn = buffered_rmqueue(mem, cpu, z, 0, MIGRATE.unmovable)
        assert pfn >= 0
        taken.append(int(pfn))
    return taken

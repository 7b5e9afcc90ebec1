"""Machines whose caches follow a later era of SLUB."""

import numpy as np

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB, ZONE
from fastalloc.linux import gfp as g
from tests.kernels.build import make_unlimited_mem

STATS = dict(zip(st.SLUB_STATS, KMEM_CACHE_CPU.stats, strict=True))
STATS |= dict(zip(er.ERA_STATS, KMEM_CACHE_CPU.era_stats, strict=True))
KERNEL, ATOMIC = g.GFP_KERNEL, g.GFP_ATOMIC


class Machine:
    """Caches of any era over a counted page allocator; slabs are named by the order in which they were allocated."""

    def __init__(self, *rows, cpus=2, pages=None, sheaf_objects=64, nodes=1):
        self.mem = make_unlimited_mem(cpus)
        if nodes == 2:  # a CPU on each
            self.mem = self.mem._replace(zone=np.repeat(self.mem.zone, 2, axis=0))
            self.mem.ctl[[MEMCTL.nr_nodes, MEMCTL.cpu_node_shift]] = 2, 0
        if pages is not None:
            self.mem.ctl[MEMCTL.model] = st.MODEL_STUB
            self.mem.zone[0, ZONE.total] = pages
        self.slub = er.SlubEras(
            cache=np.zeros((len(rows), KMEM_CACHE.width), np.int64),
            kcpu=np.zeros((len(rows), cpus, KMEM_CACHE_CPU.width), np.int64),
            knode=np.zeros((len(rows), nodes, KMEM_CACHE_NODE.width), np.int64),
            slab=np.zeros((512, SLUB_SLAB.width), np.int32),
            link=np.zeros(512 * 128, np.int16),
            ctl=er.ctl_with_sheaves(128, sheaf_objects),
        )
        self.slub.ctl[SLUB_CTL.nr_caches] = len(rows)
        self.slub.ctl[SLUB_CTL.nodes] = nodes
        for c, row in enumerate(rows):
            slub.init_cache(self.slub, c, row)

    def alloc(self, c=0, cpu=0, gfp=KERNEL, context=0, node=-1):
        return int(slub.slab_alloc(self.mem, self.slub, c, cpu, node, gfp, context))

    def free(self, handle, cpu=0):
        slub.slab_free(self.mem, self.slub, cpu, handle)

    def flush(self, cpu=0, c=0):
        slub.flush_slab(self.mem, self.slub, c, cpu, cpu)

    def shrink(self, cpu=0, c=0):
        slub.kmem_cache_shrink(self.mem, self.slub, c, cpu)

    @property
    def path(self):
        return int(self.slub.ctl[SLUB_CTL.path])

    def stats(self, cpu=0, c=0):
        return {name: int(self.slub.kcpu[c, cpu, k]) for name, k in STATS.items() if self.slub.kcpu[c, cpu, k]}

    def chain(self, s):
        found = []
        while s >= 0:
            found.append(int(s))
            s = self.slub.slab[s, SLUB_SLAB.next]
        return found

    def node_partial(self, c=0):
        return self.chain(self.slub.knode[c, 0, KMEM_CACHE_NODE.partial_head])

    def cpu_partial(self, cpu=0, c=0):
        return self.chain(self.slub.kcpu[c, cpu, KMEM_CACHE_CPU.partial])

    def slabs(self, c=0):
        return int(self.slub.knode[c, 0, KMEM_CACHE_NODE.nr_slabs])

    def sheaf(self, which, cpu=0, c=0):
        """Objects of the CPU's main or spare sheaf, bottom first; None without one."""
        h = int(self.slub.kcpu[c, cpu, which])
        return None if h < 0 else self.objects(h)

    def objects(self, h):
        size = int(self.slub.ctl[h + SHEAF.size])
        return [int(handle) for handle in self.slub.ctl[h + SHEAF.objects[0] : h + SHEAF.objects[size]]]

    def barn(self, head, c=0):
        found, h = [], int(self.slub.knode[c, 0, head])
        while h >= 0:
            found.append(self.objects(h))
            h = int(self.slub.ctl[h + SHEAF.next])
        return found


def slab_of(handle):
    return handle >> st.HANDLE_SHIFT


def index_of(handle):
    return handle & st.HANDLE_INDEX_MASK


def row(size=1024, era="cpu-partial", order=0, limit=2, min_partial=2, capacity=4, source=-1, by_objects=False):
    """A cache of 4 objects a slab unless said otherwise."""
    made = np.zeros(KMEM_CACHE.width, np.int64)
    made[[KMEM_CACHE.size, KMEM_CACHE.objsize, KMEM_CACHE.order, KMEM_CACHE.objects]] = (
        size,
        size,
        order,
        (4096 << order) // size,
    )
    made[KMEM_CACHE.min_partial] = min_partial
    made[KMEM_CACHE.era] = er.ERA_NAMES.index(era)
    made[[KMEM_CACHE.cpu_partial, KMEM_CACHE.cpu_partial_objects]] = limit, by_objects
    made[[KMEM_CACHE.sheaf_capacity, KMEM_CACHE.sheaf_cache]] = capacity, source
    return made


def sheaf_row(**more):
    return row(era="sheaves", **more)

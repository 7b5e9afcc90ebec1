"""SLAB's state from the layouts of its caches: arrays, lists and chain as after kmem_cache_create of each."""

from collections.abc import Sequence

import numpy as np

from fastalloc.compiler.aligned import zeros
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB
from fastalloc.linux import geometry_slab as gs
from fastalloc.linux import gfp as g
from fastalloc.linux import slab_flags as sf


def new_slab(
    layouts: Sequence[gs.SlabGeometry], cpus: int, nodes: int, *, slabs: int, links: int, next_reap: int
) -> ss.Slab:
    """An empty SLAB with a cache for each layout, the oldest first; the CPUs are spread evenly over the nodes.

    Management objects come from the layout named ``kmalloc-N``, which must be among them. ``slabs`` and ``links``:
    room for slabs and their objects; ``next_reap``: jiffies at which a node's free slabs are first looked at.
    """
    rows = len(layouts)
    queues = cpus + nodes + nodes * nodes
    limits = np.zeros((rows, queues), np.int64)
    for row, layout in enumerate(layouts):
        limits[row, :cpus] = layout.limit
        limits[row, cpus : cpus + nodes] = layout.shared_limit
        for n in range(nodes if nodes > 1 else 0):
            limits[row, cpus + nodes + n * nodes + (n ^ 1)] = gs.ALIEN_LIMIT if layout.limit > 1 else layout.limit
    base = np.concatenate([[0], np.cumsum(limits)])
    heap = ss.Slab(
        cache=np.zeros((rows, SLAB_CACHE.width), np.int64),
        queue=np.zeros((rows, queues, SLAB_ARRAY.width), np.int64),
        entry=np.zeros(int(base[-1]), np.int64),
        node=np.zeros((rows, nodes, SLAB_LIST3.width), np.int64),
        slab=zeros((slabs, SLAB_SLAB.width), np.int64),
        link=zeros(links, np.int16),
        chain=np.arange(rows, dtype=np.int64)[::-1].copy(),
        reap_node=np.arange(cpus, dtype=np.int64) * nodes // cpus,
        pending=np.zeros(ss.MAX_ENTRIES + 1, np.int64),
        ctl=np.zeros(SLAB_CTL.width, np.int64),
    )
    heap.ctl[[SLAB_CTL.nodes, SLAB_CTL.chain]] = nodes, rows
    heap.queue[:, :, SLAB_ARRAY.limit] = limits
    heap.queue[:, :, SLAB_ARRAY.base] = base[:-1].reshape(rows, queues)
    index = {layout.name: row for row, layout in enumerate(layouts)}
    for row, layout in enumerate(layouts):
        cache = heap.cache[row]
        cache[[SLAB_CACHE.num, SLAB_CACHE.order, SLAB_CACHE.colour, SLAB_CACHE.off_slab]] = (
            layout.num, layout.gfporder, layout.colour, layout.off_slab,
        )  # fmt: skip
        cache[[SLAB_CACHE.limit, SLAB_CACHE.batchcount, SLAB_CACHE.alive, SLAB_CACHE.free_slab]] = (
            layout.limit,
            layout.batchcount,
            1,
            -1,
        )
        cache[SLAB_CACHE.mgmt_cache] = index[f"kmalloc-{layout.mgmt_cache}"] if layout.off_slab else -1
        cache[SLAB_CACHE.allocflags] = g.RECLAIMABLE if layout.flags & sf.RECLAIM_ACCOUNT else 0
        cache[[SLAB_CACHE.ctor, SLAB_CACHE.size]] = layout.ctor, layout.buffer_size
        heap.queue[row, :cpus, SLAB_ARRAY.batchcount] = layout.batchcount
        heap.node[row, :, SLAB_LIST3.lists[:]] = -1
        heap.node[row, :, SLAB_LIST3.free_limit] = layout.free_limit
        heap.node[row, :, SLAB_LIST3.next_reap] = next_reap
    return heap

"""kmem_cache_create and kmem_cache_destroy of later SLUBs with the objects that they take themselves
[mm/slab_common.c, mm/slub.c: kmem_cache_init, do_kmem_cache_create, kmem_cache_destroy].

Caches 0 and 1 are ``kmem_cache`` and ``kmem_cache_node``, where every cache has a struct and a struct a node:
``structs[c, .]``, handles. Caches of era ``7.3`` have a barn a node and a main sheaf a CPU besides.
"""

import numpy as np

from fastalloc.compiler.jit import entry, internal, out_of_line
from fastalloc.kernels.alloc.kmalloc import general_cache
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_7_3 import sheaf_calls as sc
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL
from fastalloc.linux import gfp as g

STRUCT, NODE_STRUCT = 0, 1  # caches


@internal
def free_structs(mem, slub, structs, c, cpu):
    """The struct a node, then the cache's own."""
    for i in range(1, structs.shape[1]):
        if structs[c, i] >= 0:
            su.slab_free(mem, slub, cpu, structs[c, i])
        structs[c, i] = -1
    if structs[c, 0] >= 0:
        su.slab_free(mem, slub, cpu, structs[c, 0])
    structs[c, 0] = -1


@internal
def alloc_structs(mem, slub, structs, c, cpu, context):
    """The cache's struct and one a node; False, and none, when memory was refused."""
    out_of_line()
    structs[c, :] = -1
    structs[c, 0] = su.slab_alloc(mem, slub, STRUCT, cpu, -1, g.GFP_KERNEL, context)
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        if structs[c, n] < 0:
            break
        structs[c, 1 + n] = su.slab_alloc(mem, slub, NODE_STRUCT, cpu, n, g.GFP_KERNEL, context)
    if structs[c, slub.ctl[SLUB_CTL.nodes]] < 0:
        free_structs(mem, slub, structs, c, cpu)
        return False
    return True


@internal
def free_barns(mem, slub, c, cpu):
    """Of a cache without sheaves."""
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        barn = slub.knode[c, n, KMEM_CACHE_NODE.barn]
        slub.knode[c, n, KMEM_CACHE_NODE.barn] = -1
        if barn >= 0:
            su.slab_free(mem, slub, cpu, barn)


@internal
def alloc_sheaves(mem, slub, sizes, c, cpu, context):
    """Barns and main sheaves where the cache's era has them; False, and none, when memory was refused."""
    out_of_line()
    if slub.cache[c, KMEM_CACHE.era] != er.ERA_PERCPU_SHEAVES or slub.cache[c, KMEM_CACHE.sheaf_capacity] == 0:
        return True
    source = general_cache(sizes, er.BARN_BYTES)
    had = True
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        if had:
            barn = su.slab_alloc(mem, slub, source, cpu, n, g.GFP_KERNEL, context)
            slub.knode[c, n, KMEM_CACHE_NODE.barn] = barn
            had = barn >= 0
    if had and sc.add_sheaves(mem, slub, c, cpu, np.int64(g.GFP_KERNEL), context):
        return True
    sc.remove_sheaves(mem, slub, c, cpu)
    free_barns(mem, slub, c, cpu)
    return False


@entry
def boot_caches(mem, slub, sizes, structs, count):
    """The first ``count`` caches, registered before, get their structs, then their sheaves, on CPU 0
    [kmem_cache_init, bootstrap, create_kmalloc_caches, bootstrap_kmalloc_sheaves]."""
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        su.early_kmem_cache_node_alloc(mem, slub, NODE_STRUCT, 0, n)
    for n in range(slub.ctl[SLUB_CTL.nodes]):
        structs[STRUCT, 1 + n] = su.slab_alloc(mem, slub, NODE_STRUCT, 0, n, g.GFP_KERNEL, 0)
    for c in (STRUCT, NODE_STRUCT):
        structs[c, 0] = su.slab_alloc(mem, slub, STRUCT, 0, -1, g.GFP_NOWAIT, 0)
        su.flush_slab(mem, slub, c, 0, 0)
    for c in range(NODE_STRUCT + 1, count):
        alloc_structs(mem, slub, structs, c, 0, 0)
    for c in range(NODE_STRUCT + 1, count):
        alloc_sheaves(mem, slub, sizes, c, 0, 0)


@entry
def create_cache(mem, slub, sizes, structs, c, cpu, context):
    """Give cache ``c``, registered before, what belongs to it; False when memory was refused."""
    mem.ctl[MEMCTL.context] = context
    if not alloc_structs(mem, slub, structs, c, cpu, context):
        return False
    if not alloc_sheaves(mem, slub, sizes, c, cpu, context):
        free_structs(mem, slub, structs, c, cpu)
        return False
    return True


@entry
def destroy_cache(mem, slub, structs, c, cpu, context):
    """Take cache ``c`` down; False when objects of it are in use."""
    mem.ctl[MEMCTL.context] = context
    if not su.kmem_cache_close(mem, slub, c, cpu):
        return False
    free_barns(mem, slub, c, cpu)
    free_structs(mem, slub, structs, c, cpu)
    slub.cache[c, KMEM_CACHE.alive] = 0
    return True

"""Where the paths common to all eras of SLUB leave for the cache's own, each a folder beside this file.

A lane whose caches may follow any era is a :class:`~fastalloc.kernels.alloc.slub.state.SlubEras`; there
``KMEM_CACHE.era`` decides, cache by cache. A lane of type :class:`~fastalloc.kernels.alloc.state.Slub` knows 2.6.25
alone: the switch is decided when a kernel is compiled and leaves nothing behind, so that the closed loop compiles and
runs none of it.
"""

from inspect import signature

import numpy as np

from fastalloc.compiler.jit import INLINED, dispatched
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_2_6_25.slow_paths import flush_slab as flush_2_6_25
from fastalloc.kernels.alloc.slub.era_2_6_25.slow_paths import slab_turned
from fastalloc.kernels.alloc.slub.era_7_3 import main_sheaf as ms
from fastalloc.kernels.alloc.slub.era_7_3 import sheaf_calls as sc
from fastalloc.kernels.alloc.slub.era_7_3.kfree_rcu import rcu_do_batch
from fastalloc.kernels.alloc.slub.era_cpu_partial import cpu_lists
from fastalloc.kernels.alloc.slub.era_cpu_partial import slow_paths as cp
from fastalloc.kernels.alloc.slub.era_sheaves import sheaves
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, SLUB_CTL

OWN = -2  # the cache is of 2.6.25: the caller goes on; a call in its place costs four instructions an event


def _by_era(for_eras, for_2_6_25):
    """The decorated function stands for ``for_eras`` where ``slub`` is a SlubEras, else for ``for_2_6_25``."""
    place = list(signature(for_eras).parameters).index("slub")

    def choose(*args):
        slub = args[place]
        state = getattr(slub, "instance_class", type(slub))
        return for_eras if state is er.SlubEras else for_2_6_25

    return dispatched(choose, **INLINED)


def _era_take(slub, k, node):
    return ms.take_from_main(slub, k, node)


def _no_take(slub, k, node):
    return False, np.int64(st.NO_OBJECT)


@_by_era(_era_take, _no_take)
def era_take(slub, k, node):
    """The fast path of an allocation where it is another than 2.6.25's: whether it serves, and a handle or
    NO_OBJECT."""


def _era_give(mem, slub, cpu, k, s, i):
    return ms.give_to_main(mem, slub, cpu, k, s, i)


def _no_give(mem, slub, cpu, k, s, i):
    return False


@_by_era(_era_give, _no_give)
def era_give(mem, slub, cpu, k, s, i):
    """The fast path of a free where it is another than 2.6.25's, or False."""


def _era_alloc(mem, slub, c, cpu, node, gfp, context):
    main = slub.kcpu[c, cpu, KMEM_CACHE_CPU.main]
    if main == er.NO_MAIN[er.ERA_2_6_25]:
        return OWN
    if main == er.NO_MAIN[er.ERA_CPU_PARTIAL]:
        return cp.___slab_alloc(mem, slub, c, cpu, node, gfp, context, KMEM_CACHE_CPU.freelist)
    if main == er.NO_MAIN[er.ERA_SHEAVES]:
        return sheaves.slab_alloc(mem, slub, c, cpu, node, gfp, context)
    return ms.slab_alloc_slow(mem, slub, c, cpu, node, gfp, context)


def _no_alloc(mem, slub, c, cpu, node, gfp, context):
    return OWN


@_by_era(_era_alloc, _no_alloc)
def era_alloc(mem, slub, c, cpu, node, gfp, context):
    """The slow path of an allocation in a later era: a handle or NO_OBJECT; OWN for 2.6.25."""


def _era_has_sheaves(slub, k):
    main = k[KMEM_CACHE_CPU.main]
    return main >= 0 or main < er.NO_MAIN[er.ERA_CPU_PARTIAL]


def _no_sheaves(slub, k):
    return False


@_by_era(_era_has_sheaves, _no_sheaves)
def era_has_sheaves(slub, k):
    """Whether frees into a cache go by sheaves first; ``k``: its row of any CPU."""


def _era_free(mem, slub, c, cpu, s, i):
    if slub.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES:
        ms.slab_free_slow(mem, slub, c, cpu, s, i)
    else:
        sheaves.slab_free(mem, slub, c, cpu, s, i)


def _no_free(mem, slub, c, cpu, s, i):
    pass


@_by_era(_era_free, _no_free)
def era_free(mem, slub, c, cpu, s, i):
    """A free that goes by sheaves first."""


def _era_turning(mem, slub, c, cpu, s, prior):
    if slub.kcpu[c, cpu, KMEM_CACHE_CPU.main] == er.NO_MAIN[er.ERA_CPU_PARTIAL]:
        cp.free_turning(mem, slub, c, cpu, s, prior)
    else:
        slab_turned(mem, slub, c, cpu, s, prior)


def _turning_2_6_25(mem, slub, c, cpu, s, prior):
    slab_turned(mem, slub, c, cpu, s, prior)


@_by_era(_era_turning, _turning_2_6_25)
def era_turning(mem, slub, c, cpu, s, prior):
    """What becomes of a slab that a free turned, where no sheaf took the object."""


def _era_flush(mem, slub, c, cpu, owner):
    era = slub.cache[c, KMEM_CACHE.era]
    if era == er.ERA_2_6_25:
        flush_2_6_25(mem, slub, c, cpu, owner)
    elif era == er.ERA_CPU_PARTIAL:
        cpu_lists.flush_slab(mem, slub, c, cpu, owner, KMEM_CACHE_CPU.freelist)
    elif era == er.ERA_SHEAVES:
        sheaves.flush_sheaves(mem, slub, c, cpu, owner)
        cpu_lists.flush_slab(mem, slub, c, cpu, owner, KMEM_CACHE_CPU.sheaf_freelist)
    else:
        sc.flush_cpu(mem, slub, c, owner)


def _flush_2_6_25(mem, slub, c, cpu, owner):
    flush_2_6_25(mem, slub, c, cpu, owner)


@_by_era(_era_flush, _flush_2_6_25)
def era_flush(mem, slub, c, cpu, owner):
    """Empty what is kept for CPU ``owner``."""


def _era_shrink(mem, slub, c, cpu, n):
    if slub.cache[c, KMEM_CACHE.era] == er.ERA_SHEAVES:
        sheaves.barn_shrink(mem, slub, c, cpu, n)
    elif slub.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES:
        sc.shrink_barn(mem, slub, c, cpu, n)


def _no_shrink(mem, slub, c, cpu, n):
    pass


@_by_era(_era_shrink, _no_shrink)
def era_shrink(mem, slub, c, cpu, n):
    """Empty the barn of node ``n`` where there is one."""


def _era_destroy(mem, slub, c):
    if slub.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES:
        sc.hand_over_rcu_sheaves(slub, c)
    if slub.ctl[SLUB_CTL.nr_callbacks] > 0:
        rcu_do_batch(mem, slub)


def _no_destroy(mem, slub, c):
    pass


@_by_era(_era_destroy, _no_destroy)
def era_destroy(mem, slub, c):
    """What kfree_rcu holds of a cache that is destroyed goes to its slabs, and all grace periods end."""


def _era_close(mem, slub, c, cpu):
    if slub.cache[c, KMEM_CACHE.era] == er.ERA_SHEAVES:
        sheaves.free_main_sheaves(mem, slub, c, cpu)
    elif slub.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES:
        sc.remove_sheaves(mem, slub, c, cpu)


def _no_close(mem, slub, c, cpu):
    pass


@_by_era(_era_close, _no_close)
def era_close(mem, slub, c, cpu):
    """Give back the sheaves that a destroyed cache leaves."""

"""May this caller take a slot of this slab? Rules that keep objects from below a watermark for those who may go there.

A cache remembers how deep its last slab was allocated (its rank), or a CPU that its slab came from below all
watermarks.
A caller who may not go as deep is refused the objects at hand: it must allocate a slab with its own mask, and where
that fails it gets nothing. Its success is the sign that the pressure is over [Peter Zijlstra: slab fairness, 16 January
2007; Swap over NFS -v17, 20 March 2008]. Linux 3.6 asks on the slow paths of SLUB instead, slab by slab
(:func:`~fastalloc.kernels.alloc.slub.partial.pfmemalloc_match`).

:func:`guarded_alloc` is an allocation under any rule but the kernel's of 2.6.25: these, emergency caches, and what a
user's own policy answers.
"""

import numpy as np

from fastalloc.compiler.jit import internal, kernel, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.emergency_caches import NONE, emergency_alloc
from fastalloc.kernels.alloc.page_alloc import ignores_watermarks, request_depth
from fastalloc.kernels.alloc.policy_hooks import about_cache, about_request, about_slab, answer, wanted
from fastalloc.kernels.alloc.policy_record import MATCH_ENTITLEMENT, QUESTION
from fastalloc.kernels.alloc.slub.era_2_6_25.slow_paths import grow_slab
from fastalloc.kernels.alloc.slub.slub import slab_alloc
from fastalloc.kernels.alloc.slub.state import PATH_NEW_SLAB, PATH_PARTIAL
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
)
from fastalloc.kernels.lane.policy import POLICY, choices
from fastalloc.linux.gfp import ALL_BITS

# anyone: 2.6.25, whoever comes; rank: slab fairness, full rule, by the rank of the cache's last slab; rank-posted: the
# same as posted, a caller's rank is 0 or 1; no-watermarks: only slabs from below all watermarks are kept, while they
# are a CPU's slab; pfmemalloc: the same by slab, wherever it is, and private objects are given to anybody.
ENTITLEMENTS = choices("entitlement")
ANYONE, RANK, RANK_POSTED, NO_WATERMARKS, PFMEMALLOC = range(len(ENTITLEMENTS))

# Rank of a slab by the depth of its pages, a DEPTH: low 8, min 4, less 1 for HARDER, 2 for HIGH; none 0.
RANKS = np.array((8, 4, 3, 2, 1, 1, 0), np.int64)


@kernel
def request_rank(mem, gfp, context, rule):
    """The deepest rank that a request may reach before it reclaims [gfp_to_rank]."""
    if ignores_watermarks(gfp, context):
        return 0
    if rule == RANK_POSTED:
        return 1
    return RANKS[request_depth(gfp, context, mem.ctl[POLICY.watermark_rule])]


@internal
def slab_at_hand(slub, c, cpu):
    """The slab whose object the CPU would be given without allocating one, -1 none."""
    k = slub.kcpu[c, cpu]
    s = k[KMEM_CACHE_CPU.page]
    if s >= 0 and (k[KMEM_CACHE_CPU.freelist] >= 0 or slub.slab[s, SLUB_SLAB.freelist] >= 0):
        return s
    return slub.knode[c, 0, KMEM_CACHE_NODE.partial_head]


@internal
def force_growth(mem, slub, c, cpu, gfp, context):
    """An object of a slab allocated with the caller's own mask, or NO_OBJECT; each POLICY.probe_every-th refusal
    tries."""
    mem.ctl[MEMCTL.refusals] += 1
    handle = st.NO_OBJECT
    if mem.ctl[MEMCTL.refusals] % mem.ctl[POLICY.probe_every] == 0:
        mem.ctl[MEMCTL.probes] += 1
        handle = grow_slab(mem, slub, c, cpu, gfp | mem.ctl[MEMCTL.probe_gfp], context)
    if handle < 0 and slab_at_hand(slub, c, cpu) >= 0:
        mem.ctl[MEMCTL.unfair] += 1
    return handle


@internal
def entitled(mem, slub, c, cpu, gfp, context):
    """Whether the caller may take what is at hand."""
    rule = mem.ctl[POLICY.entitlement]
    if mem.ctl[MEMCTL.ask[QUESTION.entitlement]] != 0 and (mem.ctl[MEMCTL.slab_match] & MATCH_ENTITLEMENT) == 0:
        s = slab_at_hand(slub, c, cpu)
        if s < 0:
            return True
        wants = wanted(mem, QUESTION.entitlement)
        about_request(mem, wants, gfp, context, cpu)
        about_slab(mem, wants, slub, s)
        return answer(mem, QUESTION.entitlement, 1, 1) != 0
    if rule in (RANK, RANK_POSTED):
        mem.ctl[MEMCTL.tests] += 1
        return request_rank(mem, gfp, context, rule) <= slub.cache[c, KMEM_CACHE.rank]
    if rule == NO_WATERMARKS:
        reserved = slub.kcpu[c, cpu, KMEM_CACHE_CPU.reserve] != 0
        if reserved or slub.kcpu[c, cpu, KMEM_CACHE_CPU.freelist] < 0:
            mem.ctl[MEMCTL.tests] += 1  # on the slow path alone; while the mark is set there is no other
        return not reserved or ignores_watermarks(gfp, context)
    return True


@internal
def fall_back(mem, slub, c, cpu, gfp, context):
    """Where a refused request goes: to an emergency cache, or once more with the mask that the user's policy gives."""
    handle = st.NO_OBJECT
    if mem.ctl[MEMCTL.ask[QUESTION.fallback]] != 0:
        wants = wanted(mem, QUESTION.fallback)
        about_request(mem, wants, gfp, context, cpu)
        about_cache(mem, wants, slub, c, cpu >> mem.ctl[MEMCTL.cpu_node_shift])
        gfp = answer(mem, QUESTION.fallback, ALL_BITS, -1)
        if gfp < 0:
            return handle
        handle = slab_alloc(mem, slub, c, cpu, -1, gfp, context)
    if handle < 0 and mem.ctl[POLICY.emergency_caches] != NONE:
        handle = emergency_alloc(mem, slub, c, cpu, gfp, context)
    return handle


@internal
def guarded_alloc(mem, slub, c, cpu, gfp, context):
    """kmem_cache_alloc where MEMCTL.policed is set."""
    out_of_line()
    if entitled(mem, slub, c, cpu, gfp, context):
        handle = slab_alloc(mem, slub, c, cpu, -1, gfp, context)
    else:
        handle = force_growth(mem, slub, c, cpu, gfp, context)
    if handle < 0:
        handle = fall_back(mem, slub, c, cpu, gfp, context)
    if handle < 0 or handle >= st.PAGE_HANDLE:
        return handle
    path = slub.ctl[SLUB_CTL.path]
    if path == PATH_NEW_SLAB:
        depth = mem.ctl[MEMCTL.depth]
        slub.cache[c, KMEM_CACHE.rank] = RANKS[depth]
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.reserve] = 1 if depth == DEPTH.none else 0
    elif path == PATH_PARTIAL:
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.reserve] = 0  # the mark is lost with the slab
    return handle

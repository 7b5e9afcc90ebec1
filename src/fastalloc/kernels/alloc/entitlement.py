"""May this caller take a slot of this slab? Rules that keep objects from below a watermark for those who may go there.

A cache remembers how deep its last slab was bought (its rank), or a CPU that its slab came from below all watermarks.
A caller who may not go as deep is refused the objects at hand: it must buy a slab with its own mask, and where that
fails it gets nothing. Its success is the sign that the pressure is over [Peter Zijlstra: slab fairness, 16 January
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
from fastalloc.kernels.alloc.policy_hooks import ask
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.slub import grow_slab, slab_alloc

ENTITLEMENTS = (
    "anyone",  # 2.6.25: whoever comes
    "rank",  # slab fairness, full rule: by the rank of the cache's last slab
    "rank-posted",  # the same as posted: a caller's rank is 0 or 1
    "no-watermarks",  # only slabs from below all watermarks are kept, while they are a CPU's slab
    "pfmemalloc",  # the same by slab, wherever it is; private objects are given to anybody
)
ANYONE, RANK, RANK_POSTED, NO_WATERMARKS, PFMEMALLOC = range(len(ENTITLEMENTS))

# Rank of a slab by the depth of its pages, DEPTH_*: low 8, min 4, less 1 for HARDER, 2 for HIGH; none 0.
RANKS = np.array((8, 4, 3, 2, 1, 1, 0), np.int64)


@kernel
def request_rank(mem, gfp, context, rule):
    """The deepest rank that a request may reach before it reclaims [gfp_to_rank]."""
    if ignores_watermarks(gfp, context):
        return 0
    if rule == RANK_POSTED:
        return 1
    return RANKS[request_depth(gfp, context, mem.ctl[st.M_WATERMARK_RULE])]


@internal
def slab_at_hand(slub, c, cpu):
    """The slab whose object the CPU would be given without buying one, -1 none."""
    k = slub.kcpu[c, cpu]
    s = k[st.K_PAGE]
    if s >= 0 and (k[st.K_FREELIST] >= 0 or slub.slab[s, st.S_FREELIST] >= 0):
        return s
    return slub.knode[c, 0, st.N_PARTIAL_HEAD]


@internal
def force_growth(mem, slub, c, cpu, gfp, context):
    """An object of a slab bought with the caller's own mask, or NO_OBJECT; every M_PROBE_EVERY-th refusal tries."""
    mem.ctl[st.M_REFUSALS] += 1
    handle = st.NO_OBJECT
    if mem.ctl[st.M_REFUSALS] % mem.ctl[st.M_PROBE_EVERY] == 0:
        mem.ctl[st.M_PROBES] += 1
        handle = grow_slab(mem, slub, c, cpu, gfp | mem.ctl[st.M_PROBE_GFP], context)
    if handle < 0 and slab_at_hand(slub, c, cpu) >= 0:
        mem.ctl[st.M_UNFAIR] += 1
    return handle


@internal
def entitled(mem, slub, c, cpu, gfp, context):
    """Whether the caller may take what is at hand."""
    rule = mem.ctl[st.M_ENTITLEMENT]
    if mem.ctl[st.M_ASK_ENTITLEMENT] != 0:
        s = slab_at_hand(slub, c, cpu)
        if s < 0:
            return True
        mem.ctl[st.M_TESTS] += 1
        buyer, depth = slub.slab[s, st.S_BUYER], slub.slab[s, st.S_DEPTH]
        return ask(mem.ctl[st.M_ASK_ENTITLEMENT], mem.ctl[st.M_WHO], gfp, context, buyer, depth) != 0
    if rule in (RANK, RANK_POSTED):
        mem.ctl[st.M_TESTS] += 1
        return request_rank(mem, gfp, context, rule) <= slub.cache[c, er.C_RANK]
    if rule == NO_WATERMARKS:
        reserved = slub.kcpu[c, cpu, er.K_RESERVE] != 0
        if reserved or slub.kcpu[c, cpu, st.K_FREELIST] < 0:
            mem.ctl[st.M_TESTS] += 1  # on the slow path alone; while the mark is set there is no other
        return not reserved or ignores_watermarks(gfp, context)
    return True


@internal
def fall_back(mem, slub, c, cpu, gfp, context):
    """Where a refused request goes: to an emergency cache, or once more with the mask that the user's policy gives."""
    handle = st.NO_OBJECT
    if mem.ctl[st.M_ASK_FALLBACK] != 0:
        who = mem.ctl[st.M_WHO]
        mem.ctl[st.M_TESTS] += 1
        gfp = ask(mem.ctl[st.M_ASK_FALLBACK], who, gfp, context, slub.cache[c, st.C_OBJSIZE], cpu)
        if gfp < 0:
            return handle
        handle = slab_alloc(mem, slub, c, cpu, -1, gfp, context)
    if handle < 0 and mem.ctl[st.M_EMERGENCY] != NONE:
        handle = emergency_alloc(mem, slub, c, cpu, gfp, context)
    return handle


@internal
def guarded_alloc(mem, slub, c, cpu, gfp, context):
    """kmem_cache_alloc where M_POLICED is set."""
    out_of_line()
    if entitled(mem, slub, c, cpu, gfp, context):
        handle = slab_alloc(mem, slub, c, cpu, -1, gfp, context)
    else:
        handle = force_growth(mem, slub, c, cpu, gfp, context)
    if handle < 0:
        handle = fall_back(mem, slub, c, cpu, gfp, context)
    if handle < 0 or handle >= st.PAGE_HANDLE:
        return handle
    path = slub.ctl[st.U_PATH]
    if path == 4:
        depth = mem.ctl[st.M_DEPTH]
        slub.cache[c, er.C_RANK] = RANKS[depth]
        slub.kcpu[c, cpu, er.K_RESERVE] = 1 if depth == st.DEPTH_NONE else 0
    elif path == 3:
        slub.kcpu[c, cpu, er.K_RESERVE] = 0  # the mark is lost with the slab
    return handle

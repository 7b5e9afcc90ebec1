"""Slabs of SLUB and the partial lists they are on, common to all eras [mm/slub.c]."""

from fastalloc.compiler.jit import folded, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import page_bytes
from fastalloc.kernels.alloc.page_alloc import (
    alloc_slab_page,
    free_pages,
    ignores_watermarks,
    keep_spare,
    refused_as_before,
)
from fastalloc.kernels.alloc.policy_hooks import asked_keep, asked_match, forget_slab
from fastalloc.kernels.alloc.policy_record import MATCH_ENTITLEMENT, MATCH_NEXT, MATCH_PFMEMALLOC, OWN, QUESTION
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.rcu import queue_slab
from fastalloc.kernels.alloc.state import (
    DEPTH,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    PAGE,
    SLUB_CTL,
    SLUB_SLAB,
)
from fastalloc.linux import gfp as g


@kernel
def add_partial(slub, c, s, tail):
    """Put slab ``s`` on its node's partial list, at the tail or the head [add_partial]."""
    slab = slub.slab
    node = slub.knode[c, slab[s, SLUB_SLAB.node]]
    node[KMEM_CACHE_NODE.nr_partial] += 1
    slab[s, SLUB_SLAB.partial] = 1
    if tail:
        last = node[KMEM_CACHE_NODE.partial_tail]
        slab[s, SLUB_SLAB.prev] = last
        slab[s, SLUB_SLAB.next] = -1
        if last >= 0:
            slab[last, SLUB_SLAB.next] = s
        else:
            node[KMEM_CACHE_NODE.partial_head] = s
        node[KMEM_CACHE_NODE.partial_tail] = s
    else:
        first = node[KMEM_CACHE_NODE.partial_head]
        slab[s, SLUB_SLAB.next] = first
        slab[s, SLUB_SLAB.prev] = -1
        if first >= 0:
            slab[first, SLUB_SLAB.prev] = s
        else:
            node[KMEM_CACHE_NODE.partial_tail] = s
        node[KMEM_CACHE_NODE.partial_head] = s


@kernel
def remove_partial(slub, c, s):
    """Take slab ``s`` off its node's partial list [remove_partial]."""
    slab = slub.slab
    node = slub.knode[c, slab[s, SLUB_SLAB.node]]
    following = slab[s, SLUB_SLAB.next]
    preceding = slab[s, SLUB_SLAB.prev]
    if preceding >= 0:
        slab[preceding, SLUB_SLAB.next] = following
    else:
        node[KMEM_CACHE_NODE.partial_head] = following
    if following >= 0:
        slab[following, SLUB_SLAB.prev] = preceding
    else:
        node[KMEM_CACHE_NODE.partial_tail] = preceding
    node[KMEM_CACHE_NODE.nr_partial] -= 1
    slab[s, SLUB_SLAB.partial] = 0


# What putting an object back does to its slab.
STAYS = 0  # a CPU holds it
STAYS_LISTED = 1
TURNS = 2  # no CPU holds it, and that is the first free object or the last one in use
SHEAVES = 3  # nothing yet: sheaves take the object


@folded
def put_back(slub, c, cpu, s, head, tail, count):
    """Put ``count`` linked objects on the own list of slab ``s``, which is not ``cpu``'s [__slab_free].

    Returns STAYS, STAYS_LISTED or TURNS, and the head of that list before, -1 none.
    """
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    k[KMEM_CACHE_CPU.free_slowpath] += 1
    prior = slab[s, SLUB_SLAB.freelist]
    inuse = slab[s, SLUB_SLAB.inuse] - count
    slub.link[slab[s, SLUB_SLAB.base] + tail] = prior
    slab[s, SLUB_SLAB.freelist] = head
    slab[s, SLUB_SLAB.inuse] = inuse
    frozen = slab[s, SLUB_SLAB.frozen]
    if frozen == 0:
        return TURNS if prior < 0 or inuse == 0 else STAYS_LISTED, prior
    if frozen > 0:
        k[KMEM_CACHE_CPU.free_frozen] += 1
        return STAYS, prior
    # On a CPU's partial list, which since 6.8 freezes no slab.
    if inuse == 0:  # the lock is taken before that is seen
        slub.knode[slab[s, SLUB_SLAB.cache], slab[s, SLUB_SLAB.node], KMEM_CACHE_NODE.list_locks] += 1
    return STAYS_LISTED, prior


@kernel
def pfmemalloc_match(mem, slub, s, gfp, context):
    """Whether the caller may be given the slab: one from below all watermarks is for the entitled where the policy
    says so, and a user's own may say more; asked on slow paths alone [pfmemalloc_match, 3.6]."""
    rules = mem.ctl[MEMCTL.slab_match]
    if rules == 0:
        return True
    if (rules & MATCH_PFMEMALLOC) != 0:
        mem.ctl[MEMCTL.tests] += 1
        if slub.slab[s, SLUB_SLAB.depth] == DEPTH.none and not ignores_watermarks(gfp, context):
            return False
    return (rules & (MATCH_ENTITLEMENT | MATCH_NEXT)) == 0 or asked_match(mem, slub, s, gfp, context)


@folded
def crowded(mem, slub, c, cpu, s, kept):
    """Whether the empty slab ``s`` goes: its node has ``kept`` partial ones, or as many as a user's policy keeps."""
    if mem.ctl[MEMCTL.ask[QUESTION.keep]] != 0:
        kept = asked_keep(mem, slub, c, cpu, s, kept)
    return slub.knode[c, slub.slab[s, SLUB_SLAB.node], KMEM_CACHE_NODE.nr_partial] >= kept


@kernel
def slab_record(slub, c):
    """The record that the next slab of cache ``c`` will take, -1 when the arrays are full."""
    s = slub.cache[c, KMEM_CACHE.free_slab]
    if s < 0:
        s = slub.ctl[SLUB_CTL.slab_top]
        if (
            s >= slub.slab.shape[0]
            or slub.ctl[SLUB_CTL.link_top] + slub.cache[c, KMEM_CACHE.objects] > slub.link.shape[0]
        ):
            slub.ctl[SLUB_CTL.overflow] = 1
            return -1
    return s


@kernel
def install_slab(mem, slub, c, s, pfn, order, objects):
    """Make record ``s`` a slab of ``objects`` free objects over ``2**order`` pages at ``pfn`` [allocate_slab]."""
    cache = slub.cache[c]
    slab = slub.slab
    if s == slub.ctl[SLUB_CTL.slab_top]:
        slub.ctl[SLUB_CTL.slab_top] = s + 1
        slab[s, SLUB_SLAB.base] = slub.ctl[SLUB_CTL.link_top]
        slub.ctl[SLUB_CTL.link_top] += cache[KMEM_CACHE.objects]
    else:
        cache[KMEM_CACHE.free_slab] = slab[s, SLUB_SLAB.next]
    where = 0
    if mem.ctl[MEMCTL.model] != st.MODEL_ZONES:
        where = pfn
    else:
        mem.page[pfn, PAGE.flags] |= st.PG_SLAB
    slab[s, SLUB_SLAB.cache] = c
    slab[s, SLUB_SLAB.node] = where
    slab[s, SLUB_SLAB.inuse] = 0
    slab[s, SLUB_SLAB.freelist] = 0
    slab[s, SLUB_SLAB.frozen] = 0
    slab[s, SLUB_SLAB.pfn] = pfn
    slab[s, SLUB_SLAB.objects] = objects
    slab[s, SLUB_SLAB.ordinal] = -1
    slab[s, SLUB_SLAB.owner] = mem.ctl[MEMCTL.who]
    slab[s, SLUB_SLAB.depth] = mem.ctl[MEMCTL.depth]
    slab[s, SLUB_SLAB.partial] = 0
    slab[s, SLUB_SLAB.order] = order
    if mem.ctl[MEMCTL.own[OWN.slab_words]] != 0:
        forget_slab(mem, s)
    base = slab[s, SLUB_SLAB.base]
    for i in range(objects - 1):
        slub.link[base + i] = i + 1
    slub.link[base + objects - 1] = -1
    if cache[KMEM_CACHE.ctor] != 0:
        cache[KMEM_CACHE.ctor_calls] += objects + (cache[KMEM_CACHE.era] == er.ERA_2_6_25)  # the first object twice
    slub.knode[c, where, KMEM_CACHE_NODE.nr_slabs] += 1
    if slub.knode[c, where, KMEM_CACHE_NODE.nr_slabs] > cache[KMEM_CACHE.max_slabs]:
        cache[KMEM_CACHE.max_slabs] = slub.knode[c, where, KMEM_CACHE_NODE.nr_slabs]
    cache[KMEM_CACHE.pages] += 1 << order
    if cache[KMEM_CACHE.pages] > cache[KMEM_CACHE.max_pages]:
        cache[KMEM_CACHE.max_pages] = cache[KMEM_CACHE.pages]
    slub.ctl[SLUB_CTL.pages] += 1 << order
    if slub.ctl[SLUB_CTL.pages] > slub.ctl[SLUB_CTL.max_pages]:
        slub.ctl[SLUB_CTL.max_pages] = slub.ctl[SLUB_CTL.pages]


@kernel
def new_slab(mem, slub, c, cpu, node, gfp, context):
    """Allocate a slab with the caller's mask; its record, or -1 [new_slab, allocate_slab].

    2.6.25 makes one attempt at the cache's order. From 2.6.26 on it is a polite one and, refused, the smallest order
    that holds an object is tried as the caller asked; in the later eras also where that is the same order. From 4.4 on
    the first try neither reclaims nor touches the reserves where a smaller one may follow.
    """
    cache = slub.cache[c]
    s = slab_record(slub, c)
    if s < 0:
        return -1
    order = cache[KMEM_CACHE.order]
    smallest = order
    asked = (gfp & g.GFP_SLAB_LEVEL_MASK) | cache[KMEM_CACHE.allocflags]
    mask = asked
    twice = cache[KMEM_CACHE.min_order] < order
    if twice:
        smallest = cache[KMEM_CACHE.min_order]
    # A refused request of the zones model that goes on has not failed: it is asked again after a reclaim.
    if twice or (cache[KMEM_CACHE.era] != er.ERA_2_6_25 and mem.ctl[MEMCTL.model] != st.MODEL_ZONES):
        mask = (asked | g.NOWARN | g.NORETRY) & ~g.NOFAIL
        if twice and cache[KMEM_CACHE.first_try] == er.TRY_NO_RECLAIM and (mask & g.WAIT) != 0:
            mask = (mask | g.NOMEMALLOC) & ~g.WAIT
        twice = True
    again = False
    while True:
        pfn = alloc_slab_page(mem, cpu, node, mask, order, context)
        if pfn >= 0:
            break
        if again or not twice or (smallest == order and refused_as_before(mem, cpu, node)):
            return -1
        again = True
        mask = asked
        order = smallest
    if again:
        slub.kcpu[c, cpu, KMEM_CACHE_CPU.order_fallback] += 1
    objects = cache[KMEM_CACHE.objects]
    if order < cache[KMEM_CACHE.order]:
        objects = (page_bytes(mem) << order) // cache[KMEM_CACHE.size]
    install_slab(mem, slub, c, s, pfn, order, objects)
    return s


@kernel
def record_owner(mem, slub, c, s):
    """The cache whose slabs fit the record of a slab that came to ``c`` by a wrong free: it has room for no more."""
    for i in range(4):
        e = mem.ctl[MEMCTL.emergency_cache[i]]
        if e >= 0 and slub.cache[e, KMEM_CACHE.objects] == slub.slab[s, SLUB_SLAB.objects]:
            return e
    return c


@kernel
def discard_slab(mem, slub, c, cpu, s):
    """Give a slab's pages back and retire its record [discard_slab]."""
    slab = slub.slab
    order = slab[s, SLUB_SLAB.order]
    slub.knode[c, slab[s, SLUB_SLAB.node], KMEM_CACHE_NODE.nr_slabs] -= 1
    slub.cache[c, KMEM_CACHE.pages] -= 1 << order
    slub.ctl[SLUB_CTL.pages] -= 1 << order
    if slub.cache[c, KMEM_CACHE.rcu_slabs] != 0:
        queue_slab(slub, cpu, s)
        return
    spare = (slub.cache[c, KMEM_CACHE.allocflags] & g.SPARE) != 0 and order == 0
    if not spare or not keep_spare(mem, slab[s, SLUB_SLAB.pfn]):
        free_pages(mem, cpu, slab[s, SLUB_SLAB.pfn], order)
    owner = c
    if mem.ctl[MEMCTL.free] == st.FREE_NAMED and slab[s, SLUB_SLAB.objects] < slub.cache[c, KMEM_CACHE.objects]:
        owner = record_owner(mem, slub, c, s)
    slab[s, SLUB_SLAB.next] = slub.cache[owner, KMEM_CACHE.free_slab]
    slab[s, SLUB_SLAB.pfn] = -1
    slub.cache[owner, KMEM_CACHE.free_slab] = s

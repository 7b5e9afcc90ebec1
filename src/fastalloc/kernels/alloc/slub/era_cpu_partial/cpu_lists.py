"""Partial slabs of a CPU and of a node: how they come from one to the other, and how a CPU gives up what it has."""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.partial import (
    add_partial,
    crowded,
    discard_slab,
    new_slab,
    pfmemalloc_match,
    remove_partial,
)
from fastalloc.kernels.alloc.state import (
    CPU_SLAB,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    SLUB_CTL,
    SLUB_SLAB,
)
from fastalloc.linux import gfp as g


@internal
def unfreeze_partials(mem, slub, c, cpu, owner, s):
    """Move a CPU's partial slabs from ``s`` on to their nodes; empty ones go where min_partial is met
    [__unfreeze_partials]."""
    out_of_line()
    k = slub.kcpu[c, owner]
    slab = slub.slab
    discard = -1
    locked = -1
    while s >= 0:
        following = slab[s, SLUB_SLAB.next]
        if slab[s, SLUB_SLAB.node] != locked:
            locked = slab[s, SLUB_SLAB.node]
            slub.knode[c, locked, KMEM_CACHE_NODE.list_locks] += 1
        slab[s, SLUB_SLAB.frozen] = 0
        if slab[s, SLUB_SLAB.inuse] == 0 and crowded(mem, slub, c, cpu, s, slub.cache[c, KMEM_CACHE.min_partial]):
            slab[s, SLUB_SLAB.next] = discard
            discard = s
        else:
            add_partial(slub, c, s, True)
            k[KMEM_CACHE_CPU.free_add_partial] += 1
        s = following
    while discard >= 0:
        following = slab[discard, SLUB_SLAB.next]
        k[KMEM_CACHE_CPU.deactivate_empty] += 1
        k[KMEM_CACHE_CPU.free_slab] += 1
        discard_slab(mem, slub, c, cpu, discard)
        discard = following


@folded
def put_cpu_partial(mem, slub, c, cpu, s, drain):
    """Put slab ``s`` at the head of the CPU's partial list; ``drain``: a full list goes to the nodes first
    [put_cpu_partial]."""
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    by_objects = slub.cache[c, KMEM_CACHE.cpu_partial_objects] != 0
    limit = slub.cache[c, KMEM_CACHE.cpu_partial]
    oldest = k[KMEM_CACHE_CPU.partial]
    spill = -1
    count = 0
    if oldest >= 0:
        count = slab[oldest, SLUB_SLAB.count]
        if drain and ((by_objects and count > limit) or (not by_objects and count >= limit)):
            spill = oldest
            oldest = -1
            count = 0
    slab[s, SLUB_SLAB.frozen] = -1 - cpu
    slab[s, SLUB_SLAB.count] = count + (slab[s, SLUB_SLAB.objects] - slab[s, SLUB_SLAB.inuse] if by_objects else 1)
    slab[s, SLUB_SLAB.next] = oldest
    k[KMEM_CACHE_CPU.partial] = s
    if spill >= 0:
        k[KMEM_CACHE_CPU.cpu_partial_drain] += 1
        unfreeze_partials(mem, slub, c, cpu, cpu, spill)


@internal
def deactivate_slab(mem, slub, c, cpu, owner, f):
    """Retire CPU ``owner``'s slab: its private objects go in front of the shared ones as they are [deactivate_slab]."""
    out_of_line()
    k = slub.kcpu[c, owner]
    slab = slub.slab
    i = k[f]
    s = k[f + CPU_SLAB.page]
    k[f] = -1
    k[f + CPU_SLAB.page] = -1
    tail = slab[s, SLUB_SLAB.freelist] >= 0
    if tail:
        k[KMEM_CACHE_CPU.deactivate_remote_frees] += 1
    if i >= 0:
        base = slab[s, SLUB_SLAB.base]
        last = i
        slab[s, SLUB_SLAB.inuse] -= 1
        while slub.link[base + last] >= 0:
            last = slub.link[base + last]
            slab[s, SLUB_SLAB.inuse] -= 1
        slub.link[base + last] = slab[s, SLUB_SLAB.freelist]
        slab[s, SLUB_SLAB.freelist] = i
    slab[s, SLUB_SLAB.frozen] = 0
    if slab[s, SLUB_SLAB.inuse] == 0 and crowded(mem, slub, c, cpu, s, slub.cache[c, KMEM_CACHE.min_partial]):
        k[KMEM_CACHE_CPU.deactivate_empty] += 1
        k[KMEM_CACHE_CPU.free_slab] += 1
        discard_slab(mem, slub, c, cpu, s)
    elif slab[s, SLUB_SLAB.freelist] >= 0:
        slub.knode[c, slab[s, SLUB_SLAB.node], KMEM_CACHE_NODE.list_locks] += 1
        add_partial(slub, c, s, tail)
        if tail:
            k[KMEM_CACHE_CPU.deactivate_to_tail] += 1
        else:
            k[KMEM_CACHE_CPU.deactivate_to_head] += 1
    else:
        k[KMEM_CACHE_CPU.deactivate_full] += 1


@internal
def get_partial_node(mem, slub, c, cpu, n, gfp, context):
    """A partial slab of node ``n``, -1 none; further ones move to the CPU's partial list until that holds more than
    half of what it may [get_partial_node]."""
    out_of_line()
    k = slub.kcpu[c, cpu]
    slab = slub.slab
    limit = slub.cache[c, KMEM_CACHE.cpu_partial]
    by_objects = slub.cache[c, KMEM_CACHE.cpu_partial_objects] != 0
    first = -1
    taken = 0
    s = slub.knode[c, n, KMEM_CACHE_NODE.partial_head]
    slub.knode[c, n, KMEM_CACHE_NODE.list_locks] += s >= 0
    while s >= 0:
        following = slab[s, SLUB_SLAB.next]
        if not pfmemalloc_match(mem, slub, s, gfp, context):
            s = following
            continue
        remove_partial(slub, c, s)
        if by_objects:
            taken += slab[s, SLUB_SLAB.objects] - slab[s, SLUB_SLAB.inuse]
        if first < 0:
            first = s
            k[KMEM_CACHE_CPU.alloc_from_partial] += 1
        else:
            put_cpu_partial(mem, slub, c, cpu, s, False)
            k[KMEM_CACHE_CPU.cpu_partial_node] += 1
            if not by_objects:
                taken += 1
        if limit == 0 or taken > limit // 2:
            break
        s = following
    return first


@internal
def get_partial(mem, slub, c, cpu, node, gfp, context):
    """A partial slab of the node, else of one that has more than min_partial, -1 none [get_partial]."""
    home = cpu >> mem.ctl[MEMCTL.cpu_node_shift]
    s = get_partial_node(mem, slub, c, cpu, node if node >= 0 else home, gfp, context)
    if s < 0 and slub.ctl[SLUB_CTL.nodes] > 1 and (node < 0 or (gfp & g.THISNODE) == 0):
        for i in range(slub.ctl[SLUB_CTL.nodes]):
            other = home ^ i
            if slub.knode[c, other, KMEM_CACHE_NODE.nr_partial] > slub.cache[c, KMEM_CACHE.min_partial]:
                s = get_partial_node(mem, slub, c, cpu, other, gfp, context)
                if s >= 0:
                    break
    return s


@internal
def find_slab(mem, slub, c, cpu, node, gfp, context):
    """A slab that no CPU holds, of the lists or a new one, -1 none."""
    out_of_line()
    s = get_partial(mem, slub, c, cpu, node, gfp, context)
    slub.ctl[SLUB_CTL.path] = er.PATH_PARTIAL
    if s < 0:
        s = new_slab(mem, slub, c, cpu, node, gfp, context)
        slub.ctl[SLUB_CTL.path] = er.PATH_NEW_SLAB
        if s >= 0:
            slub.kcpu[c, cpu, KMEM_CACHE_CPU.alloc_slab] += 1
    return s


@internal
def flush_slab(mem, slub, c, cpu, owner, f):
    """Retire CPU ``owner``'s slab and its partial list [__flush_cpu_slab]."""
    k = slub.kcpu[c, owner]
    if k[f + CPU_SLAB.page] >= 0:
        k[KMEM_CACHE_CPU.cpuslab_flush] += 1
        deactivate_slab(mem, slub, c, cpu, owner, f)
    s = k[KMEM_CACHE_CPU.partial]
    k[KMEM_CACHE_CPU.partial] = -1
    unfreeze_partials(mem, slub, c, cpu, owner, s)

"""SLAB's three lists of slabs a node: full, partial, free [mm/slab.c: struct kmem_list3]."""

from fastalloc.compiler.jit import internal, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.state import SLAB_CACHE, SLAB_CTL, SLAB_LIST3, SLAB_SLAB


@internal
def list_del(slab, c, s):
    """Take slab ``s`` off the list it is on."""
    record = slab.slab
    n = record[s, SLAB_SLAB.node]
    which = record[s, SLAB_SLAB.list]
    slab.node[c, n, SLAB_LIST3.nr[which]] -= 1
    if which == ss.ON_FULL:
        return
    head = SLAB_LIST3.partial_head if which == ss.ON_PARTIAL else SLAB_LIST3.free_head
    last = SLAB_LIST3.partial_tail if which == ss.ON_PARTIAL else SLAB_LIST3.free_tail
    following = record[s, SLAB_SLAB.next]
    preceding = record[s, SLAB_SLAB.prev]
    if preceding >= 0:
        record[preceding, SLAB_SLAB.next] = following
    else:
        slab.node[c, n, head] = following
    if following >= 0:
        record[following, SLAB_SLAB.prev] = preceding
    else:
        slab.node[c, n, last] = preceding


@kernel
def list_add(slab, c, s, which, tail):
    """Put slab ``s`` at the head or tail of its node's list ``which``."""
    record = slab.slab
    n = record[s, SLAB_SLAB.node]
    record[s, SLAB_SLAB.list] = which
    slab.node[c, n, SLAB_LIST3.nr[which]] += 1
    if which == ss.ON_FULL:
        return
    head = SLAB_LIST3.partial_head if which == ss.ON_PARTIAL else SLAB_LIST3.free_head
    last = SLAB_LIST3.partial_tail if which == ss.ON_PARTIAL else SLAB_LIST3.free_tail
    end = last if tail else head
    neighbour = slab.node[c, n, end]
    record[s, SLAB_SLAB.next] = -1 if tail else neighbour
    record[s, SLAB_SLAB.prev] = neighbour if tail else -1
    if neighbour < 0:
        slab.node[c, n, head] = s
        slab.node[c, n, last] = s
        return
    record[neighbour, SLAB_SLAB.next if tail else SLAB_SLAB.prev] = s
    slab.node[c, n, end] = s


@internal
def slab_get_obj(slab, c, s):
    """The next free object of slab ``s``, counted as active [slab_get_obj, STATS_INC_ACTIVE, STATS_SET_HIGH]."""
    record = slab.slab
    i = record[s, SLAB_SLAB.free]
    record[s, SLAB_SLAB.free] = slab.link[record[s, SLAB_SLAB.base] + i]
    record[s, SLAB_SLAB.inuse] += 1
    cache = slab.cache
    cache[c, SLAB_CACHE.active] += 1
    if cache[c, SLAB_CACHE.active] > cache[c, SLAB_CACHE.high_mark]:
        cache[c, SLAB_CACHE.high_mark] = cache[c, SLAB_CACHE.active]
    return (s << st.HANDLE_SHIFT) | i


@internal
def first_slab(slab, c, n):
    """Head of the partial list, else of the free list (which is then touched); -1 none."""
    s = slab.node[c, n, SLAB_LIST3.partial_head]
    if s < 0:
        slab.node[c, n, SLAB_LIST3.free_touched] = 1
        s = slab.node[c, n, SLAB_LIST3.free_head]
    return s


@internal
def requeue(slab, c, s):
    """A slab objects were taken from goes to the head of full or partial."""
    list_del(slab, c, s)
    list_add(slab, c, s, ss.ON_FULL if slab.slab[s, SLAB_SLAB.free] < 0 else ss.ON_PARTIAL, False)


@kernel
def nr_slabs(slab, c):
    """Slabs of cache ``c``."""
    slabs = 0
    for n in range(slab.ctl[SLAB_CTL.nodes]):
        node = slab.node[c, n]
        slabs += node[SLAB_LIST3.nr_full] + node[SLAB_LIST3.nr_partial] + node[SLAB_LIST3.nr_free]
    return slabs

"""SLAB's arrays of free objects: of a CPU, of a node, and between two nodes [mm/slab.c: struct array_cache]."""

from fastalloc.compiler.jit import internal, kernel
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CTL


@kernel
def shared_queue(slab, n):
    """Number of node ``n``'s shared array among a cache's queues; CPU ``i``'s own array is queue ``i``."""
    return slab.reap_node.shape[0] + n


@kernel
def alien_queue(slab, n, other):
    """Number of the array in which node ``n`` gathers objects of node ``other``."""
    nodes = slab.ctl[SLAB_CTL.nodes]
    return slab.reap_node.shape[0] + nodes + n * nodes + other


@internal
def transfer_objects(slab, c, to, source, most):
    """Move the newest ``most`` entries, order kept, as far as they fit; how many [transfer_objects]."""
    queue = slab.queue
    available = queue[c, source, SLAB_ARRAY.avail]
    count = min(min(available, most), queue[c, to, SLAB_ARRAY.limit] - queue[c, to, SLAB_ARRAY.avail])
    if count <= 0:
        return 0
    read = queue[c, source, SLAB_ARRAY.base] + available - count
    write = queue[c, to, SLAB_ARRAY.base] + queue[c, to, SLAB_ARRAY.avail]
    for i in range(count):
        slab.entry[write + i] = slab.entry[read + i]
    queue[c, source, SLAB_ARRAY.avail] -= count
    queue[c, to, SLAB_ARRAY.avail] += count
    queue[c, to, SLAB_ARRAY.touched] = 1
    return count


@internal
def drop_oldest(slab, c, q, count):
    """Forget the oldest ``count`` entries of a queue: the rest moves down."""
    left = slab.queue[c, q, SLAB_ARRAY.avail] - count
    base = slab.queue[c, q, SLAB_ARRAY.base]
    for i in range(left):
        slab.entry[base + i] = slab.entry[base + count + i]
    slab.queue[c, q, SLAB_ARRAY.avail] = left

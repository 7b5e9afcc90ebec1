"""What waits for the end of a grace period [mm/slub.c: call_rcu]: full sheaves of kfree_rcu, pages of slabs of
SLAB_TYPESAFE_BY_RCU caches.

One list of all CPUs, in the order of queueing, linked through the records: a sheaf by its place in ``ctl``, slab ``s``
as ``-2 - s``. A slab's CPU is in SLUB_SLAB.frozen, which a slab without objects has no use for.
"""

from fastalloc.compiler.jit import internal
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import SLUB_CTL, SLUB_SLAB


@internal
def next_callback(slub, entry):
    """The entry queued after ``entry``, -1 none."""
    if entry >= 0:
        return slub.ctl[entry + SHEAF.next]
    return slub.slab[-2 - entry, SLUB_SLAB.next]


@internal
def queue_callback(slub, entry):
    """Append a sheaf or slab to the list; its CPU is set."""
    ctl = slub.ctl
    last = ctl[SLUB_CTL.rcu_tail]
    if ctl[SLUB_CTL.nr_callbacks] == 0:
        ctl[SLUB_CTL.rcu_head] = entry
    elif last >= 0:
        ctl[last + SHEAF.next] = entry
    else:
        slub.slab[-2 - last, SLUB_SLAB.next] = entry
    if entry >= 0:
        ctl[entry + SHEAF.next] = -1
    else:
        slub.slab[-2 - entry, SLUB_SLAB.next] = -1
    ctl[SLUB_CTL.rcu_tail] = entry
    ctl[SLUB_CTL.nr_callbacks] += 1


@internal
def queue_slab(slub, cpu, s):
    """call_rcu for the pages of an empty slab."""
    slub.slab[s, SLUB_SLAB.frozen] = 1 + cpu
    queue_callback(slub, -2 - s)


@internal
def queue_sheaf(slub, c, cpu, h, node):
    """call_rcu for a sheaf of kfree_rcu; ``node``: whose barn takes it, -1 it is flushed."""
    slub.ctl[h + SHEAF.cache] = c
    slub.ctl[h + SHEAF.cpu] = cpu
    slub.ctl[h + SHEAF.node] = node
    queue_callback(slub, h)

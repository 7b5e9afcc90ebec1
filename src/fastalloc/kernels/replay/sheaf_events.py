"""What probes recorded of sheaves in a 7.x trace, and the sheaves that there were before it.

kfree_rcu and its grace periods, prefilled sheaves and what came out of them, bulk frees have no tracepoint; where
probes recorded them they are events of a replay. Under the rules of another kernel the objects are freed and allocated
by plain calls. Refills of sheaves are in :mod:`fastalloc.kernels.replay.refill_events`.
"""

import numpy as np

from fastalloc.compiler.jit import entry, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.barn import EMPTY, FULL, barn_put, new_record, pop_object
from fastalloc.kernels.alloc.slub.era_7_3.kfree_rcu import kfree_rcu, rcu_free_sheaf
from fastalloc.kernels.alloc.slub.era_7_3.percpu_sheaves import ALLOC_NO_RECURSE, FREE_TO_SLAB, sheaf_call
from fastalloc.kernels.alloc.slub.era_7_3.prefilled import prefill_sheaf, return_sheaf
from fastalloc.kernels.alloc.slub.era_7_3.sheaf_calls import free_many
from fastalloc.kernels.alloc.slub.rcu import next_callback, queue_sheaf
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB, ZONE
from fastalloc.kernels.replay.refill_events import OP_BEGIN_REFILL, OP_INSTALL, refill_event
from fastalloc.linux import gfp as g

OP_KFREE_RCU = 11  # of ``object``
OP_GRACE_PERIOD = 12  # is over for ``amount`` objects of the cache
OP_PREFILL = 13  # of sheaf ``object`` with at least ``amount`` objects; with TRY see ``is_the_one``
OP_SHEAF_ALLOC = 14  # ``object`` comes out of a prefilled sheaf
OP_RETURN_SHEAF = 15  # of sheaf ``object``
OP_PREFILL_FAILED = 16  # of a sheaf with ``amount`` objects: the pages for it could not be had
OP_SHEAF_MEMORY = 21  # ``object`` is a sheaf of a kmalloc cache
OP_NEXT_SHEAF = 22  # the allocation behind it comes out of sheaf ``object``
OP_FREE_MANY = 23  # ``object`` is one of a bulk free
OP_FREE_LOCKED = 24  # of ``object``, in an interrupt of a call that holds its CPU's sheaves: past them
FIRST_SHEAF_OP = OP_KFREE_RCU
TRY = 1 << 24

# What an event came to: nothing that is counted, an allocation or free, a free of an object that is not out.
NO_OPERATION, OPERATION, UNKNOWN_FREE = range(3)


@internal
def no_pages(mem):
    """Until ``mem`` is unlimited again no page can be had."""
    for n in range(mem.zone.shape[0]):
        mem.zone[n, ZONE.total] = 0
    mem.ctl[MEMCTL.model] = st.MODEL_STUB


@internal
def take_callback(slub_, c, cpu, most):
    """Take the first sheaf of up to ``most`` objects off the callbacks that cache ``c`` queued on ``cpu`` (-1 any), -1
    none."""
    ctl = slub_.ctl
    before = np.int64(-1)
    entry_ = np.int64(ctl[SLUB_CTL.rcu_head])
    for _ in range(ctl[SLUB_CTL.nr_callbacks]):
        following = np.int64(next_callback(slub_, entry_))
        if entry_ >= 0 and ctl[entry_ + SHEAF.cache] == c and (cpu < 0 or ctl[entry_ + SHEAF.cpu] == cpu):
            if ctl[entry_ + SHEAF.size] > most:
                return np.int64(-1)
            if before < 0:
                ctl[SLUB_CTL.rcu_head] = following
            else:
                ctl[before + SHEAF.next] = following
            if following < 0:
                ctl[SLUB_CTL.rcu_tail] = before
            ctl[SLUB_CTL.nr_callbacks] -= 1
            return entry_
        before = entry_
        entry_ = following
    return np.int64(-1)


@internal
def run_callbacks(mem, slub_, c, cpu):
    """Run the callbacks of cache ``c`` whose grace period is over: those that ``cpu`` queued, for each CPU runs its own
    [kernel/rcu/tree.c: rcu_do_batch], else others'."""
    out_of_line()
    cache = slub_.cache[c]
    while cache[KMEM_CACHE.rcu_due] > 0:
        h = take_callback(slub_, c, cpu, cache[KMEM_CACHE.rcu_due])
        if h < 0:
            h = take_callback(slub_, c, np.int64(-1), cache[KMEM_CACHE.rcu_due])
        if h < 0:
            return
        cache[KMEM_CACHE.rcu_due] -= slub_.ctl[h + SHEAF.size]
        rcu_free_sheaf(mem, slub_, cpu, h)


@internal
def leave_chain(slub_, c, h):
    """A prefilled sheaf is in use no more."""
    ctl = slub_.ctl
    for cpu in range(slub_.kcpu.shape[1]):
        k = slub_.kcpu[c, cpu]
        before = np.int64(-1)
        found = np.int64(k[KMEM_CACHE_CPU.prefilled])
        while found >= 0 and found != h:
            before = found
            found = np.int64(ctl[found + SHEAF.next])
        if found == h:
            if before < 0:
                k[KMEM_CACHE_CPU.prefilled] = ctl[h + SHEAF.next]
            else:
                ctl[before + SHEAF.next] = ctl[h + SHEAF.next]
            return


@internal
def free_held(mem, slub_, live, cpu, held):
    """A plain free of an object that is out."""
    live[slub_.slab[held >> st.HANDLE_SHIFT, SLUB_SLAB.cache]] -= 1
    slub.slab_free(mem, slub_, cpu, held)


@internal
def free_locked(mem, slub_, live, cpu, held):
    """A free in an interrupt of a call that holds the lock of its CPU's sheaves: past them [free_to_pcs]."""
    c = np.int64(slub_.slab[held >> st.HANDLE_SHIFT, SLUB_SLAB.cache])
    if slub_.cache[c, KMEM_CACHE.era] != er.ERA_PERCPU_SHEAVES:
        free_held(mem, slub_, live, cpu, held)
        return
    live[c] -= 1
    slub_.ctl[SLUB_CTL.operation] += 1
    none = np.int64(-1)
    sheaf_call(mem, slub_, np.int64(FREE_TO_SLAB), c, cpu, none, np.int64(0), mem.ctl[MEMCTL.context], held)


@internal
def is_the_one(mem, slub_, c, cpu, amount):
    """Whether a prefilled sheaf would hold, here, as many objects as the recorded one: ``amount`` is TRY, the objects
    that it held (from bit 12 on), and those asked for."""
    k = slub_.kcpu[c, cpu]
    wanted = amount & 0xFFF
    h = k[KMEM_CACHE_CPU.spare]
    if h < 0:
        h = slub_.knode[c, cpu >> mem.ctl[MEMCTL.cpu_node_shift], KMEM_CACHE_NODE.full]
    size = slub_.ctl[h + SHEAF.size] if h >= 0 else 0
    if size < wanted:
        size = slub_.cache[c, KMEM_CACHE.sheaf_capacity]
    return size == (amount >> 12) & 0x7FF


@internal
def sheaf_event(mem, slub_, handle, live, op, c, cpu, amount, obj):
    """One of the events above; what it came to."""
    out_of_line()
    mem.ctl[MEMCTL.cpu] = cpu
    has_sheaves = slub_.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES
    k = slub_.kcpu[c, cpu]
    held = handle[obj]
    if op == OP_KFREE_RCU:
        if held < 0:
            return UNKNOWN_FREE
        handle[obj] = st.NO_OBJECT
        c = np.int64(slub_.slab[held >> st.HANDLE_SHIFT, SLUB_SLAB.cache])
        if slub_.cache[c, KMEM_CACHE.era] != er.ERA_PERCPU_SHEAVES:
            free_held(mem, slub_, live, cpu, held)
            return OPERATION
        live[c] -= 1
        if not kfree_rcu(mem, slub_, c, cpu, held, 0):
            slub.slab_free(mem, slub_, cpu, held)
        run_callbacks(mem, slub_, c, cpu)
        return OPERATION
    if op == OP_FREE_MANY:
        if held < 0:
            return UNKNOWN_FREE
        c = np.int64(slub_.slab[held >> st.HANDLE_SHIFT, SLUB_SLAB.cache])
        if slub_.cache[c, KMEM_CACHE.era] == er.ERA_PERCPU_SHEAVES:
            live[c] -= 1
            free_many(mem, slub_, c, cpu, handle, obj, 1)
        else:
            free_held(mem, slub_, live, cpu, held)
        handle[obj] = st.NO_OBJECT
        return OPERATION
    if op == OP_FREE_LOCKED:
        if held < 0:
            return UNKNOWN_FREE
        handle[obj] = st.NO_OBJECT
        free_locked(mem, slub_, live, cpu, held)
        return OPERATION
    if op == OP_SHEAF_MEMORY:
        if held >= 0:
            free_held(mem, slub_, live, cpu, held)
        if has_sheaves:
            slub_.ctl[SLUB_CTL.operation] += 1
            none = np.int64(-1)
            held = np.int64(sheaf_call(mem, slub_, np.int64(ALLOC_NO_RECURSE), c, cpu, none, amount, 0, none))
        else:
            held = np.int64(slub.slab_alloc(mem, slub_, c, cpu, -1, amount, 0))
        handle[obj] = held
        live[c] += held >= 0
        return OPERATION
    if op == OP_SHEAF_ALLOC:
        if held >= 0:  # handed out again: its free is not in the trace
            free_held(mem, slub_, live, cpu, held)
        h = np.int64(k[KMEM_CACHE_CPU.prefilled])
        if h >= 0 and slub_.ctl[h + SHEAF.size] > 0:
            held = np.int64(pop_object(slub_.ctl, h))
        else:
            held = np.int64(slub.slab_alloc(mem, slub_, c, cpu, -1, g.GFP_KERNEL, 0))
        handle[obj] = held
        live[c] += 1
        return OPERATION
    if not has_sheaves:
        return NO_OPERATION
    if OP_BEGIN_REFILL <= op <= OP_INSTALL:
        refill_event(mem, slub_, handle, op, c, cpu, amount, obj)
    elif op == OP_GRACE_PERIOD:
        slub_.cache[c, KMEM_CACHE.rcu_due] += amount
        run_callbacks(mem, slub_, c, cpu)
    elif held >= 0 and (op == OP_NEXT_SHEAF or (op == OP_PREFILL and amount < TRY)):
        leave_chain(slub_, c, held)
        slub_.ctl[held + SHEAF.next] = k[KMEM_CACHE_CPU.prefilled]
        k[KMEM_CACHE_CPU.prefilled] = held
    elif op == OP_PREFILL and amount >= TRY and (held >= 0 or not is_the_one(mem, slub_, c, cpu, amount)):
        return NO_OPERATION
    elif op == OP_PREFILL:
        amount &= 0xFFF if amount >= TRY else -1
        h = np.int64(prefill_sheaf(mem, slub_, c, cpu, g.GFP_KERNEL, 0, amount, -1))
        handle[obj] = h
        if h >= 0:
            slub_.ctl[h + SHEAF.next] = k[KMEM_CACHE_CPU.prefilled]
            k[KMEM_CACHE_CPU.prefilled] = h
    elif op == OP_PREFILL_FAILED:
        no_pages(mem)
        h = np.int64(prefill_sheaf(mem, slub_, c, cpu, g.GFP_KERNEL, 0, amount, -1))
        mem.ctl[MEMCTL.model] = st.MODEL_UNLIMITED
        if h >= 0:
            return_sheaf(mem, slub_, c, cpu, h, g.GFP_KERNEL, 0)
    elif op == OP_RETURN_SHEAF and held >= 0:
        handle[obj] = st.NO_OBJECT
        leave_chain(slub_, c, held)
        return_sheaf(mem, slub_, c, cpu, held, g.GFP_KERNEL, 0)
    return NO_OPERATION


# sheaves[i, .]: a sheaf that there was before the trace
S_CACHE, S_WHERE, S_CPU, S_NODE, S_COUNT, SHEAF_COLUMNS = range(6)
# sheaves[., S_WHERE]
MAIN, SPARE, RCU_FREE, BARN_FULL, BARN_EMPTY, QUEUED = range(6)


@entry
def set_up_sheaves(slub_, sheaves, objects):
    """Put the sheaves in place, those of a barn's list last first; ``objects``: int64, handles of all, sheaf by sheaf,
    the one that is taken first last. Where there is no room SLUB_CTL.overflow is set."""
    first = 0
    for i in range(sheaves.shape[0]):
        c = sheaves[i, S_CACHE]
        count = sheaves[i, S_COUNT]
        h = np.int64(new_record(slub_, slub_.cache[c, KMEM_CACHE.sheaf_capacity]))
        if h < 0:
            return
        for j in range(count):
            slub_.ctl[h + SHEAF.objects[j]] = objects[first + j]
        slub_.ctl[h + SHEAF.size] = count
        first += count
        where = sheaves[i, S_WHERE]
        k = slub_.kcpu[c, max(sheaves[i, S_CPU], 0)]
        if where == MAIN:
            k[KMEM_CACHE_CPU.main] = h
        elif where == SPARE:
            k[KMEM_CACHE_CPU.spare] = h
        elif where == RCU_FREE:
            k[KMEM_CACHE_CPU.rcu_free] = h
        elif where == QUEUED:
            queue_sheaf(slub_, c, np.int64(0), h, np.int64(0))
        else:
            barn_put(slub_, c, sheaves[i, S_NODE], h, FULL if where == BARN_FULL else EMPTY)

"""Background users of GFP_ATOMIC memory: interrupts that take a 128-byte object or a page and give it back later.

Arrivals are Poisson, lifetimes constant, CPUs drawn at random; the same draws under every policy.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.lane import metrics, rng
from fastalloc.kernels.lane import state as ms
from fastalloc.linux import gfp as g

NOISE_ALLOCATIONS = metrics.METRICS.index("noise_allocations")
NOISE_FAILURES = metrics.METRICS.index("noise_failures")

# The two kinds share their code; the columns of the second stand STRIDE further on.
OBJECTS = 0
PAGES = 1
STRIDE = ms.V_NEXT_PAGE_NOISE - ms.V_NEXT_NOISE
STREAM_ARRIVAL = 4
STREAM_CPU = 6

N_OBJECT = 0
N_CPU = 1
N_UNTIL = 2


@internal
def noise_arrives(mem, heap, vm, out, kind):
    """One arrival: allocate in interrupt context, then draw the next arrival."""
    ctl = vm.ctl
    at = kind * STRIDE
    when = ctl[ms.V_NEXT_NOISE + at]
    cpu = rng.below(rng.draw(ctl[ms.V_SEED], STREAM_CPU + kind, ctl[ms.V_LANE], when, 0), ctl[ms.V_NR_CPUS])
    gap = rng.exponential_ns(
        rng.draw(ctl[ms.V_SEED], STREAM_ARRIVAL + kind, ctl[ms.V_LANE], when, 0), ctl[ms.V_NOISE_MEAN_NS + at]
    )
    ctl[ms.V_NEXT_NOISE + at] = when + max(1, gap)
    ring = vm.noise.shape[1]
    granted = -1
    if ctl[ms.V_NOISE_COUNT + at] < ring:
        if kind == OBJECTS:
            granted = slab_take(
                mem, heap, out, vm.roles[ms.ROLE_NOISE], cpu, g.GFP_ATOMIC, g.IN_INTERRUPT, metrics.W_NOISE
            )
        else:
            mem.ctl[st.M_WHO] = metrics.W_NOISE
            granted = alloc_pages(mem, cpu, -1, g.GFP_ATOMIC | g.NOWARN, 0, g.IN_INTERRUPT)
    if granted < 0:
        out.metric[NOISE_FAILURES] += 1
        return
    out.metric[NOISE_ALLOCATIONS] += 1
    row = vm.noise[kind, ctl[ms.V_NOISE_TAIL + at]]
    row[N_OBJECT] = granted
    row[N_CPU] = cpu
    row[N_UNTIL] = when + ctl[ms.V_NOISE_LIFE_NS + at]
    ctl[ms.V_NOISE_TAIL + at] = (ctl[ms.V_NOISE_TAIL + at] + 1) % ring
    ctl[ms.V_NOISE_COUNT + at] += 1


@internal
def noise_leaves(mem, heap, vm, kind):
    """The oldest object or page of a kind goes back, on the CPU that took it."""
    ctl = vm.ctl
    at = kind * STRIDE
    row = vm.noise[kind, ctl[ms.V_NOISE_HEAD + at]]
    ctl[ms.V_NOISE_HEAD + at] = (ctl[ms.V_NOISE_HEAD + at] + 1) % vm.noise.shape[1]
    ctl[ms.V_NOISE_COUNT + at] -= 1
    if kind == OBJECTS:
        slab_give(mem, heap, vm.roles[ms.ROLE_NOISE], row[N_CPU], row[N_OBJECT])
    else:
        free_pages(mem, row[N_CPU], row[N_OBJECT], 0)


@folded
def noise_due(vm, kind):
    """When the next arrival or departure of a kind is due."""
    at = kind * STRIDE
    due = vm.ctl[ms.V_NEXT_NOISE + at]
    if vm.ctl[ms.V_NOISE_COUNT + at] > 0:
        due = min(due, vm.noise[kind, vm.ctl[ms.V_NOISE_HEAD + at], N_UNTIL])
    return due


@internal
def noise_event(mem, heap, vm, out, kind, now):
    """Whatever of a kind is due now; a departure goes first."""
    at = kind * STRIDE
    if vm.ctl[ms.V_NOISE_COUNT + at] > 0 and vm.noise[kind, vm.ctl[ms.V_NOISE_HEAD + at], N_UNTIL] <= now:
        noise_leaves(mem, heap, vm, kind)
    else:
        noise_arrives(mem, heap, vm, out, kind)

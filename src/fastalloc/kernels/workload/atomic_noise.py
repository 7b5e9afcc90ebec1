"""Background users of GFP_ATOMIC memory: interrupts that take a 128-byte object or a page and give it back later.

Arrivals are Poisson, lifetimes constant, CPUs drawn at random; the same draws under every policy.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.state import ROLE, VM
from fastalloc.kernels.reclaim.vmscan import wakeup_kswapd
from fastalloc.linux import gfp as g

# The two kinds share their code.
OBJECTS = 0
PAGES = 1
STREAM_ARRIVAL = 4
STREAM_CPU = 6


class NOISE(Record):
    """Columns."""

    object = field("handle of the object, or page frame")
    cpu = field("CPU that took it and gives it back")
    until = field("when it is given back", "ns")


@folded
def arrival_after(vm, kind, when):
    """When the arrival after the one at ``when`` comes."""
    number = rng.draw(vm.ctl[VM.seed], STREAM_ARRIVAL + kind, vm.ctl[VM.lane], when, 0)
    return when + max(1, rng.exponential_ns(number, vm.ctl[VM.noise_mean_ns[kind]]))


@internal
def noise_arrives(mem, heap, vm, out, kind):
    """One arrival: allocate in interrupt context, then draw the next arrival."""
    ctl = vm.ctl
    when = ctl[VM.next_noise[kind]]
    cpu = rng.below(rng.draw(ctl[VM.seed], STREAM_CPU + kind, ctl[VM.lane], when, 0), ctl[VM.nr_cpus])
    ctl[VM.next_noise[kind]] = arrival_after(vm, kind, when)
    ring = vm.noise.shape[1]
    granted = -1
    if ctl[VM.noise_count[kind]] == ring:
        ctl[VM.overflow] = 1
    else:
        if kind == OBJECTS:
            granted = slab_take(mem, heap, out, vm.roles[ROLE.noise], cpu, g.GFP_ATOMIC, g.IN_INTERRUPT, WHO.noise)
        else:
            mem.ctl[MEMCTL.who] = WHO.noise
            granted = alloc_pages(mem, cpu, -1, g.GFP_ATOMIC | g.NOWARN, 0, g.IN_INTERRUPT)
    if granted < 0:
        out.metric[METRIC.noise_failures] += 1
        return
    out.metric[METRIC.noise_allocations] += 1
    row = vm.noise[kind, ctl[VM.noise_tail[kind]]]
    row[NOISE.object] = granted
    row[NOISE.cpu] = cpu
    row[NOISE.until] = when + ctl[VM.noise_life_ns[kind]]
    ctl[VM.noise_tail[kind]] = (ctl[VM.noise_tail[kind]] + 1) % ring
    ctl[VM.noise_count[kind]] += 1


@internal
def noise_leaves(mem, heap, vm, kind):
    """The oldest object or page of a kind goes back, on the CPU that took it."""
    ctl = vm.ctl
    row = vm.noise[kind, ctl[VM.noise_head[kind]]]
    ctl[VM.noise_head[kind]] = (ctl[VM.noise_head[kind]] + 1) % vm.noise.shape[1]
    ctl[VM.noise_count[kind]] -= 1
    if kind == OBJECTS:
        slab_give(mem, heap, vm.roles[ROLE.noise], row[NOISE.cpu], row[NOISE.object])
    else:
        free_pages(mem, row[NOISE.cpu], row[NOISE.object], 0)


@folded
def refuses_any_cpu(mem, vm):
    """Whether a page that was refused to one arrival is refused to the next, on whichever CPU, while nobody takes or
    frees memory: a zone that passes its mark fills the list of a CPU, so it was the marks that refused. This fails
    where no page is left and the CPUs have not entered that yet. And no page is out that would come back."""
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        if mem.zone[z, ZONE.batch] < 1 or (mem.zone[z, ZONE.free] == 0 and mem.zone[z, ZONE.vm_stat_lag] < 0):
            return False
    return vm.ctl[VM.noise_count[PAGES]] == 0


@folded
def refuse_pages(mem, vm, out, until):
    """Count the requests for pages that come up to ``until`` ns; all of them are refused, see
    :func:`refuses_any_cpu`."""
    when = vm.ctl[VM.next_noise[PAGES]]
    refused = 0
    while when <= until:
        when = arrival_after(vm, PAGES, when)
        refused += 1
    vm.ctl[VM.next_noise[PAGES]] = when
    mem.ctl[MEMCTL.failed] += refused
    out.metric[METRIC.noise_failures] += refused


@folded
def noise_due(vm, kind):
    """When the next arrival or departure of a kind is due."""
    due = vm.ctl[VM.next_noise[kind]]
    if vm.ctl[VM.noise_count[kind]] > 0:
        due = min(due, vm.noise[kind, vm.ctl[VM.noise_head[kind]], NOISE.until])
    return due


@internal
def noise_event(mem, heap, vm, out, kind, now):
    """Whatever of a kind is due now; a departure goes first. kswapd wakes where a request fell below the low mark."""
    if vm.ctl[VM.noise_count[kind]] > 0 and vm.noise[kind, vm.ctl[VM.noise_head[kind]], NOISE.until] <= now:
        noise_leaves(mem, heap, vm, kind)
    else:
        noise_arrives(mem, heap, vm, out, kind)
        wakeup_kswapd(mem, vm, now)

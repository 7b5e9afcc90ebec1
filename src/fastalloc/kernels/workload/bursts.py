"""Bursts of GFP_ATOMIC requests: a network card's ring filled again, a batch of completions.

Each entry of the workload asks for a number of pages or objects every so often, evenly over a while, from interrupts
of some CPUs, and gives each back a fixed time later. The first burst begins at a time drawn for the lane; what is
refused is counted and not asked for again.
"""

from fastalloc.compiler.jit import internal
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.reclaim.vmscan import wakeup_kswapd
from fastalloc.linux import gfp as g

STREAM_BURST = 24


class BURST(Record):
    """burst[k, .]: an entry of the workload and how far its burst is. Times in ns."""

    cache = field("of its objects, -1: pages")
    requests = field("of a burst")
    period = field("from the begin of one burst to that of the next")
    spread = field("from the first request of a burst to the last")
    life = field("how long each page or object is kept")
    cpus = field("that take part in a burst")
    begin = field("of the burst under way, or of the next one")
    asked = field("requests of it so far")
    refused = field("of them")
    first_cpu = field("of the burst under way")
    head = field("ring of what is held: oldest")
    tail = field("ring of what is held: the place behind the newest")
    held = field("pages or objects in the ring")


class HELD(Record):
    """burst_held[k, i, .]: a page or an object that a burst was given."""

    handle = field("handle, or page frame")
    cpu = field("that took it and gives it back")
    until = field("ns")


@internal
def burst_due(vm, k):
    """When entry ``k`` is due next: a request, or the return of the oldest page or object."""
    b = vm.burst[k]
    due = b[BURST.begin] + b[BURST.spread] * b[BURST.asked] // b[BURST.requests]
    if b[BURST.held] > 0:
        due = min(due, vm.burst_held[k, b[BURST.head], HELD.until])
    return due


@internal
def note_next_burst(vm):
    """VM.next_burst: the earliest of all entries."""
    due = ms.NEVER
    for k in range(vm.burst.shape[0]):
        due = min(due, burst_due(vm, k))
    vm.ctl[VM.next_burst] = due


@internal
def boot_bursts(vm):
    """Draw where in its period each entry begins; NEVER without one."""
    for k in range(vm.burst.shape[0]):
        number = rng.draw(vm.ctl[VM.seed], STREAM_BURST, vm.ctl[VM.lane], k, 0)
        vm.burst[k, BURST.begin] += rng.below(number, vm.burst[k, BURST.period])
    note_next_burst(vm)


@internal
def burst_gives_back(mem, heap, vm, k):
    """The oldest page or object of an entry goes back, on the CPU that took it."""
    b = vm.burst[k]
    held = vm.burst_held[k, b[BURST.head]]
    b[BURST.head] = (b[BURST.head] + 1) % vm.burst_held.shape[1]
    b[BURST.held] -= 1
    if b[BURST.cache] >= 0:
        slab_give(mem, heap, b[BURST.cache], held[HELD.cpu], held[HELD.handle])
    else:
        vm.ctl[VM.burst_pages] -= 1
        free_pages(mem, held[HELD.cpu], held[HELD.handle], 0)


@internal
def burst_asks(mem, heap, vm, out, k, now):
    """One request of a burst; after the last one the next burst is set."""
    b = vm.burst[k]
    if b[BURST.asked] == 0:
        number = rng.draw(vm.ctl[VM.seed], STREAM_BURST + 1, vm.ctl[VM.lane], b[BURST.begin], k)
        b[BURST.first_cpu] = rng.below(number, vm.ctl[VM.nr_cpus])
    cpu = (b[BURST.first_cpu] + b[BURST.asked] % b[BURST.cpus]) % vm.ctl[VM.nr_cpus]
    if b[BURST.held] == vm.burst_held.shape[1]:
        vm.ctl[VM.overflow] = 1
        return
    if b[BURST.cache] >= 0:
        granted = slab_take(mem, heap, out, b[BURST.cache], cpu, g.GFP_ATOMIC, g.IN_INTERRUPT, WHO.noise)
    else:
        mem.ctl[MEMCTL.who] = WHO.noise
        granted = alloc_pages(mem, cpu, -1, g.GFP_ATOMIC, 0, g.IN_INTERRUPT)
    b[BURST.asked] += 1
    out.metric[METRIC.burst_requests] += 1
    if granted < 0:
        b[BURST.refused] += 1
        out.metric[METRIC.burst_refused] += 1
    else:
        held = vm.burst_held[k, b[BURST.tail]]
        held[HELD.handle] = granted
        held[HELD.cpu] = cpu
        held[HELD.until] = now + b[BURST.life]
        b[BURST.tail] = (b[BURST.tail] + 1) % vm.burst_held.shape[1]
        b[BURST.held] += 1
        if b[BURST.cache] < 0:
            vm.ctl[VM.burst_pages] += 1
    if b[BURST.asked] == b[BURST.requests]:
        out.metric[METRIC.bursts] += 1
        if b[BURST.refused] > 0:
            out.metric[METRIC.bursts_refused] += 1
        b[BURST.begin] += b[BURST.period]
        b[BURST.asked] = 0
        b[BURST.refused] = 0


@internal
def burst_event(mem, heap, vm, out, now):
    """All that is due of bursts now, what goes back first; kswapd wakes where a request fell below the low mark."""
    for k in range(vm.burst.shape[0]):
        while burst_due(vm, k) <= now and vm.ctl[VM.overflow] == 0:
            b = vm.burst[k]
            if b[BURST.held] > 0 and vm.burst_held[k, b[BURST.head], HELD.until] <= now:
                burst_gives_back(mem, heap, vm, k)
            else:
                burst_asks(mem, heap, vm, out, k, now)
    note_next_burst(vm)
    wakeup_kswapd(mem, vm, now)

"""A background load fitted from a trace: objects of its caches come and go as they did there.

Each cache has its own arrivals: the gap to the next, the CPU, the lifetime and the CPU that frees are drawn from what
the trace had, each by itself. Who may sleep takes what is there without reclaim and wakes kswapd; an object that cannot
be had is counted and not asked for again. Arrivals and departures wait in one binary heap, by time and turn. The draws
are of a stream of their own, so the rest of a lane draws what it would without a load.
"""

import numpy as np

from fastalloc.compiler.jit import folded, internal
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.state import VM

STREAM_BACKGROUND = 16
DRAWS = 8  # of a cache at one time; a draw's number has 16 bits
QUANTILES = 65  # of gaps and of lives, evenly spaced
WHOLE = 1 << 32  # a share of 1


# load[b, .]
class LOAD(Record):
    """Columns."""

    cache = field("row of the cache that is asked")
    gfp = field("mask of each allocation")
    kept = field("share of objects that the trace never saw freed")
    kept_ns = field("how long those live here", "ns")
    away = field("share of objects freed on another CPU")


# draws[b, .]: quantiles of gaps and lives in ns, then the shares of the CPUs up to each
AT_GAPS = 0
AT_LIVES = QUANTILES
AT_CPUS = 2 * QUANTILES


# due[i, .]: an arrival or a departure
class DUE(Record):
    """Columns."""

    time = field("when it is due", "ns")
    turn = field("number given in the order of entry: of equal times the lower first")
    load = field("row of the load that it belongs to")
    handle = field("-1: an arrival")
    cpu = field("CPU that frees the object")


_REST = np.uint64(6)  # a draw without the bits that choose the interval
_INTERVAL = np.uint64(58)
_HALF = np.uint64(32)


@folded
def before(due, i, j):
    """Whether ``i`` comes before ``j``."""
    return due[i, DUE.time] < due[j, DUE.time] or (
        due[i, DUE.time] == due[j, DUE.time] and due[i, DUE.turn] < due[j, DUE.turn]
    )


@folded
def swap(due, i, j):
    """Exchange two entries."""
    for column in range(DUE.width):
        due[i, column], due[j, column] = due[j, column], due[i, column]


@internal
def wait_until(vm, time, load, handle, cpu):
    """Put an arrival or a departure on the heap."""
    due = vm.background_due
    i = vm.ctl[VM.background_count]
    vm.ctl[VM.background_count] = i + 1
    due[i, DUE.time] = time
    due[i, DUE.turn] = vm.ctl[VM.background_turn]
    vm.ctl[VM.background_turn] += 1
    due[i, DUE.load] = load
    due[i, DUE.handle] = handle
    due[i, DUE.cpu] = cpu
    while i > 0 and before(due, i, (i - 1) // 2):
        swap(due, i, (i - 1) // 2)
        i = (i - 1) // 2
    vm.ctl[VM.next_background] = due[0, DUE.time]


@internal
def drop_first(vm):
    """Take the first entry off the heap."""
    due = vm.background_due
    n = vm.ctl[VM.background_count] - 1
    vm.ctl[VM.background_count] = n
    swap(due, 0, n)
    i = 0
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and before(due, child + 1, child):
            child += 1
        if not before(due, child, i):
            break
        swap(due, i, child)
        i = child
    vm.ctl[VM.next_background] = due[0, DUE.time] if n > 0 else ms.NEVER


@folded
def drawn(vm, load, time, n):
    """The ``n``-th draw of a cache at a time."""
    return rng.draw(vm.ctl[VM.seed], STREAM_BACKGROUND, vm.ctl[VM.lane], time, DRAWS * load + n)


@folded
def between(vm, load, at, number):
    """A value drawn from evenly spaced quantiles, straight between two of them."""
    i = at + np.int64(number >> _INTERVAL)
    low = vm.background_draws[load, i]
    return low + rng.below(number << _REST, vm.background_draws[load, i + 1] - low)


@internal
def next_arrival(vm, load, time):
    """Draw when a cache is asked again."""
    gap = between(vm, load, AT_GAPS, drawn(vm, load, time, 0))
    wait_until(vm, time + max(1, gap), load, -1, 0)


@internal
def boot_background(vm):
    """The first arrival at each cache; NEVER without a load."""
    vm.ctl[VM.next_background] = ms.NEVER
    for load in range(vm.background.shape[0]):
        next_arrival(vm, load, 0)


@internal
def background_event(mem, heap, vm, out):
    """What is due first: an object goes back, or one is taken and its end drawn."""
    due = vm.background_due
    time = due[0, DUE.time]
    b = due[0, DUE.load]
    handle = due[0, DUE.handle]
    cpu = due[0, DUE.cpu]
    load = vm.background[b]
    drop_first(vm)
    if handle >= 0:
        slab_give(mem, heap, load[LOAD.cache], cpu, handle)
        return
    next_arrival(vm, b, time)
    cpus = vm.ctl[VM.nr_cpus]
    share = np.int64(drawn(vm, b, time, 1) >> _HALF)
    cpu = 0
    while cpu + 1 < cpus and share >= vm.background_draws[b, AT_CPUS + cpu]:
        cpu += 1
    if vm.ctl[VM.background_count] < due.shape[0]:
        handle = slab_take(mem, heap, out, load[LOAD.cache], cpu, load[LOAD.gfp], 0, WHO.noise)
    if handle < 0:
        out.metric[METRIC.noise_failures] += 1
        return
    out.metric[METRIC.noise_allocations] += 1
    if rng.happens(drawn(vm, b, time, 2), load[LOAD.kept], WHOLE):
        life = load[LOAD.kept_ns]
    else:
        life = between(vm, b, AT_LIVES, drawn(vm, b, time, 3))
    if cpus > 1 and rng.happens(drawn(vm, b, time, 4), load[LOAD.away], WHOLE):
        cpu = (cpu + 1 + rng.below(drawn(vm, b, time, 5), cpus - 1)) % cpus
    wait_until(vm, time + max(1, life), b, handle, cpu)

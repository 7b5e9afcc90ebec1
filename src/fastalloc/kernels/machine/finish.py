"""The end of a lane: what is open is closed, and metrics that are kept elsewhere are filled in."""

from fastalloc.compiler.jit import compile_entry, entry
from fastalloc.kernels.alloc.buddy import page_bytes
from fastalloc.kernels.alloc.kmem_inspect import heap_costs, heap_pages, max_cache_slabs, max_heap_pages
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import IO, ROLE, VM
from fastalloc.kernels.machine.heap_table import NO_HEAP, behind
from fastalloc.kernels.machine.observe import note_zones, reserve_idle


@entry
def _finish(mem, heap, pools, io, vm, out):
    """:func:`finish_lane` of a heap behind its operations."""
    metric = out.metric
    now = vm.ctl[VM.now]
    milliseconds = now // ms.NS_PER_MS
    metric[METRIC.sim_ms] = milliseconds
    metric[METRIC.cpu_ticks] = now // vm.ctl[VM.jiffy_ns] * vm.ctl[VM.nr_cpus]
    if vm.ctl[VM.livelock_stage] > 0:
        metric[METRIC.livelock_open] = 1
        length = (now - vm.ctl[VM.livelock_since]) // ms.NS_PER_MS
        if length > metric[METRIC.livelock_ms]:
            metric[METRIC.livelock_ms] = length
            metric[METRIC.livelock_onset_ms] = vm.ctl[VM.livelock_since] // ms.NS_PER_MS
    if vm.ctl[VM.stall_since] != ms.NEVER:
        length = (now - vm.ctl[VM.stall_since]) // ms.NS_PER_MS
        if length > metric[METRIC.stall_ms]:
            metric[METRIC.stall_ms] = length
            metric[METRIC.stall_onset_ms] = vm.ctl[VM.stall_since] // ms.NS_PER_MS
    if io.ctl[IO.device_busy] > 0:
        metric[METRIC.busy_ms] += now - io.ctl[IO.busy_since]
    metric[METRIC.busy_ms] //= ms.NS_PER_MS
    bio_cache = vm.roles[ROLE.bio]
    metric[METRIC.reports] = mem.ctl[MEMCTL.reports]
    metric[METRIC.reports_suppressed] = mem.ctl[MEMCTL.suppressed]
    metric[METRIC.max_bio_slabs] = max_cache_slabs(heap, bio_cache)
    metric[METRIC.max_slab_pages] = max_heap_pages(heap)
    note_zones(mem, ZONE.min_free, metric[METRIC.min_free[:]])
    metric[METRIC.deepest] = mem.ctl[MEMCTL.deepest]
    metric[METRIC.no_watermark] = mem.ctl[MEMCTL.no_watermark]
    metric[METRIC.failed_allocations] = mem.ctl[MEMCTL.failed]
    metric[METRIC.refusals] = mem.ctl[MEMCTL.refusals]
    metric[METRIC.probes] = mem.ctl[MEMCTL.probes]
    metric[METRIC.spare_used] = mem.ctl[MEMCTL.spare_used]
    metric[METRIC.unfair_refusals] = mem.ctl[MEMCTL.unfair]
    heap_costs(heap, metric[METRIC.slab_costs[:]])
    metric[METRIC.slab_waste_kb] += (page_bytes(mem) - 4096) * heap_pages(heap) >> 10  # which are counted as of 4 kB
    metric[METRIC.policy_tests] = mem.ctl[MEMCTL.tests]
    metric[METRIC.policy_locks] = mem.ctl[MEMCTL.locks]
    metric[METRIC.reserve_idle] = vm.ctl[VM.idle_sum] // max(1, vm.ctl[VM.looks])
    metric[METRIC.reserve_idle_end] = reserve_idle(mem, heap, pools, io, vm)
    metric[METRIC.emergency_used] = mem.ctl[MEMCTL.emergency_used]
    metric[METRIC.emergency_lost] = mem.ctl[MEMCTL.migrated]
    metric[METRIC.charges_refused] = mem.ctl[MEMCTL.charges_refused]


def finish_lane(mem, heap, pools, io, vm, out):
    """Close what is open at the end of a run and fill the metrics that are kept elsewhere."""
    _finish(mem, behind(mem, heap, out), pools, io, vm, out)


def compile_finish(mem, pools, io, vm, out):
    """Compile the program of :func:`finish_lane` for groups like these."""
    compile_entry(_finish, mem, NO_HEAP, pools, io, vm, out)

"""What a lane notices about itself: gauges, livelock, reports. Nothing here changes the machine."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc.buddy import page_bytes
from fastalloc.kernels.alloc.kmem_inspect import aside_bytes, cache_slabs, deep_objects, free_objects, heap_pages
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import MEMCTL, PCP, ZONE
from fastalloc.kernels.block.elevator import elv_queue_empty
from fastalloc.kernels.block.scsi import LIVELOCK_LONG_NS
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import current_task
from fastalloc.kernels.lane.events import log_event, log_event_at
from fastalloc.kernels.lane.metrics import EVENT, METRIC, SERIES
from fastalloc.kernels.lane.sched import reclaimers_asleep
from fastalloc.kernels.lane.state import HOST, IO, OUT_CTL, POOL, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, TASK_STATE

NR_ZONE_NAMES = len(metrics.ZONES)
LOOK_NS = 100 * ms.NS_PER_MS


@internal
def note_zones(mem, column, row):
    """A column of every zone, at the place of its name; -1 for names that the machine has no zone of."""
    for i in range(NR_ZONE_NAMES):
        row[i] = -1
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        row[mem.zone[z, ZONE.zone_name]] = mem.zone[z, column]


@internal
def running_tasks(vm):
    """Tasks on a run queue."""
    running = 0
    for cpu in range(vm.ctl[VM.nr_cpus]):
        running += vm.cpu[cpu, CPU.running]
    return running


@internal
def pool_waiters(vm):
    """Tasks asleep in the bio or biovec mempool."""
    return vm.ctl[VM.sleepers[TASK_STATE.bio_pool]] + vm.ctl[VM.sleepers[TASK_STATE.biovec_pool]]


@internal
def sample(mem, heap, pools, io, vm, out):
    """Write one row of the series, see SERIES."""
    out_of_line()
    n = out.ctl[OUT_CTL.samples]
    if n >= out.series.shape[0]:
        return
    out.ctl[OUT_CTL.samples] = n + 1
    row = out.series[n]
    row[SERIES.t_ms] = vm.ctl[VM.now] // ms.NS_PER_MS
    note_zones(mem, ZONE.free, row[SERIES.free[:]])
    pcp_pages = active = inactive = 0
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        for cpu in range(vm.ctl[VM.nr_cpus]):
            pcp_pages += mem.pcp[cpu, z, PCP.count]
        active += mem.zone[z, ZONE.nr_active]
        inactive += mem.zone[z, ZONE.nr_inactive]
    row[SERIES.pcp_pages] = pcp_pages
    row[SERIES.active] = active
    row[SERIES.inactive] = inactive
    row[SERIES.slab_pages] = heap_pages(heap)
    row[SERIES.writeback] = vm.ctl[VM.writeback]
    row[SERIES.bios] = io.ctl[IO.bios]
    row[SERIES.commands] = io.ctl[IO.device_busy]
    row[SERIES.requests] = io.ctl[IO.count]
    row[SERIES.plugged] = io.ctl[IO.plugged]
    bio_cache = vm.roles[ROLE.bio]
    row[SERIES.bio_slabs] = cache_slabs(heap, bio_cache)
    row[SERIES.bio_free_slots] = free_objects(heap, bio_cache)
    row[SERIES.bio_pool] = pools.pool[POOL.bio, MEMPOOL.curr]
    row[SERIES.free_list] = io.ctl[IO.free_list]
    row[SERIES.running] = running_tasks(vm)
    row[SERIES.bio_waiters] = pool_waiters(vm)
    row[SERIES.request_waiters] = vm.ctl[VM.sleepers[TASK_STATE.request]]
    row[SERIES.congestion_waiters] = vm.ctl[VM.sleepers[TASK_STATE.congestion]]
    row[SERIES.i_mutex_waiters] = vm.ctl[VM.sleepers[TASK_STATE.i_mutex]]
    row[SERIES.reclaimers] = vm.ctl[VM.reclaimers]
    row[SERIES.sense_fail] = out.metric[METRIC.sense_fail]
    row[SERIES.free_list_used] = out.metric[METRIC.free_list_used]
    row[SERIES.commands_total] = out.metric[METRIC.commands]
    row[SERIES.swapped_out] = out.metric[METRIC.pages_swapped_out]
    row[SERIES.pages_copied] = out.metric[METRIC.pages_copied]
    row[SERIES.reports] = mem.ctl[MEMCTL.reports]
    row[SERIES.reports_suppressed] = mem.ctl[MEMCTL.suppressed]


@internal
def reserve_idle(mem, heap, pools, io, vm):
    """Bytes set aside for a shortage and not in use: elements of mempools, commands on free_lists with their sense
    buffers, spare pages, emergency pages that are free, free objects of emergency caches of their own."""
    out_of_line()
    page = page_bytes(mem)
    idle = aside_bytes(mem, heap) + page * mem.ctl[MEMCTL.nr_spare]
    idle += io.ctl[IO.free_list] * vm.ctl[VM.command_bytes]
    for p in range(pools.pool.shape[0]):
        idle += pools.pool[p, MEMPOOL.curr] * pools.pool[p, MEMPOOL.bytes]
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        idle += page * min(mem.zone[z, ZONE.emergency], mem.zone[z, ZONE.free])
    for h in range(vm.host.shape[0]):
        idle += vm.host[h, HOST.aside] * vm.host[h, HOST.bytes]
    return idle


@internal
def observe(mem, heap, pools, io, vm, out):
    """A row of the series, or a look at what lies idle, whichever is due."""
    out_of_line()
    ctl = vm.ctl
    if ctl[VM.next_sample] == ctl[VM.next_series]:
        ctl[VM.next_sample] += ctl[VM.series_ns]
        sample(mem, heap, pools, io, vm, out)
    if ctl[VM.next_look] == ctl[VM.next_series]:
        ctl[VM.next_look] += LOOK_NS
        ctl[VM.looks] += 1
        ctl[VM.idle_sum] += reserve_idle(mem, heap, pools, io, vm)
    ctl[VM.next_series] = min(ctl[VM.next_sample], ctl[VM.next_look])


@internal
def check_livelock(mem, heap, pools, io, vm, out):
    """The pause has lasted 5 s (then 60 s): queue waiting, no command in flight, every attempt refused, and every
    reclaimer asleep. While one is runnable the verdict waits for the next tick."""
    out_of_line()
    ctl = vm.ctl
    if elv_queue_empty(io) or io.ctl[IO.device_busy] > 0:
        ctl[VM.livelock_check] = ms.NEVER
        return
    if ctl[VM.livelock_stage] == 1:
        ctl[VM.livelock_stage] = 2
        ctl[VM.livelock_check] = ms.NEVER
        out.metric[METRIC.livelock_60s] = 1
        log_event(vm, out, EVENT.livelock_60s, -1, -1, io.ctl[IO.bios], ctl[VM.writeback], 0)
        return
    if not reclaimers_asleep(vm):
        ctl[VM.livelock_check] += ctl[VM.jiffy_ns]
        return
    ctl[VM.livelock_stage] = 1
    ctl[VM.livelock_check] = ctl[VM.livelock_since] + LIVELOCK_LONG_NS
    out.metric[METRIC.livelock_5s] = 1
    out.metric[METRIC.livelocks] += 1
    bio_cache = vm.roles[ROLE.bio]
    slots = free_objects(heap, bio_cache)
    bios = io.ctl[IO.bios]
    writeback = ctl[VM.writeback]
    log_event_at(vm, out, ctl[VM.livelock_since], EVENT.livelock_begin, bios, writeback, slots)
    log_event(vm, out, EVENT.livelock_5s, -1, -1, bios, writeback, slots)
    if out.metric[METRIC.at_ms] >= 0:
        return
    metric = out.metric
    metric[METRIC.at_ms] = ctl[VM.now] // ms.NS_PER_MS
    metric[METRIC.at_commands] = io.ctl[IO.device_busy]
    metric[METRIC.at_bios] = bios
    metric[METRIC.at_writeback] = writeback
    metric[METRIC.at_bio_slabs] = cache_slabs(heap, bio_cache)
    metric[METRIC.at_bio_free_slots] = slots
    metric[METRIC.at_bio_pool] = pools.pool[POOL.bio, MEMPOOL.curr]
    metric[METRIC.at_bio_waiters] = pool_waiters(vm)
    metric[METRIC.at_request_waiters] = ctl[VM.sleepers[TASK_STATE.request]]
    metric[METRIC.at_running] = running_tasks(vm)
    note_zones(mem, ZONE.free, metric[METRIC.at_free[:]])
    metric[METRIC.at_deep_slots] = deep_objects(heap, bio_cache)
    metric[METRIC.at_sense_fail_5s] = out.metric[METRIC.sense_fail] - ctl[VM.livelock_sense]


@internal
def note_reports(mem, vm, out):
    """Log the allocation failure reports printed since the last look."""
    cpu = mem.ctl[MEMCTL.report_cpu]
    while out.ctl[OUT_CTL.reports] < mem.ctl[MEMCTL.reports]:
        out.ctl[OUT_CTL.reports] += 1
        t = current_task(vm, cpu)
        log_event(
            vm,
            out,
            EVENT.report,
            cpu,
            t,
            mem.ctl[MEMCTL.report_gfp],
            mem.ctl[MEMCTL.report_order],
            mem.ctl[MEMCTL.last_missed],
        )

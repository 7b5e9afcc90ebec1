"""What a lane notices about itself: gauges, livelock, reports. Nothing here changes the machine."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmem_inspect import aside_bytes, cache_slabs, deep_objects, free_objects, heap_pages
from fastalloc.kernels.alloc.mempool import MP_BYTES, MP_CURR
from fastalloc.kernels.block.scsi import LIVELOCK_LONG_NS
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import log_event, log_event_at, reclaimers_asleep

SENSE_FAIL = metrics.METRICS.index("sense_fail")
FREE_LIST_USED = metrics.METRICS.index("free_list_used")
COMMANDS = metrics.METRICS.index("commands")
PAGES_SWAPPED_OUT = metrics.METRICS.index("pages_swapped_out")
PAGES_COPIED = metrics.METRICS.index("pages_copied")
LIVELOCK_5S = metrics.METRICS.index("livelock_5s")
LIVELOCK_60S = metrics.METRICS.index("livelock_60s")
LIVELOCKS = metrics.METRICS.index("livelocks")
AT_MS = metrics.METRICS.index("at_ms")
E_REPORT = metrics.EVENTS.index("report")
E_LIVELOCK_BEGIN = metrics.EVENTS.index("livelock_begin")
E_LIVELOCK_5S = metrics.EVENTS.index("livelock_5s")
E_LIVELOCK_60S = metrics.EVENTS.index("livelock_60s")

LOOK_NS = 100 * ms.NS_PER_MS


@internal
def running_tasks(vm):
    """Tasks on a run queue."""
    running = 0
    for cpu in range(vm.ctl[ms.V_NR_CPUS]):
        running += vm.cpu[cpu, ms.CPU_RUNNING]
    return running


@internal
def pool_waiters(vm):
    """Tasks asleep in the bio or biovec mempool."""
    return vm.ctl[ms.V_SLEEPERS + ms.SLEEP_BIO_POOL] + vm.ctl[ms.V_SLEEPERS + ms.SLEEP_BIOVEC_POOL]


@internal
def sample(mem, heap, pools, io, vm, out):
    """Write one row of the series, in the order of metrics.SERIES."""
    out_of_line()
    n = out.ctl[ms.OUT_SAMPLES]
    if n >= out.series.shape[0]:
        return
    out.ctl[ms.OUT_SAMPLES] = n + 1
    row = out.series[n]
    zones = mem.ctl[st.M_NR_ZONES]
    row[0] = vm.ctl[ms.V_NOW] // ms.NS_PER_MS
    row[1] = mem.zone[0, st.Z_FREE] if zones > 1 else 0
    row[2] = mem.zone[zones - 1, st.Z_FREE]
    for z in range(zones):
        for cpu in range(vm.ctl[ms.V_NR_CPUS]):
            row[3] += mem.pcp[cpu, z, st.PCP_COUNT]
        row[4] += mem.zone[z, st.Z_NR_ACTIVE]
        row[5] += mem.zone[z, st.Z_NR_INACTIVE]
    row[6] = heap_pages(heap)
    row[7] = vm.ctl[ms.V_WRITEBACK]
    row[8] = io.ctl[ms.H_BIOS]
    row[9] = io.ctl[ms.H_BUSY]
    row[10] = io.ctl[ms.Q_COUNT]
    row[11] = io.ctl[ms.Q_PLUGGED]
    bio_cache = vm.roles[ms.ROLE_BIO]
    row[12] = cache_slabs(heap, bio_cache)
    row[13] = free_objects(heap, bio_cache)
    row[14] = pools.pool[ms.POOL_BIO, MP_CURR]
    row[15] = io.ctl[ms.H_FREE_LIST]
    row[16] = running_tasks(vm)
    row[17] = pool_waiters(vm)
    row[18] = vm.ctl[ms.V_SLEEPERS + ms.SLEEP_REQUEST]
    row[19] = vm.ctl[ms.V_SLEEPERS + ms.SLEEP_CONGESTION]
    row[20] = vm.ctl[ms.V_RECLAIMERS]
    row[21] = out.metric[SENSE_FAIL]
    row[22] = out.metric[FREE_LIST_USED]
    row[23] = out.metric[COMMANDS]
    row[24] = out.metric[PAGES_SWAPPED_OUT]
    row[25] = out.metric[PAGES_COPIED]
    row[26] = mem.ctl[st.M_REPORTS]
    row[27] = mem.ctl[st.M_SUPPRESSED]


@internal
def reserve_idle(mem, heap, pools, io, vm):
    """Bytes set aside for a shortage and not in use: elements of mempools, commands on free_lists with their sense
    buffers, spare pages, emergency pages that are free, free objects of emergency caches of their own."""
    out_of_line()
    idle = aside_bytes(mem, heap) + 4096 * mem.ctl[st.M_NR_SPARE]
    idle += io.ctl[ms.H_FREE_LIST] * vm.ctl[ms.V_COMMAND_BYTES]
    for p in range(pools.pool.shape[0]):
        idle += pools.pool[p, MP_CURR] * pools.pool[p, MP_BYTES]
    for z in range(mem.ctl[st.M_NR_ZONES]):
        idle += 4096 * min(mem.zone[z, st.Z_EMERGENCY], mem.zone[z, st.Z_FREE])
    for h in range(vm.host.shape[0]):
        idle += vm.host[h, ms.F_ASIDE] * vm.host[h, ms.F_BYTES]
    return idle


@internal
def observe(mem, heap, pools, io, vm, out):
    """A row of the series, or a look at what lies idle, whichever is due."""
    out_of_line()
    ctl = vm.ctl
    if ctl[ms.V_NEXT_SAMPLE] == ctl[ms.V_NEXT_SERIES]:
        ctl[ms.V_NEXT_SAMPLE] += ctl[ms.V_SERIES_NS]
        sample(mem, heap, pools, io, vm, out)
    if ctl[ms.V_NEXT_LOOK] == ctl[ms.V_NEXT_SERIES]:
        ctl[ms.V_NEXT_LOOK] += LOOK_NS
        ctl[ms.V_LOOKS] += 1
        ctl[ms.V_IDLE_SUM] += reserve_idle(mem, heap, pools, io, vm)
    ctl[ms.V_NEXT_SERIES] = min(ctl[ms.V_NEXT_SAMPLE], ctl[ms.V_NEXT_LOOK])


@internal
def check_livelock(mem, heap, pools, io, vm, out):
    """The pause has lasted 5 s (then 60 s): queue waiting, no command in flight, every attempt refused, and every
    reclaimer asleep. While one is runnable the verdict waits for the next tick."""
    out_of_line()
    ctl = vm.ctl
    if io.ctl[ms.Q_HEAD] < 0 or io.ctl[ms.H_BUSY] > 0:
        ctl[ms.V_LIVELOCK_CHECK] = ms.NEVER
        return
    if ctl[ms.V_LIVELOCK_STAGE] == 1:
        ctl[ms.V_LIVELOCK_STAGE] = 2
        ctl[ms.V_LIVELOCK_CHECK] = ms.NEVER
        out.metric[LIVELOCK_60S] = 1
        log_event(vm, out, E_LIVELOCK_60S, -1, -1, io.ctl[ms.H_BIOS], ctl[ms.V_WRITEBACK], 0)
        return
    if not reclaimers_asleep(vm):
        ctl[ms.V_LIVELOCK_CHECK] += ctl[ms.V_JIFFY_NS]
        return
    ctl[ms.V_LIVELOCK_STAGE] = 1
    ctl[ms.V_LIVELOCK_CHECK] = ctl[ms.V_LIVELOCK_SINCE] + LIVELOCK_LONG_NS
    out.metric[LIVELOCK_5S] = 1
    out.metric[LIVELOCKS] += 1
    bio_cache = vm.roles[ms.ROLE_BIO]
    slots = free_objects(heap, bio_cache)
    bios = io.ctl[ms.H_BIOS]
    writeback = ctl[ms.V_WRITEBACK]
    log_event_at(vm, out, ctl[ms.V_LIVELOCK_SINCE], E_LIVELOCK_BEGIN, bios, writeback, slots)
    log_event(vm, out, E_LIVELOCK_5S, -1, -1, bios, writeback, slots)
    if out.metric[AT_MS] >= 0:
        return
    zones = mem.ctl[st.M_NR_ZONES]
    at = out.metric[AT_MS : AT_MS + 14]
    at[0] = ctl[ms.V_NOW] // ms.NS_PER_MS
    at[1] = io.ctl[ms.H_BUSY]
    at[2] = bios
    at[3] = writeback
    at[4] = cache_slabs(heap, bio_cache)
    at[5] = slots
    at[6] = pools.pool[ms.POOL_BIO, MP_CURR]
    at[7] = pool_waiters(vm)
    at[8] = ctl[ms.V_SLEEPERS + ms.SLEEP_REQUEST]
    at[9] = running_tasks(vm)
    at[10] = mem.zone[0, st.Z_FREE] if zones > 1 else 0
    at[11] = mem.zone[zones - 1, st.Z_FREE]
    at[12] = deep_objects(heap, bio_cache)
    at[13] = out.metric[SENSE_FAIL] - ctl[ms.V_LIVELOCK_SENSE]


@internal
def note_reports(mem, vm, out, cpu):
    """Log the allocation failure reports printed since the last look."""
    while out.ctl[ms.OUT_REPORTS] < mem.ctl[st.M_REPORTS]:
        out.ctl[ms.OUT_REPORTS] += 1
        t = vm.cpu[cpu, ms.CPU_HEAD] if vm.cpu[cpu, ms.CPU_RUNNING] > 0 else -1
        log_event(
            vm, out, E_REPORT, cpu, t, mem.ctl[st.M_REPORT_GFP], mem.ctl[st.M_REPORT_ORDER], mem.ctl[st.M_LAST_MISSED]
        )

"""A scenario as arrays: everything that the kernels read, and the room for everything they write."""

import math
from typing import NamedTuple

import numpy as np

from fastalloc.batch.background import background_arrays
from fastalloc.batch.heap import Heap, Layout, build_heap, build_layout
from fastalloc.batch.own_policy import own_policy
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.emergency_caches import EMERGENCY_CACHES
from fastalloc.kernels.alloc.entitlement import ENTITLEMENTS
from fastalloc.kernels.alloc.mempool import MEMPOOL_FIELDS, MEMPOOL_RULES, MP_BYTES, MP_CACHE, MP_MIN, MP_RULE, Pools
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import EVENT_COLUMNS, METRICS, SERIES, W_COMMAND, W_SENSE, WHO
from fastalloc.kernels.machine.boot import boot_lane
from fastalloc.linux import gfp as g
from fastalloc.linux.gfp import MAX_ORDER
from fastalloc.scenario.models import Policy, Scenario

PAGE_BYTES = 4096
WATERMARK_RULES = ("2.6.25", "6.3")  # by number, WATERMARKS_*
WRITE_GATES = {"none": -1, "min": st.Z_MIN, "low": st.Z_LOW, "high": st.Z_HIGH}
POOL_MINIMUM = (2, 2, 4, 2, 2, 2, 2, 2, 0)  # bio, biovec, request, five sg pools, sense
POOL_ROLES = (
    ms.ROLE_BIO,
    ms.ROLE_BIOVEC,
    ms.ROLE_REQUEST,
    ms.ROLE_SG8,
    ms.ROLE_SG16,
    ms.ROLE_SG32,
    ms.ROLE_SG64,
    ms.ROLE_SG128,
    ms.ROLE_SENSE,
)
FULL_LOG_EVENTS = 4_000_000
NOISE_RING = 4096
HOST_DEPTH = 32  # most commands in flight at a further host


class Lane(NamedTuple):
    """The arrays of one lane, by group."""

    mem: st.Mem
    heap: Heap
    pools: Pools
    io: ms.Io
    vm: ms.Vm
    out: ms.Out


def zone_frames(scenario: Scenario) -> list[int]:
    """Pages that each zone can hand out: what was free at boot, else all present pages."""
    machine = scenario.machine
    return [machine.free_pages.get(zone.name, zone.present) for zone in machine.zones]


def build_mem(scenario: Scenario, layout: Layout) -> st.Mem:
    """The page allocator's arrays from the machine's zones."""
    machine = scenario.machine
    frames = zone_frames(scenario)
    zones = len(frames)
    zone = np.zeros((zones, st.ZONE_FIELDS), np.int64)
    start = 0
    for z, description in enumerate(machine.zones):
        zone[z, st.Z_MIN] = description.min
        zone[z, st.Z_LOW] = description.low
        zone[z, st.Z_HIGH] = description.high
        zone[z, st.Z_PRESENT] = frames[z]
        zone[z, st.Z_SHORT] = description.min * scenario.policy.short_eighths // 8
        emergency = scenario.policy.emergency_pages + layout.reserve_pages
        zone[z, st.Z_EMERGENCY] = emergency * frames[z] // sum(frames)
        zone[z, st.Z_START] = start
        for j, reserve in enumerate(description.protection[:4]):
            zone[z, st.Z_RESERVE + j] = reserve
        zone[z, st.Z_BATCH] = description.pcp_batch
        zone[z, st.Z_PCP_HIGH] = description.pcp_high
        start += frames[z]
    page = np.zeros((start, st.PAGE_FIELDS), np.int32)
    ctl = np.zeros(st.MEMCTL_FIELDS, np.int64)
    ctl[st.M_MODEL] = st.MODEL_ZONES
    ctl[st.M_NR_ZONES] = zones
    ctl[st.M_HZ] = machine.hz
    ctl[st.M_TOKENS] = 10 * 5 * machine.hz
    policy = scenario.policy
    ctl[st.M_WATERMARK_RULE] = WATERMARK_RULES.index(policy.watermark_rule)
    ctl[st.M_ENTITLEMENT] = ENTITLEMENTS.index(policy.entitlement)
    ctl[st.M_SPARE_MOST] = policy.spare_pages
    ctl[st.M_PROBE_EVERY] = policy.probe_every
    ctl[st.M_PROBE_GFP] = g.POLITE if policy.probe_low else 0
    for bit, users in (
        (g.MEMALLOC, policy.memalloc),
        (g.HIGH, policy.high),
        (g.SHORT, policy.short),
        (g.TEMPORARY, policy.emergency_users),
    ):
        for user in users:
            ctl[st.M_GFP_ADD + WHO.index(user)] |= bit
    ctl[st.M_EMERGENCY] = EMERGENCY_CACHES.index(policy.emergency_caches)
    ctl[st.M_EMERGENCY_CACHE : st.M_EMERGENCY_CACHE + 4] = layout.emergency
    ctl[st.M_EMERGENCY_SLABS] = policy.emergency_slabs
    if policy.emergency_caches != "none":
        ctl[st.M_FREE] = st.FREE_NAMED if policy.emergency_free == "named" else st.FREE_BY_PAGE
        ctl[st.M_EMERGENCY_APART] = not policy.emergency_merge
    for who in (W_COMMAND, W_SENSE):  # charged while usage + 1 is less than the limit
        ctl[st.M_CHARGE_LIMIT + who] = policy.reserve_commands + 1 if policy.reserve_commands else 0
    ctl[st.M_PFMEMALLOC] = policy.entitlement == "pfmemalloc"
    answers = own_policy(policy.questions)
    ctl[st.M_ASK_ENTITLEMENT] = answers.entitlement
    ctl[st.M_ASK_DEPTH] = answers.depth
    ctl[st.M_ASK_FALLBACK] = answers.fallback
    ctl[st.M_POLICED] = (
        policy.entitlement in ("rank", "rank-posted", "no-watermarks")
        or policy.emergency_caches != "none"
        or answers.entitlement != 0
        or answers.fallback != 0
    )
    ctl[st.M_NR_NODES] = 1
    ctl[st.M_CPU_NODE_SHIFT] = 30  # every cpu on node 0
    return st.Mem(
        zone, np.zeros((zones, MAX_ORDER, 2), np.int64), np.zeros((machine.cpus, zones, 3), np.int64), page, ctl
    )


def build_io(scenario: Scenario, frames: int) -> ms.Io:
    """Queue, host and disk."""
    queue, host, disk, hz = scenario.queue, scenario.host, scenario.disk, scenario.machine.hz
    depth = min(host.queue_depth, host.can_queue)
    tasks = 1 + scenario.workload.copiers + scenario.workload.writers
    ctl = np.zeros(ms.IO_FIELDS, np.int64)
    for field in (ms.Q_HEAD, ms.Q_TAIL, ms.H_DISK_HEAD, ms.H_DISK_TAIL, ms.H_DONE_HEAD, ms.H_DONE_TAIL):
        ctl[field] = -1
    ctl[ms.Q_UNPLUG_JIFFY] = ms.NEVER
    ctl[ms.Q_NR_REQUESTS] = queue.nr_requests
    ctl[ms.Q_UNPLUG_THRESH] = queue.unplug_thresh
    ctl[ms.Q_UNPLUG_JIFFIES] = max(1, queue.unplug_ms * hz // 1000)
    ctl[ms.Q_MAX_SEGMENTS] = queue.max_segments
    ctl[ms.Q_NR_BATCHING] = queue.batch_requests
    ctl[ms.Q_BATCH_JIFFIES] = queue.batch_ms * hz // 1000
    ctl[ms.Q_MERGE] = queue.merge
    ctl[ms.H_DEPTH] = depth
    policy = scenario.policy
    free_list = depth if policy.command_rule == "prealloc" else host.free_list
    ctl[ms.H_RULE] = ms.COMMAND_RULES.index(policy.command_rule)
    ctl[ms.H_SENSE] = ms.SENSE_KINDS.index(policy.sense)
    ctl[ms.H_SENSE_ERRORS] = policy.sense_error_ppm
    ctl[ms.H_FREE_LIST_SIZE] = free_list
    ctl[ms.H_DISK_DONE_AT] = ms.NEVER
    ctl[ms.H_COMMAND_NS] = ms.NS_PER_S // disk.iops
    ctl[ms.H_PAGE_NS] = ms.NS_PER_S * PAGE_BYTES // disk.bytes_per_second
    ctl[ms.H_IRQ_CPU] = disk.irq_cpu
    ctl[ms.H_COMPLETION_DELAY] = disk.completion_delay_us * 1000
    ctl[ms.H_KBLOCKD_MEMALLOC] = policy.kblockd_memalloc
    return ms.Io(
        ctl,
        np.zeros((3 * queue.nr_requests // 2 + 2, ms.REQUEST_FIELDS), np.int64),
        np.zeros((frames + tasks, ms.BIO_FIELDS), np.int64),
        np.zeros((depth + 2, ms.COMMAND_FIELDS), np.int64),
        np.zeros((max(1, free_list), 2), np.int64),
        np.full((2, ms.HASH_BUCKETS), -1, np.int32),
    )


def command_bytes(policy: Policy, layout: Layout, sense: int) -> int:
    """What a command takes in its slab, with a sense buffer of cache ``sense`` where that is an object of its own."""
    own = layout.slot_bytes(layout.roles[ms.ROLE_COMMAND])
    return own + (layout.slot_bytes(sense) if policy.sense == "separate" else 0)


def file_scale(mean_pages: int) -> int:
    """Mean, in 1/1024 page, of the exponential whose whole part has the mean ``mean_pages - 1``."""
    return round(1024 / math.log1p(1 / (mean_pages - 1))) if mean_pages > 1 else 0


def build_vm(scenario: Scenario, layout: Layout, seed: int, lane: int) -> ms.Vm:
    """Tasks, CPUs, swap, workload and the further hosts."""
    machine, work, costs = scenario.machine, scenario.workload, scenario.costs
    tasks = 1 + work.copiers + work.writers
    tree_pages = work.tree_files * work.mean_file_pages * 5 // 4 + 2 * 64
    files = max(1, work.copiers * work.tree_files)
    pages = work.copiers * tree_pages + work.writers * work.writer_pages
    slots = max(256, machine.swap_pages // 256 * 256)
    ctl = np.zeros(ms.VM_FIELDS, np.int64)
    ctl[ms.V_JIFFY_NS] = ms.NS_PER_S // machine.hz
    ctl[ms.V_NR_CPUS] = machine.cpus
    ctl[ms.V_SWAPPINESS] = work.swappiness
    ctl[ms.V_SWAP_PAGES] = machine.swap_pages // 256 * 256
    ctl[ms.V_SWAP_FREE] = ctl[ms.V_SWAP_PAGES]
    ctl[ms.V_TREE_FILES] = work.tree_files
    ctl[ms.V_FILE_SCALE] = file_scale(work.mean_file_pages)
    ctl[ms.V_TREE_PAGES] = tree_pages
    ctl[ms.V_WRITER_PAGES] = work.writer_pages
    ctl[ms.V_SEED] = seed
    ctl[ms.V_LANE] = lane
    for mean, life, per_s, milliseconds in (
        (ms.V_NOISE_MEAN_NS, ms.V_NOISE_LIFE_NS, work.atomic_objects_per_s, work.atomic_object_ms),
        (ms.V_PAGE_NOISE_MEAN_NS, ms.V_PAGE_NOISE_LIFE_NS, work.atomic_pages_per_s, work.atomic_page_ms),
    ):
        ctl[mean] = ms.NS_PER_S // per_s if per_s > 0 else ms.NEVER
        ctl[life] = milliseconds * ms.NS_PER_MS
    for field in (ms.V_LIVELOCK_SINCE, ms.V_LIVELOCK_CHECK, ms.V_STALL_SINCE):
        ctl[field] = ms.NEVER
    ctl[ms.V_SQUEEZE] = {"none": -1, "atomic": g.IN_INTERRUPT, "reclaim": g.PF_MEMALLOC}[work.squeeze]
    ctl[ms.V_SERIES_NS] = scenario.run.series_ms * ms.NS_PER_MS
    ctl[ms.V_HOST_SLICE] = machine.host_slice_us * 1000
    ctl[ms.V_HOST_OVERLAP] = machine.host_overlap_us * 1000
    policy = scenario.policy
    ctl[ms.V_MEMPOOL_JIFFIES] = policy.mempool_timeout_s * machine.hz if policy.mempool_timeout_s > 0 else -1
    ctl[ms.V_MEMPOOL_WAKE_ONE] = policy.mempool_wake_one
    ctl[ms.V_SWAP_BIO_LIMIT] = policy.swap_bio_limit or ms.NEVER
    ctl[ms.V_RECLAIM_GATE] = policy.reclaim_gate
    ctl[ms.V_BIO_INLINE_VECS] = policy.bio_inline_vecs
    ctl[ms.V_ON_STACK_BIO] = policy.on_stack_bio
    ctl[ms.V_WRITE_GATE] = WRITE_GATES[policy.write_gate]
    ctl[ms.V_PUT_OFF_MOST] = policy.gate_pages
    hosts = np.zeros((len(layout.host_sense), ms.HOST_FIELDS), np.int64)
    hosts[:, ms.F_SENSE] = layout.host_sense
    hosts[:, ms.F_BYTES] = [command_bytes(policy, layout, cache) for cache in layout.host_sense]
    ctl[ms.V_COMMAND_BYTES] = command_bytes(policy, layout, layout.roles[ms.ROLE_SENSE])
    hosts[:, ms.F_MEAN_NS] = ms.NS_PER_S // work.host_commands_per_s
    hosts[:, ms.F_LIFE_NS] = work.host_command_ms * ms.NS_PER_MS
    return ms.Vm(
        ctl,
        np.zeros((tasks, ms.TASK_FIELDS), np.int64),
        np.zeros((machine.cpus, ms.CPU_FIELDS), np.int64),
        np.zeros((ms.NR_STATES, 2), np.int64),
        np.zeros(max(1, pages), np.int32),
        np.full((files, ms.FILE_FIELDS), -1, np.int64),
        np.zeros(slots, np.int8),
        np.zeros(slots // 256, np.int16),
        np.zeros((slots // 64, 2), np.int64),
        np.zeros((2, NOISE_RING, 3), np.int64),
        layout.roles,
        np.array([getattr(costs, name) for name in ms.COSTS], np.int64),
        hosts,
        np.zeros((len(hosts), HOST_DEPTH + 1, 5), np.int64),
        *background_arrays(scenario, layout.background),
    )


def build_out(scenario: Scenario, full_events: bool) -> ms.Out:
    """Room for metrics, series, events and ledger."""
    milliseconds = round(scenario.run.duration_s * 1000)
    events = FULL_LOG_EVENTS if full_events else scenario.run.max_events
    out = ms.Out(
        np.zeros(len(METRICS), np.int64),
        np.zeros((milliseconds // scenario.run.series_ms + 1, len(SERIES)), np.int64),
        np.zeros((events, len(EVENT_COLUMNS)), np.int64),
        np.zeros((len(WHO), st.NR_DEPTHS, len(WHO)), np.int64),
        np.zeros(4, np.int64),
    )
    out.ctl[ms.OUT_FULL] = full_events
    for name in ("livelock_onset_ms", "stall_onset_ms"):
        out.metric[METRICS.index(name)] = -1
    at = METRICS.index("at_ms")
    out.metric[at : METRICS.index("at_sense_fail_5s") + 1] = -1
    return out


def build_lane(
    scenario: Scenario,
    lane: int,
    seed: int,
    *,
    layout: Layout | None = None,
    full_events: bool = False,
    debug: bool = False,
    skip: bool = True,
) -> Lane:
    """A booted lane of a scenario (of one variant), ready for ``run_lane``; ``layout`` spares sizing the caches."""
    layout = layout or build_layout(scenario)
    frames = sum(zone_frames(scenario))
    work = scenario.workload
    mem = build_mem(scenario, layout)
    heap = build_heap(scenario, layout, frames)
    elements = max(8, scenario.policy.sense_pool)
    pools = Pools(np.zeros((ms.NR_POOLS, MEMPOOL_FIELDS), np.int64), np.zeros((ms.NR_POOLS, elements), np.int64))
    for p, (role, minimum) in enumerate(zip(POOL_ROLES, POOL_MINIMUM, strict=True)):
        pools.pool[p, MP_CACHE] = layout.roles[role]
        pools.pool[p, MP_MIN] = minimum
        pools.pool[p, MP_BYTES] = layout.slot_bytes(layout.roles[role])
        pools.pool[p, MP_RULE] = MEMPOOL_RULES.index(scenario.policy.mempool_rule)
    pools.pool[ms.POOL_SENSE, MP_MIN] = scenario.policy.sense_pool
    io = build_io(scenario, frames)
    vm = build_vm(scenario, layout, seed, lane)
    vm.ctl[ms.V_DEBUG] = debug
    vm.ctl[ms.V_SKIP] = skip
    out = build_out(scenario, full_events)
    boot_lane(
        mem,
        heap,
        pools,
        io,
        vm,
        out,
        layout.rows,
        work.copiers,
        work.writers,
        work.start_spread_ms * scenario.machine.hz // 1000,
    )
    return Lane(mem, heap, pools, io, vm, out)

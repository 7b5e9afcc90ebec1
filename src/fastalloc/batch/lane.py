"""A scenario as arrays: everything that the kernels read, and the room for everything they write."""

import math
from typing import NamedTuple

import numpy as np

from fastalloc.batch.background import background_arrays
from fastalloc.batch.booted import refuse_unbooted
from fastalloc.batch.bursts import burst_arrays
from fastalloc.batch.heap import Heap, Layout, build_heap, build_layout, slab_room
from fastalloc.batch.zones import lane_zones, pageblock_order
from fastalloc.compiler.aligned import zeros
from fastalloc.compiler.beside import compile_beside
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmem_inspect import overflowed
from fastalloc.kernels.alloc.mempool import MEMPOOL, MEMPOOL_RULES, Pools
from fastalloc.kernels.alloc.policy_record import MATCH_PFMEMALLOC
from fastalloc.kernels.alloc.state import AREA, DEPTH, MEMCTL, MIGRATE, PAGE, PCP, ZONE
from fastalloc.kernels.block.hosts import HOST_COMMAND
from fastalloc.kernels.lane import policy as lane_policy
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import GRANULARITY_NS, LATENCY_NS, WAKEUP_GRANULARITY_NS
from fastalloc.kernels.lane.metrics import EVENT_ROW, METRIC, SERIES, WHO, ZONES
from fastalloc.kernels.lane.state import BIO, COMMAND, COST, FILE, HOST, IO, MAPPING, OUT_CTL, POOL, REQUEST, ROLE, VM
from fastalloc.kernels.lane.step_draws import AT_ONCE
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE, WAITQ
from fastalloc.kernels.machine.boot import boot_lane, compile_boot
from fastalloc.kernels.machine.finish import compile_finish
from fastalloc.kernels.machine.run import compile_run
from fastalloc.kernels.workload.atomic_noise import NOISE, OBJECTS, PAGES
from fastalloc.linux import gfp as g
from fastalloc.linux.gfp import MAX_ORDER
from fastalloc.linux.watermarks import (
    calculate_pressure_threshold,
    calculate_threshold,
    era_of,
    marks_of,
    percpu_drift_mark,
)
from fastalloc.own.compiled import ask_by_slab, install, own_policy
from fastalloc.policy import NOT_SLUB, Policy
from fastalloc.scenario import load_scenario
from fastalloc.scenario.machine import NOT_THE_KERNELS
from fastalloc.scenario.models import Scenario

WRITE_GATES = {"none": -1, "min": ZONE.min, "low": ZONE.low, "high": ZONE.high}
POOL_MINIMUM = (2, 2, 2, 2, 2)  # the sg pools; those before and after them are sized by the policy
POOL_ROLES = (
    ROLE.bio,
    ROLE.biovec,
    ROLE.request,
    ROLE.sg8,
    ROLE.sg16,
    ROLE.sg32,
    ROLE.sg64,
    ROLE.sg128,
    ROLE.sense,
)
BOOT_SLABS = ("kmalloc-128", "kmalloc-16", "radix_tree_node")
FULL_LOG_EVENTS = 4_000_000
NOISE_RING = 4096
ROOM_STEP, MOST_ROOM = 8, 1 << 12  # how a lane's arrays grow that are too small
HOST_DEPTH = 32  # most commands in flight at a further host


class Lane(NamedTuple):
    """The arrays of one lane, by group."""

    mem: st.Mem
    heap: Heap
    pools: Pools
    io: ms.Io
    vm: ms.Vm
    out: ms.Out


def build_mem(scenario: Scenario, layout: Layout, room: int = 1) -> st.Mem:
    """The page allocator's arrays from the machine's zones; ``room`` as of ``build_heap``."""
    machine = scenario.machine
    described = lane_zones(machine)
    rules = marks_of(era_of(machine.base))
    zones = len(described)
    total = sum(each.frames for each in described)
    zone = np.zeros((zones, ZONE.width), np.int64)
    start = 0
    for z, each in enumerate(described):
        zone[z, ZONE.zone_name] = ZONES.index(each.name)
        zone[z, ZONE.min] = each.min
        zone[z, ZONE.low] = each.low
        zone[z, ZONE.high] = each.high
        zone[z, ZONE.present] = each.frames
        zone[z, ZONE.short] = each.min * scenario.policy.short_eighths // 8
        emergency = scenario.policy.emergency_pages + layout.reserve_pages
        zone[z, ZONE.emergency] = emergency * each.frames // total
        zone[z, ZONE.start] = start
        for j, reserve in enumerate(each.protection):
            zone[z, ZONE.reserve[j]] = reserve
        zone[z, ZONE.batch] = each.pcp_batch
        zone[z, ZONE.pcp_high] = each.pcp_high
        late = rules.counted != "exactly"
        normal = calculate_threshold(machine.cpus, each.present, machine.page_kb) if late else 0
        zone[z, ZONE.stat_threshold] = zone[z, ZONE.stat_thresholds[:]] = normal
        drift = percpu_drift_mark(machine.cpus, normal, each.min, each.low, each.high)
        if rules.kswapd_adds_up and drift:
            zone[z, ZONE.percpu_drift_mark] = drift
            zone[z, ZONE.stat_thresholds[1]] = calculate_pressure_threshold(machine.cpus, each.low, each.min)
        start += each.frames
    page = zeros((start, PAGE.width), np.int32)
    ctl = np.zeros(MEMCTL.width, np.int64)
    ctl[MEMCTL.model] = st.MODEL_ZONES
    ctl[MEMCTL.nr_zones] = zones
    ctl[MEMCTL.user_zones] = sum(each.name in NOT_THE_KERNELS for each in described)
    ctl[MEMCTL.by_batch] = {"by batch taken": 1, "by batch": 2}.get(rules.counted, 0)
    ctl[MEMCTL.idle_enters] = rules.idle_enters
    ctl[MEMCTL.page_doublings] = machine.page_kb.bit_length() - 3
    ctl[MEMCTL.hz] = machine.hz
    ctl[MEMCTL.tokens] = 10 * 5 * machine.hz
    policy = scenario.policy
    ctl[lane_policy.FIRST :] = lane_policy.columns(policy)
    ctl[MEMCTL.probe_gfp] = g.POLITE if policy.probe_low else 0
    for bit, users in (
        (g.MEMALLOC, policy.memalloc),
        (g.HIGH, policy.high),
        (g.SHORT, policy.short),
        (g.TEMPORARY, policy.emergency_users),
    ):
        for user in users:
            ctl[MEMCTL.gfp_add[WHO.names.index(user)]] |= bit
    ctl[MEMCTL.emergency_cache[:]] = layout.emergency
    if policy.emergency_caches != "none":
        ctl[MEMCTL.free] = st.FREE_NAMED if policy.emergency_free == "named" else st.FREE_BY_PAGE
        ctl[MEMCTL.emergency_nomerge] = not policy.emergency_merge
    for who in (WHO.command, WHO.sense):  # charged while usage + 1 is less than the limit
        ctl[MEMCTL.charge_limit[who]] = policy.reserve_commands + 1 if policy.reserve_commands else 0
    ctl[MEMCTL.slab_match] = MATCH_PFMEMALLOC if policy.entitlement == "pfmemalloc" else 0
    own = own_policy(*policy.answers)
    if own.text:
        ctl = install(own, ctl, machine.cpus, max(len(layout.rows), 1), room * slab_room(start))
    by_slab = policy.allocator != "slub"
    if by_slab:
        ask_by_slab(own, ctl)
    ctl[MEMCTL.policed] = (
        policy.entitlement in ("rank", "rank-posted", "no-watermarks")
        or policy.emergency_caches != "none"
        or ("entitlement" in own.address and not by_slab)
        or "fallback" in own.address
    )
    ctl[MEMCTL.nr_nodes] = 1
    ctl[MEMCTL.cpu_node_shift] = 30  # every cpu on node 0
    ctl[MEMCTL.pageblock_order] = order = pageblock_order(machine)
    return st.Mem(
        zone,
        np.zeros((zones, MIGRATE.width, MAX_ORDER, AREA.width), np.int64),
        np.zeros((zones, 1 + (int(zone[:, ZONE.present].max()) >> order if order else 0)), np.int64),
        np.zeros((machine.cpus, zones, PCP.width), np.int64),
        page,
        ctl,
    )


def build_io(scenario: Scenario, frames: int) -> ms.Io:
    """Queue, host and disk."""
    queue, host, disk, hz = scenario.queue, scenario.host, scenario.disk, scenario.machine.hz
    depth = min(host.queue_depth, host.can_queue)
    tasks = 1 + scenario.workload.copiers + scenario.workload.writers
    ctl = np.zeros(IO.width, np.int64)
    ctl[lane_policy.FIRST :] = lane_policy.columns(scenario.policy)
    for field in (
        IO.head,
        IO.tail,
        IO.dispatch_head,
        IO.dispatch_tail,
        IO.last_merge,
        IO.last_added,
        IO.next_rq,
        IO.disk_head,
        IO.disk_tail,
        IO.done_head,
        IO.done_tail,
        IO.slice_end,
    ):
        ctl[field] = -1
    ctl[IO.unplug_jiffy] = ms.NEVER
    ctl[IO.nr_requests] = queue.nr_requests
    ctl[IO.unplug_thresh] = queue.unplug_thresh
    ctl[IO.unplug_jiffies] = max(1, queue.unplug_ms * hz // 1000)
    ctl[IO.slice_jiffies] = hz // 25
    ctl[IO.fifo_jiffies] = hz // 4
    ctl[IO.max_segments] = queue.max_segments
    ctl[IO.nr_batching] = queue.batch_requests
    ctl[IO.batch_jiffies] = queue.batch_ms * hz // 1000
    ctl[IO.merge] = queue.merge
    ctl[IO.elevator] = ms.ELEVATORS.index(queue.elevator)
    ctl[IO.queue_depth] = depth
    policy = scenario.policy
    free_list = depth if policy.command_rule == "prealloc" else host.free_list
    ctl[IO.free_list_size] = free_list
    ctl[IO.disk_done_at] = ms.NEVER
    ctl[IO.command_ns] = ms.NS_PER_S // disk.iops
    ctl[IO.page_ns] = ms.NS_PER_S * scenario.machine.page_kb * 1024 // disk.bytes_per_second
    ctl[IO.irq_cpu] = disk.irq_cpu
    ctl[IO.completion_delay] = disk.completion_delay_us * 1000
    return ms.Io(
        ctl,
        np.zeros((3 * queue.nr_requests // 2 + 2, REQUEST.width), np.int64),
        zeros((min(frames, scenario.machine.swap_pages) + tasks, BIO.width), np.int64),  # a slot for each
        np.zeros((depth + 2, COMMAND.width), np.int64),
        np.zeros((max(1, free_list), ms.FREE_LIST.width), np.int64),
        np.full((2, ms.HASH_BUCKETS), -1, np.int32),
    )


def command_bytes(policy: Policy, layout: Layout, sense: int) -> int:
    """What a command takes in its slab, with a sense buffer of cache ``sense`` where that is an object of its own."""
    own = layout.slot_bytes(layout.roles[ROLE.command])
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
    ctl = np.zeros(VM.width, np.int64)
    ctl[lane_policy.FIRST :] = lane_policy.columns(scenario.policy)
    ctl[VM.jiffy_ns] = ms.NS_PER_S // machine.hz
    ctl[VM.nr_cpus] = machine.cpus
    ctl[VM.swappiness] = work.swappiness
    ctl[VM.locked_pages] = work.locked_pages
    ctl[VM.swap_pages] = machine.swap_pages // 256 * 256
    ctl[VM.swap_free] = ctl[VM.swap_pages]
    ctl[VM.tree_files] = work.tree_files
    ctl[VM.file_scale] = file_scale(work.mean_file_pages)
    ctl[VM.tree_pages] = tree_pages
    ctl[VM.writer_pages] = work.writer_pages
    ctl[VM.seed] = seed
    ctl[VM.draws_at_once] = AT_ONCE
    ctl[VM.lane] = lane
    for mean, life, per_s, milliseconds in (
        (VM.noise_mean_ns[OBJECTS], VM.noise_life_ns[OBJECTS], work.atomic_objects_per_s, work.atomic_object_ms),
        (VM.noise_mean_ns[PAGES], VM.noise_life_ns[PAGES], work.atomic_pages_per_s, work.atomic_page_ms),
    ):
        ctl[mean] = ms.NS_PER_S // per_s if per_s > 0 else ms.NEVER
        ctl[life] = milliseconds * ms.NS_PER_MS
    for field in (VM.livelock_since, VM.livelock_check, VM.stall_since):
        ctl[field] = ms.NEVER
    ctl[VM.next_reap] = ms.NS_PER_S if scenario.policy.allocator == "slab" else ms.NEVER  # only SLAB has a reaper
    ctl[VM.tells_current] = scenario.policy.allocator == "own"
    ctl[VM.adversary] = {"none": -1, "atomic": g.IN_INTERRUPT, "reclaim": g.PF_MEMALLOC}[work.adversary]
    ctl[VM.series_ns] = scenario.run.series_ms * ms.NS_PER_MS
    for boot in machine.boot_slabs if scenario.policy.allocator not in NOT_SLUB else []:  # slabs of SLUB
        place = BOOT_SLABS.index(boot.cache)
        ctl[VM.boot_slabs[place]], ctl[VM.boot_live[place]] = boot.slabs, boot.in_use
    ctl[VM.clock_by_ticks] = machine.sched_clock == "ticks"
    ctl[VM.shared_core] = machine.shared_core and machine.cpus > 1
    ctl[VM.tick_skew] = ctl[VM.jiffy_ns] // 2 // machine.cpus
    factor = machine.cpus.bit_length()  # 1 + floor(log2(CPUs)) [sched_init_smp]
    ctl[VM.latency] = LATENCY_NS * factor
    ctl[VM.granularity] = GRANULARITY_NS * factor
    ctl[VM.wakeup_granularity] = WAKEUP_GRANULARITY_NS * factor
    ctl[VM.highest_slot] = max(0, ctl[VM.swap_pages] - 1)
    policy = scenario.policy
    ctl[VM.mempool_jiffies] = policy.mempool_timeout_s * machine.hz if policy.mempool_timeout_s > 0 else -1
    ctl[VM.swap_bio_limit] = policy.swap_bio_limit or ms.NEVER
    ctl[VM.write_gate] = WRITE_GATES[policy.write_gate]
    hosts = np.zeros((len(layout.host_sense), HOST.width), np.int64)
    hosts[:, HOST.sense] = layout.host_sense
    hosts[:, HOST.bytes] = [command_bytes(policy, layout, cache) for cache in layout.host_sense]
    ctl[VM.command_bytes] = command_bytes(policy, layout, layout.roles[ROLE.sense])
    hosts[:, HOST.mean_ns] = ms.NS_PER_S // work.host_commands_per_s
    hosts[:, HOST.life_ns] = work.host_command_ms * ms.NS_PER_MS
    return ms.Vm(
        ctl,
        np.zeros((tasks + 2 * machine.cpus, TASK.width), np.int64),
        np.zeros((machine.cpus, CPU.width), np.int64),
        np.zeros((TASK_STATE.width, WAITQ.width), np.int64),
        zeros(max(1, pages), np.int32),
        zeros((files, FILE.width), np.int64),
        zeros((files, MAPPING.width), np.int8),
        zeros(slots, np.int8),
        zeros((slots // 64, ms.RADIX_NODE.width), np.int64),
        np.zeros((-(-slots // 4096), ms.RADIX_NODE.width), np.int64),
        np.zeros((machine.cpus, ms.RADIX_STOCK), np.int64),
        zeros((machine.cpus, ms.RCU_RING), np.int64),
        zeros((2, noise_room(scenario), NOISE.width), np.int64),
        layout.roles,
        np.array([getattr(costs, name) for name in COST.names], np.int64),
        hosts,
        np.zeros((len(hosts), HOST_DEPTH + 1, HOST_COMMAND.width), np.int64),
        *background_arrays(scenario, layout.background),
        *burst_arrays(scenario, layout.background, sum(each.frames for each in lane_zones(machine))),
    )


def noise_room(scenario: Scenario) -> int:
    """Places for the noise alive at once: six deviations above the mean of what Poisson arrivals keep alive, and
    no more than memory has room for."""
    work = scenario.workload
    frames = sum(zone.frames for zone in lane_zones(scenario.machine))
    slots = frames * scenario.machine.page_kb * 1024 // 8  # kmalloc gives no less than 8 bytes
    objects = min(work.atomic_objects_per_s * work.atomic_object_ms / 1000, slots)
    most = max(objects, min(work.atomic_pages_per_s * work.atomic_page_ms / 1000, frames))
    return NOISE_RING + round(most + 6 * math.sqrt(most))


def build_out(scenario: Scenario, full_events: bool) -> ms.Out:
    """Room for metrics, series, events and ledger."""
    milliseconds = round(scenario.run.duration_s * 1000)
    events = FULL_LOG_EVENTS if full_events else scenario.run.max_events
    out = ms.Out(
        np.zeros(METRIC.width, np.int64),
        zeros((milliseconds // scenario.run.series_ms + 1, SERIES.width), np.int64),
        zeros((events, EVENT_ROW.width), np.int64),
        np.zeros((WHO.width, DEPTH.width, len(WHO.names)), np.int64),
        np.zeros(4, np.int64),
    )
    out.ctl[OUT_CTL.full] = full_events
    for name in ("livelock_onset_ms", "stall_onset_ms", "oom_ms"):
        out.metric[METRIC.names.index(name)] = -1
    out.metric[METRIC.at_livelock[:]] = -1
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
    room: int = 1,
) -> Lane:
    """A booted lane of a scenario (of one variant), ready for ``run_lane``; ``layout`` spares sizing the caches.

    ``room``: how many times the usual slabs and objects there is room for; it changes no result.

    Raises
    ------
    InputError: what the kernel sets aside at boot cannot be had from the machine's memory.
    """
    layout = layout or build_layout(scenario)
    while True:
        arrays = _booted(scenario, lane, seed, layout, full_events, debug, skip, room)
        if not overflowed(arrays.heap) or room >= MOST_ROOM:
            break
        room *= ROOM_STEP
    if not overflowed(arrays.heap) and arrays.mem.ctl[MEMCTL.stopped] == 0:  # or the first event tells what failed
        refuse_unbooted(scenario, layout, arrays.mem, arrays.heap, arrays.pools, arrays.io, arrays.vm)
    return arrays


def _unbooted(
    scenario: Scenario, lane: int, seed: int, layout: Layout, full_events: bool, debug: bool, skip: bool, room: int
) -> Lane:
    """A lane before its boot."""
    frames = sum(each.frames for each in lane_zones(scenario.machine))
    mem = build_mem(scenario, layout, room)
    heap = build_heap(scenario, layout, frames, room)
    policy = scenario.policy
    minimum = (policy.bio_pool, policy.bio_pool, policy.request_pool, *POOL_MINIMUM, policy.sense_pool)
    elements = max(8, *minimum)
    pools = Pools(np.zeros((POOL.width, MEMPOOL.width), np.int64), np.zeros((POOL.width, elements), np.int64))
    for p, (role, elements) in enumerate(zip(POOL_ROLES, minimum, strict=True)):
        pools.pool[p, MEMPOOL.cache] = layout.roles[role]
        pools.pool[p, MEMPOOL.min] = elements
        pools.pool[p, MEMPOOL.bytes] = layout.slot_bytes(layout.roles[role])
        pools.pool[p, MEMPOOL.rule] = MEMPOOL_RULES.index(scenario.policy.mempool_rule)
    io = build_io(scenario, frames)
    vm = build_vm(scenario, layout, seed, lane)
    vm.ctl[VM.debug] = debug
    vm.ctl[VM.skip] = skip
    return Lane(mem, heap, pools, io, vm, build_out(scenario, full_events))


def _booted(
    scenario: Scenario, lane: int, seed: int, layout: Layout, full_events: bool, debug: bool, skip: bool, room: int
) -> Lane:
    """A lane after its boot, whatever came of it."""
    compile_beside(f"from {__name__} import compile_machine; compile_machine()")
    work = scenario.workload
    arrays = _unbooted(scenario, lane, seed, layout, full_events, debug, skip, room)
    spread = work.start_spread_ms * scenario.machine.hz // 1000
    boot_lane(*arrays, layout.rows, work.copiers, work.writers, spread)
    for t, at in enumerate(work.start_ms, start=1):  # as boot_tasks sets what it draws
        arrays.vm.task[t, TASK.wake_jiffy] = 1 + at * scenario.machine.hz // 1000
    return arrays


def compile_machine() -> None:
    """Compile the machine's programs, which are the same for every scenario and allocator, into the cache folder."""
    scenario = load_scenario("swap-livelock")
    scenario = scenario.variant(scenario.variants[0].name)
    mem, _, pools, io, vm, out = _unbooted(scenario, 0, 0, build_layout(scenario), False, False, True, 1)
    compile_boot(mem, pools, io, vm, out)
    compile_run(mem, pools, io, vm, out)
    compile_finish(mem, pools, io, vm, out)

"""A lane and the reference machine of the same scenario, side by side, and everything that is compared of them."""

from typing import Any
from unittest.mock import patch

import numpy as np

from fastalloc.batch import lane as lanes
from fastalloc.batch import zones
from fastalloc.batch.heap import build_layout
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, MEMCTL, PAGE, PCP, SLUB_SLAB, ZONE
from fastalloc.kernels.block.scsi import STREAM_DISK
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.due import SPIN_ONE_IN, STREAM_SPIN
from fastalloc.kernels.lane.metrics import EVENT
from fastalloc.kernels.lane.state import BIO, COMMAND, COST, IO, OUT_CTL, REQUEST, ROLE, VM
from fastalloc.kernels.lane.step_draws import STREAM_JITTER
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE
from fastalloc.kernels.machine.boot import STREAM_START
from fastalloc.kernels.machine.run import run_lane
from fastalloc.kernels.workload.atomic_noise import STREAM_ARRIVAL, STREAM_CPU
from fastalloc.kernels.workload.copiers import STREAM_FILE
from fastalloc.linux.watermarks import calculate_threshold
from fastalloc.scenario.models import Scenario
from tests.kernels import snapshot
from tests.reference.closed_loop.block import Settings
from tests.reference.closed_loop.interrupts import Arrivals
from tests.reference.closed_loop.machine import Machine, Setup
from tests.reference.page_alloc import Zone

BOOT_SLABS = {"kmalloc-128": "noise", "kmalloc-16": "biovec", "radix_tree_node": "radix"}
POOLS = ("bio", "biovec", "request", "sg8", "sg16", "sg32", "sg64", "sg128")
RUNNERS = {None: 0, "kblockd": 1, "reclaimer": 2, "softirq": 3}
WAITS = {
    "bio pool": TASK_STATE.bio_pool,
    "biovec pool": TASK_STATE.biovec_pool,
    "request pool": TASK_STATE.request_pool,
    "request": TASK_STATE.request,
    "congestion": TASK_STATE.congestion,
    "start": TASK_STATE.start,
    "kswapd": TASK_STATE.kswapd,
    "kthread": TASK_STATE.kthread,
    "i_mutex": TASK_STATE.i_mutex,
}
FLAGS = {
    "active": st.PG_ACTIVE, "referenced": st.PG_REFERENCED, "dirty": st.PG_DIRTY, "writeback": st.PG_WRITEBACK,
    "locked": st.PG_LOCKED, "reclaim": st.PG_RECLAIM, "anon": st.PG_ANON, "mapped": st.PG_MAPPED,
    "mlocked": st.PG_MLOCKED,
    "orphan": st.PG_ORPHAN, "isolated": st.PG_ISOLATED, "swapcache": st.PG_SWAPCACHE,
}  # fmt: skip


def setup_of(scenario: Scenario, lane: int, seed: int, pageblock_order: int) -> Setup:
    """The scenario as the reference takes it; random numbers are those of the lane."""
    machine, work, queue, host, disk = (
        scenario.machine, scenario.workload, scenario.queue, scenario.host, scenario.disk,
    )  # fmt: skip
    layout = build_layout(scenario)
    start, frames = 0, []
    for zone in zones.lane_zones(machine):
        reserve = (*zone.protection, 0, 0, 0, 0)[:4]
        marks = zone.min, zone.low, zone.high
        threshold = calculate_threshold(machine.cpus, zone.present)
        frames.append(
            Zone(
                start,
                zone.frames,
                *marks,
                reserve,
                zone.pcp_batch,
                zone.pcp_high,
                pageblock_order,
                stat_threshold=threshold,
            )
        )
        start += zone.frames
    caches = {}
    for role in ROLE.fields:
        index = int(layout.roles[role.number])
        row = layout.rows[index]
        caches[role.name] = {
            "index": index,
            "objects": int(row[KMEM_CACHE.objects]),
            "order": int(row[KMEM_CACHE.order]),
            "objsize": int(row[KMEM_CACHE.objsize]),
            "allocflags": int(row[KMEM_CACHE.allocflags]),
            "fallback": bool(row[KMEM_CACHE.fallback]),
            "min_partial": int(row[KMEM_CACHE.min_partial]),
        }
    hz = machine.hz
    policy = scenario.policy
    scale = lanes.file_scale(work.mean_file_pages)

    def drawn(stream: int, time: int, n: int = 0) -> np.int64:
        return np.uint64(rng.draw(seed, stream, lane, time, n)).astype(np.int64)

    def file_pages(t: int, tree: int, file: int) -> int:
        return min(64, 1 + int(rng.exponential_ns(drawn(STREAM_FILE, (t << 40) | (tree << 20) | file), scale)) // 1024)

    def step_jitter(number: int, cpu: int, cost: int) -> int:
        return int(rng.below(drawn(STREAM_JITTER, number, cpu), cost // 8 + 1)) - cost // 16

    def disk_jitter(number: int, service: int) -> int:
        return int(rng.below(drawn(STREAM_DISK, number), service // 16 + 1)) - service // 32

    def arrivals(wants: str, kind: int, per_s: int, milliseconds: int) -> Arrivals:
        mean = 10**9 // per_s if per_s else ms.NEVER

        def gap(stream: int, when: int) -> int:
            return int(rng.exponential_ns(drawn(stream, when), mean))

        return Arrivals(
            wants,
            milliseconds * ms.NS_PER_MS,
            gap(STREAM_START + 1 + kind, 0) if per_s else ms.NEVER,
            lambda when: int(rng.below(drawn(STREAM_CPU + kind, when), machine.cpus)),
            lambda when: gap(STREAM_ARRIVAL + kind, when),
        )

    in_order = sorted(machine.boot_slabs, key=lambda boot: list(BOOT_SLABS).index(boot.cache))
    spread = work.start_spread_ms * hz // 1000
    tasks = 1 + work.copiers + work.writers
    return Setup(
        zones=frames,
        caches=caches,
        cpus=machine.cpus,
        shared_core=machine.shared_core,
        clock_by_ticks=machine.sched_clock == "ticks",
        spins=lambda number: int(rng.below(drawn(STREAM_SPIN, number), SPIN_ONE_IN)) == 0,
        hz=hz,
        swap_pages=machine.swap_pages // 256 * 256,
        swappiness=work.swappiness,
        costs={name: int(getattr(scenario.costs, name)) for name in COST.names},
        queue=Settings(
            queue.nr_requests,
            queue.unplug_thresh,
            max(1, queue.unplug_ms * hz // 1000),
            queue.max_segments,
            queue.batch_requests,
            queue.batch_ms * hz // 1000,
            hz // 25,
            hz // 4,
            queue.merge,
            queue.elevator,
        ),
        queue_depth=min(host.queue_depth, host.can_queue),
        has_fix=policy.command_rule == "fix",
        free_list=host.free_list,
        command_ns=10**9 // disk.iops,
        page_ns=10**9 * 4096 // disk.bytes_per_second,
        irq_cpu=disk.irq_cpu,
        completion_delay=disk.completion_delay_us * 1000,
        mempool_timeout=policy.mempool_timeout_s * hz,
        pool_sizes=dict.fromkeys(POOLS, 2)
        | {"bio": policy.bio_pool, "biovec": policy.bio_pool, "request": policy.request_pool},
        copiers=work.copiers,
        writers=work.writers,
        tree_files=work.tree_files,
        tree_pages=work.tree_files * work.mean_file_pages * 5 // 4 + 2 * 64,
        writer_pages=work.writer_pages,
        starts=[at * hz // 1000 for at in work.start_ms]
        or [int(rng.below(drawn(STREAM_START, t), spread + 1)) for t in range(1, tasks)],
        file_pages=file_pages,
        step_jitter=step_jitter,
        disk_jitter=disk_jitter,
        arrivals=[
            arrivals("object", 0, work.atomic_objects_per_s, work.atomic_object_ms),
            arrivals("page", 1, work.atomic_pages_per_s, work.atomic_page_ms),
        ],
        locked_pages=work.locked_pages,
        boot_slabs=[(BOOT_SLABS[boot.cache], boot.slabs, boot.in_use) for boot in in_order],
    )


def vruntime_of(task) -> int:
    """What a queue is in order of."""
    return task.vruntime


class Twin:
    """A lane and its reference."""

    def __init__(self, scenario: Scenario, lane: int = 0, seed: int = 1, pageblock_order: int = 0):
        """``pageblock_order``: instead of the machine's, for which small ones have not the memory."""
        order = pageblock_order or zones.pageblock_order(scenario.machine)
        with patch.object(lanes, "pageblock_order", lambda _: order):
            self.lane = lanes.build_lane(scenario, lane, seed, full_events=True)
        self.real = Machine(setup_of(scenario, lane, seed, order))
        self.mem, self.heap, self.pools, self.io, self.vm, self.out = self.lane
        self.logged = 0

    def run(self, until: int) -> None:
        """Both to a time, ns."""
        run_lane(*self.lane, until)
        assert not any((self.vm.ctl[VM.error], self.mem.ctl[MEMCTL.stopped], self.vm.ctl[VM.overflow]))
        self.real.run(until)

    def step(self) -> None:
        """Both past the next event of the reference."""
        self.run(max(self.real.sched.now, self.real.next_event()[0]) + 1)

    def compare(self) -> None:
        """All that both have, most telling first."""
        self.compare_events()
        for part in (self.clocks, self.tasks, self.queue, self.scsi, self.lru, self.swap, self.pages, self.rcu):
            here, there = part()
            assert here == there, part.__name__
        for index, cache in self.real.cache_of_index.items():
            self.compare_cache(index, cache)

    # -- events

    def compare_events(self) -> None:
        """The log since the last comparison, with the time of every entry."""
        rows = self.out.event[self.logged : self.out.ctl[OUT_CTL.events]].tolist()
        self.logged += len(rows)
        here = [seen for row in rows if (seen := self.event_of(row))]
        there, self.real.log = self.real.log, []
        for mine, real in zip(here, there, strict=False):
            assert mine == real
        assert len(here) == len(there), (here[len(there) :], there[len(here) :])

    def event_of(self, row: list[int]) -> tuple | None:
        """An entry of the lane's log as the reference writes it; None for what it does not write."""
        at, kind, _cpu, task, a, b, c = row
        name = EVENT.names[kind]
        if name in ("sense_fail",):
            return at, name, -1, list(RUNNERS)[1 + a]
        if name == "command_start":
            return at, name, -1, a, list(RUNNERS)[1 + c], bool(b)
        if name in ("free_list_used", "command_end"):
            return at, name, -1, a
        if name in ("bio_wait", "request_wait", "congestion_wait", "reclaim_end", "tree_removed"):
            return at, name, task, a
        if name == "reclaim_begin":
            return at, name, task, b
        if name == "kswapd_wake":
            return at, name, task, a
        return None

    # -- state: what the lane has, and what the reference has

    def clocks(self):
        real = self.real
        here = [
            [
                self.queue_of(cpu),
                int(row[CPU.clock]),
                int(row[CPU.min_vruntime]),
                *(int(row[at]) for at in (CPU.rq_clock, CPU.clock_raw, CPU.tick_clock, CPU.idle_since)),
                int(row[CPU.picked]) if row[CPU.running] and not row[CPU.idle_current] else -1,
                int(row[CPU.resched]) if row[CPU.running] else 0,
                int(row[CPU.buddy]),
                int(row[CPU.request_fn]),
                bool(row[CPU.softirq]),
                bool(row[CPU.ticking]),
                int(row[CPU.stock]),
                int(row[CPU.kblockd]),
                int(row[CPU.vmstat_at]),
            ]
            for cpu, row in enumerate(self.vm.cpu)
        ]
        there = [
            [
                [task.number for task in (*cpu.tasks[: 1 if cpu.current else 0], *sorted(cpu.queue, key=vruntime_of))],
                cpu.clock,
                cpu.min_vruntime,
                cpu.rq_clock.value,
                cpu.rq_clock.looked,
                cpu.rq_clock.at_last_tick,
                cpu.rq_clock.idle_from,
                cpu.picked if cpu.current else -1,
                int(cpu.need_resched) if cpu.tasks else 0,
                cpu.buddy.number if cpu.buddy else -1,
                RUNNERS[cpu.request_fn],
                bool(cpu.softirq),
                cpu.ticking,
                len(cpu.stock),
                sum({"unplug": 1, "kick": 2}[work] for work in cpu.works),
                cpu.vmstat_at,
            ]
            for cpu in real.sched.cpus
        ]
        return here, there

    def queue_of(self, cpu: int) -> list[int]:
        """Who runs, and those that wait in the order of the kernel's tree."""
        row = self.vm.cpu[cpu]
        found, t = [], row[CPU.head]
        for _ in range(row[CPU.running]):
            found.append(int(t))
            t = self.vm.task[t, TASK.next]
        return found

    def tasks(self):
        real = self.real
        waits = {state: name for name, state in WAITS.items()}
        here = [
            (t, waits.get(int(row[TASK.state])), int(row[TASK.wake_jiffy]), int(row[TASK.cpu]), int(row[TASK.vruntime]),
             int(row[TASK.ran]), bool(row[TASK.context]), int(row[TASK.batch]))
            for t, row in enumerate(self.vm.task)
        ]  # fmt: skip
        there = [
            (
                task.number,
                task.waits_for,
                task.timer,
                task.cpu,
                task.vruntime,
                task.ran,
                task.io_context,
                task.nr_batch_requests,
            )
            for task in real.sched.tasks
        ]
        queues = {
            name: snapshot.chain(self.vm.waitq[state, 0], lambda t: self.vm.task[t, TASK.next])
            for name, state in WAITS.items()
        }
        real_queues = {name: [task.number for task in real.sched.wait_queues.get(name, ())] for name in WAITS}
        return (here, queues), (there, real_queues)

    def bios_of(self, r: int) -> list[tuple[int, int]]:
        bio = self.io.bio
        found = snapshot.chain(self.io.request[r, REQUEST.bio_head], lambda b: bio[b, BIO.next])
        assert len(found) == self.io.request[r, REQUEST.nr_bios]
        return [(int(bio[b, BIO.slot]), int(bio[b, BIO.page])) for b in found]

    def requests(self, head: int) -> list[list[tuple[int, int]]]:
        found = snapshot.chain(self.io.ctl[head], lambda r: self.io.request[r, REQUEST.next])
        return [self.bios_of(r) for r in found]

    def queue(self):
        q, ctl = self.real.queue, self.io.ctl
        bios = lambda request: [(bio.slot, bio.page.pfn) for bio in request.bios]  # noqa: E731
        here = (
            self.requests(IO.head), self.requests(IO.dispatch_head), int(ctl[IO.count]), int(ctl[IO.in_flight]),
            int(ctl[IO.dispatched]), bool(ctl[IO.full]), bool(ctl[IO.plugged]), int(ctl[IO.unplug_jiffy]),
            int(ctl[IO.last_position]), int(ctl[IO.bios]), int(ctl[IO.rq_in_driver]),
        )  # fmt: skip
        there = (
            [bios(request) for request in q.sorted], [bios(request) for request in q.queue_head], q.count, q.in_flight,
            q.dispatched, q.full, q.plugged, q.unplug_timer, q.last_position, self.real.bios, q.rq_in_driver,
        )  # fmt: skip
        return here, there

    def scsi(self):
        host, ctl = self.real.host, self.io.ctl
        commands = lambda head: snapshot.chain(ctl[head], lambda d: self.io.command[d, COMMAND.next])  # noqa: E731
        flying = [
            [self.bios_of(self.io.command[d, COMMAND.request]) for d in commands(k)]
            for k in (IO.disk_head, IO.done_head)
        ]
        real = [
            [[(bio.slot, bio.page.pfn) for bio in command.request.bios] for command in commands]
            for commands in (host.disk.commands, host.disk.done)
        ]
        here = (flying, int(ctl[IO.device_busy]), int(ctl[IO.free_list]), int(ctl[IO.disk_done_at]))
        there = (real, host.device_busy, len(host.free_list), host.disk.done_at)
        return here, there

    def lru(self):
        page = self.mem.page
        here, there = [], []
        for z, lru in enumerate(self.real.memory.zones):
            zone = self.mem.zone[z]
            lists = [
                snapshot.chain(zone[head], lambda p: page[p, PAGE.next])
                for head in (ZONE.active_head, ZONE.inactive_head)
            ]
            flags = [[{n for n, bit in FLAGS.items() if page[p, PAGE.flags] & bit} for p in pages] for pages in lists]
            slots = [
                [int(page[p, PAGE.slot]) if page[p, PAGE.flags] & st.PG_SWAPCACHE else None for p in pages]
                for pages in lists
            ]
            counts = [
                int(zone[c]) for c in (ZONE.scan_active, ZONE.scan_inactive, ZONE.pages_scanned, ZONE.all_unreclaimable)
            ]
            here.append((lists, flags, slots, counts))
            real = [list(lru.active), list(lru.inactive)]
            there.append(
                (
                    [[p.pfn for p in pages] for pages in real],
                    [[p.flags() for p in pages] for pages in real],
                    [[p.slot for p in pages] for pages in real],
                    [lru.nr_scan_active, lru.nr_scan_inactive, lru.pages_scanned, int(lru.all_unreclaimable)],
                )
            )
        memory = self.real.memory
        return (here, int(self.vm.ctl[VM.writeback]), int(self.vm.ctl[VM.anon_mapped])), (
            there, memory.writeback, memory.anon_mapped,
        )  # fmt: skip

    def swap(self):
        swap, ctl = self.real.memory.swap, self.vm.ctl
        here = (
            set(np.flatnonzero(self.vm.slot[: ctl[VM.swap_pages]]).tolist()), int(ctl[VM.lowest_slot]),
            int(ctl[VM.highest_slot]), int(ctl[VM.cluster_next]), int(ctl[VM.cluster_left]),
        )  # fmt: skip
        there = (swap.used, swap.lowest_bit, swap.highest_bit, swap.cluster_next, swap.cluster_nr)
        nodes = (
            int((self.vm.leaf[:, 1] > 0).sum()) + int((self.vm.middle[:, 0] >= 0).sum()) + int(ctl[VM.swap_top] >= 0)
        )
        return (*here, nodes), (*there, self.real.memory.swapper_space.nodes())

    def pages(self):
        real = self.real.allocator
        here = [
            (snapshot.free_area(self.mem, z), [snapshot.pcp_list(self.mem, cpu, z) for cpu in range(real.cpus)])
            for z in range(len(real.zones))
        ]
        there = [
            (zone.free_area, [list(real.pcp[cpu, z]) for cpu in range(real.cpus)]) for z, zone in enumerate(real.zones)
        ]
        ctl = self.mem.ctl
        here.append([self.mem.pcp[cpu, z, PCP.vm_stat_diff] for cpu, z in real.pcp])
        there.append(list(real.vm_stat_diff.values()))
        here.append((int(ctl[MEMCTL.failed]), int(ctl[MEMCTL.reports]), int(ctl[MEMCTL.suppressed])))
        there.append((real.failed, len(real.reports), real.suppressed))
        return here, there

    def rcu(self):
        rcu, ctl = self.real.rcu, self.vm.ctl
        here = [int(ctl[VM.rcu_cur]), int(ctl[VM.rcu_completed]), bool(ctl[VM.rcu_next_pending])]
        there = [rcu.cur, rcu.completed, rcu.next_pending]
        for cpu, data in enumerate(rcu.data):
            row = self.vm.cpu[cpu]
            here.append(
                [int(row[c]) for c in (CPU.rcu_done, CPU.rcu_current, CPU.rcu_next, CPU.rcu_pending, CPU.rcu_waited)]
            )
            there.append(
                [
                    len(data.donelist),
                    len(data.curlist),
                    len(data.nxtlist),
                    int(data.qs_pending),
                    int(cpu in rcu.cpumask),
                ]
            )
        return here, there

    def compare_cache(self, c: int, cache: Any) -> None:
        """Slabs, who owns them, and every free list."""
        heap = self.heap
        pfn = lambda s: int(heap.slab[s, SLUB_SLAB.pfn])  # noqa: E731
        for cpu, real in enumerate(cache.cpu):
            row = heap.kcpu[c, cpu]
            s = int(row[KMEM_CACHE_CPU.page])
            assert (pfn(s) if s >= 0 else None) == (real.slab.page if real.slab else None)
            if s >= 0:
                assert snapshot.free_objects(heap, s, row[KMEM_CACHE_CPU.freelist]) == list(real.freelist)
        assert [pfn(s) for s in snapshot.partial_list(heap, c)] == [slab.page for slab in cache.partial]
        live = {pfn(s): s for s in snapshot.live_slabs(heap, c)}
        assert live.keys() == {slab.page for slab in cache.slabs}
        for slab in cache.slabs:
            s = live[slab.page]
            assert heap.slab[s, SLUB_SLAB.inuse] == slab.inuse
            assert snapshot.free_objects(heap, s, heap.slab[s, SLUB_SLAB.freelist]) == list(slab.freelist)

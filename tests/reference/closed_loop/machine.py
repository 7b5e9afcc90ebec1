"""The machine: CPUs, disk and timers in order of time."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from tests.reference.closed_loop.block import RequestQueue, Settings
from tests.reference.closed_loop.interrupts import Arrivals
from tests.reference.closed_loop.memory import Memory
from tests.reference.closed_loop.rcu import Rcu
from tests.reference.closed_loop.sched import NEVER, Cpu, Scheduler, Task
from tests.reference.closed_loop.scsi import Caches, Command, Disk, Host
from tests.reference.closed_loop.swap_lock import SwapLock
from tests.reference.closed_loop.swapfile import SwapInfo
from tests.reference.closed_loop.tasks import GFP_HIGHUSER_PAGECACHE, copier, writer
from tests.reference.closed_loop.turns import Turns
from tests.reference.closed_loop.vmscan import Reclaim
from tests.reference.closed_loop.writepage import swap_writepage
from tests.reference.mempool import Mempool
from tests.reference.page_alloc import PLAIN, PageAllocator, Zone
from tests.reference.slub import Cache

QUANTUM = 20_000
BALANCE_INTERVAL = 64_000_000
GFP_KERNEL = 0xD0
SG_SIZES = (8, 16, 32, 64, 128)


@dataclass
class Pool(Mempool):
    """A mempool by its name."""

    name: str = ""


@dataclass
class Setup:
    """What a machine is made of. ``caches``: a cache for each role, the same one where roles are merged."""

    zones: list[Zone]
    caches: dict[str, dict[str, Any]]
    cpus: int
    shared_core: bool  # of a host: the CPUs take turns on it
    clock_by_ticks: bool  # the scheduler's
    spins: Any  # number of a turn that a timer ended -> whether its CPU held a lock that the next one asks for
    hz: int
    swap_pages: int
    swappiness: int
    costs: dict[str, int]
    queue: Settings
    queue_depth: int
    has_fix: bool
    free_list: int
    command_ns: int
    page_ns: int
    irq_cpu: int
    completion_delay: int
    mempool_timeout: int | None  # jiffies
    pool_sizes: dict[str, int]
    copiers: int
    writers: int
    tree_files: int
    tree_pages: int
    writer_pages: int
    starts: list[int]  # jiffy of each copier's and writer's first step
    file_pages: Any  # (task, tree, file) -> pages
    step_jitter: Any  # (draw, cpu, ns) -> ns more
    disk_jitter: Any  # (draw, ns) -> ns more
    arrivals: list[Arrivals]  # objects, then pages
    locked_pages: int  # mlocked ones of the tasks
    boot_slabs: list[tuple[str, int, int]]  # cache, slabs, objects in use beside those of pools and hosts


class Machine:
    """A machine of 2.6.25-rc8 under its load; :meth:`run` goes on to a time."""

    def __init__(self, setup: Setup):
        self.costs = setup.costs
        self.queue_depth = setup.queue_depth
        self.has_fix = setup.has_fix
        self.free_list_size = setup.free_list
        self.completion_delay = setup.completion_delay
        self.mempool_timeout = setup.mempool_timeout
        self.hz = setup.hz
        self.irq_cpu = setup.irq_cpu
        self.step_jitter = setup.step_jitter
        self.log: list[tuple] = []
        self.i_mutex = False  # of the directory in which copiers make theirs
        self.first_is_awake = False  # of those that wait for it; it has not looked yet
        self.bios = 0
        self.steps = 0
        self.services = 0
        self.idle_tick = NEVER
        self.shared_core = setup.shared_core and setup.cpus > 1
        self.swap_lock = SwapLock()
        self.taken: tuple[int, int, int] | None = None  # when swap_lock was, for how long, and the end of that turn
        self.spent = 0  # so far in this step
        self.sched = Scheduler(setup.cpus, 10**9 // setup.hz, setup.clock_by_ticks)
        self.sched.quiescent = self.quiescent
        self.turns = Turns(self.sched.cpus, self.is_busy, setup.spins, 3 * setup.costs["copy_page"])
        self.allocator = PageAllocator(setup.zones, setup.cpus, setup.hz)
        self.rcu = Rcu(self.sched.cpus, lambda cpu: cpu.ticking or self.is_busy(cpu))
        made: dict[int, Cache] = {}
        self.caches = {
            role: made.setdefault(
                spec["index"], Cache(self.allocator, **{k: v for k, v in spec.items() if k != "index"})
            )
            for role, spec in setup.caches.items()
        }
        self.cache_of_index = made
        swap = SwapInfo(setup.swap_pages)
        self.memory = Memory(self.allocator, self.sched, self.rcu, swap, self.caches["radix"])
        self.reclaim = Reclaim(self.memory, self, setup.costs, setup.swappiness)
        self.pools = {}
        for name, size in setup.pool_sizes.items():
            self.pools[name] = Pool(self.caches[name], size, name=name)
            self.pools[name].fill(0)
        self.queue = RequestQueue(setup.queue, self.sched, self.pools["request"])
        self.arrivals = setup.arrivals
        self.disk = Disk(setup.command_ns, setup.page_ns, self.service_jitter(setup.disk_jitter))
        caches = Caches(
            self.caches["command"],
            self.caches["sense"],
            self.pools["bio"],
            self.pools["biovec"],
            [self.pools[f"sg{size}"] for size in SG_SIZES],
        )
        self.host = Host(self, self.queue, self.memory, caches, self.disk)
        for _ in range(setup.free_list):
            command = self.caches["command"].alloc(0, GFP_KERNEL)
            self.host.free_list.append(Command(command, self.caches["sense"].alloc(0, GFP_KERNEL)))
        for name, slabs, in_use in setup.boot_slabs:
            self.boot_objects(self.caches[name], slabs, in_use)
        for cpu in range(setup.cpus):
            self.memory.cpu = cpu
            self.memory.preload(GFP_KERNEL, PLAIN)
        self.boot_locked(setup.locked_pages)
        self.allocator.kswapd_order = None
        for cpu in self.sched.cpus:
            cpu.vmstat_at = setup.hz + cpu.number
        self.boot_tasks(setup)

    def service_jitter(self, jitter: Any) -> Any:
        def more(service: int) -> int:
            self.services += 1
            return jitter(self.services, service)

        return more

    def boot_objects(self, cache: Cache, slabs: int, in_use: int) -> None:
        """Leave so many slabs of a cache, with so many objects more in use, evenly spread."""
        taken = []
        while len(cache.slabs) <= slabs:
            if (
                len(cache.slabs) == slabs
                and not any(slab.freelist for slab in cache.slabs)
                and not cache.cpu[0].freelist
            ):
                break
            taken.append(cache.alloc(0, GFP_KERNEL))
        for i, thing in enumerate(taken):
            if (i + 1) * in_use // len(taken) == i * in_use // len(taken):
                cache.free(0, thing)

    def boot_locked(self, pages: int) -> None:
        """The tasks' mlocked pages, on the active list for ever."""
        for _ in range(pages):
            page = self.memory.new_page(self.allocator.alloc_pages(0, GFP_HIGHUSER_PAGECACHE, 0).page)
            page.anon = page.mapped = page.mlocked = page.active = True
            self.memory.anon_mapped += 1
            page.zone.add(page)

    def boot_tasks(self, setup: Setup) -> None:
        """kswapd, copiers and writers, then ksoftirqd and kblockd of each CPU: all asleep."""
        kinds = ["kswapd"] + ["copier"] * setup.copiers + ["writer"] * setup.writers
        first_kthread = len(kinds)
        parent = Task(-1, "copier", 0)
        kinds += ["ksoftirqd"] * setup.cpus + ["kblockd"] * setup.cpus
        for number, kind in enumerate(kinds):
            task = Task(number, kind, 0 if number < first_kthread else (number - first_kthread) % setup.cpus)
            self.sched.tasks.append(task)
            if kind == "kswapd":
                task.program, task.waits_for = self.reclaim.kswapd(task), "kswapd"
            elif kind in ("ksoftirqd", "kblockd"):
                task.waits_for = "kthread"
            else:
                task.waits_for, task.timer, task.timer_turn = "start", 1 + setup.starts[number - 1], number
                self.sched.fork(parent, task, self.sched.cpus[0 if self.shared_core else setup.cpus > 1])
            if kind == "copier":
                lengths = lambda tree, file, number=number: setup.file_pages(number, tree, file)  # noqa: E731
                task.program = copier(self, task, setup.tree_files, setup.tree_pages, lengths)
            elif kind == "writer":
                task.program = writer(self, task, setup.writer_pages)
            self.sched.wait_queues.setdefault(task.waits_for, deque()).append(task)
        self.sched.timers_set = first_kthread
        self.ksoftirqd = self.sched.tasks[first_kthread : first_kthread + setup.cpus]
        self.kblockd = self.sched.tasks[first_kthread + setup.cpus :]

    # -- what the others ask for

    def event(self, kind: str, task: Task | None, *what: Any) -> None:
        self.log.append((self.sched.now, kind, task.number if task else -1, *what))

    def quiescent(self, cpu: Cpu) -> None:
        self.rcu.data[cpu.number].passed_quiesc = True

    def congestion_wait(self, task: Task, hz_fraction: int) -> None:
        """Sleep HZ/10 or HZ/50, less if a request ends."""
        self.event("congestion_wait", task, 1000 // hz_fraction)
        self.sched.sleep_on(task, "congestion", max(1, self.hz // hz_fraction))

    def putname(self, task: Task, path: Any) -> None:
        self.caches["path"].free(task.cpu, path)

    def begin_reclaim(self, task: Task, order: int) -> None:
        task.memalloc = task.in_reclaim = True
        self.event("reclaim_begin", task, order)

    def begin_balance(self, task: Task, order: int) -> None:
        task.memalloc = task.in_reclaim = True
        self.event("kswapd_wake", task, order)

    def swap_writepage(self, task: Task, page: Any, kept: list) -> Any:
        return swap_writepage(self, task, page, kept)

    # -- a CPU

    def irq_waits(self, cpu: Cpu) -> bool:
        return cpu.number == self.irq_cpu and bool(self.disk.done)

    def is_busy(self, cpu: Cpu) -> bool:
        return bool(cpu.tasks or cpu.softirq or cpu.request_fn or self.irq_waits(cpu))

    def timer_tick(self) -> None:
        """The unplug timer hands the queue to kblockd of its CPU; sleeps end."""
        sched = self.sched
        if self.queue.unplug_timer <= sched.jiffies:
            self.queue.unplug_timer = NEVER
            sched.timer_interrupt(sched.cpus[self.queue.unplug_cpu], sched.now)
            self.kblockd_work(sched.cpus[self.queue.unplug_cpu], "unplug")
        for cpu in sched.run_timers(sched.now):
            if self.shared_core:
                self.turns.start_timer = sched.now + sched.jiffy // 2, cpu
        for cpu in sched.interrupted:
            self.vmstat_update(cpu)
        sched.interrupted.clear()

    def kblockd_work(self, cpu: Cpu, work: str) -> None:
        if work not in cpu.works:
            cpu.works.append(work)
        if self.kblockd[cpu.number].waits_for:
            self.sched.wake(self.kblockd[cpu.number], self.sched.now)

    def rcu_tick(self, cpu: Cpu) -> None:
        task = self.ksoftirqd[cpu.number]
        self.memory.cpu = cpu.number
        if self.rcu.tick(cpu.number) and task.waits_for:
            self.sched.wake(task, self.sched.now)

    def vmstat_update(self, cpu: Cpu) -> None:
        """The first tick or timer of a CPU a second after the last one that did it."""
        if self.sched.jiffies >= cpu.vmstat_at:
            self.allocator.refresh_cpu_vm_stats(cpu.number)
            cpu.vmstat_at = self.sched.jiffies + self.hz

    def cpu_tick(self, cpu: Cpu, due: int, now: int) -> None:
        self.sched.scheduler_tick(cpu, now if self.shared_core else due)
        self.vmstat_update(cpu)
        self.rcu_tick(cpu)
        if len(self.sched.cpus) > 1:
            if len(cpu.tasks) > 1:
                for other in self.sched.cpus:
                    if not other.tasks:
                        self.sched.balance(other, now)
            if now >= cpu.next_balance:
                cpu.next_balance = now + BALANCE_INTERVAL
                self.sched.balance(cpu, now)

    def step(self, cpu: Cpu, now: int) -> None:
        """Whatever the CPU does next; its clock moves on."""
        sched = self.sched
        sched.waker, self.memory.cpu = cpu, cpu.number
        sets_timer = cpu.number in self.turns.has_to_rearm
        if not cpu.ticking:
            cpu.ticking, cpu.next_tick = True, sched.tick_after(cpu, now)
            sets_timer = True
        elif now >= cpu.next_tick:
            due, cpu.next_tick = cpu.next_tick, sched.tick_after(cpu, now)
            self.cpu_tick(cpu, due, now)
            sets_timer = True
        if self.shared_core and sets_timer:
            self.turns.timer_is_set(cpu, now, (self.irq_cpu, self.disk.done_at))
            if self.turns.now_runs is not cpu:
                sched.waker = None
                return
        if self.swap_lock.holder is cpu and not cpu.spins:
            self.swap_lock.unlock()
        task = None
        runner = cpu.request_fn
        if runner:
            cost = self.host.request_fn(cpu, cpu.request_fn)
        elif cpu.softirq or self.irq_waits(cpu):
            cost = self.softirq_step(cpu)
        else:
            if cpu.need_resched and not cpu.spins:
                sched.schedule(cpu, now)
            task = cpu.current
            cost = self.task_step(cpu, task)
            self.steps += 1
            cost += self.step_jitter(self.steps, cpu.number, cost)
        cost += self.rcu.ran[cpu.number] * self.costs["rcu_callback"]
        self.rcu.ran[cpu.number] = 0
        cpu.clock = now + max(1, cost)
        if task and task.waits_for:
            if not cpu.tasks and cpu.next_tick <= cpu.clock:
                cpu.rq_clock.tick(cpu.next_tick)
            sched.slept(cpu, task, cpu.clock)
            if not cpu.tasks and len(sched.cpus) > 1:
                sched.balance(cpu, cpu.clock)
        elif not cpu.tasks and runner and runner != "softirq":  # its caller sleeps since then
            cpu.rq_clock.idle_from = cpu.clock
        self.wake_kswapd(cpu.clock)
        if not cpu.tasks:
            self.note_idle_tick(cpu, cpu.clock)
        if cpu.spins and self.swap_lock.holder is not cpu:
            self.turns.leaves(cpu.clock)
        sched.waker = None

    # -- swap_lock, where a turn can end inside it

    def take_swap_lock(self, task: Task, held: int) -> bool:
        """For a page that is looked at next; False: its turn has ended, or it spins."""
        if self.shared_core:
            end = min(self.turns.end, self.disk.done_at)
            asked = self.sched.now + self.spent
            if asked > end or not self.swap_lock.lock(self.sched.cpus[task.cpu]):
                return False
            self.taken = asked + self.costs["scan_page"], held, end
        return True

    def keeps_swap_lock(self, cpu: Cpu) -> bool:
        """The page is done."""
        (at, held, end), self.taken = self.taken, None
        return self.swap_lock.keeps(cpu, at, held, end)

    def wake_kswapd(self, now: int) -> None:
        """A request found less than low [wakeup_kswapd]."""
        if self.allocator.kswapd_order is not None:
            self.reclaim.kswapd_max_order = max(self.reclaim.kswapd_max_order, self.allocator.kswapd_order)
            self.allocator.kswapd_order = None
            self.sched.wake_up_one("kswapd", now)

    def softirq_step(self, cpu: Cpu) -> int:
        cpu.softirq = cpu.softirq or self.host.completion(cpu)
        cost = next(cpu.softirq)
        if cpu.request_fn:
            cpu.softirq = None
        return cost

    def task_step(self, cpu: Cpu, task: Task) -> int:
        """The running task, for a quantum, or until it sleeps, submits, or must give way."""
        if task.kind in ("ksoftirqd", "kblockd"):
            return self.kthread_step(cpu, task)
        self.spent = 0
        while True:
            submitting = task.submitting
            more = next(task.program)
            if more is None:  # it spins
                return self.spent
            self.spent += more
            if self.taken and self.keeps_swap_lock(cpu):
                return self.spent
            if task.waits_for:
                return self.spent + self.costs["wake"]
            if self.spent >= QUANTUM or submitting or cpu.need_resched:
                return self.spent

    def kthread_step(self, cpu: Cpu, task: Task) -> int:
        if task.kind == "kblockd":
            if "kick" in cpu.works:  # cfq_kick_queue runs the queue, plugged or not
                self.queue.remove_plug()
                cpu.request_fn = "kblockd"
            else:
                self.queue.unplug(cpu, "kblockd")
            cpu.works.clear()
            self.sched.sleep_on(task, "kthread")
        elif not self.rcu.process_callbacks(cpu.number):
            self.sched.sleep_on(task, "kthread")
        return self.costs["wake"]

    # -- idle CPUs keep their tick while RCU needs it

    def note_idle_tick(self, cpu: Cpu, now: int) -> None:
        cpu.ticking = self.rcu.data[cpu.number].qlen > 0 or cpu.number in self.rcu.cpumask
        if cpu.ticking:
            if cpu.next_tick <= now:
                cpu.next_tick = self.sched.tick_after(cpu, now)
            self.idle_tick = min(self.idle_tick, cpu.next_tick)

    def idle_ticks(self, now: int) -> None:
        self.idle_tick = NEVER
        for cpu in self.sched.cpus:
            if cpu.tasks or not cpu.ticking:
                continue
            if cpu.next_tick <= now:
                cpu.next_tick = self.sched.tick_after(cpu, now)
                cpu.tick_load = 0
                cpu.rq_clock.tick_in_idle(now)
                self.vmstat_update(cpu)
                self.rcu_tick(cpu)
                self.rcu.ran[cpu.number] = 0  # nobody waits for an idle CPU
            if not cpu.tasks:
                self.note_idle_tick(cpu, now)

    # -- time

    def next_event(self) -> tuple[int, str, Cpu | None]:
        """When and what: of equal times the disk, timers, interrupts, idle ticks, then the CPUs in order."""
        timer = min(self.queue.unplug_timer, *(task.timer for task in self.sched.tasks))
        events = [
            (self.disk.done_at, 0, "disk", None),
            (timer * self.sched.jiffy if timer < NEVER else NEVER, 1, "tick", None),
            *((arrivals.due, 2 + i, arrivals.wants, None) for i, arrivals in enumerate(self.arrivals)),
            (self.idle_tick, 8, "idle ticks", None),
        ]
        able = [self.turns.now_runs] if self.shared_core else self.sched.cpus
        events += [(cpu.clock, 9 + cpu.number, "cpu", cpu) for cpu in able if self.is_busy(cpu)]
        at, _, what, cpu = min(events, key=lambda event: event[:2])
        return at, what, cpu

    def run(self, until: int) -> None:
        """All events before ``until``."""
        sched = self.sched
        while True:
            if self.shared_core and not self.is_busy(self.turns.now_runs):
                self.turns.leaves(sched.now)
            at, what, cpu = self.next_event()
            if at >= until:
                break
            if self.shared_core and what == "cpu" and at >= self.turns.end:  # where a step ends
                self.turns.timer_goes_off(at)
                continue
            sched.now = max(sched.now, at)
            self.allocator.jiffies = sched.jiffies
            if what == "disk":
                self.disk.finish(sched.now)
                irq = sched.cpus[self.irq_cpu]
                irq.clock = max(irq.clock, sched.now)
                if self.shared_core:
                    self.turns.has_to_rearm.add(self.irq_cpu)
                    self.turns.timer_goes_off(sched.now)
            elif what == "tick":
                self.timer_tick()
            elif what == "idle ticks":
                self.idle_ticks(sched.now)
            elif what in ("object", "page"):
                next(each for each in self.arrivals if each.wants == what).happen(self, sched.now)
                self.wake_kswapd(sched.now)
            else:
                self.step(cpu, sched.now)
        sched.now = until

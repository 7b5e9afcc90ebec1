"""Who runs on a CPU, who sleeps on what, and until when [kernel/sched_fair.c of 2.6.25-rc8, kernel/wait.c, timer.c]."""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from tests.reference.closed_loop.rq_clock import RunQueueClock

NICE_0_LOAD = 1024
NICE_MINUS_5 = 3121
MS = 1_000_000
NEVER = 1 << 62
KTHREADS = ("ksoftirqd", "kblockd")


@dataclass(eq=False)
class Task:
    """A task: its program is a generator, and its place in the scheduler."""

    number: int
    kind: str  # kswapd, copier, writer, ksoftirqd, kblockd
    cpu: int
    program: Generator[Any, None, Any] | None = None
    waits_for: str | None = None  # what it sleeps on; None: it is runnable
    timer: int = NEVER  # jiffy
    timer_turn: int = 0
    timed_out: bool = False
    vruntime: int = 0
    ran: int = 0
    memalloc: bool = False  # PF_MEMALLOC
    in_reclaim: bool = False
    submitting: bool = False  # between the page's turn and its submission
    io_context: bool = False
    nr_batch_requests: int = 0
    last_waited: int = -1
    at_limit: bool = False  # the queue was when it was charged
    pages_held: list[Any] = field(default_factory=list)  # off the LRU, in its hands
    cluster_found: bool | None = None  # how its search for a cluster ended

    @property
    def weight(self) -> int:
        return NICE_0_LOAD if self.kind in ("copier", "writer") else NICE_MINUS_5


@dataclass(eq=False)
class Cpu:
    """A CPU: its run queue, its clock, and what interrupts its task."""

    number: int
    rq_clock: RunQueueClock
    current: Task | None = None
    queue: list[Task] = field(default_factory=list)  # those that wait, in order of arrival
    clock: int = 0
    picked: int = 0  # when, by rq_clock
    exec_start: int = 0  # by rq_clock
    min_vruntime: int = 0
    buddy: Task | None = None
    need_resched: bool = False
    ticking: bool = False
    next_tick: int = 0
    tick_load: int = 0
    next_balance: int = 0
    vmstat_at: int = 0  # jiffies
    request_fn: Any = None  # who runs the request function here
    softirq: Any = None  # the completion that is being worked on
    works: list[str] = field(default_factory=list)  # kblockd's
    spins: bool = False  # for swap_lock, until it goes on with it
    stock: list[Any] = field(default_factory=list)  # radix nodes

    @property
    def tasks(self) -> list[Task]:
        return ([self.current] if self.current else []) + self.queue

    @property
    def load(self) -> int:
        return sum(task.weight for task in self.tasks)


def calc_delta(delta: int, weight: int, load: int) -> int:
    """``delta * weight / load`` as the kernel rounds it, by a 32-bit inverse [calc_delta_mine]."""
    inverse = (2**32 - load // 2) // (load + 1)

    def shifted(x: int, bits: int) -> int:
        return (x + 2 ** (bits - 1)) >> bits

    product = delta * weight
    if product > 2**32:
        return shifted(shifted(product, 16) * inverse, 16)
    return shifted(product * inverse, 32)


class Scheduler:
    """Run queues, wait queues and timers of a machine."""

    def __init__(self, cpus: int, jiffy: int, clock_by_ticks: bool = False):
        factor = 1 + (cpus.bit_length() - 1)  # 1 + floor(log2(CPUs)) [sched_init_smp]
        self.latency = 20 * MS * factor
        self.min_granularity = 4 * MS * factor
        self.wakeup_granularity = 5 * MS * factor
        self.jiffy = jiffy
        self.cpus = [Cpu(number, RunQueueClock(jiffy, clock_by_ticks)) for number in range(cpus)]
        self.waker: Cpu | None = None  # the CPU whose step it is
        self.now = 0
        self.wait_queues: dict[str, deque[Task]] = {}
        self.tasks: list[Task] = []
        self.timers_set = 0
        self.interrupted: list[Cpu] = []  # by a timer, their tick being stopped

    @property
    def jiffies(self) -> int:
        return self.now // self.jiffy

    def tick_after(self, cpu: Cpu, now: int) -> int:
        """Ticks of the CPUs are apart by half a jiffy shared among them."""
        skew = self.jiffy // 2 // len(self.cpus) * cpu.number
        return ((now - skew) // self.jiffy + 1) * self.jiffy + skew

    # -- the fair queue

    def leftmost(self, cpu: Cpu) -> Task | None:
        return min(cpu.queue, key=lambda task: task.vruntime, default=None)

    def charge(self, task: Task, ns: int) -> None:
        task.vruntime += ns if task.weight == NICE_0_LOAD else calc_delta(ns, NICE_0_LOAD, task.weight)

    def update_rq_clock(self, cpu: Cpu, now: int) -> None:
        if self.waker in (None, cpu):
            cpu.rq_clock.look(now)

    def charge_curr(self, cpu: Cpu, task: Task) -> None:
        self.charge(task, cpu.rq_clock.value - cpu.exec_start)
        cpu.exec_start = task.ran = cpu.rq_clock.value

    def update_curr(self, cpu: Cpu, now: int) -> None:
        self.update_rq_clock(cpu, now)
        if cpu.current:
            self.charge_curr(cpu, cpu.current)

    def sched_slice(self, cpu: Cpu) -> int:
        n = len(cpu.tasks)
        period = self.latency if n <= 5 else self.min_granularity * n
        return calc_delta(period, cpu.current.weight, cpu.load)

    def place_entity(self, cpu: Cpu, task: Task) -> None:
        """A sleeper gains the latency over the load of those queued: 20 s on an empty queue [rc6 to rc8]."""
        vruntime = cpu.min_vruntime
        first = self.leftmost(cpu)
        if first:
            vruntime = min(vruntime, first.vruntime)
        vruntime -= calc_delta(self.latency, NICE_0_LOAD, cpu.load)
        task.vruntime = max(task.vruntime, vruntime)

    def fork(self, parent: Task, child: Task, cpu: Cpu) -> None:
        """A child runs before its parent, and here sleeps before that goes on [task_new_fair, place_entity]."""
        child.cpu = cpu.number
        here = [parent] if cpu.number == parent.cpu else []
        load = sum(task.weight for task in (*here, child))
        child.vruntime = cpu.min_vruntime + self.latency * NICE_0_LOAD // load
        if here and parent.vruntime < child.vruntime:
            parent.vruntime, child.vruntime = child.vruntime, parent.vruntime
        for task in (child, *here):
            self.queue_up(cpu, task)
        for task in (child, *here):
            self.take_out(cpu, task)
        for other in self.cpus:  # all have slept since boot, so what moves between CPUs keeps its distance to them
            other.min_vruntime = cpu.min_vruntime

    def queue_up(self, cpu: Cpu, task: Task) -> None:
        """Into the tree; who is leftmost there raises min_vruntime [__enqueue_entity]."""
        cpu.queue.append(task)
        if self.leftmost(cpu) is task:
            cpu.min_vruntime = max(cpu.min_vruntime, task.vruntime)

    def take_out(self, cpu: Cpu, task: Task) -> None:
        """Out of the tree; whom the leftmost leaves to be leftmost raises min_vruntime [__dequeue_entity]."""
        was_first = self.leftmost(cpu) is task
        cpu.queue.remove(task)
        if cpu.buddy is task:
            cpu.buddy = None
        if was_first and cpu.queue:
            cpu.min_vruntime = max(cpu.min_vruntime, self.leftmost(cpu).vruntime)

    def link(self, cpu: Cpu, task: Task, now: int) -> None:
        """A runnable task joins a CPU; an idle one picks among those woken before its next step."""
        task.cpu = cpu.number
        self.queue_up(cpu, task)
        if len(cpu.tasks) > 1:
            return
        cpu.clock = max(cpu.clock, now)
        cpu.need_resched = True
        cpu.buddy = None
        self.quiescent(cpu)

    def quiescent(self, cpu: Cpu) -> None:
        """schedule() is a quiescent state of RCU."""

    def pick_next(self, cpu: Cpu) -> None:
        """The buddy, if it is within a granularity of the leftmost, else that one [pick_next_entity]."""
        load = cpu.load
        first = self.leftmost(cpu)
        buddy = cpu.buddy
        if (
            buddy
            and first
            and 0 <= buddy.vruntime - first.vruntime <= calc_delta(self.wakeup_granularity, NICE_0_LOAD, load)
        ):
            first = buddy
        cpu.current = first
        if first:
            self.take_out(cpu, first)
            cpu.picked = cpu.exec_start = first.ran = cpu.rq_clock.value

    def schedule(self, cpu: Cpu, now: int) -> None:
        """The running task, if any, gives way and stays runnable, behind its equals."""
        cpu.need_resched = False
        self.quiescent(cpu)
        if cpu.current:
            self.update_curr(cpu, now)
            current, cpu.current = cpu.current, None
            self.queue_up(cpu, current)
        elif cpu.queue:
            cpu.rq_clock.woken(now)
            cpu.rq_clock.look(now)
        self.pick_next(cpu)

    def scheduler_tick(self, cpu: Cpu, now: int) -> None:
        cpu.rq_clock.tick(now)
        if cpu.current:
            self.charge_curr(cpu, cpu.current)
        cpu.tick_load = cpu.load
        if cpu.current and cpu.queue and cpu.rq_clock.value - cpu.picked > self.sched_slice(cpu):
            cpu.need_resched = True

    def slept(self, cpu: Cpu, task: Task, now: int) -> None:
        """A step is over in which ``task`` went to sleep: it was charged to its end, and the next begins there."""
        self.update_rq_clock(cpu, now)
        self.charge_curr(cpu, task)
        cpu.picked = cpu.rq_clock.value
        if cpu.current:
            cpu.current.ran = cpu.rq_clock.value  # it was picked there [set_next_entity]
        cpu.rq_clock.idle_from = now

    def timer_interrupt(self, cpu: Cpu, now: int) -> None:
        """One timer ticks and does what is due, where the tick was stopped; else the tick comes by itself."""
        if not cpu.ticking:
            self.interrupted.append(cpu)
            if not cpu.tasks:
                cpu.rq_clock.tick_in_idle(now)

    # -- sleeping and waking

    def sleep_on(self, task: Task, what: str, timeout: int | None = None, exclusive: bool = False) -> None:
        """The running task sleeps: exclusive ones at the tail of the queue, the others at its head."""
        cpu = self.cpus[task.cpu]
        assert cpu.current is task
        cpu.current = None
        cpu.need_resched = False
        self.quiescent(cpu)
        if cpu.buddy is task:
            cpu.buddy = None
        self.pick_next(cpu)
        task.waits_for, task.timed_out = what, False
        waiters = self.wait_queues.setdefault(what, deque())
        if exclusive:
            waiters.append(task)
        else:
            waiters.appendleft(task)
        task.timer = NEVER
        if timeout is not None:  # the n-th tick from now [schedule_timeout]
            task.timer = self.jiffies + timeout
            self.timers_set += 1
            task.timer_turn = self.timers_set

    def wake(self, task: Task, now: int) -> None:
        self.wait_queues[task.waits_for].remove(task)
        task.waits_for, task.timer = None, NEVER
        cpu = self.select_task_rq(task)
        self.update_curr(cpu, now)
        self.place_entity(cpu, task)
        self.link(cpu, task, now)
        if cpu.current:
            self.check_preempt_wakeup(cpu, task)

    def check_preempt_wakeup(self, cpu: Cpu, task: Task) -> None:
        cpu.buddy = task
        granularity = self.wakeup_granularity
        if cpu.current.weight > NICE_0_LOAD:
            granularity = calc_delta(granularity, NICE_0_LOAD, cpu.current.weight)
        if task.vruntime + granularity < cpu.current.vruntime:
            cpu.need_resched = True

    def wake_up_all(self, what: str, now: int) -> int:
        """All non-exclusive sleepers, head first: newest first."""
        waiters = self.wait_queues.get(what, deque())
        woken = len(waiters)
        for _ in range(woken):
            self.wake(waiters[0], now)
        return woken

    def wake_up_one(self, what: str, now: int) -> None:
        waiters = self.wait_queues.get(what)
        if waiters:
            self.wake(waiters[0], now)

    def run_timers(self, now: int) -> list[Cpu]:
        """Sleeps that are over by now, in the order in which their timers were set; where tasks begin."""
        due = [task for task in self.tasks if task.timer <= self.jiffies]
        begin = []
        for task in sorted(due, key=lambda task: task.timer_turn):
            task.timed_out = True
            if task.waits_for == "start" and not task.ran:
                begin.append(self.cpus[task.cpu])
            self.timer_interrupt(self.cpus[task.cpu], now)
            self.wake(task, now)
        return begin

    # -- several CPUs

    def select_task_rq(self, task: Task) -> Cpu:
        """Where it ran, unless the waking CPU has room [select_task_rq_fair, wake_affine]."""
        here, previous = self.waker, self.cpus[task.cpu]
        if here is None or here is previous or task.kind in KTHREADS:
            return previous
        load = min(previous.load, previous.tick_load)
        this_load = max(here.load, here.tick_load)
        mean = here.load // len(here.tasks) if here.tasks else NICE_0_LOAD
        light = this_load <= load and this_load + max(previous.load, previous.tick_load) <= mean
        if light or 100 * (this_load + task.weight) <= 112 * load:
            task.vruntime += here.min_vruntime - previous.min_vruntime
            return here
        return previous

    def imbalance(self, cpu: Cpu, busiest: Cpu) -> int:
        """Load that brings neither beyond the mean of all, at least a task if there is one to be had
        [find_busiest_group]."""
        mean = sum(each.load for each in self.cpus) // len(self.cpus)
        if cpu.load >= mean or 100 * busiest.load <= 125 * cpu.load:
            return 0
        of_a_task = busiest.load // len(busiest.tasks)
        moved = 0
        if busiest.load >= mean:
            moved = min(busiest.load - mean, busiest.load - of_a_task, mean - cpu.load)
        if moved >= of_a_task:
            return moved
        least = 2 * of_a_task
        if cpu.tasks and of_a_task > cpu.load // len(cpu.tasks):
            least = of_a_task
        return of_a_task if busiest.load - cpu.load + NICE_0_LOAD >= least else 0

    def balance(self, cpu: Cpu, now: int) -> None:
        """Pull the imbalance from the busiest CPU, of tasks that are not cache-hot [load_balance, balance_tasks]."""
        others = [other for other in self.cpus if other is not cpu and len(other.tasks) > 1]
        if not others:
            return
        busiest = max(others, key=lambda other: other.load)
        left = self.imbalance(cpu, busiest)
        best = cpu.current.weight if cpu.current else 0
        for task in sorted(busiest.queue, key=lambda task: task.vruntime)[:33]:
            if left <= 0 or len(busiest.tasks) == 1:
                return
            hot = task is busiest.buddy or busiest.rq_clock.value - task.ran < 500_000
            if hot or task.kind in KTHREADS or (task.weight // 2 > left + NICE_0_LOAD and task.weight <= best):
                continue
            left -= task.weight
            best = max(best, task.weight)
            self.take_out(busiest, task)
            task.vruntime += cpu.min_vruntime - busiest.min_vruntime
            self.link(cpu, task, now)
            if cpu.current:
                self.check_preempt_wakeup(cpu, task)

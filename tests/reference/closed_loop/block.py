"""The request queue: merging, elevators, limits and waiting, plugging [block/blk-core.c, elevator.c, cfq-iosched.c]."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.reference.closed_loop.memory import Page
from tests.reference.closed_loop.sched import NEVER, Cpu, Scheduler, Task

CFQ_QUANTUM = 4
BACK_MAX = 4096  # pages: cfq_back_max, 16 MB
BACK_PENALTY = 2


@dataclass(eq=False)
class Bio:
    """A page on its way to a swap slot."""

    memory: Any
    page: Page
    slot: int = -1
    vec: Any = None


@dataclass(eq=False)
class Request:
    """Adjacent bios, in order of slots."""

    memory: Any
    bios: deque[Bio]
    nomerge: bool = False
    started: bool = False  # the driver has seen it
    command: Any = None
    start_time: int = 0  # jiffies

    @property
    def start(self) -> int:
        return self.bios[0].slot

    @property
    def end(self) -> int:
        return self.bios[-1].slot + 1


@dataclass
class Settings:
    """queue.* of a scenario, times in jiffies."""

    nr_requests: int
    unplug_thresh: int
    unplug_delay: int
    max_segments: int
    batch_requests: int
    batch_time: int
    slice_async: int
    fifo_expire: int
    merge: bool
    elevator: str


@dataclass
class RequestQueue:
    """struct request_queue of a disk that is only written to."""

    settings: Settings
    sched: Scheduler
    pool: Any  # mempool of requests
    sorted: list[Request] = field(default_factory=list)  # in the elevator
    queue_head: list[Request] = field(default_factory=list)  # the driver's
    last_merge: Request | None = None
    next_rq: Request | None = None  # cfqq->next_rq
    fifo: list[Request] = field(default_factory=list)  # those in the elevator, in order of arrival
    slice_end: int | None = None  # NEVER: the slice is new
    fifo_looked: bool = False  # in this slice
    count: int = 0
    in_flight: int = 0  # taken by the driver, not released
    dispatched: int = 0  # given to the driver, not complete
    rq_in_driver: int = 0  # seen by the driver, not complete
    full: bool = False
    plugged: bool = False
    unplug_timer: int = NEVER
    unplug_cpu: int = 0
    last_position: int = 0  # where the request ends that the driver has seen last

    @property
    def is_cfq(self) -> bool:
        return self.settings.elevator == "cfq"

    @property
    def empty(self) -> bool:
        """elv_queue_empty."""
        return not self.sorted and not self.queue_head

    # -- limits

    def ioc_batching(self, task: Task) -> bool:
        left = task.nr_batch_requests
        in_time = self.sched.jiffies < task.last_waited + self.settings.batch_time
        return left == self.settings.batch_requests or (left > 0 and in_time)

    def ioc_set_batching(self, task: Task) -> None:
        if not self.ioc_batching(task):
            task.nr_batch_requests = self.settings.batch_requests
            task.last_waited = self.sched.jiffies

    def charge(self, task: Task) -> bool:
        """The first half of get_request: may the queue have one more?"""
        limit = self.settings.nr_requests
        at_limit = self.count + 1 >= limit
        if at_limit:
            if not self.full:
                self.ioc_set_batching(task)
                self.full = True
            elif not self.ioc_batching(task):
                return False
        if self.count >= 3 * limit // 2:
            return False
        self.count += 1
        task.at_limit = at_limit
        return True

    def granted(self, task: Task) -> None:
        """Its second half, with the request at hand: a batcher's is counted, at the limit alone."""
        if task.at_limit and self.ioc_batching(task):
            task.nr_batch_requests -= 1

    def freed_request(self) -> None:
        """Below 103 of 128 every congestion_wait ends, whether the queue was congested or not [clear_bdi_congested]."""
        limit = self.settings.nr_requests
        self.count -= 1
        if self.count < max(1, limit - limit // 8 - limit // 16 - 1):
            self.sched.wake_up_all("congestion", self.sched.now)
        if self.count + 1 <= limit:
            self.sched.wake_up_one("request", self.sched.now)
            self.full = False

    def put_request(self, cpu: int, request: Request) -> None:
        """__blk_put_request: the pool's reserve first, whose sleepers all wake; then the count."""
        if self.pool.free(cpu, request.memory):
            self.sched.wake_up_all("request pool", self.sched.now)
        self.freed_request()

    # -- merging

    def merge(self, cpu: int, bio: Bio, task: Task) -> bool:
        """The first half of __make_request: whether the bio joined a waiting request.

        Asked is one request alone: that of the last merge, else the one that ends at the bio, else (CFQ) the one that
        begins behind it. If that is full it is never asked again, and the bio gets a request of its own.
        """
        if not self.settings.merge or (self.is_cfq and not task.io_context):
            return False
        request, at_the_front = self.elv_merge(bio)
        if request is None:
            return False
        if len(request.bios) == self.settings.max_segments:
            request.nomerge = True
            if self.last_merge is request:
                self.last_merge = None
            return False
        if at_the_front:
            request.bios.appendleft(bio)
            joined = self.attempt_merge(cpu, self.neighbour(request, -1), request)
        else:
            request.bios.append(bio)
            joined = self.attempt_merge(cpu, request, self.neighbour(request, 1))
        if not joined:
            if at_the_front and self.is_cfq:  # cfq_reposition_rq_rb
                self.sorted.remove(request)
                self.sort(request)
            self.last_merge = request
        return True

    def elv_merge(self, bio: Bio) -> tuple[Request | None, bool]:
        """A request and whether the bio would be its first."""
        able = [request for request in self.sorted if not request.nomerge]
        if self.last_merge in able:
            if self.last_merge.end == bio.slot:
                return self.last_merge, False
            if self.last_merge.start == bio.slot + 1:
                return self.last_merge, True
        for request in able:
            if request.end == bio.slot:
                return request, False
        for request in able if self.is_cfq else ():
            if request.start == bio.slot + 1:
                return request, True
        return None, False

    def neighbour(self, request: Request, step: int) -> Request | None:
        """The former or latter request: of CFQ's tree by sector, of noop's list by arrival."""
        place = self.sorted.index(request) + step
        return self.sorted[place] if 0 <= place < len(self.sorted) else None

    def attempt_merge(self, cpu: int, request: Request | None, following: Request | None) -> bool:
        """Two that meet become one; the second is released."""
        if request is None or following is None or request.nomerge or following.nomerge:
            return False
        if request.end != following.start or len(request.bios) + len(following.bios) > self.settings.max_segments:
            return False
        request.bios += following.bios
        request.start_time = min(request.start_time, following.start_time)
        self.remove(following)
        self.last_merge = request
        self.put_request(cpu, following)
        return True

    # -- the elevator

    def sort(self, request: Request) -> None:
        """CFQ's tree is sorted by sector; noop's list is in order of arrival."""
        place = len(self.sorted)
        while self.is_cfq and place and self.sorted[place - 1].start > request.start:
            place -= 1
        self.sorted.insert(place, request)
        self.next_rq = self.choose(self.next_rq, request)

    def remove(self, request: Request) -> None:
        """Out of the elevator; CFQ goes on with the better of its neighbours, round to the first [cfq_find_next_rq]."""
        place = self.sorted.index(request)
        self.sorted.remove(request)
        self.fifo.remove(request)
        if self.next_rq is request:
            following = self.sorted[place] if place < len(self.sorted) else (self.sorted or [None])[0]
            self.next_rq = self.choose(following, self.sorted[place - 1] if place else None)

    def choose(self, one: Request | None, other: Request | None) -> Request | None:
        """The nearer to where the driver is, a way back counted twice; what is further back than 16 MB comes after
        everything else, the lower first [cfq_choose_req]."""

        def distance(request: Request) -> tuple[int, int, int]:
            ahead = request.start - self.last_position
            if ahead < -BACK_MAX:
                return 1, request.start, 0
            return 0, (ahead if ahead >= 0 else -ahead * BACK_PENALTY), -request.start

        return min((request for request in (one, other) if request), key=distance, default=None)

    def add_request(self, cpu: Cpu, request: Request) -> None:
        """Insert a new request; with four waiting, a plugged queue is unplugged by the submitter [elv_insert]."""
        if self.empty:
            self.plug(cpu)
        self.last_merge = self.last_merge or request
        request.start_time = self.sched.jiffies
        self.fifo.append(request)
        self.sort(request)
        if self.plugged and self.count - self.in_flight >= self.settings.unplug_thresh:
            self.unplug(cpu, "reclaimer")

    def dispatch(self) -> None:
        """The driver's list is empty: what the elevator moves to it [cfq_dispatch_requests, noop_dispatch]."""
        if not self.is_cfq:
            if self.sorted:
                self.dispatch_sort(self.sorted[0])
            return
        while self.sorted and self.dispatched < 4 * CFQ_QUANTUM:
            if self.slice_end is None or self.sched.jiffies >= self.slice_end:
                self.slice_end, self.fifo_looked = NEVER, False
            for _ in range(CFQ_QUANTUM):
                if self.sorted:
                    self.dispatch_sort(self.check_fifo() or self.next_rq)
        if not self.sorted:
            self.slice_end = None

    def check_fifo(self) -> Request | None:
        """Once a slice, the oldest if it is old enough."""
        looked, self.fifo_looked = self.fifo_looked, True
        if looked or self.sched.jiffies < self.fifo[0].start_time + self.settings.fifo_expire:
            return None
        return self.fifo[0]

    def dispatch_sort(self, request: Request) -> None:
        """Sorted one way from the end of the request that the driver has seen last [elv_dispatch_sort]."""
        if self.last_merge is request:
            self.last_merge = None
        self.remove(request)
        self.dispatched += 1

        def turn(other: Request) -> tuple[bool, int]:
            return other.start < self.last_position, other.start

        place = len(self.queue_head)
        while place and not self.queue_head[place - 1].started and turn(self.queue_head[place - 1]) > turn(request):
            place -= 1
        self.queue_head.insert(place, request)

    def next_request(self) -> Request | None:
        """elv_next_request, up to the preparation of the request: from then on it is neither merged nor passed."""
        if not self.queue_head:
            self.dispatch()
        if not self.queue_head:
            return None
        request = self.queue_head[0]
        if not request.started:
            request.started = True
            self.rq_in_driver += 1
            self.last_position = request.end
        return request

    def dequeue(self, request: Request) -> None:
        self.queue_head.remove(request)
        self.in_flight += 1

    def completed(self) -> bool:
        """elv_completed_request; True: CFQ has requests and the driver none, so kblockd is to run the queue."""
        self.in_flight -= 1
        self.dispatched -= 1
        self.rq_in_driver -= 1
        if self.slice_end == NEVER:
            self.slice_end = self.sched.jiffies + self.settings.slice_async
        if self.slice_end is not None and self.sched.jiffies >= self.slice_end:
            self.slice_end = None
        return self.is_cfq and not self.rq_in_driver and bool(self.sorted)

    # -- plugging

    def plug(self, cpu: Cpu) -> None:
        """blk_plug_device: the timer of a plugged queue is not set again."""
        if not self.plugged:
            self.plugged = True
            self.unplug_timer = self.sched.jiffies + self.settings.unplug_delay
            self.unplug_cpu = cpu.number

    def remove_plug(self) -> bool:
        was, self.plugged, self.unplug_timer = self.plugged, False, NEVER
        return was

    def unplug(self, cpu: Cpu, runner: str) -> None:
        """Whoever unplugs a queue runs the request function on this CPU, from its next step on."""
        if self.remove_plug():
            cpu.request_fn = runner

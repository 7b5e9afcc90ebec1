"""SCSI: commands and sense buffers, dispatch, the disk, and what a completion frees in which order
[drivers/scsi/scsi.c, scsi_lib.c of 2.6.25-rc8, and scsi.c with 164fc5dc]."""

from dataclasses import dataclass, field
from typing import Any

from tests.reference.closed_loop.block import Request, RequestQueue
from tests.reference.closed_loop.memory import Memory
from tests.reference.closed_loop.sched import NEVER, Cpu
from tests.reference.page_alloc import Task as Context

GFP_ATOMIC = 0x20
CONTEXTS = {  # of whoever runs the request function
    "kblockd": Context(),
    "reclaimer": Context(memalloc=True),
    "softirq": Context(in_interrupt=True),
}


@dataclass(eq=False)
class Command:
    """A scsi_cmnd with its sense buffer, and with a request its sg table."""

    memory: Any
    sense: Any
    from_free_list: bool = False
    request: Request | None = None
    sg: Any = None
    sg_pool: Any = None


@dataclass
class Disk:
    """Commands one after the other; the time of each is 1/iops or the transfer's, whichever is longer."""

    command_ns: int
    page_ns: int
    jitter: Any  # of a service time
    commands: list[Command] = field(default_factory=list)
    done_at: int = NEVER
    done: list[Command] = field(default_factory=list)  # wait for the softirq

    def start(self, now: int) -> None:
        if not self.commands:
            self.done_at = NEVER
            return
        service = max(self.command_ns, len(self.commands[0].request.bios) * self.page_ns)
        self.done_at = now + service + self.jitter(service)

    def take(self, command: Command, now: int) -> None:
        self.commands.append(command)
        if len(self.commands) == 1:
            self.start(now)

    def finish(self, now: int) -> None:
        self.done.append(self.commands.pop(0))
        self.start(now)


@dataclass
class Caches:
    """The slab caches and mempools of the path."""

    command: Any
    sense: Any
    bio: Any  # mempools from here on
    biovec: Any
    sg: list[Any]


class Host:
    """One host with one device: device_busy is host_busy."""

    def __init__(self, machine: Any, queue: RequestQueue, memory: Memory, caches: Caches, disk: Disk):
        self.machine = machine
        self.queue = queue
        self.memory = memory
        self.caches = caches
        self.disk = disk
        self.depth = machine.queue_depth
        self.has_fix = machine.has_fix
        self.free_list_size = machine.free_list_size
        self.free_list: list[Command] = []
        self.device_busy = 0

    # -- commands

    def get_command(self, cpu: int, runner: str) -> Command | None:
        """The free_list after a failure; in rc8 not after that of the sense buffer, although it holds one as well."""
        context = CONTEXTS[runner]
        command = self.caches.command.alloc(cpu, GFP_ATOMIC, context)
        if command is not None:
            sense = self.caches.sense.alloc(cpu, GFP_ATOMIC, context)
            if sense is not None:
                return Command(command, sense)
            self.machine.event("sense_fail", None, runner)
            self.caches.command.free(cpu, command)
            if not self.has_fix:
                return None
        if not self.free_list:
            return None
        spare = self.free_list.pop()
        self.machine.event("free_list_used", None, self.device_busy)
        return Command(spare.memory, spare.sense, from_free_list=True)

    def put_command(self, cpu: int, command: Command) -> None:
        """The free_list first, if it is short of one; else the sense buffer, then the command to their slabs."""
        if len(self.free_list) < self.free_list_size:
            self.free_list.append(Command(command.memory, command.sense))
        else:
            self.caches.sense.free(cpu, command.sense)
            self.caches.command.free(cpu, command.memory)

    # -- dispatch

    def prep(self, cpu: int, runner: str, request: Request) -> bool:
        """scsi_setup_fs_cmnd: command, sense buffer, sg table; False defers the request, which stays at the head."""
        command = self.get_command(cpu, runner)
        if command is None:
            return False
        n = len(request.bios)
        pool = self.caches.sg[max(0, (n - 1).bit_length() - 3)]  # for 8, 16, 32, 64, 128 entries
        table = pool.alloc_round(cpu, GFP_ATOMIC, CONTEXTS[runner])
        if table is None:
            self.put_command(cpu, command)
            return False
        command.sg, command.sg_pool, command.request = table, pool, request
        request.command = command
        return True

    def request_fn(self, cpu: Cpu, runner: str) -> int:
        """One round of scsi_request_fn, ns; it prepares the next request before it looks at the device's depth."""
        costs = self.machine.costs
        request = None if self.queue.plugged else self.queue.next_request()
        if request:
            if request.command is None:
                if self.prep(cpu.number, runner, request):
                    return costs["end_bio"]
                if self.device_busy == 0:  # nothing in flight: only the unplug timer will try again
                    self.queue.plug(cpu)
            elif self.device_busy < self.depth:
                self.queue.dequeue(request)
                self.device_busy += 1
                self.disk.take(request.command, self.machine.sched.now)
                self.machine.event("command_start", None, len(request.bios), runner, request.command.from_free_list)
                return costs["dispatch"]
        cpu.request_fn = None
        return costs["end_bio"]

    # -- completion

    def completion(self, cpu: Cpu):
        """The block softirq, command by command: a ``yield`` is a stage and its ns."""
        costs, machine = self.machine.costs, self.machine
        command = self.disk.done.pop(0)
        request = command.request
        self.device_busy -= 1
        command.sg_pool.free(cpu.number, command.sg)
        machine.event("command_end", None, len(request.bios))
        yield costs["irq"]
        for bio in request.bios:
            woken = self.end_swap_bio_write(cpu.number, bio)
            yield costs["end_bio"] + woken * costs["wake"]
        if self.queue.completed():
            machine.kblockd_work(cpu, "kick")
        self.queue.put_request(cpu.number, request)
        yield costs["end_bio"]
        self.put_command(cpu.number, command)
        yield costs["end_bio"] + machine.completion_delay
        self.queue.remove_plug()
        cpu.request_fn = "softirq"
        yield costs["end_bio"]

    def end_swap_bio_write(self, cpu: int, bio: Any) -> int:
        """Writeback ends, the page may be rotated; biovec, then bio go to their pools or slabs. How many are woken."""
        page = bio.page
        self.memory.writeback -= 1
        page.writeback = False
        self.memory.rotate_reclaimable_page(page)
        woken = 0
        for pool, thing in ((self.caches.biovec, bio.vec), (self.caches.bio, bio.memory)):
            if pool.free(cpu, thing):
                woken += self.machine.sched.wake_up_all(f"{pool.name} pool", self.machine.sched.now)
        self.machine.bios -= 1
        return woken

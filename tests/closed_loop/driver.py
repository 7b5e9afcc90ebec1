"""A lane's subsystems driven by hand: what kernels call, made callable, and a lane set up to call them on."""

from typing import Any

from fastalloc.batch.lane import Lane, build_lane
from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc import page_alloc
from fastalloc.kernels.alloc.slab_owner import slab_take
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.alloc.vmstat import refresh_cpu_vm_stats
from fastalloc.kernels.block.bio import bio_record, mempool_take
from fastalloc.kernels.block.block import freed_request, get_request, ioc_set_batching, request_granted
from fastalloc.kernels.block.completion import kblockd_step, softirq_step
from fastalloc.kernels.block.elevator import add_request, bio_merges
from fastalloc.kernels.block.plug import blk_plug_device
from fastalloc.kernels.block.scsi import disk_done, scsi_request_fn, sg_pool
from fastalloc.kernels.block.scsi_command import scsi_get_command, scsi_put_command
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.sched import sleep_on, wake_task
from fastalloc.kernels.lane.state import BIO, IO, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE
from fastalloc.kernels.machine.heap_table import behind
from fastalloc.kernels.machine.run import tick
from fastalloc.linux import gfp as g
from tests.closed_loop.small import OWN_CORES, small

RUN_KBLOCKD, RUN_RECLAIMER, RUN_SOFTIRQ = range(3)


@kernel
def charge(io, vm, t, jiffies):
    """get_request: whether the queue lets task ``t`` have a request."""
    if not get_request(io, vm, t, jiffies):
        return False
    request_granted(io, vm, t, jiffies)
    return True


@kernel
def uncharge(io, vm, now):
    """freed_request."""
    freed_request(io, vm, now)


@kernel
def make_batcher(io, vm, t, jiffies):
    """ioc_set_batching, as after a wait in get_request_wait."""
    ioc_set_batching(io, vm, t, jiffies)


@kernel
def plug(io, cpu, jiffies):
    """blk_plug_device."""
    blk_plug_device(io, cpu, jiffies)


@kernel
def pool_of(segments):
    """The sg pool for a number of segments."""
    return sg_pool(segments)


@kernel
def run_on(vm, t, cpu, now):
    """Wake task ``t`` on ``cpu``."""
    vm.task[t, TASK.cpu] = cpu
    wake_task(vm, t, now)


@kernel
def wait_for_request(vm, cpu, jiffies):
    """The running task of ``cpu`` waits in get_request_wait."""
    sleep_on(vm, cpu, TASK_STATE.request, -1, True, jiffies)


@kernel
def nap(vm, cpu, timeout, jiffies):
    """The running task of ``cpu`` waits in congestion_wait."""
    sleep_on(vm, cpu, TASK_STATE.congestion, timeout, False, jiffies)


@kernel
def take(mem, heap, out, vm, role, cpu, gfp, context, who):
    """slab_alloc from the cache of a role, entered in the ledger."""
    return slab_take(mem, heap, out, vm.roles[role], cpu, gfp, context, who)


@kernel
def take_from_pool(mem, heap, pools, vm, out, p, who, t, cpu, jiffies):
    """One round of mempool_alloc(GFP_NOIO) by task ``t``, which runs on ``cpu`` and sleeps if it gets nothing."""
    return mempool_take(mem, heap, pools, vm, out, p, who, t, cpu, jiffies)


@kernel
def get_command(mem, heap, pools, io, vm, out, cpu, runner):
    """scsi_get_command."""
    return scsi_get_command(mem, heap, pools, io, vm, out, cpu, runner)


@kernel
def put_command(mem, heap, pools, io, vm, cpu, d):
    """scsi_put_command."""
    scsi_put_command(mem, heap, pools, io, vm, cpu, d)


@kernel
def submit(mem, heap, pools, io, vm, out, t, cpu, slot, jiffies):
    """submit_bio of one page for a swap slot: True when it merged, else it is a request of its own."""
    vm.task[t, TASK.page] = -1
    bio_record(io, vm, t, slab_take(mem, heap, out, vm.roles[ROLE.bio], cpu, g.GFP_KERNEL, 0, WHO.bio))
    b = vm.task[t, TASK.bio]
    # any page will do: the last of the machine, which nobody has
    io.bio[b, BIO.page] = mem.page.shape[0] - 1
    io.bio[b, BIO.vec] = slab_take(mem, heap, out, vm.roles[ROLE.biovec], cpu, g.GFP_KERNEL, 0, WHO.biovec)
    io.bio[b, BIO.slot] = slot
    vm.ctl[VM.writeback] += 1
    if bio_merges(mem, heap, pools, io, vm, cpu, b, t, vm.ctl[VM.now]):
        return True
    get_request(io, vm, t, jiffies)
    handle = slab_take(mem, heap, out, vm.roles[ROLE.request], cpu, g.GFP_KERNEL, 0, WHO.request)
    add_request(io, vm, out, cpu, b, handle, jiffies)
    return False


@kernel
def run_queue(mem, heap, pools, io, vm, out, cpu, runner, jiffies):
    """The request function on ``cpu`` until it returns."""
    io.ctl[IO.plugged] = 0
    io.ctl[IO.unplug_jiffy] = ms.NEVER
    vm.cpu[cpu, CPU.request_fn] = runner + 1
    while vm.cpu[cpu, CPU.request_fn] != 0:
        scsi_request_fn(mem, heap, pools, io, vm, out, cpu, jiffies)


@kernel
def finish_disk(io, vm):
    """The disk completes the command it works on."""
    disk_done(io, vm)


@kernel
def softirq(mem, heap, pools, io, vm, out, cpu):
    """One step of the completion."""
    softirq_step(mem, heap, pools, io, vm, out, cpu)


@kernel
def timer_tick(io, vm, out, jiffies, now):
    """A tick: the unplug timer and the sleepers' timers."""
    tick(io, vm, out, jiffies, now)


@kernel
def kblockd(io, vm, cpu):
    """kblockd takes up the unplug work."""
    kblockd_step(io, vm, cpu)


class Machine:
    """A booted small lane on which the subsystems are called one by one; tasks 1 to 12 are asleep."""

    def __init__(self, variant: str = "rc8", **settings: Any) -> None:
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        self.scenario = small(variant, OWN_CORES | {"machine.boot_slabs": []} | dotted)
        self.lane: Lane = build_lane(self.scenario, 0, 1)
        self.mem, self.heap, self.pools, self.io, self.vm, self.out = self.lane
        self.vm.task[:, TASK.context] = 1  # as after a first request
        self.mem.zone[:, ZONE.stat_threshold] = 0  # pages are counted to the page
        for cpu in range(self.scenario.machine.cpus):
            refresh_cpu_vm_stats(self.mem, cpu)
        self.jiffies = 0
        self.slot = 1000

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call a driver function with the groups it names and then the arguments."""
        names_of = function.py_func.__code__.co_varnames[: function.py_func.__code__.co_argcount]
        known = self.lane._asdict() | {"heap": behind(self.mem, self.heap, self.out)}  # one program a function
        return function(*[known[name] for name in names_of if name in known], *arguments)

    def at(self, jiffies: int) -> None:
        """Set the time."""
        self.jiffies = jiffies
        self.mem.ctl[MEMCTL.jiffies] = jiffies
        self.vm.ctl[VM.now] = jiffies * self.vm.ctl[VM.jiffy_ns]

    def set_vruntimes(self, tasks: Any, vruntimes: Any) -> None:
        """Give tasks other vruntimes, and put those that wait on each CPU in order again, equals by number."""
        task, cpus = self.vm.task, self.vm.cpu
        task[tasks, TASK.vruntime] = vruntimes
        for c in cpus:
            if c[CPU.running] == 0:
                continue
            queue = [int(c[CPU.head])]
            while len(queue) < c[CPU.running]:
                queue.append(int(task[queue[-1], TASK.next]))
            running = 0 if c[CPU.idle_current] else 1
            queue[running:] = sorted(queue[running:], key=lambda t: (int(task[t, TASK.vruntime]), t))
            for t, following in zip(queue, [*queue[1:], -1], strict=True):
                task[t, TASK.next] = following
            c[[CPU.head, CPU.tail]] = queue[0], queue[-1]

    def starve(self) -> None:
        """From now on no page is free for anybody but those without a watermark."""
        self.mem.zone[:, ZONE.min : ZONE.high + 1] = 1 << 40

    def exhaust(self, role: int, cpu: int = 0) -> int:
        """Take every slot of a role's cache that ``cpu`` can have; memory must be starved. How many."""
        taken = 0
        while self.call(take, role, cpu, g.GFP_ATOMIC, 0, WHO.noise) >= 0:
            taken += 1
        return taken

    def exhaust_slots(self, role: int, cpu: int = 0) -> None:
        """Take the free slots that ``cpu`` has of a role's cache, and leave the page allocator alone."""
        marks = self.mem.zone[:, ZONE.min : ZONE.high + 1].copy()
        self.starve()
        self.exhaust(role, cpu)
        self.mem.zone[:, ZONE.min : ZONE.high + 1] = marks

    def leave_free(self, free: int) -> None:
        """Take pages of the last zone, with no watermark, until ``free`` are left."""
        while self.mem.zone[-1, ZONE.free] > free:
            assert page_alloc.alloc_pages(self.mem, 0, -1, g.GFP_ATOMIC, 0, g.PF_MEMALLOC) >= 0

    def submit(self, pages: int = 1, task: int = 1, cpu: int = 0) -> None:
        """A request of ``pages`` adjacent pages, away from all others."""
        self.slot += 300
        for page in range(pages):
            merged = self.call(submit, task, cpu, self.slot + page, self.jiffies)
            assert merged == (page > 0 and self.scenario.queue.merge)

    def metric(self, name: str) -> int:
        """A metric by its name, as it stands."""
        return int(self.out.metric[METRIC.names.index(name)])

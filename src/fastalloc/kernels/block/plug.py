"""Plugging: a queue waits for more requests until enough have come or a timer hands it to kblockd [blk-core.c]."""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import current_task
from fastalloc.kernels.lane.sched import wake_task
from fastalloc.kernels.lane.state import IO, VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE

# who runs the request function
RUN_KBLOCKD = 0
RUN_RECLAIMER = 1
RUN_SOFTIRQ = 2
# kblockd's works, bits of CPU.kblockd
WORK_UNPLUG = 1
WORK_RUN = 2


@folded
def blk_plug_device(io, cpu, jiffies):
    """Plug the queue and arm the unplug timer on this CPU, unless it is plugged [blk_plug_device]."""
    if io.ctl[IO.plugged] == 0:
        io.ctl[IO.plugged] = 1
        io.ctl[IO.unplug_jiffy] = jiffies + io.ctl[IO.unplug_jiffies]
        io.ctl[IO.unplug_cpu] = cpu


@folded
def blk_remove_plug(io):
    """Unplug and stop the timer; whether it was plugged [blk_remove_plug]."""
    if io.ctl[IO.plugged] == 0:
        return False
    io.ctl[IO.plugged] = 0
    io.ctl[IO.unplug_jiffy] = ms.NEVER
    return True


@folded
def start_request_fn(io, vm, cpu, runner):
    """Unplug the queue and let ``cpu`` run the request function from its next step on; False: it was not plugged."""
    if not blk_remove_plug(io):
        return False
    call_request_fn(vm, cpu, runner)
    return True


@folded
def call_request_fn(vm, cpu, runner):
    """Let ``cpu`` run the request function from its next step on, in the name of the task that runs there now."""
    c = vm.cpu[cpu]
    c[CPU.request_fn] = runner + 1
    c[CPU.request_task] = current_task(vm, cpu)


@internal
def kblockd_schedule_work(vm, cpu, work, now):
    """Give kblockd of ``cpu`` a work: to unplug the queue, or to run it, plugged or not [blk_unplug_work,
    cfq_kick_queue]."""
    vm.cpu[cpu, CPU.kblockd] |= work
    t = vm.ctl[VM.kthreads] + vm.ctl[VM.nr_cpus] + cpu
    if vm.task[t, TASK.state] == TASK_STATE.kthread:
        wake_task(vm, t, now)

"""Plugging: a queue waits for more requests until enough have come or a timer hands it to kblockd [blk-core.c]."""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import IO
from fastalloc.kernels.lane.tasks import CPU

# who runs the request function
RUN_KBLOCKD = 0
RUN_RECLAIMER = 1
RUN_SOFTIRQ = 2


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
    vm.cpu[cpu, CPU.request_fn] = runner + 1
    return True

"""Sleep until a queue is less congested [mm/backing-dev.c of 2.6.25]."""

from fastalloc.compiler.jit import internal
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.events import log_event
from fastalloc.kernels.lane.metrics import EVENT
from fastalloc.kernels.lane.sched import sleep_on
from fastalloc.kernels.lane.state import OUT_CTL, VM
from fastalloc.kernels.lane.tasks import TASK_STATE


@internal
def congestion_wait(vm, out, t, cpu, hz_fraction, jiffies):
    """Sleep HZ/``hz_fraction`` jiffies, less if a request ends while the queue is below its mark [congestion_wait]."""
    if out.ctl[OUT_CTL.full] != 0:
        log_event(vm, out, EVENT.congestion_wait, cpu, t, 1000 // hz_fraction, 0, 0)
    sleep_on(vm, cpu, TASK_STATE.congestion, max(1, ms.NS_PER_S // vm.ctl[VM.jiffy_ns] // hz_fraction), False, jiffies)

"""The event log of a lane."""

from fastalloc.compiler.jit import internal
from fastalloc.kernels.lane.state import OUT_CTL, VM


@internal
def log_event(vm, out, kind, cpu, task, a, b, c):
    """Append an event row; count the ones that do not fit."""
    n = out.ctl[OUT_CTL.events]
    if n >= out.event.shape[0]:
        out.metric[out.metric.shape[0] - 1] += 1  # events_lost is the last metric
        return
    row = out.event[n]
    row[0] = vm.ctl[VM.now]
    row[1] = kind
    row[2] = cpu
    row[3] = task
    row[4] = a
    row[5] = b
    row[6] = c
    out.ctl[OUT_CTL.events] = n + 1


@internal
def log_event_at(vm, out, when, kind, a, b, c):
    """Append an event that began at ``when`` and was understood only now; rows are in order of writing."""
    n = out.ctl[OUT_CTL.events]
    log_event(vm, out, kind, -1, -1, a, b, c)
    if n < out.event.shape[0]:
        out.event[n, 0] = when

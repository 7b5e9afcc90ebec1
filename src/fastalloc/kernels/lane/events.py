"""The event log of a lane."""

from fastalloc.compiler.jit import internal
from fastalloc.kernels.lane.metrics import EVENT_ROW, METRIC
from fastalloc.kernels.lane.state import OUT_CTL, VM


@internal
def log_event(vm, out, kind, cpu, task, a, b, c):
    """Append an event row; count the ones that do not fit."""
    n = out.ctl[OUT_CTL.events]
    if n >= out.event.shape[0]:
        out.metric[METRIC.events_lost] += 1
        return
    row = out.event[n]
    row[EVENT_ROW.t_ns] = vm.ctl[VM.now]
    row[EVENT_ROW.kind] = kind
    row[EVENT_ROW.cpu] = cpu
    row[EVENT_ROW.task] = task
    row[EVENT_ROW.a] = a
    row[EVENT_ROW.b] = b
    row[EVENT_ROW.c] = c
    out.ctl[OUT_CTL.events] = n + 1


@internal
def log_event_at(vm, out, when, kind, a, b, c):
    """Append an event that began at ``when`` and was understood only now; rows are in order of writing."""
    n = out.ctl[OUT_CTL.events]
    log_event(vm, out, kind, -1, -1, a, b, c)
    if n < out.event.shape[0]:
        out.event[n, EVENT_ROW.t_ns] = when

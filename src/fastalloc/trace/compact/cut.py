"""A part of a trace: from the end of the readings before a workload to the beginning of those after it."""

import dataclasses

import numpy as np

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.tasks import tasks_of

# What the recorder writes to trace_marker around each time it reads counts.
BEGIN, END = "fastalloc: readings begin", "fastalloc: readings end"


def between_readings(trace: co.CompactTrace) -> co.CompactTrace:
    """``trace`` between its first readings and its second, as far as its markers tell; itself where there are none."""
    begins, ends = (
        trace.markers.filter(trace.markers["text"].str.strip_chars() == text)["ts_ns"].to_list()
        for text in (BEGIN, END)
    )
    if not ends:
        return trace
    after = min(ends)
    until = min((ns for ns in begins if ns > after), default=None)
    return cut(trace, after, until)


def cut(trace: co.CompactTrace, after_ns: int, until_ns: int | None = None) -> co.CompactTrace:
    """The events of ``trace`` later than ``after_ns`` and not later than ``until_ns``, on the same clock."""
    time = trace.time_ns()
    first = int(np.searchsorted(time, after_ns, side="right"))
    last = len(time) if until_ns is None else int(np.searchsorted(time, until_ns, side="right"))
    events = np.array(trace.events[first:last])
    # An event's task may have had its last event before.
    place = np.zeros(len(events), np.int64)
    for cpu in np.unique(events["cpu"]):
        at = np.flatnonzero(events["cpu"] == cpu)
        place[at] = np.arange(len(at))
    events["ago"][(events["ago"] > place) & (events["ago"] < co.MAX_AGO)] = 0
    events["ago"][(events["ago"] == co.MAX_AGO) & (place < co.MAX_AGO)] = 0
    events.flags.writeable = False
    meta = {**trace.meta, "events_left_out": len(time) - len(events)}
    if "tasks" in trace.meta:
        pids, which = tasks_of(trace)
        begins = np.flatnonzero((events["ago"] == 0) | (events["ago"] == co.MAX_AGO))
        meta["tasks"] = {"row": begins.tolist(), "pid": pids[which[first:last][begins]].tolist()}
    return dataclasses.replace(trace, events=events, meta=meta)


__all__ = ["BEGIN", "END", "between_readings", "cut"]

"""Events as lines to read."""

import numpy as np

from fastalloc.kernels.lane.metrics import EVENT, EVENT_ROW

# kind -> how its a, b, c read
_WORDS = {
    "report": "page allocation failure, mode {a:#x}, order {b}, {c} messages suppressed before",
    "stall_begin": "{a} pages under writeback, no command started",
    "stall_end": "after {a} ms",
    "livelock_begin": "{a} bios, {b} pages under writeback, {c} free slots in their slabs",
    "livelock_end": "after {a} ms",
    "free_list_used": "{a} commands in flight",
    "command_start": "{a} bios, command and sense buffer from {source_b}",
    "command_end": "{a} bios",
    "reclaim_begin": "priority {a}, order {b}",
    "reclaim_end": "{a} pages reclaimed",
}
_SOURCES = ("their slabs", "the free_list")  # COMMAND.source


def event_lines(events: np.ndarray) -> list[str]:
    """A line for each event row of int64[n, EVENT_ROW.width]: time in seconds, CPU, task, kind, what it says."""
    lines = []
    for row in events.tolist():
        event = dict(zip(EVENT_ROW.names, row, strict=True))
        kind = EVENT.names[event["kind"]]
        words = _WORDS.get(kind, "").format(**event, source_b=_name(_SOURCES, event["b"]))
        cpu = f"cpu{event['cpu']}" if event["cpu"] >= 0 else ""
        task = f"task {event['task']}" if event["task"] >= 0 else ""
        lines.append(f"{event['t_ns'] / 1e9:14.6f}  {cpu:5} {task:9} {kind:17} {words}".rstrip())
    return lines


def _name(names: tuple[str, ...], index: int) -> str:
    return names[index] if 0 <= index < len(names) else str(index)

"""What stands behind the checksum of a compact trace: nothing of it enters a kernel before it was looked at here.

The checksum tells damage from what was written; it does not tell who wrote it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from fastalloc.compiler.jit import kernel
from fastalloc.errors import InputError, reading
from fastalloc.foreign import MOST_CPUS, MOST_NODES, MOST_ORDER, ipc_table, refuse
from fastalloc.kernels.replay.kmem_events import OP_BEGIN, OP_BULK_FREE, OP_RESERVE, OP_SHORTAGE

KINDS = {
    "cache": pa.large_string(), "src": pa.large_string(), "call_site": pa.large_string(), "bytes_req": pa.uint32(),
    "bytes_alloc": pa.uint32(), "gfp_flags": pa.uint32(), "order": pa.uint8(), "node": pa.int16(),
}  # fmt: skip
MARKERS = {"ts_ns": pa.int64(), "text": pa.large_string()}
LAST_NS = 1 << 62
MOST_META = 1 << 22  # bytes of the table of contents without its tasks
MOST_STEPS = 256  # of what was inferred
MOST_TASK = 32  # and of them for each event: a row and a pid

# What is wrong with an event.
_OP, _KIND, _OBJECT, _CPU, _TIME, _ORDER = range(1, 7)
_REASONS = {
    _OP: "op {op}: there is no such operation",
    _KIND: "kind {kind}: there are {kinds:,}",
    _OBJECT: "object {object}: there are {objects:,}",
    _CPU: "CPU {cpu}: there are {cpus:,}",
    _TIME: "time runs backwards",
    _ORDER: f"a shortage above order {{object}}; at most {MOST_ORDER} make sense",
}


class Contents(NamedTuple):
    """The parts of a trace beside its events; see ``CompactTrace``."""

    ptrs: np.ndarray
    kinds: pl.DataFrame
    markers: pl.DataFrame
    meta: dict[str, Any]


def contents_of(path: Path, raw: np.ndarray, begin: int, end: int, events: int) -> Contents:
    """The sections between ``begin`` and ``end`` of the file of so many ``events``, and its table of contents behind
    ``end``.

    Raises InputError with the section or field that is missing, lies elsewhere or holds what makes no sense.
    """
    most = MOST_META + MOST_TASK * events
    if len(raw) - end > most:
        raise InputError(
            path, f"byte {end}", f"a table of contents of {len(raw) - end:,} bytes; at most {most:,} are read"
        )
    with reading(path, f"byte {end}", "the table of contents is damaged"):
        table = json.loads(raw[end:].tobytes())
    if not (
        isinstance(table, dict) and isinstance(table.get("sections"), dict) and isinstance(table.get("meta"), dict)
    ):
        raise InputError(path, f"byte {end}", "the table of contents has no sections and meta")

    def section(name: str) -> np.ndarray:
        place = table["sections"].get(name)
        if not (isinstance(place, list) and len(place) == 2 and all(type(number) is int for number in place)):
            raise InputError(path, f"section {name}", f"needs a place and a size, not {place!r}")
        start, size = place
        if start < begin or size < 0 or start + size > end:
            raise InputError(
                path, f"section {name}", f"bytes {start} .. {start + size} are not between {begin} and {end}"
            )
        return np.asarray(raw[start : start + size])

    ptrs = section("ptrs")
    if len(ptrs) % 8 or table["sections"]["ptrs"][0] % 8 or len(ptrs) >> 3 > 1 << 31:
        raise InputError(path, "section ptrs", f"{len(ptrs)} bytes are no addresses")
    kinds = ipc_table(path, "section kinds", section("kinds").tobytes(), KINDS)
    markers = ipc_table(path, "section markers", section("markers").tobytes(), MARKERS)
    _check_kinds(path, kinds)
    meta = _checked_meta(path, table["meta"], len(kinds))
    _check_tasks(path, meta, events)
    return Contents(ptrs.view("<u8"), kinds, markers, meta)


def _check_kinds(path: Path, kinds: pl.DataFrame) -> None:
    for name in KINDS:
        refuse(path, kinds[name].is_null(), name, "is empty", "kind")
    refuse(path, kinds["order"] > MOST_ORDER, "order", f"at most {MOST_ORDER} makes sense", "kind")
    refuse(path, ~kinds["node"].is_between(-1, MOST_NODES - 1), "node", f"is not in -1 .. {MOST_NODES - 1}", "kind")


def _checked_meta(path: Path, meta: dict[str, Any], kinds: int) -> dict[str, Any]:
    for name, least, most in (
        ("first_ns", -LAST_NS, LAST_NS),
        ("time_unit_ns", 1, 1 << 29),
        ("rows_read", 0, LAST_NS),
        ("cpus", 0, MOST_CPUS),
        ("cpus_present", 0, MOST_CPUS),
    ):
        value = meta.get(name, 0 if name == "cpus_present" else None)  # told by some formats alone
        if type(value) is not int or not least <= value <= most:
            raise InputError(path, f"meta.{name}", f"must be a number of {least} .. {most}, not {value!r}")
    if not isinstance(meta.get("source"), str):
        raise InputError(path, "meta.source", "must be a text")
    if type(meta.get("bulk_rows")) is not bool:
        raise InputError(path, "meta.bulk_rows", "must be true or false")
    inferred = meta.get("inferred")
    if isinstance(inferred, dict) and len(inferred) > MOST_STEPS:
        raise InputError(path, "meta.inferred", f"has {len(inferred):,} steps; at most {MOST_STEPS} are read")
    counts = [*inferred.values(), meta.get("events_left_out", 0)] if isinstance(inferred, dict) else [None]
    if not all(type(count) is int and 0 <= count <= LAST_NS for count in counts):
        raise InputError(path, "meta.inferred", "and meta.events_left_out must be counts by step, and a count")
    entitled = meta.get("entitled", [])
    if not isinstance(entitled, list) or not all(type(kind) is int and 0 <= kind < kinds for kind in entitled):
        raise InputError(path, "meta.entitled", "must be numbers of kinds")
    return meta


def _check_tasks(path: Path, meta: dict[str, Any], events: int) -> None:
    """Each event has a task that is told of; see ``tasks.tasks_of``."""
    table = meta.get("tasks")
    if table is None:
        return
    with reading(path, "meta.tasks", "must be rows and a pid for each"):
        rows, pids = (np.asarray(table[name]) for name in ("row", "pid"))
        whole = all(each.dtype.kind == "i" and each.ndim == 1 for each in (rows, pids) if events)
        if not whole or len(rows) != len(pids) or (events and not len(rows)):
            raise InputError(path, "meta.tasks", "must be rows and a pid for each, whole numbers")
        if len(rows) and (rows[0] < 0 or rows[-1] >= max(events, 1) or (np.diff(rows) <= 0).any()):
            raise InputError(path, "meta.tasks", f"rows must rise from 0 on and be below {events:,}")


@kernel
def first_wrong(op, obj, kind, cpu, time, limits):
    """The first event that no kernel may follow, and what is wrong with it; ``limits``: ops, kinds, objects, CPUs."""
    before = np.int64(0)
    for i in range(op.shape[0]):
        what = np.int64(op[i])
        if what >= limits[0]:
            return i, _OP
        if kind[i] >= limits[1]:
            return i, _KIND
        if (what <= OP_BULK_FREE or OP_BEGIN <= what <= OP_RESERVE) and obj[i] >= limits[2]:
            return i, _OBJECT
        if cpu[i] >= limits[3]:
            return i, _CPU
        if time[i] < before:
            return i, _TIME
        if what == OP_SHORTAGE and obj[i] > MOST_ORDER:
            return i, _ORDER
        before = np.int64(time[i])
    return -1, 0


def check_events(path: Path, events: np.ndarray, ops: int, contents: Contents) -> None:
    """Raise InputError for the first event whose op, kind, object, CPU or time is outside of what there is."""
    limits = np.array([ops, len(contents.kinds), len(contents.ptrs), contents.meta["cpus"]], np.int64)
    columns = [events[name] for name in ("op", "object", "kind", "cpu", "time")]
    row, wrong = first_wrong(*columns, limits)
    if row >= 0:
        names = events.dtype.names or ()
        values = dict(zip(names, events[row].item(), strict=True))
        known = dict(zip(("ops", "kinds", "objects", "cpus"), limits.tolist(), strict=True))
        raise InputError(path, f"event {row}", _REASONS[wrong].format(**values, **known))

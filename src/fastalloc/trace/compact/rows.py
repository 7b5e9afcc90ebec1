"""The events of a trace between reader and compact trace, in the place where the compact trace will be.

A reader hands on its events in frames of a few ten thousand (see ``columns``). What repeats gets a number: addresses,
*kinds* of events, tasks. So of a frame only numbers are kept, 24 bytes an event.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import row_passes
from fastalloc.trace.compact.columns import MARKER

KIND = ("src", "call_site", "bytes_req", "bytes_alloc", "gfp_flags", "order", "node", "cache", "resolved")
_TEXTS = ("src", "call_site", "cache", "resolved")
_SCHEMA = {name: pl.String if name in _TEXTS else pl.UInt32 for name in KIND} | {"order": pl.UInt8, "node": pl.Int16}
NO_NAME = -1
MOST_KINDS = 1 << 20  # a machine has some thousand, and some hundred caches
MOST_PAIRS = 1 << 27
_MOST_OBJECTS = 1 << 31
_MAPPED = (1 << 25) + (1 << 16)  # bytes


@dataclass
class Rows:
    """``events``: EVENT[n], but with ``ago`` still empty and ``kind`` a row of ``kinds`` here (columns KIND). Times are
    ``unit`` ns since ``first``. ``task`` uint32, a task on a CPU; ``name`` int32, row of ``names`` that an event's
    cache has, NO_NAME none. ``ptrs`` uint64, the address of each object.

    ``read``: events that the reader gave; ``nulls``: frees of NULL, left out; ``failed``: allocations without address.
    ``pids``: of each task on a CPU.
    """

    path: Path
    events: np.ndarray
    first: int
    unit: int
    task: np.ndarray
    ptrs: np.ndarray
    kinds: pl.DataFrame
    markers: pl.DataFrame
    read: int
    nulls: int
    failed: int
    pids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = np.full(len(self.events), NO_NAME, np.int32)
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.events)

    op = property(lambda self: self.events["op"])
    time = property(lambda self: self.events["time"])
    object = property(lambda self: self.events["object"])
    kind = property(lambda self: self.events["kind"])
    cpu = property(lambda self: self.events["cpu"])

    def keep(self, mask: np.ndarray) -> None:
        """Keep only the rows of ``mask``, in place, and the addresses that they have."""
        count = int(mask.sum())
        for column in (*(self.events[name] for name in co.EVENT.names or ()), self.task, self.name):
            row_passes.compress(column, mask)
        self.events, self.task, self.name = (column[:count] for column in (self.events, self.task, self.name))
        used = np.zeros(len(self.ptrs), np.bool_)
        row_passes.in_use(self.op, self.object, used)
        row_passes.renumber(self.op, self.object, (np.cumsum(used) - 1).astype(np.uint32))
        self.ptrs = self.ptrs[used]

    def pairs(self) -> np.ndarray:
        """bool[kinds, names + 1], all False; the last column is for no name. Raises InputError for too many."""
        shape = len(self.kinds), len(self.names) + 1
        if shape[0] * shape[1] > MOST_PAIRS:
            raise InputError(self.path, "", f"{shape[0]:,} kinds of events and {shape[1]:,} caches are no kmem trace")
        return np.zeros(shape, np.bool_)

    def name_of(self, text: str) -> int:
        """The number of the cache ``text``, a new one where it has none."""
        if text not in self._numbers:
            self._numbers[text] = len(self.names)
            self.names.append(text)
        return self._numbers[text]


class _Growing:
    """An array that grows in place, by little: what it has to spare is filled with zeros, and takes memory.

    At first it is so large that the C library maps it by itself [M_MMAP_THRESHOLD, mallopt(3)]: what was never touched
    takes none, and no other array is in its way.
    """

    def __init__(self, kind: type | np.dtype) -> None:
        self.values = np.zeros(_MAPPED // np.dtype(kind).itemsize, kind)
        self.count = 0

    def room(self, more: int) -> np.ndarray:
        """A view of the next ``more`` elements, to be filled."""
        begin, self.count = self.count, self.count + more
        if self.count > len(self.values):
            self.values.resize(max(self.count, len(self.values) * 33 // 32), refcheck=False)
        return self.values[begin : self.count]

    def whole(self) -> np.ndarray:
        """All of it."""
        self.values.resize(self.count, refcheck=False)
        return self.values


class Times:
    """Times as they come, in a unit that grows with the trace."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.unit = 1

    def put(self, ns: np.ndarray, before: np.ndarray, into: np.ndarray) -> None:
        """``ns``, ascending, go ``into`` the trace in units since the first; with the unit, those ``before`` change."""
        if not len(ns):
            return
        if self.first is None:
            self.first = int(ns[0])
        unit = max(self.unit, co.time_unit(int(ns[-1]) - self.first))
        if unit > self.unit:
            before //= np.uint32(unit // self.unit)
            self.unit = unit
        into[:] = (ns - self.first) // unit


class _Addresses:
    """Numbers for addresses, as they first come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.slots, self.keys, _ = row_passes.table_of(1 << 12)

    def number(self, op: np.ndarray, address: np.ndarray, ids: np.ndarray) -> None:
        """The numbers of the next objects, the page frame of other events, into ``ids``."""
        if self.count + len(op) > len(self.keys):
            if self.count + len(op) > _MOST_OBJECTS:
                raise InputError(self.path, "", f"more than {_MOST_OBJECTS:,} addresses")
            before = self.keys[: self.count]
            self.slots, self.keys, _ = row_passes.table_of(2 * (self.count + len(op)))
            row_passes.number(
                np.zeros(len(before), np.uint8), before, self.slots, self.keys, np.zeros(len(before), np.uint32), 0
            )
        self.count = row_passes.number(op, address, self.slots, self.keys, ids, self.count)

    def sorted(self, op: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The addresses, ascending; ``ids`` become their places."""
        keys = self.keys[: self.count]
        order = np.argsort(keys)
        rank = np.empty(self.count, np.uint32)
        rank[order] = np.arange(self.count, dtype=np.uint32)
        row_passes.renumber(op, ids, rank)
        return keys[order]


def rows_of(path: Path, frames: Iterable[pl.DataFrame]) -> Rows:
    """Collect ``frames`` (see ``columns``). Raises InputError where there is no event."""
    events, tasks, times = _Growing(co.EVENT), _Growing(np.uint32), Times()
    addresses = _Addresses(path)
    kinds: dict[tuple[Any, ...], int] = {}
    known: dict[int, int] = {}
    markers = [pl.DataFrame(schema={"ts_ns": pl.Int64, "text": pl.String})]
    read = nulls = failed = 0
    null = (pl.col("op") <= co.OP_BULK_FREE) & (pl.col("ptr") == 0)
    free = pl.col("op").is_in([co.OP_FREE, co.OP_BULK_FREE])
    for whole in frames:
        marks = whole.filter(pl.col("op") == MARKER)
        if len(marks):
            markers.append(marks.select("ts_ns", text=pl.col("cache").cast(pl.String)))
        frame = whole.filter((pl.col("op") != MARKER) & ~(null & free)).with_columns(
            op=pl.when(null).then(pl.lit(co.OP_ALLOC_FAILED, pl.UInt8)).otherwise("op"),
            object=pl.when(pl.col("op") <= co.OP_BULK_FREE).then("ptr").otherwise("pfn"),
        )
        read += len(whole)
        nulls += len(whole) - len(marks) - len(frame)
        op, cpu = frame["op"].to_numpy(), frame["cpu"].to_numpy()
        failed += int((op == co.OP_ALLOC_FAILED).sum())
        into = events.room(len(frame))
        into["op"], into["cpu"], into["kind"] = op, cpu, _kinds(path, frame, kinds)
        addresses.number(op, frame["object"].to_numpy(), into["object"])
        times.put(frame["ts_ns"].to_numpy(), events.values["time"][: events.count - len(frame)], into["time"])
        on_cpu = cpu.astype(np.int64) << 32 | frame["pid"].to_numpy().astype(np.uint32)
        task, which = np.unique(on_cpu, return_inverse=True)
        tasks.room(len(frame))[:] = np.array([known.setdefault(pair, len(known)) for pair in task.tolist()])[which]
    if not read:
        raise InputError(path, "", "holds no event")
    table = pl.DataFrame(list(kinds), schema=_SCHEMA, orient="row")
    packed = events.whole()
    ptrs = addresses.sorted(packed["op"], packed["object"])
    first = times.first or 0
    return Rows(
        path, packed, first, times.unit, tasks.whole(), ptrs, table, pl.concat(markers), read, nulls, failed,
        [pair & 0xFFFFFFFF for pair in known],
    )  # fmt: skip


def _kinds(path: Path, events: pl.DataFrame, known: dict[tuple[Any, ...], int]) -> np.ndarray:
    """uint32[n]: the kind of each event; new ones are added to ``known``."""
    own = events.select(KIND).unique(maintain_order=True)
    numbers = [
        known.setdefault(row, len(known)) for row in own.with_columns(pl.col(_TEXTS).cast(pl.String)).iter_rows()
    ]
    if len(known) > MOST_KINDS:
        raise InputError(path, "", f"more than {MOST_KINDS:,} kinds of events, by call site, sizes, mask and name")
    own = own.with_columns(kind=pl.Series(numbers, dtype=pl.UInt32))
    return events.select(KIND).join(own, on=KIND, how="left", maintain_order="left")["kind"].to_numpy()


__all__ = ["KIND", "NO_NAME", "Rows", "Times", "rows_of"]

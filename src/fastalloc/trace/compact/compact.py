"""The compact binary trace: 16 bytes an event, memory-mapped, so that one decode feeds any number of configurations.

Layout, all little-endian: a header of 128 bytes, the events, then the sections named in the header's table of
contents, and at the end the JSON of that table::

    0   magic  8 bytes        8  version  u32       12  bytes an event  u32
    16  events  u64          24  offset of the JSON  u64
    32  bytes of the JSON  u64                      40  BLAKE2b-128 of all that follows the header

An event is ``EVENT``. Its ``kind`` names a row of the table ``kinds``, which holds what repeats: cache, call site,
sizes, mask, order and node. ``object`` is the row of ``ptrs`` of an object event, the page frame of a page event.
"""

import hashlib
import io
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.trace.compact import tallies
from fastalloc.trace.compact.contents import check_events, contents_of
from fastalloc.written import write_whole

MAGIC = b"FATRACE\x1a"
VERSION = 4
HEADER = struct.Struct("<8sIIQQQ16s")
HEADER_BYTES = 128
SUFFIX = ".fatrace"

EVENT = np.dtype(
    [
        ("time", "<u4"),  # since the first event, in units of meta["time_unit_ns"]
        ("object", "<u4"),
        ("kind", "<u4"),
        ("cpu", "<u2"),
        ("op", "u1"),
        ("ago", "u1"),  # events of its CPU back to the last one of its task; 0 none, MAX_AGO so many or more
    ]
)

OPS = (
    "alloc",
    "free",
    "bulk_alloc",
    "bulk_free",
    "page_alloc",
    "page_free",
    "alloc_failed",
    "shortage",
    "begin",
    "new_slab",
    "reserve",
    "kfree_rcu",
    "grace_period",
    "prefill",
    "sheaf_alloc",
    "return_sheaf",
    "prefill_failed",
    "begin_refill",
    "refill_lists",
    "refill_new",
    "install",
    "sheaf_memory",
    "next_sheaf",
    "free_many",
    "free_locked",
)
(
    OP_ALLOC,
    OP_FREE,
    OP_BULK_ALLOC,
    OP_BULK_FREE,
    OP_PAGE_ALLOC,
    OP_PAGE_FREE,
    OP_ALLOC_FAILED,
    OP_SHORTAGE,  # until pages are given again there are no blocks above order ``object``
    OP_BEGIN,  # an allocation that needed a new slab looked for an object here, where that is long before its event
    OP_NEW_SLAB,  # the same, where it found none although the rules say that there was one
    OP_RESERVE,  # the new slab of the allocation behind it is from below all watermarks
    OP_KFREE_RCU,  # of sheaves, where probes recorded them: see kernels/replay/sheaf_events.py
    OP_GRACE_PERIOD,
    OP_PREFILL,
    OP_SHEAF_ALLOC,
    OP_RETURN_SHEAF,
    OP_PREFILL_FAILED,
    OP_BEGIN_REFILL,  # the steps of a refill of a sheaf, see kernels/replay/refill_events.py
    OP_REFILL_LISTS,
    OP_REFILL_NEW,
    OP_INSTALL,
    OP_SHEAF_MEMORY,
    OP_NEXT_SHEAF,
    OP_FREE_MANY,
    OP_FREE_LOCKED,
) = range(len(OPS))

MAX_AGO = 255
NO_PFN = 0xFFFFFFFF


class Moved(NamedTuple):
    """One step away from the order of events that was recorded: events moved, others woven in."""

    place: np.ndarray  # int64: rows that are not where they would be if nothing else had moved, each once
    before: np.ndarray  # int64: the row of each before this step, -1 where it was woven in


@dataclass(frozen=True)
class CompactTrace:
    """An opened trace.

    ``events``: EVENT[n], read-only, mapped from the file. ``ptrs``: uint64[objects], the address behind each
    ``object``, as if memory were mapped without KASLR (where it was: ``direct_map`` in ``meta``). ``kinds``: a row a
    kind: cache, src, call_site, bytes_req, bytes_alloc, gfp_flags, order, node. ``markers``: ts_ns, text. ``meta``:
    first_ns, time_unit_ns, source, generation, inferred (steps and counts), rows_read, entitled (kinds of callers that
    may have slabs from below all watermarks, where there are such slabs). ``moved``: the steps from the events as they
    were recorded to these. ``drawn_from``: the trace of which this is one order drawn. ``sheaf_calls``: what probes in
    a trace.dat saw of whole sheaves, a row a call; it is not written.
    """

    path: str
    events: np.ndarray
    ptrs: np.ndarray
    kinds: pl.DataFrame
    markers: pl.DataFrame
    meta: dict[str, Any]
    moved: tuple[Moved, ...] = ()
    drawn_from: "CompactTrace | None" = None
    sheaf_calls: pl.DataFrame | None = None

    def time_ns(self) -> np.ndarray:
        """int64[n]: time of each event in nanoseconds of the trace clock."""
        times: np.ndarray = self.events["time"].astype(np.int64) * self.meta["time_unit_ns"] + self.meta["first_ns"]
        return times

    @cached_property
    def cross_cpu_frees(self) -> np.ndarray:
        """int64[kinds]: of the objects that each kind allocated, those freed on another CPU."""
        e, counts = self.events, np.zeros(len(self.kinds), np.int64)
        tallies.crossed(e["op"], e["object"], e["kind"], e["cpu"], np.full(len(self.ptrs), -1, np.int32), counts)
        return counts

    @cached_property
    def cache_names(self) -> tuple[list[str], np.ndarray]:
        """The caches of ``kinds``, and which of them each kind is of (int64[kinds])."""
        names, which = np.unique(self.kinds["cache"].to_numpy().astype(str), return_inverse=True)
        return names.tolist(), which

    @property
    def nbytes(self) -> int:
        """Bytes of events and addresses."""
        return int(self.events.nbytes + self.ptrs.nbytes)


def time_unit(span_ns: int) -> int:
    """The smallest power of two of nanoseconds in which ``span_ns`` fits 32 bits."""
    unit = 1
    while span_ns // unit > 0xFFFFFFFF:
        unit *= 2
    return unit


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def write_trace(path: Path, trace: CompactTrace) -> None:
    """Write ``trace`` whole or not at all."""
    sections = {"ptrs": trace.ptrs.astype("<u8").tobytes(), "kinds": _ipc(trace.kinds), "markers": _ipc(trace.markers)}
    events = np.ascontiguousarray(trace.events).view(np.uint8)
    body: list[bytes | memoryview] = [events.data]
    offset = HEADER_BYTES + len(events)
    contents = {}
    for name, data in sections.items():
        pad = -offset % 64
        body.append(b"\0" * pad + data)
        contents[name] = [offset + pad, len(data)]
        offset += pad + len(data)
    text = json.dumps({"sections": contents, "meta": trace.meta}).encode()
    body.append(text)
    digest = hashlib.blake2b(digest_size=16)
    for part in body:
        digest.update(part)
    header = HEADER.pack(MAGIC, VERSION, EVENT.itemsize, len(trace.events), offset, len(text), digest.digest())
    write_whole(path, [header.ljust(HEADER_BYTES, b"\0"), *body])


def open_trace(path: Path) -> CompactTrace:
    """Map the trace at ``path``; the checksum is verified, and so is all that it holds.

    Raises InputError with the byte, section or event that is wrong.
    """
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(path, "", f"cannot be read: {error}") from error
    if len(raw) < HEADER_BYTES:
        raise InputError(path, f"byte {len(raw)}", f"ends inside the header of {HEADER_BYTES} bytes")
    magic, version, itemsize, count, offset, length, digest = HEADER.unpack(raw[: HEADER.size].tobytes())
    if magic != MAGIC:
        raise InputError(path, "byte 0", "is no compact trace; `fastalloc trace convert` makes one")
    if version != VERSION or itemsize != EVENT.itemsize:
        raise InputError(path, "byte 8", f"is of version {version}, this program reads {VERSION}; convert it again")
    if offset + length != len(raw) or HEADER_BYTES + count * itemsize > offset:
        raise InputError(path, f"byte {len(raw)}", f"holds {len(raw)} bytes where {offset + length} were written")
    if hashlib.blake2b(raw[HEADER_BYTES:].data, digest_size=16).digest() != digest:
        raise InputError(path, f"byte {HEADER_BYTES}", "the checksum does not fit: the file was damaged")
    begin = HEADER_BYTES + count * itemsize
    contents = contents_of(path, raw, begin, offset, count)
    events = np.asarray(raw[HEADER_BYTES:begin]).view(EVENT)
    check_events(path, events, OP_KFREE_RCU, contents)  # what a replay weaves in is in no file
    return CompactTrace(str(path), events, *contents)

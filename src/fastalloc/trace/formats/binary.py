"""The kmem events of a trace.dat as a table: fields by the formats that the file holds, no text in between."""

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.linux.gfp_names import bits_of_6_1
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.columns import MARKER, OPS_OF, SCHEMA, Checked, hexadecimal
from fastalloc.trace.formats import probes
from fastalloc.trace.formats.ring_buffer import records
from fastalloc.trace.formats.tracedat import CpuData, Format, TraceDat, open_tracedat

NAME_BYTES = 64  # longest name of a cache that is kept
_OBJECTS = ("ptr", "call_site", "bytes_req", "bytes_alloc", "gfp_flags", "node")
_WANTED = {
    co.OP_ALLOC: ("ptr", "call_site", "bytes_req", "bytes_alloc", "gfp_flags"),
    co.OP_FREE: ("ptr", "call_site"),
    co.OP_PAGE_ALLOC: ("pfn", "order", "gfp_flags"),
    co.OP_PAGE_FREE: ("pfn", "order"),
    MARKER: ("buf",),
}
_CHUNK = 1 << 16
MOST_OBJECTS = 64  # of one record [kernel/trace/trace_probe.h: MAX_ARRAY_LEN]


class SheafRows:
    """What probes in a trace.dat saw of whole sheaves (see ``sheaf_calls``), gathered while its events are read."""

    def __init__(self, dat: TraceDat) -> None:
        forms = {
            form.id: form
            for form in dat.formats.values()
            if form.name in (*probes.SHEAF_CALLS, probes.KFREE_RCU) and {"s", "n"} <= form.fields.keys()
        }
        told = any(form.name in probes.SHEAF_CALLS for form in forms.values())
        self.forms = forms if told else {}
        self.tables: list[pl.DataFrame] = []

    def add(self, pages: np.ndarray, found: tuple[np.ndarray, ...], ids: np.ndarray, cpu: int) -> None:
        """Those of some ``pages`` of a CPU; ``found``: times, begins and sizes of records, ``ids`` their kinds."""
        time, record, size = found
        for number, form in self.forms.items():
            rows = np.flatnonzero(ids == number)
            at = record[rows]
            numbers = {name: _numbers(pages, at, form, name) for name in ("s", "n", "common_pid")}
            for name in ("sheaf", "want"):
                told = name in form.fields
                numbers[name] = _numbers(pages, at, form, name) if told else np.zeros(len(at), np.uint64)
            names = np.full(len(at), "", object)
            if len(at) and "name" in form.fields:
                names = _names(pages, at, size[rows], _numbers(pages, at, form, "name"))
            event = probes.SHEAF_CALLS.get(form.name, "")
            columns = {"ts_ns": time[rows].astype(np.int64), "cache": pl.Series(names, dtype=pl.String)} | numbers
            self.tables.append(pl.DataFrame(columns).with_columns(cpu=pl.lit(cpu), event=pl.lit(event)))

    def calls(self) -> pl.DataFrame | None:
        """ts_ns, cpu, event, cache, sheaf, n, want, pid, by time; None where the trace.dat has no such probe."""
        return probes.with_names(pl.concat(self.tables)) if self.tables else None


def read_binary(path: Path, opened: TraceDat | None = None, sheaves: SheafRows | None = None) -> Iterator[pl.DataFrame]:
    """The events (see ``columns``) of a trace.dat, some thousand at a time, by time; at one time a CPU's own order
    holds, CPUs by number.

    ``opened``: of ``open_tracedat``, whose pages are read but once; ``sheaves`` takes what they hold of whole sheaves.

    Raises InputError as ``open_tracedat`` and ``records`` do, and for an event whose format lacks a field.
    """
    dat = opened or open_tracedat(path)
    ops = {form.id: OPS_OF.get(form.name, probes.op_of(form.name)) for form in dat.formats.values()}
    masks = next((form.masks for form in dat.formats.values() if form.masks), {})
    forms = {
        number: form if form.name in OPS_OF else dataclasses.replace(form, masks=masks)
        for number, form in dat.formats.items()
    }
    kinds = {number: (forms[number], op) for number, op in ops.items() if op is not None}
    for form, op in kinds.values():
        needed = _WANTED[op] if form.name in OPS_OF else probes.wanted(form.name)
        missing = [name for name in needed if name not in form.fields]
        if missing:
            raise InputError(path, f"format of {form.name}", f"has no field {missing[0]}")
    check = Checked(path, "event")
    symbols = _Symbols(dat.kallsyms)
    failed = (pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("pfn") == 0)
    cpus = sorted(dat.cpus, key=lambda item: item.cpu)
    for events in _by_time([_of_cpu(path, dat, data, kinds, sheaves) for data in cpus]):
        named = events.join(symbols.of(events["site"]), on="site", how="left", maintain_order="left").with_columns(
            pfn=pl.when(failed).then(pl.lit(2**64 - 1, pl.UInt64)).otherwise("pfn"), resolved=pl.lit("")
        )
        yield check(named.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items()))
    if not check.rows:
        raise InputError(path, "", "holds no kmem event")


def _by_time(cpus: list[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """The events of all CPUs by time, from those of each; of every CPU only what the others may still come before is
    held."""
    more: dict[int, Iterator[pl.DataFrame]] = {}
    held: dict[int, pl.DataFrame] = {}
    for cpu, frames in enumerate(cpus):
        for held[cpu] in islice(frames, 1):
            more[cpu] = frames
    while held:
        until = min((held[cpu]["ts_ns"][-1] for cpu in more), default=None)
        ready = list(held.values())
        if until is None:
            held = {}
        else:
            ready = [frame.filter(pl.col("ts_ns") < until) for frame in ready]
            held = {cpu: frame.filter(pl.col("ts_ns") >= until) for cpu, frame in held.items()}
        for cpu in [cpu for cpu in more if held[cpu]["ts_ns"][-1] == until]:
            following = next(more[cpu], None)
            if following is None:
                del more[cpu]
            else:
                held[cpu] = pl.concat([held[cpu], following])
        events = pl.concat(ready)
        if len(events):
            yield events.sort("ts_ns", "cpu", "record")


def _of_cpu(
    path: Path, dat: TraceDat, data: CpuData, kinds: dict[int, tuple[Format, int]], sheaves: SheafRows | None
) -> Iterator[pl.DataFrame]:
    """The events of one CPU by time, some pages at a time; ``record``: its byte in what the CPU has."""
    begin = 0
    for pages in data.pages:
        found = records(path, dat, data, pages, begin)
        ids = pages[found[1]].astype(np.uint16) | (pages[found[1] + 1].astype(np.uint16) << 8)
        if sheaves is not None:
            sheaves.add(pages, found, ids, data.cpu)
        tables = _of_pages(path, data, kinds, pages, begin, found, ids)
        if tables:
            events = pl.concat(tables).sort("ts_ns", "record")
            yield probes.in_one_call(events) if events["part"].any() else events
        begin += len(pages)


def _of_pages(
    path: Path,
    data: CpuData,
    kinds: dict[int, tuple[Format, int]],
    pages: np.ndarray,
    begin: int,
    found: tuple[np.ndarray, ...],
    ids: np.ndarray,
) -> list[pl.DataFrame]:
    time, record, size = found
    tables = []
    for number, (form, op) in kinds.items():
        rows = np.flatnonzero(ids == number)
        if not len(rows):
            continue
        at = record[rows]
        need = max(field.offset + field.size for name, field in form.fields.items() if name != "buf")
        if (size[rows] < need).any():
            row = begin + int(at[np.argmax(size[rows] < need)])
            where = f"byte {data.offset}"
            raise InputError(path, where, f"CPU {data.cpu}: {form.name} is shorter than its format, {row} bytes in")
        if form.name not in OPS_OF:
            tables.append(_of_probe(pages, (time[rows], at, size[rows]), form, op, data.cpu, begin))
            continue
        columns = {
            name: _numbers(pages, at, form, name)
            for name in (*_OBJECTS, "pfn", "order")
            if name in form.fields and op != MARKER
        }
        texts = np.full(len(rows), "", object)
        name_field = form.fields.get("name")
        if op == MARKER:
            texts = _markers(pages, at, size[rows], form.fields["buf"].offset)
        elif name_field is not None and "__data_loc" in name_field.kind:
            texts = _names(pages, at, size[rows], _numbers(pages, at, form, "name"))
        zeros = np.zeros(len(rows), np.int64)
        tables.append(
            pl.DataFrame(
                {
                    "ts_ns": time[rows].astype(np.int64),
                    "cpu": np.full(len(rows), data.cpu, np.uint16),
                    "record": (at + begin) * MOST_OBJECTS,
                    "op": np.full(len(rows), op, np.uint8),
                    "src": pl.Series([form.name], dtype=pl.String).new_from_index(0, len(rows)),
                    "cache": pl.Series(texts, dtype=pl.String),
                    "ptr": columns.get("ptr", zeros).astype(np.uint64),
                    "site": columns.get("call_site", zeros).astype(np.uint64),
                    "bytes_req": columns.get("bytes_req", zeros).astype(np.uint32),
                    "bytes_alloc": columns.get("bytes_alloc", zeros).astype(np.uint32),
                    "gfp_flags": bits_of_6_1(columns.get("gfp_flags", zeros), form.masks),
                    "order": columns.get("order", zeros).astype(np.uint8),
                    "pfn": columns.get("pfn", zeros).astype(np.uint64),
                    "pid": _numbers(pages, at, form, "common_pid").astype(np.int32)
                    if "common_pid" in form.fields
                    else zeros.astype(np.int32),
                    "node": columns.get("node", np.full(len(rows), -1)).astype(np.int32).astype(np.int16),
                    "part": np.zeros(len(rows), np.bool_),
                }
            )
        )
    return tables


def _of_probe(
    pages: np.ndarray, records_of: tuple[np.ndarray, ...], form: Format, op: int, cpu: int, begin: int
) -> pl.DataFrame:
    """A row for each object of a probe's records; ``records_of``: their times, where they begin, their sizes."""
    time, at, size = records_of
    which, number, address = probes.objects(pages, at, form, _numbers(pages, at, form, "n"))
    names = np.full(len(at), "", object)
    if "name" in form.fields and "__data_loc" in form.fields["name"].kind:
        names = _names(pages, at, size, _numbers(pages, at, form, "name"))
        names[names == "(fault)"] = ""
    zeros = np.zeros(len(which), np.int64)
    flags = _numbers(pages, at, form, "flags") if "flags" in form.fields else np.zeros(len(at), np.uint64)
    pid = _numbers(pages, at, form, "common_pid") if "common_pid" in form.fields else np.zeros(len(at))
    return pl.DataFrame(
        {
            "ts_ns": time[which].astype(np.int64),
            "cpu": np.full(len(which), cpu, np.uint16),
            "record": (at[which] + begin) * MOST_OBJECTS + number,
            "op": np.full(len(which), op, np.uint8),
            "src": pl.Series([probes.source_of(form.name)], dtype=pl.String).new_from_index(0, len(which)),
            "cache": pl.Series(names[which], dtype=pl.String),
            "ptr": address,
            "site": zeros.astype(np.uint64),
            "bytes_req": zeros.astype(np.uint32),
            "bytes_alloc": zeros.astype(np.uint32),
            "gfp_flags": bits_of_6_1(flags, form.masks)[which],
            "order": zeros.astype(np.uint8),
            "pfn": zeros.astype(np.uint64),
            "pid": pid[which].astype(np.int32),
            "node": np.full(len(which), -1, np.int16),
            "part": np.full(len(which), not form.name.endswith(("_0", probes.KFREE_RCU)), np.bool_),
        }
    )


def _numbers(pages: np.ndarray, at: np.ndarray, form: Format, name: str) -> np.ndarray:
    """uint64[n]: a field of each record."""
    field = form.fields[name]
    value = np.zeros(len(at), np.uint64)
    for i in range(min(field.size, 8)):
        value |= pages[at + (field.offset + i)].astype(np.uint64) << np.uint64(8 * i)
    return value


def _names(pages: np.ndarray, at: np.ndarray, size: np.ndarray, place: np.ndarray) -> np.ndarray:
    """object[n]: the string that each record holds at ``place`` [__data_loc]: offset in its low half, size in its high.

    A place outside the record gives "".
    """
    offset = (place & np.uint64(0xFFFF)).astype(np.int64)
    length = (place >> np.uint64(16)).astype(np.int64) & 0xFFFF
    length = np.clip(np.minimum(length, size - offset), 0, NAME_BYTES)
    names = np.empty(len(at), object)
    for begin in range(0, len(at), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        column = np.arange(max(int(length[part].max()), 1))
        inside = column < length[part, None]
        index = np.where(inside, at[part, None] + offset[part, None] + column, 0)
        text = np.where(inside, pages[index], 0).astype(np.uint8)
        text[np.logical_or.accumulate(text == 0, axis=1)] = 0  # what follows the zero byte
        packed = np.ascontiguousarray(text).view(f"S{text.shape[1]}").ravel()
        known, which = np.unique(packed, return_inverse=True)
        names[part] = np.array([item.decode("utf-8", "replace") for item in known], object)[which]
    return names


def _markers(pages: np.ndarray, at: np.ndarray, size: np.ndarray, offset: int) -> np.ndarray:
    texts = [
        pages[begin + offset : begin + length].tobytes().split(b"\0")[0].decode("utf-8", "replace").rstrip("\n")
        for begin, length in zip(at.tolist(), size.tolist(), strict=True)
    ]
    return np.array(texts, object)


class _Symbols:
    """Names of code addresses, from the file's own table."""

    def __init__(self, kallsyms: bytes) -> None:
        lines = pl.DataFrame({"text": kallsyms.decode("utf-8", "replace").split("\n")})
        table = (
            lines.select(pl.col("text").str.extract_groups(r"^([0-9a-fA-F]{8,16}) [tTwW] (\S+)"))
            .unnest("text")
            .drop_nulls()
            .select(address=hexadecimal(pl.col("1")), symbol="2")
            .sort("address")
        )
        self.address, self.symbol = table["address"].to_numpy(), table["symbol"]

    def of(self, sites: pl.Series) -> pl.DataFrame:
        """``site`` and ``call_site``: symbol+0xoffset, the address where no symbol is known."""
        unique = sites.unique().sort()
        row = np.searchsorted(self.address, unique.to_numpy(), side="right") - 1
        names = [
            ""
            if not site
            else f"0x{site:x}"
            if where < 0
            else f"{self.symbol[where]}+0x{site - int(self.address[where]):x}"
            for site, where in zip(unique.to_list(), row.tolist(), strict=True)
        ]
        return pl.DataFrame({"site": unique, "call_site": pl.Series(names, dtype=pl.String)})


__all__ = ["SheafRows", "read_binary"]

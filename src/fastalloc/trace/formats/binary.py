"""The kmem events of a trace.dat as a table: fields by the formats that the file holds, no text in between."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.linux.gfp_names import bits_of_6_1
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.columns import MARKER, OPS_OF, SCHEMA, Checked, hexadecimal
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


def read_binary(path: Path) -> Iterator[pl.DataFrame]:
    """The events (see ``columns``) of a trace.dat, some thousand at a time, by time; at one time a CPU's own order
    holds, CPUs by number.

    Raises InputError as ``open_tracedat`` and ``records`` do, and for an event whose format lacks a field.
    """
    dat = open_tracedat(path)
    kinds = {form.id: (form, OPS_OF[form.name]) for form in dat.formats.values() if form.name in OPS_OF}
    for form, op in kinds.values():
        missing = [name for name in _WANTED[op] if name not in form.fields]
        if missing:
            raise InputError(path, f"format of {form.name}", f"has no field {missing[0]}")
    check = Checked(path, "event")
    symbols = _Symbols(dat.kallsyms)
    failed = (pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("pfn") == 0)
    for events in _by_time([_of_cpu(path, dat, data, kinds) for data in sorted(dat.cpus, key=lambda item: item.cpu)]):
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


def _of_cpu(path: Path, dat: TraceDat, data: CpuData, kinds: dict[int, tuple[Format, int]]) -> Iterator[pl.DataFrame]:
    """The events of one CPU by time, some pages at a time; ``record``: its byte in what the CPU has."""
    begin = 0
    for pages in data.pages:
        tables = _of_pages(path, dat, data, kinds, pages, begin)
        if tables:
            yield pl.concat(tables).sort("ts_ns", "record")
        begin += len(pages)


def _of_pages(
    path: Path, dat: TraceDat, data: CpuData, kinds: dict[int, tuple[Format, int]], pages: np.ndarray, begin: int
) -> list[pl.DataFrame]:
    time, record, size = records(path, dat, data, pages, begin)
    ids = pages[record].astype(np.uint16) | (pages[record + 1].astype(np.uint16) << 8)
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
                    "record": at + begin,
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
                }
            )
        )
    return tables


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


__all__ = ["read_binary"]

"""The kmem events of a trace.dat as a table: fields by the formats that the file holds, no text in between."""

from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.trace import compact as co
from fastalloc.trace.columns import MARKER, OPS_OF, SCHEMA, Checked, hexadecimal
from fastalloc.trace.gfp_names import bits_of_6_1
from fastalloc.trace.ring_buffer import records
from fastalloc.trace.tracedat import CpuData, Format, TraceDat, open_tracedat

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


def read_binary(path: Path) -> pl.DataFrame:
    """The events (see ``columns``) of a trace.dat, by time; at one time a CPU's own order holds, CPUs by number.

    Raises InputError as ``open_tracedat`` and ``records`` do, and for an event whose format lacks a field.
    """
    dat = open_tracedat(path)
    kinds = {form.id: (form, OPS_OF[form.name]) for form in dat.formats.values() if form.name in OPS_OF}
    for form, op in kinds.values():
        missing = [name for name in _WANTED[op] if name not in form.fields]
        if missing:
            raise InputError(path, f"format of {form.name}", f"has no field {missing[0]}")
    tables = []
    for data in sorted(dat.cpus, key=lambda item: item.cpu):
        tables += _of_cpu(path, dat, data, kinds)
    if not tables:
        raise InputError(path, "", "holds no kmem event")
    events = pl.concat(tables).sort("ts_ns", "cpu", "record").drop("record")
    sites = _symbols(dat.kallsyms, events["site"])
    failed = (pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("pfn") == 0)
    events = events.join(sites, on="site", how="left", maintain_order="left").with_columns(
        pfn=pl.when(failed).then(pl.lit(2**64 - 1, pl.UInt64)).otherwise("pfn"), resolved=pl.lit("")
    )
    table = events.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    return Checked(path, "event")(table)


def _of_cpu(path: Path, dat: TraceDat, data: CpuData, kinds: dict[int, tuple[Format, int]]) -> list[pl.DataFrame]:
    time, record, size = records(path, dat, data)
    ids = data.pages[record].astype(np.uint16) | (data.pages[record + 1].astype(np.uint16) << 8)
    tables = []
    for number, (form, op) in kinds.items():
        rows = np.flatnonzero(ids == number)
        if not len(rows):
            continue
        at = record[rows]
        need = max(field.offset + field.size for name, field in form.fields.items() if name != "buf")
        if (size[rows] < need).any():
            row = int(at[np.argmax(size[rows] < need)])
            where = f"byte {data.offset}"
            raise InputError(path, where, f"CPU {data.cpu}: {form.name} is shorter than its format, {row} bytes in")
        columns = {
            name: _numbers(data.pages, at, form, name)
            for name in (*_OBJECTS, "pfn", "order")
            if name in form.fields and op != MARKER
        }
        texts = np.full(len(rows), "", object)
        name_field = form.fields.get("name")
        if op == MARKER:
            texts = _markers(data.pages, at, size[rows], form.fields["buf"].offset)
        elif name_field is not None and "__data_loc" in name_field.kind:
            texts = _names(data.pages, at, size[rows], _numbers(data.pages, at, form, "name"))
        zeros = np.zeros(len(rows), np.int64)
        tables.append(
            pl.DataFrame(
                {
                    "ts_ns": time[rows].astype(np.int64),
                    "cpu": np.full(len(rows), data.cpu, np.uint16),
                    "record": at,
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
                    "pid": _numbers(data.pages, at, form, "common_pid").astype(np.int32)
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


def _symbols(kallsyms: bytes, sites: pl.Series) -> pl.DataFrame:
    """``site`` and ``call_site``: symbol+0xoffset, the address where no symbol is known."""
    unique = sites.unique().sort()
    lines = pl.DataFrame({"text": kallsyms.decode("utf-8", "replace").split("\n")})
    table = (
        lines.select(pl.col("text").str.extract_groups(r"^([0-9a-fA-F]{8,16}) [tTwW] (\S+)"))
        .unnest("text")
        .drop_nulls()
        .select(address=hexadecimal(pl.col("1")), symbol="2")
        .sort("address")
    )
    if not len(table):
        bare = [f"0x{site:x}" if site else "" for site in unique]
        return pl.DataFrame({"site": unique, "call_site": pl.Series(bare, dtype=pl.String)})
    row = np.searchsorted(table["address"].to_numpy(), unique.to_numpy(), side="right") - 1
    begin = table["address"].to_numpy()[np.maximum(row, 0)]
    names = [
        "" if not site else f"0x{site:x}" if where < 0 else f"{symbol}+0x{site - int(first):x}"
        for site, where, first, symbol in zip(
            unique.to_list(), row, begin, table["symbol"].gather(np.maximum(row, 0)), strict=True
        )
    ]
    return pl.DataFrame({"site": unique, "call_site": pl.Series(names, dtype=pl.String)})


__all__ = ["read_binary"]

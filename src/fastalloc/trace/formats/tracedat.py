"""The file that ``trace-cmd record`` writes, versions 6 and 7 [trace-cmd.dat.v6(5), trace-cmd.dat.v7(5)].

:func:`open_tracedat` reads what stands around the events: formats, symbols, where the pages of each CPU lie; those are
decoded by ``ring_buffer``. Every size in the file is held against the bytes that there are before it is followed.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastalloc.errors import InputError
from fastalloc.trace.formats.packed import content_of

MAGIC = b"\x17\x08\x44tracing"
PART = 1 << 18  # bytes of a CPU's pages that are held at a time, or one packed chunk
MOST_UNPACKED = 1 << 26  # bytes of one section or chunk; trace-cmd packs ten pages at a time
_DONE, _CPUSTAT, _BUFFER, _TRACECLOCK, _UNAME = 0, 2, 3, 4, 5
_HEADER_INFO, _FTRACE_EVENTS, _EVENT_FORMATS, _KALLSYMS = 16, 17, 18, 19
_NANOSECONDS = ("local", "global", "perf", "mono", "mono_raw", "boot", "tai", "")


@dataclass(frozen=True)
class Field:
    """A field of an event: bytes, from the start of its record."""

    offset: int
    size: int
    kind: str


@dataclass(frozen=True)
class Format:
    """An event's format file. ``masks``: the bits that its kernel has for names of allocation masks."""

    id: int
    name: str
    fields: dict[str, Field]
    masks: dict[str, int]


@dataclass
class CpuData:
    """Ring-buffer pages of one CPU, some at a time and unpacked (uint8[n] each). ``offset``: where they begin in the
    file."""

    cpu: int
    offset: int
    pages: Iterator[np.ndarray]


@dataclass
class TraceDat:
    """A recording: ``commit`` is the size of the page header's second field, ``data`` where a page's events begin;
    ``uname`` what uname said on the machine, ``nr_cpus`` its CPUs, with events or without."""

    page_size: int = 0
    commit: int = 8
    data: int = 16
    clock: str = ""
    uname: str = ""
    nr_cpus: int = 0
    formats: dict[int, Format] = field(default_factory=dict)
    kallsyms: bytes = b""
    cpus: list[CpuData] = field(default_factory=list)


class Cursor:
    """Numbers and strings of ``data`` from ``at`` on; InputError with the byte where it ends too soon."""

    def __init__(self, path: Path, data: memoryview | bytes, at: int, base: int = 0) -> None:
        self.path, self.data, self.at, self.base = path, data, at, base

    def refuse(self, reason: str) -> InputError:
        """The error for what stands here."""
        return InputError(self.path, f"byte {self.base + self.at}", reason)

    def take(self, size: int, what: str) -> memoryview | bytes:
        """The next ``size`` bytes."""
        if size < 0 or size > len(self.data) - self.at:
            raise self.refuse(f"{what} needs {size} bytes, the file has {len(self.data) - self.at} more")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int, what: str) -> int:
        """The next ``size`` bytes as a number."""
        return int.from_bytes(self.take(size, what), "little")

    def string(self, what: str) -> str:
        """Up to the next zero byte."""
        end = bytes(self.data[self.at : self.at + 4096]).find(b"\0")
        if end < 0:
            raise self.refuse(f"{what} does not end")
        return bytes(self.take(end + 1, what)[:-1]).decode("utf-8", "replace")


def _unpacker(name: str, cursor: Cursor) -> Callable[[bytes, int], bytes]:
    if name == "zstd":
        return lambda data, size: pa.decompress(data, size, "zstd", asbytes=True)
    if name == "zlib":
        return lambda data, size: zlib.decompressobj().decompress(data, size)
    raise cursor.refuse(f"packed by {name!r}; known are zstd and zlib")


def _unpack(cursor: Cursor, unpack: Callable[[bytes, int], bytes], most: int) -> bytes:
    """A packed block: its two sizes and its bytes."""
    packed, size = cursor.number(4, "a packed block"), cursor.number(4, "a packed block")
    if size > most:
        raise cursor.refuse(f"a packed block of {size} bytes; at most {most} make sense")
    data = bytes(cursor.take(packed, "a packed block"))
    try:
        whole = unpack(data, size)
    except (OSError, ValueError, zlib.error) as error:
        raise cursor.refuse(f"the packed block before this byte is damaged: {error}") from error
    if len(whole) != size:
        raise cursor.refuse(f"the packed block before this byte holds {len(whole)} bytes, not {size}")
    return whole


_MASK = re.compile(r'\{([^{}"]*), "(_*GFP_\w+)"')
_BIT = re.compile(r"(?P<number>0x[0-9a-fA-F]+)u?|<< *\(*(?P<shift>\d+)\)")
_FIELD = re.compile(r"field:\s*(?P<type>[^;]*?)(?P<name>\w+)(?:\[[^\]]*\])?;\s*offset:(\d+);\s*size:(\d+);")


def parse_format(text: str) -> Format | None:
    """The format in ``text`` [events/SYSTEM/EVENT/format]; None when it is none."""
    name, number = re.search(r"^name:\s*(\S+)", text, re.M), re.search(r"^ID:\s*(\d+)", text, re.M)
    if not (name and number):
        return None
    fields = {
        match["name"]: Field(int(match[3]), int(match[4]), match["type"].strip()) for match in _FIELD.finditer(text)
    }
    masks = {}
    for match in _MASK.finditer(text):
        bits = [int(bit["number"], 16) if bit["number"] else 1 << int(bit["shift"]) for bit in _BIT.finditer(match[1])]
        if len(bits) == 1:  # __GFP_RECLAIM is two
            masks[match[2]] = bits[0] & 0xFFFFFFFF
    return Format(int(number[1]), name[1], fields, masks)


def open_tracedat(path: Path) -> TraceDat:
    """Read a recording, itself packed by gzip or zstd or not.

    Raises InputError with the byte for a file cut short or damaged, lost events, a clock that does not count
    nanoseconds, big-endian data.
    """
    raw = content_of(path)
    cursor = Cursor(path, raw.data, 0)
    if bytes(cursor.take(len(MAGIC), "the header")) != MAGIC:
        raise InputError(path, "byte 0", "is no trace.dat")
    version = cursor.string("the version")
    if version not in ("6", "7"):
        raise cursor.refuse(f"version {version!r}; known are 6 and 7")
    if cursor.number(1, "the header"):
        raise cursor.refuse("is of a big-endian machine; run `trace-cmd report -t FILE > trace.txt` and give that")
    cursor.number(1, "the header")
    dat = TraceDat(page_size=cursor.number(4, "the header"))
    if version == "6":
        _version_6(cursor, dat)
    else:
        _version_7(cursor, dat)
    if dat.clock not in _NANOSECONDS:
        raise InputError(path, "", f"clock {dat.clock!r} does not count nanoseconds; record with -C mono")
    if not dat.formats:
        raise InputError(path, "", "describes no event")
    return dat


# --------------------------------------------------------------------------------------------- what both have


def _header_info(cursor: Cursor, dat: TraceDat) -> None:
    for name in ("header_page", "header_event"):
        if cursor.string("the page header's name") != name:
            raise cursor.refuse(f"here should be {name}")
        text = bytes(cursor.take(cursor.number(8, name), name)).decode("utf-8", "replace")
        if name == "header_page":
            fields = {match["name"]: match for match in _FIELD.finditer(text)}
            if not {"commit", "data"} <= set(fields):
                raise cursor.refuse("the page header has no fields commit and data")
            dat.commit, dat.data = int(fields["commit"][4]), int(fields["data"][3])
            if dat.commit not in (4, 8) or not 8 + dat.commit <= dat.data <= 64:
                raise cursor.refuse("the page header is laid out in no way known")


def _formats(cursor: Cursor, dat: TraceDat, count: int) -> None:
    for _ in range(count):
        found = parse_format(bytes(cursor.take(cursor.number(8, "a format"), "a format")).decode("utf-8", "replace"))
        if found is not None:
            dat.formats[found.id] = found


def _systems(cursor: Cursor, dat: TraceDat) -> None:
    for _ in range(cursor.number(4, "the event systems")):
        cursor.string("the name of an event system")
        _formats(cursor, dat, cursor.number(4, "an event system"))


def _lost(cursor: Cursor, text: str) -> None:
    """Refuse a CPU's statistics that tell of losses."""
    numbers = {name: int(value) for name, value in re.findall(r"^(CPU|overrun|dropped events): *(\d+)", text, re.M)}
    lost = numbers.get("overrun", 0) + numbers.get("dropped events", 0)
    if lost:
        raise cursor.refuse(f"CPU {numbers.get('CPU', '?')} lost {lost} events; record with a larger buffer (-b)")


def _clock(text: str) -> str:
    """The one in brackets of the file trace_clock, or the only one."""
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else text.strip("\0 \n")


def _options(cursor: Cursor, dat: TraceDat, other: Callable[[int, Cursor], None] | None) -> int:
    """Read options up to DONE; the offset that it names, 0 none. ``other`` takes those that only version 7 has; there
    DONE itself is an option with data."""
    while True:
        kind = cursor.number(2, "an option")
        if kind == _DONE and other is None:
            return 0
        size = cursor.number(4, "an option")
        inner = Cursor(cursor.path, bytes(cursor.take(size, "an option")), 0, cursor.base + cursor.at - size)
        if kind == _DONE:
            return inner.number(8, "the last option")
        if kind == _CPUSTAT:
            _lost(inner, bytes(inner.data).decode("utf-8", "replace"))
        elif kind == _TRACECLOCK:
            dat.clock = _clock(bytes(inner.data).decode("utf-8", "replace"))
        elif kind == _UNAME:
            dat.uname = bytes(inner.data).decode("utf-8", "replace").strip("\0 \n")
        elif other is not None:
            other(kind, inner)


# -------------------------------------------------------------------------------------------------- version 6


def _version_6(cursor: Cursor, dat: TraceDat) -> None:
    _header_info(cursor, dat)
    _formats(cursor, dat, cursor.number(4, "the formats"))
    _systems(cursor, dat)
    dat.kallsyms = bytes(cursor.take(cursor.number(4, "the symbols"), "the symbols"))
    cursor.take(cursor.number(4, "the printk formats"), "the printk formats")
    cursor.take(cursor.number(8, "the command lines"), "the command lines")
    cpus = cursor.number(4, "the CPUs")
    kind = bytes(cursor.take(10, "the kind of the data"))
    if kind == b"options  \0":
        _options(cursor, dat, None)
        kind = bytes(cursor.take(10, "the kind of the data"))
    if kind != b"flyrecord\0":
        raise cursor.refuse("holds no ring-buffer pages but text; read that with trace-cmd report")
    for cpu in range(cpus):
        offset, size = cursor.number(8, "a CPU's place"), cursor.number(8, "a CPU's place")
        _pages(Cursor(cursor.path, cursor.data, offset), dat, cpu, size, None)


# -------------------------------------------------------------------------------------------------- version 7


def _version_7(cursor: Cursor, dat: TraceDat) -> None:
    packer = cursor.string("the kind of packing")
    cursor.string("the version of packing")
    unpack = None if packer in ("none", "") else _unpacker(packer, cursor)
    places: dict[int, int] = {}
    buffers: list[Cursor] = []

    def option_7(kind: int, inner: Cursor) -> None:
        if kind == _BUFFER:
            buffers.append(inner)
        elif kind in (_HEADER_INFO, _FTRACE_EVENTS, _EVENT_FORMATS, _KALLSYMS):
            places[kind] = inner.number(8, "a section's place")

    following = cursor.number(8, "the place of the options")
    seen: set[int] = set()
    while following:
        if following in seen:
            raise cursor.refuse("the options lead back to themselves")
        seen.add(following)
        following = _options(_section(cursor, following, _DONE, unpack), dat, option_7)
    if _HEADER_INFO in places:
        _header_info(_section(cursor, places[_HEADER_INFO], _HEADER_INFO, unpack), dat)
    if _FTRACE_EVENTS in places:
        own = _section(cursor, places[_FTRACE_EVENTS], _FTRACE_EVENTS, unpack)
        _formats(own, dat, own.number(4, "the formats"))
    if _EVENT_FORMATS in places:
        _systems(_section(cursor, places[_EVENT_FORMATS], _EVENT_FORMATS, unpack), dat)
    if _KALLSYMS in places:
        own = _section(cursor, places[_KALLSYMS], _KALLSYMS, unpack)
        dat.kallsyms = bytes(own.take(own.number(4, "the symbols"), "the symbols"))
    for option in buffers:
        _buffer(option, cursor, dat, unpack)


def _section(cursor: Cursor, offset: int, wanted: int, unpack: Callable[[bytes, int], bytes] | None) -> Cursor:
    """The content of the section at ``offset``."""
    if offset > len(cursor.data):
        end = len(cursor.data)
        raise InputError(cursor.path, f"byte {end}", f"the file ends here, before its section at byte {offset}")
    own = Cursor(cursor.path, cursor.data, offset)
    kind, flags = own.number(2, "a section"), own.number(2, "a section")
    own.number(4, "a section")
    size = own.number(8, "a section")
    if kind != wanted:
        own.at = offset
        raise own.refuse(f"here should be section {wanted}, not {kind}")
    base = own.at
    if not flags & 1:
        return Cursor(cursor.path, own.take(size, "a section"), 0, base)
    if unpack is None:
        raise own.refuse("a packed section in a file that says it has none")
    return Cursor(cursor.path, _unpack(own, unpack, MOST_UNPACKED), 0, base)


def _buffer(option: Cursor, cursor: Cursor, dat: TraceDat, unpack: Callable[[bytes, int], bytes] | None) -> None:
    section = option.number(8, "a buffer")
    option.string("a buffer's name")
    dat.clock = option.string("a buffer's clock") or dat.clock
    dat.page_size = option.number(4, "a buffer")
    own = Cursor(cursor.path, cursor.data, 0)
    own.take(section, "a buffer's place")
    own.number(2, "a buffer")
    packed = own.number(2, "a buffer") & 1
    for _ in range(option.number(4, "a buffer")):
        cpu, offset, size = (option.number(width, "a CPU's place") for width in (4, 8, 8))
        _pages(Cursor(cursor.path, cursor.data, offset), dat, cpu, size, unpack if packed else None)


def _pages(cursor: Cursor, dat: TraceDat, cpu: int, size: int, unpack: Callable[[bytes, int], bytes] | None) -> None:
    if cpu <= 0xFFFF:
        dat.nr_cpus = max(dat.nr_cpus, cpu + 1)
    if not size:
        return
    offset = cursor.at
    if not 64 <= dat.page_size <= 1 << 20 or dat.page_size % 8:
        raise cursor.refuse(f"pages of {dat.page_size} bytes")
    if cpu > 0xFFFF:
        raise cursor.refuse(f"CPU {cpu}")
    if cursor.at > len(cursor.data) or size > len(cursor.data) - cursor.at:
        raise cursor.refuse(f"CPU {cpu} has {size} bytes, the file ends at byte {len(cursor.data)}")
    parts = _plain(cursor, cpu, size) if unpack is None else _unpacked(cursor, cpu, unpack)
    dat.cpus.append(CpuData(cpu, offset, _whole_pages(cursor, parts, cpu, dat.page_size)))


def _plain(cursor: Cursor, cpu: int, size: int) -> Iterator[np.ndarray]:
    for begin in range(0, size, PART):
        yield np.frombuffer(cursor.take(min(PART, size - begin), f"CPU {cpu}"), np.uint8)


def _unpacked(cursor: Cursor, cpu: int, unpack: Callable[[bytes, int], bytes]) -> Iterator[np.ndarray]:
    # The size that the file gives leaves out the count of the blocks.
    for _ in range(cursor.number(4, f"CPU {cpu}")):
        yield np.frombuffer(_unpack(cursor, unpack, MOST_UNPACKED), np.uint8)


def _whole_pages(cursor: Cursor, parts: Iterator[np.ndarray], cpu: int, page_size: int) -> Iterator[np.ndarray]:
    """The same bytes, in parts of about PART that are whole pages. Raises InputError for an odd rest."""
    held: list[np.ndarray] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= PART:
            pages = np.concatenate(held)
            whole = size // page_size * page_size
            yield pages[:whole]
            held, size = [pages[whole:]], size - whole
    if size % page_size:
        raise cursor.refuse(f"CPU {cpu}: its last page has {size % page_size} of {page_size} bytes")
    if size:
        yield np.concatenate(held)


__all__ = ["MAGIC", "CpuData", "Field", "Format", "TraceDat", "open_tracedat", "parse_format"]

"""Writes recordings as trace-cmd does, versions 6 and 7 [trace-cmd.dat.v6(5), trace-cmd.dat.v7(5)].

`trace-cmd report FILE` prints the events of what :func:`write` makes.
"""

import struct
from dataclasses import dataclass, field

import pyarrow as pa

PAGE = 4096
HEADER_PAGE = (
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n"
)
HEADER_EVENT = (
    "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n\n"
    "\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\tdata max type_len  == 28\n"
)
COMMON = (
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
)
# name: number, fields (type, name, size, struct code), what is printed
EVENTS = {
    "kmalloc": (
        11,
        [
            ("unsigned long", "call_site", 8, "Q"),
            ("const void *", "ptr", 8, "Q"),
            ("size_t", "bytes_req", 8, "Q"),
            ("size_t", "bytes_alloc", 8, "Q"),
            ("unsigned long", "gfp_flags", 8, "Q"),
            ("int", "node", 4, "i"),
        ],
    ),
    "kmem_cache_free": (
        12,
        [
            ("unsigned long", "call_site", 8, "Q"),
            ("const void *", "ptr", 8, "Q"),
            ("__data_loc char[]", "name", 4, "I"),
        ],
    ),
    "kfree": (13, [("unsigned long", "call_site", 8, "Q"), ("const void *", "ptr", 8, "Q")]),
    "mm_page_alloc": (
        14,
        [
            ("unsigned long", "pfn", 8, "Q"),
            ("unsigned int", "order", 4, "I"),
            ("unsigned long", "gfp_flags", 8, "Q"),
        ],
    ),
}
KALLSYMS = b"ffffffff81000000 T start\nffffffff81001000 t shrink\n"


def event_format(name):
    """Text of events/kmem/NAME/format."""
    number, fields = EVENTS[name]
    text = f"name: {name}\nID: {number}\nformat:\n{COMMON}"
    offset = 8
    for kind, field_name, size, _ in fields:
        text += f"\tfield:{kind} {field_name};\toffset:{offset};\tsize:{size};\tsigned:{int(kind == 'int')};\n"
        offset += size
    shown = {"__data_loc char[]": ("%s", "__get_str({})"), "int": ("%d", "REC->{}")}
    words = [(f"{n}={shown.get(k, ('0x%lx',))[0]}", shown.get(k, ("", "REC->{}"))[1].format(n)) for k, n, *_ in fields]
    return f'{text}\nprint fmt: "{" ".join(w for w, _ in words)}", {", ".join(a for _, a in words)}\n'


def record(name, *values, text=""):
    """The bytes of one event."""
    number, fields = EVENTS[name]
    body = struct.pack("<HBBi", number, 0, 0, 1)
    fixed = 8 + sum(size for *_, size, _ in fields)
    for (kind, *_, code), value in zip(fields, values, strict=False):
        if "__data_loc" in kind:
            text, value = value, ((len(value) + 1) << 16) | fixed
        body += struct.pack(f"<{code}", value)
    return body + (text.encode() + b"\0" if text else b"")


@dataclass
class Cpu:
    """Pages of one CPU in the making; times in nanoseconds."""

    pages: list[bytes] = field(default_factory=list)
    body: bytes = b""
    first: int = 0
    now: int = 0

    def event(self, time, data):
        """Add an event, on a new page where it has no room."""
        data += bytes(-len(data) % 4)
        head = b""
        delta = time - self.now
        if not self.body:
            self.first = self.now = time
            delta = 0
        if delta >> 27:
            head, delta = struct.pack("<II", (delta & (1 << 27) - 1) << 5 | 30, delta >> 27), 0
        if len(data) <= 112:
            head += struct.pack("<I", delta << 5 | len(data) // 4)
        else:
            head += struct.pack("<II", delta << 5, len(data) + 4)
        if len(self.body) + len(head) + len(data) > PAGE - 16:
            self.close()
            self.event(time, data)
            return
        self.body += head + data
        self.now = time

    def raw(self, data):
        """Add bytes as they are."""
        self.body += data

    def close(self, flags=0):
        """End the page."""
        if self.body:
            self.pages.append((struct.pack("<QQ", self.first, len(self.body) | flags) + self.body).ljust(PAGE, b"\0"))
        self.body = b""


def _head(version):
    return b"\x17\x08\x44tracing" + version + b"\0" + bytes([0, 8]) + struct.pack("<I", PAGE)


def _sized(text, width="Q"):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(f"<{width}", len(data)) + data


def _info():
    return b"header_page\0" + _sized(HEADER_PAGE) + b"header_event\0" + _sized(HEADER_EVENT)


def _systems(formats):
    return struct.pack("<I", 1) + b"kmem\0" + struct.pack("<I", len(formats)) + b"".join(map(_sized, formats))


def _option(kind, data):
    return struct.pack("<HI", kind, len(data)) + data


def write_6(cpus, formats, stats=(), clock="[mono]", uname=""):
    """A file of version 6."""
    out = _head(b"6") + _info() + struct.pack("<I", 0) + _systems(formats)
    out += _sized(KALLSYMS, "I") + struct.pack("<I", 0) + _sized(b"1 cat\n") + struct.pack("<I", len(cpus))
    options = b"".join(_option(2, text.encode() + b"\0") for text in stats) + _option(4, clock.encode() + b"\0")
    options += _option(5, uname.encode() + b"\0") if uname else b""
    out += b"options  \0" + options + struct.pack("<H", 0) + b"flyrecord\0"
    at = len(out) + 16 * len(cpus)
    at += -at % PAGE
    places, data = b"", b""
    for cpu in cpus:
        places += struct.pack("<QQ", at + len(data), PAGE * len(cpu.pages))
        data += b"".join(cpu.pages)
    return (out + places).ljust(at, b"\0") + data


def write_7(cpus, formats, stats=(), clock="mono", packed=True, uname=""):
    """A file of version 7, packed by zstd or not at all."""
    out = bytearray(_head(b"7") + (b"zstd\x001.5\0" if packed else b"none\0\0") + bytes(8))
    at_options = len(out) - 8

    def pack_lines(data):
        small = pa.compress(data, codec="zstd", asbytes=True)
        return struct.pack("<II", len(small), len(data)) + small

    def section(kind, data, pack=packed):
        where = len(out)
        data = pack_lines(data) if pack else data
        out.extend(struct.pack("<HHIQ", kind, int(pack), 0, len(data)) + data)
        return where

    places = {16: section(16, _info()), 17: section(17, struct.pack("<I", 0)), 18: section(18, _systems(formats))}
    places[19] = section(19, _sized(KALLSYMS, "I"))
    places[20] = section(20, struct.pack("<I", 0))
    places[21] = section(21, _sized(b"1 cat\n"))
    buffer = len(out)
    out.extend(struct.pack("<HHIQ", 3, int(packed), 0, 0))
    out.extend(bytes(-len(out) % PAGE))
    option = struct.pack("<Q", buffer) + b"\0" + clock.encode() + b"\0" + struct.pack("<II", PAGE, len(cpus))
    for number, cpu in enumerate(cpus):
        where = len(out)
        data = b"".join(cpu.pages)
        if packed and data:
            data = struct.pack("<I", 1) + pack_lines(data)
        out.extend(data)
        option += struct.pack("<IQQ", number, where, max(len(data) - 4 * packed, 0))
        out.extend(bytes(-len(out) % PAGE))
    options = b"".join(_option(2, text.encode() + b"\0") for text in stats) + _option(8, struct.pack("<I", len(cpus)))
    options += _option(5, uname.encode() + b"\0") if uname else b""
    options += _option(3, option) + b"".join(_option(kind, struct.pack("<Q", where)) for kind, where in places.items())
    options += _option(0, struct.pack("<Q", 0))
    out[at_options : at_options + 8] = struct.pack("<Q", section(0, options))
    return bytes(out)

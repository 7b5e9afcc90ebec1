"""Text that tracing tools print, as a table of events: ftrace's ``trace`` file, trace-cmd report, perf script.

All three put the task, the CPU in brackets, the time in seconds, the event and its fields on a line; only what stands
between differs. Plain, gzip and zstd files are read alike. Which generation of tracepoints wrote the file follows
from the fields of each event: a ``name=`` on kmem_cache_free or kmem_cache_alloc names the cache, a ``node=`` is read
wherever it stands.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from fastalloc.errors import InputError
from fastalloc.foreign import MOST_CPUS
from fastalloc.linux.gfp_names import GFP_BITS
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.columns import MARKER, OPS_OF, SCHEMA, Checked, hexadecimal
from fastalloc.trace.compact.row_passes import DIRECT_MAP
from fastalloc.trace.formats.packed import head_of, packing

_HEAD = r"\[([0-9]+)\][ \t]+(?:[^\s:]+[ \t]+)?([0-9]+)\.([0-9]{6,9})$"  # what stands before ": EVENT: FIELDS"
_LINE = (
    r"^\s*(?P<task>.*?)\s*\[(?P<cpu>[0-9]+)\]\s+(?:[^\s:]+\s+)?(?P<seconds>[0-9]+)\.(?P<part>[0-9]{6,9}):"
    r"\s+(?:\d+\s+)?(?:kmem:)?(?P<src>\w+):\s*(?P<fields>.*)$"
)
# Behind the name of a task: TID, or PID/TID [perf script -F +pid]; with record-tgid its group in brackets.
_PID = r"[-\s](?:\d+/)?(\d+)(?:\s*\(\s*(?:\d+|-+)\))?$"
# Among them frames of perf script -g: an address of any length, a symbol of any architecture, where it is from.
_NOT_EVENTS = (
    r"^\s*(#|$|cpus=|version =|CPU\s+\d+ is empty$|unknown option \d+$"
    r"|=>|.*: <stack trace>$|\S+\+0x[0-9a-f]+|\s+[0-9a-f]{8,16} "
    r"|\s+[0-9a-f]+ \S.* ?\(.*\)\s*$|\s+\S+\.[chS]:\d+$)"
)
_LOST = r"(?i)LOST \d+ EVENTS|EVENTS DROPPED\]|RECORD_LOST|\[LOST|^\s*CPU:?\s*\d+ \[(LOST|EVENTS)"
# Time without a point [kernel/trace/trace_output.c: clocks x86-tsc, counter and uptime print a count].
_TICKS = r"^.*\[[0-9]+\]\s+(?:[^\s:]+\s+)?[0-9]+:\s+(?:kmem:)?\w+:\s"
_WRITTEN = r"^# entries-in-buffer/entries-written: (\d+)/(\d+)"  # ftrace's own count
_CPUS = re.compile(rb"^(?:#.*#P:|cpus=)(\d{1,4})\s*$", re.MULTILINE)  # ftrace's header and trace-cmd's
_BLOCK = 1 << 21  # bytes read at a time
_LONGEST = 1 << 20  # bytes of a line
_FIELDS = ("ptr", "call_site", "bytes_req", "bytes_alloc", "gfp_flags", "node", "accounted", "name", "pfn", "order")
_BITS = re.compile(r"0x[0-9a-fA-F]{1,16}|[0-9]{1,20}")
_KNOWN = {*_FIELDS, "page", "migratetype"}
_PAGE_OFFSET_32 = 0xC0000000  # where a 32-bit kernel maps memory, or a multiple of 1 GiB below


def _blocks(path: Path) -> Iterator[pl.DataFrame]:
    """``text`` of some lines and their number ``line``, from 1; whole lines, some MiB at a time."""
    opened = head_of(path)
    if opened.startswith(b"PERFILE2"):
        raise InputError(path, "byte 0", "is a perf.data; run `perf script -i FILE > trace.txt` and give that")
    for magic, what in ((co.MAGIC, "compact trace"), (b"PAR1", "Parquet file")):
        if opened.startswith(magic):
            raise InputError(path, "byte 0", f"is a packed {what}; unpack it first")
    line, rest, more = 1, b"", True
    try:
        with pa.input_stream(path.open("rb"), compression=packing(path)) as stream:
            while more:
                block = stream.read(_BLOCK)
                more = bool(block)
                end = block.rfind(b"\n") + 1
                whole, rest = (rest + block[:end], block[end:]) if end else (b"", rest + block)
                if len(rest) > _LONGEST:
                    raise InputError(path, f"line {line + whole.count(10)}", f"has more than {_LONGEST:,} bytes")
                if whole:
                    lines = _lines(path, whole)
                    yield lines.with_row_index("line", offset=line)
                    line += len(lines)
        if rest:
            raise InputError(path, f"line {line}", "the file ends inside this line: it was cut short")
    except (OSError, pa.ArrowException) as error:
        raise InputError(path, f"line {line} or later", f"cannot be read: {str(error).splitlines()[0]}") from error


def _lines(path: Path, data: bytes) -> pl.DataFrame:
    try:
        lines = pl.read_csv(
            io.BytesIO(data.replace(b"\x01", b"?")),  # a task may have it in its name
            has_header=False,
            separator="\x01",
            quote_char=None,
            new_columns=["text"],
            schema={"text": pl.String},
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(path, "", f"cannot be read as text: {str(error).splitlines()[0]}") from error
    return lines.with_columns(pl.col("text").fill_null(""))


def read_text(path: Path) -> Iterator[pl.DataFrame]:
    """The events (see ``columns``) of a text trace, a few ten thousand at a time.

    Raises InputError with the line for lost events, a line that is no event, an event without its fields, hashed
    pointers, and time that runs backwards; for a perf.data it says what to run.
    """
    check = Checked(path, "line")
    found = False
    for lines in _blocks(path):
        lines = _taken_apart(path, lines)
        lines = lines.with_columns(op=pl.col("src").replace_strict(OPS_OF, default=None, return_dtype=pl.UInt8))
        lines = lines.filter(pl.col("op").is_not_null())
        if len(lines):
            found = True
            events = _events(path, lines)
            events = events.select("line", *(pl.col(name).cast(kind) for name, kind in SCHEMA.items())).sort("line")
            yield check(events.drop("line"), events["line"])
    if not found:
        raise InputError(path, "", "holds no kmem event")


def cpus_told(path: Path) -> int:
    """The CPUs of the machine by what stands before the events, 0 where nothing does: some may have no event."""
    told = _CPUS.search(head_of(path, 1 << 16))
    return min(int(told[1]), MOST_CPUS) if told else 0


def _taken_apart(path: Path, lines: pl.DataFrame) -> pl.DataFrame:
    """The lines that are events: line, task, cpu, seconds, part (of a second), src, fields."""
    parts = pl.col("text").str.splitn(": ", 3).struct
    head = parts[0].str.extract_groups(_HEAD).struct
    plain = lines.select(
        "line", "text", task=parts[0].str.splitn("[", 2).struct[0].str.strip_chars(), cpu=head[0], seconds=head[1],
        part=head[2], src=parts[1].str.strip_chars_start().str.strip_prefix("kmem:"),
        fields=parts[2].str.strip_chars_start(),
    )  # fmt: skip
    # Names of tasks may hold what separates the rest, an event without fields lacks the last separator.
    odd = pl.col("cpu").is_null() | pl.col("fields").is_null() | ~pl.col("src").is_in(list(OPS_OF))
    odd |= pl.col("text").str.count_matches("[", literal=True) > 1
    rest = plain.filter(odd).select("line", "text", pl.col("text").str.extract_groups(_LINE).alias("parts"))
    rest = rest.unnest("parts")
    counts = rest.select("line", pl.col("text").str.extract_groups(_WRITTEN)).unnest("text").drop_nulls()
    for line, left, written in counts.iter_rows():
        if left != written:
            reason = f"of {written} events {left} are left, the others were overwritten; record with a larger buffer"
            raise InputError(path, f"line {line}", reason)
    for pattern, reason in (
        (_LOST, "events were lost here ({}); record with a larger buffer"),
        (_TICKS, "the clock of {!r} counts no seconds; record after `echo mono > trace_clock`"),
        (None, "is no event of ftrace, trace-cmd or perf script: {!r}"),
    ):
        known = pl.col("text").str.contains(pattern) if pattern else ~pl.col("text").str.contains(_NOT_EVENTS)
        wrong = rest.filter(pl.col("src").is_null() & known).head(1)
        if len(wrong):
            raise InputError(path, f"line {wrong['line'][0]}", reason.format(wrong["text"][0].strip()[:80]))
    rest = rest.filter(pl.col("src").is_not_null())
    events = plain.filter(~odd).drop("text")
    return pl.concat([events, rest.select(events.columns)]).sort("line") if len(rest) else events


def _with_fields(path: Path, lines: pl.DataFrame) -> pl.DataFrame:
    """``lines`` by tracepoint, with a column for each of _FIELDS, null where there is none. Raises InputError for an
    unknown field.

    The events of a tracepoint have their fields in one order: split at blanks, a place is a field if all say so.
    """
    parts = []
    for part in lines.partition_by("src", maintain_order=True):
        place = part["fields"].str.splitn(" ", len(_FIELDS) + 2).struct.unnest()
        columns: dict[str, pl.Series] = {}
        names: set[str] = set()
        for column in place:
            if column.null_count() == len(column):
                break
            name = (column[0] or "").split("=")[0]
            if column.str.starts_with(f"{name}=").all(ignore_nulls=False):
                names.add(name)
                if name in _FIELDS:
                    columns.setdefault(name, column.str.slice(len(name) + 1))
            else:
                names |= set(column.str.extract(r"^([^=\s]+)=", 1).drop_nulls().unique())
        if part["op"][0] != MARKER and not names <= _KNOWN:
            name = min(names - _KNOWN)
            line = part.filter(pl.col("fields").str.contains(f"{name}=", literal=True))["line"][0]
            raise InputError(
                path, f"line {line}", f"{part['src'][0]} has a field {name!r}, which no kernel known prints"
            )
        for name in _FIELDS:
            if name not in columns and part["fields"].str.contains(f"{name}=", literal=True).any():
                columns[name] = part["fields"].str.extract(rf"(?:^|\s){name}=(\S*)", 1)
        none = pl.lit(None, pl.String)
        parts.append(part.with_columns(**{name: columns.get(name, none) for name in _FIELDS}))
    return pl.concat(parts)


def _events(path: Path, lines: pl.DataFrame) -> pl.DataFrame:
    lines = _with_fields(path, _as_words(lines))
    objects = pl.col("op") <= co.OP_BULK_FREE
    pages = pl.col("op").is_in([co.OP_PAGE_ALLOC, co.OP_PAGE_FREE])
    pfn = pl.col("pfn")
    pfn = (
        pl.when(pfn.str.starts_with("0x"))
        .then(hexadecimal(pfn))
        .otherwise(pfn.str.to_integer(strict=False).cast(pl.UInt64))
    )
    numbers = {
        "seconds": pl.UInt32,
        "cpu": pl.UInt16,
        "bytes_req": pl.UInt32,
        "bytes_alloc": pl.UInt32,
        "order": pl.UInt8,
        "node": pl.Int16,
    }
    number = {name: pl.col(name).cast(kind, strict=False) for name, kind in numbers.items()}
    outside = lines.select(
        "line", **{name: pl.col(name).is_not_null() & text.is_null() for name, text in number.items()}
    )
    for wrong in outside.iter_columns():
        if wrong.name != "line" and wrong.any():
            place = f"line {outside.filter(wrong)['line'].sort()[0]}"
            raise InputError(path, place, f"a value of {wrong.name} that is no number or out of range")
    ptr = hexadecimal(pl.col("ptr"))
    digits = pl.col("ptr").str.strip_prefix("0x").str.len_chars()
    # A 64-bit kernel prints all 16 digits, and a hash as one whose upper half is 0; perf and trace-cmd print the rest.
    hashed = (digits == 16) & (ptr > 0) & (ptr < 2**32)
    short = ~hashed & (ptr > 0) & (ptr < 2**32)
    # Of a 32-bit kernel that hashes, only that objects lie at multiples of 4 tells.
    hashed |= short & ((ptr & 3) != 0)
    moved = pl.when(short).then(ptr + (DIRECT_MAP - _PAGE_OFFSET_32)).otherwise(ptr)
    accounted = pl.when(pl.col("accounted") == "true").then(pl.lit("|__GFP_ACCOUNT")).otherwise(pl.lit(""))
    events = lines.select(
        "line",
        "op",
        "src",
        ts_ns=number["seconds"].cast(pl.Int64) * 1_000_000_000 + pl.col("part").str.pad_end(9, "0").cast(pl.Int64),
        cpu=number["cpu"],
        cache=pl.when(pl.col("op") == MARKER).then("fields").otherwise("name").fill_null(""),
        ptr=pl.when(objects).then(moved),
        hashed=objects & hashed,
        call_site=pl.col("call_site").str.replace(r"/0x[0-9a-f]+", "").str.replace(r"\[", " [").fill_null(""),
        bytes_req=number["bytes_req"].fill_null(0),
        bytes_alloc=number["bytes_alloc"].fill_null(0),
        # Some kernels print no mask; ``accounted`` still tells one bit.
        gfp_names=pl.col("gfp_flags").fill_null("") + accounted,
        order=number["order"].fill_null(0),
        pfn=pl.when(pages).then(pfn),
        node=number["node"].fill_null(-1),
        pid=pl.col("task").str.extract(_PID, 1).cast(pl.Int32, strict=False).fill_null(0),
        alloc=(pl.col("op") == co.OP_ALLOC) & number["bytes_alloc"].is_null(),
    )  # fmt: skip
    incomplete = events.filter(
        (objects & pl.col("ptr").is_null()) | (pages & pl.col("pfn").is_null()) | pl.col("alloc")
    )
    if len(incomplete):
        row = incomplete.sort("line").row(0, named=True)
        raise InputError(path, f"line {row['line']}", f"{row['src']} without the fields that a kmem event has")
    pointers = (events["op"] <= co.OP_BULK_FREE) & (events["ptr"] > 0)
    if events["hashed"].sum() > pointers.sum() // 4:
        line = events.filter("hashed")["line"].sort()[0]
        raise InputError(path, f"line {line}", "pointers are hashed; record after `echo nohash-ptr > trace_options`")
    events = _masks(path, events)
    # A failed attempt is printed as page=0 with pfn 0.
    failed = (pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("pfn") == 0)
    return events.with_columns(
        pfn=pl.when(failed).then(pl.lit(2**64 - 1, pl.UInt64)).otherwise(pl.col("pfn").fill_null(0)),
        ptr=pl.col("ptr").fill_null(0),
        resolved=pl.lit(""),
    )


def _as_words(lines: pl.DataFrame) -> pl.DataFrame:
    """``fields`` as NAME=VALUE parted by single blanks: a module is joined to its call site, a null pointer is 0, and
    what some kernels and tools put in brackets is a plain number."""
    fields = pl.col("fields")
    if lines["fields"].str.contains(r"ptr= |[(\[]").any():
        fields = (
            fields.str.replace(r"(call_site=\S+) \[([^\]\s]+)\]", "$1[$2]")
            .str.replace(r"ptr=\s*\((?:null|nil)\)", "ptr=0")
            .str.replace(r"ptr=\s*\(_+ptrval_+\)", "ptr=0000000000000001")
            .str.replace_all(r"(\w+)=\((-?\d+)\)", "$1=$2")
        )
    return lines.with_columns(fields)


def _masks(path: Path, events: pl.DataFrame) -> pl.DataFrame:
    """``gfp_flags`` from ``gfp_names``, each spelling worked out once. Raises InputError for a number that is none."""
    masks = {}
    for text in events["gfp_names"].unique().to_list():
        mask = 0
        for name in text.split("|"):
            if name.startswith("0x") or name.isdecimal():
                if not _BITS.fullmatch(name):
                    line = int(events.filter(pl.col("gfp_names") == text)["line"].sort()[0])
                    raise InputError(path, f"line {line}", f"a mask of {name[:40]!r}: expected at most 64 bits")
                mask |= int(name, 0)
            else:
                # up to 4.5 single bits are printed without their underscores
                mask |= GFP_BITS.get(name, GFP_BITS.get(f"__{name}", 0))
        masks[text] = mask & 0xFFFFFFFF
    return events.with_columns(gfp_flags=pl.col("gfp_names").replace_strict(masks, default=0, return_dtype=pl.UInt32))

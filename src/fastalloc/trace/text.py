"""Text that tracing tools print, as a table of events: ftrace's ``trace`` file, trace-cmd report, perf script.

All three put the task, the CPU in brackets, the time in seconds, the event and its fields on a line; only what stands
between differs. Plain, gzip and zstd files are read alike. Which generation of tracepoints wrote the file follows
from the fields of each event: a ``name=`` on kmem_cache_free or kmem_cache_alloc names the cache, a ``node=`` is read
wherever it stands.
"""

from pathlib import Path

import polars as pl

from fastalloc.errors import InputError
from fastalloc.trace import compact as co
from fastalloc.trace.columns import MARKER, OPS_OF, SCHEMA, checked, hexadecimal
from fastalloc.trace.gfp_names import GFP_BITS
from fastalloc.trace.packed import head_of

_LINE = (
    r"^\s*(?P<task>.*?)\s*\[(?P<cpu>\d+)\]\s+(?:[^\s:]+\s+)?(?P<seconds>\d+)\.(?P<part>\d{6,9}):"
    r"\s+(?:kmem:)?(?P<src>\w+):\s*(?P<fields>.*)$"
)
_NOT_EVENTS = r"^\s*(#|$|cpus=|version =|=>|.*: <stack trace>$|\S+\+0x[0-9a-f]+|\s+[0-9a-f]{8,16} )"
_LOST = r"(?i)LOST \d+ EVENTS|\[EVENTS DROPPED\]|\[LOST|^\s*CPU:?\s*\d+ \[(LOST|EVENTS)"


def _lines(path: Path) -> pl.DataFrame:
    """``text`` and its ``line`` number, from 1."""
    opened = head_of(path)
    if opened.startswith(b"PERFILE2"):
        raise InputError(path, "byte 0", "is a perf.data; run `perf script -i FILE > trace.txt` and give that")
    for magic, what in ((co.MAGIC, "compact trace"), (b"PAR1", "Parquet file")):
        if opened.startswith(magic):
            raise InputError(path, "byte 0", f"is a packed {what}; unpack it first")
    try:
        lines = pl.read_csv(
            path,
            has_header=False,
            separator="\x01",
            quote_char=None,
            new_columns=["text"],
            schema={"text": pl.String},
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        if "empty" in str(error):
            raise InputError(path, "", "is empty") from error
        raise InputError(path, "", f"cannot be read as text: {str(error).splitlines()[0]}") from error
    return lines.with_columns(pl.col("text").fill_null("")).with_row_index("line", offset=1)


def read_text(path: Path) -> pl.DataFrame:
    """The events (see ``columns``) of a text trace.

    Raises InputError with the line for lost events, a line that is no event, an event without its fields, hashed
    pointers, and time that runs backwards; for a perf.data it says what to run.
    """
    lines = _lines(path)
    lost = lines.filter(pl.col("text").str.contains(_LOST)).head(1)
    if len(lost):
        raise InputError(
            path,
            f"line {lost['line'][0]}",
            f"events were lost here ({lost['text'][0].strip()}); record with a larger buffer",
        )
    lines = lines.with_columns(pl.col("text").str.extract_groups(_LINE).alias("parts")).unnest("parts")
    broken = lines.filter(pl.col("src").is_null() & ~pl.col("text").str.contains(_NOT_EVENTS)).head(1)
    if len(broken):
        raise InputError(
            path,
            f"line {broken['line'][0]}",
            f"is no event of ftrace, trace-cmd or perf script: {broken['text'][0][:80]!r}",
        )
    lines = lines.filter(pl.col("src").is_not_null()).drop("text")
    lines = lines.with_columns(op=pl.col("src").replace_strict(OPS_OF, default=None, return_dtype=pl.UInt8)).filter(
        pl.col("op").is_not_null()
    )
    if not len(lines):
        raise InputError(path, "", "holds no kmem event")
    return _events(path, lines)


def _field(name: str, pattern: str) -> pl.Expr:
    return pl.col("fields").str.extract(rf"\b{name}=({pattern})", 1)


def _gfp() -> pl.Expr:
    """The mask: a number, or names joined by ``|``. Some kernels print none; then ``accounted`` still tells one bit."""
    names = _field("gfp_flags", r"[^\s]*").fill_null("")
    accounted = _field("accounted", "true").is_not_null()
    return pl.when(accounted).then(names + pl.lit("|__GFP_ACCOUNT")).otherwise(names)


def _events(path: Path, lines: pl.DataFrame) -> pl.DataFrame:
    objects = pl.col("op") <= co.OP_BULK_FREE
    pages = pl.col("op").is_in([co.OP_PAGE_ALLOC, co.OP_PAGE_FREE])
    pfn = _field("pfn", r"(?:0x)?[0-9a-fA-F]+")
    pfn = (
        pl.when(pfn.str.starts_with("0x"))
        .then(hexadecimal(pfn))
        .otherwise(pfn.str.to_integer(strict=False).cast(pl.UInt64))
    )
    numbers = {
        "seconds": (pl.col("seconds"), pl.UInt32),
        "cpu": (pl.col("cpu"), pl.UInt16),
        "bytes_req": (_field("bytes_req", r"\d+"), pl.UInt32),
        "bytes_alloc": (_field("bytes_alloc", r"\d+"), pl.UInt32),
        "order": (_field("order", r"\d+"), pl.UInt8),
        "node": (_field("node", r"-?\d+"), pl.Int16),
    }
    for name, (text, kind) in numbers.items():
        over = lines.filter(text.is_not_null() & text.cast(kind, strict=False).is_null()).head(1)
        if len(over):
            raise InputError(path, f"line {over['line'][0]}", f"a value of {name} that is out of range")
    number = {name: text.cast(kind, strict=False) for name, (text, kind) in numbers.items()}
    events = lines.select(
        "line",
        "op",
        "src",
        ts_ns=number["seconds"].cast(pl.Int64) * 1_000_000_000 + pl.col("part").str.pad_end(9, "0").cast(pl.Int64),
        cpu=number["cpu"],
        cache=pl.when(pl.col("op") == MARKER)
        .then(pl.col("fields"))
        .otherwise(_field("name", r"\S+"))
        .fill_null(""),
        ptr=pl.when(objects).then(
            pl.when(pl.col("fields").str.contains(r"\bptr=\(nil\)")).then(pl.lit(0, pl.UInt64)).otherwise(
                hexadecimal(_field("ptr", r"(?:0x)?[0-9a-fA-F]+"))
            )
        ),
        call_site=_field("call_site", r"\S+").str.replace(r"/0x[0-9a-f]+$", "").fill_null(""),
        bytes_req=number["bytes_req"].fill_null(0),
        bytes_alloc=number["bytes_alloc"].fill_null(0),
        gfp_names=_gfp(),
        order=number["order"].fill_null(0),
        pfn=pl.when(pages).then(pfn),
        node=number["node"].fill_null(-1),
        pid=pl.col("task").str.extract(r"[-\s](\d+)$", 1).cast(pl.Int32, strict=False).fill_null(0),
        alloc=(pl.col("op") == co.OP_ALLOC) & number["bytes_alloc"].is_null(),
    )  # fmt: skip
    incomplete = events.filter(
        (objects & pl.col("ptr").is_null()) | (pages & pl.col("pfn").is_null()) | pl.col("alloc")
    )
    if len(incomplete):
        row = incomplete.row(0, named=True)
        raise InputError(path, f"line {row['line']}", f"{row['src']} without the fields that a kmem event has")
    hashed = events.filter(objects & (pl.col("ptr") > 0) & (pl.col("ptr") < 2**32))
    if len(hashed) > len(events) // 4:
        raise InputError(
            path, f"line {hashed['line'][0]}", "pointers are hashed; record after `echo nohash-ptr > trace_options`"
        )
    events = _masks(events)
    # A failed attempt is printed as page=0 with pfn 0.
    failed = (pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("pfn") == 0)
    events = events.with_columns(
        pfn=pl.when(failed).then(pl.lit(2**64 - 1, pl.UInt64)).otherwise(pl.col("pfn").fill_null(0)),
        ptr=pl.col("ptr").fill_null(0),
        resolved=pl.lit(""),
    )
    table = events.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    return checked(path, table, "line", events["line"])


def _masks(events: pl.DataFrame) -> pl.DataFrame:
    """``gfp_flags`` from ``gfp_names``: each spelling is worked out once."""
    spelled = events["gfp_names"].unique().to_list()
    masks = {}
    for text in spelled:
        mask = 0
        for name in text.split("|"):
            if name.startswith("0x"):
                mask |= int(name, 16)
            else:
                mask |= int(name) if name.isdecimal() else GFP_BITS.get(name, 0)
        masks[text] = mask & 0xFFFFFFFF
    return events.with_columns(gfp_flags=pl.col("gfp_names").replace_strict(masks, default=0, return_dtype=pl.UInt32))

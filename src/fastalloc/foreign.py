"""Tables that others wrote, read so that damage is an error and not the end of the process.

Arrow's readers are fuzzed by their makers and raise; what they gave is validated in full before Polars sees it.
"""

import codecs
import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from fastalloc.bounded import bytes_of, decoded, refuse_waiting
from fastalloc.errors import InputError, reading
from fastalloc.forked import refuse_forked
from fastalloc.memory import memory_limit
from fastalloc.unpacked import ipc_bytes, plain_bytes

MOST_BYTES = 1 << 34  # of a table in memory, as its own footer tells, and no more than may be taken
MOST_PART = 1 << 28  # of a section of a container, or of some thousand rows
MOST_CPUS = 8192  # CONFIG_NR_CPUS of x86-64 with MAXSMP [arch/x86/Kconfig]
MOST_NODES = 1024  # MAX_NUMNODES there [NODES_SHIFT 10]
MOST_ORDER = 20
MOST_OBJECTS = 32767  # of a slab [struct slab: objects, 15 bits since 3.1]
_WORDS = {pa.string(), pa.large_string(), pa.string_view()}
_TEXTS = {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}  # bytes; of others 4


def parquet_table(path: Path, wanted: Mapping[str, pa.DataType] | None = None) -> pl.DataFrame:
    """A Parquet file whole, or its columns ``wanted``, of these types; page checksums are compared.

    Raises InputError naming the file, and the column that is missing or of another type.
    """
    refuse_forked(str(path))
    with reading(path, "", "is not readable as Parquet"):
        with opened(path, path, wanted) as file:
            for name in wanted or ():
                if name not in file.schema_arrow.names:
                    raise InputError(path, name, "column is missing")
            table = file.read(columns=list(wanted) if wanted is not None else None, use_threads=False)
            _refuse_fewer(path, table.num_rows, file)
        return frame(path, table, wanted, most=min(MOST_BYTES, memory_limit()))


@contextmanager
def opened(
    path: object, source: Any, names: Iterable[str] | None = None, nested: bool = False
) -> Iterator[parquet.ParquetFile]:
    """The Parquet file at ``path``, its page checksums compared, the texts of its columns ``names`` (None: all) read as
    dictionaries: one that stands a million times is there once.

    Raises InputError where those columns take more than may be taken, or are lists and tables and not ``nested``.
    """
    if isinstance(source, Path):
        refuse_waiting(source, read_once=False)
    with parquet.ParquetFile(source) as file:
        schema, told = file.schema_arrow, file.metadata
        kinds = {field.name: field.type for field in schema if names is None or field.name in set(names)}
        for name, kind in kinds.items():
            if pa.types.is_nested(kind) and not nested:
                raise InputError(path, name, f"holds {kind}, where each row has one value")
        texts = [name for name, kind in kinds.items() if kind in _TEXTS]
        groups = [told.row_group(i) for i in range(told.num_row_groups)]
        columns = [(group.num_rows, group.column(i)) for group in groups for i in range(group.num_columns)]
        wide = sum(
            column.num_values * _WIDTHS.get(column.physical_type, 4)
            for _, column in columns
            if names is None or column.path_in_schema in kinds
        )
        sizes = [group.total_byte_size for group in groups] + [column.num_values for _, column in columns]
        size, most = max(wide, sum(sizes[: len(groups)])), min(MOST_BYTES, memory_limit())
        if size > most or min(sizes, default=0) < 0:
            raise InputError(path, "", f"is {size:,} bytes once unpacked; at most {most:,} are read, see --memory")
        flat = {name for name, kind in kinds.items() if not pa.types.is_nested(kind)}
        others = [column for rows, column in columns if column.path_in_schema in flat and column.num_values != rows]
        if others or sum(group.num_rows for group in groups) != told.num_rows:
            raise InputError(path, "", "tells of other numbers of rows in its columns than in all")
    if not isinstance(source, Path):
        source.seek(0)
    with parquet.ParquetFile(source, read_dictionary=texts, page_checksum_verification=True) as file:
        yield file


def parquet_batches(path: Path, rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The columns ``names`` of a Parquet file, ``rows`` at a time, validated."""
    refuse_forked(str(path))
    with reading(path, "", "is not readable as Parquet"), opened(path, path, names) as file:
        read = 0
        for batch in file.iter_batches(rows, columns=names, use_threads=False):
            batch.validate(full=True)
            read += batch.num_rows
            _refuse_large(path, "", batch.columns, MOST_PART)
            # What fields say beside their type is for Polars, which takes it for its own and panics.
            yield pa.RecordBatch.from_arrays([_plain(column) for column in batch.columns], names=batch.schema.names)
        _refuse_fewer(path, read, file)


def _refuse_fewer(path: object, rows: int, file: parquet.ParquetFile) -> None:
    """Pages may tell of fewer rows than the footer does."""
    if rows != file.metadata.num_rows:
        raise InputError(path, "", f"has {rows:,} rows in its pages; its footer tells of {file.metadata.num_rows:,}")


def parquet_kinds(path: Path) -> dict[str, pa.DataType]:
    """The columns of a Parquet file with their types.

    Raises InputError where one is there more than once.
    """
    refuse_forked(str(path))
    refuse_waiting(path, read_once=False)
    with reading(path):
        path.open("rb").close()  # its own words for a file that is not there, or is a folder
    with reading(path, "byte 0", "is not readable as Parquet"), parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
    refuse_doubled(path, schema.names)
    return {field.name: field.type for field in schema}


def refuse_doubled(path: object, names: Iterable[str]) -> None:
    """Raise InputError, naming file and column, where a table has a column more than once."""
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(path, name, f"column is there {times} times")


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file has."""
    refuse_waiting(path, read_once=False)
    with reading(path, "byte 0", "is not readable as Parquet"), parquet.ParquetFile(path) as file:
        return max(0, int(file.metadata.num_rows))


def ipc_table(path: object, where: str, data: bytes, wanted: Mapping[str, pa.DataType]) -> pl.DataFrame:
    """The columns ``wanted`` of an Arrow IPC file in memory."""
    refuse_forked(str(path))
    with reading(path, where, "is not readable as Arrow IPC"):
        size = ipc_bytes(data)
        if size > MOST_PART:
            raise InputError(path, where, f"is {size:,} bytes once unpacked; at most {MOST_PART:,} are read")
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        for name in wanted:
            if name not in table.column_names:
                raise InputError(path, f"{where}: {name}", "column is missing")
        return frame(path, table, wanted, where)


def frame(
    path: object, table: pa.Table, wanted: Mapping[str, pa.DataType] | None, where: str = "", most: int = MOST_PART
) -> pl.DataFrame:
    """An Arrow table as a frame, its columns ``wanted`` in their types, of ``most`` bytes."""
    with reading(path, where, "is damaged"):
        table.validate(full=True)
        _refuse_large(path, where, table.columns if wanted is None else [table[name] for name in wanted], most)
        if wanted is None:
            found = pl.from_arrow(pa.table([_plain(column) for column in table.columns], names=table.column_names))
        else:
            columns = {
                name: _cast(path, f"{where}: {name}" if where else name, table[name], kind)
                for name, kind in wanted.items()
            }
            found = pl.from_arrow(pa.table(columns))
        if not isinstance(found, pl.DataFrame):
            raise InputError(path, where, "is no table")
        return found


def _refuse_large(path: object, where: str, columns: Iterable[pa.ChunkedArray | pa.Array], most: int) -> None:
    size = plain_bytes(columns)
    if size > most:
        raise InputError(path, where, f"is {size:,} bytes with its texts written out; at most {most:,} are read")


def _plain(column: Any) -> Any:
    """A column with a text in each row."""
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) and kind.value_type in _TEXTS else column


def _cast(path: object, where: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    own = refuse_kind(path, where, column.type, kind)
    with reading(path, where, f"holds what is no {kind}"):
        return column.cast(own).cast(kind)


def refuse_kind(path: object, where: str, found: pa.DataType, kind: pa.DataType) -> pa.DataType:
    """Raise InputError where a column of type ``found`` does not say what one of ``kind`` does: whole numbers stand for
    whole numbers, texts for texts; the type of its values else."""
    own = found.value_type if pa.types.is_dictionary(found) else found
    alike = own in _WORDS if kind in _WORDS else pa.types.is_integer(own) or pa.types.is_null(own) or own == kind
    if not alike:
        raise InputError(path, where, f"holds {own}, not {kind}")
    return own


def csv_table(
    path: Path,
    numbers: Mapping[str, tuple[int, int]],
    texts: tuple[str, ...],
    empty: int | None = None,
    content: bytes | None = None,
) -> pl.DataFrame:
    """A CSV file, plain or gzip, all its columns as text but ``numbers``, which are integers of these ranges.

    ``empty``: the number that an empty field stands for; none where it is None. ``content``: what is in the file, where
    it was read before.

    Raises InputError naming the file, the line and the column.
    """
    refuse_forked(str(path))
    with reading(path, "", "is not readable as CSV"):
        table = csv_rows(path, content)
        for name in (*texts, *numbers):
            if name not in table.columns:
                raise InputError(path, name, "column is missing")
        for name in texts:
            refuse(path, table[name].is_null(), name, "is empty", "line", 2)
        for name, (least, most) in numbers.items():
            column = table[name].str.strip_chars().cast(pl.Int64, strict=False)
            if empty is not None:
                column = column.zip_with(table[name].is_not_null(), pl.Series([empty], dtype=pl.Int64))
            wrong = column.is_null() | ~column.is_between(least, most)
            if wrong.any():
                text = table[name].filter(wrong)[0]
                told = "is empty" if text is None else f"{text!r} is no number"
                refuse(path, wrong, name, f"{told}; expected one of {least:,} .. {most:,}", "line", 2)
            table = table.with_columns(column)
        return table


def csv_rows(path: Path, content: bytes | None = None, *, typed: bool = False, whole: bool = False) -> pl.DataFrame:
    """A CSV file, plain or gzip, in UTF-8 or UTF-16: its columns as text, or ``typed`` by what their fields look like.

    ``content``: as of ``csv_table``. ``whole``: refuse a row that is cut short, too; else what it lacks is empty.

    Raises InputError naming the file and the line or column: a row of more fields than the header names, a column named
    twice.
    """
    data = content_of(path) if content is None else content
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = decoded(data).encode()
    with reading(path, "", "is not readable as CSV"):
        _refuse_ragged(path, data, whole)
        return pl.read_csv(data, infer_schema=typed, infer_schema_length=None)


def _refuse_ragged(path: Path, data: bytes, whole: bool) -> None:
    if b'"' in data:  # a field may hold commas and line ends
        reader = csv.reader(StringIO(data.decode("utf-8-sig", "replace")))
        counts = ((reader.line_num, len(row)) for row in reader if row)
        names = next(csv.reader(StringIO(data.decode("utf-8-sig", "replace"))), [])
    else:
        lines = data.split(b"\n")
        counts = ((i, line.count(b",") + 1) for i, line in enumerate(lines, 1) if line.strip())
        names = lines[0].decode("utf-8-sig", "replace").strip().split(",")
    refuse_doubled(path, names)
    for line, count in counts:
        if count > len(names) or (whole and count < len(names)):
            raise InputError(path, f"line {line}", f"{count} fields, where the header names {len(names)} columns")


def refuse(path: object, wrong: pl.Series, name: str, reason: str, unit: str = "row", first: int = 0) -> None:
    """Raise InputError for the first row where ``wrong`` holds; rows are counted from ``first``."""
    wrong = wrong.fill_null(True)
    if wrong.any():
        raise InputError(path, f"{unit} {int(wrong.arg_max() or 0) + first}, {name}", reason)


def content_of(path: Path, most: int = 1 << 28) -> bytes:
    """What is in a file, unpacked where it is gzip; at most ``most`` bytes, and no more than may be taken."""
    most = min(most, memory_limit())
    with reading(path):
        data = bytes_of(path, most)
        if data.startswith(b"\x1f\x8b"):
            with pa.input_stream(pa.BufferReader(data), compression="gzip") as stream:
                data = stream.read(most + 1)
            if len(data) > most:
                raise InputError(path, "", f"is more than {most:,} bytes once unpacked")
        return data

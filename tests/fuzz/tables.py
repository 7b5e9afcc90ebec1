"""Changes of what a table holds, where a change of its bytes would only break its form: a value at the edge of a range,
two columns that took each other's place, rows left out, doubled or in another order, a column of another type.
"""

import random
from io import BytesIO

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from fastalloc.trace.compact.compact import EVENT, HEADER, HEADER_BYTES
from tests.fuzz.mutate import mutated

EDGES = (
    None, -(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 255, 256, 1023, 1024, 4095, 8191, 8192,
    32767, 32768, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 60, (1 << 63) - 1,
)  # fmt: skip
WORDS = (None, "", "x", "kmalloc-64", "dentry", "\x1b[2J", "cpu_slab", "main", "prefill", "free", "\u202e" * 3)


def fits(value: int | None, kind: pa.DataType) -> bool:
    """Whether an integer is one of a type."""
    if value is None:
        return True
    least, most = (0, (1 << kind.bit_width) - 1)
    if pa.types.is_signed_integer(kind):
        least, most = -(1 << kind.bit_width - 1), (1 << kind.bit_width - 1) - 1
    return least <= value <= most


def _cells(column: pa.ChunkedArray, draw: random.Random) -> pa.Array:
    """Some values of a column, or all, at an edge."""
    values = column.to_pylist()
    kind = column.type
    for _ in range(draw.choice((1, 1, 1, 3))):
        if pa.types.is_integer(kind):
            near = [value + 1 for value in values[:50] if value is not None]
            wanted = draw.choice([value for value in (*EDGES, *near) if fits(value, kind)])
        elif pa.types.is_boolean(kind):
            wanted = draw.choice((None, True, False))
        else:
            wanted = draw.choice((*WORDS, *values[:20])) if pa.types.is_string(kind) else None
        if draw.random() < 0.15:
            values = [wanted] * len(values)
        elif values:
            values[draw.randrange(len(values))] = wanted
    return pa.array(values, kind)


def _changed(table: pa.Table, draw: random.Random) -> pa.Table:
    names = table.column_names
    i = draw.randrange(len(names))
    kind = draw.randrange(8)
    if kind <= 3:
        return table.set_column(i, names[i], _cells(table.column(i), draw))
    if kind == 4:
        alike = [j for j in range(len(names)) if table.column(j).type == table.column(i).type]
        j = draw.choice(alike)
        swapped = list(names)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        return table.rename_columns(swapped)
    if kind == 5:
        other = draw.choice((pa.string(), pa.float64(), pa.int8(), pa.uint64(), pa.int64(), pa.int16()))
        try:
            return table.set_column(i, names[i], table.column(i).cast(other))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return table.drop_columns([names[i]])
    rows = np.arange(table.num_rows)
    if kind == 6 and len(rows):
        rows = np.insert(rows, draw.randrange(len(rows)), draw.randrange(len(rows)))
    elif len(rows) > 1:
        a, b = draw.randrange(len(rows)), draw.randrange(len(rows))
        rows[[a, b]] = rows[[b, a]]
    return table.take(pa.array(rows))


def table_mutated(data: bytes, draw: random.Random, text: bool = False) -> bytes:
    """A Parquet file with another table, or, now and then, of other bytes."""
    if draw.random() < 0.1:
        return mutated(data, draw, text)
    table = parquet.read_table(BytesIO(data))
    plain = [column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in table]
    table = pa.table(plain, names=table.column_names).replace_schema_metadata(table.schema.metadata)
    for _ in range(draw.choice((1, 1, 2))):
        table = _changed(table, draw)
    out = BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def events_mutated(data: bytes, draw: random.Random, text: bool = False) -> bytes:
    """A compact trace whose events have other fields, or two of their columns in each other's place."""
    count = HEADER.unpack(data[: HEADER.size])[3]
    events = np.frombuffer(data[HEADER_BYTES : HEADER_BYTES + count * EVENT.itemsize], EVENT).copy()
    names = EVENT.names or ()
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        name, other = draw.choice(names), draw.choice(names)
        if draw.random() < 0.2:
            values = events[name].copy()
            events[name] = events[other].astype(events[name].dtype)
            events[other] = values.astype(events[other].dtype)
        else:
            most = int(np.iinfo(events[name].dtype).max)
            edge = draw.choice([value for value in EDGES if value is not None and 0 <= value <= most])
            events[name][draw.randrange(count)] = draw.choice((edge, draw.randrange(min(most, 40) + 1)))
    return data[:HEADER_BYTES] + events.tobytes() + data[HEADER_BYTES + count * EVENT.itemsize :]

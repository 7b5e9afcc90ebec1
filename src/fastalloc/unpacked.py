"""How many bytes a table of others takes once it is unpacked, known before it is.

Packed columns tell their size in their first eight bytes [Arrow Columnar Format, "Compression"]; where those bytes lie
stands in the message before them, a flatbuffer [Message.fbs, Schema.fbs]. A text that stands once in a dictionary takes
room for each row that names it.
"""

import struct
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TAIL = 10  # bytes behind the footer: its length and the magic
_BLOCK = np.dtype([("at", "<i8"), ("message", "<i4"), ("", "<i4"), ("body", "<i8")])
_CONTINUES = b"\xff\xff\xff\xff"  # before the length of a message, since 0.15
_DICTIONARIES, _BATCHES = 2, 3  # of table Footer
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # of union MessageHeader
_HEADER_TYPE, _HEADER = 1, 2  # fields of table Message
_DATA = 1  # of table DictionaryBatch
_BUFFERS, _COMPRESSION = 2, 3  # of table RecordBatch
_TEXTS = {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}
_AS_IT_IS = -1  # a buffer that packing would not have made smaller


def ipc_bytes(data: bytes) -> int:
    """Bytes that the columns of an Arrow IPC file take, its dictionaries among them.

    Raises struct.error or IndexError where it is none.
    """
    end = len(data) - _TAIL
    footer = _table(data, end - _number(data, end, "<i"))
    return sum(_body_bytes(data, block) for kind in (_DICTIONARIES, _BATCHES) for block in _blocks(data, footer, kind))


def _blocks(data: bytes, footer: int, kind: int) -> np.ndarray:
    """Place, bytes of the message and bytes of the body of each batch of a kind, int64[n, 3]."""
    place = _field(data, footer, kind)
    if not place:
        return np.empty((0, 3), np.int64)
    place += _number(data, place, "<I")
    blocks = np.frombuffer(data, _BLOCK, _number(data, place, "<I"), place + 4)
    return np.column_stack([blocks[name].astype(np.int64) for name in ("at", "message", "body")])


def _body_bytes(data: bytes, block: np.ndarray) -> int:
    """Bytes of the buffers of one batch."""
    at, length, size = block.tolist()
    skip = 8 if data[at : at + 4] == _CONTINUES else 4
    flat, body = data[at + skip : at + length], memoryview(data)[at + length : at + length + size]
    message = _table(flat, 0)
    kind = _field(flat, message, _HEADER_TYPE)
    batch = _field(flat, message, _HEADER)
    if not kind or not batch or flat[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return 0
    batch = _table(flat, batch)
    if flat[kind] == _DICTIONARY_BATCH:
        batch = _table(flat, _field(flat, batch, _DATA))
    place = _field(flat, batch, _BUFFERS)
    if not place:
        return 0
    packed = bool(_field(flat, batch, _COMPRESSION))
    place += _number(flat, place, "<I")
    spans = np.frombuffer(flat, "<i8", 2 * _number(flat, place, "<I"), place + 4).reshape(-1, 2)
    return sum(_size(body, place, size, packed) for place, size in spans.tolist())


def _size(body: memoryview, at: int, size: int, packed: bool) -> int:
    if not packed or size < 8:
        return max(size, 0)
    told = _number(body, at, "<q")
    return size - 8 if told == _AS_IT_IS else max(told, 0)


def _table(flat: bytes, place: int) -> int:
    """Where the table begins to which ``place`` points."""
    return place + _number(flat, place, "<I")


def _field(flat: bytes, table: int, number: int) -> int:
    """Where a field of a table lies, 0 where it is left out."""
    fields = table - _number(flat, table, "<i")
    if 4 + 2 * number >= _number(flat, fields, "<H"):
        return 0
    offset = _number(flat, fields + 4 + 2 * number, "<H")
    return table + offset if offset else 0


def _number(data: bytes | memoryview, place: int, form: str) -> int:
    if place < 0:
        raise IndexError("before the first byte")
    found: int = struct.unpack_from(form, data, place)[0]
    return found


def plain_bytes(columns: Iterable[pa.ChunkedArray | pa.Array]) -> int:
    """Bytes that columns take once each row has its own text, and nothing stands for several rows."""
    chunks = (column.chunks if isinstance(column, pa.ChunkedArray) else [column] for column in columns)
    return sum(_plain_bytes(chunk) for parts in chunks for chunk in parts)


def _plain_bytes(array: pa.Array) -> int:
    kind = array.type
    if pa.types.is_dictionary(kind):
        if kind.value_type in _TEXTS:
            lengths = pc.binary_length(array.dictionary).cast(pa.int64())
            return 8 * len(array) + int(pc.sum(lengths.take(array.indices)).as_py() or 0)
        return 8 * len(array)
    if kind == pa.string_view():
        views = np.frombuffer(array.buffers()[1], "<i4")[4 * array.offset : 4 * (array.offset + len(array)) : 4]
        return 16 * len(array) + int(views.clip(0).sum(dtype=np.int64))
    return max(int(array.nbytes), 8 * len(array))


__all__ = ["ipc_bytes", "plain_bytes"]

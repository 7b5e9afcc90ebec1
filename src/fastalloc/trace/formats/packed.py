"""Files that may be packed by gzip or zstd, read without being unpacked on disk."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from fastalloc.bounded import refuse_endless
from fastalloc.errors import InputError
from fastalloc.memory import memory_limit

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UNREAD = {b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}
HEAD = 16  # bytes that tell every format
MOST_UNPACKED = 1 << 32
MOST_FILE = 1 << 44  # read piece by piece, or mapped


def packing(path: Path) -> str | None:
    """How ``path`` is packed: gzip, zstd, or None. Raises InputError for a file that cannot be read, or is packed by
    something else."""
    try:
        refuse_endless(path, MOST_FILE)
        with path.open("rb") as file:
            head = file.read(6)
    except OSError as error:
        raise InputError(path, "", f"cannot be read: {error.strerror or error}") from error
    for magic, name in _UNREAD.items():
        if head.startswith(magic):
            raise InputError(
                path, "byte 0", f"is packed by {name}; unpack it first (gzip and zstd are read as they are)"
            )
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)


def head_of(path: Path, size: int = HEAD) -> bytes:
    """The first bytes of what is inside."""
    return _read(path, size)


def content_of(path: Path) -> np.ndarray:
    """uint8[n]: what is inside, mapped where it is not packed. Raises InputError for a packed file cut short."""
    if packing(path) is not None:
        return np.frombuffer(_read(path, None), np.uint8)
    try:
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:
        raise InputError(path, "", f"cannot be read: {error}") from error


def _read(path: Path, size: int | None) -> bytes:
    packed, most = packing(path), min(MOST_UNPACKED, memory_limit())
    try:
        with pa.input_stream(path.open("rb"), compression=packed) as stream:
            data: bytes = stream.read(most + 1 if size is None else size)
    except (OSError, pa.ArrowException) as error:
        raise InputError(path, "byte 0", f"is no whole {packed or 'file'}: {str(error).splitlines()[0]}") from error
    if len(data) > most:
        raise InputError(path, "", f"is more than {most:,} bytes once unpacked; unpack it first")
    return data

"""Files that others wrote, read no further than a limit: a device, a pipe or a link to one may never end."""

import codecs
import json
import os
import stat
from pathlib import Path
from typing import Any

from fastalloc.errors import InputError, reading, told

_BLOCK = 1 << 16
MOST_JSON = 1 << 26  # bytes of a file of JSON
MOST_VALUES = 4_000_000  # of it: each takes some 64 bytes
MOST_TEXT = 1 << 24  # bytes of a text that is read whole: a policy, a manifest, a file of /proc


def refuse_waiting(path: Path, read_once: bool = True) -> None:
    """Refuse what may wait for ever when it is opened: a pipe that has a name, a socket. A pipe of the shell, such as
    /dev/stdin or ``<(...)``, is taken where it is ``read_once``.

    Raises:
        InputError: names the file.
    """
    try:
        kind = path.stat().st_mode
    except OSError:
        return  # told where it is opened
    if stat.S_ISSOCK(kind):
        raise InputError(path, "", "is a socket; give a file")
    if stat.S_ISFIFO(kind) and (not read_once or os.path.lexists(os.path.realpath(path))):
        raise InputError(path, "", "is a pipe, which may never end and is read but once; give a file")


def refuse_endless(path: Path, most: int, read_once: bool = False) -> None:
    """Refuse a file that is larger than ``most`` bytes, a device, which has no end, and what ``refuse_waiting`` does.

    Raises:
        InputError: names the file.
    """
    refuse_waiting(path, read_once)
    with reading(path):
        found = path.stat()
        if stat.S_ISBLK(found.st_mode) or (stat.S_ISCHR(found.st_mode) and not _is_terminal_or_null(path)):
            raise InputError(path, "", "is a device, which has no end; give a file")
        if stat.S_ISREG(found.st_mode) and found.st_size > most:
            raise InputError(path, "", f"is more than {most:,} bytes: it has {found.st_size:,}")


def bytes_of(path: Path, most: int = MOST_TEXT) -> bytes:
    """What is in a file of at most ``most`` bytes.

    Raises:
        InputError: it cannot be read, is larger, or is a device, a named pipe or a socket.
        FileNotFoundError, NotADirectoryError: there is none.
    """
    refuse_waiting(path)
    with path.open("rb") as file:
        refuse_endless(path, most, read_once=True)
        data = bytearray()
        with reading(path):
            # Files of /proc/sys take a buffer of the size asked for in the kernel, and refuse a large one.
            while len(data) <= most and (block := file.read(_BLOCK)):
                data += block
    if len(data) > most:
        raise InputError(path, "", f"is more than {most:,} bytes")
    return bytes(data)


def text_of(path: Path, most: int = MOST_TEXT, errors: str = "strict") -> str:
    """What is in a text of at most ``most`` bytes, with ``\\n`` at the end of each line.

    Raises:
        InputError: as of ``bytes_of``; it is no UTF-8 (:func:`decoded`), where ``errors`` says "strict".
    """
    data = bytes_of(path, most)
    try:
        text = decoded(data, errors)
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "not UTF-8 text") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(data: bytes, errors: str = "replace") -> str:
    """A text in UTF-8, or in UTF-16 where a byte order mark says so, as editors and redirections of Windows write it;
    without the mark. ``errors`` as of ``bytes.decode``.

    Raises:
        UnicodeDecodeError: where ``errors`` says "strict".
    """
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", errors)


def json_of(path: object, data: bytes | str, where: str = "", lines: bool = False) -> Any:
    """What JSON says, bytes of it in UTF-8; ``path`` and ``where`` are named in errors, or the line where that is of
    use (``lines``).

    Raises:
        InputError: it is none, is nested too deeply, or holds more than MOST_VALUES values.
    """
    marks = sum(data.count(mark) for mark in b",[{") if isinstance(data, bytes) else sum(map(data.count, ",[{"))
    if marks > MOST_VALUES:
        raise InputError(path, where, f"holds more than {MOST_VALUES:,} values")
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise InputError(path, f"line {error.lineno}" if lines else where, f"not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(path, where, f"not JSON: {told(error)}") from None


def _is_terminal_or_null(path: Path) -> bool:
    if os.path.samefile(path, os.devnull):
        return True
    with path.open("rb") as file:
        return file.isatty()

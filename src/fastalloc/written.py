"""Writes a file so that it is there whole or not at all, even through a crash, and through no link."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastalloc.errors import InputError


def write_whole(path: Path, parts: Iterable[Any]) -> None:
    """Writes bytes under a temporary name, synced and moved into place; a link that is there is replaced.

    What is no file (a terminal, a pipe such as /dev/stdout) is written to as it is.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if _is_stream(path):
            with open(path, "wb") as stream:
                stream.writelines(parts)
            return
        temporary.unlink(missing_ok=True)  # of a process of this number that is no more, or a link
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):  # a file system that turned read-only keeps it
            temporary.unlink(missing_ok=True)
        raise InputError(path, "", f"cannot be written: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """As ``write_whole``, in UTF-8; half characters as ``\\udc80``."""
    write_whole(path, [text.encode("utf-8", "backslashreplace")])


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)

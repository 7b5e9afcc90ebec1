"""The folder that ``fastalloc record`` leaves, as ``replay`` and ``trace`` take it."""

from pathlib import Path
from typing import NamedTuple

from fastalloc.bounded import text_of
from fastalloc.errors import InputError

TRACE = "trace.dat"


class Recorded(NamedTuple):
    """``trace``: the file; ``kernel`` and ``boot``: version and command line of the machine, None where not told."""

    trace: Path
    kernel: str | None
    boot: str | None


def recorded(path: Path) -> Recorded:
    """What is in the folder ``path``; a file is itself.

    Raises InputError for a folder without a trace, or whose trace lost events.
    """
    if not path.is_dir():
        return Recorded(path, None, None)
    trace = path / TRACE
    if not trace.is_file():
        raise InputError(path, TRACE, "is missing; `fastalloc record` makes such a folder")
    lost = settings(path).get("lost", "0")
    if lost != "0":
        raise InputError(path, "lost", f"{lost} events were lost; record again with a larger -b")
    words = _text(path / "version").split()
    version = ".".join(words[2].split("-")[0].split(".")[:2]) if len(words) > 2 else None
    return Recorded(trace, version, _text(path / "cmdline").strip() or None)


def settings(folder: Path) -> dict[str, str]:
    """What the recorder says of its run: shrunk, lost, buffer_kb, cpus, status."""
    lines = _text(folder / "record.txt").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _text(path: Path) -> str:
    try:
        return text_of(path, errors="replace")
    except OSError:
        return ""


__all__ = ["Recorded", "recorded", "settings"]

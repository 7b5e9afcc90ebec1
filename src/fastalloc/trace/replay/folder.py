"""The folder that ``fastalloc record`` leaves, as ``replay`` and ``trace`` take it, and what lies beside a trace."""

from pathlib import Path
from typing import Any, NamedTuple

from fastalloc.bounded import json_of, text_of
from fastalloc.errors import InputError
from fastalloc.trace.formats.packed import head_of
from fastalloc.trace.formats.tracedat import MAGIC, open_tracedat

TRACE = "trace.dat"


class Recorded(NamedTuple):
    """``trace``: the file; ``kernel`` and ``boot``: version and command line of the machine, None where not told."""

    trace: Path
    kernel: str | None
    boot: str | None


def recorded(path: Path) -> Recorded:
    """What is in the folder ``path``; a file is itself, its machine what RUN.meta.json beside it says: ``uname`` as
    uname -a prints it, and ``cmdline``. A trace.dat has the uname of its machine in it.

    Raises InputError for a folder without a trace, or whose trace lost events.
    """
    if not path.is_dir():
        told = _beside(path)
        uname = str(told.get("uname") or "") or _uname_within(path)
        return Recorded(path, _version(uname), str(told.get("cmdline") or "") or None)
    trace = path / TRACE
    if not trace.is_file():
        raise InputError(path, TRACE, "is missing; `fastalloc record` makes such a folder")
    lost = settings(path).get("lost", "0")
    if lost != "0":
        raise InputError(path, "lost", f"{lost} events were lost; record again with a larger -b")
    return Recorded(trace, _version(_text(path / "version")), _text(path / "cmdline").strip() or None)


def _version(text: str) -> str | None:
    """The version in a line of /proc/version or of uname -a, whose third word is the release."""
    words = text.split()
    return ".".join(words[2].split("-")[0].split(".")[:2]) if len(words) > 2 else None


def _beside(trace: Path) -> dict[str, Any]:
    """RUN.meta.json beside RUN.events.parquet; nothing where there is none, or another's."""
    path = trace.with_name(f"{trace.name.split('.')[0]}.meta.json")
    text = _text(path) if path.is_file() else ""
    try:
        told = json_of(path, text) if text else {}
    except InputError:
        return {}
    return told if isinstance(told, dict) else {}


def _uname_within(path: Path) -> str:
    """What a trace.dat says of its machine; nothing of another file, or one that cannot be read."""
    try:
        return open_tracedat(path).uname if head_of(path).startswith(MAGIC) else ""
    except (InputError, OSError):
        return ""


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

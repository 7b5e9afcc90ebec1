"""The folder that ``fastalloc record`` leaves, as ``replay`` and ``trace`` take it, and what lies beside a trace."""

from pathlib import Path
from typing import Any, NamedTuple

from fastalloc.bounded import json_of, text_of
from fastalloc.errors import InputError
from fastalloc.linux.release import base_name, following, parse_release
from fastalloc.linux.versions import kernel_of
from fastalloc.trace.formats.packed import head_of
from fastalloc.trace.formats.tracedat import MAGIC, open_tracedat

TRACE = "trace.dat"


class Recorded(NamedTuple):
    """``trace``: the file; ``kernel`` and ``boot``: version and command line of the machine, None where not told;
    ``told_in``: the file that names the version."""

    trace: Path
    kernel: str | None
    boot: str | None
    told_in: Path


def recorded(path: Path) -> Recorded:
    """What is in the folder ``path``; a file is itself, its machine what RUN.meta.json beside it says: ``uname`` as
    uname -a prints it, and ``cmdline``. A trace.dat has the uname of its machine in it.

    Raises InputError for a folder without a trace, or whose trace lost events.
    """
    if not path.is_dir():
        told = _beside(path)
        uname = str(told.get("uname") or "")
        told_in = _meta_of(path) if uname else path
        return Recorded(path, _version(uname or _uname_within(path)), str(told.get("cmdline") or "") or None, told_in)
    trace = path / TRACE
    if not trace.is_file():
        raise InputError(path, TRACE, "is missing; `fastalloc record` makes such a folder")
    lost = settings(path).get("lost", "0")
    if lost != "0":
        raise InputError(path, "lost", f"{lost} events were lost; record again with a larger -b")
    version = path / "version"
    return Recorded(trace, _version(_text(version)), _text(path / "cmdline").strip() or None, version)


def kernel_told(found: Recorded, asked: str | None) -> str | None:
    """The kernel that was asked for, else the one that a recording names; None where neither is.

    Raises InputError, which names the file, where rules of the recording's kernel are not known.
    """
    if asked is None and found.kernel is not None:
        try:
            kernel_of(found.kernel)
        except ValueError as error:
            raise InputError(found.told_in, "kernel", f"{error}; --kernel gives another") from error
    return asked or found.kernel


def _version(text: str) -> str | None:
    """The version in a line of /proc/version or of uname -a, whose third word is the release, or in a release alone;
    linux-next has the code of the version after its own."""
    words = text.split()
    release = parse_release(words[2 if len(words) > 2 else 0]) if words else None
    return None if release is None else base_name(following(release.base) if release.next else release.base)


def _meta_of(trace: Path) -> Path:
    return trace.with_name(f"{trace.name.split('.')[0]}.meta.json")


def _beside(trace: Path) -> dict[str, Any]:
    """RUN.meta.json beside RUN.events.parquet; nothing where there is none, or another's.

    Raises InputError where it is no JSON.
    """
    path = _meta_of(trace)
    told = json_of(path, _text(path)) if path.is_file() else {}
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


__all__ = ["Recorded", "kernel_told", "recorded", "settings"]

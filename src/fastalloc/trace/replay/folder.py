"""The folder that ``fastalloc record`` leaves, as ``replay`` and ``trace`` take it, and what lies beside a trace."""

from pathlib import Path
from typing import Any, NamedTuple

from fastalloc.bounded import json_of, text_of
from fastalloc.errors import InputError, shown
from fastalloc.linux.release import base_name, following, parse_release
from fastalloc.linux.versions import kernel_of
from fastalloc.trace.compact.recording_name import run_of
from fastalloc.trace.formats.packed import head_of
from fastalloc.trace.formats.tracedat import MAGIC, TraceDat, open_tracedat

TRACE = "trace.dat"


class Recorded(NamedTuple):
    """``trace``: the file; ``kernel`` and ``boot``: version and command line of the machine, None where not told;
    ``told_in``: the file that names the version, ``boot_in`` the one with the command line. ``opened``: the trace.dat,
    where it was opened to ask it."""

    trace: Path
    kernel: str | None
    boot: str | None
    told_in: Path
    boot_in: Path
    opened: TraceDat | None = None


def recorded(path: Path) -> Recorded:
    """What is in the folder ``path``; a file is itself, its machine what RUN.meta.json beside it says: ``uname`` as
    uname -a prints it, and ``cmdline``. A trace.dat has the uname of its machine in it.

    Raises InputError for a folder without a trace, or whose trace lost events, and for a file of these that cannot be
    read.
    """
    if not path.is_dir():
        meta = _meta_of(path)
        told = _beside(path)
        boot = told.get("cmdline") or None
        if not isinstance(boot, str | None):
            raise InputError(meta, "cmdline", f"must be a text, not {shown(boot)}")
        uname = str(told.get("uname") or "")
        if uname:
            return Recorded(path, _version(uname), boot, meta, meta)
        opened = _opened(path)
        return Recorded(path, _version(opened.uname if opened else ""), boot, path, meta, opened)
    trace = path / TRACE
    if not trace.is_file():
        raise InputError(path, TRACE, "is missing; `fastalloc record` makes such a folder")
    lost = settings(path).get("lost", "0")
    if not lost.isdecimal():
        raise InputError(path / "record.txt", "lost", f"{lost!r} is no count")
    if int(lost):
        raise InputError(path, "lost", f"{lost} events were lost; record again with a larger -b")
    version, line = path / "version", path / "cmdline"
    return Recorded(trace, _version(_text(version)), _text(line).strip() or None, version, line)


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
    return trace.with_name(f"{run_of(trace)}.meta.json")


def _beside(trace: Path) -> dict[str, Any]:
    """RUN.meta.json beside RUN.events.parquet; nothing where there is none, or another's.

    Raises InputError where it is no JSON.
    """
    path = _meta_of(trace)
    told = json_of(path, _text(path)) if path.is_file() else {}
    return told if isinstance(told, dict) else {}


def _opened(path: Path) -> TraceDat | None:
    """The trace.dat at ``path``; None of another file, or one that cannot be read: that is told later."""
    try:
        return open_tracedat(path) if head_of(path).startswith(MAGIC) else None
    except (InputError, OSError):
        return None


def settings(folder: Path) -> dict[str, str]:
    """What the recorder says of its run: shrunk, lost, buffer_kb, cpus, status."""
    lines = _text(folder / "record.txt").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _text(path: Path) -> str:
    """What is in a file beside a trace; nothing where there is none."""
    try:
        return text_of(path, errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise InputError(path, "", f"cannot be read: {error.strerror or error}") from error


__all__ = ["Recorded", "kernel_told", "recorded", "settings"]

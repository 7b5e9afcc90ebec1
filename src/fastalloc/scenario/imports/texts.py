"""The texts that a machine is read from: a folder, a dump with sections, or lines pasted from a terminal or a log."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastalloc.bounded import decoded, text_of
from fastalloc.cleaned import clean
from fastalloc.errors import InputError, reading
from fastalloc.foreign import content_of
from fastalloc.scenario.machine import SLAB_FLAG_BITS

# Each is read as a file where a folder holds it, with or without proc/ in front.
PROC_FILES = ("zoneinfo", "meminfo", "slabinfo", "version", "cpuinfo", "sys/vm/min_free_kbytes",
              "sys/vm/watermark_scale_factor", "sys/vm/lowmem_reserve_ratio", "sys/kernel/osrelease")  # fmt: skip
MOST_BYTES = 1 << 26  # of a dump, unpacked
CACHE_LINE = "/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size"
SLAB_FIELDS = ("object_size", "slab_size", "align", "ctor", "objs_per_slab", "order", "sheaf_capacity", *SLAB_FLAG_BITS)

_SECTION = re.compile(r"^==+ ?(?:file:? ?)?(/\S+|slabroot \S+)|^#{2,} ?(/\S+)")


class SlabDir(NamedTuple):
    """One folder of /sys/kernel/slab: a cache and the values of its files."""

    name: str
    values: dict[str, str]


class Source(NamedTuple):
    """What a machine is read from."""

    path: Path
    lines: list[str]  # of all texts, without what a mail, a terminal or a log puts before them
    files: dict[str, str]  # contents of the files that are one value, by path
    slab_dirs: list[SlabDir]
    slab_links: dict[str, str]  # alias -> folder


def open_source(path: Path) -> Source:
    """The texts of a folder, or of a file as .txt or .txt.gz.

    Raises:
        InputError: unreadable, or a section of a dump is cut off.
    """
    return _open_folder(path) if path.is_dir() else _open_file(path)


def _read(file: Path) -> str | None:
    if not file.exists():
        return None
    with reading(file):
        return text_of(file, MOST_BYTES, "replace")


def _open_folder(root: Path) -> Source:
    lines: list[str] = []
    files: dict[str, str] = {}
    for name in PROC_FILES:
        text = _read(root / "proc" / name)
        if text is None:
            text = _read(root / Path(name).name)
        if text is None:
            continue
        files[f"/proc/{name}"] = text
        lines += [f"== /proc/{name}", *clean(text, root)]
    line = _read(root / CACHE_LINE.lstrip("/"))
    if line is not None:
        files[CACHE_LINE] = line
    folder = root / "sys/kernel/slab"
    dirs, links = [], {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.is_symlink():
            links[entry.name] = entry.readlink().name
        elif entry.is_dir():
            values = {name: _value(entry / name) for name in SLAB_FIELDS}
            dirs.append(SlabDir(entry.name, {name: value for name, value in values.items() if value is not None}))
    if not lines and not dirs:
        for file in sorted(root.iterdir()):
            if file.is_file() and file.suffix in (".txt", ".log"):
                lines += clean(_read(file) or "", file)
    return Source(root, lines, files, dirs, links)


def _value(file: Path) -> str | None:
    try:
        return text_of(file, errors="replace").strip()
    except OSError:  # not every kernel has every file
        return None


def _open_file(path: Path) -> Source:
    if not path.exists():
        raise InputError(path, "", "no such file or folder")
    raw = content_of(path, MOST_BYTES)
    return _split(path, clean(decoded(raw), path))


def _split(path: Path, lines: list[str]) -> Source:
    files: dict[str, list[str]] = {}
    dirs, links = [], {}
    section = ""
    for number, line in enumerate(lines, 1):
        head = _SECTION.match(line)
        if head is not None:
            section = (head[1] or head[2]).split()[-1]
            continue
        files.setdefault(section, []).append(line)
        words = line.split()
        where = f"line {number}, /sys/kernel/slab"
        if words[:1] == ["SLABDIR"]:
            if len(words) < 3:
                raise InputError(path, where, f"cut off: {line!r}")
            dirs.append(SlabDir(words[1], dict(_pairs(words[2:], path, where))))
        elif words[:1] == ["SLABLINK"]:
            if len(words) != 4:
                raise InputError(path, where, f"cut off: {line!r}")
            links[words[1]] = words[3]
        elif words and section == "/sys/kernel/slab":
            raise InputError(path, where, f"cut off or unknown: {line!r}")
    return Source(path, lines, {name: "\n".join(text) for name, text in files.items()}, dirs, links)


def _pairs(words: list[str], path: Path, where: str) -> Iterator[tuple[str, str]]:
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise InputError(path, where, f"cut off: {word!r}")
        yield name, value

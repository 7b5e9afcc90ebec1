"""The texts that a machine is read from: a folder, a dump with sections, or lines pasted from a terminal or a log."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastalloc.bounded import decoded, text_of
from fastalloc.errors import InputError, reading
from fastalloc.foreign import content_of
from fastalloc.posted import ANSI, plain
from fastalloc.scenario.machine import SLAB_FLAG_BITS

# Each is read as a file where a folder holds it, with or without proc/ in front.
PROC_FILES = ("zoneinfo", "meminfo", "slabinfo", "version", "cpuinfo", "sys/vm/min_free_kbytes",
              "sys/vm/watermark_scale_factor", "sys/vm/lowmem_reserve_ratio", "sys/kernel/osrelease")  # fmt: skip
MOST_BYTES = 1 << 26  # of a dump, unpacked
MOST_LINES = 200_000  # of it
LONGEST = 4096  # characters of a line: none that tells of a machine has more, and rules that look back take the square
_WIDE = re.compile(r"([ \t]{64})[ \t]+|(\d{40})\d+")  # what no line has, cut
CACHE_LINE = "/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size"
SLAB_FIELDS = ("object_size", "slab_size", "align", "ctor", "objs_per_slab", "order", "sheaf_capacity", *SLAB_FLAG_BITS)

# What stands before a line of a log or of a quoted mail.
_QUOTE = re.compile(r"^(?:[>|] ?)+(?=\s*\S)")
_STAMP = re.compile(
    r"^(?:<\d+>)?(?:[a-z]{3,8} *:[a-z]{3,6} *: )?"
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ |\d{4}-\d\d-\d\dT\S+ \S+ )?(?:kernel: ?)?"
    r"(?:\[ *\+?\d+\.\d+\](?: ?\[ *[CT]\d+\])? ?)?"
)
_NUMBERED = re.compile(r"^ *(\d{1,6})(?:\t|: ?| {1,2}(?=\S| ))")
# Lines whose begin is known, behind whatever a log wrote before them.
_ANCHOR = re.compile(
    r"^(.{0,200}?)(?:Node\s+\d+,\s*zone\s+\w+$|(?:Node \d+ )?(?:DMA|DMA32|Normal|HighMem|Movable) free:\d+kB"
    r"|MemTotal:\s+\d+ kB$|slabinfo - version)"
)
_PARTS = re.compile(r"\d+|\s+|[A-Za-z]+|[^\dA-Za-z\s]")
_DATE = re.compile("Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun")
NEAR = 30  # lines after one with a prefix, of which most must have it
MOST_SHAPES = 4  # of prefixes in a text
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


def clean(text: str, path: Path) -> list[str]:
    """Lines as the kernel wrote them: without encodings, markup, byte order marks, quote marks, line numbers and what a
    log puts before each; indentation stays.

    Raises InputError where there are more than MOST_LINES; what a line has beyond LONGEST is left out.
    """
    text = ANSI.sub("", plain(text)).replace("\ufeff", "").replace("#012", "\n")
    if text.count("\\n") > text.count("\n"):  # inside a string of JSON or of a program
        text = text.replace("\\n", "\n").replace("\\t", "\t")
    posted = text.splitlines()
    if len(posted) > MOST_LINES:
        raise InputError(path, "", f"has {len(posted):,} lines; give the part that tells of the machine")
    lines = _unnumbered([_WIDE.sub(r"\1\2", line[:LONGEST]) for line in posted])
    lines = _without_prefix([_QUOTE.sub("", line.rstrip()) for line in lines])
    return [_STAMP.sub("", line, count=1) for line in lines]


def _without_prefix(lines: list[str]) -> list[str]:
    """Lines without what every line of a log has before it, whatever that is: it is what stands before a line whose
    begin is known, with other numbers and months, and most lines that follow have it too."""
    known: list[re.Pattern[str]] = []
    for at, line in enumerate(lines):
        anchor = _ANCHOR.match(line)
        if anchor is None or not anchor[1].strip() or any(shape.match(line) for shape in known):
            continue
        shape = re.compile("".join(_shape(part) for part in _PARTS.findall(anchor[1].rstrip())) + r"(?: |\t|$)?")
        after = [other for other in lines[at + 1 : at + 1 + NEAR] if other.strip()]
        if sum(shape.match(other) is not None for other in after) > len(after) / 2:
            known.append(shape)
        if len(known) == MOST_SHAPES:
            break
    for shape in known:
        lines = [shape.sub("", line, count=1) for line in lines]
    return lines


def _shape(part: str) -> str:
    """A pattern for a part of a prefix as another line may have it."""
    if part.isspace():
        return r"\s*"
    if part.isdigit():
        return r"\d+"
    return "[A-Z][a-z]{2}" if _DATE.fullmatch(part) else "[CT]" if part in ("C", "T") else re.escape(part)


def _unnumbered(lines: list[str]) -> list[str]:
    """Lines of ``cat -n``, ``nl`` or a pager without their numbers, where each has the next one."""
    found = [_NUMBERED.match(line) for line in lines if line.strip()]
    numbers = [int(match[1]) for match in found if match is not None]
    if len(numbers) < max(4, len(found)) or any(b != a + 1 for a, b in itertools.pairwise(numbers)):
        return lines
    return [_NUMBERED.sub("", line, count=1) for line in lines]


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

"""The lines of /proc/slabinfo, version 2.x [mm/slab.c, mm/slub.c, mm/slab_common.c: s_show, cache_show]."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastalloc.errors import InputError

_ROW = re.compile(
    r"^\s*(\S.*?)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*: tunables\s+(\d+)\s+(\d+)\s+(\d+)\s*"
    r": slabdata\s+(\d+)\s+(\d+)\s+(\d+)(?:\s*: .*)?\s*$"
)
_BEGINS = re.compile(r"^\s*(\S+(?: \S+)?)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*(:|$)")
_FIRST = re.compile(r"^\s*(slabinfo - version|# ?name)")
_LATER = re.compile(r": tunables|<(?:limit|sharedfactor|sharedavail|num_slabs)>")
_TITLE = re.compile(r"^\s*(slabinfo - version|# ?name)|<(?:pagesperslab|limit|sharedfactor|sharedavail|num_slabs)>")
_QUOTE = re.compile(r"^\s*(?:[>|]\s?)+")
_FORMAT = re.compile(r"%-?\d*l?[us]|\{\w*[:}]")  # of a program that prints such a table


class SlabRow(NamedTuple):
    """A line of slabinfo: sizes in bytes; ``object_size`` is what an object takes in its slab."""

    name: str
    objects: int
    object_size: int
    objects_a_slab: int
    pages_a_slab: int
    limit: int  # of a CPU's array; 0 under SLUB
    active: int = 0  # objects in use
    slabs: int = 0
    cut: bool = False  # nothing behind pages_a_slab: neither SLAB nor SLUB is told, and slabs follow from the objects


def read_slabinfo(lines: Sequence[str], path: Path) -> list[SlabRow]:
    """The caches of every slabinfo line among ``lines``, newest first as the kernel lists them.

    Lines that a mail wrapped join; its quoting and the table's title are passed over. Where the title ends with
    ``<pagesperslab>``, so do the rows.

    Raises:
        InputError: a line is cut off.
    """
    rows: list[SlabRow] = []
    known: set[str] = set()
    inside = whole = False
    at = 0
    lines = [_QUOTE.sub("", line) for line in lines]
    while at < len(lines):
        line = lines[at]
        at += 1
        if _FORMAT.search(line):
            continue
        if _TITLE.search(line):
            whole = (whole and not _FIRST.match(line)) or bool(_LATER.search(line))
            inside = True
            continue
        if ": tunables" not in line and not (inside and _BEGINS.match(line)):
            inside = inside and bool(line.strip()) and not line.startswith("== ")
            continue
        match = _ROW.match(line)
        if match is None and not whole:
            match = _cut(line, lines[at : at + 1])
        for more in range(2):  # a mail wraps lines
            if match is None and at + more < len(lines):
                match = _ROW.match(" ".join([line, *lines[at : at + more + 1]]))
                if match is not None:
                    at += more + 1
        if match is None:
            raise InputError(path, f"/proc/slabinfo, line {at}", f"cut off or unknown: {line!r}")
        whole |= match.re is _ROW
        if match[1] not in known:
            known.add(match[1])
            rows.append(_row(match))
    return rows


def _cut(line: str, following: Sequence[str]) -> re.Match[str] | None:
    """A row that ends with the pages of a slab, and is not wrapped there."""
    match = _BEGINS.match(line)
    return None if match is None or match[7] or any(":" in other[:2] for other in following) else match


def _row(match: re.Match[str]) -> SlabRow:
    active, objects, size, objs, pages = (int(text) for text in match.groups()[1:6])
    if match.re is _BEGINS:
        return SlabRow(match[1], objects, size, objs, pages, 0, active, -(-objects // max(objs, 1)), cut=True)
    return SlabRow(match[1], objects, size, objs, pages, int(match[7]), active, int(match[11]))

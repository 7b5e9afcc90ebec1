"""/proc/zoneinfo, read and written [mm/vmstat.c: zoneinfo_show_print]."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from fastalloc.errors import InputError
from fastalloc.scenario.machine import ZONE_CLASSES

_HEAD = re.compile(r"(^|.*?[^\w])Node\s+(\d+),\s*zone\s+(\w+)\s*$")
_SIZE = re.compile(r"^\s*(?:pages free|managed|present)\s+\d", re.MULTILINE)


@dataclass
class ZoneFound:
    """A zone as some text shows it, in pages; None is what the text does not tell."""

    node: int
    name: str
    present: int  # managed where the kernel tells it
    min: int | None = None
    low: int | None = None
    high: int | None = None
    protection: list[int] | None = None  # an entry for each zone of the kernel, populated or not
    pcp_high: int | None = None
    pcp_high_min: bool = False  # pcp_high is the least that it tunes itself to, which is printed since 6.13
    pcp_batch: int | None = None
    cma: int | None = None
    cma_free: bool = False  # cma counts the free ones alone
    highatomic: int | None = None
    spanned: int | None = None
    start_pfn: int | None = None
    free: int | None = None


@dataclass
class ZonesFound:
    """All zones of a text, in its order, and what else it betrays."""

    zones: list[ZoneFound] = field(default_factory=list)  # populated ones
    listed: list[str] = field(default_factory=list)  # names, empty zones too
    cpus: int | None = None
    hides_cpus: bool = False  # a zone leaves out CPUs: there may be more than those shown
    more: bool = False  # a second zoneinfo follows, as before and after something
    devices: bool = False  # memory of devices, which no zone of the page allocator manages
    fields: set[str] = field(default_factory=set)  # names of lines that tell the kernel's age


def read_zoneinfo(lines: Sequence[str], path: Path) -> ZonesFound | None:
    """The zones of the first zoneinfo among ``lines``, indented or not, whole or an excerpt of zones; None if none.

    Raises:
        InputError: a zone is cut off.
    """
    found = ZonesFound()
    blocks = list(_blocks(lines))
    if not blocks:
        return None
    cpus: set[int] = set()
    shown: list[set[int]] = []  # CPUs of each zone that is whole
    read: set[tuple[int, str]] = set()
    for node, name, first, block in blocks:
        where = f"/proc/zoneinfo: node {node}, zone {name}, line {first}"
        if (node, name) in read:
            found.more = True
            break
        read.add((node, name))
        if name not in found.listed:
            found.listed.append(name)
        text = "\n".join(block)
        own = {int(cpu) for cpu in re.findall(r"^\s*cpu:\s*(\d+)", text, re.MULTILINE)}
        cpus |= own
        # names of lines, among them those that tell the kernel's age
        found.fields.update(re.findall(r"^\s*(per-node stats|[a-z]\w+)", text, re.MULTILINE))
        zone = _zone(node, name, text, path, where)
        if zone is not None:
            found.zones.append(zone)
            if zone.start_pfn is not None and re.search(r"^\s*pagesets\s*$", text, re.MULTILINE):
                shown.append(own)
        elif name == "Device":  # spanned, with no page present or managed
            found.devices |= re.search(r"^\s*(?:spanned|present)\s+[1-9]", text, re.MULTILINE) is not None
    if not found.zones:
        raise InputError(path, "/proc/zoneinfo", "no populated zone")
    for lost in ("protection", "pcp_batch"):
        known = [getattr(zone, lost) is not None for zone in found.zones]
        zone = found.zones[-1]
        # up to 2.6.20 a CPU whose lists are all empty is left out, so an idle zone has none [mm/vmstat.c: zoneinfo_show
        # of 2.6.18]; start_pfn stands below them
        whole = lost == "pcp_batch" and zone.start_pfn is not None
        if any(known) and not known[-1] and not whole:
            what = "protection" if lost == "protection" else "pagesets"
            raise InputError(
                path, f"/proc/zoneinfo: node {zone.node}, zone {zone.name}", f"no {what}: the text is cut off"
            )
    found.hides_cpus = any(own != cpus for own in shown)
    found.cpus = (max(cpus) + 1 if found.hides_cpus else len(cpus)) if cpus else None
    return found


def _blocks(lines: Sequence[str]) -> list[tuple[int, str, int, list[str]]]:
    """(node, zone, line number, lines) of each zone. A sentence that ends with the name of one begins none."""
    blocks: list[tuple[int, str, int, list[str]]] = []
    sentences: set[int] = set()
    for number, line in enumerate(lines, 1):
        head = _HEAD.match(line)
        if head is not None:
            blocks.append((int(head[2]), head[3], number, []))
            if head[1].strip():
                sentences.add(number)
        elif line.startswith("== "):
            if blocks:
                blocks[-1][3].append("== ")
        elif blocks and (not blocks[-1][3] or blocks[-1][3][-1] != "== "):
            blocks[-1][3].append(line)
    return [block for block in blocks if block[2] not in sentences or _SIZE.search("\n".join(block[3]))]


def _zone(node: int, name: str, text: str, path: Path, where: str) -> ZoneFound | None:
    """One zone; None where it is empty."""

    def number(field: str) -> int | None:
        # anchored at the line's end: a number cut off is no number
        match = re.search(rf"^\s*{field}\s+(\d+)\s*$", text, re.MULTILINE)
        return int(match[1]) if match else None

    # what is handed to the page allocator: since 3.8 the managed part of what is present
    present = number("managed")
    if present is None:
        present = number("present")
    if present is None:
        raise InputError(path, where, "neither 'managed' nor 'present': the text is cut off or not a zoneinfo")
    if present == 0:
        return None
    marks = [number(mark) for mark in ("min", "low", "high")]
    if None in marks:
        lost = ("min", "low", "high")[marks.index(None)]
        raise InputError(path, where, f"no {lost!r}: the text is cut off or not a zoneinfo")
    boost = number("boost") or 0  # which the printed marks include
    protection = re.search(r"protection:[ \t]*\(([ \t]*\d+(?:,[ \t]*\d+)*)\)", text)
    if protection is None and re.search(r"protection:", text):
        raise InputError(path, where, "protection is cut off")
    high = re.search(r"^\s*high:\s+(\d+)\s*$", text, re.MULTILINE)
    batch = re.search(r"^\s*batch:\s+(\d+)\s*$", text, re.MULTILINE)
    high_min = re.search(r"^\s*high_min:\s+(\d+)\s*$", text, re.MULTILINE)
    cma = number("cma")
    return ZoneFound(
        node=node,
        name=name,
        present=present,
        min=(marks[0] or 0) - boost,
        low=(marks[1] or 0) - boost,
        high=(marks[2] or 0) - boost,
        protection=[int(pages) for pages in protection[1].split(",")] if protection else None,
        # since 6.7 a list tunes its own length from high_min up
        pcp_high=int((high_min or high)[1]) if high else None,
        pcp_high_min=high_min is not None,
        pcp_batch=int(batch[1]) if batch else None,
        cma=cma if cma is not None else number("nr_free_cma"),
        cma_free=cma is None,
        highatomic=number("reserved_highatomic:"),
        spanned=number("spanned"),
        start_pfn=number("start_pfn:"),
        free=number("pages free"),
    )


def protection_by_class(found: ZonesFound, classes: Sequence[str], path: Path) -> list[list[int] | None]:
    """Each zone's protection with an entry for each name of ``classes`` alone.

    The kernel prints an entry for each zone it is built with. Which those are follows from the zones that are listed,
    from the number of entries, and from the numbers: an empty zone adds nothing to the entry before it.

    Raises:
        InputError: no set of zones agrees with the numbers.
    """
    lengths = {len(zone.protection) for zone in found.zones if zone.protection is not None}
    if not lengths:
        return [None] * len(found.zones)
    if len(lengths) > 1:
        raise InputError(path, "/proc/zoneinfo: protection", f"{sorted(lengths)} entries in different zones")
    length = lengths.pop()
    # Up to 2.6.18 a kernel has both DMA32 and HighMem, one of them empty. A report hides the zones that the request may
    # not use, and then the numbers tell of zones that are not listed.
    built = (
        _zones_built(found, length)
        or _zones_built(found, length, both=True)
        or _zones_built(found, length, agreeing=False)
    )
    if built is None:
        raise InputError(
            path, "/proc/zoneinfo: protection", f"agrees with no set of zones that has {', '.join(found.listed)}"
        )
    columns = [built.index(name) for name in classes]
    return [[zone.protection[j] for j in columns] if zone.protection else None for zone in found.zones]


def hides_zones(found: ZonesFound, classes: Sequence[str], path: Path) -> bool:
    """Whether the protection of zones tells of some that the text does not show.

    Raises:
        InputError: as :func:`protection_by_class`.
    """
    shown = protection_by_class(found, classes, path)
    return any(max(zone.protection or [0]) > max(told or [0]) for zone, told in zip(found.zones, shown, strict=True))


def classes_of(found: ZonesFound) -> list[str]:
    """Names of the populated zones of the page allocator, lowest first."""
    return [name for name in ZONE_CLASSES if name != "Device" and any(zone.name == name for zone in found.zones)]


def _zones_built(found: ZonesFound, length: int, agreeing: bool = True, both: bool = False) -> list[str] | None:
    """The zones that the kernel is built with, lowest first. ``both``: DMA32 and HighMem."""
    listed = [name for name in ZONE_CLASSES if name in found.listed]
    if len(listed) == length:
        return listed
    choices = []
    for chosen in product((False, True), repeat=len(ZONE_CLASSES)):
        names = [name for name, taken in zip(ZONE_CLASSES, chosen, strict=True) if taken]
        if len(names) != length or not set(listed) <= set(names) or ({"DMA32", "HighMem"} <= set(names)) != both:
            continue
        if not agreeing or all(_agrees(zone, names, found) for zone in found.zones):
            choices.append(names)
    # Normal and Movable are in every kernel since 2.6.23; of the rest the usual ones come first
    common = ("Normal", "Movable", "DMA", "DMA32", "HighMem", "Device")
    choices.sort(key=lambda names: [name not in names for name in common])
    return choices[0] if choices else None


def _agrees(zone: ZoneFound, names: list[str], found: ZonesFound) -> bool:
    """Whether the entries of a zone's empty upper zones add nothing; a kernel of 6.10 to 6.13 has 0 there."""
    pages = zone.protection
    if pages is None:
        return True
    populated = {other.name for other in found.zones if other.node == zone.node}
    own = names.index(zone.name)
    for j in range(own + 1, len(names)):
        if names[j] not in populated and pages[j] not in (pages[j - 1], 0):
            return False
    return all(pages[j] == 0 for j in range(own + 1))

"""The zones of a machine from the report of a failed allocation or of the OOM killer [mm/page_alloc.c: show_mem]."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastalloc.linux.mem_info import SIGNS
from fastalloc.linux.release import Span
from fastalloc.scenario.imports.zoneinfo import ZoneFound, ZonesFound

_ZONE = re.compile(r"(?:Node (\d+) )?(\w+) free:\d+kB .*?\bpresent:(\d+)kB")
_LIST = re.compile(r"^\s*(?:Node (\d+) )?(\w+): (\d+)\*(\d+)kB")
_ITEM = re.compile(r"(\d+)\*(\d+)kB(?: \(([A-Z]+)\))?")
_RESERVE = re.compile(r"(?:lowmem_reserve|protections)\[\]: ([\d ]+\d)\s*$")
_FIELD = re.compile(r"\b([a-z_]+(?:\([a-z]+\))?):\d")
_HEAD = re.compile(r"page allocation failure|invoked oom-killer|\bPid: \d|\bCPU: \d+ (?:UID: \d+ )?PID:")
_BEFORE, _AFTER = 100, 60  # lines of a report around those of its zones
_PCP_HEAD = re.compile(r"^\s*(?:Node (\d+) )?(\w+) per-cpu:")
_PCP = re.compile(r"(?:CPU|cpu) +(\d+)(?::|.*?) .*?hi(?:gh)?:? *(\d+),? .*?b(?:atch|tch):? *(\d+)")


@dataclass
class ReportFound:
    """What a report tells; sizes in pages."""

    zones: ZonesFound
    page_kb: int | None = None
    swap_kb: int | None = None
    cpu: int | None = None  # the highest that it names
    within: list[Span] = field(default_factory=list)  # the versions of each thing that tells the kernel's age
    ends: int | None = None  # the line after which a report shows zones of other sizes, as of another machine


def read_report(lines: Sequence[str], page_kb: int | None = None) -> ReportFound | None:
    """The first Mem-Info among ``lines``; None where there is none.

    ``page_kb``: kB of a page, where it is known; else that of the smallest block of its lists, or 4.
    """
    found = ReportFound(ZonesFound())
    sizes = [int(match[4]) for line in lines if (match := _LIST.match(line)) is not None]
    found.page_kb = min(sizes) if sizes else None
    page_kb = page_kb or found.page_kb or 4
    pcp: dict[tuple[int, str], tuple[int, int]] = {}
    kept: dict[tuple[int, str], int] = {}  # pages of free blocks that are in no list but the one for GFP_ATOMIC
    where = (0, "")
    cpus: set[int] = set()
    open_zone: ZoneFound | None = None
    for line in lines:
        zone = _ZONE.search(line)
        if zone is not None:
            key = (int(zone[1] or 0), zone[2])
            if zone[2] not in found.zones.listed:
                found.zones.listed.append(zone[2])
            open_zone = _zone(key, line, page_kb)
            if any((other.node, other.name) == key for other in found.zones.zones):
                break  # the next report begins
            if open_zone is not None:
                found.zones.zones.append(open_zone)
            continue
        reserve = _RESERVE.search(line)
        if reserve is not None:
            if open_zone is not None:
                open_zone.protection = [int(pages) for pages in reserve[1].split()]
            open_zone = None
            continue
        head = _PCP_HEAD.match(line)
        if head is not None:
            where = (int(head[1] or 0), head[2])
        match = _PCP.search(line)
        if match is not None and where[1]:
            cpus.add(int(match[1]))
            pcp.setdefault(where, (int(match[2]), int(match[3])))
        listed = _LIST.match(line)
        if listed is not None:
            key = (int(listed[1] or 0), listed[2])
            kept[key] = sum(int(n) * int(kb) // page_kb for n, kb, letters in _ITEM.findall(line) if letters == "H")
        swap = re.search(r"Total swap = (\d+)kB", line)
        if swap is not None:
            found.swap_kb = int(swap[1])
        cpu = re.search(r"\bCPU: (\d+) (?:UID: \d+ )?PID:", line)
        if cpu is not None:
            found.cpu = max(found.cpu or 0, int(cpu[1]))
    if not found.zones.zones:
        return None
    found.within = _versions(lines)
    found.ends = _ends(lines)
    for each in found.zones.zones:
        each.highatomic = max(each.highatomic or 0, kept.get((each.node, each.name), 0)) or each.highatomic
        if (each.node, each.name) in pcp:
            each.pcp_high, each.pcp_batch = pcp[each.node, each.name]
    found.zones.cpus = max(*cpus, found.cpu or 0) + 1 if cpus else None
    return found


def _ends(lines: Sequence[str]) -> int | None:
    """Where the first report of another machine begins: with other pages present, which a balloon does not change."""
    sizes: dict[tuple[str, str], str] = {}
    last = 0
    for number, line in enumerate(lines):
        match = _ZONE.search(line)
        if match is None:
            continue
        node, name, present = match.groups()
        if sizes.setdefault((node or "0", name), present) != present:
            heads = (at for at in range(last + 1, number) if _HEAD.search(lines[at]))
            return next(heads, number)
        last = number
    return None


def _versions(lines: Sequence[str]) -> list[Span]:
    """The versions that print each sign of age in the first report."""
    at = next(number for number, line in enumerate(lines) if _ZONE.search(line))
    shown = lines[max(0, at - _BEFORE) : at + _AFTER]
    fields = {name for line in shown if _ZONE.search(line) for name in _FIELD.findall(line)}
    return [
        sign.versions
        for sign in SIGNS
        if sign.shown
        and (
            any(re.search(sign.what, f"{line}\n") for line in shown)
            if sign.where == "text"
            else sign.where == "zone" and sign.what in fields
        )
    ]


def _zone(key: tuple[int, str], line: str, page_kb: int) -> ZoneFound | None:
    def pages(name: str) -> int | None:
        match = re.search(rf"\b{name}:(\d+)[kK]B", line)
        return int(match[1]) // page_kb if match else None

    present = pages("managed")
    if present is None:
        present = pages("present")
    if not present:
        return None
    boost = pages("boost") or 0  # which the printed marks include
    low, least, high = pages("low"), pages("min"), pages("high")
    if least is None or low is None or high is None:
        return None
    return ZoneFound(
        node=key[0],
        name=key[1],
        present=present,
        min=least - boost,
        low=low - boost,
        high=high - boost,
        cma=pages("free_cma"),
        cma_free=True,
        highatomic=pages("reserved_highatomic"),
    )

"""Which zones a build has: the reserve lines have a number for each, populated or not."""

import re
from itertools import combinations

from fastalloc.explain.mem_info import MemInfo
from fastalloc.linux.mem_info import HIDES_ABOVE, ZONE_VERSIONS, ZONES
from fastalloc.linux.release import Base


def zone_layout(block: MemInfo, base: Base, text: str, mode: int = 0) -> tuple[str, ...]:
    """The zones of the build in the order of their index, as far as the report tells.

    A zone that was not printed has no pages (or was hidden), so it adds nothing to the reserve of the zones below it.
    """
    seen = {info.zone for info in block.zones}
    built = [zone for zone in ZONES if base in ZONE_VERSIONS[zone] or zone in seen]
    must = seen | {"Normal"} | ({"Movable"} if base in ZONE_VERSIONS["Movable"] else set())
    counts = [len(info.reserve) for info in block.zones if info.reserve]
    count = max(set(counts), key=counts.count) if counts else None
    wide = _is_64_bit(text)
    best: tuple[float, tuple[str, ...]] | None = None
    for size in range(len(must), len(built) + 1):
        if count is not None and size != count:
            continue
        for chosen in combinations(built, size):
            if not must <= set(chosen):
                continue
            cost = _cost(chosen, block, seen, wide, text) + (_hidden(chosen, seen, mode) if base >= HIDES_ABOVE else 0)
            if best is None or cost < best[0]:
                best = (cost, chosen)
    if best is None:
        best = (0, tuple(zone for zone in ZONES if zone in must or (count is not None and len(must) > count)))
    return best[1]


def _hidden(layout: tuple[str, ...], seen: set[str], mode: int) -> float:
    """From 6.1 a mask with __GFP_DMA or __GFP_DMA32 hides the zones above, where the build has that zone."""
    cost = 0.0
    for zone, bit in (("DMA", 1), ("DMA32", 4)):
        if mode & bit:
            above = any(ZONES.index(other) > ZONES.index(zone) for other in seen)
            cost += 5 * (above == (zone in layout))
    return cost


def _cost(layout: tuple[str, ...], block: MemInfo, seen: set[str], wide: bool | None, text: str) -> float:
    cost = 0.0
    for info in block.zones:
        if info.reserve is None or len(info.reserve) != len(layout):
            continue
        at = layout.index(info.zone)
        cost += 10 * sum(pages > 0 for pages in info.reserve[: at + 1])
        for place in range(at + 1, len(layout)):
            step = info.reserve[place] - (info.reserve[place - 1] if place > at + 1 else 0)
            there = block.find(info.node, layout[place]) is not None
            if step > 0 and not there:
                cost += 3
            if step == 0 and there and (block.pages(info, "managed") or 1) > 0:
                cost += 1
    # What else speaks for a zone: the width of pointers, and what builds of that width have.
    if "HighMem" in layout and "DMA32" in layout:
        cost += 5
    if "HighMem" in layout and "HighMem" not in seen:
        high_lines = "pages HighMem" in text and "MovableOnly" not in text
        cost += 2 if wide else (0 if high_lines or wide is False else 0.6)
    if "DMA32" in layout and "DMA32" not in seen:
        cost += 2 if wide is False else (0.25 if wide else 0.4)
    if "DMA" in layout and "DMA" not in seen:
        cost += 0.2
    if "Device" in layout:
        cost += 0.3
    return cost


def _is_64_bit(text: str) -> bool | None:
    """By the width of the addresses in a trace; None where there is none."""
    if re.search(r"\b[0-9a-f]{16}\b", text) or "amd64" in text or "x86_64" in text or "arm64" in text:
        return True
    if re.search(r"\[<[0-9a-f]{8}>\]|\b[c-f][0-9a-f]{7}\b", text) or "HighMem free" in text:
        return False
    return None


def populated(block: MemInfo, layout: tuple[str, ...]) -> set[str]:
    """The zones with pages: those printed, and those for which a zone below keeps more than for the one under them.

    To 2.6.24 zones without pages are printed too.
    """
    found = {info.zone for info in block.zones if info.kb.get("present", 1) > 0}
    for info in block.zones:
        if info.reserve is not None and len(info.reserve) == len(layout):
            above = range(layout.index(info.zone) + 1, len(layout))
            found |= {layout[place] for place in above if info.reserve[place] > info.reserve[place - 1]}
    return found


def reserve_for(block: MemInfo, layout: tuple[str, ...], node: int, zone: str, class_zone: str) -> int | None:
    """Pages of a zone kept from requests of ``class_zone``: the number on the zone's own line; None where unknown."""
    info = block.find(node, zone)
    if info is None:
        return None
    if class_zone == zone:
        return 0
    if info.reserve is None:
        above = [other for other in block.zones if other.node == node and other.index > info.index]
        return 0 if not above else None
    if class_zone in layout and len(layout) == len(info.reserve):
        return info.reserve[layout.index(class_zone)]
    return info.reserve[-1] if info.reserve else None

"""The zones, lists and counters of a Mem-Info block, read from its text."""

import math
import re
from dataclasses import dataclass, field

from fastalloc.linux.mem_info import ZONES

_KB = re.compile(r"([A-Za-z_]+(?:\(\w+\))?)\s*:\s*(\d+(?:[ \n]+\d+)?)\s*[kK]\s?B\b")
_COUNT = re.compile(r"([A-Za-z_]+)\s*:\s*(\d+)(?![\d*])(?!\s?[kK]\s?B)(?=\s|$)")
_ITEM = re.compile(r"(\d+(?: \d+)?)\s*\*\s*(\d+)\s*[kK]\s?B\b(?:\s*\(\s*([A-Z\s]+?)\s*\))?")
_TOTAL = re.compile(r"=\s*(\d+)\s*[kK]\s?B\b")
# What tells nothing of a page: kB that are no pages, and marks that follow from min.
_NOT_OWN = ("kernel_stack", "low", "high")
_CHANCE = 10  # one in 2^10: pages of 8 kB are of alpha and sparc64 alone
_FLAGS = re.compile(r"all_unreclaimable\?\s*(yes|no)")


@dataclass
class FreeList:
    """The free list of a zone: ``blocks[order]`` is a count and the letters of the lists that are not empty."""

    unit_kb: int  # the size of the first item: a page
    blocks: list[tuple[int, str | None]]
    total_kb: int | None  # None where the line was cut

    @property
    def whole(self) -> bool:
        """True where the line ends as the kernel ends it."""
        return self.total_kb is not None


@dataclass
class ZoneInfo:
    """A zone as a report prints it. ``kb`` holds the fields of its line, in kB."""

    node: int
    zone: str
    kb: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    whole: bool = False  # the line was not cut
    reserve: tuple[int, ...] | None = None
    lists: FreeList | None = None
    all_unreclaimable: bool | None = None

    @property
    def index(self) -> int:
        """The place of the zone among all that there are."""
        return ZONES.index(self.zone)


@dataclass
class MemInfo:
    """A Mem-Info block."""

    zones: list[ZoneInfo] = field(default_factory=list)
    start: int = 0  # where in the text it begins
    last: int = 0  # where its latest line is
    nodes: dict[int, dict[str, int]] = field(default_factory=dict)  # kB
    node_flags: dict[int, str] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)  # pages
    tail: dict[str, int] = field(default_factory=dict)  # pages
    swap_kb: dict[str, int] = field(default_factory=dict)
    numa: bool = False  # zones were printed with their node
    begun: bool = False  # its own "Mem-Info:" was seen
    listed: bool = False
    settled_page_kb: int | None = None  # once all of it is read
    _by_name: dict[tuple[int, str], ZoneInfo] = field(default_factory=dict)

    def find(self, node: int, zone: str) -> ZoneInfo | None:
        """The zone of that node and name, None where the block has not shown it."""
        if len(self._by_name) != len(self.zones):
            self._by_name = {(info.node, info.zone): info for info in reversed(self.zones)}
        return self._by_name.get((node, zone))

    @property
    def page_kb(self) -> int:
        """The size of a page: the smallest block of the lists, else from the counters, else what divides all sizes."""
        if self.settled_page_kb is not None:
            return self.settled_page_kb
        units = [info.lists.unit_kb for info in self.zones if info.lists and info.lists.unit_kb > 0]
        if units:
            return max(set(units), key=units.count)
        pages = self.totals.get("free", 0)
        kb = sum(info.kb.get("free", 0) for info in self.zones)
        if pages and kb:
            return min((4, 8, 16, 32, 64, 256), key=lambda unit: abs(kb / pages - unit))
        sizes = [size for info in self.zones for name, size in info.kb.items() if size and name not in _NOT_OWN]
        divisor = math.gcd(*sizes)
        unit = min(max(divisor & -divisor, 4), 256)
        # Each size of smaller pages is a multiple by chance in one of two for every doubling.
        return unit if (unit.bit_length() - 3) * len(sizes) >= _CHANCE else 4

    def pages(self, info: ZoneInfo, name: str) -> int | None:
        """A field of a zone's line in pages, None where the line does not show it."""
        kb = info.kb.get(name)
        return None if kb is None else kb // self.page_kb


def read_fields(text: str) -> tuple[dict[str, int], dict[str, int], bool]:
    """Reads ``name:12kB`` and ``name:12`` of a line.

    Returns:
        kB by name, counts by name, and whether the line ends as the kernel ends it. Of a name twice the first counts:
        what stands after is another line. A number that lost its unit to a cut is left out.
    """
    kb: dict[str, int] = {}
    for name, number in _KB.findall(text):
        kb.setdefault(name, int(re.sub(r"\s+", "", number)))
    counts: dict[str, int] = {}
    for name, number in _COUNT.findall(text):
        counts.setdefault(name, int(number))
    whole = bool(_FLAGS.search(text)) or "free_cma" in kb
    if "all_unreclaimable" not in text and "writeback_tmp" in kb and "free_cma" in kb:
        whole = False  # 3.7 to 4.7: the line goes on after these
    if not whole and set(kb) <= {"free", "min", "low", "high", "active", "inactive", "present"}:
        whole = "present" in kb  # 2.6.9
    return kb, counts, whole


def read_flag(text: str) -> bool | None:
    """``all_unreclaimable? yes``."""
    found = _FLAGS.search(text)
    return None if found is None else found[1] == "yes"


def read_list(text: str) -> FreeList | None:
    """Reads ``1*4kB (U) 0*8kB .. = 13312kB``; None where not even the first item is whole."""
    blocks: list[tuple[int, str | None]] = []
    unit = size = 0
    place = 0
    for item in _ITEM.finditer(text):
        between = text[place : item.start()]
        if "=" in between:
            break
        kb = int(item[2])
        if not blocks:
            unit = size = kb
        elif kb != size * 2:
            break  # an item is lost: what follows has another order
        size = kb
        letters = re.sub(r"\s+", "", item[3]) if item[3] else None
        if letters is None and text[item.end() :].lstrip()[:1] == "(":
            break  # cut inside the letters
        blocks.append((int(item[1].replace(" ", "")), letters))
        place = item.end()
    if not blocks:
        return None
    total = _TOTAL.match(text[place:].lstrip())
    return FreeList(unit, blocks, int(total[1]) if total else None)


def read_reserve(text: str) -> tuple[int, ...]:
    """Reads the numbers of a reserve line."""
    return tuple(int(number) for number in text.split())


def drop_cut_reserves(zones: list[ZoneInfo]) -> None:
    """Drops reserve lines that were cut: shorter than those of the other zones, or falling where they only rise."""
    lengths = [len(info.reserve) for info in zones if info.reserve]
    if not lengths:
        return
    usual = max(set(lengths), key=lambda length: (lengths.count(length), length))
    for info in zones:
        if info.reserve and len(info.reserve) != usual:
            info.reserve = None

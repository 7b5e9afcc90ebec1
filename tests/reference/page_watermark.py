"""May a request have a page of a zone: every kernel's check written out once more, version by version.

Written from mm/page_alloc.c of each version for the tests, with nothing of ``fastalloc`` in it. Versions are tuples as
(2, 6, 32), (4, 9), (6, 1); ``stable`` is the number of the stable update or None. Sizes in pages.
"""

from dataclasses import dataclass, field

ORDER_OF_ZONES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")


@dataclass
class Zone:
    name: str
    node: int
    free: int
    min: int
    low: int
    high: int
    reserve: list[int]
    blocks: list[tuple[int, str]]  # count and letters, by order
    cma: int = 0
    reserved_highatomic: int = 0
    free_highatomic: int = 0
    boost: int = 0
    managed: int = 0


@dataclass
class Asked:
    version: tuple[int, ...]
    stable: int | None
    flags: set[str]  # without the underscores: WAIT, HIGH, ...
    order: int
    layout: tuple[str, ...]
    oom: bool = False
    populated: set[str] = field(default_factory=set)


def bits(version: tuple[int, ...]) -> dict[str, int]:
    """The bits that the tests use, by version [include/linux/gfp.h]."""
    low = {"DMA": 1, "HIGHMEM": 2, "HIGH": 0x20, "IO": 0x40, "FS": 0x80}
    if version >= (2, 6, 18):
        low["DMA32"] = 4
    if version >= (2, 6, 31):
        low["MOVABLE"] = 8
    elif version >= (2, 6, 24):
        low["MOVABLE"] = 0x100000
    elif version >= (2, 6, 23):
        low["MOVABLE"] = 0x80000
    if version < (4, 4):
        table = low | {"WAIT": 0x10, "NOWARN": 0x200, "NORETRY": 0x1000, "COMP": 0x4000}
        if version >= (2, 6, 11):
            table["ZERO"] = 0x8000
        if version >= (2, 6, 12):
            table["NOMEMALLOC"] = 0x10000
        if version >= (2, 6, 18):
            table["HARDWALL"] = 0x20000
        if version >= (2, 6, 38):
            table["NO_KSWAPD"] = 0x400000
        if version >= (3, 6):
            table["MEMALLOC"] = 0x2000
        return table
    if version < (5, 1):
        table = low | {"NORETRY": 0x1000, "MEMALLOC": 0x2000, "COMP": 0x4000, "ZERO": 0x8000}
        table |= {"NOMEMALLOC": 0x10000, "HARDWALL": 0x20000, "ATOMIC": 0x80000}
        if version < (4, 10):
            return table | {"WAIT": 0x400000, "KSWAPD": 0x2000000}
        if version < (4, 18):
            return table | {"WAIT": 0x400000, "KSWAPD": 0x1000000}
        return table | {"WAIT": 0x200000, "KSWAPD": 0x400000}
    table = low | {"ZERO": 0x100, "WAIT": 0x400, "KSWAPD": 0x800, "NORETRY": 0x10000, "MEMALLOC": 0x20000}
    table |= {"COMP": 0x40000, "NOMEMALLOC": 0x80000, "HARDWALL": 0x100000}
    return table if version >= (6, 3) else table | {"ATOMIC": 0x200}


def highest_zone(asked: Asked) -> str:
    """gfp_zone()."""
    flags, layout = asked.flags, asked.layout
    if "DMA" in flags:
        return "DMA" if "DMA" in layout else "Normal"
    if "DMA32" in flags:
        return "DMA32" if "DMA32" in layout else "Normal"
    if "HIGHMEM" in flags:
        if "MOVABLE" in flags and asked.version >= (2, 6, 23):
            return "Movable"
        return "HighMem" if "HighMem" in layout else "Normal"
    return "Normal"


def may_use(asked: Asked, zone: str) -> bool:
    return ORDER_OF_ZONES.index(zone) <= ORDER_OF_ZONES.index(highest_zone(asked))


def class_of(asked: Asked) -> str:
    """Whose lowmem_reserve counts."""
    if asked.version >= (5, 8):
        return highest_zone(asked)
    usable = [zone for zone in ORDER_OF_ZONES if zone in asked.populated and may_use(asked, zone)]
    return usable[-1] if usable else highest_zone(asked)


def new_flags(asked: Asked) -> bool:
    """The alloc flags of 6.3, which 6.1.116 took over."""
    return asked.version >= (6, 3) or (asked.version == (6, 1) and (asked.stable or 0) >= 116)


def check(zone: Zone, asked: Asked) -> tuple[str, int | None, int]:
    """The verdict of a zone, its mark, and by how many pages it is short.

    ``below-mark``, ``fragmentation``, ``wrong-type`` or ``passes-now``; mark None where none is asked.
    """
    flags, version, order = asked.flags, asked.version, asked.order
    wait = "WAIT" in flags
    if "MEMALLOC" in flags and "NOMEMALLOC" not in flags:
        letters = removal_letters(asked)
        there = [size for size, (count, kinds) in enumerate(zone.blocks) if count and takes(kinds, letters)]
        if any(size >= order for size in there):
            return "passes-now", None, 0
        return ("fragmentation", None, 0) if there and order else ("below-mark", None, 1)
    reserve = 0
    kind = class_of(asked)
    if kind != zone.name:
        reserve = zone.reserve[asked.layout.index(kind)]
    mark, free = lowered(zone, asked), zone.free
    free -= (1 << order) + 1 if (2, 6, 38) <= version < (3, 3) else (1 << order) - 1
    movable = "MOVABLE" in flags and version >= (3, 7)
    cma = zone.cma if version >= (3, 7) and not movable else 0
    taken = 0
    if version >= (4, 4):
        if new_flags(asked):
            counts = "HIGH" in flags or (not wait and "NOMEMALLOC" not in flags)
        else:
            counts = "ATOMIC" in flags and "NOMEMALLOC" not in flags
        if not counts:
            if version >= (6, 15):
                taken = zone.free_highatomic
            elif version >= (5, 6):
                taken = zone.reserved_highatomic
    quick = (4, 7) <= version < (5, 9) and order == 0 and zone.free - cma > zone.min + reserve
    if quick:
        taken = 0
    short = mark + reserve + 1 - (free - cma - taken)
    if short > 0:
        return "below-mark", mark, short
    if (2, 6, 11) <= version < (4, 4):
        left = free - cma if version < (3, 10) else free
        smaller = mark
        for size in range(order):
            left -= zone.blocks[size][0] << size
            smaller >>= 1
            if left <= smaller:
                return "fragmentation", mark, 0
    letters = removal_letters(asked)
    if any(count and takes(kinds, letters) for count, kinds in zone.blocks[order:]):
        return "passes-now", mark, 0
    if order:
        return "fragmentation", mark, 0
    return ("wrong-type" if any(count for count, _ in zone.blocks) else "passes-now"), mark, 0


def takes(kinds: str, letters: str) -> bool:
    return not kinds or bool(set(kinds) & set(letters))


def removal_letters(asked: Asked) -> str:
    """The migrate types whose blocks the removal may take."""
    flags, version, wait = asked.flags, asked.version, "WAIT" in asked.flags
    letters = "UME"
    if version < (4, 4):
        letters += "R"
    if "MOVABLE" in flags and version >= (3, 7):
        letters += "C"
    free_to_go = not wait and "NOMEMALLOC" not in flags
    if asked.oom:
        free_to_go = False
    if version >= (4, 4):
        if asked.order == 0:
            late = version >= (6, 11) or (version == (6, 1) and (asked.stable or 0) >= 116)
            if late and free_to_go:
                letters += "H"
        elif new_flags(asked):
            stable = asked.stable or 0
            strict = (
                version >= (6, 18) or (version == (6, 12) and stable >= 54) or (version == (6, 1) and stable >= 157)
            )
            if free_to_go and ("HIGH" in flags or not strict):
                letters += "H"
        elif "ATOMIC" in flags and "NOMEMALLOC" not in flags:
            letters += "H"
    return letters


def lowered(zone: Zone, asked: Asked) -> int:
    """The min mark after this caller's discounts."""
    flags, version, mark = asked.flags, asked.version, zone.min
    wait = "WAIT" in flags or asked.oom
    if asked.order == 0 and zone.boost and version >= (5, 9):
        if ("ATOMIC" if version < (6, 3) else "HIGH") in flags:
            mark -= zone.boost
    if new_flags(asked):
        if "HIGH" in flags:
            mark -= mark // 2
            if not wait and "NOMEMALLOC" not in flags:
                mark -= mark // 4
        return mark
    if "HIGH" in flags:
        mark = mark // 2 if version <= (2, 6, 10) else mark - mark // 2
    if version >= (4, 4):
        harder = "ATOMIC" in flags and "NOMEMALLOC" not in flags
    else:
        harder = not wait
        if version >= (2, 6, 38):
            harder = harder and "NOMEMALLOC" not in flags
        if version >= (3, 16):
            harder = harder and "NO_KSWAPD" not in flags
    return mark - mark // 4 if harder else mark


def last_try(zone: Zone, asked: Asked) -> str:
    """Before a kill: the high mark, without discount and without CMA: ``passes``, or what refuses."""
    version, order = asked.version, asked.order
    kind = class_of(asked)
    reserve = 0 if kind == zone.name else zone.reserve[asked.layout.index(kind)]
    free = zone.free - ((1 << order) + 1 if (2, 6, 38) <= version < (3, 3) else (1 << order) - 1)
    cma = zone.cma if version >= (3, 7) else 0
    taken = 0
    if version >= (6, 15):
        taken = zone.free_highatomic
    elif version >= (5, 6):
        taken = zone.reserved_highatomic
    if free - cma - taken <= zone.high + reserve:
        return "below-mark"
    if (2, 6, 11) <= version < (4, 4):
        left, mark = (free - cma if version < (3, 10) else free), zone.high
        for size in range(order):
            left -= zone.blocks[size][0] << size
            mark >>= 1
            if left <= mark:
                return "fragmentation"
    return "passes"


def overall(zones: list[Zone], asked: Asked) -> str:
    """The verdict of a report."""
    able = [zone for zone in zones if may_use(asked, zone.name) and zone.managed]
    if not able:
        return "zone-not-allowed"
    found = []
    for zone in able:
        verdict = check(zone, asked)[0]
        # 2.6.9 and 2.6.10 kill from mm/vmscan.c: try_to_free_pages, without another try of the zones.
        last = asked.oom and asked.version >= (2, 6, 11)
        if last and verdict == "passes-now" and last_try(zone, asked) != "passes":
            verdict = last_try(zone, asked)
        found.append(verdict)
    for verdict in ("passes-now", "wrong-type", "fragmentation"):
        if verdict in found:
            return "other" if verdict == "wrong-type" else verdict
    return "below-mark"

"""Reports as each kernel from 2.6.9 to 7.3 prints them, made up: zones, marks and lists at random, formats exact.

The formats are those of show_free_areas, warn_alloc and dump_header of each version; see
``fastalloc.linux.mem_info`` for their history, which these functions do not use.
"""

import random
from dataclasses import dataclass

from tests.reference.page_watermark import ORDER_OF_ZONES, Asked, Zone, bits, class_of, lowered, may_use

VERSIONS: tuple[tuple[int, ...], ...] = (
    *((2, 6, minor) for minor in range(9, 40)),
    *((3, minor) for minor in range(20)),
    *((4, minor) for minor in range(21)),
    *((5, minor) for minor in range(20)),
    *((6, minor) for minor in range(20)),
    *((7, minor) for minor in range(4)),
)
# What builds have: x86-64, the same with device memory, 32-bit with and without high memory, small boards.
LAYOUTS = (
    ("DMA", "DMA32", "Normal", "Movable"),
    ("DMA", "DMA32", "Normal", "Movable", "Device"),
    ("DMA", "Normal", "HighMem", "Movable"),
    ("Normal", "HighMem", "Movable"),
    ("DMA", "Normal", "Movable"),
    ("Normal", "Movable"),
)
RATIO = {"DMA": 256, "DMA32": 256, "Normal": 32, "HighMem": 1, "Movable": 1}


@dataclass
class Made:
    """A report and what it was made of."""

    text: str
    asked: Asked
    zones: list[Zone]
    mode: int
    page_kb: int


def make(rng: random.Random) -> Made:
    """A report of some version."""
    version = rng.choice(VERSIONS)
    stable = None
    if version in ((6, 1), (6, 12)):
        stable = rng.choice((0, 20, 53, 54, 100, 115, 116, 156, 157, 170))
    layout = tuple(zone for zone in rng.choice(LAYOUTS) if _exists(zone, version))
    populated = _populated(rng, layout)
    flags, oom = _flags(rng, version, populated)
    order = 0 if rng.random() < 0.5 else rng.randrange(1, 11)
    asked = Asked(version, stable, flags, order, layout, oom, set(populated))
    page_kb = 4 if rng.random() < 0.85 else rng.choice((16, 64))
    nodes = range(1 if rng.random() < 0.7 else rng.choice((2, 3)))
    zones = []
    for node in nodes:
        mine = populated if node == 0 else [populated[-1]]
        zones += _zones(rng, asked, mine, node)
    shown = [zone for zone in zones if version < (6, 1) or may_use(asked, zone.name)]
    mode = sum(bits(version)[flag] for flag in flags)
    text = _text(rng, asked, shown, mode, page_kb, len(nodes) > 1 or rng.random() < 0.5)
    return Made(text, asked, shown, mode, page_kb)


def _exists(zone: str, version: tuple[int, ...]) -> bool:
    since = {"DMA32": (2, 6, 15), "Movable": (2, 6, 23), "Device": (4, 3)}
    return version >= since.get(zone, (0,))


def _flags(rng: random.Random, version: tuple[int, ...], populated: list[str]) -> tuple[set[str], bool]:
    known = bits(version)
    kernel = {"WAIT", "IO", "FS"} | ({"KSWAPD"} if "KSWAPD" in known else set())
    atomic = {"HIGH"} | ({"KSWAPD"} if "KSWAPD" in known else set()) | ({"ATOMIC"} if "ATOMIC" in known else set())
    nowait = {"KSWAPD"} if "KSWAPD" in known else set()
    user = kernel | {"HIGHMEM"} | ({"HARDWALL"} if "HARDWALL" in known else set())
    flags = set(rng.choice((kernel, atomic, atomic, nowait, user, user | {"MOVABLE"}, kernel | {"HIGH"})))
    for extra, chance in (("COMP", 0.4), ("ZERO", 0.2), ("NOMEMALLOC", 0.15), ("MEMALLOC", 0.05), ("NORETRY", 0.1)):
        if rng.random() < chance:
            flags.add(extra)
    low = [zone for zone in ("DMA", "DMA32") if zone in populated]  # of a zone that is not printed nobody can tell
    if "HIGHMEM" not in flags and low and rng.random() < 0.2:
        flags.add(rng.choice(low))
    flags &= set(known)
    return flags, "WAIT" in flags and "MEMALLOC" not in flags and rng.random() < 0.35


def _populated(rng: random.Random, layout: tuple[str, ...]) -> list[str]:
    choices = [{"DMA", "DMA32", "Normal", "HighMem"}] * 4 + [{"Normal"}, {"DMA", "DMA32"}, {"DMA", "Normal"}]
    chosen = rng.choice(choices)
    found = [zone for zone in layout if zone in chosen] or ["Normal"]
    if "HighMem" in found and "Normal" not in found:
        found.remove("HighMem")
    if "Movable" in layout and rng.random() < 0.2:
        found.append("Movable")
    return found or ["Normal"]


def _zones(rng: random.Random, asked: Asked, names: list[str], node: int) -> list[Zone]:
    version = asked.version
    managed = {name: rng.randrange(2000, 5000) if name == "DMA" else rng.randrange(20_000, 4_000_000) for name in names}
    zones = []
    for name in names:
        least = rng.randrange(0, max(managed[name] // 40, 8))
        step = max(least // 4, managed[name] // 1000 if version >= (4, 6) else 0)
        boost = rng.choice((0, 0, 512, 4096)) if version >= (5, 16) else 0
        reserve, total = [], 0
        for other in asked.layout:
            if ORDER_OF_ZONES.index(other) > ORDER_OF_ZONES.index(name):
                total += managed.get(other, 0)
                empty_rule = (6, 10) <= version < (6, 14) and other not in managed
                if version == (6, 12) and (asked.stable or 0) >= 19:
                    empty_rule = False
                reserve.append(0 if empty_rule else total // RATIO[name])
            else:
                reserve.append(0)
        zone = Zone(name, node, 0, least + boost, least + step + boost, least + 2 * step + boost, reserve, [])
        zone.managed, zone.boost = managed[name], boost
        zone.free = _near(rng, zone, asked)
        if version >= (3, 7) and rng.random() < 0.3:
            zone.cma = rng.randrange(0, max(zone.free, 1))
            zone.free += zone.cma if rng.random() < 0.7 else 0
        if version >= (5, 6) and rng.random() < 0.4:
            zone.reserved_highatomic = rng.choice((512, 1024, 4096))
            zone.free_highatomic = rng.randrange(0, zone.reserved_highatomic)
            zone.free += zone.reserved_highatomic if rng.random() < 0.6 else 0
        zone.blocks = _blocks(rng, zone, asked)
        if name in asked.flags and version >= (3, 8) and rng.random() < 0.3:  # all of it reserved at boot
            zone = Zone(name, node, 0, 0, 0, 0, reserve, [(0, "")] * 11)
        zones.append(zone)
    return zones


def _near(rng: random.Random, zone: Zone, asked: Asked) -> int:
    """Free pages, often within a few of what the request needs."""
    kind = class_of(asked)
    reserve = 0 if kind == zone.name or kind not in asked.layout else zone.reserve[asked.layout.index(kind)]
    need = lowered(zone, asked) + reserve + (1 << asked.order)
    if asked.oom and rng.random() < 0.3:
        need = zone.high + reserve + (1 << asked.order)
    if rng.random() < 0.6:
        return max(need + rng.randrange(-6, 7), 0)
    return rng.randrange(0, max(2 * need, 4))


def _blocks(rng: random.Random, zone: Zone, asked: Asked) -> list[tuple[int, str]]:
    left, blocks = zone.free, []
    letters = "UME"
    if (3, 8) <= asked.version < (4, 4):
        letters += "R"
    elif asked.version >= (4, 4):
        letters += "HHH"
    if zone.cma and asked.version >= (3, 8):
        letters += "CC"
    top = rng.choice((10, 10, asked.order - 1, asked.order, 3))
    counts = [0] * 11
    for size in range(10, -1, -1):
        if size <= top or size == 0:
            counts[size] = rng.randrange(0, (left >> size) + 1) if size else left
            left -= counts[size] << size
    for count in counts:
        kinds = ""
        if count and asked.version >= (3, 8):
            kinds = "".join(sorted(set(rng.choices(letters, k=rng.choice((1, 1, 2, 3)))), key="UMERHC".index))
        blocks.append((count, kinds))
    return blocks


# ------------------------------------------------------------------------------------------------------- printing


def _text(rng: random.Random, asked: Asked, zones: list[Zone], mode: int, page_kb: int, numa: bool) -> str:
    lines = [*_head(rng, asked, mode), *_trace(rng, asked), *_totals(asked, zones)]
    for zone in zones:
        if asked.version < (4, 1):
            lines += [f"{_node(zone, numa)}{zone.name} per-cpu:", "CPU    0: hi:  186, btch:  31 usd:  30"]
    if asked.version >= (4, 8):
        for node in sorted({zone.node for zone in zones}):
            lines.append(_node_line(asked, node))
    for zone in zones:
        lines.append(_zone_line(asked, zone, page_kb, numa))
        word = "protections[]" if asked.version <= (2, 6, 10) else "lowmem_reserve[]"
        lines.append(f"{word}: {' '.join(map(str, zone.reserve))}")
    for zone in zones:
        items = [
            f"{count}*{page_kb << size}kB" + (f" ({kinds})" if kinds else "")
            for size, (count, kinds) in enumerate(zone.blocks)
        ]
        lines.append(f"{_node(zone, numa)}{zone.name}: {' '.join(items)} = {zone.free * page_kb}kB")
    return "\n".join([*lines, *_tail(asked)]) + "\n"


def _node(zone: Zone, numa: bool) -> str:
    return f"Node {zone.node} " if numa else ""


def _head(rng: random.Random, asked: Asked, mode: int) -> list[str]:
    version, comm = asked.version, rng.choice(("java", "swapper/0", "kworker/3:6", "in:imklog", "X"))
    known = {value: name for name, value in bits(version).items()}
    names = "|".join("__GFP_" + _printed_name(known[bit]) for bit in sorted(known) if mode & bit) or "none"
    names = f"({names})" if version >= (4, 6) else ""
    if asked.oom:
        adj = "oom_score_adj=0" if version >= (3, 7) else ("oomkilladj=0" if version < (2, 6, 32) else "oom_adj=0")
        if (2, 6, 36) <= version < (3, 7):
            adj = "oom_adj=0, oom_score_adj=0"
        middle = " nodemask=(null)," if (4, 9) <= version < (5, 0) else ""
        start = f"{comm} invoked " if version >= (2, 6, 19) else ""
        end = f", {adj}" if version >= (2, 6, 19) else ""
        order = f",{middle} order={asked.order}" if version >= (2, 6, 18) else ""
        if version < (2, 6, 18):
            asked.order = 0
        head = [f"{start}oom-killer: gfp_mask={mode:#x}{names}{order}{end}"]
    else:
        stop = "." if version < (3, 0) else ":"
        after = ""
        if version >= (5, 0):
            after = ", nodemask=(null),cpuset=/,mems_allowed=0-3"
        elif version >= (4, 11):
            after = ", nodemask=(null)"
        head = [f"{comm}: page allocation failure{stop} order:{asked.order}, mode:{mode:#x}{names}{after}"]
    release = ".".join(map(str, version)) + (f".{asked.stable}" if asked.stable is not None else "")
    if version >= (6, 11):
        head.append(f"CPU: 1 UID: 0 PID: 77 Comm: {comm} Not tainted {release} #1 PREEMPT(full)")
    elif version >= (3, 10):
        head.append(f"CPU: 1 PID: 77 Comm: {comm} Tainted: G        W  OE     {release} #1")
    elif version >= (2, 6, 24):
        head.append(f"Pid: 77, comm: {comm} Not tainted {release} #1")
    else:
        head.insert(0, f"Linux version {release} (a@b) #1 SMP")
    return head


def _printed_name(name: str) -> str:
    return {"WAIT": "DIRECT_RECLAIM", "KSWAPD": "KSWAPD_RECLAIM"}.get(name, name)


def _trace(rng: random.Random, asked: Asked) -> list[str]:
    narrow = "HighMem" in asked.layout
    address = (
        f"[<{rng.randrange(0xC0000000, 0xD0000000):08x}>]" if narrow else f"[<{rng.randrange(1 << 63, 1 << 64):016x}>]"
    )
    names = (
        "warn_alloc+0x108/0x190",
        "__alloc_pages_slowpath+0x9cc/0x9f8",
        "new_slab+0x339/0x490",
        "do_syscall_64+0x5/0x9",
    )
    return ["Call Trace:", *(f" {address} {'? ' if rng.random() < 0.3 else ''}{name}" for name in names)]


def _totals(asked: Asked, zones: list[Zone]) -> list[str]:
    version, free, cma = asked.version, sum(zone.free for zone in zones), sum(zone.cma for zone in zones)
    word = "Mem-info:" if version < (2, 6, 37) else "Mem-Info:"
    if version < (2, 6, 28):
        bounce = " bounce:0" if version >= (2, 6, 21) else ""
        lines = [word, "Active:10 inactive:20 dirty:0 writeback:0 unstable:0"]
        return [*lines, f" free:{free} slab:9 mapped:5 pagetables:5{bounce}"]
    if version < (2, 6, 32):
        lines = [word, "Active_anon:1 active_file:2 inactive_anon:3"]
        lines.append(" inactive_file:4 unevictable:0 dirty:0 writeback:0 unstable:0")
        return [*lines, f" free:{free} slab:9 mapped:5 pagetables:5 bounce:0"]
    unstable = " unstable:0" if version < (5, 8) else ""
    lines = [word, "active_anon:1 inactive_anon:2 isolated_anon:0", " active_file:3 inactive_file:4 isolated_file:0",
             f" unevictable:0 dirty:0 writeback:0{unstable}"]  # fmt: skip
    if version < (4, 1):
        lines += [f" free:{free} slab_reclaimable:5 slab_unreclaimable:6", " mapped:1 shmem:1 pagetables:2 bounce:0"]
        if version >= (3, 7):
            lines.append(f" free_cma:{cma}")
        return lines
    sec = "\n sec_pagetables:0" if version >= (6, 1) else ""
    lines += [" slab_reclaimable:5 slab_unreclaimable:6", f" mapped:1 shmem:1 pagetables:2{sec} bounce:0"]
    if version >= (5, 15):
        lines.append(" kernel_misc_reclaimable:0")
    return [*lines, f" free:{free} free_pcp:0 free_cma:{cma}"]


def _node_line(asked: Asked, node: int) -> str:
    version = asked.version
    parts = [f"Node {node} active_anon:4kB inactive_anon:8kB active_file:12kB inactive_file:16kB unevictable:0kB"]
    parts.append("isolated(anon):0kB isolated(file):0kB mapped:4kB dirty:0kB writeback:0kB shmem:4kB shmem_thp: 0kB")
    parts += ["shmem_pmdmapped: 0kB anon_thp: 0kB", *(["writeback_tmp:0kB"] if version < (6, 15) else [])]
    parts += ["unstable:0kB"] if version < (5, 8) else []
    parts += ["kernel_stack:96kB"] if version >= (5, 9) else []
    parts += ["pagetables:8kB"] if version >= (5, 11) else []
    parts += ["sec_pagetables:0kB"] if version >= (6, 1) else []
    parts += ["pages_scanned:0"] if version < (4, 12) else []
    parts += ["all_unreclaimable? no", *(["Balloon:0kB"] if version >= (6, 15) else [])]
    return " ".join(parts + (["gpu_active:0kB gpu_reclaim:0kB"] if version >= (7, 1) else []))


def _zone_line(asked: Asked, zone: Zone, unit: int, numa: bool) -> str:
    version = asked.version
    parts = [f"{_node(zone, numa)}{zone.name} free:{zone.free * unit}kB"]
    parts += [f"boost:{zone.boost * unit}kB"] if version >= (5, 16) else []
    parts += [f"{name}:{getattr(zone, name) * unit}kB" for name in ("min", "low", "high")]
    kb = "kB" if version >= (7, 3) else "KB"
    parts += [f"reserved_highatomic:{zone.reserved_highatomic * unit}{kb}"] if version >= (5, 6) else []
    parts += [f"free_highatomic:{zone.free_highatomic * unit}{kb}"] if version >= (6, 15) else []
    present = f"present:{(zone.managed or 32) * unit}kB"
    if version < (2, 6, 28):
        end = [] if version == (2, 6, 9) else ["pages_scanned:0 all_unreclaimable? no"]
        return " ".join([*parts, "active:0kB inactive:0kB", present, *end])
    parts.append("active_anon:0kB inactive_anon:0kB active_file:0kB inactive_file:0kB unevictable:0kB")
    if version < (2, 6, 32):
        return " ".join([*parts, present, "pages_scanned:0 all_unreclaimable? no"])
    managed = f"{present} managed:{zone.managed * unit}kB" if version >= (3, 8) else present
    if version < (4, 8):
        cma = f"free_cma:{zone.cma * unit}kB " if version >= (3, 7) else ""
        pcp = "free_pcp:0kB local_pcp:0kB " if version >= (4, 1) else ""
        return " ".join([*parts, "isolated(anon):0kB isolated(file):0kB", managed,
                         "mlocked:0kB dirty:0kB writeback:0kB mapped:0kB shmem:0kB slab_reclaimable:0kB",
                         "slab_unreclaimable:0kB kernel_stack:40kB pagetables:0kB unstable:0kB",
                         f"bounce:0kB {pcp}{cma}writeback_tmp:0kB pages_scanned:0 all_unreclaimable? no"])  # fmt: skip
    parts += ["writepending:0kB", *(["zspages:0kB"] if version >= (6, 18) else []), managed, "mlocked:0kB"]
    parts += ["slab_reclaimable:0kB slab_unreclaimable:0kB"] if version < (4, 13) else []
    parts += ["kernel_stack:40kB"] if version < (5, 9) else []
    parts += ["pagetables:0kB"] if version < (5, 11) else []
    return " ".join([*parts, f"bounce:0kB free_pcp:0kB local_pcp:0kB free_cma:{zone.cma * unit}kB"])


def _tail(asked: Asked) -> list[str]:
    version = asked.version
    lines = (
        ["Node 0 hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB"]
        if version >= (3, 10)
        else []
    )
    lines += ["3559 total pagecache pages"] if version >= (2, 6, 26) else []
    if version < (2, 6, 27):
        return [*lines, "Swap cache: add 0, delete 0, find 0/0, race 0+0"]
    lines.append("0 pages in swap cache")
    if version < (6, 0):
        lines.append("Swap cache stats: add 0, delete 0, find 0/0")
    lines += ["Free swap  = 0kB", "Total swap = 0kB"]
    high = "HighMem/MovableOnly" if version >= (3, 13) else "HighMem"
    return [*lines, "524158 pages RAM", f"0 pages {high}", "10638 pages reserved"]

"""Zones as a kernel lays them out, where only the size of memory is told, or not even that."""

from collections.abc import Mapping

from fastalloc.errors import InputError
from fastalloc.linux.release import Base
from fastalloc.scenario.imports.zoneinfo import ZoneFound, ZonesFound

GB = 1 << 20  # in kB
DMA_KB = 3976 * 4  # that x86_64 manages of its 16 MB
DEFAULT_MEMORY_KB = GB
LOW_KB = 880 << 10  # that a 32-bit kernel maps, where LowTotal does not tell

# By CPU: zones below the last, which has the rest, and where they end [arch/*/mm/init.c: max_zone_pfns].
Layout = tuple[tuple[tuple[str, int], ...], str]
ONE: Layout = (), "Normal"
TO_4_GB: Layout = (("DMA32", 4 * GB),), "Normal"
OF_64_BITS: dict[str, Layout] = {
    "x86_64": ((("DMA", DMA_KB), ("DMA32", 4 * GB)), "Normal"),
    "arm64, DMA below 4 GB,": ((("DMA", 4 * GB),), "Normal"),
    "s390x": ((("DMA", 2 * GB),), "Normal"),
    "ia64": ((("DMA", 4 * GB),), "Normal"),
    "riscv64": TO_4_GB,
    "loongarch64": TO_4_GB,
    "mips64": TO_4_GB,
    "sparc64": ONE,
    "parisc64": ONE,
    "ppc64": ONE,
}
# Of 32 bits: (zone of a fixed size or none, zone of the rest of what is mapped). HighMem has what is not.
OF_32_BITS: dict[str, tuple[int, str]] = {
    "i386": (DMA_KB, "Normal"),
    "32-bit arm": (0, "Normal"),
    "mips": (0, "Normal"),
    "parisc": (0, "Normal"),
    "sh": (0, "Normal"),
    "ppc": (0, "DMA"),
    "m68k": (0, "DMA"),
}
NO_HIGHMEM = ("m68k", "parisc", "sh")
PPC64_NORMAL: Base = (5, 0, 0)  # all memory is DMA before [arch/powerpc/Kconfig: ZONE_DMA]


def zones_of_memory(
    meminfo: Mapping[str, int], page_kb: int, bits: int, arch: str, base: Base, said: list[str]
) -> ZonesFound:
    """The zones of a machine of which meminfo alone tells; what is assumed goes to ``said``.

    Raises:
        InputError: too little memory for a machine.
    """
    total_kb = meminfo.get("MemTotal")
    if total_kb is None:
        total_kb = DEFAULT_MEMORY_KB
        said.append("no memory size told: 1 GB assumed")
    if total_kb // page_kb < 2048:
        raise InputError("/proc/meminfo", "MemTotal", f"{total_kb} kB are too little for a machine")
    sizes, whose = _of_32_bits(meminfo, total_kb, arch) if bits == 32 else _of_64_bits(total_kb, page_kb, arch, base)
    said.append(f"zones not told: those of {whose} assumed")
    zones = [ZoneFound(0, name, kb // page_kb) for name, kb in sizes.items() if kb >= page_kb]
    found = ZonesFound(zones, [zone.name for zone in zones])
    if meminfo.get("CmaTotal"):
        largest = max(found.zones, key=lambda zone: zone.present)
        largest.cma = meminfo["CmaTotal"] // page_kb
        said.append(f"{largest.cma} CMA pages assumed in {largest.name}")
    return found


def _of_64_bits(total_kb: int, page_kb: int, arch: str, base: Base) -> tuple[dict[str, int], str]:
    whose = arch if arch in OF_64_BITS else "x86_64"
    if arch in ("aarch64", "arm64") or (arch not in OF_64_BITS and page_kb != 4):
        whose = "arm64, DMA below 4 GB,"
    below, last = OF_64_BITS[whose]
    if whose == "ppc64" and base < PPC64_NORMAL:
        last = "DMA"
    sizes, start = {}, 0
    for name, end in below:
        sizes[name] = min(end, total_kb // 4 if end == DMA_KB else total_kb) - start
        start += sizes[name]
    return sizes | {last: total_kb - start}, whose


def _of_32_bits(meminfo: Mapping[str, int], total_kb: int, arch: str) -> tuple[dict[str, int], str]:
    whose = "32-bit arm" if arch.startswith("arm") else arch if arch in OF_32_BITS else "i386"
    low = total_kb if whose in NO_HIGHMEM else meminfo.get("LowTotal", min(total_kb, LOW_KB))
    fixed, name = OF_32_BITS[whose]
    first = {"DMA": min(fixed, total_kb // 4)} if fixed else {}
    return first | {name: low - sum(first.values()), "HighMem": total_kb - low}, whose

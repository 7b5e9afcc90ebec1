"""What a text says, or betrays, of the kernel, the CPU, memory as a whole and swap."""

import re
from collections.abc import Mapping, Sequence

from fastalloc.linux.release import Base, Span, parse_release
from fastalloc.linux.slabinfo import SlabRow
from fastalloc.linux.watermark_boost import PAGEBLOCK, boost_of_marks
from fastalloc.linux.watermark_rules import BOOST_UNPRINTED
from fastalloc.linux.watermarks import zone_batchsize
from fastalloc.scenario.imports.texts import Source
from fastalloc.scenario.imports.zoneinfo import ZonesFound
from fastalloc.scenario.machine import DEFAULT_KERNEL, NOT_THE_KERNELS

_RELEASE = r"(\d+\.\d+[\w.+~-]*)"
_KERNEL = (
    re.compile(rf"Linux version {_RELEASE}"),
    # a distribution's own letters and dashes may follow the kernel's; up to 3.x some put the release in parentheses
    re.compile(rf"(?:Not tainted|Tainted:.*?)\s+\(?{_RELEASE}"),
    re.compile(rf"^Linux \S+ {_RELEASE} "),
    re.compile(rf"\b[Kk]ernel:? (?:version )?{_RELEASE}"),
    re.compile(rf"\bkernel[./]osrelease\s*=\s*{_RELEASE}"),
    re.compile(rf"^{_RELEASE}$"),
)
_ARCH = (
    ("s390x", 64, 256),
    ("ppc64", 64, 128),
    ("powerpc64", 64, 128),
    ("aarch64", 64, 64),
    ("arm64", 64, 64),
    ("x86_64", 64, 64),
    ("amd64", 64, 64),
    ("riscv64", 64, 64),
    ("ia64", 64, 128),
    ("mips64", 64, 128),
    ("sparc64", 64, 64),
    ("loongarch64", 64, 64),
    ("alpha(?:-generic|-smp| GNU)", 64, 64),  # alone it may be of a version not ready yet
    ("parisc64", 64, 128),
    ("i686", 32, 64),
    ("i586", 32, 32),
    ("i486", 32, 16),
    ("i386", 32, 64),
    ("armv7", 32, 64),
    ("armv6", 32, 32),
    ("armv5", 32, 32),
    ("mips", 32, 32),
    ("ppc", 32, 32),
    ("parisc", 32, 32),
    ("m68k", 32, 16),
    ("sh4a?", 32, 32),
    ("v8", 64, 64),
    ("v7l?", 32, 64),
)  # fmt: skip -- the last two: CONFIG_LOCALVERSION of the Raspberry Pi's kernels
_CALLED = {"v8": "arm64", "v7l?": "armv7", "sh4a?": "sh", "powerpc64": "ppc64"}
# kB of a page that kernels are built with, by what stands in their release; else 4.
_PAGES = (
    (re.compile(r"[+-](16|64)k\b"), 0),  # which its distribution names
    (re.compile(r"rpi-2712|-asahi"), 16),  # arch/arm64/configs/bcm2712_defconfig; Apple's IOMMU has no other
    (re.compile(r"\.el[78]\S*\.aarch64|ppc64"), 64),  # of RHEL; of every distribution
    (re.compile(r"\bia64\b|loongarch64"), 16),  # of every distribution
)
EIGHT_ALONE = ("sparc64", "alpha")
FOUR_ALONE = ("x86_64", "amd64", "i386", "i586", "i686", "s390x", "armv5", "armv6", "armv7", "riscv64")
# The first kernel that prints a line of zoneinfo or meminfo, or has a cache.
FIRST: dict[str, Base] = {
    "Active(anon)": (2, 6, 28), "nr_inactive_anon": (2, 6, 28), "nr_free_cma": (3, 7, 0), "nr_alloc_batch": (3, 12, 0),
    "nr_kernel_misc_reclaimable": (4, 20, 0), "KernelStack": (2, 6, 32), "managed": (3, 8, 0),
    "MemAvailable": (3, 14, 0), "watermark_scale_factor": (4, 6, 0),
    "per-node stats": (4, 8, 0), "ShmemHugePages": (4, 8, 0), "KReclaimable": (4, 20, 0), "Percpu": (4, 19, 0),
    "FileHugePages": (5, 4, 0), "nr_foll_pin_acquired": (5, 7, 0), "cma": (5, 12, 0), "kmalloc-cg-64": (5, 14, 0),
    "boost": (5, 16, 0), "nr_throttled_written": (5, 16, 0), "Zswap": (5, 19, 0), "maple_node": (6, 1, 0),
    "Unaccepted": (6, 5, 0), "nr_unaccepted": (6, 5, 0), "nr_memmap_pages": (6, 11, 0), "promo": (6, 12, 0),
    "high_min": (6, 13, 0), "free_highatomic": (6, 19, 0),
}  # fmt: skip
# A line that sysctl.conf(5) does not read; after a prompt of root a command follows.
_COMMENT = re.compile(r"\s*[#;](?!.*\b(?:sysctl|cat|grep|echo)\b)")
S390_DMA_PAGES = 524288  # 2 GB, which nobody else calls DMA below a Normal zone [arch/s390: MAX_DMA_ADDRESS]


def kernel_release(source: Source) -> str:
    """The release of the kernel, such as ``6.1.0-18-amd64``; empty where no text tells."""
    told = source.files.get("/proc/sys/kernel/osrelease", "").strip()
    if re.fullmatch(_RELEASE, told):
        return told
    for pattern in _KERNEL[:-1]:
        for line in source.lines:
            match = pattern.search(line.strip())
            if match is not None:
                return match[1].rstrip(".")
    for asked, answer in zip(source.lines, source.lines[1:], strict=False):
        match = _KERNEL[-1].match(answer.strip())
        if match is not None and re.search(r"[$#>]\s*uname -\w*r", asked):
            return match[1]
    return ""


def architecture(source: Source, release: str) -> tuple[str, int | None, int | None]:
    """(name, bits, cache line in bytes) of the CPU, from the release and lines that ``uname`` or the boot printed."""
    told = (
        line for line in source.lines if re.match(r"\s*Linux (version )?\S+ ", line) or (release and release in line)
    )
    texts = [release, *told]
    for text in texts:
        for name, bits, line in _ARCH:
            if re.search(rf"(?<![a-z0-9]){name}(?![0-9])", text):
                return _CALLED.get(name, name.partition("(")[0]), bits, line
    return "", None, None


def read_meminfo(lines: Sequence[str]) -> dict[str, int]:
    """Sizes in kB by name, of the first meminfo among ``lines``."""
    found: dict[str, int] = {}
    for line in lines:
        match = re.match(r"^\s*([A-Z]\w*(?:\(\w+\))?):\s+(\d+)\s+kB\s*$", line)
        if match is not None:
            found.setdefault(match[1], int(match[2]))
    return found


def hugetlb_kb(lines: Sequence[str], meminfo: Mapping[str, int]) -> int:
    """kB that huge pages set aside take, of every size [since 4.16], or of the default one."""
    if "Hugetlb" in meminfo:
        return meminfo["Hugetlb"]
    counts = [int(match[1]) for line in lines if (match := re.match(r"^\s*HugePages_Total:\s+(\d+)\s*$", line))]
    return counts[0] * meminfo.get("Hugepagesize", 0) if counts else 0


def cma_pages(lines: Sequence[str], meminfo: Mapping[str, int], page_kb: int) -> int | None:
    """Pages of all CMA areas, free or not: CmaTotal, or what a report counts at its end; None where not told."""
    if "CmaTotal" in meminfo:
        return meminfo["CmaTotal"] // page_kb
    told = (re.search(r"\b(\d+) pages cma reserved$", line.rstrip()) for line in lines)
    return next((int(match[1]) for match in told if match is not None), None)


def read_sysctls(source: Source) -> dict[str, int]:
    """min_free_kbytes and watermark_scale_factor, as a file, as ``vm.NAME = N`` or after ``cat``."""
    found = {}
    for name in ("min_free_kbytes", "watermark_scale_factor"):
        told = source.files.get(f"/proc/sys/vm/{name}", "").strip()
        if told.isdigit():
            found[name] = int(told)
            continue
        for number, line in enumerate(source.lines):
            if _COMMENT.match(line):
                continue
            match = re.search(rf"(?:vm[./])?\b{name}\s*[=:]\s*(\d+)\s*$", line)
            if match is None and re.search(rf"cat .*{name}\s*$", line) and number + 1 < len(source.lines):
                match = re.match(r"^\s*(\d+)\s*$", source.lines[number + 1])
            if match is not None:
                found[name] = int(match[1])
                break
    return found


def read_reserve_ratios(source: Source, bits: int) -> dict[str, int]:
    """lowmem_reserve_ratio by zone, lowest first, as a file, as ``vm.NAME = ..`` or after ``cat``; {} where not told.

    An entry for each zone that a kernel of so many bits is usually built with, to 4.16 none for the highest.
    """
    names = ("DMA", "Normal", "HighMem", "Movable") if bits == 32 else ("DMA", "DMA32", "Normal", "Movable", "Device")
    texts = [source.files.get("/proc/sys/vm/lowmem_reserve_ratio", ""), *source.lines]
    for text, answer in zip(texts, [*texts[1:], ""], strict=True):
        match = re.match(r"^\s*(?:.*\blowmem_reserve_ratio\s*[=:])?\s*(\d+(?:\s+\d+){1,5})\s*$", text)
        if match is None or _COMMENT.match(text) or (text is not texts[0] and "lowmem_reserve_ratio" not in text):
            match = None
            if re.search(r"cat .*lowmem_reserve_ratio\s*$", text):
                match = re.match(r"^\s*(\d+(?:\s+\d+){1,5})\s*$", answer)
        if match is not None:
            return dict(zip(names, map(int, match[1].split()), strict=False))
    return {}


def cpus(source: Source, zones: ZonesFound | None) -> int | None:
    """CPUs: those with page lists, those of cpuinfo, or those that a report names."""
    shown = (zones.cpus or 0) if zones is not None else 0
    if zones is not None and shown and not zones.hides_cpus:
        return shown
    count = sum(1 for line in source.lines if re.match(r"^\s*processor\s*:\s*\d+", line))
    return max(shown, count) or None


def bits(meminfo: Mapping[str, int], zones: ZonesFound | None) -> int | None:
    """32 or 64 where the texts betray it: HighMem, or how much vmalloc may map."""
    if (zones is not None and "HighMem" in zones.listed) or "HighTotal" in meminfo or "LowTotal" in meminfo:
        return 32
    if "VmallocTotal" in meminfo:
        return 32 if meminfo["VmallocTotal"] <= 4 << 20 else 64
    if zones is not None and "DMA32" in zones.listed:
        return 64
    return None


def is_s390(zones: ZonesFound) -> bool:
    """Whether the zones are those of s390: a DMA zone that ends at 2 GB, and Normal right above it."""
    ends = {zone.name: (zone.start_pfn, zone.spanned) for zone in zones.zones}
    return ends.get("DMA") == (0, S390_DMA_PAGES) and "DMA32" not in zones.listed and "HighMem" not in zones.listed


def told_page_kb(lines: Sequence[str]) -> int | None:
    """kB of a page where ``getconf PAGESIZE``, or a line that names it, tells."""
    for line, answer in zip(lines, [*lines[1:], ""], strict=True):
        match = re.search(r"\bPAGE_?SIZE\s*[=:]?\s*(\d+)\s*$", line)
        if match is None and re.search(r"getconf PAGE_?SIZE\s*$", line):
            match = re.match(r"^\s*(\d+)\s*$", answer)
        if match is not None and int(match[1]) in (4096, 8192, 16384, 65536):
            return int(match[1]) // 1024
    return None


def page_sizes(arch: str, zones: ZonesFound | None) -> tuple[int, ...]:
    """kB that a page may have on this CPU [PAGE_SHIFT of arch/*]; only 4 where the DMA zone is that of the ISA bus."""
    if arch in EIGHT_ALONE:
        return (8,)
    if arch in FOUR_ALONE or (zones is not None and _has_isa_dma(zones)):
        return (4,)
    return (4, 8, 16, 64) if arch in ("", "ia64") else (4, 16, 64)


def sizes_of_batches(sizes: Sequence[int], zones: ZonesFound | None, era: str) -> tuple[int, ...]:
    """Those of ``sizes`` that the batches of the zones' per-CPU lists do not speak against [zone_batchsize]; all where
    they speak against each."""
    told = [zone for zone in zones.zones if zone.pcp_batch] if zones is not None else []
    fitting = tuple(
        size
        for size in sizes
        if all(max(1, zone_batchsize(zone.present, era, size)) == zone.pcp_batch for zone in told)
    )
    return fitting or tuple(sizes)


def _has_isa_dma(zones: ZonesFound) -> bool:
    """Whether a DMA zone ends at 16 MB of 4 kB, below another one [MAX_DMA_PFN of x86]."""
    names = {"DMA32", "HighMem"} & set(zones.listed)
    return bool(names) and any(zone.name == "DMA" and zone.spanned in (4095, 4096) for zone in zones.zones)


def page_kb(
    meminfo: Mapping[str, int],
    zones: ZonesFound | None,
    slab_page: int | None,
    sizes: Sequence[int],
    era: str,
    whole: bool,
    release: str,
) -> tuple[int | None, str]:
    """(kB of a page, what betrays it); None where nothing does.

    Args:
        slab_page: bytes, of :func:`fastalloc.scenario.imports.slabinfo.page_bytes`.
        sizes: of :func:`page_sizes`.
        whole: no zone is left out, so that MemTotal is of those shown.
        release: the kernel's, and the name of its CPU.
    """
    if len(sizes) == 1:
        return sizes[0], "kernels of sparc64 and alpha" if sizes[0] == 8 else "the CPU and its zones"
    if slab_page is not None:
        return slab_page // 1024, "what a slab's objects take"
    # 8 kB on a CPU that is not told: MemTotal alone may tell, batches are too near those of other sizes and kernels
    fitting = sizes_of_batches([size for size in sizes if size != 8 or "ia64" in release], zones, era)
    size = _size_of_memory(meminfo, zones, sizes, sizes if whole else fitting)
    if size is not None:
        return size, "MemTotal against the zones' pages"
    huge = {32 << 10: 16, 512 << 10: 64}.get(meminfo.get("Hugepagesize", 0))  # a table of pages maps one
    if huge is not None:
        return huge, "Hugepagesize"
    if zones is not None and len(fitting) == 1 and any(zone.pcp_batch for zone in zones.zones):
        return fitting[0], "the batches of per-CPU lists"
    for pattern, named in _PAGES:
        match = pattern.search(release)
        if match is not None:
            return named or int(match[1]), f"kernels called {match[0].strip('.')} usually"
    return None, ""


def _size_of_memory(
    meminfo: Mapping[str, int], zones: ZonesFound | None, sizes: Sequence[int], usual: Sequence[int]
) -> int | None:
    """kB of a page by MemTotal against the pages of the zones; ``usual`` where these are those present alone.

    Pages are managed and counted in MemTotal together, so it is their sum where no zone is missing, of nodes too
    [adjust_managed_page_count, __free_pages_core]. What is only present is more.
    """
    if zones is None or "MemTotal" not in meminfo:
        return None
    pages, total = sum(zone.present for zone in zones.zones), meminfo["MemTotal"]
    if "managed" in zones.fields:
        return next((size for size in sizes if abs(total - size * pages) <= 1e-4 * total), None)
    return next((size for size in usual if 0.6 * size * pages <= total <= 1.02 * size * pages), None)


def oldest_kernel(
    meminfo: Mapping[str, int],
    zones: ZonesFound | None,
    rows: Sequence[SlabRow],
    sysctls: Mapping[str, int],
    within: Sequence[Span] = (),
) -> Base:
    """The oldest kernel that prints what the texts hold, and sets the marks that they hold.

    ``within``: the versions of each thing that a report shows; they alone may tell of a kernel before the default.
    """
    default = parse_release(DEFAULT_KERNEL)
    assert default is not None
    seen = {*meminfo, *(row.name for row in rows), *(zones.fields if zones is not None else ())}
    if "watermark_scale_factor" in sysctls:
        seen.add("watermark_scale_factor")
    told = [base for name, base in FIRST.items() if name in seen]
    oldest = max((versions.first for versions in within), default=default.base)
    if max([oldest, *told]) <= min((versions.last for versions in within), default=oldest) < default.base:
        return max([oldest, *told])
    bases = [default.base, oldest, *told]
    for zone in zones.zones if zones is not None else ():
        # before 4.6 the low mark is a quarter above min, exactly
        if zone.name not in NOT_THE_KERNELS and zone.min is not None and zone.low is not None:
            if zone.low - zone.min > zone.min // 4 + 1:
                bases.append((4, 6, 0))
            if boost_of_marks(zone.name, zone.min, zone.low) >= PAGEBLOCK:
                bases.append(BOOST_UNPRINTED.first)
    return max(bases)

"""One machine from all that the texts tell, and the list of what they did not."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastalloc.errors import InputError, reader
from fastalloc.linux import watermarks as wm
from fastalloc.linux.release import Base, base_name, parse_release
from fastalloc.linux.slabinfo import read_slabinfo
from fastalloc.linux.slub_eras import SlubOptions
from fastalloc.linux.versions import kernel_near
from fastalloc.linux.watermark_boost import PAGEBLOCK, boost_of_marks
from fastalloc.linux.watermark_rules import BOOST_UNPRINTED
from fastalloc.scenario.imports import host
from fastalloc.scenario.imports.layouts import zones_of_memory
from fastalloc.scenario.imports.report import ReportFound, read_report
from fastalloc.scenario.imports.slabinfo import allocator, cache_line, page_bytes, slab_caches
from fastalloc.scenario.imports.texts import open_source
from fastalloc.scenario.imports.zoneinfo import (
    ZoneFound,
    ZonesFound,
    classes_of,
    hides_zones,
    protection_by_class,
    read_zoneinfo,
)
from fastalloc.scenario.machine import ZONE_CLASSES, Machine, factor_of_marks, kbytes_of_marks
from fastalloc.scenario.varied import input_error

OF_A_REPORT = "zones from the report of a failed allocation"


@reader()
def import_machine(
    path: str | Path, name: str | None = None, *, kernel: str | None = None, at_boot: bool = False
) -> Machine:
    """Reads the machine that a kernel runs on from whatever there is.

    Args:
        path: a folder that holds some of ``proc/zoneinfo``, ``proc/meminfo``, ``proc/slabinfo`` and ``sys/kernel/slab``
            (such as ``/``), or a text file, plain or gzip: a dump, a terminal's or a mail's lines, a report of a failed
            allocation. What the lines are is told by their form, not by their headings.
        name: what to call it; by default after the path and its size.
        kernel: the release, where the input does not tell it, or wrongly.
        at_boot: the texts were taken before anything but the kernel ran. What is not free then stays taken for good.

    Returns:
        The machine, with populated zones node by node and caches in the order of their creation. ``source`` lists what
        the input did not say and was assumed.

    Raises:
        InputError: unreadable, cut off, or nothing that tells of a machine; names file and section.
    """
    path = Path(path)
    source = open_source(path)
    said: list[str] = []
    rows = read_slabinfo(source.lines, path)
    meminfo = host.read_meminfo(source.lines)
    report = read_report(source.lines)
    found = read_zoneinfo(source.lines, path)
    if found is not None and found.more:
        said.append("several zoneinfos told, the first is read")
    if found is None and report is not None:
        found = report.zones
        said.append(OF_A_REPORT)
        if report.ends is not None:
            said.append("a later report shows zones of other sizes, as of another machine; the first is read")
            source = source._replace(lines=source.lines[: report.ends])
    if found is None and "MemTotal" not in meminfo and not rows and not source.slab_dirs:
        raise InputError(
            path, "", "tells of no machine: no zoneinfo, meminfo, slabinfo or report of a failed allocation"
        )
    release = kernel or host.kernel_release(source)
    known = parse_release(release)
    if kernel and known is None:
        raise InputError(path, "--kernel", f"{kernel!r} holds no version, such as 6.1.0-18-amd64 does")
    arch, bits, line = host.architecture(source, release)
    sysctls = host.read_sysctls(source)
    base = known.base if known else host.oldest_kernel(meminfo, found, rows, sysctls, report.within if report else ())
    size, why = host.told_page_kb(source.lines), "the lines of getconf"
    if size is None and report is not None and report.page_kb is not None:
        size, why = report.page_kb, "the report's lists of free blocks"
    if size is None:
        # sizes of a report are in kB, and say nothing of the page's
        counted = None if report is not None and found is report.zones else found
        whole = counted is not None and "DMA" in counted.listed and not hides_zones(counted, classes_of(counted), path)
        sizes, era = host.page_sizes(arch, counted), wm.era_of(base)
        size, why = host.page_kb(meminfo, counted, page_bytes(rows), sizes, era, whole, f"{release} {arch}")
    if report is not None and found is report.zones and size not in (None, report.page_kb or 4):
        report = read_report(source.lines, size)
        assert report is not None
        found = report.zones
    if size is None:
        said.append("pages of 4 kB assumed")
    elif size != 4:
        said.append(f"pages of {size} kB, as {why} tell")
    size = size or 4
    if known is None:
        said.append(f"kernel not told: the rules of {base_name(base)} assumed, the oldest that fits")
        release = base_name(base)
    bits = bits or host.bits(meminfo, found)
    if bits is None:
        said.append("64-bit assumed")
    cpus = host.cpus(source, found)
    if cpus is None:
        cpus = max(2, (report.cpu or 0) + 1 if report else 0)
        said.append(f"{cpus} CPUs assumed")
    elif found is not None and found.hides_cpus and cpus == found.cpus:
        said.append(f"{cpus} CPUs assumed: those with pages in their lists, which alone are shown")
    if found is None:
        found = zones_of_memory(meminfo, size, bits or 64, arch, base, said)
    if base in BOOST_UNPRINTED:
        _take_off_boost(found, said)
    ratios = {"DMA": 256, "DMA32": 256, "Normal": 32} | host.read_reserve_ratios(source, bits or 64)
    huge = size == 4 and base >= (2, 6, 38) and "AnonHugePages" in meminfo
    _count_cma(found, host.cma_pages(source.lines, meminfo, size), said)
    zones = _zones(found, sysctls, ratios, base, size, cpus, huge, said, path)
    told = cache_line(source)
    if told is None and host.is_s390(found):
        line, arch = 256, "s390x"
    if told is None and line is None:
        said.append("cache_line 64 assumed")
    elif told is None:
        said.append(f"cache_line {line}, as of {arch}")
    said.append("hz 250 assumed")
    swap_kb = _swap_kb(meminfo, report, said)
    hugetlb_kb = host.hugetlb_kb(source.lines, meminfo)
    if hugetlb_kb:
        said.append(f"{hugetlb_kb:,} kB of hugetlb pages are counted as memory like any other")
    rules = kernel_near(release)
    notes = [note for subject, note in rules.notes.items() if subject in ("version", "layout", "slabs")]
    said += [part for note in notes for part in note.split("; ")]
    pointer = 4 if bits == 32 else 8
    layout = SlubOptions(
        rules.version, cpus, cache_line=told or line or 64, page_shift=(size << 10).bit_length() - 1, pointer=pointer
    )
    caches = slab_caches(source, rows, said, layout)
    if not caches:
        said.append("no slab caches told: those of the swap path alone assumed")
    nodes = sorted({zone["node"] for zone in zones})
    if len(nodes) > 1:
        said.append(f"{len(nodes)} nodes ({', '.join(map(str, nodes))}), joined into one where the machine is run")
    data: dict[str, Any] = {
        "name": name or _name(zones, path, size),
        "source": "; ".join([path.name or str(path), *([f"Linux {release}"] if known else []), *said]),
        "kernel": release,
        "allocator": allocator(rows, source),
        "bits": bits or 64,
        "page_kb": size,
        "cpus": cpus,
        "cache_line": told or line or 64,
        "swap_pages": swap_kb // size,
        "zones": zones,
        "free_pages": _free(found, path) if at_boot else {},
        "slab_caches": caches,
    }
    try:
        machine = Machine.model_validate(data)
        unlike = _unlike_the_marks(machine, sysctls)
        return Machine.model_validate(data | unlike) if unlike else machine
    except ValidationError as error:
        raise input_error(error, path, "", Machine, data) from None


def _unlike_the_marks(machine: Machine, sysctls: dict[str, int]) -> dict[str, Any]:
    """What sysctl told and the marks do not show to the page, as fields of ``Machine``."""
    told: dict[str, Any] = {}
    kbytes, factor = sysctls.get("min_free_kbytes"), sysctls.get("watermark_scale_factor")
    if kbytes is not None and kbytes // machine.page_kb != kbytes_of_marks(machine) // machine.page_kb:
        told["told_min_free_kbytes"] = kbytes
    if factor is not None and factor != factor_of_marks(machine) and machine.base >= (4, 6, 0):
        told["told_watermark_scale_factor"] = factor
    return told


def _count_cma(found: ZonesFound, pages: int | None, said: list[str]) -> None:
    """Counts the CMA pages in use, where the zones tell of free ones alone: the kernel's own requests take neither."""
    zones = [zone for zone in found.zones if zone.cma_free]
    if not zones or found.zones != zones:
        return
    free = sum(zone.cma or 0 for zone in zones)
    if pages is None:
        if free:
            said.append("CMA pages in use not told, none assumed")
        return
    held = [zone for zone in zones if zone.cma] or [zone for zone in zones if zone.name not in ("Movable", "Device")]
    if pages > free and held:
        largest = max(held, key=lambda zone: (zone.cma or 0, zone.present))
        largest.cma = (largest.cma or 0) + pages - free
        said.append(f"{pages - free} CMA pages in use assumed in {largest.name}")


def _take_off_boost(found: ZonesFound, said: list[str]) -> None:
    """Takes the watermark boost off the marks of zones that hold one which is not printed.

    Less than a pageblock is what a report in kB rounds, where the size of its pages is not known.
    """
    for zone in found.zones:
        if zone.min is None or zone.low is None or zone.high is None:
            continue
        boost = boost_of_marks(zone.name, zone.min, zone.low)
        if boost >= PAGEBLOCK:
            zone.min, zone.low, zone.high = zone.min - boost, zone.low - boost, zone.high - boost
            said.append(f"watermark boost of {boost} pages in the marks of {zone.name}, as low - min shows, taken off")


def _zones(
    found: ZonesFound,
    sysctls: dict[str, int],
    ratios: dict[str, int],
    base: Base,
    page_kb: int,
    cpus: int,
    huge: bool,
    said: list[str],
    path: Path,
) -> list[dict[str, Any]]:
    """The zones as fields of ``Zone``; marks, reserves and lists that are not told follow from the kernel's rules.

    ``huge``: khugepaged is there.
    """
    era = wm.era_of(base)
    if found.devices or any(zone.name == "Device" for zone in found.zones):
        said.append("pages of devices are left out, which the page allocator does not hand out")
    found.zones = [zone for zone in found.zones if zone.name != "Device"]
    known = [name for name in ZONE_CLASSES if name != "Device"]
    for zone in found.zones:
        if zone.name not in known:
            raise InputError(path, "/proc/zoneinfo", f"zone {zone.name!r}: known are {', '.join(known)}")
    classes = classes_of(found)
    found.zones.sort(key=lambda zone: (zone.node, known.index(zone.name)))
    protections = protection_by_class(found, classes, path)
    if hides_zones(found, classes, path):
        said.append("protection tells of zones that the text does not show, which are left out")
    highmem = "HighMem" in classes
    if any(zone.min is None for zone in found.zones):
        shares = [wm.in_the_share(zone.name, era, highmem) for zone in found.zones]
        kbytes, whence = _min_free_kbytes(found.zones, shares, sysctls, era, page_kb, huge)
        said.append(f"watermarks not told: those of min_free_kbytes {kbytes}, {whence}")
        sizes, factor = [zone.present for zone in found.zones], sysctls.get("watermark_scale_factor", wm.SCALE_FACTOR)
        for zone, mark in zip(
            found.zones, wm.zone_watermarks(kbytes, sizes, era, factor, shares, page_kb), strict=True
        ):
            zone.min, zone.low, zone.high = mark.min, mark.low, mark.high
    if None in protections:
        told = " ".join(str(ratios.get(name, 0)) for name in classes)
        said.append(f"protection not told: that of lowmem_reserve_ratio {told} assumed")
    protections = [
        _protection(zone, found.zones, classes, era, ratios) if told is None else told
        for zone, told in zip(found.zones, protections, strict=True)
    ]
    if any(zone.pcp_batch is None for zone in found.zones):
        said.append("per-CPU lists not told: those that the kernel sets for the zone's size assumed")
    if wm.marks_of(era).pcp_tunes and any(zone.pcp_high is not None and not zone.pcp_high_min for zone in found.zones):
        said.append("per-CPU lists are as long as they had tuned themselves when it was read")
    for name, label in (("cma", "CMA"), ("highatomic", "highatomic")):
        pages = sum(getattr(zone, name) or 0 for zone in found.zones)
        if pages:
            said.append(f"{pages} {label} pages, which are left out where the machine is run")
    if base >= (4, 4, 0) and all(zone.highatomic is None for zone in found.zones):
        said.append("pages kept for GFP_ATOMIC requests of higher order (highatomic) not told, none assumed")
    rows = []
    for zone, protection in zip(found.zones, protections, strict=True):
        assert zone.low is not None
        batch, high = wm.pcp_lists(zone.present, zone.low, cpus, base, page_kb)
        rows.append(
            {
                "name": zone.name,
                "node": zone.node,
                "present": zone.present,
                "min": zone.min,
                "low": zone.low,
                "high": zone.high,
                "protection": protection,
                "pcp_high": high if zone.pcp_high is None else zone.pcp_high,
                "pcp_batch": batch if zone.pcp_batch is None else max(1, zone.pcp_batch),
                "cma": min(zone.cma or 0, zone.present),
                "highatomic": min(zone.highatomic or 0, zone.present - min(zone.cma or 0, zone.present)),
            }
        )
    return rows


def _min_free_kbytes(
    zones: Sequence[ZoneFound], shares: Sequence[bool], sysctls: dict[str, int], era: str, page_kb: int, huge: bool
) -> tuple[int, str]:
    """min_free_kbytes and where it comes from: told, or set at boot, where khugepaged raises it."""
    if "min_free_kbytes" in sysctls:
        return sysctls["min_free_kbytes"], "told"
    sizes = [zone.present for zone in zones]
    kbytes = wm.min_free_kbytes(page_kb * sum(itertools.compress(sizes, shares)), era)
    if huge and page_kb * sum(sizes) >= 512 << 10:
        marks = wm.zone_watermarks(
            kbytes, sizes, era, sysctls.get("watermark_scale_factor", wm.SCALE_FACTOR), shares, page_kb
        )
        above = [max(0, size - mark.high) for size, mark in zip(sizes, marks, strict=True)]
        raised = wm.khugepaged_min_free_kbytes(sum(shares), sum(itertools.compress(above, shares)))
        if raised > kbytes:
            return raised, "assumed, as khugepaged sets it where huge pages are on (AnonHugePages)"
    return kbytes, "assumed, as the kernel sets it at boot"


def _protection(
    zone: ZoneFound, zones: Sequence[ZoneFound], classes: Sequence[str], era: str, ratios: dict[str, int]
) -> list[int]:
    sizes = [sum(other.present for other in zones if (other.node, other.name) == (zone.node, name)) for name in classes]
    table = wm.lowmem_reserve(sizes, [ratios.get(name, 0) for name in classes], era)
    return table[classes.index(zone.name)]


def _swap_kb(meminfo: dict[str, int], report: ReportFound | None, said: list[str]) -> int:
    swap_kb = meminfo.get("SwapTotal")
    if swap_kb is None and report is not None:
        swap_kb = report.swap_kb
    if swap_kb is None:
        said.append("swap not told, none assumed")
    elif swap_kb == 0:
        said.append("no swap was on")
    return swap_kb or 0


def _free(found: ZonesFound, path: Path) -> dict[str, int]:
    free: dict[str, int] = {}
    for zone in found.zones:
        if zone.free is None:
            raise InputError(
                path, f"/proc/zoneinfo: zone {zone.name}", "no 'pages free', so what the boot left is not told"
            )
        free[zone.name] = free.get(zone.name, 0) + zone.free
    return free


def _name(zones: Sequence[dict[str, Any]], path: Path, page_kb: int) -> str:
    mebibytes = round(sum(zone["present"] for zone in zones) * page_kb / 1024)
    stem = path.name.removesuffix(".gz").removesuffix(".txt")
    return f"{stem or 'machine'} ({mebibytes} MB)"

"""The machine: zones and their watermarks, CPUs, swap, and the slab caches that a real kernel was found with."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fastalloc.fields import Model, rows_html
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import watermarks as wm
from fastalloc.linux.release import Base, parse_release

Pages = Annotated[int, Field(ge=0, le=1 << 36)]
SlabFlag = Literal[
    "hwcache_align", "cache_dma", "reclaim_account", "destroy_by_rcu", "poison", "red_zone", "store_user", "trace"
]

SLAB_FLAG_BITS = {
    "red_zone": sf.RED_ZONE,
    "poison": sf.POISON,
    "hwcache_align": sf.HWCACHE_ALIGN,
    "cache_dma": sf.CACHE_DMA,
    "store_user": sf.STORE_USER,
    "reclaim_account": sf.RECLAIM_ACCOUNT,
    "destroy_by_rcu": sf.DESTROY_BY_RCU,
    "trace": sf.TRACE,
}

# Zones by name, lowest first, as every kernel orders them [enum zone_type].
ZONE_CLASSES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")
NOT_THE_KERNELS = ("HighMem", "Movable", "Device")  # whence no slab, bio or sense buffer comes
DEFAULT_KERNEL = "2.6.25-rc8"
MOST_CACHES = 4096  # far above any /proc/slabinfo


class Zone(Model):
    """A populated zone of a node, as /proc/zoneinfo shows it. Sizes in pages."""

    name: Literal["DMA", "DMA32", "Normal", "HighMem", "Movable"]
    node: Annotated[int, Field(ge=0, le=1023)] = 0
    present: Annotated[int, Field(gt=0, le=1 << 36)]  # that the page allocator was given: managed, up to 3.7 present
    min: Pages
    low: Pages
    high: Pages
    protection: Annotated[list[Pages], Field(min_length=1, max_length=6)]  # lowmem_reserve, by class zone
    pcp_high: Annotated[int, Field(ge=0, le=1 << 30)]
    pcp_batch: Annotated[int, Field(ge=1, le=1 << 16)]
    cma: Pages = 0  # of present: for movable pages and the owner of the area alone
    highatomic: Pages = 0  # of present: in blocks kept for GFP_ATOMIC requests of higher order

    @property
    def serves_kernel(self) -> bool:
        """Whether a request for the kernel's own use may be served from it."""
        return self.name not in NOT_THE_KERNELS

    @model_validator(mode="after")
    def _ordered(self) -> "Zone":
        if not self.min <= self.low <= self.high or (self.serves_kernel and self.high > self.present):
            raise ValueError(
                f"zone {self.name}: min {self.min} <= low {self.low} <= high {self.high} <= present {self.present} "
                "does not hold"
            )
        if self.cma + self.highatomic > self.present:
            raise ValueError(f"zone {self.name}: cma {self.cma} and highatomic {self.highatomic} exceed present")
        return self


class SlabCache(Model):
    """A slab cache of a real kernel. Sizes in bytes."""

    name: str = Field(min_length=1)
    object_size: Annotated[int, Field(ge=1, le=1 << 22)]
    align: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    flags: list[SlabFlag] = Field(default=[])
    ctor: bool = False
    sheaf_capacity: Annotated[int, Field(ge=0, le=1 << 16)] | None = None  # objects, 0 no sheaves; None: not told

    @property
    def flag_bits(self) -> int:
        """The flags as the kernel's bit mask."""
        return sum(SLAB_FLAG_BITS[flag] for flag in self.flags)


class BootSlabs(Model):
    """Slabs of a cache when the workload starts. The objects that are not in use are free slots."""

    cache: Literal["kmalloc-128", "kmalloc-16", "radix_tree_node"]
    slabs: Annotated[int, Field(ge=1, le=64)]
    in_use: Annotated[int, Field(ge=0, le=2048)]  # objects, beside those of mempools, hosts and the radix trees' stocks


class Machine(Model):
    """What the kernel runs on.

    Where ``min_free_kbytes`` or ``watermark_scale_factor`` is given, the watermarks of all zones are computed from them
    as the machine's kernel does; otherwise they stand as read. ``protection`` always stands as read. The two that were
    told beside marks leave these as they are: a kernel frees initmem and an initrd after it has set them.
    """

    name: str = Field(min_length=1)
    source: str = ""  # where it was read, and what had to be inferred
    kernel: str = ""  # its release, such as 6.1.0-18-amd64; empty: not known, and the rules are those of 2.6.25-rc8
    allocator: Literal["slub", "slab", "slob"] | None = None  # that its kernel was built with, where known
    bits: Literal[32, 64] = 64
    page_kb: Literal[4, 8, 16, 64] = 4
    cpus: Annotated[int, Field(ge=1, le=1024)] = 2
    hz: Literal[100, 250, 300, 1000] = 250
    cache_line: Literal[16, 32, 64, 128, 256] = 64  # bytes
    min_free_kbytes: Annotated[int, Field(ge=0, le=1 << 30)] | None = None
    watermark_scale_factor: Annotated[int, Field(ge=1, le=3000)] | None = None  # since 4.6; in 1/10000 of a zone
    # what sysctl told of the two where the marks were read, and they do not show
    told_min_free_kbytes: Annotated[int, Field(ge=0, le=1 << 30)] | None = None
    told_watermark_scale_factor: Annotated[int, Field(ge=1, le=3000)] | None = None
    swap_pages: Annotated[int, Field(ge=0, le=1 << 34)] = 0
    zones: Annotated[list[Zone], Field(min_length=1, max_length=64)]  # node by node, lowest first
    # by zone, at boot, where the kernel's own boot is known to have taken the rest
    free_pages: dict[str, Pages] = Field(default={}, max_length=len(ZONE_CLASSES))
    slab_caches: list[SlabCache] = Field(default=[], max_length=MOST_CACHES)  # oldest first
    # what the boot left in caches of the swap path, where it is known
    boot_slabs: list[BootSlabs] = Field(default=[], max_length=64)
    # An emulated machine: its CPUs take turns on one core of its host, as QEMU 7.2 with an instruction counter has it
    shared_core: bool = False
    # what moves the scheduler's clock between two ticks: the TSC, or nothing, as on x86-64 of 2.6.25 without HPET and
    # ACPI, where the TSC is calibrated against the PIT [arch/x86/kernel/tsc_64.c, tsc_calibrate: no set_cyc2ns_scale]
    sched_clock: Literal["tsc", "ticks"] = "tsc"
    # CONFIG_HUGETLB_PAGE: pageblocks are as large as a huge page, otherwise as the largest block of the buddy
    huge_pages: bool = True

    @property
    def doubt(self) -> str:
        """What no recorded run of a real kernel shows about this machine, in a sentence; empty where one does."""
        if self.cpus == 1 or self.shared_core:
            return ""
        return (
            f"has {self.cpus} CPUs. With one CPU the model was compared with recorded runs of a real kernel; with "
            "several that run at the same time there is no such recording (docs: How true is it)"
        )

    def __repr__(self) -> str:
        zones = " + ".join(f"{zone.name} {zone.present:,}" for zone in self.zones[:6])
        more = f" and {len(self.zones) - 6} more zones" if len(self.zones) > 6 else ""
        cpus = "1 CPU" if self.cpus == 1 else f"{self.cpus} CPUs"
        return f"Machine {self.name}: Linux {self.kernel or DEFAULT_KERNEL}, {cpus}, {zones}{more} pages"

    def _repr_html_(self) -> str:
        rows = [(zone.name, zone.node, zone.present, zone.min, zone.low, zone.high) for zone in self.zones]
        return rows_html(repr(self), ("zone", "node", "pages", "min", "low", "high"), rows)

    @property
    def base(self) -> Base:
        """The version whose rules the machine follows."""
        release = parse_release(self.kernel or DEFAULT_KERNEL)
        assert release is not None
        return release.base

    @property
    def classes(self) -> list[str]:
        """Names of the zones, lowest first: entry j of a protection is against requests that may use class j."""
        return zone_classes(self.zones)

    @property
    def nodes(self) -> list[int]:
        """Ids of the NUMA nodes with memory."""
        return sorted({zone.node for zone in self.zones})

    @property
    def zone_labels(self) -> list[str]:
        """A name for each zone: its own, with that of its node in front where there are several."""
        several = len(self.nodes) > 1
        return [f"node{zone.node}-{zone.name}" if several else zone.name for zone in self.zones]

    @property
    def shares(self) -> list[bool]:
        """Whether each zone has a share of min_free_kbytes."""
        era, highmem = wm.era_of(self.base), any(zone.name == "HighMem" for zone in self.zones)
        return [wm.in_the_share(zone.name, era, highmem) for zone in self.zones]

    @model_validator(mode="after")
    def _consistent(self) -> "Machine":
        keys = [(zone.node, zone.name) for zone in self.zones]
        if len(set(keys)) != len(keys):
            raise ValueError(f"zones: a name twice in {', '.join(name for _, name in keys)}")
        if len(self.nodes) > 8:
            raise ValueError(f"zones: {len(self.nodes)} nodes, at most 8")
        twice = Counter(cache.name for cache in self.slab_caches).most_common(1)
        if twice and twice[0][1] > 1:
            raise ValueError(f"slab_caches: {twice[0][0]!r} stands {twice[0][1]} times; each name may stand once")
        classes = self.classes
        if {"HighMem", "DMA32"} <= set(classes):
            raise ValueError("zones: no kernel has both HighMem and DMA32")
        if not any(zone.serves_kernel for zone in self.zones):
            raise ValueError(f"zones: none of {', '.join(classes)} serves the kernel")
        order = [(zone.node, ZONE_CLASSES.index(zone.name)) for zone in self.zones]
        if order != sorted(order):
            raise ValueError(f"zones: {', '.join(name for _, name in keys)} do not stand lowest first, node by node")
        for name in self.free_pages:
            if name not in classes:
                raise ValueError(f"free_pages: no zone {name!r}; zones are {', '.join(classes)}")
        for zone in self.zones:
            if len(zone.protection) < len(classes):
                raise ValueError(f"zone {zone.name}: protection needs an entry for each of {len(classes)} zones")
        if self.kernel and parse_release(self.kernel) is None:
            raise ValueError(f"kernel: {self.kernel!r} holds no version, such as 6.1.0-18-amd64 does")
        if self.watermark_scale_factor is not None and wm.marks_of(wm.era_of(self.base)).steps != "scaled":
            raise ValueError(f"watermark_scale_factor: since 4.6, but the kernel is {self.kernel or DEFAULT_KERNEL}")
        if self.min_free_kbytes is not None or self.watermark_scale_factor is not None:
            # frozen: this is the last step of construction
            object.__setattr__(self, "zones", _with_watermarks(self))
        return self


def zone_classes(zones: Sequence[Zone]) -> list[str]:
    """Distinct names of zones, lowest first."""
    names = {zone.name for zone in zones}
    return [name for name in ZONE_CLASSES if name in names]


def own_kbytes(machine: Machine) -> int:
    """min_free_kbytes: as set, as told, or as the marks show."""
    for kbytes in (machine.min_free_kbytes, machine.told_min_free_kbytes):
        if kbytes is not None:
            return kbytes
    return kbytes_of_marks(machine)


def own_factor(machine: Machine) -> int:
    """watermark_scale_factor: as set, as told, or as the marks show."""
    return machine.watermark_scale_factor or machine.told_watermark_scale_factor or factor_of_marks(machine)


def kbytes_of_marks(machine: Machine) -> int:
    """The smallest min_free_kbytes that gives the zones the min marks that they have; the sum of these where none does,
    as where pages came after they were set."""
    zones = [zone for zone, share in zip(machine.zones, machine.shares, strict=True) if share]
    total = sum(zone.present for zone in zones)
    # a share of P pages is floor(P * present / total), so each zone asks for a P of its own at least
    pages = max(-(-zone.min * total // zone.present) for zone in zones)
    if any(pages * zone.present // total != zone.min for zone in zones):
        pages = sum(zone.min for zone in zones)
    return pages * machine.page_kb


def factor_of_marks(machine: Machine) -> int:
    """The watermark_scale_factor that gives the zones their steps from min to low, of several the one nearest to the
    default; where none does the nearest, by the pages of all zones whose step is more than a quarter of min.

    A step is the larger of that quarter and of so many 1/10000 of the zone [__setup_per_zone_wmarks of 4.6 on].
    """
    shared = [zone for zone, share in zip(machine.zones, machine.shares, strict=True) if share]
    zones = [(zone.low - zone.min, zone.min // 4, zone.present) for zone in shared]
    if wm.marks_of(wm.era_of(machine.base)).steps != "scaled" or not any(zone.high for zone in shared):
        return wm.SCALE_FACTOR
    scaled = [(step, present) for step, quarter, present in zones if step > quarter]
    least = max([1, *(-(-step * 10000 // present) for step, present in scaled)])
    most = min((10000 * (step + 1) - 1) // present for step, _, present in zones)
    if least <= most:
        return min(max(wm.SCALE_FACTOR, least), most)
    if not scaled:
        return 1
    near = 10000 * sum(step for step, _ in scaled) / sum(present for _, present in scaled)
    return wm.SCALE_FACTOR if abs(near - wm.SCALE_FACTOR) < 1 else min(max(1, round(near)), 3000)


def _with_watermarks(machine: Machine) -> list[Zone]:
    marks = wm.zone_watermarks(
        own_kbytes(machine),
        [zone.present for zone in machine.zones],
        wm.era_of(machine.base),
        own_factor(machine),
        machine.shares,
        machine.page_kb,
    )
    return [
        Zone.model_validate(zone.model_dump() | {"min": mark.min, "low": mark.low, "high": mark.high})
        for zone, mark in zip(machine.zones, marks, strict=True)
    ]

"""The machine: zones and their watermarks, CPUs, swap, and the slab caches that a real kernel was found with."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.watermarks import zone_watermarks

Pages = Annotated[int, Field(ge=0, le=1 << 28)]
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


class Model(BaseModel):
    """Base of everything a scenario is made of: no unknown keys, no silent conversion, no change after the fact."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Zone(Model):
    """A populated zone, as /proc/zoneinfo shows it. Sizes in pages."""

    name: str = Field(min_length=1)
    present: Annotated[int, Field(gt=0, le=1 << 24)]
    min: Pages
    low: Pages
    high: Pages
    protection: Annotated[list[Pages], Field(min_length=1, max_length=4)]  # lowmem_reserve, by class zone
    pcp_high: Annotated[int, Field(ge=0, le=1 << 16)]
    pcp_batch: Annotated[int, Field(ge=1, le=1 << 12)]

    @model_validator(mode="after")
    def _ordered(self) -> "Zone":
        if not self.min <= self.low <= self.high <= self.present:
            raise ValueError(
                f"zone {self.name}: min {self.min} <= low {self.low} <= high {self.high} <= present {self.present} "
                "does not hold"
            )
        return self


class SlabCache(Model):
    """A slab cache of a real kernel. Sizes in bytes."""

    name: str = Field(min_length=1)
    object_size: Annotated[int, Field(ge=1, le=1 << 22)]
    align: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    flags: list[SlabFlag] = []
    ctor: bool = False

    @property
    def flag_bits(self) -> int:
        """The flags as the kernel's bit mask."""
        return sum(SLAB_FLAG_BITS[flag] for flag in self.flags)


class Machine(Model):
    """What the kernel runs on.

    Where ``min_free_kbytes`` is given, the watermarks of all zones are computed from it as
    ``setup_per_zone_pages_min`` of 2.6.25 does; otherwise they stand as read. ``protection`` always stands as read.
    """

    name: str = Field(min_length=1)
    source: str = ""  # where it was read, and what had to be inferred
    cpus: Annotated[int, Field(ge=1, le=64)] = 2
    hz: Literal[100, 250, 300, 1000] = 250
    cache_line: Literal[16, 32, 64, 128, 256] = 64  # bytes
    min_free_kbytes: Annotated[int, Field(ge=0, le=1 << 24)] | None = None
    swap_pages: Annotated[int, Field(ge=0, le=1 << 26)] = 0
    zones: Annotated[list[Zone], Field(min_length=1, max_length=4)]  # lowest first
    free_pages: dict[str, Pages] = {}  # by zone, at boot
    slab_caches: list[SlabCache] = []  # oldest first
    # An emulated machine: even and odd CPUs take turns on the host, each turn this long; 0 is a core for each CPU.
    host_slice_us: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    host_overlap_us: Annotated[int, Field(ge=0, le=1_000_000)] = 0  # of two turns

    @model_validator(mode="after")
    def _consistent(self) -> "Machine":
        names = [zone.name for zone in self.zones]
        if len(set(names)) != len(names):
            raise ValueError(f"zones: a name twice in {', '.join(names)}")
        for name in self.free_pages:
            if name not in names:
                raise ValueError(f"free_pages: no zone {name!r}; zones are {', '.join(names)}")
        for zone in self.zones:
            if len(zone.protection) < len(names):
                raise ValueError(f"zone {zone.name}: protection needs an entry for each of {len(names)} zones")
        if self.host_overlap_us > self.host_slice_us:
            raise ValueError(f"host_overlap_us: {self.host_overlap_us} is longer than a turn of {self.host_slice_us}")
        if self.min_free_kbytes is not None:
            # frozen: this is the last step of construction
            object.__setattr__(self, "zones", _with_watermarks(self.zones, self.min_free_kbytes))
        return self


def _with_watermarks(zones: list[Zone], min_free_kbytes: int) -> list[Zone]:
    lowmem = [zone.name not in ("HighMem", "Movable") for zone in zones]
    marks = zone_watermarks(min_free_kbytes, [zone.present for zone in zones], lowmem=lowmem)
    return [
        Zone.model_validate(zone.model_dump() | {"min": mark.min, "low": mark.low, "high": mark.high})
        for zone, mark in zip(zones, marks, strict=True)
    ]

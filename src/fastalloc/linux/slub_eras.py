"""How SLUB sizes a cache, by kernel era: the rules of ``calculate_sizes`` and ``calculate_order`` as data.

Every size is in bytes, every order a power of two of 4096-byte pages.
"""

from dataclasses import dataclass, field

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.slab_flags import fls, get_order, round_up

PAGE_SIZE = 4096
PAGE_SHIFT = 12
MAX_ORDER = 11  # free lists 0 .. 10
POINTER = 8
SHEAF_HEADER = 32  # sizeof(struct slab_sheaf) without its pointers

# What find_mergeable refuses and compares [mm/slub.c 2.6.25; mm/slab_common.c 6.1, 6.12].
_NEVER_2008 = sf.RED_ZONE | sf.POISON | sf.STORE_USER | sf.TRACE | sf.DESTROY_BY_RCU
_NEVER_6_1 = _NEVER_2008 | sf.NOLEAKTRACE | sf.FAILSLAB | sf.KASAN
_SAME_2008 = sf.DEBUG_FREE | sf.RECLAIM_ACCOUNT | sf.CACHE_DMA
_SAME_6_1 = sf.RECLAIM_ACCOUNT | sf.CACHE_DMA | sf.CACHE_DMA32 | sf.ACCOUNT

_NEVER_7_2 = _NEVER_6_1 | sf.NO_MERGE | sf.DEBUG_FREE

_KMALLOC_2008 = (96, 192, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_KMALLOC_6 = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class SlubEra:
    """The layout and merge rules of one kernel era.

    ``lower_min_objects`` says how calculate_order gives way when no order wastes little enough: ``halve`` the
    wanted object count, ``decrement`` it, or ``keep`` it. ``objects_by_cpus``: min_objects = 4 * (fls(cpus) + 1).
    """

    name: str
    max_order: int
    min_objects: int  # where it does not follow from the CPUs
    objects_by_cpus: bool
    fractions: tuple[int, ...]
    lower_min_objects: str
    never_merge: int
    merge_same: int
    newest_first: bool
    kmalloc_sizes: tuple[int, ...]
    kmalloc_order_rule: bool = False  # static kmalloc caches of few objects: order 3 and page fallback
    kmalloc_natural_align: bool = False
    usercopy: bool = False  # caches with a usercopy window never merge; kmalloc caches have one
    dynamic_min_partial: bool = False
    cpu_partial: tuple[int, int, int, int] = (0, 0, 0, 0)  # slot >= 4096, >= 1024, >= 256, below
    cpu_partial_in_slabs: bool = False
    min_order_yields: bool = False  # slub_max_order given later lowers slub_min_order
    max_objects: int = 1 << 30  # most objects a slab may count
    track: int = 24  # sizeof(struct track)
    kmalloc_orig_size: int = 0  # bytes that SLAB_STORE_USER adds to a kmalloc slot
    red_left_pad: bool = False
    kmalloc_divisor_align: bool = False  # by the largest power of two that divides the size, 6.12 on
    free_pointer_inside: bool = False  # in the middle of an object that may be overwritten when free, 5.7 on
    sheaves: bool = False  # every cache has them that is not barred


ERAS: dict[str, SlubEra] = {
    era.name: era
    for era in (
        SlubEra("2.6.25", 1, 4, False, (8, 4), "halve", _NEVER_2008, _SAME_2008, True, _KMALLOC_2008, True),
        SlubEra(
            "2.6.26", 3, 0, True, (16, 8, 4), "halve", _NEVER_2008, _SAME_2008, True, _KMALLOC_2008, max_objects=65535
        ),
        SlubEra(
            "3.2", 3, 0, True, (16, 8, 4), "decrement", _NEVER_2008 | sf.NOLEAKTRACE | sf.FAILSLAB,
            sf.DEBUG_FREE | sf.RECLAIM_ACCOUNT | sf.CACHE_DMA, True, _KMALLOC_6,
            dynamic_min_partial=True, cpu_partial=(2, 6, 13, 30), max_objects=32767,
        ),
        SlubEra(
            "6.1", 3, 0, True, (16, 8, 4), "decrement", _NEVER_6_1, _SAME_6_1, False, _KMALLOC_6,
            kmalloc_natural_align=True, usercopy=True, dynamic_min_partial=True, cpu_partial=(6, 24, 52, 120),
            cpu_partial_in_slabs=True, max_objects=32767, red_left_pad=True, track=32,
            kmalloc_orig_size=4, free_pointer_inside=True,
        ),
        SlubEra(
            "6.12", 3, 0, True, (16, 8, 4, 2), "keep", _NEVER_6_1 | sf.NO_MERGE, _SAME_6_1, False, _KMALLOC_6,
            kmalloc_natural_align=True, usercopy=True, dynamic_min_partial=True, cpu_partial=(6, 24, 52, 120),
            cpu_partial_in_slabs=True, min_order_yields=True, max_objects=32767, red_left_pad=True, track=32,
            kmalloc_orig_size=4, kmalloc_divisor_align=True, free_pointer_inside=True,
        ),
        SlubEra(  # 7.2 and 7.3; 7.0 and 7.1 were not read
            "7.2", 3, 0, True, (16, 8, 4, 2), "keep", _NEVER_7_2, _SAME_6_1, False, _KMALLOC_6,
            kmalloc_natural_align=True, usercopy=True, dynamic_min_partial=True, min_order_yields=True,
            max_objects=32767, red_left_pad=True, track=32, kmalloc_orig_size=8, kmalloc_divisor_align=True,
            free_pointer_inside=True, sheaves=True,
        ),
    )
}  # fmt: skip


def era_of(version: str) -> str:
    """The era whose rules a kernel follows: the latest one not newer, ``v6.6`` -> ``6.1``; ValueError before 2.6.25."""
    numbers = tuple(int(part) for part in version.lstrip("v").split("-")[0].split(".") if part.isdigit())
    older = [name for name in ERAS if tuple(int(part) for part in name.split(".")) <= numbers]
    if not older:
        raise ValueError(f"kernel {version!r}: older than every era known ({', '.join(ERAS)})")
    return older[-1]


@dataclass(frozen=True)
class SlubOptions:
    """A machine and its boot line, as far as SLUB's layout depends on them.

    ``cache_line`` is cache_line_size() in bytes; ``slub_max_order`` and ``slub_min_objects`` default to the era's.
    ``debug`` is CONFIG_SLUB_DEBUG, ``hardened_usercopy`` CONFIG_HARDENED_USERCOPY: with it caches that have a usercopy
    window are never merged. ``slub_debug`` the flags the boot option of that name adds to every cache.
    """

    era: str = "2.6.25"
    cpus_present: int = 1
    cpus_possible: int | None = None
    cache_line: int = 64
    slub_min_order: int = 0
    slub_max_order: int | None = None
    slub_min_objects: int | None = None
    slub_nomerge: bool = False
    slub_debug: int = 0
    debug: bool = True
    hardened_usercopy: bool = True
    rules: SlubEra = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.era not in ERAS:
            raise ValueError(f"era {self.era!r}: known are {', '.join(ERAS)}")
        if self.cpus_present < 1:
            raise ValueError(f"cpus_present {self.cpus_present}: at least 1")
        object.__setattr__(self, "rules", ERAS[self.era])

    @property
    def max_order(self) -> int:
        """slub_max_order in force."""
        return self.rules.max_order if self.slub_max_order is None else min(self.slub_max_order, MAX_ORDER - 1)

    @property
    def min_objects(self) -> int:
        """slub_min_objects in force; later eras count present CPUs, or possible ones on a machine that has one."""
        if self.slub_min_objects:
            return self.slub_min_objects
        if not self.rules.objects_by_cpus:
            return self.rules.min_objects
        possible = self.cpus_possible or self.cpus_present
        cpus = possible if self.era == "2.6.26" or self.cpus_present <= 1 else self.cpus_present
        return 4 * (fls(cpus) + 1)


def parse_boot_options(line: str, era: str, **machine: object) -> SlubOptions:
    """The options that a kernel command line gives, read left to right as the kernel does [setup_slub_*].

    From 6.9 a ``slub_min_order`` above the maximum raises it and a ``slub_max_order`` below the minimum lowers that.
    """
    rules = ERAS[era]
    low, high, objects = 0, rules.max_order, None
    debug, nomerge = 0, False
    letters = {"F": sf.DEBUG_FREE, "Z": sf.RED_ZONE, "P": sf.POISON, "U": sf.STORE_USER, "T": sf.TRACE}
    for word in line.split():
        name, _, value = word.partition("=")
        name = name.replace("slab_", "slub_", 1) if name.startswith("slab_") else name
        if name == "slub_min_order":
            low = int(value)
            if rules.min_order_yields:
                high = max(high, low)
        elif name == "slub_max_order":
            high = min(int(value), MAX_ORDER - 1)
            if rules.min_order_yields:
                low = min(low, high)
        elif name == "slub_min_objects":
            objects = int(value)
        elif name == "slub_nomerge":
            nomerge = True
        elif name == "slub_debug":
            debug = sum(letters.get(letter.upper(), 0) for letter in value.partition(",")[0])
    return SlubOptions(
        era=era, slub_min_order=low, slub_max_order=high, slub_min_objects=objects,
        slub_nomerge=nomerge, slub_debug=debug, **machine,  # type: ignore[arg-type]
    )  # fmt: skip


def calculate_alignment(flags: int, align: int, size: int, cache_line: int) -> int:
    """Alignment of an object in bytes: a small one shares its cache line [mm/slub.c: calculate_alignment]."""
    if flags & sf.HWCACHE_ALIGN:
        line = cache_line
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return round_up(max(align, POINTER), POINTER)


def slab_order(size: int, min_objects: int, max_order: int, fraction: int, options: SlubOptions) -> int:
    """The first order that wastes at most 1/``fraction``; above ``max_order``: none [slab_order, calc_slab_order]."""
    most = options.rules.max_objects
    if (PAGE_SIZE << options.slub_min_order) // size > most:
        return get_order(size * most) - 1
    order = max(options.slub_min_order, fls(min_objects * size - 1) - PAGE_SHIFT)
    while order <= max_order:
        slab = PAGE_SIZE << order
        if slab >= min_objects * size and slab % size <= slab // fraction:
            break
        order += 1
    return order


def _order_keeping_objects(size: int, options: SlubOptions) -> int:
    """calculate_order of 6.9 on: the object count stands, only the waste bound gives way [mm/slub.c 6.12]."""
    max_order = options.max_order
    wanted = min(options.min_objects, max((PAGE_SIZE << max_order) // size, 1))
    lowest = max(options.slub_min_order, get_order(wanted * size))
    if (PAGE_SIZE << lowest) // size > options.rules.max_objects:
        return get_order(size * options.rules.max_objects) - 1
    for fraction in options.rules.fractions:
        for order in range(lowest, max_order + 1):
            slab = PAGE_SIZE << order
            if slab % size <= slab // fraction:
                return order
    return get_order(size)


def calculate_order(size: int, options: SlubOptions) -> int:
    """Page order of the slabs of a cache with slots of ``size`` bytes [calculate_order, by era].

    Raises ValueError when not even one object fits the largest order.
    """
    rules = options.rules
    if rules.lower_min_objects == "keep":
        order = _order_keeping_objects(size, options)
        if order < MAX_ORDER:
            return order
        raise ValueError(f"slot of {size} bytes: no page order holds it")
    max_order = options.max_order
    wanted = options.min_objects
    if rules.lower_min_objects == "decrement":
        wanted = min(wanted, (PAGE_SIZE << max_order) // size)
    while wanted > 1:
        for fraction in rules.fractions:
            order = slab_order(size, wanted, max_order, fraction, options)
            if order <= max_order:
                return order
        wanted = wanted // 2 if rules.lower_min_objects == "halve" else wanted - 1
    order = slab_order(size, 1, max_order, 1, options)
    if order <= max_order:
        return order
    order = slab_order(size, 1, MAX_ORDER, 1, options)
    if order <= MAX_ORDER:
        return order
    raise ValueError(f"slot of {size} bytes: no page order holds it")


def min_partial(size: int, options: SlubOptions) -> int:
    """Slabs a node keeps although empty: 5, later log2(slot)/2 within 5 .. 10 [set_min_partial]."""
    if not options.rules.dynamic_min_partial:
        return 5
    return min(10, max(5, (fls(size) - 1) // 2))


def cpu_partial(size: int, flags: int, options: SlubOptions) -> int:
    """Free objects a CPU's partial list aims at; 0 before 3.2 and for debugged caches [set_cpu_partial]."""
    if flags & (sf.DEBUG_METADATA | sf.DEBUG_FREE | sf.TRACE):
        return 0
    for bound, objects in zip((4096, 1024, 256, 0), options.rules.cpu_partial, strict=True):
        if size >= bound:
            return objects
    return 0


def cpu_partial_slabs(objects_wanted: int, objects: int) -> int:
    """Slabs a CPU's partial list may hold, taking each for half full [slub_set_cpu_partial, 5.16 on]."""
    return -(-objects_wanted * 2 // objects)


def sheaf_capacity(size: int, flags: int, options: SlubOptions, asked: int = 0) -> int:
    """Objects of a sheaf of a cache with slots of ``size`` bytes, 0 for none [calculate_sheaf_capacity, 7.2].

    By size, grown until the sheaf fills its kmalloc cache, and at least as many as the creator ``asked`` for. Debugged
    caches have none, nor have SLAB_NOLEAKTRACE ones; ``kmem_cache`` and ``kmem_cache_node`` are for the caller to know.
    """
    barred = sf.DEBUG_METADATA | sf.DEBUG_FREE | sf.TRACE | sf.NOLEAKTRACE
    if not options.rules.sheaves or flags & barred:
        return 0
    wanted = next(objects for bound, objects in ((4096, 4), (1024, 12), (256, 26), (0, 60)) if size >= bound)
    filled = (kmalloc_size(SHEAF_HEADER + POINTER * wanted, options.rules) - SHEAF_HEADER) // POINTER
    return max(filled, asked)


def kmalloc_name(size: int, rules: SlubEra) -> str:
    """Name of a static kmalloc cache: ``kmalloc-1024``, since 4.20 ``kmalloc-1k``."""
    if rules.usercopy and size >= 1024:
        return f"kmalloc-{size // 1024}k"
    return f"kmalloc-{size}"


def kmalloc_align(size: int, rules: SlubEra) -> int:
    """Alignment that a kmalloc cache asks for, bytes; 0: no more than any [create_kmalloc_cache, new_kmalloc_cache].

    Since 5.4 a power of two is aligned to itself; since 6.12 every size to the largest power of two that divides it.
    """
    natural = size & -size
    return natural if rules.kmalloc_natural_align and (rules.kmalloc_divisor_align or natural == size) else 0


def kmalloc_size(request: int, rules: SlubEra) -> int:
    """Slot of the kmalloc cache that serves ``request`` bytes, 0 when pages do; ``request`` >= 1 [kmalloc_index]."""
    return min((size for size in rules.kmalloc_sizes if size >= request), default=0)

"""How SLUB sizes a cache: the arithmetic of ``calculate_sizes`` and ``calculate_order`` under the rules of a kernel.

Every size is in bytes, every order a power of two of pages.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.slab_flags import fls, get_order, round_up
from fastalloc.linux.slub_layouts import ERAS, SlubEra, layout_of

PAGE_SIZE = 4096
PAGE_SHIFT = 12
MAX_ORDER = 11  # free lists 0 .. 10
POINTER = 8
# ARCH_SLAB_MINALIGN: __alignof__(unsigned long long), 8 to gcc on i386, ARM (EABI), MIPS and PowerPC of 32 bits too
# [mm/slub.c 2.6.22, include/linux/slab.h since 3.11].
SLAB_MINALIGN = 8
SHEAF_HEADER = 32  # bytes of struct slab_sheaf in front of its pointers
SHEAF_OBJECTS = (4, 12, 26, 60)  # slot of a page and more, of 1024, of 256, below [calculate_sheaf_capacity]
DEBUG_FLAGS = sf.RED_ZONE | sf.POISON | sf.STORE_USER | sf.TRACE | sf.DEBUG_FREE


@dataclass(frozen=True)
class DebugBlock:
    """Flags that slub_debug sets for the caches whose name matches one of ``names``; all of them where it is empty."""

    flags: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class SlubOptions:
    """A machine and its boot line, as far as SLUB's layout depends on them.

    ``era`` is a kernel version of ``slub_layouts``, such as ``6.6``. ``cache_line`` is cache_line_size() in bytes;
    ``slub_max_order`` and ``slub_min_objects`` default to the era's. ``debug`` is CONFIG_SLUB_DEBUG; ``slub_debug``
    what the boot option of that name adds to every cache, ``debug_blocks`` to those it names; ``debug_order`` its O.
    With ``hardened_usercopy`` (CONFIG_HARDENED_USERCOPY) caches that have a usercopy window never merge. ``pointer`` is
    4 on a 32-bit kernel, ``kmalloc_minalign`` ARCH_KMALLOC_MINALIGN, which the smallest kmalloc cache has too.
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
    debug_blocks: tuple[DebugBlock, ...] = ()
    debug_order: bool = False
    debug: bool = True
    hardened_usercopy: bool = True
    page_shift: int = PAGE_SHIFT
    pointer: int = POINTER
    kmalloc_minalign: int = POINTER
    rules: SlubEra = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", layout_of(self.era))
        if self.cpus_present < 1:
            raise ValueError(f"cpus_present {self.cpus_present}: at least 1")

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return 1 << self.page_shift

    @property
    def track(self) -> int:
        """sizeof(struct track): an address, backtrace or its handle, CPU, pid, time [mm/slub.c]."""
        return self.rules.track if self.pointer == POINTER else {24: 16, 152: 80, 32: 20}[self.rules.track]

    @property
    def max_order(self) -> int:
        """slub_max_order in force."""
        if self.slub_max_order is None:
            return self.rules.defaults(self.page_shift)[0]
        return min(self.slub_max_order, MAX_ORDER - 1)

    @property
    def min_objects(self) -> int:
        """slub_min_objects in force; later kernels count present CPUs, or possible ones on a machine that has one."""
        if self.slub_min_objects:
            return self.slub_min_objects
        if self.rules.cpus_counted == "none":
            return self.rules.defaults(self.page_shift)[1]
        possible = self.cpus_possible or self.cpus_present
        cpus = possible if self.rules.cpus_counted == "possible" or self.cpus_present <= 1 else self.cpus_present
        return 4 * (fls(cpus) + 1)

    def flags_of(self, name: str, flags: int) -> int:
        """The flags of a cache with those that the boot line adds for it [kmem_cache_flags]."""
        for block in self.debug_blocks:
            if any(_matches(name, pattern, self.rules.debug_list) for pattern in block.names):
                return flags | block.flags
        added = self.slub_debug
        if self.rules.debug_noleaktrace and flags & sf.NOLEAKTRACE:
            added &= ~sf.STORE_USER
        return flags | added


def _matches(name: str, pattern: str, debug_list: str) -> bool:
    """Whether slub_debug's ``pattern`` means the cache: a prefix up to 4.19, then a name in which * ends the match."""
    if debug_list == "prefix":
        return name.startswith(pattern)
    return fnmatchcase(name, pattern.partition("*")[0] + "*") if "*" in pattern else name == pattern


def calculate_alignment(flags: int, align: int, size: int, cache_line: int, pointer: int = POINTER) -> int:
    """Alignment of an object in bytes: a small one shares its cache line [mm/slub.c 2.6.22 to 3.7, mm/slab_common.c:
    calculate_alignment]."""
    if flags & sf.HWCACHE_ALIGN:
        line = cache_line
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return round_up(max(align, SLAB_MINALIGN), pointer)


def slab_order(size: int, min_objects: int, max_order: int, fraction: int, options: SlubOptions) -> int:
    """The first order that wastes at most 1/``fraction``; above ``max_order``: none [slab_order, calc_slab_order]."""
    most = options.rules.max_objects
    page = options.page_size
    if (page << options.slub_min_order) // size > most:
        return get_order(size * most, options.page_shift) - 1
    order = max(options.slub_min_order, fls(min_objects * size - 1) - options.page_shift)
    while order <= max_order:
        slab = page << order
        if slab >= min_objects * size and slab % size <= slab // fraction:
            break
        order += 1
    return order


def _order_keeping_objects(size: int, options: SlubOptions) -> int:
    """calculate_order of 6.8 on: the object count stands, only the waste bound gives way [mm/slub.c 6.12]."""
    max_order = options.max_order
    page, shift = options.page_size, options.page_shift
    wanted = min(options.min_objects, max((page << max_order) // size, 1))
    lowest = max(options.slub_min_order, get_order(wanted * size, shift))
    if (page << lowest) // size > options.rules.max_objects:
        return get_order(size * options.rules.max_objects, shift) - 1
    for fraction in options.rules.fractions:
        for order in range(lowest, max_order + 1):
            slab = page << order
            if slab % size <= slab // fraction:
                return order
    return get_order(size, shift)


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
        wanted = min(wanted, (options.page_size << max_order) // size)
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
    """Slabs a node keeps although empty: 5, later log2(slot) or half of it within 5 .. 10 [set_min_partial]."""
    if options.rules.min_partial == "5":
        return 5
    log2 = fls(size) - 1
    return min(10, max(5, log2 // 2 if options.rules.min_partial == "log2/2" else log2))


def _by_slot(size: int, page_size: int) -> int:
    """Row of the tables by slot: a page and more, 1024 and more, 256 and more, below."""
    return next((row for row, bound in enumerate((page_size, 1024, 256)) if size >= bound), 3)


def cpu_partial(size: int, flags: int, options: SlubOptions) -> int:
    """Free objects a CPU's partial list aims at; 0 before 3.2, since 7.0, and for debugged caches [set_cpu_partial]."""
    if flags & DEBUG_FLAGS and not options.rules.cpu_partial_debugged:
        return 0
    return options.rules.cpu_partial[_by_slot(size, options.page_size)]


def cpu_partial_slabs(objects_wanted: int, objects: int) -> int:
    """Slabs a CPU's partial list may hold, taking each for half full [slub_set_cpu_partial, 5.16 on]."""
    return -(-objects_wanted * 2 // objects)


def sheaf_capacity(size: int, flags: int, options: SlubOptions, asked: int = 0) -> int:
    """Objects of a sheaf of a cache with slots of ``size`` bytes, 0 where it has none [calculate_sheaf_capacity].

    ``asked`` is kmem_cache_args.sheaf_capacity. The capacity by slot fills the kmalloc slot that the sheaf takes.
    """
    if not options.rules.sheaves or flags & (DEBUG_FLAGS | sf.NO_SHEAVES | sf.NOLEAKTRACE):
        return 0
    if options.rules.sheaves == "asked":
        return asked
    wanted = SHEAF_HEADER + options.pointer * SHEAF_OBJECTS[_by_slot(size, options.page_size)]
    memory = kmalloc_size(wanted, options.rules, options.page_size, options.kmalloc_minalign) or round_up(
        wanted, options.page_size
    )
    return max((memory - SHEAF_HEADER) // options.pointer, asked)


def kmalloc_name(size: int, rules: SlubEra) -> str:
    """Name of a static kmalloc cache: ``kmalloc-1024``, since 4.20 ``kmalloc-1k``."""
    if rules.kmalloc_short_names and size >= 1024:
        return f"kmalloc-{size // 1024}k"
    return f"kmalloc-{size}"


def kmalloc_sizes(rules: SlubEra, page_size: int = PAGE_SIZE, minimum: int = POINTER) -> tuple[int, ...]:
    """Slots of the static kmalloc caches in the order of their creation [kmem_cache_init, create_kmalloc_caches].

    ``minimum``: KMALLOC_MIN_SIZE, a power of two; above 32 there is none of 96, above 64 none of 192 [kmem_cache_init
    of 2.6.36, create_kmalloc_caches of 3.10 to 7.3].
    """
    powers = [1 << shift for shift in range(fls(minimum) - 1, fls(page_size * rules.kmalloc_pages))]
    odd = {half: half * 3 // 2 for half in (64, 128) if minimum <= half // 2}
    if rules.kmalloc_odd_first:
        return (*odd.values(), *powers)
    return tuple(size for power in powers for size in ((power, odd[power]) if power in odd else (power,)))


def kmalloc_size(request: int, rules: SlubEra, page_size: int = PAGE_SIZE, minimum: int = POINTER) -> int:
    """Slot of the kmalloc cache that serves ``request`` bytes, 0 when pages do; ``request`` >= 1 [kmalloc_index]."""
    return min((size for size in kmalloc_sizes(rules, page_size, minimum) if size >= request), default=0)


def kmalloc_align(size: int, options: SlubOptions) -> int:
    """Alignment of a kmalloc cache's objects: later a power of two that divides the size [create_boot_cache]."""
    rule, low = options.rules.kmalloc_align, size & -size
    if rule == "largest power" or (rule == "power of two" and low == size):
        return max(low, options.kmalloc_minalign)
    return options.kmalloc_minalign


__all__ = [
    "ERAS", "MAX_ORDER", "PAGE_SHIFT", "PAGE_SIZE", "POINTER", "DebugBlock", "SlubEra", "SlubOptions",
    "calculate_alignment", "calculate_order", "cpu_partial", "cpu_partial_slabs", "get_order", "kmalloc_align",
    "kmalloc_name", "kmalloc_size", "kmalloc_sizes", "layout_of", "min_partial", "sheaf_capacity", "slab_order",
]  # fmt: skip

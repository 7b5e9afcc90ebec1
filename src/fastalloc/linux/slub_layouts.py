"""How SLUB's layout and merge rules changed from 2.6.25 to 7.3: one row a change, read in the trees named.

Sources are files of the kernel tree (mm/slub.c unless said) at the first version that was read with the change. The
version before it was read too, but where ``unread`` names those in between: the change may have come with one of them.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.release import BASES, Base, base_name, parse_base

_NEVER = sf.RED_ZONE | sf.POISON | sf.STORE_USER | sf.TRACE | sf.DESTROY_BY_RCU
_SAME = sf.DEBUG_FREE | sf.RECLAIM_ACCOUNT | sf.CACHE_DMA


@dataclass(frozen=True)
class SlubEra:
    """The layout and merge rules of the kernels from one change to the next. Sizes in bytes of a 64-bit kernel.

    ``lower_min_objects`` says how calculate_order gives way when no order wastes little enough: ``halve`` the
    wanted object count, ``decrement`` it (it is capped by what the largest order holds), or ``keep`` it.
    ``cpus_counted``: min_objects = 4 * (fls(CPUs) + 1) of the ``possible`` or ``present`` ones, or ``none``.
    """

    name: str  # the first version
    max_order: int = 1
    min_objects: int = 4  # where it does not follow from the CPUs
    large_pages: tuple[int, int] = (2, 8)  # both, of machines with pages above 4 kB
    cpus_counted: str = "none"
    fractions: tuple[int, ...] = (8, 4)
    lower_min_objects: str = "halve"
    never_merge: int = _NEVER
    merge_same: int = _SAME
    newest_first: bool = True  # which of several fitting caches one merges into
    kmalloc_pages: int = 1  # pages of the largest kmalloc cache
    kmalloc_odd_first: bool = True  # 96 and 192 are created before the powers of two
    kmalloc_short_names: bool = False  # kmalloc-1k
    kmalloc_order_rule: bool = True  # static kmalloc caches of few objects: order 3 and page fallback
    kmalloc_align: str = "minimum"  # or of a ``power of two`` its size, or the ``largest power`` that divides it
    usercopy: bool = False  # caches with a usercopy window never merge; kmalloc caches have one
    min_partial: str = "5"  # or ``log2`` of the slot, or half of it, within 5 .. 10
    cpu_partial: tuple[int, int, int, int] = (0, 0, 0, 0)  # slot >= a page, >= 1024, >= 256, below
    cpu_partial_debugged: bool = True  # caches with debugging have the lists too
    cpu_partial_in_slabs: bool = False
    min_order_yields: bool = False  # slub_max_order given later lowers slub_min_order
    max_objects: int = 1 << 30  # most objects a slab may count
    track: int = 24  # sizeof(struct track)
    kmalloc_orig_size: int = 0  # bytes that SLAB_STORE_USER adds to a kmalloc slot
    orig_size_freeptr: str = (
        ""  # what moves a kmalloc object's free pointer behind it: STORE_USER, or both with RED_ZONE
    )
    tiny_freeptr: bool = False  # a red-zoned object smaller than a pointer has its free pointer behind it
    freeptr: str = "first word"  # of a free object, or its middle, rounded ``up`` or ``down``
    freeptr_placed: bool = False  # a creator may place that of a TYPESAFE_BY_RCU object inside it
    red_left_pad: bool = False
    sheaves: str = ""  # none, of those that ``asked``, or ``by slot`` for all
    debug_list: str = "prefix"  # what stands behind the comma of slub_debug: one prefix, a ``list``, ``blocks``
    debug_order: str = ""  # slub_debug=O: full debugging where it ``alone`` is given, or one ``letter`` of several
    debug_noleaktrace: bool = False  # slub_debug=U spares caches with SLAB_NOLEAKTRACE
    slab_nomerge: bool = False  # the name beside slub_nomerge
    slab_names: bool = False  # slab_debug, slab_max_order and so on beside slub_*
    strict_numbers: bool = False  # a value that is no number is refused, and not taken for 0
    source: str = field(default="", compare=False)

    def defaults(self, page_shift: int) -> tuple[int, int]:
        """Largest order and objects wanted in a slab [DEFAULT_MAX_ORDER, DEFAULT_MIN_OBJECTS: #if PAGE_SHIFT <= 12]."""
        return (self.max_order, self.min_objects) if page_shift <= 12 else self.large_pages


@dataclass(frozen=True)
class Change:
    """``fields`` of SlubEra as of version ``first``; ``unread``: versions before it that were not read."""

    first: str
    source: str
    fields: dict[str, Any]
    unread: str = ""


CHANGES = (
    Change("2.6.25", "mm/slub.c of 2.6.25-rc8: calculate_order, calculate_sizes, find_mergeable", {}),
    Change(
        "2.6.26", "calculate_order, kmem_cache_init; commits 39b264641a0 to c124f5b54f8",
        {"max_order": 3, "large_pages": (3, 4), "cpus_counted": "possible", "fractions": (16, 8, 4),
         "kmalloc_order_rule": False, "max_objects": 65535},
    ),
    Change("2.6.27", "init_kmem_cache_node: ilog2(size)", {"min_partial": "log2"}),
    Change(
        "2.6.30", "calculate_order: max_objects; include/linux/slub_def.h: SLUB_MAX_SIZE",
        {"lower_min_objects": "decrement", "kmalloc_pages": 2},
    ),
    Change("2.6.31", "SLUB_NEVER_MERGE", {"never_merge": _NEVER | sf.NOLEAKTRACE}),
    Change("2.6.32", "setup_slub_debug: o", {"debug_order": "alone"}),
    Change("2.6.34", "SLUB_NEVER_MERGE", {"never_merge": _NEVER | sf.NOLEAKTRACE | sf.FAILSLAB}),
    Change("3.1", "MAX_OBJS_PER_PAGE; struct track with CONFIG_STACKTRACE", {"max_objects": 32767, "track": 152}),
    Change("3.2", "kmem_cache_open", {"min_partial": "log2/2", "cpu_partial": (2, 6, 13, 30)}),
    Change("3.3", "kmem_cache_open: kmem_cache_debug", {"cpu_partial_debugged": False}),
    Change("3.10", "mm/slab_common.c: create_kmalloc_caches", {"kmalloc_odd_first": False}),
    Change("3.18", "mm/slab_common.c: setup_slab_nomerge", {"slab_nomerge": True}),
    Change("3.19", "mm/slab_common.c: find_mergeable walks in reverse", {"newest_first": False}),
    Change("4.1", "setup_slub_debug: o among the others", {"debug_order": "letter"}, "4.0"),
    Change("4.2", "mm/slab_common.c: SLAB_MERGE_SAME", {"merge_same": sf.RECLAIM_ACCOUNT | sf.CACHE_DMA}),
    Change(
        "4.5", "mm/slab_common.c: SLAB_MERGE_SAME",
        {"merge_same": sf.RECLAIM_ACCOUNT | sf.CACHE_DMA | sf.ACCOUNT},
    ),
    Change(
        "4.6", "calculate_sizes: red_left_pad; mm/slab_common.c: SLAB_NEVER_MERGE",
        {"red_left_pad": True, "never_merge": _NEVER | sf.NOLEAKTRACE | sf.FAILSLAB | sf.KASAN},
    ),
    Change("4.16", "mm/slab_common.c: slab_unmergeable, create_kmalloc_cache", {"usercopy": True}),
    Change(
        "4.20", "kmem_cache_flags; mm/slab_common.c: kmalloc_info",
        {"debug_list": "list", "kmalloc_short_names": True},
    ),
    Change(
        "5.2", "mm/slab_common.c: SLAB_MERGE_SAME",
        {"merge_same": sf.RECLAIM_ACCOUNT | sf.CACHE_DMA | sf.CACHE_DMA32 | sf.ACCOUNT}, "5.1",
    ),
    Change("5.4", "mm/slab_common.c: create_boot_cache", {"kmalloc_align": "power of two"}),
    Change("5.7", "calculate_sizes: freepointer_area", {"freeptr": "up"}),
    Change("5.9", "parse_slub_debug_flags", {"debug_list": "blocks"}),
    Change("5.11", "calculate_order: num_present_cpus", {"cpus_counted": "present"}),
    Change("5.12", "kmem_cache_flags", {"debug_noleaktrace": True}),
    Change("5.14", "calculate_sizes: object_size < sizeof(void *)", {"tiny_freeptr": True, "freeptr": "down"}, "5.13"),
    Change("5.16", "set_cpu_partial", {"cpu_partial": (6, 24, 52, 120), "cpu_partial_in_slabs": True}),
    Change("5.19", "struct track with CONFIG_STACKDEPOT", {"track": 32}),
    Change("6.1", "calculate_sizes: orig_size", {"kmalloc_orig_size": 4}),
    Change("6.2", "calculate_sizes: slub_debug_orig_size", {"orig_size_freeptr": "STORE_USER"}),
    Change(
        "6.5", "mm/slab_common.c: SLAB_NEVER_MERGE",
        {"never_merge": _NEVER | sf.NOLEAKTRACE | sf.FAILSLAB | sf.KASAN | sf.NO_MERGE},
    ),
    Change(
        "6.8", "calculate_order, calc_slab_order, setup_slub_min_order, setup_slub_max_order",
        {"lower_min_objects": "keep", "fractions": (16, 8, 4, 2), "min_order_yields": True}, "6.7",
    ),
    Change("6.9", "setup_slub_debug: slab_debug", {"slab_names": True}),
    Change("6.10", "mm/slab_common.c: create_kmalloc_caches", {"kmalloc_odd_first": True}),
    Change(
        "6.11", "calculate_sizes; mm/slab_common.c: create_boot_cache",
        {"orig_size_freeptr": "RED_ZONE", "kmalloc_align": "largest power"},
    ),
    Change("6.12", "include/linux/slab.h: struct kmem_cache_args, kmem_cache_create_rcu", {"freeptr_placed": True}),
    Change("6.18", "slab_unmergeable: cpu_sheaves; init_percpu_sheaves", {"sheaves": "asked"}),
    Change("6.19", "core_param_cb of slab_max_order and the like: kstrtouint", {"strict_numbers": True}),
    Change(
        "7.0", "calculate_sheaf_capacity, calculate_sizes; mm/slab_common.c: SLAB_NEVER_MERGE, slab_args_unmergeable",
        {"sheaves": "by slot", "kmalloc_orig_size": 8, "cpu_partial": (0, 0, 0, 0),
         "never_merge": _NEVER | sf.DEBUG_FREE | sf.NOLEAKTRACE | sf.FAILSLAB | sf.KASAN | sf.NO_MERGE},
    ),
)  # fmt: skip


def _layouts() -> dict[Base, SlubEra]:
    known: dict[Base, SlubEra] = {}
    rules = SlubEra("")
    for change in CHANGES:
        rules = replace(rules, **change.fields, name=change.first, source=change.source)
        known[parse_base(change.first)] = rules
    return known


_LAYOUTS = _layouts()
ERAS: dict[str, SlubEra] = {base_name(base): rules for base, rules in _LAYOUTS.items()}


def layout_of(version: str | Base) -> SlubEra:
    """The layout rules of a version such as ``6.6`` or (6, 6, 0): those of the last change before it.

    Raises:
        ValueError: no version, or one outside 2.6.25 to 7.3.
    """
    base = parse_base(version) if isinstance(version, str) else version
    if not parse_base(CHANGES[0].first) <= base <= BASES[-1]:
        raise ValueError(
            f"kernel {base_name(base)}: SLUB's layout is known from {CHANGES[0].first} to {base_name(BASES[-1])}"
        )
    return _LAYOUTS[max(first for first in _LAYOUTS if first <= base)]


def unread(base: Base) -> list[str]:
    """What a version may have that its row does not: the changes that came with it or later, unread in between."""
    name = base_name(base)
    return [
        f"{name} was not read: {change.source} of {change.first} may hold for it"
        for change in CHANGES
        if name in change.unread.split()
    ]

"""What one size costs under a kernel: from kmalloc, from a cache of its own, and from one aligned to cache lines."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from fastalloc.explain.caches.setting import Setting
from fastalloc.explain.caches.table import kmalloc_bytes
from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, Geometry, calculate_sizes, find_mergeable
from fastalloc.linux.slabinfo import SlabRow
from fastalloc.linux.slub_eras import SHEAF_HEADER, SlubOptions, kmalloc_align, kmalloc_name, kmalloc_size

# Their refcount is -1: "Exempt from merging for now" [mm/slab_common.c 3.10: create_boot_cache].
EXEMPT = ("kmem_cache", "kmem_cache_node")
MAX_SHEAVES = 10  # full ones of a barn, and as many empty ones [MAX_FULL_SHEAVES, MAX_EMPTY_SHEAVES]


@dataclass(frozen=True)
class Choice:
    """One way to have objects of a size. Bytes, except ``order`` and counts of objects and slabs.

    ``waste`` is what an object does not use of its slot, ``slab_waste`` what the slots leave of a slab. ``merges_with``
    names the cache that it would share; ``may_merge`` those of the table with its slot, whose flags it does not tell.
    ``cpu_objects``: free objects that one CPU may keep for itself (two sheaves, or its slab and partial list);
    ``node_objects``: those of a node, in its barn, or in the empty slabs that it keeps where there are no sheaves.
    ``sheaf_bytes``: memory of the sheaves of all CPUs and nodes at most.
    """

    kind: str
    cache: str
    size: int
    slot: int
    waste: int
    order: int
    objects: int
    slab_waste: int
    merges_with: str | None
    may_merge: tuple[str, ...]
    min_partial: int
    cpu_partial_slabs: int
    sheaf_capacity: int
    cpu_objects: int
    node_objects: int
    sheaf_bytes: int

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {
            "waste_share": self.waste / self.slot,
            "cpu_bytes": self.cpu_objects * self.slot,
            "node_bytes": self.node_objects * self.slot,
        }


def choices(size: int, setting: Setting, table: list[SlabRow] | None = None) -> list[Choice]:
    """The ways to have objects of ``size`` bytes; ``table``: caches there are."""
    options = setting.options
    boot = CacheSet(options)
    found = [_kmalloc(size, setting)]
    for kind, flags in (("own cache", 0), ("own cache, SLAB_HWCACHE_ALIGN", sf.HWCACHE_ALIGN)):
        request = CacheRequest("new", size, flags=flags)
        try:
            layout = calculate_sizes(request, options)
        except ValueError:
            continue
        target = find_mergeable(request, boot.caches, options)
        merges = boot.caches[target].name if target >= 0 else None
        alike = tuple(row.name for row in table or () if _may_merge(request, row, options))
        found.append(_choice(kind, "new", size, layout, setting, merges, alike))
    return found


def _may_merge(request: CacheRequest, row: SlabRow, options: SlubOptions) -> bool:
    """Whether the new cache may go into that of a row, whose flags and constructor are taken to allow it; a kmalloc
    cache has a usercopy window as large as its objects [mm/slab_common.c 4.16: create_kmalloc_cache]."""
    size = row.object_size
    flags = options.flags_of(row.name, request.flags)
    posted = Geometry(row.name, size, size, size, 0, options.pointer, flags, 0, row.objects_a_slab)
    named = kmalloc_bytes(row.name)
    if named:
        asked = CacheRequest(row.name, named, kmalloc_align(named, options), request.flags, usersize=named)
        posted = replace(calculate_sizes(asked, options, kmalloc=True), size=size)
    return row.name not in EXEMPT and find_mergeable(request, [posted], options) == 0


def _kmalloc(size: int, setting: Setting) -> Choice:
    options = setting.options
    serves = kmalloc_size(size, options.rules, options.page_size, options.kmalloc_minalign)
    if not serves:
        order = sf.get_order(size, options.page_shift)
        slot = options.page_size << order
        return Choice("kmalloc", "pages", size, slot, slot - size, order, 1, 0, None, (), 0, 0, 0, 0, 0, 0)
    name = kmalloc_name(serves, options.rules)
    request = CacheRequest(name, serves, kmalloc_align(serves, options), usersize=serves)
    return _choice("kmalloc", name, size, calculate_sizes(request, options, kmalloc=True), setting, None, ())


def _choice(
    kind: str, name: str, size: int, layout: Geometry, setting: Setting, merges: str | None, alike: tuple[str, ...]
) -> Choice:
    options = setting.options
    capacity = layout.sheaf_capacity
    lists = layout.cpu_partial_slabs if options.rules.cpu_partial_in_slabs else 0
    if capacity:
        cpu, node = 2 * capacity, MAX_SHEAVES * capacity
    else:
        listed = layout.cpu_partial_slabs * layout.objects if lists else layout.cpu_partial
        cpu, node = layout.objects + listed, layout.min_partial * layout.objects
    sheaves = 2 * setting.cpus + 2 * MAX_SHEAVES * setting.nodes
    return Choice(
        kind, name, size, layout.size, layout.size - size, layout.order, layout.objects,
        (options.page_size << layout.order) - layout.objects * layout.size, merges, alike, layout.min_partial,
        layout.cpu_partial_slabs, capacity, cpu, node,
        sheaves * (SHEAF_HEADER + options.pointer * capacity) if capacity else 0,
    )  # fmt: skip

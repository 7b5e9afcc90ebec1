"""SLUB's caches as a machine boots and creates them: sizes, orders, and which cache merges into which.

``CacheSet`` plays the part of the ``slab_caches`` list. It knows no state of slabs: only layout and identity.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fastalloc.linux import gfp as g
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as eras
from fastalloc.linux.slab_flags import get_order, round_up
from fastalloc.linux.slub_eras import POINTER, SlubOptions

__all__ = ["CacheRequest", "CacheSet", "Geometry", "SlubOptions", "calculate_sizes", "find_mergeable"]


@dataclass(frozen=True)
class CacheRequest:
    """What kmem_cache_create was called with; ``size`` and ``align`` in bytes, ``usersize`` the usercopy window.

    ``freeptr_placed``: the creator gave the free pointer a place in the object [kmem_cache_args.use_freeptr_offset].
    ``sheaf_capacity``: what it asked for, 0 nothing.
    """

    name: str
    size: int
    align: int = 0
    flags: int = 0
    ctor: bool = False
    usersize: int = 0
    freeptr_placed: bool = False
    sheaf_capacity: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"cache {self.name!r}: size {self.size} is not positive")
        if self.align < 0:
            raise ValueError(f"cache {self.name!r}: align {self.align} is negative")


@dataclass(frozen=True)
class Geometry:
    """Layout of one cache [struct kmem_cache]; bytes, except order, counts and flag words.

    ``refcount``: names that share the cache; 0 destroyed, -1 never merged with.
    """

    name: str
    size: int
    objsize: int
    inuse: int
    offset: int
    align: int
    flags: int
    order: int
    objects: int
    allocflags: int = 0
    fallback: bool = False
    ctor: bool = False
    min_partial: int = 5
    cpu_partial: int = 0
    cpu_partial_slabs: int = 0
    usersize: int = 0
    refcount: int = 1
    sheaf_capacity: int = 0  # objects of a sheaf, 0 none


def calculate_sizes(request: CacheRequest, options: SlubOptions, kmalloc: bool = False) -> Geometry:
    """Slot, free-pointer offset, order and objects of a cache [mm/slub.c: calculate_sizes, kmem_cache_open].

    ``kmalloc`` marks a static kmalloc cache. Raises ValueError when no page order holds one object.
    """
    rules = options.rules
    flags = options.flags_of(request.name, request.flags)
    if rules.sheaves and request.sheaf_capacity:
        flags |= sf.NO_MERGE
    size, inuse, offset, align, flags = _slot(request, flags, options, kmalloc)
    if options.debug_order and get_order(size, options.page_shift) > get_order(request.size, options.page_shift):
        size, inuse, offset, align, flags = _slot(request, flags & ~sf.DEBUG_METADATA, options, kmalloc)
    fallback = kmalloc and rules.kmalloc_order_rule and options.page_size // size < options.min_objects
    if fallback:
        order = max(options.max_order, g.COSTLY_ORDER)
        flags |= sf.PAGE_ALLOC_FALLBACK
    else:
        order = eras.calculate_order(size, options)
    allocflags = g.COMP if order else 0
    if flags & sf.CACHE_DMA:
        allocflags |= g.GFP_DMA
    if flags & sf.RECLAIM_ACCOUNT:
        allocflags |= g.RECLAIMABLE
    objects = (options.page_size << order) // size
    wanted = eras.cpu_partial(size, flags, options)
    return Geometry(
        name=request.name,
        size=size,
        objsize=request.size,
        inuse=inuse,
        offset=offset,
        align=align,
        flags=flags | (sf.KMALLOC_CACHE if kmalloc else 0),
        order=order,
        objects=objects,
        allocflags=allocflags,
        fallback=fallback,
        ctor=request.ctor,
        min_partial=eras.min_partial(size, options),
        cpu_partial=wanted,
        cpu_partial_slabs=eras.cpu_partial_slabs(wanted, objects),
        usersize=request.usersize if options.hardened_usercopy else 0,
        sheaf_capacity=eras.sheaf_capacity(size, flags, options, request.sheaf_capacity),
    )


def _slot(request: CacheRequest, flags: int, options: SlubOptions, kmalloc: bool) -> tuple[int, int, int, int, int]:
    """(slot, inuse, offset of the free pointer, alignment, flags) of a cache with ``flags`` [calculate_sizes]."""
    rules, pointer = options.rules, options.pointer
    flags &= ~sf.OBJECT_POISON
    if options.debug and flags & sf.POISON and not flags & sf.DESTROY_BY_RCU and not request.ctor:
        flags |= sf.OBJECT_POISON
    red_zone = options.debug and bool(flags & sf.RED_ZONE)
    store_user = options.debug and bool(flags & sf.STORE_USER)
    size = round_up(request.size, pointer)
    if red_zone and size == request.size:
        size += pointer
    inuse = size
    offset = 0
    inside = request.freeptr_placed and rules.freeptr_placed
    behind = bool(flags & sf.POISON) or (request.ctor and not (inside and rules.sheaves == "by slot"))
    behind |= bool(flags & sf.DESTROY_BY_RCU) and not inside
    behind |= rules.tiny_freeptr and red_zone and request.size < pointer
    if kmalloc and store_user and rules.orig_size_freeptr:
        behind |= red_zone or rules.orig_size_freeptr == "STORE_USER"
    if behind:
        offset = size
        size += pointer
    elif rules.freeptr == "up" and size > pointer:
        offset = round_up(size // 2, pointer)
    elif rules.freeptr == "down" and not inside:
        offset = request.size // 2 // pointer * pointer
    align = eras.calculate_alignment(flags, request.align, request.size, options.cache_line, pointer)
    if store_user:
        size += 2 * options.track
        if kmalloc and rules.kmalloc_orig_size:
            size += pointer if rules.kmalloc_orig_size == POINTER else rules.kmalloc_orig_size
    if red_zone:
        size += pointer
        if rules.red_left_pad:
            size += round_up(pointer, align)
    return round_up(size, align), inuse, offset, align, flags


def slab_unmergeable(cache: Geometry, options: SlubOptions) -> bool:
    """Whether nothing may merge into ``cache`` [slab_unmergeable]."""
    rules = options.rules
    return (
        options.slub_nomerge
        or bool(cache.flags & (rules.never_merge | sf.NO_MERGE))
        or cache.fallback
        or cache.ctor
        or (rules.usercopy and cache.usersize > 0)
        or cache.refcount < 0
    )


def find_mergeable(
    request: CacheRequest,
    caches: list[Geometry],
    options: SlubOptions,
    may_merge: Callable[[str, str], bool] | None = None,
) -> int:
    """Index of the cache that ``request`` merges into, or -1 [find_mergeable].

    ``caches`` is in creation order; 2.6.25 takes the newest match, the common code of later kernels the oldest.
    Sizes, alignment, flags, constructor and reference count decide; names never do.
    """
    rules = options.rules
    flags = options.flags_of(request.name, request.flags)
    never = rules.never_merge | sf.NO_MERGE
    window = rules.usercopy and options.hardened_usercopy and request.usersize
    if options.slub_nomerge or request.ctor or flags & never or window:
        return -1
    if rules.sheaves and request.sheaf_capacity:
        return -1
    size = round_up(request.size, options.pointer)
    align = eras.calculate_alignment(flags, request.align, size, options.cache_line, options.pointer)
    size = round_up(size, align)
    for index in reversed(range(len(caches))) if rules.newest_first else range(len(caches)):
        cache = caches[index]
        if (
            0 <= cache.size - size < options.pointer
            and not (flags ^ cache.flags) & rules.merge_same
            and cache.size & ~(align - 1) == cache.size
            and cache.refcount != 0
            and not slab_unmergeable(cache, options)
            and (may_merge is None or may_merge(request.name, cache.name))
        ):
            return index
    return -1


class CacheSet:
    """The caches of one machine in creation order, from the boot kmalloc caches on [kmem_cache_init].

    ``caches[i]`` is the :class:`Geometry` of cache ``i``; an index is never reused. Names are looked up among the
    living: a name may be created again after it was destroyed.

    Parameters
    ----------
    options : machine, era and boot line.
    nodes : NUMA nodes; more than one adds ``kmem_cache_node`` in front, which nothing merges into.
    boot : False starts with no cache at all.
    may_merge : asked with two names wherever the kernel would merge a new cache into another; refused, it looks on.
    """

    def __init__(
        self,
        options: SlubOptions | None = None,
        nodes: int = 1,
        boot: bool = True,
        may_merge: Callable[[str, str], bool] | None = None,
    ) -> None:
        self.may_merge = may_merge
        self.options = options or SlubOptions()
        self.caches: list[Geometry] = []
        self._root: dict[str, int] = {}
        self._kmalloc: dict[int, int] = {}
        rules = self.options.rules
        if not boot:
            return
        if nodes > 1:
            # sizeof(struct kmem_cache_node), with the lists and counters of CONFIG_SLUB_DEBUG or without.
            self._open(CacheRequest("kmem_cache_node", 56 if self.options.debug else 40), -1)
        for size in eras.kmalloc_sizes(rules, self.options.page_size, self.options.kmalloc_minalign):
            align = eras.kmalloc_align(size, self.options)
            request = CacheRequest(eras.kmalloc_name(size, rules), size, align, usersize=size)
            self._kmalloc[size] = self._open(request, 1)

    def boot(self, kmem_cache_bytes: int, node_bytes: int) -> None:
        """The boot caches of a kernel with caches of their own for its structs and a second set of kmalloc caches, for
        reclaimable objects, in the order of their creation [kmem_cache_init; 4.20 on]. Sizes of struct kmem_cache and
        struct kmem_cache_node in bytes."""
        rules = self.options.rules
        for name, size in (("kmem_cache", kmem_cache_bytes), ("kmem_cache_node", node_bytes)):
            index = self._open(CacheRequest(name, size, 0, sf.HWCACHE_ALIGN), -1)
            self.caches[index] = replace(self.caches[index], sheaf_capacity=0)
        for kind, flags in (("", 0), ("rcl-", sf.RECLAIM_ACCOUNT)):
            sizes = eras.kmalloc_sizes(rules, self.options.page_size, self.options.kmalloc_minalign)
            for size in sorted(sizes, key=lambda size: (size & (size - 1) == 0, size)):
                name = eras.kmalloc_name(size, rules).replace("kmalloc-", f"kmalloc-{kind}")
                request = CacheRequest(name, size, eras.kmalloc_align(size, self.options), flags, usersize=size)
                index = self._open(request, 1)
                if not kind:
                    self._kmalloc[size] = index

    def _open(self, request: CacheRequest, refcount: int) -> int:
        geometry = replace(calculate_sizes(request, self.options, kmalloc=True), refcount=refcount)
        self.caches.append(geometry)
        self._root[request.name] = len(self.caches) - 1
        return len(self.caches) - 1

    def create(self, request: CacheRequest) -> int:
        """Create or merge a cache; the index of the cache it landed in [kmem_cache_create].

        A merge grows the target's objsize and inuse; the target is then ``caches[index]`` with a higher refcount.
        Raises ValueError when the name is taken by a living cache or the size fits no slab.
        """
        if request.name in self._root:
            raise ValueError(f"cache {request.name!r} exists")
        index = find_mergeable(request, self.caches, self.options, self.may_merge)
        if index >= 0:
            target = self.caches[index]
            self.caches[index] = replace(
                target,
                refcount=target.refcount + 1,
                objsize=max(target.objsize, request.size),
                inuse=max(target.inuse, round_up(request.size, self.options.pointer)),
            )
        else:
            self.caches.append(calculate_sizes(request, self.options))
            index = len(self.caches) - 1
        self._root[request.name] = index
        return index

    def index_of(self, name: str) -> int:
        """Index of the cache behind a living name; KeyError names an unknown one."""
        if name not in self._root:
            raise KeyError(f"no cache {name!r}")
        return self._root[name]

    def __contains__(self, name: str) -> bool:
        """Whether there is a living cache of the name."""
        return name in self._root

    def root_of(self, name: str) -> str:
        """Name of the cache that ``name`` is served from: itself, or what it merged into."""
        return self.caches[self.index_of(name)].name

    def destroy(self, name: str) -> bool:
        """Drop a name; True when it was the last one and the cache itself goes [kmem_cache_destroy]."""
        index = self.index_of(name)
        del self._root[name]
        cache = replace(self.caches[index], refcount=self.caches[index].refcount - 1)
        self.caches[index] = cache
        return cache.refcount == 0

    def kmalloc_index(self, size: int) -> int:
        """Index of the cache that serves kmalloc(``size``), -1 when the page allocator does; ``size`` >= 1 bytes."""
        options = self.options
        return self._kmalloc.get(
            eras.kmalloc_size(size, options.rules, options.page_size, options.kmalloc_minalign), -1
        )

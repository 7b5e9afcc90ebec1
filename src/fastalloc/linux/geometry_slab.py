"""Layout of SLAB and SLOB caches of 2.6.25 [mm/slab.c, mm/slob.c]. Sizes in bytes, orders in powers of two of 4 kB."""

from dataclasses import dataclass

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slub import CacheRequest
from fastalloc.linux.slab_flags import get_order, round_up

PAGE_SIZE = 4096
SLAB_STRUCT = 48  # sizeof(struct slab)
BUFCTL = 4  # sizeof(kmem_bufctl_t)
ARRAY_CACHE = 24  # sizeof(struct array_cache) without its entries
KMEM_LIST3 = 104
MAX_GFP_ORDER = 10  # KMALLOC_MAX_ORDER
OFF_SLAB_FROM = PAGE_SIZE >> 3
LIMIT_STEPS = ((131072, 1), (4096, 8), (1024, 24), (256, 54))
ALIEN_LIMIT = 12
LATER_MOST = 255  # SLAB_OBJ_MAX_NUM since 3.15: an index is a byte
LATER_MAX_ORDER = 1  # SLAB_MAX_ORDER_HI
SLOB_RCU = 24  # sizeof(struct slob_rcu)
SLOB_UNIT = 2


@dataclass(frozen=True)
class SlabOptions:
    """A machine, as far as SLAB's layout depends on it.

    ``l1_cache_bytes`` is the compile-time line: it decides which odd kmalloc sizes exist. ``cpus_node`` are the
    CPUs of a node on line, ``cpus_possible`` those of the machine. ``break_order`` is 1 above 32 MB of memory.
    """

    cache_line: int = 64
    l1_cache_bytes: int | None = None
    cpus_node: int = 8
    cpus_possible: int = 8
    break_order: int = 1

    @property
    def l1(self) -> int:
        """L1_CACHE_BYTES in force."""
        return self.cache_line if self.l1_cache_bytes is None else self.l1_cache_bytes


@dataclass(frozen=True)
class SlabGeometry:
    """Layout of one SLAB cache [struct kmem_cache of mm/slab.c].

    ``colour`` counts the start offsets ``colour_off`` bytes apart; ``mgmt_size`` is struct slab plus bufctls,
    ``mgmt_cache`` the size of the kmalloc cache they come from when ``off_slab``, else 0; ``shared`` the factor of
    batchcount (0: no shared array) and ``shared_limit`` its capacity; ``free_limit`` that of one node.
    """

    name: str
    buffer_size: int
    gfporder: int
    num: int
    colour: int
    colour_off: int
    off_slab: bool
    mgmt_size: int
    mgmt_cache: int
    limit: int
    batchcount: int
    shared: int
    shared_limit: int
    free_limit: int
    flags: int = 0
    ctor: bool = False


def kmalloc_sizes(l1_cache_bytes: int) -> tuple[int, ...]:
    """SLAB's kmalloc sizes [include/linux/kmalloc_sizes.h]: 96 and 192 only below 64- and 128-byte lines."""
    odd = ((96,) if l1_cache_bytes < 64 else ()) + ((192,) if l1_cache_bytes < 128 else ())
    return tuple(sorted(odd + tuple(1 << shift for shift in range(5, 23))))


def kmalloc_size(size: int, options: SlabOptions) -> int:
    """Slot of the kmalloc cache that serves ``size`` bytes; 0 when it is larger than the largest."""
    return min((slot for slot in kmalloc_sizes(options.l1) if slot >= size), default=0)


def cache_estimate(order: int, size: int, align: int, off_slab: bool) -> tuple[int, int]:
    """Objects in a slab of ``order`` and the bytes left over [cache_estimate]."""
    slab = PAGE_SIZE << order
    if off_slab:
        return slab // size, slab % size
    objects = (slab - SLAB_STRUCT) // (size + BUFCTL)
    management = round_up(SLAB_STRUCT + objects * BUFCTL, align)
    if management + objects * size > slab:
        objects -= 1
        management = round_up(SLAB_STRUCT + objects * BUFCTL, align)
    return objects, slab - objects * size - management


def calculate_slab_order(size: int, align: int, flags: int, off_slab: bool, break_order: int) -> tuple[int, int, int]:
    """(order, objects, bytes left over) of a cache's slabs; objects 0 when none fits [calculate_slab_order]."""
    best = (0, 0, 0)
    for order in range(MAX_GFP_ORDER + 1):
        objects, left = cache_estimate(order, size, align, off_slab)
        if not objects:
            continue
        if off_slab and objects > (size - SLAB_STRUCT) // BUFCTL:
            break
        best = (order, objects, left)
        if flags & sf.RECLAIM_ACCOUNT or order >= break_order or left * 8 <= PAGE_SIZE << order:
            break
    return best


def later_slabs(size: int, flags: int) -> list[tuple[int, int]]:
    """(order, objects) of a cache's slabs under SLAB of 4.6 to 6.7, for each way to keep the list of free objects.

    It lies in a free object where that is large enough, else off the slab, else behind the objects; which of the last
    two depends on debugging, constructors and RCU [mm/slab.c of 4.6: set_objfreelist_slab_cache, set_off_slab_cache,
    set_on_slab_cache, calculate_slab_order]. An index of the list takes a byte with pages of 4 kB.
    """
    found = []
    for own_byte in (0, 1):
        for order in range(MAX_GFP_ORDER + 1):
            objects = (PAGE_SIZE << order) // (size + own_byte)
            if objects > LATER_MOST:
                break
            left = (PAGE_SIZE << order) - objects * (size + own_byte)
            last = flags & sf.RECLAIM_ACCOUNT or order >= LATER_MAX_ORDER or left * 8 <= PAGE_SIZE << order
            if objects and last:
                found.append((order, objects))
                break
    return found


def array_limits(buffer_size: int, options: SlabOptions) -> tuple[int, int, int]:
    """(limit, batchcount, shared factor) of a cache's per-CPU arrays [enable_cpucache]."""
    limit = next((entries for bound, entries in LIMIT_STEPS if buffer_size > bound), 120)
    shared = 8 if buffer_size <= PAGE_SIZE and options.cpus_possible > 1 else 0
    return limit, (limit + 1) // 2, shared


def _geometry(
    request: CacheRequest,
    size: int,
    align: int,
    order: int,
    objects: int,
    left: int,
    off_slab: bool,
    options: SlabOptions,
) -> SlabGeometry:
    """Management, colour and arrays for a chosen order: the second half of kmem_cache_create."""
    management = round_up(objects * BUFCTL + SLAB_STRUCT, align)
    if off_slab and left >= management:
        off_slab = False
        left -= management
    if off_slab:
        management = objects * BUFCTL + SLAB_STRUCT
    colour_off = max(options.cache_line, align)
    limit, batchcount, shared = array_limits(size, options)
    return SlabGeometry(
        name=request.name,
        buffer_size=size,
        gfporder=order,
        num=objects,
        colour=left // colour_off,
        colour_off=colour_off,
        off_slab=off_slab,
        mgmt_size=management,
        mgmt_cache=kmalloc_size(management, options) if off_slab else 0,
        limit=limit,
        batchcount=batchcount,
        shared=shared,
        shared_limit=shared * batchcount,
        free_limit=(1 + options.cpus_node) * batchcount + objects,
        flags=request.flags,
        ctor=request.ctor,
    )


def slab_geometry(request: CacheRequest, options: SlabOptions, early: bool = False) -> SlabGeometry:
    """Layout of a SLAB cache [mm/slab.c: kmem_cache_create]; ``early``: before slab_early_init is cleared.

    Raises ValueError when no order holds an object.
    """
    size = round_up(request.size, 8)
    align = 8
    if request.flags & sf.HWCACHE_ALIGN:
        align = options.cache_line
        while size <= align // 2:
            align //= 2
    align = max(align, request.align)
    off_slab = size >= OFF_SLAB_FROM and not early
    size = round_up(size, align)
    order, objects, left = calculate_slab_order(size, align, request.flags, off_slab, options.break_order)
    if not objects:
        raise ValueError(f"cache {request.name!r}: no slab holds an object of {size} bytes")
    return _geometry(request, size, align, order, objects, left, off_slab, options)


def boot_caches(options: SlabOptions, kmem_cache_size: int) -> list[SlabGeometry]:
    """The caches of the boot in creation order [kmem_cache_init]: descriptors, then the kmalloc sizes.

    The kmalloc caches that hold an array_cache and a kmem_list3 come first and are laid out early.
    ``kmem_cache_size`` is the size of a cache descriptor in bytes.
    """
    line = options.cache_line
    size = round_up(kmem_cache_size, line)
    order, objects, left = 0, 0, 0
    while not objects:
        objects, left = cache_estimate(order, size, line, False)
        order += 1
    caches = [_geometry(CacheRequest("kmem_cache", size), size, line, order - 1, objects, left, False, options)]
    first = [kmalloc_size(ARRAY_CACHE + 8, options), kmalloc_size(KMEM_LIST3, options)]
    for slot in first + [slot for slot in kmalloc_sizes(options.l1) if slot not in first]:
        request = CacheRequest(f"size-{slot}", slot, 8, sf.HWCACHE_ALIGN | sf.PANIC)
        caches.append(slab_geometry(request, options, early=slot in first))
    return caches


# ------------------------------------------------------------------------------------------------------- SLOB


@dataclass(frozen=True)
class SlobGeometry:
    """What SLOB keeps of a cache: bytes asked of slob_alloc, alignment, list, page order (-1 within a page)."""

    name: str
    size: int
    align: int
    list_class: str
    page_order: int
    flags: int = 0
    ctor: bool = False


def slob_class(size: int) -> str:
    """The list that serves ``size`` bytes: small < 256, medium < 1024, large < 4096, else pages [slob_alloc]."""
    if size < 256:
        return "small"
    if size < 1024:
        return "medium"
    return "large" if size < PAGE_SIZE else "pages"


def slob_geometry(request: CacheRequest, l1_cache_bytes: int) -> SlobGeometry:
    """Size and alignment of a SLOB cache [mm/slob.c: kmem_cache_create, kmem_cache_alloc_node]."""
    size = request.size + (SLOB_RCU if request.flags & sf.DESTROY_BY_RCU else 0)
    align = max(l1_cache_bytes if request.flags & sf.HWCACHE_ALIGN else 0, 8, request.align)
    order = get_order(size) if size >= PAGE_SIZE else -1
    return SlobGeometry(request.name, size, align, slob_class(size), order, request.flags, request.ctor)


def slob_kmalloc(size: int) -> tuple[int, int]:
    """(bytes asked of slob_alloc, -1) or (0, page order) of kmalloc(``size``) [mm/slob.c: __kmalloc_node]."""
    if size < PAGE_SIZE - 8:
        return size + 8, -1
    return 0, get_order(size)

"""What-ifs that lay every cache out anew: debugged slots, and pages of another size."""

import dataclasses
import re

from fastalloc.errors import InputError
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as se
from fastalloc.linux.geometry_slub import CacheRequest, calculate_sizes
from fastalloc.linux.slub_boot import parse_boot_options
from fastalloc.trace.lanes.caches import TracedCache, traced_order
from fastalloc.trace.lanes.start import PERCPU_SHEAVES

PAGE_SIZES = {"4k": 12, "16k": 14, "64k": 16}
_BUCKET = re.compile(r"-[0-9]+k?$")  # of kmem_buckets_create, such as msg_msg-64, which aligns to nothing
_KMALLOC = re.compile(r"(?:dma-)?kmalloc-(?:rcl-|cg-|rnd-[0-9]+-)?[0-9]+k?")


def page_sized(word: str, value: str, options: se.SlubOptions) -> se.SlubOptions:
    """``options`` for pages of ``value``, such as ``64k``.

    Raises:
        InputError: no kernel has such pages.
    """
    shift = PAGE_SIZES.get(value.lower().removesuffix("b"))
    if shift is None:
        raise InputError("--what-if", word, f"pages are {', '.join(PAGE_SIZES)}")
    return dataclasses.replace(options, page_shift=shift)


def debug_flags(word: str, value: str, options: se.SlubOptions) -> int:
    """The flags that ``slub_debug=VALUE`` sets for every cache; without letters all of FZPU.

    Raises:
        InputError: a letter that is none of them.
    """
    if not re.fullmatch("[FZPUTfzput]*", value):
        raise InputError("--what-if", word, "needs letters of F Z P U T, such as debug=FZPU")
    return parse_boot_options(f"slub_debug={value}", options.era).slub_debug


def debugged(word: str, cache: TracedCache, flags: int, options: se.SlubOptions) -> TracedCache:
    """``cache`` with red zones, poison or owners in its slots, as ``flags`` say.

    A debugged cache has neither a CPU's slab nor sheaves: each object comes from a slab on the node's list under
    list_lock [kmem_cache_debug, alloc_single_from_partial of 6.1 on]. Where no table tells the alignment that it was
    created with, a slot of whole cache lines is taken for SLAB_HWCACHE_ALIGN, any other for the least that it can be.

    Raises:
        InputError: no slab holds such a slot.
    """
    cache = cache._replace(cpu_partial=0, era=PERCPU_SHEAVES, sheaf_capacity=0)
    if not flags & sf.DEBUG_METADATA:
        return cache  # what checks alone need is outside the slot
    kmalloc = _KMALLOC.fullmatch(cache.name) is not None
    size = cache.size if kmalloc else cache.object_size
    align = _alignment(cache, size, kmalloc, options)
    plain = calculate_sizes(CacheRequest(cache.name, size, align), dataclasses.replace(options, slub_debug=0))
    # a free pointer behind the object: SLAB_TYPESAFE_BY_RCU or a constructor
    request = CacheRequest(cache.name, size, align, ctor=not kmalloc and plain.size < cache.size)
    try:
        laid = calculate_sizes(request, dataclasses.replace(options, slub_debug=flags), kmalloc=kmalloc)
    except ValueError as error:
        raise InputError("--what-if", f"{word}: cache {cache.name}", str(error)) from None
    return cache._replace(
        size=laid.size,
        order=traced_order(laid.order, options),
        objects=laid.objects,
        min_partial=laid.min_partial,
    )


def _alignment(cache: TracedCache, size: int, kmalloc: bool, options: se.SlubOptions) -> int:
    if cache.align:
        return cache.align
    if kmalloc:
        return se.kmalloc_align(size, options)
    plain = dataclasses.replace(options, slub_debug=0)
    whole_lines = cache.size % options.cache_line == 0 and not _BUCKET.search(cache.name)
    line = options.cache_line if whole_lines else 0
    for align in (line, *(1 << shift for shift in range(3, 13))):
        for ctor in (False, True):
            if align and calculate_sizes(CacheRequest(cache.name, size, align, ctor=ctor), plain).size == cache.size:
                return align
    return min(cache.size & -cache.size, options.cache_line)


def never_merged(flags: int, options: se.SlubOptions) -> bool:
    """Whether caches with these debug flags stay apart [SLAB_NEVER_MERGE]."""
    return bool(flags & (options.rules.never_merge | sf.NO_MERGE))

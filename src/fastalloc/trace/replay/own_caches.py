"""What-ifs of one more cache: for a caller of its own, or a kmalloc size that the kernel lacks.

Objects from before the trace stay in the slabs that they are in: only what the trace allocates goes to the new cache.
"""

import dataclasses
import re

import polars as pl

from fastalloc.errors import InputError
from fastalloc.linux import slub_eras as se
from fastalloc.trace.compact.call_sites import function_of
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.compact.infer import KMALLOC_MAX, LARGE
from fastalloc.trace.lanes.caches import TracedCache, laid_out, with_sheaves
from fastalloc.trace.lanes.lane import Config
from fastalloc.trace.lanes.start import PERCPU_SHEAVES

ALIGN = 8  # ARCH_KMALLOC_MINALIGN of x86-64 [include/linux/slab.h], and what kmem_cache_create aligns to without a flag
_OWN = re.compile(r"(?P<site>[\w.]+)(?::(?P<size>[0-9]{1,7}))?", re.ASCII)
_SIZED = re.compile(r"((?:dma-)?kmalloc-(?:rcl-|cg-|rnd-[0-9]+-)?)[0-9]+k?")
_ALLOCATES = ("kmalloc", "kmalloc_node", "kmem_cache_alloc", "kmem_cache_alloc_node")


def own_cache(word: str, value: str, config: Config, trace: CompactTrace, options: se.SlubOptions) -> Config:
    """``own=FUNCTION[:SIZE]``: what a function allocates comes from a cache of its own, and from no other.

    SIZE: bytes of an object; by default the largest that the function asked for.

    Raises:
        InputError: no such function allocates in the trace, or SIZE is smaller than what it asked for.
    """
    found = _OWN.fullmatch(value)
    if found is None:
        raise InputError("--what-if", word, "must be own=FUNCTION or own=FUNCTION:SIZE, such as own=alloc_pipe_info")
    kinds = _kinds(trace)
    kinds = kinds.filter(
        pl.Series([function_of(site) == found["site"] for site in kinds["call_site"]], dtype=pl.Boolean)
    )
    if kinds.is_empty():
        raise InputError("--what-if", word, "no such function allocates; see `fastalloc trace info --by call-site`")
    kinds = kinds.filter(pl.col("cache") != LARGE)
    most = kinds["bytes_req"].max() if len(kinds) else None
    if not isinstance(most, int):
        raise InputError("--what-if", word, f"it asks for more than {KMALLOC_MAX:,} bytes: pages, no slabs")
    size = int(found["size"] or most)
    if size < most:
        raise InputError("--what-if", word, f"it asks for up to {most:,} bytes")
    return _with_cache(config, f"own:{found['site']}", size, kinds["kind"].to_list(), options, word)


def sized_cache(word: str, size: int, config: Config, trace: CompactTrace, options: se.SlubOptions) -> Config:
    """``size=N``: a kmalloc size of N bytes, for each type of kmalloc cache that has requests which it fits better.

    Raises:
        InputError: N is no kmalloc size, or there is one already.
    """
    if not 8 <= size <= KMALLOC_MAX or size % ALIGN:
        raise InputError("--what-if", word, f"needs bytes from 8 to {KMALLOC_MAX:,}, a multiple of {ALIGN}")
    kinds = _kinds(trace).with_columns(family=pl.col("cache").str.extract(rf"^{_SIZED.pattern}$", 1))
    fitting = kinds.filter(
        pl.col("family").is_not_null() & (pl.col("bytes_req") <= size) & (pl.col("bytes_alloc") > size)
    )
    if (kinds.filter(pl.col("family").is_not_null())["bytes_alloc"] == size).any():
        raise InputError("--what-if", word, "there is a kmalloc cache of this size already")
    for (family,), part in fitting.group_by("family", maintain_order=True):
        config = _with_cache(config, f"{family}{size}", size, part["kind"].to_list(), options, word)
    if fitting.is_empty():
        raise InputError("--what-if", word, "no request of the trace would fit it better than the cache that it has")
    return config


def _kinds(trace: CompactTrace) -> pl.DataFrame:
    """The kinds of events that allocate an object."""
    return trace.kinds.with_row_index("kind").filter(pl.col("src").is_in(_ALLOCATES))


def _with_cache(config: Config, name: str, size: int, kinds: list[int], options: se.SlubOptions, word: str) -> Config:
    names = {cache.name for cache in config.caches}
    if name in names:
        raise InputError("--what-if", word, f"there is a cache {name} already")
    era = next((cache.era for cache in config.caches), "cpu-partial")
    slot = -(-size // ALIGN) * ALIGN
    rules = dataclasses.replace(options, era=era) if era == PERCPU_SHEAVES else options
    try:
        made: list[TracedCache] = [laid_out(name, slot, size, rules, era)]
    except ValueError as error:
        raise InputError("--what-if", word, str(error)) from None
    if era == PERCPU_SHEAVES:
        made = with_sheaves(made, rules)
    return dataclasses.replace(config, caches=[*config.caches, *made], split=config.split | dict.fromkeys(kinds, name))

"""Other configurations of the traced kernel: what the caches would be had it been booted or built otherwise."""

import dataclasses
import itertools
import math
import re
from pathlib import Path
from typing import Any

import polars as pl

from fastalloc.errors import InputError, meant
from fastalloc.linux import slub_eras as se
from fastalloc.linux.slub_boot import read_boot_line
from fastalloc.linux.versions import kernel_of
from fastalloc.own.allocator_text import is_allocator, own_source, read_allocator, read_own
from fastalloc.own.text import refuse_in_replay, refuse_parameters
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.lanes.caches import REPLAYED, TracedCache, era_of_cache, laid_out, traced_order, with_sheaves
from fastalloc.trace.lanes.lane import Config
from fastalloc.trace.lanes.start import PERCPU_SHEAVES
from fastalloc.trace.replay.laid_out_anew import debug_flags, debugged, never_merged, page_sized
from fastalloc.trace.replay.own_caches import own_cache, sized_cache

AS_TRACED = "as traced"
ALLOCATORS = ("slub", "slab")
MOST_CONFIGS = 10_000  # of a grid
KNOWN = (
    "nomerge, merge, allocator=slab, kernel=VERSION, era=2.6.25|cpu-partial|sheaves|7.3, cpu_partial=SLABS, order=MAX, "
    "min_order=MIN, min_partial=SLABS, sheaf_capacity=OBJECTS, max_full_sheaves=N, max_empty_sheaves=N, "
    "own=FUNCTION[:SIZE], size=BYTES, debug=FZPU, page_size=16k|64k, policy=FILE.py, allocator=FILE.py, "
    "policy.PARAMETER=N"
)


def as_traced(caches: list[TracedCache]) -> Config:
    """The traced kernel itself."""
    return Config(AS_TRACED, caches, {}, frozenset(cache.name for cache in caches), {})


def what_if(
    text: str, base: Config, trace: CompactTrace, options: se.SlubOptions, shared: set[str], aliases: dict[str, str]
) -> Config:
    """The configuration that ``text`` asks for: settings joined by commas, see KNOWN.

    ``shared``: caches that several names were merged into; ``aliases``: what would merge into what. Raises
    InputError for a setting unknown or a value that is no number.
    """
    config = dataclasses.replace(base, name=text)
    change: dict[str, Any]
    policy, parameters = None, {}
    for word in text.split(","):
        key, _, value = (part.strip() for part in word.partition("="))
        if key == "page_size":  # for the words before it too
            options = page_sized(word, value, options)
            config = _with(config, [_laid_out(cache, options, whole=True) for cache in config.caches])
    for word in text.split(","):
        key, _, value = (part.strip() for part in word.partition("="))
        if key == "page_size":
            continue
        if key == "nomerge" and not value:
            config = _split(config, trace, shared)
        elif key == "merge" and not value:
            config = _merged(config, aliases)
        elif key in ("policy", "allocator") and policy and value.endswith(".py"):
            raise InputError("--what-if", word, f"is a second file beside {policy}: a configuration runs one")
        elif key == "policy":
            policy = Path(value)
        elif key.startswith("policy."):
            parameters[key.removeprefix("policy.")] = _signed(word, value)
        elif key == "allocator" and value.endswith(".py"):
            policy = Path(value)
            config = dataclasses.replace(config, allocator="own")
        elif key == "allocator":
            if value not in ALLOCATORS:
                raise InputError(
                    "--what-if", word, f"no such allocator{meant(value, ALLOCATORS)}; known are {', '.join(ALLOCATORS)}"
                )
            config = dataclasses.replace(config, allocator=value)
        elif key == "era":
            if value not in REPLAYED:
                raise InputError(
                    "--what-if", word, f"no such era{meant(value, REPLAYED)}; known are {', '.join(REPLAYED)}"
                )
            caches = [cache._replace(era=value) for cache in config.caches]
            if value == PERCPU_SHEAVES:
                rules = dataclasses.replace(options, era=value, slub_max_order=None, slub_min_objects=None)
                caches = with_sheaves(caches, rules)
            config = _with(config, caches)
        elif key == "kernel":
            config = _with(config, _of_kernel(word, value, config.caches, options))
        elif key in _SHEAF_KEYS:
            number = _number(word, value)
            if not any(cache.era == PERCPU_SHEAVES and cache.sheaf_capacity for cache in config.caches):
                raise InputError("--what-if", word, "no cache has sheaves under these rules; see kernel=7.3")
            if key == "sheaf_capacity" and not 1 <= number <= MOST_CAPACITY:
                raise InputError("--what-if", word, f"a sheaf holds 1 to {MOST_CAPACITY} objects")
            change = {_SHEAF_KEYS[key]: number}
            config = _with(config, [c._replace(**change) if c.sheaf_capacity else c for c in config.caches])
        elif key == "debug":
            flags = debug_flags(word, value, options)
            if never_merged(flags, options):
                config = _split(config, trace, shared)
            config = _with(config, [debugged(word, cache, flags, options) for cache in config.caches])
        elif key == "own":
            config = own_cache(word, value, config, trace, options)
        elif key == "size":
            config = sized_cache(word, _number(word, value), config, trace, options)
        elif key in ("cpu_partial", "min_partial"):
            change = {key: _number(word, value)}
            config = _with(config, [cache._replace(**change) for cache in config.caches])
        elif key in ("order", "min_order"):
            number = _number(word, value)
            if key == "order":
                asked = dataclasses.replace(options, slub_max_order=number)
            else:
                asked = dataclasses.replace(options, slub_min_order=number)
            config = _with(config, [_laid_out(cache, asked) for cache in config.caches])
        else:
            names = [re.split(r"[=\[]", each)[0] for each in KNOWN.split(", ")]
            raise InputError("--what-if", word, f"is not known{meant(key, names)}; there are {KNOWN}")
    if options.page_shift != se.PAGE_SHIFT and config.allocator != "slub":
        raise InputError("--what-if", text, "SLAB and allocators of one's own are replayed with pages of 4 kB")
    return _with_policy(config, policy, parameters)


def _with_policy(config: Config, file: Path | None, parameters: dict[str, int]) -> Config:
    """``config`` under the policy of a file of one's own."""
    if file is None:
        if parameters:
            raise InputError("--what-if", config.name, "sets parameters of a policy, but names none: policy=FILE.py")
        return config
    if config.allocator not in ("slub", "own"):
        raise InputError("--what-if", config.name, f"a policy is asked of SLUB, not of {config.allocator!r}")
    source = own_source(file)
    if config.allocator == "own":
        read_allocator(source, str(file))
    elif is_allocator(source):
        raise InputError(file, "", f"is an allocator: name it as --what-if allocator={file}")
    return with_own_file(config, source, str(file), parameters)


def with_own_file(config: Config, source: str, file: str, parameters: dict[str, int]) -> Config:
    """``config`` under a file of one's own, whose text is ``source``: a policy or an allocator, by what it defines.

    Raises:
        InputError: it is neither, a replay does not ask it of these caches, or it has no such parameters.
    """
    text = read_own(source, file)
    if is_allocator(source):
        config = dataclasses.replace(config, allocator="own", no_sheaf_memory=True)
    else:
        refuse_in_replay(text, {cache.era for cache in config.caches})
    refuse_parameters(text, parameters)
    return dataclasses.replace(config, policy=(source, file, parameters))


def _signed(word: str, value: str) -> int:
    if not value.removeprefix("-").isdecimal() or len(value) > 18:
        raise InputError("--what-if", word, "needs a whole number, such as policy.grow_at=8")
    return int(value)


def grid(axes: list[str]) -> list[str]:
    """The what-ifs of a grid: one for each combination of the values of its axes.

    An axis is KEY=VALUE,VALUE,...; InputError for any other text, and for more than MOST_CONFIGS.
    """
    values = []
    for axis in axes:
        key, equals, texts = axis.partition("=")
        if not (key.strip() and equals and all(text.strip() for text in texts.split(","))):
            raise InputError("--grid", axis, "must be KEY=VALUE,VALUE,..., such as cpu_partial=0,2,6")
        values.append([f"{key.strip()}={text.strip()}" for text in texts.split(",")])
    count = math.prod(map(len, values))
    if count > MOST_CONFIGS:
        raise InputError("--grid", " ".join(axes), f"{count:,} configurations; at most {MOST_CONFIGS:,} are replayed")
    return [",".join(words) for words in itertools.product(*values)] if values else []


def with_grid(what_ifs: list[str], axes: list[str]) -> list[str]:
    """``what_ifs``, then those of the grid; where an axis is a parameter and none names a file, the grid is of each
    what-if that does."""
    keys = [axis.partition("=")[0].strip() for axis in axes]
    points = grid(axes)
    if not any(key.startswith("policy.") for key in keys) or {"policy", "allocator"} & set(keys):
        return [*what_ifs, *points]
    files = [text for text in what_ifs if any(word.strip().endswith(".py") for word in text.split(","))]
    if not files:
        raise InputError("--grid", axes[0], "is a parameter, but no --what-if names a file: policy=FILE.py")
    return [*what_ifs, *(f"{text},{point}" for text in files for point in points)]


def _number(word: str, value: str) -> int:
    key = word.partition("=")[0]
    if not value.isdecimal() or len(value) > 7 or int(value) > 1 << 20:
        raise InputError("--what-if", word, f"needs a whole number from 0 to {1 << 20:,}, such as {key}=2")
    return int(value)


def _with(config: Config, caches: list[TracedCache]) -> Config:
    """``caches`` instead of those of ``config``; where the layout changed the start state does not fit as it was."""
    same = frozenset(
        after.name
        for before, after in zip(config.caches, caches, strict=True)
        if before.name in config.exact
        and (before.order, before.objects) == (after.order, after.objects)
        and (before.era, after.era) in _KEEPS_START
        and (after.cpu_partial > 0 or after.era == PERCPU_SHEAVES)
    )
    # Where sheaves are not as they were, the recorded calls for their memory are not the right ones.
    own = config.own_sheaf_memory or any(
        after.era == PERCPU_SHEAVES and _sheaves_of(before) != _sheaves_of(after)
        for before, after in zip(config.caches, caches, strict=True)
    )
    left = any(before.era == PERCPU_SHEAVES != after.era for before, after in zip(config.caches, caches, strict=True))
    return dataclasses.replace(
        config, caches=caches, exact=same, own_sheaf_memory=own, no_sheaf_memory=config.no_sheaf_memory or left
    )


_KEEPS_START = (("cpu-partial", "cpu-partial"), (PERCPU_SHEAVES, PERCPU_SHEAVES))
_SHEAF_KEYS = {
    "sheaf_capacity": "sheaf_capacity",
    "max_full_sheaves": "max_full",
    "max_empty_sheaves": "max_empty",
}
MOST_CAPACITY = 1020  # whose sheaf is the largest kmalloc object, 8 KiB


def _sheaves_of(cache: TracedCache) -> tuple[Any, ...]:
    return cache.era, cache.sheaf_capacity, cache.max_full, cache.max_empty


def _of_kernel(word: str, version: str, caches: list[TracedCache], booted: se.SlubOptions) -> list[TracedCache]:
    """The caches laid out and moved by the rules of another kernel, booted on the same CPUs with its defaults."""
    try:
        kernel = kernel_of(version)
        machine = {"cpus_present": booted.cpus_present, "page_shift": booted.page_shift}
        options = read_boot_line("", kernel.version, **machine).options
    except ValueError as error:
        raise InputError("--what-if", word, str(error)) from None
    made = []
    for cache in caches:
        try:
            made.append(laid_out(cache.name, cache.size, cache.object_size, options, era_of_cache(cache.name, kernel)))
        except ValueError as error:
            raise InputError("--what-if", f"cache {cache.name}", str(error)) from None
    return with_sheaves(made, options) if kernel.era == PERCPU_SHEAVES else made


def _laid_out(cache: TracedCache, options: se.SlubOptions, whole: bool = False) -> TracedCache:
    """``cache`` of another order; ``whole``: with the sheaves that go with it too."""
    try:
        order = se.calculate_order(cache.size, options)
    except ValueError as error:
        raise InputError("--what-if", f"cache {cache.name}", str(error)) from None
    objects = (options.page_size << order) // cache.size
    wanted = se.cpu_partial(cache.size, 0, options) if cache.cpu_partial else 0
    laid = cache._replace(
        order=traced_order(order, options),
        objects=objects,
        cpu_partial=se.cpu_partial_slabs(wanted, objects) if wanted else 0,
    )
    return with_sheaves([laid], options)[0] if whole and laid.sheaf_capacity else laid


def _split(config: Config, trace: CompactTrace, shared: set[str]) -> Config:
    """A cache for each function that allocates from a shared one; kmalloc keeps the cache's name.

    The trace names only the cache that stands for all: the functions are the nearest it says of who was merged.
    """
    split = dict(config.split)
    caches = list(config.caches)
    by_name = {cache.name: cache for cache in caches}
    allocs = trace.kinds.with_row_index("kind").filter(
        pl.col("cache").is_in(sorted(shared)) & (pl.col("src") == "kmem_cache_alloc")
    )
    for kind, name, site in allocs.select("kind", "cache", "call_site").iter_rows():
        if name not in by_name:
            continue
        own = f"{name}@{site.split('+')[0]}"
        split[kind] = own
        if own not in by_name:
            by_name[own] = by_name[name]._replace(name=own)
            caches.append(by_name[own])
    return dataclasses.replace(config, caches=caches, split=split)


def _merged(config: Config, aliases: dict[str, str]) -> Config:
    """Caches joined as ``aliases`` says."""
    if not aliases:
        raise InputError(
            "--what-if", "merge", "needs a --geometry table with the column alias_of of a kernel that merges"
        )
    names = {cache.name for cache in config.caches}
    goes_to = {name: stands for name, stands in aliases.items() if name in names and stands in names}
    caches = [cache for cache in config.caches if cache.name not in goes_to]
    exact = config.exact - set(goes_to) - set(goes_to.values())
    return dataclasses.replace(config, caches=caches, goes_to=goes_to, exact=exact)


__all__ = ["AS_TRACED", "KNOWN", "as_traced", "grid", "what_if", "with_own_file"]

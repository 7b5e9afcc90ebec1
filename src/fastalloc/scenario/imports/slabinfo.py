"""The slab caches of a kernel, from /proc/slabinfo and /sys/kernel/slab, together or alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastalloc.errors import InputError
from fastalloc.linux.geometry_slub import CacheRequest, calculate_sizes
from fastalloc.linux.slabinfo import SlabRow
from fastalloc.linux.slub_eras import SlubOptions
from fastalloc.scenario.imports.texts import CACHE_LINE, Source
from fastalloc.scenario.machine import SLAB_FLAG_BITS


def allocator(rows: Sequence[SlabRow], source: Source) -> str | None:
    """``slab`` or ``slub``, where the input tells: SLUB has a sysfs folder and no arrays to tune."""
    if source.slab_dirs or (rows and all(row.limit == 0 for row in rows)):
        return "slub"
    return "slab" if rows else None


def page_bytes(rows: Sequence[SlabRow]) -> int | None:
    """The smallest page of 4, 16 or 64 kB in which the objects of every slab fit; None where a page of 4 kB does."""
    need = max(
        (-(-row.objects_a_slab * row.object_size // row.pages_a_slab) for row in rows if row.pages_a_slab), default=0
    )
    if need <= 4096:
        return None
    return next((size for size in (16384, 65536) if need <= size), None)


def slab_caches(source: Source, rows: Sequence[SlabRow], said: list[str], rules: SlubOptions) -> list[dict[str, Any]]:
    """The caches as fields of ``SlabCache``, oldest first; what was not told goes to ``said``.

    ``rules``: the kernel and its machine, whose layout tells which caches must have had a constructor.

    Raises:
        InputError: a folder of /sys/kernel/slab lacks a number.
    """
    if not source.slab_dirs:
        if rows:
            said.append("no /sys/kernel/slab: alignment, flags and constructors of caches not told, none assumed")
            said.append("object sizes are what an object takes in its slab, as slabinfo tells them")
        of = {row.name: row for row in reversed(rows)}  # in the order of the oldest of a name
        if len(of) < len(rows):
            said.append(f"{len(rows) - len(of)} caches of slabinfo bear a name that another has; the newest is kept")
        return [
            {"name": row.name, "object_size": max(1, row.object_size), "align": 0, "flags": [], "ctor": False}
            for row in of.values()
        ]
    if not rows:
        said.append("no slabinfo: the order in which caches were created is not told, that of their names assumed")
    aliases: dict[str, list[str]] = {}
    for alias, folder in source.slab_links.items():
        aliases.setdefault(folder, []).append(alias)
    rank = {row.name: age for age, row in enumerate(reversed(rows))}  # slabinfo lists the newest first
    caches = []
    for folder, values in source.slab_dirs:
        known = [folder, *aliases.get(folder, [])]
        name = next((alias for alias in known if alias in rank), known[-1])
        caches.append(_from_folder(name, folder, values, source, rules))
    return sorted(caches, key=lambda cache: (rank.get(cache["name"], len(rank)), cache["name"]))


def _number(source: Source, folder: str, values: dict[str, str], field: str) -> int:
    try:
        return int(values[field].split()[0])
    except (KeyError, ValueError, IndexError):
        raise InputError(source.path, f"/sys/kernel/slab/{folder}/{field}", "missing or not a number") from None


def _from_folder(name: str, folder: str, values: dict[str, str], source: Source, rules: SlubOptions) -> dict[str, Any]:
    number = partial(_number, source, folder, values)
    size, align = number("object_size"), number("align")
    flags = [flag for flag in SLAB_FLAG_BITS if values.get(flag, "0") not in ("0", "")]
    if "ctor" in values:
        ctor = values["ctor"] != ""
    else:
        ctor = _constructed(CacheRequest(name, size, align), number("slab_size"), folder, flags, source, rules)
    cache = {"name": name, "object_size": size, "align": align, "flags": flags, "ctor": ctor}
    if "sheaf_capacity" in values:
        cache["sheaf_capacity"] = number("sheaf_capacity")
    return cache


def _constructed(
    request: CacheRequest, slot: int, folder: str, flags: Sequence[str], source: Source, rules: SlubOptions
) -> bool:
    """Whether a cache must have had a constructor, where no file tells.

    A folder under the cache's own name is never merged. Its slot tells where it is as large as the rules have it with a
    constructor and larger than without one. Where the padding hides that, nothing but a constructor kept the cache
    apart in a kernel that merges and has no usercopy windows yet (before 4.16), unless a flag that shows does.
    """
    if folder.startswith((":", "kmalloc-")):
        return False
    bits = sum(SLAB_FLAG_BITS[flag] for flag in flags)
    plain, built = (calculate_sizes(replace(request, flags=bits, ctor=ctor), rules).size for ctor in (False, True))
    if built != slot:
        return False
    merging = any(name.startswith(":") for name, _ in source.slab_dirs)
    apart = merging and not rules.rules.usercopy and not bits & rules.rules.never_merge
    return plain != slot or apart


def cache_line(source: Source) -> int | None:
    """The line size that the kernel told, or that the slot sizes of line-aligned caches betray, or None."""
    told = source.files.get(CACHE_LINE, "").strip()
    if told.isdigit():
        return int(told)
    for line in (128, 64, 32):
        sizes = [
            _number(source, folder, values, "slab_size")
            for folder, values in source.slab_dirs
            if values.get("hwcache_align") == "1" and _number(source, folder, values, "object_size") > line
        ]
        if sizes and all(size % line == 0 for size in sizes):
            return line
    return None

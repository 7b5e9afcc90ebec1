"""A table of /proc/slabinfo beside the rules: which rows agree, and what would explain those that do not."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastalloc.explain.caches.setting import PAGE_SIZES, Setting
from fastalloc.linux import geometry_slab as slab
from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slub import CacheRequest, calculate_sizes
from fastalloc.linux.release import BASES, base_name
from fastalloc.linux.slabinfo import SlabRow
from fastalloc.linux.slub_eras import SlubOptions, calculate_order, kmalloc_align, kmalloc_sizes
from fastalloc.linux.slub_layouts import ERAS, layout_of
from fastalloc.linux.versions import kernel_of

CPU_CLASSES = tuple((1 << n, (1 << (n + 1)) - 1) for n in range(13))  # that fls() does not tell apart
_KMALLOC = re.compile(r"(?:dma-)?kmalloc(?:_dma)?(?:-(?:rcl|cg|dma|rnd-\d+|part-\d+))?-(\d+)([kM]?)(?:\(.*\))?")
_DEBUG = (
    (sf.RED_ZONE, "Z", "red zones"),
    (sf.STORE_USER, "U", "user tracking"),
    (sf.RED_ZONE | sf.STORE_USER, "ZU", "red zones and user tracking"),
    (sf.POISON, "P", "poisoning"),
    (sf.RED_ZONE | sf.POISON, "ZP", "red zones and poisoning"),
    (sf.POISON | sf.STORE_USER, "PU", "poisoning and user tracking"),
    (sf.RED_ZONE | sf.POISON | sf.STORE_USER, "FZPU", "full debugging"),
)


@dataclass(frozen=True)
class Row:
    """A row as posted, and as the rules have it: slot in bytes, 0 where it does not follow from the name."""

    posted: SlabRow
    slot: int
    order: int
    objects: int
    causes: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether slot (where the rules tell it), objects and pages of a slab are as posted."""
        return (
            self.slot in (0, self.posted.object_size)
            and self.objects == self.posted.objects_a_slab
            and 1 << self.order == self.posted.pages_a_slab
        )

    def record(self) -> dict[str, Any]:
        """As plain data."""
        row = self.posted
        return {
            "cache": row.name, "agrees": self.agrees, "slot": row.object_size, "objects_a_slab": row.objects_a_slab,
            "pages_a_slab": row.pages_a_slab, "objects": row.objects, "active": row.active, "slabs": row.slabs,
            "rules": {"slot": self.slot or None, "objects_a_slab": self.objects, "pages_a_slab": 1 << self.order},
            "causes": list(self.causes),
        }  # fmt: skip


def kmalloc_bytes(name: str) -> int:
    """Bytes that a kmalloc cache is named after, 0 for another cache."""
    match = _KMALLOC.fullmatch(name)
    return int(match[1]) * {"": 1, "k": 1024, "M": 1 << 20}[match[2]] if match else 0


def kmalloc_minimum(rows: Sequence[SlabRow], page_size: int) -> int:
    """KMALLOC_MIN_SIZE: the smallest kmalloc cache of a table that has all of them, 8 where it has some or none.

    Up to 6.4 it is ARCH_KMALLOC_MINALIGN, since then dma_get_cache_alignment() may tell [mm/slab_common.c 6.5:
    new_kmalloc_cache]; no name of a machine does.
    """
    there = {kmalloc_bytes(row.name) for row in rows if re.fullmatch(r"kmalloc-\d+k?", row.name)}
    largest = (layout_of(version) for version in ("2.6.25", "2.6.30"))  # of a page, and of two
    known = {frozenset(kmalloc_sizes(rules, page_size, low)): low for rules in largest for low in (8, 16, 32, 64, 128)}
    return known.get(frozenset(there), 8)


def is_slab(rows: Sequence[SlabRow]) -> bool:
    """Whether the table is of SLAB, whose CPUs have arrays to tune."""
    return any(row.limit for row in rows)


def check(rows: Sequence[SlabRow], setting: Setting) -> list[Row]:
    """Each row beside the rules of ``setting``; of SLAB where the table is one of SLAB's."""
    if is_slab(rows):
        return [_slab_row(row, setting) for row in rows]
    options = setting.options
    return [_slub_row(row, options) for row in rows]


def _laid_out(row: SlabRow, options: SlubOptions) -> tuple[int, int, int]:
    """(slot or 0, order, objects): by the name of a kmalloc cache, else from the posted slot."""
    named = kmalloc_bytes(row.name)
    if named:
        request = CacheRequest(row.name, named, kmalloc_align(named, options))
        layout = calculate_sizes(request, options, kmalloc=True)
        return layout.size, layout.order, layout.objects
    order = calculate_order(row.object_size, options)
    return 0, order, (options.page_size << order) // row.object_size


def _slub_row(row: SlabRow, options: SlubOptions) -> Row:
    try:
        slot, order, objects = _laid_out(row, options)
    except ValueError:
        slot, order, objects = 0, 0, 0
    plain = Row(row, slot, order, objects, ())
    return plain if plain.agrees else replace(plain, causes=tuple(_causes(row, options)) or ("nothing known",))


def _agrees(row: SlabRow, options: SlubOptions) -> bool:
    try:
        return Row(row, *_laid_out(row, options), ()).agrees
    except ValueError:
        return False


def _causes(row: SlabRow, options: SlubOptions) -> Iterator[str]:
    """What would explain a row that does not agree, each alone."""
    need = -(-row.object_size * row.objects_a_slab // max(row.pages_a_slab, 1))
    if need > options.page_size:
        fits = [size for size in PAGE_SIZES if size >= need]
        yield f"pages of {fits[0] if fits else need} bytes or more: {row.objects_a_slab} objects do not fit otherwise"
    for size, shift in PAGE_SIZES.items():
        if size != options.page_size and size >= need and _agrees(row, replace(options, page_shift=shift)):
            yield f"pages of {size} bytes"
    yield from _debugging(row, options)
    counts = cpu_spans(lambda low: _agrees(row, replace(options, cpus_present=low)))
    if counts:
        yield f"{counts} CPUs"
    for name, field, values in (("max", "slub_max_order", range(5)), ("min", "slub_min_order", range(1, 4))):
        for order in values:
            if _agrees(row, replace(options, **{field: order})):  # type: ignore[arg-type]
                yield f"slub_{name}_order={order}"
                break
    kernels = kernels_that(lambda version: _agrees(row, replace(options, era=version)))
    if kernels:
        yield f"Linux {', '.join(kernels)}"


def cpu_spans(agrees: Callable[[int], bool]) -> str:
    """Numbers of CPUs for whose lowest of each class ``agrees`` holds: ``1-3 or 8-15``."""
    spans: list[tuple[int, int]] = []
    for low, high in CPU_CLASSES:
        if agrees(low):
            if spans and spans[-1][1] == low - 1:
                spans[-1] = (spans[-1][0], high)
            else:
                spans.append((low, high))
    return " or ".join(f"{low}-{high}" if low != high else str(low) for low, high in spans)


def _debugging(row: SlabRow, options: SlubOptions) -> Iterator[str]:
    named = kmalloc_bytes(row.name)
    if not named or named == row.object_size:
        return
    for flags, letters, words in _DEBUG:
        other = replace(options, slub_debug=flags, debug_blocks=())
        if _agrees(row, other):
            yield f"{words} (slub_debug={letters}): {_sum(named, flags, other)} = {row.object_size}"
            return


def _sum(size: int, flags: int, options: SlubOptions) -> str:
    """The parts of a debugged kmalloc slot."""
    align, parts = max(kmalloc_align(size, options), options.pointer), [str(size)]
    if flags & sf.RED_ZONE:
        parts.append(f"{options.pointer} red zone behind")
    if flags & sf.STORE_USER:
        parts.append(f"{2 * options.track + options.rules.kmalloc_orig_size} tracks")
    if flags & sf.RED_ZONE and options.rules.red_left_pad:
        parts.append(f"{sf.round_up(options.pointer, align)} red zone in front")
    return f"{' + '.join(parts)}, to a multiple of {align}"


def kernels_that(agrees: Callable[[str], bool]) -> list[str]:
    """Spans of versions, such as ``2.6.30-3.1``, for whose layout rules ``agrees`` holds."""
    spans: list[tuple[str, str]] = []
    firsts = list(ERAS)
    lasts = [base_name(BASES[BASES.index(_base(first)) - 1]) for first in firsts[1:]] + [base_name(BASES[-1])]
    before = False
    for first, last in zip(firsts, lasts, strict=True):
        fits = agrees(first)
        if fits and before:
            spans[-1] = (spans[-1][0], last)
        elif fits:
            spans.append((first, last))
        before = fits
    return [first if first == last else f"{first}-{last}" for first, last in spans]


def _base(version: str) -> tuple[int, int, int]:
    return kernel_of(version).release.base


def fitting(rows: Sequence[SlabRow], setting: Setting, kernel: bool, cpus: bool) -> tuple[Setting, str]:
    """The setting under which most rows agree, and a sentence on what was chosen and what fits as well.

    ``kernel``, ``cpus``: whether each is to be found; what is not stays as it is. With the kernel goes the debugging
    that the slots of kmalloc caches show, unless the boot line tells of any. Of several the least debugging, the newest
    kernel and the fewest CPUs are taken.
    """
    versions = [version for version in ERAS if _named_so(rows, version)] if kernel else [setting.kernel.version]
    counts = [low for low, _ in CPU_CLASSES] if cpus else [setting.cpus]
    named = [row for row in rows if kmalloc_bytes(row.name)]
    larger = any(kmalloc_bytes(row.name) != row.object_size for row in named)
    debugs = ["", *(letters for _, letters, _ in _DEBUG)] if kernel and larger and not _debugged(setting) else [""]
    others = _scores([row for row in rows if not kmalloc_bytes(row.name)], setting, versions, counts)
    scores = {
        (*of, letters): score + others[of]
        for letters in debugs
        for of, score in _scores(named, _with_debug(setting, letters), versions, counts).items()
    }
    best = max(scores.values())
    letters = next(each for each in debugs for v in versions for n in counts if scores[v, n, each] == best)
    version, count = next((v, n) for v in reversed(versions) for n in counts if scores[v, n, letters] == best)
    said = []
    if kernel:
        fits = kernels_that(lambda version: max(scores.get((version, n, letters), -1) for n in counts) == best)
        said.append(f"kernel not told: {', '.join(fits)} fit best, the rules of {version} shown")
    if letters:
        options = [each for each in debugs if scores[version, count, each] == best]
        said.append(f"debugging not told: slub_debug={' or '.join(options)} fits best")
    if cpus:
        said.append(f"CPUs not told: {cpu_spans(lambda low: scores.get((version, low, letters)) == best)} fit best")
    chosen = replace(_with_debug(setting, letters), kernel=kernel_of(version) if kernel else setting.kernel, cpus=count)
    return chosen, "; ".join(said)


def _debugged(setting: Setting) -> bool:
    options = setting.options
    return bool(options.slub_debug or options.debug_blocks)


def _with_debug(setting: Setting, letters: str) -> Setting:
    return replace(setting, boot=f"{setting.boot} slub_debug={letters}".strip()) if letters else setting


def _scores(
    rows: Sequence[SlabRow], setting: Setting, versions: Sequence[str], counts: Sequence[int]
) -> dict[tuple[str, int], int]:
    """How many rows agree under each version and number of CPUs."""
    scores: dict[tuple[str, int], int] = {}
    seen: dict[tuple[Any, ...], int] = {}
    for version in versions:
        for count in counts:
            options = replace(setting, kernel=kernel_of(version), cpus=count).options
            rules = layout_of(version)
            key = (rules.fractions, rules.lower_min_objects, rules.max_objects, options.max_order, options.min_objects,
                   rules.kmalloc_align, rules.kmalloc_order_rule, options.slub_debug, options.debug_blocks,
                   rules.red_left_pad, rules.track, rules.kmalloc_orig_size, rules.orig_size_freeptr,
                   rules.tiny_freeptr)  # fmt: skip
            if key not in seen:
                seen[key] = sum(_agrees(row, options) for row in rows)
            scores[version, count] = seen[key]
    return scores


def _named_so(rows: Sequence[SlabRow], version: str) -> bool:
    """Whether a kernel names its kmalloc caches as the table does: kmalloc-1k since 4.20, kmalloc-1024 before."""
    short = {_KMALLOC.fullmatch(row.name)[2] != "" for row in rows if kmalloc_bytes(row.name) >= 1024}  # type: ignore[index]
    return short <= {layout_of(version).kmalloc_short_names}


def _slab_row(row: SlabRow, setting: Setting) -> Row:
    """A row of SLAB: its version, flags and alignment are not told, so any that explain it do."""
    best = (0, 0)
    posted = (row.pages_a_slab.bit_length() - 1, row.objects_a_slab)
    if any(posted in slab.later_slabs(row.object_size, flags) for flags in (0, sf.RECLAIM_ACCOUNT)):
        return Row(row, 0, *posted, ())
    for off_slab in (row.object_size >= slab.OFF_SLAB_FROM, False):
        for flags in (0, sf.RECLAIM_ACCOUNT):
            for align in (8, setting.cache_line):
                for broken in (1, 0):
                    order, objects, _ = slab.calculate_slab_order(row.object_size, align, flags, off_slab, broken)
                    if (objects, 1 << order) == (row.objects_a_slab, row.pages_a_slab):
                        return Row(row, 0, order, objects, ())
                    best = best if best[1] else (order, objects)
    return Row(row, 0, *best, ("a struct slab or bufctl of another size, debugging, or another page size",))

"""One table of kernels: the rules that run for a version, what they were read in, and what stands in for what was not.

``kernel_of`` is asked by ``--kernel``, the import of machines, the bundles of policies and replay. The rows of a
subject hold from their first version to the next row's; those of the slab layout are in ``slub_layouts``, those of
the marks in ``watermarks``.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fastalloc.linux.release import BASES, Base, Release, base_name, following, parse_base, parse_release
from fastalloc.linux.slub_layouts import CHANGES, SlubEra, layout_of, unread
from fastalloc.linux.watermarks import MarkRules, marks_of

OLDEST = parse_base("2.6.25")
NEWEST = BASES[-1]


class Row(NamedTuple):
    """``value`` of a subject from version ``first`` on. ``note``: what a user of that version must be told."""

    first: str
    value: str
    source: str
    note: str = ""


# How SLUB moves slabs between CPUs and nodes; the names are those of the closed loop's allocators and of replay's eras.
ERA = (
    Row("2.6.25", "2.6.25", "mm/slub.c of 2.6.25-rc8"),
    Row(
        "2.6.26", "2.6.25", "mm/slub.c of 2.6.26: __slab_free",
        "no partial lists of CPUs before 3.2: slabs move as in 2.6.25",
    ),
    Row(
        "3.1", "2.6.25", "mm/slub.c of 3.1: __slab_free",
        "3.1 keeps an emptied slab while its node has few partial ones, which the rules of 2.6.25 do not",
    ),
    Row("3.2", "cpu-partial", "mm/slub.c of 3.2: put_cpu_partial"),
    Row(
        "6.18", "sheaves", "mm/slub.c of 6.18: pcs_replace_empty_main; include/linux/slab.h: sheaf_capacity",
        "only caches that ask for sheaves have them (maple_node, vm_area_struct), all others move slabs as in 6.17",
    ),
    Row(
        "7.0", "7.3", "mm/slub.c of 7.2 and 7.3: __pcs_replace_empty_main, refill_objects",
        "how 7.0 and 7.1 move slabs was not read: the rules of 7.2 stand in for theirs",
    ),
    Row("7.2", "7.3", "mm/slub.c of 7.2.12 and 7.3.4: __pcs_replace_empty_main, refill_objects"),
)  # fmt: skip

# Who may go how far below min; names of policy.watermark_rule.
WATERMARK_RULE = (
    Row("2.6.25", "2.6.25", "mm/page_alloc.c of 2.6.25-rc8: zone_watermark_ok"),
    Row(
        "4.4", "6.3", "mm/page_alloc.c of 4.4: gfp_to_alloc_flags",
        "the discounts of 6.3 stand in for those of 4.4, which differ for HIGH without ATOMIC",
    ),
    Row("6.3", "6.3", "mm/page_alloc.c of 6.3: __zone_watermark_ok"),
)  # fmt: skip

# What a mempool tries; names of policy.mempool_rule.
MEMPOOL_RULE = (
    Row("2.6.25", "2.6.25", "mm/mempool.c of 2.6.25-rc8: mempool_alloc"),
    Row("3.3", "retry", "mm/mempool.c of 3.3: mempool_alloc"),
)

# Which bits a mask has: the eras of numbering, named by their first version [include/linux/gfp.h, gfp_types.h].
MASKS = tuple(
    Row(first, first, "include/linux/gfp.h")
    for first in (
        "2.6.25", "2.6.31", "2.6.38", "2.6.39", "3.3", "3.6", "3.8", "4.1", "4.4", "4.5", "4.10", "4.12", "4.13",
        "4.14", "4.15", "4.18", "5.1", "5.14", "5.18", "6.3", "6.4", "6.8", "6.9", "6.10", "6.19", "7.3",
    )
)  # fmt: skip

# What the kmem tracepoints say [include/trace/events/kmem.h].
TRACEPOINTS = (
    Row("2.6.25", "none", "include/trace/events/kmem.h begins with 2.6.31", "has no kmem tracepoints"),
    Row("2.6.31", "kmalloc_node", "kmem_cache_alloc_node and kmalloc_node are events of their own; no cache names"),
    Row("5.12", "free names", "kmem_cache_free says the cache's name"),
    Row("6.1", "node", "node is a field of kmem_cache_alloc and kmalloc; the _node events are gone"),
    Row("6.18", "names", "kmem_cache_alloc says the cache's name too"),
)


@dataclass(frozen=True)
class Kernel:
    """The rules that run for a kernel.

    ``asked`` is as given; ``version`` the version whose rules run. ``era``, ``watermark_rule`` and ``mempool_rule``
    are names of the simulation, ``layout`` and ``marks`` rules as data. ``notes``: where a row stands in for a
    version that was not read, which and why.
    """

    asked: str
    version: str
    release: Release
    era: str
    layout: SlubEra
    marks: MarkRules
    watermark_rule: str
    mempool_rule: str
    masks: str
    tracepoints: str
    boot_names: tuple[str, ...]
    notes: dict[str, str]  # by subject
    sources: dict[str, str]  # by subject

    def line(self, *subjects: str) -> str:
        """The kernel in one line, as every output names it, with the notes of ``subjects`` (by default of all)."""
        rules = f"Linux {self.asked}" if self.asked == self.version else f"Linux {self.asked}, rules of {self.version}"
        notes = [note for subject, note in self.notes.items() if not subjects or subject in subjects]
        return rules + (f" ({'; '.join(notes)})" if notes else "")

    def record(self) -> dict[str, Any]:
        """The kernel as plain data, for JSON and manifests."""
        return {
            "asked": self.asked,
            "version": self.version,
            "slabs": self.era,
            "layout": self.layout.name,
            "marks": self.marks.name,
            "watermark_rule": self.watermark_rule,
            "mempool_rule": self.mempool_rule,
            "masks": self.masks,
            "tracepoints": self.tracepoints,
            "notes": self.notes,
            "sources": self.sources,
        }


def kernel_near(text: str, line: str = "") -> Kernel:
    """As :func:`kernel_of`; for a version outside the table the nearest row's rules, which its notes say.

    Raises:
        ValueError: no version.
    """
    release = parse_release(text.strip().removeprefix("Linux").strip(), line)
    if release is None or (release.base in BASES and release.base >= OLDEST):
        return kernel_of(text, line)
    near = kernel_of(base_name(max([OLDEST, *(base for base in BASES if base <= release.base)])))
    note = f"{release.name} is not in the table of kernels: the rules of {near.version} stand in for it"
    return replace(near, asked=release.text, release=release, notes=near.notes | {"version": note})


def kernel_of(text: str, line: str = "") -> Kernel:
    """The rules of a kernel by its version or release string, such as ``6.12``, ``v6.1.176`` or ``6.1.0-50-amd64``.

    ``line`` is the line of /proc/version around it, see ``parse_release``. linux-next runs the version after its own.

    Raises:
        ValueError: no version, or one that the table does not have.
    """
    release = parse_release(text.strip().removeprefix("Linux").strip(), line)
    if release is None:
        raise ValueError(f"{text!r} holds no kernel version, such as 6.12")
    base = following(release.base) if release.next else release.base
    if base not in BASES or not OLDEST <= base <= NEWEST:
        raise ValueError(
            f"kernel {base_name(base)}: the table of kernels has {base_name(OLDEST)} to {base_name(NEWEST)}"
        )
    rows = {
        "slabs": _row(ERA, base),
        "watermark_rule": _row(WATERMARK_RULE, base),
        "mempool_rule": _row(MEMPOOL_RULE, base),
        "masks": _row(MASKS, base),
        "tracepoints": _row(TRACEPOINTS, base),
    }
    notes = {subject: row.note for subject, row in rows.items() if row.note}
    if unread(base):
        notes["layout"] = "; ".join(unread(base))
    if release.next:
        notes["version"] = f"linux-next of {release.name}: code of {base_name(base)}"
    layout, marks = layout_of(base), marks_of(base_name(base))
    names = ("slub_", *(("slab_",) if layout.slab_names else ("slab_nomerge",) if layout.slab_nomerge else ()))
    sources = {subject: row.source for subject, row in rows.items()}
    return Kernel(
        asked=release.text.removeprefix("v"), version=base_name(base), release=release, era=rows["slabs"].value,
        layout=layout, marks=marks, watermark_rule=rows["watermark_rule"].value,
        mempool_rule=rows["mempool_rule"].value, masks=rows["masks"].value, tracepoints=rows["tracepoints"].value,
        boot_names=names, notes=notes,
        sources=sources | {"layout": layout.source, "marks": marks.source},
    )  # fmt: skip


def _row(rows: tuple[Row, ...], base: Base) -> Row:
    return [row for row in rows if parse_base(row.first) <= base][-1]


__all__ = ["CHANGES", "Kernel", "Row", "kernel_near", "kernel_of"]

"""What a table of caches holds in all, as posted and packed anew under other rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastalloc.errors import InputError
from fastalloc.explain.caches.setting import Setting
from fastalloc.explain.caches.table import Row, check, is_slab
from fastalloc.linux.slabinfo import SlabRow


@dataclass(frozen=True)
class Totals:
    """Bytes of all caches: ``held`` in slabs as posted, ``packed`` with the objects in use in as few slabs as hold
    them, and ``idle`` objects' slots as posted. ``high``: caches whose slabs take more than a page, ``highest`` order.
    """

    held: int
    packed: int
    idle: int
    high: int
    highest: int

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return {"held": self.held, "packed": self.packed, "idle": self.idle, "high": self.high, "highest": self.highest}


def posted(rows: Sequence[SlabRow], page_size: int) -> Totals:
    """The table itself."""
    return Totals(
        sum(row.slabs * row.pages_a_slab for row in rows) * page_size,
        sum(-(-row.active // row.objects_a_slab) * row.pages_a_slab for row in rows if row.objects_a_slab) * page_size,
        sum((row.objects - row.active) * row.object_size for row in rows),
        sum(row.pages_a_slab > 1 for row in rows),
        max((row.pages_a_slab.bit_length() - 1 for row in rows), default=0),
    )


def under(rows: Sequence[SlabRow], setting: Setting) -> tuple[Totals, list[Row]]:
    """The objects in use, packed into slabs as ``setting`` lays them out. A slot that no name tells stays as posted.

    Raises:
        InputError: the table is SLAB's, whose caches have no layout under these rules.
    """
    if is_slab(rows):
        raise InputError("--what-if", setting.kernel.asked, "lays out SLUB's caches; the table is one of SLAB's")
    found = check(rows, setting)
    pages = [-(-row.posted.active // row.objects) << row.order for row in found if row.objects]
    orders = [row.order for row in found]
    totals = Totals(0, sum(pages) * setting.page_size, 0, sum(order > 0 for order in orders), max(orders, default=0))
    return totals, found


def largest(rows: Sequence[SlabRow], page_size: int, count: int) -> list[dict[str, Any]]:
    """The caches that hold most memory, most first: bytes in slabs, of idle objects, objects."""
    ranked = sorted(rows, key=lambda row: -row.slabs * row.pages_a_slab)[:count]
    return [
        {
            "cache": row.name, "bytes": row.slabs * row.pages_a_slab * page_size, "active": row.active,
            "idle_objects": row.objects - row.active, "idle_bytes": (row.objects - row.active) * row.object_size,
            "order": row.pages_a_slab.bit_length() - 1,
        }
        for row in ranked
    ]  # fmt: skip

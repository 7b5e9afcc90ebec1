"""SLOB of 2.6.25-rc8 [mm/slob.c], written to be read: pages hold sorted free ranges, lists are Python lists.

Sizes are bytes, places inside a page are units of two bytes. The lists' rings are kept as plain lists: turning the
ring is turning the list.
"""

from dataclasses import dataclass, field

UNITS = 2048  # per page
HEADER = 8


@dataclass(eq=False)
class Page:
    """A page and its free ranges (first unit, units), by address."""

    number: int
    free: list[tuple[int, int]] = field(default_factory=lambda: [(0, UNITS)])

    @property
    def units(self) -> int:
        return sum(length for _, length in self.free)

    def take(self, units: int, align: int) -> int | None:
        """First fit: the first unit handed out, or None."""
        for i, (start, length) in enumerate(self.free):
            aligned = -(-start // align) * align if align else start
            if length < aligned - start + units:
                continue
            pieces = [(start, aligned - start), (aligned + units, start + length - aligned - units)]
            self.free[i : i + 1] = [piece for piece in pieces if piece[1]]
            return aligned
        return None

    def give(self, start: int, units: int) -> None:
        """Return a range; it melts into its neighbours."""
        merged: list[tuple[int, int]] = []
        for first, length in sorted([*self.free, (start, units)]):
            if merged and sum(merged[-1]) == first:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((first, length))
        self.free = merged


class Slob:
    """The allocator; ``may_buy`` says whether the page allocator grants a page."""

    def __init__(self, may_buy=lambda: True):
        self.lists: dict[str, list[Page]] = {"small": [], "medium": [], "large": []}
        self.may_buy = may_buy
        self.pages = 0
        self.allocated = 0

    def alloc(self, size: int, align: int) -> tuple[Page, int] | None:
        """A block: its page and byte offset."""
        ring = self.lists["small" if size < 256 else "medium" if size < 1024 else "large"]
        units, step = -(-size // 2), align // 2
        for position, page in enumerate(ring):
            start = page.take(units, step) if page.units >= units else None
            if start is None:
                continue
            if not page.free:
                ring.remove(page)
            # The next search starts here, or behind the page when it has filled up; never at the ring's end.
            if position < len(ring):
                ring[:] = ring[position:] + ring[:position]
            return page, 2 * start
        if not self.may_buy():
            return None
        page = Page(self.allocated)
        self.allocated += 1
        self.pages += 1
        ring.insert(0, page)
        start = page.take(units, step)
        if not page.free:
            ring.remove(page)
        return page, 2 * start

    def free(self, block: tuple[Page, int], size: int) -> None:
        """Give a block back; a page that was full joins the small list."""
        page, offset = block
        was_full = not page.free
        page.give(offset // 2, -(-size // 2))
        ring = next((ring for ring in self.lists.values() if page in ring), None)
        if page.units == UNITS:
            self.pages -= 1
            if ring is not None:
                ring.remove(page)
        elif was_full:
            self.lists["small"].insert(0, page)

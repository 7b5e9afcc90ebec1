"""Swap slots [mm/swapfile.c: scan_swap_map, swap_free]."""

from dataclasses import dataclass, field

SWAPFILE_CLUSTER = 256


@dataclass
class Search:
    """A task's search for 256 free slots in a row, which gives way now and then."""

    offset: int
    last_in_cluster: int


@dataclass
class SwapInfo:
    """A swap area of ``pages`` slots, from 0."""

    pages: int
    used: set[int] = field(default_factory=set)
    lowest_bit: int = 0
    cluster_next: int = 0
    cluster_nr: int = 0
    looked: int = 0  # slots looked at by the last scan

    def __post_init__(self):
        self.highest_bit = max(0, self.pages - 1)

    @property
    def free(self) -> int:
        return self.pages - len(self.used)

    # -- a new cluster

    def begin_search(self) -> Search | None:
        """The cluster is used up. None: fewer than 256 slots are free, so there is no use in looking."""
        self.cluster_nr = SWAPFILE_CLUSTER - 1
        if self.free < SWAPFILE_CLUSTER:
            return None
        return Search(self.lowest_bit, self.lowest_bit + SWAPFILE_CLUSTER - 1)

    def search(self, search: Search, most: int) -> tuple[int, bool | None]:
        """Look at up to ``most`` more slots: how many were, and True found, False none, None to be continued."""
        looked = 0
        while search.last_in_cluster <= self.highest_bit:
            if looked == most:
                return looked, None
            looked += 1
            if search.offset in self.used:
                search.last_in_cluster = search.offset + SWAPFILE_CLUSTER
            elif search.offset == search.last_in_cluster:
                self.cluster_next = search.offset - SWAPFILE_CLUSTER + 1
                return looked, True
            search.offset += 1
        return looked, False

    # -- a slot

    def take(self, after_search: bool | None) -> int | None:
        """A free slot; ``after_search`` tells how the search before it ended, None if there was none."""
        self.looked = 0
        if self.free == 0:
            return None
        if after_search is None:
            self.cluster_nr -= 1
        offset = self.cluster_next
        if after_search is False or offset > self.highest_bit:
            offset = self.lowest_bit
        while offset in self.used:
            offset += 1
            self.looked += 1
            if offset > self.highest_bit:
                offset = self.lowest_bit
        if offset == self.lowest_bit:
            self.lowest_bit += 1
        if offset == self.highest_bit:
            self.highest_bit -= 1
        self.used.add(offset)
        if self.free == 0:
            self.lowest_bit, self.highest_bit = self.pages, 0
        self.cluster_next = offset + 1
        return offset

    def swap_free(self, offset: int) -> None:
        """The cursor and the cluster stay where they are."""
        self.used.remove(offset)
        self.lowest_bit = min(self.lowest_bit, offset)
        self.highest_bit = max(self.highest_bit, offset)

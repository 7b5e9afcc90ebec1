"""mempool of 2.6.25 [mm/mempool.c]: the reserve behind a cache."""

from dataclasses import dataclass, field

from tests.reference.page_alloc import NOMEMALLOC, NORETRY, NOWARN, PLAIN, WAIT, Task
from tests.reference.slub import Cache, Object, PageObject

IO = 0x40


@dataclass
class Mempool:
    """A pool of ``min_nr`` elements; the last one put in is the first one out."""

    cache: Cache
    min_nr: int
    elements: list[Object | PageObject] = field(default_factory=list)
    sleeps: int = 0
    refusals: int = 0

    def fill(self, cpu: int, gfp: int = 0xD0, task: Task = PLAIN) -> None:
        """mempool_create sets all elements aside."""
        while len(self.elements) < self.min_nr:
            element = self.cache.alloc(cpu, gfp, task)
            assert element is not None
            self.elements.append(element)

    def alloc_round(self, cpu: int, gfp: int, task: Task = PLAIN, first: bool = True) -> Object | PageObject | None:
        """One turn of the loop of mempool_alloc: the allocator, then the reserve. None: sleep, or give up."""
        mask = gfp | NOMEMALLOC | NORETRY | NOWARN
        if first:
            mask &= ~(WAIT | IO)
        element = self.cache.alloc(cpu, mask, task)
        if element is not None:
            return element
        if self.elements:
            return self.elements.pop()
        if gfp & WAIT:
            self.sleeps += 1
        else:
            self.refusals += 1
        return None

    def free(self, cpu: int, element: Object | PageObject) -> bool:
        """The reserve first (True: all waiters wake up), else the cache, which wakes nobody."""
        if len(self.elements) < self.min_nr:
            self.elements.append(element)
            return True
        self.cache.free(cpu, element)
        return False

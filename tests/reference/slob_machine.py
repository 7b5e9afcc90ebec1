"""Golden traces on the SLOB reference: kmalloc and kmem_cache over :mod:`tests.reference.slob`, its tables.

A block remembers its size, as a kmalloc'ed one does in its header and a cache's object through its cache.
"""

from dataclasses import dataclass

from fastalloc.linux.geometry_slab import slob_geometry
from fastalloc.linux.geometry_slub import CacheRequest
from tests.reference.machine import Bogus, Machine
from tests.reference.slob import HEADER, Page, Slob
from tests.reference.stub_pages import Block

PAGE_SIZE = 4096
ZERO = 0x8000
STRUCT_KMEM_CACHE = 32


@dataclass(eq=False)
class Piece:
    """A block of a page; the caller's pointer is ``header`` bytes in."""

    page: Page
    offset: int
    size: int
    header: int = 0


def order_of(size: int) -> int:
    return max((size - 1).bit_length() - 12, 0)


class SlobMachine(Machine):
    """SLOB with ``line`` bytes of L1_CACHE_BYTES."""

    resizes = False

    def __init__(self, case, line: int):
        super().__init__(case)
        self.line = line
        self.slob = Slob(self.allocate)
        self.allocated: list[Block] = []  # the blocks behind slob.pages, by the pages' numbers
        self.numbers: dict[Page, int] = {}
        self.request = (0, 0, None)
        self.layout: dict[int, object] = {}
        self.struct: dict[int, Piece] = {}

    def allocate(self) -> bool:
        block = self.pages.take(*self.request)
        if block:
            self.allocated.append(block)
        return block is not None

    def slob_alloc(self, cpu, gfp, task, size, align) -> Piece | None:
        self.request = (cpu, gfp & ~ZERO, 0, task)
        before = len(self.allocated)
        block = self.slob.alloc(size, align)
        self.path = 0 if block is None else 4 if len(self.allocated) > before else 1
        return Piece(*block, size) if block else None

    def slob_free(self, piece: Piece) -> None:
        before = self.slob.pages
        self.slob.free((piece.page, piece.offset), piece.size)
        self.path = 1
        if self.slob.pages < before:
            self.pages.give(self.allocated[piece.page.number])
            self.path = 6

    def whole_pages(self, cpu, gfp, task, size) -> Block | None:
        block = self.pages.take(cpu, gfp, order_of(size), task)
        self.path = 4 if block else 0
        return block

    def give_back(self, thing: Piece | Block) -> None:
        if isinstance(thing, Block):
            self.pages.give(thing)
            self.path = 6
        else:
            self.slob_free(thing)

    def kmalloc(self, cpu, size, gfp, task):
        if size >= PAGE_SIZE - HEADER:
            return self.whole_pages(cpu, gfp, task, size)
        piece = self.slob_alloc(cpu, gfp, task, size + HEADER, HEADER)
        if piece:
            piece.header = HEADER
        return piece

    def kfree(self, cpu, thing):
        if not isinstance(thing, Bogus):  # an address below 16 is as good as NULL
            self.give_back(thing)

    def pool_functions(self, index):
        get, put = super().pool_functions(index)
        asked = self.case.pools[index]
        if asked.kind == "kmalloc" and asked.param >= PAGE_SIZE - HEADER:  # pages: NULL is NULL
            return (lambda cpu, gfp, task: self.kmalloc(cpu, asked.param, gfp, task)), put
        return get, put

    def failed_kmalloc(self):
        return Bogus()

    def alloc(self, index, cpu, node, gfp, task):
        layout = self.layout[index]
        self.ctor_calls += layout.ctor  # even for NULL
        if layout.size < PAGE_SIZE:
            return self.slob_alloc(cpu, gfp, task, layout.size, layout.align)
        return self.whole_pages(cpu, gfp, task, layout.size)

    def free(self, index, cpu, thing):
        self.give_back(thing)

    def place(self, thing):
        if isinstance(thing, Block):
            return (-1, -1)
        number = self.numbers.setdefault(thing.page, len(self.numbers))
        return (number, thing.offset + thing.header)

    def exists(self, index):
        return index in self.layout

    def create(self, index, cpu, task):
        asked = self.case.caches[index]
        struct = self.slob_alloc(cpu, asked.flags, task, STRUCT_KMEM_CACHE, 0)  # sic: flags as gfp mask
        if struct is None:
            return False
        self.struct[index] = struct
        request = CacheRequest(asked.name, asked.size, asked.align, asked.flags, asked.ctor)
        self.layout[index] = slob_geometry(request, self.line)
        return True

    def destroy(self, index, cpu):
        self.slob_free(self.struct.pop(index))
        del self.layout[index]

    def allocator_rows(self):
        listed = {page for ring in self.slob.lists.values() for page in ring}
        for name, ring in self.slob.lists.items():
            self.add(
                "node",
                list=name,
                node=0,
                pages=len(ring),
                free_units=sum(page.units for page in ring),
                free_blocks=sum(len(page.free) for page in ring),
                page_list=" ".join(f"{self.numbers.get(page, -1)}:{page.units}" for page in ring[:100]) or None,
            )
        slob_pages = self.slob.pages
        others = sum(node.used for node in self.pages.nodes) - slob_pages
        for name, pages in (("all_slob", slob_pages), ("full_slob", slob_pages - len(listed)), ("non_slob", others)):
            self.add(
                "node", list=f"{name}_pages", node=0, pages=pages, free_units=None, free_blocks=None, page_list=None
            )

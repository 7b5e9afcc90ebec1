"""A golden case on SLOB."""

from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slob.ring import SLOB_CTL
from fastalloc.kernels.alloc.slob.slob import SLOB_CACHE
from fastalloc.kernels.alloc.slob.tables import slob_node_rows
from fastalloc.linux.geometry_slab import slob_geometry
from fastalloc.linux.geometry_slub import CacheRequest
from fastalloc.verify.golden_case import GoldenCase
from fastalloc.verify.lane import Lane

KMEM_CACHE_SIZE = 32  # sizeof(struct kmem_cache) of mm/slob.c


class SlobLane(Lane):
    """SLOB with ``cache_line`` bytes of L1_CACHE_BYTES."""

    def __init__(self, case: GoldenCase, cache_line: int, room: int) -> None:
        super().__init__(case, 1)
        self.cache_line = cache_line
        self.heap = so.new_slob(room, max(len(case.caches), 1))
        self.structs: dict[int, int] = {}
        self.play.resizes[0] = 0

    def create(self, index: int, cpu: int, context: int) -> bool:
        asked = self.case.caches[index]
        # The cache's flags stand where the gfp mask belongs, as in the source.
        struct = so.slob_alloc(self.mem, self.heap, cpu, -1, asked.flags, context, KMEM_CACHE_SIZE, 0)
        if struct < 0:
            return False
        request = CacheRequest(asked.name, asked.size, asked.align, asked.flags, asked.ctor)
        geometry = slob_geometry(request, self.cache_line)
        self.heap.cache[index] = (geometry.size, geometry.align, geometry.ctor, 1)
        self.structs[index] = struct
        self.play.row_of[index] = index
        return True

    def destroy(self, index: int, cpu: int) -> None:
        so.slob_free(self.mem, self.heap, cpu, self.structs.pop(index), KMEM_CACHE_SIZE)
        self.heap.cache[index, SLOB_CACHE.alive] = 0
        self.play.row_of[index] = -1

    def pool_source(self, index: int) -> tuple[int, int]:
        pool = self.case.pools[index]
        if pool.kind == "kmalloc":
            return pool.param, mp.MP_KMALLOC
        return super().pool_source(index)

    def ctor_calls(self) -> int:
        return int(self.heap.ctl[SLOB_CTL.ctor_calls])

    def overflowed(self) -> bool:
        return bool(self.heap.ctl[SLOB_CTL.overflow])

    def allocator_rows(self) -> None:
        del self.tables["cpu"][:]
        for name, row in slob_node_rows(self.mem, self.heap).items():
            self.add("node", list=name, node=0, **row)

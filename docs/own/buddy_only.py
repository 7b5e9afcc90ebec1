"""A plain buddy allocator: every object is whole pages of its own, of the smallest order that holds it."""

from fastalloc.own import NOTHING, give_pages, lock, take_pages

ARRAYS = {"cache": ("CACHES", 1), "held": (1, 1)}


def create(heap, c, size):
    order = 0
    while (4096 << order) < size:
        order += 1
    heap.cache[c, 0] = order


def alloc(heap, zone, c, cpu, gfp):
    lock(zone)
    page = take_pages(zone, gfp, heap.cache[c, 0])
    if page == NOTHING:
        return NOTHING
    heap.held[0, 0] += 1 << heap.cache[c, 0]
    return page << 12


def free(heap, zone, c, cpu, address):
    lock(zone)
    heap.held[0, 0] -= 1 << heap.cache[c, 0]
    give_pages(zone, address >> 12, heap.cache[c, 0])


def shrink(heap, zone, c):
    pass


def pages_held(heap):
    return heap.held[0, 0]

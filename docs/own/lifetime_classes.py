"""Two lifetime classes: objects of requests that may not wait, which die young, lie in pages of their own."""

from fastalloc.linux.gfp import WAIT
from fastalloc.own import NOTHING, give_pages, slow, take_pages

ARRAYS = {"cache": ("CACHES", 4), "page": ("PAGES", 4), "slot": ("SLOTS", 1), "held": (1, 1)}
SIZE, ORDER, FIRST = range(3)  # of a cache; FIRST + class: 1 + its first page with room
USED, FREE, NEXT, CLASS = range(4)  # of a page (the first of a run); FREE: 1 + its first free object


def create(heap, c, size):
    heap.cache[c, SIZE] = size
    while (4096 << heap.cache[c, ORDER]) < size:
        heap.cache[c, ORDER] += 1


def alloc(heap, zone, c, cpu, gfp):
    row = FIRST + (1 if gfp & WAIT else 0)
    p = heap.cache[c, row] - 1
    if p < 0:
        slow(zone)
        p = take_pages(zone, gfp, heap.cache[c, ORDER])
        if p == NOTHING:
            return NOTHING
        heap.held[0, 0] += 1 << heap.cache[c, ORDER]
        objects = (4096 << heap.cache[c, ORDER]) // heap.cache[c, SIZE]
        for i in range(objects):
            heap.slot[p * 512 + i, 0] = (i + 2) % (objects + 1)
        heap.page[p, FREE], heap.page[p, NEXT], heap.page[p, CLASS] = 1, 0, row
        heap.cache[c, row] = p + 1
    i = heap.page[p, FREE] - 1
    heap.page[p, USED] += 1
    heap.page[p, FREE] = heap.slot[p * 512 + i, 0]
    if heap.page[p, FREE] == 0:
        heap.cache[c, row] = heap.page[p, NEXT]
    return p * 4096 + i * heap.cache[c, SIZE]


def free(heap, zone, c, cpu, address):
    p = address >> (12 + heap.cache[c, ORDER]) << heap.cache[c, ORDER]
    row = heap.page[p, CLASS]
    i = (address - p * 4096) // heap.cache[c, SIZE]
    if heap.page[p, FREE] == 0:
        heap.page[p, NEXT] = heap.cache[c, row]
        heap.cache[c, row] = p + 1
    heap.slot[p * 512 + i, 0] = heap.page[p, FREE]
    heap.page[p, FREE] = i + 1
    heap.page[p, USED] -= 1
    if heap.page[p, USED] == 0:
        unlink(heap, c, row, p)
        heap.held[0, 0] -= 1 << heap.cache[c, ORDER]
        give_pages(zone, p, heap.cache[c, ORDER])


def unlink(heap, c, row, p):
    q = heap.cache[c, row] - 1
    if q == p:
        heap.cache[c, row] = heap.page[p, NEXT]
        return
    while heap.page[q, NEXT] != p + 1:
        q = heap.page[q, NEXT] - 1
    heap.page[q, NEXT] = heap.page[p, NEXT]


def shrink(heap, zone, c):
    pass


def pages_held(heap):
    return heap.held[0, 0]

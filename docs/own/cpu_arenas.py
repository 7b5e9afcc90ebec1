"""An arena a CPU, as tasks would have that never move: whoever allocates finds its own objects side by side."""

from fastalloc.own import NOTHING, give_pages, slow, take_pages

ARRAYS = {
    "cache": ("CACHES", 2),
    "arena": ("CPUS * CACHES", 1),
    "page": ("PAGES", 4),
    "slot": ("SLOTS", 1),
    "held": (1, 1),
}
SIZE, ORDER = range(2)  # of a cache; an arena holds 1 + its first page with room
USED, FREE, NEXT, ARENA = range(4)  # of a page (the first of a run); FREE: 1 + its first free object


def create(heap, c, size):
    heap.cache[c, SIZE] = size
    while (4096 << heap.cache[c, ORDER]) < size:
        heap.cache[c, ORDER] += 1


def alloc(heap, zone, c, cpu, gfp):
    row = cpu * len(heap.cache) + c
    p = heap.arena[row, 0] - 1
    if p < 0:
        slow(zone)
        p = take_pages(zone, gfp, heap.cache[c, ORDER])
        if p == NOTHING:
            return NOTHING
        heap.held[0, 0] += 1 << heap.cache[c, ORDER]
        objects = (4096 << heap.cache[c, ORDER]) // heap.cache[c, SIZE]
        for i in range(objects):
            heap.slot[p * 512 + i, 0] = (i + 2) % (objects + 1)
        heap.page[p, FREE], heap.page[p, NEXT], heap.page[p, ARENA] = 1, 0, row
        heap.arena[row, 0] = p + 1
    i = heap.page[p, FREE] - 1
    heap.page[p, USED] += 1
    heap.page[p, FREE] = heap.slot[p * 512 + i, 0]
    if heap.page[p, FREE] == 0:
        heap.arena[row, 0] = heap.page[p, NEXT]
    return p * 4096 + i * heap.cache[c, SIZE]


def free(heap, zone, c, cpu, address):
    p = address >> (12 + heap.cache[c, ORDER]) << heap.cache[c, ORDER]
    row = heap.page[p, ARENA]
    i = (address - p * 4096) // heap.cache[c, SIZE]
    if heap.page[p, FREE] == 0:
        heap.page[p, NEXT] = heap.arena[row, 0]
        heap.arena[row, 0] = p + 1
    heap.slot[p * 512 + i, 0] = heap.page[p, FREE]
    heap.page[p, FREE] = i + 1
    heap.page[p, USED] -= 1
    if heap.page[p, USED] == 0:
        unlink(heap, row, p)
        heap.held[0, 0] -= 1 << heap.cache[c, ORDER]
        give_pages(zone, p, heap.cache[c, ORDER])


def unlink(heap, row, p):
    q = heap.arena[row, 0] - 1
    if q == p:
        heap.arena[row, 0] = heap.page[p, NEXT]
        return
    while heap.page[q, NEXT] != p + 1:
        q = heap.page[q, NEXT] - 1
    heap.page[q, NEXT] = heap.page[p, NEXT]


def shrink(heap, zone, c):
    pass


def pages_held(heap):
    return heap.held[0, 0]

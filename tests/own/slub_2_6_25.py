"""SLUB of 2.6.25 as an allocator of one's own: slabs of one page, one node. Records are numbered from 1, 0 is none.

``create`` gets the size of a slot.
"""

from fastalloc.own import NOTHING, give_pages, lock, slow, take_pages

ARRAYS = {
    "cache": ("CACHES", 5),
    "cpu": ("CPUS * CACHES", 2),
    "page": ("PAGES", 7),
    "slot": ("SLOTS", 1),
    "held": (1, 1),
}
SIZE, OBJECTS, HEAD, TAIL, PARTIAL = range(5)  # of a cache
PRIVATE, SLAB = range(2)  # of a CPU: first free object of its own, slab
INUSE, FREE, FROZEN, NEXT, PREV, LISTED, OWNER = range(7)  # of a slab
MIN_PARTIAL = 5


def create(heap, c, size):
    heap.cache[c, SIZE] = size
    heap.cache[c, OBJECTS] = 4096 // size


def add_partial(heap, c, s, tail):
    heap.cache[c, PARTIAL] += 1
    heap.page[s, LISTED] = 1
    heap.page[s, NEXT] = 0
    heap.page[s, PREV] = 0
    other = heap.cache[c, TAIL] if tail else heap.cache[c, HEAD]
    if tail:
        heap.page[s, PREV] = other
        heap.cache[c, TAIL] = s + 1
        if other > 0:
            heap.page[other - 1, NEXT] = s + 1
        else:
            heap.cache[c, HEAD] = s + 1
    else:
        heap.page[s, NEXT] = other
        heap.cache[c, HEAD] = s + 1
        if other > 0:
            heap.page[other - 1, PREV] = s + 1
        else:
            heap.cache[c, TAIL] = s + 1


def remove_partial(heap, c, s):
    after = heap.page[s, NEXT]
    before = heap.page[s, PREV]
    if before > 0:
        heap.page[before - 1, NEXT] = after
    else:
        heap.cache[c, HEAD] = after
    if after > 0:
        heap.page[after - 1, PREV] = before
    else:
        heap.cache[c, TAIL] = before
    heap.cache[c, PARTIAL] -= 1
    heap.page[s, LISTED] = 0


def discard(heap, zone, s):
    heap.held[0, 0] -= 1
    give_pages(zone, s, 0)


def deactivate(heap, zone, c, k):
    s = heap.cpu[k, SLAB] - 1
    tail = 1
    while heap.cpu[k, PRIVATE] > 0:
        i = heap.cpu[k, PRIVATE]
        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0]
        heap.slot[s * 512 + i - 1, 0] = heap.page[s, FREE]
        heap.page[s, FREE] = i
        heap.page[s, INUSE] -= 1
        tail = 0
    heap.cpu[k, SLAB] = 0
    heap.page[s, FROZEN] = 0
    if heap.page[s, INUSE] > 0:
        if heap.page[s, FREE] > 0:
            add_partial(heap, c, s, tail)
    elif heap.cache[c, PARTIAL] < MIN_PARTIAL:
        add_partial(heap, c, s, 1)
    else:
        discard(heap, zone, s)


def load(heap, k, s):
    i = heap.page[s, FREE]
    heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0]
    heap.cpu[k, SLAB] = s + 1
    heap.page[s, FREE] = 0
    heap.page[s, INUSE] = heap.cache[heap.page[s, OWNER], OBJECTS]
    heap.page[s, FROZEN] = 1
    return s * 4096 + (i - 1) * heap.cache[heap.page[s, OWNER], SIZE]


def alloc(heap, zone, c, cpu, gfp):
    k = cpu * len(heap.cache) + c
    s = heap.cpu[k, SLAB] - 1
    i = heap.cpu[k, PRIVATE]
    if i > 0:
        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0]
        return s * 4096 + (i - 1) * heap.cache[c, SIZE]
    slow(zone)
    if s >= 0:
        if heap.page[s, FREE] > 0:
            return load(heap, k, s)
        deactivate(heap, zone, c, k)
    if heap.cache[c, HEAD] > 0:
        lock(zone)
        s = heap.cache[c, HEAD] - 1
        remove_partial(heap, c, s)
        return load(heap, k, s)
    s = take_pages(zone, gfp, 0)
    if s == NOTHING:
        return NOTHING
    heap.held[0, 0] += 1
    objects = heap.cache[c, OBJECTS]
    for n in range(objects):
        heap.slot[s * 512 + n, 0] = n + 2 if n + 1 < objects else 0
    heap.page[s, FREE] = 1
    heap.page[s, LISTED] = 0
    heap.page[s, OWNER] = c
    return load(heap, k, s)


def free(heap, zone, c, cpu, address):
    k = cpu * len(heap.cache) + c
    s = address >> 12
    i = address % 4096 // heap.cache[c, SIZE] + 1
    if heap.cpu[k, SLAB] == s + 1:
        heap.slot[s * 512 + i - 1, 0] = heap.cpu[k, PRIVATE]
        heap.cpu[k, PRIVATE] = i
        return
    slow(zone)
    prior = heap.page[s, FREE]
    heap.slot[s * 512 + i - 1, 0] = prior
    heap.page[s, FREE] = i
    heap.page[s, INUSE] -= 1
    if heap.page[s, FROZEN] == 0:
        if heap.page[s, INUSE] == 0:
            lock(zone)
            if prior > 0:
                remove_partial(heap, c, s)
            discard(heap, zone, s)
        elif prior == 0:
            lock(zone)
            add_partial(heap, c, s, 1)


def flush(heap, zone, c, cpu):
    k = cpu * len(heap.cache) + c
    if heap.cpu[k, SLAB] > 0:
        deactivate(heap, zone, c, k)


def shrink(heap, zone, c):
    for cpu in range(len(heap.cpu) // len(heap.cache)):
        flush(heap, zone, c, cpu)
    s = heap.cache[c, HEAD]
    while s > 0:
        after = heap.page[s - 1, NEXT]
        if heap.page[s - 1, INUSE] == 0:
            remove_partial(heap, c, s - 1)
            discard(heap, zone, s - 1)
        s = after


def pages_held(heap):
    return heap.held[0, 0]

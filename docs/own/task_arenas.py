"""An arena a task: what a task allocates lies side by side on pages of its own, whatever CPU it runs on."""

from fastalloc.own import NOTHING, add_slab, current, give_pages, order_of, put_slot, slow, take_pages, take_slot

ARRAYS = {
    "size": ("CACHES", 1), "list": ("TASKS * CACHES", 1), "page": ("PAGES", 5), "slot": ("SLOTS", 1), "held": (1, 1),
}  # fmt: skip


def create(heap, c, size):
    heap.size[c, 0] = size


def alloc(heap, zone, c, cpu, gfp):
    size, row = heap.size[c, 0], current(zone) * len(heap.size) + c
    if heap.list[row, 0] == 0:
        slow(zone)
        page = take_pages(zone, gfp, order_of(size))
        if page == NOTHING:
            return NOTHING
        heap.held[0, 0] += 1 << order_of(size)
        add_slab(heap.list, heap.page, heap.slot, row, page, (4096 << order_of(size)) // size)
    return take_slot(heap.list, heap.page, heap.slot, row, size)


def free(heap, zone, c, cpu, address):
    order = order_of(heap.size[c, 0])
    page = address >> (12 + order) << order
    if put_slot(heap.list, heap.page, heap.slot, page, address, heap.size[c, 0]) == 0:
        heap.held[0, 0] -= 1 << order
        give_pages(zone, page, order)


def shrink(heap, zone, c):
    pass


def pages_held(heap):
    return heap.held[0, 0]

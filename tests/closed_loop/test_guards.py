"""Guards of objects: a wrong handle or count ends the lane at once as broken, with or without the debug mode."""

import pytest

from fastalloc.batch import ConservationError, check_sound
from fastalloc.kernels.alloc.guards import GIVEN, GUARDS, TAKEN
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_SLAB
from fastalloc.kernels.alloc.slob.ring import SLOB_PAGE
from fastalloc.kernels.alloc.slob.slob import SLOB_UNIT
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import (
    HANDLE_INDEX_MASK,
    HANDLE_SHIFT,
    KMEM_CACHE_CPU,
    MEMCTL,
    PAGE_HANDLE,
    SLUB_SLAB,
)
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import FILE, ROLE, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.kernels.workload.atomic_noise import NOISE, OBJECTS
from tests.closed_loop.small import small
from tests.closed_loop.test_planted_faults import busy_lane

ALLOCATORS = ("slub", "sheaves", "slab", "slob")
WILD = (-1, 1 << 40, 3 << HANDLE_SHIFT | HANDLE_INDEX_MASK, PAGE_HANDLE | 1 << 39, 1 << 62)


def lane_with_noise(allocator):
    """A lane in which an object of atomic noise is alive, and the row that holds it."""
    settings = {"policy.allocator": allocator, "policy.command_rule": "fix", "workload.atomic_object_ms": 50}
    arrays = busy_lane(debug=False, after=0, asleep=0, **settings)
    while arrays.vm.ctl[VM.noise_count[OBJECTS]] == 0:
        run_lane(*arrays, int(arrays.vm.ctl[VM.now]) + ms.NS_PER_MS)
    return arrays, arrays.vm.noise[OBJECTS, arrays.vm.ctl[VM.noise_head[OBJECTS]]]


def broken(arrays, milliseconds=400):
    """The guard that ends the lane within so long; the lane's clock stops there."""
    until = int(arrays.vm.ctl[VM.now]) + milliseconds * ms.NS_PER_MS
    run_lane(*arrays, until)
    if arrays.mem.ctl[MEMCTL.broken]:
        assert arrays.vm.ctl[VM.now] < until
        with pytest.raises(ConservationError, match=GUARDS[arrays.mem.ctl[MEMCTL.broken]]) as caught:
            check_sound(1, arrays, small("rc8"))
        told = caught.value.broken
        assert told.tick == arrays.vm.ctl[VM.now] // arrays.vm.ctl[VM.jiffy_ns]
        assert "broke in tick" in str(told)
    return arrays.mem.ctl[MEMCTL.broken]


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_a_handle_from_nowhere_is_not_freed(allocator):
    for handle in WILD:
        arrays, row = lane_with_noise(allocator)
        row[NOISE.object] = handle
        assert broken(arrays) == GIVEN, handle
        assert arrays.mem.ctl[MEMCTL.broken_cache] == arrays.vm.roles[ROLE.noise]
        assert arrays.mem.ctl[MEMCTL.broken_handle] == handle


def last_freed(arrays):
    """The object of the noise cache that CPU 0 freed last."""
    heap, c = arrays.heap, arrays.vm.roles[ROLE.noise]
    if hasattr(heap, "queue"):
        queue = heap.queue[c, 0]
        return heap.entry[queue[SLAB_ARRAY.base] + queue[SLAB_ARRAY.avail] - 1]
    if hasattr(heap, "unit"):
        p = heap.page[0, SLOB_PAGE.next]
        return int(p) << HANDLE_SHIFT | int(heap.page[p, SLOB_PAGE.free]) * SLOB_UNIT
    k = heap.kcpu[c, 0]
    h = k[KMEM_CACHE_CPU.sheaf_main]
    if h > 0:
        return heap.ctl[h + SHEAF.objects[heap.ctl[h + SHEAF.size] - 1]]
    return k[KMEM_CACHE_CPU.page] << HANDLE_SHIFT | k[KMEM_CACHE_CPU.freelist]


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_what_was_freed_last_is_not_freed_again(allocator):
    arrays, row = lane_with_noise(allocator)
    row[[NOISE.object, NOISE.cpu, NOISE.until]] = last_freed(arrays), 0, arrays.vm.ctl[VM.now]
    assert broken(arrays) == GIVEN


def miscounted(arrays, handle, inuse):
    heap = arrays.heap
    if hasattr(heap, "unit"):
        heap.page[handle >> HANDLE_SHIFT, SLOB_PAGE.units] = -inuse
    else:
        record = heap.slab[handle >> HANDLE_SHIFT]
        record[SLAB_SLAB.inuse if hasattr(heap, "queue") else SLUB_SLAB.inuse] = inuse


def on_a_cpu(arrays, handle):
    """Whether an object of SLUB lies in the slab of a CPU, or there is none alive."""
    cpu_slabs = arrays.heap.kcpu[arrays.vm.roles[ROLE.noise], :, KMEM_CACHE_CPU.page]
    return arrays.vm.ctl[VM.noise_count[OBJECTS]] == 0 or (handle >> HANDLE_SHIFT) in cpu_slabs


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("inuse", [-1, 3000])
def test_a_count_outside_its_slab_is_noticed(allocator, inuse):
    arrays, row = lane_with_noise(allocator)
    while allocator == "slub" and on_a_cpu(arrays, row[NOISE.object]):  # whose frees count nothing
        run_lane(*arrays, int(arrays.vm.ctl[VM.now]) + ms.NS_PER_MS)
        row = arrays.vm.noise[OBJECTS, arrays.vm.ctl[VM.noise_head[OBJECTS]]]
    miscounted(arrays, row[NOISE.object], inuse * 2048 if allocator == "slob" else inuse)
    assert broken(arrays) in (GIVEN, TAKEN)


def test_an_object_of_another_cache_is_not_freed_as_ones_own():
    arrays, row = lane_with_noise("slub")
    row[NOISE.object] = arrays.vm.file[arrays.vm.file[:, FILE.inode] > 0, FILE.inode][0] - 1
    assert broken(arrays) == GIVEN


def test_an_object_outside_its_slab_is_not_handed_out():
    arrays, row = lane_with_noise("slub")
    heap, c = arrays.heap, arrays.vm.roles[ROLE.noise]
    k = heap.kcpu[c, row[NOISE.cpu]]
    assert k[KMEM_CACHE_CPU.page] >= 0
    heap.kcpu[c, :, KMEM_CACHE_CPU.freelist] = heap.slab[k[KMEM_CACHE_CPU.page], SLUB_SLAB.objects] + 1
    arrays.vm.ctl[VM.noise_count[OBJECTS]] = 0  # the next event is an arrival
    assert broken(arrays) == TAKEN

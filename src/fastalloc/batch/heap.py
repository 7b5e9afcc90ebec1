"""The allocator of a lane: which caches a scenario's kernel has under it, and the arrays that hold its state."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastalloc.batch.background import background_caches
from fastalloc.batch.caches import CACHES_OF, build_caches, host_sense_caches, path_requests
from fastalloc.compiler.aligned import zeros
from fastalloc.errors import reading
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.emergency_caches import SIZES as EMERGENCY_SIZES
from fastalloc.kernels.alloc.own.state import Own
from fastalloc.kernels.alloc.slab.state import REAPTIMEOUT_LIST3_S, Slab
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_CTL, SLUB_SLAB
from fastalloc.kernels.lane.state import ROLE
from fastalloc.linux import geometry_slab as gs
from fastalloc.linux import slab_flags as sf
from fastalloc.linux import slub_eras as se
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet, Geometry
from fastalloc.linux.gfp import SPARE
from fastalloc.linux.release import parse_base
from fastalloc.own.allocator import own_allocator
from fastalloc.own.lane import LEAST_PAGES, new_own
from fastalloc.policy import Policy
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.slab_arrays import new_slab
from fastalloc.scenario.slub_arrays import geometry_row

Heap = st.Slub | er.SlubEras | Slab | so.Slob | Own
HEAPS: dict[str, type] = {
    "slub": st.Slub,
    "cpu-partial": er.SlubEras,
    "sheaves": er.SlubEras,
    "7.3": er.SlubEras,
    "slab": Slab,
    "slob": so.Slob,
    "own": Own,
}
NO_RECLAIM_FIRST = parse_base("4.4")  # whose first try of a slab does not reclaim, and later ones
ASKED_CAPACITY = 32  # of maple_node and vm_area_struct in 6.18
KEPT = 1 << 30  # partial slabs below which an empty one stays: always
MANY_PAGES = 1 << 22
OBJECTS_A_PAGE = 32  # of 4 kB: that there is room for, on average
SLAB_BREAK_PAGES = 8192  # above 32 MB slabs may take two pages [slab_break_gfp_order]


class Layout(NamedTuple):
    """The slab caches of a scenario's kernel, which all its lanes share and none changes."""

    rows: np.ndarray  # int64, a row a cache as ``init_caches`` reads it; SLAB: none, own: sizes
    roles: np.ndarray  # int64[ROLE.width]: index of the cache of each role
    slabs: tuple[gs.SlabGeometry, ...] = ()  # SLAB
    emergency: tuple[int, ...] = (-1, -1, -1, -1)  # caches of these
    reserve_pages: int = 0  # that the reserve tree asks for
    host_sense: tuple[int, ...] = ()  # cache of the sense buffers of each further host
    background: tuple[int, ...] = ()  # cache of each of the background load's

    def slot_bytes(self, cache: int) -> int:
        """What an object of a cache takes."""
        return self.slabs[cache].buffer_size if self.slabs else int(self.rows[cache, KMEM_CACHE.size])


def roles_of(index: Mapping[str, int]) -> np.ndarray:
    """int64[ROLE.width]: the cache of each role."""
    return np.array([index[name] for name in ROLE.names], np.int64)


def build_layout(scenario: Scenario) -> Layout:
    """Sizes and merges the caches of a scenario (of one variant): most of what it costs to build a small lane.

    Raises:
        InputError: a cache's objects fit no slab.
    """
    with reading(scenario.name, "machine.slab_caches", "cannot be laid out"):
        return _layout(scenario)


def _layout(scenario: Scenario) -> Layout:
    if scenario.policy.allocator == "slab":
        return _slab_layout(scenario)
    if scenario.policy.allocator == "slob":
        return _slob_layout(scenario)
    if scenario.policy.allocator == "own":
        return _own_layout(scenario)
    caches = build_caches(scenario)
    rows = np.stack([_slub_row(caches, geometry, scenario.policy) for geometry in caches.caches])
    for user in scenario.policy.spare_users:
        for name in CACHES_OF[user]:
            rows[caches.index_of(name), KMEM_CACHE.allocflags] |= SPARE  # and with it for all that share the cache
    policy = scenario.policy
    emergency = Layout._field_defaults["emergency"]
    if policy.emergency_caches != "none":
        emergency = tuple(caches.index_of(f"emergency-{size}") for size in EMERGENCY_SIZES)
    if policy.emergency_caches == "ideal":
        rows[list(emergency), KMEM_CACHE.keep_empty] = KEPT
    roles = roles_of({name: caches.index_of(name) for name in ROLE.names})
    reserve = 0
    if policy.reserve_commands > 0:
        for role in (ROLE.command, ROLE.sense):
            reserve += reserve_pages(rows[roles[role]], policy.reserve_commands, scenario.machine.cpus)
    hosts = tuple(caches.index_of(name) for name in host_sense_caches(policy))
    background = tuple(
        caches.kmalloc_index(fitted.size) if fitted.kmalloc else caches.index_of(fitted.name)
        for fitted in background_caches(scenario)
    )
    return Layout(rows, roles, emergency=emergency, reserve_pages=reserve, host_sense=hosts, background=background)


def reserve_pages(row: np.ndarray, objects: int, cpus: int) -> int:
    """Pages that ``objects`` of a cache can take in the worst case: full slabs, and a slab a CPU that nobody else
    reaches [kmem_estimate_pages of Swap over NFS]."""
    slabs = -(-objects // int(row[KMEM_CACHE.objects]))
    return (slabs + (cpus if row[KMEM_CACHE.objects] > 1 else 0)) << int(row[KMEM_CACHE.order])


def slab_room(frames: int) -> int:
    """How many slabs a lane of so many pages has room for."""
    return min(frames, MANY_PAGES) + max(0, frames - MANY_PAGES) // 16


def most_sheaves(scenario: Scenario) -> int:
    """How many sheaves of a cache a lane has room for."""
    return 2 * scenario.machine.cpus + 24 + 2 * scenario.policy.max_full_sheaves


def own_pages(frames: int, room: int = 1) -> int:
    """How many pages an allocator of one's own has numbers for: a sixteenth of all, before its lane outgrows them."""
    return max(LEAST_PAGES, slab_room(frames) // 16) * room


def own_tasks(scenario: Scenario) -> int:
    """The tasks that an allocator of one's own tells apart: all that there are (see ``boot_tasks``), and none."""
    return 2 + scenario.workload.copiers + scenario.workload.writers + 2 * scenario.machine.cpus


def build_heap(scenario: Scenario, layout: Layout, frames: int, room: int = 1) -> Heap:
    """Room for ``room`` times as many slabs as there are pages; above 16 GB, for a slab in each sixteenth of the rest.
    Untouched rows cost no memory."""
    cpus = scenario.machine.cpus
    heap: Any = HEAPS[scenario.policy.allocator]
    if heap is so.Slob:
        # one more than can be had, so that it is the page allocator who says that there is none
        slob: so.Slob = so.new_slob(frames + 1, len(layout.rows))
        return slob
    if heap is Own:
        sizes, pages = layout.rows[:, 0].tolist(), own_pages(frames, room)
        return new_own(own_allocator(*scenario.policy.own), sizes, cpus, own_tasks(scenario), pages)
    frames = room * slab_room(frames)
    links = frames * OBJECTS_A_PAGE * scenario.machine.page_kb // 4
    if heap is Slab:
        return new_slab(
            layout.slabs, cpus, 1, slabs=frames, links=links, next_reap=REAPTIMEOUT_LIST3_S * scenario.machine.hz
        )
    capacity = int(layout.rows[:, KMEM_CACHE.sheaf_capacity].max())
    with_sheaves = int((layout.rows[:, KMEM_CACHE.era] >= er.ERA_SHEAVES).sum())
    sheaves = with_sheaves * most_sheaves(scenario) * room
    slub: st.Slub | er.SlubEras = heap(
        np.zeros((len(layout.rows), KMEM_CACHE.width), np.int64),
        zeros((len(layout.rows), cpus, KMEM_CACHE_CPU.width), np.int64),
        np.zeros((len(layout.rows), 1, KMEM_CACHE_NODE.width), np.int64),
        zeros((frames, SLUB_SLAB.width), np.int32),
        zeros(links, np.int16),
        er.ctl_with_sheaves(sheaves, capacity) if sheaves else np.zeros(SLUB_CTL.width, np.int64),
    )
    return slub


def _slub_row(caches: CacheSet, geometry: Geometry, policy: Policy) -> np.ndarray:
    if policy.allocator == "slub":
        return geometry_row(
            geometry, order_fallback=policy.slub_layout != "2.6.25", keep_empty=policy.min_partial_on_free
        )
    if policy.allocator == "7.3":
        return _sheaf_row(caches, geometry, policy)
    if geometry.cpu_partial == 0:  # a layout without such lists: they are those of 3.2
        wanted = se.cpu_partial(geometry.size, geometry.flags, se.SlubOptions(era="3.2"))
        geometry = replace(geometry, cpu_partial=wanted)
    by_objects = not caches.options.rules.cpu_partial_in_slabs
    no_reclaim = policy.watermark_rule == "6.3" or parse_base(policy.slub_layout) >= NO_RECLAIM_FIRST
    if policy.allocator == "sheaves" and not geometry.flags & sf.KMALLOC_CACHE:
        capacity = policy.sheaf_capacity or ASKED_CAPACITY
        memory = caches.kmalloc_index(er.SHEAF_HEADER + 8 * capacity)
        return geometry_row(geometry, "sheaves", capacity, memory, by_objects, no_reclaim_first=no_reclaim)
    return geometry_row(geometry, "cpu-partial", by_objects=by_objects, no_reclaim_first=no_reclaim)


def _sheaf_row(caches: CacheSet, geometry: Geometry, policy: Policy) -> np.ndarray:
    """A cache of 7.3, kmalloc's too; the capacity by slot size is that of 7.3 whatever the layout."""
    capacity = se.sheaf_capacity(geometry.size, geometry.flags, se.SlubOptions(era="7.3"))
    if capacity and policy.sheaf_capacity:
        capacity = policy.sheaf_capacity
    memory = caches.kmalloc_index(er.SHEAF_HEADER + 8 * capacity) if capacity else -1
    row = geometry_row(geometry, "7.3", capacity, memory)
    row[KMEM_CACHE.barn_cache] = caches.kmalloc_index(er.BARN_BYTES)
    row[[KMEM_CACHE.max_full, KMEM_CACHE.max_empty]] = policy.max_full_sheaves, policy.max_empty_sheaves
    row[KMEM_CACHE.refill] = er.REFILLS.index(policy.refill)
    return row


def _slab_layout(scenario: Scenario) -> Layout:
    """SLAB: every cache of the path by itself, then the kmalloc caches that serve noise and off-slab management."""
    machine = scenario.machine
    options = gs.SlabOptions(
        cache_line=machine.cache_line,
        cpus_node=machine.cpus,
        cpus_possible=machine.cpus,
        break_order=int(sum(zone.present for zone in machine.zones) > SLAB_BREAK_PAGES),
    )
    requests = {request.name: request for request in path_requests(scenario)}
    load = background_caches(scenario)
    for fitted in load:
        if not fitted.kmalloc:
            requests.setdefault(fitted.name, CacheRequest(fitted.name, fitted.size))
    kmalloc = {fitted.size: gs.kmalloc_size(fitted.size, options) for fitted in load if fitted.kmalloc}
    layouts = [gs.slab_geometry(request, options) for request in requests.values()]
    for size in sorted({128, *kmalloc.values()} | {layout.mgmt_cache for layout in layouts if layout.off_slab}):
        layouts.append(gs.slab_geometry(CacheRequest(f"kmalloc-{size}", size, 8, sf.HWCACHE_ALIGN), options))
    index = {layout.name: row for row, layout in enumerate(layouts)}
    roles = roles_of(index)
    hosts = tuple(index[name] for name in host_sense_caches(scenario.policy))
    background = tuple(index[f"kmalloc-{kmalloc[f.size]}" if f.kmalloc else f.name] for f in load)
    return Layout(np.zeros((0, 0), np.int64), roles, tuple(layouts), host_sense=hosts, background=background)


def _own_layout(scenario: Scenario) -> Layout:
    """An allocator of one's own: a cache is a size, padded to the alignment that it is created with, and kmalloc's are
    the general caches of 2.6.25."""
    machine = scenario.machine
    options = gs.SlabOptions(cache_line=machine.cache_line, cpus_node=machine.cpus, cpus_possible=machine.cpus)
    load = background_caches(scenario)
    sizes: dict[str, int] = {}
    for request in path_requests(scenario):
        align = se.calculate_alignment(
            request.flags, request.align, request.size, machine.cache_line, machine.bits // 8
        )
        sizes[request.name] = -(-request.size // max(8, align)) * max(8, align)
    for fitted in load:
        size = gs.kmalloc_size(fitted.size, options) if fitted.kmalloc else -(-fitted.size // 8) * 8
        sizes.setdefault(f"kmalloc-{size}" if fitted.kmalloc else fitted.name, size)
    sizes.setdefault("kmalloc-128", 128)
    index = {name: row for row, name in enumerate(sizes)}
    roles = roles_of(index)
    hosts = tuple(index[name] for name in host_sense_caches(scenario.policy))
    background = tuple(index[f"kmalloc-{gs.kmalloc_size(f.size, options)}" if f.kmalloc else f.name] for f in load)
    return Layout(np.array([[size] for size in sizes.values()]), roles, host_sense=hosts, background=background)


def _slob_layout(scenario: Scenario) -> Layout:
    """SLOB: a cache is a size and an alignment; kmalloc puts a header in front."""
    sizes = {}
    for request in path_requests(scenario):
        geometry = gs.slob_geometry(request, scenario.machine.cache_line)
        sizes[request.name] = (geometry.size, geometry.align, geometry.ctor, 1)
    for size in sorted({128, *(fitted.size for fitted in background_caches(scenario) if fitted.kmalloc)}):
        sizes[f"kmalloc-{size}"] = (gs.slob_kmalloc(size)[0] or size, so.KMALLOC_ALIGN, False, 1)
    for fitted in background_caches(scenario):
        if not fitted.kmalloc and fitted.name not in sizes:
            geometry = gs.slob_geometry(CacheRequest(fitted.name, fitted.size), scenario.machine.cache_line)
            sizes[fitted.name] = (geometry.size, geometry.align, geometry.ctor, 1)
    index = {name: row for row, name in enumerate(sizes)}
    roles = roles_of(index)
    hosts = tuple(index[name] for name in host_sense_caches(scenario.policy))
    background = tuple(index[f"kmalloc-{f.size}" if f.kmalloc else f.name] for f in background_caches(scenario))
    return Layout(np.array(list(sizes.values()), np.int64), roles, host_sense=hosts, background=background)

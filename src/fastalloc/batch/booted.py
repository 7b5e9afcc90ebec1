"""Whether a machine booted: each pool, host, policy and cache holds what its kernel sets aside before anything runs.

The kernel gives up otherwise: mempool_create fails and the driver with it [mm/mempool.c], a host is not added
[scsi_setup_command_freelist], a cache without its barn or sheaves is not made [mm/slub.c of 7.2 and 7.3:
init_kmem_cache_nodes, init_percpu_sheaves], and for want of kmalloc's it panics [bootstrap_cache_sheaves]. A lane must
not go on: what is set aside is handed out without another look, and with less of it the policy would be another one.
Spare pages are as many as there are.
"""

import numpy as np

from fastalloc.batch.heap import Heap, Layout
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.kmem_inspect import cache_slabs
from fastalloc.kernels.alloc.mempool import MEMPOOL, Pools
from fastalloc.kernels.alloc.slub.state import ERA_PERCPU_SHEAVES, SlubEras
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, PAGE, PG_MLOCKED, Mem, Slub
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import HOST, IO, POOL, ROLE, VM
from fastalloc.scenario.models import Scenario

ROLES_OF_BOOT_SLABS = (ROLE.noise, ROLE.biovec, ROLE.radix)  # whose caches BOOT_SLABS are, in their order


def refuse_unbooted(
    scenario: Scenario, layout: Layout, mem: Mem, heap: Heap, pools: Pools, io: ms.Io, vm: ms.Vm
) -> None:
    """Raise InputError naming what got no memory at boot, the first thing first.

    More than five arguments: the groups of state of a lane.
    """
    _refuse_caches(scenario, layout, heap)
    for field in POOL.fields:
        for p in range(field.number, field.number + field.width):
            wanted = pools.pool[p, MEMPOOL.min]
            if (pools.element[p, :wanted] < 0).any():
                raise _too_small(scenario, f"the mempool {field.label} gets no {wanted} objects")
    columns = 2 if io.ctl[POLICY.sense] == ms.SENSE_SEPARATE else 1
    if (io.free_list[: io.ctl[IO.free_list_size], :columns] < 0).any():
        raise _too_small(scenario, f"the host gets no {io.ctl[IO.free_list_size]} commands for its free_list")
    for place, role in enumerate(ROLES_OF_BOOT_SLABS):
        held, wanted = cache_slabs(heap, vm.roles[role]), vm.ctl[VM.boot_slabs[place]]
        if 0 <= held < wanted:
            raise _too_small(scenario, f"boot_slabs: the cache of {ROLE.names[role]} gets {held} of {wanted} slabs")
    wanted = vm.ctl[VM.locked_pages]
    if wanted > 0:  # a look at every page takes memory for their records
        locked = np.count_nonzero(mem.page[:, PAGE.flags] & PG_MLOCKED)
        if locked < wanted:
            raise _too_small(scenario, f"workload.locked_pages: {locked} of {wanted} can be had")
    if (vm.host_command[:, -1, :columns] < 0).any():
        raise _too_small(scenario, f"the {len(vm.host[:, HOST.sense])} further hosts get no command each")


def _refuse_caches(scenario: Scenario, layout: Layout, heap: Heap) -> None:
    """What caches and their policies have from their beginning."""
    policy = scenario.policy
    if policy.emergency_caches in ("v2", "ideal") and isinstance(heap, Slub):
        wanted = scenario.machine.cpus if policy.emergency_caches == "v2" else policy.emergency_slabs
        slabs = heap.knode[list(layout.emergency), 0, KMEM_CACHE_NODE.nr_slabs]
        if (slabs < wanted).any():
            raise _too_small(scenario, f"policy.emergency_caches: they get no {wanted} slabs each")
        if policy.emergency_caches == "v2" and (heap.kcpu[list(layout.emergency), :, KMEM_CACHE_CPU.page] < 0).any():
            raise _too_small(scenario, "policy.emergency_caches: no slab of each for each CPU")
    if isinstance(heap, SlubEras):
        cache = heap.cache[: len(layout.rows)]
        sheaves = (cache[:, KMEM_CACHE.era] == ERA_PERCPU_SHEAVES) & (cache[:, KMEM_CACHE.sheaf_capacity] > 0)
        barn = sheaves & (cache[:, KMEM_CACHE.barn_cache] >= 0)
        count = int(np.count_nonzero(sheaves))
        if (heap.knode[: len(cache)][barn, 0, KMEM_CACHE_NODE.barn] < 0).any():
            raise _too_small(scenario, f"the {count} caches with sheaves get no barn each")
        if (heap.kcpu[: len(cache)][sheaves, :, KMEM_CACHE_CPU.main] < 0).any():
            raise _too_small(scenario, f"the {count} caches with sheaves get no main sheaf for each CPU")


def _too_small(scenario: Scenario, what: str) -> InputError:
    return InputError(scenario.name, "machine.zones", f"too little memory to boot: {what}")

"""Who holds what: the objects in use of every cache, counted from the slabs and from the lists of their holders."""

import numpy as np

from fastalloc.batch.lane import POOL_ROLES, Lane
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.own.state import Own
from fastalloc.kernels.alloc.rcu import CALLBACK_DENTRY, CALLBACK_NODE, KIND_BITS
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_CACHE, SLAB_CTL, SLAB_SLAB, Slab
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slob.ring import SLOB_CTL, SLOB_PAGE
from fastalloc.kernels.alloc.slob.slob import SLOB_CACHE
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.state import SHEAF, SlubEras
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, PAGE, SLUB_CTL, SLUB_SLAB
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import COMMAND, FILE, IO, REQUEST, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, PROGRAM, RECLAIM, TASK, TASK_KIND
from fastalloc.kernels.workload.atomic_noise import OBJECTS


def in_use(arrays: Lane) -> np.ndarray:
    """Objects handed out of each cache, by its slabs, arrays and sheaves; SLOB, which knows no caches: units, pages."""
    return {st.Slub: _slub_in_use, SlubEras: _slub_in_use, Slab: _slab_in_use, so.Slob: _slob_in_use, Own: _own_in_use}[
        type(arrays.heap)
    ](arrays.heap)


def _slub_in_use(slub: st.Slub | SlubEras) -> np.ndarray:
    count = np.zeros(slub.cache.shape[0], np.int64)
    slabs = slub.slab[: slub.ctl[SLUB_CTL.slab_top]]
    slabs = slabs[slabs[:, SLUB_SLAB.pfn] >= 0]
    np.add.at(count, slabs[:, SLUB_SLAB.cache], slabs[:, SLUB_SLAB.inuse])
    for c in range(slub.cache.shape[0]):
        for k in slub.kcpu[c]:
            for column in (KMEM_CACHE_CPU.freelist, KMEM_CACHE_CPU.sheaf_freelist):
                i = k[column]
                while i >= 0:
                    count[c] -= 1
                    i = slub.link[slub.slab[k[column + 1], SLUB_SLAB.base] + i]
        for h in _sheaves(slub, c):
            count[c] -= slub.ctl[h + SHEAF.size]
            count[slub.cache[c, KMEM_CACHE.sheaf_cache]] -= 1  # its memory
    return count


def _sheaves(slub: st.Slub | SlubEras, c: int) -> list[int]:
    """The sheaves of a cache: of its CPUs, and in the barn."""
    if slub.cache[c, KMEM_CACHE.era] != er.ERA_SHEAVES:
        return []
    found = [
        int(k[column])
        for k in slub.kcpu[c]
        for column in (KMEM_CACHE_CPU.sheaf_main, KMEM_CACHE_CPU.spare)
        if k[column] >= 0
    ]
    for head in (KMEM_CACHE_NODE.full, KMEM_CACHE_NODE.empty):
        h = int(slub.knode[c, 0, head])
        while h >= 0:
            found.append(h)
            h = int(slub.ctl[h + SHEAF.next])
    return found


def _slab_in_use(slab: Slab) -> np.ndarray:
    count = slab.cache[:, SLAB_CACHE.active] - slab.queue[:, :, SLAB_ARRAY.avail].sum(axis=1)
    rows = slab.slab[: slab.ctl[SLAB_CTL.slab_top]]
    off_slab = rows[(rows[:, SLAB_SLAB.pfn] >= 0) & (rows[:, SLAB_SLAB.mgmt] >= 0)]
    managed_in = off_slab[:, SLAB_SLAB.mgmt] >> st.HANDLE_SHIFT
    np.subtract.at(count, slab.slab[managed_in, SLAB_SLAB.cache], 1)
    return count


def _slob_in_use(slob: so.Slob) -> np.ndarray:
    pages = slob.page[so.FIRST_PAGE : slob.ctl[SLOB_CTL.top]]
    pages = pages[pages[:, SLOB_PAGE.pfn] >= 0]
    return np.array([(so.PAGE_UNITS - pages[:, SLOB_PAGE.units]).sum(), slob.ctl[SLOB_CTL.whole]])


def _own_in_use(own: Own) -> np.ndarray:
    begins = own.used[own.used > 0].astype(np.int64)
    return np.bincount(begins - 1, minlength=own.counts.shape[0])


def held(arrays: Lane) -> np.ndarray:
    """Objects that somebody can still free, by cache; SLOB: the units and pages that they take."""
    _, heap, pools, io, vm, _ = arrays
    count = np.zeros(len(heap.counts if isinstance(heap, Own) else heap.cache), np.int64)

    def add(role: int, objects: int) -> None:
        count[vm.roles[role]] += objects

    for p, role in enumerate(POOL_ROLES):
        add(role, pools.pool[p, MEMPOOL.curr])
    add(ROLE.bio, io.ctl[IO.bios])
    waiting = vm.task[: vm.ctl[VM.nr_tasks], TASK.reclaim] == RECLAIM.biovec_alloc
    add(ROLE.biovec, io.ctl[IO.bios] - waiting.sum())
    building = vm.task[: vm.ctl[VM.nr_tasks], TASK.reclaim] == RECLAIM.request_alloc
    add(ROLE.request, io.ctl[IO.count] - building.sum())
    commands = io.ctl[IO.free_list]
    for first in (IO.head, IO.dispatch_head):
        r = io.ctl[first]
        while r >= 0:
            d = io.request[r, REQUEST.command]
            if d >= 0:  # prepared, not yet at the disk
                commands += 1
                add(POOL_ROLES[io.command[d, COMMAND.sg_pool]], 1)
            r = io.request[r, REQUEST.next]
    for head in (IO.disk_head, IO.done_head):
        d = io.ctl[head]
        while d >= 0:
            commands += 1
            add(POOL_ROLES[io.command[d, COMMAND.sg_pool]], 1)
            d = io.command[d, COMMAND.next]
    commands += ((vm.cpu[:, CPU.softirq] >= 1) & (vm.cpu[:, CPU.softirq] <= 3)).sum()
    add(ROLE.command, commands)
    add(ROLE.sense, commands)
    add(ROLE.path, (vm.task[: vm.ctl[VM.nr_tasks], TASK.path] >= 0).sum())
    add(ROLE.radix, (vm.leaf[:, 1] > 0).sum() + (vm.middle[:, 0] >= 0).sum() + (vm.ctl[VM.swap_top] >= 0))
    add(ROLE.radix, (vm.file[:, FILE.node] > 0).sum() + vm.cpu[:, CPU.stock].sum())
    add(ROLE.radix, ms.RADIX_STOCK * vm.task[:, TASK.context].sum())
    for cpu, c in enumerate(vm.cpu.tolist()):
        for i in range(c[CPU.rcu_done] + c[CPU.rcu_current] + c[CPU.rcu_next]):
            kind = vm.callback[cpu, (c[CPU.rcu_head] + i) % ms.RCU_RING] & ((1 << KIND_BITS) - 1)
            add(ROLE.radix, kind == CALLBACK_NODE)
            add(ROLE.dentry, kind == CALLBACK_DENTRY)
    for i, role in enumerate((ROLE.noise, ROLE.biovec, ROLE.radix)):
        add(role, vm.ctl[VM.boot_live[i]])
    program = vm.task[vm.task[:, TASK.kind] == TASK_KIND.copier, TASK.program]
    has_directory = (program < PROGRAM.directory).sum()
    add(ROLE.inode, (vm.file[:, FILE.inode] > 0).sum() + has_directory)
    add(ROLE.dentry, (vm.file[:, FILE.dentry] > 0).sum() + has_directory + (program == PROGRAM.directory_inode).sum())
    add(ROLE.noise, vm.ctl[VM.noise_count[OBJECTS]])
    if isinstance(heap, so.Slob):
        sizes = heap.cache[:, SLOB_CACHE.size]
        whole = sizes >= so.PAGE_BYTES
        units = -(-sizes // so.SLOB_UNIT)
        return np.array([(count * units)[~whole].sum(), (count * -(-sizes // so.PAGE_BYTES))[whole].sum()])
    return count


def swap_slots(arrays: Lane) -> tuple[int, int]:
    """Swap slots in use, by the map and by who refers to them: swapped-out pages and pages in the swap cache."""
    mem, _, _, _, vm, _ = arrays
    cached = (mem.page[:, PAGE.flags] & st.PG_SWAPCACHE) != 0
    return int((vm.slot != 0).sum()), int((vm.where < 0).sum() + cached.sum())


def logical_pages(arrays: Lane) -> tuple[int, int]:
    """Pages of files and mappings in memory, by their owners and by the frames that name an owner."""
    mem, vm = arrays.mem, arrays.vm
    frames = vm.where[vm.where > 0] - 1
    owners = mem.page[frames, PAGE.owner]
    assert (vm.where[owners] == 1 + frames).all()
    assert np.bincount(frames).max(initial=0) <= 1
    return len(frames), np.count_nonzero(np.bincount(owners))

"""Who holds what: the objects in use of every cache, counted from the slabs and from the lists of their holders."""

import numpy as np

from fastalloc.batch.lane import POOL_ROLES, Lane
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MP_CURR
from fastalloc.kernels.alloc.slab import state as ss
from fastalloc.kernels.alloc.slab.state import Slab
from fastalloc.kernels.alloc.slob import slob as so
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.state import SlubEras
from fastalloc.kernels.lane import state as ms


def in_use(arrays: Lane) -> np.ndarray:
    """Objects handed out of each cache, by its slabs, arrays and sheaves; SLOB, which knows no caches: units, pages."""
    return {st.Slub: _slub_in_use, SlubEras: _slub_in_use, Slab: _slab_in_use, so.Slob: _slob_in_use}[
        type(arrays.heap)
    ](arrays.heap)


def _slub_in_use(slub: st.Slub | SlubEras) -> np.ndarray:
    count = np.zeros(slub.cache.shape[0], np.int64)
    for row in slub.slab[: slub.ctl[st.U_SLAB_TOP]]:
        if row[st.S_PFN] >= 0:
            count[row[st.S_CACHE]] += row[st.S_INUSE]
    for c in range(slub.cache.shape[0]):
        for k in slub.kcpu[c]:
            for column in (st.K_FREELIST, er.K_SHEAF_FREELIST):
                i = k[column]
                while i >= 0:
                    count[c] -= 1
                    i = slub.link[slub.slab[k[column + 1], st.S_BASE] + i]
        for h in _sheaves(slub, c):
            count[c] -= slub.ctl[h + er.H_SIZE]
            count[slub.cache[c, er.C_SHEAF_CACHE]] -= 1  # its memory
    return count


def _sheaves(slub: st.Slub | SlubEras, c: int) -> list[int]:
    """The sheaves of a cache: of its CPUs, and in the barn."""
    if slub.cache[c, er.C_ERA] != er.ERA_SHEAVES:
        return []
    found = [int(k[column]) for k in slub.kcpu[c] for column in (er.K_MAIN, er.K_SPARE) if k[column] >= 0]
    for head in (er.N_FULL, er.N_EMPTY):
        h = int(slub.knode[c, 0, head])
        while h >= 0:
            found.append(h)
            h = int(slub.ctl[h + er.H_NEXT])
    return found


def _slab_in_use(slab: Slab) -> np.ndarray:
    count = slab.cache[:, ss.A_ACTIVE] - slab.queue[:, :, ss.Q_AVAIL].sum(axis=1)
    for row in slab.slab[: slab.ctl[ss.T_SLAB_TOP]]:
        if row[ss.L_PFN] >= 0 and row[ss.L_MGMT] >= 0:
            count[slab.slab[row[ss.L_MGMT] >> st.HANDLE_SHIFT, ss.L_CACHE]] -= 1
    return count


def _slob_in_use(slob: so.Slob) -> np.ndarray:
    pages = slob.page[so.FIRST_PAGE : slob.ctl[so.O_TOP]]
    pages = pages[pages[:, so.B_PFN] >= 0]
    return np.array([(so.PAGE_UNITS - pages[:, so.B_UNITS]).sum(), slob.ctl[so.O_WHOLE]])


def held(arrays: Lane) -> np.ndarray:
    """Objects that somebody can still free, by cache; SLOB: the units and pages that they take."""
    _, heap, pools, io, vm, _ = arrays
    count = np.zeros(heap.cache.shape[0], np.int64)

    def add(role: int, objects: int) -> None:
        count[vm.roles[role]] += objects

    for p, role in enumerate(POOL_ROLES):
        add(role, pools.pool[p, MP_CURR])
    add(ms.ROLE_BIO, io.ctl[ms.H_BIOS])
    waiting = vm.task[: vm.ctl[ms.V_NR_TASKS], ms.T_RECLAIM] == ms.R_BIOVEC_ALLOC
    add(ms.ROLE_BIOVEC, io.ctl[ms.H_BIOS] - waiting.sum())
    building = vm.task[: vm.ctl[ms.V_NR_TASKS], ms.T_RECLAIM] == ms.R_REQUEST_ALLOC
    add(ms.ROLE_REQUEST, io.ctl[ms.Q_COUNT] - building.sum())
    commands = io.ctl[ms.H_FREE_LIST]
    r = io.ctl[ms.Q_HEAD]
    while r >= 0:
        d = io.request[r, ms.R_COMMAND]
        if d >= 0:  # prepared, not yet at the disk
            commands += 1
            add(ms.ROLE_SG8 + io.command[d, ms.D_SG_POOL] - ms.POOL_SG, 1)
        r = io.request[r, ms.R_NEXT]
    for head in (ms.H_DISK_HEAD, ms.H_DONE_HEAD):
        d = io.ctl[head]
        while d >= 0:
            commands += 1
            add(ms.ROLE_SG8 + io.command[d, ms.D_SG_POOL] - ms.POOL_SG, 1)
            d = io.command[d, ms.D_NEXT]
    commands += ((vm.cpu[:, ms.CPU_SOFTIRQ] >= 1) & (vm.cpu[:, ms.CPU_SOFTIRQ] <= 3)).sum()
    add(ms.ROLE_COMMAND, commands)
    add(ms.ROLE_SENSE, commands)
    add(ms.ROLE_RADIX, (vm.leaf[:, 1] > 0).sum() + (vm.file[:, ms.F_NODE] >= 0).sum())
    add(ms.ROLE_INODE, (vm.file[:, ms.F_INODE] >= 0).sum())
    add(ms.ROLE_DENTRY, (vm.file[:, ms.F_DENTRY] >= 0).sum())
    add(ms.ROLE_NOISE, vm.ctl[ms.V_NOISE_COUNT])
    if isinstance(heap, so.Slob):
        sizes = heap.cache[:, so.O_SIZE]
        whole = sizes >= so.PAGE_BYTES
        units = -(-sizes // so.SLOB_UNIT)
        return np.array([(count * units)[~whole].sum(), (count * -(-sizes // so.PAGE_BYTES))[whole].sum()])
    return count


def swap_slots(arrays: Lane) -> tuple[int, int]:
    """Swap slots in use, by the map and by who refers to them: swapped-out pages and pages in the swap cache."""
    mem, _, _, _, vm, _ = arrays
    cached = (mem.page[:, st.P_FLAGS] & st.PG_SWAPCACHE) != 0
    return int((vm.slot != 0).sum()), int((vm.where < -1).sum() + cached.sum())


def logical_pages(arrays: Lane) -> tuple[int, int]:
    """Pages of files and mappings in memory, by their owners and by the frames that name an owner."""
    mem, vm = arrays.mem, arrays.vm
    frames = vm.where[vm.where >= 0]
    owners = mem.page[frames, st.P_OWNER]
    assert (vm.where[owners] == frames).all()
    assert len(np.unique(frames)) == len(frames)
    return len(frames), len(np.unique(owners))

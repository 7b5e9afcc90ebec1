"""Who holds what: the objects in use of every cache, counted from the slabs and from the lists of their holders."""

import numpy as np

from fastalloc.batch.lane import POOL_ROLES, Lane
from fastalloc.kernels import machine_state as ms
from fastalloc.kernels import state as st
from fastalloc.kernels.mempool import MP_CURR


def in_use(arrays: Lane) -> np.ndarray:
    """Objects handed out of each cache, by its slabs."""
    slub = arrays.slub
    count = np.zeros(slub.cache.shape[0], np.int64)
    for row in slub.slab[: slub.ctl[st.U_SLAB_TOP]]:
        if row[st.S_PFN] >= 0:
            count[row[st.S_CACHE]] += row[st.S_INUSE]
    for c in range(slub.cache.shape[0]):
        for k in slub.kcpu[c]:
            i = k[st.K_FREELIST]
            while i >= 0:
                count[c] -= 1
                i = slub.link[slub.slab[k[st.K_PAGE], st.S_BASE] + i]
    return count


def held(arrays: Lane) -> np.ndarray:
    """Objects that somebody can still free, by cache."""
    _, slub, pools, io, vm, _ = arrays
    count = np.zeros(slub.cache.shape[0], np.int64)

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

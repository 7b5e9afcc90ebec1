"""The workload: tasks that copy trees into tmpfs, and tasks that fill anonymous memory [mm/shmem.c, mm/memory.c].

A copier writes a tree file by file, removes it, and starts again; a writer touches its pages one by one, unmaps
them, and starts again. Every page, inode, dentry and radix node is allocated with the kernel's mask, and every
allocation that fails goes through direct reclaim as in __alloc_pages.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, get_page_from_freelist, note_depth
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.lane import metrics, rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import log_event, sleep_on
from fastalloc.kernels.reclaim.vmscan import begin_reclaim, congestion_wait
from fastalloc.kernels.swap.lru import lru_add, truncate_page
from fastalloc.linux import gfp as g

PAGES_COPIED = metrics.METRICS.index("pages_copied")
FILES_COPIED = metrics.METRICS.index("files_copied")
TREES_REMOVED = metrics.METRICS.index("trees_removed")
ANONYMOUS_PAGES = metrics.METRICS.index("anonymous_pages")
E_TREE_REMOVED = metrics.EVENTS.index("tree_removed")

STREAM_FILE = 1
FILE_PAGES_MAX = 64  # one radix node a file
SWAP_BATCH = 14  # pages an unmap frees at a time


@internal
def pfmemalloc_watermark_ok(mem):
    """Whether more than half of the sum of min is free; pages that lowmem_reserve protects count as well
    [pfmemalloc_watermark_ok, 3.6]."""
    mem.ctl[st.M_TESTS] += 1
    free = 0
    reserve = 0
    for z in range(mem.ctl[st.M_NR_ZONES]):
        free += mem.zone[z, st.Z_FREE]
        reserve += mem.zone[z, st.Z_MIN]
    return free > reserve // 2


@internal
def after_failure(mem, vm, out, t, cpu, jiffies):
    """What __alloc_pages (2.6.25, order 0, may reclaim) does next after an attempt has failed.

    Direct reclaim, then attempt D, then a nap of up to 20 ms and again; without progress the OOM path's one-jiffy
    nap and a restart (nobody is killed here). Behind the gate of 3.6 a task looks again every 100 ms instead of being
    woken by kswapd [throttle_direct_reclaim].
    """
    task = vm.task[t]
    if task[ms.T_ATTEMPT] != ms.ATTEMPT_RECLAIMED:
        if vm.ctl[ms.V_RECLAIM_GATE] != 0 and not pfmemalloc_watermark_ok(mem):
            congestion_wait(mem, vm, out, t, cpu, 10, jiffies)
            return
        begin_reclaim(vm, out, t, cpu)
    elif task[ms.T_PROGRESS] != 0:
        task[ms.T_ATTEMPT] = ms.ATTEMPT_NAPPED
        congestion_wait(mem, vm, out, t, cpu, 50, jiffies)
    else:
        task[ms.T_ATTEMPT] = ms.ATTEMPT_FRESH
        sleep_on(vm, cpu, ms.SLEEP_START, 1, False, jiffies)


@folded
def task_alloc_page(mem, vm, out, t, cpu, gfp, jiffies):
    """A page for a task, or -1: it is now in direct reclaim or asleep."""
    task = vm.task[t]
    pfn = -1
    mem.ctl[st.M_WHO] = metrics.W_PAGE
    if task[ms.T_ATTEMPT] == ms.ATTEMPT_FRESH:
        pfn = alloc_pages(mem, cpu, -1, gfp, 0, 0)
    elif task[ms.T_ATTEMPT] == ms.ATTEMPT_RECLAIMED:
        mark = st.Z_MIN if task[ms.T_PROGRESS] != 0 else st.Z_HIGH
        pfn = get_page_from_freelist(mem, cpu, 0, mem.ctl[st.M_NR_ZONES] - 1, mark, False, False)
        if pfn >= 0:
            note_depth(mem, st.DEPTH_MIN)
    if pfn < 0:
        after_failure(mem, vm, out, t, cpu, jiffies)
        return -1
    task[ms.T_ATTEMPT] = ms.ATTEMPT_FRESH
    return pfn


@folded
def task_alloc_object(mem, heap, vm, out, t, cpu, role, who, jiffies):
    """A GFP_KERNEL object for a task, or NO_OBJECT: it is now in direct reclaim or asleep."""
    task = vm.task[t]
    handle = st.NO_OBJECT
    if task[ms.T_ATTEMPT] != ms.ATTEMPT_NAPPED:
        handle = slab_take(mem, heap, out, vm.roles[role], cpu, g.GFP_KERNEL, 0, who)
    if handle < 0:
        after_failure(mem, vm, out, t, cpu, jiffies)
        return handle
    task[ms.T_ATTEMPT] = ms.ATTEMPT_FRESH
    return handle


@folded
def file_pages(vm, t, tree, number):
    """Pages of a file of a tree: 1 + a geometric number with the scenario's mean, the same under every policy.

    The geometric number is the whole part of an exponential, drawn in 1/1024 page.
    """
    u = rng.draw(vm.ctl[ms.V_SEED], STREAM_FILE, vm.ctl[ms.V_LANE], (t << 40) | (tree << 20) | number, 0)
    return min(FILE_PAGES_MAX, 1 + rng.exponential_ns(u, vm.ctl[ms.V_FILE_SCALE]) // 1024)


@folded
def copy_step(mem, heap, vm, out, t, cpu, jiffies):
    """Advance a copier by one step; CPU time in ns [shmem_create, shmem_getpage, add_to_page_cache]."""
    task = vm.task[t]
    program = task[ms.T_PROGRAM]
    f = task[ms.T_FILE_BASE] + task[ms.T_FILE]
    if program == ms.PROGRAM_PAGE:
        pfn = task_alloc_page(mem, vm, out, t, cpu, g.GFP_HIGHUSER_PAGECACHE, jiffies)
        if pfn < 0:
            return vm.costs[ms.COST_WAKE]
        task[ms.T_NEW_PAGE] = pfn
        program = ms.PROGRAM_INSERT
        task[ms.T_PROGRAM] = program
    if program == ms.PROGRAM_INSERT:
        pfn = task[ms.T_NEW_PAGE]
        if task[ms.T_FILE_PAGE] >= 1 and vm.file[f, ms.F_NODE] < 0:  # index 0 alone sits in the root
            handle = task_alloc_object(mem, heap, vm, out, t, cpu, ms.ROLE_RADIX, metrics.W_RADIX, jiffies)
            if handle < 0:
                return vm.costs[ms.COST_WAKE]
            vm.file[f, ms.F_NODE] = handle
        owner = task[ms.T_PAGE_BASE] + task[ms.T_NR_PAGES]
        mem.page[pfn, st.P_OWNER] = owner
        mem.page[pfn, st.P_FILE] = f
        mem.page[pfn, st.P_FLAGS] |= st.PG_DIRTY  # not PG_referenced: generic_perform_write of 2.6.25 marks nothing
        vm.where[owner] = pfn
        vm.file[f, ms.F_MAPPED] += 1
        lru_add(mem, pfn, False)
        task[ms.T_NEW_PAGE] = -1
        task[ms.T_NR_PAGES] += 1
        task[ms.T_FILE_PAGE] += 1
        out.metric[PAGES_COPIED] += 1
        task[ms.T_PROGRAM] = ms.PROGRAM_PAGE
        if task[ms.T_FILE_PAGE] == task[ms.T_FILE_PAGES]:
            vm.file[f, ms.F_PAGES] = task[ms.T_FILE_PAGES]
            out.metric[FILES_COPIED] += 1
            task[ms.T_FILE] += 1
            task[ms.T_PROGRAM] = ms.PROGRAM_FILE
        return vm.costs[ms.COST_COPY_PAGE]
    if program == ms.PROGRAM_FILE:
        if task[ms.T_FILE] == vm.ctl[ms.V_TREE_FILES] or task[ms.T_NR_PAGES] + FILE_PAGES_MAX > vm.ctl[ms.V_TREE_PAGES]:
            task[ms.T_FILE_PAGES] = task[ms.T_FILE]
            task[ms.T_FILE] = 0
            task[ms.T_FILE_PAGE] = 0
            task[ms.T_NR_PAGES] = 0
            task[ms.T_PROGRAM] = ms.PROGRAM_REMOVE
            return 0
        handle = task_alloc_object(mem, heap, vm, out, t, cpu, ms.ROLE_INODE, metrics.W_INODE, jiffies)
        if handle < 0:
            return vm.costs[ms.COST_WAKE]
        vm.file[f, ms.F_INODE] = handle
        vm.file[f, ms.F_NODE] = -1
        vm.file[f, ms.F_MAPPED] = 0
        task[ms.T_PROGRAM] = ms.PROGRAM_DENTRY
        program = ms.PROGRAM_DENTRY
    handle = task_alloc_object(mem, heap, vm, out, t, cpu, ms.ROLE_DENTRY, metrics.W_DENTRY, jiffies)
    if handle < 0:
        return vm.costs[ms.COST_WAKE]
    vm.file[f, ms.F_DENTRY] = handle
    task[ms.T_FILE_PAGE] = 0
    task[ms.T_FILE_PAGES] = file_pages(vm, t, task[ms.T_TREE], task[ms.T_FILE])
    task[ms.T_PROGRAM] = ms.PROGRAM_PAGE
    return vm.costs[ms.COST_CREATE_FILE]


@folded
def remove_step(mem, heap, vm, out, t, cpu):
    """Remove one file of a finished tree, pages first, then dentry and inode; CPU time in ns [shmem_delete_inode]."""
    task = vm.task[t]
    f = task[ms.T_FILE_BASE] + task[ms.T_FILE]
    pages = vm.file[f, ms.F_PAGES]
    base = task[ms.T_PAGE_BASE] + task[ms.T_NR_PAGES]
    for i in range(pages):
        truncate_page(mem, heap, vm, cpu, base + i)
    task[ms.T_NR_PAGES] += pages
    slab_give(mem, heap, vm.roles[ms.ROLE_DENTRY], cpu, vm.file[f, ms.F_DENTRY])
    slab_give(mem, heap, vm.roles[ms.ROLE_INODE], cpu, vm.file[f, ms.F_INODE])
    vm.file[f, ms.F_DENTRY] = -1
    vm.file[f, ms.F_INODE] = -1
    vm.file[f, ms.F_PAGES] = 0
    task[ms.T_FILE] += 1
    if task[ms.T_FILE] == task[ms.T_FILE_PAGES]:
        finish_tree(vm, out, t, cpu)
        task[ms.T_PROGRAM] = ms.PROGRAM_FILE
    return (1 + pages) * vm.costs[ms.COST_REMOVE_PAGE]


@folded
def finish_tree(vm, out, t, cpu):
    """A tree (or a writer's mapping) is gone; the task starts over."""
    task = vm.task[t]
    task[ms.T_FILE] = 0
    task[ms.T_NR_PAGES] = 0
    task[ms.T_TREE] += 1
    out.metric[TREES_REMOVED] += 1
    if out.ctl[ms.OUT_FULL] != 0:
        log_event(vm, out, E_TREE_REMOVED, cpu, t, task[ms.T_TREE], 0, 0)


@folded
def writer_step(mem, heap, vm, out, t, cpu, jiffies):
    """Advance an anonymous writer by one page fault, or unmap a batch; CPU time in ns [do_anonymous_page]."""
    task = vm.task[t]
    if task[ms.T_PROGRAM] == ms.PROGRAM_REMOVE:
        base = task[ms.T_PAGE_BASE] + task[ms.T_NR_PAGES]
        count = min(SWAP_BATCH, vm.ctl[ms.V_WRITER_PAGES] - task[ms.T_NR_PAGES])
        for i in range(count):
            truncate_page(mem, heap, vm, cpu, base + i)
        task[ms.T_NR_PAGES] += count
        if task[ms.T_NR_PAGES] == vm.ctl[ms.V_WRITER_PAGES]:
            finish_tree(vm, out, t, cpu)
            task[ms.T_PROGRAM] = ms.PROGRAM_PAGE
        return count * vm.costs[ms.COST_REMOVE_PAGE]
    pfn = task_alloc_page(mem, vm, out, t, cpu, g.GFP_HIGHUSER_PAGECACHE, jiffies)
    if pfn < 0:
        return vm.costs[ms.COST_WAKE]
    owner = task[ms.T_PAGE_BASE] + task[ms.T_NR_PAGES]
    mem.page[pfn, st.P_OWNER] = owner
    mem.page[pfn, st.P_FILE] = -1
    mem.page[pfn, st.P_FLAGS] |= st.PG_ANON | st.PG_MAPPED | st.PG_REFERENCED
    vm.where[owner] = pfn
    vm.ctl[ms.V_ANON_MAPPED] += 1
    lru_add(mem, pfn, True)
    task[ms.T_NR_PAGES] += 1
    out.metric[ANONYMOUS_PAGES] += 1
    if task[ms.T_NR_PAGES] == vm.ctl[ms.V_WRITER_PAGES]:
        task[ms.T_NR_PAGES] = 0
        task[ms.T_PROGRAM] = ms.PROGRAM_REMOVE
    return vm.costs[ms.COST_FAULT_PAGE]


@folded
def workload_step(mem, heap, vm, out, t, cpu, jiffies):
    """Advance a task's own program by one step; CPU time in ns."""
    task = vm.task[t]
    if task[ms.T_KIND] == ms.KIND_WRITER:
        return writer_step(mem, heap, vm, out, t, cpu, jiffies)
    if task[ms.T_PROGRAM] == ms.PROGRAM_REMOVE:
        return remove_step(mem, heap, vm, out, t, cpu)
    return copy_step(mem, heap, vm, out, t, cpu, jiffies)

"""The workload: tasks that copy trees into tmpfs, and tasks that fill anonymous memory [mm/shmem.c, mm/memory.c].

A copier writes a tree file by file, removes it, and starts again; a writer touches its pages one by one, unmaps
them, and starts again. The buffer of a path, dentries, inodes, radix nodes and pages are allocated in the kernel's
order and with its masks (a struct file is not, its RCU callback is there), and every allocation that fails goes
through direct reclaim as in __alloc_pages.
"""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import alloc_pages, free_pages, get_page_from_freelist, note_depth
from fastalloc.kernels.alloc.radix_tree import radix_tree_node_alloc, radix_tree_preload, stock_node
from fastalloc.kernels.alloc.rcu import CALLBACK_DENTRY, CALLBACK_FILE, call_rcu
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.alloc.state import DEPTH, MEMCTL, PAGE, ZONE
from fastalloc.kernels.alloc.vmstat import zone_page_state
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.events import log_event
from fastalloc.kernels.lane.metrics import EVENT, METRIC, WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.sched import sleep_on, wake_one
from fastalloc.kernels.lane.state import COST, FILE, MAPPING, OUT_CTL, ROLE, VM
from fastalloc.kernels.lane.tasks import ATTEMPT, CPU, PROGRAM, TASK, TASK_KIND, TASK_STATE
from fastalloc.kernels.reclaim.congestion import congestion_wait
from fastalloc.kernels.reclaim.vmscan import begin_reclaim
from fastalloc.kernels.swap.lru import lru_add, truncate_page
from fastalloc.linux import gfp as g

STREAM_FILE = 1
FILE_PAGES_MAX = 64  # one radix node a file
SWAP_BATCH = 14  # pages an unmap frees at a time
GFP_NOWAIT = 0


@internal
def pfmemalloc_watermark_ok(mem):
    """Whether more than half of the sum of min is free; pages that lowmem_reserve protects count as well
    [pfmemalloc_watermark_ok, 3.6]."""
    mem.ctl[MEMCTL.tests] += 1
    free = 0
    reserve = 0
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        free += zone_page_state(mem, z)
        reserve += mem.zone[z, ZONE.min]
    return free > reserve // 2


@internal
def after_failure(mem, vm, out, t, cpu, jiffies):
    """What __alloc_pages (2.6.25, order 0, may reclaim) does next after an attempt has failed.

    Direct reclaim, then attempt D, then a nap of up to 20 ms and again; without progress the OOM path's one-jiffy
    nap and a restart (nobody is killed here). Behind the gate of 3.6 a task looks again every 100 ms instead of being
    woken by kswapd [throttle_direct_reclaim].
    """
    task = vm.task[t]
    if task[TASK.attempt] != ATTEMPT.reclaimed:
        if vm.ctl[POLICY.reclaim_gate] != 0 and not pfmemalloc_watermark_ok(mem):
            congestion_wait(vm, out, t, cpu, 10, jiffies)
            return
        begin_reclaim(vm, out, t, cpu)
    elif task[TASK.progress] != 0:
        task[TASK.attempt] = ATTEMPT.napped
        congestion_wait(vm, out, t, cpu, 50, jiffies)
    else:
        out.metric[METRIC.oom] += 1
        if out.metric[METRIC.oom_ms] < 0:
            out.metric[METRIC.oom_ms] = vm.ctl[VM.now] // ms.NS_PER_MS
        task[TASK.attempt] = ATTEMPT.fresh
        sleep_on(vm, cpu, TASK_STATE.start, 1, False, jiffies)


@folded
def task_alloc_page(mem, vm, out, t, cpu, gfp, jiffies):
    """A page for a task, or -1: it is now in direct reclaim or asleep."""
    task = vm.task[t]
    pfn = -1
    mem.ctl[MEMCTL.who] = WHO.page
    task[TASK.order] = 0
    if task[TASK.attempt] == ATTEMPT.fresh:
        pfn = alloc_pages(mem, cpu, -1, gfp, 0, 0)
    elif task[TASK.attempt] == ATTEMPT.reclaimed:
        mark = ZONE.min if task[TASK.progress] != 0 else ZONE.high
        pfn = get_page_from_freelist(mem, cpu, gfp, 0, mem.ctl[MEMCTL.nr_zones] - 1, mark, False)
        if pfn >= 0:
            note_depth(mem, DEPTH.min)
    if pfn < 0:
        after_failure(mem, vm, out, t, cpu, jiffies)
        return -1
    task[TASK.attempt] = ATTEMPT.fresh
    return pfn


@folded
def task_alloc_object(mem, heap, vm, out, t, cpu, role, who, jiffies):
    """A GFP_KERNEL object for a task, or NO_OBJECT: it is now in direct reclaim or asleep."""
    task = vm.task[t]
    handle = st.NO_OBJECT
    if task[TASK.attempt] != ATTEMPT.napped:
        mem.ctl[MEMCTL.reclaim_order] = 0
        gfp = g.GFP_KERNEL | (g.RECLAIMABLE if role == ROLE.radix else 0)
        handle = slab_take(mem, heap, out, vm.roles[role], cpu, gfp, 0, who)
        task[TASK.order] = mem.ctl[MEMCTL.reclaim_order]
    if handle < 0:
        after_failure(mem, vm, out, t, cpu, jiffies)
        return handle
    task[TASK.attempt] = ATTEMPT.fresh
    return handle


@internal
def getname(mem, heap, vm, out, t, cpu, jiffies):
    """A buffer of 4 kB for the path of a system call, kept until it ends; False: the task is now in direct reclaim or
    asleep [getname, putname]."""
    handle = task_alloc_object(mem, heap, vm, out, t, cpu, ROLE.path, WHO.path, jiffies)
    if handle < 0:
        return False
    vm.task[t, TASK.path] = handle
    return True


@internal
def putname(mem, heap, vm, t, cpu):
    """The system call is over: its path's buffer goes back."""
    slab_give(mem, heap, vm.roles[ROLE.path], cpu, vm.task[t, TASK.path])
    vm.task[t, TASK.path] = -1


@folded
def file_pages(vm, t, tree, number):
    """Pages of a file of a tree: 1 + a geometric number with the scenario's mean, the same under every policy.

    The geometric number is the whole part of an exponential, drawn in 1/1024 page.
    """
    u = rng.draw(vm.ctl[VM.seed], STREAM_FILE, vm.ctl[VM.lane], (t << 40) | (tree << 20) | number, 0)
    return min(FILE_PAGES_MAX, 1 + rng.exponential_ns(u, vm.ctl[VM.file_scale]) // 1024)


@folded
def preload_step(mem, heap, vm, out, t, cpu, jiffies):
    """Fill the CPU's stock of radix nodes while the task may wait; False: it is now in direct reclaim or asleep
    [shmem_getpage, radix_tree_preload]."""
    while vm.cpu[cpu, CPU.stock] < ms.RADIX_STOCK:
        handle = task_alloc_object(mem, heap, vm, out, t, cpu, ROLE.radix, WHO.radix, jiffies)
        if handle < 0:
            return False
        stock_node(vm, cpu, handle)
    vm.task[t, TASK.attempt] = ATTEMPT.fresh  # another task may have filled it meanwhile
    return True


@internal
def mkdir_step(mem, heap, vm, out, t, cpu, jiffies):
    """Advance a copier that makes its directory, once; CPU time in ns.

    It holds the i_mutex of the directory above, that of all copiers, while it allocates dentry and inode, also where it
    reclaims for them: others that begin wait [sys_mkdirat, lookup_create, shmem_mkdir; kernel/mutex.c].
    """
    out_of_line()
    task = vm.task[t]
    if task[TASK.program] == PROGRAM.directory:
        if not getname(mem, heap, vm, out, t, cpu, jiffies):
            return vm.costs[COST.wake]
        task[TASK.program] = PROGRAM.parent
    if task[TASK.program] == PROGRAM.parent or task[TASK.program] == PROGRAM.parent_woken:
        if task[TASK.program] == PROGRAM.parent_woken:
            vm.ctl[VM.i_mutex_woken] = 0
        if vm.ctl[VM.i_mutex] != 0:  # who has waited keeps its place
            sleep_on(vm, cpu, TASK_STATE.i_mutex, -1, task[TASK.program] == PROGRAM.parent, jiffies)
            task[TASK.program] = PROGRAM.parent_woken
            out.metric[METRIC.i_mutex_waits] += 1
            return vm.costs[COST.wake]
        vm.ctl[VM.i_mutex] = 1
        task[TASK.program] = PROGRAM.directory_dentry
    if task[TASK.program] == PROGRAM.directory_dentry:
        if task_alloc_object(mem, heap, vm, out, t, cpu, ROLE.dentry, WHO.dentry, jiffies) < 0:
            return vm.costs[COST.wake]
        task[TASK.program] = PROGRAM.directory_inode
    if task_alloc_object(mem, heap, vm, out, t, cpu, ROLE.inode, WHO.inode, jiffies) < 0:
        return vm.costs[COST.wake]
    vm.ctl[VM.i_mutex] = 0
    if vm.ctl[VM.i_mutex_woken] == 0 and vm.ctl[VM.sleepers[TASK_STATE.i_mutex]] > 0:  # else the first is awake
        vm.ctl[VM.i_mutex_woken] = 1
        wake_one(vm, TASK_STATE.i_mutex, vm.ctl[VM.now])
    putname(mem, heap, vm, t, cpu)
    task[TASK.program] = PROGRAM.file
    return vm.costs[COST.create_file]


@folded
def copy_step(mem, heap, vm, out, t, cpu, jiffies):
    """Advance a copier by one step; CPU time in ns [open_namei, shmem_create, shmem_getpage, add_to_page_cache]."""
    task = vm.task[t]
    program = task[TASK.program]
    if program >= PROGRAM.directory:
        return mkdir_step(mem, heap, vm, out, t, cpu, jiffies)
    f = task[TASK.file_base] + task[TASK.file]
    if program == PROGRAM.preload:
        if not preload_step(mem, heap, vm, out, t, cpu, jiffies):
            return vm.costs[COST.wake]
        program = PROGRAM.page
        task[TASK.program] = program
    if program == PROGRAM.page:
        pfn = task_alloc_page(mem, vm, out, t, cpu, g.GFP_HIGHUSER_PAGECACHE, jiffies)
        if pfn < 0:
            return vm.costs[COST.wake]
        task[TASK.new_page] = pfn
        program = PROGRAM.insert
        task[TASK.program] = program
    if program == PROGRAM.insert:
        pfn = task[TASK.new_page]
        if not radix_tree_preload(mem, heap, vm, out, cpu, GFP_NOWAIT, 0):
            free_pages(mem, cpu, pfn, 0)
            task[TASK.new_page] = -1
            task[TASK.program] = PROGRAM.preload
            return vm.costs[COST.wake]
        if task[TASK.file_page] >= 1 and vm.file[f, FILE.node] == 0:  # index 0 alone sits in the root
            vm.file[f, FILE.node] = 1 + radix_tree_node_alloc(vm, cpu)
        owner = task[TASK.page_base] + task[TASK.nr_pages]
        mem.page[pfn, PAGE.owner] = owner
        mem.page[pfn, PAGE.file] = f
        mem.page[pfn, PAGE.flags] |= st.PG_DIRTY  # not PG_referenced: generic_perform_write of 2.6.25 marks nothing
        vm.where[owner] = 1 + pfn
        vm.mapping[f, MAPPING.nrpages] += 1
        if task[TASK.file_page] == 0:
            mem.page[pfn, PAGE.flags] |= st.PG_FIRST
            vm.mapping[f, MAPPING.first] = 1
        lru_add(mem, pfn, False)
        task[TASK.new_page] = -1
        task[TASK.nr_pages] += 1
        task[TASK.file_page] += 1
        out.metric[METRIC.pages_copied] += 1
        task[TASK.program] = PROGRAM.preload
        if task[TASK.file_page] == task[TASK.file_pages]:
            call_rcu(mem, heap, vm, cpu, CALLBACK_FILE, 0)
            vm.mapping[f, MAPPING.pages] = task[TASK.file_pages]
            out.metric[METRIC.files_copied] += 1
            task[TASK.file] += 1
            task[TASK.program] = PROGRAM.file
        return vm.costs[COST.copy_page]
    if program == PROGRAM.file:
        if task[TASK.file] == vm.ctl[VM.tree_files] or task[TASK.nr_pages] + FILE_PAGES_MAX > vm.ctl[VM.tree_pages]:
            task[TASK.file_pages] = task[TASK.file]
            task[TASK.file] = 0
            task[TASK.file_page] = 0
            task[TASK.nr_pages] = 0
            task[TASK.program] = PROGRAM.remove
            return 0
        if not getname(mem, heap, vm, out, t, cpu, jiffies):
            return vm.costs[COST.wake]
        task[TASK.program] = PROGRAM.dentry
        program = PROGRAM.dentry
    if program == PROGRAM.dentry:
        handle = task_alloc_object(mem, heap, vm, out, t, cpu, ROLE.dentry, WHO.dentry, jiffies)
        if handle < 0:
            return vm.costs[COST.wake]
        vm.file[f, FILE.dentry] = 1 + handle
        task[TASK.program] = PROGRAM.inode
    handle = task_alloc_object(mem, heap, vm, out, t, cpu, ROLE.inode, WHO.inode, jiffies)
    if handle < 0:
        return vm.costs[COST.wake]
    vm.file[f, FILE.inode] = 1 + handle
    vm.file[f, FILE.node] = 0
    vm.mapping[f, MAPPING.nrpages] = 0
    vm.mapping[f, MAPPING.first] = 0
    putname(mem, heap, vm, t, cpu)
    task[TASK.file_page] = 0
    task[TASK.file_pages] = file_pages(vm, t, task[TASK.tree], task[TASK.file])
    task[TASK.program] = PROGRAM.preload
    return vm.costs[COST.create_file]


@folded
def remove_step(mem, heap, vm, out, t, cpu, jiffies):
    """Remove one file of a finished tree: its dentry, which RCU frees, its pages, its inode; CPU time in ns
    [do_unlinkat, shmem_unlink, shmem_delete_inode]."""
    task = vm.task[t]
    if not getname(mem, heap, vm, out, t, cpu, jiffies):
        return vm.costs[COST.wake]
    f = task[TASK.file_base] + task[TASK.file]
    pages = vm.mapping[f, MAPPING.pages]
    base = task[TASK.page_base] + task[TASK.nr_pages]
    call_rcu(mem, heap, vm, cpu, CALLBACK_DENTRY, vm.file[f, FILE.dentry] - 1)
    for i in range(pages):
        truncate_page(mem, heap, vm, cpu, base + i)
    task[TASK.nr_pages] += pages
    slab_give(mem, heap, vm.roles[ROLE.inode], cpu, vm.file[f, FILE.inode] - 1)
    vm.file[f, FILE.dentry] = 0
    vm.file[f, FILE.inode] = 0
    vm.mapping[f, MAPPING.pages] = 0
    putname(mem, heap, vm, t, cpu)
    task[TASK.file] += 1
    if task[TASK.file] == task[TASK.file_pages]:
        finish_tree(vm, out, t, cpu)
        task[TASK.program] = PROGRAM.file
    return (1 + pages) * vm.costs[COST.remove_page]


@folded
def finish_tree(vm, out, t, cpu):
    """A tree (or a writer's mapping) is gone; the task starts over."""
    task = vm.task[t]
    task[TASK.file] = 0
    task[TASK.nr_pages] = 0
    task[TASK.tree] += 1
    out.metric[METRIC.trees_removed] += 1
    if out.ctl[OUT_CTL.full] != 0:
        log_event(vm, out, EVENT.tree_removed, cpu, t, task[TASK.tree], 0, 0)


@folded
def writer_step(mem, heap, vm, out, t, cpu, jiffies):
    """Advance an anonymous writer by one page fault, or unmap a batch; CPU time in ns [do_anonymous_page]."""
    task = vm.task[t]
    if task[TASK.program] == PROGRAM.remove:
        base = task[TASK.page_base] + task[TASK.nr_pages]
        count = min(SWAP_BATCH, vm.ctl[VM.writer_pages] - task[TASK.nr_pages])
        for i in range(count):
            truncate_page(mem, heap, vm, cpu, base + i)
        task[TASK.nr_pages] += count
        if task[TASK.nr_pages] == vm.ctl[VM.writer_pages]:
            finish_tree(vm, out, t, cpu)
            task[TASK.program] = PROGRAM.page
        return count * vm.costs[COST.unmap_page]
    pfn = task_alloc_page(mem, vm, out, t, cpu, g.GFP_HIGHUSER_PAGECACHE, jiffies)
    if pfn < 0:
        return vm.costs[COST.wake]
    owner = task[TASK.page_base] + task[TASK.nr_pages]
    mem.page[pfn, PAGE.owner] = owner
    mem.page[pfn, PAGE.file] = -1
    mem.page[pfn, PAGE.flags] |= st.PG_ANON | st.PG_MAPPED | st.PG_REFERENCED
    vm.where[owner] = 1 + pfn
    vm.ctl[VM.anon_mapped] += 1
    lru_add(mem, pfn, True)
    task[TASK.nr_pages] += 1
    out.metric[METRIC.anonymous_pages] += 1
    if task[TASK.nr_pages] == vm.ctl[VM.writer_pages]:
        task[TASK.nr_pages] = 0
        task[TASK.program] = PROGRAM.remove
    return vm.costs[COST.fault_page]


@folded
def workload_step(mem, heap, vm, out, t, cpu, jiffies):
    """Advance a task's own program by one step; CPU time in ns."""
    task = vm.task[t]
    if task[TASK.kind] == TASK_KIND.writer:
        return writer_step(mem, heap, vm, out, t, cpu, jiffies)
    if task[TASK.program] == PROGRAM.remove:
        return remove_step(mem, heap, vm, out, t, cpu, jiffies)
    return copy_step(mem, heap, vm, out, t, cpu, jiffies)

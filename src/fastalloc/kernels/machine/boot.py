"""Boot of a lane: pools filled, the host's free_list set up, tasks put to bed until their start."""

import numpy as np

from fastalloc.compiler.jit import compile_entry, entry, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmem_inspect import cache_slabs, free_objects, init_caches, set_aside
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.page_alloc import alloc_pages, init_zones, keep_spare
from fastalloc.kernels.alloc.radix_tree import radix_tree_preload
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.alloc.state import MEMCTL, PAGE
from fastalloc.kernels.block.hosts import boot_hosts
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.cfs import NICE_0_LOAD, WEIGHT_OF_KTHREADS, wake_up_new_task
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import COMMAND, FREE_LIST, IO, RADIX_NODE, REQUEST, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, PROGRAM, TASK, TASK_KIND, TASK_STATE, WAITQ
from fastalloc.kernels.machine.heap_table import NO_HEAP, behind
from fastalloc.kernels.swap.lru import lru_add
from fastalloc.kernels.workload.background import boot_background
from fastalloc.kernels.workload.bursts import boot_bursts
from fastalloc.linux import gfp as g

STREAM_START = 7


@internal
def chain(records, column):
    """Link all rows of an array into one free list through ``column``; its first index is 0."""
    for i in range(records.shape[0]):
        records[i, column] = i + 1 if i + 1 < records.shape[0] else -1


@internal
def boot_objects(mem, heap, vm, out, c, slabs, live):
    """Leave cache ``c`` as the machine's boot left it: ``slabs`` slabs, in which ``live`` more objects are in use,
    evenly spread; the rest is free. Nothing is done for 0 slabs, nor in SLOB, whose pages belong to no cache."""
    scratch = vm.callback[0]
    taken = 0
    while taken < scratch.shape[0] and 0 <= cache_slabs(heap, c) <= slabs:
        if cache_slabs(heap, c) == slabs and free_objects(heap, c) == 0:
            break
        handle = slab_take(mem, heap, out, c, 0, g.GFP_KERNEL, 0, WHO.boot)
        if handle < 0:
            break  # a machine that cannot have them is refused [batch/booted.py]
        scratch[taken] = handle
        taken += 1
    for i in range(taken):
        if (i + 1) * live // taken == i * live // taken:
            slab_give(mem, heap, c, 0, scratch[i])


@internal
def boot_locked(mem, vm):
    """The tasks' mlocked pages, as a fault leaves them. Where there are too few a machine is refused
    [batch/booted.py]."""
    mem.ctl[MEMCTL.who] = WHO.boot
    for _ in range(vm.ctl[VM.locked_pages]):
        pfn = alloc_pages(mem, 0, -1, g.GFP_HIGHUSER_PAGECACHE, 0, 0)
        if pfn < 0:
            break
        for column in (PAGE.owner, PAGE.file, PAGE.slot):
            mem.page[pfn, column] = -1
        mem.page[pfn, PAGE.flags] |= st.PG_ANON | st.PG_MAPPED | st.PG_MLOCKED
        vm.ctl[VM.anon_mapped] += 1
        lru_add(mem, pfn, True)


@internal
def boot_memory(mem, heap, pools, io, vm, out, geometry):
    """Caches, then the elements of every mempool and of the host free_list, with GFP_KERNEL on CPU 0.

    ``geometry`` has a row a cache, int64, as the allocator wants it. pool.MP_MIN, vm.roles and the sizes in the control
    arrays are set before.
    """
    init_zones(mem)
    init_caches(heap, geometry)
    set_aside(mem, heap)
    chain(io.request, REQUEST.next)
    io.ctl[IO.free_bio] = -1
    chain(io.command, COMMAND.next)
    vm.ctl[VM.swap_top] = -1
    for i in range(vm.middle.shape[0]):
        vm.middle[i, RADIX_NODE.handle] = -1
    for p in range(pools.pool.shape[0]):
        for i in range(pools.pool[p, MEMPOOL.min]):
            pools.element[p, i] = slab_take(mem, heap, out, pools.pool[p, MEMPOOL.cache], 0, g.GFP_KERNEL, 0, WHO.boot)
        pools.pool[p, MEMPOOL.curr] = pools.pool[p, MEMPOOL.min]
    for i in range(io.ctl[IO.free_list_size]):
        io.free_list[i, FREE_LIST.sense] = st.NO_OBJECT
        for k in range(2 if io.ctl[POLICY.sense] == ms.SENSE_SEPARATE else 1):
            cache = vm.roles[ROLE.of_command[k]]
            io.free_list[i, FREE_LIST.handles[k]] = slab_take(mem, heap, out, cache, 0, g.GFP_KERNEL, 0, WHO.boot)
    io.ctl[IO.free_list] = io.ctl[IO.free_list_size]
    ctl = vm.ctl
    for place, role in enumerate((ROLE.noise, ROLE.biovec, ROLE.radix)):
        boot_objects(mem, heap, vm, out, vm.roles[role], ctl[VM.boot_slabs[place]], ctl[VM.boot_live[place]])
    for cpu in range(vm.ctl[VM.nr_cpus]):  # what the boot's own insertions have left
        radix_tree_preload(mem, heap, vm, out, cpu, g.GFP_KERNEL, 0)
    boot_locked(mem, vm)
    mem.ctl[MEMCTL.spare] = -1
    for _ in range(mem.ctl[POLICY.spare_pages]):
        pfn = alloc_pages(mem, 0, -1, g.GFP_KERNEL, 0, 0)
        if pfn < 0:
            break
        keep_spare(mem, pfn)
    mem.ctl[MEMCTL.kswapd_wanted] = 0


@internal
def boot_tasks(vm, copiers, writers, spread_jiffies):
    """kswapd asleep, copiers and writers asleep until a start drawn from the first ``spread_jiffies`` ticks."""
    ctl = vm.ctl
    tasks = 1 + copiers + writers
    cpus = ctl[VM.nr_cpus]
    ctl[VM.kthreads] = tasks
    ctl[VM.nr_tasks] = tasks + 2 * cpus
    for state in range(TASK_STATE.width):
        vm.waitq[state, WAITQ.head] = -1
        vm.waitq[state, WAITQ.tail] = -1
    for cpu in range(ctl[VM.nr_cpus]):
        for column in (CPU.head, CPU.tail, CPU.buddy):
            vm.cpu[cpu, column] = -1
        vm.cpu[cpu, CPU.vmstat_at] = ms.NS_PER_S // ctl[VM.jiffy_ns] + cpu  # HZ + cpu [start_cpu_timer]
    pages = 0
    for t in range(tasks + 2 * cpus):
        task = vm.task[t]
        for column in (TASK.list, TASK.keep, TASK.pvec, TASK.page, TASK.new_page, TASK.bio, TASK.path):
            task[column] = -1
        task[TASK.cpu] = 0 if t < tasks else (t - tasks) % cpus
        task[TASK.page_base] = pages
        task[TASK.batch_jiffy] = -1
        task[TASK.weight] = NICE_0_LOAD if 0 < t < tasks else WEIGHT_OF_KTHREADS
        if t == 0:
            task[TASK.kind] = TASK_KIND.kswapd
        elif t >= tasks:
            task[TASK.kind] = TASK_KIND.ksoftirqd if t < tasks + cpus else TASK_KIND.kblockd
        elif t <= copiers:
            task[TASK.kind] = TASK_KIND.copier
            task[TASK.program] = PROGRAM.directory
            task[TASK.file_base] = (t - 1) * ctl[VM.tree_files]
            pages += ctl[VM.tree_pages]
        else:
            task[TASK.kind] = TASK_KIND.writer
            task[TASK.program] = PROGRAM.page
            pages += ctl[VM.writer_pages]
        state = TASK_STATE.kswapd if t == 0 else TASK_STATE.start if t < tasks else TASK_STATE.kthread
        task[TASK.state] = state
        task[TASK.wake_jiffy] = ms.NEVER
        if 0 < t < tasks:
            start = rng.below(rng.draw(ctl[VM.seed], STREAM_START, ctl[VM.lane], t, 0), spread_jiffies + 1)
            task[TASK.wake_jiffy] = 1 + start
            task[TASK.wake_seq] = t
            wake_up_new_task(vm, t)
        task[TASK.next] = -1
        last = vm.waitq[state, WAITQ.tail]
        if last >= 0:
            vm.task[last, TASK.next] = t
        else:
            vm.waitq[state, WAITQ.head] = t
        vm.waitq[state, WAITQ.tail] = t
        ctl[VM.sleepers[state]] += 1
    ctl[VM.cpu] = -1
    ctl[VM.idle_tick] = ctl[VM.hrtimer] = ctl[VM.spin_at] = ms.NEVER
    ctl[VM.timer_seq] = tasks
    ctl[VM.next_timer] = 0


@internal
def boot_noise(vm):
    """Draw the first arrival of each kind of noise; a mean of NEVER switches a kind off."""
    for kind in range(2):
        mean = vm.ctl[VM.noise_mean_ns[kind]]
        if mean == ms.NEVER:
            vm.ctl[VM.next_noise[kind]] = ms.NEVER
        else:
            u = rng.draw(vm.ctl[VM.seed], STREAM_START + 1 + kind, vm.ctl[VM.lane], 0, 0)
            vm.ctl[VM.next_noise[kind]] = rng.exponential_ns(u, mean)


@entry
def _boot(mem, heap, pools, io, vm, out, geometry, copiers, writers, spread_jiffies):
    """:func:`boot_lane` of a heap behind its operations.

    More than nine arguments: as there.
    """
    boot_memory(mem, heap, pools, io, vm, out, geometry)
    boot_tasks(vm, copiers, writers, spread_jiffies)
    boot_noise(vm)
    boot_hosts(mem, heap, io, vm, out)
    mem.ctl[MEMCTL.tests] = 0
    mem.ctl[MEMCTL.locks] = 0
    boot_background(vm)
    boot_bursts(vm)


def boot_lane(mem, heap, pools, io, vm, out, geometry, copiers, writers, spread_jiffies):
    """Everything a lane needs before its first event.

    More than nine arguments: the groups of state that it fills, each an address, and how many tasks there are.
    """
    _boot(mem, behind(mem, heap, out), pools, io, vm, out, geometry, copiers, writers, spread_jiffies)


def compile_boot(mem, pools, io, vm, out):
    """Compile the program of :func:`boot_lane` for groups like these."""
    compile_entry(_boot, mem, NO_HEAP, pools, io, vm, out, np.empty((0, 0), np.int64), 0, 0, 0)

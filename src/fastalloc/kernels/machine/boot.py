"""Boot of a lane: pools filled, the host's free_list set up, tasks put to bed until their start."""

from fastalloc.compiler.jit import internal, kernel
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmem_inspect import init_caches, set_aside
from fastalloc.kernels.alloc.mempool import MP_CACHE, MP_CURR, MP_MIN
from fastalloc.kernels.alloc.page_alloc import alloc_pages, init_zones, keep_spare
from fastalloc.kernels.alloc.slab_owner import slab_take
from fastalloc.kernels.block.hosts import boot_hosts
from fastalloc.kernels.lane import metrics, rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.workload.background import boot_background
from fastalloc.linux import gfp as g

STREAM_START = 7


@internal
def chain(records, column):
    """Link all rows of an array into one free list through ``column``; its first index is 0."""
    for i in range(records.shape[0]):
        records[i, column] = i + 1 if i + 1 < records.shape[0] else -1


@internal
def boot_memory(mem, heap, pools, io, vm, out, geometry):
    """Caches, then the elements of every mempool and of the host free_list, with GFP_KERNEL on CPU 0.

    ``geometry`` has a row a cache, int64, as the allocator wants it. pool.MP_MIN, vm.roles and the sizes in the control
    arrays are set before.
    """
    init_zones(mem)
    init_caches(heap, geometry)
    set_aside(mem, heap)
    vm.ctl[ms.V_NEXT_REAP] = ms.NS_PER_S
    chain(io.request, ms.R_NEXT)
    io.ctl[ms.Q_FREE_BIO] = -1
    chain(io.command, ms.D_NEXT)
    for i in range(vm.where.shape[0]):
        vm.where[i] = -1
    for p in range(pools.pool.shape[0]):
        for i in range(pools.pool[p, MP_MIN]):
            pools.element[p, i] = slab_take(mem, heap, out, pools.pool[p, MP_CACHE], 0, g.GFP_KERNEL, 0, metrics.W_BOOT)
        pools.pool[p, MP_CURR] = pools.pool[p, MP_MIN]
    for i in range(io.ctl[ms.H_FREE_LIST_SIZE]):
        io.free_list[i, 1] = st.NO_OBJECT
        for k in range(2 if io.ctl[ms.H_SENSE] == ms.SENSE_SEPARATE else 1):
            io.free_list[i, k] = slab_take(
                mem, heap, out, vm.roles[ms.ROLE_COMMAND + k], 0, g.GFP_KERNEL, 0, metrics.W_BOOT
            )
    io.ctl[ms.H_FREE_LIST] = io.ctl[ms.H_FREE_LIST_SIZE]
    mem.ctl[st.M_SPARE] = -1
    for _ in range(mem.ctl[st.M_SPARE_MOST]):
        pfn = alloc_pages(mem, 0, -1, g.GFP_KERNEL, 0, 0)
        if pfn < 0:
            break
        keep_spare(mem, pfn)
    mem.ctl[st.M_KSWAPD_WANTED] = 0


@internal
def boot_tasks(vm, copiers, writers, spread_jiffies):
    """kswapd asleep, copiers and writers asleep until a start drawn from the first ``spread_jiffies`` ticks."""
    ctl = vm.ctl
    tasks = 1 + copiers + writers
    ctl[ms.V_NR_TASKS] = tasks
    for state in range(ms.NR_STATES):
        vm.waitq[state, 0] = -1
        vm.waitq[state, 1] = -1
    for cpu in range(ctl[ms.V_NR_CPUS]):
        vm.cpu[cpu, ms.CPU_HEAD] = -1
        vm.cpu[cpu, ms.CPU_TAIL] = -1
    pages = 0
    for t in range(tasks):
        task = vm.task[t]
        for column in (ms.T_LIST, ms.T_KEEP, ms.T_PVEC, ms.T_PAGE, ms.T_NEW_PAGE, ms.T_BIO):
            task[column] = -1
        task[ms.T_CPU] = t % ctl[ms.V_NR_CPUS]
        task[ms.T_PAGE_BASE] = pages
        task[ms.T_BATCH_JIFFY] = -1
        if t == 0:
            task[ms.T_KIND] = ms.KIND_KSWAPD
        elif t <= copiers:
            task[ms.T_KIND] = ms.KIND_COPIER
            task[ms.T_PROGRAM] = ms.PROGRAM_FILE
            task[ms.T_FILE_BASE] = (t - 1) * ctl[ms.V_TREE_FILES]
            pages += ctl[ms.V_TREE_PAGES]
        else:
            task[ms.T_KIND] = ms.KIND_WRITER
            task[ms.T_PROGRAM] = ms.PROGRAM_PAGE
            pages += ctl[ms.V_WRITER_PAGES]
        state = ms.SLEEP_KSWAPD if t == 0 else ms.SLEEP_START
        task[ms.T_STATE] = state
        task[ms.T_WAKE_JIFFY] = ms.NEVER
        if t > 0:
            start = rng.below(rng.draw(ctl[ms.V_SEED], STREAM_START, ctl[ms.V_LANE], t, 0), spread_jiffies + 1)
            task[ms.T_WAKE_JIFFY] = 1 + start
            task[ms.T_WAKE_SEQ] = t
        task[ms.T_NEXT] = -1
        last = vm.waitq[state, 1]
        if last >= 0:
            vm.task[last, ms.T_NEXT] = t
        else:
            vm.waitq[state, 0] = t
        vm.waitq[state, 1] = t
        ctl[ms.V_SLEEPERS + state] += 1
    ctl[ms.V_TIMER_SEQ] = tasks
    ctl[ms.V_NEXT_TIMER] = 0


@internal
def boot_noise(vm):
    """Draw the first arrival of each kind of noise; a mean of NEVER switches a kind off."""
    stride = ms.V_NEXT_PAGE_NOISE - ms.V_NEXT_NOISE
    for kind in range(2):
        mean = vm.ctl[ms.V_NOISE_MEAN_NS + kind * stride]
        if mean == ms.NEVER:
            vm.ctl[ms.V_NEXT_NOISE + kind * stride] = ms.NEVER
        else:
            u = rng.draw(vm.ctl[ms.V_SEED], STREAM_START + 1 + kind, vm.ctl[ms.V_LANE], 0, 0)
            vm.ctl[ms.V_NEXT_NOISE + kind * stride] = rng.exponential_ns(u, mean)


@kernel
def boot_lane(mem, heap, pools, io, vm, out, geometry, copiers, writers, spread_jiffies):
    """Everything a lane needs before its first event."""
    boot_memory(mem, heap, pools, io, vm, out, geometry)
    boot_tasks(vm, copiers, writers, spread_jiffies)
    boot_noise(vm)
    boot_hosts(mem, heap, io, vm, out)
    mem.ctl[st.M_TESTS] = 0
    mem.ctl[st.M_LOCKS] = 0
    boot_background(vm)

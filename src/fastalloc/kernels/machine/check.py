"""The debug mode: conservation of pages, slots, pool elements, requests, bios and commands [DESIGN: rule 9]."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.kmem_inspect import heap_pages
from fastalloc.kernels.alloc.mempool import MP_CURR, MP_MIN
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.machine.check_heap import check_heap

VIOLATIONS = (
    "",
    "a zone's free pages differ from its buddy blocks",
    "a per-CPU list's count differs from its pages",
    "an LRU list's length differs from its counter",
    "pages are lost: buddy + per-CPU + slab + LRU + held do not add up to present",
    "a slab holds more or fewer objects than its lists say",
    "a cache's slab count differs from its slabs",
    "a mempool holds more than its minimum or less than nothing",
    "requests on the queue, in flight and being built differ from the queue's count",
    "bios outstanding differ from the bios of all requests and tasks",
    "pages under writeback differ from the counter",
    "commands in flight differ from device_busy",
    "tasks running and asleep differ from the number of tasks",
    "a free list of the host is longer than its size",
    "used swap slots differ from the counter",
    "pages in slabs differ from the allocator's count",
    "an array or sheaf of a CPU or node holds more than it may, or is not counted",
)


@internal
def check_pages(mem, vm, heap):
    """Every page frame is in exactly one place."""
    zones = mem.ctl[st.M_NR_ZONES]
    total = 0
    listed = 0
    for z in range(zones):
        total += mem.zone[z, st.Z_PRESENT]
        free = 0
        for order in range(mem.area.shape[1]):
            blocks = 0
            pfn = mem.area[z, order, st.AREA_HEAD]
            while pfn >= 0:
                blocks += 1
                pfn = mem.page[pfn, st.P_NEXT]
            if blocks != mem.area[z, order, st.AREA_NR]:
                return 1
            free += blocks << order
        if free != mem.zone[z, st.Z_FREE]:
            return 1
        listed += free
        for cpu in range(mem.pcp.shape[0]):
            pages = 0
            pfn = mem.pcp[cpu, z, st.PCP_HEAD]
            while pfn >= 0:
                pages += 1
                pfn = mem.page[pfn, st.P_NEXT]
            if pages != mem.pcp[cpu, z, st.PCP_COUNT]:
                return 2
            listed += pages
        for k in range(2):
            pages = 0
            pfn = mem.zone[z, st.Z_ACTIVE_HEAD + 2 * k]
            while pfn >= 0:
                pages += 1
                pfn = mem.page[pfn, st.P_NEXT]
            if pages != mem.zone[z, st.Z_NR_ACTIVE + k]:
                return 3
            listed += pages
    held = (
        vm.ctl[ms.V_RESERVED]
        + vm.ctl[ms.V_PAGE_NOISE_COUNT]
        + vm.ctl[ms.V_SQUEEZED]
        + heap_pages(heap)
        + mem.ctl[st.M_NR_SPARE]
    )
    for t in range(vm.ctl[ms.V_NR_TASKS]):
        if vm.task[t, ms.T_NEW_PAGE] >= 0:
            held += 1
        if vm.task[t, ms.T_PAGE] >= 0:
            held += 1
        for column in (ms.T_LIST, ms.T_KEEP, ms.T_PVEC):
            pfn = vm.task[t, column]
            while pfn >= 0:
                held += 1
                pfn = mem.page[pfn, st.P_NEXT]
    if listed + held != total:
        return 4
    return 0


@internal
def check_io(mem, pools, io, vm):
    """Requests, bios, commands and pool elements add up."""
    for p in range(pools.pool.shape[0]):
        if pools.pool[p, MP_CURR] < 0 or pools.pool[p, MP_CURR] > pools.pool[p, MP_MIN]:
            return 7
    requests = 0
    bios = 0
    r = io.ctl[ms.Q_HEAD]
    while r >= 0:
        requests += 1
        bios += io.request[r, ms.R_NR_BIOS]
        r = io.request[r, ms.R_NEXT]
    flying = 0
    for k in (ms.H_DISK_HEAD, ms.H_DONE_HEAD):
        d = io.ctl[k]
        while d >= 0:
            flying += 1
            bios += io.request[io.command[d, ms.D_REQUEST], ms.R_NR_BIOS]
            d = io.command[d, ms.D_NEXT]
    if flying != io.ctl[ms.H_BUSY]:
        return 11
    requests += flying
    writing = 0
    for cpu in range(vm.ctl[ms.V_NR_CPUS]):
        stage = vm.cpu[cpu, ms.CPU_SOFTIRQ]
        if stage == 1 or stage == 2:
            requests += 1
            b = vm.cpu[cpu, ms.CPU_SOFTIRQ_BIO]
            while b >= 0:
                bios += 1
                b = io.bio[b, ms.B_NEXT]
    writing = bios
    for t in range(vm.ctl[ms.V_NR_TASKS]):
        step = vm.task[t, ms.T_RECLAIM]
        if step == ms.R_BIOVEC_ALLOC:
            bios += 1
        elif step == ms.R_GET_REQUEST or step == ms.R_REQUEST_WOKEN:
            bios += 1
            writing += 1
        elif step == ms.R_REQUEST_ALLOC:
            bios += 1
            writing += 1
            requests += 1
    if requests != io.ctl[ms.Q_COUNT]:
        return 8
    if bios != io.ctl[ms.H_BIOS]:
        return 9
    if writing != vm.ctl[ms.V_WRITEBACK]:
        return 10
    if io.ctl[ms.H_FREE_LIST] > io.ctl[ms.H_FREE_LIST_SIZE]:
        return 13
    return 0


@internal
def check_tasks(vm):
    """Every task runs or sleeps; every used slot is counted."""
    known = 0
    for cpu in range(vm.ctl[ms.V_NR_CPUS]):
        known += vm.cpu[cpu, ms.CPU_RUNNING]
    for state in range(1, ms.NR_STATES):
        asleep = 0
        t = vm.waitq[state, 0]
        while t >= 0:
            asleep += 1
            t = vm.task[t, ms.T_NEXT]
        if asleep != vm.ctl[ms.V_SLEEPERS + state]:
            return 12
        known += asleep
    if known != vm.ctl[ms.V_NR_TASKS]:
        return 12
    used = 0
    for cluster in range(vm.cluster.shape[0]):
        used += vm.cluster[cluster]
    if used + vm.ctl[ms.V_SWAP_FREE] != vm.ctl[ms.V_SWAP_PAGES]:
        return 14
    return 0


@internal
def check_lane(mem, heap, pools, io, vm):
    """The number of the first violated invariant (an index of VIOLATIONS), 0 when all hold."""
    out_of_line()
    violation = check_pages(mem, vm, heap)
    if violation == 0:
        violation = check_heap(heap)
    if violation == 0:
        violation = check_io(mem, pools, io, vm)
    if violation == 0:
        violation = check_tasks(vm)
    return violation

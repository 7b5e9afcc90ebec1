"""The debug mode: conservation of pages, slots, pool elements, requests, bios and commands [DESIGN: rule 9]."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.kernels.alloc.kmem_inspect import heap_pages, pages_apart
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import AREA, MEMCTL, MIGRATE, PAGE, PCP, ZONE
from fastalloc.kernels.block.completion import STAGE_BIO, STAGE_REQUEST
from fastalloc.kernels.lane.state import BIO, COMMAND, IO, REQUEST, VM
from fastalloc.kernels.lane.tasks import CPU, RECLAIM, TASK, TASK_STATE, WAITQ
from fastalloc.kernels.machine.check_heap import check_heap
from fastalloc.kernels.workload.atomic_noise import PAGES
from fastalloc.linux import gfp as g

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
    "free pages that CPUs count for themselves are more than they may, or not what the zone lacks",
    "its clock stands still",
)
STANDS_STILL = len(VIOLATIONS) - 1
VM_STAT_DIFF = STANDS_STILL - 1


@internal
def check_pages(mem, vm, heap):
    """Every page frame is in exactly one place."""
    zones = mem.ctl[MEMCTL.nr_zones]
    total = 0
    listed = 0
    for z in range(zones):
        total += mem.zone[z, ZONE.present]
        free = 0
        for migrate in range(MIGRATE.width):
            for order in range(g.MAX_ORDER):
                blocks = 0
                pfn = mem.area[z, migrate, order, AREA.head]
                while pfn >= 0:
                    blocks += 1
                    pfn = mem.page[pfn, PAGE.next]
                if blocks != mem.area[z, migrate, order, AREA.nr]:
                    return 1
                free += blocks << order
        if free != mem.zone[z, ZONE.free]:
            return 1
        listed += free
        lag = mem.zone[z, ZONE.vm_stat_lag]
        for cpu in range(mem.pcp.shape[0]):
            diff = mem.pcp[cpu, z, PCP.vm_stat_diff]
            lag -= diff
            if abs(diff) > mem.zone[z, ZONE.stat_thresholds[0]]:
                return VM_STAT_DIFF
            pages = 0
            pfn = mem.pcp[cpu, z, PCP.head]
            while pfn >= 0:
                pages += 1
                pfn = mem.page[pfn, PAGE.next]
            if pages != mem.pcp[cpu, z, PCP.count]:
                return 2
            listed += pages
        if lag != 0:
            return VM_STAT_DIFF
        for head, count in ((ZONE.active_head, ZONE.nr_active), (ZONE.inactive_head, ZONE.nr_inactive)):
            pages = 0
            pfn = mem.zone[z, head]
            while pfn >= 0:
                pages += 1
                pfn = mem.page[pfn, PAGE.next]
            if pages != mem.zone[z, count]:
                return 3
            listed += pages
    held = (
        vm.ctl[VM.reserved]
        + vm.ctl[VM.noise_count[PAGES]]
        + vm.ctl[VM.burst_pages]
        + vm.ctl[VM.adversary_pages]
        + heap_pages(heap)
        + pages_apart(heap)
        + mem.ctl[MEMCTL.nr_spare]
    )
    for t in range(vm.ctl[VM.nr_tasks]):
        if vm.task[t, TASK.new_page] >= 0:
            held += 1
        if vm.task[t, TASK.page] >= 0:
            held += 1
        for column in (TASK.list, TASK.keep, TASK.pvec):
            pfn = vm.task[t, column]
            while pfn >= 0:
                held += 1
                pfn = mem.page[pfn, PAGE.next]
    if listed + held != total:
        return 4
    return 0


@internal
def check_io(mem, pools, io, vm):
    """Requests, bios, commands and pool elements add up."""
    for p in range(pools.pool.shape[0]):
        if pools.pool[p, MEMPOOL.curr] < 0 or pools.pool[p, MEMPOOL.curr] > pools.pool[p, MEMPOOL.min]:
            return 7
    requests = 0
    bios = 0
    for k in (IO.head, IO.dispatch_head):
        r = io.ctl[k]
        while r >= 0:
            requests += 1
            bios += io.request[r, REQUEST.nr_bios]
            r = io.request[r, REQUEST.next]
    flying = 0
    for k in (IO.disk_head, IO.done_head):
        d = io.ctl[k]
        while d >= 0:
            flying += 1
            bios += io.request[io.command[d, COMMAND.request], REQUEST.nr_bios]
            d = io.command[d, COMMAND.next]
    if flying != io.ctl[IO.device_busy]:
        return 11
    requests += flying
    writing = 0
    for cpu in range(vm.ctl[VM.nr_cpus]):
        stage = vm.cpu[cpu, CPU.softirq]
        if STAGE_BIO <= stage <= STAGE_REQUEST:
            requests += 1
            b = vm.cpu[cpu, CPU.softirq_bio]
            while b >= 0:
                bios += 1
                b = io.bio[b, BIO.next]
    writing = bios
    for t in range(vm.ctl[VM.nr_tasks]):
        step = vm.task[t, TASK.reclaim]
        if step == RECLAIM.biovec_alloc:
            bios += 1
        elif step == RECLAIM.get_request or step == RECLAIM.request_woken:
            bios += 1
            writing += 1
        elif step == RECLAIM.request_alloc:
            bios += 1
            writing += 1
            requests += 1
    if requests != io.ctl[IO.count]:
        return 8
    if bios != io.ctl[IO.bios]:
        return 9
    if writing != vm.ctl[VM.writeback]:
        return 10
    if io.ctl[IO.free_list] > io.ctl[IO.free_list_size]:
        return 13
    return 0


@internal
def check_tasks(vm):
    """Every task runs or sleeps; every used slot is counted."""
    known = 0
    for cpu in range(vm.ctl[VM.nr_cpus]):
        known += vm.cpu[cpu, CPU.running]
    for state in range(1, TASK_STATE.width):
        asleep = 0
        t = vm.waitq[state, WAITQ.head]
        while t >= 0:
            asleep += 1
            t = vm.task[t, TASK.next]
        if asleep != vm.ctl[VM.sleepers[state]]:
            return 12
        known += asleep
    if known != vm.ctl[VM.nr_tasks]:
        return 12
    used = 0
    for slot in range(vm.slot.shape[0]):
        used += vm.slot[slot]
    if used + vm.ctl[VM.swap_free] != vm.ctl[VM.swap_pages]:
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

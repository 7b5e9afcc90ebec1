"""swap_writepage: bio, biovec, merge or request, submission; each may sleep [mm/page_io.c, block/blk-core.c]."""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import mempool_free
from fastalloc.kernels.alloc.radix_tree import radix_tree_node_alloc, radix_tree_preload
from fastalloc.kernels.alloc.state import MEMCTL, PAGE
from fastalloc.kernels.alloc.watermarks import zone_watermark_ok
from fastalloc.kernels.block.bio import bio_record, mempool_take
from fastalloc.kernels.block.block import freed_request, get_request, ioc_set_batching, request_granted
from fastalloc.kernels.block.elevator import add_request, bio_merges, needs_context
from fastalloc.kernels.block.plug import RUN_RECLAIMER, start_request_fn
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.events import log_event
from fastalloc.kernels.lane.metrics import EVENT, METRIC, WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.sched import sleep_on, wake_pool
from fastalloc.kernels.lane.state import BIO, COST, IO, OUT_CTL, POOL, VM
from fastalloc.kernels.lane.tasks import CPU, RECLAIM, TASK, TASK_STATE
from fastalloc.kernels.reclaim.congestion import congestion_wait
from fastalloc.kernels.reclaim.page_lists import keep_page
from fastalloc.linux import gfp as g


@internal
def put_off(mem, vm, out, t):
    """Whether the page stays dirty for now: no zone is above the mark of the gate, and the task has not yet looked
    POLICY.gate_pages pages further since its last write [Christoph Lameter: more reclaim in swap_writepage]."""
    mem.ctl[MEMCTL.tests] += 1
    task = vm.task[t]
    above = False
    zones = mem.ctl[MEMCTL.nr_zones]
    for z in range(zones):
        mark = mem.zone[z, vm.ctl[VM.write_gate]]
        above = above or zone_watermark_ok(mem, z, 0, mark, zones - 1, False, False)
    if above or task[TASK.put_off] >= vm.ctl[POLICY.gate_pages]:
        task[TASK.put_off] = 0
        return False
    task[TASK.put_off] += 1
    out.metric[METRIC.writes_put_off] += 1
    pfn = task[TASK.page]
    mem.page[pfn, PAGE.flags] = (mem.page[pfn, PAGE.flags] | st.PG_DIRTY) & ~(st.PG_RECLAIM | st.PG_LOCKED)
    keep_page(mem, vm, t, pfn)
    task[TASK.page] = -1
    task[TASK.reclaim] = RECLAIM.page_list
    return True


@internal
def submitted(io, vm, t, cpu, jiffies):
    """The write is on its way: on to the next page, or with a bio on the stack to sleep until it ends."""
    vm.task[t, TASK.reclaim] = RECLAIM.page_list
    if vm.ctl[POLICY.on_stack_bio] != 0:
        vm.task[t, TASK.reclaim] = RECLAIM.written
        start_request_fn(io, vm, cpu, RUN_RECLAIMER)  # who waits for a page unplugs [sync_page]
        sleep_on(vm, cpu, TASK_STATE.bio_end, -1, False, jiffies)


@folded
def written(mem, vm, t):
    """A page written while the task waited is looked at again, and may go at once [shrink_page_list, PAGE_SUCCESS]."""
    task = vm.task[t]
    mem.page[task[TASK.page], PAGE.next] = task[TASK.list]
    task[TASK.list] = task[TASK.page]
    task[TASK.page] = -1
    task[TASK.reclaim] = RECLAIM.page_list


@internal
def wait_for_request(io, vm, out, t, cpu, jiffies):
    """The queue is full: unplug it and sleep until a request is released [get_request_wait]."""
    start_request_fn(io, vm, cpu, RUN_RECLAIMER)
    vm.task[t, TASK.reclaim] = RECLAIM.request_woken
    out.metric[METRIC.request_waits] += 1
    if out.ctl[OUT_CTL.full] != 0:
        log_event(vm, out, EVENT.request_wait, cpu, t, io.ctl[IO.count], 0, 0)
    sleep_on(vm, cpu, TASK_STATE.request, -1, True, jiffies)


@folded
def cfq_cic_link(mem, heap, vm, out, t, cpu):
    """A task's first request: its cfq_io_context goes into a radix tree of its own under a pointer, which takes a path
    of 11 nodes, for good; False when the stock cannot be filled [cfq_cic_link, GFP_NOIO]."""
    if not radix_tree_preload(mem, heap, vm, out, cpu, g.GFP_NOIO, vm.task[t, TASK.flags]):
        return False
    for _ in range(ms.RADIX_STOCK):
        radix_tree_node_alloc(vm, cpu)
    vm.task[t, TASK.context] = 1
    return True


@folded
def write_step(mem, heap, pools, io, vm, out, t, cpu, jiffies):
    """LRU pass 2: bio, biovec, merge or request, submission; CPU time in ns [swap_writepage, __make_request]."""
    task = vm.task[t]
    step = task[TASK.reclaim]
    wake = vm.costs[COST.wake]
    if step == RECLAIM.bio_alloc:
        if vm.ctl[VM.swap_bio_limit] != ms.NEVER:
            mem.ctl[MEMCTL.tests] += 1
            if io.ctl[IO.bios] >= vm.ctl[VM.swap_bio_limit]:
                congestion_wait(vm, out, t, cpu, 50, jiffies)
                return wake
        if vm.ctl[VM.write_gate] >= 0 and put_off(mem, vm, out, t):
            return vm.costs[COST.scan_page]
        handle = st.NO_OBJECT
        if vm.ctl[POLICY.on_stack_bio] == 0:
            handle = mempool_take(mem, heap, pools, vm, out, POOL.bio, WHO.bio, t, cpu, jiffies)
            if handle < 0:
                return wake
        bio_record(io, vm, t, handle)
        task[TASK.first] = 1
        task[TASK.reclaim] = RECLAIM.biovec_alloc
        step = RECLAIM.biovec_alloc
    if step == RECLAIM.biovec_alloc:
        handle = st.NO_OBJECT
        if vm.ctl[POLICY.bio_inline_vecs] == 0 and vm.ctl[POLICY.on_stack_bio] == 0:
            handle = mempool_take(mem, heap, pools, vm, out, POOL.biovec, WHO.biovec, t, cpu, jiffies)
            if handle < 0:
                return wake
        b = task[TASK.bio]
        pfn = task[TASK.page]
        io.bio[b, BIO.vec] = handle
        io.bio[b, BIO.slot] = mem.page[pfn, PAGE.slot]
        mem.page[pfn, PAGE.flags] = (mem.page[pfn, PAGE.flags] | st.PG_WRITEBACK) & ~st.PG_LOCKED
        if vm.ctl[POLICY.on_stack_bio] == 0:
            keep_page(mem, vm, t, pfn)
            task[TASK.page] = -1
        if vm.ctl[VM.writeback] == 0:
            vm.ctl[VM.stall_since] = vm.ctl[VM.now]
        vm.ctl[VM.writeback] += 1
        if vm.ctl[VM.writeback] > out.metric[METRIC.max_writeback]:
            out.metric[METRIC.max_writeback] = vm.ctl[VM.writeback]
        out.metric[METRIC.pages_swapped_out] += 1
        out.metric[METRIC.bios] += 1
        if bio_merges(mem, heap, pools, io, vm, cpu, b, t, vm.ctl[VM.now]):
            out.metric[METRIC.bio_merges] += 1
            submitted(io, vm, t, cpu, jiffies)
            return vm.costs[COST.submit_bio]
        step = RECLAIM.get_request
    if step == RECLAIM.request_woken:
        ioc_set_batching(io, vm, t, jiffies)
        step = RECLAIM.get_request
    if step == RECLAIM.get_request:
        if not get_request(io, vm, t, jiffies):
            wait_for_request(io, vm, out, t, cpu, jiffies)
            return wake
        task[TASK.first] = 1
        task[TASK.reclaim] = RECLAIM.request_alloc
    handle = mempool_take(mem, heap, pools, vm, out, POOL.request, WHO.request, t, cpu, jiffies)
    if handle < 0:
        return wake
    if needs_context(io, vm, t) and not cfq_cic_link(mem, heap, vm, out, t, cpu):
        if mempool_free(mem, heap, pools, POOL.request, cpu, handle):
            wake_pool(vm, TASK_STATE.request_pool, vm.ctl[VM.now])
        alone = vm.ctl[VM.sleepers[TASK_STATE.request]] == 0
        freed_request(io, vm, vm.ctl[VM.now])
        if alone:  # its own release wakes it: round by way of the scheduler
            start_request_fn(io, vm, cpu, RUN_RECLAIMER)
            task[TASK.reclaim] = RECLAIM.request_woken
            vm.cpu[cpu, CPU.resched] = 1
        else:
            wait_for_request(io, vm, out, t, cpu, jiffies)
        return wake
    request_granted(io, vm, t, jiffies)
    add_request(io, vm, out, cpu, task[TASK.bio], handle, jiffies)
    submitted(io, vm, t, cpu, jiffies)
    return vm.costs[COST.submit_bio]

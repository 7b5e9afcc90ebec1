"""Requests of a queue: allocated, counted, waited for, released [block/blk-core.c]."""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc.mempool import mempool_free
from fastalloc.kernels.lane.sched import wake_all, wake_one, wake_pool
from fastalloc.kernels.lane.state import IO, POOL, REQUEST
from fastalloc.kernels.lane.tasks import TASK, TASK_STATE


@folded
def freed_request(io, vm, now):
    """Uncharge a request: below the mark every congestion_wait ends, whether the queue was congested or not; wake one
    waiter [freed_request, clear_bdi_congested]."""
    ctl = io.ctl
    limit = ctl[IO.nr_requests]
    ctl[IO.count] -= 1
    count = ctl[IO.count]
    if count < max(1, limit - limit // 8 - limit // 16 - 1):
        ctl[IO.congested] = 0
        wake_all(vm, TASK_STATE.congestion, now)
    if count + 1 <= limit:
        wake_one(vm, TASK_STATE.request, now)
        ctl[IO.full] = 0


@folded
def end_request(mem, heap, pools, io, vm, cpu, r, now):
    """Free a finished request: its object to the pool of 4 or the slab, then the queue's count [__blk_put_request]."""
    if mempool_free(mem, heap, pools, POOL.request, cpu, io.request[r, REQUEST.handle]):
        wake_pool(vm, TASK_STATE.request_pool, now)
    io.request[r, REQUEST.next] = io.ctl[IO.free_request]
    io.ctl[IO.free_request] = r
    freed_request(io, vm, now)


@folded
def ioc_batching(io, vm, t, jiffies):
    """Whether a task may exceed the full mark: 32 requests within 20 ms of its last wait [ioc_batching]."""
    left = vm.task[t, TASK.batch]
    return left == io.ctl[IO.nr_batching] or (
        left > 0 and jiffies < vm.task[t, TASK.batch_jiffy] + io.ctl[IO.batch_jiffies]
    )


@folded
def ioc_set_batching(io, vm, t, jiffies):
    """Make a task a batcher [ioc_set_batching]."""
    if not ioc_batching(io, vm, t, jiffies):
        vm.task[t, TASK.batch] = io.ctl[IO.nr_batching]
        vm.task[t, TASK.batch_jiffy] = jiffies


@folded
def get_request(io, vm, t, jiffies):
    """Charge the queue for one request; False: the caller must wait [get_request]."""
    ctl = io.ctl
    limit = ctl[IO.nr_requests]
    count = ctl[IO.count]
    full = count + 1 >= limit
    if count + 1 >= min(limit, limit - limit // 8 + 1):
        if full:
            if ctl[IO.full] == 0:
                ioc_set_batching(io, vm, t, jiffies)
                ctl[IO.full] = 1
            elif not ioc_batching(io, vm, t, jiffies):
                return False
        ctl[IO.congested] = 1
    if count >= 3 * limit // 2:
        return False
    ctl[IO.count] = count + 1
    vm.task[t, TASK.at_limit] = full
    return True


@folded
def request_granted(io, vm, t, jiffies):
    """Count a batcher's request once it is at hand; below the limit the io_context is not looked at [get_request]."""
    if vm.task[t, TASK.at_limit] != 0 and ioc_batching(io, vm, t, jiffies):
        vm.task[t, TASK.batch] -= 1

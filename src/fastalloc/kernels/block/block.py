"""The request queue: merging, request allocation, congestion, plugging [block/blk-core.c, block/elevator.c].

Bios merge at either end of a queued request and requests join where they meet, as under CFQ; dispatch is in order
of arrival.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc.mempool import mempool_free
from fastalloc.kernels.block.scsi import (
    RUN_RECLAIMER,
    blk_plug_device,
    hash_remove,
    queue_remove,
    start_request_fn,
)
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.sched import wake_all, wake_one, wake_pool
from fastalloc.kernels.lane.state import BIO, IO, POOL, REQUEST, TASK, TASK_STATE


@folded
def freed_request(io, vm, now):
    """Uncharge a request: leave congestion (every congestion_wait ends), wake one waiter [freed_request]."""
    ctl = io.ctl
    limit = ctl[IO.nr_requests]
    ctl[IO.count] -= 1
    count = ctl[IO.count]
    if count < max(1, limit - limit // 8 - limit // 16 - 1) and ctl[IO.congested] != 0:
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
def hash_insert(io, r, key):
    """Enter a request under the slot that follows it, or under its first [elv_rqhash_add, elv_rb_add]."""
    slot = io.request[r, REQUEST.start]
    if key == ms.BY_END:
        slot += io.request[r, REQUEST.nr_bios]
    bucket = slot & (ms.HASH_BUCKETS - 1)
    io.request[r, REQUEST.hash_next + key] = io.hash[key, bucket]
    io.request[r, REQUEST.hashed + key] = bucket
    io.hash[key, bucket] = r


@folded
def find_neighbour(io, slot, key, room):
    """A queued request that ends (or starts) at ``slot`` and can take ``room`` more segments; -1 none."""
    r = io.hash[key, slot & (ms.HASH_BUCKETS - 1)]
    while r >= 0:
        edge = io.request[r, REQUEST.start]
        if key == ms.BY_END:
            edge += io.request[r, REQUEST.nr_bios]
        if (
            edge == slot
            and io.request[r, REQUEST.started] == 0
            and io.request[r, REQUEST.nr_bios] + room <= io.ctl[IO.max_segments]
        ):
            return r
        r = io.request[r, REQUEST.hash_next + key]
    return -1


@internal
def attempt_merge(mem, heap, pools, io, vm, cpu, r, following, now):
    """Join two adjacent requests; the second one is freed [attempt_merge]."""
    queue_remove(io, following)
    hash_remove(io, r, ms.BY_END)
    io.bio[io.request[r, REQUEST.bio_tail], BIO.next] = io.request[following, REQUEST.bio_head]
    io.request[r, REQUEST.bio_tail] = io.request[following, REQUEST.bio_tail]
    io.request[r, REQUEST.nr_bios] += io.request[following, REQUEST.nr_bios]
    hash_insert(io, r, ms.BY_END)
    end_request(mem, heap, pools, io, vm, cpu, following, now)


@folded
def elv_merge(mem, heap, pools, io, vm, cpu, b, now):
    """Merge bio ``b`` into a queued request that ends or begins beside it, then that request with its neighbour
    [elv_merge, attempt_back_merge, attempt_front_merge]; whether it merged."""
    if io.ctl[IO.merge] == 0:
        return False
    slot = io.bio[b, BIO.slot]
    r = find_neighbour(io, slot, ms.BY_END, 1)
    if r >= 0:
        hash_remove(io, r, ms.BY_END)
        io.bio[io.request[r, REQUEST.bio_tail], BIO.next] = b
        io.request[r, REQUEST.bio_tail] = b
        io.request[r, REQUEST.nr_bios] += 1
        hash_insert(io, r, ms.BY_END)
        following = find_neighbour(io, slot + 1, ms.BY_START, io.request[r, REQUEST.nr_bios])
        if following >= 0:
            attempt_merge(mem, heap, pools, io, vm, cpu, r, following, now)
        return True
    r = find_neighbour(io, slot + 1, ms.BY_START, 1)
    if r < 0:
        return False
    hash_remove(io, r, ms.BY_START)
    io.bio[b, BIO.next] = io.request[r, REQUEST.bio_head]
    io.request[r, REQUEST.bio_head] = b
    io.request[r, REQUEST.start] = slot
    io.request[r, REQUEST.nr_bios] += 1
    hash_insert(io, r, ms.BY_START)
    return True


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
    if count + 1 >= min(limit, limit - limit // 8 + 1):
        if count + 1 >= limit:
            if ctl[IO.full] == 0:
                ioc_set_batching(io, vm, t, jiffies)
                ctl[IO.full] = 1
            elif not ioc_batching(io, vm, t, jiffies):
                return False
        ctl[IO.congested] = 1
    if count >= 3 * limit // 2:
        return False
    ctl[IO.count] = count + 1
    if ioc_batching(io, vm, t, jiffies):
        vm.task[t, TASK.batch] -= 1
    return True


@folded
def add_request(io, vm, out, cpu, b, handle, jiffies):
    """Queue a new request for bio ``b``; at unplug_thresh waiting requests the submitter dispatches [elv_insert]."""
    ctl = io.ctl
    r = ctl[IO.free_request]
    ctl[IO.free_request] = io.request[r, REQUEST.next]
    request = io.request[r]
    request[REQUEST.handle] = handle
    request[REQUEST.start] = io.bio[b, BIO.slot]
    request[REQUEST.nr_bios] = 1
    request[REQUEST.bio_head] = b
    request[REQUEST.bio_tail] = b
    request[REQUEST.started] = 0
    request[REQUEST.command] = -1
    if ctl[IO.head] < 0:
        blk_plug_device(io, cpu, jiffies)
    request[REQUEST.next] = -1
    request[REQUEST.prev] = ctl[IO.tail]
    if ctl[IO.tail] >= 0:
        io.request[ctl[IO.tail], REQUEST.next] = r
    else:
        ctl[IO.head] = r
    ctl[IO.tail] = r
    hash_insert(io, r, ms.BY_END)
    hash_insert(io, r, ms.BY_START)
    out.metric[METRIC.requests] += 1
    if ctl[IO.plugged] != 0 and ctl[IO.count] - ctl[IO.in_flight] >= ctl[IO.unplug_thresh]:
        start_request_fn(io, vm, cpu, RUN_RECLAIMER)

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
from fastalloc.kernels.lane import metrics
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.sched import wake_all, wake_one, wake_pool

REQUESTS = metrics.METRICS.index("requests")
BIO_MERGES = metrics.METRICS.index("bio_merges")


@folded
def freed_request(io, vm, now):
    """Uncharge a request: leave congestion (every congestion_wait ends), wake one waiter [freed_request]."""
    ctl = io.ctl
    limit = ctl[ms.Q_NR_REQUESTS]
    ctl[ms.Q_COUNT] -= 1
    count = ctl[ms.Q_COUNT]
    if count < max(1, limit - limit // 8 - limit // 16 - 1) and ctl[ms.Q_CONGESTED] != 0:
        ctl[ms.Q_CONGESTED] = 0
        wake_all(vm, ms.SLEEP_CONGESTION, now)
    if count + 1 <= limit:
        wake_one(vm, ms.SLEEP_REQUEST, now)
        ctl[ms.Q_FULL] = 0


@folded
def end_request(mem, heap, pools, io, vm, cpu, r, now):
    """Free a finished request: its object to the pool of 4 or the slab, then the queue's count [__blk_put_request]."""
    if mempool_free(mem, heap, pools, ms.POOL_REQUEST, cpu, io.request[r, ms.R_HANDLE]):
        wake_pool(vm, ms.SLEEP_REQUEST_POOL, now)
    io.request[r, ms.R_NEXT] = io.ctl[ms.Q_FREE_REQUEST]
    io.ctl[ms.Q_FREE_REQUEST] = r
    freed_request(io, vm, now)


@folded
def hash_insert(io, r, key):
    """Enter a request under the slot that follows it, or under its first [elv_rqhash_add, elv_rb_add]."""
    slot = io.request[r, ms.R_START]
    if key == ms.BY_END:
        slot += io.request[r, ms.R_NR_BIOS]
    bucket = slot & (ms.HASH_BUCKETS - 1)
    io.request[r, ms.R_HASH_NEXT + key] = io.hash[key, bucket]
    io.request[r, ms.R_HASHED + key] = bucket
    io.hash[key, bucket] = r


@folded
def find_neighbour(io, slot, key, room):
    """A queued request that ends (or starts) at ``slot`` and can take ``room`` more segments; -1 none."""
    r = io.hash[key, slot & (ms.HASH_BUCKETS - 1)]
    while r >= 0:
        edge = io.request[r, ms.R_START]
        if key == ms.BY_END:
            edge += io.request[r, ms.R_NR_BIOS]
        if (
            edge == slot
            and io.request[r, ms.R_STARTED] == 0
            and io.request[r, ms.R_NR_BIOS] + room <= io.ctl[ms.Q_MAX_SEGMENTS]
        ):
            return r
        r = io.request[r, ms.R_HASH_NEXT + key]
    return -1


@internal
def attempt_merge(mem, heap, pools, io, vm, cpu, r, following, now):
    """Join two adjacent requests; the second one is freed [attempt_merge]."""
    queue_remove(io, following)
    hash_remove(io, r, ms.BY_END)
    io.bio[io.request[r, ms.R_BIO_TAIL], ms.B_NEXT] = io.request[following, ms.R_BIO_HEAD]
    io.request[r, ms.R_BIO_TAIL] = io.request[following, ms.R_BIO_TAIL]
    io.request[r, ms.R_NR_BIOS] += io.request[following, ms.R_NR_BIOS]
    hash_insert(io, r, ms.BY_END)
    end_request(mem, heap, pools, io, vm, cpu, following, now)


@folded
def elv_merge(mem, heap, pools, io, vm, cpu, b, now):
    """Merge bio ``b`` into a queued request that ends or begins beside it, then that request with its neighbour
    [elv_merge, attempt_back_merge, attempt_front_merge]; whether it merged."""
    if io.ctl[ms.Q_MERGE] == 0:
        return False
    slot = io.bio[b, ms.B_SLOT]
    r = find_neighbour(io, slot, ms.BY_END, 1)
    if r >= 0:
        hash_remove(io, r, ms.BY_END)
        io.bio[io.request[r, ms.R_BIO_TAIL], ms.B_NEXT] = b
        io.request[r, ms.R_BIO_TAIL] = b
        io.request[r, ms.R_NR_BIOS] += 1
        hash_insert(io, r, ms.BY_END)
        following = find_neighbour(io, slot + 1, ms.BY_START, io.request[r, ms.R_NR_BIOS])
        if following >= 0:
            attempt_merge(mem, heap, pools, io, vm, cpu, r, following, now)
        return True
    r = find_neighbour(io, slot + 1, ms.BY_START, 1)
    if r < 0:
        return False
    hash_remove(io, r, ms.BY_START)
    io.bio[b, ms.B_NEXT] = io.request[r, ms.R_BIO_HEAD]
    io.request[r, ms.R_BIO_HEAD] = b
    io.request[r, ms.R_START] = slot
    io.request[r, ms.R_NR_BIOS] += 1
    hash_insert(io, r, ms.BY_START)
    return True


@folded
def ioc_batching(io, vm, t, jiffies):
    """Whether a task may exceed the full mark: 32 requests within 20 ms of its last wait [ioc_batching]."""
    left = vm.task[t, ms.T_BATCH]
    return left == io.ctl[ms.Q_NR_BATCHING] or (
        left > 0 and jiffies < vm.task[t, ms.T_BATCH_JIFFY] + io.ctl[ms.Q_BATCH_JIFFIES]
    )


@folded
def ioc_set_batching(io, vm, t, jiffies):
    """Make a task a batcher [ioc_set_batching]."""
    if not ioc_batching(io, vm, t, jiffies):
        vm.task[t, ms.T_BATCH] = io.ctl[ms.Q_NR_BATCHING]
        vm.task[t, ms.T_BATCH_JIFFY] = jiffies


@folded
def get_request(io, vm, t, jiffies):
    """Charge the queue for one request; False: the caller must wait [get_request]."""
    ctl = io.ctl
    limit = ctl[ms.Q_NR_REQUESTS]
    count = ctl[ms.Q_COUNT]
    if count + 1 >= min(limit, limit - limit // 8 + 1):
        if count + 1 >= limit:
            if ctl[ms.Q_FULL] == 0:
                ioc_set_batching(io, vm, t, jiffies)
                ctl[ms.Q_FULL] = 1
            elif not ioc_batching(io, vm, t, jiffies):
                return False
        ctl[ms.Q_CONGESTED] = 1
    if count >= 3 * limit // 2:
        return False
    ctl[ms.Q_COUNT] = count + 1
    if ioc_batching(io, vm, t, jiffies):
        vm.task[t, ms.T_BATCH] -= 1
    return True


@folded
def add_request(io, vm, out, cpu, b, handle, jiffies):
    """Queue a new request for bio ``b``; at unplug_thresh waiting requests the submitter dispatches [elv_insert]."""
    ctl = io.ctl
    r = ctl[ms.Q_FREE_REQUEST]
    ctl[ms.Q_FREE_REQUEST] = io.request[r, ms.R_NEXT]
    request = io.request[r]
    request[ms.R_HANDLE] = handle
    request[ms.R_START] = io.bio[b, ms.B_SLOT]
    request[ms.R_NR_BIOS] = 1
    request[ms.R_BIO_HEAD] = b
    request[ms.R_BIO_TAIL] = b
    request[ms.R_STARTED] = 0
    request[ms.R_COMMAND] = -1
    if ctl[ms.Q_HEAD] < 0:
        blk_plug_device(io, cpu, jiffies)
    request[ms.R_NEXT] = -1
    request[ms.R_PREV] = ctl[ms.Q_TAIL]
    if ctl[ms.Q_TAIL] >= 0:
        io.request[ctl[ms.Q_TAIL], ms.R_NEXT] = r
    else:
        ctl[ms.Q_HEAD] = r
    ctl[ms.Q_TAIL] = r
    hash_insert(io, r, ms.BY_END)
    hash_insert(io, r, ms.BY_START)
    out.metric[REQUESTS] += 1
    if ctl[ms.Q_PLUGGED] != 0 and ctl[ms.Q_COUNT] - ctl[ms.Q_IN_FLIGHT] >= ctl[ms.Q_UNPLUG_THRESH]:
        start_request_fn(io, vm, cpu, RUN_RECLAIMER)

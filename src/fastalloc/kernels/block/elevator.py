"""The elevator: what waits in a request queue, what merges, in which order it goes to the driver [block/elevator.c,
block/cfq-iosched.c].

Bios merge at either end of a waiting request and requests join where they meet; noop knows only the end, the request of
the last merge and neighbours by arrival. Under CFQ all swap writes are of one asynchronous queue, in order of slots. It
goes to the driver in rounds: when the driver's list is empty, four at a time while fewer than sixteen are given and not
complete; those can no longer merge. The first of a slice is the oldest request, if it has waited for long.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.block.block import end_request
from fastalloc.kernels.block.plug import (
    RUN_RECLAIMER,
    WORK_RUN,
    blk_plug_device,
    kblockd_schedule_work,
    start_request_fn,
)
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import BIO, IO, REQUEST
from fastalloc.kernels.lane.tasks import TASK

CFQ_QUANTUM = 4
DISPATCHED_MOST = 4 * CFQ_QUANTUM
BACK_MAX_PAGES = 4096  # cfq_back_max, 16 MB
BACK_PENALTY = 2


@folded
def hash_insert(io, r, key):
    """Enter a request under the slot that follows it, or under its first [elv_rqhash_add, elv_rb_add]."""
    slot = io.request[r, REQUEST.start]
    if key == ms.BY_END:
        slot += io.request[r, REQUEST.nr_bios]
    bucket = slot & (ms.HASH_BUCKETS - 1)
    io.request[r, REQUEST.hash_next[key]] = io.hash[key, bucket]
    io.request[r, REQUEST.hashed[key]] = bucket
    io.hash[key, bucket] = r


@folded
def hash_remove(io, r, key):
    """Take a request off one of the merge hashes [elv_rqhash_del, elv_rb_del]."""
    bucket = io.request[r, REQUEST.hashed[key]]
    previous = -1
    i = io.hash[key, bucket]
    while i != r:
        previous = i
        i = io.request[i, REQUEST.hash_next[key]]
    if previous >= 0:
        io.request[previous, REQUEST.hash_next[key]] = io.request[r, REQUEST.hash_next[key]]
    else:
        io.hash[key, bucket] = io.request[r, REQUEST.hash_next[key]]


@folded
def find_request(io, slot, key):
    """A waiting request that ends (or starts) at ``slot`` and still merges; -1 none [elv_rqhash_find, elv_rb_find]."""
    r = io.hash[key, slot & (ms.HASH_BUCKETS - 1)]
    while r >= 0:
        edge = io.request[r, REQUEST.start]
        if key == ms.BY_END:
            edge += io.request[r, REQUEST.nr_bios]
        if edge == slot and io.request[r, REQUEST.nomerge] == 0:
            return r
        r = io.request[r, REQUEST.hash_next[key]]
    return -1


@internal
def choose_request(io, one, other):
    """Of two waiting requests, -1 none, the nearer to where the driver is, a way back counted twice; what is further
    back than 16 MB comes after everything else, the lower first [cfq_choose_req]."""
    if one < 0 or one == other:
        return other
    if other < 0:
        return one
    first = io.request[one, REQUEST.start]
    second = io.request[other, REQUEST.start]
    d1 = first - io.ctl[IO.last_position]
    d2 = second - io.ctl[IO.last_position]
    wraps1 = d1 < -BACK_MAX_PAGES
    wraps2 = d2 < -BACK_MAX_PAGES
    if wraps1 or wraps2:
        if wraps1 and wraps2:
            return one if first <= second else other
        return other if wraps1 else one
    if d1 < 0:
        d1 *= -BACK_PENALTY
    if d2 < 0:
        d2 *= -BACK_PENALTY
    if d1 == d2:
        return one if first >= second else other
    return one if d1 < d2 else other


@internal
def queue_remove(io, r):
    """Take a request out of the elevator and out of reach of merging; CFQ goes on with the better of its neighbours,
    round to the first [cfq_remove_request, cfq_find_next_rq]."""
    request = io.request[r]
    following = request[REQUEST.next]
    preceding = request[REQUEST.prev]
    if io.ctl[IO.last_added] == r:
        io.ctl[IO.last_added] = preceding
    if io.ctl[IO.next_rq] == r:
        after = following
        if after < 0 and io.ctl[IO.head] != r:
            after = io.ctl[IO.head]
        io.ctl[IO.next_rq] = choose_request(io, after, preceding)
    if preceding >= 0:
        io.request[preceding, REQUEST.next] = following
    else:
        io.ctl[IO.head] = following
    if following >= 0:
        io.request[following, REQUEST.prev] = preceding
    else:
        io.ctl[IO.tail] = preceding
    hash_remove(io, r, ms.BY_END)
    hash_remove(io, r, ms.BY_START)


@internal
def attempt_merge(mem, heap, pools, io, vm, cpu, r, following, now):
    """Join two requests where they meet and one can hold both; the second is freed. Whether it was [attempt_merge]."""
    if r < 0 or following < 0 or io.request[r, REQUEST.nomerge] + io.request[following, REQUEST.nomerge] > 0:
        return False
    bios = io.request[r, REQUEST.nr_bios]
    if io.request[r, REQUEST.start] + bios != io.request[following, REQUEST.start]:
        return False
    if bios + io.request[following, REQUEST.nr_bios] > io.ctl[IO.max_segments]:
        return False
    queue_remove(io, following)
    hash_remove(io, r, ms.BY_END)
    io.bio[io.request[r, REQUEST.bio_tail], BIO.next] = io.request[following, REQUEST.bio_head]
    io.request[r, REQUEST.bio_tail] = io.request[following, REQUEST.bio_tail]
    io.request[r, REQUEST.nr_bios] += io.request[following, REQUEST.nr_bios]
    if io.request[following, REQUEST.start_jiffy] < io.request[r, REQUEST.start_jiffy]:
        io.request[r, REQUEST.start_jiffy] = io.request[following, REQUEST.start_jiffy]
    hash_insert(io, r, ms.BY_END)
    io.ctl[IO.last_merge] = r
    end_request(mem, heap, pools, io, vm, cpu, following, now)
    return True


@folded
def needs_context(io, vm, t):
    """Whether task ``t`` has yet to get what CFQ keeps for each task [cfq_get_io_context]."""
    return io.ctl[IO.elevator] == ms.ELEVATOR_CFQ and vm.task[t, TASK.context] == 0


@folded
def elv_merge(io, slot):
    """The request that a bio for ``slot`` is offered, times two, plus one where it would be its first bio; -1 none.

    That of the last merge is asked first, then the one that ends at the slot, then, by CFQ alone, the one behind it.
    """
    r = io.ctl[IO.last_merge]
    if r >= 0:
        if io.request[r, REQUEST.start] + io.request[r, REQUEST.nr_bios] == slot:
            return 2 * r
        if io.request[r, REQUEST.start] == slot + 1:
            return 2 * r + 1
    r = find_request(io, slot, ms.BY_END)
    if r >= 0:
        return 2 * r
    if io.ctl[IO.elevator] == ms.ELEVATOR_CFQ:
        r = find_request(io, slot + 1, ms.BY_START)
        if r >= 0:
            return 2 * r + 1
    return -1


@folded
def bio_merges(mem, heap, pools, io, vm, cpu, b, t, now):
    """Merge bio ``b`` into the queued request that it is offered, then that request with its neighbour; whether it
    merged. A full request refuses, and is asked no more. CFQ merges nothing for a task that has no context yet
    [__make_request, ll_back_merge_fn, ll_front_merge_fn, cfq_allow_merge]."""
    if io.ctl[IO.merge] == 0 or needs_context(io, vm, t):
        return False
    slot = io.bio[b, BIO.slot]
    found = elv_merge(io, slot)
    if found < 0:
        return False
    r = found >> 1
    request = io.request[r]
    if request[REQUEST.nr_bios] == io.ctl[IO.max_segments]:
        request[REQUEST.nomerge] = 1
        if io.ctl[IO.last_merge] == r:
            io.ctl[IO.last_merge] = -1
        return False
    if found & 1:
        hash_remove(io, r, ms.BY_START)
        io.bio[b, BIO.next] = request[REQUEST.bio_head]
        request[REQUEST.bio_head] = b
        request[REQUEST.start] = slot
        request[REQUEST.nr_bios] += 1
        hash_insert(io, r, ms.BY_START)
        if attempt_merge(mem, heap, pools, io, vm, cpu, request[REQUEST.prev], r, now):
            return True
        io.ctl[IO.next_rq] = choose_request(io, io.ctl[IO.next_rq], r)  # cfq_reposition_rq_rb
    else:
        hash_remove(io, r, ms.BY_END)
        io.bio[request[REQUEST.bio_tail], BIO.next] = b
        request[REQUEST.bio_tail] = b
        request[REQUEST.nr_bios] += 1
        hash_insert(io, r, ms.BY_END)
        if attempt_merge(mem, heap, pools, io, vm, cpu, r, request[REQUEST.next], now):
            return True
    io.ctl[IO.last_merge] = r
    return True


@folded
def elv_queue_empty(io):
    """Nothing waits, neither in the elevator nor on the driver's list [elv_queue_empty]."""
    return io.ctl[IO.head] < 0 and io.ctl[IO.dispatch_head] < 0


@folded
def nearer(io, one, other, sector):
    """Of two requests, ``one`` -1 if there is none, that which starts nearer to ``sector``."""
    if one >= 0 and abs(io.request[one, REQUEST.start] - sector) < abs(io.request[other, REQUEST.start] - sector):
        return one
    return other


@folded
def last_up_to(io, sector):
    """The last request that starts at ``sector`` or before, in a queue in order of sectors; -1 none [elv_rb_add]. It is
    sought from where it is likely to be near: tasks write in order, each for itself."""
    request = io.request
    r = nearer(io, io.ctl[IO.last_added], nearer(io, io.ctl[IO.last_merge], io.ctl[IO.tail], sector), sector)
    while r >= 0 and request[r, REQUEST.start] > sector:
        r = request[r, REQUEST.prev]
    following = request[r, REQUEST.next] if r >= 0 else -1
    while following >= 0 and request[following, REQUEST.start] <= sector:
        r = following
        following = request[r, REQUEST.next]
    return r


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
    request[REQUEST.nomerge] = 0
    request[REQUEST.command] = -1
    ctl[IO.arrivals] += 1
    request[REQUEST.turn] = ctl[IO.arrivals]
    request[REQUEST.start_jiffy] = jiffies
    if elv_queue_empty(io):
        blk_plug_device(io, cpu, jiffies)
    after = ctl[IO.tail]
    if ctl[IO.elevator] == ms.ELEVATOR_CFQ:
        after = last_up_to(io, request[REQUEST.start])
    following = io.request[after, REQUEST.next] if after >= 0 else ctl[IO.head]
    request[REQUEST.next] = following
    request[REQUEST.prev] = after
    if following >= 0:
        io.request[following, REQUEST.prev] = r
    else:
        ctl[IO.tail] = r
    if after >= 0:
        io.request[after, REQUEST.next] = r
    else:
        ctl[IO.head] = r
    hash_insert(io, r, ms.BY_END)
    hash_insert(io, r, ms.BY_START)
    if ctl[IO.last_merge] < 0:
        ctl[IO.last_merge] = r
    ctl[IO.last_added] = r
    ctl[IO.next_rq] = choose_request(io, ctl[IO.next_rq], r)
    out.metric[METRIC.requests] += 1
    if ctl[IO.plugged] != 0 and ctl[IO.count] - ctl[IO.in_flight] >= ctl[IO.unplug_thresh]:
        start_request_fn(io, vm, cpu, RUN_RECLAIMER)


@internal
def elv_dispatch_sort(io, r):
    """Give a request to the driver: its list is sorted one way from the end of the request that it has seen last, and
    one that it has seen is never passed [elv_dispatch_sort]."""
    ctl = io.ctl
    if ctl[IO.last_merge] == r:
        ctl[IO.last_merge] = -1
    queue_remove(io, r)
    request = io.request[r]
    boundary = ctl[IO.last_position]
    start = request[REQUEST.start]
    after = ctl[IO.dispatch_tail]
    while after >= 0:
        other = io.request[after, REQUEST.start]
        if io.request[after, REQUEST.started] != 0:
            break
        if (start >= boundary) == (other >= boundary):
            if start >= other:
                break
        elif start < boundary:
            break
        after = io.request[after, REQUEST.prev]
    following = io.request[after, REQUEST.next] if after >= 0 else ctl[IO.dispatch_head]
    request[REQUEST.prev] = after
    request[REQUEST.next] = following
    if after >= 0:
        io.request[after, REQUEST.next] = r
    else:
        ctl[IO.dispatch_head] = r
    if following >= 0:
        io.request[following, REQUEST.prev] = r
    else:
        ctl[IO.dispatch_tail] = r
    ctl[IO.dispatched] += 1


@folded
def cfq_check_fifo(io, jiffies):
    """Once a slice: the oldest request where it has waited for so long that it comes first, -1 none
    [cfq_check_fifo]. A request that joins another leaves that one its place, not its age [attempt_merge]."""
    ctl = io.ctl
    if ctl[IO.fifo_looked] != 0:
        return -1
    ctl[IO.fifo_looked] = 1
    oldest = ctl[IO.head]
    r = io.request[oldest, REQUEST.next]
    while r >= 0:
        if io.request[r, REQUEST.turn] < io.request[oldest, REQUEST.turn]:
            oldest = r
        r = io.request[r, REQUEST.next]
    return oldest if jiffies >= io.request[oldest, REQUEST.start_jiffy] + ctl[IO.fifo_jiffies] else -1


@folded
def elevator_dispatch(io, jiffies):
    """The driver's list is empty: what the elevator gives [cfq_dispatch_requests, cfq_select_queue, noop_dispatch]."""
    ctl = io.ctl
    if ctl[IO.elevator] == ms.ELEVATOR_NOOP:
        if ctl[IO.head] >= 0:
            elv_dispatch_sort(io, ctl[IO.head])
        return
    while ctl[IO.head] >= 0 and ctl[IO.dispatched] < DISPATCHED_MOST:
        if ctl[IO.slice_end] <= jiffies:  # a new slice
            ctl[IO.slice_end] = ms.NEVER
            ctl[IO.fifo_looked] = 0
        given = 0
        while given < CFQ_QUANTUM and ctl[IO.head] >= 0:
            r = cfq_check_fifo(io, jiffies)
            elv_dispatch_sort(io, r if r >= 0 else ctl[IO.next_rq])
            given += 1
    if ctl[IO.head] < 0:
        ctl[IO.slice_end] = -1


@internal
def elv_next_request(io, jiffies):
    """The request at the head of the driver's list, -1 none; seen once it can be neither merged nor passed."""
    ctl = io.ctl
    if ctl[IO.dispatch_head] < 0:
        elevator_dispatch(io, jiffies)
    r = ctl[IO.dispatch_head]
    if r >= 0 and io.request[r, REQUEST.started] == 0:
        io.request[r, REQUEST.started] = 1
        ctl[IO.rq_in_driver] += 1
        ctl[IO.last_position] = io.request[r, REQUEST.start] + io.request[r, REQUEST.nr_bios]
    return r


@folded
def dispatch_remove(io, r):
    """The driver takes the head of its list [elv_dequeue_request]."""
    following = io.request[r, REQUEST.next]
    io.ctl[IO.dispatch_head] = following
    if following >= 0:
        io.request[following, REQUEST.prev] = -1
    else:
        io.ctl[IO.dispatch_tail] = -1


@folded
def elv_completed_request(io, vm, cpu, jiffies, now):
    """A request is complete: the first of a slice begins it. CFQ has kblockd run the queue where it holds requests and
    the driver has seen no other [elv_completed_request, cfq_completed_request]."""
    ctl = io.ctl
    if ctl[IO.slice_end] == ms.NEVER:
        ctl[IO.slice_end] = jiffies + ctl[IO.slice_jiffies]
    if ctl[IO.slice_end] <= jiffies:
        ctl[IO.slice_end] = -1
    ctl[IO.in_flight] -= 1  # until here, so not only while the device has it
    ctl[IO.dispatched] -= 1
    ctl[IO.rq_in_driver] -= 1
    if ctl[IO.elevator] == ms.ELEVATOR_CFQ and ctl[IO.rq_in_driver] == 0 and ctl[IO.head] >= 0:
        kblockd_schedule_work(vm, cpu, WORK_RUN, now)

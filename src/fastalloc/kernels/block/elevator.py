"""The elevator: what waits in a request queue, what merges, in which order it goes to the driver [block/elevator.c,
block/cfq-iosched.c].

Bios merge at either end of a waiting request and requests join where they meet. Under CFQ all swap writes are of one
asynchronous queue, in order of slots. It goes to the driver in rounds: when the driver's list is empty, four at a time
while fewer than sixteen are given and not complete; those can no longer merge.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.block.block import end_request
from fastalloc.kernels.block.plug import RUN_RECLAIMER, blk_plug_device, start_request_fn
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
    io.request[r, REQUEST.hash_next + key] = io.hash[key, bucket]
    io.request[r, REQUEST.hashed + key] = bucket
    io.hash[key, bucket] = r


@folded
def hash_remove(io, r, key):
    """Take a request off one of the merge hashes [elv_rqhash_del, elv_rb_del]."""
    bucket = io.request[r, REQUEST.hashed + key]
    previous = -1
    i = io.hash[key, bucket]
    while i != r:
        previous = i
        i = io.request[i, REQUEST.hash_next + key]
    if previous >= 0:
        io.request[previous, REQUEST.hash_next + key] = io.request[r, REQUEST.hash_next + key]
    else:
        io.hash[key, bucket] = io.request[r, REQUEST.hash_next + key]


@internal
def queue_remove(io, r):
    """Take a request out of the elevator and out of reach of merging."""
    request = io.request[r]
    following = request[REQUEST.next]
    preceding = request[REQUEST.prev]
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


@folded
def find_neighbour(io, slot, key, room):
    """A queued request that ends (or starts) at ``slot`` and can take ``room`` more segments; -1 none."""
    r = io.hash[key, slot & (ms.HASH_BUCKETS - 1)]
    while r >= 0:
        edge = io.request[r, REQUEST.start]
        if key == ms.BY_END:
            edge += io.request[r, REQUEST.nr_bios]
        if edge == slot and io.request[r, REQUEST.nr_bios] + room <= io.ctl[IO.max_segments]:
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
def needs_context(io, vm, t):
    """Whether task ``t`` has yet to get what CFQ keeps for each task [cfq_get_io_context]."""
    return io.ctl[IO.elevator] == ms.ELEVATOR_CFQ and vm.task[t, TASK.context] == 0


@folded
def elv_merge(mem, heap, pools, io, vm, cpu, b, t, now):
    """Merge bio ``b`` into a queued request that ends or begins beside it, then that request with its neighbour
    [elv_merge, attempt_back_merge, attempt_front_merge]; whether it merged. CFQ merges nothing for a task that has no
    context yet [cfq_allow_merge]."""
    if io.ctl[IO.merge] == 0 or needs_context(io, vm, t):
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
    preceding = find_neighbour(io, slot, ms.BY_END, io.request[r, REQUEST.nr_bios])
    if preceding >= 0:
        attempt_merge(mem, heap, pools, io, vm, cpu, preceding, r, now)
    return True


@folded
def elv_queue_empty(io):
    """Nothing waits, neither in the elevator nor on the driver's list [elv_queue_empty]."""
    return io.ctl[IO.head] < 0 and io.ctl[IO.dispatch_head] < 0


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
    if elv_queue_empty(io):
        blk_plug_device(io, cpu, jiffies)
    after = ctl[IO.tail]
    if ctl[IO.elevator] == ms.ELEVATOR_CFQ:  # its tree is one by sector [elv_rb_add]
        while after >= 0 and io.request[after, REQUEST.start] > request[REQUEST.start]:
            after = io.request[after, REQUEST.prev]
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
    out.metric[METRIC.requests] += 1
    if ctl[IO.plugged] != 0 and ctl[IO.count] - ctl[IO.in_flight] >= ctl[IO.unplug_thresh]:
        start_request_fn(io, vm, cpu, RUN_RECLAIMER)


@internal
def first_ahead(io):
    """The first waiting request, in order of slots, that is not behind where the driver is; -1 none."""
    r = io.ctl[IO.head]
    while r >= 0 and io.request[r, REQUEST.start] < io.ctl[IO.last_position]:
        r = io.request[r, REQUEST.next]
    return r


@internal
def choose_request(io, ahead):
    """The waiting request nearest to where the driver is, a way back counted twice; what is further back than 16 MB
    comes last, lowest first. ``ahead``: of :func:`first_ahead` [cfq_choose_req]."""
    last = io.ctl[IO.last_position]
    behind = io.request[ahead, REQUEST.prev] if ahead >= 0 else io.ctl[IO.tail]
    if behind < 0:
        return ahead
    back = last - io.request[behind, REQUEST.start]
    if back > BACK_MAX_PAGES:
        return ahead if ahead >= 0 else io.ctl[IO.head]
    if ahead >= 0 and io.request[ahead, REQUEST.start] - last <= back * BACK_PENALTY:
        return ahead
    return behind


@internal
def elv_dispatch_sort(io, r):
    """Give a request to the driver: its list is sorted one way from the end of the request that it has seen last, and
    one that it has seen is never passed [elv_dispatch_sort]."""
    ctl = io.ctl
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
def elevator_dispatch(io):
    """The driver's list is empty: what the elevator gives [cfq_dispatch_requests, noop_dispatch]."""
    ctl = io.ctl
    if ctl[IO.elevator] == ms.ELEVATOR_NOOP:
        if ctl[IO.head] >= 0:
            elv_dispatch_sort(io, ctl[IO.head])
        return
    ahead = first_ahead(io)
    while ctl[IO.head] >= 0 and ctl[IO.dispatched] < DISPATCHED_MOST:
        given = 0
        while given < CFQ_QUANTUM and ctl[IO.head] >= 0:
            r = choose_request(io, ahead)
            if r == ahead:
                ahead = io.request[r, REQUEST.next]
            elv_dispatch_sort(io, r)
            given += 1


@internal
def elv_next_request(io):
    """The request at the head of the driver's list, -1 none; seen once it can be neither merged nor passed."""
    ctl = io.ctl
    if ctl[IO.dispatch_head] < 0:
        elevator_dispatch(io)
    r = ctl[IO.dispatch_head]
    if r >= 0 and io.request[r, REQUEST.started] == 0:
        io.request[r, REQUEST.started] = 1
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

"""What a task and a CPU are: their records, and the states in which a task can be.

Times are as in :mod:`fastalloc.kernels.lane.state`.
"""

from fastalloc.compiler.records import Record, field


class TASK(Record):
    """task[t, .]; task 0 is kswapd."""

    kind = field()
    cpu = field()
    state = field()
    next = field("run queue or wait queue link")
    wake_jiffy = field("timer of a sleep, NEVER none")
    wake_seq = field()
    program = field("step of its workload")
    reclaim = field("step of reclaim, 0 outside")
    priority = field()
    zone = field()
    nr_active = field("left to scan in this shrink_zone")
    nr_inactive = field()
    reclaimed = field("nr_reclaimed of this reclaim")
    scanned = field()
    list = field("isolated pages still to look at")
    keep = field("pages to put back")
    pvec = field("reclaimed pages not yet released")
    pvec_count = field()
    page = field("page being written or inserted")
    bio = field("bio record being built")
    put_off = field("pages left dirty by the write gate since its last write")
    first = field("next mempool round is the first")
    batch = field("nr_batch_requests of its io context")
    batch_jiffy = field()
    tree = field("trees finished")
    file = field("file within the tree")
    file_pages = field()
    file_page = field()
    page_base = field("first logical page")
    file_base = field("first file record")
    nr_pages = field("logical pages used in this tree")
    progress = field()
    timed_out = field()
    zones_left = field()
    flags = field("PF_MEMALLOC while in reclaim")
    total_scanned = field("kswapd: since its last restart", at=36)
    attempt = field("where __alloc_pages stands: ATTEMPT_*")
    new_page = field("page allocated, not yet in its file")
    keep_tail = field()
    vruntime = field("ns weighted by nice [sched_entity]")
    weight = field()
    context = field("1: it has a cfq_io_context, so it has paid the 11 radix nodes of its first request")
    search = field("slot at which its search for a free cluster goes on, -1 none")
    search_last = field("last slot of the run it hopes for")
    slot_found = field("its search is over and left a free cluster (1) or none (2)")
    ran = field("when it last ran")


class TASK_KIND(Record):
    """Columns."""

    kswapd = field()
    copier = field()
    writer = field()
    ksoftirqd = field("one a CPU, and stays there")
    kblockd = field()


class TASK_STATE(Record):
    """TASK.state."""

    runnable = field()
    bio_pool = field("TASK_STATE.bio_pool + pool")
    biovec_pool = field()
    request_pool = field()
    request = field("get_request_wait")
    congestion = field()
    start = field()
    kswapd = field()
    bio_end = field("for its own bio, which is on its stack")
    kthread = field("kblockd without work, ksoftirqd without a softirq")


class RECLAIM(Record):
    """TASK.reclaim: where a reclaimer resumes."""

    out = field()
    priority = field()
    zone = field()
    page_list = field(at=4)
    bio_alloc = field()
    biovec_alloc = field()
    get_request = field(at=8)
    request_alloc = field()
    throttle = field()
    zone_done = field()
    request_woken = field()
    shrink = field()
    written = field("its bio has ended")
    slot_search = field("looks for a free cluster of swap slots")


class PROGRAM(Record):
    """TASK.program."""

    file = field()
    dentry = field()
    page = field()
    insert = field()
    remove = field()
    preload = field("fills its CPU's stock of radix nodes")


class ATTEMPT(Record):
    """TASK.attempt."""

    fresh = field()
    reclaimed = field("direct reclaim is over")
    napped = field("so is the nap after it: reclaim again")


class CPU(Record):
    """cpu[c, .]."""

    clock = field("when its present step ends")
    head = field("run queue: the running task, then the others in order of arrival")
    tail = field()
    running = field()
    picked = field("when the running task was picked")
    kblockd = field("work queued")
    softirq = field("stage of the completion being worked on, 0 none")
    softirq_command = field()
    softirq_bio = field()
    request_fn = field("1 + who runs the request function here, 0 nobody")
    due = field("when its next step begins, NEVER while it has nothing to do")
    first = field("tree over the CPUs, see sched.next_due: of all below node ``row``, the CPU that is due first")
    resched = field("need_resched: the running task gives way before its next step")
    exec = field("up to when the running task is charged [exec_start]")
    min_vruntime = field()
    buddy = field("the task woken last [cfs_rq->next], -1 none")
    load = field("weight of all runnable tasks")
    next_tick = field()
    busy = field("it has something to do, its turn or not")
    stock = field("radix nodes of its preload")
    balance = field("when its run queue is next compared with the others' [next_balance]")
    # its ring of callbacks: those past their grace period, then those that wait for one, then the rest
    rcu_head = field()
    rcu_done = field()
    rcu_current = field()
    rcu_next = field()
    rcu_batch = field("that CURRENT waits for")
    rcu_seen = field("quiescbatch")
    rcu_pending = field("qs_pending")
    rcu_passed = field("passed_quiesc")
    rcu_unlimited = field("blimit is gone, the queue is longer than qhimark")
    rcu_waited = field("1: the running grace period waits for it [rcp->cpumask]")
    ticking = field("its tick is on [ts->tick_stopped]")
    tick_load = field("CPU.load at its last tick [cpu_load[0]]")

"""What a task and a CPU are: their records, and the states in which a task can be.

Times are as in :mod:`fastalloc.kernels.lane.state`.
"""

from fastalloc.compiler.records import Record, block, columns, field


class TASK(Record):
    """task[t, .]; task 0 is kswapd."""

    kind = field("one of TASK_KIND")
    cpu = field("CPU that it runs on, or ran on last")
    state = field("one of TASK_STATE", source="task->state")
    next = field("run queue or wait queue link")
    wake_jiffy = field("timer of a sleep, NEVER none", "jiffies")
    wake_seq = field("turn of its timer among those due at one jiffy")
    program = field("step of its workload")
    reclaim = field("step of reclaim, 0 outside")
    priority = field("priority of the present round of reclaim", source="scan_control")
    zone = field("zone that is being reclaimed")
    nr_active = field("left to scan in this shrink_zone")
    nr_inactive = field("the same, inactive list", "pages", "shrink_zone")
    reclaimed = field("nr_reclaimed of this reclaim")
    scanned = field("pages looked at in this round", "pages", "sc->nr_scanned")
    list = field("isolated pages still to look at")
    keep = field("pages to put back")
    pvec = field("reclaimed pages not yet released")
    pvec_count = field("how many they are", "pages", "struct pagevec")
    page = field("page being written or inserted")
    bio = field("bio record being built")
    put_off = field("pages left dirty by the write gate since its last write")
    first = field("next mempool round is the first")
    batch = field("nr_batch_requests of its io context")
    batch_jiffy = field("when it became a batcher, -1 never", "jiffies", "ioc->last_waited")
    tree = field("trees finished")
    file = field("file within the tree")
    file_pages = field("length of the file", "pages")
    file_page = field("pages of it written so far", "pages")
    page_base = field("first logical page")
    file_base = field("first file record")
    nr_pages = field("logical pages used in this tree")
    progress = field(
        "what its last reclaim came to: 0 nothing; kswapd: 1 all zones are above high", source="try_to_free_pages"
    )
    timed_out = field("1: its last sleep ended by its timer")
    zones_left = field("kswapd: the highest zone that is below high", source="balance_pgdat")
    flags = field("PF_MEMALLOC while in reclaim")
    total_scanned = field("kswapd: since its last restart", at=36)
    attempt = field("where __alloc_pages stands: ATTEMPT_*")
    new_page = field("page allocated, not yet in its file")
    keep_tail = field("last of the pages to put back", "pfn")
    vruntime = field("ns weighted by nice [sched_entity]")
    weight = field("its share of a CPU among the runnable", source="load_weight")
    context = field("1: it has a cfq_io_context, so it has paid the 11 radix nodes of its first request")
    search = field("slot at which its search for a free cluster goes on, -1 none")
    search_last = field("last slot of the run it hopes for")
    slot_found = field("its search is over and left a free cluster (1) or none (2)")
    ran = field("its CPU's rq_clock when it last ran", "ns", "sched_entity, exec_start")
    at_limit = field("1: the queue was at its limit when it was last charged a request")
    scan_left = field("left to isolate in this shrink_inactive_list", "pages", "shrink_inactive_list")
    order = field("of the request that it reclaims for; kswapd: of the largest", source="scan_control, order")
    path = field("buffer of the path of a file that it opens or removes, -1 none", "handle", "getname")


class TASK_KIND(Record):
    """Columns."""

    kswapd = field("reclaims when a zone is below low", source="kswapd")
    copier = field("copies trees of files into tmpfs, and removes them")
    writer = field("writes to anonymous memory")
    ksoftirqd = field("one a CPU, and stays there")
    kblockd = field("runs the queue when the unplug timer ends", source="kblockd_workqueue")


class WAITQ(Record):
    """waitq[TASK_STATE, .]: the sleepers of a state, linked by TASK.next."""

    head = field("the first task, -1 none")
    tail = field("the last task, -1 none")


class TASK_STATE(Record):
    """TASK.state."""

    runnable = field("on the run queue of its CPU", source="TASK_RUNNING")
    bio_pool = field("waits for an element of the bio mempool", source="mempool_alloc")
    biovec_pool = field("waits for an element of the biovec mempool", source="mempool_alloc")
    request_pool = field("waits for an element of the request mempool", source="mempool_alloc")
    pool = block("bio_pool", "request_pool")  # by POOL
    request = field("get_request_wait")
    congestion = field("naps until the queue is no longer congested, or a time is over", source="congestion_wait")
    start = field("waits for its start")
    kswapd = field("kswapd with nothing to do", source="kswapd_wait")
    bio_end = field("for its own bio, which is on its stack")
    kthread = field("kblockd without work, ksoftirqd without a softirq")
    i_mutex = field("waits for the directory in which copiers make theirs", source="mutex_lock")


class RECLAIM(Record):
    """TASK.reclaim: where a reclaimer resumes."""

    out = field("not in reclaim")
    priority = field("begins a round, of the next priority", source="try_to_free_pages, balance_pgdat")
    zone = field("begins the next zone", source="shrink_zones")
    page_list = field("looks at the isolated pages, one by one", source="shrink_page_list", at=4)
    bio_alloc = field("allocates the bio of a page", source="get_swap_bio")
    biovec_alloc = field("allocates its biovec", source="bio_alloc")
    get_request = field("asks for a request for it", source="get_request", at=8)
    request_alloc = field("allocates that request", source="blk_alloc_request")
    throttle = field("waits while too much is under writeback", source="throttle_vm_writeout")
    zone_done = field("is done with a zone", source="shrink_zone")
    request_woken = field("waited for a request, and asks again", source="get_request_wait")
    shrink = field("isolates pages of a zone", source="shrink_list")
    written = field("its bio has ended")
    slot_search = field("looks for a free cluster of swap slots")
    last_nap = field("has napped after the last round of direct reclaim", source="do_try_to_free_pages")


class PROGRAM(Record):
    """TASK.program."""

    file = field("begins a file: the buffer of its path", source="getname")
    dentry = field("allocates its dentry")
    page = field("allocates the next page")
    insert = field("puts it into the file's radix tree")
    remove = field("removes the tree of files, or unmaps memory")
    preload = field("fills its CPU's stock of radix nodes")
    inode = field("allocates its inode")
    directory = field("makes its directory: the buffer of its path", source="getname")
    parent = field("takes the i_mutex of the directory above", source="lookup_create")
    parent_woken = field("the same, woken from a wait for it", source="lookup_create")
    directory_dentry = field("allocates the directory's dentry, the i_mutex held", source="d_alloc")
    directory_inode = field("allocates its inode, the i_mutex held", source="shmem_mkdir")


class ATTEMPT(Record):
    """TASK.attempt."""

    fresh = field("has not reclaimed yet", source="__alloc_pages")
    reclaimed = field("direct reclaim is over")
    napped = field("so is the nap after it: reclaim again")


class CPU(Record):
    """cpu[c, .]."""

    clock = field("when its present step ends")
    head = field("run queue: the running task, then the others in order of arrival")
    tail = field("last task of the run queue, -1 none")
    running = field("tasks on the run queue", source="rq->nr_running")
    picked = field("rq_clock at which the running task was picked", "ns")
    kblockd = field("works queued, bits WORK_*")
    softirq = field("stage of the completion being worked on, 0 none")
    softirq_command = field("command whose completion is worked on")
    softirq_bio = field("its next bio to be ended")
    request_fn = field("1 + who runs the request function here, 0 nobody")
    due = field("when its next step begins, NEVER while it has nothing to do")
    first = field("tree over the CPUs, see due.set_due: of all below node ``row``, the CPU that is due first")
    resched = field("need_resched: the running task gives way before its next step")
    exec = field("rq_clock up to which the running task is charged [exec_start]", "ns")
    min_vruntime = field("least vruntime of its tasks, never less than before", "ns", "cfs_rq")
    buddy = field("the task woken last [cfs_rq->next], -1 none")
    idle_current = field("1: the idle task still runs; one of those woken is next", source="rq->curr == rq->idle")
    load = field("weight of all runnable tasks")
    next_tick = field("when its timer ticks next", "ns")
    busy = field("it has something to do, its turn or not")
    stock = field("radix nodes of its preload")
    timers_run = field("1: a timer's interrupt found it idle, and what else is due there is still to be run")
    vmstat_at = field("from when on its next tick or timer enters what it counted for itself", "jiffies", "vmstat_work")
    balance = field("when its run queue is next compared with the others' [next_balance]")
    # its ring of callbacks: those past their grace period, then those that wait for one, then the rest
    rcu_head = field("first callback queued, -1 none", source="struct rcu_data")
    rcu_done = field("callbacks whose grace period is over end here", source="struct rcu_data, donetail")
    rcu_current = field("those that wait for the running one end here", source="struct rcu_data, curtail")
    rcu_next = field("those that wait for the next one end here", source="struct rcu_data, nxttail")
    rcu_batch = field("that CURRENT waits for")
    rcu_seen = field("quiescbatch")
    rcu_pending = field("qs_pending")
    rcu_passed = field("passed_quiesc")
    rcu_unlimited = field("blimit is gone, the queue is longer than qhimark")
    rcu_waited = field("1: the running grace period waits for it [rcp->cpumask]")
    ticking = field("its tick is on [ts->tick_stopped]")
    tick_load = field("CPU.load at its last tick [cpu_load[0]]")
    rcu_ns = field("CPU time of callbacks run since its last step", "ns")
    request_task = field("the task in whose name the request function runs, -1 none")
    exit_request = field("in turns: it has the next turn where it would be passed over", source="CPUState, QEMU 7.2")
    rearm = field("in turns: a timer other than its tick went off, and its interrupt has to set the next one")
    ticket = field("its place among those that wait for swap_lock, 0 it does not")
    rq_clock = field("the scheduler's clock, see kernels/lane/rq_clock.py", "ns", "rq->clock")
    clock_raw = field("time up to which it was moved", "ns", "rq->prev_clock_raw")
    tick_clock = field("the clock at its last tick", "ns", "rq->tick_timestamp")
    drawn = field("1 + number of the first step that draws are ready for, 0 none: see kernels/lane/step_draws.py")
    draws = columns(8, "what the time of a step is drawn from, by step - CPU.drawn + 1")
    idle_since = field("when it began to idle, or idled on behind an interrupt", "ns")

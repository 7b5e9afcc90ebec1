"""The layout of a lane's closed loop: block queue, SCSI host, reclaim, tasks, and what the lane reports.

Times are nanoseconds of simulated time unless a name ends in JIFFY; -1 stands for "none" in links and timers.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.records import Record, block, columns, field
from fastalloc.kernels.lane.metrics import EVENT_ROW
from fastalloc.kernels.lane.policy import POLICY, choices
from fastalloc.kernels.lane.tasks import CPU, TASK, WAITQ

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
NEVER = 1 << 62

# ------------------------------------------------------------------------------------------ queue, host and disk


class BIO(Record):
    """bio[b, .]: one swapped-out page."""

    handle = field("the bio's object", "handle", "struct bio")
    vec = field("its biovec's object", "handle", "bio_vec")
    page = field("page that is written", "pfn")
    slot = field("swap slot that it goes to", "slot")
    next = field("next bio of its request, or of the free records")
    task = field("who sleeps until it ends, -1 nobody")


class REQUEST(Record):
    """request[r, .]."""

    handle = field("the request's object", "handle", "struct request")
    start = field("first swap slot")
    nr_bios = field("= pages = segments")
    bio_head = field("first bio")
    bio_tail = field("last bio")
    next = field("the request behind it in the queue, or the next free record; -1 none")
    prev = field("the request before it in the queue, -1 none")
    started = field("prepared or refused once: keeps its place, takes no merges")
    nomerge = field("1: it was full when a bio was offered", source="REQ_NOMERGE")
    command = field("prepared command, -1 none")
    hash_next = columns(2, "chains by end slot and by start slot")
    hashed = columns(2, "its buckets of both, -1 not hashed")
    turn = field("its place in the order of arrival", source="cfqq->fifo")
    start_jiffy = field("when it arrived, or the first that joined it", "jiffies", "rq->start_time")


class COMMAND(Record):
    """command[d, .]."""

    command = field("handle of the scsi_cmnd")
    sense = field("handle of its sense buffer")
    sg = field("handle of its sg table")
    sg_pool = field("mempool that its sg table comes from, -1 no table", source="scsi_alloc_sgtable")
    request = field("the request that it carries out")
    next = field("disk FIFO, done list, or the free records")
    source = field("1: came from the host free_list")
    charged = field("charged to the reserve tree: 1 the command, 2 its sense buffer")


class IO(Record, width=POLICY.width):
    """io[.]: scalars of the queue, the host and the disk."""

    plugged = field("1: requests are gathered, none is started", source="blk_plug_device")
    unplug_jiffy = field("when the unplug timer ends that, NEVER while not plugged", "jiffies", "q->unplug_timer")
    unplug_cpu = field("CPU that armed the timer")
    count = field("rl->count[WRITE]: requests allocated")
    in_flight = field("requests taken by the driver and not yet released", source="q->in_flight")
    congested = field("1: reclaimers wait before they write more", source="blk_set_queue_congested")
    full = field("1: whoever is no batcher waits for a request", source="blk_set_queue_full")
    head = field("first request of the queue, -1 empty")
    tail = field("last request of the queue, -1 empty")
    nr_requests = field("requests that the queue may have before it is full", source="q->nr_requests", at=10)
    unplug_thresh = field("requests that end the gathering", source="q->unplug_thresh")
    unplug_jiffies = field("how long requests are gathered at most", "jiffies", "q->unplug_delay")
    max_segments = field("segments of a request at most", source="q->max_phys_segments")
    nr_batching = field("requests that a batcher gets although the queue is full", source="BLK_BATCH_REQ")
    batch_jiffies = field("how long it is a batcher", "jiffies", "BLK_BATCH_TIME")
    free_request = field("free records")
    free_bio = field("records used before, linked by BIO.next; -1 none")
    merge = field("1: bios join requests that they are adjacent to")
    device_busy = field("device_busy = host_busy: one device a host", at=20)
    queue_depth = field("min(queue_depth, can_queue)")
    free_list = field("commands on the free_list")
    free_list_size = field("commands that the host sets aside", source="struct Scsi_Host")
    free_command = field("free command records")
    disk_head = field("commands at the disk, in order")
    disk_tail = field("last command at the disk, -1 none")
    done_head = field("completed, waiting for the softirq")
    done_tail = field("last completed command, -1 none")
    disk_done_at = field("completion time of the head, NEVER when idle")
    command_ns = field("1/iops", "ns")
    page_ns = field("4096/rate", "ns")
    irq_cpu = field("CPU that the disk interrupts")
    completion_delay = field("from the end of a command to the next run of the queue", "ns")
    busy_since = field("when the first of the commands in flight was started", "ns")
    bios = field("bios outstanding")
    bio_top = field("bio records used so far", at=42)
    dispatch_head = field("q->queue_head: requests that the elevator has given to the driver, in order")
    dispatch_tail = field("last request of the dispatch list, -1 none", source="q->queue_head")
    dispatched = field("given to the driver and not complete [cfqq->dispatched]")
    elevator = field("one of ELEVATORS")
    last_merge = field("request of the last merge, or the first that came since, -1 none", source="q->last_merge")
    next_rq = field("that CFQ gives to the driver next, -1 none", source="cfqq->next_rq")
    last_added = field("request queued last that did not merge, or one beside it once it has left; -1 none")
    rq_in_driver = field("seen by the driver and not complete", source="cfqd->rq_in_driver")
    arrivals = field("requests that have been queued so far")
    slice_end = field(
        "when the slice of CFQ's queue ends, NEVER not before a completion, -1 it has none",
        "jiffies",
        "cfqq->slice_end",
    )
    slice_jiffies = field("how long a slice of an asynchronous queue is", "jiffies", "cfq_slice_async")
    fifo_jiffies = field("after which its oldest request comes first", "jiffies", "cfq_fifo_expire")
    fifo_looked = field("1: the oldest was looked at in this slice", source="cfq_cfqq_fifo_expire")
    last_position = field("slot behind the last request that the driver has seen [cfqd->last_position]")
    # see block/refused.py; what one attempt adds to counters, and before it is over what they were
    repeat = field("1: the unplug timer's next attempt is refused as the last one was, and changes counters alone")
    repeat_pages = field("1: until then requests for pages by the noise are refused as well")
    repeat_failed = field("page allocations refused")
    repeat_swallowed = field("reports of them that the rate limit swallowed")
    repeat_tests = field("questions that the policy adds")
    repeat_sense = field("sense buffers refused")
    repeat_gfp = field("mask of the last report")
    repeat_order = field("its order")


ELEVATORS = ("cfq", "noop")
ELEVATOR_CFQ, ELEVATOR_NOOP = range(len(ELEVATORS))

# __scsi_get_command as in 2.6.25-rc8; with 164fc5dc; every command allocated when the host is added (scsi-mq); with
# e507e30b, which gives up command and sense buffer together and so decides as 164fc5dc does
COMMAND_RULES = choices("command_rule")
RULE_RC8, RULE_FIX, RULE_PREALLOC, RULE_CONSOLIDATED = range(len(COMMAND_RULES))
# a slab object of its own; part of the command; allocated when a command ends with CHECK CONDITION
SENSE_KINDS = choices("sense")
SENSE_SEPARATE, SENSE_INLINE, SENSE_LAZY = range(len(SENSE_KINDS))

HASH_BUCKETS = 1024
BY_END = 0
BY_START = 1


class FREE_LIST(Record):
    """free_list[i, .]: a command that the host keeps for a shortage [struct Scsi_Host, free_list]."""

    command = field("handle of the scsi_cmnd")
    sense = field("handle of its sense buffer, NO_OBJECT none")
    handles = block("command", "sense")  # in the order of ROLE.of_command


@group(request=REQUEST.width, bio=BIO.width, command=COMMAND.width, free_list=FREE_LIST.width)
class Io(NamedTuple):
    """Block queue, SCSI host and disk of one lane."""

    ctl: np.ndarray  # int64[IO.width]
    request: np.ndarray  # int64[requests, REQUEST.width]
    bio: np.ndarray  # int64[bios, BIO.width]
    command: np.ndarray  # int64[commands, COMMAND.width]
    free_list: np.ndarray  # int64[free_list size, FREE_LIST.width]
    hash: np.ndarray  # int32[2, HASH_BUCKETS]: requests by end slot, by start slot


class POOL(Record):
    """mempools of the swap-out path."""

    bio = field("mempool of bios", source="fs_bio_set")
    biovec = field("mempool of biovecs of one page", source="fs_bio_set")
    request = field("mempool of requests", source="rl->rq_pool")
    sg = columns(5, "sgpool-8, -16, -32, -64, -128")
    sense = field("C5: only where the policy gives it elements")


class ROLE(Record):
    """caches of the path, in the order of ``roles`` (cache index of each)."""

    bio = field("cache of bios", source="bio_slab")
    biovec = field("cache of biovecs of one page", source="bvec_slabs", label="biovec-1")
    request = field("cache of requests", source="request_cachep", label="blkdev_requests")
    command = field("cache of scsi_cmnd", source="scsi_cmd_pool", label="scsi_cmd_cache")
    sense = field("cache of sense buffers", source="scsi_cmd_pool", label="scsi_sense_cache")
    of_command = block("command", "sense")
    sg8 = field("cache of sg tables of 8 segments", source="scsi_sg_pools", label="sgpool-8")
    sg16 = field("cache of sg tables of 16", source="scsi_sg_pools", label="sgpool-16")
    sg32 = field("cache of sg tables of 32", source="scsi_sg_pools", label="sgpool-32")
    sg64 = field("cache of sg tables of 64", source="scsi_sg_pools", label="sgpool-64")
    sg128 = field("cache of sg tables of 128", source="scsi_sg_pools", label="sgpool-128")
    radix = field("cache of radix tree nodes", source="radix_tree_node_cachep", label="radix_tree_node")
    inode = field("cache of tmpfs inodes", source="shmem_inode_cachep", label="shmem_inode_cache")
    dentry = field("cache of dentries", source="dentry_cache")
    noise = field("cache that the GFP_ATOMIC noise allocates from", label="kmalloc-128")
    path = field("cache of buffers of paths", source="names_cachep", label="names_cache")


# ----------------------------------------------------------------------------------------- files, swap, the machine


class FILE(Record):
    """file[f, .]: 1 + the handle of each of its objects, 0 none. A file's record is 0 until the file is made."""

    inode = field("object of its inode", "1 + handle")
    dentry = field("object of its dentry", "1 + handle")
    node = field("object of its first radix tree node", "1 + handle")


class MAPPING(Record, width=4):
    """mapping[f, .]: what is asked of a file each time that a page of it comes or goes; no file has more than 127."""

    nrpages = field("pages in its mapping: neither in the swap cache nor out", "pages", "struct address_space")
    first = field("1: its page 0 is one of them")
    pages = field("its length once it is closed", "pages")


class VM(Record, width=POLICY.width):
    """vm[.]: scalars of time, reclaim, swap, workload, randomness."""

    now = field("simulated time", "ns")
    jiffy_ns = field("length of a jiffy", "ns", at=2)
    next_timer = field("no task timer is due before this jiffy")
    timer_seq = field("timers set so far")
    nr_tasks = field("tasks")
    nr_cpus = field("CPUs")
    writeback = field("NR_WRITEBACK")
    swappiness = field("vm_swappiness", source="vm_swappiness")
    swap_pages = field("slots of the swap area", "slots", "struct swap_info_struct, pages")
    swap_free = field("free slots", "slots", "nr_swap_pages")
    cluster_next = field("slot that is tried next", "slot", "struct swap_info_struct")
    cluster_left = field("slots left of the present cluster", "slots", "struct swap_info_struct, cluster_nr")
    highest_slot = field("no slot above it is free", "slot", "struct swap_info_struct, highest_bit")
    lowest_slot = field("no slot below it is free", "slot", "struct swap_info_struct, lowest_bit")
    anon_mapped = field("anonymous pages that are mapped", "pages", "NR_ANON_PAGES")
    tree_files = field("files of a tree")
    file_scale = field("mean of the exponential behind a file's size, 1/1024 page")
    tree_pages = field("most logical pages of a copier")
    writer_pages = field("pages of a writer's memory", "pages")
    seed = field("of all draws")
    lane = field("number of the lane, part of each draw")
    next_noise = columns(2, "when the next is asked for, GFP_ATOMIC objects and pages [OBJECTS, PAGES]", "ns")
    noise_mean_ns = columns(2, "mean time between two, NEVER none come", "ns")
    noise_life_ns = columns(2, "how long each is kept", "ns")
    noise_head = columns(2, "ring of those alive")
    noise_tail = columns(2, "place behind the newest")
    noise_count = columns(2, "objects or pages in the ring")
    disk_draws = field("draws of the disk's service time so far")
    skip = field("1: ticks in which nothing is due are jumped over")
    debug = field("1: invariants are checked after each tick")
    error = field("first violated invariant, 0 none")
    livelock_since = field("NEVER: a command is in flight or the queue is empty")
    livelock_sense = field("sense failures when the present pause began")
    livelock_stage = field("of the present pause: 0, 1 after 5 s, 2 after 60 s")
    stall_since = field("start of the present time without a command started while pages are under writeback")
    next_series = field("when the next look at the series or at what is set aside is due", "ns")
    series_ns = field("time between two rows of the series", "ns")
    reclaimers = field("tasks inside reclaim, kswapd included", at=45)
    jitter = field("draws of the time of a step so far")
    draws_at_once = field("steps that are drawn for together, step_draws.AT_ONCE")
    livelock_check = field("when the present pause is next looked at")
    sleepers = columns(11, "tasks in each TASK_STATE")
    next_jiffy = field("skipping off: the next tick to visit", "jiffies")
    reserved = field("pages that the kernel image and boot hold for ever")
    clock_by_ticks = field("1: the scheduler's clock stands between two ticks")
    shared_core = field("1: all CPUs take turns on one core of a host")
    turn = field("whose turn it is")
    mempool_jiffies = field("longest sleep in a mempool, -1 no timer", "jiffies")
    swap_bio_limit = field("bios outstanding from which on a reclaimer waits, NEVER none")
    next_reap = field("of SLAB's reaper, NEVER without one")
    reaps = field("its passes so far")
    tells_current = field("1: the allocator wants to know which task runs")
    write_gate = field("column of the mark below which writes are put off, -1 none")
    next_host = field("next event at a further host, NEVER without any")
    adversary = field("context of the one who takes all that he gets before each attempt at a command, -1 nobody")
    adversary_pages = field("pages that he holds", "pages")
    next_sample = field("row of the series")
    next_look = field("at what is set aside; VM.next_series is the earlier of the two")
    looks = field("so far ...")
    idle_sum = field("... and the bytes that they found idle")
    command_bytes = field("of a command and its sense buffer in their slabs")
    next_background = field("next arrival or departure of the background load, NEVER without one")
    background_count = field("entries of the heap ``due``")
    background_turn = field("number that the next entry gets")
    next_burst = field("next request or return of a burst, NEVER without any")
    burst_pages = field("that bursts hold")
    overflow = field("1: more objects or pages of bursts or noise than their rings hold; the lane's result is void")
    lru_ahead = field("a page that an isolation may come to, to be fetched before; -1 none")
    turn_end = field("in turns: when the next timer of any CPU goes off", "ns")
    hrtimer = field("in turns: when the sleep before a task's start ends, between two ticks; NEVER", "ns")
    hrtimer_cpu = field("the CPU of that timer")
    spin_at = field("in turns: when its CPU asks for a lock that another one has, NEVER", "ns")
    turns_ended = field("in turns: turns that a timer ended in what a CPU did")
    all_idle = field("1: in turns, no CPU had anything to do")
    idle_tick = field("next tick that an idle CPU takes for RCU, NEVER none")
    tick_skew = field("ns between the ticks of two CPUs")
    rcu_cur = field("number of the running grace period", source="rcu_ctrlblk")
    rcu_completed = field("number of the last one that is over", source="rcu_ctrlblk")
    rcu_next_pending = field("1: another one is to follow", source="rcu_ctrlblk")
    rcu_cpus = field("CPUs that the running grace period waits for")
    rcu_signaled = field("1: the CPUs were told to hurry", source="rcu_ctrlblk")
    latency = field("sysctl_sched_latency, ns")
    granularity = field("sysctl_sched_min_granularity")
    wakeup_granularity = field(
        "vruntime by which a woken task must be behind to preempt", "ns", "sysctl_sched_wakeup_granularity"
    )
    kthreads = field("first ksoftirqd, then kblockd, one of each a CPU")
    cpu = field("whose step runs, -1 nobody's")
    slots_looked = field("swap slots looked at in this step")
    swap_top = field("topmost node of the swap cache's tree, -1 none")
    swap_groups = field("runs of 4096 slots that it has nodes for")
    swap_lock = field("1 + the CPU that holds it though its turn is over, or is the next to have it; 0 nobody")
    tickets = field("given out for it so far")
    boot_slabs = columns(3, "when the workload starts, of kmalloc-128, kmalloc-16, radix_tree_node")
    boot_live = columns(3, "objects in use there, beside those of mempools, hosts and stocks")
    i_mutex = field("1: a task holds that of the directory in which copiers make theirs", source="struct inode")
    i_mutex_woken = field("1: the first of those that wait for it is awake, and has not looked yet")
    locked_pages = field("mlocked ones of the tasks, taken before anything runs", "pages")
    kswapd_max_order = field("largest order asked for since kswapd last looked", source="pg_data_t")


class HOST(Record):
    """host[h, .]: a further host, see kernels/block/hosts.py."""

    next = field("arrival of a command")
    mean_ns = field("between two", "ns")
    life_ns = field("how long a command is in flight", "ns")
    head = field("ring of commands in flight")
    count = field("commands in flight")
    sense = field("cache of its sense buffers")
    aside = field("commands on its free_list: 0 or 1")
    bytes = field("of a command and its sense buffer in their slabs")


class COST(Record):
    """costs[.]: CPU time of each step, ns."""

    copy_page = field("a page copied into a file", "ns")
    fault_page = field("a page of anonymous memory touched first", "ns")
    scan_page = field("reclaim looks at a page", "ns")
    reclaim_page = field("and frees it", "ns")
    swap_page = field("and puts it into the swap cache, with its slot", "ns")
    submit_bio = field("a bio made and given to the queue", "ns")
    dispatch = field("a request made a command and started", "ns")
    irq = field("the interrupt of a completed command", "ns")
    end_bio = field("the end of a bio", "ns")
    wake = field("a task woken, or a switch to another", "ns")
    create_file = field("a file made in tmpfs", "ns")
    remove_page = field("a page of a removed file freed", "ns")
    unmap_page = field("a page of anonymous memory unmapped and freed", "ns")
    rcu_callback = field("a callback of RCU run", "ns")
    swap_cache = field("a page entered into the swap cache, its slot found at once", "ns")
    swap_slot = field("a slot looked at in a search", "ns")
    swap_lock = field("for which it is held to get a slot at once and to count its users", "ns")


class RADIX_NODE(Record):
    """leaf[slot / 64, .], middle[slot / 4096, .]: a node of the tree of the swap cache."""

    handle = field("of its radix_tree_node, below 0 none")
    below = field("pages or nodes below it")


RADIX_STOCK = 11  # nodes of the longest path [lib/radix-tree.c: RADIX_TREE_MAX_PATH]
RCU_RING = 1 << 14  # callbacks a CPU


@group(
    task=TASK.width,
    cpu=CPU.width,
    waitq=WAITQ.width,
    file=FILE.width,
    mapping=MAPPING.width,
    leaf=RADIX_NODE.width,
    middle=RADIX_NODE.width,
    stock=RADIX_STOCK,
    callback=RCU_RING,
    noise=3,
    host=HOST.width,
    host_command=5,
)
class Vm(NamedTuple):
    """Tasks, CPUs, swap and the workload's pages of one lane."""

    ctl: np.ndarray  # int64[VM.width]
    task: np.ndarray  # int64[tasks, TASK.width]
    cpu: np.ndarray  # int64[cpus, CPU.width]
    waitq: np.ndarray  # int64[TASK_STATE.width, WAITQ.width]
    where: np.ndarray  # int32[logical pages]: 1 + page frame, 0 none, -1 - slot when swapped out
    file: np.ndarray  # int64[files, FILE.width]
    mapping: np.ndarray  # int8[files, MAPPING.width]
    slot: np.ndarray  # int8[swap slots]: 1 used
    leaf: np.ndarray  # int64[slots / 64, RADIX_NODE.width], over pages
    middle: np.ndarray  # int64[slots / 4096, RADIX_NODE.width], over leaves
    stock: np.ndarray  # int64[cpus, RADIX_STOCK]: radix nodes preloaded
    callback: np.ndarray  # int64[cpus, RCU_RING]: see kernels/lane/rcu.py
    noise: np.ndarray  # int64[2, ring, 3]: handle or frame, cpu, time it is freed
    roles: np.ndarray  # int64[ROLE.width]
    costs: np.ndarray  # int64[COST.width]
    host: np.ndarray  # int64[further hosts, HOST.width]
    host_command: np.ndarray  # int64[further hosts, commands in flight + 1, 5]
    background: np.ndarray  # int64[caches of the background load, LOAD.width], see kernels/workload/background.py
    background_draws: np.ndarray  # int64[the same, quantiles and CPUs]
    background_due: np.ndarray  # int64[room, DUE.width]
    burst: np.ndarray  # int64[entries of workload.bursts, BURST.width], see kernels/workload/bursts.py
    burst_held: np.ndarray  # int64[the same, ring, HELD.width]


@group(event=EVENT_ROW.width)
class Out(NamedTuple):
    """What a lane reports."""

    metric: np.ndarray  # int64[METRIC.width]
    series: np.ndarray  # int64[samples, SERIES.width]
    event: np.ndarray  # int64[events, EVENT_ROW.width]
    ledger: np.ndarray  # int64[WHO.width, DEPTH.width, WHO.width]
    ctl: np.ndarray  # int64[OUT_CTL.width]


class OUT_CTL(Record):
    """Columns."""

    events = field("event rows written")
    samples = field("rows of the series written")
    full = field("1: every event is kept, 0: the important ones")
    reports = field("allocation failure reports logged so far")

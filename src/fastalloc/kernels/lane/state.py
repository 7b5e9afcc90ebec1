"""The layout of a lane's closed loop: block queue, SCSI host, reclaim, tasks, and what the lane reports.

Times are nanoseconds of simulated time unless a name ends in JIFFY; -1 stands for "none" in links and timers.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
NEVER = 1 << 62

# ------------------------------------------------------------------------------------------ queue, host and disk

# bio[b, .]: one swapped-out page
B_HANDLE = 0
B_VEC = 1
B_PAGE = 2
B_SLOT = 3
B_NEXT = 4  # next bio of its request, or of the free records
B_TASK = 5  # who sleeps until it ends, -1 nobody
BIO_FIELDS = 6

# request[r, .]
R_HANDLE = 0
R_START = 1  # first swap slot
R_NR_BIOS = 2  # = pages = segments
R_BIO_HEAD = 3
R_BIO_TAIL = 4
R_NEXT = 5
R_PREV = 6
R_STARTED = 7  # prepared or refused once: keeps its place, takes no merges
R_COMMAND = 8  # prepared command, -1 none
R_HASH_NEXT = 9  # chains by end slot and by start slot: two columns
R_HASHED = 11  # its buckets, -1 not hashed: two columns
REQUEST_FIELDS = 14

# command[d, .]
D_COMMAND = 0  # handle of the scsi_cmnd
D_SENSE = 1  # handle of its sense buffer
D_SG = 2  # handle of its sg table
D_SG_POOL = 3
D_REQUEST = 4
D_NEXT = 5  # disk FIFO, done list, or the free records
D_SOURCE = 6  # 1: came from the host free_list
D_CHARGED = 7  # charged to the reserve tree: 1 the command, 2 its sense buffer
COMMAND_FIELDS = 8

# io[.]: scalars of the queue, the host and the disk
Q_PLUGGED = 0
Q_UNPLUG_JIFFY = 1
Q_UNPLUG_CPU = 2
Q_COUNT = 3  # rl->count[WRITE]: requests allocated
Q_IN_FLIGHT = 4
Q_CONGESTED = 5
Q_FULL = 6
Q_HEAD = 7
Q_TAIL = 8
Q_NR_REQUESTS = 10
Q_UNPLUG_THRESH = 11
Q_UNPLUG_JIFFIES = 12
Q_MAX_SEGMENTS = 13
Q_NR_BATCHING = 14
Q_BATCH_JIFFIES = 15
Q_FREE_REQUEST = 16  # free records
Q_FREE_BIO = 17  # records used before, linked by B_NEXT; -1 none
Q_MERGE = 18
H_BUSY = 20  # device_busy = host_busy: one device a host
H_DEPTH = 21  # min(queue_depth, can_queue)
H_RULE = 22  # one of COMMAND_RULES
H_FREE_LIST = 23  # commands on the free_list
H_FREE_LIST_SIZE = 24
H_FREE_COMMAND = 25  # free command records
H_DISK_HEAD = 26  # commands at the disk, in order
H_DISK_TAIL = 27
H_DONE_HEAD = 28  # completed, waiting for the softirq
H_DONE_TAIL = 29
H_DISK_DONE_AT = 30  # completion time of the head, NEVER when idle
H_COMMAND_NS = 31  # 1/iops
H_PAGE_NS = 32  # 4096/rate
H_IRQ_CPU = 33
H_COMPLETION_DELAY = 34
H_BUSY_SINCE = 35
H_KBLOCKD_MEMALLOC = 36
H_SENSE = 37  # one of SENSE_KINDS
H_BIOS = 38  # bios outstanding
H_SENSE_ERRORS = 39  # commands in a million that end with CHECK CONDITION
Q_BIO_TOP = 42  # bio records used so far
IO_FIELDS = 43

# __scsi_get_command as in 2.6.25-rc8; with 164fc5dc; every command allocated when the host is added (scsi-mq); with
# e507e30b, which gives up command and sense buffer together and so decides as 164fc5dc does
COMMAND_RULES = ("rc8", "fix", "prealloc", "consolidated")
RULE_RC8, RULE_FIX, RULE_PREALLOC, RULE_CONSOLIDATED = range(len(COMMAND_RULES))
# a slab object of its own; part of the command; allocated when a command ends with CHECK CONDITION
SENSE_KINDS = ("separate", "inline", "lazy")
SENSE_SEPARATE, SENSE_INLINE, SENSE_LAZY = range(len(SENSE_KINDS))

HASH_BUCKETS = 1024
BY_END = 0
BY_START = 1


@group(request=REQUEST_FIELDS, bio=BIO_FIELDS, command=COMMAND_FIELDS, free_list=2)
class Io(NamedTuple):
    """Block queue, SCSI host and disk of one lane."""

    ctl: np.ndarray  # int64[IO_FIELDS]
    request: np.ndarray  # int64[requests, REQUEST_FIELDS]
    bio: np.ndarray  # int64[bios, BIO_FIELDS]
    command: np.ndarray  # int64[commands, COMMAND_FIELDS]
    free_list: np.ndarray  # int64[free_list size, 2]: command and sense handles
    hash: np.ndarray  # int32[2, HASH_BUCKETS]: requests by end slot, by start slot


# mempools of the swap-out path
POOL_BIO = 0
POOL_BIOVEC = 1
POOL_REQUEST = 2
POOL_SG = 3  # sgpool-8, -16, -32, -64, -128
POOL_SENSE = 8  # C5: only where the policy gives it elements
NR_POOLS = 9

# caches of the path, in the order of ``roles`` (cache index of each)
ROLES = (
    "bio",
    "biovec-1",
    "blkdev_requests",
    "scsi_cmd_cache",
    "scsi_sense_cache",
    "sgpool-8",
    "sgpool-16",
    "sgpool-32",
    "sgpool-64",
    "sgpool-128",
    "radix_tree_node",
    "shmem_inode_cache",
    "dentry",
    "kmalloc-128",
)
(
    ROLE_BIO,
    ROLE_BIOVEC,
    ROLE_REQUEST,
    ROLE_COMMAND,
    ROLE_SENSE,
    ROLE_SG8,
    ROLE_SG16,
    ROLE_SG32,
    ROLE_SG64,
    ROLE_SG128,
    ROLE_RADIX,
    ROLE_INODE,
    ROLE_DENTRY,
    ROLE_NOISE,
) = range(len(ROLES))

# -------------------------------------------------------------------------------------------------- tasks and CPUs

# task[t, .]; task 0 is kswapd
T_KIND = 0
T_CPU = 1
T_STATE = 2
T_NEXT = 3  # run queue or wait queue link
T_WAKE_JIFFY = 4  # timer of a sleep, NEVER none
T_WAKE_SEQ = 5
T_PROGRAM = 6  # step of its workload
T_RECLAIM = 7  # step of reclaim, 0 outside
T_PRIORITY = 8
T_ZONE = 9
T_NR_ACTIVE = 10  # left to scan in this shrink_zone
T_NR_INACTIVE = 11
T_RECLAIMED = 12  # nr_reclaimed of this reclaim
T_SCANNED = 13
T_LIST = 14  # isolated pages still to look at
T_KEEP = 15  # pages to put back
T_PVEC = 16  # reclaimed pages not yet released
T_PVEC_COUNT = 17
T_PAGE = 18  # page being written or inserted
T_BIO = 19  # bio record being built
T_PUT_OFF = 20  # pages left dirty by the write gate since its last write
T_FIRST = 21  # next mempool round is the first
T_BATCH = 22  # nr_batch_requests of its io context
T_BATCH_JIFFY = 23
T_TREE = 24  # trees finished
T_FILE = 25  # file within the tree
T_FILE_PAGES = 26
T_FILE_PAGE = 27
T_PAGE_BASE = 28  # first logical page
T_FILE_BASE = 29  # first file record
T_NR_PAGES = 30  # logical pages used in this tree
T_PROGRESS = 31
T_TIMED_OUT = 32
T_ZONES_LEFT = 33
T_FLAGS = 34  # PF_MEMALLOC while in reclaim
T_TOTAL_SCANNED = 36  # kswapd: since its last restart
T_ATTEMPT = 37  # where __alloc_pages stands: ATTEMPT_*
T_NEW_PAGE = 38  # page allocated, not yet in its file
T_KEEP_TAIL = 39
TASK_FIELDS = 40

KIND_KSWAPD = 0
KIND_COPIER = 1
KIND_WRITER = 2

# T_STATE
RUNNABLE = 0
SLEEP_BIO_POOL = 1  # SLEEP_BIO_POOL + pool
SLEEP_BIOVEC_POOL = 2
SLEEP_REQUEST_POOL = 3
SLEEP_REQUEST = 4  # get_request_wait
SLEEP_CONGESTION = 5
SLEEP_START = 6
SLEEP_KSWAPD = 7
SLEEP_BIO_END = 8  # for its own bio, which is on its stack
NR_STATES = 9

# T_RECLAIM: where a reclaimer resumes
OUT = 0
R_PRIORITY = 1
R_ZONE = 2
R_PAGE_LIST = 4
R_BIO_ALLOC = 5
R_BIOVEC_ALLOC = 6
R_GET_REQUEST = 8
R_REQUEST_ALLOC = 9
R_THROTTLE = 10
R_ZONE_DONE = 11
R_REQUEST_WOKEN = 12
R_SHRINK = 13
R_WRITTEN = 14  # its bio has ended

# T_PROGRAM
PROGRAM_FILE = 0
PROGRAM_DENTRY = 1
PROGRAM_PAGE = 2
PROGRAM_INSERT = 3
PROGRAM_REMOVE = 4

# T_ATTEMPT
ATTEMPT_FRESH = 0
ATTEMPT_RECLAIMED = 1  # direct reclaim is over
ATTEMPT_NAPPED = 2  # so is the nap after it: reclaim again

# file[f, .]
F_INODE = 0
F_DENTRY = 1
F_NODE = 2
F_MAPPED = 3  # pages in its mapping: neither in the swap cache nor out
F_PAGES = 4
FILE_FIELDS = 5

# cpu[c, .]
CPU_CLOCK = 0  # when its present step ends
CPU_HEAD = 1  # run queue
CPU_TAIL = 2
CPU_RUNNING = 3
CPU_SLICE = 4  # end of the running task's time slice
CPU_KBLOCKD = 5  # work queued
CPU_SOFTIRQ = 6  # stage of the completion being worked on, 0 none
CPU_SOFTIRQ_COMMAND = 7
CPU_SOFTIRQ_BIO = 8
CPU_REQUEST_FN = 9  # 1 + who runs the request function here, 0 nobody
CPU_DUE = 10  # when its next step begins, NEVER while it has nothing to do
CPU_FIRST = 11  # tree over the CPUs, see sched.next_due: of all below node ``row``, the CPU that is due first
CPU_FIELDS = 12

# vm[.]: scalars of time, reclaim, swap, workload, randomness
V_NOW = 0
V_JIFFY_NS = 2
V_NEXT_TIMER = 3  # no task timer is due before this jiffy
V_TIMER_SEQ = 4
V_NR_TASKS = 5
V_NR_CPUS = 6
V_WRITEBACK = 7  # NR_WRITEBACK
V_SWAPPINESS = 8
V_SWAP_PAGES = 9
V_SWAP_FREE = 10
V_CLUSTER_NEXT = 11
V_CLUSTER_LEFT = 12
V_CLUSTER_CURSOR = 13
V_LOWEST_SLOT = 14
V_ANON_MAPPED = 15
V_TREE_FILES = 16
V_FILE_SCALE = 17  # mean of the exponential behind a file's size, 1/1024 page
V_TREE_PAGES = 18  # most logical pages of a copier
V_WRITER_PAGES = 19
V_SEED = 20
V_LANE = 21
V_NEXT_NOISE = 22  # GFP_ATOMIC objects
V_NOISE_MEAN_NS = 23
V_NOISE_LIFE_NS = 24
V_NOISE_HEAD = 25  # ring of live noise objects
V_NOISE_TAIL = 26
V_NOISE_COUNT = 27
V_NEXT_PAGE_NOISE = 28
V_PAGE_NOISE_MEAN_NS = 29
V_PAGE_NOISE_LIFE_NS = 30
V_PAGE_NOISE_HEAD = 31
V_PAGE_NOISE_TAIL = 32
V_PAGE_NOISE_COUNT = 33
V_DISK_DRAWS = 34
V_SKIP = 35
V_DEBUG = 36
V_ERROR = 37  # first violated invariant, 0 none
V_LIVELOCK_SINCE = 38  # NEVER: a command is in flight or the queue is empty
V_LIVELOCK_SENSE = 39
V_LIVELOCK_STAGE = 40
V_STALL_SINCE = 41  # start of the present time without a command started while pages are under writeback
V_NEXT_SERIES = 42
V_SERIES_NS = 43
V_RECLAIMERS = 45
V_JITTER = 46
V_LIVELOCK_CHECK = 47  # when the present pause is next looked at
V_SLEEPERS = 48  # first of NR_STATES counters: tasks by state
V_NEXT_JIFFY = 58  # skipping off: the next tick to visit
V_RESERVED = 59  # pages that the kernel image and boot hold for ever
V_HOST_SLICE = 60  # even and odd CPUs take turns of this length, 0: each has a core of its own
V_HOST_OVERLAP = 61
V_MEMPOOL_JIFFIES = 62  # longest sleep in a mempool, -1 no timer
V_MEMPOOL_WAKE_ONE = 63
V_BIO_INLINE_VECS = 64
V_SWAP_BIO_LIMIT = 65  # bios outstanding from which on a reclaimer waits, NEVER none
V_RECLAIM_GATE = 66  # direct reclaimers wait while half of the sum of min is gone
V_NEXT_REAP = 67  # of SLAB's reaper
V_REAPS = 68  # its passes so far
V_ON_STACK_BIO = 69  # a swap write waits for its end, its bio needs no memory
V_WRITE_GATE = 70  # column of the mark below which writes are put off, -1 none
V_PUT_OFF_MOST = 71  # pages a write that are
V_NEXT_HOST = 72  # next event at a further host, NEVER without any
V_SQUEEZE = 73  # context of the one who takes all that he gets before each attempt at a command, -1 nobody
V_SQUEEZED = 74  # pages that he holds
V_NEXT_SAMPLE = 75  # row of the series
V_NEXT_LOOK = 76  # at what is set aside; V_NEXT_SERIES is the earlier of the two
V_LOOKS = 77  # so far ...
V_IDLE_SUM = 78  # ... and the bytes that they found idle
V_COMMAND_BYTES = 79  # of a command and its sense buffer in their slabs
V_NEXT_BACKGROUND = 80  # next arrival or departure of the background load, NEVER without one
V_BACKGROUND_COUNT = 81
V_BACKGROUND_TURN = 82
V_LRU_AHEAD = 83  # a page that an isolation may come to, to be fetched before; -1 none
VM_FIELDS = 84

# host[h, .]: a further host, see kernels/block/hosts.py
F_NEXT = 0  # arrival of a command
F_MEAN_NS = 1  # between two
F_LIFE_NS = 2
F_HEAD = 3  # ring of commands in flight
F_COUNT = 4
F_SENSE = 5  # cache of its sense buffers
F_ASIDE = 6  # commands on its free_list: 0 or 1
F_BYTES = 7  # of a command and its sense buffer in their slabs
HOST_FIELDS = 8

# costs[.]: CPU time of each step, ns
(
    COST_COPY_PAGE,
    COST_FAULT_PAGE,
    COST_SCAN_PAGE,
    COST_RECLAIM_PAGE,
    COST_SWAP_PAGE,
    COST_SUBMIT_BIO,
    COST_DISPATCH,
    COST_IRQ,
    COST_END_BIO,
    COST_WAKE,
    COST_CREATE_FILE,
    COST_REMOVE_PAGE,
) = range(12)
COSTS = (
    "copy_page",
    "fault_page",
    "scan_page",
    "reclaim_page",
    "swap_page",
    "submit_bio",
    "dispatch",
    "irq",
    "end_bio",
    "wake",
    "create_file",
    "remove_page",
)

# queues of sleepers: waitq[state, 0 head, 1 tail]


@group(task=TASK_FIELDS, cpu=CPU_FIELDS, waitq=2, file=FILE_FIELDS, leaf=2, noise=3, host=HOST_FIELDS, host_command=5)
class Vm(NamedTuple):
    """Tasks, CPUs, swap and the workload's pages of one lane."""

    ctl: np.ndarray  # int64[VM_FIELDS]
    task: np.ndarray  # int64[tasks, TASK_FIELDS]
    cpu: np.ndarray  # int64[cpus, CPU_FIELDS]
    waitq: np.ndarray  # int64[NR_STATES, 2]
    where: np.ndarray  # int32[logical pages]: page frame, -1 none, -2 - slot when swapped out
    file: np.ndarray  # int64[files, FILE_FIELDS]
    slot: np.ndarray  # int8[swap slots]: 1 used
    cluster: np.ndarray  # int16[slots / 256]: used slots
    leaf: np.ndarray  # int64[slots / 64, 2]: radix node handle, pages below it
    noise: np.ndarray  # int64[2, ring, 3]: handle or frame, cpu, time it is freed
    roles: np.ndarray  # int64[len(ROLES)]
    costs: np.ndarray  # int64[len(COSTS)]
    host: np.ndarray  # int64[further hosts, HOST_FIELDS]
    host_command: np.ndarray  # int64[further hosts, commands in flight + 1, 5]
    background: np.ndarray  # int64[caches of the background load, LOAD_FIELDS], see kernels/workload/background.py
    background_draws: np.ndarray  # int64[the same, quantiles and CPUs]
    background_due: np.ndarray  # int64[room, DUE_FIELDS]


@group(event=7)
class Out(NamedTuple):
    """What a lane reports."""

    metric: np.ndarray  # int64[len(METRICS)]
    series: np.ndarray  # int64[samples, len(SERIES)]
    event: np.ndarray  # int64[events, 7]
    ledger: np.ndarray  # int64[len(WHO), NR_DEPTHS, len(WHO)]
    ctl: np.ndarray  # int64[4]: events written, samples written, full log, reports seen


OUT_EVENTS = 0
OUT_SAMPLES = 1
OUT_FULL = 2
OUT_REPORTS = 3

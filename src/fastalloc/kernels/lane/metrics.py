"""The names of what a lane reports: columns of ``runs/``, ``series/``, ``events/`` and the robbery ledger.

The order is the column order of the result arrays; store and report take their schemas from here.
"""

# One int64 a lane. Counters unless a unit is named.
METRICS = (
    "sim_ms",  # simulated time
    "cpu_ticks",  # jiffies x CPUs
    "livelock_5s",  # 1: a livelock lasted more than 5 s
    "livelock_60s",
    "livelock_onset_ms",  # onset of the longest one, -1 none
    "livelock_ms",  # longest
    "livelock_open",  # 1: it still held when the run ended
    "livelocks",  # that lasted more than 5 s
    "stall_ms",  # longest time without a SCSI command started while pages were under writeback
    "stall_onset_ms",
    "sense_fail",
    "sense_spare",  # lazily allocated sense buffers refused, so the host's spare one served
    "cmd_fail",
    "sg_fail",
    "free_list_used",
    "free_list_empty",
    "idle_refused",  # attempts that got no command while none was in flight
    "reports",  # page allocation failures printed
    "reports_suppressed",
    "bio_fast_fail",  # first tries of the bio mempool that found no slot
    "bio_waits",  # sleeps in the bio mempool
    "reclaimers_stuck",  # sleeps in a mempool that left no reclaimer awake
    "request_waits",  # sleeps in get_request_wait
    "mempool_timeouts",  # sleeps that ended by the 5 s timer
    "pages_swapped_out",
    "commands",
    "requests",
    "bios",
    "bio_merges",
    "max_writeback",  # pages
    "max_bio_slabs",  # slabs of the cache that holds bios
    "max_slab_pages",
    "min_free_dma",  # pages
    "min_free_dma32",
    "deepest",  # deepest watermark used, an index of DEPTH_NAMES
    "no_watermark",  # pages taken with no watermark
    "failed_allocations",
    "refusals",  # of objects at hand, by the entitlement rule
    "probes",  # slabs that refused callers tried to buy
    "spare_used",  # slabs bought with a page set aside for the swap path
    "unfair_refusals",  # callers left with nothing although objects were at hand
    "slab_fast",  # objects taken and given on what a CPU has to itself: its slab, array or sheaf
    "slab_slow",  # objects that took a longer way
    "slab_locks",  # times that a lock of all CPUs was taken: of a node's lists or barn; SLOB: its only one
    "slab_waste_kb",  # held in slabs at the end and used by no object
    "policy_tests",  # questions that the policy adds to those that rc8 asks, see docs/policies.md
    "policy_locks",  # locks that it adds
    "reserve_idle",  # bytes set aside for a shortage and not in use, mean over time
    "reserve_idle_end",  # the same at the end
    "emergency_used",  # objects that emergency caches gave
    "emergency_lost",  # slabs of them that freeing by the wrong name took away
    "charges_refused",  # objects that the reserve tree would not answer for
    "writes_put_off",  # pages left dirty by the write gate
    "host_commands",  # that arrived at the further hosts
    "host_sense_fail",  # their sense buffers refused
    "host_refused",  # those that got no command, or not all of one
    "allocstall",  # direct reclaims entered
    "kswapd_wakes",
    "pages_scanned",
    "pages_reclaimed",
    "pages_copied",
    "files_copied",
    "trees_removed",
    "anonymous_pages",
    "noise_allocations",
    "noise_failures",
    "dispatch_kblockd",  # commands issued, by who ran the request function
    "dispatch_reclaimer",
    "dispatch_softirq",
    "busy_ms",  # time with a command in flight
    "at_ms",  # the state 5 s into the first livelock (-1 where there was none) ...
    "at_commands",
    "at_bios",
    "at_writeback",
    "at_bio_slabs",
    "at_bio_free_slots",
    "at_bio_pool",
    "at_bio_waiters",
    "at_request_waiters",
    "at_running",
    "at_free_dma",
    "at_free_dma32",
    "at_deep_slots",  # in use in slabs of the bio cache that were bought below 3/4 min
    "at_sense_fail_5s",  # ... and the sense failures of those 5 s
    "events_lost",  # events that did not fit the lane's log
)

# A row each ``series_ms`` of simulated time. Gauges, except the last seven, which are running totals.
SERIES = (
    "t_ms",
    "free_dma",
    "free_dma32",
    "pcp_pages",
    "active",
    "inactive",
    "slab_pages",
    "writeback",
    "bios",
    "commands",  # in flight
    "requests",  # allocated from the queue
    "plugged",
    "bio_slabs",
    "bio_free_slots",
    "bio_pool",
    "free_list",
    "running",  # tasks on a run queue
    "bio_waiters",
    "request_waiters",
    "congestion_waiters",  # reclaimers napping in congestion_wait or throttle_vm_writeout
    "reclaimers",  # tasks inside reclaim, kswapd included
    "sense_fail",
    "free_list_used",
    "commands_total",
    "swapped_out",
    "pages_copied",
    "reports",
    "reports_suppressed",
)

# An event row: t_ns, kind, cpu, task, a, b, c (all int64; -1 where it does not apply).
EVENT_COLUMNS = ("t_ns", "kind", "cpu", "task", "a", "b", "c")
EVENTS = (
    "report",  # a: gfp mask, b: order, c: messages suppressed before it
    "stall_begin",  # a: pages under writeback
    "stall_end",  # a: length in ms
    "livelock_begin",  # a: bios, b: pages under writeback, c: free slots in the bio cache
    "livelock_5s",
    "livelock_60s",
    "livelock_end",  # a: length in ms
    "free_list_used",  # a: commands in flight
    # only in a full log (rerun):
    "slab_bought",  # a: cache, b: buyer, c: depth
    "command_start",  # a: bios, b: where the sense buffer came from (WHO), c: runner
    "command_end",  # a: bios
    "sense_fail",  # a: runner
    "bio_wait",  # a: 1 if the 5 s timer ended the sleep before
    "bio_wake",
    "request_wait",
    "reclaim_begin",  # a: priority
    "reclaim_end",  # a: pages reclaimed
    "kswapd_wake",
    "congestion_wait",
    "tree_removed",
)

# Who asks for memory: buyers of slabs and takers of their slots.
WHO = (
    "nobody",
    "bio",
    "biovec",
    "request",
    "scsi_cmnd",
    "sense",
    "sg table",
    "radix node",
    "inode",
    "dentry",
    "atomic noise",
    "task page",
    "boot",
)
(
    W_NOBODY,
    W_BIO,
    W_BIOVEC,
    W_REQUEST,
    W_COMMAND,
    W_SENSE,
    W_SG,
    W_RADIX,
    W_INODE,
    W_DENTRY,
    W_NOISE,
    W_PAGE,
    W_BOOT,
) = range(len(WHO))

"""What a user describes: machine, queue, host, disk, policy, workload, costs, run and variants."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fastalloc.errors import InputError
from fastalloc.scenario.fitted import parse_workload
from fastalloc.scenario.machine import Machine, Model
from fastalloc.scenario.varied import Varied

Count = Annotated[int, Field(ge=0, le=1 << 31)]
Positive = Annotated[int, Field(ge=1, le=1 << 31)]
Nanoseconds = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Queue(Model):
    """The request queue of the swap device."""

    nr_requests: Annotated[int, Field(ge=4, le=1 << 16)] = 128
    unplug_thresh: Annotated[int, Field(ge=1, le=1 << 16)] = 4  # requests
    unplug_ms: Annotated[int, Field(ge=1, le=10_000)] = 3
    max_segments: Annotated[int, Field(ge=1, le=128)] = 128
    batch_requests: Annotated[int, Field(ge=0, le=1 << 16)] = 32
    batch_ms: Annotated[int, Field(ge=0, le=10_000)] = 20
    merge: bool = True  # bios into requests


class Host(Model):
    """The SCSI host."""

    queue_depth: Annotated[int, Field(ge=1, le=1024)] = 1  # commands in flight, device
    can_queue: Annotated[int, Field(ge=1, le=1024)] = 1  # commands in flight, host
    free_list: Annotated[int, Field(ge=0, le=64)] = 1  # commands set aside, each with its sense buffer


class Disk(Model):
    """The device: a command takes 1/iops seconds and its bytes at the rate."""

    iops: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    bytes_per_second: Annotated[int, Field(ge=4096, le=1 << 40)] = 8_000_000
    irq_cpu: Annotated[int, Field(ge=0, le=63)] = 0
    completion_delay_us: Annotated[int, Field(ge=0, le=10_000_000)] = 0  # command freed to queue run again


User = Literal["bio", "biovec", "request", "scsi_cmnd", "sense", "sg table"]  # of WHO


class Policy(Model):
    """What the kernel does about it."""

    allocator: Literal["slub", "cpu-partial", "sheaves", "slab", "slob"] = "slub"  # slub: as of 2.6.25
    slub_layout: Literal["2.6.25", "2.6.26", "3.2", "6.1", "6.12"] = "2.6.25"  # slots, orders, who merges
    sheaf_capacity: Annotated[int, Field(ge=1, le=60)] = 32  # objects a sheaf
    min_partial_on_free: bool = False  # an emptied slab stays while its node has fewer than min_partial
    # __scsi_get_command; prealloc: all at host setup
    command_rule: Literal["rc8", "fix", "prealloc", "consolidated"] = "rc8"
    sense: Literal["separate", "inline", "lazy"] = "separate"  # an object, part of the command, only on an error
    sense_bytes: Annotated[int, Field(ge=18, le=260)] = 96
    command_align: Literal[0, 64, 128] = 0  # what an inline sense buffer is aligned to; 0: a field, as in 2.6.24
    sense_error_ppm: Annotated[int, Field(ge=0, le=1_000_000)] = 100  # commands that end with CHECK CONDITION
    bio_pool: Annotated[int, Field(ge=1, le=1024)] = 2  # elements of the bio mempool, and of that of its vectors
    request_pool: Annotated[int, Field(ge=1, le=1024)] = 4  # of the queue's mempool of requests
    sense_pool: Annotated[int, Field(ge=0, le=64)] = 0  # elements of a mempool behind the sense cache
    slub_nomerge: bool = False
    sense_ctor: bool = False  # a no-op constructor on the sense cache
    kblockd_memalloc: bool = False  # kblockd runs with PF_MEMALLOC
    nomerge_bio: bool = False  # SLAB_NOMERGE on the bio cache
    nomerge_sense: bool = False  # SLAB_NOMERGE on the sense cache
    bio_inline_vecs: bool = False  # a bio with 4 vectors inside, and no biovec object
    mempool_rule: Literal["2.6.25", "keep-wait", "no-harder", "pool-first", "polite", "retry"] = "2.6.25"
    mempool_timeout_s: Annotated[int, Field(ge=0, le=3600)] = 5  # 0: only a freed element ends the sleep
    mempool_wake_one: bool = False  # a freed element wakes one sleeper instead of all
    watermark_rule: Literal["2.6.25", "6.3"] = "2.6.25"  # who may go below min
    emergency_pages: Count = 0  # added to every watermark, shared among the zones like min
    memalloc: list[User] = Field(default_factory=list)  # __GFP_MEMALLOC: no watermark
    high: list[User] = Field(default_factory=list)  # __GFP_HIGH: half of min
    short: list[User] = Field(default_factory=list)  # short-lived: as deep as short_eighths
    # who may take a slot at hand
    entitlement: Literal["anyone", "rank", "rank-posted", "no-watermarks", "pfmemalloc"] = "anyone"
    probe_every: Annotated[int, Field(ge=1, le=1 << 20)] = 1  # refusals for one attempt to buy a slab
    probe_low: bool = False  # such an attempt succeeds above low only
    spare_pages: Annotated[int, Field(ge=0, le=1 << 16)] = 0  # set aside for slabs of the swap path (SLAB_IO)
    spare_users: list[User] = Field(default_factory=list)  # whose caches may take them
    swap_bio_limit: Count = 0  # bios outstanding from which on a reclaimer waits, 0 none
    reclaim_gate: bool = False  # direct reclaimers wait while half of the sum of min is gone
    short_eighths: Annotated[int, Field(ge=0, le=8)] = 4  # of min
    reserve_commands: Annotated[int, Field(ge=0, le=1 << 16)] = 0  # that a reserve tree answers for, 0 none
    emergency_caches: Literal["none", "v1", "v2", "ideal"] = "none"  # asked when a cache gets no slab
    emergency_users: list[User] = Field(default_factory=list)  # who may, beside GFP_TEMPORARY, which nobody passes
    emergency_merge: bool = True  # they merge like any cache
    emergency_free: Literal["named", "page"] = "named"  # into the cache that the caller names, or the slab's own
    emergency_slabs: Annotated[int, Field(ge=1, le=1024)] = 1  # set aside for each class, ideal
    on_stack_bio: bool = False  # a swap write waits for its end and needs no bio from memory
    write_gate: Literal["none", "min", "low", "high"] = "none"  # at or below it a reclaimer puts writes off
    gate_pages: Annotated[int, Field(ge=1, le=1 << 20)] = 32  # dirty pages passed over for each that is written
    questions: str = ""  # source of a user's own policy
    # sense buffers of each further host; hosts of one size are of one driver and share its pool
    host_sense_bytes: Annotated[list[Annotated[int, Field(ge=18, le=260)]], Field(max_length=16)] = Field(
        default_factory=list
    )
    host_pools: Literal["driver", "host"] = "driver"  # a sense cache for each size, or for each host

    @model_validator(mode="after")
    def _consistent(self) -> "Policy":
        if self.entitlement == "pfmemalloc":
            if self.allocator in ("slab", "slob"):
                raise ValueError("entitlement: 'pfmemalloc' is modelled for SLUB of any era alone")
        elif self.entitlement != "anyone" and self.allocator != "slub":
            raise ValueError(f"entitlement: {self.entitlement!r} is modelled for allocator 'slub' alone")
        if self.emergency_caches != "none" and self.allocator != "slub":
            raise ValueError(f"emergency_caches: modelled for allocator 'slub', not {self.allocator!r}")
        if self.emergency_caches == "ideal" and (self.emergency_merge or self.emergency_free == "named"):
            raise ValueError("emergency_caches: 'ideal' ones share with nobody and are freed by the page")
        if self.reserve_commands > 0 and self.allocator in ("slab", "slob"):
            raise ValueError(f"reserve_commands: its pages are counted for SLUB, not {self.allocator!r}")
        if self.questions and self.allocator != "slub":
            raise ValueError(f"questions: asked of allocator 'slub', not {self.allocator!r}")
        if self.spare_pages > 0 and self.allocator in ("slab", "slob"):
            raise ValueError(f"spare_pages: {self.allocator} keeps none; its slabs would never give one back")
        if self.min_partial_on_free and self.allocator != "slub":
            raise ValueError(f"min_partial_on_free: tells nothing to allocator {self.allocator!r}")
        return self


class Workload(Model):
    """Who uses memory."""

    copiers: Annotated[int, Field(ge=0, le=1024)] = 48  # tasks that copy a tree into tmpfs, remove it, start again
    tree_files: Positive = 1200
    mean_file_pages: Annotated[int, Field(ge=1, le=1 << 16)] = 3
    writers: Annotated[int, Field(ge=0, le=1024)] = 6  # tasks that fill anonymous memory
    writer_pages: Positive = 51200  # each
    start_spread_ms: Count = 2000
    atomic_objects_per_s: Count = 200  # GFP_ATOMIC objects of 128 bytes, a second
    atomic_object_ms: Count = 2  # how long each lives
    atomic_pages_per_s: Count = 50  # GFP_ATOMIC pages, a second
    atomic_page_ms: Count = 2
    # Before each attempt at a command somebody takes every 128-byte slot and page that GFP_ATOMIC gets, for ever; as
    # "reclaim" with PF_MEMALLOC, which knows no watermark.
    squeeze: Literal["none", "atomic", "reclaim"] = "none"
    host_commands_per_s: Annotated[int, Field(ge=1, le=1_000_000)] = 50  # at each further host
    host_command_ms: Count = 10  # how long each takes
    background: str = ""  # what `fastalloc trace fit` wrote, in a file its path; counted in noise_*
    swappiness: Annotated[int, Field(ge=0, le=100)] = 60

    @field_validator("background")
    @classmethod
    def _fitted(cls, text: str) -> str:
        if text:
            try:
                parse_workload(text, "")
            except InputError as error:
                raise ValueError(f"no fitted workload: {error.where} {error.message}") from None
        return text


class Costs(Model):
    """Nanoseconds of CPU time."""

    copy_page: Nanoseconds = 20_000
    fault_page: Nanoseconds = 10_000
    scan_page: Nanoseconds = 2_000
    reclaim_page: Nanoseconds = 4_000
    swap_page: Nanoseconds = 20_000
    submit_bio: Nanoseconds = 15_000
    dispatch: Nanoseconds = 40_000
    irq: Nanoseconds = 30_000
    end_bio: Nanoseconds = 5_000
    wake: Nanoseconds = 5_000
    create_file: Nanoseconds = 100_000
    remove_page: Nanoseconds = 3_000


class Run(Model):
    """How much is simulated and what is kept."""

    duration_s: Annotated[float, Field(gt=0, le=86_400)] = 75.0
    lanes: Annotated[int, Field(ge=1, le=1 << 24)] = 16
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    series_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 250
    max_events: Annotated[int, Field(ge=0, le=1 << 24)] = 4096  # a lane


class Scenario(Varied):
    """One question: a machine under a workload, and the variants of the kernel to compare."""

    machine: Machine
    kernel_policy: str = ""  # the policy that the policy table started from; told where the scenario was loaded
    queue: Queue = Queue()
    host: Host = Host()
    disk: Disk = Disk()
    policy: Policy = Policy()
    workload: Workload = Workload()
    costs: Costs = Costs()
    run: Run = Run()

    @model_validator(mode="after")
    def _consistent(self) -> "Scenario":
        if self.machine.page_kb != 4:
            raise ValueError(f"machine.page_kb: {self.machine.page_kb}, but only pages of 4 KB can be run")
        if self.disk.irq_cpu >= self.machine.cpus:
            raise ValueError(f"disk.irq_cpu: {self.disk.irq_cpu}, but the machine has {self.machine.cpus} CPUs")
        if self.workload.copiers + self.workload.writers == 0:
            raise ValueError("workload: neither copiers nor writers, so nothing uses memory")
        return self

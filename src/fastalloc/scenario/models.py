"""What a user describes: machine, queue, host, disk, policy, workload, costs, run and variants."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fastalloc.errors import InputError
from fastalloc.fields import Count, Model, Nanoseconds, Positive, rows_html
from fastalloc.own.allocator_text import is_allocator, read_own
from fastalloc.own.text import refuse_parameters, refuse_unasked
from fastalloc.policy import NOT_SLUB, Policy
from fastalloc.scenario.fitted import parse_workload
from fastalloc.scenario.machine import Machine
from fastalloc.scenario.varied import Varied

MOST_VARIANTS = 1024  # each boots once before any of them runs
PerSecond = Annotated[int, Field(ge=0, le=10_000_000)]


class Queue(Model):
    """The request queue of the swap device."""

    nr_requests: Annotated[int, Field(ge=4, le=1 << 16)] = 128
    unplug_thresh: Annotated[int, Field(ge=1, le=1 << 16)] = 4  # requests
    unplug_ms: Annotated[int, Field(ge=1, le=10_000)] = 3
    max_segments: Annotated[int, Field(ge=1, le=128)] = 128
    batch_requests: Annotated[int, Field(ge=0, le=1 << 16)] = 32
    batch_ms: Annotated[int, Field(ge=0, le=10_000)] = 20
    merge: bool = True  # bios into requests
    elevator: Literal["cfq", "noop"] = "cfq"


class Host(Model):
    """The SCSI host."""

    queue_depth: Annotated[int, Field(ge=1, le=1024)] = 1  # commands in flight, device
    can_queue: Annotated[int, Field(ge=1, le=1024)] = 1  # commands in flight, host
    free_list: Annotated[int, Field(ge=0, le=64)] = 1  # commands set aside, each with its sense buffer


class Disk(Model):
    """The device: a command takes 1/iops seconds and its bytes at the rate."""

    iops: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    bytes_per_second: Annotated[int, Field(ge=4096, le=1 << 40)] = 8_000_000
    irq_cpu: Annotated[int, Field(ge=0, le=1023)] = 0
    completion_delay_us: Annotated[int, Field(ge=0, le=10_000_000)] = 0  # command freed to queue run again


class Burst(Model):
    """GFP_ATOMIC requests that come together: the ring of a network card filled again, a batch of completions."""

    pages: Annotated[int, Field(ge=0, le=1 << 22)] = 0  # asked for in a burst, one by one ...
    objects: Annotated[int, Field(ge=0, le=1 << 22)] = 0  # ... or objects of kmalloc
    object_bytes: Annotated[int, Field(ge=8, le=4096)] = 2048
    every_ms: Annotated[float, Field(ge=0.01, le=1e7)] = 100.0  # from one burst to the next
    spread_ms: Annotated[float, Field(ge=0, le=1e7)] = 1.0  # of a burst: its requests come evenly
    life_ms: Annotated[float, Field(ge=0, le=1e7)] = 20.0  # of each page or object
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1  # whose interrupts ask, in turn
    start_ms: Annotated[float, Field(ge=0, le=1e8)] = 0.0  # no burst before

    @model_validator(mode="after")
    def _consistent(self) -> "Burst":
        if (self.pages > 0) == (self.objects > 0):
            raise ValueError("a burst is of pages or of objects")
        if self.spread_ms >= self.every_ms:
            raise ValueError(f"spread_ms: {self.spread_ms:g}, but the next burst begins after {self.every_ms:g} ms")
        return self


class Workload(Model):
    """Who uses memory."""

    copiers: Annotated[int, Field(ge=0, le=1024)] = 48  # tasks that copy a tree into tmpfs, remove it, start again
    tree_files: Positive = 1200
    mean_file_pages: Annotated[int, Field(ge=1, le=1 << 16)] = 3
    writers: Annotated[int, Field(ge=0, le=1024)] = 6  # tasks that fill anonymous memory
    writer_pages: Positive = 51200  # each
    start_spread_ms: Count = 2000
    # When each task starts, copiers first; empty: drawn, evenly over start_spread_ms.
    start_ms: Annotated[list[Count], Field(max_length=2048)] = Field(default_factory=list)
    atomic_objects_per_s: PerSecond = 200  # GFP_ATOMIC objects of 128 bytes, a second
    atomic_object_ms: Count = 2  # how long each lives
    atomic_pages_per_s: PerSecond = 50  # GFP_ATOMIC pages, a second
    atomic_page_ms: Count = 2
    # Before each attempt at a command somebody takes every 128-byte slot and page that GFP_ATOMIC gets, for ever; as
    # "reclaim" with PF_MEMALLOC, which knows no watermark.
    adversary: Literal["none", "atomic", "reclaim"] = "none"
    host_commands_per_s: Annotated[int, Field(ge=1, le=1_000_000)] = 50  # at each further host
    host_command_ms: Count = 10  # how long each takes
    bursts: Annotated[list[Burst], Field(max_length=16)] = Field(default_factory=list)
    background: str = ""  # what `fastalloc trace fit` wrote, in a file its path; counted in noise_*
    swappiness: Annotated[int, Field(ge=0, le=100)] = 60
    # Of the tasks' own memory, what mlockall holds: anonymous pages that are on the active list and never leave it
    locked_pages: Annotated[int, Field(ge=0, le=1 << 24)] = 0

    @field_validator("background")
    @classmethod
    def _fitted(cls, text: str) -> str:
        if text:
            try:
                parse_workload(text, "")
            except InputError as error:
                raise ValueError(f"no fitted workload: {error.where} {error.message}") from None
        return text

    @model_validator(mode="after")
    def _a_start_each(self) -> "Workload":
        tasks = self.copiers + self.writers
        if self.start_ms and len(self.start_ms) != tasks:
            raise ValueError(f"start_ms: {len(self.start_ms)} starts of {tasks} tasks; copiers first, then writers")
        return self


class Costs(Model):
    """Nanoseconds of CPU time; all but ``rcu_callback`` at least one: a lane where nothing takes time does not end."""

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
    unmap_page: Nanoseconds = 3_000  # a page of anonymous memory unmapped
    rcu_callback: Nanoseconds = 0  # each callback of RCU, whose own time may be left out
    swap_cache: Nanoseconds = 10_000  # a page enters the swap cache, its slot found at once
    swap_slot: Nanoseconds = 100  # each slot looked at in a search
    swap_lock: Nanoseconds = 1000  # of it under swap_lock, where CPUs take turns

    @model_validator(mode="after")
    def _above_zero(self) -> "Costs":
        free = [name for name, cost in self if cost == 0 and name != "rcu_callback"]
        if free:
            raise ValueError(f"{', '.join(free)}: must be at least 1 ns: a lane where nothing takes time never ends")
        return self


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

    def __repr__(self) -> str:
        names = [variant.name for variant in self.variants]
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        of = f"{self.run.lanes} lanes of {self.run.duration_s:g} s on {self.machine.name}"
        return f"Scenario {self.name}: {of}, under each of {shown}"

    def _repr_html_(self) -> str:
        rows = [(variant.name, variant.title, "yes" if variant.default else "") for variant in self.variants]
        words = f"{self!r}. {' '.join(self.description.split())}"
        return rows_html(words, ("variant", "title", "runs when none is asked for"), rows)

    @property
    def own(self) -> tuple[str, str, dict[str, int]]:
        """As of ``Varied``."""
        return self.policy.own

    @model_validator(mode="after")
    def _consistent(self) -> "Scenario":
        if len(self.variants) > MOST_VARIANTS:
            raise ValueError(f"variants: {len(self.variants):,}; at most {MOST_VARIANTS:,} are compared")
        if self.machine.page_kb != 4 and self.policy.allocator in NOT_SLUB:
            raise ValueError(
                f"machine.page_kb: {self.machine.page_kb}, but policy.allocator {self.policy.allocator!r} is modelled "
                "for pages of 4 kB"
            )
        if self.policy.questions:
            text = read_own(self.policy.questions, self.policy.own[1])
            if is_allocator(self.policy.questions) != (self.policy.allocator == "own"):
                told = "an allocator runs under policy.allocator 'own', and nothing else does"
                raise ValueError(f"{self.policy.own[1]}: {told}; it is {self.policy.allocator!r}")
            if self.policy.allocator != "own":
                refuse_unasked(text, self.policy.allocator)
            refuse_parameters(text, self.policy.parameters)
        elif self.policy.allocator == "own":
            raise ValueError("policy.allocator: 'own' is a file of one's own: name it with --policy FILE.py")
        if self.disk.irq_cpu >= self.machine.cpus:
            raise ValueError(f"disk.irq_cpu: {self.disk.irq_cpu}, but the machine has {self.machine.cpus} CPUs")
        if self.run.duration_s * self.machine.hz < 1:
            raise ValueError(f"run.duration_s: {self.run.duration_s:g} s is less than a tick of 1/{self.machine.hz} s")
        if self.workload.copiers + self.workload.writers == 0:
            raise ValueError("workload: neither copiers nor writers, so nothing uses memory")
        return self

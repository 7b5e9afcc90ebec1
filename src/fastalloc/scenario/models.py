"""What a user describes: machine, queue, host, disk, policy, workload, costs, run and variants."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from fastalloc.errors import InputError
from fastalloc.scenario.machine import Machine, Model

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


User = Literal["bio", "biovec", "request", "scsi_cmnd", "sense", "sg table"]  # of names.WHO


class Policy(Model):
    """What the kernel does about it."""

    allocator: Literal["slub", "cpu-partial", "sheaves", "slab", "slob"] = "slub"  # slub: as of 2.6.25
    slub_layout: Literal["2.6.25", "2.6.26", "3.2", "6.1", "6.12"] = "2.6.25"  # slots, orders, who merges
    sheaf_capacity: Annotated[int, Field(ge=1, le=60)] = 32  # objects a sheaf
    min_partial_on_free: bool = False  # an emptied slab stays while its node has fewer than min_partial
    command_rule: Literal["rc8", "fix", "prealloc"] = "rc8"  # __scsi_get_command; prealloc: all at host setup
    sense: Literal["separate", "inline", "lazy"] = "separate"  # an object, part of the command, only on an error
    sense_bytes: Annotated[int, Field(ge=18, le=260)] = 96
    command_align: Literal[0, 64, 128] = 0  # what an inline sense buffer is aligned to; 0: a field, as in 2.6.24
    sense_error_ppm: Annotated[int, Field(ge=0, le=1_000_000)] = 100  # commands that end with CHECK CONDITION
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
    entitlement: Literal["anyone", "rank", "rank-posted", "no-watermarks"] = "anyone"  # who may take a slot at hand
    probe_every: Annotated[int, Field(ge=1, le=1 << 20)] = 1  # refusals for one attempt to buy a slab
    probe_low: bool = False  # such an attempt succeeds above low only
    spare_pages: Annotated[int, Field(ge=0, le=1 << 16)] = 0  # set aside for slabs of the swap path (SLAB_IO)
    spare_users: list[User] = Field(default_factory=list)  # whose caches may take them
    swap_bio_limit: Count = 0  # bios outstanding from which on a reclaimer waits, 0 none
    reclaim_gate: bool = False  # direct reclaimers wait while half of the sum of min is gone
    short_eighths: Annotated[int, Field(ge=0, le=8)] = 4  # of min

    @model_validator(mode="after")
    def _consistent(self) -> "Policy":
        if self.entitlement != "anyone" and self.allocator != "slub":
            raise ValueError(f"entitlement: {self.entitlement!r} is modelled for allocator 'slub' alone")
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
    swappiness: Annotated[int, Field(ge=0, le=100)] = 60


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


class Variant(Model):
    """The scenario with some fields set otherwise; ``set`` maps dotted names to values."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
    title: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    default: bool = True  # runs when no variant is asked for


class Scenario(Model):
    """One question: a machine under a workload, and the variants of the kernel to compare."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
    description: str = ""
    machine: Machine
    queue: Queue = Queue()
    host: Host = Host()
    disk: Disk = Disk()
    policy: Policy = Policy()
    workload: Workload = Workload()
    costs: Costs = Costs()
    run: Run = Run()
    variants: list[Variant] = Field(min_length=1, default_factory=lambda: [Variant(name="base", title="as described")])

    @model_validator(mode="after")
    def _consistent(self) -> "Scenario":
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"variants: a name twice in {', '.join(names)}")
        if self.disk.irq_cpu >= self.machine.cpus:
            raise ValueError(f"disk.irq_cpu: {self.disk.irq_cpu}, but the machine has {self.machine.cpus} CPUs")
        if self.workload.copiers + self.workload.writers == 0:
            raise ValueError("workload: neither copiers nor writers, so nothing uses memory")
        return self

    def variant(self, name: str) -> "Scenario":
        """The scenario of one variant, its settings applied and checked; it is its own only variant.

        Raises:
            InputError: there is no such variant, or one of its settings names no field or holds a bad value.
        """
        for variant in self.variants:
            if variant.name == name:
                for key in variant.set:
                    if key.split(".")[0] in ("run", "variants", "name"):
                        raise InputError(self.name, f"variant {name}: {key}", "cannot differ between variants")
                own = variant.model_copy(update={"set": {}})
                return self.with_settings(variant.set, f"variant {name}").model_copy(update={"variants": [own]})
        known = ", ".join(variant.name for variant in self.variants)
        raise InputError(self.name, "variants", f"no variant {name!r}; there are {known}")

    def with_settings(self, settings: Mapping[str, Any], what: str = "set") -> "Scenario":
        """A copy with the fields named by dotted keys set.

        Args:
            settings: ``{"policy.command_rule": "fix"}``; a number in a key indexes a list.
            what: how an error names the origin of the settings.

        Raises:
            InputError: a key names no field, or a value is refused.
        """
        if not settings:
            return self
        data = self.model_dump()
        for key, value in settings.items():
            _assign(data, key, value, self.name, what)
        try:
            return Scenario.model_validate(data)
        except ValidationError as error:
            raise input_error(error, self.name, what) from None


def input_error(error: ValidationError, path: object, what: str = "") -> InputError:
    """All faults that pydantic found, as one error with a line for each."""
    faults = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown key"
        elif fault["type"] != "missing" and isinstance(fault["input"], bool | int | float | str):
            message += f", not {fault['input']!r}"
        faults.append(InputError(path, ": ".join(part for part in (what, field) if part), message))
    return InputError(faults[0].path, faults[0].where, faults[0].message, faults[1:])


def _assign(data: Any, key: str, value: Any, path: str, what: str) -> None:
    """Sets ``data["a"]["b"]`` for the key ``a.b``."""
    parts = key.split(".")
    for part in parts[:-1]:
        data = _step(data, part, key, path, what)
    last = parts[-1]
    if isinstance(data, list):
        _step(data, last, key, path, what)
        data[int(last)] = value
    elif isinstance(data, dict):
        data[last] = value  # an unknown field is refused by the validation that follows
    else:
        raise InputError(path, f"{what}: {key}", f"names no field: {last!r} is asked of a plain value")


def _step(data: Any, part: str, key: str, path: str, what: str) -> Any:
    if isinstance(data, dict) and part in data:
        return data[part]
    if isinstance(data, list) and part.isdigit() and int(part) < len(data):
        return data[int(part)]
    raise InputError(path, f"{what}: {key}", f"names no field: there is no {part!r}")

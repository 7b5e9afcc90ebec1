"""A policy: what the kernel does about it, field by field, each with its range.

A field that is ``ASKED`` is a question that kernels ask while a lane runs: its value is in every control array of the
lane, at the column ``POLICY.name`` (:mod:`fastalloc.kernels.lane.policy`), with no further line of code. The others say
how a lane is set up: its caches, their layout, their users.
"""

from collections.abc import Container
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fastalloc.fields import Count, Model

NOT_SLUB = ("slab", "slob", "own")  # allocators
ASKED = "asked by kernels while a lane runs"
# The versions with which SLUB's layout changed [linux/slub_layouts], and 7.3, which is as 7.0.
Layout = Literal[
    "2.6.25", "2.6.26", "2.6.27", "2.6.30", "2.6.31", "2.6.32", "2.6.34", "3.1", "3.2", "3.3", "3.10", "3.18", "3.19",
    "4.1", "4.2", "4.5", "4.6", "4.16", "4.20", "5.2", "5.4", "5.7", "5.9", "5.11", "5.12", "5.14", "5.16", "5.19",
    "6.1", "6.2", "6.5", "6.8", "6.9", "6.10", "6.11", "6.12", "6.18", "6.19", "7.0", "7.3",
]  # fmt: skip
User = Literal["bio", "biovec", "request", "scsi_cmnd", "sense", "sg table"]  # of WHO


def parameters_apart(data: Any, fields: Container[str]) -> Any:
    """A table that names a file of one's own, with all whole numbers that are no ``fields`` of it in ``parameters``."""
    if not isinstance(data, dict) or not data.get("questions"):
        return data
    found = {key: value for key, value in data.items() if key not in fields}
    given = data.get("parameters", {})
    if not found or not isinstance(given, dict) or not all(isinstance(value, int) for value in found.values()):
        return data
    kept = {key: value for key, value in data.items() if key not in found}
    return kept | {"parameters": {**given, **{str(key): int(value) for key, value in found.items()}}}


class Policy(Model):
    """What the kernel does about it."""

    # slub: as of 2.6.25; sheaves: of 6.18, here of every cache of the path; 7.3: of every cache there is; own: of the
    # file in ``questions``
    allocator: Literal["slub", "cpu-partial", "sheaves", "7.3", "slab", "slob", "own"] = "slub"
    slub_layout: Layout = "2.6.25"  # slots, orders, who merges
    sheaf_capacity: Annotated[int, Field(ge=0, le=500)] = 0  # objects a sheaf; 0: 32 in 6.18, by slot size in 7.3
    max_full_sheaves: Annotated[int, Field(ge=0, le=1000)] = 10  # that a barn of 7.3 keeps
    max_empty_sheaves: Annotated[int, Field(ge=0, le=1000)] = 10  # that it takes from kfree_rcu
    refill: Literal["spinning", "blocking"] = "spinning"  # who refills a sheaf: everybody; who may wait (7.0-rc1)
    min_partial_on_free: bool = False  # an emptied slab stays while its node has fewer than min_partial
    # __scsi_get_command; prealloc: all at host setup
    command_rule: Annotated[Literal["rc8", "fix", "prealloc", "consolidated"], ASKED] = "rc8"
    # an object, part of the command, only on an error
    sense: Annotated[Literal["separate", "inline", "lazy"], ASKED] = "separate"
    sense_bytes: Annotated[int, Field(ge=18, le=260)] = 96
    command_align: Literal[0, 64, 128] = 0  # what an inline sense buffer is aligned to; 0: a field, as in 2.6.24
    sense_error_ppm: Annotated[int, Field(ge=0, le=1_000_000), ASKED] = 100  # commands that end with CHECK CONDITION
    bio_pool: Annotated[int, Field(ge=1, le=1024)] = 2  # elements of the bio mempool, and of that of its vectors
    request_pool: Annotated[int, Field(ge=1, le=1024)] = 4  # of the queue's mempool of requests
    sense_pool: Annotated[int, Field(ge=0, le=64)] = 0  # elements of a mempool behind the sense cache
    slub_nomerge: bool = False
    sense_ctor: bool = False  # a no-op constructor on the sense cache
    kblockd_memalloc: Annotated[bool, ASKED] = False  # kblockd runs with PF_MEMALLOC
    nomerge_bio: bool = False  # SLAB_NOMERGE on the bio cache
    nomerge_sense: bool = False  # SLAB_NOMERGE on the sense cache
    bio_inline_vecs: Annotated[bool, ASKED] = False  # a bio with 4 vectors inside, and no biovec object
    mempool_rule: Literal["2.6.25", "keep-wait", "no-harder", "pool-first", "polite", "retry"] = "2.6.25"
    mempool_timeout_s: Annotated[int, Field(ge=0, le=3600)] = 5  # 0: only a freed element ends the sleep
    mempool_wake_one: Annotated[bool, ASKED] = False  # a freed element wakes one sleeper instead of all
    watermark_rule: Annotated[Literal["2.6.25", "6.3"], ASKED] = "2.6.25"  # who may go below min
    emergency_pages: Count = 0  # added to every watermark, shared among the zones like min
    memalloc: list[User] = Field(default_factory=list)  # __GFP_MEMALLOC: no watermark
    high: list[User] = Field(default_factory=list)  # __GFP_HIGH: half of min
    short: list[User] = Field(default_factory=list)  # short-lived: as deep as short_eighths
    # who may take a slot at hand
    entitlement: Annotated[Literal["anyone", "rank", "rank-posted", "no-watermarks", "pfmemalloc"], ASKED] = "anyone"
    probe_every: Annotated[int, Field(ge=1, le=1 << 20), ASKED] = 1  # refusals for one attempt to allocate a slab
    probe_low: bool = False  # such an attempt succeeds above low only
    spare_pages: Annotated[int, Field(ge=0, le=1 << 16), ASKED] = 0  # set aside for slabs of the swap path (SLAB_IO)
    spare_users: list[User] = Field(default_factory=list)  # whose caches may take them
    swap_bio_limit: Count = 0  # bios outstanding from which on a reclaimer waits, 0 none
    reclaim_gate: Annotated[bool, ASKED] = False  # direct reclaimers wait while half of the sum of min is gone
    short_eighths: Annotated[int, Field(ge=0, le=8)] = 4  # of min
    reserve_commands: Annotated[int, Field(ge=0, le=1 << 16)] = 0  # that a reserve tree answers for, 0 none
    emergency_caches: Annotated[Literal["none", "v1", "v2", "ideal"], ASKED] = "none"  # asked when a cache gets no slab
    emergency_users: list[User] = Field(default_factory=list)  # who may, beside GFP_TEMPORARY, which nobody passes
    emergency_merge: bool = True  # they merge like any cache
    emergency_free: Literal["named", "page"] = "named"  # into the cache that the caller names, or the slab's own
    emergency_slabs: Annotated[int, Field(ge=1, le=1024), ASKED] = 1  # set aside for each class, ideal
    on_stack_bio: Annotated[bool, ASKED] = False  # a swap write waits for its end and needs no bio from memory
    write_gate: Literal["none", "min", "low", "high"] = "none"  # at or below it a reclaimer puts writes off
    gate_pages: Annotated[int, Field(ge=1, le=1 << 20), ASKED] = 32  # dirty pages passed over for each that is written
    questions: str = ""  # source of a user's own policy, or of an allocator
    questions_file: str = ""  # what its file is called
    parameters: dict[str, int] = Field(default_factory=dict)  # of it, as set: policy.NAME
    # sense buffers of each further host; hosts of one size are of one driver and share its pool
    host_sense_bytes: Annotated[list[Annotated[int, Field(ge=18, le=260)]], Field(max_length=16)] = Field(
        default_factory=list
    )
    host_pools: Literal["driver", "host"] = "driver"  # a sense cache for each size, or for each host

    @property
    def own(self) -> tuple[str, str, dict[str, int]]:
        """A policy or allocator of one's own: its text, the name of its file, its parameters as set."""
        return self.questions, self.questions_file or "policy.questions", self.parameters

    @property
    def answers(self) -> tuple[str, str, dict[str, int]]:
        """``own`` where it answers questions; no text where it is an allocator."""
        return ("", "", {}) if self.allocator == "own" else self.own

    @model_validator(mode="before")
    @classmethod
    def _own_parameters(cls, data: Any) -> Any:
        """What is no field is a parameter of the policy of one's own, where there is one."""
        return parameters_apart(data, cls.model_fields)

    @model_validator(mode="after")
    def _consistent(self) -> "Policy":
        if self.entitlement == "pfmemalloc":
            if self.allocator in NOT_SLUB:
                raise ValueError("entitlement: 'pfmemalloc' is modelled for SLUB of any era alone")
        elif self.entitlement != "anyone" and self.allocator != "slub":
            raise ValueError(f"entitlement: {self.entitlement!r} is modelled for allocator 'slub' alone")
        if self.emergency_caches != "none" and self.allocator != "slub":
            raise ValueError(f"emergency_caches: modelled for allocator 'slub', not {self.allocator!r}")
        if self.emergency_caches == "ideal" and (self.emergency_merge or self.emergency_free == "named"):
            raise ValueError("emergency_caches: 'ideal' ones share with nobody and are freed by the page")
        if self.reserve_commands > 0 and self.allocator in NOT_SLUB:
            raise ValueError(f"reserve_commands: its pages are counted for SLUB, not {self.allocator!r}")
        if self.parameters and not self.questions:
            raise ValueError(f"parameters: {', '.join(self.parameters)}, but there is no policy of one's own")
        if self.spare_pages > 0 and self.allocator in NOT_SLUB:
            raise ValueError(f"spare_pages: {self.allocator} keeps none; its slabs would never give one back")
        if self.allocator != "7.3":
            for name in ("max_full_sheaves", "max_empty_sheaves", "refill"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name}: a rule of allocator '7.3', not of {self.allocator!r}")
        if self.min_partial_on_free and self.allocator != "slub":
            raise ValueError(f"min_partial_on_free: tells nothing to allocator {self.allocator!r}")
        return self

"""``fastalloc policy time``: what a policy of one's own costs, beside the kernel without it."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.own.compiled import OwnPolicy, own_policy
from fastalloc.own.questions import QUESTIONS, SLUBS
from fastalloc.verify.own.machine import trace_of, whole
from fastalloc.verify.own.operations import generated

OPERATIONS = 10_000
ROUNDS = 15  # the fastest counts: what is slower was disturbed


class Cost(NamedTuple):
    """Nanoseconds an operation without the policy and with it, and questions that it was asked an operation."""

    allocator: str
    plain_ns: float
    own_ns: float
    asked: float


def costs(source: str, where: str, parameters: Mapping[str, int]) -> list[Cost]:
    """What the policy costs on a mix of generated operations, for each kernel that asks all that it answers."""
    policy = own_policy(source, where, parameters)
    assert policy.text is not None
    asking = [each for each in SLUBS if all(each in QUESTIONS[name].allocators for name in policy.text.functions)]
    return [_cost(allocator, policy) for allocator in asking]


def _cost(allocator: str, policy: OwnPolicy) -> Cost:
    operations = generated(1, OPERATIONS)
    trace = trace_of(operations)
    plain: list[int] = []
    own: list[int] = []
    asked = 0
    for _ in range(ROUNDS):
        for times, which in ((plain, OwnPolicy()), (own, policy)):
            begun = time.perf_counter_ns()
            ctl = whole(operations, trace, allocator, which)
            times.append(time.perf_counter_ns() - begun)
        asked = int(ctl[MEMCTL.tests])
    return Cost(allocator, min(plain) / OPERATIONS, min(own) / OPERATIONS, asked / OPERATIONS)


def share(cost: Cost) -> float:
    """What the policy adds, as a share of the time without it."""
    return float(np.float64(cost.own_ns) / cost.plain_ns - 1)

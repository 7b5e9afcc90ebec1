"""``fastalloc policy time``: what a policy of one's own costs, beside the kernel without it; or an allocator."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.replay import operations as rp
from fastalloc.own import memory as om
from fastalloc.own.allocator import own_allocator
from fastalloc.own.compiled import OwnPolicy, PolicyError, own_policy
from fastalloc.own.failure import failure
from fastalloc.own.questions import QUESTIONS, SLUBS
from fastalloc.own.text import read_text
from fastalloc.verify.own.allocator_check import PAGES, SIZES, Setting, run
from fastalloc.verify.own.machine import trace_of, whole
from fastalloc.verify.own.operations import CACHES, CPUS, SLOTS, generated

from numba import njit  # isort: skip

OPERATIONS = 10_000
ROUNDS = 15  # the fastest counts: what is slower was disturbed


class Cost(NamedTuple):
    """Nanoseconds an operation without the policy and with it, and questions that it was asked an operation."""

    allocator: str
    plain_ns: float
    own_ns: float
    asked: float


def costs(source: str, where: str, parameters: Mapping[str, int]) -> list[Cost]:
    """What the policy costs on a mix of generated operations, for each kernel that asks all that it answers.

    Raises:
        InputError: the text is no policy. PolicyError: it fails; names the line.
    """
    read_text(source, where)  # an empty text is no policy here
    policy = own_policy(source, where, parameters)
    assert policy.text is not None
    asking = [each for each in SLUBS if all(each in QUESTIONS[name].allocators for name in policy.text.functions)]
    return [_cost(allocator, policy, lambda ctl: failure(source, where, parameters, ctl)) for allocator in asking]


def _cost(allocator: str, policy: OwnPolicy, why: Callable[[np.ndarray], str]) -> Cost:
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
            if ctl[MEMCTL.policy_failed]:
                raise PolicyError(why(ctl))
        asked = int(ctl[MEMCTL.tests])
    return Cost(allocator, min(plain) / OPERATIONS, min(own) / OPERATIONS, asked / OPERATIONS)


def allocator_costs(source: str, where: str, parameters: Mapping[str, int]) -> list[tuple[str, float]]:
    """Nanoseconds an operation of the allocator of a file, then of each SLUB, on the same generated operations.

    Raises:
        InputError: the text is no allocator. PolicyError: it fails or breaks conservation; names the line.
    """
    allocator = own_allocator(source, where, parameters)
    operations = generated(1, OPERATIONS, pools=False)
    wrong = run(operations, allocator, allocator.compiled, Setting(SIZES, PAGES)).wrong
    if wrong:
        raise PolicyError(f"{wrong}; look with: fastalloc policy check {where}")
    trace = trace_of(operations)
    drive = _driver(allocator.compiled["alloc"], allocator.compiled["free"], allocator.compiled["shrink"])
    times: list[int] = []
    for _ in range(ROUNDS):
        heap, zone = allocator.arrays(CACHES, CPUS, PAGES, CPUS), om.new_zone(PAGES, CACHES, PAGES)
        turns, place = np.zeros(1, np.int64), np.full(SLOTS, -1, np.int64)
        for c, size in enumerate(SIZES):
            allocator.compiled["create"](heap, c, size, turns)
        begun = time.perf_counter_ns()
        drive(trace.op, trace.cpu, trace.cache, trace.obj, trace.gfp, place, heap, zone, turns)
        times.append(time.perf_counter_ns() - begun)
    plain = []
    for name in SLUBS:
        whole(operations, trace, name, OwnPolicy())  # compiles, or loads, outside the time
        taken = []
        for _ in range(ROUNDS):
            begun = time.perf_counter_ns()
            whole(operations, trace, name, OwnPolicy())
            taken.append(time.perf_counter_ns() - begun)
        plain.append((name, min(taken) / OPERATIONS))
    return [(where, min(times) / OPERATIONS), *plain]


def _driver(alloc: Any, free: Any, shrink: Any) -> Any:
    """The loop over operations; nothing is held against the book."""

    def drive(op, cpu, cache, obj, gfp, place, heap, zone, turns):  # type: ignore[no-untyped-def]
        for row in range(op.shape[0]):
            c, slot, turns[0] = np.int64(cache[row]), obj[row], 0
            zone.ctl[om.ZONE_CTL.cache], zone.ctl[om.ZONE_CTL.task] = c, cpu[row]  # a task a CPU
            if op[row] == rp.OP_ALLOC:
                place[slot] = alloc(heap, zone, c, np.int64(cpu[row]), np.int64(gfp[row]), turns)
            elif op[row] == rp.OP_FREE and place[slot] >= 0:
                free(heap, zone, c, np.int64(cpu[row]), place[slot], turns)
                place[slot] = -1
            elif op[row] == rp.OP_SHRINK:
                shrink(heap, zone, c, turns)

    return drive if DISABLE_JIT else njit(nogil=True)(drive)  # so that Ctrl-C is heard


def share(cost: Cost) -> float:
    """What the policy adds, as a share of the time without it."""
    return float(np.float64(cost.own_ns) / cost.plain_ns - 1)

"""Machine code and interpreted Python give one answer, keep one state, and fail at the same calls."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.kernels.alloc.policy_hooks import FAILED, answers
from fastalloc.kernels.alloc.policy_record import ASKED
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_NODE, MEMCTL, SLUB_SLAB
from fastalloc.own.compiled import install, own_policy

SOURCE = """
STATE = {"lane": ["asked"], "cache": ["sum", "last"], "slab": ["seen"]}

def loop(turns, step):
    total = 0
    for i in range(turns):
        total += i
        if total > 1000:
            break
    while total > 0 and step != 0:
        total -= 7
    return total

def entitlement(gfp, cpu, cache, slab, state):
    state.lane.asked += 1
    state.cache.sum = state.cache.sum + slab.free * slab.total
    state.slab.seen += 1
    state.cache.last = loop(slab.free, cpu) << (gfp % 5)
    if slab.total < 0:
        return -slab.free // slab.total
    return (state.cache.last + state.slab.seen) % slab.total

def keep(cache, slab):
    return abs(min(cache.partial, -cache.partial)) - (slab.free >> 2) * 3 if cache.partial else KERNEL

KERNEL = -1
"""
WORDS = some.integers(-(1 << 63), (1 << 63) - 1) | some.integers(-40, 400) | some.sampled_from([0, 1, -1, 1 << 62])


def asked(policy, name, ctl):
    """The answer of the machine code, FAILED where it raised."""
    if DISABLE_JIT:
        return answers[policy.address[name]](ctl)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(policy.address[name])
    return function(ctl.ctypes.data)


def interpreted(policy, name, ctl):
    try:
        return policy.interpreted[name](ctl)
    except (ArithmeticError, ValueError):
        return FAILED


TOLD = some.fixed_dictionaries(dict.fromkeys(("gfp", "cpu", "slab_free", "slab_total", "cache_partial"), WORDS))


@settings(max_examples=300)
@given(some.lists(TOLD, min_size=1, max_size=4))
def test_compiled_is_interpreted(calls):
    policy = own_policy(SOURCE, "mine.py")
    lanes = [install(policy, np.zeros(MEMCTL.width, np.int64), 2, 3, 4) for _ in range(2)]
    for told in calls:
        for name in ("entitlement", "keep"):
            for ctl in lanes:
                for field, value in told.items():
                    ctl[MEMCTL.asked[getattr(ASKED, field)]] = value
                ctl[[MEMCTL.asked[ASKED.cache_id], MEMCTL.asked[ASKED.slab_id]]] = 2, 3
            answer = interpreted(policy, name, lanes[0])
            assert asked(policy, name, lanes[1]) == answer
            if answer == FAILED:
                return
            assert (lanes[0] == lanes[1]).all()


def raises(body, **told):
    """What a policy's function raises with ``zone.free`` and ``zone.min`` as told, interpreted; and compiled fails."""
    policy = own_policy(f"def depth(zone):\n{body}", "mine.py")
    ctl = install(policy, np.zeros(MEMCTL.width, np.int64), 1, 1, 1)
    for field, value in told.items():
        ctl[MEMCTL.asked[getattr(ASKED, f"zone_{field}")]] = value
    assert asked(policy, "depth", ctl.copy()) == FAILED
    with pytest.raises(Exception) as error:  # noqa: PT011
        policy.interpreted["depth"](ctl)
    return type(error.value)


def test_what_c_would_wrap_or_trap_fails():
    assert raises("    return zone.free + zone.min\n", free=(1 << 63) - 1, min=1) is OverflowError
    assert raises("    return zone.free - zone.min\n", free=-(1 << 63), min=1) is OverflowError
    assert raises("    return zone.free * zone.min\n", free=1 << 40, min=1 << 40) is OverflowError
    assert raises("    return zone.free // zone.min\n", free=-(1 << 63), min=-1) is OverflowError
    assert raises("    return -zone.free\n", free=-(1 << 63)) is OverflowError
    assert raises("    return zone.free << zone.min\n", free=3, min=62) is OverflowError
    assert raises("    return zone.free << zone.min\n", free=3, min=64) is OverflowError
    assert raises("    return zone.free % zone.min\n", free=3) is ZeroDivisionError
    assert raises("    assert zone.free > 3\n    return 1\n", free=3) is AssertionError
    assert raises("    raise ValueError('x')\n") is ValueError


def test_loops_end_however_they_are_nested():
    assert raises("    while zone.free == 0:\n        pass\n    return 1\n") is OverflowError
    assert raises("    for i in range(1 << 62):\n        pass\n    return 1\n") is OverflowError
    inner = "def slow(n):\n    for i in range(n):\n        pass\n    return n\n"
    policy = own_policy(
        f"{inner}def depth(zone):\n    for i in range(900):\n        slow(9000)\n    return 1\n", "m.py"
    )
    ctl = install(policy, np.zeros(MEMCTL.width, np.int64), 1, 1, 1)
    assert asked(policy, "depth", ctl) == FAILED


OF_EACH_FREE = """
STATE = {"lane": ["all"], "cpu": ["times"], "cache": ["sum"], "slab": ["free"]}

def free_to(cpu, now, context, cache, slab, state):
    state.lane.all += cpu + 3 * now + 5 * context
    state.cpu.times += 1
    state.cache.sum += cache.id + 3 * cache.size + 5 * cache.objsize + 7 * cache.objects + 11 * cache.order
    state.cache.sum += 13 * cache.pages + 17 * cache.partial + 19 * cache.slabs + 23 * cache.min_partial
    state.slab.free = slab.id + 3 * slab.free + 5 * slab.total + 7 * slab.owner + 11 * slab.depth
    return (state.lane.all ^ state.cache.sum ^ state.slab.free) % (slab.total - 7)
"""


@pytest.mark.skipif(DISABLE_JIT, reason="Python is told of each free too")
@given(some.lists(some.integers(0, 1000), min_size=20, max_size=20))
def test_free_to_finds_in_the_records_what_others_are_told(numbers):
    draw = iter(numbers)
    policy = own_policy(OF_EACH_FREE, "mine.py")
    mine, ctl = (install(policy, np.zeros(MEMCTL.width, np.int64), 2, 3, 4) for _ in range(2))
    slab = np.zeros(SLUB_SLAB.width, np.int32)
    cache, node = np.zeros(KMEM_CACHE.width, np.int64), np.zeros(KMEM_CACHE_NODE.width, np.int64)
    ctl[[MEMCTL.cpu, MEMCTL.context, MEMCTL.hz, MEMCTL.jiffies]] = next(draw) % 2, next(draw), 250, next(draw)
    slab[[SLUB_SLAB.cache, SLUB_SLAB.objects, SLUB_SLAB.inuse]] = next(draw) % 3, next(draw) % 9, next(draw)
    slab[[SLUB_SLAB.owner, SLUB_SLAB.depth]] = next(draw), next(draw)
    for name in ("size", "objsize", "objects", "order", "pages", "min_partial"):
        cache[getattr(KMEM_CACHE, name)] = next(draw)
    node[[KMEM_CACHE_NODE.nr_partial, KMEM_CACHE_NODE.nr_slabs]] = next(draw), next(draw)
    told = {
        "cpu": ctl[MEMCTL.cpu], "context": ctl[MEMCTL.context], "now": ctl[MEMCTL.jiffies] * 4,
        "slab_id": 3, "slab_free": slab[SLUB_SLAB.objects] - slab[SLUB_SLAB.inuse],
        "slab_total": slab[SLUB_SLAB.objects], "slab_owner": slab[SLUB_SLAB.owner],
        "slab_depth": slab[SLUB_SLAB.depth], "cache_id": slab[SLUB_SLAB.cache],
        "cache_partial": node[KMEM_CACHE_NODE.nr_partial], "cache_slabs": node[KMEM_CACHE_NODE.nr_slabs],
    }  # fmt: skip
    for name in ("size", "objsize", "objects", "order", "pages", "min_partial"):
        told[f"cache_{name}"] = cache[getattr(KMEM_CACHE, name)]
    for name, value in told.items():
        mine[MEMCTL.asked[getattr(ASKED, name)]] = value
    rows = [array.ctypes.data for array in (ctl, slab, cache, node)]
    given_, raised = ctypes.c_int64(), ctypes.c_void_p()
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 6, ctypes.c_int64)
    function = kind(policy.address["free_to"])
    status = function(ctypes.addressof(given_), ctypes.addressof(raised), *rows, 3)
    assert (FAILED if status else given_.value) == interpreted(policy, "free_to", mine)  # as `ask_of_slab` takes it
    assert (ctl[MEMCTL.width :] == mine[MEMCTL.width :]).all()

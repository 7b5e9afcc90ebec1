"""Every question is asked by every kernel that has it, on the way of a real lane, and KERNEL changes nothing of it."""

import pytest

from fastalloc.batch.lane import build_lane
from fastalloc.kernels.alloc.policy_record import OWN
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.own.questions import QUESTIONS
from fastalloc.scenario import with_policies
from tests.closed_loop.small import OWN_CORES, advance, happened, result_of, run, small

BASE = small("rc8", OWN_CORES | {"run.duration_s": 6.0, "run.series_ms": 1000, "machine.min_free_kbytes": 16})
LANE = 3
# A kernel of each allocator; its path's mempools are the same in all.
KERNELS = {"slub": "rc8", "cpu-partial": "6.1", "sheaves": "sheaves", "7.3": "7.3", "slab": "slab", "slob": "slob"}


def counting(allocator):
    """A policy that counts how often each question of an allocator is asked, and leaves all to the kernel."""
    names = [name for name in QUESTIONS if name != "merge" and allocator in QUESTIONS[name].allocators]
    functions = [
        f"def {name}({', '.join(QUESTIONS[name].arguments)}):\n    state.lane.{name} += 1\n    return KERNEL\n"
        for name in names
    ]
    if allocator in QUESTIONS["merge"].allocators:
        functions.append("def merge(cache, other):\n    return True\n")
    head = f'from fastalloc.own import KERNEL\nSTATE = {{"lane": {names!r}}}\n'
    return names, "\n\n".join([head, *functions])


OFTEN = ("slub",)


@pytest.mark.parametrize(
    "allocator", [pytest.param(each, marks=() if each in OFTEN else pytest.mark.slow) for each in KERNELS]
)
def test_every_question_is_asked_and_kernel_changes_nothing(allocator):
    names, text = counting(allocator)
    kernel = with_policies(BASE, [KERNELS[allocator]]).variant(KERNELS[allocator])
    assert kernel.policy.allocator == allocator
    own = kernel.with_settings({"policy.questions": text, "policy.questions_file": "counts.py"})
    arrays = advance(LANE, build_lane(own, LANE, 1), own.run.duration_s * 1000)
    place = int(arrays.mem.ctl[MEMCTL.own[OWN.lane]])
    asked = dict(zip(names, arrays.mem.ctl[place : place + len(names)].tolist(), strict=True))
    assert happened(result_of(LANE, arrays)) == happened(run(kernel, LANE))
    assert all(asked.values()), asked

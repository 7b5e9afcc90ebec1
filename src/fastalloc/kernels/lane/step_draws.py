"""What the times of steps are drawn from: no two steps of a real CPU take the same time.

The steps of a lane have numbers, 1, 2, ... on whichever CPU; the draw of a step follows from its number and its CPU. A
CPU draws for AT_ONCE consecutive numbers together: that takes an eighth of the time of as many single draws.
"""

from typing import Any

import numpy as np

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import CPU

STREAM_JITTER = 2
AT_ONCE = len(CPU.draws)


def set_seed(vm: Any, seed: int) -> None:
    """All that is drawn from here on has another key."""
    vm.ctl[VM.seed] = seed
    vm.cpu[:, CPU.drawn] = 0


@internal
def draw_steps(vm, cpu, first):
    """Draw for the steps from ``first`` on. A loop whose length the compiler does not know is vectorised; it would
    unroll one of eight."""
    out_of_line()
    seed, lane = vm.ctl[VM.seed], vm.ctl[VM.lane]
    c = vm.cpu[cpu]
    for i in range(vm.ctl[VM.draws_at_once]):
        c[CPU.draws[i]] = np.int64(rng.drawn(seed, STREAM_JITTER, lane, first + i, cpu))
    c[CPU.drawn] = 1 + first


@folded
def jittered(vm, cost, cpu):
    """CPU time of the lane's next step, a task's, which takes ``cost`` ns on average: off by up to a sixteenth."""
    vm.ctl[VM.jitter] += 1
    step = vm.ctl[VM.jitter]
    first = step & -AT_ONCE
    if vm.cpu[cpu, CPU.drawn] != 1 + first:
        draw_steps(vm, cpu, first)
    return cost + rng.below(vm.cpu[cpu, CPU.draws[step - first]], cost // 8 + 1) - cost // 16

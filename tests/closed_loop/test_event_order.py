"""Which CPU's step comes next: the tournament over the CPUs names the one that a look at all of them finds."""

import pytest

from fastalloc.batch.lane import build_lane
from fastalloc.compiler.jit import kernel
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.due import first_due
from fastalloc.kernels.lane.state import IO, VM
from fastalloc.kernels.lane.tasks import CPU
from fastalloc.kernels.machine.run import run_lane
from tests.closed_loop.small import OWN_CORES, small

STOPS = 400
STEP_NS = 7_654_321


@kernel
def next_cpu(vm):
    """Whose step the machine runs next."""
    return first_due(vm)


def first_by_looking(vm, io) -> tuple[int, int]:
    """When the next step of a CPU begins, and whose it is, from what each CPU has to do."""
    found = []
    for cpu, c in enumerate(vm.cpu.tolist()):
        irq = cpu == io.ctl[IO.irq_cpu] and io.ctl[IO.done_head] >= 0
        if not (c[CPU.running] or c[CPU.softirq] or c[CPU.request_fn] or irq):
            continue
        if vm.ctl[VM.shared_core] and cpu != vm.ctl[VM.turn]:
            continue
        found.append((c[CPU.clock], cpu))
    return min(found, default=(ms.NEVER, -1))


@pytest.mark.parametrize("settings", [{}, OWN_CORES])
@pytest.mark.parametrize("cpus", [1, 2, 3, 5, 16, 64])
def test_the_next_cpu_is_the_one_that_a_look_at_all_finds(cpus, settings):
    lane = build_lane(small("rc8", settings | {"machine.cpus": cpus, "disk.irq_cpu": cpus - 1}), 1, 1)
    vm, io = lane.vm, lane.io
    busy = set()
    for stop in range(1, STOPS + 1):
        run_lane(*lane, stop * STEP_NS)
        when, cpu = first_by_looking(vm, io)
        first = next_cpu(vm)
        assert vm.cpu[first, CPU.due] == when, stop
        if cpu >= 0:
            assert first == cpu, stop
            busy.add(cpu)
    assert len(busy) > min(cpus // 2, 6)

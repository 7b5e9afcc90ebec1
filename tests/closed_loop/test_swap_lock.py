"""swap_lock where CPUs take turns: the kernels' and the reference's, step by step, and what it does to slots."""

import pytest

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.lane.swap_lock import held_at_turn_end, spin_lock, spin_unlock, spins
from tests.closed_loop import driver as d
from tests.reference.closed_loop.rq_clock import RunQueueClock
from tests.reference.closed_loop.sched import Cpu
from tests.reference.closed_loop.swap_lock import SwapLock


@kernel
def lock(vm, cpu):
    """Ask for it."""
    return spin_lock(vm, cpu)


@kernel
def unlock(vm):
    """Give it back."""
    spin_unlock(vm)


@kernel
def waits(vm, cpu):
    """Whether a CPU spins."""
    return spins(vm, cpu)


@kernel
def keeps(vm, cpu, taken, held):
    """A page is done for which it was taken; the turn ends at 1000."""
    return held_at_turn_end(vm, cpu, taken, held, 1000)


class Kernels:
    """That of the kernels."""

    def __init__(self):
        self.machine = d.Machine(machine__shared_core=True)

    def lock(self, cpu):
        return bool(self.machine.call(lock, cpu))

    def unlock(self):
        self.machine.call(unlock)

    def spins(self, cpu):
        return bool(self.machine.call(waits, cpu))

    def keeps(self, cpu, taken, held):
        return bool(self.machine.call(keeps, cpu, taken, held))


class Reference:
    """That of the reference."""

    def __init__(self):
        self.of = SwapLock()
        self.cpus = [Cpu(number, RunQueueClock(4_000_000)) for number in range(2)]

    def lock(self, cpu):
        return self.of.lock(self.cpus[cpu])

    def unlock(self):
        self.of.unlock()

    def spins(self, cpu):
        return self.cpus[cpu].spins and self.of.holder is not self.cpus[cpu]

    def keeps(self, cpu, taken, held):
        return self.of.keeps(self.cpus[cpu], taken, held, 1000)


@pytest.mark.parametrize("swap_lock", [Kernels, Reference])
def test_a_turn_that_ends_inside_makes_two_cpus_go_on_by_turns(swap_lock):
    swap_lock = swap_lock()
    assert swap_lock.lock(0)
    assert not swap_lock.keeps(0, 800, 140)  # given back before the turn ends at 1000
    assert swap_lock.lock(0)
    assert not swap_lock.keeps(0, 1001, 140)  # taken in the next
    assert swap_lock.lock(0)
    assert swap_lock.keeps(0, 900, 140)
    assert not swap_lock.lock(1)
    assert swap_lock.spins(1)
    swap_lock.unlock()  # CPU 0 goes on
    for first, second in ((0, 1), (1, 0), (0, 1)):
        assert not swap_lock.lock(first)  # behind the one that waits
        assert swap_lock.spins(first)
        assert not swap_lock.spins(second)
        assert swap_lock.lock(second)
        assert not swap_lock.keeps(second, 500, 140)
    assert swap_lock.lock(0)
    assert not swap_lock.keeps(0, 500, 140)
    assert not swap_lock.spins(1)  # it has not asked again
    assert swap_lock.lock(1)

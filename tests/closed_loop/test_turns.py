"""Turns on a core that two CPUs share, as traced under QEMU 7.2: alternating at their ticks, or one standing still."""

import pytest

from tests.reference.closed_loop.rq_clock import RunQueueClock
from tests.reference.closed_loop.sched import NEVER, Cpu
from tests.reference.closed_loop.turns import Turns

MS = 1_000_000
TICK = 4 * MS  # of CPU 0 at 0, 4, 8 ms, of CPU 1 a millisecond later


class Core:
    """Two CPUs that never halt unless they are told to. The kernels are held to it event by event in test_reference."""

    def __init__(self):
        self.cpus = [Cpu(number, RunQueueClock(TICK), ticking=True) for number in range(2)]
        self.halted = set()
        self.now = 0
        self.turns = Turns(self.cpus, lambda cpu: cpu.number not in self.halted, lambda number: False, 0)
        for cpu in self.cpus:
            cpu.next_tick = self.tick_after(cpu)
        self.turns.find_end(0)

    def tick_after(self, cpu):
        return (self.now - cpu.number * MS) // TICK * TICK + TICK + cpu.number * MS

    def run(self, ms):
        """[(CPU, ms of its turn)] of so long; a CPU first takes the timer interrupt that waits for it."""
        until, begun, found = self.now + round(ms * MS), self.now, []

        def note():
            if found and found[-1][0] == runs.number:
                found[-1] = (runs.number, found[-1][1] + (self.now - begun) / MS)
            elif self.now > begun:
                found.append((runs.number, (self.now - begun) / MS))

        while self.now < until:
            runs, begun = self.turns.now_runs, self.now
            if runs.next_tick <= self.now or runs.number in self.turns.has_to_rearm:
                if runs.next_tick <= self.now:
                    runs.next_tick = self.tick_after(runs)
                self.turns.timer_is_set(runs, self.now, (0, NEVER))
                continue
            self.now = min(self.turns.end, until)
            note()
            if self.now < until:
                self.turns.timer_goes_off(self.now)
        return found

    def stop(self, number):
        """A CPU halts in its turn."""
        self.halted.add(number)
        if self.turns.now_runs.number == number:
            self.turns.leaves(self.now)

    def spin(self):
        self.turns.leaves(self.now)


def alternating():
    """CPU 1's turn was ended by CPU 0's tick."""
    core = Core()
    core.now = 1 * MS  # CPU 1's tick
    core.cpus[0].next_tick, core.cpus[1].next_tick = 4 * MS, 5 * MS
    core.turns.now_runs = core.cpus[1]
    core.turns.find_end(core.now)
    return core


def test_two_busy_cpus_alternate_at_their_ticks():
    """Traced: CPU 0 for 1.00 ms, CPU 1 for 3.00 ms."""
    assert alternating().run(11) == [(1, 3), (0, 1), (1, 3), (0, 1), (1, 3)]


def test_cpu_1_stands_still_after_it_has_halted():
    """Traced: CPU 0 for 3.98 ms, CPU 1 for its tick's interrupt and no more."""
    core = alternating()
    core.run(5.5)
    core.stop(1)
    core.run(1)
    core.halted.clear()  # an interrupt wakes it
    assert core.run(40) == [(0, 40)]


def test_until_cpu_0_halts_or_spins():
    core = alternating()
    core.run(5.5)
    core.stop(1)
    core.run(1)
    core.halted.clear()
    core.run(10.75)
    core.spin()
    found = core.run(20)
    assert found[0][0] == 1
    assert {cpu for cpu, _ in found} == {0, 1}


@pytest.mark.parametrize("phase", [0.5, 1.5, 2.5, 3.5])
def test_or_sets_a_timer_while_that_of_cpu_1_has_gone_off(phase):
    """A timer of CPU 0 between two ticks. CPU 1's own is set for a millisecond after each tick of CPU 0, in the turn
    that it gets then; later it has gone off, and no timer is before the one that CPU 0 sets."""
    core = alternating()
    core.run(5.5)
    core.stop(1)
    core.run(1)
    core.halted.clear()
    core.run(12 - core.now / MS + 4 + 0.001)  # shortly after CPU 0's tick at 16 ms
    core.turns.start_timer = (round((16 + phase) * MS), core.cpus[0])
    core.turns.find_end(core.now)
    found = core.run(8)
    assert (len(found) > 1) == (phase > 1)
    if phase > 1:
        assert found[1] == (1, pytest.approx(4 - phase))  # to CPU 0's tick, and from there on they alternate
        assert found[2][0] == 0


def test_a_timer_that_wakes_all_from_a_halt_asks_cpu_0_first():
    core = alternating()
    core.stop(1)
    core.stop(0)
    assert core.turns.all_halted
    core.halted.clear()
    core.spin()
    assert core.turns.now_runs is core.cpus[0]
    assert core.turns.exit_requests == {1}

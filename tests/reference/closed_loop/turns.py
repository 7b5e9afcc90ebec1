"""Whose turn it is on a core that CPUs share, as QEMU 7.2 has it [accel/tcg/tcg-accel-ops-rr.c, rr_cpu_thread_fn]."""

from collections.abc import Callable

from tests.reference.closed_loop.sched import NEVER, Cpu


class Turns:
    """One thread runs the CPUs in order. A CPU leaves where it halts, pauses, or sets a timer that is the first of all;
    or its instructions up to the next timer are used up."""

    def __init__(self, cpus: list[Cpu], is_busy: Callable[[Cpu], bool], spins: Callable[[int], bool], spin_after: int):
        self.cpus, self.is_busy = cpus, is_busy
        self.spins, self.spin_after = spins, spin_after  # by the number of the turn; ns
        self.now_runs = cpus[0]
        self.exit_requests: set[int] = set()
        self.has_to_rearm: set[int] = set()
        self.start_timer: tuple[int, Cpu] = (NEVER, cpus[0])
        self.pause_at = NEVER
        self.used_up = 0  # turns
        self.all_halted = False
        self.end = 0

    def armed_at(self, cpu: Cpu, now: int) -> int:
        """When its timer goes off; one that has gone off is set again by the CPU's own interrupt."""
        is_set = cpu.ticking and cpu.next_tick > now and cpu.number not in self.has_to_rearm
        return cpu.next_tick if is_set else NEVER

    def find_end(self, now: int) -> None:
        timers = [self.armed_at(cpu, now) for cpu in self.cpus]
        self.end = min(self.start_timer[0], self.pause_at, *timers)

    def cpu_exit_all(self) -> None:
        self.exit_requests = {cpu.number for cpu in self.cpus}

    def run_from(self, number: int, now: int) -> None:
        """The loop over the CPUs, begun anew or gone on with: a request to exit is used up by whom it keeps back."""
        count = len(self.cpus)
        for cpu in (self.cpus[(number + k) % count] for k in range(count)):
            self.exit_requests.discard(cpu.number)
            if self.is_busy(cpu):
                self.now_runs, self.pause_at = cpu, NEVER
                cpu.clock = max(cpu.clock, now)
                self.find_end(now)
                return
        self.all_halted = True

    def leaves(self, now: int) -> None:
        """The CPU that runs halts or pauses. A clock that was moved on while all halted comes with a kick of all."""
        following = self.now_runs.number + 1
        if self.all_halted:
            self.all_halted = False
            self.cpu_exit_all()
            following = 0
        self.run_from(following % len(self.cpus), now)

    def timer_goes_off(self, now: int) -> None:
        """The CPUs behind the one that runs have no instructions left, unless they are asked to exit first."""
        when, cpu = self.start_timer
        if when <= now:
            if self.armed_at(cpu, now) < NEVER:
                self.has_to_rearm.add(cpu.number)
            self.start_timer = (NEVER, cpu)
        if self.all_halted or self.pause_at <= now:
            self.leaves(now)
            return
        left = self.now_runs
        following = 0
        first = True
        for behind in self.cpus[left.number + 1 :]:
            asked = behind.number in self.exit_requests
            if first:
                self.cpu_exit_all()
                first = False
            self.exit_requests.discard(behind.number)
            if asked:
                following = behind.number
                break
        if first:
            self.cpu_exit_all()
        self.run_from(following, now)
        if self.now_runs is not left and self.is_busy(left):  # it may hold a lock
            self.used_up += 1
            if self.spins(self.used_up):
                self.pause_at = now + self.spin_after
                self.find_end(now)

    def timer_is_set(self, cpu: Cpu, now: int, disk: tuple[int, int]) -> None:
        """The interrupt of a CPU's timer has set the next. ``disk``: whose timer ends its command, and when."""
        self.has_to_rearm.discard(cpu.number)
        start, sleeper = self.start_timer

        def goes_off(each: Cpu) -> int:
            timers = [self.armed_at(each, now)]
            if timers[0] < NEVER:
                timers += [disk[1]] * (each.number == disk[0]) + [start] * (each is sleeper)
            return min(timers)

        if goes_off(cpu) < min(goes_off(other) for other in self.cpus if other is not cpu):
            self.cpu_exit_all()
            self.exit_requests.discard(cpu.number)
            self.run_from((cpu.number + 1) % len(self.cpus), now)
        else:
            self.find_end(now)

"""swap_lock, a ticket lock: first come, first served, whether it runs or not [include/asm-x86/spinlock.h of 2.6.25]."""

from collections import deque
from dataclasses import dataclass, field

from tests.reference.closed_loop.sched import Cpu


@dataclass
class SwapLock:
    """Who has it though its turn is over, or is the next to have it; and who waits."""

    holder: Cpu | None = None
    waiting: deque[Cpu] = field(default_factory=deque)

    def lock(self, cpu: Cpu) -> bool:
        if self.holder in (None, cpu):
            cpu.spins = False
            return True
        if not cpu.spins:
            cpu.spins = True
            self.waiting.append(cpu)
        return False

    def unlock(self) -> None:
        self.holder = self.waiting.popleft() if self.waiting else None

    def keeps(self, cpu: Cpu, taken: int, held: int, turn_end: int) -> bool:
        """It was taken for so long: whether the turn ended before it was given back."""
        if taken <= turn_end < taken + held:
            self.holder = cpu
            return True
        if self.holder is cpu:
            self.unlock()
        return False

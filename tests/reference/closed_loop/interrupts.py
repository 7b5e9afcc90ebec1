"""Interrupts that take a small object or a page with GFP_ATOMIC and give it back some time later."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.reference.closed_loop.sched import NEVER
from tests.reference.page_alloc import NOWARN
from tests.reference.page_alloc import Task as Context

GFP_ATOMIC = 0x20
INTERRUPT = Context(in_interrupt=True)


@dataclass
class Arrivals:
    """Of objects or of pages: when the next one comes, on which CPU, and how long it stays."""

    wants: str  # "object" or "page"
    life: int
    next_at: int
    cpu_of: Callable[[int], int]  # by the time of the arrival
    gap_after: Callable[[int], int]
    held: deque[tuple[int, int, Any]] = field(default_factory=deque)  # until, CPU, what

    @property
    def due(self) -> int:
        return min(self.next_at, self.held[0][0] if self.held else NEVER)

    def happen(self, machine: Any, now: int) -> None:
        """What is due: a return before an arrival."""
        if self.held and self.held[0][0] <= now:
            _, cpu, thing = self.held.popleft()
            if self.wants == "object":
                machine.caches["noise"].free(cpu, thing)
            else:
                machine.allocator.free_pages(cpu, thing, 0)
            return
        when = self.next_at
        cpu = self.cpu_of(when)
        self.next_at = when + max(1, self.gap_after(when))
        if self.wants == "object":
            thing = machine.caches["noise"].alloc(cpu, GFP_ATOMIC, INTERRUPT)
        else:
            thing = machine.allocator.alloc_pages(cpu, GFP_ATOMIC | NOWARN, 0, INTERRUPT).page
        if thing is not None:
            self.held.append((when + self.life, cpu, thing))

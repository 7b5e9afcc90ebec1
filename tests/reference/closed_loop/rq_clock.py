"""The clock of a run queue, which the scheduler charges tasks by [rq->clock, kernel/sched.c of 2.6.25-rc8]."""

from dataclasses import dataclass


@dataclass
class RunQueueClock:
    """Follows time up to a tick beyond the last tick; idle time comes on top, in one piece."""

    tick_length: int
    by_ticks: bool = False  # sched_clock() says the same all the time
    value: int = 0
    looked: int = 0  # at what time
    at_last_tick: int = 0
    idle_from: int = 0

    def look(self, now: int) -> None:
        """Somebody wants to know what it says [__update_rq_clock]."""
        if now < self.looked:
            return
        wanted = self.value + (0 if self.by_ticks else now - self.looked)
        latest = self.at_last_tick + self.tick_length
        self.looked = now
        if wanted <= latest:
            self.value = wanted
        elif self.value < latest:
            self.value = latest
        else:
            self.value += 1

    def tick(self, now: int) -> None:
        """[scheduler_tick]"""
        self.look(now)
        if self.value < self.at_last_tick + self.tick_length:
            self.value = self.at_last_tick + self.tick_length
        self.at_last_tick = self.value

    def woken(self, now: int) -> None:
        """An interrupt has ended hlt [sched_clock_idle_wakeup_event]."""
        self.value += now - self.idle_from
        self.looked = self.idle_from = now

    def tick_in_idle(self, now: int) -> None:
        """A tick wakes the idle task, which halts again."""
        if now > self.idle_from:
            self.tick(now)
            self.woken(now)

"""Classic RCU [kernel/rcuclassic.c of 2.6.25]: grace periods, 10 callbacks a pass, 10 passes a softirq."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.reference.closed_loop.sched import Cpu

BLIMIT, QHIMARK, QLOWMARK, PASSES = 10, 10_000, 100, 10


@dataclass
class RcuData:
    """What a CPU has."""

    nxtlist: list[Callable[[], None]] = field(default_factory=list)
    curlist: list[Callable[[], None]] = field(default_factory=list)
    donelist: list[Callable[[], None]] = field(default_factory=list)
    batch: int = 0
    seen: int = 0  # quiescbatch
    qs_pending: bool = False
    passed_quiesc: bool = False
    unlimited: bool = False

    @property
    def qlen(self) -> int:
        return len(self.nxtlist) + len(self.curlist) + len(self.donelist)


class Rcu:
    """rcu_ctrlblk and each CPU's part."""

    def __init__(self, cpus: list[Cpu], is_watched: Callable[[Cpu], bool]):
        self.cpus = cpus
        self.data = [RcuData() for _ in cpus]
        self.is_watched = is_watched  # a CPU whose tick is on
        self.cur = self.completed = 0
        self.next_pending = False
        self.signaled = False
        self.ran = [0 for _ in cpus]  # callbacks, since the CPU's last step
        self.cpumask: set[int] = set()

    def call_rcu(self, cpu: int, callback: Callable[[], None]) -> None:
        data = self.data[cpu]
        data.nxtlist.append(callback)
        if data.qlen > QHIMARK:
            data.unlimited = True
            self.cpus[cpu].need_resched = True
            if not self.signaled:
                self.signaled = True
                for other in self.cpumask:
                    self.cpus[other].need_resched = True

    def pending(self, cpu: int) -> bool:
        data = self.data[cpu]
        return bool(
            (data.curlist and self.completed >= data.batch)
            or (not data.curlist and data.nxtlist)
            or data.donelist
            or data.seen != self.cur
            or data.qs_pending
        )

    def start_batch(self) -> None:
        if self.next_pending and self.completed == self.cur:
            self.next_pending = False
            self.cur += 1
            self.signaled = False
            self.cpumask = {cpu.number for cpu in self.cpus if self.is_watched(cpu)}

    def check_quiescent_state(self, cpu: int) -> None:
        data = self.data[cpu]
        if data.seen != self.cur:
            data.seen, data.qs_pending, data.passed_quiesc = self.cur, True, False
            return
        if not data.qs_pending or not data.passed_quiesc:
            return
        data.qs_pending = False
        if cpu in self.cpumask:
            self.cpumask.remove(cpu)
            if not self.cpumask:
                self.completed = self.cur
                self.start_batch()

    def process_callbacks(self, cpu: int) -> bool:
        """One run of the softirq; True: callbacks are left for ksoftirqd."""
        data = self.data[cpu]
        for _ in range(PASSES):
            if data.curlist and self.completed >= data.batch:
                data.donelist += data.curlist
                data.curlist = []
            if data.nxtlist and not data.curlist:
                data.curlist, data.nxtlist = data.nxtlist, []
                data.batch = self.cur + 1
                self.next_pending = True
                self.start_batch()
            self.check_quiescent_state(cpu)
            for _ in range(len(data.donelist) if data.unlimited else min(BLIMIT, len(data.donelist))):
                data.donelist.pop(0)()
                self.ran[cpu] += 1
            if data.qlen <= QLOWMARK:
                data.unlimited = False
            if not data.donelist:
                return False
        return True

    def tick(self, cpu: int) -> bool:
        """A tick; one that hits the idle task is a quiescent state. True: ksoftirqd is to go on."""
        if not self.pending(cpu):
            return False
        if not self.cpus[cpu].tasks:
            self.data[cpu].passed_quiesc = True
        return self.process_callbacks(cpu)

"""The counting page allocator that golden cases run on: signed counters per node and the watermark test of 2.6.25.

One or two nodes with the CPUs split evenly. Any order is served while the count allows; there are no zones, buddies or
per-CPU lists. The order of the attempts is that of __alloc_pages [mm/page_alloc.c] without reclaim.
"""

from dataclasses import dataclass

from tests.reference.page_alloc import HIGH, MAX_ORDER, NOMEMALLOC, NORETRY, NOWARN, PLAIN, WAIT, Result, Task

THISNODE = 0x40000
GIVE_UP = THISNODE | NORETRY | NOWARN  # all three: a try on one node that may fail at once [GFP_THISNODE]


@dataclass(eq=False)
class Block:
    """Pages in somebody's hands."""

    node: int
    order: int


@dataclass
class Node:
    """The counters of a node, in pages and calls."""

    total: int = 0
    hold: int = 0
    used: int = 0
    pages_min: int = 0
    ok: int = 0
    fail: int = 0
    frees: int = 0
    below_low: int = 0
    memalloc_used: int = 0

    @property
    def free(self) -> int:
        return self.total - self.hold - self.used

    def passes(self, order: int, mark: int, high: bool = False, harder: bool = False) -> bool:
        need = mark
        if high:
            need -= need // 2
        if harder:
            need -= need // 4
        return self.free - 2**order + 1 > need


class StubPages:
    """All nodes; ``limited`` switches the watermark test on."""

    def __init__(self, nodes: int = 1, cpus: int = 8):
        self.nodes = [Node() for _ in range(nodes)]
        self.cpus = cpus
        self.limited = False

    def node_of_cpu(self, cpu: int) -> int:
        return cpu * len(self.nodes) // self.cpus

    def limit(self, free_pages: int, pages_min: int) -> None:
        """From now on a node has what it uses and ``free_pages`` more."""
        self.limited = True
        for node in self.nodes:
            node.total = node.used + free_pages
            node.pages_min = pages_min

    def choose(self, gfp: int, order: int, task: Task, preferred: int) -> int | None:
        """The node that serves the request, or None; counts what has to be counted on the way."""
        if order >= MAX_ORDER:
            return None
        if not self.limited:
            return preferred
        zonelist = [preferred]
        if not gfp & THISNODE:
            zonelist += [n for n in range(len(self.nodes)) if n != preferred]
        for n in zonelist:
            if self.nodes[n].passes(order, self.nodes[n].pages_min + self.nodes[n].pages_min // 4):
                return n
        self.nodes[preferred].below_low += 1
        if len(self.nodes) > 1 and gfp & GIVE_UP == GIVE_UP:
            return None
        for n in zonelist:
            if self.nodes[n].passes(order, self.nodes[n].pages_min, bool(gfp & HIGH), not gfp & WAIT):
                return n
        if task.ignores_watermarks and not gfp & NOMEMALLOC:
            for n in zonelist:
                if self.nodes[n].free >= 2**order:
                    self.nodes[preferred].memalloc_used += 1
                    return n
        return None

    def take(self, cpu: int, gfp: int, order: int, task: Task = PLAIN, node: int = -1) -> Block | None:
        preferred = self.node_of_cpu(cpu) if node < 0 else node
        chosen = self.choose(gfp, order, task, preferred)
        if chosen is None:
            self.nodes[preferred].fail += 1
            return None
        self.nodes[chosen].ok += 1
        self.nodes[chosen].used += 2**order
        return Block(chosen, order)

    def give(self, block: Block) -> None:
        self.nodes[block.node].used -= 2**block.order
        self.nodes[block.node].frees += 1

    # -- as the SLUB reference calls its page allocator

    def alloc_pages(self, cpu: int, gfp: int, order: int, task: Task = PLAIN, node: int = -1) -> Result:
        block = self.take(cpu, gfp, order, task, node)
        return Result(block, "stub" if block else "fail")

    def free_pages(self, _cpu: int, block: Block, _order: int) -> None:
        self.give(block)


@dataclass(eq=False)
class MarkedBlock(Block):
    """Pages that remember whether they came from below all watermarks."""

    pfmemalloc: bool = False


class StubPages63(StubPages):
    """The same on later kernels: not waiting earns a discount only beside HIGH and without NOMEMALLOC, there is no
    attempt that gives up half way, and what the entitled get is marked [6.3 on]."""

    reserve = False  # the last block came from below all watermarks

    def choose(self, gfp: int, order: int, task: Task, preferred: int) -> int | None:
        self.reserve = False
        if order >= MAX_ORDER:
            return None
        if not self.limited:
            return preferred
        zonelist = [preferred]
        if not gfp & THISNODE:
            zonelist += [n for n in range(len(self.nodes)) if n != preferred]
        for n in zonelist:
            if self.nodes[n].passes(order, self.nodes[n].pages_min + self.nodes[n].pages_min // 4):
                return n
        self.nodes[preferred].below_low += 1
        high = bool(gfp & HIGH)
        harder = high and not gfp & (WAIT | NOMEMALLOC)
        for n in zonelist:
            if self.nodes[n].passes(order, self.nodes[n].pages_min, high, harder):
                return n
        if task.ignores_watermarks and not gfp & NOMEMALLOC:
            for n in zonelist:
                if self.nodes[n].free >= 2**order:
                    self.nodes[n].memalloc_used += 1
                    self.reserve = True
                    return n
        return None

    def take(self, cpu: int, gfp: int, order: int, task: Task = PLAIN, node: int = -1) -> MarkedBlock | None:
        block = super().take(cpu, gfp, order, task, node)
        return MarkedBlock(block.node, order, self.reserve) if block else None

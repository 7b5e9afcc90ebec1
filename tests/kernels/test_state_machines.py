"""Random histories of a small machine, kernels against reference, compared after every step."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastalloc.kernels.alloc.state import SLUB_STATS
from tests.kernels import build
from tests.kernels.pair import Pair
from tests.reference.page_alloc import PLAIN, RECLAIMER, SOFTIRQ, Task

MASKS = [0x0, 0x10, 0x20, 0x30, 0x50, 0xD0, 0x220, 0x8D0, 0x10D0, 0x800D0, 0x10220, 0x11200, 0x11210, 0x11220]
TASKS = [PLAIN, RECLAIMER, SOFTIRQ, Task(realtime=True), Task(in_interrupt=True, realtime=True)]
CACHES = [
    build.KMALLOC_128,
    build.cache(1024),
    build.cache(2048, order=1),
    build.KMALLOC_2048,
    build.cache(8192, order=1),  # one object a slab: full or empty
]

masks = some.sampled_from(MASKS)
tasks = some.sampled_from(TASKS)
counts = some.sampled_from([1, 1, 3, 12, 40])
which = some.integers(0, 1 << 20)

reached: Counter = Counter()


class Machine(RuleBasedStateMachine):
    """Whatever can happen to zones, per-CPU lists, SLUB and mempools, in any order."""

    scarce = True

    @initialize(
        present=some.integers(70, 300),
        share=some.integers(3, 12),
        dma=some.sampled_from([0, 16, 40]),
        lists=some.sampled_from([(1, 0), (1, 6), (3, 18), (7, 42)]),
        cpus=some.integers(1, 3),
        chosen=some.lists(some.sampled_from(range(len(CACHES))), min_size=1, max_size=3, unique=True),
        min_partial=some.sampled_from([0, 1, 5]),
        reserves=some.lists(some.integers(0, 4), min_size=1, max_size=2),
        threshold=some.sampled_from([0, 2, 6, 12]),
    )
    def boot(self, present, share, dma, lists, cpus, chosen, min_partial, reserves, threshold):
        batch, pcp_high = lists
        present = present if self.scarce else 4 * present
        zones = [build.zone(present, present // share, batch=batch, pcp_high=pcp_high, stat_threshold=threshold)]
        if dma:
            zones.insert(0, build.zone(dma, dma // share, reserve=(0, dma // 4), stat_threshold=threshold))
        caches = [CACHES[i] | {"min_partial": min_partial} for i in chosen]
        pools = [(i % len(caches), n) for i, n in enumerate(reserves)]
        self.cpus = cpus
        self.pair = Pair(zones, caches, cpus, pools)

    def cpu(self, n):
        return n % self.cpus

    def held(self, n):
        return self.pair.objects[n % len(self.pair.objects)]

    @rule(c=which, cpu=which, gfp=masks, task=tasks, count=counts)
    def alloc(self, c, cpu, gfp, task, count):
        for _ in range(count):
            if self.pair.alloc(c % len(self.pair.caches), self.cpu(cpu), gfp, task) is None:
                break

    @precondition(lambda self: self.pair.objects)
    @rule(n=which, cpu=which)
    def free_one(self, n, cpu):
        self.pair.give_back(self.held(n), self.cpu(cpu))

    @precondition(lambda self: self.pair.objects)
    @rule(start=which, step=some.integers(1, 4), count=some.sampled_from([2, 8, 33, 200]), cpu=which)
    def free_many(self, start, step, count, cpu):
        start %= len(self.pair.objects)
        for held in self.pair.objects[start::step][:count]:
            self.pair.give_back(held, self.cpu(cpu))

    @rule(cpu=which)
    def refresh_cpu_vm_stats(self, cpu):
        self.pair.refresh_cpu_vm_stats(self.cpu(cpu))

    @rule(c=which, cpu=which)
    def flush(self, c, cpu):
        self.pair.flush(c % len(self.pair.caches), self.cpu(cpu))

    @rule(c=which, cpu=which)
    def shrink(self, c, cpu):
        self.pair.shrink(c % len(self.pair.caches), self.cpu(cpu))

    @rule(gfp=some.sampled_from([*MASKS, 0x1, 0x21]), order=some.integers(0, 3), cpu=which, task=tasks, count=counts)
    def alloc_pages(self, gfp, order, cpu, task, count):
        for _ in range(count):
            self.pair.alloc_pages(gfp, order, self.cpu(cpu), task)

    @precondition(lambda self: self.pair.blocks)
    @rule(n=which, cpu=which, count=some.sampled_from([1, 1, 5, 50]))
    def free_pages(self, n, cpu, count):
        for _ in range(min(count, len(self.pair.blocks))):
            self.pair.free_pages(n % len(self.pair.blocks), self.cpu(cpu))

    @precondition(lambda self: self.scarce)
    @rule(
        z=which,
        quarters=some.sampled_from([0, 1, 2, 3, 4, 5, 6]),
        more=some.integers(-1, 3),
        cpu=which,
    )
    def others_take_memory(self, z, quarters, more, cpu):
        """Down to about so many quarters of pages_min: where the marks are."""
        z %= len(self.pair.zones)
        level = self.pair.zones[z]["pages_min"] * quarters // 4 + more
        self.pair.leave_free(max(level, 0), z, self.cpu(cpu))

    @precondition(lambda self: self.scarce)
    @rule(cpu=which)
    def others_take_everything(self, cpu):
        for z in range(len(self.pair.zones)):
            self.pair.leave_free(0, z, self.cpu(cpu))

    @precondition(lambda self: self.scarce)
    @rule(cpu=which, step=some.integers(2, 4))
    def memory_falls_to_pieces(self, cpu, step):
        """Many pages free, few of them together."""
        self.others_take_everything(cpu)
        for n in reversed(range(0, len(self.pair.blocks), step)):
            self.pair.free_pages(n, self.cpu(cpu))

    @rule(p=which, cpu=which, gfp=some.sampled_from([0x10, 0x20, 0x50, 0xD0]), task=tasks, first=some.booleans())
    def pool_alloc(self, p, cpu, gfp, task, first):
        self.pair.pool_alloc(p % len(self.pair.pools), self.cpu(cpu), gfp, task, first)

    @rule(p=which, n=which, cpu=which)
    def pool_free(self, p, n, cpu):
        """An object of the pool's cache comes back; whoever allocated it."""
        p %= len(self.pair.pools)
        cache = self.pair.real_caches[self.pair.pools[p][0]]
        mine = [held for held in self.pair.objects if getattr(getattr(held.real, "slab", None), "cache", None) is cache]
        if mine:
            self.pair.pool_free(p, mine[n % len(mine)], self.cpu(cpu))

    @rule(jiffies=some.sampled_from([1, 250, 1250, 20000]))
    def time_passes(self, jiffies):
        self.pair.tick(jiffies)

    @invariant()
    def same(self):
        if hasattr(self, "pair"):
            self.pair.compare()

    def teardown(self):
        """What this history reached."""
        for cache in self.pair.real_caches:
            for c in cache.cpu:
                reached.update(c.stats)
        reached.update(self.pair.attempts)
        reached["failed"] += self.pair.real_pages.failed
        reached["reported"] += len(self.pair.real_pages.reports)
        reached["suppressed"] += self.pair.real_pages.suppressed
        for pool in self.pair.real_pools:
            reached["sleeps"] += pool.sleeps
            reached["refusals"] += pool.refusals


class PlentyMachine(Machine):
    """The same with memory to spare: slabs live long enough to wander between CPUs and lists."""

    scarce = False


@pytest.mark.parametrize("machine", [Machine, PlentyMachine])
def test_kernels_and_reference_agree_in_every_history(machine):
    agree(machine, 2)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Machine, PlentyMachine])
def test_kernels_and_reference_agree_in_more_histories(machine):
    agree(machine, 40)


def agree(machine, least):
    """In ``least`` rounds of 25 histories, and in more until all that can happen did."""
    reached.clear()
    wanted = {*SLUB_STATS, "A"}
    if machine.scarce:
        wanted |= {"B", "C", "fail", "reclaim", "for ever", "failed", "reported", "suppressed", "sleeps", "refusals"}
        wanted |= {"page object"}
    # What is drawn depends on the modules that are loaded, so a rare event may need more histories.
    for round_ in range(60):
        if round_ >= least and all(reached[what] for what in wanted):
            break
        run_state_machine_as_test(
            seed(round_)(type(machine.__name__, (machine,), {})),
            settings=settings(
                max_examples=25,
                derandomize=False,
                stateful_step_count=50,
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert {what for what in wanted if not reached[what]} == set()

"""Generated operations on a small machine, and the smallest sequence of them that still shows a fault."""

import heapq
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastalloc.kernels.lane.metrics import WHO
from fastalloc.linux import gfp as g

CPUS = 2
CACHES = 3
TASKS = 4
POOLS = 2  # of the first caches
SLOTS = 200  # objects that may be out at once
BULK = 12  # objects of a bulk operation at most
LONG, LONG_SEED = 24_000, 98  # operations in one sequence, for what shows late
MASKS = {
    "GFP_ATOMIC": g.GFP_ATOMIC,
    "GFP_NOIO": g.GFP_NOIO,
    "GFP_KERNEL": g.GFP_KERNEL,
    "GFP_ATOMIC|__GFP_MEMALLOC": g.GFP_ATOMIC | g.MEMALLOC,
}
CONTEXTS = {"": 0, "PF_MEMALLOC": g.PF_MEMALLOC, "interrupt": g.IN_INTERRUPT}


class Operation(NamedTuple):
    """``kind``: alloc, free, pool alloc, pool free, bulk alloc, bulk free, shrink or flush; ``slot`` names the object;
    ``ms`` that go by before it."""

    kind: str
    cpu: int
    cache: int
    slot: int
    mask: str
    context: str
    who: int
    ms: int
    objects: int = 1  # of a bulk operation, whose slots follow each other
    task: int = 0  # that runs, where tasks are told apart

    def words(self) -> str:
        """In words, for people."""
        asks = f" as {WHO.names[self.who]}, {self.mask}{', ' + self.context if self.context else ''}"
        what = {
            "alloc": f"alloc object {self.slot} of cache {self.cache}{asks}",
            "pool alloc": f"mempool_alloc object {self.slot} of pool {self.cache}{asks}",
            "free": f"free object {self.slot}",
            "bulk alloc": f"kmem_cache_alloc_bulk {self.objects} objects, {self.slot} on, of cache {self.cache}{asks}",
            "bulk free": f"kmem_cache_free_bulk {self.objects} objects from {self.slot} on",
            "pool free": f"mempool_free object {self.slot}",
            "shrink": f"shrink cache {self.cache}",
            "flush": f"flush what the CPU keeps of cache {self.cache}",
        }[self.kind]
        task = f", task {self.task}" if self.task else ""
        return f"cpu {self.cpu}{task}: {what}{f' after {self.ms} ms' if self.ms else ''}"


def generated(seed: int, count: int, pools: bool = True) -> list[Operation]:
    """``count`` operations, the same for the same seed: phases that fill memory, phases that empty it, and both."""
    rng = np.random.default_rng(seed)
    whole = {"cpu": CPUS, "cache": CACHES, "mask": len(MASKS), "who": len(WHO.names)}
    drawn = {name: rng.integers(most, size=count).tolist() for name, most in whole.items()}
    contexts = rng.choice([0, 0, 0, 1, 2], size=count).tolist()
    ms = rng.choice([0, 0, 0, 1, 20], size=count).tolist()
    trims, leans, pooled, picked = rng.random((4, count)).tolist()
    leanings = rng.choice([0.9, 0.6, 0.5, 0.2], size=count // 40 + 1).tolist()
    masks, names = list(MASKS), list(CONTEXTS)
    out: dict[int, tuple[str, int]] = {}
    free = list(range(SLOTS))  # a heap
    found: list[Operation] = []
    for i in range(count):
        cpu, cache = drawn["cpu"][i], drawn["cache"][i]
        more = masks[drawn["mask"][i]], names[contexts[i]], drawn["who"][i], ms[i]
        if trims[i] < 0.04:
            found.append(Operation("shrink" if trims[i] < 0.02 else "flush", cpu, cache, 0, *more))
        elif (leans[i] < leanings[i // 40] and free) or not out:
            from_pool = pools and pooled[i] < 0.3
            kind = "pool alloc" if from_pool else "alloc"
            cache = cache % POOLS if from_pool else cache
            slot = heapq.heappop(free)
            out[slot] = (kind.replace("alloc", "free"), cache)
            found.append(Operation(kind, cpu, cache, slot, *more))
        else:
            slot = list(out)[int(picked[i] * len(out))]
            kind, cache = out.pop(slot)
            heapq.heappush(free, slot)
            found.append(Operation(kind, cpu, cache, slot, *more))
    return found


def with_bulk(operations: Sequence[Operation], seed: int) -> list[Operation]:
    """``operations`` with bulk allocations and frees of objects of their own among them."""
    rng = np.random.default_rng((seed, 1))
    out: list[Operation] = []
    found: list[Operation] = []
    slot = SLOTS
    for op in operations:
        found.append(op)
        if rng.random() >= 0.1:
            continue
        if out and rng.random() < 0.45:
            found.append(out.pop(int(rng.integers(len(out))))._replace(kind="bulk free", cpu=op.cpu))
        else:
            cache, objects = int(rng.integers(CACHES)), int(rng.integers(1, BULK + 1))
            out.append(op._replace(kind="bulk alloc", cache=cache, slot=slot, objects=objects))
            found.append(out[-1])
            slot += BULK
    return found


def with_tasks(operations: Sequence[Operation], seed: int) -> list[Operation]:
    """``operations``, each of a task of its own choice."""
    task = np.random.default_rng((seed, 2)).integers(TASKS, size=len(operations)).tolist()
    return [op._replace(task=which) for op, which in zip(operations, task, strict=True)]


def smallest(
    operations: Sequence[Operation], fails: Callable[[list[Operation]], bool], most: int = 400, seconds: float = 3.0
) -> tuple[list[Operation], bool]:
    """A part of a sequence that fails, by ``most`` tries and ``seconds`` of CPU time at most, and whether none of its
    operations can be left out [ddmin]."""
    kept = list(operations)
    step = max(1, len(kept) // 2)
    tries = 0
    until = time.process_time() + seconds
    while tries < most and time.process_time() < until:
        at, shorter = 0, False
        while at < len(kept) and tries < most and time.process_time() < until:
            without = kept[:at] + kept[at + step :]
            tries += 1
            if without and fails(without):
                kept, shorter = without, True
            else:
                at += step
        if step == 1 and not shorter and at >= len(kept):
            return kept, True
        step = max(1, step // 2) if not shorter or step > 1 else 1
    return kept, False

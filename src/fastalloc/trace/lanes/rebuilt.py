"""A start rebuilt from readings and addresses: which slabs there were, on whose lists, with how many free objects.

For each cache the readings (see ``readings``) say how many slabs and free objects there were on each node, and how many
slabs on the CPUs; the addresses (see ``touched``) say which blocks were slabs, who took from them first, and what was
free in most of them. What neither tells is drawn: free objects of slabs that nothing touched, slabs that no CPU used.
The result is a table of the form that ``state_table.read_state`` gives.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.memory import memory_limit, size_in_words
from fastalloc.trace.lanes.caches import TracedCache
from fastalloc.trace.lanes.readings import CacheReading
from fastalloc.trace.lanes.touched import OldSlab

SHRINK_PROMOTE_MAX = 32  # shrinking sorts slabs with up to so many free objects [__kmem_cache_do_shrink]
MOST_SETS = 1 << 12  # sets of CPUs that are tried
MOST_STEPS = 1 << 16  # of the search for them
RECORD_BYTES = 1000  # that the record of a slab takes
PLAIN = 2  # draws before anything but what is unknown is changed


@dataclass
class _Lists:
    """The slabs of one cache by list: ``own`` and ``on_cpu`` by CPU, ``node`` by node, heads first. An entry is a page
    frame and its free objects; ``off``: how far this is from the readings."""

    own: dict[int, tuple[int, int]] = field(default_factory=dict)
    on_cpu: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    node: list[list[tuple[int, int]]] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """What is known of one cache's start. ``old``: slabs that the trace touched; ``reading`` None where there is none;
    ``first_pfn``: first page frame of each node; ``spare``: page frames from here on belong to nobody."""

    cache: TracedCache
    old: list[OldSlab]
    reading: CacheReading | None
    first_pfn: tuple[int, ...]
    shrunk: bool
    cpus: int
    spare: int

    def node_of(self, pfn: int) -> int:
        """The node of page frame ``pfn``."""
        return max((n for n, first in enumerate(self.first_pfn) if n == 0 or first <= pfn), default=0)


def draw(evidence: Evidence, seed: int) -> list[dict[str, Any]]:
    """The records of one possible start, of which the first ones change nothing but what is unknown.

    Raises InputError for readings of more slabs on lists than may be held in memory.
    """
    reading = evidence.reading
    listed = (sum(reading.partial or ()) + sum((reading.on_cpu or {}).values())) if reading else 0
    if listed * RECORD_BYTES > memory_limit():
        raise InputError(
            "readings",
            f"cache {evidence.cache.name}",
            f"{listed:,} slabs on lists take {size_in_words(listed * RECORD_BYTES)}; allow more with --memory",
        )
    return _Draw(evidence, seed).rows()


class _Draw:
    def __init__(self, evidence: Evidence, seed: int) -> None:
        self.evidence, self.cache = evidence, evidence.cache
        self.random = np.random.default_rng([seed, len(evidence.old)])
        self.shaken = seed >= PLAIN
        self.seed = seed
        self.spare = evidence.spare
        self.listed = [slab for slab in evidence.old if slab.row >= 0 and slab.most > 0]

    def rows(self) -> list[dict[str, Any]]:
        """The records of the cache."""
        by_cpu: dict[int, list[OldSlab]] = {}
        for slab in self.listed:
            by_cpu.setdefault(slab.cpu, []).append(slab)
        reading = self.evidence.reading
        lists = _Lists(node=[[] for _ in range(self._nodes())])
        on_cpu = dict((reading.on_cpu or {}) if reading else {})
        holders = self._holders(by_cpu, on_cpu)
        rest: list[OldSlab] = []
        for cpu in sorted({*by_cpu, *on_cpu, *holders}):
            own = list(by_cpu.get(cpu, []))
            if cpu in holders:
                if own and holders[cpu]:
                    lists.own[cpu] = self._known(own.pop(0))
                else:
                    lists.own[cpu] = (self._frame(), 0 if own else self._any())
            count = on_cpu.get(cpu, 0)
            lists.on_cpu[cpu] = [self._known(slab) for slab in own[:count]]
            rest += own[count:]
        self._nodes_of(lists, rest, on_cpu)
        for cpu, count in on_cpu.items():
            # Slabs on a CPU's list that nothing touched.
            more = count - len(lists.on_cpu[cpu])
            lists.on_cpu[cpu] += [(self._frame(), self._any()) for _ in range(more)]
        return self._records(lists)

    def _nodes(self) -> int:
        reading = self.evidence.reading
        return max(len(self.evidence.first_pfn), len(reading.slabs) if reading else 1)

    def _frame(self) -> int:
        """A page frame that nobody has."""
        size = 1 << self.cache.order
        self.spare = (self.spare + size) // size * size
        return self.spare

    def _any(self) -> int:
        return int(self.random.integers(1, self.cache.objects + 1))

    def _known(self, slab: OldSlab) -> tuple[int, int]:
        """A slab with its free objects, drawn where they are not known: few for the first draw."""
        if slab.least == slab.most or self.seed == 0:
            return slab.pfn, max(slab.least, 1)
        return slab.pfn, max(int(self.random.integers(slab.least, slab.most + 1)), 1)

    def _holders(self, by_cpu: dict[int, list[OldSlab]], on_cpu: dict[int, int]) -> dict[int, bool]:
        """The CPUs that had a slab of their own, and whether it is the first that the trace saw them take from."""
        reading = self.evidence.reading
        if reading is None or not reading.cpu_slabs:
            return {}
        wanted = reading.cpu_slabs
        cpus = sorted(range(self.evidence.cpus), key=lambda cpu: self._first(by_cpu, cpu))
        sets: list[tuple[float, int, dict[int, bool]]] = []
        for chosen in _subsets(cpus, on_cpu, wanted):
            sets.append((self._misfit(chosen, by_cpu, on_cpu), len(sets), chosen))
            if len(sets) >= MOST_SETS:
                break
        if not sets:  # readings are no snapshot: take the CPUs that allocate first
            sets = [(0.0, 0, dict.fromkeys(cpus[: min(wanted, len(cpus))], True))]
        sets.sort(key=lambda item: item[:2])
        at = 0
        if self.shaken and len(sets) > 1 and self.random.random() < 0.5:
            at = int(min(self.random.geometric(0.5), len(sets) - 1))
        return sets[at][2]

    @staticmethod
    def _first(by_cpu: dict[int, list[OldSlab]], cpu: int) -> tuple[int, int]:
        own = by_cpu.get(cpu)
        return (own[0].row if own else 1 << 62, cpu)

    def _misfit(self, chosen: dict[int, bool], by_cpu: dict[int, list[OldSlab]], on_cpu: dict[int, int]) -> float:
        """How far the slabs left for the nodes are from the readings, where ``chosen`` CPUs have one of their own."""
        reading = self.evidence.reading
        assert reading is not None
        if reading.partial is None:
            return 0.0
        slabs = room = least = most = 0
        for cpu in {*by_cpu, *on_cpu}:
            own = by_cpu.get(cpu, [])
            first = 1 if chosen.get(cpu) and own else 0
            left = own[on_cpu.get(cpu, 0) + first :]
            room += max(on_cpu.get(cpu, 0) + first - len(own), 0)
            slabs += len(left)
            least += sum(slab.least for slab in left)
            most += sum(slab.most for slab in left)
        partial, free = sum(reading.partial), sum(reading.free)
        # What is too much for the nodes was on the list of a CPU that did not come to it.
        misfit = 4.0 * max(slabs - partial - room, 0) + 0.25 * min(max(slabs - partial, 0), room)
        unseen = max(partial - slabs, 0)
        if slabs <= partial:
            misfit += max(least + unseen - free, 0) + max(free - most - unseen * self.cache.objects, 0)
        # Rare: a list without a slab of the CPU's own, and a slab of its own that is full.
        misfit += sum(cpu not in chosen for cpu in on_cpu)
        return misfit + 0.25 * sum(not seen and bool(by_cpu.get(cpu)) for cpu, seen in chosen.items())

    def _nodes_of(self, lists: _Lists, rest: list[OldSlab], on_cpu: dict[int, int]) -> None:
        """Put ``rest`` on the node lists, fill up to the readings, and order them."""
        reading = self.evidence.reading
        batch = 2 + self.cache.cpu_partial // 2 if self.cache.cpu_partial else 1
        for node in range(self._nodes()):
            mine = [slab for slab in rest if self.evidence.node_of(slab.pfn) == node]
            partial = reading.partial[node] if reading and reading.partial and node < len(reading.partial) else None
            free = reading.free[node] if reading and node < len(reading.free) else None
            if partial is not None:
                self._to_cpus(lists, mine, partial, free or 0, on_cpu)
            slabs = reading.slabs[node] if reading and node < len(reading.slabs) else 0
            unseen = self._unseen(mine, partial, free, slabs)
            entries = [
                [self._frame(), 1, 1, self.cache.objects]
                if slab is None
                else [slab.pfn, slab.least, slab.least, slab.most]
                for slab in self._undone(mine, batch, unseen)
            ]
            if free is None:
                for entry in entries:
                    entry[1] = max(entry[1], 1)
            elif not (self.evidence.shrunk and self._fill_sorted(entries, free)):
                self._fill(entries, free)
            pairs = [(pfn, count) for pfn, count, _, _ in entries]
            if self.evidence.shrunk and not (self.shaken and self.random.random() < 0.2):
                pairs.sort(key=lambda pair: min(pair[1], SHRINK_PROMOTE_MAX + 1))
            elif self.shaken and len(pairs) > 1:
                for _ in range(int(self.random.integers(0, 3))):
                    a, b = self.random.integers(0, len(pairs), 2)
                    pairs[a], pairs[b] = pairs[b], pairs[a]
            lists.node[node] = pairs

    def _to_cpus(self, lists: _Lists, mine: list[OldSlab], partial: int, free: int, on_cpu: dict[int, int]) -> None:
        """Slabs above the reading were on a CPU's list that went back to the node before it was used."""
        while len(mine) > partial:
            open_lists = [cpu for cpu, count in on_cpu.items() if len(lists.on_cpu[cpu]) < count]
            if not open_lists:
                break
            excess = sum(slab.least for slab in mine) - free
            # The one without which the others come nearest to the reading.
            at = min(range(len(mine)), key=lambda i: abs(excess - mine[i].least))
            cpu = open_lists[0] if not self.shaken else int(self.random.choice(open_lists))
            lists.on_cpu[cpu].append(self._known(mine.pop(at)))

    def _unseen(self, mine: list[OldSlab], partial: int | None, free: int | None, slabs: int) -> int:
        """Slabs of a node's list that nothing touched; the node has ``slabs`` in all."""
        if partial is None:
            if free is None:
                return 0
            # /proc/slabinfo counts no partial slabs: as full of free objects as those that were touched.
            known = sum(max(slab.least, 1) for slab in mine)
            mean = known / len(mine) if mine else self.cache.objects / 2
            return max(0, min(round((free - known) / max(mean, 1.0)), slabs - len(mine)))
        return max(partial - len(mine), 0)

    def _undone(self, slabs: list[OldSlab], batch: int, unseen: int) -> list[OldSlab | None]:
        """A node's list from the order in which CPUs used its slabs, None where nothing touched one.

        A CPU takes ``batch`` slabs at once, uses the first one first and the others from the last on [get_partial_node,
        put_cpu_partial]. Of the last batch of a CPU it may not have come to those behind the first; what no CPU took
        comes last.
        """
        by_cpu: dict[int, list[OldSlab]] = {}
        for slab in slabs:
            by_cpu.setdefault(slab.cpu, []).append(slab)
        batches = [own[begin : begin + batch] for own in by_cpu.values() for begin in range(0, len(own), batch)]
        batches.sort(key=lambda part: part[0].row)
        result: list[OldSlab | None] = []
        for part in batches:
            left = min(batch - len(part), unseen)
            if self.shaken and left and self.random.random() < 0.3:
                left = int(self.random.integers(0, left + 1))
            unseen -= left
            result += [part[0], *[None] * left, *reversed(part[1:])]
        return [*result, *[None] * unseen]

    def _fill_sorted(self, entries: list[list[int]], free: int) -> bool:
        """Free objects, ``free`` in all, that ascend along the list as shrinking leaves it; False where they cannot."""
        if not entries:
            return False
        low = np.maximum.accumulate([max(entry[2], 1) for entry in entries])
        high = np.minimum.accumulate([entry[3] for entry in entries][::-1])[::-1]
        if (low > high).any() or not low.sum() <= free <= high.sum():
            return False
        shape = np.ones(len(entries))
        if self.seed:
            shape = np.cumsum(self.random.exponential(1.0, len(entries)) ** self.random.integers(1, 3)) + 1e-9
        small, large = 0.0, float(high.max() / shape.min()) + 1
        for _ in range(60):
            level = (small + large) / 2
            total = int(np.clip(np.floor(level * shape), low, high).sum())
            small, large = (level, large) if total <= free else (small, level)
        counts = np.clip(np.floor(small * shape), low, high).astype(int)
        for i in range(len(counts) - 1, -1, -1):
            counts[i] += min(free - int(counts.sum()), int(high[i] - counts[i]))
        for entry, count in zip(entries, counts.tolist(), strict=True):
            entry[1] = count
        return True

    def _fill(self, entries: list[list[int]], free: int) -> None:
        """Draw free objects until there are ``free``, first in slabs that nothing touched."""
        missing = free - sum(entry[1] for entry in entries)
        unseen = np.array([i for i, entry in enumerate(entries) if entry[0] > self.evidence.spare], int)
        if missing > 0 and len(unseen):
            self._share(entries, unseen, missing)
            missing = free - sum(entry[1] for entry in entries)
        if missing > 0:
            self._share(entries, np.arange(len(entries)), missing)

    def _share(self, entries: list[list[int]], which: np.ndarray, missing: int) -> None:
        """Spread ``missing`` free objects over the slabs ``which``, each up to what it can have, at random."""
        room = np.array([entries[i][3] - entries[i][1] for i in which.tolist()])
        missing = min(missing, int(room.sum()))
        if not missing:
            return
        slots = np.repeat(which, room)
        if self.seed == 0:
            # As evenly as it goes.
            order = np.argsort(np.concatenate([np.arange(count) for count in room]), kind="stable")
            taken = slots[order[:missing]]
        else:
            taken = self.random.choice(slots, missing, replace=False)
        for i, count in zip(*np.unique(taken, return_counts=True), strict=True):
            entries[int(i)][1] += int(count)

    def _records(self, lists: _Lists) -> list[dict[str, Any]]:
        cache, objects = self.cache, self.cache.objects
        rows: list[dict[str, Any]] = [{"rec": "cache", "cache": cache.name, "oo_objects": objects}]
        reading = self.evidence.reading
        cpus = self.evidence.cpus

        def node_of(pfn: int, cpu: int | None, node: int | None) -> int:
            if node is not None:
                return node
            if pfn <= self.evidence.spare:
                return self.evidence.node_of(pfn)
            return min((cpu or 0) * self._nodes() // max(cpus, 1), self._nodes() - 1)

        def record(rec: str, idx: int, pfn: int, cpu: int | None, node: int | None) -> dict[str, Any]:
            where = node_of(pfn, cpu, node)
            return {"rec": rec, "cache": cache.name, "cpu": cpu, "node": where, "idx": idx, "pfn": pfn,
                    "objects": objects}  # fmt: skip

        for cpu, (pfn, free) in lists.own.items():
            row = record("cpu_slab", 0, pfn, cpu, None)
            rows.append({**row, "inuse": objects, "free_cpu": min(free, objects), "free_slab": 0})
        for cpu, slabs in lists.on_cpu.items():
            for idx, (pfn, free) in enumerate(slabs):
                rows.append({**record("cpu_partial", idx, pfn, cpu, None), "inuse": objects - min(free, objects)})
        for node, slabs in enumerate(lists.node):
            for idx, (pfn, free) in enumerate(slabs):
                rows.append({**record("node_partial", idx, pfn, None, node), "inuse": objects - min(free, objects)})
        for node in range(self._nodes()):
            count = reading.slabs[node] if reading and node < len(reading.slabs) else 0
            rows.append({"rec": "node", "cache": cache.name, "node": node, "nr_slabs": count})
        return rows


def _subsets(cpus: list[int], on_cpu: dict[int, int], wanted: int) -> Iterator[dict[int, bool]]:
    """Sets of CPUs with a slab of their own whose slabs are ``wanted`` in all, each with whether its own was seen."""

    slabs = [1 + on_cpu.get(cpu, 0) for cpu in cpus]
    beyond = [*itertools.accumulate(reversed(slabs), initial=0)][::-1]  # that all CPUs from here on have

    def choose() -> Iterator[tuple[int, ...]]:
        """Each CPU with its slabs first, then without."""
        open_: list[tuple[int, int, tuple[int, ...]]] = [(0, wanted, ())]
        for _ in range(MOST_STEPS):
            if not open_:
                return
            at, left, chosen = open_.pop()
            if left == 0:
                yield chosen
            elif 0 < left <= beyond[at]:
                open_.append((at + 1, left, chosen))
                open_.append((at + 1, left - slabs[at], (*chosen, cpus[at])))

    for chosen in itertools.islice(choose(), MOST_SETS):
        for seen in itertools.islice(itertools.product((True, False), repeat=len(chosen)), 64):
            yield dict(zip(chosen, seen, strict=True))


_SCHEMA = {
    "rec": pl.String, "cache": pl.String, "cpu": pl.Int64, "node": pl.Int64, "idx": pl.Int64, "pfn": pl.Int64,
    "inuse": pl.Int64, "objects": pl.Int64, "free_cpu": pl.Int64, "free_slab": pl.Int64, "nr_slabs": pl.Int64,
    "oo_objects": pl.Int64,
}  # fmt: skip


def state_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """``rows`` as a table of the form that ``state_table.read_state`` gives."""
    return pl.DataFrame(rows, schema={"snap": pl.Int64, **_SCHEMA}, orient="row") if rows else pl.DataFrame(
        schema={"snap": pl.Int64, **_SCHEMA}
    )  # fmt: skip


__all__ = ["Evidence", "draw", "state_of"]

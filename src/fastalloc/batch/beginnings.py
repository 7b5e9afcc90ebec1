"""Lanes that a policy alone tells apart share their run up to where the policy is first asked.

Memory fills in every lane before anything else happens. What most policies say is asked of a request that no zone
serves above pages_low, or by what follows from one: reclaim, bios, commands. So until there is such a request
(``MEMCTL.below_low``) lanes of the same machine are equal, byte by byte, but for the columns that hold the policy, for
the queue with its host and for the mempools, which nothing uses till then. One of them runs up to shortly before; the
others go on from there.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastalloc.batch.lane import Lane, build_lane
from fastalloc.batch.snapshot import named_arrays
from fastalloc.compiler.aligned import MAPPED, Packed, copied, packed, unpacked
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.lane import policy as lane_policy
from fastalloc.kernels.lane.state import NS_PER_MS, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario.models import Scenario

CHUNK_NS = 20 * NS_PER_MS  # simulated time between two looks at what is left
MARGIN = 2  # chunks whose most pages are still left above pages_low where the state is kept
MOST_BYTES = 1 << 28  # of states kept at once
FEWEST = 3  # lanes that begin alike: to keep a state costs about as much as two lanes gain
POLICY_COLUMNS = slice(lane_policy.FIRST, None)
# Columns of arrays of a lane that nothing reads before a request is below pages_low.
LATER: dict[str, tuple[Any, ...]] = {
    "mem.ctl": (POLICY_COLUMNS, MEMCTL.gfp_add[:], MEMCTL.charge_limit[:], MEMCTL.probe_gfp),
    "mem.zone": (ZONE.short,),
    "vm.ctl": (POLICY_COLUMNS, VM.mempool_jiffies, VM.swap_bio_limit, VM.write_gate),
}
LATER_GROUPS = ("io.", "pools.")  # that nothing looks into before


class Beginning(NamedTuple):
    """A lane shortly before its policy is asked."""

    arrays: tuple[Packed | np.ndarray, ...]  # of all groups but LATER_GROUPS, in the order of ``named_arrays``

    @property
    def nbytes(self) -> int:
        """Of what is kept."""
        return sum(array.nbytes for array in self.arrays)

    def under(self, fresh: Lane) -> Lane:
        """The lane at that time under the policy of ``fresh``, the same lane as it booted."""
        kept = iter(self.arrays)
        found: dict[str, np.ndarray] = {}
        for name, array in named_arrays(fresh):
            if name.startswith(LATER_GROUPS):
                found[name] = array
                continue
            begun = next(kept)
            found[name] = unpacked(begun) if isinstance(begun, Packed) else copied(begun)
            for columns in LATER.get(name, ()):
                found[name][..., columns] = array[..., columns]
        groups: list[Any] = [
            type(member)(*(found[f"{group}.{name}"] for name in member._fields))
            for group, member in fresh._asdict().items()
        ]
        return Lane(*groups)


def keep(arrays: Lane) -> Beginning:
    """The state of a lane whose policy has not been asked."""
    return Beginning(
        tuple(
            packed(array) if array.nbytes >= MAPPED else array.copy()
            for name, array in named_arrays(arrays)
            if not name.startswith(LATER_GROUPS)
        )
    )


def begin_alike(scenarios: Sequence[Scenario], lane: int, seed: int) -> list[int]:
    """For each scenario (of one variant) the index of the first one whose lanes begin as its own do, its own where
    there is none before it.

    Two begin alike where ``lane`` boots with equal arrays but for LATER and LATER_GROUPS. A lane's number and the seed
    reach its arrays as such and through draws that no policy changes, so what holds for one lane holds for all.
    """
    first = list(range(len(scenarios)))
    known: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, scenario in enumerate(scenarios):
        arrays = build_lane(scenario, lane, seed)
        size = sum(array.nbytes for _, array in named_arrays(arrays))
        if size > MOST_BYTES or not _asks_later(scenario, arrays):
            continue
        small = (array.tobytes() for _, array in _compared(arrays) if array.nbytes < MAPPED)
        shapes = tuple((name, array.dtype.str, array.shape) for name, array in _compared(arrays))
        alike = known[scenario.run.duration_s, shapes, b"".join(small)]
        for j in alike:
            other = _compared(build_lane(scenarios[j], lane, seed))
            if all(np.array_equal(a, b) for (_, a), (_, b) in zip(_compared(arrays), other, strict=True)):
                first[i] = j
                break
        else:
            alike.append(i)
    return first


def _asks_later(scenario: Scenario, arrays: Lane) -> bool:
    """Whether nothing asks the policy before a request is below pages_low: no policy of one's own, no rule of who may
    take an object, no commands of further hosts, and a boot that found enough."""
    ctl = arrays.mem.ctl
    asked = ctl[MEMCTL.policed] or ctl[MEMCTL.slab_match] or ctl[MEMCTL.below_low] or ctl[MEMCTL.stopped]
    return not (asked or scenario.policy.questions or len(arrays.vm.host))


def _compared(arrays: Lane) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays that lanes which begin alike have equal, what is asked later taken out."""
    for name, array in named_arrays(arrays):
        if name.startswith(LATER_GROUPS):
            continue
        if name in LATER:
            array = array.copy()
            for columns in LATER[name]:
                array[..., columns] = 0
        yield name, array


class Beginnings:
    """The beginnings that the lanes of some scenarios share; threads may use it at once."""

    def __init__(self, scenarios: Sequence[Scenario], lanes: Sequence[int], seed: int) -> None:
        self._first = (
            begin_alike(scenarios, lanes[0], seed) if len(scenarios) >= FEWEST else list(range(len(scenarios)))
        )
        self._sharers = {j: self._first.count(j) for j in self._first}
        self._kept: dict[tuple[int, int], Beginning] = {}
        self._came: dict[tuple[int, int], int] = defaultdict(int)  # lanes, but for the one that is run for all
        self._bytes = 0
        self._lock = threading.Lock()

    def lane(self, i: int, scenario: Scenario, lane: int, arrays: Lane, cancelled: Callable[[], bool]) -> Lane:
        """A lane of scenario ``i`` that has booted: as it is, or as far as another one has run it for both."""
        place = self._first[i], lane
        if self._sharers[place[0]] < FEWEST:
            return arrays
        if i == place[0]:
            if self._bytes < MOST_BYTES:
                self._run_to_pressure(place, arrays, scenario, cancelled)
            return arrays
        with self._lock:
            self._came[place] += 1
            begun = self._kept.get(place)
            self._let_go(place)
        return arrays if begun is None else begun.under(arrays)

    def _let_go(self, place: tuple[int, int]) -> None:
        """Let a state go that no lane is to come for."""
        if self._came[place] == self._sharers[place[0]] - 1:
            begun = self._kept.pop(place, None)
            self._bytes -= 0 if begun is None else begun.nbytes

    def _run_to_pressure(
        self, place: tuple[int, int], arrays: Lane, scenario: Scenario, cancelled: Callable[[], bool]
    ) -> None:
        """Run a lane on until few pages are left above pages_low, and keep what it is then."""
        ctl = arrays.mem.ctl
        end = round(scenario.run.duration_s * 1000) * NS_PER_MS
        untouched = [(array, array.copy()) for array in (arrays.io.ctl, arrays.pools.pool, arrays.pools.element)]
        now, most, left = 0, 0, above_low(arrays)
        while now < end and not cancelled():
            now = min(now + CHUNK_NS, end)
            run_lane(*arrays, now)
            before, left = left, above_low(arrays)
            most = max(most, before - left)
            if ctl[MEMCTL.below_low] or ctl[MEMCTL.stopped] or arrays.vm.ctl[VM.now] != now:
                return
            if left < MARGIN * most:
                break
        else:
            return
        if all(np.array_equal(array, copy) for array, copy in untouched):
            begun = keep(arrays)
            with self._lock:
                self._kept[place] = begun
                self._bytes += begun.nbytes
                self._let_go(place)  # all came before it


def above_low(arrays: Lane) -> int:
    """Free pages above pages_low and what is held back below it, all zones together."""
    zone = arrays.mem.zone
    reserve = zone[:, ZONE.reserve[:]].max(axis=1)
    return int(np.maximum(zone[:, ZONE.free] - zone[:, ZONE.low] - reserve, 0).sum())

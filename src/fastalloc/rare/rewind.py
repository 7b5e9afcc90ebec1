"""A stored lane opened at a time: forward, back, and branched."""

import re
from typing import Any

from fastalloc.batch import advance
from fastalloc.batch.lane import Lane, build_lane
from fastalloc.batch.size import lane_bytes, refuse_too_large
from fastalloc.batch.snapshot import Snapshot, restore, take
from fastalloc.errors import InputError
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import VM
from fastalloc.memory import memory_limit
from fastalloc.rare.events import Event, happened_ns
from fastalloc.scenario.models import Scenario

KEPT_NS = 5 * ms.NS_PER_S  # simulated time between two snapshots that going back starts from
MOST_KEPT = 24
AT_ONCE = 3  # the lane, its first snapshot, one that is taken


class Rewound:
    """One lane, at a time of its life that can be chosen; it goes the way that the stored one went.

    Args:
        scenario: of one variant, as the lane ran.
        lane, seed: of the lane.

    Raises:
        InputError: memory has no room for the lane, a snapshot of it and one that is taken.
    """

    def __init__(self, scenario: Scenario, lane: int, seed: int) -> None:
        self.scenario, self.lane, self.seed = scenario, lane, seed
        self.end_ns = round(scenario.run.duration_s * ms.NS_PER_S)
        self._build: dict[str, Any] = {"seed": seed}
        refuse_too_large([scenario], AT_ONCE)
        self._most_kept = min(MOST_KEPT, 1 + memory_limit() // lane_bytes(scenario) - AT_ONCE)
        self._arrays = build_lane(scenario, lane, **self._build)
        self._kept = [take(lane, self._arrays)]

    def __repr__(self) -> str:
        return f"<lane {self.lane} of {self.scenario.name} at {self.now_ns / ms.NS_PER_S:.6f} s>"

    @property
    def now_ns(self) -> int:
        """Simulated time."""
        return int(self._arrays.vm.ctl[VM.now])

    @property
    def arrays(self) -> Lane:
        """The lane's arrays: to be read."""
        return self._arrays

    def go_to(self, at_ns: int) -> "Rewound":
        """The lane at ``at_ns`` of simulated time, earlier or later than now.

        Raises:
            InputError: the time lies outside the run.
            LaneError: the lane's state is not to be trusted.
        """
        if not 0 <= at_ns <= self.end_ns:
            raise InputError(f"lane {self.lane}", f"{at_ns / 1e9:g} s", f"the run lasts {self.end_ns / 1e9:g} s")
        if at_ns < self.now_ns:
            self._arrays = restore(
                max((kept for kept in self._kept if kept.now_ns <= at_ns), key=lambda kept: kept.now_ns)
            )
        while self.now_ns < at_ns:
            latest = max(kept.now_ns for kept in self._kept)
            until = min(at_ns, max(self.now_ns, latest) + KEPT_NS)
            self._arrays = advance(self.lane, self._arrays, until, self.scenario, **self._build)
            if self.now_ns >= latest + KEPT_NS:
                self._keep()
        return self

    def step(self, ns: int) -> "Rewound":
        """Forward, or back where ``ns`` is negative; not beyond either end."""
        return self.go_to(min(max(0, self.now_ns + ns), self.end_ns))

    def snapshot(self) -> Snapshot:
        """The lane as it is now."""
        return take(self.lane, self._arrays)

    def find(self, event: Event) -> int | None:
        """When the event happened first, in ns; None: not in this run. The lane stands where it was seen then."""
        self.go_to(0)
        while True:
            at = happened_ns(event, self._arrays)
            if at is not None or self.now_ns >= self.end_ns:
                return at
            self.step(ms.NS_PER_S // 4)

    def _keep(self) -> None:
        self._kept.append(take(self.lane, self._arrays))
        if len(self._kept) > self._most_kept:  # every second one is enough for what lies far back
            recent = max(1, min(4, self._most_kept // 2))
            self._kept = [*self._kept[:-recent:2], *self._kept[-recent:]][: self._most_kept]


def parse_time(text: str, event_ns: int | None, end_ns: int, what: str = "--to") -> int:
    """``12.5s``, ``300ms``, ``2s-before-livelock``, ``100ms-after-livelock`` or ``end`` in ns of simulated time.

    ``event_ns`` is when the event happened that the text names; ``what`` the option that gave it.

    Raises:
        InputError: it reads as none of them, the event did not happen, or the time lies outside the run.
    """
    if text == "end":
        return end_ns
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(s|ms|us)?(?:-(before|after)-([a-z]+))?", text)
    if found is None:
        raise InputError(what, text, "expected 12.5s, 300ms, 2s-before-livelock, 1s-after-livelock or end")
    ns = round(float(found[1]) * {"s": ms.NS_PER_S, None: ms.NS_PER_S, "ms": ms.NS_PER_MS, "us": 1000}[found[2]])
    if found[3]:
        if event_ns is None:
            raise InputError(what, text, f"no {found[4]} in this lane; give a time from its boot, such as 3s")
        ns = event_ns + (ns if found[3] == "after" else -ns)
    if not 0 <= ns <= end_ns:
        raise InputError(what, text, f"is {ns / 1e9:g} s; the run lasts {end_ns / 1e9:g} s")
    return ns

"""Which lanes are still to run, in tasks of the size asked for; and when a point is known enough."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fastalloc.report.statistics import wilson_interval
from fastalloc.store.segments import Segment
from fastalloc.sweep.expand import Plan
from fastalloc.sweep.identity import task_identity
from fastalloc.sweep.model import Stop

BLOCK_LANES = 64  # lanes of a point that stay in one slice of the sweep


class Task(NamedTuple):
    """Lanes that one worker runs and one shard holds."""

    id: str
    segments: list[Segment]

    @property
    def lanes(self) -> int:
        """How many lanes."""
        return sum(segment.end - segment.begin for segment in self.segments)


def known_enough(rule: Stop, lanes: int, livelocks: int) -> bool:
    """Whether a point needs no more lanes after these."""
    if rule.max_livelocks is not None and livelocks >= rule.max_livelocks:
        return True
    low, high = wilson_interval(livelocks, lanes)
    return rule.interval_width is not None and high - low <= rule.interval_width


class Planner:
    """Hands out what is to run.

    A point's lanes come in blocks. Without a stopping rule all of them are there from the start; with one, a block
    follows when the one before is finished and did not tell enough of the point, so that which lanes run depends on
    the lanes alone, not on who was faster.

    Args:
        plan: the expanded sweep.
        done: what is finished already.
        slice_: (i, n): this is the i-th of n slices, from 1. Blocks (points, with a stopping rule) are dealt to them
            in the order of the points' identities, which has nothing to do with any axis.
    """

    def __init__(self, plan: Plan, done: Iterable[Segment] = (), slice_: tuple[int, int] = (1, 1)) -> None:
        self.plan = plan
        self._rule = plan.sweep.stop
        self._size = self._rule.check_every if self._rule else BLOCK_LANES
        self._blocks = -(-plan.sweep.lanes // self._size)
        self._slice = slice_
        order = sorted(range(len(plan.points)), key=lambda point: plan.points[point].identity)
        self._rank = {point: rank for rank, point in enumerate(order)}
        self._number = {point.identity: number for number, point in enumerate(plan.points)}
        self.lanes_done = self.livelocks = 0
        self.lanes = self._own_lanes()  # to be done at most
        self._done: dict[tuple[int, int], list[Segment]] = defaultdict(list)
        self._tally: dict[int, tuple[int, int]] = {}  # point -> lanes, livelocks of its whole blocks
        self._open: dict[tuple[int, int], int] = {}  # block of a point -> lanes to come
        for segment in done:
            self._take(segment)
        self._ready: deque[tuple[int, int, int]] = deque()
        self._fresh = self._initial()

    def mine(self, segment: Segment) -> bool:
        """Whether these lanes belong to this slice."""
        return self._is_mine(segment.point, segment.begin // self._size)

    def next_task(self, lanes: int) -> Task | None:
        """A task of at most so many lanes; None when nothing is ready until more is finished, or all is."""
        segments: list[Segment] = []
        room = max(1, lanes)
        while room and self._fill():
            point, begin, end = self._ready.popleft()
            stop = min(end, begin + room)
            if stop < end:
                self._ready.appendleft((point, stop, end))
            chosen = self.plan.points[point]
            segments.append(Segment(point, chosen.identity, chosen.variant, chosen.settings, begin, stop, 0))
            room -= stop - begin
        if not segments:
            return None
        return Task(task_identity([(part.identity, part.begin, part.end) for part in segments]), segments)

    def finished(self, segments: Iterable[Segment]) -> None:
        """Takes note of lanes that are stored."""
        for segment in segments:
            self.lanes_done += segment.end - segment.begin
            self.livelocks += segment.livelocks
            if self._rule is None:
                continue
            block = (segment.point, segment.begin // self._size)
            self._done[block].append(segment)
            self._open[block] -= segment.end - segment.begin
            if not self._open[block]:
                self._finish(*block)

    # -------------------------------------------------------------------------------------------------- parts

    def _take(self, segment: Segment) -> None:
        point = self._number.get(segment.identity)
        if point is None or not self._is_mine(point, segment.begin // self._size):
            return
        self._done[point, segment.begin // self._size].append(segment)
        self.lanes_done += segment.end - segment.begin
        self.livelocks += segment.livelocks

    def _is_mine(self, point: int, block: int) -> bool:
        i, n = self._slice
        number = self._rank[point] + (0 if self._rule else block)
        return number % n == i - 1

    def _own_lanes(self) -> int:
        if self._slice[1] == 1:
            return self.plan.most_lanes
        spans = ((p, b) for p in self._rank for b in range(self._blocks) if self._is_mine(p, b))
        return sum(self._span(b)[1] - self._span(b)[0] for _, b in spans)

    def _span(self, block: int) -> tuple[int, int]:
        return block * self._size, min((block + 1) * self._size, self.plan.sweep.lanes)

    def _initial(self) -> Iterator[None]:
        """Fills ``_ready`` as it is advanced, a point (or a block of one) at a time."""
        for point in range(len(self.plan.points)):
            if self._rule:
                if self._is_mine(point, 0):
                    self._start(point, 0)
                    yield
                continue
            for block in range(self._blocks):
                if self._is_mine(point, block):
                    self._ready.extend((point, begin, end) for begin, end in self._missing(point, block))
                    self._done.pop((point, block), None)
                    yield

    def _fill(self) -> bool:
        while not self._ready:
            try:
                next(self._fresh)
            except StopIteration:
                return bool(self._ready)
        return True

    def _missing(self, point: int, block: int) -> list[tuple[int, int]]:
        at, last = self._span(block)
        gaps = []
        for segment in sorted(self._done.get((point, block), ()), key=lambda part: part.begin):
            if segment.begin > at:
                gaps.append((at, segment.begin))
            at = max(at, segment.end)
        if at < last:
            gaps.append((at, last))
        return gaps

    def _start(self, point: int, block: int) -> None:
        """Makes a block of a point under a stopping rule ready, or what is missing of it, or of the next that misses.

        What is done already is judged here as it would have when it was run.
        """
        while block < self._blocks:
            missing = self._missing(point, block)
            self._open[point, block] = sum(end - begin for begin, end in missing)
            self._ready.extend((point, begin, end) for begin, end in missing)
            if missing or self._known(point, block):
                return
            block += 1

    def _finish(self, point: int, block: int) -> None:
        """A block is whole: the point is known enough, or its next block follows."""
        if not self._known(point, block):
            self._start(point, block + 1)

    def _known(self, point: int, block: int) -> bool:
        """Adds a whole block to the point's tally and tells whether the point is known enough by it."""
        assert self._rule is not None
        parts = self._done.pop((point, block))
        self._open.pop((point, block))
        lanes, livelocks = self._tally.get(point, (0, 0))
        lanes += sum(part.end - part.begin for part in parts)
        livelocks += sum(part.livelocks for part in parts)
        self._tally[point] = lanes, livelocks
        if not known_enough(self._rule, lanes, livelocks):
            return False
        self.lanes -= self.plan.sweep.lanes - lanes
        return True


class BatchSize:
    """Lanes a task, tuned so that a task takes about a second.

    Args:
        fixed: lanes a task; 0 tunes.
    """

    TARGET_S = 1.0
    GROWTH = 4
    MOST = 4096

    def __init__(self, fixed: int = 0) -> None:
        self._fixed = fixed
        self.lanes = fixed or 1

    def learn(self, lanes: int, seconds: float) -> None:
        """Takes what a task took."""
        if self._fixed:
            return
        wanted = int(lanes * self.TARGET_S / max(seconds, 1e-6))
        # halfway to what this task suggests, since lanes differ; never by more than the growth at once
        self.lanes = max(1, min((self.lanes + wanted + 1) // 2, self.lanes * self.GROWTH, self.MOST))

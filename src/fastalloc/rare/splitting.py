"""The test before splitting: how much of a lane's fate is decided where copies of it would be made?

Splitting copies the lanes that first cross a level towards the event. It gains only where copies of one state end
differently. Let q be the chance of the event from a state at its first crossing, m its mean. The share of the variance
of the outcome that lies between states, D = Var q / (m (1 - m)), is decided when the level is crossed: n copies of a
state are worth n / (1 + (n - 1) D) independent ones, so no number of them gains more than 1 / D [the intraclass
correlation of a sample in two stages: Cochran, Sampling Techniques, 1977, section 9].
"""

import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import Lane, build_lane
from fastalloc.batch.snapshot import Snapshot, take
from fastalloc.batch.sound import check_sound
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.kernels.machine.supply import supply
from fastalloc.rare.events import Event, happened_ns
from fastalloc.rare.until import branches_until
from fastalloc.report.statistics import wilson_interval
from fastalloc.scenario.models import Scenario

CROSSES = 0.25  # share of pilot lanes that reach the level
PAYS = 0.3  # D below which splitting could pay, and the share of lanes that may reach the level
PILOT, STATES, CHILDREN = 200, 80, 40
PILOT_FROM = 1 << 20  # lanes of the pilot: no others are looked at for states
MOST_LANES = 4096  # that are looked at for states
RESAMPLED = 2000


class Decision(NamedTuple):
    """How much is decided at the first crossing of a level."""

    counter: str
    level: float  # crossed when the counter falls below it
    crossed: tuple[int, int]  # of how many lanes
    states: int
    children: int  # of a state
    mean: float  # chance of the event from a crossing
    decided: float | None  # D; None where all children of all states ended alike
    low: float  # 95 %, states drawn anew
    high: float

    @property
    def could_pay(self) -> bool | None:
        """Whether splitting could pay: True, False, or None where the interval does not tell."""
        if self.decided is None:
            return None
        share = wilson_interval(*self.crossed)
        if self.low >= PAYS or share[0] >= PAYS:
            return False
        return True if self.high < PAYS and share[1] < PAYS else None


def free_pages(arrays: Lane) -> float:
    """Free pages of the zone that serves the kernel."""
    last = int(arrays.mem.ctl[MEMCTL.nr_zones]) - 1 - int(arrays.mem.ctl[MEMCTL.user_zones])
    return float(arrays.mem.zone[last, ZONE.free])


COUNTERS: dict[str, Callable[[Lane], float]] = {
    "supply": lambda arrays: float(supply(arrays.mem, arrays.heap, arrays.vm)),
    "free": free_pages,
}


def decided_share(events: np.ndarray, children: int) -> float | None:
    """D from the events among the children of each state, int[states]; None where its mean is 0 or 1.

    What the children's own chance adds to the spread of their shares is taken off, so it may come out below 0.
    """
    (share,) = _shares(events[None], children)
    return None if np.isnan(share) else float(share)


def _shares(events: np.ndarray, children: int) -> np.ndarray:
    """D of each row of int[samples, states]; NaN where there is none."""
    share = events / children
    mean = share.mean(axis=1)
    spread = share.var(axis=1, ddof=1)
    between = spread - (share * (1 - share)).mean(axis=1) / (children - 1)
    both = mean * (1 - mean) + spread / share.shape[1]  # the mean itself spreads by spread / states
    found: np.ndarray = np.divide(between, both, out=np.full(len(mean), np.nan), where=(mean > 0) & (mean < 1))
    return found


def interval(events: np.ndarray, children: int) -> tuple[float, float]:
    """The 95 % interval of D: states drawn anew, with their children."""
    drawn = events[np.random.default_rng(0).integers(0, len(events), (RESAMPLED, len(events)))]
    found = _shares(drawn, children)
    found = found[~np.isnan(found)]
    return (float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))) if len(found) else (-1.0, 1.0)


def splitting_test(
    scenario: Scenario,
    event: Event,
    *,
    seed: int | None = None,
    startup_s: float = 0.0,
    counter: str = "supply",
    states: int | None = None,
    children: int | None = None,
    pilot: int | None = None,
    threads: int = 0,
    cancel: threading.Event | None = None,
) -> Decision | None:
    """D at a level that a quarter of lanes reach after ``startup_s``; None when it is cancelled.

    The level comes from ``pilot`` lanes of their own; then lanes 0, 1, 2 ... are run to their first crossing until
    there are enough states, and each state is branched.

    More than nine arguments: those behind the event are options, each with a default.

    Raises:
        InputError: no such counter, or lanes that never come near the event.
        LaneError: a lane's state is not to be trusted.
    """
    if counter not in COUNTERS:
        raise InputError("--splitting", counter, f"expected one of {', '.join(COUNTERS)}")
    states, children, pilot = states or STATES, children or CHILDREN, pilot or PILOT
    own_seed = scenario.run.seed if seed is None else seed
    end_ns = round(scenario.run.duration_s * ms.NS_PER_S)
    begin_ns = round(startup_s * ms.NS_PER_S) if startup_s < scenario.run.duration_s else 0
    lowest = []
    for lane in range(PILOT_FROM, PILOT_FROM + pilot):
        if cancel is not None and cancel.is_set():
            return None
        lowest.append(_walk(scenario, lane, own_seed, event, (begin_ns, end_ns), counter)[0])
    level = float(np.quantile(lowest, CROSSES, method="higher"))
    if level <= min(lowest):  # as low as it gets: such lanes cross
        level = float(np.nextafter(level, np.inf))
    found: list[Snapshot] = []
    looked = 0
    for lane in count():
        if len(found) == states:
            break
        if cancel is not None and cancel.is_set():
            return None
        if lane >= MOST_LANES:
            raise InputError(scenario.name, counter, f"only {len(found)} of {MOST_LANES} lanes fall below {level:g}")
        looked += 1
        snapshot = _walk(scenario, lane, own_seed, event, (begin_ns, end_ns), counter, level)[1]
        if snapshot is not None:
            found.append(snapshot)
    events = []
    for snapshot in found:
        seen = branches_until(snapshot, event, end_ns, scenario, children, threads=threads, cancel=cancel)
        if not seen:
            return None
        events.append(sum(each.event for each in seen))
    return decision(counter, level, (states, looked), events, children)


def decision(counter: str, level: float, crossed: tuple[int, int], events: Sequence[int], children: int) -> Decision:
    """What the children of states came to."""
    counts = np.array(events)
    share = decided_share(counts, children)
    low, high = interval(counts, children) if share is not None else (-1.0, 1.0)
    return Decision(counter, level, crossed, len(counts), children, float(counts.mean() / children), share, low, high)


def _walk(
    scenario: Scenario,
    lane: int,
    seed: int,
    event: Event,
    window_ns: tuple[int, int],
    counter: str,
    level: float | None = None,
) -> tuple[float, Snapshot | None]:
    """A lane looked at each jiffy of a window until its event: the counter's lowest, and a snapshot of where it first
    fell below ``level``."""
    arrays = build_lane(scenario, lane, seed, layout=build_layout(scenario))
    begin, end = window_ns
    lowest, tell = np.inf, COUNTERS[counter]
    for now in range(begin, end, int(arrays.vm.ctl[VM.jiffy_ns])):
        run_lane(*arrays, now)
        if int(arrays.vm.ctl[VM.now]) != now or happened_ns(event, arrays) is not None:
            break
        value = tell(arrays)
        lowest = min(lowest, value)
        if level is not None and value < level:
            check_sound(lane, arrays, scenario)
            return lowest, take(lane, arrays)
    check_sound(lane, arrays, scenario)
    return lowest, None


def words(found: Decision) -> str:
    """What the test says, in two sentences."""
    reached, looked = found.crossed
    where = f"{found.counter} < {found.level:g}, reached by {reached} of {looked} lanes"
    if found.decided is None:
        return f"splitting: at {where} all {found.states} x {found.children} branches end alike: nothing to tell by"
    told = (
        f"splitting: at {where}, {100 * found.decided:.0f} % of the outcome is decided "
        f"({100 * found.low:.0f} to {100 * found.high:.0f}; {found.states} states x {found.children} branches, "
        f"{100 * found.mean:.2g} % come to it)"
    )
    if found.could_pay:
        return f"{told}; it could pay"
    gain = 1 / max(found.decided, 1e-2)
    if found.could_pay is None:
        return f"{told}; it cannot be told whether it would pay (at most {gain:.1f} times plain lanes)"
    return f"{told}; it does not pay: at most {gain:.1f} times plain lanes"

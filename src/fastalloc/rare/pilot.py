"""The pilot of a ladder: which settings make the event common enough to be counted, and how steeply it falls."""

import math
from collections.abc import Callable

from fastalloc.errors import InputError
from fastalloc.rare.ladder import DECADE

LOOKS = 64  # lanes at a setting that is tried
CLOSER = 512  # where the event must be seen a few times
COMMON, TOO_COMMON = 0.07, 0.3  # share of lanes at the first rung: above, every lane differs from the line for itself
RARER = 2, 10  # times, at the second setting that the slope is taken from
REACH = 10  # doublings and halvings of the setting asked for
RUNGS = 4  # over a decade
PILOT_FROM = 1 << 20  # lanes of a pilot: no rung counts them

Share = Callable[
    [float, int], tuple[int, int]
]  # of a setting and a number of lanes: how many saw the event, of how many


def choose_rungs(share: Share, asked: float, whole: bool) -> list[float]:
    """Settings over about a decade of the hazard, from one at which one lane in ten or so sees the event towards the
    setting asked for; fewer, or none, where the event is common there already.

    The direction in which it grows is found by doubling and halving the setting.

    Args:
        share: runs lanes of the pilot; raises InputError where a setting is refused.
        whole: the setting is an integer.

    Raises:
        InputError: no doubling or halving makes the event common.
    """
    own = _hazard(share, asked, LOOKS)
    if own is not None and own > COMMON:
        return []
    first, rarer = _first(share, asked)
    top = _between(share, first, rarer)
    upper = _hazard(share, top, CLOSER)
    if upper is None:
        raise InputError("--stress", f"{asked:g}", "the event does not grow steadily towards any setting tried")
    near, far, at = top, asked, asked
    for _ in range(10):  # to where the event is some times rarer, and still seen
        lower = _hazard(share, at, CLOSER)
        if lower is not None and upper / RARER[1] <= lower <= upper / RARER[0]:
            break
        if lower is not None and lower > upper / RARER[0]:
            near = at
        else:
            far = at
        at = (near + far) / 2
    else:
        raise InputError("--stress", f"{asked:g}", "the event does not grow steadily towards any setting tried")
    assert lower is not None
    a_unit = (math.log(upper) - math.log(lower)) / (at - top)
    steps = [top + i * DECADE / (RUNGS - 1) / a_unit for i in range(RUNGS)]
    low, high = min(top, asked), max(top, asked)
    steps = [min(max(step, low), high) for step in steps]
    return list(dict.fromkeys(float(round(step)) if whole else step for step in steps))


def _hazard(share: Share, setting: float, lanes: int) -> float | None:
    """H of a lane, None where no lane saw the event."""
    events, of = share(setting, lanes)
    return -math.log1p(-(events - 0.5 * (events == of)) / of) if events else None


def _first(share: Share, asked: float) -> tuple[float, float]:
    """The first doubling or halving at which the event is common, and the one before it on the way."""
    ways = {2.0: asked, 0.5: asked}
    for _ in range(REACH):
        for way, before in list(ways.items()):
            try:
                found = _hazard(share, before * way, LOOKS)
            except InputError:
                del ways[way]
                continue
            if found is not None and found >= COMMON:
                return before * way, before
            ways[way] = before * way
    raise InputError("--stress", f"{asked:g}", "no doubling or halving makes the event common: name the settings")


def _between(share: Share, common: float, rarer: float) -> float:
    """A setting between two at which the event is common, but not too common."""
    for _ in range(6):
        found = _hazard(share, common, LOOKS)
        if found is not None and found <= -math.log1p(-TOO_COMMON):
            break
        middle = (common + rarer) / 2
        found = _hazard(share, middle, LOOKS)
        if found is not None and found >= COMMON:
            common = middle
        else:
            rarer = middle
    return common

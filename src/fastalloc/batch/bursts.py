"""A scenario's bursts of GFP_ATOMIC requests as arrays of a lane."""

import numpy as np

from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.workload.bursts import BURST, HELD
from fastalloc.scenario.models import Burst, Scenario


def burst_arrays(scenario: Scenario, caches: tuple[int, ...], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """``burst`` and ``burst_held`` of a lane (see ``lane.state.Vm``).

    ``caches``: the lane's cache for each entry that asks for objects. No entry can hold more than its ring has room
    for: as many as are asked for within a lifetime, or as there is memory for.
    """
    bursts = scenario.workload.bursts
    rows = np.zeros((len(bursts), BURST.width), np.int64)
    of_objects = iter(caches[len(caches) - sum(burst.objects > 0 for burst in bursts) :])
    for row, burst in zip(rows, bursts, strict=True):
        row[BURST.cache] = next(of_objects) if burst.objects else -1
        row[BURST.requests] = burst.objects or burst.pages
        row[BURST.begin] = round(burst.start_ms * ms.NS_PER_MS)
        row[BURST.period] = round(burst.every_ms * ms.NS_PER_MS)
        row[BURST.spread] = round(burst.spread_ms * ms.NS_PER_MS)
        row[BURST.life] = round(burst.life_ms * ms.NS_PER_MS)
        row[BURST.cpus] = min(burst.cpus, scenario.machine.cpus)
    return rows, np.zeros((len(bursts), burst_room(scenario, frames), HELD.width), np.int64)


def burst_room(scenario: Scenario, frames: int) -> int:
    """Places of each entry's ring on a machine of ``frames`` pages."""
    most = (min(_alive(burst), frames * _a_page(burst, scenario.machine.page_kb)) for burst in scenario.workload.bursts)
    return 1 + max(most, default=0)


def _alive(burst: Burst) -> int:
    """The most pages or objects of an entry that are held at once."""
    return (burst.objects or burst.pages) * (int((burst.life_ms + burst.spread_ms) // burst.every_ms) + 2)


def _a_page(burst: Burst, page_kb: int) -> int:
    return page_kb * 1024 // 8 if burst.objects else 1

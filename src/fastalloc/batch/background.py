"""A scenario's background load: which caches its objects come from, and the arrays that they are drawn from."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastalloc.errors import InputError
from fastalloc.kernels.workload import background as bg
from fastalloc.kernels.workload.background import DUE, LOAD
from fastalloc.linux import gfp as g
from fastalloc.scenario.fitted import parse_workload, scaled_gaps
from fastalloc.scenario.models import Scenario

SLOT_MOST = 1 << 15  # bytes
KMALLOC_MOST = 4096  # larger ones are pages in some of the kernels, and left out in all
DIRECT_RECLAIM = 0x400  # in masks of the kernels that were traced
MOST_OBJECTS = 1 << 22
WHERE = "workload.background"


@dataclass(frozen=True)
class Fitted:
    """A cache of the load: ``size`` of its slots, or of what kmalloc is asked for; ``entry`` as in the file."""

    name: str
    size: int
    kmalloc: bool
    entry: dict[str, Any]


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> tuple[tuple[Fitted, ...], int]:
    """The caches of a load, and how long its trace was, ns."""
    if not text:
        return (), 0
    load = parse_workload(text, WHERE)
    found = []
    for entry in load["caches"]:
        kmalloc = entry["src"].startswith("kmalloc")
        size = int(entry["bytes_alloc"])
        if 8 <= size <= (KMALLOC_MOST if kmalloc else SLOT_MOST):
            found.append(Fitted(entry["cache"], size, kmalloc, entry))
    return tuple(found), int(load["span_ns"])


def background_caches(scenario: Scenario) -> tuple[Fitted, ...]:
    """The caches whose objects the load takes, in the order of its file, then those of bursts of objects."""
    bursts = [burst.object_bytes for burst in scenario.workload.bursts if burst.objects > 0]
    return (
        *_parsed(scenario.workload.background)[0],
        *(Fitted(f"kmalloc-{size}", size, True, {}) for size in bursts),
    )


def background_arrays(scenario: Scenario, caches: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``background``, ``background_draws`` and ``background_due`` of a lane (see ``machine_state.Vm``).

    ``caches``: the lane's cache for each of ``background_caches``. Raises InputError for a load of more objects at a
    time than MOST_OBJECTS.
    """
    fitted, span = _parsed(scenario.workload.background)
    cpus = scenario.machine.cpus
    loads = np.zeros((len(fitted), LOAD.width), np.int64)
    draws = np.zeros((len(fitted), 2 * bg.QUANTILES + cpus), np.int64)
    alive = 0.0
    for row, (item, cache) in enumerate(zip(fitted, caches, strict=False)):  # those of bursts follow
        entry = item.entry
        may_wait = int(entry["gfp_flags"]) & DIRECT_RECLAIM
        kept = min(max(entry["kept"], 0), 1)
        lives = np.asarray(entry["life_ns"] or [0], np.float64)
        loads[row, LOAD.cache] = cache
        loads[row, LOAD.gfp] = g.GFP_NOWAIT | g.NOWARN if may_wait else g.GFP_ATOMIC
        loads[row, LOAD.kept] = round(kept * bg.WHOLE)
        loads[row, LOAD.kept_ns] = span
        loads[row, LOAD.away] = round(min(max(entry["away"], 0), 1) * bg.WHOLE)
        for at, values in ((bg.AT_GAPS, scaled_gaps(entry)), (bg.AT_LIVES, lives)):
            where = np.linspace(0, len(values) - 1, bg.QUANTILES)
            draws[row, at : at + bg.QUANTILES] = np.interp(where, np.arange(len(values)), values)
        shares = np.zeros(cpus)
        np.add.at(shares, np.arange(len(entry["cpus"])) % cpus, entry["cpus"])
        draws[row, bg.AT_CPUS :] = np.round(np.cumsum(shares) / shares.sum() * bg.WHOLE)
        alive += entry["rate"] / 1e9 * ((1 - kept) * lives.mean() + kept * span)
    room = len(fitted) + round(2 * alive) + 4096 if fitted else 0
    if room > MOST_OBJECTS:
        raise InputError(scenario.name, WHERE, f"{alive:,.0f} objects at a time; at most {MOST_OBJECTS // 2:,} can be")
    return loads, draws, np.zeros((room, DUE.width), np.int64)


__all__ = ["Fitted", "background_arrays", "background_caches"]

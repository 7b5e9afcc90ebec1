"""What may have happened elsewhere than its event says, where an address is not the one that the rules of 7.x give.

1. *The allocation itself, earlier.* Callbacks of call_rcu interrupt it between taking its object and its event, and
   their frees come first in the trace: it was where its CPU had that address next.
2. *Frees past the sheaves.* They interrupt it while it holds the lock of its CPU's sheaves: each of these frees goes to
   its slab [free_to_pcs]; a refill begins when it lets go of the lock.
3. *A step of a refill, later.* A task may lose its CPU between the pages of a slab and its use, or before its refill.
4. *Another allocation, earlier.* It has the address that the rules give here, or it emptied the lists before this one.
5. *The free of that address, later.*
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastalloc.trace.compact import compact as co

REACH = 400  # positions back from a disagreement at which a step of a refill is tried
AHEAD = 1000  # positions behind it at which another allocation is looked for
TRIES = 40  # places of a lock that are tried


@dataclass(frozen=True)
class Columns:
    """The operations of one cache. ``op``, ``cpu``, ``object`` and ``task`` of each; rows of the recorded trace between
    which it was: ``low`` to ``high``, or ``nested`` ones; ``allocates``, ``frees``: which do, as recorded."""

    op: np.ndarray
    cpu: np.ndarray
    object: np.ndarray
    task: np.ndarray
    low: tuple[np.ndarray, ...]
    high: tuple[np.ndarray, ...]
    allocates: np.ndarray
    frees: np.ndarray


@dataclass(frozen=True)
class Move:
    """Positions from ``first`` on get the operations ``order``; those of ``locked`` are frees past the sheaves."""

    first: int
    order: np.ndarray
    locked: np.ndarray


_NONE = np.zeros(0, np.int64)
_STEPS = (co.OP_BEGIN_REFILL, co.OP_REFILL_LISTS, co.OP_REFILL_NEW, co.OP_INSTALL)


def may_pass(columns: Columns, late: int, others: np.ndarray) -> bool:
    """Whether operation ``late`` may have been before ``others``, as far as their tasks' events tell."""
    return any(bool((low[late] < high[others]).all()) for low, high in zip(columns.low, columns.high, strict=True))


def earliest(columns: Columns, order: np.ndarray, wrong: int, oldest: int) -> int:
    """The first position, from ``oldest`` on, at which the operation at ``wrong`` may have been."""
    x = order[wrong]
    between = order[oldest:wrong]
    passed = [columns.high[k][between] > columns.low[k][x] for k in range(2)]
    ends = [np.flatnonzero(~ok)[-1] + 1 if not ok.all() else 0 for ok in passed]
    return oldest + int(min(ends))


def moves(columns: Columns, order: np.ndarray, wrong: int, hits: np.ndarray, given: int) -> Iterator[Move]:
    """Moves to be tried, the likely ones first. ``wrong``: position of the allocation; ``hits`` uint8[.]: before which
    of the positions up to it its address was next on its CPU; ``given``: the object that the rules give, -1 unknown."""
    oldest = wrong - len(hits)
    places = oldest + np.flatnonzero(hits)
    places = places[places >= earliest(columns, order, wrong, oldest)]
    last = places[np.append(np.diff(places) > 1, True)] if len(places) else places
    for place in last[::-1][:4].tolist():
        yield Move(place, np.concatenate([order[wrong : wrong + 1], order[place:wrong]]), _NONE)
    yield from _locked(columns, order, wrong, oldest)
    yield from _steps(columns, order, wrong, oldest)
    yield from _others(columns, order, wrong, oldest, given)


def _locked(columns: Columns, order: np.ndarray, wrong: int, oldest: int) -> Iterator[Move]:
    """The frees on its CPU and in its task's name right before it, all of them or the last ones."""
    x = order[wrong]
    between = order[oldest:wrong]
    same = between[(columns.cpu[between] == columns.cpu[x]) & (columns.allocates[between] | columns.frees[between])]
    mine = (columns.op[same] == co.OP_FREE) & (columns.task[same] == columns.task[x])
    run = same[np.flatnonzero(~mine)[-1] + 1 :] if not mine.all() else same
    # Behind the task's event before: for a free ``low`` is its own row.
    run = run[columns.low[0][run] > min(int(low[x]) for low in columns.low)]
    if not len(run):
        return
    position = {int(z): oldest + i for i, z in enumerate(between.tolist())}
    steps = between[columns.op[between] == co.OP_INSTALL]
    own = int(columns.object[steps[-1]]) if len(steps) and position[int(steps[-1])] >= wrong - 3 else -1
    first_steps = between[(columns.op[between] == co.OP_BEGIN_REFILL) & (columns.object[between] == own)]
    for count in (len(run), *range(1, min(len(run), TRIES))):
        locked = run[len(run) - count :]
        last = position[int(locked[-1])]
        begins = np.array([z for z in first_steps.tolist() if position[z] < last], np.int64)
        first = min(position[int(locked[0])], *(position[z] for z in begins.tolist()), wrong)
        part = order[first : wrong + 1]
        cut = last - first + 1
        front = part[:cut][~np.isin(part[:cut], begins)]
        yield Move(first, np.concatenate([front, begins, part[cut:]]), locked)


def _steps(columns: Columns, order: np.ndarray, wrong: int, oldest: int) -> Iterator[Move]:
    """Steps of refills right before what their refill did next."""
    begin = max(oldest, wrong - REACH)
    window = order[begin : wrong + AHEAD // 4]
    steps = np.flatnonzero(np.isin(columns.op[window], _STEPS))
    waiting: dict[int, list[int]] = {}
    for at in steps.tolist():
        z = int(window[at])
        op, refill = columns.op[z], int(columns.object[z])
        before = waiting.pop(refill, [])
        if op == co.OP_BEGIN_REFILL and (not before or columns.op[window[before[0]]] == op):
            waiting[refill] = [*before, at]
            continue
        if before and begin + before[0] < wrong and at - before[0] > len(before):
            part = window[before[0] : at]
            stay = np.ones(len(part), bool)
            stay[np.array(before) - before[0]] = False
            yield Move(begin + before[0], np.concatenate([part[stay], part[~stay]]), _NONE)
        if op != co.OP_INSTALL:
            waiting[refill] = [at]


def _others(columns: Columns, order: np.ndarray, wrong: int, oldest: int, given: int) -> Iterator[Move]:
    """Allocations that come later in the trace, before it; the free of what it is given behind it."""
    ahead = order[wrong + 1 : wrong + AHEAD]
    later = ahead[columns.allocates[ahead]]
    cpus, first = np.unique(columns.cpu[later], return_index=True)
    wanted = later[first[cpus != columns.cpu[order[wrong]]]].tolist()
    wanted += later[columns.object[later] == given][:1].tolist()
    for z in wanted[::-1]:
        at = wrong + 1 + int(np.flatnonzero(ahead == z)[0])
        if may_pass(columns, z, order[wrong:at]):
            yield Move(wrong, np.concatenate([np.array([z]), order[wrong:at]]), _NONE)
    between = order[oldest:wrong]
    freed = np.flatnonzero((columns.object[between] == given) & columns.frees[between])
    for at in freed[-1:].tolist():
        y = between[at]
        passed = order[oldest + at + 1 : wrong + 1]
        if any(bool((low[passed] < high[y]).all()) for low, high in zip(columns.low, columns.high, strict=True)):
            yield Move(oldest + at, np.concatenate([passed, between[at : at + 1]]), _NONE)


__all__ = ["Columns", "Move", "moves"]

"""The orders found for single caches put into one order of the trace.

Few operations move, so only these are kept: a place is the row of the trace before or behind which something goes, a
turn tells what goes to one place apart.
"""

import dataclasses

import numpy as np

from fastalloc.trace.compact import compact as co
from fastalloc.trace.order import model as om
from fastalloc.trace.order import passes


class CacheOrder:
    """The order of one cache's operations, as it is found part by part."""

    def __init__(self, shortages: np.ndarray) -> None:
        self.shortages = shortages
        self.position = 0
        self.latest = -1
        self.placed = [np.zeros((0, 3), np.int64)]  # row, place, turn
        self.inserted = [np.zeros((0, 4), np.int64)]  # row, place, turn, op

    def add(self, op: np.ndarray, row: np.ndarray, reserve: np.ndarray, following: int) -> None:
        """The next operations: op, row in the trace, whether it allocated a slab from below all watermarks;
        ``following``: the row of the one behind them, -1 none."""
        # An operation that came later waits, and all behind it.
        place = np.maximum.accumulate(np.append(self.latest, row))[1:]
        turn = 4 * (self.position + np.arange(len(row)))
        own = (op != om.BEGIN) & (op != om.NEW_SLAB) & (op != om.GONE)
        away = own & (place != row)
        early = (op == om.BEGIN) & (np.append(row[1:], following) != row)
        allocated = op == om.NEW_SLAB
        # What stays is kept where something may go to its place.
        stays = own & (place == row)
        goes = place[away | early | allocated | reserve]
        kept = stays & (np.isin(row, goes) | (row == self.latest) | np.isin(row - 1, self.shortages))
        kept[np.flatnonzero(stays)[-1:]] = True
        which = away | kept
        self.placed.append(np.stack([row[which], place[which], turn[which]], axis=1))
        for which, new in ((early, co.OP_BEGIN), (allocated, co.OP_NEW_SLAB), (reserve, co.OP_RESERVE)):
            ops = np.full(int(which.sum()), new)
            self.inserted.append(np.stack([row[which], place[which], turn[which] - 1, ops], axis=1))
        self.position += len(row)
        self.latest = int(place[-1]) if len(place) else self.latest


class Merge:
    """Puts the orders found for single caches into one order of the trace."""

    def __init__(self, trace: co.CompactTrace) -> None:
        self.whole = trace
        rows = np.flatnonzero(trace.events["op"] == co.OP_SHORTAGE)
        self.shortages = rows[rows + 2 < len(trace.events)]
        self.placed: list[np.ndarray] = [np.zeros((0, 3), np.int64)]
        self.inserted: list[np.ndarray] = [np.zeros((0, 4), np.int64)]

    def add(self, order: CacheOrder) -> None:
        """The order of one more cache."""
        self.placed += order.placed
        self.inserted += order.inserted

    def trace(self) -> co.CompactTrace:
        """The trace in the order found; the times of its rows stay ascending."""
        events = self.whole.events
        placed = _last_of_each(np.concatenate(self.placed))
        # Around the allocation: the shortage, and the pages that end it.
        known = np.stack([self.shortages + 1, self.shortages + 1, np.zeros(len(self.shortages), np.int64)], axis=1)
        known = _last_of_each(np.concatenate([known, placed]))
        known = known[np.searchsorted(known[:, 0], self.shortages + 1)]
        around = [
            np.stack([self.shortages + off, known[:, 1], known[:, 2] + turn], axis=1) for off, turn in ((0, -2), (2, 2))
        ]
        placed = _last_of_each(np.concatenate([placed, *around]))
        away = placed[:, 0] != placed[:, 1]
        inserted = np.concatenate(self.inserted)
        moves = np.insert(placed[away], 3, -1, axis=1)
        moves = np.concatenate([moves, inserted])
        moves = moves[np.lexsort((moves[:, 2], moves[:, 1]))]
        places = passes.Moves(*np.ascontiguousarray(moves.T))
        stays = np.ascontiguousarray(placed[~away].T)
        moved = np.zeros(len(events) + len(inserted), co.EVENT)
        gone = np.ascontiguousarray(placed[away, 0])
        times = np.sort(events["time"][inserted[:, 0]])
        passes.merge(events, gone, stays[0], stays[2], places, times, moved)
        moved.flags.writeable = False
        step = co.Moved(_places(places, gone, stays), np.where(places.op < 0, places.row, -1))
        return dataclasses.replace(self.whole, events=moved, moved=(*self.whole.moved, step))


def _places(moves: passes.Moves, gone: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Rows that ``passes.merge`` gives to the ``moves``: behind so many of them, and of the rows that stay."""
    known = np.searchsorted(stays[0], moves.to)
    at = np.minimum(known, stays.shape[1] - 1)
    turn = np.where(stays[0, at] == moves.to, stays[2, at], 0) if stays.shape[1] else 0
    behind = (moves.turn >= turn) & ~np.isin(moves.to, gone)
    places: np.ndarray = np.arange(len(moves.to)) + moves.to - np.searchsorted(gone, moves.to) + behind
    return places


def _last_of_each(placed: np.ndarray) -> np.ndarray:
    """Of the elements of a row the last, ascending by row."""
    _, last = np.unique(placed[::-1, 0], return_index=True)
    return placed[len(placed) - 1 - last]


__all__ = ["CacheOrder", "Merge"]

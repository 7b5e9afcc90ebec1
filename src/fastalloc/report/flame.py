"""Who holds the memory of the slabs as a picture: a row for all, one for caches, one for who allocated in each."""

from typing import NamedTuple

import polars as pl

MIB = 1 << 20
LEAST = 0.004  # of the whole; what is narrower is drawn as one frame of several
ROWS = 60  # of the table, the largest
NARROW = 0.0012
HUES = (208, 152, 32, 265, 340, 185, 95, 15)


class Frame(NamedTuple):
    """A frame: where it lies, in per cent of the width, what stands in it, and what it tells who points at it."""

    left: float
    width: float
    label: str
    words: str
    hue: int  # of its cache; -1: nobody's objects


class Flame(NamedTuple):
    """Rows from the whole down, and the same as a table: cache, holder, objects, MB."""

    rows: list[list[Frame]]
    table: list[tuple[str, str, int, float]]
    more: int  # rows of the table that are left out
    mib: float


def flame(held: pl.DataFrame) -> Flame | None:
    """``held``: rows cache, holder, objects, bytes (see ``held_at_peak``); None where nothing is held.

    A holder in brackets is none: free slots, tails, objects from before the trace.
    """
    whole = int(held["bytes"].sum()) if len(held) else 0
    if not whole:
        return None
    caches = held.group_by("cache").agg(pl.col("bytes").sum(), pl.col("objects").sum())
    caches = caches.sort("bytes", "cache", descending=[True, False])
    rows: list[list[Frame]] = [[Frame(0.0, 100.0, "all slabs", _words("all slabs", whole, whole), -1)], [], []]
    left = 0.0
    small: list[tuple[str, int]] = []
    for number, (name, size, _) in enumerate(caches.iter_rows()):
        share = size / whole
        if share < LEAST:
            small.append((name, size))
            continue
        hue = HUES[number % len(HUES)]
        rows[1].append(Frame(100 * left, 100 * share, name, _words(name, size, whole), hue))
        rows[2] += _holders(held.filter(pl.col("cache") == name), left, whole, hue)
        left += share
    if small:
        size = sum(size for _, size in small)
        words = _words(f"{len(small)} smaller caches, {small[0][0]} the largest of them", size, whole)
        rows[1].append(Frame(100 * left, 100 * size / whole, f"{len(small)} more", words, -1))
    table = [
        (cache, holder, objects, size / MIB)
        for cache, holder, objects, size in held.sort("bytes", descending=True).head(ROWS).iter_rows()
    ]
    return Flame(rows, table, max(0, len(held) - ROWS), whole / MIB)


def _holders(held: pl.DataFrame, left: float, whole: int, hue: int) -> list[Frame]:
    """The frames below one cache: whoever allocated, the largest first, and at last what nobody holds."""
    frames, narrow, narrower = [], 0, 0
    nobody = pl.col("holder").str.starts_with("(")
    ordered = held.with_columns(last=nobody).sort("last", "bytes", "holder", descending=[False, True, False])
    for cache, holder, objects, size, last in ordered.iter_rows():
        share = size / whole
        if share < NARROW:
            narrow, narrower = narrow + size, narrower + 1
            continue
        count = f", {objects:,} objects" if objects else ""
        words = _words(f"{holder} in {cache}", size, whole) + count
        frames.append(Frame(100 * left, 100 * share, holder.strip("()"), words, -1 if last else hue))
        left += share
    if narrow:
        words = _words(f"{narrower} smaller holders", narrow, whole)
        frames.append(Frame(100 * left, 100 * narrow / whole, f"{narrower} more", words, hue))
    return frames


def _words(name: str, size: int, whole: int) -> str:
    return f"{name}: {size / MIB:,.2f} MB, {size / whole:.1%} of all slabs"

"""The slab ledger: who allocated a slab, from how deep a reserve, and who took its slots."""

from typing import NamedTuple

import polars as pl

from fastalloc.store import Dataset

BELOW_MIN = 2  # depths from this one on lie below pages_min


class Cell(NamedTuple):
    """Objects that one taker was given from slabs of one owner and depth, all lanes together."""

    objects: int
    heat: float  # 0 .. 1, on a logarithmic scale
    deeper: bool  # below min, of another's slab, and deeper than the taker ever allocated one itself


class Ledger(NamedTuple):
    """A table of cells: a row an owner and depth, deepest first, a column a taker.

    Rows are the slabs allocated below min and those whose slots others took as well.
    """

    takers: list[str]
    rows: list[tuple[str, str, list[Cell | None]]]  # owner, depth, cell by taker
    taken: list[tuple[str, str, str, int]]  # taker, owner, depth, objects; most first
    lanes: int


def slab_ledger(dataset: Dataset, variant: str) -> Ledger:
    """The ledger of one variant, summed over its lanes; empty where nothing was allocated below min and nothing
    shared."""
    depths: list[str] = dataset.manifest["depths"]
    who: list[str] = dataset.manifest["who"]
    rows = (
        dataset.ledger.filter(pl.col("variant") == variant)
        .group_by("owner", "depth", "taker")
        .agg(pl.col("objects").sum())
        .collect()
    )
    lanes = int(dataset.runs.filter(pl.col("variant") == variant).select(pl.len()).collect().item())
    objects = {(b, depths.index(d), t): n for b, d, t, n in rows.select("owner", "depth", "taker", "objects").rows()}
    own: dict[str, int] = {}  # deepest at which each allocated for itself
    for owner, depth, taker in objects:
        if owner == taker:
            own[taker] = max(own.get(taker, -1), depth)
    # what the boot allocated was there for all
    told = {(d, b) for b, d, taker in objects if d >= BELOW_MIN or (taker != b and b != "boot")}
    shown = {key: n for key, n in objects.items() if (key[1], key[0]) in told}
    takers = [name for name in who if any(taker == name for _, _, taker in shown)]
    most = max(shown.values(), default=1)
    pairs = sorted(told, key=lambda pair: (-pair[0], who.index(pair[1])))

    def cell(owner: str, depth: int, taker: str) -> Cell | None:
        n = shown.get((owner, depth, taker))
        if not n:
            return None
        deeper = taker != owner and depth > max(own.get(taker, 0), BELOW_MIN - 1)
        return Cell(n, _heat(n, most), deeper)

    table = [(owner, depths[depth], [cell(owner, depth, taker) for taker in takers]) for depth, owner in pairs]
    taken = [
        (taker, owner, depth, found.objects)
        for owner, depth, cells in table
        for taker, found in zip(takers, cells, strict=True)
        if found and found.deeper
    ]
    return Ledger(takers, table, sorted(taken, key=lambda entry: -entry[3]), lanes)


def _heat(n: int, most: int) -> float:
    return n.bit_length() / most.bit_length()

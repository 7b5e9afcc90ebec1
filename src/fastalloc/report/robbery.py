"""The robbery ledger: who bought a slab, from how deep a reserve, and who took its slots."""

from typing import NamedTuple

import polars as pl

from fastalloc.store import Dataset

BELOW_MIN = 2  # depths from this one on lie below pages_min


class Cell(NamedTuple):
    """Objects that one taker was given from slabs of one buyer and depth, all lanes together."""

    objects: int
    heat: float  # 0 .. 1, on a logarithmic scale
    robbery: bool  # below min, of another's buying, and deeper than the taker ever bought itself


class Ledger(NamedTuple):
    """A table of cells: a row a buyer and depth, deepest first, a column a taker.

    Rows are the slabs bought below min and those whose slots others took as well.
    """

    takers: list[str]
    rows: list[tuple[str, str, list[Cell | None]]]  # buyer, depth, cell by taker
    robbed: list[tuple[str, str, str, int]]  # taker, buyer, depth, objects; most first
    lanes: int


def robbery_ledger(dataset: Dataset, variant: str) -> Ledger:
    """The ledger of one variant, summed over its lanes; empty where nothing was bought below min and nothing shared."""
    depths: list[str] = dataset.manifest["depths"]
    who: list[str] = dataset.manifest["who"]
    rows = (
        dataset.ledger.filter(pl.col("variant") == variant)
        .group_by("buyer", "depth", "taker")
        .agg(pl.col("objects").sum())
        .collect()
    )
    lanes = int(dataset.runs.filter(pl.col("variant") == variant).select(pl.len()).collect().item())
    objects = {(b, depths.index(d), t): n for b, d, t, n in rows.select("buyer", "depth", "taker", "objects").rows()}
    own: dict[str, int] = {}  # deepest that each bought at for itself
    for buyer, depth, taker in objects:
        if buyer == taker:
            own[taker] = max(own.get(taker, -1), depth)
    # what the boot bought was there for all
    told = {(d, b) for b, d, taker in objects if d >= BELOW_MIN or (taker != b and b != "boot")}
    shown = {key: n for key, n in objects.items() if (key[1], key[0]) in told}
    takers = [name for name in who if any(taker == name for _, _, taker in shown)]
    most = max(shown.values(), default=1)
    pairs = sorted(told, key=lambda pair: (-pair[0], who.index(pair[1])))

    def cell(buyer: str, depth: int, taker: str) -> Cell | None:
        n = shown.get((buyer, depth, taker))
        if not n:
            return None
        robbery = taker != buyer and depth > max(own.get(taker, 0), BELOW_MIN - 1)
        return Cell(n, _heat(n, most), robbery)

    table = [(buyer, depths[depth], [cell(buyer, depth, taker) for taker in takers]) for depth, buyer in pairs]
    robbed = [
        (taker, buyer, depth, found.objects)
        for buyer, depth, cells in table
        for taker, found in zip(takers, cells, strict=True)
        if found and found.robbery
    ]
    return Ledger(takers, table, sorted(robbed, key=lambda entry: -entry[3]), lanes)


def _heat(n: int, most: int) -> float:
    return n.bit_length() / most.bit_length()

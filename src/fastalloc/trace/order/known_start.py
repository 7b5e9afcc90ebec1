"""What a start was made from, and how far predictions from such a start were off where the truth is known.

The figures are the worst of the recordings in docs/replay.md, in percent of pages: 13 runs of 6.1 and 6.12 whose caches
were shrunk just before, and 14 starts in the middle of such runs with nothing shrunk. They say what size of error to
expect, and are no bound.
"""

from dataclasses import dataclass, field
from typing import Any

EXACT, SYSFS, SYSFS_LESS, SLABINFO, NOTHING = "exact lists", "sysfs", "sysfs without lists", "slabinfo", "nothing"
LISTS = "exact lists without sheaves"  # of 7.x

# worst error of new slabs, of the peak: caches shrunk before, not shrunk
_EXPECTED = {
    SYSFS: ((6.0, 0.5), (11.0, 2.0)),
    SYSFS_LESS: ((6.0, 1.0), (19.0, 4.1)),
    SLABINFO: ((4.8, 5.1), (40.0, 8.9)),
    NOTHING: ((52.0, 94.0), (111.0, 95.0)),
}
# The same of 7.x: 14 runs of 7.2 and 7.3 in docs/replay-7x.md, one of them not shrunk, which is no worse but where
# lists are known and sheaves are not: then their objects count as in use (13 runs: 15 and 1.7).
_EXPECTED_SHEAVES = {
    LISTS: (28.0, 11.0),
    SYSFS: (7.3, 1.4),
    SYSFS_LESS: (7.3, 1.4),
    SLABINFO: (7.3, 1.9),
    NOTHING: (26.0, 63.0),
}
_MADE_FROM = {
    EXACT: "exact lists",
    LISTS: "exact lists of slabs, but what lay in sheaves is NOT KNOWN",
    SYSFS: "rebuilt from /sys/kernel/slab and the trace's addresses",
    SYSFS_LESS: "rebuilt from /sys/kernel/slab without slabs_cpu_partial, and the trace's addresses",
    SLABINFO: "rebuilt from /proc/slabinfo and the trace's addresses",
    NOTHING: "NOT KNOWN, only slabs that the trace touches are counted",
}
# Of a start by what sysfs said: the caches shrunk just before, or the machine running on.
RESOLUTION = {"shrunk": 0.005, "running": 0.02}


@dataclass(frozen=True)
class KnownStart:
    """``source``: one of the above; ``shrunk``: whether the caches were shrunk just before; ``caches``: how many were
    fitted; ``unexplained``: those of them that no start found explains; ``starts``: different ones replayed;
    ``sheaves``: of 7.x; ``unseen``: caches whose objects come back without an event, see ``unseen_frees``."""

    source: str
    shrunk: bool = False
    caches: int = 0
    unexplained: list[str] = field(default_factory=list)
    starts: int = 1
    bulk_rows: bool = True
    file: str = ""
    sheaves: bool = False
    unseen: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether the allocator's lists were known."""
        return self.source == EXACT

    @property
    def expected(self) -> tuple[float, float] | None:
        """Worst error seen of new slabs and of the peak, percent; None from exact lists."""
        if self.exact:
            return None
        if self.sheaves:
            return _EXPECTED_SHEAVES[self.source]
        return _EXPECTED[self.source][0 if self.shrunk else 1]

    @property
    def resolution(self) -> float:
        """A change of the peak below this share is not resolved: where slabs are packed anew, changes from such starts
        were off by up to so much."""
        if self.exact:
            return 0.0
        if self.source in (SYSFS, SYSFS_LESS) and not self.sheaves:
            return RESOLUTION["shrunk" if self.shrunk else "running"]
        return (self.expected or (0.0, 0.0))[1] / 100

    def words(self) -> str:
        """The first line of a result."""
        words = self._words()
        if self.unseen:
            words += f"; NOT EXPLAINED, for their frees show no event: {', '.join(self.unseen)}"
        return words

    def _words(self) -> str:
        made = f"start: {_MADE_FROM[self.source]}"
        if self.file:
            made += f" ({self.file})"
        if self.expected is None:
            return made
        new, peak = self.expected
        if self.source == NOTHING:
            return (
                f"{made}: the peak may be {peak:.0f} % too low and new pages {new:.0f} % too high; "
                "record with `fastalloc record`, or give --slabs"
            )
        how = ", caches shrunk just before" if self.shrunk else ", caches not shrunk"
        words = f"{made}{'' if self.sheaves else how}: expect the peak within {peak:g} %, new pages within {new:g} %"
        if not self.bulk_rows:
            words += "; bulk calls show no event: new pages up to 10 % too low"
        return words

    def notes(self) -> list[str]:
        """What else must be said of it."""
        if self.exact:
            return []
        notes = []
        if self.starts > 1:
            notes.append(f"ranges are those of {self.starts} starts that the addresses allow: they are no error bar")
        if self.unexplained:
            names = ", ".join(self.unexplained[:8]) + (", ..." if len(self.unexplained) > 8 else "")
            notes.append(
                f"start not explained by the addresses: {len(self.unexplained)} of {self.caches} caches: {names}"
            )
        return notes

    def record(self) -> dict[str, Any]:
        """The same as plain data."""
        expected = self.expected
        return {
            "from": self.source,
            "exact": self.exact,
            "shrunk": self.shrunk,
            "expected_error_percent": None if expected is None else {"new": expected[0], "peak": expected[1]},
            "starts": self.starts,
            "caches_fitted": self.caches,
            "not_explained": self.unexplained,
            "words": self.words(),
            "notes": self.notes(),
        }


__all__ = ["EXACT", "LISTS", "NOTHING", "SLABINFO", "SYSFS", "SYSFS_LESS", "KnownStart"]

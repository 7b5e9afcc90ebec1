"""A kernel's release string, and how it compares."""

import re
from typing import NamedTuple

_NUMBER = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+|x))?(?:\.(\d+|x))?")
_DEBIAN = re.compile(r"\bDebian\s+(\d+\.\d+(?:\.\d+)*)")
_DISTRIBUTION = re.compile(
    r"\.(?:el|fc|amzn|sles?|oe|an|cm)\d|-(?:generic|server|lowlatency|default|gki|azure|aws|pve)"
)
_NEXT = re.compile(r"-next-?\d*")
_RC = re.compile(r"-rc(\d+)")
_DESCRIBED = re.compile(r"-(\d{5,})-g[0-9a-f]{7,}\b")  # scripts/setlocalversion: "-%05d" and "-g" after git describe
# Commits after a version: fewer may be somebody's own; a merge window brings about 1000 a day [process/2.Process.rst].
MERGE_WINDOW = 1000

Base = tuple[int, int, int]


class Release(NamedTuple):
    """A kernel release.

    ``base`` is the version whose code it carries at the start: (2, 6, 32) or (5, 10, 0). ``stable`` is the number of
    the stable update where the text gives one (5.10.168 has 168), else None.
    """

    text: str
    base: Base
    stable: int | None = None
    rc: int | None = None
    next: bool = False  # linux-next carries the code of the version after
    distribution: bool = False  # its patches are not in the string
    commits: int = 0  # after the tag of ``base`` in git, where it is of no release candidate or stable update

    @property
    def name(self) -> str:
        """The version in short: ``2.6.32`` or ``5.10``."""
        return base_name(self.base)

    def at_least(self, base: Base, stable: int | None = None) -> bool:
        """True from ``base`` on; with ``stable``, from that update of that very version on."""
        if stable is None:
            return self.base >= base
        return self.base == base and self.stable is not None and self.stable >= stable


def base_name(base: Base) -> str:
    """``2.6.32`` or ``5.10``."""
    return f"{base[0]}.{base[1]}.{base[2]}" if base[0] < 3 else f"{base[0]}.{base[1]}"


def parse_base(text: str) -> Base:
    """The version of a rule's table, such as ``2.6.32`` or ``5.10``.

    Raises:
        ValueError: no version.
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no kernel version")
    third = found[3] if int(found[1]) < 3 and found[3] not in (None, "x") else "0"
    return int(found[1]), int(found[2]), int(third)


def parse_release(text: str, line: str = "") -> Release | None:
    """Reads a release string such as ``5.10.0-8-amd64``; None where it holds no version.

    ``line`` is the line around it: Debian's ABI name (``6.1.0-18-amd64``) hides the stable update, which its package
    (``Debian 6.1.76-1``) names.
    """
    text = text.rstrip(".,;:)")
    found = _NUMBER.match(text)
    if found is None:
        return None
    major, minor = int(found[1]), int(found[2])
    if major < 2 or major > 9 or (major == 2 and found[3] is None):
        return None
    third = None if found[3] in (None, "x") else int(found[3])
    if major < 3:
        base: Base = (major, minor, third or 0)
        stable = None if found[4] in (None, "x") else int(found[4])
    else:
        base = (major, minor, 0)
        stable = third
    rest = text[found.end() :]
    rc = _RC.search(rest)
    distribution = bool(_DISTRIBUTION.search(rest))
    described = _DESCRIBED.search(rest)
    commits = int(described[1]) if described and not (stable or rc or distribution) else 0
    if stable == 0 and rest.startswith("-") and not rc and not described and not rest.startswith("-next"):
        stable = None  # an ABI name: 6.1.0-18-amd64, 5.15.0-91-generic
        distribution = distribution or bool(re.match(r"-\d", rest))
    package = _DEBIAN.search(line)
    if package and package[1]:
        exact = _NUMBER.match(package[1])
        if exact and (int(exact[1]), int(exact[2])) == (major, minor) and major > 2:
            stable = int(exact[3]) if exact[3] not in (None, "x") else None
    of_next = bool(_NEXT.search(rest))
    return Release(text, base, stable, int(rc[1]) if rc else None, of_next, distribution, 0 if of_next else commits)


# Every base version from 2.6.9 on, oldest first.
BASES: tuple[Base, ...] = (
    *((2, 6, third) for third in range(9, 40)),
    *((3, minor, 0) for minor in range(20)),
    *((4, minor, 0) for minor in range(21)),
    *((5, minor, 0) for minor in range(20)),
    *((6, minor, 0) for minor in range(20)),
    *((7, minor, 0) for minor in range(4)),
)


def following(base: Base) -> Base:
    """The version after ``base``; the newest known stands for all after it."""
    later = [known for known in BASES if known > base]
    return later[0] if later else base


class Span(NamedTuple):
    """Versions from ``first`` to ``last``, both included."""

    first: Base
    last: Base

    def __contains__(self, base: object) -> bool:
        return isinstance(base, tuple) and self.first <= base <= self.last

    def meet(self, other: "Span") -> "Span | None":
        """The versions that both hold."""
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Span(first, last) if first <= last else None

    def __str__(self) -> str:
        if self.first == self.last:
            return base_name(self.first)
        if self.last > BASES[-1]:
            return f"{base_name(self.first)} and later" if self.first > BASES[0] else "any version"
        return f"{base_name(self.first)} to {base_name(self.last)}"


def span(first: str, last: str) -> Span:
    """A span of a table: the newest version there (7.3) stands for all after it."""
    end = parse_base(last)
    return Span(parse_base(first), (99, 0, 0) if end == BASES[-1] else end)


EVER = Span(BASES[0], (99, 0, 0))

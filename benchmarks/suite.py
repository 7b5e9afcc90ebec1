"""The benchmarks by name, and one run of them."""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

from benchmarks import guard
from benchmarks.measure import Row, keep, latest
from fastalloc.errors import InputError, meant

NAMES = (
    "c_twin",
    "instructions",
    "memory_limit",
    "golden",
    "peers",
    "simpy_peer",
    "closed_loop",
    "policies",
    "beginnings",
    "rare",
    "own_policy",
    "scaling",
    "lane_memory",
    "lane_limit",
    "startup",
    "sweep",
)


def module(name: str) -> ModuleType:
    """The benchmark ``name``. Raises InputError when there is none."""
    if name not in NAMES:
        raise InputError("bench", name, f"is no benchmark{meant(name, NAMES)}; there are {', '.join(NAMES)}")
    return importlib.import_module(f"benchmarks.{name}")


def run(
    names: Sequence[str], quick: bool, tell: Callable[[str, Row | None], None]
) -> tuple[dict[str, list[Row]], list[str]]:
    """Run benchmarks and keep their rows; ``tell`` hears of each benchmark as it begins and of each row.

    Returns the rows, and a line for each that is slower than in the run kept before.
    """
    results, slow = {}, []
    for name in names:
        tell(name, None)
        rows = []
        for row in module(name).run(quick):
            tell(name, row)
            rows.append(row)
        slow += guard.slower(latest(name), rows)
        if rows and not quick:
            keep(name, rows, f"fastalloc bench {name}")
        results[name] = rows
    return results, slow

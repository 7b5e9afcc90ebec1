"""What every benchmark does alike: time contestants side by side, and keep what was measured.

A benchmark is a module with a ``QUESTION`` and a function ``run(quick)`` that yields :class:`Row`; it checks that
results are equal before it times anything. Rows are appended to ``results/benchmarks/NAME.parquet``.
"""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from fastalloc.model_digest import model_digest

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


@dataclass(frozen=True)
class Row:
    """One figure of one contestant: the median, and the least and the largest.

    ``ratio``: median, least and largest of the ratio to ``versus`` in the same round, above 1 where this one is better.
    """

    work: str
    contestant: str
    value: float
    unit: str
    low: float
    high: float
    repeats: int
    versus: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


def race(contestants: Mapping[str, Callable[[], Callable[[], object]]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant, ``repeats`` rounds in which all run once, in turn from either end.

    A contestant prepares its work and returns what is to be timed; a first round is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        order = list(contestants)[:: 1 if turn % 2 else -1]
        for name in order:
            call = contestants[name]()
            gc.collect()
            begun = time.perf_counter()
            call()
            elapsed = time.perf_counter() - begun
            del call
            if turn:
                times[name].append(elapsed)
    return times


def rate(work: str, name: str, times: Mapping[str, Sequence[float]], count: float, unit: str, versus: str = "") -> Row:
    """``count`` units of work a second, and the ratio of speeds to ``versus`` round by round."""
    own = times[name]
    rates = [count / seconds for seconds in own]
    row = Row(work, name, statistics.median(rates), unit, min(rates), max(rates), len(rates))
    if not versus:
        return row
    ratios = [other / mine for mine, other in zip(own, times[versus], strict=True)]
    return Row(
        **asdict(row) | {"versus": versus, "ratio": statistics.median(ratios), "ratio_low": min(ratios),
                         "ratio_high": max(ratios)}
    )  # fmt: skip


def figure(work: str, contestant: str, values: Sequence[float], unit: str) -> Row:
    """A figure with no contest: median, least and largest of ``values``."""
    return Row(work, contestant, statistics.median(values), unit, min(values), max(values), len(values))


def beside(row: Row, peer: float, versus: str) -> Row:
    """``row`` with its ratio to a peer's rate."""
    return replace(row, versus=versus, ratio=row.value / peer, ratio_low=row.low / peer, ratio_high=row.high / peer)


def seconds_of(call: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def processor() -> str:
    """The CPU's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def keep(name: str, rows: Sequence[Row], command: str) -> Path:
    """Append the rows of a run to ``results/benchmarks/NAME.parquet``."""
    made = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "model": model_digest()[:12],
        "processor": processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    numbers = dict.fromkeys(("value", "low", "high", "ratio", "ratio_low", "ratio_high"), pl.Float64)
    frame = pl.DataFrame([asdict(row) | made for row in rows], schema_overrides=numbers)
    path = RESULTS / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        frame = pl.concat([pl.read_parquet(path), frame], how="diagonal_relaxed")
    temporary = path.with_suffix(".tmp")
    frame.write_parquet(temporary)
    temporary.replace(path)
    return path


def latest(name: str) -> pl.DataFrame | None:
    """The rows of the last run of a benchmark, None where there is none."""
    path = RESULTS / f"{name}.parquet"
    if not path.exists():
        return None
    frame = pl.read_parquet(path)
    return frame.filter(pl.col("at") == frame["at"].max())

"""What changes with what: threads, caches, the series."""

from collections.abc import Iterator

from benchmarks.lanes import scenario, timed
from benchmarks.measure import Row, figure, race, rate
from benchmarks.twin import KernelRun
from benchmarks.works import SYNTHETIC, synthetic
from fastalloc.batch import run_lanes

QUESTION = "How does speed change with threads, caches and the series?"


def run(quick: bool) -> Iterator[Row]:
    """Threads first checked to give equal results."""
    repeats = 3 if quick else 7
    yield from threads(repeats, 5 if quick else 120)
    seconds = 5 if quick else 60
    for series_ms in (10, 250, 60_000):
        wanted = scenario("fix", {"run.series_ms": series_ms, "run.duration_s": seconds})
        factors = [seconds / timed(wanted, 0, seconds)[0] for _ in range(repeats)]
        yield figure(f"series every {series_ms} ms", "one lane", factors, "x real time")
    rest = SYNTHETIC["random"][1:]
    for many in (1, 8, 64, 512):
        SYNTHETIC[f"{many} caches"] = (many, *rest)
        work = synthetic(f"{many} caches", "cpu-partial", 1 << 16 if quick else 1 << 20)
        del SYNTHETIC[f"{many} caches"]
        times = race({"kernel": lambda work=work: KernelRun(work).run}, repeats)
        yield rate(f"replay, {many} caches", "kernel", times, len(work.events), "events/s")


def threads(repeats: int, seconds: float) -> Iterator[Row]:
    """Lanes on one thread and on two, in turn: so many that the last ones do not decide."""
    wanted = scenario("fix", {"run.duration_s": seconds})
    lanes = range(32)

    def metrics(count: int) -> list[list[int]]:
        return [result.metrics.tolist() for result in run_lanes(wanted, lanes, seed=1, threads=count)]

    if metrics(1) != metrics(2):
        raise SystemExit("two threads changed a result")
    times = race({"1 thread": lambda: lambda: metrics(1), "2 threads": lambda: lambda: metrics(2)}, repeats)
    work = f"{len(lanes)} lanes of {seconds:.0f} s"
    yield rate(work, "1 thread", times, seconds * len(lanes), "x real time")
    yield rate(work, "2 threads", times, seconds * len(lanes), "x real time", "1 thread")

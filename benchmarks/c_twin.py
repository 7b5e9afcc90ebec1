"""How near is the replay kernel to C? The same rules in C, over the same compact traces."""

from collections.abc import Iterator

from benchmarks.measure import Row, race, rate
from benchmarks.twin import KernelRun, TwinRun, Work
from benchmarks.works import SYNTHETIC_ROWS, works

QUESTION = "How fast is the replay kernel beside the same rules written in C (-O3 -march=native)?"
UNIT = "events/s"


def check_equal(work: Work) -> None:
    """Every counter, list length, page count and place of an object is the same. Raises SystemExit if not."""
    kernel, twin = KernelRun(work), TwinRun(work)
    kernel.run()
    twin.run()
    if not kernel.outcome().same_as(twin.outcome()):
        raise SystemExit(f"{work.name}: the kernel and its C twin disagree")


def run(quick: bool) -> Iterator[Row]:
    """A row for each work and contestant."""
    for work in works(1 << 16 if quick else SYNTHETIC_ROWS):
        check_equal(work)
        times = race(
            {"kernel": lambda work=work: KernelRun(work).run, "C twin": lambda work=work: TwinRun(work).run},
            3 if quick else 11,
        )
        yield rate(work.name, "C twin", times, len(work.events), UNIT)
        yield rate(work.name, "kernel", times, len(work.events), UNIT, "C twin")

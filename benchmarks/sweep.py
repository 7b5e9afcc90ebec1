"""What a sweep costs beside its lanes: a second thread, scheduling, encoding and writing."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import tomli_w

from benchmarks.measure import Row, figure
from fastalloc.batch import warm
from fastalloc.scenario import load_scenario
from fastalloc.sweep import plan_sweep, run_sweep

QUESTION = "What does a sweep cost beside its lanes?"
LANE = {"run.duration_s": 30.0, "run.series_ms": 60_000, "run.max_events": 0}


def run(quick: bool) -> Iterator[Row]:
    """A sweep of two variants, on one thread and on two in turn; scheduling is what one thread waits."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _run(Path(folder), 1 if quick else 5, 24 if quick else 320)


def _run(folder: Path, repeats: int, lanes: int) -> Iterator[Row]:
    scenario = load_scenario("swap-livelock").with_settings(LANE)
    (folder / "scenario.toml").write_text(tomli_w.dumps(scenario.model_dump(exclude_none=True)))
    (folder / "sweep.toml").write_text(
        f'name = "cost"\nscenario = "scenario.toml"\nvariants = ["rc8", "fix"]\nlanes = {lanes}\n'
    )
    plan = plan_sweep(folder / "sweep.toml")
    for variant in ("rc8", "fix"):
        warm(scenario.variant(variant))
    ratios, beside, encoding, writing, task_s = [], [], [], [], []
    expected = None
    for repeat in range(repeats):
        one = run_sweep(plan, folder / f"one-{repeat}", threads=1)
        two = run_sweep(plan, folder / f"two-{repeat}", threads=2)
        assert one is not None
        assert two is not None
        timing = one.manifest["timing"]
        rows = [dataset.runs.sort("id").collect() for dataset in (one, two)]
        expected = rows[0] if expected is None else expected
        if not all(frame.equals(expected) for frame in rows):
            raise SystemExit("a thread changed a row")
        ratios.append(timing["wall_s"] / two.manifest["timing"]["wall_s"])
        beside.append(1 - timing["task_s"] / timing["wall_s"])
        encoding.append(timing["encoding_s"] / timing["wall_s"])
        writing.append(timing["writing_s"] / timing["wall_s"])
        task_s.append(timing["task_s"] / len(list((one.path / "runs").iterdir())))
    yield figure("a sweep on two threads", "against one thread", ratios, "x")
    yield figure("a task", "mean", task_s, "s")
    yield figure("scheduling", "share of the wall time", [100 * share for share in beside], "%")
    yield figure("encoding", "share of the wall time", [100 * share for share in encoding], "%")
    yield figure("writing", "share of the wall time", [100 * share for share in writing], "%")

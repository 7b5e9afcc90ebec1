"""What the benchmarks call slower than before."""

import dataclasses

import polars as pl
from benchmarks.guard import slower
from benchmarks.lockstep import LockStep
from benchmarks.measure import Row
from benchmarks.twin import KernelRun
from benchmarks.works import ERAS, synthetic

ROW = Row("trace", "kernel", 10.0, "events/s", 9.0, 11.0, 5, "C twin", 1.0, 0.95, 1.05)
COUNT = Row("trace", "kernel", 100.0, "instructions/event", 100.0, 100.0, 1)


def kept(*rows):
    return pl.DataFrame([dataclasses.asdict(row) for row in rows], infer_schema_length=None)


def test_a_ratio_must_be_a_tenth_worse_beyond_the_spread_of_both():
    assert slower(kept(ROW), [dataclasses.replace(ROW, ratio=0.80, ratio_high=0.86)]) == []
    worse = dataclasses.replace(ROW, ratio=0.80, ratio_high=0.85)
    assert slower(kept(ROW), [worse]) == ["trace, kernel: 0.8 x C twin, was 1 x"]
    assert slower(kept(ROW), [dataclasses.replace(worse, versus="SimPy")]) == []
    assert slower(None, [worse]) == []


def test_instructions_count_and_seconds_alone_do_not():
    assert slower(kept(COUNT), [dataclasses.replace(COUNT, value=110.0, low=110.0)]) == []
    assert len(slower(kept(COUNT), [dataclasses.replace(COUNT, value=111.0, low=111.0)])) == 1
    seconds = dataclasses.replace(COUNT, unit="s")
    assert slower(kept(seconds), [dataclasses.replace(seconds, value=500.0, low=500.0)]) == []


def test_lanes_in_lock_step_count_as_the_kernel_does():
    works = [synthetic("one CPU", ERAS[0], 3000, seed) for seed in (1, 2, 3)]
    together = LockStep(works)
    together.run()
    for lane, work in enumerate(works):
        alone = KernelRun(work)
        alone.run()
        assert alone.outcome().stat[0, 0].tolist() == together.stat[lane].tolist()
    assert len({tuple(row) for row in together.stat.tolist()}) == 3

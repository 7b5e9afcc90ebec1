"""What results/closed-loop/seeds.json says of many seeds of four machines, and a few lanes of them again."""

import json

import numpy as np
import polars as pl
import pytest

from tests.closed_loop.test_clean_runs import CLEAN
from tests.rare.test_results import RESULTS as RARE
from tests.rare.test_results import script

RESULTS = RARE.parent / "closed-loop"
KEPT = json.loads((RESULTS / "seeds.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("machine", KEPT["machines"], ids=lambda machine: machine["machine"])
def test_lanes_are_as_the_runs_are(machine):
    """No run locks up and no lane; medians are near. Of two fast CPUs runs and lanes scatter by 30 % in pages a
    command, so that the ratio of two medians of 40 and 48 is known to 8 % (a standard error)."""
    assert machine["runs_locked"] == machine["lanes_locked"] == 0
    near = 0.16 if machine["machine"] == "two CPUs in turns, 2 ns" else 0.04
    for figure in ("pages_out", "commands", "pages_a_command", "writeback_mean"):
        runs, lanes = machine[figure]["runs"][1], machine[figure]["lanes"][1]
        assert abs(lanes / runs - 1) < near, figure


def test_on_two_cpus_in_turns_they_scatter_as_the_runs_do():
    """From the tenth to the ninetieth of a hundred, of what hangs on how often a turn ended inside swap_lock."""
    for machine in KEPT["machines"][2:]:
        for figure in ("pages_a_command", "one_page"):
            runs, lanes = (np.diff(machine[figure][of])[[0, -1]].sum() for of in ("runs", "lanes"))
            assert 0.5 < lanes / runs < 1.3, (machine["machine"], figure)


def test_nearly_at_once_rc8_locks_up_and_the_fix_does_not():
    rc8, fix = KEPT["at_once"]
    assert fix["fast"]["runs"] > 0
    assert fix["fast"]["runs_locked"] == fix["fast"]["lanes_locked"] == fix["slow"]["lanes_locked"] == 0
    assert rc8["fast"]["runs_locked"] > 0.8 * rc8["fast"]["runs"]
    assert rc8["fast"]["lanes_locked"] > 0.8 * rc8["fast"]["lanes"]


@pytest.mark.skipif(not CLEAN.is_dir(), reason="no clean runs beside the project")
def test_a_few_lanes_again(monkeypatch):
    """Six lanes of each machine are near the median of many, which a few of two CPUs miss by a tenth."""
    seeds = script("seeds", RESULTS)
    monkeypatch.setattr(seeds, "LANES", 6)
    real = pl.read_csv(RESULTS / "seeds.csv").with_columns(pages_a_command=pl.col("pages") / pl.col("commands"))
    for found, kept in zip(seeds.machines(CLEAN / "runs.csv", real), KEPT["machines"], strict=True):
        assert found["lanes_locked"] == 0
        assert found["pages_out"]["runs"] == kept["pages_out"]["runs"]
        assert abs(found["pages_out"]["lanes"][1] / kept["pages_out"]["lanes"][1] - 1) < 0.15

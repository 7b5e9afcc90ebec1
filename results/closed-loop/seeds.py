"""Many seeds of one machine: seeds.csv, runs of the real 2.6.25-rc8, beside as many lanes.

    python results/closed-loop/seeds.py ../shared/data/linux-2.6.25-rc8/clean/runs.csv    # a minute on a core

Writes seeds.json: of each machine the 10 %, 50 % and 90 % of each figure, over runs and over lanes, and how many of
CPUs that run nearly at once, or at once, lock up. docs/closed-loop-seeds.md tells how the runs were made.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastalloc.batch import check_sound
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import EVENT, EVENT_ROW, METRIC, SERIES
from fastalloc.kernels.lane.state import NS_PER_S, OUT_CTL, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.model_digest import model_digest
from fastalloc.scenario import Scenario, load_scenario
from fastalloc.verify.closed_loop.clean_runs import read_runs, scenario_of

HERE = Path(__file__).parent
LANES = 48
SECONDS = 75
# name: CPUs and ns an instruction of the runs, the clean run with that machine
MACHINES = {
    "one CPU, 2 ns": (1, 2, "rc8-s1"),
    "one CPU, 16 ns": (1, 16, "rc8-slow-s1"),
    "two CPUs in turns, 2 ns": (2, 2, "rc8-smp2b-s1"),
    "two CPUs in turns, 16 ns": (2, 16, "rc8-smp2-slow-s1"),
}
QUIET = {"workload.atomic_objects_per_s": 0, "workload.atomic_pages_per_s": 0}  # these runs had no such traffic
NEAR = 5000  # instructions: turns no longer than that are nearly at once
FIGURES = (
    "pages_out", "commands", "pages_a_command", "one_page", "bio_sleeps", "direct_reclaims", "writeback_most",
    "writeback_mean",
)  # fmt: skip


def lane_figures(scenario: Scenario, lane: int) -> dict[str, float]:
    """What a lane gives, in the terms of seeds.csv; ``pages`` are those of commands that were sent."""
    arrays = build_lane(scenario, lane, scenario.run.seed, full_events=True)
    run_lane(*arrays, SECONDS * NS_PER_S)
    check_sound(lane, arrays, scenario)
    out, metric = arrays.out, arrays.out.metric
    events = out.event[: out.ctl[OUT_CTL.events]]
    pages = events[events[:, EVENT_ROW.kind] == EVENT.command_start, EVENT_ROW.a]
    writeback = out.series[: out.ctl[OUT_CTL.samples], SERIES.writeback]
    sent = int(metric[METRIC.pages_swapped_out] - arrays.vm.ctl[VM.writeback])
    return {
        "pages_out": int(metric[METRIC.pages_swapped_out]),
        "commands": int(metric[METRIC.commands]),
        "pages_a_command": sent / max(1, int(metric[METRIC.commands])),
        "one_page": int((pages == 1).sum()),
        "bio_sleeps": int(metric[METRIC.bio_waits]),
        "direct_reclaims": int(metric[METRIC.allocstall]),
        "writeback_most": int(writeback.max()),
        "writeback_mean": float(writeback.mean()),
        "locked": int(metric[METRIC.livelock_5s]),
    }


def spread(values: Any) -> list[float]:
    """The 10 %, 50 % and 90 %."""
    return [round(float(each), 2) for each in np.percentile(np.asarray(values, float), [10, 50, 90])]


def machines(path: Path, real: pl.DataFrame) -> list[dict[str, Any]]:
    """A row a machine: its runs and its lanes."""
    rows = {row["run"]: row for row in read_runs(path)}
    found = []
    for name, (cpus, instruction_ns, run) in MACHINES.items():
        scenario = scenario_of(rows[run], load_scenario("swap-livelock"), path).with_settings(QUIET)
        lanes = [lane_figures(scenario, lane) for lane in range(LANES)]
        runs = real.filter(cpus=cpus, instruction_ns=instruction_ns, turn_instructions=0)
        entry: dict[str, Any] = {"machine": name, "runs": len(runs), "lanes": LANES}
        entry |= {"runs_locked": int(runs["locked"].sum()), "lanes_locked": sum(lane["locked"] for lane in lanes)}
        for figure in FIGURES:
            entry[figure] = {"runs": spread(runs[figure]), "lanes": spread([lane[figure] for lane in lanes])}
        found.append(entry)
        print(name, entry["lanes_locked"], file=sys.stderr, flush=True)
    return found


def at_once(path: Path, real: pl.DataFrame) -> list[dict[str, Any]]:
    """How many lock up: runs whose turns are nearly none, and lanes with a core for each CPU."""
    rows = {row["run"]: row for row in read_runs(path)}
    near = real.filter(pl.col("turn_instructions").is_between(1, NEAR), cpus=2)
    found = []
    for fix in (0, 1):
        entry: dict[str, Any] = {"fix": bool(fix)}
        for speed, instructions, run in (("fast", [1, 8], "rc8-smp2b-s1"), ("slow", [16], "rc8-smp2-slow-s1")):
            runs = near.filter(pl.col("instruction_ns").is_in(instructions), fix=fix)
            base = scenario_of({**rows[run], "fix": fix}, load_scenario("swap-livelock"), path)
            scenario = base.with_settings(QUIET | {"machine.shared_core": False})
            lanes = [lane_figures(scenario, lane)["locked"] for lane in range(LANES)]
            entry[speed] = {"runs": len(runs), "runs_locked": int(runs["locked"].sum())}
            entry[speed] |= {"lanes": LANES, "lanes_locked": int(sum(lanes))}
        found.append(entry)
    return found


def main(path: Path) -> None:
    """Both."""
    real = pl.read_csv(HERE / "seeds.csv").with_columns(pages_a_command=pl.col("pages") / pl.col("commands"))
    found = {"model": model_digest()[:12], "machines": machines(path, real), "at_once": at_once(path, real)}
    (HERE / "seeds.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

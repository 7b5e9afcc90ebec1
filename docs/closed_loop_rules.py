"""What each rule and input moves on the clean runs, and what other draws do: rules.json, draws.json, turns.json,
starts.json, waits.json.

``python -m docs.closed_loop_rules ../shared/data/linux-2.6.25-rc8/clean/runs.csv`` makes all five; names behind the
path (``rules turns``) choose. Most of the time compiles kernels: a rule that is code is left out in a copy of the
sources, which a process of its own runs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import fastalloc
from fastalloc.batch import run_machines
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import EVENT, METRIC, SERIES
from fastalloc.kernels.lane.state import OUT_CTL, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario import load_scenario
from fastalloc.verify.closed_loop import starts as reading
from fastalloc.verify.closed_loop.clean_runs import is_reference, read_runs, scenario_of
from fastalloc.verify.closed_loop.predict import ONE_CPU, predict_runs
from fastalloc.verify.closed_loop.starts import read_starts, series_of, spent, unit_ms
from fastalloc.verify.closed_loop.summary import summarise

RESULTS = Path(__file__).parents[1] / "results" / "closed-loop"
SOURCES = Path(fastalloc.__file__).parent
LANES = 8
ALL = "nothing: all rules"
# name; settings on top of a run's, a cost by a factor or as another cost of the run
INPUTS: dict[str, dict[str, Any]] = {
    ALL: {},
    "slot search": {"costs.swap_slot": 1},
    "CFS: the TSC moves its clock between ticks": {"machine.sched_clock": "tsc"},
    "CFQ: noop instead": {"queue.elevator": "noop"},
    "boot slabs": {"machine.boot_slabs": []},
    "mlocked pages: on no list": {"workload.locked_pages": ("lost", None)},
    "tmpfs inodes of 728 bytes: 672": {"machine.slab_caches": []},
    "`wake`, at 1 ns": {"costs.wake": 1},
    "`wake`, doubled": {"costs.wake": ("times", 2)},
    "`rcu_callback`, at 0": {"costs.rcu_callback": 0},
    "`unmap_page`, as a removed page": {"costs.unmap_page": ("as", "remove_page")},
}
# name; file below kernels/, what stands there, what is put in its place
RULES = {
    "RCU: radix nodes freed at once": [
        ("alloc/radix_tree.py", "slab_owner import slab_take", "slab_owner import slab_give, slab_take"),
        (
            "alloc/radix_tree.py",
            "call_rcu(mem, heap, vm, cpu, CALLBACK_NODE, handle)",
            "slab_give(mem, heap, vm.roles[ROLE.radix], cpu, handle)",
        ),
    ],
    "stock: 3 nodes, which is what a page needs": [
        ("alloc/radix_tree.py", "< ms.RADIX_STOCK:", "< (ms.RADIX_STOCK if gfp == 0x10 else 3):"),
        ("workload/copiers.py", "< ms.RADIX_STOCK:", "< 3:"),
    ],
    "11 nodes of a task's first request": [
        ("reclaim/writepage.py", "for _ in range(ms.RADIX_STOCK):", "for _ in range(0):"),
    ],
    "free pages a CPU counts for itself": [
        ("alloc/vmstat.py", "max(0, mem.zone[z, ZONE.free] - mem.zone[z, ZONE.vm_stat_lag])", "mem.zone[z, ZONE.free]"),
    ],
    "i_mutex of the copiers' directory": [
        ("workload/copiers.py", "        if vm.ctl[VM.i_mutex] != 0:", "        if vm.ctl[VM.i_mutex] > 1:"),
    ],
    "CFS: no next buddy": [("lane/cfs.py", "    c[CPU.buddy] = t\n    granularity", "    granularity")],
    "grouping by mobility": [
        (
            "alloc/buddy.py",
            "    order = mem.ctl[MEMCTL.pageblock_order]\n    if order == 0:\n        return MIGRATE.unmovable\n",
            "    order = mem.ctl[MEMCTL.pageblock_order]\n    return MIGRATE.unmovable\n",
        ),
        (
            "alloc/buddy.py",
            "    if mem.ctl[MEMCTL.pageblock_order] == 0:\n        return",
            "    if True:\n        return",
        ),
    ],
    "reclaim for a block: singly": [
        ("reclaim/page_lists.py", "    block = 1 << vm.task[t, TASK.order]\n", "    block = 1\n"),
        ("reclaim/vmscan.py", "    block = 1 << vm.task[t, TASK.order]\n", "    block = 1\n"),
    ],
    "CFS: forked tasks begin alike": [("machine/boot.py", "            wake_up_new_task(vm, t)\n", "")],
    "CFS: nothing is kept on an idle CPU": [
        (
            "lane/cfs.py",
            "    vruntime -= calc_delta(vm.ctl[VM.latency], NICE_0_LOAD, c[CPU.load])\n",
            "    if c[CPU.load] > 0:\n        vruntime -= calc_delta(vm.ctl[VM.latency], NICE_0_LOAD, c[CPU.load])\n",
        ),
    ],
    "CFS: the clock is time, and never stands": [
        ("lane/rq_clock.py", "    if vm.ctl[VM.clock_by_ticks] != 0:\n        passed = 0\n", ""),
        ("lane/rq_clock.py", "    limit = c[CPU.tick_clock] + vm.ctl[VM.jiffy_ns]\n", "    limit = 1 << 62\n"),
        ("lane/rq_clock.py", "    c[CPU.rq_clock] += now - c[CPU.idle_since]\n", ""),
        (
            "lane/rq_clock.py",
            "    c[CPU.rq_clock] = max(c[CPU.rq_clock], c[CPU.tick_clock] + vm.ctl[VM.jiffy_ns])\n",
            "",
        ),
    ],
    "CFQ: the oldest has no turn": [
        ("block/elevator.py", "    if ctl[IO.fifo_looked] != 0:\n", "    if ctl[IO.fifo_looked] >= 0:\n"),
    ],
    "CFS: sleepers gain nothing": [
        ("lane/cfs.py", "vruntime -= calc_delta(vm.ctl[VM.latency], NICE_0_LOAD, c[CPU.load])", "vruntime -= 0"),
    ],
}


def settings_for(row: dict[str, Any], base: Any, path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run, those that build on its own costs worked out."""
    scenario = scenario_of(row, base, path)
    costs = scenario.costs
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        name = key.removeprefix("costs.")
        if isinstance(value, tuple) and value[0] == "lost":  # the kernel has taken them for good
            free = dict(scenario.machine.free_pages)
            free["DMA32"] -= scenario.workload.locked_pages
            found["machine.free_pages"], value = free, 0
        elif isinstance(value, tuple):
            value = getattr(costs, name) * value[1] if value[0] == "times" else getattr(costs, value[1])
        found[key] = value
    return found


def measure(path: Path, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """A row of rules.json: the runs of one CPU, ``LANES`` lanes each, as predicted / real."""
    base = load_scenario("swap-livelock")
    by_shift: dict[str, list] = {}
    for row in read_runs(path):
        if is_reference(row) and row["smp"] == 1:
            by_shift.setdefault(json.dumps(settings_for(row, base, path, wanted)), []).append(row["run"])
    results = []
    for text, runs in by_shift.items():
        only = lambda row, runs=runs: row["run"] in runs  # noqa: E731
        results += predict_runs(path, lanes=LANES, only=only, settings=json.loads(text), read=False)
    ratios: dict[str, list[float]] = {}
    for result in results:
        for figure in result.figures:
            if figure.real:
                ratios.setdefault(figure.name, []).append(figure.median / figure.real)
    spread = lambda q: {name: round(float(np.quantile(values, q)), 4) for name, values in ratios.items()}  # noqa: E731
    return {
        "without": name,
        "lanes": sum(result.lanes for result in results),
        "livelocked": sum(result.livelocked for result in results),
        "out_of_memory": sum(result.out_of_memory for result in results),
        "never_swapped": sum(result.never_swapped for result in results),
        "medians": spread(0.5),
        "q10": spread(0.1),
        "q90": spread(0.9),
    }


def left_out(path: Path, name: str, changes: list[tuple[str, str, str]]) -> dict[str, Any]:
    """The row of a rule that is code, by a copy of the sources without it."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "fastalloc"
        shutil.copytree(SOURCES, package, ignore=shutil.ignore_patterns("__pycache__"))
        for file, stands, put in changes:
            source = package / "kernels" / file
            text = source.read_text(encoding="utf-8")
            if text.count(stands) != 1:
                raise SystemExit(f"{file}: expected once: {stands}")
            source.write_text(text.replace(stands, put), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": f"{folder}:{Path(__file__).parents[1]}"}
        command = [sys.executable, "-m", "docs.closed_loop_rules", str(path), "--row", name]
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(ran.stdout.splitlines()[-1])


DRAWS = ["rc8-s1", "rc8-s2", "rc8-s3", "rc8-s5", "rc8-writers0", "rc8-copiers12", "rc8-copiers96", "rc8-slow-s1"]
LIVES = {
    "rc8-s1": 240,
    "rc8-slow-s1": 60,
    "rc8-copiers0": 60,
    "rc8-copiers12": 120,
    "rc8-smp2b-s1": 60,
    "rc8-smp2-slow-s1": 40,
}
STEP_S = 0.05


def first_swap(scenario: Any, lane: int, until_s: float) -> tuple[float, float]:
    """When memory was full and when the first page was out, s, to ``STEP_S``."""
    arrays = build_lane(scenario, lane, 1)
    full = out = float("nan")
    for step in range(1, round(until_s / STEP_S)):
        run_lane(*arrays, round(step * STEP_S * 1e9))
        if np.isnan(full) and arrays.out.metric[METRIC.allocstall] + arrays.out.metric[METRIC.kswapd_wakes] > 0:
            full = step * STEP_S
        if arrays.out.metric[METRIC.pages_swapped_out] > 0:
            out = step * STEP_S
            break
    return full, out


def draws(path: Path) -> dict[str, Any]:
    """draws.json: other start times of a few runs, and many lanes of a few."""
    base = load_scenario("swap-livelock")
    rows = {row["run"]: row for row in read_runs(path)}
    record: dict[str, Any] = {
        "what": "the first swap-out of other draws of start times: share that comes earlier than the run's, quantiles"
        " in s; and lanes of a few runs that lock up or run out of memory",
        "draws": [],
        "lanes": [],
    }
    for name in DRAWS:
        scenario = scenario_of(rows[name], base, path)
        seen = np.array([first_swap(scenario, lane, 30.0) for lane in range(300)])
        real = rows[name]["first_swap_s"]
        low, middle, high = (round(float(q), 2) for q in np.nanquantile(seen[:, 1], (0.05, 0.5, 0.95)))
        record["draws"].append(
            {
                "run": name,
                "seed": rows[name]["seed"],
                "draws": len(seen),
                "real_s": real,
                "earlier": round(float(np.mean(seen[:, 1] < real)), 3),
                "median_s": middle,
                "low_s": low,
                "high_s": high,
                "median_full_s": round(float(np.nanmedian(seen[:, 0])), 2),
            }
        )
    for name, lanes in LIVES.items():
        result = predict_runs(path, lanes=lanes, only=lambda row, name=name: row["run"] == name, read=False)[0]
        record["lanes"].append(
            {
                "run": name,
                "lanes": lanes,
                "livelocked": result.livelocked,
                "out_of_memory": result.out_of_memory,
                "never": result.never_swapped,
                "medians": {figure.name: round(figure.median, 3) for figure in result.figures},
            }
        )
    return record


def commands_of_one_page(path: Path, name: str, lanes: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Lanes of a run on two CPUs in turns: their commands of one page, their pages a command, how many lock up."""
    row = next(row for row in read_runs(path) if row["run"] == name)
    scenario = scenario_of(row, load_scenario("swap-livelock"), path).with_settings(settings)
    one, share, livelocked = [], [], 0
    for lane in range(lanes):
        arrays = build_lane(scenario, lane, 1, full_events=True)
        run_lane(*arrays, round(scenario.run.duration_s * 1e9))
        out = arrays.out
        rows = out.event[: out.ctl[OUT_CTL.events]]
        one.append(int(((rows[:, 1] == EVENT.command_start) & (rows[:, 4] == 1)).sum()))
        metric = out.metric
        share.append((metric[METRIC.pages_swapped_out] - arrays.vm.ctl[VM.writeback]) / metric[METRIC.commands])
        livelocked += int(metric[METRIC.livelock_5s])
    return {
        "lanes": lanes,
        "livelocked": livelocked,
        "one_page_least": min(one),
        "one_page_median": float(np.median(one)),
        "one_page_most": max(one),
        "pages_per_cmd_least": round(float(min(share)), 1),
        "pages_per_cmd_median": round(float(np.median(share)), 1),
        "pages_per_cmd_most": round(float(max(share)), 1),
    }


def turns(path: Path) -> dict[str, Any]:
    """turns.json: runs on two CPUs in turns, with swap_lock as it is and held for next to no time."""
    runs = []
    for row in read_runs(path):
        if is_reference(row) and row["smp"] > 1 and not row["fix"]:
            name = row["run"]
            runs.append(
                {
                    "run": name,
                    "one_page": json.loads(row["hist_w"])["1"],
                    "pages_per_cmd": row["pages_per_cmd"],
                    "lanes": commands_of_one_page(path, name, 24, {}),
                    "without": commands_of_one_page(path, name, 8, {"costs.swap_lock": 1}),
                }
            )
    return {"what": "commands of one page, two CPUs in turns; without: swap_lock held for 1 ns", "runs": runs}


BULK = 100  # pages: the first swap-out is under way
NEAR_TICKS = (1, 4)  # in place of the two by which starts are read


def near(path: Path) -> list[dict[str, Any]]:
    """How far the first swap-out depends on how near a sample must be."""
    found, own = [], reading.NEAR_TICKS
    for ticks in NEAR_TICKS:
        reading.NEAR_TICKS = float(ticks)
        results = predict_runs(path, lanes=8, only=lambda row: is_reference(row) and row["smp"] == 1)
        one = next(each for each in summarise(results) if each.view == ONE_CPU)
        first = next(each for each in one.spreads if each.figure == "first_swap_s")
        found.append({"ticks": ticks, "first_swap": round(first.median, 4), "within": first.within})
    reading.NEAR_TICKS = own
    return found


def forks(path: Path) -> list[dict[str, Any]]:
    """How likely the samples of runs are where tasks begin in the order of their forks, and where all begin alike."""
    base, found, own = load_scenario("swap-livelock"), [], reading.FORK_MS
    for row in read_runs(path):
        if row["run"] in DRAWS:
            entry: dict[str, Any] = {"run": row["run"]}
            for key, apart in (("forked", own), ("alike", 0.0)):
                reading.FORK_MS = apart
                told = [
                    read_starts(row, scenario_of(row, base, path), series_of(path, row), 1, seed) for seed in (1, 2, 3)
                ]
                entry[key] = {
                    "log_likelihood": round(float(np.mean([each.log_likelihood for each in told])), 2),
                    "started": round(float(np.mean([each.started for each in told])), 2),
                    "drawn": round(told[0].drawn, 2),
                }
            found.append(entry)
    reading.FORK_MS = own
    return found


def starts(path: Path) -> dict[str, Any]:
    """starts.json: what runs on one CPU did times the costs over their CPU time, and the first pages that went out."""
    base = load_scenario("swap-livelock")
    shares, waits, pages, ahead = [], [], {}, {}
    for row in read_runs(path):
        if row["smp"] > 1 or not is_reference(row):
            continue
        frame = pl.read_csv(path.parent / "ts" / f"{row['run']}.csv.gz", infer_schema_length=None)
        unit = unit_ms(scenario_of(row, base, path))
        ends, done = spent(series_of(path, row), unit)
        busy = np.diff(ends - frame["idle_us"].to_numpy()[: len(ends)] / 1000)
        shares += [float(sum(spent_ms) / ms) for spent_ms, ms in zip(done[2:], busy[2:], strict=True) if ms > 100]
        out = frame["pswpout"].to_numpy()
        times = frame["t_ns"].to_numpy() / 1e9
        first, bulk = int((out > 0).argmax()), int((out > BULK).argmax())
        if first < bulk:
            pages[row["run"]] = int(out[bulk - 1])
            ahead[row["run"]] = round(float(times[bulk] - times[first]), 3)
        if row["shift"] == 1 and row["mem"] == 512:
            waits.append(float(times[bulk] - times[len(ends) - 1]))
    return {
        "what": "runs on one CPU: CPU time accounted for before memory was full; pages out before the bulk of them",
        "accounted_least": round(min(shares), 4),
        "accounted_median": round(float(np.median(shares)), 4),
        "accounted_most": round(max(shares), 4),
        "reclaim_to_bulk_s": round(float(np.median(waits)), 3),
        "early": {
            "runs": len(pages),
            "of": sum(is_reference(row) and row["smp"] == 1 for row in read_runs(path)),
            "pages": pages,
            "ahead_s": ahead,
        },
        "near": near(path),
        "forks": forks(path),
    }


WAITS = ("bwait", "vwait", "rqwait", "cwait")  # of a run's samples: tasks asleep in each
LANE_WAITS = ("bio_waiters", "request_waiters", "congestion_waiters")
WAITED_AT_S = (10, 20, 40)  # most within half a second of it
SAMPLE_S = 0.25


def elsewhere(waiting: np.ndarray, tasks: int) -> list[int]:
    """Tasks that are in none of the waits, at the moments looked at: the fewest of five samples."""
    near = [slice(max(0, round(at / SAMPLE_S) - 2), round(at / SAMPLE_S) + 3) for at in WAITED_AT_S]
    return [tasks - int(waiting[each].max()) for each in near]


def waits(path: Path) -> dict[str, Any]:
    """waits.json: how many tasks are in none of the waits that a run's samples count, in the run and in lanes."""
    base, found = load_scenario("swap-livelock"), []
    for row in read_runs(path):
        if not is_reference(row) or row["shift"] != 1:
            continue  # the slow CPU has them all later
        scenario = scenario_of(row, base, path)
        started = read_starts(row, scenario, series_of(path, row), LANES, 1) if row["smp"] == 1 else None
        frame = pl.read_csv(path.parent / "ts" / f"{row['run']}.csv.gz", infer_schema_length=None)
        tasks = row["copiers"] + row["writers"] + 1  # and kswapd
        lanes = []
        for lane in range(LANES):
            machine = scenario
            if started is not None:
                machine = scenario.with_settings({"workload.start_ms": started.start_ms[lane].tolist()})
            for _, result in run_machines([machine], [lane], seed=1):
                series = result.series[:, [SERIES.names.index(name) for name in LANE_WAITS]]
                lanes.append(elsewhere(series.sum(1, dtype=np.int64), tasks))
        found.append(
            {
                "run": row["run"],
                "tasks": tasks,
                "real": elsewhere(frame.select(pl.sum_horizontal(WAITS)).to_series().to_numpy(), tasks),
                "median": np.median(lanes, 0).tolist(),
                "most": np.max(lanes, 0).tolist(),
            }
        )
    real, middle, most = (np.array([each[key] for each in found]) for key in ("real", "median", "most"))
    return {
        "what": "tasks in none of the waits for bio, biovec, request and congestion_wait, the fewest of five samples",
        "at_s": WAITED_AT_S,
        "least": int(real[real > 1].min()),
        "most": int(real.max()),
        "some_at_10_s": int((real[:, 0] > 1).sum()),
        "some_at_40_s": int((real[:, -1] > 1).sum()),
        "in_runs": real.sum(0).tolist(),
        "in_lanes": [round(float(each)) for each in middle.sum(0)],
        "beyond_lanes": int((real > most).sum()),
        "of": real.size,
        "count": len(found),
        "runs": found,
    }


def rules(path: Path) -> dict[str, Any]:
    """rules.json: a row an input and a rule, the first with none of them left out."""
    found = [measure(path, name, wanted) for name, wanted in INPUTS.items()]
    found[1:1] = [left_out(path, name, changes) for name, changes in RULES.items()]
    return {"rules": found}


FILES = {"starts": starts, "rules": rules, "turns": turns, "draws": draws, "waits": waits}


def main() -> None:
    """Measure, and write the files that are named, or all."""
    path = Path(sys.argv[1])
    if "--row" in sys.argv:
        print(json.dumps(measure(path, sys.argv[-1], {})))
        return
    unknown = set(sys.argv[2:]) - FILES.keys()
    if unknown:
        raise SystemExit(f"{', '.join(sorted(unknown))}: expected {', '.join(FILES)}")
    for name in sys.argv[2:] or FILES:
        (RESULTS / f"{name}.json").write_text(json.dumps(FILES[name](path), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

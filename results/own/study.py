"""The files of docs/own beside the kernel's own rules: under recorded traces of 7.3, and in the closed loop.

    python results/own/study.py TRACES     # a folder with RUN.events.parquet of 7.3 and the tables beside each

Writes replays.csv (a row a run and configuration), lanes.csv (a row a policy), ledger.csv (objects by who allocated
their slab and who took them), broken.json (what the check of broken.py finds); docs/own.md quotes them and
draws its charts from them.
"""

import json
import sys
from pathlib import Path

import polars as pl

from fastalloc.batch import run_machines
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.scenario import load_scenario, with_policies
from fastalloc.trace.replay.recording import beside, open_recording
from fastalloc.trace.replay.results import summary
from fastalloc.verify.own.check import check

HERE = Path(__file__).parent
FILES = HERE.parents[1] / "docs" / "own"
ALLOCATORS = ("lifetime_classes.py", "task_arenas.py", "buddy_only.py")
WHAT_IFS = {
    "adaptive_sheaf.py": f"policy={FILES / 'adaptive_sheaf.py'}",
    **{f"capacity {size}": f"sheaf_capacity={size}" for size in (4, 8, 16, 32, 60)},
    **{name: f"allocator={FILES / name}" for name in ALLOCATORS},
}
POLICIES = ("fix", "slab", "sense_slots.py", "lifetime_classes.py", "task_arenas.py", "buddy_only.py")
LANES, SECONDS = 16, 15.0
FIGURES = ("livelock_5s", "sense_fail", "commands", "pages_swapped_out", "max_slab_pages", "slab_slow", "slab_locks")


def replays(path: Path) -> list[dict[str, object]]:
    """What each configuration comes to in one run."""
    run = path.name.split(".")[0]
    boot = "slab_nomerge slab_max_order=0" if "maxorder0" in run else "slab_nomerge" if "nomerge" in run else ""
    boot = "slab_nomerge" if "numa2" in run else boot
    recording = open_recording(path, beside(path, "slabstate"), None, "7.3", boot)
    found = []
    predictions = recording.run(list(WHAT_IFS.values()), threads=1)
    for name, prediction in zip(("as traced", *WHAT_IFS), predictions, strict=True):
        told = summary(prediction)
        caches, counts = prediction.result.caches, prediction.result.counts
        row = {"run": run, "configuration": name, "operations": counts["allocations"] + counts["frees"]}
        row["new_pages"] = int(told["new_pages"]["median"])
        held = ("peak_pages", "end_pages", "peak_waste_kb")
        if name in ALLOCATORS:  # they begin with the old objects packed: what they hold does not compare
            row |= dict.fromkeys(held)
        else:
            figures = (told["peak_pages"]["median"], told["end_pages"]["median"], told["peak_waste_bytes"] // 1024)
            row |= {figure: int(value) for figure, value in zip(held, figures, strict=True)}
        row["slow_allocations"] = int(caches["alloc_slow"].sum())
        row["locks"] = int(caches["list_lock"].sum())
        found.append(row)
    return found


def lanes() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The same lanes of a small machine under each policy: figures, and the ledger of the caches of the swap path."""
    base = load_scenario("swap-livelock-34m").with_settings({"run.duration_s": SECONDS, "run.series_ms": 5000})
    names = [name if not name.endswith(".py") else str(FILES / name) for name in POLICIES]
    scenario = with_policies(base, names)
    variants = [variant.name for variant in scenario.variants]
    machines = [scenario.variant(name) for name in variants]
    totals: dict[str, dict[str, object]] = {
        name: {"policy": name, "lanes": LANES} | dict.fromkeys(FIGURES, 0) for name in variants
    }
    ledgers = {}
    for i, result in run_machines(machines, range(LANES), seed=1, threads=1):
        row = totals[variants[i]]
        for figure in FIGURES:
            row[figure] += int(result.metrics[METRIC.names.index(figure)])
        ledgers[variants[i]] = ledgers.get(variants[i], 0) + result.ledger.sum(axis=1)
    owners = [
        {"policy": name, "owner": WHO.names[owner], "taker": WHO.names[taker], "objects": int(table[owner, taker])}
        for name, table in ledgers.items()
        for owner in (WHO.bio, WHO.sense)
        for taker in (WHO.bio, WHO.sense)
    ]
    return list(totals.values()), owners


def broken() -> None:
    """What the check of a file that is wrong finds: the lines of each fault."""
    found = check((FILES / "broken.py").read_text(encoding="utf-8"), "broken.py", {})
    (HERE / "broken.json").write_text(json.dumps([fault.lines() for fault in found.faults], indent=1) + "\n")


def main() -> None:
    rows: list[dict[str, object]] = []
    for path in sorted(Path(sys.argv[1]).glob("*k73*.events.parquet")):
        rows += replays(path)
        print(path.name, flush=True)
    pl.DataFrame(rows).write_csv(HERE / "replays.csv")
    broken()
    figures, owners = lanes()
    pl.DataFrame(figures).write_csv(HERE / "lanes.csv")
    pl.DataFrame(owners).write_csv(HERE / "ledger.csv")


if __name__ == "__main__":
    main()

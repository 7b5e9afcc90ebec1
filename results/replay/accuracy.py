"""Predicted against real: recorded kernels through their own rules, with their lists known and with them withheld.

    PYTHONPATH=. python results/replay/accuracy.py FOLDER NAME     # FOLDER with runs.csv and traces/, NAME 6.x or 7.x

Writes accuracy-NAME.csv, for 6.x merging.csv too (what merging saves, in kernels and predicted); ``make tables`` writes
the tables of docs/replay-trust.md and docs/replay-7x.md from them.
"""

import csv
import sys
import tempfile
from pathlib import Path

import polars as pl
from tests.trace.test_merging import merged_groups
from tests.trace.withheld import first_pfn, write_readings

from fastalloc.trace.replay.check import Check, check, read_summary
from fastalloc.trace.replay.recording import beside, open_recording

HERE = Path(__file__).parent


def withheld(path: Path, row: dict[str, str]) -> Check:
    """The run with what sysfs said just before it instead of its lists; all but the warm one were shrunk before."""
    with tempfile.TemporaryDirectory() as folder:
        slabs = write_readings(path, Path(folder))
        zones = (f"Node {node}, zone Normal\n  start_pfn: {pfn}\n" for node, pfn in enumerate(first_pfn(path)))
        (Path(folder) / f"{row['run']}.zoneinfo").write_text("".join(zones))
        (Path(folder) / "record.txt").write_text(f"shrunk={int('warm' not in row['run'])}\n")
        recording = open_recording(path, None, None, row["kernel"], row["boot_args"], slabs=slabs, starts=1)
    return check(recording.run([])[0], read_summary(beside(path, "summary")), None)


def row_of(path: Path, row: dict[str, str]) -> dict[str, object]:
    """One run: real and predicted pages, caches exact at the peak; errors with the lists withheld."""
    recording = open_recording(path, beside(path, "slabstate"), None, row["kernel"], row["boot_args"])
    found = check(recording.run([])[0], read_summary(beside(path, "summary")), None)
    told: dict[str, object] = {"run": row["run"], "probes": int(row["slab_new_probe"]) > 0}
    for figure, real, mine, error in found.totals.select("figure", "real", "median", "error").iter_rows():
        told |= {f"{figure}_real": real, figure: int(mine), f"{figure}_error": round(error * 100, 2)}
    told |= {"exact": round(found.exact_at_peak * 100, 1), "caches": len(found.caches), "within": found.ok}
    blind = withheld(path, row)
    told |= {
        f"{figure}_withheld": round(error * 100, 2) for figure, error in blind.totals.select("figure", "error").rows()
    }
    near = (blind.caches["end_slabs"] - blind.caches["end"]).abs() <= 1
    return told | {"near_withheld": round(100 * near.sum() / max(len(near), 1), 1)}


def main(folder: Path, name: str) -> None:
    """Run all whose lists before the trace are known, write the figures."""
    with (folder / "runs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "boot" not in row["run"]]
    table = pl.DataFrame([row_of(folder / "traces" / f"{row['run']}.events.parquet", row) for row in rows])
    table = table.sort("probes", "run", descending=[True, False])
    table.write_csv(HERE / f"accuracy-{name}.csv")
    if name == "6.x":
        with tempfile.TemporaryDirectory() as layouts:
            merged_groups(folder, Path(layouts) / "merging.csv").drop("caches").write_csv(HERE / "merging.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

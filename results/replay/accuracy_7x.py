"""Predicted against real: recorded 7.2 and 7.3 kernels through their own rules.

    python results/replay/accuracy_7x.py FOLDER     # with runs.csv and traces/, as FACTS of the recordings describe

Writes accuracy-7.x.csv and prints the table of docs/replay-7x.md.
"""

import csv
import sys
from pathlib import Path

import polars as pl

from fastalloc.trace.replay.check import check, read_summary
from fastalloc.trace.replay.recording import beside, open_recording

HERE = Path(__file__).parent


def row_of(path: Path, row: dict[str, str]) -> dict[str, object]:
    """One run: real and predicted pages, caches exact at the peak."""
    recording = open_recording(path, beside(path, "slabstate"), None, row["kernel"], row["boot_args"])
    found = check(recording.run([])[0], read_summary(beside(path, "summary")), None)
    told: dict[str, object] = {"run": row["run"], "probes": int(row["slab_new_probe"]) > 0}
    for figure, real, mine, error in found.totals.select("figure", "real", "median", "error").iter_rows():
        told |= {f"{figure}_real": real, figure: int(mine), f"{figure}_error": round(error * 100, 2)}
    return told | {"exact": round(found.exact_at_peak * 100, 1), "caches": len(found.caches), "within": found.ok}


def main(folder: Path) -> None:
    """Run all, write the table."""
    with (folder / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pl.DataFrame([row_of(folder / "traces" / f"{row['run']}.events.parquet", row) for row in rows])
    table = table.sort("probes", "run", descending=[True, False])
    table.write_csv(HERE / "accuracy-7.x.csv")
    print("| run | probes | new pages | peak | end | exact at the peak |")
    print("|---|---|---:|---:|---:|---:|")
    for row in table.iter_rows(named=True):
        figures = " | ".join(
            f"{row[name]:,} for {row[f'{name}_real']:,} ({row[f'{name}_error']:+.2f} %)"
            for name in ("new", "peak", "end")
        )
        probes = "yes" if row["probes"] else "no"
        print(f"| {row['run']} | {probes} | {figures} | {row['exact']:.0f} % of {row['caches']} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

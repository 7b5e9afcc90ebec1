"""The figures of the README, from results/. ``make tables`` runs this; a test holds the README against it.

``python -m docs.readme DATASET`` draws its picture again, from a dataset of ``fastalloc run swap-livelock``.
"""

import json
import sys
from pathlib import Path

from benchmarks.tables import latest, number, replaced

from fastalloc.report.terminal import count

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
VERDICTS = ROOT / "results" / "swap-livelock" / "swap-livelock.json"


def verdict() -> str:
    """The table of ``fastalloc run swap-livelock``, from the JSON that it printed."""
    lines = [
        "| kernel | machines that livelocked | longest stall | sense failures a machine | swapped out |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in json.loads(VERDICTS.read_text(encoding="utf-8")):
        low, high = row["livelocked_5s_interval"]
        lines.append(
            f"| `{row['variant']}`: {row['title']} | {row['livelocked_5s']} of {row['lanes']} "
            f"({100 * low:.0f}–{100 * high:.0f} %) | {row['longest_stall_s']:.1f} s | {count(row['sense_failures'])} | "
            f"{row['swapped_out_per_s'] * row.get('page_kb', 4) / 1024:.1f} MB/s |"
        )
    return "\n".join(lines) + "\n"


def times() -> str:
    """What the first run and later ones wait for."""
    rows = latest("startup")
    assert rows is not None
    found = {f"{row['work']}: {row['contestant']}": row["value"] for row in rows.iter_rows(named=True)}
    cold = next(value for name, value in found.items() if "first tick" in name and name.endswith("compiling"))
    warm = next(value for name, value in found.items() if "first tick" in name and name.endswith("compiled"))
    return (
        f"The first run compiles the simulation for your CPU, once per version: {number(cold)} s on two cores "
        f"(`fastalloc bench startup`). Later ones start within {number(warm)} s. `fastalloc explain` and "
        "`fastalloc caches` need none of it.\n"
    )


def text() -> str:
    """The README as it should be."""
    found = README.read_text(encoding="utf-8")
    for name, made in (("verdict", verdict), ("times", times)):
        found = replaced(found, name, made())
    return found


def draw(dataset: str) -> None:
    """The picture of the README: each machine over time."""
    from fastalloc import open_dataset
    from fastalloc.notebook import strips_svg

    (ROOT / "docs" / "_static" / "strips.svg").write_text(strips_svg(open_dataset(dataset)), encoding="utf-8")


if __name__ == "__main__":
    README.write_text(text(), encoding="utf-8")
    for given in sys.argv[1:]:
        draw(given)

"""The tables of docs/how-true-is-it.md on golden cases; ``make tables`` writes them from results/golden.json.

``python -m docs.golden FOLDER... > results/golden.json`` makes that file: cases and rows a build, as ``fastalloc verify
FOLDER... --json`` tells them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.tables import replaced

PAGE = Path(__file__).with_name("how-true-is-it.md")
RESULTS = Path(__file__).parent.parent / "results"
WORDS = {
    "slub64": "SLUB of 2.6.25-rc8, 64-byte lines",
    "slub64_nodebug": "without CONFIG_SLUB_DEBUG",
    "slub128": "128-byte lines",
    "slub64_numa2": "two nodes",
    "slab64": "SLAB",
    "slab128": "SLAB, 128-byte lines",
    "slab64_numa2": "SLAB on two nodes, alien arrays",
    "slob64": "SLOB",
    "slob128": "SLOB, 128-byte lines",
    "cpupartial612": "SLUB of 6.12, per-CPU partial lists",
    "sheaves73": "SLUB of 7.3, sheaves",
    "sheaves73_numa2": "SLUB of 7.3 on two nodes",
    "tables": "layouts and watermarks, of 2.6.25-rc8 and of running kernels",
    "6.1, 6.12": "who merges with whom, in running kernels",
}


def summary(folders: list[str]) -> dict[str, dict[str, int]]:
    """Cases and rows of each build below the folders, and how many rows are exact."""
    command = [sys.executable, "-m", "fastalloc.cli.main", "verify", *folders, "--json"]
    told: Any = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    found: dict[str, dict[str, int]] = {}
    for case in told["cases"]:
        build = found.setdefault(case["build"] or "tables", {"cases": 0, "rows": 0, "exact": 0})
        build["cases"] += 1
        build["rows"] += case["rows"]
        build["exact"] += case["exact"]
    return found


def table() -> str:
    """A row a build."""
    builds = json.loads((RESULTS / "golden.json").read_text(encoding="utf-8"))
    lines = ["| build | | cases | rows | exact |", "|---|---|---:|---:|---:|"]
    for name in sorted(builds, key=lambda name: [*WORDS, name].index(name)):
        of = builds[name]
        lines.append(f"| `{name}` | {WORDS.get(name, '')} | {of['cases']} | {of['rows']:,} | {of['exact']:,} |")
    total = {key: sum(of[key] for of in builds.values()) for key in ("cases", "rows", "exact")}
    lines.append(f"| all | | {total['cases']} | {total['rows']:,} | {total['exact']:,} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with its table."""
    return replaced(PAGE.read_text(encoding="utf-8"), "golden", table())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(summary(sys.argv[1:]), indent=1))
    else:
        PAGE.write_text(page(), encoding="utf-8")

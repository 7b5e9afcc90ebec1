"""What recording costs a load of forks: the load alone and under record.sh, in turn.

    sudo python results/replay/overhead.py [TABLE]      # some 30 s; as root, on an idle machine

Writes overhead.csv (or TABLE): medians, milliseconds, and by what share the recorded load took longer. The load times
itself, so that what the script reads before and writes behind it is not in it; one run before warms up.
"""

import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "src" / "fastalloc" / "record" / "record.sh"
PROCESSES, TURNS = 3000, 5
LOAD = """a=$(date +%s%N); i=0; while [ $i -lt {} ]; do /bin/true; i=$((i+1)); done; b=$(date +%s%N)
echo $(( (b-a)/1000000 )) > {}"""


def milliseconds(folder: Path, *under: str) -> int:
    """One run of the load ``under`` a command."""
    told = folder / "told"
    subprocess.run([*under, "sh", "-c", LOAD.format(PROCESSES, told)], check=True, capture_output=True)
    return int(told.read_text())


def main(table: Path) -> None:
    """Measure, and write ``table``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        milliseconds(folder)
        plain, recorded = [], []
        for turn in range(TURNS):
            plain.append(milliseconds(folder))
            recorded.append(milliseconds(folder, "sh", str(SCRIPT), "-o", str(folder / f"run{turn}"), "--"))
    alone, under = statistics.median(plain), statistics.median(recorded)
    version = ".".join(platform.release().split("-")[0].split(".")[:2])
    row = (version, os.cpu_count(), PROCESSES, alone, under, round(under / alone - 1, 3))
    with table.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("kernel", "cpus", "processes", "plain_ms", "recorded_ms", "more"), row])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "overhead.csv")

"""``python -m tests.faults.kills``: commands killed at random moments and on disks that fill up; nothing torn is left.

Each command writes into a folder of its own. It is killed with SIGKILL at moments that are uniform over the time that
it takes undisturbed, or runs on a tmpfs that is too small for what it writes. What it leaves must be whole or not
there, it must say what is wrong in a line, and run once more it must end with the same files as if nothing had been.
Writes the counts, of which ``make tables`` makes a table.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl
import tomli_w

from fastalloc.scenario import load_scenario
from fastalloc.store import open_dataset
from fastalloc.store.check import check_dataset
from tests.closed_loop.small import SHRUNK

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "results" / "kills.json"
TRACE = ROOT / "tests" / "data" / "traces" / "d_stack_k612.events.parquet"
KILLS = 100
POINTS = 20  # of a full disk
LANES = 192  # three shards
MOST_S = 600


class Command(NamedTuple):
    """A command of the shell, and how what it leaves in its folder is looked at."""

    words: tuple[str, ...]
    left: Callable[[Path], dict[str, str]]  # digest of each thing that is there; raises AssertionError if it is torn
    goes_on: bool = False  # with what the same command left before
    writes: bool = True  # and not only to stdout


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def plain_files(folder: Path) -> dict[str, str]:
    """Of every file but temporary ones and locks: Parquet must be readable, JSON and pages complete."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        data = file.read_bytes()
        if file.suffix == ".parquet":
            data = pl.read_parquet(file).write_ndjson().encode()
        elif file.suffix == ".json":
            data = " ".join(json.loads(data)).encode()  # its values tell how long it took
        elif file.suffix == ".html":
            assert data.rstrip().endswith(b"</html>"), f"{file} is torn"
            data = b"whole"
        found[str(file.relative_to(folder))] = digest(data)
    return found


def rows(folder: Path) -> dict[str, str]:
    """Of each lane of the dataset in a folder; every file of it is sound, and it holds the lanes it tells of."""
    path = folder / "d"
    if not (path / "manifest.json").exists():
        return {}
    faults = [fault for fault in check_dataset(path).faults if "temporary file" not in fault.message]
    assert not faults, faults
    if not any((path / "runs").glob("*.parquet")):
        return {}
    dataset = open_dataset(path)
    found = dataset.runs.collect()
    told = sum(variant.get("lanes", 0) for variant in dataset.manifest["variants"])
    assert dataset.manifest.get("kind") == "sweep" or len(found) >= told
    return {str(row["id"]): digest(repr(sorted(row.items())).encode()) for row in found.iter_rows(named=True)}


def lanes_of_rare(folder: Path) -> dict[str, str]:
    """Of each lane that ``rare`` keeps; its files are whole, and no lane before another is missing."""
    path = folder / "d"
    if (path / "rare.json").exists():
        json.loads((path / "rare.json").read_text())
    if not (path / "lanes.parquet").exists():
        return {}
    found = pl.read_parquet(path / "lanes.parquet").sort("lane")
    assert found["lane"].to_list() == list(range(len(found)))
    return {str(row["lane"]): digest(repr(sorted(row.items())).encode()) for row in found.iter_rows(named=True)}


def nothing(folder: Path) -> dict[str, str]:
    """Of a command that writes no file."""
    assert not list(folder.iterdir())
    return {}


def commands(inputs: Path) -> dict[str, Command]:
    """What is killed; ``inputs`` gets what they read."""
    small = load_scenario("swap-livelock").with_settings(SHRUNK | {"run.duration_s": 2.5, "workload.tree_files": 400})
    (inputs / "s.toml").write_text(tomli_w.dumps(small.model_dump(exclude_none=True) | {"name": "s"}))
    (inputs / "w.toml").write_text(
        f'name = "w"\nscenario = "s.toml"\nlanes = {LANES}\nvariants = ["rc8"]\n[axes]\n"host.queue_depth" = [1]\n'
    )
    few = small.with_settings({"run.duration_s": 5.5, "run.series_ms": 1000})
    (inputs / "few.toml").write_text(tomli_w.dumps(few.model_dump(exclude_none=True) | {"name": "few"}))
    done = start(("run", f"{inputs}/s.toml", "--lanes", "8", "--seconds", "2", "--out", f"{inputs}/made/d"), inputs)
    _, err = done.communicate(timeout=MOST_S)
    assert done.returncode == 0, err.decode()
    run = ("run", f"{inputs}/s.toml", "--lanes", str(LANES), "--variant", "rc8", "--seconds", "1", "--out", "d")
    board = ("compare", f"{inputs}/s.toml", "--policies", "fix", "--lanes", "96", "--seconds", "1", "--out", "d")
    rare = ("rare", f"{inputs}/few.toml", "--lanes", str(LANES), "--width", "1.01", "--out", "d", "--json")
    search = ("frontier", f"{inputs}/few.toml", "--of", "machine.min_free_kbytes", "--where", "livelock<0.4")
    return {
        "run": Command(run, rows),
        "compare": Command(board, rows),
        "sweep": Command(("sweep", f"{inputs}/w.toml", "--out", "d", "--batch", "16"), rows, goes_on=True),
        "rare": Command(rare, lanes_of_rare, goes_on=True),
        "frontier": Command(
            (*search, "--from", "24", "--to", "400", "--lanes", "16", "--most-lanes", "16", "--json"),
            nothing,
            writes=False,
        ),
        "replay": Command(("replay", str(TRACE), "--kernel", "6.12", "--no-exact", "--out", "r"), plain_files),
        "trace convert": Command(("trace", "convert", str(TRACE), "-o", "t.fatrace"), plain_files),
        "report": Command(("report", f"{inputs}/made/d", "-o", "page.html"), plain_files),
    }


def start(words: tuple[str, ...], folder: Path) -> "subprocess.Popen[bytes]":
    """A command as a process group of its own in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastalloc.cli.main", *words], cwd=folder, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(command: Command, folder: Path) -> dict[str, str]:
    """What the command leaves when it runs to its end, and what it says where it leaves nothing; a dataset of a run
    that was cut short is made anew."""
    if not command.goes_on:
        shutil.rmtree(folder / "d", ignore_errors=True)
    process = start(command.words, folder)
    out, err = process.communicate(timeout=MOST_S)
    done = (0,) if command.writes else (0, 1)  # 1: searched, and not found
    assert process.returncode in done, err.decode()
    return command.left(folder) | ({} if command.writes else {"stdout": digest(out)})


def killed(name: str, command: Command, kills: int, draw: random.Random, work: Path) -> dict[str, int]:
    """Kills a command at work so many times; how often it had stored something, and was done before it was killed."""
    for folder in (work / "first", work / "whole"):
        folder.mkdir()
        begun = time.monotonic()
        expected = finished(command, folder)  # the first compiles what it must
        takes = time.monotonic() - begun
    late = stored = cut = 0
    left: dict[str, str] = {}
    folder = work / "killed"
    while cut < kills:
        if not command.goes_on or left == expected:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        process = start(command.words, folder)
        time.sleep(draw.uniform(0, takes))
        at_work = process.poll() is None
        if at_work:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        left = command.left(folder)
        assert left.items() <= expected.items(), f"{name}: what is left is not what is written undisturbed"
        if not at_work:  # the machine is less busy than it was
            late += 1
            takes *= 1.0 if command.goes_on else 0.95
            assert late <= 3 * kills, f"{name}: most kills come too late"
            continue
        cut += 1
        stored += bool(left)
    assert finished(command, folder) == expected, name
    return {"kills": kills, "at work": cut, "left something": stored, "too late": late}


@contextmanager
def mounted(path: Path, size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def filled_up(name: str, command: Command, points: int, draw: random.Random, work: Path) -> dict[str, int]:
    """Runs a command on disks of so many sizes that are too small; how often it said so."""
    whole = work / "enough"
    whole.mkdir()
    expected = finished(command, whole)
    wanted = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    refused = 0
    for _ in range(points):
        size = max(4096, int(draw.uniform(0.02, 0.95) * wanted)) // 4096 * 4096
        with mounted(work / "disk", size) as disk:
            process = start(command.words, disk)
            _, err = process.communicate(timeout=MOST_S)
            last = err.decode().strip().splitlines()[-1:]
            assert b"Traceback" not in err, err.decode()
            if process.returncode:
                assert process.returncode == 2, (name, process.returncode, last)
                assert "No space left on device" in last[0], (name, last)
                refused += 1
            assert command.left(disk).items() <= expected.items(), name
            subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
            assert finished(command, disk) == expected, name
    return {"points": points, "refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of commands  [default: all]; the counts of others are kept")
    parser.add_argument("--kills", type=int, default=KILLS, help="over all commands")
    parser.add_argument(
        "--points", type=int, default=POINTS, help="of a full disk, over all commands; 0 without mounts"
    )
    parser.add_argument("--seed", type=int, default=2008)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found = endure(options.kills, options.points, options.seed, options.names)
    if options.names and options.out.exists():
        before = json.loads(options.out.read_text())
        found = {kind: before[kind] | counts for kind, counts in found.items()}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def endure(kills: int, points: int, seed: int, names: Sequence[str] = ()) -> dict[str, dict[str, dict[str, int]]]:
    """Counts by command; raises AssertionError at the first thing torn or lost."""
    draw = random.Random(seed)
    found: dict[str, dict[str, dict[str, int]]] = {"killed": {}, "full disk": {}}
    with tempfile.TemporaryDirectory() as inputs:
        chosen = commands(Path(inputs))
        for name, command in chosen.items():
            if names and name not in names:
                continue
            with tempfile.TemporaryDirectory() as work:
                mine = share(kills, list(chosen), name)
                found["killed"][name] = killed(name, command, mine, draw, Path(work))
                print(name, found["killed"][name], file=sys.stderr, flush=True)
                if points and command.writes:
                    mine = share(points, [each for each in chosen if chosen[each].writes], name)
                    found["full disk"][name] = filled_up(name, command, mine, draw, Path(work))
                    print(name, found["full disk"][name], file=sys.stderr, flush=True)
    return found


def share(whole: int, names: Sequence[str], name: str) -> int:
    """How many of ``whole`` fall to one of ``names``: all together have as many."""
    return whole // len(names) + (names.index(name) < whole % len(names))


if __name__ == "__main__":
    main()

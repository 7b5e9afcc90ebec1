"""``python -m tests.fuzz.run``: mutations of files through every reader, by time.

Each target runs in a process of its own, which writes a mutation down before it is read: so one that ends the process
is found there. A finding (an exception that is no InputError, an end of the process, more than MOST_SECONDS or
MOST_BYTES) is kept under --keep. Prints mutations by target; exit code 1 where there was a finding.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from fastalloc.errors import InputError, LaneError
from tests.fuzz.targets import DATA, TARGETS

MOST_SECONDS = 30.0  # of CPU
MOST_BYTES = 3 << 30


def place_of(name: str, folder: Path, path: Path, suffix: str) -> Path:
    """Where a mutation of ``path`` is written; with no suffix the place of a copy of it as it is."""
    if name.startswith("dataset"):
        file = folder / f"m@{str(path.relative_to(folder / 'whole')).replace('/', '+')}"
    elif name == "sheaves":
        file = folder / f"m@{path.name}"
    else:
        file = folder / f"m{suffix or path.suffix}"
    if not suffix:
        file.write_bytes(path.read_bytes())
    return file


def fuzz(name: str, seconds: float, seed: int, most: int, folder: Path, keep: Path) -> tuple[int, int]:
    """Mutations tried and findings of one target in this process."""
    target = TARGETS[name]
    seeds = target.seeds(folder)
    if not seeds:
        raise SystemExit(f"{name}: nothing to begin from")
    draw = random.Random(f"{seed} {name}")
    contents = [(path, path.read_bytes()) for path in seeds]
    for path in {path.suffix: path for path in seeds}.values():  # compiles what it needs
        with suppress(BaseException):
            target.read(place_of(name, folder, path, ""))
    end = time.monotonic() + seconds
    tried = found = 0
    while time.monotonic() < end and tried < most:
        path, data = draw.choice(contents)
        change = target.repair(target.change(data, draw, target.text))
        suffix = target.suffix or path.suffix
        file = place_of(name, folder, path, suffix)
        file.write_bytes(change)
        tried += 1
        begun = time.process_time()
        wrong = ""
        try:
            target.read(file)
        except (InputError, LaneError) as error:
            str(error)
        except BaseException:
            wrong = traceback.format_exc()
        spent = time.process_time() - begun
        if not wrong and spent > MOST_SECONDS:
            wrong = f"{spent:.1f} s of CPU"
        if wrong:
            found += 1
            kept = keep / f"{name}-{seed}-{tried}{suffix}"
            kept.write_bytes(change)
            kept.with_suffix(kept.suffix + ".why").write_text(wrong)
            print(f"{kept}: {wrong.strip().splitlines()[-1][:150]}", file=sys.stderr, flush=True)
    return tried, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="targets  [default: all]")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--most", type=int, default=1 << 40, help="mutations of a target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--add", type=Path, help="JSON file whose counts of mutations grow by those tried")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.names or list(TARGETS)
    options.keep.mkdir(parents=True, exist_ok=True)
    if options.child:
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
        folder = Path(os.environ["FUZZ_FOLDER"])
        print(*fuzz(names[0], options.seconds, options.seed, options.most, folder, options.keep))
        return
    total = findings = 0
    counts: dict[str, int] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            words = ["--child", "--seconds", options.seconds, "--most", options.most, "--seed", options.seed]
            done = subprocess.run(
                [sys.executable, "-m", "tests.fuzz.run", name, *map(str, words), "--keep", options.keep.absolute()],
                env=os.environ | {"FUZZ_FOLDER": folder}, cwd=DATA.parents[1], stdout=subprocess.PIPE, text=True,
                check=False,
            )  # fmt: skip
            try:
                tried, found = map(int, done.stdout.split()[-2:])
            except ValueError:
                tried, found = 1, 1
                for file in Path(folder).glob("m*"):
                    (options.keep / f"{name}-{options.seed}-ended{file.suffix}").write_bytes(file.read_bytes())
                print(f"{name}: the process ended with {done.returncode}", file=sys.stderr)
        total, findings, counts[name] = total + tried, findings + found, tried
        print(f"{name:18} {tried:>10,} mutations {found:>6} findings", flush=True)
    print(f"{'all':18} {total:>10,} mutations {findings:>6} findings")
    if options.add:
        before = json.loads(options.add.read_text()) if options.add.exists() else {}
        after = {name: before.get("targets", {}).get(name, 0) + counts.get(name, 0) for name in TARGETS}
        told = {"mutations": before.get("mutations", 0) + total, "targets": after}
        options.add.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()

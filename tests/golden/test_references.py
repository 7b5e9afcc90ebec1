"""The plain-Python models reproduce the recorded cases: they are worth comparing with."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from fastalloc.kernels.replay.operations import Trace
from fastalloc.verify.golden import BUILD, compare_state
from fastalloc.verify.golden_case import LATER_BUILD, GoldenCase
from tests.golden.test_golden import LATER_SMALL, SHARED, SMALL, builds, known_case, shared_builds
from tests.reference.cpu_partial_machine import CpuPartialMachine
from tests.reference.machine import Machine
from tests.reference.sheaf_machine import SheafMachine
from tests.reference.slab_machine import SlabMachine
from tests.reference.slob_machine import SlobMachine
from tests.reference.slub_machine import SlubMachine

LARGEST = 70_000  # rows that plain Python plays in a few seconds
OFTEN = 25_000  # rows of the longest case that is played whole not by `make test-slow` alone
BEGUN = 45_000  # rows of the longest case of which otherwise the beginning is played
BEGINNING = 12_000  # its rows: two checkpoints, and each result and path of each operation that the whole has


def reference(case: GoldenCase, build: str) -> Machine:
    """The model of a build, its start state read from the case."""
    later = LATER_BUILD.fullmatch(build)
    if later:
        model = SheafMachine if later[1] == "sheaves" else CpuPartialMachine
        return model(case, build, 2 if later[4] else 1)
    kind, line, nodebug, numa = BUILD.fullmatch(build).groups()
    nodes = 2 if numa else 1
    if kind == "slub":
        return SlubMachine(case, nodes, int(line), not nodebug)
    if kind == "slob":
        return SlobMachine(case, int(line))
    start = json.loads((case.path / build / "init.json").read_text())
    return SlabMachine(case, nodes, int(line), start)


def check(folder: Path, build: str, rows: int = LARGEST, beginning: Path = Path()) -> None:
    """The model plays the first rows of a case as they were recorded, and its tables until then are those recorded;
    ``beginning`` is a folder for these."""
    case = known_case(folder)
    case = replace(case, trace=Trace(*(column[:rows] for column in case.trace)))
    machine = reference(case, build).run()
    table = pl.read_parquet(folder / build / "ops.parquet").head(rows)
    columns = [column for column in ("res", "path", "slab", "idx") if column in table.columns]
    got = pl.DataFrame(machine.ops, schema=["res", "path", "slab", "idx"], orient="row")
    for row, (expected, mine) in enumerate(zip(table.select(columns).rows(), got.select(columns).rows(), strict=True)):
        assert mine == expected, f"row {row}"
    for path in sorted((folder / build).glob("*.parquet")):
        if path.stem != "ops":
            if rows < len(known_case(folder).trace.op):
                pl.read_parquet(path).filter(pl.col("op_index") < rows).write_parquet(beginning / path.name)
                path = beginning / path.name
            result = compare_state(path, path.stem, machine.tables[path.stem])
            assert result.ok, (path.stem, result.first)


@pytest.mark.parametrize(("folder", "build"), builds(SMALL, *LATER_SMALL), ids=lambda part: getattr(part, "name", part))
def test_small_case(folder: Path, build: str) -> None:
    check(folder, build)


def sizes() -> list[tuple[Path, str, int]]:
    """The builds of the shared cases with their rows."""
    found = shared_builds()
    rows = {folder: json.loads((folder / "manifest.json").read_text()).get("n_ops", 0) for folder, _ in found}
    return [(folder, build, rows[folder]) for folder, build in found]


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data folder beside the repository")


@needs_shared
@pytest.mark.parametrize(
    ("folder", "build"),
    [pytest.param(*each, marks=pytest.mark.slow if rows > OFTEN else ()) for *each, rows in sizes()],
    ids=lambda part: getattr(part, "name", part),
)
def test_shared_case(folder: Path, build: str) -> None:
    if known_case(folder).rows > LARGEST:
        pytest.skip("too long for plain Python")
    check(folder, build)


@needs_shared
@pytest.mark.parametrize(
    ("folder", "build"),
    [tuple(each) for *each, rows in sizes() if OFTEN < rows <= BEGUN],
    ids=lambda part: getattr(part, "name", part),
)
def test_beginning_of_a_shared_case(tmp_path: Path, folder: Path, build: str) -> None:
    check(folder, build, BEGINNING, tmp_path)

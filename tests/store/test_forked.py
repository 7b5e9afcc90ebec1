"""Forked workers: what would hang there is refused in a line; all else gives what it gives elsewhere, and spawned
workers do all."""

import multiprocessing
import os
import warnings

import pytest

import fastalloc
from fastalloc.batch import run_lanes
from fastalloc.errors import InputError
from fastalloc.rare.events import parse_event
from fastalloc.rare.rare import rare
from fastalloc.store import DatasetWriter
from fastalloc.trace.lanes.readings import read_readings
from fastalloc.trace.replay.recording import read_trace
from fastalloc.verify.closed_loop.clean_runs import read_runs
from fastalloc.verify.jobs import find_jobs, run_jobs
from tests.closed_loop.small import image, small
from tests.faults.test_files import FAULTS
from tests.store.answer import answer

MOST_S = 60


def refused(path):
    told = [answer(path)]
    for use in (lambda: read_trace(FAULTS / "a.parquet"), lambda: DatasetWriter(path / "x", None, [], "")):
        try:
            use()
        except InputError as error:
            told.append(str(error))
    return told


def lane(number):
    (result,) = run_lanes(small("rc8", {"run.duration_s": 0.5}), [number], seed=1, threads=1)
    return image(result)


def pooled(kind, work, argument):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 on: of a fork beside threads
        with multiprocessing.get_context(kind).Pool(1) as pool:
            return pool.apply_async(work, (argument,)).get(MOST_S)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    from fastalloc.runner import run

    path = tmp_path_factory.mktemp("forked") / "d"
    return run(small("rc8", {"run.lanes": 2, "run.duration_s": 0.5}), path, variants=["rc8"], threads=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_forked_worker_is_refused_what_would_hang(dataset):
    told = pooled("fork", refused, dataset.path)
    assert len(told) == 3
    assert all("forked process" in line and "spawn" in line for line in told)
    assert pooled("fork", lane, 1) == lane(1)


REPORT = sorted((FAULTS.parent / "memory_reports").rglob("*.txt"))[0]
GOLDEN = FAULTS.parent / "golden" / "hand50"
MACHINE = sorted((FAULTS.parent / "slabinfo").glob("*.txt"))[0]
TABLE = FAULTS.parent / "fuzz" / "geometry" / "small.csv"
ENTRIES = {
    "explain": lambda path: [answer.verdict for answer in fastalloc.explain(REPORT)],
    "import_machine": lambda path: fastalloc.import_machine(MACHINE, "m").cpus,
    "load_policy": lambda path: fastalloc.load_policy("fix").name,
    "load_scenario": lambda path: fastalloc.load_scenario("swap-livelock").name,
    "policies": lambda path: fastalloc.policies().height,
    "scenarios": lambda path: fastalloc.scenarios().height,
    "caches": lambda path: fastalloc.caches(96).height,
    "open_dataset": lambda path: fastalloc.open_dataset(path),
    "report": lambda path: fastalloc.report(path),
    "rerun": lambda path: fastalloc.rerun(path, 0),
    "replay": lambda path: fastalloc.replay(FAULTS / "a.parquet"),
    "trace": lambda path: fastalloc.trace(FAULTS / "a.parquet"),
    "run": lambda path: fastalloc.run("swap-livelock-34m", path / "new", lanes=1, seconds=1),
    "compare": lambda path: fastalloc.compare("swap-livelock-34m", ["fix"], path / "new", lanes=1, seconds=1),
    "sweep": lambda path: fastalloc.sweep(FAULTS.parent / "fuzz" / "sweep" / "small.toml", path / "new"),
    "frontier": lambda path: str(
        fastalloc.frontier(
            "swap-livelock-34m", "machine.min_free_kbytes", 0.4, between=(24, 30), lanes=1, most_lanes=1,
            settings={"run.duration_s": 5.1},
        ).tried
    ),
    "verify": lambda path: run_jobs(find_jobs(GOLDEN), 1),
    "read_readings": lambda path: read_readings(TABLE),
    "read_runs": lambda path: read_runs(TABLE),
    "rare": lambda path: rare(small(), parse_event("livelock"), out=path / "rare"),
}  # fmt: skip
WORK = {"explain", "import_machine", "load_policy", "load_scenario", "policies", "scenarios", "caches", "frontier"}


def entry(argument):
    """What an entry gives in a worker."""
    name, path = argument
    try:
        return ENTRIES[name](path)
    except InputError as error:
        return f"refused: {error}"


def test_every_entry_of_the_library_is_known_here():
    types = {name for name in fastalloc.__all__ if isinstance(getattr(fastalloc, name), type)}
    assert set(fastalloc.__all__) - types <= set(ENTRIES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_works_in_a_forked_worker_or_is_refused(name, dataset):
    told = pooled("fork", entry, (name, dataset.path))
    if name in WORK:
        assert told == entry((name, dataset.path))
    else:
        assert "cannot be used in a forked process" in str(told)


def test_a_spawned_worker_gets_a_dataset(dataset):
    assert pooled("spawn", answer, dataset.path) == 2

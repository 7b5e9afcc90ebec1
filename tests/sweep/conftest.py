"""Sweeps of a machine so small that a lane takes a few milliseconds."""

import pytest
import tomli_w

from fastalloc.scenario import load_scenario
from fastalloc.sweep import run_sweep
from tests.closed_loop.small import SHRUNK
from tests.faults.conftest import fastalloc as fastalloc

TINY = SHRUNK | {"run.duration_s": 2.5, "workload.tree_files": 400}

SWEEP = """
name = "tiny"
scenario = "scenario.toml"
variants = ["rc8", "fix"]
lanes = 8
[axes]
"host.queue_depth" = [1, 4]
"machine.min_free_kbytes" = [24, 96]
"""

ALL_TABLES = SWEEP.replace("lanes = 8", 'lanes = 8\ntables = ["runs", "series", "events", "ledger"]')
TABLES = ("runs", "series", "events", "ledger")


def rows(dataset, table="runs"):
    """A table as bytes, sorted by lane."""
    frame = getattr(dataset, table).collect()
    by = {"runs": ["id"], "series": ["id", "t_ms"]}.get(table, frame.columns)
    return (dict(frame.schema), frame.sort(by).write_ndjson())


def files(path):
    """The shards of ``runs/``."""
    return sorted((path / "runs").glob("*.parquet"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, scenario_toml):
    """The rows of ``ALL_TABLES`` run in one go."""
    path = tmp_path_factory.mktemp("undisturbed")
    (path / "scenario.toml").write_text(scenario_toml)
    (path / "sweep.toml").write_text(ALL_TABLES)
    dataset = run_sweep(path / "sweep.toml", path / "out", threads=1)
    assert dataset.manifest["status"] == "complete"
    return {table: rows(dataset, table) for table in TABLES}


@pytest.fixture(scope="session")
def scenario_toml():
    """A scenario file as text."""
    scenario = load_scenario("swap-livelock").with_settings(TINY)
    return tomli_w.dumps(scenario.model_dump(exclude_none=True) | {"name": "tiny"})


@pytest.fixture
def sweep_file(tmp_path, scenario_toml):
    """Writes a sweep file beside its scenario and returns its path."""
    (tmp_path / "scenario.toml").write_text(scenario_toml)

    def write(text=SWEEP, name="sweep.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write

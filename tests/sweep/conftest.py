"""Sweeps of a machine so small that a lane takes a few milliseconds."""

import pytest
import tomli_w

from fastalloc.scenario import load_scenario
from tests.closed_loop.small import SHRUNK

TINY = SHRUNK | {"run.duration_s": 2.5, "workload.tree_files": 400}

SWEEP = """
name = "tiny"
scenario = "scenario.toml"
variants = ["rc8", "fix"]
lanes = 20
[axes]
"host.queue_depth" = [1, 4]
"machine.min_free_kbytes" = [24, 96]
"""


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

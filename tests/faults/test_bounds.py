"""Every reader on changed files and scenarios of any shape, with a check of every index: none is outside its array."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIOS = "from tests.closed_loop.test_generated import many; print(many(500))"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("-m", "tests.fuzz.run", "--seconds", "20", "--seed", "1"), ("-m", "pytest", "-q", "tests/faults/test_starts.py")],
)
def test_readers_index_nothing_beyond(command, tmp_path):
    keep = ("--keep", str(tmp_path)) if "tests.fuzz.run" in command else ()
    checked(*command, *keep)


@pytest.mark.slow
def test_lanes_of_any_shape_index_nothing_beyond():
    checked("-c", SCENARIOS)


def checked(*words):
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

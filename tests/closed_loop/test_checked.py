"""Lanes whose kernels are interpreted, or compiled with a check of every index, are the same byte by byte.

``make test-interpreted`` and ``make test-bounds`` run this; a compiled lane comes from a process of its own.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config

from fastalloc.compiler.jit import entry, internal
from tests.closed_loop.small import image, run, small

SWITCHES = ("NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "NUMBA_OPT")
# SLUB of 2.6.25 is the last one: other tests begin with it, and a program is compiled by one process at a time.
SETTINGS = {
    "sheaves": {"policy.allocator": "sheaves"},
    "cpu-partial": {"policy.allocator": "cpu-partial"},
    "slab": {"policy.allocator": "slab"},
    "slob": {"policy.allocator": "slob"},
    "slub": {},
}
MILLISECONDS = 4000  # reclaim begins within the first second, swap within three


def digest(name):
    """Of everything that a small lane reports."""
    scenario = small("rc8", SETTINGS[name] | {"run.duration_s": MILLISECONDS / 1000})
    return hashlib.sha256(b"".join(image(run(scenario)))).hexdigest()


def compiled(name):
    """The digest of the same lane as kernels are usually compiled."""
    usual = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    code = f"from tests.closed_loop import test_checked as t\nprint(t.digest({name!r}))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=usual, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(
    not (config.DISABLE_JIT or config.BOUNDSCHECK), reason="make test-interpreted and make test-bounds run it"
)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_lane_is_the_same(name):
    assert digest(name) == compiled(name)


@internal
def item(values, i, j):
    return values[i, j]


@entry
def item_of(values, i, j):
    return item(values, i, j)


@pytest.mark.skipif(not config.BOUNDSCHECK, reason="make test-bounds runs it")
@pytest.mark.parametrize(("i", "j"), [(0, 3), (2, 0), (0, -1), (-1, 0), (1 << 40, 0)])
def test_an_index_out_of_bounds_is_an_error(i, j):
    with pytest.raises(IndexError, match="out of bounds"):
        item_of(np.zeros((2, 3), np.int64), i, j)

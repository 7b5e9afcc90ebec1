"""Where the tables are: the small ones that travel with the tests, the full ones beside the repository."""

import csv
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
SHARED = Path(__file__).parents[3] / "shared" / "data"


def rows(name):
    """The worked table ``tests/data/geometry/<name>.csv``, a dict a row."""
    with (DATA / "geometry" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def shared(*parts):
    """A folder of the full data; the test is skipped where it is missing."""
    folder = SHARED.joinpath(*parts)
    if not folder.exists():
        pytest.skip(f"no {'/'.join(parts)} beside the repository")
    return folder

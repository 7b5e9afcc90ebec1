"""Random cases of 7.3 and 6.12: the kernels and the plain-Python models agree on every row of every table.

`python -m tests.golden.test_generated_later FIRST COUNT` runs more of them; `pytest` runs a fixed selection.
"""

import random
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.generate import Phase, Spec, differences
from tests.golden.generate_later import MIXES, compare

SELECTION = range(10)
MORE = range(10, 60)

PHASES = st.builds(
    Phase, st.sampled_from(sorted(MIXES)), st.integers(0, 1 << 20), st.sampled_from((5, 20, 60, 200, 500))
)
SPECS = st.builds(Spec, st.integers(0, 1 << 20), st.just(1), st.lists(PHASES, max_size=4).map(tuple), st.booleans())


def check(spec: Spec, cpus: int, build: str) -> int:
    """The number of rows compared, all of them equal."""
    with tempfile.TemporaryDirectory() as folder:
        result = compare(spec, cpus, build, Path(folder) / "case")
        assert not differences([result])
        return result.rows


def random_case(seed: int) -> tuple[Spec, int, str]:
    """A case from a number: its phases, CPUs and build."""
    rng = random.Random(seed)
    build = rng.choice(("sheaves73", "sheaves73", "sheaves73_numa2", "cpupartial612"))
    nodes = 2 if build.endswith("numa2") else 1
    phases = tuple(
        Phase(rng.choice(list(MIXES)), rng.randrange(1 << 30), rng.choice((40, 150, 400, 1500)))
        for _ in range(rng.randint(1, 6))
    )
    cpus = rng.randint(1 if nodes == 1 else 5, 8)  # of two nodes the second begins with CPU 4
    return Spec(rng.randrange(1 << 30), nodes, phases, rng.random() < 0.5), cpus, build


@pytest.mark.parametrize("seeds", [SELECTION, pytest.param(MORE, marks=pytest.mark.slow)])
def test_selection(seeds: range) -> None:
    for seed in seeds:
        assert check(*random_case(seed)) > 0, seed


@settings(max_examples=12)
@given(SPECS, st.integers(1, 8), st.sampled_from(("sheaves73", "cpupartial612")))
def test_any(spec: Spec, cpus: int, build: str) -> None:
    check(spec, cpus, build)


def main(first: int, count: int) -> int:
    """Compare ``count`` cases; 1 if any differs."""
    rows = wrong = 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            result = compare(*random_case(seed), Path(folder) / "case")
        rows += result.rows
        found = differences([result])
        wrong += bool(found)
        if found:
            print(f"seed {seed}", *found, sep="\n  ")
    print(f"{count} cases, {rows} rows, {wrong} differ")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))

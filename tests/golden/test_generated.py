"""Random cases of the golden format: the kernels and the plain-Python models agree on every row of every table.

`python -m tests.golden.test_generated FIRST COUNT` runs more of them; `pytest` runs a fixed selection.
"""

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.generate import MIXES, Phase, Spec, compare, differences, random_spec

SELECTION = range(8)
MORE = range(8, 60)

PHASES = st.builds(
    Phase, st.sampled_from(sorted(MIXES)), st.integers(0, 1 << 20), st.sampled_from((5, 20, 60, 200, 500))
)
SPECS = st.builds(
    Spec, st.integers(0, 1 << 20), st.sampled_from((1, 1, 2)), st.lists(PHASES, max_size=4).map(tuple), st.booleans()
)


def check(spec: Spec) -> int:
    """The number of rows compared, all of them equal."""
    with tempfile.TemporaryDirectory() as folder:
        results = compare(spec, Path(folder) / "case")
        assert not differences(results)
        return sum(result.rows for result in results)


@pytest.mark.parametrize("seeds", [SELECTION, pytest.param(MORE, marks=pytest.mark.slow)])
def test_selection(seeds: range) -> None:
    for seed in seeds:
        assert check(random_spec(seed)) > 0, seed


@settings(max_examples=12)
@given(SPECS)
def test_any(spec: Spec) -> None:
    check(spec)


def test_an_empty_trace_has_its_start() -> None:
    for nodes in (1, 2):
        assert check(Spec(3, nodes, ())) > 0


def main(first: int, count: int) -> int:
    """Compare ``count`` cases; 1 if any differs."""
    cases = rows = wrong = 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            results = compare(random_spec(seed), Path(folder) / "case")
        cases += len(results)
        rows += sum(result.rows for result in results)
        found = differences(results)
        wrong += bool(found)
        if found:
            print(f"seed {seed}", *found, sep="\n  ")
    print(f"{count} traces, {cases} cases, {rows} rows, {wrong} traces differ")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))

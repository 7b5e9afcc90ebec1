"""Inputs that once broke a reader: each is refused in a line, soon, and without much memory."""

from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[1] / "data" / "faults"
MOST_SECONDS = 2.0
MOST_BYTES = 500_000_000


def refused(outcome, *words):
    """A line on stderr that says ``words``, and exit code 2."""
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.out == ""
    for word in words:
        assert word in outcome.err
    assert outcome.grown < MOST_BYTES


def quick(fastalloc, *arguments):
    """The outcome of a command whose code and kernels are loaded."""
    fastalloc(*arguments)
    again = fastalloc(*arguments)
    assert again.seconds < MOST_SECONDS
    return again


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oob-op.fatrace", ("event 5", "op 255")),
        ("oob-object.fatrace", ("event 5", "object 2147483647")),
        ("oob-cpu.fatrace", ("event 5", "CPU 65535")),
        ("abort-2t.fatrace", ("section kinds",)),
        ("fuzz-fatrace-resummed-ComputeError-compact.py-199.fatrace", ("section kinds",)),
        ("fuzz-fatrace-resummed-JSONDecodeError-compact.py-188.fatrace", ("table of contents",)),
        ("fuzz-fatrace-resummed-PanicException-compact.py-200.fatrace", ("section markers",)),
        ("fuzz-parquet-UnicodeDecodeError-columns.py-76.parquet", ("not readable as Parquet",)),
        ("fuzz-ftrace-InvalidOperationError-text.py-197.txt", ("no event of ftrace",)),
    ],
)
@pytest.mark.parametrize("command", [("trace", "info"), ("replay",)])
def test_traces(fastalloc, command, name, words):
    refused(quick(fastalloc, *command, FAULTS / name), name, *words)


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--state", "fuzz-state-PanicException-start.py-43.parquet", ("not readable as Parquet",)),
        ("--geometry", "fuzz-geometry-TypeError-slub_eras.py-258.csv", ("line", "is no number")),
    ],
)
def test_side_inputs_of_a_replay(fastalloc, option, name, words):
    refused(quick(fastalloc, "replay", FAULTS / "a.parquet", option, FAULTS / name), name, *words)


@pytest.mark.parametrize(
    "name",
    ["fuzz-dump-KeyError-machine_import.py-311.txt", "fuzz-dump-ValueError-machine_import.py-205.txt"],
)
def test_dumps_of_a_machine(fastalloc, name):
    refused(quick(fastalloc, "machine", "import", FAULTS / name), name)


@pytest.mark.parametrize(
    "name", ["fuzz-scenario-ValueError-load.py-153.toml", "fuzz-machine-ValueError-load.py-153.toml"]
)
def test_numbers_without_end(fastalloc, tmp_path, name):
    file = FAULTS / name
    if "machine" in name:
        file = tmp_path / "s.toml"
        file.write_text(f'name = "s"\nmachine = "{FAULTS / name}"\n')
    refused(quick(fastalloc, "run", file), "not TOML")


def test_names_move_no_cursor(fastalloc):
    shown = fastalloc("trace", "info", FAULTS / "hostile-names.parquet")
    assert shown.code == 0
    controls = [c for c in shown.out + shown.err if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160]
    assert controls == []

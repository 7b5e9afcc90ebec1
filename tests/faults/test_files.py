"""Inputs that once broke a reader: each is refused in a line, soon, and without much memory."""

import gzip
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[1] / "data" / "faults"
CAME = Path(__file__).parents[3] / "shared/data/faults"  # as they came, before fields were renamed
MOST_SECONDS = 60.0  # of CPU; what once took no end took minutes
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
    """The outcome of a command, which comes; once more where code and kernels had to be loaded first."""
    done = fastalloc(*arguments)
    if done.seconds > MOST_SECONDS:
        done = fastalloc(*arguments)
    assert done.seconds < MOST_SECONDS
    return done


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


def test_a_file_that_takes_seconds_to_parse_is_refused(fastalloc, tmp_path):
    file = tmp_path / "m.toml"
    file.write_text('name = "m"\n' + "[[zones]]\nname = 'DMA'\n" * 200_000)
    refused(quick(fastalloc, "run", file), "m.toml", "is more than 4,194,304 bytes")


def test_names_move_no_cursor(fastalloc):
    shown = fastalloc("trace", "info", FAULTS / "hostile-names.parquet")
    assert shown.code == 0
    controls = [c for c in shown.out + shown.err if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160]
    assert controls == []


def test_no_file_is_without_a_test():
    names = {file.name for file in FAULTS.iterdir()}
    assert {file.name for file in CAME.glob("*") if file.name != "README.md"} <= names
    source = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in sorted(names) if name not in source] == []


@pytest.mark.parametrize(
    "name",
    sorted(file.name for file in CAME.glob("*.toml") if file.read_bytes() != (FAULTS / file.name).read_bytes()),
)
def test_scenarios_as_they_came(fastalloc, name):
    """With fields of an earlier version: a line for each, or for what else is wrong."""
    done = quick(fastalloc, "run", CAME / name, "--lanes", 1, "--threads", 1)
    assert (done.code, done.out) == (2, "")
    assert all(name in line for line in done.err.splitlines())
    assert done.grown < MOST_BYTES


@pytest.fixture(scope="module")
def nothing():
    """320 MiB of it in a third of a megabyte."""
    return gzip.compress(bytes(320 << 20), 1)


@pytest.mark.parametrize(
    ("command", "head", "words"),
    [
        (("caches",), b"slabinfo - version: 2.1\n", ("more than", "gzip")),
        (("explain",), b"\xff\xfe", ("UTF-16", "bytes")),
        (("machine", "import"), b"== /proc/meminfo\n", ("more than", "once unpacked")),
        (("replay", FAULTS / "a.parquet", "--slabs"), b"cache,slabs\n", ("more than", "once unpacked")),
        (("verify",), b"{", ("more than", "once unpacked")),
        (("trace", "info"), b"PAR1", ()),
    ],
)
def test_what_is_packed_has_a_limit(fastalloc, tmp_path, nothing, command, head, words):
    file = tmp_path / ("manifest.json" if command == ("verify",) else "bomb.gz")
    file.write_bytes(gzip.compress(head) + nothing)
    refused(fastalloc(*command, file), *words)

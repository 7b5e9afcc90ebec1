"""Inputs without an end, and counts that no machine has: refused before they are read, in a line."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastalloc.bounded import text_of
from fastalloc.errors import InputError
from fastalloc.explain import explain
from fastalloc.foreign import content_of
from fastalloc.trace.formats.packed import packing
from tests.faults.test_files import quick, refused

TRACE = Path(__file__).parents[1] / "data" / "traces" / "d_stack_k612.events.parquet"
ZONE = (
    '{name = "Normal", present = 100000, min = 100, low = 125, high = 150, protection = [0], pcp_high = 0, '
    "pcp_batch = 1}"
)
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))
sys.argv[1:] = ["run", "swap-livelock-34m", "--lanes", "1", "--seconds", "0.1", "--out", sys.argv[1]]
from fastalloc.cli.main import main
main()
"""
HEAD = f'name = "x"\nzones = [{ZONE}]\n'


@pytest.mark.parametrize(
    "command",
    [("explain",), ("machine", "import"), ("caches",), ("run",), ("sweep",), ("replay",), ("trace", "info"),
     ("policy", "check")],
)  # fmt: skip
def test_a_device_has_no_end(fastalloc, command):
    refused(quick(fastalloc, *command, "/dev/zero"), "/dev/zero", "is a device")


@pytest.mark.parametrize(
    "command",
    [("explain",), ("machine", "import"), ("caches",), ("run",), ("sweep",), ("replay",), ("trace", "info"),
     ("policy", "check"), ("run", "swap-livelock-34m", "--policy"), ("dataset", "check"),
     ("replay", TRACE, "--state"), ("replay", TRACE, "--slabs"), ("replay", TRACE, "--geometry")],
)  # fmt: skip
def test_a_pipe_with_a_name_is_not_waited_for(fastalloc, tmp_path, command):
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "manifest.json")
    done = fastalloc(*command, "d" if command[0] == "dataset" else "pipe.py")
    assert done.code == 2
    assert "is a pipe, which may never end" in done.err.splitlines()[-1]  # behind "compiling", where that is told


def test_a_pipe_of_the_shell_is_read():
    text = b"min_free_kbytes\n"
    for data in (text, gzip.compress(text)):
        out, into = os.pipe()
        with os.fdopen(into, "wb") as file:
            file.write(data)
        assert content_of(Path(f"/dev/fd/{out}")) == text
        os.close(out)
    out, into = os.pipe()
    os.close(into)
    with pytest.raises(InputError, match="is a pipe, which may never end"):
        packing(Path(f"/dev/fd/{out}"))
    os.close(out)


@pytest.mark.parametrize("command", [("explain",), ("machine", "import"), ("run",), ("policy", "check")])
def test_a_huge_file(fastalloc, tmp_path, command):
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    refused(quick(fastalloc, *command, path), "is more than", "1,099,511,627,776")


def test_a_log_of_one_endless_line(fastalloc, tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(1 << 29)
    refused(quick(fastalloc, "explain", path), str(path), "without the end of a line")


def test_a_pipe_that_never_ends(monkeypatch):
    class Endless:
        name = "pipe"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, size):
            return (b"y\n" * size)[:size]

    monkeypatch.setattr("fastalloc.explain.parts._MOST_BYTES", 1 << 25)
    with pytest.raises(InputError, match="pipe: is more than 33,554,432 bytes"):
        explain(Endless())


@pytest.mark.parametrize("threads", ["1000000000", "4097", "-1"])
@pytest.mark.parametrize(
    "command",
    [("run", "swap-livelock-34m"), ("compare", "swap-livelock-34m"), ("sweep", "x.toml"), ("rare", "swap-livelock-34m"),
     ("frontier", "x.toml"), ("reserve", "x.toml"), ("decided", "x", "0"), ("verify", "x"), ("replay", "x")],
)  # fmt: skip
def test_threads_that_no_machine_has(fastalloc, command, threads):
    refused(quick(fastalloc, *command, "--threads", threads), "--threads", f"{int(threads):,}", "4,096")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + '[[slab_caches]]\nname = "a"\nobject_size = 64\n' * 2, ("slab_caches", "'a' stands 2 times")),
        (HEAD + "slab_caches = [" + '{name = "a", object_size = 8},' * 5000 + "]\n", ("slab_caches", "4,096 entries")),
        (HEAD + '[[slab_caches]]\nname = "a"\nobject_size = 64\n' * 50_000, ("50,000 values",)),
        (f'name = "x"\nzones = [{(ZONE + ",") * 2000}]\n', ("zones", "64 entries")),
        ('name = "x"\nzones = [' + "{}," * 100_000 + "]\n", ("50,000 values",)),
        (HEAD + "[free_pages]\n" + "".join(f"z{i} = 1\n" for i in range(9000)), ("free_pages", "6 entries")),
    ],
)
def test_counts_that_no_machine_has(fastalloc, tmp_path, text, words):
    path = tmp_path / "machine.toml"
    path.write_text(text)
    refused(quick(fastalloc, "run", path), str(path), *words)


def test_what_stands_in_strings_and_comments_is_not_counted(fastalloc, tmp_path):
    path = tmp_path / "machine.toml"
    path.write_text(
        HEAD + "# " + "=[{" * 60_000 + '\nsource = """\n' + 'a = [\\"1\\", 2]\n' * 30_000 + '"""\ncpus = 0\n'
    )
    refused(quick(fastalloc, "run", path), "cpus", "greater than or equal to 1")


def test_a_terminal_and_nothing_are_no_device_without_end(fastalloc):
    refused(fastalloc("explain", os.devnull), "no memory report")


def test_a_name_of_no_encoding(fastalloc, tmp_path):
    path = tmp_path / os.fsdecode(b"m\xff.toml")
    path.write_text(HEAD + "cpus = 0\n")
    refused(quick(fastalloc, "run", path), "m\\udcff.toml", "cpus")
    path.write_bytes(gzip.compress((HEAD + "cpus = 0\n").encode()))
    refused(quick(fastalloc, "run", path), "m\\udcff.toml", "cpus")


def test_a_large_value_of_proc_sys():
    """Their files take a buffer of the size that is asked for in the kernel."""
    assert text_of(Path("/proc/sys/vm/min_free_kbytes")).strip().isdigit()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ulimit -v of Linux")
def test_address_space_of_a_gigabyte_and_a_half(tmp_path):
    """Arrow, Polars and LLVM map no more than that where it is all there is."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "out"], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


SWEEP = 'name = "s"\nlanes = 1\n'
BASE = 'scenario = "swap-livelock-34m"\nvariants = ["rc8"]\n'
MACHINE = 'name = "s"\n[machine]\nfrom = "linux-2.6.25-rc8-256m"\n'


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("sweep", SWEEP + 'traces = ["/dev/zero"]\n', ("/dev/zero", "is a device")),
        ("run", MACHINE + "".join(f'[[variants]]\nname = "v{i}"\n' for i in range(2000)), ("variants: 2,000",)),
        ("run", "policy = '" + "+".join(["fix"] * 2000) + "'\n" + MACHINE, ("'fix' stands more than once",)),
        ("run", MACHINE + f"a = 1.{'1' * 4_000_000}\n", ("more than 10,000 characters",)),
        ("run", MACHINE + f"[policy]\nquestions = '''{'x = 1; ' * 43_000}'''\n", ("301,000 characters", "262,144")),
    ],
)
def test_what_takes_long_before_anything_runs(fastalloc, tmp_path, command, text, words):
    path = tmp_path / "s.toml"
    path.write_text(text)
    refused(quick(fastalloc, command, path), *words)


def test_values_of_a_long_axis_are_compared_once(fastalloc, tmp_path):
    """Each with all before it would take minutes; the constraint leaves none, so that nothing is planned."""
    path = tmp_path / "s.toml"
    values = ",".join(map(str, range(1, 40_001)))
    path.write_text(f'{SWEEP}{BASE}[axes]\n"workload.writer_pages" = [{values},1]\n')
    refused(quick(fastalloc, "sweep", path, "--dry-run"), "1 twice")


def test_a_file_of_ones_own_has_a_size(fastalloc, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x\n" * 500_000)
    for words in (("policy", "check", path), ("compare", "swap-livelock-34m", "--policies", path)):
        refused(quick(fastalloc, *words), "1,000,000 characters", "262,144")


@pytest.mark.parametrize("line", ["9" * 5000, " " * 1_000_000 + "x", "1 " * 500_000])
def test_lines_that_no_machine_prints(fastalloc, tmp_path, line):
    path = tmp_path / "dump"
    path.write_text(f"MemTotal: 1000000 kB\n{line}\n" * 4)
    assert quick(fastalloc, "machine", "import", path).code in (0, 2)


def test_a_dump_has_a_number_of_lines(fastalloc, tmp_path):
    path = tmp_path / "dump"
    path.write_text("MemTotal: 1000000 kB\n" * 300_000)
    refused(quick(fastalloc, "machine", "import", path), "has 300,000 lines")


def test_a_log_that_is_much_larger_unpacked(fastalloc, tmp_path):
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(b"some line of a log\n" * (4 << 20), 1))
    refused(quick(fastalloc, "explain", path), "is more than 67,108,864 bytes once unpacked")


def test_json_of_many_values(fastalloc, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_bytes(b'{"a":[' + b"[]," * 4_000_001 + b"[]]}")
    refused(quick(fastalloc, "report", "d"), "manifest.json", "holds more than 4,000,000 values")

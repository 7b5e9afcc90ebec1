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
from tests.faults.test_files import quick, refused

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

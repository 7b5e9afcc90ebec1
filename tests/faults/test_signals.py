"""Ctrl-C and SIGTERM: heard in a kernel, while one is compiled and in a command that cannot stop by itself."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fastalloc.cli import interrupt
from fastalloc.store import open_dataset
from tests.faults.test_files import FAULTS

HANGS_S = 60  # a process that takes longer does not end at all

BODIES = {
    "kernel": "from numba import njit\n@njit(nogil=True)\ndef spin(n):\n    i = 0\n    while i < n:\n"
    "        i ^= 1\n    return i\nspin(0)\nprint('there', flush=True)\nspin(5)\n",
    "python": "print('there', flush=True)\nwhile True:\n    pass\n",
}


def start(code):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    time.sleep(0.3)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", BODIES)
def test_a_command_that_knows_of_no_signal_ends_at_once(body, number):
    source = f"def work():\n{''.join(f'    {line}{chr(10)}' for line in BODIES[body].splitlines())}"
    process = start(f"from fastalloc.cli import interrupt\n{source}    return 0\ninterrupt.run(work)\n")
    process.send_signal(number)
    process.communicate(timeout=HANGS_S)
    assert process.returncode == 128 + number


def test_a_command_that_does_not_stop_is_ended_after_its_grace():
    """It is asked first, and ended no sooner than GRACE_S later, within two seconds."""
    code = (
        "from fastalloc.cli import interrupt\ndef work():\n    interrupt.cancellation()\n"
        "    print('there', flush=True)\n    while True:\n        pass\ninterrupt.run(work)\n"
    )
    process = start(code)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=HANGS_S)
    assert time.monotonic() - begun >= interrupt.GRACE_S
    assert interrupt.GRACE_S + interrupt.LOOK_S <= 2
    assert process.returncode == 130
    assert told.split("\n") == ["", "stopping; once more to stop at once", "", "stopped; what was stored is kept", ""]


# What differs between the two is seen above.
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_run_keeps_its_finished_lanes(tmp_path, number):
    out = tmp_path / "d"
    words = ["run", "swap-livelock-34m", "--variant", "rc8", "--lanes", "20000", "--seconds", "2", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "fastalloc.cli.main", *words], stderr=subprocess.PIPE, text=True)
    while not list(out.glob("runs/*.parquet")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=HANGS_S)
    assert process.returncode == 128 + number
    dataset = open_dataset(out)
    # a machine too busy to write the last rows within the grace leaves those stored before, or is just done with them
    cut_off = "what was stored is kept" in told
    assert dataset.manifest["status"] == "interrupted" or (cut_off and dataset.manifest["status"] == "running")
    assert 64 <= len(dataset.runs.collect()) < 20_000


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "-"),
        ("rare", "swap-livelock", "--lanes", "10000"),
        ("policy", "check", FAULTS / "policy-ent0.py", "--seconds", "60"),
        ("verify", FAULTS.parent / "golden"),
    ],
)
def test_any_command_ends(words):
    """Where it is by then: it starts, compiles, waits for its input or is at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fastalloc.cli.main", *map(str, words)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=HANGS_S)
    assert process.returncode == 130, told
    assert "Traceback" not in told


def test_a_closed_pipe_and_a_full_disk_are_no_fault():
    command = [sys.executable, "-m", "fastalloc.cli.main", "scenarios"]
    closed = subprocess.run(
        f"{' '.join(command)} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert closed.returncode in (0, 1)
    assert "Traceback" not in closed.stderr
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1"])  # POSIX is another name of C
def test_no_locale_is_a_fault(locale):
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-O", "-m", "fastalloc.cli.main", "policies", "fix"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_docstrings_that_were_taken_away_are_told():
    command = [sys.executable, "-OO", "-m", "fastalloc.cli.main", "policies", "fix"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "-O keeps them" in done.stderr


def test_a_fault_of_its_own_leaves_a_crash_file(tmp_path):
    code = "from fastalloc.cli import main as m\ndef broken():\n    raise TypeError('one\\ntwo')\n"
    code += "m.app = broken\nm.main()\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert done.stderr.count("\n") == 1
    (file,) = tmp_path.glob("fastalloc-crash-*.txt")
    assert file.name in done.stderr
    assert "TypeError: one" in file.read_text()


def test_too_little_address_space_is_told():
    command = f"ulimit -v 500000; {sys.executable} -m fastalloc.cli.main policies fix"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ulimit -v" in done.stderr

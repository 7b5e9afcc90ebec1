"""The recording script where no kernel is needed: it refuses what it cannot do, in one line."""

import os
import shutil
import subprocess

import pytest

from fastalloc.cli.record import SCRIPT, record
from tests.trace.test_replay import run_command

SHELLS = [words for words in (["dash"], ["busybox", "sh"], ["sh"]) if shutil.which(words[0])]


def run(shell, *arguments, user=None):
    def become():
        if user is not None and os.getuid() == 0:
            os.setuid(user)

    return subprocess.run(
        [*shell, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, preexec_fn=become, cwd="/tmp"
    )


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_others_than_root_are_refused(shell):
    done = run(shell, "-o", "/tmp/fastalloc-not-made", user=65534)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs root" in done.stderr
    assert not os.path.exists("/tmp/fastalloc-not-made")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("words", [["--colour"], ["-s", "x"], ["-b"], ["-b", "1x"]])
def test_wrong_words_are_refused(shell, words):
    done = run(shell, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("record: ")
    assert done.stderr.count("\n") == 1


def test_the_command_prints_the_script():
    shown = run_command(record, "--script")
    assert shown.stdout == SCRIPT.read_text()
    assert shown.stdout.startswith("#!/bin/sh\n")


def test_no_process_starts_between_the_first_readings_and_their_end():
    """The replay begins at their end: what a fork took from the caches before it would be lost."""
    between = SCRIPT.read_text().split('"fastalloc: readings begin"')[1].split("put trace_marker")[0]
    commands = [line for line in between.splitlines() if line and not line.startswith("#")]
    assert commands == ['readings "$OUT/trace.slabs.csv" || fail "cannot write $OUT/trace.slabs.csv"']

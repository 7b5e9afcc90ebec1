"""Runs commands as a user does, in this process: start-up and compiled kernels are paid once."""

import resource
import sys
import time
from typing import NamedTuple

import pytest

from fastalloc.cli.main import main


class Outcome(NamedTuple):
    """How a command ended, what it printed, how long it took and how many bytes more the process needed at most."""

    code: int
    out: str
    err: str
    seconds: float
    grown: int


@pytest.fixture
def fastalloc(monkeypatch, capfd, tmp_path):
    """Runs ``fastalloc ARGUMENTS`` in an empty folder."""
    monkeypatch.setattr("fastalloc.report.filled._vega", lambda: "")
    monkeypatch.setattr("fastalloc.cli.interrupt.GRACE_S", 60.0)  # at its end the process ends, and the tests with it
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastalloc", *map(str, arguments)])
        capfd.readouterr()
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        seconds = time.process_time() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss) * 1024
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err, seconds, grown)

    return run

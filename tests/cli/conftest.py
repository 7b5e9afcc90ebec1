"""The command line over made-up lanes."""

import sys

import pytest

from fastalloc import runner
from fastalloc.cli.main import main
from tests import fake_batch


class Outcome:
    """What a command printed and how it ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def fastalloc(monkeypatch, capsys, tmp_path):
    """Runs ``fastalloc ARGUMENTS`` in an empty folder."""
    monkeypatch.setattr(runner, "run_lanes", fake_batch.run_lanes)
    monkeypatch.setattr(runner, "run_machines", fake_batch.run_machines)
    monkeypatch.setattr(runner, "refuse_unfit", lambda scenarios, at_once: None)
    monkeypatch.setattr("fastalloc.report.filled._vega", lambda: "")
    monkeypatch.setattr("fastalloc.cli.interrupt.GRACE_S", 60.0)  # at its end the process ends, and the tests with it
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastalloc", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run

"""The command line over made-up lanes."""

import sys

import pytest

from fastalloc import runner
from fastalloc.cli.main import main
from fastalloc.report import charts, html
from tests import fake_batch


class Outcome:
    """What a command printed and how it ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


CHARTS = ("free_pages", "writeback", "commands", "waiting", "failures", "commands_started", "every_lane")


@pytest.fixture
def drawn():
    """Asked for before ``fastalloc``: the charts of a page, two thirds of the time of a command, are drawn."""


@pytest.fixture
def fastalloc(request, monkeypatch, capsys, tmp_path):
    """Runs ``fastalloc ARGUMENTS`` in an empty folder; its pages have no charts, see ``drawn``."""
    if "drawn" not in request.fixturenames:
        for name in CHARTS:
            monkeypatch.setattr(charts, name, lambda *arguments: {})
        monkeypatch.setattr(html, "pareto_charts", lambda rows: [])
    monkeypatch.setattr("fastalloc.written.os.fsync", lambda file: None)  # no test of these pulls the plug
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

"""A machine by itself: run under a load that is told, by its own kernel's bundle."""

import json
from pathlib import Path

import pytest

from fastalloc.api import _loaded
from fastalloc.batch import run_lanes
from fastalloc.batch.pressed import machine_alone, pressed
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.scenario import import_machine, load_machine, machine_toml
from fastalloc.store import open_dataset
from tests.scenario.test_import_reports import POSTED, posted

ZONEINFO = """\
Linux version 6.12.5 (gcc)
Node 0, zone   Normal
  pages free     300
        boost    0
        min      64
        low      80
        high     96
        spanned  4000
        present  4000
        managed  4000
        cma      0
        protection: (0, 0, 0)
Node 1, zone   Normal
  pages free     300
        boost    0
        min      64
        low      80
        high     96
        spanned  4000
        present  4000
        managed  4000
        cma      0
        protection: (0, 0, 0)
"""
RECLAIM = "reclaim, swap, block layer and scheduler are those of 2.6.25-rc8, not of 6.12.5"


def write(name: str = "mine.toml") -> None:
    Path("posted.txt").write_text(ZONEINFO)
    Path(name).write_text(machine_toml(import_machine(Path("posted.txt"))))


def test_a_machine_alone_runs_and_says_what_it_assumed(drawn, fastalloc, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # sentences fit a terminal
    write()
    done = fastalloc("run", "mine.toml", "--lanes", 1, "--seconds", 40, "--out", "d")
    assert done.code == 0, done.err
    assert done.out.startswith(f"simplified: {RECLAIM}\nsimplified: 2 memory nodes (0, 1) are joined into one\n")
    told = [line.removeprefix("assumed: ") for line in done.err.splitlines() if line.startswith("assumed: ")]
    assert "policy 6.12, the kernel of the machine" in told
    assert any(line.startswith("swap of ") for line in told)
    assert any("fill" in line and "anonymous memory" in line for line in told)
    assert "hz 250 assumed" in told, "what the import assumed is said again"
    assert "fastalloc compare mine.toml --policies" in done.err, "named as the command names it"
    manifest = open_dataset("d").manifest
    assert manifest["simplified"][0] == RECLAIM
    assert "policy 6.12" in manifest["scenario"]["description"]
    assert "2 memory nodes joined into one" in manifest["variants"][0]["rules"]
    assert manifest["command"].startswith("fastalloc run mine.toml")
    assert RECLAIM in Path("d/report.html").read_text()
    shown = json.loads(fastalloc("report", "d", "--json").out)
    assert shown[0]["simplified"] == manifest["simplified"]


def test_a_scenario_on_a_machine_of_ones_own(fastalloc, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    write()
    load = (
        "--set",
        "workload.writer_pages=3000",
        "--set",
        "workload.tree_files=100",
        "--set",
        "machine.swap_pages=65536",
    )
    asked = ("swap-livelock", "--set", "machine=mine.toml", *load)
    done = fastalloc("run", *asked, "--variant", "fix", "--lanes", 1, "--seconds", 40, "--out", "d")
    assert done.code == 0, done.err
    assert f"simplified: {RECLAIM}" in done.out
    assert "assumed: policy 6.12, the kernel of the machine" in done.err
    assert "assumed: hz 250 assumed" in done.err


def test_a_preset_of_a_machine_is_one_too():
    scenario = _loaded("linux-2.6.25-rc8-256m", {"run.lanes": 2}, {"machine.cpus": 4})
    assert scenario.machine.cpus == 4
    assert scenario.run.lanes == 2
    assert scenario.kernel_policy == "2.6.25-rc8, the kernel of the machine"
    assert scenario.workload.writer_pages * scenario.workload.writers > sum(scenario.machine.free_pages.values())


def test_a_slab_kernel_of_large_pages_runs_slub_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write()
    machine = load_machine("mine.toml").model_copy(update={"allocator": "slab", "page_kb": 64})
    scenario, said = pressed(machine)
    assert scenario.policy.allocator == "cpu-partial"
    assert "SLUB for its SLAB, which is modelled for pages of 4 kB" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", list(POSTED))
def test_every_posted_machine_runs_by_itself(name, tmp_path):
    """A second of each, with every invariant checked at its end."""
    (tmp_path / "m.toml").write_text(machine_toml(import_machine(posted(name))))
    scenario, _ = machine_alone(tmp_path / "m.toml")
    scenario = scenario.with_settings({"run.duration_s": 1.0})
    (result,) = run_lanes(scenario, [0], seed=1, threads=1)
    assert result.metrics[METRIC.pages_copied] + result.metrics[METRIC.anonymous_pages] > 10_000

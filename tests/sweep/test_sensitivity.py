"""Sensitivity indices: exact where they are known, and from the datasets of real sweeps."""

import json
import sys
from math import pi

import numpy as np
import pytest

from fastalloc import open_dataset
from fastalloc.errors import InputError
from fastalloc.report.sensitivity import _grid_indices, grid_influences, saltelli_influences, sampled_influences
from fastalloc.report.sweep import point_table
from fastalloc.sweep import run_sweep
from fastalloc.sweep.axes import sample_settings
from fastalloc.sweep.model import Interval, Sample
from fastalloc.sweep.sensitivity import _Lanes, sensitivity
from tests.sweep.conftest import SWEEP

pytest.importorskip("SALib")

NAMES = ["x.a", "x.b", "x.c"]
# Ishigami's function with a = 7, b = 0.1 [Ishigami and Homma 1990]: variances of its parts, in closed form
V1, V2, V13 = 0.5 * (1 + 0.1 * pi**4 / 5) ** 2, 49 / 8, 8 * 0.01 * pi**8 / 225
FIRST = np.array([V1, V2, 0]) / (V1 + V2 + V13)
TOTAL = np.array([V1 + V13, V2, V13]) / (V1 + V2 + V13)


def ishigami(a, b, c):
    return np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)


def design(method, points):
    sample = Sample(method=method, points=points, axes={name: Interval(low=-pi, high=pi) for name in NAMES})
    return np.array([[row[name] for name in NAMES] for row in sample_settings(sample)])


def column(found, name):
    return np.array([getattr(row, name) for row in found])


def test_sobol_indices_of_ishigami():
    found = saltelli_influences(NAMES, ishigami(*design("saltelli", 5 * 1024).T))
    assert [row.parameter for row in found] == NAMES
    assert column(found, "first") == pytest.approx(FIRST, abs=0.02)
    assert column(found, "total") == pytest.approx(TOTAL, abs=0.02)
    assert (abs(column(found, "first") - FIRST) < column(found, "first_half")).all()
    assert (abs(column(found, "total") - TOTAL) < column(found, "total_half")).all()
    assert (column(found, "first_half") < 0.15).all()


@pytest.mark.parametrize("method", ["lhs", "sobol"])
def test_first_order_indices_of_ishigami_from_any_sample(method):
    points = design(method, 2048)
    found = sampled_influences(NAMES, points, ishigami(*points.T))
    assert column(found, "first") == pytest.approx(FIRST, abs=0.03)
    assert (abs(column(found, "first") - FIRST) < column(found, "first_half")).all()
    assert [row.total for row in found] == [None] * 3


def test_indices_of_ishigami_on_a_grid():
    steps = (np.arange(40) + 0.5) / 40 * 2 * pi - pi
    outcome = ishigami(*np.meshgrid(steps, steps, steps, indexing="ij"))
    found = grid_influences(NAMES, outcome, outcome + np.random.default_rng(2).normal(0, 0.1, (50, *outcome.shape)))
    assert column(found, "first") == pytest.approx(FIRST, abs=0.003)
    assert column(found, "total") == pytest.approx(TOTAL, abs=0.003)
    assert (column(found, "total_half") < 0.01).all()


def test_the_intervals_of_a_grid_cover_the_chance_of_its_lanes():
    """Grids of shares from 64 lanes a point: about 95 % of intervals hold the index they were drawn about."""
    x, y = np.meshgrid(np.linspace(0.1, 0.9, 6), np.linspace(0, 0.09, 5), indexing="ij")
    p, random, covered, chances = x + y, np.random.default_rng(3), 0, []
    reference = np.mean([np.array(_grid_indices(random.binomial(64, p) / 64))[:, 0] for _ in range(500)], axis=0)
    for _ in range(50):
        hits = (random.random((p.size, 64)) < p.reshape(-1, 1)).astype(float)
        lanes = _Lanes(hits, np.ones_like(hits))
        found = grid_influences(
            ["x.a", "x.b"], hits.mean(axis=1).reshape(p.shape), lanes.drawn_anew().reshape(-1, *p.shape)
        )
        chances.append(lanes.chance())
        covered += (abs(column(found, "first") - reference) < column(found, "first_half")).sum()
    assert 88 <= covered <= 100
    expected = (p * (1 - p) / 64).mean() / (p.var() + (p * (1 - p) / 64).mean())
    assert np.mean(chances) == pytest.approx(expected, rel=0.15)


def test_what_all_lanes_share_is_no_chance():
    """Lane 3 may be worse than lane 5 at every point: the points still differ by exactly what they differ by."""
    lane = np.random.default_rng(1).normal(0, 100, 16)
    value = np.arange(6.0)[:, None] + lane
    lanes = _Lanes(value, np.ones_like(value))
    assert lanes.chance() < 1e-9
    found = grid_influences(["x.a", "x.b"], value.mean(axis=1).reshape(2, 3), lanes.drawn_anew().reshape(-1, 2, 3))
    assert max(column(found, "total_half")) < 1e-9


def test_a_saltelli_sample_exchanges_one_axis_at_a_time():
    rows = design("saltelli", 5 * 8).reshape(8, 5, 3)
    for first, *mixed, second in rows:
        assert (first != second).all()
        for i, row in enumerate(mixed):
            assert row[i] == second[i]
            assert (np.delete(row, i) == np.delete(first, i)).all()
    with pytest.raises(ValueError, match="5 times a power of two"):
        design("saltelli", 48)


SAMPLED = """
name = "tiny"
scenario = "scenario.toml"
variants = ["rc8", "fix"]
lanes = 2
[[samples]]
method = "saltelli"
points = 32
[samples.axes]
"host.queue_depth" = { low = 1, high = 4 }
"machine.min_free_kbytes" = { low = 24, high = 96, log = true }
"""


def test_a_sweep_tells_what_matters(sweep_file, tmp_path, fastalloc):
    dataset = run_sweep(sweep_file(SAMPLED), tmp_path / "out", batch=16)
    assert dataset.manifest["sweep"]["repeated"] > 0  # queue depths are few: rows of the design share points
    rc8, fix = sensitivity(dataset, "pages_swapped_out")
    assert (rc8.title, fix.title, rc8.method) == ("rc8", "fix", "Sobol (Saltelli)")
    assert {row.parameter for row in rc8.influences} == {"host.queue_depth", "machine.min_free_kbytes"}
    told = json.loads(fastalloc("sensitivity", dataset.path, "--of", "pages_swapped_out", "--json").out)
    assert told[0]["influences"][0] == rc8.influences[0]._asdict()
    with pytest.raises(InputError, match="--of: sense: is neither livelock nor a metric of runs/"):
        sensitivity(dataset, "sense")
    manifest = dataset.path / "manifest.json"
    told = json.loads(whole := manifest.read_text())
    told["sweep"]["file"]["samples"] = 7
    manifest.write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"manifest\.json: sweep: tells no sweep"):
        sensitivity(open_dataset(dataset.path), "pages_swapped_out")
    manifest.write_text(whole)
    for shard in list((dataset.path / "runs").iterdir())[:1]:
        shard.unlink()
    with pytest.raises(InputError, match="it is not complete"):
        sensitivity(open_dataset(dataset.path), "pages_swapped_out")


def test_without_salib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "SALib.analyze.sobol", None)
    with pytest.raises(InputError, match=r"pip install '\.\[sensitivity\]'"):
        saltelli_influences(NAMES, np.arange(40.0))


def test_a_grid_needs_no_sample(sweep_file, tmp_path):
    dataset = run_sweep(sweep_file(SWEEP.replace("lanes = 8", "lanes = 5")), tmp_path / "out")
    rc8 = sensitivity(dataset, "pages_swapped_out")[0]
    assert (rc8.method, rc8.points) == ("full grid", 4)
    first, total = column(rc8.influences, "first"), column(rc8.influences, "total")
    assert first.sum() <= 1 + 1e-9 <= total.sum() + 2e-9
    assert 0 <= rc8.chance <= 1  # all of it where lanes differ more than points


LISTED = SWEEP.replace(
    '"machine.min_free_kbytes" = [24, 96]',
    """"machine.zones.0.protection.0" = [0, 1]
"machine.zones.0.protection.1" = [31, 62]""",
).replace("lanes = 8", "lanes = 4")


def test_entries_of_one_list_are_one_column(sweep_file, tmp_path):
    """Two axes over a list show as one: its values tell the points apart."""
    dataset = run_sweep(sweep_file(LISTED), tmp_path / "out")
    assert dataset.manifest["sweep"]["axes"] == ["host.queue_depth", "machine.zones.DMA.protection"]
    found = sensitivity(dataset, "pages_swapped_out")[0]
    assert {row.parameter for row in found.influences} == {"host.queue_depth", "machine.zones.DMA.protection"}
    assert point_table(dataset)["machine.zones.DMA.protection"].unique().sort().to_list() == [
        "0,31",
        "0,62",
        "1,31",
        "1,62",
    ]

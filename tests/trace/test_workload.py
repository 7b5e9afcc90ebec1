"""Workloads fitted from a trace: what they keep of it, and what is refused."""

import json

import numpy as np
import pytest

from fastalloc.errors import InputError
from fastalloc.scenario.fitted import read_workload
from fastalloc.trace.compact.describe import describe
from fastalloc.trace.replay.recording import open_recording, read_trace
from fastalloc.trace.workload import fit, generate
from tests.geometry.shared import DATA
from tests.trace.test_replay import run_command, trace_app

RUN = DATA / "traces" / "d_stack_k612.events.parquet"


@pytest.fixture(scope="module")
def trace():
    return read_trace(RUN)


@pytest.fixture(scope="module")
def load(trace):
    return fit(trace)


def test_a_drawn_trace_is_like_the_one_it_was_fitted_from(trace, load):
    longer = 20  # so that the scatter of bursts averages out
    drawn = generate(load, longer * load["span_ns"] / 1e9, 7)
    before, after = (describe(item) for item in (trace, drawn))
    real = {row["cache"]: row for row in before["caches"]}
    busy = [row for row in after["caches"] if real[row["cache"]]["allocs"] > 500]
    assert len(busy) >= 5
    for row in busy:
        wanted = real[row["cache"]]
        assert row["allocs"] == pytest.approx(longer * wanted["allocs"], rel=0.2)
        assert row["frees"] / row["allocs"] == pytest.approx(min(1, wanted["frees"] / wanted["allocs"]), abs=0.25)
    assert after["totals"]["allocations"] == pytest.approx(longer * before["totals"]["allocations"], rel=0.1)
    share = [item["totals"]["cross CPU frees"] / item["totals"]["frees"] for item in (before, after)]
    assert share[1] == pytest.approx(share[0], abs=0.05)


def test_bursts_stay_bursts(load):
    drawn = fit(generate(load, 4 * load["span_ns"] / 1e9, 3))
    again = {cache["cache"]: cache for cache in drawn["caches"]}
    busy = [cache for cache in load["caches"] if cache["rate"] * load["span_ns"] > 500e9]
    assert all(again[cache["cache"]]["dispersion"] > 2 for cache in busy if cache["dispersion"] > 20)


def test_seeds(load):
    one, same, other = (generate(load, 1, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.events, same.events)
    assert not np.array_equal(one.events, other.events)
    assert (np.diff(one.events["time"].astype(np.int64)) >= 0).all()


def test_commands(tmp_path):
    file, drawn = tmp_path / "w.json", tmp_path / "w.fatrace"
    assert run_command(trace_app, "fit", RUN, "-o", file).exit_code == 0
    assert run_command(trace_app, "generate", file, "--seconds", 0.5, "-o", drawn).exit_code == 0
    replayed = open_recording(drawn, None, None, "6.12", "", starts=1).run(["allocator=slab"], 1)
    assert replayed[0].result.caches["objects"].sum() > 100
    assert all(item.result.counts["frees of objects not out"] == 0 for item in replayed)
    assert run_command(trace_app, "generate", file, "--seconds", 1e9).exit_code == 2
    assert run_command(trace_app, "generate", RUN).exit_code == 2
    assert run_command(trace_app, "fit", tmp_path / "none").exit_code == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("rate", "fast"), ("rate", None), ("gap_ns", []), ("gap_ns", [0, 0]), ("gap_ns", [-1]), ("cpus", [0.2]),
     ("life_ns", "x"), ("kept", True), ("src", 1), ("bytes_alloc", 1e12)],
)  # fmt: skip
def test_damaged_workloads_are_refused(tmp_path, load, key, value):
    file = tmp_path / "w.json"
    file.write_text(json.dumps({**load, "caches": [{**load["caches"][0], key: value}]}))
    with pytest.raises(InputError, match="caches"):
        read_workload(file)

"""Replays against the kernels that were traced, and what-ifs against each other.

``tests/data/traces`` holds one small recorded run (kernel 6.12, 2 CPUs) whole, with the state of all slabs before it.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from fastalloc.cli.replay import replay
from fastalloc.cli.trace import trace_app
from fastalloc.errors import InputError
from fastalloc.report.replay_page import write_replay_page
from fastalloc.trace.lanes import lane as lane_module
from fastalloc.trace.replay import columns
from fastalloc.trace.replay.check import check, read_summary
from fastalloc.trace.replay.prediction import RUN as RUN_LANE
from fastalloc.trace.replay.recording import beside, open_recording
from fastalloc.trace.replay.results import summary, write_results
from fastalloc.trace.replay.unchanged_caches import unchanged
from fastalloc.trace.replay.whatif import grid
from tests.geometry.shared import DATA, shared

RUN = DATA / "traces" / "d_stack_k612.events.parquet"
WHAT_IFS = [
    "cpu_partial=0",
    "order=0",
    "era=2.6.25",
    "era=sheaves",
    "nomerge",
    "order=0,cpu_partial=0",
    "allocator=slab",
]


@pytest.fixture(scope="module")
def recording():
    return open_recording(RUN, beside(RUN, "slabstate"), None, "6.12", "slab_nomerge")


@pytest.fixture(scope="module")
def predictions(recording):
    return recording.run(WHAT_IFS, 1)


def test_every_cache_as_in_the_kernel(predictions):
    found = check(predictions[0], read_summary(beside(RUN, "summary")), None)
    assert found.ok
    assert len(found.caches) == 61
    assert found.totals["error"].to_list() == [0, 0, 0]
    assert found.exact_at_peak == 1


def test_the_lane_balances(predictions):
    for prediction in predictions:
        table = prediction.result.caches
        assert (table["start_slabs"] + table["new"] - table["freed"] == table["end"]).all()
        assert (table["peak"] >= table["end"]).all()
        held = table["end"].to_numpy() * 4096 << table["order"].to_numpy()
        unused = table["tail_bytes"] + table["partial_bytes"] + table["cpu_bytes"]
        assert (table["objects"] * table["size"] + unused == held).all()  # each byte is somewhere
        assert table.select("tail_bytes", "partial_bytes", "cpu_bytes", "rounding_bytes").min().min_horizontal()[0] >= 0
        assert prediction.result.counts["frees of objects not out"] == 0
        assert prediction.result.counts["allocations refused"] == 0


def test_what_ifs_differ_as_their_rules_do(predictions):
    figures = {item.result.config.name: summary(item) for item in predictions}
    traced = figures["as traced"]
    assert figures["nomerge"]["new_pages"] == traced["new_pages"]  # the traced kernel ran slab_nomerge
    assert figures["order=0"]["alloc_slow"] > traced["alloc_slow"]
    assert figures["era=sheaves"]["alloc_slow"] < traced["alloc_slow"]
    assert figures["era=2.6.25"]["freed_pages"]["median"] > traced["freed_pages"]["median"]
    slab = predictions[-1].result.caches
    assert slab["alloc_fast"].sum() + slab["alloc_slow"].sum() >= traced["alloc_fast"] + traced["alloc_slow"]
    assert figures["allocator=slab"]["free_slow"] < traced["free_slow"]  # arrays take what is freed elsewhere
    assert figures["cpu_partial=0"]["peak_pages"]["median"] <= traced["peak_pages"]["median"]
    assert all(row["peak_pages"]["high"] <= row["own_peaks_pages"]["high"] for row in figures.values())


def test_arrays_grow_without_a_trace_of_it(recording, predictions, monkeypatch):
    monkeypatch.setattr(lane_module, "FIRST_SLABS", 0)
    grown = recording.run(["order=0", "allocator=slab"], 1)
    for one, other in zip(grown, (predictions[0], predictions[2], predictions[-1]), strict=True):
        assert one.result.caches.equals(other.result.caches)
        assert np.array_equal(one.result.series, other.result.series)


def test_what_a_configuration_leaves_as_it_was_comes_out_the_same(recording, predictions):
    """Caches that no what-if touches are taken from the first lane: every table is that of a lane run whole."""
    trace = recording.trace
    taken = 0
    for item in predictions[1:]:
        config = item.result.config
        taken += len(unchanged(config, predictions[0].result.config, trace))
        whole = RUN_LANE[config.allocator](trace, config, recording.start, lane_module.samples_of(trace))
        assert item.result.caches.drop("cross_cpu_frees").equals(whole.caches)
        assert np.array_equal(item.result.series, whole.series)
        assert item.result.counts == whole.counts
    assert taken > 100


def test_draws_are_the_same_every_time(recording):
    one, other = (recording.run([], 3)[0] for _ in range(2))
    assert np.array_equal(one.draws, other.draws)
    table = one.table()
    assert ((table["new_low"] <= table["new"]) & (table["new"] <= table["new_high"])).all()


def test_grids_are_every_combination():
    assert grid(["order=0,1", "cpu_partial=0,6"]) == [
        "order=0,cpu_partial=0", "order=0,cpu_partial=6", "order=1,cpu_partial=0", "order=1,cpu_partial=6",
    ]  # fmt: skip
    assert grid([]) == []
    for axis in ("order", "=1", "order=", "order=1,"):
        with pytest.raises(InputError, match="--grid"):
            grid([axis])


def test_objects_of_merged_caches_go_where_their_caches_went(recording):
    names = {cache.name: cache for cache in recording.caches}
    aliases = {"vm_area_struct": "dentry", "filp": "dentry"}
    assert set(aliases) < set(names)
    merged = dataclasses.replace(recording, aliases=aliases).run(["merge"], 1)
    apart, joined = (item.result for item in merged)
    assert joined.counts == apart.counts
    wanted = apart.caches.filter(pl.col("cache").is_in(["dentry", *aliases]))["objects"].sum()
    assert joined.caches.filter(pl.col("cache") == "dentry")["objects"].item() == wanted


def test_slab_reaps_what_lies_idle(recording):
    """The same operations, spread over more time, leave fewer objects in arrays and fewer free slabs."""
    trace = recording.trace
    slowly = {**trace.meta, "time_unit_ns": 1000 * trace.meta["time_unit_ns"]}
    waited = dataclasses.replace(trace, meta=slowly)
    config = recording.configs(["allocator=slab"])[1]
    now, then = (
        RUN_LANE["slab"](item, config, recording.start, lane_module.NO_SAMPLES).caches for item in (trace, waited)
    )
    assert (then["objects"] == now["objects"]).all()
    assert then["end"].sum() < now["end"].sum()
    assert then["reaped"].sum() > now["reaped"].sum()


@pytest.mark.parametrize(
    "text", ["colour=red", "order=", "order=-1", "era=3.0", "merge", "cpu_partial=x", "allocator=slob", ""]
)
def test_unknown_what_ifs_are_refused(recording, text):
    with pytest.raises(InputError, match="--what-if"):
        recording.configs([text])


def test_without_start_state_what_is_not_known_is_counted():
    cold = open_recording(RUN, None, None, "6.12", "", starts=1)
    assert cold.steps["objects whose slabs before the trace are not known"] > 0
    assert cold.run([], 1)[0].result.counts["frees of objects not out"] == 0


def test_result_tables(recording, predictions, tmp_path):
    write_results(tmp_path / "out", recording, predictions, "fastalloc replay x")
    page = write_replay_page(tmp_path / "out").read_text()
    assert "Predicted against real" not in page  # nothing was compared
    for name in ("as traced", *WHAT_IFS):
        assert f'<span class="name">{name}</span>' in page
    assert "://" not in page.split("<script>")[0]
    series = pl.read_parquet(tmp_path / "out" / "series.parquet")
    assert set(series["config"]) == {"as traced", *WHAT_IFS}
    assert (series["waste_bytes"] >= 0).all()
    assert set(series.columns) == set(columns.SERIES)
    caches = pl.read_parquet(tmp_path / "out" / "caches.parquet").columns
    assert set(columns.CACHES) | columns.RANGES <= set(caches)
    docs = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    assert all(f"| `{name}` |" in docs for name in (*columns.CACHES, *columns.SERIES))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["configs"][0]["config"] == "as traced"


def run_command(app, *arguments):
    import typer

    if not isinstance(app, typer.Typer):
        command, app = app, typer.Typer()
        app.command()(command)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, InputError):
        done.exit_code = 2  # as `fastalloc.cli.border` ends it
    return done


def test_commands(tmp_path):
    compact = tmp_path / "d_stack_k612.fatrace"
    assert run_command(trace_app, "convert", RUN, "-o", compact).exit_code == 0
    described = json.loads(run_command(trace_app, "info", compact, "--json").stdout)
    assert described["totals"]["allocations"] == 12739 - 5  # that many large ones printed their event twice
    checked = run_command(replay, RUN, "--check", "--draws", 2, "--json", "-o", tmp_path / "out")
    assert checked.exit_code == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Predicted against real" in page
    real = pl.read_parquet(tmp_path / "out" / "real.parquet")
    series = pl.read_parquet(tmp_path / "out" / "series.parquet")
    both = real.join(series, on=["ts_ns", "cache"])
    assert len(both) > 10_000
    assert (both["slabs"] - both["slabs_right"]).abs().max() <= 1
    assert json.loads(checked.stdout)["check"]["ok"] is True
    again = run_command(replay, compact, "--state", beside(RUN, "slabstate"), "--json")
    assert again.exit_code == 0
    assert (
        json.loads(again.stdout)["configs"][0]["new_pages"]["median"]
        == json.loads(checked.stdout)["configs"][0]["new_pages"]["median"]
    )
    assert run_command(replay, compact, "--check").exit_code == 2
    assert run_command(replay, tmp_path / "none").exit_code == 2


@pytest.mark.parametrize(
    "run",
    [
        "d_stack_k61",
        "d_w1_k612_smp2_minorder2",
        "d_w1_k61_smp2_maxorder0",
        "d_memcg_k61_smp2",
        pytest.param("d_w3_k61_smp2_nomerge", marks=pytest.mark.slow),
    ],
)
def test_other_runs_of_real_kernels(run):
    path = shared("kernel", "traces") / f"{run}.events.parquet"
    other = open_recording(path, beside(path, "slabstate"), None, "6.1", "")
    found = check(other.run([], 3)[0], read_summary(beside(path, "summary")), None)
    assert found.ok

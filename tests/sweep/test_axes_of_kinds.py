"""Policies and recorded traces as axes of a sweep."""

from pathlib import Path
from typing import get_args

import pytest

from fastalloc.errors import InputError
from fastalloc.kernels.alloc.slub.state import ERA_NAMES
from fastalloc.scenario import policy_variant
from fastalloc.sweep import plan_sweep, run_sweep
from fastalloc.sweep.folder import manifest_of
from fastalloc.sweep.replays import METRICS, PAGES, Settings
from fastalloc.trace.replay.drawn_orders import reordered
from fastalloc.trace.replay.prediction import predict
from fastalloc.trace.replay.recording import beside, open_recording
from fastalloc.trace.replay.whatif import ALLOCATORS
from tests.sweep.conftest import SWEEP

TRACE = Path(__file__).parents[1] / "data" / "traces" / "d_stack_k612.events.parquet"
REPLAYS = f"""
name = "slub"
traces = ["{TRACE}"]
lanes = 2
[set]
"replay.kernel" = "6.12"
[axes]
"replay.cpu_partial" = [0, 6]
"replay.merging" = ["as traced", "nomerge"]
"""


def test_policies_are_variants_and_compose(sweep_file):
    plan = plan_sweep(sweep_file(SWEEP.replace('variants = ["rc8", "fix"]', 'policies = ["fix", "nomerge-bio+fix"]')))
    assert [variant.name for variant in plan.base.variants] == ["fix", "nomerge-bio+fix"]
    assert len(plan.points) == 8
    assert plan.at(7).policy.command_rule == "fix"
    assert plan.at(7).policy.nomerge_bio
    assert policy_variant("nomerge-bio+fix").set.items() >= {"policy.nomerge_bio": True}.items()
    both = plan_sweep(sweep_file(SWEEP.replace('"fix"]', '"fix"]\npolicies = ["nomerge-bio"]')))
    assert [variant.name for variant in both.base.variants] == ["rc8", "fix", "nomerge-bio"]


def test_the_manifest_names_the_kernel_whose_rules_run(sweep_file):
    (traced,) = manifest_of(plan_sweep(sweep_file(REPLAYS)), "", [])["variants"]
    assert traced["rules"].startswith("Linux 6.12")
    machines = manifest_of(plan_sweep(sweep_file(SWEEP)), "", [])["variants"]
    assert all(variant["rules"].startswith("SLUB of 2.6.25") for variant in machines)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('policies = ["no-such"]', "no such policy"),
        ('policies = ["rc8"]', "is a variant already"),
        ('policies = ["fix", "fix"]', "a name twice"),
        ('traces = ["x"]', "needs either scenario or traces"),
    ],
)
def test_policies_and_traces_that_cannot_be_are_refused(sweep_file, change, told):
    with pytest.raises(InputError, match=told) as caught:
        plan_sweep(sweep_file(SWEEP.replace("lanes = 8", f"lanes = 8\n{change}")))
    assert "sweep.toml" in str(caught.value)


def test_a_sweep_of_a_trace_gives_what_replay_gives(sweep_file, tmp_path):
    dataset = run_sweep(sweep_file(REPLAYS), tmp_path / "out", threads=2)
    rows = dataset.runs.sort("id").collect()
    assert rows.select("variant").unique().item() == "d_stack_k612"
    assert rows["lane"].to_list() == [0, 1] * 4
    recording = open_recording(TRACE, beside(TRACE, "slabstate"), None, "6.12", "")
    asked = ["cpu_partial=0", "nomerge,cpu_partial=0", "cpu_partial=6", "nomerge,cpu_partial=6"]
    for number, config in enumerate(recording.configs(asked)[1:]):
        for lane in (0, 1):
            row = rows.filter(point=number, lane=lane).row(0, named=True)
            order = reordered(recording.trace, lane, recording.loose)
            alone = predict(order, [config], recording.start)[0]
            new, freed, _, end = alone.pages()[0].tolist()
            assert [row[name] for name in PAGES] == [new, freed, alone.at_once[0], end]
            assert row["list_lock"] == alone.result.caches["list_lock"].sum()
    assert rows.filter(lane=0)["new_pages"].n_unique() > 1
    assert set(METRICS) <= set(rows.columns)


def test_a_trace_is_known_by_its_content(sweep_file, tmp_path):
    first = plan_sweep(sweep_file(REPLAYS))
    copy = tmp_path / "d_stack_k612.events.parquet"
    copy.write_bytes(TRACE.read_bytes())
    state = TRACE.with_name("d_stack_k612.slabstate.parquet")
    (tmp_path / state.name).write_bytes(state.read_bytes())
    elsewhere = REPLAYS.replace(str(TRACE), copy.name)
    moved = plan_sweep(sweep_file(elsewhere))
    assert [point.identity for point in moved.points] == [point.identity for point in first.points]
    (tmp_path / state.name).unlink()
    bare = plan_sweep(sweep_file(elsewhere))
    assert not {point.identity for point in bare.points} & {point.identity for point in first.points}
    with pytest.raises(InputError, match="not the trace that the sweep was planned with"):
        run_sweep(moved, tmp_path / "out", threads=1)
    with pytest.raises(InputError, match="No such file"):
        plan_sweep(sweep_file(elsewhere.replace("d_stack", "e_stack")))


def test_traces_refuse_what_machines_have(sweep_file):
    for line in (
        'variants = ["rc8"]',
        'tables = ["runs", "series"]',
        "stop = { max_livelocks = 1 }",
    ):
        with pytest.raises(InputError, match="is for machines"):
            plan_sweep(sweep_file(REPLAYS.replace("lanes = 2", f"lanes = 2\n{line}")))
    for axis, told in (('"replay.speed" = [1]', "names no field"), ('"replay.era" = ["6.12"]', "must be")):
        with pytest.raises(InputError, match=told):
            plan_sweep(sweep_file(REPLAYS + axis))


def test_the_names_are_those_of_the_allocators_and_eras():
    fields = Settings.model_fields
    assert set(get_args(get_args(fields["era"].annotation)[0])) == set(ERA_NAMES)
    assert set(get_args(get_args(fields["allocator"].annotation)[0])) == set(ALLOCATORS)

"""Sweeps of recorded traces under files of one's own: what ``replay`` gives, provenance, and what is refused."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from fastalloc.errors import InputError
from fastalloc.report.replays_page import write_replays_report
from fastalloc.scenario import trust
from fastalloc.sweep import plan_into, plan_sweep, run_sweep
from fastalloc.trace.replay.prediction import predict
from fastalloc.trace.replay.recording import beside, open_recording

TRACE = Path(__file__).parents[1] / "data" / "traces" / "d_stack_k612.events.parquet"
KEEPS = """
from fastalloc.own import parameter
more = parameter("more", 0, 0, 64, "partial slabs that are kept beyond the kernel's")

def keep(cache):
    return cache.min_partial + more
"""
SWEEP = f"""
name = "kept"
traces = ["{TRACE}"]
policies = ["as traced", "keeps.py"]
lanes = 1
[set]
"replay.kernel" = "6.12"
[axes]
"policy.more" = [0, 32]
"""


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv(trust.TRUST, "1")


@pytest.fixture
def sweep(tmp_path):
    """Writes ``keeps.py`` and a sweep file beside it; gives the path of that."""

    def write(text=SWEEP, policy=KEEPS):
        (tmp_path / "keeps.py").write_text(policy)
        (tmp_path / "sweep.toml").write_text(text)
        return tmp_path / "sweep.toml"

    return write


def test_each_trace_as_it_was_and_under_each_file(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fastalloc.report.replays_page.debug_mode", nullcontext
    )  # its charts are compared with the schema
    dataset = run_sweep(sweep(), tmp_path / "out", threads=1)
    rows = dataset.runs.sort("point").collect()
    assert rows["variant"].to_list() == ["d_stack_k612", *["d_stack_k612+keeps"] * 2]
    assert rows["policy.more"].to_list() == [None, 0, 32]
    recording = open_recording(TRACE, beside(TRACE, "slabstate"), None, "6.12", "")
    file = tmp_path / "keeps.py"
    asked = [f"policy={file},policy.more=0", f"policy={file},policy.more=32"]
    for row, config in zip(rows.iter_rows(named=True), recording.configs(asked), strict=True):
        (alone,) = predict(recording.trace, [config], recording.start)
        assert row["freed_pages"] == alone.pages()[0, 1]
        assert row["list_lock"] == alone.result.caches["list_lock"].sum()
    plain, same, kept = rows["freed_pages"]
    assert plain == same > kept
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    traced, own = told["variants"]
    assert own["own_policy"]["file"] == "keeps.py"
    assert "own_policy" not in traced
    assert told["scenario"]["variants"][1]["set"]["policy.questions"] == KEEPS
    page = write_replays_report(dataset).read_text()
    assert "<td>-</td>" in page
    assert "d_stack_k612+keeps" in page


def test_a_part_is_gone_on_with_under_the_text_that_it_was_begun_with(sweep, tmp_path):
    file, out = sweep(), tmp_path / "out"
    run_sweep(file, out, threads=1, shard=(1, 2))
    sweep(policy=KEEPS.replace("cache.min_partial + more", "more"))
    plan, _, others = plan_into(file, out)
    goes_on = f"{out} goes on with the text that it was begun with"
    assert others == [f"{tmp_path / 'keeps.py'}: {goes_on}, which is another"]
    assert run_sweep(plan, out, threads=1).manifest["status"] == "complete"
    assert plan_sweep(file).identity != plan.identity


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"keeps.py"', '"fix"', "traces are replayed 'as traced' or under files of your own, which end in .py"),
        ('"keeps.py"', '"kept.py"', r"No such file \(did you mean 'keeps.py'\?\)"),
        ('"keeps.py"', '"keeps.py", "./keeps.py"', "two would be called d_stack_k612\\+keeps"),
        ("[0, 32]", "[0, 65]", "policy.more.*65 is not within 0 to 64"),
        ('"policy.more"', '"policy.moer"', "did you mean 'policy.more'"),
        ("[set]", '[set]\n"policy.more" = 70', "set more than once"),
        ('"policy.more" = [0, 32]', '"replay.allocator" = ["slab"]', "keeps.py are asked of SLUB"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_runs(sweep, old, new, told):
    with pytest.raises(InputError, match=told) as caught:
        plan_sweep(sweep(SWEEP.replace(old, new)))
    assert "sweep.toml" in str(caught.value)


def test_code_of_a_sweep_file_is_not_run_untrusted(sweep, monkeypatch):
    monkeypatch.setenv(trust.TRUST, "0")
    for text in (SWEEP, SWEEP.replace("[set]", '[set]\n"policy.questions" = "def keep(cache): return 0"')):
        with pytest.raises(InputError, match=r"lines of Python .* then give --trust"):
            plan_sweep(sweep(text))


def test_what_no_replay_asks_is_refused_before_anything_runs(sweep):
    with pytest.raises(InputError, match=r"keeps.py: depth, line 5: is not asked in a replay"):
        plan_sweep(sweep(policy=KEEPS.replace("keep(cache)", "depth(zone)").replace("cache.min_partial", "zone.min")))
    with pytest.raises(InputError, match=r"sweep.toml.*refill, line 5: is not asked of the rules of cpu-partial"):
        plan_sweep(
            sweep(
                SWEEP.replace("[axes]", '[axes]\n"replay.era" = ["cpu-partial"]'),
                KEEPS.replace("keep(cache)", "refill(sheaf)").replace("cache.min_partial", "sheaf.size"),
            )
        )

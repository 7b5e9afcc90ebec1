"""A parameter of a file of one's own wherever a field may be set or varied: run, compare, sweep, sensitivity, frontier,
rare, replay."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fastalloc.api import sweep as run_again
from fastalloc.errors import InputError
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.scenario import load_scenario, with_policies
from fastalloc.scenario.own_parameters import parameter_of
from fastalloc.sweep import frontier as search
from fastalloc.sweep import plan_sweep
from fastalloc.trace.replay.whatif import with_grid
from tests.geometry.shared import DATA

KEPT = """
from fastalloc.own import parameter
kept = parameter("kept", 5, 0, 1000, "partial slabs below which an empty one stays")


def keep(cache):
    return kept * 8 // (8 + kept - abs(kept))


def sleep(pool):
    return kept + 1
"""
FAILS = KEPT.replace("kept * 8 // (8 + kept - abs(kept))", "kept // (kept - 3)")
HALF = 'from fastalloc.own import parameter\nshare = parameter("share", 2, 1, 8, "of a sheaf, one in so many")\n\n\n'
HALF += "def refill(sheaf):\n    return max(1, sheaf.capacity // share)\n"
TRACE = DATA / "traces" / "d_w4_k73_smp4.events.parquet"
SHORT = ("--lanes", 2, "--seconds", 1)
SWEEP = """
name = "kept"
scenario = "swap-livelock-34m"
policies = ["mine.py", "fix"]
lanes = 4
[axes]
"policy.kept" = [0, 2, 8, 1000]
[set]
"run.duration_s" = 2
"""


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(KEPT)
    Path("fails.py").write_text(FAILS)
    return tmp_path


def parameters(folder, variant):
    variants = json.loads(Path(folder, "manifest.json").read_text())["variants"]
    return next(each["own_policy"]["parameters"] for each in variants if each["name"] == variant)


def test_run_and_compare_set_it_in_the_variants_that_have_it(here, fastalloc):
    policy = ("swap-livelock-34m", "--policy", "mine.py", "--set", "policy.kept=7", "--variant", "rc8", "--out", "a")
    assert fastalloc("run", *policy, *SHORT).code == 0
    assert parameters("a", "rc8") == {"kept": 7}
    many = ("swap-livelock-34m", "--policies", "fix,mine.py,fix+mine.py", "--set", "policy.kept=7")
    for command in ("run", "compare"):
        assert fastalloc(command, *many, *SHORT, "--out", command).code == 0
        assert parameters(command, "mine") == parameters(command, "fix+mine") == {"kept": 7}
        runs = pl.read_parquet(Path(command, "runs", "**", "*.parquet"))
        kept = dict(runs.select("variant", "policy.kept").unique().iter_rows())
        assert kept == {"rc8": None, "fix": None, "mine": 7, "fix+mine": 7}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("policy.kapt=7", "policy.kapt: is no field of a policy, and no parameter of its file (did you mean 'kept'?)"),
        ("policy.kept=2000", "policy.kept: 2000 is not within 0 to 1000: partial slabs below which an empty one stays"),
        ("policy.kept=few", "policy.kept: a parameter is a whole number"),
    ],
)
def test_a_wrong_one_is_refused(here, fastalloc, setting, words):
    for command in ("run", "compare", "frontier"):
        asked = (command, "swap-livelock-34m", "--policies", "mine.py", "--set", setting)
        done = fastalloc(*asked, *(("--of", "policy.kept") if command == "frontier" else ("--out", "x")))
        assert done.code == 2
        assert words in done.err, done.err
    assert not Path("x").exists()


def test_a_sweep_varies_it_and_sensitivity_tells_what_it_does(here, fastalloc, monkeypatch):
    Path("s.toml").write_text(SWEEP.replace("[0, 2, 8, 1000]", "[0, 8, 1000]"))  # each value is compiled
    refused = fastalloc("sweep", "s.toml", "--out", "d")
    assert refused.code == 2
    assert "lines of Python" in refused.err
    assert fastalloc("sweep", "s.toml", "--out", "d", "--trust").code == 0
    runs = pl.read_parquet("d/runs/**/*.parquet")
    points = runs.group_by("variant", "policy.kept").len().sort("variant", "policy.kept").rows()
    assert points == [("fix", None, 4), ("mine", 0, 4), ("mine", 8, 4), ("mine", 1000, 4)]
    done = fastalloc("sensitivity", "d", "--of", "slab_slow", "--json")
    assert done.code == 0, done.err
    told = {part["title"].split(":")[0]: part for part in json.loads(done.out)}
    assert [row["parameter"] for row in told["mine"]["influences"]] == ["policy.kept"]
    own = runs.filter(pl.col("variant") == "mine")
    row = own.filter(pl.col("policy.kept") == 8).row(0, named=True)
    assert fastalloc("rerun", "d", row["id"], "--trust").code == 0
    Path("mine.py").write_text("def keep(cache):\n    return 3\n")  # a dataset has its own text
    assert fastalloc("rerun", "d", row["id"], "--trust").code == 0
    monkeypatch.setenv("FASTALLOC_TRUST", "0")
    assert "policy.questions" in fastalloc("rerun", "d", row["id"]).err


def test_a_sweep_is_gone_on_with_by_the_text_that_it_was_begun_with(here, fastalloc):
    Path("s.toml").write_text(SWEEP.replace("[0, 2, 8, 1000]", "[0, 2]"))
    assert fastalloc("sweep", "s.toml", "--out", "d", "--trust", "--shard", "1/2").code == 0
    Path("mine.py").write_text(KEPT.replace("kept * 8", "kept * 9"))
    other = fastalloc("sweep", "s.toml", "--out", "d", "--trust")
    assert other.code == 0, other.err
    assert "mine.py: d goes on with the text that it was begun with, which is another" in other.err
    manifest = Path("d/manifest.json").read_text()
    assert "kept * 8" in manifest
    assert "kept * 9" not in manifest
    Path("mine.py").write_bytes(b"\xff\xfe\x00")
    unread = fastalloc("sweep", "s.toml", "--out", "d", "--trust")
    assert unread.code == 0, unread.err
    assert "mine.py: d goes on with the text that it was begun with, which is another" in unread.err
    Path("mine.py").unlink()
    gone = fastalloc("sweep", "s.toml", "--out", "d", "--trust")
    assert gone.code == 0, gone.err
    assert "mine.py: no such file now; d goes on with the text that it was begun with\n" in gone.err
    assert "No such file" in fastalloc("sweep", "s.toml", "--out", "e", "--trust").err


def test_a_scenario_names_it_from_its_own_folder_and_is_gone_on_with_by_what_it_was(here, fastalloc, monkeypatch):
    monkeypatch.setenv("FASTALLOC_TRUST", "1")
    shown = fastalloc("scenarios", "show", "swap-livelock-34m").out
    Path("far").mkdir()
    own = '[[variants]]\nname = "own"\ntitle = "own"\nset = { policy = "near.py" }\n'
    Path("far/s.toml").write_text(shown + "\n" + own)
    Path("far/near.py").write_text(KEPT)
    Path("d.toml").write_text(
        'name = "d"\nscenario = "far/s.toml"\nvariants = ["own"]\nlanes = 2\nset = { "run.duration_s" = 1 }\n'
    )
    assert fastalloc("sweep", "d.toml", "--out", "d", "--shard", "1/2").code == 0
    rare = ["rare", "far/s.toml", "--variant", "own", "--seconds", 1, "--startup", 0, "--lanes", 2, "--out", "r"]
    assert fastalloc(*rare).code == 0
    Path("far/near.py").unlink()
    for words, folder in ((["sweep", "d.toml", "--out", "d"], "d"), (rare, "r")):
        gone = fastalloc(*words)
        assert gone.code == 0, gone.err
        assert f"far/near.py: no such file now; {folder} goes on with the text that it was begun with\n" in gone.err
    with pytest.warns(UserWarning, match="near.py: no such file now"):
        run_again("d.toml", "d")


@pytest.mark.usefixtures("here")
def test_a_sweep_sets_and_constrains_it(monkeypatch):
    monkeypatch.setenv("FASTALLOC_TRUST", "1")
    text = SWEEP.replace("lanes = 4\n", 'lanes = 4\nconstraints = ["policy.kept < 9"]\n')
    Path("s.toml").write_text(text)
    assert [point.settings for point in plan_sweep("s.toml").points[:3]] == [{"policy.kept": n} for n in (0, 2, 8)]
    Path("s.toml").write_text(re.sub(r"\[axes\]\n.*\n", "", SWEEP) + '"policy.kept" = 7\n')
    plan = plan_sweep("s.toml")
    assert [plan.at(n).policy.parameters for n in range(2)] == [{"kept": 7}, {}]
    for line, words in (
        ('"policy.kapt" = 7', "set: policy.kapt: is no field of a policy, and no parameter of its file"),
        ('"policy.kept" = 7777', "7777 is not within 0 to 1000"),
    ):
        Path("s.toml").write_text(re.sub(r"\[axes\]\n.*\n", "", SWEEP) + line)
        with pytest.raises(InputError, match=words):
            plan_sweep("s.toml")
    Path("s.toml").write_text(SWEEP.replace("policy.kept", "policy.kapt"))
    with pytest.raises(InputError, match=r"axes: policy\.kapt: policy\.kapt names no field of the scenario"):
        plan_sweep("s.toml")
    Path("s.toml").write_text(SWEEP.replace("lanes = 4\n", 'lanes = 4\nconstraints = ["policy.kapt < 9"]\n'))
    with pytest.raises(InputError, match=r"constraints: policy\.kapt names no field of the scenario"):
        plan_sweep("s.toml")


@pytest.mark.usefixtures("here")
def test_the_frontier_is_searched_along_it(monkeypatch):
    def made_up(scenario, lanes, *, seed, threads):
        for lane in lanes:
            metrics = np.zeros(METRIC.width, np.int64)
            often = 0.5 if parameter_of(scenario, "policy.kept") <= 40 else 0.0
            metrics[METRIC.livelock_5s] = np.random.default_rng([seed, lane]).random() < often
            yield type("Made", (), {"metrics": metrics})

    monkeypatch.setattr(search, "run_lanes", made_up)
    scenario = with_policies(load_scenario("swap-livelock"), ["mine.py"]).variant("mine")
    found = search.frontier(scenario, "policy.kept", 0, 1000, 0.1)
    assert (found.above, found.below) == (40, 41)
    assert search.frontier(scenario, "policy.kept", None, None, 0.1).below == 41
    with pytest.raises(InputError, match="names no integer field"):
        search.frontier(scenario, "policy.kapt", None, None, 0.1)


@pytest.mark.usefixtures("here")
def test_the_command_of_the_frontier_runs_it(fastalloc):
    where = ("--of", "policy.kept", "--from", 0, "--to", 2, "--lanes", 2, "--most-lanes", 2, "--seconds", 6)
    done = fastalloc("frontier", "swap-livelock-34m", "--policies", "mine.py", *where)
    assert done.code == 1
    assert "policy.kept = 2: 0 of 2 lanes livelocked" in done.err
    failed = fastalloc("frontier", "swap-livelock-34m", "--policies", "fails.py", *where[:4], *("--to", 3), *where[6:])
    assert failed.code == 3, failed.err
    assert "ZeroDivisionError" in failed.err


@pytest.mark.usefixtures("here")
def test_a_reserve_is_searched_with_it(fastalloc):
    asked = ("reserve", "swap-livelock-34m", "--of", "bio_pool", "--lanes", 2, "--most-lanes", 2, "--seconds", 1)
    done = fastalloc(*asked, "--policies", "mine.py", "--set", "policy.kept=7", "--json")
    assert done.code == 1, done.err
    assert [answer["policy"] for answer in json.loads(done.out)] == ["mine"]
    failed = fastalloc(*asked, "--policies", "mine.py,fails.py", "--set", "policy.kept=3")
    assert failed.code == 3, failed.err
    assert "fails.py: line 7: ZeroDivisionError" in failed.err
    assert "policy.kapt: is no field" in fastalloc(*asked, "--policies", "mine.py", "--set", "policy.kapt=3").err


@pytest.mark.usefixtures("here")
def test_rare_runs_it_set_and_along_a_ladder(fastalloc):
    asked = ("rare", "swap-livelock-34m", "--lanes", 2, "--seconds", 1, "--startup", 0)
    done = fastalloc(*asked, "--policy", "mine.py", "--set", "policy.kept=7", "--json")
    assert done.code == 0, done.err
    failed = fastalloc(*asked, "--policy", "fails.py", "--set", "policy.kept=3")
    assert failed.code == 3
    assert "fails.py: line 7: ZeroDivisionError" in failed.err
    ladder = fastalloc(*asked, "--policy", "mine.py", "--stress", "policy.kept=0,1,2", "--json")
    assert ladder.code == 0, ladder.err
    assert [rung["setting"] for rung in json.loads(ladder.out)["ladder"]["rungs"]] == [0, 1, 2]


@pytest.mark.usefixtures("here")
def test_the_grid_of_a_replay_is_of_the_files_that_are_named(fastalloc):
    Path("half.py").write_text(HALF)
    assert with_grid(["nomerge", "policy=half.py"], ["policy.share=1,2"]) == [
        "nomerge", "policy=half.py", "policy=half.py,policy.share=1", "policy=half.py,policy.share=2",
    ]  # fmt: skip
    assert with_grid([], ["policy=half.py", "policy.share=1"]) == ["policy=half.py,policy.share=1"]
    with pytest.raises(InputError, match="is a parameter, but no --what-if names a file"):
        with_grid(["nomerge"], ["policy.share=1"])
    asked = ("replay", TRACE, "--kernel", "7.3", "--what-if", "policy=half.py", "--grid", "policy.share=1,8", "--json")
    done = fastalloc(*asked)
    assert done.code == 0, done.err
    new = {each["config"]: each["new_pages"]["median"] for each in json.loads(done.out)["configs"]}
    assert new["as traced"] == new["policy=half.py,policy.share=1"] > new["policy=half.py,policy.share=8"]

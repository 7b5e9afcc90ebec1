"""``fastalloc policies`` and ``fastalloc compare``: what they print, store and refuse."""

import json

import pytest

from fastalloc.cli import compare
from fastalloc.scenario import policy_names
from fastalloc.scenario.trust import TRUST
from fastalloc.store import open_dataset

SMALL = ("--lanes", 2, "--seconds", 40)


def test_every_preset_is_listed_with_its_section(fastalloc):
    done = fastalloc("policies")
    assert done.code == 0
    for name in policy_names():
        assert name in done.out


def test_one_preset_is_explained_with_its_source_and_what_it_sets(fastalloc):
    done = fastalloc("policies", "fix")
    assert done.code == 0
    for words in ("C2", "164fc5dc", "policy.command_rule = fix"):
        assert words in done.out


def test_a_comparison_stores_its_policies_as_variants_of_the_scenario(fastalloc):
    done = fastalloc("compare", "swap-livelock", "--policies", "fix,ctor+no-bio-merge", *SMALL, "--json")
    assert done.code == 0
    board = json.loads(done.out)
    assert [row["policy"] for row in board] == ["rc8", "fix", "ctor+no-bio-merge"]
    dataset = open_dataset("out/swap-livelock-policies")
    runs = dataset.runs.collect()
    assert runs.group_by("variant").len()["len"].to_list() == [2, 2, 2]
    assert runs["policy.sense_ctor"].sum() == 2
    assert dataset.manifest["command"].startswith("fastalloc compare swap-livelock --policies fix,ctor+no-bio-merge")


def test_all_is_every_preset(fastalloc, monkeypatch):
    ran = []
    monkeypatch.setattr(compare, "run_and_show", lambda scenario, folder, **options: ran.append(scenario))
    assert fastalloc("compare", "swap-livelock").code == 0
    assert {variant.name for variant in ran[0].variants} == set(policy_names())


@pytest.mark.slow
def test_every_preset_is_run_and_shown(fastalloc):
    done = fastalloc("compare", "swap-livelock", "--lanes", 1, "--seconds", 2, "--json")
    assert {row["policy"] for row in json.loads(done.out)} == set(policy_names())


def test_a_file_is_a_policy_and_its_dataset_carries_it(fastalloc, tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "")
    path = tmp_path / "generous.py"
    path.write_text("def depth(who, zone):\n    return 0\n", encoding="utf-8")
    done = fastalloc("compare", "swap-livelock", "--policies", path, *SMALL, "--json")
    assert [row["policy"] for row in json.loads(done.out)] == ["rc8", "generous"]
    path.unlink()
    assert fastalloc("rerun", "out/swap-livelock-policies", 3).code == 2  # a dataset runs no code unasked
    again = fastalloc("rerun", "out/swap-livelock-policies", 3, "--trust")
    assert again.code == 0
    assert "every metric equals the stored row" in again.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("policies", "nosuch"), ("nosuch", "no such policy")),
        (("compare", "swap-livelock", "--policies", "rc8,nosuch"), ("nosuch", "no such policy")),
        (("compare", "swap-livelock", "--policies", "fix+prealloc"), ("policy.command_rule", "fix", "prealloc")),
        (("compare", "nosuch"), ("nosuch", "no such scenario")),
        (("compare", "swap-livelock", "--policies", "nosuch.py"), ("nosuch.py", "No such file")),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fastalloc, arguments, words):
    done = fastalloc(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err

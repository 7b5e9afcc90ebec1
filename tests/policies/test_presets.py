"""Policy presets: each loads, they compose, and a clash is told."""

import pytest

from fastalloc.errors import InputError
from fastalloc.scenario import load_policy, load_scenario, policy_names, policy_variant, with_policies


@pytest.mark.parametrize("name", policy_names())
def test_every_preset_loads_and_fits_the_scenario(name):
    assert load_policy(name).description
    with_policies(load_scenario("swap-livelock"), [name])


def test_presets_compose():
    variant = policy_variant("fix+nomerge-bio")
    assert variant.name == "fix+nomerge-bio"
    assert variant.set == {"policy.command_rule": "fix", "policy.nomerge_bio": True}


def test_a_clash_over_a_field_is_told():
    with pytest.raises(InputError, match=r"rc8 sets policy\.command_rule to 'rc8', fix to 'fix'"):
        policy_variant("rc8+fix")


def test_a_bundle_sets_what_its_members_set():
    assert load_policy("2.6.25").set == load_policy("fix").set


def test_an_unknown_policy_is_told_with_the_known_ones():
    with pytest.raises(InputError, match="no such policy; there are rc8, "):
        policy_variant("fix+nothing-of-the-kind")


def test_the_baseline_comes_first_and_once():
    scenario = with_policies(load_scenario("swap-livelock"), ["fix", "rc8", "fix"])
    assert [variant.name for variant in scenario.variants] == ["rc8", "fix"]

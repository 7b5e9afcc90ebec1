"""Policy presets: each says what it is, none of the list is left out, they compose, and a clash is told."""

import re
from typing import get_args, get_origin

import pytest

from docs import policy_tables
from fastalloc.errors import InputError
from fastalloc.scenario import load_policy, load_scenario, policy_names, policy_variant, with_policies
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.policy_presets import kernel_policies

# Every remedy that the thread argued over and that Linux took up later, by the letters of docs/policies.md.
NUMBERS = {
    "A": ("1", "2", "4"),
    "B": ("2", "3", "4", "5", "6", "7", "8"),
    "C": ("1", "2", "3", "4", "5"),
    "D": ("1", "2a", "2b", "2c", "2d", "2e", "2f"),
    "E": ("1", "2", "3", "4"),
    "F": ("1", "2", "3", "3b", "4", "5", "6", "6b", "8"),
    "G": ("1", "2", "3", "4", "5"),
    "H": ("1", "2", "3", "4", "5", "6", "7", "9", "10", "11", "12", "13"),
}
LETTERS = [letter + number for letter, numbers in NUMBERS.items() for number in numbers]
KERNELS = ["2.6.24", "2.6.25-rc8", "2.6.25", "2.6.26", "3.2", "3.6", "5.0", "6.1", "6.12", "6.18", "7.2", "7.3"]
VARIANTS = {  # where a letter stands for more than one
    "B3": ["nomerge-bio", "nomerge-both", "nomerge-sense"],
    "B6": ["tail-128-260", "tail-128-96", "tail-64-260", "tail-64-96"],
    "B7": ["hosts-96-260", "sense-260"],
    "E1": ["rank", "rank-posted"],
    "E3": ["emergency-reserve", "reserve-tree"],
    "F2": ["short-both", "short-sense"],
    "F4": ["emergency-ideal", "emergency-v2"],
    "F5": ["spare-pages", "spare-sense"],
    "H9": ["sheaves", "sheaves-prefilled"],
}


def by_letter():
    found = {}
    for name in policy_names():
        preset = load_policy(name)
        for letter in [preset.section, *preset.also]:
            found.setdefault(letter, []).append(name)
    return found


def test_no_remedy_is_left_out():
    found = by_letter()
    assert sorted(found.pop("kernel")) == sorted(KERNELS)
    assert sorted(found) == sorted(LETTERS)
    assert {letter: sorted(names) for letter, names in found.items() if len(names) > 1} == VARIANTS


@pytest.mark.parametrize("name", policy_names())
def test_every_preset_loads_and_fits_the_scenario(name):
    with_policies(load_scenario("swap-livelock"), [name])


@pytest.mark.parametrize("name", policy_names())
def test_every_preset_has_a_paragraph_and_a_source(name):
    preset = load_policy(name)
    assert len(preset.description.split()) >= 18
    assert "\n" not in preset.description
    assert preset.description.endswith(".")
    assert re.search(r"Linux \d|thread|lkml|Swap over NFS|164fc5dc|mm/\w+\.c|Pekka Enberg", preset.source)


def values_of(field, text):
    """The values that a range names: its ends, or each of a list; None where it is told in words."""
    kind = Scenario.model_fields[field.split(".")[0]].annotation.model_fields[field.split(".")[1]].annotation
    if get_origin(kind) is list:
        return None
    words = text.split(" to ") if " to " in text else text.split(", ")
    choices = get_args(kind)
    if choices and isinstance(choices[0], str):
        return words
    return [{"true": True, "false": False}.get(word, word) for word in words] if kind is bool else list(map(int, words))


@pytest.mark.parametrize("name", policy_names())
def test_every_number_that_a_preset_sets_is_a_parameter_with_a_range(name):
    preset = load_policy(name)
    if preset.section == "kernel":
        return
    told = {parameter.field: parameter for parameter in preset.parameters}
    numbers = {field for field, value in preset.set.items() if type(value) is int}
    assert numbers <= set(told)
    scenario = with_policies(load_scenario("swap-livelock"), [name]).variant(name)
    for field, parameter in told.items():
        assert parameter.meaning
        values = values_of(field, parameter.range)
        for value in values or []:
            scenario.with_settings({field: value})  # each end is accepted
        if field in numbers and " to " in parameter.range:
            assert values[0] <= preset.set[field] <= values[1]
        elif field in numbers:
            assert preset.set[field] in values


@pytest.mark.parametrize("path", policy_tables.PAGES, ids=lambda path: path.stem)
def test_the_tables_of_the_guide_are_current(path):
    assert path.read_text(encoding="utf-8") == policy_tables.page(path)


def test_presets_compose():
    variant = policy_variant("fix+nomerge-bio")
    assert variant.name == "fix+nomerge-bio"
    assert variant.set == {"policy.command_rule": "fix", "policy.nomerge_bio": True}


def test_a_clash_over_a_field_is_told():
    with pytest.raises(InputError, match=r"rc8 sets policy\.command_rule to 'rc8', fix to 'fix'"):
        policy_variant("rc8+fix")


def test_a_bundle_sets_what_its_members_set():
    assert load_policy("2.6.25").set == load_policy("fix").set


def test_an_unknown_policy_is_told_with_the_nearest_and_where_all_are():
    with pytest.raises(InputError, match=r"no such policy .did you mean 'nothing-more'..; .fastalloc policies. lists"):
        policy_variant("fix+nothing-of-the-kind")


def test_the_baseline_comes_first_and_once():
    scenario = with_policies(load_scenario("swap-livelock"), ["fix", "rc8", "fix"])
    assert [variant.name for variant in scenario.variants] == ["rc8", "fix"]


def test_the_policies_that_are_named_as_a_release_are_the_kernels():
    assert list(kernel_policies()) == [name for name in policy_names() if load_policy(name).section == "kernel"]


def test_what_a_caller_sets_in_a_preset_is_in_no_other():
    before = dict(load_policy("7.3").set)
    load_policy("7.3").set["policy.sense"] = "lazy"
    assert load_policy("7.3").set == before

"""Each kernel's bundle is what the table of kernels has, and a run says whose rules ran."""

import pytest

from fastalloc.policy import Policy
from fastalloc.scenario.policy_presets import kernel_policies, load_policy
from fastalloc.scenario.rules import rules_line, table_faults


@pytest.mark.parametrize("name", kernel_policies())
def test_a_bundle_agrees_with_the_table_of_kernels(name):
    assert table_faults(name, load_policy(name).set) == []


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("6.12", "policy.allocator", "slub"),
        ("6.12", "policy.watermark_rule", "2.6.25"),
        ("3.2", "policy.mempool_rule", "retry"),
        ("3.2", "policy.slub_layout", "6.1"),
        ("2.6.25", "policy.allocator", "cpu-partial"),
    ],
)
def test_a_bundle_of_other_rules_is_found(name, field, value):
    assert [fault[0] for fault in table_faults(name, load_policy(name).set | {field: value})] == [field]


def test_the_rules_in_a_line():
    assert rules_line(Policy()) == (
        "SLUB of 2.6.25, caches laid out and merged as of 2.6.25, watermark discounts of 2.6.25, mempools of 2.6.25"
    )
    assert rules_line(Policy(allocator="slob")).startswith("SLOB of 2.6.25, watermark")

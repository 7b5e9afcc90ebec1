"""Each kernel's bundle is what the table of kernels has, and a run says whose rules ran."""

import pytest

from fastalloc.scenario import Scenario
from fastalloc.scenario.policy_presets import kernel_policies, load_policy
from fastalloc.scenario.rules import rules_line, simplified, table_faults


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


def scenario(kernel: str, nodes: int = 1, **policy: str) -> Scenario:
    zone = {"name": "Normal", "present": 9000, "min": 90, "low": 112, "high": 135, "protection": [0]}
    zones = [zone | {"node": node, "pcp_high": 0, "pcp_batch": 1} for node in range(nodes)]
    return Scenario.model_validate(
        {"name": "s", "machine": {"name": "m", "kernel": kernel, "zones": zones}, "policy": policy}
    )


OLD = "SLUB of 2.6.25, caches laid out and merged as of 2.6.25, watermark discounts of 2.6.25, mempools of 2.6.25"
RECLAIM = "reclaim, swap, block layer and scheduler of 2.6.25-rc8"


def test_the_rules_in_a_line():
    """Where not all is of one kernel, whose the rest is; where nodes are joined, how many."""
    assert rules_line(scenario("2.6.25-rc8")) == OLD
    assert rules_line(scenario("6.12")) == f"{OLD}, {RECLAIM}"
    assert rules_line(scenario("2.6.25", watermark_rule="6.3")).endswith(f", {RECLAIM}")
    assert rules_line(scenario("4.4", 3)) == f"{OLD}, {RECLAIM}, 3 memory nodes joined into one"
    assert rules_line(scenario("2.6.25", allocator="slob")).startswith("SLOB of 2.6.25, watermark")


def test_what_is_simplified_is_said_once():
    machines = [scenario("6.12", 2).machine, scenario("6.12", 2).machine, scenario("2.6.25").machine]
    assert simplified(machines) == [
        "reclaim, swap, block layer and scheduler are those of 2.6.25-rc8, not of 6.12",
        "2 memory nodes (0, 1) are joined into one",
    ]
    assert simplified(machines[2:]) == []

"""What a user describes: machine, policies, workload; presets are TOML files."""

from fastalloc.policy import Policy
from fastalloc.scenario.imports import import_machine
from fastalloc.scenario.load import load_scenario, preset_names
from fastalloc.scenario.machine import Machine, SlabCache, Zone
from fastalloc.scenario.machines import load_machine, machine_names, machine_toml
from fastalloc.scenario.models import Costs, Disk, Host, Queue, Run, Scenario, Workload
from fastalloc.scenario.policy_presets import PolicyPreset, load_policy, policy_names, policy_variant, with_policies
from fastalloc.scenario.varied import Variant, Varied

__all__ = [
    "Costs",
    "Disk",
    "Host",
    "Machine",
    "Policy",
    "PolicyPreset",
    "Queue",
    "Run",
    "Scenario",
    "SlabCache",
    "Variant",
    "Varied",
    "Workload",
    "Zone",
    "import_machine",
    "load_machine",
    "load_policy",
    "load_scenario",
    "machine_names",
    "machine_toml",
    "policy_names",
    "policy_variant",
    "preset_names",
    "with_policies",
]

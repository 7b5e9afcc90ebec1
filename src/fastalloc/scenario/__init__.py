"""What a user describes: machine, policies, workload; presets are TOML files."""

from fastalloc.scenario.load import load_machine, load_scenario, machine_names, machine_toml, preset_names
from fastalloc.scenario.machine import Machine, SlabCache, Zone
from fastalloc.scenario.machine_import import import_machine
from fastalloc.scenario.models import Costs, Disk, Host, Policy, Queue, Run, Scenario, Variant, Workload

__all__ = [
    "Costs",
    "Disk",
    "Host",
    "Machine",
    "Policy",
    "Queue",
    "Run",
    "Scenario",
    "SlabCache",
    "Variant",
    "Workload",
    "Zone",
    "import_machine",
    "load_machine",
    "load_scenario",
    "machine_names",
    "machine_toml",
    "preset_names",
]

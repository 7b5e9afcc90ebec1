"""Whose kernel's rules a policy runs, in words, and whether a kernel's bundle is what the table of kernels has."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastalloc.errors import printable
from fastalloc.linux.release import parse_base
from fastalloc.linux.slub_layouts import layout_of
from fastalloc.linux.versions import Kernel, kernel_near
from fastalloc.policy import NOT_SLUB, Policy
from fastalloc.scenario.machine import NOT_THE_KERNELS, Machine
from fastalloc.scenario.models import Scenario

_SLABS = {
    "slub": "SLUB of 2.6.25",
    "cpu-partial": "SLUB of 3.2 to 6.17",
    "sheaves": "SLUB of 6.18, sheaves before every cache of the swap path",
    "7.3": "SLUB of 7.2 and 7.3",
    "slab": "SLAB of 2.6.25",
    "slob": "SLOB of 2.6.25",
    "own": "allocator of",
}
# The allocator of a bundle: no cache of the swap path asks for the sheaves of 6.18.
ALLOCATORS = {"2.6.25": "slub", "cpu-partial": "cpu-partial", "sheaves": "cpu-partial", "7.3": "7.3"}
_MEMPOOLS = {"2.6.25": "mempools of 2.6.25", "retry": "mempools of 3.3"}


RECLAIM = "2.6.25-rc8"  # whose reclaim, swap, block layer and scheduler every machine has


def rules_line(scenario: Scenario) -> str:
    """The kernel rules that run in a scenario: allocator, layout, marks of requests, mempools; and where not all is of
    one kernel, or nodes are joined, what else runs."""
    policy, machine = scenario.policy, scenario.machine
    parts = [_SLABS[policy.allocator] + (f" {printable(policy.own[1])}" if policy.allocator == "own" else "")]
    if policy.allocator not in NOT_SLUB:
        parts.append(f"caches laid out and merged as of {policy.slub_layout}")
    parts.append(f"watermark discounts of {policy.watermark_rule}")
    parts.append(_MEMPOOLS.get(policy.mempool_rule, f"mempools by the rule {policy.mempool_rule}"))
    own = (policy.slub_layout, policy.watermark_rule)
    if machine.base > parse_base("2.6.25") or own != (Policy().slub_layout, Policy().watermark_rule):
        parts.append(f"reclaim, swap, block layer and scheduler of {RECLAIM}")
    if len(machine.nodes) > 1:
        parts.append(f"{len(machine.nodes)} memory nodes joined into one")
    return ", ".join(parts)


def simplified(machines: Sequence[Machine]) -> list[str]:
    """What lanes do not have as their machines have it, a sentence each, once."""
    return list(dict.fromkeys(sentence for machine in machines for sentence in _simplified(machine)))


def _simplified(machine: Machine) -> list[str]:
    said = []
    if machine.base > parse_base("2.6.25"):
        said.append(f"reclaim, swap, block layer and scheduler are those of {RECLAIM}, not of {machine.kernel}")
    if len(machine.nodes) > 1:
        said.append(f"{len(machine.nodes)} memory nodes ({', '.join(map(str, machine.nodes))}) are joined into one")
    for field, what in (("cma", "CMA pages"), ("highatomic", "pages of blocks kept for GFP_ATOMIC of higher order")):
        pages = sum(getattr(zone, field) for zone in machine.zones)
        if pages:
            said.append(f"{pages:,} {what} are left out")
    user = [name for name in machine.classes if name in NOT_THE_KERNELS]
    if user:
        said.append(f"{' and '.join(user)} {'serves' if len(user) == 1 else 'serve'} pages of tasks alone")
    return said


def table_faults(name: str, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the bundle of kernel ``name`` is not what the table of kernels has: field and what is wrong.

    ``fields``: what the bundle sets, such as ``policy.allocator``. A layout may be that of an older kernel.
    """
    kernel: Kernel = kernel_near(name)
    defaults = Policy()
    faults = []
    for field, wanted in (
        ("allocator", ALLOCATORS[kernel.era]),
        ("watermark_rule", kernel.watermark_rule),
        ("mempool_rule", kernel.mempool_rule),
    ):
        found = fields.get(f"policy.{field}", getattr(defaults, field))
        if found != wanted:
            faults.append(
                (f"policy.{field}", f"{found!r}, but the table of kernels has {wanted!r} for {kernel.version}")
            )
    layout = fields.get("policy.slub_layout", defaults.slub_layout)
    if parse_base(layout_of(layout).name) > parse_base(kernel.layout.name):
        faults.append(("policy.slub_layout", f"{layout!r} is the layout of a later kernel than {name}"))
    return faults

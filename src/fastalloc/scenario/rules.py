"""Whose kernel's rules a policy runs, in words, and whether a kernel's bundle is what the table of kernels has."""

from collections.abc import Mapping
from typing import Any

from fastalloc.linux.release import parse_base
from fastalloc.linux.slub_layouts import layout_of
from fastalloc.linux.versions import Kernel, kernel_near
from fastalloc.policy import Policy

_SLABS = {
    "slub": "SLUB of 2.6.25",
    "cpu-partial": "SLUB of 3.2 to 6.17",
    "sheaves": "SLUB of 6.18, sheaves before every cache of the swap path",
    "7.3": "SLUB of 7.2 and 7.3",
    "slab": "SLAB of 2.6.25",
    "slob": "SLOB of 2.6.25",
}
# The allocator of a bundle: no cache of the swap path asks for the sheaves of 6.18.
_ALLOCATORS = {"2.6.25": "slub", "cpu-partial": "cpu-partial", "sheaves": "cpu-partial", "7.3": "7.3"}
_MEMPOOLS = {"2.6.25": "mempools of 2.6.25", "retry": "mempools of 3.3"}


def rules_line(policy: Policy) -> str:
    """The kernel rules that run under a policy: allocator, layout, marks of requests, mempools."""
    parts = [_SLABS[policy.allocator]]
    if policy.allocator not in ("slab", "slob"):
        parts.append(f"caches laid out and merged as of {policy.slub_layout}")
    parts.append(f"watermark discounts of {policy.watermark_rule}")
    parts.append(_MEMPOOLS.get(policy.mempool_rule, f"mempools by the rule {policy.mempool_rule}"))
    return ", ".join(parts)


def table_faults(name: str, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the bundle of kernel ``name`` is not what the table of kernels has: field and what is wrong.

    ``fields``: what the bundle sets, such as ``policy.allocator``. A layout may be that of an older kernel.
    """
    kernel: Kernel = kernel_near(name)
    defaults = Policy()
    faults = []
    for field, wanted in (
        ("allocator", _ALLOCATORS[kernel.era]),
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

"""Which kernel's policy a machine runs under: the bundle of its own kernel unless another one is chosen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastalloc.errors import InputError, noted, together
from fastalloc.linux.release import Base, parse_release
from fastalloc.linux.slub_layouts import layout_of
from fastalloc.linux.versions import kernel_near
from fastalloc.scenario.kept_texts import NO_TEXTS, KeptTexts
from fastalloc.scenario.machine import DEFAULT_KERNEL
from fastalloc.scenario.machines import machine_named
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.own_parameters import own_settings, with_parameters
from fastalloc.scenario.policy_presets import (
    SLUB_ONLY,
    kernel_fields,
    kernel_policies,
    policy_variant,
    with_policies,
)
from fastalloc.scenario.rules import ALLOCATORS

NO_FILE = "scenario"  # where a machine is named by a setting, not in a file


def policy_of_kernel(release: str) -> str:
    """The bundle of a kernel: of its own release candidate, else the newest that is not newer than it; the next one
    where a kernel moves slabs as that one does (7.0 and 7.1)."""
    known = parse_release(release or DEFAULT_KERNEL)
    assert known is not None
    bundles = [(_order(name), name) for name in kernel_policies()]
    at: tuple[Base, int] = (known.base, known.rc if known.rc is not None else 1 << 16)
    found = max((each for each in bundles if each[0] <= at), default=min(bundles))
    wanted = ALLOCATORS[kernel_near(known.text).era]
    if policy_variant(found[1]).set["policy.allocator"] != wanted:
        later = [each for each in bundles if each[0] > at and policy_variant(each[1]).set["policy.allocator"] == wanted]
        found = min(later, default=found)
    return found[1]


def _order(name: str) -> tuple[Base, int]:
    release = parse_release(name)
    assert release is not None
    return release.base, release.rc if release.rc is not None else 1 << 15


def default_policy(machine: Mapping[str, Any]) -> str:
    """The bundle of a machine's kernel; ``machine`` as plain data."""
    kernel = machine.get("kernel", "")
    return policy_of_kernel(kernel if isinstance(kernel, str) and parse_release(kernel) else "")


def policy_of_machine(machine: Mapping[str, Any], allocator: str | None = None) -> dict[str, Any]:
    """The fields of ``Policy`` that a machine's kernel sets: those of its bundle, with the discounts below min, the
    mempools and the layout of caches that the table of kernels has for its version, where that came after the bundle's.

    ``machine`` as plain data; ``allocator`` as of :func:`policy_table`.
    """
    release = machine.get("kernel", "")
    known = isinstance(release, str) and parse_release(release)
    kernel = kernel_near(release if known else DEFAULT_KERNEL)
    own = {"watermark_rule": kernel.watermark_rule, "mempool_rule": kernel.mempool_rule}
    fields = policy_table(default_policy(machine), allocator)
    if "slub_layout" in fields and layout_of(fields["slub_layout"]) != kernel.layout:
        own["slub_layout"] = kernel.layout.name
    return fields | own


def policy_table(
    name: str, allocator: str | None = None, folder: Path | None = None, texts: KeptTexts = NO_TEXTS
) -> dict[str, Any]:
    """The fields of ``Policy`` that a policy sets, for a kernel built with ``allocator`` where that is told; ``folder``
    and ``texts`` as of ``load_policy``.

    Raises:
        InputError: no such policy, or one that sets what is not a policy's.
    """
    settings = policy_variant(name, folder, texts).set
    for key in settings:
        if not key.startswith("policy."):
            raise InputError("policy", name, f"sets {key}, which is no part of a policy; name it in a variant")
    fields = {key.removeprefix("policy."): value for key, value in settings.items()}
    if allocator in ("slab", "slob"):
        fields = {field: value for field, value in fields.items() if field not in SLUB_ONLY}
        fields["allocator"] = allocator
    return fields


def with_chosen(
    scenario: Scenario,
    settings: Mapping[str, Any],
    folder: Path,
    what: str = "--set",
    policies: Sequence[str] | None = None,
    texts: KeptTexts = NO_TEXTS,
) -> Scenario:
    """A scenario with settings as of ``chosen_settings``, its variants replaced by ``policies`` where there are some;
    parameters of a file of one's own are set in each variant that has them.

    Raises:
        InputError: as ``chosen_settings``, ``with_policies`` and ``with_parameters``.
    """
    fields, own = own_settings(settings)
    chosen, faults = scenario, list[InputError]()
    with noted(faults), of_settings(what):
        chosen = chosen.with_settings(chosen_settings(scenario, fields, folder, texts), what)
    if policies is not None:
        chosen = with_policies(chosen, list(policies))
    if not (faults and "policy" in fields):  # whose parameters are not known
        with noted(faults):
            chosen = with_parameters(chosen, own, what)
    if faults:
        raise together(faults)
    return chosen


@contextmanager
def of_settings(what: str) -> Iterator[None]:
    """A machine or a policy by a name that there is not is one of the settings."""
    try:
        yield
    except InputError as error:
        if error.path == "policies":
            raise InputError(what, f"policy: {error.where}" if error.where else "policy", error.message) from None
        if error.path == NO_FILE:
            raise InputError(what, error.where, error.message) from None
        raise


def chosen_settings(
    scenario: Scenario, settings: Mapping[str, Any], folder: Path, texts: KeptTexts = NO_TEXTS
) -> dict[str, Any]:
    """Settings in which ``machine`` may be a name or a path (relative to ``folder``), and ``policy`` a name or a file
    of one's own (``folder`` and ``texts`` as of ``load_policy``).

    Under another machine what the scenario has from the kernel of its own becomes that of the other's kernel.

    Raises:
        InputError: no such machine or policy.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "machine" and isinstance(value, str):
            machine = machine_named(value, folder / NO_FILE)
            found["machine"] = machine.model_dump(exclude_none=True)  # a variant's goes into a file of TOML
            if scenario.kernel_policy.endswith("the kernel of the machine"):
                before = policy_of_machine(scenario.machine.model_dump(), scenario.machine.allocator)
                after = policy_of_machine(found["machine"], machine.allocator)
                own = scenario.policy.model_dump()
                defaults = kernel_fields()
                for field in {*before, *after}:
                    if own[field] == before.get(field, defaults.get(field)):
                        found[f"policy.{field}"] = after.get(field, defaults.get(field))
                found["kernel_policy"] = f"{default_policy(found['machine'])}, the kernel of the machine"
        elif key == "policy" and isinstance(value, str):
            found |= policy_variant(value, folder, texts).set
            found["kernel_policy"] = value
        else:
            found[key] = value
    return found

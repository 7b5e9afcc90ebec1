"""Parameters of a file of one's own among the settings of a scenario: ``policy.NAME``, where NAME is no field."""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastalloc.errors import InputError, meant, together
from fastalloc.own.allocator_text import read_own
from fastalloc.own.declared import Parameter
from fastalloc.policy import Policy
from fastalloc.scenario.varied import Variant, Varied

Chosen = TypeVar("Chosen", bound=Varied)


def own_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of dotted settings those of a scenario's fields, and those that can only be parameters of a file."""
    own = {
        key: value
        for key, value in settings.items()
        if key.startswith("policy.") and key.count(".") == 1 and key.partition(".")[2] not in Policy.model_fields
    }
    return {key: value for key, value in settings.items() if key not in own}, own


def declared(scenario: Varied, variant: Variant | None = None) -> Mapping[str, Parameter]:
    """The parameters that the file of a scenario declares, or of a variant of it."""
    given = variant.set if variant else {}
    source = given.get("policy.questions", scenario.own[0])
    where = given.get("policy.questions_file") or scenario.own[1]
    return read_own(source, where).parameters if source else {}


def parameter_of(scenario: Varied, key: str) -> int | None:
    """The value of ``policy.NAME`` in a scenario (of one variant) whose file declares it, set or not; None else."""
    name = key.removeprefix("policy.")
    found = declared(scenario).get(name) if key.startswith("policy.") else None
    return scenario.own[2].get(name, found.default) if found else None


def with_parameters(scenario: Chosen, settings: Mapping[str, Any], what: str = "--set") -> Chosen:
    """The scenario with parameters set in each variant whose file declares them.

    Raises:
        InputError: a key that no variant's file declares, or what is no whole number; a value out of range is refused
            when the variant is taken.
    """
    if not settings:
        return scenario
    known = {variant.name: declared(scenario, variant) for variant in scenario.variants}
    every = {name for parameters in known.values() for name in parameters}
    faults = []
    for key, value in settings.items():
        name = key.partition(".")[2]
        if name not in every:
            near = meant(name, [*Policy.model_fields, *every])
            told = f"is no field of a policy, and no parameter of its file{near}" if every else f"unknown key{near}"
            faults.append(InputError(scenario.name, f"{what}: {key}", told))
        elif type(value) is not int:
            faults.append(InputError(scenario.name, f"{what}: {key}", "a parameter is a whole number"))
    if faults:
        raise together(faults)
    variants = []
    for variant in scenario.variants:
        taken = {key: value for key, value in settings.items() if key.partition(".")[2] in known[variant.name]}
        variants.append(variant.model_copy(update={"set": {**variant.set, **taken}}))
    return scenario.model_copy(update={"variants": variants})

"""Policies as presets: one TOML file a policy, alone or composed with ``+``, as variants of a scenario."""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from fastalloc.errors import InputError, meant
from fastalloc.fields import Model, rows_html
from fastalloc.linux.release import parse_release
from fastalloc.own.allocator_text import is_allocator, own_source, read_own
from fastalloc.policy import Policy
from fastalloc.scenario.files import read_toml
from fastalloc.scenario.kept_texts import NO_TEXTS, KeptTexts
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.rules import table_faults
from fastalloc.scenario.varied import Variant, input_error

POLICIES = Path(__file__).parent / "policies"
BASELINE = "rc8"
# What tells nothing to other allocators than SLUB, and is left out of a bundle for a kernel that was built with one.
SLUB_ONLY = (
    "slub_layout", "min_partial_on_free", "entitlement", "sheaf_capacity", "max_full_sheaves", "max_empty_sheaves",
    "refill",
)  # fmt: skip
KERNEL = "kernel"  # section of the bundles that stand for a kernel


class Parameter(Model):
    """A scenario field that tunes a policy."""

    field: str
    meaning: str
    range: str
    default: Any = None


class Measured(Model):
    """What the small machines of tests/policies showed of a policy, alone and under an adversary."""

    prevents: Literal["no", "statistically", "yes"]  # sense failures
    guarantees: Literal["no", "1", "n"]  # commands in flight that nobody else's demand for memory ends


class PolicyPreset(Model):
    """A policy: what it is, where it comes from, which fields it sets."""

    name: str
    section: str  # letter of the remedy
    also: list[str] = Field(default_factory=list)  # other letters that it stands for
    title: str
    description: str
    source: str
    set: dict[str, Any] = Field(default_factory=dict)
    parameters: list[Parameter] = Field(default_factory=list)
    verdict: Measured | None = None
    bundle: list[str] = Field(default_factory=list)  # a kernel: the policies that it combines

    def __repr__(self) -> str:
        return f"Policy {self.name} ({self.section}): {self.title}"

    def _repr_html_(self) -> str:
        rows = [(key, value) for key, value in self.set.items() if key != "policy.questions"]
        return rows_html(f"{self!r}. {self.description} {self.source}", ("field", "set to"), rows)


def policy_names() -> list[str]:
    """Names that ``load_policy`` knows: the baseline, then by name."""
    return sorted((path.stem for path in POLICIES.glob("*.toml")), key=lambda name: (name != BASELINE, name))


def load_policy(name: str, folder: Path | None = None, texts: KeptTexts = NO_TEXTS) -> PolicyPreset:
    """The preset of one policy, its fields checked against the scenario; a bundle's ``set`` holds that of its members.

    ``folder``: from where the path of a file of one's own starts; ``texts``: those that run in place of files.

    Raises:
        InputError: no such policy, broken TOML, an unknown key or field, a value out of range, members that clash.
    """
    known = policy_names()
    if not name.strip():
        raise InputError("policies", "", "an empty name: names are joined by one comma, or one +")
    if name.endswith(".py"):
        file = (folder or Path()) / name
        if not file.exists() and texts.of(file) is None:
            near = meant(file.name, [each.name for each in file.parent.glob("*.py")])
            raise InputError("policies", str(file), f"No such file{near}")
        return own_preset(file, texts)
    if name not in known:
        near = meant(name, [*known, "all", *(each.name for each in (folder or Path()).glob("*.py"))])
        more = "" if near or "." not in Path(name).name else "; a file of your own ends in .py"
        there = "`fastalloc policies` lists them" if near else f"there are {', '.join(known)}"
        raise InputError("policies", name, f"no such policy{near}{more}; {there}")
    return _preset(name).model_copy(deep=True)


@cache
def _preset(name: str) -> PolicyPreset:
    """A preset by its name, of which there is a file; that is read once."""
    path = POLICIES / f"{name}.toml"
    try:
        preset = PolicyPreset.model_validate(read_toml(path))
    except ValidationError as error:
        raise input_error(error, path, "", PolicyPreset) from None
    if preset.name != name:
        raise InputError(path, "name", f"{preset.name!r}, but the file is {path.name}")
    _check_fields(preset, path)
    if preset.bundle:
        members = [load_policy(member) for member in preset.bundle]
        preset = preset.model_copy(update={"set": _merged([*members, preset], name)})
    if (preset.section == KERNEL) != (parse_release(name) is not None):
        raise InputError(path, "section", f"{KERNEL!r} expected of files that are named as a release, and of no others")
    if preset.section == KERNEL:
        for field, fault in table_faults(name, preset.set):
            raise InputError(path, field, fault)
    return preset


def own_preset(path: Path, texts: KeptTexts = NO_TEXTS) -> PolicyPreset:
    """The preset of a user's own policy, named as its file is; the source goes into the scenario. ``texts``: as of
    ``load_policy``.

    Raises:
        InputError: the file cannot be read, or is neither policy nor allocator (see ``read_own``).
    """
    if path.stem in policy_names():
        raise InputError("policies", str(path), f"{path.stem} is a policy that there is: give the file another name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", path.stem):
        raise InputError("policies", str(path), "names it: give the file a name of letters, digits, _, . and - alone")
    kept = texts.of(path)
    source = own_source(path) if kept is None else kept
    read_own(source, str(path))
    fields: dict[str, Any] = {"policy.questions": source, "policy.questions_file": path.name}
    if is_allocator(source):
        defaults = Policy()
        fields |= {f"policy.{name}": getattr(defaults, name) for name in SLUB_ONLY} | {"policy.allocator": "own"}
    return PolicyPreset(
        name=path.stem,
        section="own",
        title=path.stem,
        description="An allocator of one's own." if is_allocator(source) else "A policy of one's own.",
        source=str(path),
        set=fields,
    )


def policy_variant(composed: str, folder: Path | None = None, texts: KeptTexts = NO_TEXTS) -> Variant:
    """The variant of a policy, or of several joined by ``+`` (``fix+nomerge-bio``); ``folder`` and ``texts`` as of
    ``load_policy``.

    Raises:
        InputError: as ``load_policy``, one policy twice, and two that set one field to different values.
    """
    names = [name.strip() for name in composed.split("+")]
    if len(set(names)) < len(names):
        raise InputError("policies", composed, f"{Counter(names).most_common(1)[0][0]!r} stands more than once")
    presets = [load_policy(name, folder, texts) for name in names]
    name = "+".join(preset.name for preset in presets)
    title = " + ".join(f"{preset.section}: {preset.title}" for preset in presets)
    if any(preset.set.get("policy.allocator") == "own" for preset in presets):
        presets = [_without_slub(preset) for preset in presets]
    merged = _merged(presets, name)
    if any(preset.section == KERNEL for preset in presets):  # it tells of whatever any kernel tells of
        merged = {f"policy.{field}": value for field, value in kernel_fields().items()} | merged
    return Variant(name=name, title=title, set=merged)


@cache
def kernel_policies() -> tuple[str, ...]:
    """Names of the bundles that stand for a kernel each: the releases."""
    return tuple(name for name in policy_names() if parse_release(name))


@cache
def kernel_fields() -> dict[str, Any]:
    """The fields of ``Policy`` that some kernel's bundle sets, with their defaults."""
    keys = {key for name in kernel_policies() for key in load_policy(name).set}
    defaults = Policy().model_dump()
    return {key.removeprefix("policy."): defaults[key.removeprefix("policy.")] for key in sorted(keys)}


def with_policies(scenario: Scenario, policies: list[str]) -> Scenario:
    """The scenario with a variant a policy in place of its own variants; the baseline comes first, asked for or not.

    Args:
        policies: names, alone or joined by ``+``; ``all`` stands for every preset.

    Raises:
        InputError: as ``policy_variant``, or a value that the scenario refuses.
    """
    names = [each for name in policies for each in (policy_names() if name == "all" else [name])]
    found: dict[str, Variant] = {}
    for name in [BASELINE, *names]:
        variant = policy_variant(name)
        if found.setdefault(variant.name, variant) != variant:
            raise InputError("policies", name, f"another one is called {variant.name}: give the file another name")
    scenario = scenario.model_copy(update={"variants": list(found.values())})
    for name in found:
        scenario.variant(name)
    return scenario


def _without_slub(preset: PolicyPreset) -> PolicyPreset:
    """A kernel's bundle for one that is built with an allocator of the user's own."""
    if preset.section != KERNEL:
        return preset
    left = {f"policy.{name}" for name in (*SLUB_ONLY, "allocator")}
    return preset.model_copy(update={"set": {key: value for key, value in preset.set.items() if key not in left}})


def _merged(presets: list[PolicyPreset], what: str) -> dict[str, Any]:
    owner: dict[str, str] = {}
    merged: dict[str, Any] = {}
    for preset in presets:
        for field, value in preset.set.items():
            if field in merged and merged[field] != value:
                message = f"{owner[field]} sets {field} to {merged[field]!r}, {preset.name} to {value!r}"
                if field == "policy.questions":
                    message = f"{owner[field]} and {preset.name} are files of one's own: a policy has one"
                raise InputError("policies", what, message)
            merged[field] = value
            owner[field] = preset.name
    return merged


def _check_fields(preset: PolicyPreset, path: Path) -> None:
    """Each field exists, and what is set is a value of it."""
    sections: dict[str, dict[str, Any]] = {}
    defaults = {parameter.field: parameter.default for parameter in preset.parameters if parameter.default is not None}
    for field in [*preset.set, *(parameter.field for parameter in preset.parameters)]:
        section, _, last = field.partition(".")
        model = Scenario.model_fields[section].annotation if section in Scenario.model_fields else None
        if not (isinstance(model, type) and issubclass(model, Model)) or last not in model.model_fields:
            raise InputError(path, field, "names no field of a scenario")
    for field, value in (defaults | preset.set).items():
        section, _, last = field.partition(".")
        sections.setdefault(section, {})[last] = value
    for section, values in sections.items():
        model = Scenario.model_fields[section].annotation
        assert isinstance(model, type)
        assert issubclass(model, Model)
        if any(field.is_required() for field in model.model_fields.values()):
            continue  # only a whole scenario can tell
        try:
            model.model_validate(values)
        except ValidationError as error:
            raise input_error(error, path, section) from None

"""The sweep file: a base scenario, the axes to vary, lanes a point, constraints, and when a point is known enough."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from fastalloc.errors import InputError, meant, noted, reader, together
from fastalloc.fields import Model
from fastalloc.scenario import Scenario, Varied, load_scenario, policy_variant, preset_names
from fastalloc.scenario.files import read_toml
from fastalloc.scenario.kept_texts import NO_TEXTS, KeptTexts
from fastalloc.scenario.load import of_file
from fastalloc.scenario.own_parameters import own_settings, with_parameters
from fastalloc.scenario.trust import refuse_code
from fastalloc.scenario.varied import KEY, NAME, at_path, input_error

Chosen = TypeVar("Chosen", bound=Varied)
Scalar = bool | int | float | str
Key = Annotated[str, Field(pattern=KEY)]
Table = Literal["runs", "series", "events", "ledger"]
Values = Annotated[list[Scalar], Field(min_length=1)]


class Range(Model):
    """Evenly spread values from ``start`` to ``stop``, both included; integers when both ends are."""

    start: int | float
    stop: int | float
    step: Annotated[int | float, Field(gt=0)] | None = None
    count: Annotated[int, Field(ge=1)] | None = None  # instead of step
    log: bool = False  # evenly spread on a logarithmic scale; needs count

    @model_validator(mode="after")
    def _consistent(self) -> "Range":
        if (self.step is None) == (self.count is None):
            raise ValueError("needs either step or count")
        if self.stop < self.start:
            raise ValueError(f"is empty: stop {self.stop} is below start {self.start}")
        if self.log and (self.count is None or self.start <= 0):
            raise ValueError("log needs count and a start above 0")
        return self


class Interval(Model):
    """Where a sampler draws from, both ends included; integers when both ends are."""

    low: int | float
    high: int | float
    log: bool = False  # uniform on a logarithmic scale

    @model_validator(mode="after")
    def _consistent(self) -> "Interval":
        if self.high < self.low:
            raise ValueError(f"is empty: high {self.high} is below low {self.low}")
        if self.log and self.low <= 0:
            raise ValueError("log needs a low above 0")
        return self


class Sample(Model):
    """Points spread over several fields at once."""

    # Latin hypercube, scrambled Sobol sequence, that sequence in pairs with one axis exchanged at a time
    method: Literal["lhs", "sobol", "saltelli"]
    points: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    axes: Annotated[dict[Key, Interval], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> "Sample":
        step = len(self.axes) + 2
        if self.method == "saltelli" and (self.points % step or (self.points // step).bit_count() != 1):
            raise ValueError(f"points: a Saltelli sample of {step - 2} axes takes {step} times a power of two")
        return self


class Stop(Model):
    """When a point is known enough. Looked at after every ``check_every`` lanes of the point, in the lanes' order."""

    max_livelocks: Annotated[int, Field(ge=1)] | None = None  # lanes livelocked for more than 5 s
    interval_width: Annotated[float, Field(gt=0, lt=1)] | None = None  # of the 95 % Wilson interval
    check_every: Annotated[int, Field(ge=1, le=1 << 20)] = 32  # lanes

    @model_validator(mode="after")
    def _consistent(self) -> "Stop":
        if self.max_livelocks is None and self.interval_width is None:
            raise ValueError("needs max_livelocks or interval_width")
        return self


class SweepFile(Model):
    """A sweep: every combination of variants, axes, zips and samples that the constraints allow is a point."""

    name: Annotated[str, Field(pattern=NAME)]
    description: str = ""
    scenario: str | None = None  # a preset, or a path relative to this file
    traces: Annotated[list[str], Field(min_length=1)] | None = None  # instead of it: paths, from this file; an axis
    set: dict[Key, Scalar] = Field(default_factory=dict)  # the same at every point
    variants: Annotated[list[str], Field(min_length=1)] | None = None  # an axis; by default those marked as default
    # presets, or several joined by +; more variants. Of traces: files of one's own, and "as traced"
    policies: Annotated[list[str], Field(min_length=1)] | None = None
    axes: dict[Key, Values | Range] = Field(default_factory=dict)  # the grid
    zips: list[Annotated[dict[Key, Values], Field(min_length=1)]] = Field(
        default_factory=list
    )  # fields that change together
    samples: list[Sample] = Field(default_factory=list)
    # "host.queue_depth <= host.can_queue"; points that break one are left out
    constraints: list[str] = Field(default_factory=list)
    lanes: Annotated[int, Field(ge=1, le=1 << 24)] = 16  # a point; the most, where there is a stopping rule
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    stop: Stop | None = None
    # what is stored; runs always is
    tables: list[Table] = Field(default_factory=lambda: list[Table](["runs"]))

    @model_validator(mode="after")
    def _consistent(self) -> "SweepFile":
        if (self.scenario is None) == (self.traces is None):
            raise ValueError("needs either scenario or traces")
        if self.traces is not None:
            for name, given in (
                ("variants", self.variants), ("stop", self.stop), ("tables", self.tables != ["runs"]),
            ):  # fmt: skip
                if given:
                    raise ValueError(f"{name} is for machines: traces have none")
        for names, what in (
            (self.variants or [], "variants"), (self.policies or [], "policies"), (self.tables, "tables"),
            (self.traces or [], "traces"),
        ):  # fmt: skip
            if len(set(names)) != len(names):
                raise ValueError(f"{what}: a name twice in {', '.join(names)}")
        for key, times in Counter([*self.set, *self.varied]).items():
            if times > 1:
                raise ValueError(f"{key} is set more than once")
            if key in ("run.lanes", "run.seed"):
                raise ValueError(f"{key} is not for axes and settings: use {key[4:]} at the top of the file")
        for i, group in enumerate(self.zips):
            lengths = {key: len(values) for key, values in group.items()}
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{key} has {n}" for key, n in lengths.items())
                raise ValueError(f"zips.{i}: values that change together must be as many: {told}")
        return self

    @property
    def varied(self) -> list[str]:
        """The fields that differ between points, in the order of the file."""
        zipped = [key for group in self.zips for key in group]
        return [*self.axes, *zipped, *(key for sample in self.samples for key in sample.axes)]

    @property
    def leading(self) -> list[str]:
        """Of the fields that differ, those that tell points apart: of a zip the first, if no value repeats."""
        followers = {
            key
            for group in self.zips
            for key in list(group)[1:]
            if len(set(first := next(iter(group.values())))) == len(first)
        }
        return [key for key in self.varied if key not in followers]


@reader()
def load_sweep(
    path: str | Path, changes: Mapping[str, Any] | None = None, texts: KeptTexts = NO_TEXTS
) -> tuple[SweepFile, Varied]:
    """A sweep file and its base scenario, with ``set`` applied and the variants asked for alone.

    Args:
        changes: keys of the file and what stands there instead; those of ``set`` join its own.
        texts: those that run in place of files of one's own.

    Raises:
        InputError: no such file, broken TOML, an unknown key, a value out of range; names file and field.
    """
    path = Path(path)
    data = read_toml(path)
    for key, value in (changes or {}).items():
        own = data.get(key)
        data[key] = {**own, **value} if isinstance(own, dict) and isinstance(value, dict) else value
    try:
        sweep = SweepFile.model_validate(data)
    except ValidationError as error:
        faults = [input_error(error, path, "", SweepFile, data)]
        if isinstance(data.get("scenario"), str):
            with noted(faults):
                _base_file(path, data["scenario"])
        raise together(faults) from None
    if sweep.traces is not None:
        from fastalloc.sweep.replays import replay_base

        fields, own = own_settings(sweep.set)
        with of_file(path, "policies"):
            traced = replay_base(sweep.name, sweep.traces, sweep.policies or [], path, texts)
        traced = _with_own(_with_set(traced, fields, path), own, path)
        _refuse_code(traced, sweep, path)
        return sweep, traced
    assert sweep.scenario is not None
    return sweep, base_scenario(sweep, path, sweep.scenario, texts)


def base_scenario(sweep: SweepFile, path: Path, preset: str, texts: KeptTexts = NO_TEXTS) -> Scenario:
    """The scenario ``preset`` of a sweep file with the variants asked for; ``path`` is the file, ``texts`` as of
    ``load_sweep``."""
    fields, own = own_settings(sweep.set)
    base, faults = load_scenario(_base_file(path, preset), texts), list[InputError]()
    with noted(faults):
        base = _with_set(base, fields, path)
    names = sweep.variants or []
    if not names and not sweep.policies:
        names = [variant.name for variant in base.variants if variant.default]
    known, before = {variant.name: variant for variant in base.variants}, len(faults)
    for name in names:
        if name not in known:
            there = f"there are {', '.join(known)}"
            faults.append(InputError(path, "variants", f"no variant {name!r}{meant(name, known)}; {there}"))
    chosen = {name: known[name] for name in names if name in known}
    for name in sweep.policies or []:
        with noted(faults), of_file(path, "policies"):
            variant = policy_variant(name, path.parent, texts)
            if variant.name in chosen:
                raise InputError(path, "policies", f"{variant.name!r} is a variant already")
            chosen[variant.name] = variant
    if len(faults) > before:  # whose parameters are not known
        raise together(faults)
    base = base.model_copy(update={"variants": list(chosen.values())})
    with noted(faults):
        base = _with_own(base, own, path)
    if faults:
        raise together(faults)
    _refuse_code(base, sweep, path)
    return base


def _base_file(path: Path, preset: str) -> str | Path:
    """The file, or the name, of the scenario ``preset`` of the sweep file ``path``."""
    near = path.parent / preset
    if not near.is_file() and preset not in preset_names():
        told = f"{preset!r} is neither a file nor one of {', '.join(preset_names())}{meant(preset, preset_names())}"
        raise InputError(path, "scenario", told)
    return near if near.is_file() else preset


def _refuse_code(base: Varied, sweep: SweepFile, path: Path) -> None:
    refuse_code(base, path, dict.fromkeys(set(sweep.varied) & {"policy.questions"}, "an axis"))


def _with_own(base: Chosen, settings: dict[str, Scalar], path: Path) -> Chosen:
    try:
        return with_parameters(base, settings, "set")
    except InputError as error:
        raise at_path(error, path) from None


def _with_set(base: Chosen, settings: Mapping[str, Scalar], path: Path) -> Chosen:
    try:
        return base.with_settings(settings)
    except InputError as error:
        raise at_path(error, path) from None

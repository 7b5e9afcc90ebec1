"""A sweep file to points, with everything impossible refused before anything runs."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from fastalloc.batch import heap_of
from fastalloc.batch.size import lane_bytes, refuse_too_large
from fastalloc.errors import InputError, meant, reader
from fastalloc.model_digest import model_digest
from fastalloc.scenario import Scenario, Varied
from fastalloc.scenario.kept_texts import NO_TEXTS, KeptTexts
from fastalloc.scenario.own_parameters import declared, own_settings, parameter_of
from fastalloc.scenario.varied import dotted
from fastalloc.sweep.axes import Settings, merged, range_length, range_values, sample_settings
from fastalloc.sweep.constraint import Constraint, parse_constraint
from fastalloc.sweep.identity import Identities, sweep_identity
from fastalloc.sweep.kinds import parameters_of
from fastalloc.sweep.model import Range, SweepFile, load_sweep
from fastalloc.sweep.replays import Replay, refuse_large_traces

MAX_POINTS = 100_000
MAX_LANES = 1 << 32


class Point(NamedTuple):
    """One machine, policy and workload, on as many lanes as the sweep gives it."""

    variant: str
    settings: Settings  # on top of the variant
    identity: str


@dataclass(frozen=True)
class Plan:
    """What a sweep file comes to."""

    path: Path
    sweep: SweepFile
    base: Varied
    points: list[Point]
    identity: str
    excluded: int  # combinations that a constraint left out
    repeated: int  # combinations equal to an earlier point
    columns: dict[str, Any]  # parameters of runs/, with a value of each
    largest: int = 0  # the point whose lanes take the most memory

    def at(self, point: int) -> Varied:
        """What a point runs, of one variant."""
        return base_at(self.base, self.points[point].variant, self.points[point].settings)

    def heaps(self) -> list[Varied]:
        """A point for each allocator that they meet, to warm up with."""
        if not isinstance(self.base, Scenario):
            return [self.at(0)]
        key = "policy.allocator"
        fixed = {each.name: each.set.get(key, self.base.policy.allocator) for each in self.base.variants}
        first: dict[str, int] = {}
        for number, point in enumerate(self.points):
            first.setdefault(heap_of(point.settings.get(key, fixed[point.variant])), number)
        return [self.at(number) for number in first.values()]

    def refuse_too_large(self, at_once: int) -> None:
        """Raises InputError where ``at_once`` lanes of the largest point take more memory than they may."""
        machine = self.at(self.largest)
        if isinstance(machine, Scenario):
            point = self.points[self.largest]
            told = ", ".join(f"{key}={value}" for key, value in point.settings.items())
            refuse_too_large([machine], min(at_once, self.most_lanes), f"point {self.largest} ({told}): ")
        else:
            assert isinstance(self.base, Replay)
            refuse_large_traces(self.base, self.path.absolute().parent, min(at_once, self.most_lanes))

    @property
    def most_lanes(self) -> int:
        """Lanes of the sweep if no point stops early."""
        return len(self.points) * self.sweep.lanes


def base_at(base: Varied, variant: str, settings: Settings) -> Varied:
    """What a point runs: a variant of the base with the point's settings."""
    return base.variant(variant).with_settings(settings, "point")


@reader("cannot be planned")
def plan_sweep(path: str | Path, changes: Mapping[str, Any] | None = None, texts: KeptTexts = NO_TEXTS) -> Plan:
    """Reads a sweep file and expands it; ``changes`` and ``texts`` as of ``load_sweep``.

    Raises:
        InputError: the file cannot be used, or the sweep is impossible: an empty axis, an unknown field, too many
            points, a constraint that leaves none; names file and key.
    """
    path = Path(path)
    sweep, base = load_sweep(path, changes, texts)
    constraints = _constraints(sweep, path)
    count = _combinations(sweep, len(base.variants))
    if count > MAX_POINTS:
        raise InputError(path, _axis_names(sweep), f"{count:,} points; at most {MAX_POINTS:,} are allowed")
    if count * sweep.lanes > MAX_LANES:
        raise InputError(path, "lanes", f"{count * sweep.lanes:,} lanes; at most {MAX_LANES:,} are allowed")
    factors = _factors(sweep, path)
    _check_each_value(base, sweep, factors, path)
    parameters = _parameters(base)
    identities, of_variant = Identities(sweep.seed, model_digest()), cache(base.variant)
    points: dict[str, Point] = {}
    excluded = repeated = 0
    broken: set[str] = set()
    largest, most = "", -1
    for variant, combined in _walk(base, factors):
        settings = _of_variant(base, variant, combined)
        scenario = _at(of_variant, variant, settings, path)
        failing = _failing(constraints, scenario, settings, path, parameters)
        if failing:
            excluded += 1
            broken.update(failing)
            continue
        identity = identities.of(scenario)
        repeated += identity in points
        points.setdefault(identity, Point(variant, settings, identity))
        size = lane_bytes(scenario) if isinstance(scenario, Scenario) else 0
        if size > most:
            largest, most = identity, size
    if not points:
        raise InputError(path, "constraints", f"leave no point of {excluded:,}: {'; '.join(sorted(broken))}")
    rule = sweep.model_dump(mode="json", include={"lanes", "stop", "tables"})
    chosen = list(points.values())
    return Plan(
        path,
        sweep,
        base,
        chosen,
        sweep_identity(list(points), rule),
        excluded,
        repeated,
        _columns(base, chosen),
        list(points).index(largest),
    )


def _constraints(sweep: SweepFile, path: Path) -> list[Constraint]:
    try:
        return [parse_constraint(text) for text in sweep.constraints]
    except ValueError as error:
        raise InputError(path, "constraints", str(error)) from None


def _combinations(sweep: SweepFile, variants: int) -> int:
    axes = [range_length(axis) if isinstance(axis, Range) else len(axis) for axis in sweep.axes.values()]
    zips = [len(next(iter(group.values()))) for group in sweep.zips]
    return prod([variants, *axes, *zips, *(sample.points for sample in sweep.samples)])


def _axis_names(sweep: SweepFile) -> str:
    return ", ".join(
        name for name, there in (("axes", sweep.axes), ("zips", sweep.zips), ("samples", sweep.samples)) if there
    )


def _factors(sweep: SweepFile, path: Path) -> list[tuple[str, list[Settings]]]:
    """What the points are the product of: (key in the file, settings of each step)."""
    factors: list[tuple[str, list[Settings]]] = []
    for key, axis in sweep.axes.items():
        try:
            values: list[Any] = range_values(axis) if isinstance(axis, Range) else list(axis)
        except ValueError as error:
            raise InputError(path, f"axes: {key}", str(error)) from None
        seen: set[tuple[type, Any]] = set()
        for value in values:
            if (type(value), value) in seen:
                raise InputError(path, f"axes: {key}", f"{value!r} twice")
            seen.add((type(value), value))
        factors.append((f"axes: {key}", [{key: value} for value in values]))
    for i, group in enumerate(sweep.zips):
        rows = zip(*group.values(), strict=True)
        factors.append((f"zips.{i}", [dict(zip(group, row, strict=True)) for row in rows]))
    for i, sample in enumerate(sweep.samples):
        factors.append((f"samples.{i}", sample_settings(sample)))
    return factors


def _walk(base: Varied, factors: list[tuple[str, list[Settings]]]) -> Iterator[tuple[str, Settings]]:
    for variant in base.variants:
        for combination in itertools.product(*(steps for _, steps in factors)):
            yield variant.name, merged(combination)


def _check_each_value(base: Varied, sweep: SweepFile, factors: list[tuple[str, list[Settings]]], path: Path) -> None:
    """Refuses a field that does not exist or is set twice, before combinations hide where it came from."""
    for variant in base.variants:
        for key in sweep.varied:
            if key in variant.set:
                raise InputError(path, f"axes: {key}", f"variant {variant.name} sets it too")
    known = _fields(base) | _parameters(base)
    for where, steps in factors:
        for key in steps[0]:
            if key not in known and not key.startswith("machine.free_pages."):
                raise InputError(path, where, f"{key} names no field of the scenario{meant(key, known)}")


def _of_variant(base: Varied, variant: str, settings: Settings) -> Settings:
    """Settings without the parameters that the file of a variant, if it has one, does not declare."""
    fields, own = own_settings(settings)
    if not own:
        return settings
    known = declared(base, next(each for each in base.variants if each.name == variant))
    return {key: value for key, value in settings.items() if key in fields or key.partition(".")[2] in known}


def _fields(base: Varied) -> set[str]:
    """Dotted names of all fields with plain values."""
    return set(dotted(base.model_dump(exclude={"variants", "name", "description"})))


def _at(of_variant: Callable[[str], Varied], variant: str, settings: Settings, path: Path) -> Varied:
    try:
        return of_variant(variant).with_settings(settings, "point")
    except InputError as error:
        told = ", ".join(f"{key} = {value}" for key, value in settings.items())
        raise InputError(
            path, f"point {variant}: {told}", f"{error.where.removeprefix('point: ')}: {error.message}"
        ) from None


def _failing(
    constraints: list[Constraint], scenario: Varied, settings: Settings, path: Path, parameters: set[str]
) -> list[str]:
    """Constraints that a point breaks; one on a parameter that its variant's file does not declare holds."""
    broken = []
    for constraint in constraints:
        if any(_is_missing(scenario, name, parameters) for name in constraint.fields):
            continue
        values = {name: settings.get(name, _value(scenario, name, path)) for name in constraint.fields}
        try:
            if not constraint.holds(values):
                broken.append(constraint.text)
        except TypeError:
            raise InputError(path, "constraints", f"{constraint.text!r}: the two sides cannot be compared") from None
    return broken


def _parameters(base: Varied) -> set[str]:
    """Keys of the parameters that the files of the variants declare."""
    return {f"policy.{name}" for variant in base.variants for name in declared(base, variant)}


def _is_missing(scenario: Varied, name: str, parameters: set[str]) -> bool:
    return name in parameters and parameter_of(scenario, name) is None


def _value(scenario: Varied, name: str, path: Path) -> Any:
    parameter = parameter_of(scenario, name)
    if parameter is not None:
        return parameter
    value: Any = scenario
    for part in name.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        elif part in getattr(type(value), "model_fields", ()):
            value = getattr(value, part)
        else:
            raise InputError(path, "constraints", f"{name} names no field of the scenario")
    return value


def _columns(base: Varied, points: list[Point]) -> dict[str, Any]:
    """Parameter columns over all points: each axis is at every point, so the first of each variant shows them all."""
    columns: dict[str, Any] = {}
    seen: set[str] = set()
    for point in points:
        if point.variant in seen:
            continue
        seen.add(point.variant)
        for name, value in parameters_of(base_at(base, point.variant, point.settings)).items():
            if columns.get(name) is None:
                columns[name] = value
    return columns

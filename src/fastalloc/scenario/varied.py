"""What is varied by dotted names: a base with fields, and variants that set some of them otherwise."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from fastalloc.errors import MOST_FAULTS, InputError, in_words, meant, shown, together
from fastalloc.fields import Model

MOST_NAMED = 8  # entries of a list that an error names
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
KEY = r"^[a-z_]+(\.[A-Za-z0-9_]+)+$"
_PATTERNS = {
    NAME: "must be letters, digits, _, ., + and -, a letter or digit first",
    KEY: "must be a dotted name such as machine.hz",
}


class Variant(Model):
    """The base with some fields set otherwise; ``set`` maps dotted names to values."""

    name: Annotated[str, Field(pattern=NAME)]
    title: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    default: bool = True  # runs when no variant is asked for


class Varied(Model):
    """A base and its variants."""

    name: Annotated[str, Field(pattern=NAME)]
    description: str = ""
    variants: list[Variant] = Field(min_length=1, default_factory=lambda: [Variant(name="base", title="as described")])

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"variants: a name twice in {', '.join(names)}")
        return self

    def variant(self, name: str) -> Self:
        """One variant, its settings applied and checked; it is its own only variant.

        Raises:
            InputError: there is no such variant, or one of its settings names no field or holds a bad value.
        """
        for variant in self.variants:
            if variant.name == name:
                for key in variant.set:
                    if key.split(".")[0] in ("run", "variants", "name"):
                        raise InputError(self.name, f"variant {name}: {key}", "cannot differ between variants")
                own = variant.model_copy(update={"set": {}})
                return self.with_settings(variant.set, f"variant {name}").model_copy(update={"variants": [own]})
        known = [variant.name for variant in self.variants]
        told = f"no variant {name!r}{meant(name, known)}; there are {', '.join(known)}"
        raise InputError(self.name, "variants", told)

    @property
    def own(self) -> tuple[str, str, dict[str, int]]:
        """The file of one's own that it runs: text, name, parameters as set; no text where there is none."""
        return "", "", {}

    def with_settings(self, settings: Mapping[str, Any], what: str = "set") -> Self:
        """A copy with the fields named by dotted keys set.

        Args:
            settings: ``{"policy.command_rule": "fix"}``; a number in a key indexes a list.
            what: how an error names the origin of the settings.

        Raises:
            InputError: a key names no field, or a value is refused.
        """
        if not settings:
            return self
        touched = {key.split(".")[0] for key in settings}
        data: dict[str, Any] = dict(self) | self.model_dump(include=touched)  # the rest was checked when it was made
        faults = []
        for key, value in settings.items():
            try:
                _assign(data, key, value, self.name, what)
            except InputError as error:
                faults.append(error)
        try:
            found = type(self).model_validate(data)
        except ValidationError as error:
            faults += input_error(error, self.name, what, type(self), data).each()
        if faults:
            raise together(faults)
        return found


def input_error(
    error: ValidationError, path: object, what: str = "", model: type[BaseModel] | None = None, data: Any = None
) -> InputError:
    """All faults that pydantic found, as one error with a line for each; ``model``: of what was checked, ``data``."""
    faults: list[InputError] = []
    for loc, fault in _told_once(error.errors(include_url=False), data):
        field = _place(loc, data)
        message = _PATTERNS.get(fault.get("ctx", {}).get("pattern", ""), "") or in_words(fault["msg"])
        if fault["type"] == "extra_forbidden":
            message = f"unknown key{_meant_at(model, loc) if len(faults) < MOST_FAULTS else ''}"
        elif fault["type"] == "missing":
            message = "is missing"
        elif isinstance(fault["input"], bool | int | float | str):
            message += f", not {shown(fault['input'])}"
        faults.append(InputError(path, ": ".join(part for part in (what, field) if part), message))
    return together(faults)


Place = tuple[str | int, ...]


def _told_once(found: Sequence[Any], data: Any) -> Iterator[tuple[Place, Any]]:
    """Each fault with its place. Where a value may be of several kinds, pydantic tells what each of them says, and
    names the kind in the place: one that the value is not is left out where another says more, else all go in one
    line."""
    values: dict[Place, dict[Place, list[Any]]] = {}
    for fault in found:
        loc, value = _without_kinds(fault, data)
        values.setdefault(value, {}).setdefault(loc, []).append(fault)
    for value, places in values.items():
        said = [fault for fault in places.get(value, ()) if not fault["type"].endswith("_type")]
        if said or len(places) > 1:
            places[value] = said
        for loc, faults in places.items():
            if len(faults) > 1 and all(fault["type"].endswith("_type") for fault in faults):
                kinds = list(dict.fromkeys(in_words(fault["msg"]).removeprefix("must be ") for fault in faults))
                faults = [{**faults[0], "msg": f"Input should be {' or '.join(kinds)}"}]
            yield from ((loc, fault) for fault in faults)


def _without_kinds(fault: Any, data: Any) -> tuple[Place, Place]:
    """The place of a fault in the file, and that of the value of several kinds which it lies in, else its own."""
    loc: list[str | int] = []
    at: Place | None = None
    parts = fault["loc"]
    for number, part in enumerate(parts):
        of_its_own = fault["type"] in ("missing", "extra_forbidden") and number == len(parts) - 1
        if data is not None and not of_its_own and isinstance(part, str):
            if not (isinstance(data, dict) and part in data):
                at = at or tuple(loc)
                continue
        data = _at(data, part)
        loc.append(part)
    return tuple(loc), tuple(loc) if at is None else at


def _place(loc: Sequence[str | int], data: Any) -> str:
    """Where a fault is: entries of a list go by their names (``zones[Normal]``), or as they are counted in a file, from
    1 (``zones[2 of 3]``)."""
    words = ""
    for part in loc:
        below: Any = _at(data, part)
        if isinstance(part, int):
            named = isinstance(data, list) and _is_named(below) and _entry(data, below["name"]) == part
            words += f"[{below['name']}]" if named else f"[{part + 1}{f' of {len(data)}' if data else ''}]"
        else:
            words += f".{part}" if words else part
        data = below
    return words


def _at(data: Any, part: str | int) -> Any:
    """The entry of a table or a list; None where there is none."""
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None


def _meant_at(model: Any, loc: Sequence[str | int]) -> str:
    """A guess at an unknown key: one of its table, else one of that name in another table."""
    key = str(loc[-1])
    near = meant(key, _fields_at(model, loc[:-1]))
    if near or model is None or len(loc) > 1:
        return near
    tables = [name for name in model.model_fields if key in _fields_at(model, (name,))]
    return f" (did you mean {tables[0] + '.' + key!r}?)" if tables else ""


def _fields_at(model: Any, place: Sequence[str | int]) -> list[str]:
    """Names of the fields of the table at ``place`` in a model."""
    for part in place:
        if isinstance(part, str):
            field = model.model_fields.get(part) if model is not None else None
            model = _model_in(field.annotation) if field is not None else None
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> Any:
    """The model that an annotation such as ``list[Zone]`` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _model_in(part))), None)


def _assign(data: Any, key: str, value: Any, path: str, what: str) -> None:
    """Sets ``data["a"]["b"]`` for the key ``a.b``."""
    parts = key.split(".")
    for part in parts[:-1]:
        data = _step(data, part, key, path, what)
    last = parts[-1]
    if isinstance(data, list):
        _step(data, last, key, path, what)
        data[_entry(data, last) or 0] = value
    elif isinstance(data, dict):
        data[last] = value  # an unknown field is refused by the validation that follows
    else:
        raise InputError(path, f"{what}: {key}", f"names no field: {last!r} is asked of a plain value")


def _step(data: Any, part: str, key: str, path: str, what: str) -> Any:
    if isinstance(data, dict) and part in data:
        return data[part]
    if isinstance(data, list):
        entry = _entry(data, part)
        if entry is not None:
            return data[entry]
    known = list(data) if isinstance(data, dict) else []
    if isinstance(data, list):
        known = [each["name"] for each in data if _is_named(each)]
    there = f"; there are {', '.join(known)}" if isinstance(data, list) and 0 < len(known) <= MOST_NAMED else ""
    raise InputError(path, f"{what}: {key}", f"names no field: there is no {part!r}{meant(part, known)}{there}")


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _entry(data: list[Any], part: str) -> int | None:
    """The place in a list of the one entry that is called ``part``, or, counted from 0, of the number that it is."""
    named = [place for place, each in enumerate(data) if _is_named(each) and each["name"] == part]
    if len(named) == 1:
        return named[0]
    return int(part) if re.fullmatch("[0-9]{1,9}", part) and int(part) < len(data) else None


def dotted(data: Any, prefix: str = "") -> dict[str, Any]:
    """The plain values in tables and lists by their dotted names; entries of lists by number, from 0."""
    if not isinstance(data, dict | list):
        return {prefix: data}
    found: dict[str, Any] = {}
    for key, inner in data.items() if isinstance(data, dict) else enumerate(data):
        found |= dotted(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def at_path(error: InputError, path: object) -> InputError:
    """The same faults, of ``path``."""
    return together([InputError(path, each.where, each.message) for each in error.each()])

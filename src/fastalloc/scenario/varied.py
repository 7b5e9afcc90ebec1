"""What is varied by dotted names: a base with fields, and variants that set some of them otherwise."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from fastalloc.errors import InputError, meant, shown
from fastalloc.fields import Model


class Variant(Model):
    """The base with some fields set otherwise; ``set`` maps dotted names to values."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
    title: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    default: bool = True  # runs when no variant is asked for


class Varied(Model):
    """A base and its variants."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
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
        data = self.model_dump()
        faults = []
        for key, value in settings.items():
            try:
                _assign(data, key, value, self.name, what)
            except InputError as error:
                faults.append(error)
        try:
            found = type(self).model_validate(data)
        except ValidationError as error:
            faults += input_error(error, self.name, what, type(self)).each()
        if faults:
            raise together(faults)
        return found


def together(faults: Sequence[InputError]) -> InputError:
    """Several errors as one with a line for each."""
    first, *others = (each for fault in faults for each in fault.each())
    return InputError(first.path, first.where, first.message, others)


def input_error(
    error: ValidationError, path: object, what: str = "", model: type[BaseModel] | None = None
) -> InputError:
    """All faults that pydantic found, as one error with a line for each; ``model``: of what was checked."""
    faults = []
    for fault in error.errors(include_url=False):
        field = ".".join(str(part) for part in fault["loc"])
        message = _in_words(fault["msg"])
        if fault["type"] == "extra_forbidden":
            message = f"unknown key{meant(str(fault['loc'][-1]), _fields_at(model, fault['loc'][:-1]))}"
        elif fault["type"] == "missing":
            message = "is missing"
        elif isinstance(fault["input"], bool | int | float | str):
            message += f", not {shown(fault['input'])}"
        faults.append(InputError(path, ": ".join(part for part in (what, field) if part), message))
    return together(faults)


def _in_words(message: str) -> str:
    """What pydantic says, without what it says of itself."""
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    message = re.sub(r"^String should", "should", message)
    message = re.sub(
        r"^(?:List|Dictionary) should have at most (\d+) items? after validation, not (\d+|more)",
        lambda found: f"must have at most {int(found[1]):,} entries",
        message,
    )
    return re.sub(r", unable to (parse|interpret) .*|, got a number with a fractional part", "", message)


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
        data[int(last)] = value
    elif isinstance(data, dict):
        data[last] = value  # an unknown field is refused by the validation that follows
    else:
        raise InputError(path, f"{what}: {key}", f"names no field: {last!r} is asked of a plain value")


def _step(data: Any, part: str, key: str, path: str, what: str) -> Any:
    if isinstance(data, dict) and part in data:
        return data[part]
    if isinstance(data, list) and re.fullmatch("[0-9]{1,9}", part) and int(part) < len(data):
        return data[int(part)]
    known = list(data) if isinstance(data, dict) else []
    raise InputError(path, f"{what}: {key}", f"names no field: there is no {part!r}{meant(part, known)}")

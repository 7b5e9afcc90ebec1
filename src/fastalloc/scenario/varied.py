"""What is varied by dotted names: a base with fields, and variants that set some of them otherwise."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from fastalloc.errors import InputError, shown
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
        known = ", ".join(variant.name for variant in self.variants)
        raise InputError(self.name, "variants", f"no variant {name!r}; there are {known}")

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
        for key, value in settings.items():
            _assign(data, key, value, self.name, what)
        try:
            return type(self).model_validate(data)
        except ValidationError as error:
            raise input_error(error, self.name, what) from None


def input_error(error: ValidationError, path: object, what: str = "") -> InputError:
    """All faults that pydantic found, as one error with a line for each."""
    faults = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown key"
        elif fault["type"] != "missing" and isinstance(fault["input"], bool | int | float | str):
            message += f", not {shown(fault['input'])}"
        faults.append(InputError(path, ": ".join(part for part in (what, field) if part), message))
    return InputError(faults[0].path, faults[0].where, faults[0].message, faults[1:])


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
    raise InputError(path, f"{what}: {key}", f"names no field: there is no {part!r}")

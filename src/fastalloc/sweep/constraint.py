"""Constraints between fields: ``host.queue_depth <= host.can_queue``."""

import operator
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(\S+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")


class Constraint(NamedTuple):
    """A comparison of two sides, each the dotted name of a field or a plain value."""

    text: str
    left: Any
    compare: str
    right: Any
    fields: tuple[str, ...]  # the sides that are names

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a point with these values of the fields is allowed; a field without a value allows nothing.

        Raises:
            TypeError: the two sides cannot be compared.
        """
        left, right = (values[side] if side in self.fields else side for side in (self.left, self.right))
        if left is None or right is None:
            return False
        return _COMPARE[self.compare](left, right)


def parse_constraint(text: str) -> Constraint:
    """A constraint from its text.

    Raises:
        ValueError: it is no comparison of two sides, or names no field.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no comparison such as host.queue_depth <= host.can_queue")
    sides = [_side(word) for word in (found[1], found[3])]
    fields = tuple(word for word, is_field in sides if is_field)
    if not fields:
        raise ValueError(f"{text!r} names no field")
    return Constraint(text, sides[0][0], found[2], sides[1][0], fields)


def _side(word: str) -> tuple[Any, bool]:
    """A side and whether it is the name of a field."""
    try:
        return tomllib.loads(f"value = {word}")["value"], False
    except tomllib.TOMLDecodeError:
        return word, True

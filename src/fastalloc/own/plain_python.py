"""What of a file of one's own runs as plain Python: its statements at the top and ``merge``. It ends, and its constants
are whole numbers."""

import ast
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from fastalloc.errors import InputError, printable, shortened
from fastalloc.own.checked import BUILTINS, LARGEST, line_of
from fastalloc.own.text import Text

MOST_LINES = 1_000_000  # that are run at one time
MAY_RAISE = (Exception, SystemExit)  # what a file may raise: `exit()` at its top ends it, not the program


@contextmanager
def few_lines(where: str) -> Iterator[None]:
    """Raises OverflowError inside once the file ``where`` has run MOST_LINES lines."""
    left = MOST_LINES

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise OverflowError(f"runs more than {MOST_LINES:,} lines")
        return count

    def called(frame: FrameType, event: str, argument: object) -> Any:
        return count if frame.f_code.co_filename == where else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield
    finally:
        sys.settrace(before)


def refuse_constants(text: Text, namespace: Mapping[str, Any], provided: tuple[str, ...] = ()) -> None:
    """Raise InputError where a compiled function uses a value of the file's top that is no whole number of 64 bits, nor
    a tuple of such: machine code would cut a fraction off."""
    for name, each, said, value in constants_of(text, namespace, provided):
        if not (_whole(value) or (isinstance(value, tuple) and value and all(map(_whole, value)))):
            why = f"{name}: {said} is {shortened(printable(repr(value)))}: whole numbers of 64 bits only"
            raise InputError(text.where, line_of(each), why)


def constants_of(
    text: Text, namespace: Mapping[str, Any], provided: tuple[str, ...] = ()
) -> Iterator[tuple[str, ast.Name, str, Any]]:
    """The values of the file's top, as ``namespace`` has them, that compiled functions use: which function, where, the
    value's name and itself."""
    nodes = {node.name: node for node in text.tree.body if isinstance(node, ast.FunctionDef)}
    for name in dict.fromkeys(each for names in text.used.values() for each in names):
        names = [each for each in ast.walk(nodes[name]) if isinstance(each, ast.Name)]
        local = {each.id for each in names if isinstance(each.ctx, ast.Store)}
        local |= {each.arg for each in nodes[name].args.args} | set(nodes) | set(BUILTINS) | set(provided)
        fields = {
            id(each.value): each.attr
            for each in ast.walk(nodes[name])
            if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name)
        }
        for each in names:
            if each.id in local or each.id not in namespace:
                continue
            value, said = namespace[each.id], each.id
            if id(each) in fields:
                said = f"{said}.{fields[id(each)]}"
                value = getattr(value, fields[id(each)], None)
            yield name, each, said, value


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and abs(int(value)) <= LARGEST

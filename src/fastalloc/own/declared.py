"""What the top of a file of one's own declares: parameters and words of state."""

import ast
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from fastalloc.errors import InputError
from fastalloc.own.checked import LARGEST, line_of
from fastalloc.own.questions import STATES
from fastalloc.policy import Policy

MOST_WORDS = 64  # of state, of each
set_parameters: ContextVar[dict[str, int]] = ContextVar("set_parameters")  # while a policy's text is executed


class Parameter(NamedTuple):
    """A number that a policy may be run with: ``--set policy.NAME=`` within ``low`` and ``high``."""

    name: str
    default: int
    low: int
    high: int
    meaning: str


def parameter(name: str, default: int, low: int, high: int, meaning: str) -> int:
    """A parameter of a policy: ``grow_at = parameter("grow_at", 8, 1, 500, "objects a ms that make a sheaf grow")``.

    Its arguments must be plain constants, and ``name`` that of the variable. Gives what it is set to.
    """
    return set_parameters.get({}).get(name, default)


def refuse_twice(tree: ast.Module, where: str) -> None:
    """Raise InputError for a function, a parameter or a table that the file has twice: one of them would be dead."""
    seen: dict[str, tuple[int, bool]] = {}
    for node in tree.body:
        names = [node.name] if isinstance(node, ast.FunctionDef) else []
        once = bool(names)
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            made = node.value.func if isinstance(node.value, ast.Call) else None
            once = bool({"STATE", "ARRAYS"} & set(names)) or (isinstance(made, ast.Name) and made.id == "parameter")
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        for name in names:
            line, alone = seen.get(name, (0, False))
            if line and (once or alone):
                raise InputError(where, line_of(node), f"{name} is there already, in line {line}")
            seen[name] = node.lineno, once


def _refuse_renamed(node: ast.AST, where: str) -> None:
    """What is called by another name would be no parameter, and keep its default whatever is set."""
    renamed = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parameter"
    if isinstance(node, ast.ImportFrom):
        renamed = any(alias.name == "parameter" and alias.asname not in (None, "parameter") for alias in node.names)
    if renamed:
        raise InputError(where, line_of(node), "parameter goes by its own name: from fastalloc.own import parameter")


def parameters_of(tree: ast.Module, where: str) -> Iterator[Parameter]:
    for node in ast.walk(tree):
        _refuse_renamed(node, where)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "parameter"):
            continue
        try:
            named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
            found = Parameter(*(ast.literal_eval(each) for each in node.args), **named)
        except (ValueError, TypeError):
            raise InputError(
                where, line_of(node), "parameter takes constants: name, default, low, high and meaning"
            ) from None
        numbers = (found.default, found.low, found.high)
        if not (isinstance(found.name, str) and found.name.isidentifier()):
            raise InputError(where, line_of(node), "a parameter's name must be that of its variable")
        if found.name in Policy.model_fields:
            raise InputError(where, line_of(node), f"parameter {found.name}: a field of every policy is called so")
        if not all(type(each) is int and abs(each) <= LARGEST for each in numbers):
            raise InputError(where, line_of(node), f"parameter {found.name}: default, low and high are whole numbers")
        if not found.low <= found.default <= found.high:
            raise InputError(
                where,
                line_of(node),
                f"parameter {found.name}: {found.default} is not within {found.low} to {found.high}",
            )
        bound = [
            target.id
            for each in tree.body
            if isinstance(each, ast.Assign) and each.value is node
            for target in each.targets
            if isinstance(target, ast.Name)
        ]
        if bound != [found.name]:
            raise InputError(
                where, line_of(node), f"parameter {found.name} must be assigned to {found.name}, at the top"
            )
        yield found


def state_of(tree: ast.Module, where: str) -> dict[str, tuple[str, ...]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "STATE" for t in node.targets):
            told = 'STATE is a table such as {"cache": ["taken", "since"]}, of ' + ", ".join(STATES)
            try:
                table = ast.literal_eval(node.value)
                found = {key: tuple(words) for key, words in table.items()}
            except (ValueError, TypeError, AttributeError):
                raise InputError(where, line_of(node), told) from None
            for key, words in found.items():
                good = not isinstance(table[key], str) and all(isinstance(w, str) and w.isidentifier() for w in words)
                if key not in STATES or not good or len(set(words)) < len(words) or len(words) > MOST_WORDS:
                    raise InputError(where, line_of(node), f"STATE {key!r}: {told}, {MOST_WORDS} words each at most")
            return found
    return {}

"""What the names in a file of one's own stand for, told before anything of it runs: records, and imports of ours."""

import ast
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from fastalloc.errors import InputError, meant

# For each function its names, and the records that each may be; a helper's by what it is called with.
Kinds = dict[str, dict[str, set[str]]]


class Imported(NamedTuple):
    """A name that a file imports from fastalloc, and what it is there."""

    value: Any

    @property
    def names(self) -> list[str]:
        """What can be asked of it."""
        fields = getattr(self.value, "fields", None)  # of a record
        if isinstance(fields, tuple):
            return [str(each.name) for each in fields]
        return [each for each in dir(self.value) if each[:1] != "_"]


def kinds_of(top: Mapping[str, ast.FunctionDef], asked: Mapping[str, Mapping[str, str]]) -> Kinds:
    """The records that names may be, in each function that is reached.

    Args:
        top: the functions of the file.
        asked: of each function that the kernel calls the records among its arguments.
    """
    found: Kinds = {name: {each: {kind} for each, kind in given.items()} for name, given in asked.items()}
    waiting = list(asked)
    while waiting:
        name = waiting.pop()
        names = found[name]
        while _aliases(top[name], names):
            pass
        for call in ast.walk(top[name]):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in top:
                callee = call.func.id
                told = found.get(callee)
                theirs = found.setdefault(callee, {})
                grown = told is None
                for argument, value in zip(top[callee].args.args, call.args, strict=False):
                    kinds = _kinds(value, names)
                    grown |= not kinds <= theirs.get(argument.arg, set())
                    theirs[argument.arg] = theirs.get(argument.arg, set()) | kinds
                if grown:
                    waiting.append(callee)
    return found


def _aliases(node: ast.FunctionDef, names: dict[str, set[str]]) -> bool:
    """Adds what is assigned from a record; whether there was more."""
    grown = False
    for each in ast.walk(node):
        if isinstance(each, ast.Assign) and len(each.targets) == 1 and isinstance(each.targets[0], ast.Name):
            kinds = _kinds(each.value, names)
            target = each.targets[0].id
            grown |= not kinds <= names.get(target, set())
            if kinds:
                names[target] = names.get(target, set()) | kinds
    return grown


def _kinds(value: ast.expr, names: Mapping[str, set[str]]) -> set[str]:
    if isinstance(value, ast.Name):
        return names.get(value.id, set())
    if isinstance(value, ast.IfExp):
        return _kinds(value.body, names) | _kinds(value.orelse, names)
    return set()


def imported_of(tree: ast.Module, where: str) -> dict[str, Imported]:
    """What the top of a file imports from fastalloc, by the name that it has there.

    Raises:
        InputError: fastalloc has no such name.
    """
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            raise InputError(where, f"line {node.lineno}", "import * does not say which names there are: name them")
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "fastalloc":
            try:
                module = import_module(str(node.module))
            except ImportError:
                continue  # told when the file is executed, with its line
            for alias in node.names:
                if not hasattr(module, alias.name):
                    known = [*getattr(module, "__all__", dir(module)), *getattr(module, "_ELSEWHERE", ())]
                    told = f"{node.module} has no {alias.name!r}{meant(alias.name, known)}"
                    raise InputError(where, f"line {node.lineno}", told)
                found[alias.asname or alias.name] = Imported(getattr(module, alias.name))
    return found

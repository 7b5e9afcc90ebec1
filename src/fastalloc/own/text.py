"""A policy's text before anything of it runs: what it answers, with which parameters and words of state.

All that can be wrong with it is told here, with the file's own name and line; nothing is executed.
"""

import ast
import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import NamedTuple, TypeVar

from fastalloc.errors import InputError, noted, together, told
from fastalloc.own.checked import Checked, line_of, near
from fastalloc.own.declared import Parameter, parameters_of, refuse_twice, state_of
from fastalloc.own.kinds import imported_of, kinds_of
from fastalloc.own.questions import NOT_IN_REPLAY, QUESTIONS, RECORDS, states_of

MOST_SOURCE = 1 << 18  # characters of a file: Python takes a thousand times as much memory to read it
Read = TypeVar("Read")


class Text(NamedTuple):
    """A policy's text. ``functions``: the questions that it answers; ``used``: what each of them needs, itself last;
    ``says_kernel``: those that answer KERNEL whatever they are asked."""

    where: str
    tree: ast.Module
    functions: dict[str, ast.FunctionDef]
    used: dict[str, list[str]]
    parameters: dict[str, Parameter]
    state: dict[str, tuple[str, ...]]
    says_kernel: frozenset[str]

    @property
    def has_elements(self) -> bool:
        """Whether it reads elements of tuples or arrays of its own."""
        return any(isinstance(each, ast.Subscript) for each in ast.walk(self.tree))

    @property
    def asked(self) -> list[str]:
        """The questions of a lane that runs which need to be asked."""
        return [name for name in self.functions if name != "merge" and name not in self.says_kernel]


def not_too_deep(read: Callable[[str, str], Read]) -> Callable[[str, str], Read]:
    """For a reader of a text, whose parts may lie in each other by the thousand."""

    @wraps(read)
    def shallow(source: str, where: str) -> Read:
        try:
            return read(source, where)
        except RecursionError as error:
            raise InputError(where, "", f"no Python: {told(error)}") from None

    return shallow


@lru_cache(maxsize=64)
@not_too_deep
def read_text(source: str, where: str) -> Text:
    """The policy that ``source`` is; ``where`` names it in errors.

    Raises:
        InputError: no Python, a function that answers no question and that nothing calls, an argument or a field of one
            that there is not, what cannot be compiled, a function that calls itself; names the line.
    """
    tree = parsed(source, where)
    refuse_twice(tree, where)
    top = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    functions = {name: node for name, node in top.items() if name in QUESTIONS}
    faults = _strangers(tree, top, where)
    if not functions:
        raise together(faults or [InputError(where, "", f"answers none of {', '.join(QUESTIONS)}")])
    parameters = {each.name: each for each in parameters_of(tree, where)}
    state = state_of(tree, where)
    used: dict[str, list[str]] = {}
    for name, node in functions.items():
        with noted(faults):
            _refuse_arguments(name, node, where)
            if name != "merge":
                used[name] = used_by(name, top, where)
    globals_ = globals_of(tree)
    told_of = (*RECORDS, "state")
    asked = {name: {each.arg: each.arg for each in top[name].args.args if each.arg in told_of} for name in used}
    kinds, imported = kinds_of(top, asked), imported_of(tree, where)
    for name in dict.fromkeys(each for names in used.values() for each in names):
        with noted(faults):
            Checked(name, top, state, globals_, where, kinds[name], imported).visit(top[name])
    if faults:
        raise together(faults)
    for name, names in used.items():
        for each in names:
            _refuse_states(name, top[each], where)
    quiet = frozenset(name for name, node in functions.items() if name != "merge" and _says_kernel(node))
    return Text(where, tree, functions, used, parameters, state, quiet)


# Trees are made by one thread at a time: CPython 3.11 counts their depth once for all threads, and raises SystemError
# where two of them meet [Python/ast.c, gh-106905].
PARSING = threading.Lock()


def parsed(source: str, where: str) -> ast.Module:
    if len(source) > MOST_SOURCE:
        raise InputError(where, "", f"has {len(source):,} characters; a file of one's own has at most {MOST_SOURCE:,}")
    try:
        with PARSING:
            return ast.parse(source, where)
    except SyntaxError as error:
        raise InputError(where, f"line {error.lineno}" if error.lineno else "", str(error.msg)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(where, "", f"no Python: {told(error)}") from None


def _strangers(tree: ast.Module, top: dict[str, ast.FunctionDef], where: str) -> list[InputError]:
    """What stands at the top of a file and is no part of a policy."""
    faults: list[InputError] = []
    called = {name for node in tree.body for name in _names(node) if not _defines(node, name)}
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef | ast.ClassDef):
            faults.append(InputError(where, line_of(node), f"{node.name}: a policy is made of plain functions"))
        if isinstance(node, ast.FunctionDef) and node.name not in QUESTIONS and node.name not in called:
            told = (
                f"{node.name} is no question, and nothing calls it{near(node.name, list(QUESTIONS)) or '.'} "
                f"Questions are {', '.join(QUESTIONS)}"
            )
            faults.append(InputError(where, line_of(node), told))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Name) and target.id in QUESTIONS:
                faults.append(InputError(where, line_of(node), f"{target.id}: expected a plain function"))
    return faults


def _defines(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _refuse_arguments(name: str, node: ast.FunctionDef, where: str) -> None:
    known = QUESTIONS[name].arguments
    told = f"{name}, {line_of(node)}"
    arguments = node.args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults or arguments.posonlyargs:
        raise InputError(where, told, f"takes plain arguments alone, of {', '.join(known)}")
    given = [each.arg for each in arguments.args]
    for each in given:
        if each not in known:
            raise InputError(where, told, f"is not asked with {each!r}, but with {', '.join(known)}{near(each, known)}")
    if name == "merge" and given != list(known):
        raise InputError(where, told, f"takes {len(given)} arguments, is asked with {', '.join(known)}")
    if node.decorator_list:
        raise InputError(where, told, "has a decorator, which is not compiled")


def used_by(name: str, top: dict[str, ast.FunctionDef], where: str) -> list[str]:
    """The functions that ``name`` calls, directly or not, callees first and ``name`` last."""
    order: list[str] = []

    def follow(each: str, path: tuple[str, ...]) -> None:
        if each in path:
            raise InputError(where, line_of(top[each]), f"{each} calls itself, which compiled code cannot")
        if each in order:
            return
        for other in sorted(_names(top[each]) & top.keys() - {arg.arg for arg in top[each].args.args}):
            follow(other, (*path, each))
        order.append(each)

    follow(name, ())
    return order


def globals_of(tree: ast.Module) -> set[str]:
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.For | ast.With | ast.If | ast.Try):
            found |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            found |= {
                (alias.asname or alias.name).split(".")[0]
                for each in ast.walk(node)
                if isinstance(each, ast.Import | ast.ImportFrom)
                for alias in each.names
            }
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def _refuse_states(question: str, node: ast.FunctionDef, where: str) -> None:
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "state":
            known = states_of(question)
            if each.attr not in known:
                raise InputError(where, line_of(each), f"state.{each.attr}: {question} is asked of no {each.attr}")


def _says_kernel(node: ast.FunctionDef) -> bool:
    body = [each for each in node.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
    return (
        len(body) == 1 and isinstance(body[0], ast.Return) and ast.unparse(body[0].value or body[0]) in ("KERNEL", "-1")
    )


def refuse_unasked(text: Text, allocator: str) -> None:
    """Raise InputError for a question that the kernel with ``allocator`` does not ask."""
    for name, node in text.functions.items():
        if allocator not in QUESTIONS[name].allocators:
            asked = ", ".join(repr(each) for each in QUESTIONS[name].allocators)
            raise InputError(
                text.where, f"{name}, {line_of(node)}", f"is asked of allocator {asked}, not of {allocator!r}"
            )


def refuse_in_replay(text: Text, eras: set[str]) -> None:
    """Raise InputError for what a replay does not ask of caches of ``eras``, or cannot tell."""
    for name, node in text.functions.items():
        told = f"{name}, {line_of(node)}"
        if not QUESTIONS[name].replay:
            raise InputError(
                text.where, told, "is not asked in a replay: its caches are laid out, and memory never ends"
            )
        missing = eras - {{"slub": "2.6.25"}.get(each, each) for each in QUESTIONS[name].allocators}
        if missing:
            raise InputError(text.where, told, f"is not asked of the rules of {', '.join(sorted(missing))}")
        for each in node.args.args:
            if each.arg in NOT_IN_REPLAY:
                raise InputError(text.where, told, f"takes {each.arg!r}, which a recorded trace does not tell")


def refuse_parameters(text: Text, values: dict[str, int]) -> None:
    """Raise InputError for a value of a parameter that there is not, or outside its range."""
    for name, value in values.items():
        if name not in text.parameters:
            known = ", ".join(text.parameters) or "none"
            told = f"is no field of a policy and no parameter of this file, which has {known}"
            raise InputError(text.where, f"policy.{name}", told + near(name, list(text.parameters)))
        found = text.parameters[name]
        if not found.low <= value <= found.high:
            raise InputError(
                text.where, f"policy.{name}", f"{value} is not within {found.low} to {found.high}: {found.meaning}"
            )

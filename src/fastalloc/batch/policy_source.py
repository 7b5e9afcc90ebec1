"""A policy's source before it is compiled: it ends, whatever its loops say, and no function calls itself."""

import ast

from fastalloc.errors import InputError

MOST_TURNS = 1_000_000  # of all loops of one answer
_COUNTER = "_turns"
_NEVER = -(1 << 63)  # a value that no argument has


def bounded(source: str, where: str, answers: tuple[str, ...] = ()) -> ast.Module:
    """The syntax tree of ``source``; a function raises OverflowError once its loops took more than MOST_TURNS turns.

    Compiled code has no other way out of a loop without end, and none at all of a stack that overflows. ``answers``:
    functions that are compiled; each has a return, without which one that always raises would have no type.

    Raises:
        InputError: no Python, or functions that call each other in a circle.
    """
    try:
        tree = ast.parse(source, where)
    except SyntaxError as error:
        raise InputError(where, f"line {error.lineno}", str(error.msg)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(where, "", f"no Python: {error}") from None
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    calls = {name: _called(node) & functions.keys() for name, node in functions.items()}
    for name, node in functions.items():
        if name in _reached(name, calls):
            raise InputError(where, f"line {node.lineno}", f"{name} calls itself, which compiled code cannot")
    _Bounded().visit(tree)
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name in answers and statement.args.args:
            never = f"if {statement.args.args[0].arg} == {_NEVER}:\n    return 0"
            statement.body = [*_at(statement, never), *statement.body]
    return ast.fix_missing_locations(tree)


def _called(function: ast.FunctionDef) -> set[str]:
    calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return {name.id for name in calls if isinstance(name, ast.Name)}


def _reached(name: str, calls: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    following = set(calls[name])
    while following:
        reached |= following
        following = {other for known in following for other in calls[known]} - reached
    return reached


class _Bounded(ast.NodeTransformer):
    """Counts the turns of loops."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        if any(isinstance(inner, ast.For | ast.While) for inner in ast.walk(node)):
            node.body = [*_at(node, f"{_COUNTER} = 0"), *node.body]
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        self._count(node)
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        self._count(node)
        return node

    def _count(self, node: ast.For | ast.While) -> None:
        self.generic_visit(node)
        count = (
            f"{_COUNTER} += 1\nif {_COUNTER} > {MOST_TURNS}:\n    raise OverflowError('its loops take too many turns')"
        )
        node.body = [*_at(node, count), *node.body]


def _at(node: ast.stmt, source: str) -> list[ast.stmt]:
    """Statements that stand in the line of ``node``."""
    statements = ast.parse(source).body
    for statement in statements:
        for inner in ast.walk(statement):
            ast.copy_location(inner, node)
    return statements

"""A policy's functions as they are run: their loops end, whole numbers that overflow raise, words of state are places.

Compiled code has no other way out of a loop without end, and lets numbers wrap. The functions that are interpreted, to
say where one failed, are the same.
"""

import ast
import copy
from types import CodeType

from fastalloc.errors import InputError, told
from fastalloc.own.text import PARSING, Text

MOST_TURNS = 100_000  # of all loops and calls of one answer
TURNS = "_own_turns"
_OPERATIONS = {
    ast.Add: "_own_add",
    ast.Sub: "_own_sub",
    ast.Mult: "_own_mul",
    ast.FloorDiv: "_own_floordiv",
    ast.Mod: "_own_mod",
    ast.LShift: "_own_lshift",
    ast.RShift: "_own_rshift",
}


def _may_always_raise(node: ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Raise | ast.Assert | ast.While) for each in ast.walk(node))


def looks_at_turns(name: str, text: Text) -> bool:
    """Whether the functions that answer a question count turns, or look at their number."""
    functions = {each.name: each for each in text.tree.body if isinstance(each, ast.FunctionDef)}
    loops = any(isinstance(node, ast.For) for node in ast.walk(functions[name]))
    return loops or len(text.used[name]) > 1 or _may_always_raise(functions[name])


def rewritten_module(text: Text, lines: bool = False) -> CodeType:
    """As ``rewritten``, ready to be executed.

    Raises:
        InputError: it is nested too deeply to be compiled.
    """
    try:
        tree = rewritten(text, lines)
        with PARSING:
            return compile(tree, text.where, "exec")
    except (RecursionError, MemoryError) as error:
        raise InputError(text.where, "", f"no Python: {told(error)}") from None


def rewritten(text: Text, lines: bool = False) -> ast.Module:
    """The module of a policy with the functions that are compiled rewritten; each takes TURNS as its last argument.

    ``lines``: each statement notes its line in the second word of TURNS, for a call that cannot be made twice.
    """
    tree = copy.deepcopy(text.tree)
    functions = {name for names in text.used.values() for name in names}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            _Rewritten(text, functions, node.name in text.functions).visit(node)
            if lines:
                _Lines().visit(node)
    return ast.fix_missing_locations(tree)


class _Rewritten(ast.NodeTransformer):
    def __init__(self, text: Text, functions: set[str], question: bool) -> None:
        self.text, self.functions, self.question = text, functions, question

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.args.args.append(ast.copy_location(ast.arg(TURNS), node))
        if not self.question:
            node.body = [*_at(node, _turn()), *node.body]
        elif _may_always_raise(node):  # and would have no type
            node.body = [*_at(node, f"if {TURNS}[0] < 0:\n    return 0"), *node.body]
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "abs" and "abs" not in self.functions:
            node.func.id = "_own_abs"
        if isinstance(node.func, ast.Name) and node.func.id in self.functions:
            node.args.append(ast.copy_location(ast.Name(TURNS, ast.Load()), node))
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._operation(node, node.op, node.left, node.right) or node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return node
        self.generic_visit(node)
        if isinstance(node.op, ast.USub):
            return self._operation(node, ast.Sub(), ast.Constant(0), node.operand) or node
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        self.generic_visit(node)
        before = copy.deepcopy(node.target)
        for each in ast.walk(before):
            if isinstance(each, ast.Name | ast.Subscript | ast.Attribute):
                each.ctx = ast.Load()
        value = self._operation(node, node.op, before, node.value) or ast.BinOp(before, node.op, node.value)
        return ast.copy_location(ast.Assign([node.target], ast.copy_location(value, node)), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        inner = node.value
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "state":
            place = self.text.state[inner.attr].index(node.attr)
            row = ast.copy_location(ast.Attribute(inner.value, inner.attr, ast.Load()), node)
            return ast.copy_location(ast.Subscript(row, ast.copy_location(ast.Constant(place), node), node.ctx), node)
        self.generic_visit(node)
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.body = [*_at(node, _turn()), *node.body]
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        self.generic_visit(node)
        node.body = [*_at(node, _turn()), *node.body]
        return node

    def _operation(self, node: ast.AST, op: ast.operator, left: ast.expr, right: ast.expr) -> ast.expr | None:
        name = _OPERATIONS.get(type(op))
        if name is None:
            return None
        call = ast.Call(ast.Name(name, ast.Load()), [left, right], [])
        for each in (call, call.func, left, right):
            if not hasattr(each, "lineno"):
                ast.copy_location(each, node)
        return ast.copy_location(call, node)


class _Lines(ast.NodeTransformer):
    """Before each statement, and at the end of a loop's body, the line goes into TURNS."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                noted = [each for old in statements for each in (*_at(old, _line(old)), old)]
                if name == "body" and isinstance(node, ast.While):
                    noted += _at(node, _line(node))
                setattr(node, name, noted)
        return node


def _line(node: ast.stmt) -> str:
    return f"{TURNS}[1] = {node.lineno}"


def _turn() -> str:
    return (
        f"{TURNS}[0] = {TURNS}[0] + 1\n"
        f"if {TURNS}[0] > {MOST_TURNS}:\n    raise OverflowError('its loops take more than {MOST_TURNS:,} turns')"
    )


def _at(node: ast.stmt, source: str) -> list[ast.stmt]:
    """Statements that stand in the line of ``node``."""
    with PARSING:
        statements = ast.parse(source).body
    for statement in statements:
        for inner in ast.walk(statement):
            ast.copy_location(inner, node)
    return statements

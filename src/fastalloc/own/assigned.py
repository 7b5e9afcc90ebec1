"""Variables that may have no value where a function reads them: Python would raise there, machine code would not."""

import ast
from collections.abc import Iterable

Names = frozenset[str]


def unassigned(node: ast.FunctionDef) -> tuple[int, str] | None:
    """Line and name of the first variable that some way through a function reads before it assigns it."""
    found = _Ways(node)
    found.body(node.body, frozenset(each.arg for each in node.args.args))
    return min(found.wrong, default=None)


class _Ways:
    """Follows every way through a function. ``ends``: of each loop around, what has a value where it is left."""

    def __init__(self, node: ast.FunctionDef) -> None:
        inside = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
        self.local = {each.id for each in inside if isinstance(each.ctx, ast.Store)}
        self.wrong: set[tuple[int, str]] = set()
        self.ends: list[list[Names]] = []

    def body(self, statements: Iterable[ast.stmt], known: Names | None) -> Names | None:
        """What has a value behind ``statements``; None: nobody gets there."""
        for statement in statements:
            if known is None:
                return None
            known = self.statement(statement, known)
        return known

    def statement(self, node: ast.stmt, known: Names) -> Names | None:
        if isinstance(node, ast.If):
            self.reads(node.test, known)
            return _both(self.body(node.body, known), self.body(node.orelse, known))
        if isinstance(node, ast.While | ast.For):
            return self.loop(node, known)
        self.reads(node, known)
        if isinstance(node, ast.Break):
            self.ends[-1].append(known)
        if isinstance(node, ast.Return | ast.Raise | ast.Break | ast.Continue):
            return None
        return known | {
            each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        }

    def loop(self, node: ast.While | ast.For, known: Names) -> Names | None:
        self.ends.append([])
        inside = known
        if isinstance(node, ast.For):
            self.reads(node.iter, known)
            inside = known | {each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)}
        else:
            self.reads(node.test, known)
        self.body(node.body, inside)
        endless = isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and bool(node.test.value)
        behind = None if endless else self.body(node.orelse, known)
        for end in self.ends.pop():
            behind = _both(behind, end)
        return behind

    def reads(self, node: ast.AST, known: Names) -> None:
        """Note what ``node`` reads and may have no value; an augmented assignment reads its target."""
        for each in ast.walk(node):
            target = each.target if isinstance(each, ast.AugAssign) else each
            loaded = isinstance(each, ast.AugAssign) or isinstance(getattr(each, "ctx", None), ast.Load)
            if isinstance(target, ast.Name) and loaded and target.id in self.local and target.id not in known:
                self.wrong.add((target.lineno, target.id))


def _both(one: Names | None, other: Names | None) -> Names | None:
    return other if one is None else one if other is None else one & other

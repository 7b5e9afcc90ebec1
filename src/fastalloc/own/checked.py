"""What a function that is compiled may hold, and what it may ask of the names it knows; all else is refused."""

import ast
from collections.abc import Iterable, Sequence

from fastalloc.errors import InputError, nearest
from fastalloc.own.assigned import unassigned
from fastalloc.own.kinds import Imported
from fastalloc.own.questions import RECORDS

LARGEST = (1 << 63) - 1
BUILTINS = ("min", "max", "abs", "range", "bool", "int", "len")
_SAID = {
    ast.Div: "whole numbers only: write // in place of /",
    ast.Pow: "** is not compiled: multiply, or shift with <<",
    ast.MatMult: "@ is no operation on whole numbers",
}
_ALLOWED = (
    ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.For, ast.While, ast.If,
    ast.IfExp, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Attribute, ast.Subscript,
    ast.Constant, ast.Tuple, ast.Break, ast.Continue, ast.Pass, ast.Expr, ast.Raise, ast.Assert, ast.expr_context,
    ast.operator, ast.boolop, ast.unaryop, ast.cmpop,
)  # fmt: skip
_NOT_COMPARED = (ast.In, ast.NotIn, ast.Is, ast.IsNot)


def line_of(node: ast.AST) -> str:
    """Where a node stands, in words."""
    return f"line {getattr(node, 'lineno', 0)}"


def near(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'keep'?`` where ``name`` looks like one of ``known``."""
    found = nearest(name, known)
    return f"; did you mean {found!r}?" if found else ""


class Checked(ast.NodeVisitor):
    """Refuses what a function that is compiled may not hold."""

    def __init__(
        self,
        name: str,
        top: dict[str, ast.FunctionDef],
        state: dict[str, tuple[str, ...]],
        globals_: set[str],
        where: str,
        kinds: dict[str, set[str]],
        imported: dict[str, Imported],
    ) -> None:
        self.name, self.top, self.state, self.where = name, top, state, where
        self.kinds, self.imported = kinds, imported
        node = top[name]
        self.arguments = {each.arg for each in node.args.args}
        stored = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        self.own = self.arguments | stored  # names, not the file's
        self.provided: tuple[str, ...] = ()
        self.known = self.arguments | stored | globals_ | set(BUILTINS) | {"True", "False"}

    def refuse(self, node: ast.AST, why: str) -> None:
        raise InputError(self.where, line_of(node), f"{self.name}: {why}")

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _ALLOWED):
            self.refuse(node, f"{type(node).__name__} is not compiled: whole numbers, tests, loops and calls are")
        super().generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name != self.name:
            self.refuse(node, "a function inside another is not compiled")
        if node.args.defaults or node.args.vararg or node.args.kwarg or node.args.kwonlyargs or node.decorator_list:
            self.refuse(node, "takes plain arguments alone")
        for argument in node.args.args:
            if argument.arg.startswith("_own_"):
                self.refuse(argument, f"{argument.arg!r}: names that begin with _own_ are taken")
        for each in node.body:
            self.visit(each)
        unknown = unassigned(node)
        if unknown:
            raise InputError(self.where, f"line {unknown[0]}", f"{self.name}: {unknown[1]!r} may have no value here")

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.refuse(node, "text is not compiled: whole numbers are")
        if isinstance(node.value, float | complex):
            self.refuse(node, f"{node.value!r}: whole numbers only")
        if node.value is None or not isinstance(node.value, int) or abs(node.value) > LARGEST:
            self.refuse(node, f"{node.value!r} is no whole number of 64 bits")

    def visit_Expr(self, node: ast.Expr) -> None:
        if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)):
            self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.refuse(node, "returns nothing: an answer is a whole number")
        else:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.cause is not None:
            self.refuse(node, "raise ... from is not compiled")

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._operator(node.op, node)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._operator(node.op, node)
        self.generic_visit(node)

    def _operator(self, op: ast.operator, node: ast.AST) -> None:
        if type(op) in _SAID:
            self.refuse(node, _SAID[type(op)])

    def visit_Compare(self, node: ast.Compare) -> None:
        if any(isinstance(op, _NOT_COMPARED) for op in node.ops):
            self.refuse(node, "in and is are not compiled: compare with ==")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if len(node.targets) > 1:
            self.refuse(node, "one variable at a time")
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        loop = node.iter
        if not (isinstance(loop, ast.Call) and isinstance(loop.func, ast.Name) and loop.func.id == "range"):
            self.refuse(node, "for goes over a range")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name) or node.keywords:
            self.refuse(node, "calls plain functions alone, with plain arguments")
        elif node.func.id not in self.top and node.func.id not in (*BUILTINS, *self.provided):
            close = near(node.func.id, [*self.top, *BUILTINS])
            self.refuse(node, f"{node.func.id} is no function of this file, nor of {', '.join(BUILTINS)}{close}")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in self.known:
            self.refuse(node, f"{node.id!r} is not known{near(node.id, list(self.known))}")
        if isinstance(node.ctx, ast.Store) and (
            node.id in RECORDS or node.id == "state" or node.id.startswith("_own_")
        ):
            self.refuse(node, f"{node.id!r} is what it is told and cannot be assigned")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        inner = node.value
        self._refuse_renamed(inner)
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "state":
            words = self.state.get(inner.attr, ())
            if node.attr not in words:
                told = f"there are {', '.join(words)}" if words else f"STATE declares none of a {inner.attr}"
                self.refuse(node, f"state.{inner.attr} has no word {node.attr!r}: {told}{near(node.attr, words)}")
            if "state" not in self.arguments:
                self.refuse(node, "takes no argument 'state'")
            return
        if isinstance(inner, ast.Name) and inner.id == "state":
            self.refuse(node, f"state.{node.attr} needs a word, such as state.{node.attr}.taken")
        if isinstance(node.ctx, ast.Store):
            self.refuse(node, "only words of state can be changed")
        if isinstance(inner, ast.Name):
            self.visit(inner)
            self._field(node, inner.id)
        else:
            self.visit(inner)

    def _refuse_renamed(self, inner: ast.expr) -> None:
        base = inner.value if isinstance(inner, ast.Attribute) else inner
        if isinstance(base, ast.Name) and base.id != "state" and "state" in self.kinds.get(base.id, ()):
            self.refuse(inner, f"{base.id} is state, which goes by its own name: state.cache.taken")

    def _field(self, node: ast.Attribute, name: str) -> None:
        """Refuses a field that what ``name`` stands for does not have."""
        kinds = self.kinds.get(name, set())
        if name not in self.own:
            found = self.imported.get(name)
            if found is not None and not hasattr(found.value, node.attr):
                self._no_field(node, name, found.names)
        elif not kinds:
            self.refuse(node, f"{name} is a whole number and has no {node.attr!r}")
        for kind in sorted(kinds):
            if node.attr not in self.fields_of(kind):
                self._no_field(node, name if name == kind else f"{name}, a {kind},", self.fields_of(kind))

    def fields_of(self, kind: str) -> Sequence[str]:
        """What there is of a record."""
        return RECORDS[kind]

    def _no_field(self, node: ast.Attribute, what: str, known: Sequence[str]) -> None:
        self.refuse(node, f"{what} has no {node.attr!r}: there are {', '.join(known)}{near(node.attr, list(known))}")

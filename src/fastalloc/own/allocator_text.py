"""An allocator of one's own as text: its arrays and its five functions, refused before anything of it runs."""

import ast
import keyword
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fastalloc.bounded import text_of
from fastalloc.errors import InputError, reading
from fastalloc.own.checked import Checked, line_of, near
from fastalloc.own.declared import parameters_of, refuse_twice
from fastalloc.own.kinds import Imported, imported_of, kinds_of
from fastalloc.own.text import Text, globals_of, not_too_deep, parsed, read_text, used_by

FUNCTIONS = {
    "create": ("heap", "c", "size"),
    "alloc": ("heap", "zone", "c", "cpu", "gfp"),
    "free": ("heap", "zone", "c", "cpu", "address"),
    "shrink": ("heap", "zone", "c"),
    "pages_held": ("heap",),
}
OPTIONAL = {
    "flush": ("heap", "zone", "c", "cpu"),  # what a CPU keeps of a cache goes back
    # kmem_cache_alloc_bulk: ``count`` addresses into ``into``, or none; how many
    "alloc_bulk": ("heap", "zone", "c", "cpu", "gfp", "count", "into"),
    "free_bulk": ("heap", "zone", "c", "cpu", "count", "addresses"),  # kmem_cache_free_bulk
}
GIVES = ("alloc", "alloc_bulk", "pages_held")  # those that return a whole number
PROVIDED = (
    "take_pages", "give_pages", "slow", "lock", "current", "order_of", "add_slab", "take_slot", "put_slot",
)  # fmt: skip
ROWS = ("CACHES", "CPUS", "TASKS", "PAGES", "SLOTS")
MOST_ROWS, MOST_COLUMNS, MOST_ARRAYS = 1 << 20, 64, 24


class AllocatorText(NamedTuple):
    """``arrays``: rows (numbers and ROWS, multiplied) and columns of each array of ``heap``; ``asks_current``: it asks
    for the task that runs; ``takes_orders``: it takes pages of orders that it computes, or of more than 0."""

    text: Text
    arrays: dict[str, tuple[str | int, int]]
    asks_current: bool
    takes_orders: bool


def is_allocator(source: str) -> bool:
    """Whether a file defines an allocator: it has an ``alloc``, which no policy has."""
    try:
        tree = parsed(source, "")
    except InputError:
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "alloc" for node in tree.body)


def own_source(path: Path) -> str:
    """The text of a file of one's own, without the mark that some editors begin one with.

    Raises:
        InputError: it cannot be read; names the file.
    """
    with reading(path):
        return text_of(path)


def read_own(source: str, where: str) -> Text:
    """What a file of one's own is, a policy or an allocator; raises InputError as ``read_text`` or
    ``read_allocator``."""
    return read_allocator(source, where).text if is_allocator(source) else read_text(source, where)


@lru_cache(maxsize=64)
@not_too_deep
def read_allocator(source: str, where: str) -> AllocatorText:
    """The allocator that ``source`` is; ``where`` names it in errors.

    Raises:
        InputError: a function that is missing, unknown or takes other arguments, arrays that are none, what cannot be
            compiled; names the line.
    """
    tree = parsed(source, where)
    top = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    refuse_twice(tree, where)
    _refuse_provided(tree, where)
    wanted = FUNCTIONS | {name: arguments for name, arguments in OPTIONAL.items() if name in top}
    for name, arguments in wanted.items():
        if name not in top:
            raise InputError(where, "", f"has no function {name}({', '.join(arguments)})")
        given = tuple(each.arg for each in top[name].args.args)
        if given != arguments:
            raise InputError(where, f"{name}, {line_of(top[name])}", f"must be {name}({', '.join(arguments)})")
    used = {name: used_by(name, top, where) for name in wanted}
    reached = dict.fromkeys(each for names in used.values() for each in names)
    for name, node in top.items():
        if name not in reached:
            told = f"{name} is no function of an allocator, and none of them calls it{near(name, list(FUNCTIONS))}"
            raise InputError(where, line_of(node), told)
    arrays = _arrays(tree, where)
    globals_ = globals_of(tree) | set(PROVIDED)
    kinds = kinds_of(
        top, {name: {each: each for each in given if each in ("heap", "zone")} for name, given in wanted.items()}
    )
    imported = imported_of(tree, where)
    for name in reached:
        _CheckedAllocator(name, top, arrays, globals_, where, kinds[name], imported).visit(top[name])
    parameters = {each.name: each for each in parameters_of(tree, where)}
    functions = {name: top[name] for name in wanted}
    asks_current = any(calls(top[name], "current") for name in reached)
    takes_orders = any(_takes_orders(top[name], tree) for name in reached)
    text = Text(where, tree, functions, used, parameters, {}, frozenset())
    return AllocatorText(text, arrays, asks_current, takes_orders)


def calls(node: ast.AST, name: str) -> bool:
    """Whether something in ``node`` calls the function ``name``."""
    return any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name for n in ast.walk(node))


def _takes_orders(node: ast.FunctionDef, tree: ast.Module) -> bool:
    named = {ast.unparse(n) for n in tree.body if isinstance(n, ast.Assign)}
    taken = [n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) == "take_pages"]
    orders = {ast.unparse(call.args[-1]) for call in taken if call.args}
    return any(order != "0" and f"{order} = 0" not in named for order in orders)


def _refuse_provided(tree: ast.Module, where: str) -> None:
    """What the file may call is there already, and would be called in place of its own of that name."""
    for node in tree.body:
        bound = {node.name} if isinstance(node, ast.FunctionDef) else set()
        if isinstance(node, ast.Assign | ast.AnnAssign):
            bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for name in sorted(bound & set(PROVIDED)):
            raise InputError(where, line_of(node), f"{name} is what fastalloc.own provides: give yours another name")


def _arrays(tree: ast.Module, where: str) -> dict[str, tuple[str | int, int]]:
    rows_are = f"rows, a number, one of {', '.join(ROWS)} or a product of them, and columns"
    told = f'ARRAYS is a table such as {{"page": ("PAGES", 4)}}: {rows_are}'
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "ARRAYS" for t in node.targets):
            try:
                found = {str(name): (rows, columns) for name, (rows, columns) in ast.literal_eval(node.value).items()}
            except (ValueError, TypeError, AttributeError):
                raise InputError(where, line_of(node), told) from None
            for name, (rows, columns) in found.items():
                good = all(each in ROWS or 1 <= _number(each) <= MOST_ROWS for each in str(rows).split(" * "))
                if len(found) > MOST_ARRAYS:
                    raise InputError(where, line_of(node), f"{len(found)} arrays; at most {MOST_ARRAYS} can be")
                named = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
                if not good or type(columns) is not int or not 1 <= columns <= MOST_COLUMNS or not named:
                    raise InputError(where, line_of(node), f"{name}: {told}")
            if found:
                return found
    raise InputError(where, "", f"declares no arrays: {told}")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else 0


class _CheckedAllocator(Checked):
    """As of a policy's functions; ``heap.NAME[row, column]`` may be assigned, and nothing need be returned."""

    def __init__(
        self,
        name: str,
        top: dict[str, ast.FunctionDef],
        arrays: dict[str, tuple[str | int, int]],
        globals_: set[str],
        where: str,
        kinds: dict[str, set[str]],
        imported: dict[str, Imported],
    ) -> None:
        super().__init__(name, top, {}, globals_, where, kinds, imported)
        self.arrays = arrays
        self.provided = PROVIDED

    def visit_Return(self, node: ast.Return) -> None:  # noqa: N802
        if node.value is not None:
            if self.name in FUNCTIONS | OPTIONAL and self.name not in GIVES:
                self.refuse(node, "returns a value: it gives nothing")
            self.visit(node.value)
        elif self.name in GIVES:
            self.refuse(node, "returns nothing: it gives a whole number")

    def visit_Attribute(self, node: ast.Attribute) -> None:  # noqa: N802
        name = node.value.id if isinstance(node.value, ast.Name) else ""
        kinds = self.kinds.get(name, set())
        if "heap" in kinds:
            if node.attr not in self.arrays:
                known = ", ".join(self.arrays)
                self.refuse(node, f"{name} has no array {node.attr!r}: there are {known}{near(node.attr, self.arrays)}")
            if isinstance(node.ctx, ast.Store):
                self.refuse(node, "an array cannot be replaced: assign to its elements")
            return
        if "zone" in kinds:
            self.refuse(node, f"{name} is given to take_pages and give_pages, and to nothing else")
        super().visit_Attribute(node)

    def _field(self, node: ast.Attribute, name: str) -> None:
        if name not in self.own:  # a local name may stand for an array
            super()._field(node, name)

    def visit_Subscript(self, node: ast.Subscript) -> None:  # noqa: N802
        if isinstance(node.value, ast.Attribute) and (
            not isinstance(node.slice, ast.Tuple) or len(node.slice.elts) != 2
        ):
            self.refuse(node, "an element is heap.NAME[row, column]")
        self.generic_visit(node)

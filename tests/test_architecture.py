"""The drawings in README and docs/house.md are the package: every room is in them, no import runs up their floors."""

import ast
import gc
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

import fastalloc

ROOT = Path(__file__).parents[1]
PACKAGE = Path(fastalloc.__file__).parent


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("fastalloc", cache_dir=None)


README, HOUSE = "README.md", "docs/house.md"


def drawing(page: str) -> str:
    blocks = (ROOT / page).read_text(encoding="utf-8").split("```")[1::2]
    return next(block for block in blocks if "kernels/" in block)


@pytest.mark.parametrize("page", [README, HOUSE])
def test_every_room_is_drawn_and_every_room_drawn_is_there(page):
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    drawn = set(re.findall(r"\b([a-z]+)/", drawing(page)))
    assert rooms <= drawn, f"not drawn: {sorted(rooms - drawn)}"
    assert drawn <= rooms | {"slub", "slab", "slob", "alloc"}, f"drawn, not there: {sorted(drawn - rooms)}"


def floors_of(text: str) -> list[str]:
    """``a < b/{c,d} < e`` as ``[a, b, e]``."""
    return [re.sub(r"/\{.*?\}", "", part).strip() for part in text.split("<")]


@pytest.mark.parametrize(
    ("page", "room", "start"),
    [
        (README, "kernels", r"lane < alloc.*?machine"),
        (HOUSE, "kernels", r"lane < alloc.*?machine"),
        (HOUSE, "trace", r"compact < formats.*?replay"),
    ],
)
def test_no_import_runs_up_the_floors_that_are_drawn(graph, page, room, start):
    found = re.search(start, re.sub(r"\s+", " ", drawing(page)))
    assert found, f"no floors of {room} in the drawing"
    floors = [[name.strip() for name in floor.split(",")] for floor in floors_of(found.group())]
    there = {path.name for path in (PACKAGE / room).iterdir() if (path / "__init__.py").exists()}
    assert {name for floor in floors for name in floor} | {"replay"} == there | {"replay"}
    for low, names in enumerate(floors):
        for name in names:
            for above in (upper for floor in floors[low + 1 :] for upper in floor):
                chains = graph.find_shortest_chains(
                    f"fastalloc.{room}.{name}", f"fastalloc.{room}.{above}", as_packages=True
                )
                assert not chains, f"{name} imports {above}: {chains}"


def test_the_test_would_see_an_import_that_runs_up(graph):
    """``machine`` is above ``lane``, so the other way round there must be one."""
    assert graph.find_shortest_chains("fastalloc.kernels.machine", "fastalloc.kernels.lane", as_packages=True)


def test_no_module_imports_itself_by_way_of_others(graph):
    """Circles of modules, those too that two rooms are in; an import within a function counts."""
    within = {module: graph.find_modules_directly_imported_by(module) & graph.modules for module in graph.modules}
    while free := {module for module, imported in within.items() if not imported}:
        within = {module: imported - free for module, imported in within.items() if module not in free}
    assert not within, f"circles, and what imports them: {sorted(within)}"


def test_modules_are_short():
    """A module rarely passes 300 lines; none passes 450."""
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in PACKAGE.rglob("*.py")}
    assert sorted(lines.values())[len(lines) // 2] <= 150
    long = {str(path.relative_to(PACKAGE)): count for path, count in lines.items() if count > 450}
    assert not long, long


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement within, to any depth."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield child
            yield from statements(child)


@cache
def functions() -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef, list[str]]]:
    """Every function of the package, with its file and the lines of it."""
    found = []
    gc.disable()  # it would look for garbage in all trees again and again, two thirds of the time
    try:
        for path in sorted(PACKAGE.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            lines = text.splitlines()
            nodes = statements(ast.parse(text))
            found += [(path, node, lines) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    finally:
        gc.enable()
    return found


def test_a_function_of_more_than_nine_arguments_says_why():
    """In its docstring, or in the comment above it where the docstring is what ``--help`` prints."""
    silent = []
    for path, node, lines in functions():
        given = node.args
        names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        count = len(names) + (given.vararg is not None) + (given.kwarg is not None) - (names[:1] in (["self"], ["cls"]))
        if count > 9:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            said = (ast.get_docstring(node) or "") + lines[first - 2]
            if "More than nine arguments: " not in said:
                silent.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}: {count}")
    assert not silent, silent


# Where somebody begins to read who knows the kernel's files.
NAMED = {
    "mm/slub.c": "__slab_alloc ___slab_alloc __slab_free slab_alloc slab_free deactivate_slab get_partial new_slab "
    "discard_slab add_partial remove_partial put_cpu_partial unfreeze_partials pfmemalloc_match kmem_cache_close",
    "mm/slab.c": "cache_alloc_refill cache_flusharray free_block drain_array",
    "mm/slob.c": "slob_alloc slob_free slob_page_alloc",
    "mm/page_alloc.c": "alloc_pages free_pages get_page_from_freelist buffered_rmqueue zone_watermark_ok",
    "mm/vmscan.c": "shrink_inactive_list shrink_active_list",
    "mm/mempool.c": "mempool_alloc mempool_free",
    "block, drivers/scsi": "scsi_get_command scsi_request_fn get_request elv_merge",
}


def test_functions_are_found_by_the_names_that_the_kernel_gives_them():
    defined = {node.name for path, node, _ in functions() if "kernels" in path.parts}
    missing = {file: sorted(set(names.split()) - defined) for file, names in NAMED.items()}
    assert not any(missing.values()), missing


@pytest.mark.parametrize(
    "name",
    ["shrink_zone", "balance_pgdat", "try_to_free_pages", "swap_writepage", "__scsi_get_command", "__alloc_pages"],
)
def test_what_stands_under_another_name_cites_the_kernel_s(name):
    assert any(re.search(rf"\b{name}\b", path.read_text()) for path in (PACKAGE / "kernels").rglob("*.py"))

"""The guards are found where they are left out to be counted."""

import ast

from benchmarks.guards import GUARDS, without_guards
from benchmarks.works import ROOT


def test_what_takes_and_gives_is_left_without_a_guard():
    text = (ROOT / "src" / GUARDS).read_text()
    functions = {node.name: node for node in ast.parse(without_guards(text)).body if isinstance(node, ast.FunctionDef)}
    whole = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert functions.keys() == whole
    assert not any("note_broken" in ast.unparse(functions[name]) for name in ("_checked_alloc", "_checked_free"))

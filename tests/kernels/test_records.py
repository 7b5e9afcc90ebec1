"""Records: each field is declared once, with what the docs and the debug print say of it."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import NumbaError

import fastalloc
from fastalloc.compiler.jit import DISABLE_JIT, kernel
from fastalloc.compiler.records import Record, block, columns, field

UNITS = {"_ns": "ns", "_ms": "ms", "_jiffy": "jiffies", "_jiffies": "jiffies", "_kb": "kB"}


def records():
    """Every record of the package."""
    for module in pkgutil.walk_packages(fastalloc.__path__, "fastalloc."):
        if module.name.startswith(("fastalloc.kernels", "fastalloc.trace.order")):
            importlib.import_module(module.name)
    found = [record for record in Record.__subclasses__() if record.__module__.startswith("fastalloc.")]
    return sorted(found, key=lambda record: (record.__module__, record.__name__))


RECORDS = records()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_says_what_it_is(record):
    assert record.__doc__, "what a row is, and of which array"
    assert not [found.name for found in record.fields if not found.meaning]
    for end, unit in UNITS.items():
        assert {found.unit for found in record.fields if found.name.endswith(end)} <= {unit}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_no_two_fields_share_a_column_unless_they_say_so(record):
    alone = [found for found in record.fields if not found.shares]
    taken = [column for found in alone for column in range(found.number, found.number + found.width)]
    assert len(taken) == len(set(taken))
    assert all(column < record.width for column in taken)


def test_fields_are_numbered_in_the_order_of_their_declaration():
    class ROW(Record, width=8):
        """row[.]."""

        first = field("one")
        wide = columns(2, "two columns")
        last = field("one", "pages", "struct zone", at=5)
        both = block("wide", "last")
        other = field("in another state of the row", shares="last")
        rest = columns(0, "what follows")

    assert ROW.other == ROW.last
    assert (ROW.first, list(ROW.wide), ROW.last, list(ROW.both)) == (0, [1, 2], 5, [1, 2, 3, 4, 5])
    assert (ROW.wide[1], ROW.wide[:], ROW.both[2:], ROW.rest[3]) == (2, slice(1, 3, 1), slice(3, 6, 1), 9)
    assert ROW.names == ("first", "wide", "last", "other", "rest")
    assert (ROW.fields[2].unit, ROW.fields[2].source) == ("pages", "struct zone")
    assert len(ROW) == 8
    with pytest.raises(ValueError, match="6 columns do not fit a width of 4"):
        type(Record)("SHORT", (Record,), {"last": field("one", at=5)}, width=4)


class PLACES(Record):
    """row[.]."""

    first = field("one")
    wide = columns(3, "three columns")


@kernel
def fill(row, i):
    """Through what kernels know of columns."""
    row[PLACES.wide[:]] = 5
    row[PLACES.wide[i]] = 7
    row[PLACES.wide[1]] += 1
    return PLACES.wide[i]


def test_kernels_find_the_same_columns():
    row = np.zeros(6, np.int64)
    assert fill(row, 2) == PLACES.wide[2] == 3
    assert row.tolist() == [0, 5, 6, 7, 0, 0]


@pytest.mark.skipif(DISABLE_JIT, reason="compiled code alone takes no other slice")
def test_kernels_take_all_columns_or_one():
    @kernel
    def some(row):
        return row[PLACES.wide[1:]].sum()

    with pytest.raises(NumbaError):
        some(np.zeros(6, np.int64))


# ------------------------------------------------------------------------------------- arithmetic on field numbers

PACKAGE = Path(fastalloc.__file__).parent
NAMES = {(record.__name__, name) for record in RECORDS for name in dir(record)}
# Records inside an array of others: ``h + SHEAF.size`` is a column of the one that begins at ``h``.
INSIDE = {"SHEAF", "CPU_SLAB"}
TOLD = {"width", "names", "fields", "__name__"}


def record_of(node):
    """The record whose field, or one of whose columns, an expression is; None: neither."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if not isinstance(node, ast.Attribute) or node.attr in TOLD:
        return None
    of = node.value
    name = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
    return name if (name, node.attr) in NAMES else None


COMPUTES = (ast.AugAssign, ast.BinOp, ast.Slice, ast.Call)  # the nodes of which ``is_arithmetic`` may be true


def is_arithmetic(node):
    """Whether an expression computes a number from that of a field."""
    if isinstance(node, ast.AugAssign):
        return record_of(node.value) is not None
    if isinstance(node, ast.BinOp):
        left, right = record_of(node.left), record_of(node.right)
        none_is_0 = isinstance(node.left, ast.Constant) and node.left.value == 1
        return left is not None or (right is not None and not (right in INSIDE or none_is_0))
    if isinstance(node, ast.Slice):
        return any(end is not None and record_of(end) is not None for end in (node.lower, node.upper))
    called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    return called == "range" and any(record_of(each) is not None for each in node.args)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ctl[VM.sleepers + state]", True),
        ("ctl[VM.sleepers[1] - 1]", True),
        ("row[SERIES.free_dma : SERIES.free_dma + 5]", True),
        ("row[st.ZONE.min :]", True),
        ("range(VM.now, 3)", True),
        ("at = k + VM.now", True),
        ("at += VM.now", True),
        ("ctl[SHEAF.size + h]", True),
        ("ctl[h + SHEAF.size] + ctl[VM.now] - 1", False),
        ("ctl[VM.sleepers[state - 1]]", False),
        ("wrong = 1 + QUESTION.sleep", False),
        ("range(VM.width + 1)", False),
    ],
)
def test_arithmetic_on_a_field_is_found(text, found):
    assert any(map(is_arithmetic, ast.walk(ast.parse(text)))) == found


def test_nobody_computes_with_the_number_of_a_field():
    texts = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    named = re.compile(rf"\b(?:{'|'.join(sorted({record.__name__ for record in RECORDS}))})\b")
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}"
        for path, text in texts.items()
        if named.search(text)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, COMPUTES) and is_arithmetic(node)
    ]
    assert found == []

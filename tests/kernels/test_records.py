"""Records: each field is declared once, with what the docs and the debug print say of it."""

import importlib
import pkgutil

import pytest

import fastalloc
from fastalloc.compiler.records import Record, field

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
def test_no_two_fields_share_a_column(record):
    """A field of no width is a second name of what follows it."""
    taken = [column for found in record.fields for column in range(found.number, found.number + found.width)]
    assert len(taken) == len(set(taken))
    assert all(column < record.width for column in taken)


def test_fields_are_numbered_in_the_order_of_their_declaration():
    class ROW(Record, width=8):
        """row[.]."""

        first = field("one")
        wide = field("two columns", width=2)
        again = field("a second name of the next", width=0)
        last = field("one", "pages", "struct zone", at=5)

    assert (ROW.first, ROW.wide, ROW.again, ROW.last) == (0, 1, 3, 5)
    assert ROW.names == ("first", "wide", "again", "last")
    assert (ROW.fields[3].unit, ROW.fields[3].source) == ("pages", "struct zone")
    assert len(ROW) == 8
    with pytest.raises(ValueError, match="6 columns do not fit a width of 4"):
        type(Record)("SHORT", (Record,), {"last": field("one", at=5)}, width=4)

"""Records: the fields of a row of an integer array, each declared once with name, unit, meaning and source.

A class that derives from :class:`Record` numbers its fields from 0 in the order of their declaration::

    class ZONE(Record):
        '''zone[z, .]: pages unless said otherwise.'''

        free = field("NR_FREE_PAGES: buddy pages, per-CPU lists excluded")
        min = field("pages_min")
        low = field("pages_low")
        high = field("pages_high")
        marks = block("min", "high")
        reserve = columns(4, "lowmem_reserve against each class zone")


    zone[z, ZONE.free]              # a column
    zone[z, ZONE.reserve[klass]]    # one of several columns
    zone[z, ZONE.reserve[:]]        # all of them
    zone[z, ZONE.marks[i]]          # the same of fields that have a name each
    ZONE.width                      # the length of a row

In a kernel ``ZONE.free`` is a constant: the record is a type of its own there, which holds no data. Nobody else adds to
the number of a field.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from fastalloc.compiler.jit import DISABLE_JIT

from numba import types  # isort: skip
from numba.core.imputils import lower_builtin, lower_constant  # isort: skip
from numba.core.typing.templates import (  # isort: skip
    AbstractTemplate,
    AttributeTemplate,
    infer,
    infer_global,
    signature,
)
from numba.extending import (  # isort: skip
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
)


@dataclass(frozen=True)
class Field:
    """What a field is: ``number`` its first column, ``width`` how many it takes, ``label`` its name in tables.

    ``width`` 0: it takes the rest of the row, whose length is data.
    """

    meaning: str = ""
    unit: str = ""
    source: str = ""
    width: int = 1
    at: int | None = None
    shares: str = ""
    label: str = ""
    name: str = ""
    number: int = -1


@dataclass(frozen=True)
class Columns:
    """Columns that stand one behind the other: by an index the number of one, by a slice the slice of their numbers.

    Kernels know ``[:]`` as the only slice.
    """

    first: int
    width: int

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            found = range(self.first, self.first + self.width)[which]
            return slice(found.start, found.stop, found.step)
        return self.first + which

    def __len__(self) -> int:
        return self.width

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.first + self.width))


@dataclass(frozen=True)
class _Block:
    first: str
    last: str


def field(
    meaning: str = "", unit: str = "", source: str = "", *, at: int | None = None, shares: str = "", label: str = ""
) -> int:
    """A field of a record; its number is known once the class is made.

    ``at`` is the number, where columns before it are left unused; ``shares`` the field before it that has the same
    column, where a row never needs both; ``source`` the kernel file and name that it models.
    """
    return cast(int, Field(meaning, unit, source, at=at, shares=shares, label=label))


def columns(width: int, meaning: str, unit: str = "", source: str = "") -> Columns:
    """A field of ``width`` columns, 0: of the rest of the row; its meaning says what their index is."""
    return cast(Columns, Field(meaning, unit, source, width))


def block(first: str, last: str) -> Columns:
    """A second name for fields that stand one behind the other, from ``first`` to ``last``."""
    return cast(Columns, _Block(first, last))


class _Numbered(type):
    """Numbers the fields of a record; a class made so is what kernels see."""

    fields: tuple[Field, ...]
    width: int

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, width: int | None = None) -> Any:
        fields: dict[str, Field] = {}
        following, end = 0, 0
        for key, value in body.items():
            if isinstance(value, Field):
                number = following if value.at is None else value.at
                number = fields[value.shares].number if value.shares else number
                fields[key] = replace(value, name=key, number=number, label=value.label or key)
                body[key] = number if value.width == 1 else Columns(number, value.width)
                following = number + value.width
                end = max(end, following)
        for key, value in body.items():
            if isinstance(value, _Block):
                first, last = fields[value.first], fields[value.last]
                body[key] = Columns(first.number, last.number + last.width - first.number)
        if width is not None and width < end:
            raise ValueError(f"{name}: {end} columns do not fit a width of {width}")
        body.update(fields=tuple(fields.values()), width=end if width is None else width)
        return super().__new__(cls, name, bases, body)

    def __init__(cls, *args: Any, width: int | None = None) -> None:
        super().__init__(*args)

    def __len__(cls) -> int:
        return cls.width

    def __iter__(cls) -> Iterator[str]:
        return iter(cls.names)

    @property
    def names(cls) -> tuple[str, ...]:
        """The labels of the fields, in the order of their numbers."""
        return tuple(field.label for field in cls.fields)


class Record(metaclass=_Numbered):
    """A row of an integer array; see the module. ``width=`` in the class statement makes rows longer than needed."""


if not DISABLE_JIT:

    class _RecordType(types.Type):
        """A record as kernels see it: names and numbers, no data."""

        def __init__(self, record: _Numbered) -> None:
            self.record = record
            super().__init__(f"Record({record.__module__}.{record.__qualname__})")

    register_model(_RecordType)(models.OpaqueModel)

    @typeof_impl.register(_Numbered)
    def _typeof_record(value: Any, c: Any) -> _RecordType:
        return _RecordType(value)

    @infer_getattr
    class _Columns(AttributeTemplate):
        key = _RecordType

        def generic_resolve(self, typ, attr):  # type: ignore[override]
            found = getattr(typ.record, attr, None)
            if isinstance(found, Columns):
                return _ColumnsType(found)
            return types.int64 if isinstance(found, int) else None

    @lower_getattr_generic(_RecordType)
    def _column(context, builder, typ, value, attr):
        found = getattr(typ.record, attr)
        return context.get_dummy_value() if isinstance(found, Columns) else context.get_constant(types.int64, found)

    @lower_constant(_RecordType)
    def _no_data(context, builder, typ, value):
        return context.get_dummy_value()

    class _ColumnsType(types.Type):
        """Columns as kernels see them: constants."""

        def __init__(self, columns: Columns) -> None:
            self.columns = columns
            super().__init__(f"Columns({columns.first}, {columns.width})")

    register_model(_ColumnsType)(models.OpaqueModel)

    @infer_global(operator.getitem)
    class _OneColumn(AbstractTemplate):
        def generic(self, args, kws):
            of, which = args
            if isinstance(of, _ColumnsType) and isinstance(which, types.Integer):
                return signature(types.int64, of, types.int64)
            return None

    @lower_builtin(operator.getitem, _ColumnsType, types.int64)
    def _one_column(context, builder, sig, args):
        return builder.add(context.get_constant(types.int64, sig.args[0].columns.first), args[1], flags=["nsw"])

    @infer
    class _KnownColumns(AbstractTemplate):
        key = "static_getitem"

        def generic(self, args, kws):
            of, which = args
            if not isinstance(of, _ColumnsType):
                return None
            if which == slice(None):
                return signature(types.slice2_type, of)
            return signature(types.int64, of) if isinstance(which, int) else None

    @lower_builtin("static_getitem", _ColumnsType, types.IntegerLiteral)
    def _known_column(context, builder, sig, args):
        return context.get_constant(types.int64, sig.args[0].columns[args[1]])

    @lower_builtin("static_getitem", _ColumnsType, types.SliceLiteral)
    def _all_columns(context, builder, sig, args):
        return context.get_constant_generic(builder, types.slice2_type, sig.args[0].columns[:])

"""Records: the fields of a row of an integer array, each declared once with name, unit, meaning and source.

A class that derives from :class:`Record` numbers its fields from 0 in the order of their declaration::

    class ZONE(Record):
        '''zone[z, .]: pages unless said otherwise.'''

        free = field("NR_FREE_PAGES: buddy pages, per-CPU lists excluded")
        reserve = field("lowmem_reserve against each class zone", width=4)

    zone[z, ZONE.free]              # a column
    zone[z, ZONE.reserve + klass]   # a column of a field that is several wide
    ZONE.width                      # the length of a row

In a kernel ``ZONE.free`` is a constant: the record is a type of its own there, which holds no data.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from fastalloc.compiler.jit import DISABLE_JIT

from numba import types  # isort: skip
from numba.core.imputils import lower_constant  # isort: skip
from numba.core.typing.templates import AttributeTemplate  # isort: skip
from numba.extending import (  # isort: skip
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
)


@dataclass(frozen=True)
class Field:
    """What a field is: ``number`` its first column, ``width`` how many it takes, ``label`` its name in tables."""

    meaning: str = ""
    unit: str = ""
    source: str = ""
    width: int = 1
    at: int | None = None
    label: str = ""
    name: str = ""
    number: int = -1


def field(
    meaning: str = "", unit: str = "", source: str = "", *, width: int = 1, at: int | None = None, label: str = ""
) -> int:
    """A field of a record; its number is known once the class is made.

    ``width`` is the number of columns, 0 for a second name of the field that follows; ``at`` the number, where columns
    before it are left unused; ``source`` the kernel file and name that it models.
    """
    return cast(int, Field(meaning, unit, source, width, at, label))


class _Numbered(type):
    """Numbers the fields of a record; a class made so is what kernels see."""

    fields: tuple[Field, ...]
    width: int

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, width: int | None = None) -> Any:
        fields, following, end = [], 0, 0
        for key, value in body.items():
            if isinstance(value, Field):
                number = following if value.at is None else value.at
                fields.append(replace(value, name=key, number=number, label=value.label or key))
                body[key] = number
                following = number + value.width
                end = max(end, number + max(value.width, 1))
        if width is not None and width < end:
            raise ValueError(f"{name}: {end} columns do not fit a width of {width}")
        body.update(fields=tuple(fields), width=end if width is None else width)
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
            return types.int64 if isinstance(getattr(typ.record, attr, None), int) else None

    @lower_getattr_generic(_RecordType)
    def _column(context, builder, typ, value, attr):
        return context.get_constant(types.int64, getattr(typ.record, attr))

    @lower_constant(_RecordType)
    def _no_data(context, builder, typ, value):
        return context.get_dummy_value()

"""The groups of a lane's state as kernels get them: the address of the words that describe the arrays.

Numba would pass a tuple of arrays by value, some ten words an array and a hundred or two a call, each of which the
caller pushes and LLVM compiles. A group's words are written once, when Python calls a kernel; they do not change
while it runs, and the compiler is told so: it may read them when and as often as it likes.
"""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from fastalloc.compiler.jit import DISABLE_JIT

from llvmlite import ir  # isort: skip
from numba import types  # isort: skip
from numba.core import cgutils  # isort: skip
from numba.core.typing.templates import AttributeTemplate  # isort: skip
from numba.extending import (  # isort: skip
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)

Class = TypeVar("Class", bound=type)


class Group(types.Type):
    """A NamedTuple of arrays that is passed by its address; ``last`` axes have a length that is known."""

    def __init__(self, instance_class: Any, members: tuple, last: tuple[tuple[str, int], ...]) -> None:
        self.instance_class = instance_class
        self.members = types.NamedTuple(members, instance_class)
        self.last = dict(last)
        mark = hashlib.blake2b(f"{self.members}{last}".encode(), digest_size=4).hexdigest()
        super().__init__(f"{instance_class.__name__}_{mark}")


register_model(Group)(models.OpaqueModel)


@infer_getattr
class _Members(AttributeTemplate):
    key = Group

    def generic_resolve(self, typ, attr):  # type: ignore[override]
        if attr in typ.members.fields:
            return typ.members[typ.members.fields.index(attr)]
        return None


# What describes an array [numba.core.datamodel.models.ArrayModel].
_OWNER, _PARENT, _ITEMS, _ITEM_BYTES, _DATA, _SHAPE, _STRIDES = range(7)


def _word(builder, pointer, *at):
    """A word at a place that never changes."""
    word = builder.load(cgutils.gep_inbounds(builder, pointer, 0, *at))
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word


def _array(context, builder, typ, pointer, last):
    """The words that describe a contiguous array, ``last`` the length of its last axis where it is known."""
    value = ir.Constant(pointer.type.pointee, None)
    shape = [_word(builder, pointer, _SHAPE, axis) for axis in range(typ.ndim - 1)]
    size = ir.Constant(cgutils.intp_t, context.get_abi_sizeof(context.get_data_type(typ.dtype)))
    shape.append(ir.Constant(size.type, last) if last else _word(builder, pointer, _SHAPE, typ.ndim - 1))
    value = builder.insert_value(value, _word(builder, pointer, _ITEMS), _ITEMS)
    value = builder.insert_value(value, size, _ITEM_BYTES)
    value = builder.insert_value(value, _word(builder, pointer, _DATA), _DATA)
    stride = size
    for axis in reversed(range(typ.ndim)):
        value = builder.insert_value(value, shape[axis], (_SHAPE, axis))
        value = builder.insert_value(value, stride, (_STRIDES, axis))
        if axis:
            stride = builder.mul(stride, shape[axis], flags=["nsw"])
    return value


@lower_getattr_generic(Group)
def _member(context, builder, typ, value, attr):
    place = typ.members.fields.index(attr)
    pointer = builder.bitcast(value, context.get_value_type(typ.members).as_pointer())
    pointer = cgutils.gep_inbounds(builder, pointer, 0, place)
    if isinstance(typ.members[place], types.Array):
        return _array(context, builder, typ.members[place], pointer, typ.last.get(attr))
    return _word(builder, pointer)


@unbox(Group)
def _unbox(typ, obj, c):
    native = c.unbox(typ.members, obj)
    wrong = cgutils.alloca_once_value(c.builder, native.is_error)
    for name, length in typ.last.items():
        place = typ.members.fields.index(name)
        shape = c.builder.extract_value(native.value, (place, _SHAPE))
        found = c.builder.extract_value(shape, typ.members[place].ndim - 1)
        fits = c.builder.icmp_signed("==", found, found.type(length))
        with c.builder.if_then(c.builder.not_(c.builder.or_(fits, native.is_error)), likely=False):
            c.pyapi.err_set_string(
                "PyExc_ValueError", f"{typ.instance_class.__name__}.{name}: rows of {length} expected"
            )
            c.builder.store(cgutils.true_bit, wrong)
    place = c.builder.bitcast(cgutils.alloca_once_value(c.builder, native.value), cgutils.voidptr_t)
    # What follows must not know that the words were ever other than they are now.
    same = ir.FunctionType(cgutils.voidptr_t, [cgutils.voidptr_t])
    address = c.builder.asm(same, "", "=r,0,~{memory}", [place], True)
    return NativeValue(address, is_error=c.builder.load(wrong), cleanup=native.cleanup)


def group(**last: int) -> Callable[[Class], Class]:
    """A NamedTuple of contiguous arrays whose instances kernels get as a :class:`Group`.

    ``last`` gives the lengths of last axes that are the same for all: the compiler takes them for granted, and a call
    from Python with another raises ValueError.
    """

    def grouped(cls):
        if not DISABLE_JIT:

            @typeof_impl.register(cls)
            def _typeof(value, c):
                members = tuple(typeof_impl(member, c) for member in value)
                for member, name in zip(members, cls._fields, strict=True):
                    if isinstance(member, types.Array) and member.layout != "C":
                        raise ValueError(f"{cls.__name__}.{name}: a contiguous array expected")
                return Group(cls, members, tuple(last.items()))

        return cls

    return grouped

"""The groups of a lane's state as kernels get them: the address of the words that describe the arrays.

Numba would pass a tuple of arrays by value, some ten words an array and a hundred or two a call, each of which the
caller pushes and LLVM compiles. A group's words are written once, when Python calls a kernel; they do not change
while it runs, and the compiler is told so: it may read them when and as often as it likes.
"""

import hashlib
from typing import Any, TypeVar

from fastalloc.kernels.jit import DISABLE_JIT

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
    """A NamedTuple of arrays that is passed by its address."""

    def __init__(self, instance_class: Any, members: tuple) -> None:
        self.instance_class = instance_class
        self.members = types.NamedTuple(members, instance_class)
        mark = hashlib.blake2b(str(self.members).encode(), digest_size=4).hexdigest()
        super().__init__(f"{instance_class.__name__}_{mark}")


register_model(Group)(models.OpaqueModel)


@infer_getattr
class _Members(AttributeTemplate):
    key = Group

    def generic_resolve(self, typ, attr):
        if attr in typ.members.fields:
            return typ.members[typ.members.fields.index(attr)]
        return None


def _load(builder, pointer):
    """The value at ``pointer``, word by word: what never changes."""
    kind = pointer.type.pointee
    if isinstance(kind, (ir.LiteralStructType, ir.ArrayType)):
        count = len(kind.elements) if isinstance(kind, ir.LiteralStructType) else kind.count
        value = ir.Constant(kind, ir.Undefined)
        for i in range(count):
            value = builder.insert_value(value, _load(builder, cgutils.gep_inbounds(builder, pointer, 0, i)), i)
        return value
    word = builder.load(pointer)
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word


@lower_getattr_generic(Group)
def _member(context, builder, typ, value, attr):
    pointer = builder.bitcast(value, context.get_value_type(typ.members).as_pointer())
    return _load(builder, cgutils.gep_inbounds(builder, pointer, 0, typ.members.fields.index(attr)))


@unbox(Group)
def _unbox(typ, obj, c):
    native = c.unbox(typ.members, obj)
    place = cgutils.alloca_once_value(c.builder, native.value)
    place = c.builder.bitcast(place, cgutils.voidptr_t)
    # What follows must not know that the words were ever other than they are now.
    same = ir.FunctionType(cgutils.voidptr_t, [cgutils.voidptr_t])
    address = c.builder.asm(same, "", "=r,0,~{memory}", [place], True)
    return NativeValue(address, is_error=native.is_error, cleanup=native.cleanup)


def group(cls: Class) -> Class:
    """A NamedTuple of arrays whose instances kernels get as a :class:`Group`."""
    if not DISABLE_JIT:

        @typeof_impl.register(cls)
        def _typeof(value, c):
            return Group(cls, tuple(typeof_impl(member, c) for member in value))

    return cls

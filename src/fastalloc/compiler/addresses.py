"""Kernels behind their addresses: called by programs that were compiled without them.

All that is passed is a word of 64 bits: an integer, the address of a group, the address of the words of an array of
int64. Neither side sees what the other takes a word for, so nothing else is passed.
"""

from typing import Any

from fastalloc.compiler.groups import Group
from fastalloc.compiler.jit import BOUNDSCHECK

from llvmlite import ir  # isort: skip
from numba import types  # isort: skip
from numba.core import cgutils  # isort: skip
from numba.core.errors import TypingError  # isort: skip

WORD = ir.IntType(64)


def refuse_unfit(kinds: tuple[Any, ...]) -> None:
    """TypingError for a type that cannot be passed."""
    for kind in kinds:
        fits = isinstance(kind, Group | types.Integer | types.Boolean)
        fits |= isinstance(kind, types.Array) and (kind.dtype, kind.layout) == (types.int64, "C")
        if not fits:
            raise TypingError(f"{kind}: a group, an integer or a contiguous array of int64 expected")


def as_word(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """What is passed for ``value``."""
    if isinstance(kind, Group):
        return builder.ptrtoint(value, WORD)
    if isinstance(kind, types.Array):
        return builder.ptrtoint(cgutils.alloca_once_value(builder, value), WORD)
    return context.cast(builder, value, kind, types.int64)


def _from_word(context: Any, builder: Any, kind: Any, word: Any) -> Any:
    if isinstance(kind, Group):
        return builder.inttoptr(word, context.get_value_type(kind))
    if isinstance(kind, types.Array):
        return builder.load(builder.inttoptr(word, context.get_value_type(kind).as_pointer()))
    return word


def compile_for(typingctx: Any, dispatcher: Any, kinds: tuple[Any, ...]) -> Any:
    """The kernel compiled for arguments of these types. Call it while types are resolved: once code is generated no
    kernel can be compiled."""
    refuse_unfit(kinds)
    signature = typingctx.resolve_value_type(dispatcher).get_call_type(typingctx, kinds, {})
    return dispatcher.overloads[tuple(signature.args)]


def address_of(
    context: Any, builder: Any, typingctx: Any, dispatcher: Any, kinds: tuple[Any, ...], raised: Any = None
) -> Any:
    """The address, a word, of a kernel as a plain function of words; what returns nothing returns 0.

    Kernels raise nothing but an index out of bounds, where those are checked: then the word becomes 1 to which
    ``raised(builder, words)`` is a pointer, of the words that the kernel was called with.
    """
    compiled = compile_for(typingctx, dispatcher, kinds)
    name = f"{compiled.fndesc.mangled_name}.by_address"
    wrapper = builder.module.globals.get(name)
    if wrapper is None:
        wrapper = ir.Function(builder.module, ir.FunctionType(WORD, [WORD] * len(kinds)), name)
        wrapper.linkage = "linkonce_odr"
        inside = ir.IRBuilder(wrapper.append_basic_block("entry"))
        called = context.declare_function(builder.module, compiled.fndesc)
        given = [_from_word(context, inside, kind, word) for kind, word in zip(kinds, wrapper.args, strict=True)]
        takes, returned = compiled.signature.args, compiled.signature.return_type
        if isinstance(takes[0], types.BaseTuple):  # *args
            given = [context.make_tuple(inside, takes[0], given)]
        status, value = context.call_conv.call_function(inside, called, returned, takes, given)
        if BOUNDSCHECK and raised is not None:
            with cgutils.if_unlikely(inside, status.is_error):
                inside.store(WORD(1), raised(inside, wrapper.args))
        inside.ret(WORD(0) if returned == types.none else context.cast(inside, value, returned, types.int64))
    context.add_linking_libs([compiled.library])
    return builder.ptrtoint(wrapper, WORD)


def call_address(builder: Any, address: Any, words: list[Any]) -> Any:
    """Call the function at ``address``, a word, which returns a word."""
    function = builder.inttoptr(address, ir.FunctionType(WORD, [WORD] * len(words)).as_pointer())
    return builder.call(function, words)

"""Hints to the compiler; they change no result, and in interpreted kernels they do nothing."""

from typing import Any

from fastalloc.compiler.jit import hint

from llvmlite import ir  # isort: skip
from numba import types  # isort: skip
from numba.core import cgutils  # isort: skip


def _prefetch(typingctx, array, i):
    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0])
        row = [args[1]] + [context.get_constant(types.int64, 0)] * (signature.args[0].ndim - 1)
        shape = cgutils.unpack_tuple(builder, data.shape)
        strides = cgutils.unpack_tuple(builder, data.strides)
        layout = signature.args[0].layout
        where = cgutils.get_item_pointer2(context, builder, data.data, shape, strides, layout, row)
        pointer = builder.bitcast(where, cgutils.voidptr_t)
        flag = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag]),
            "llvm.prefetch.p0",
        )
        builder.call(function, [pointer, flag(1), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


prefetch: Any = hint(_prefetch, lambda array, i: None)
"""Row ``i`` of ``array``, which need not exist, will be wanted soon: fetch it into the cache."""


def _expect(otherwise):
    def expected(typingctx, condition):
        def codegen(context, builder, signature, args):
            bit = ir.IntType(1)
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(bit, [bit, bit]), "llvm.expect.i1"
            )
            return builder.call(function, [args[0], bit(otherwise)])

        return types.boolean(types.boolean), codegen

    return expected


likely: Any = hint(_expect(1), lambda condition: condition)
"""The condition, which nearly always holds: registers are kept for what follows then [likely]."""
unlikely: Any = hint(_expect(0), lambda condition: condition)
"""The condition, which seldom holds: what follows then may cost more, what follows otherwise less [unlikely]."""

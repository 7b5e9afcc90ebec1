"""Questions that a user's own policy answers while a lane runs.

An answer is a function of five int64 that gives one; a lane holds its address, 0 where the policy leaves a question
to the kernel. See ``batch/own_policy.py`` for where the addresses come from.
"""

from collections.abc import Callable
from typing import Any

from fastalloc.compiler.jit import hint

from llvmlite import ir  # isort: skip
from numba import types  # isort: skip

ARGUMENTS = 5
answers: dict[int, Callable[..., int]] = {}  # by address, for interpreted kernels


def _ask(typingctx, address, a, b, c, d, e):
    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        function = ir.FunctionType(word, [word] * ARGUMENTS)
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])

    return types.int64(*[types.int64] * (1 + ARGUMENTS)), codegen


ask: Any = hint(_ask, lambda address, *arguments: answers[address](*arguments))
"""``ask(address, a, b, c, d, e)``: call the function at ``address``."""

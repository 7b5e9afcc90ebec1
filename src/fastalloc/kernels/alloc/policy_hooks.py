"""Questions that a user's own policy answers while a lane runs.

An answer is a function of five int64 that gives one; a lane holds its address, 0 where the policy leaves a question
to the kernel. See ``batch/own_policy.py`` for where the addresses come from.
"""

from collections.abc import Callable
from typing import Any

from fastalloc.compiler.jit import hint, internal, out_of_line
from fastalloc.kernels.alloc.state import MEMCTL

from llvmlite import ir  # isort: skip
from numba import types  # isort: skip

ARGUMENTS = 5
FAILED = -(1 << 63)  # what is answered in place of an exception
answers: dict[int, Callable[..., int]] = {}  # by address, for interpreted kernels


def _ask(typingctx, address, a, b, c, d, e):
    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        function = ir.FunctionType(word, [word] * ARGUMENTS)
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])

    return types.int64(*[types.int64] * (1 + ARGUMENTS)), codegen


ask: Any = hint(_ask, lambda address, *arguments: answers[address](*arguments))
"""``ask(address, a, b, c, d, e)``: call the function at ``address``."""


@internal
def answer(mem, question, a, b, c, d, e, otherwise):
    """The user's answer to ``question``, a column of MEMCTL; ``otherwise`` where it failed: then the lane ends."""
    given = ask(mem.ctl[question], a, b, c, d, e)
    if given == FAILED:
        note_failure(mem, question, a, b, c, d, e)
        return otherwise
    return given


@internal
def note_failure(mem, question, a, b, c, d, e):
    """Keep the first question that a policy failed at."""
    out_of_line()
    if mem.ctl[MEMCTL.policy_failed] == 0:
        mem.ctl[MEMCTL.policy_failed] = question
        mem.ctl[MEMCTL.stopped] = 1
        asked = mem.ctl[MEMCTL.policy_asked : MEMCTL.policy_asked + ARGUMENTS]
        asked[0] = a
        asked[1] = b
        asked[2] = c
        asked[3] = d
        asked[4] = e

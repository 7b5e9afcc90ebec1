"""A user's own policy: a Python file that answers the questions it wants to, compiled for the kernels to call.

See docs/policies.md for what each question is asked with. ``merge`` is asked while caches are laid out; the others
while a lane runs, as machine code that needs no interpreter.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.policy_hooks import ARGUMENTS, answers

from numba import cfunc, types  # isort: skip
from numba.core.errors import NumbaError  # isort: skip

RUNNING = ("entitlement", "depth", "fallback")
PARAMETERS = {
    "merge": ("cache", "other"),
    "entitlement": ("who", "gfp", "context", "buyer", "depth"),
    "depth": ("who", "gfp", "context", "free", "min_mark"),
    "fallback": ("who", "gfp", "context", "size", "cpu"),
}
WHERE = "policy.questions"


class OwnPolicy(NamedTuple):
    """Answers: addresses of compiled functions, 0 where the kernel decides; ``merge`` is called from Python."""

    merge: Callable[[str, str], bool] | None = None
    entitlement: int = 0
    depth: int = 0
    fallback: int = 0


@lru_cache
def own_policy(source: str) -> OwnPolicy:
    """The answers that a policy's source text defines; "" has none.

    Raises:
        InputError: the text is no Python, raises, answers no question, takes other parameters than the question has,
            or does not compile.
    """
    if not source:
        return OwnPolicy()
    namespace: dict[str, object] = {"__name__": "own_policy"}
    try:
        exec(compile(source, WHERE, "exec"), namespace)
    except SyntaxError as error:
        raise InputError(WHERE, f"line {error.lineno}", str(error.msg)) from None
    except Exception as error:
        raise InputError(WHERE, "", f"{type(error).__name__}: {error}") from None
    found: dict[str, Any] = {name: namespace[name] for name in PARAMETERS if name in namespace}
    if not found:
        raise InputError(WHERE, "", f"answers none of {', '.join(PARAMETERS)}")
    for name, function in found.items():
        if not isinstance(function, FunctionType):
            raise InputError(WHERE, name, "expected a plain function")
        given = len(inspect.signature(function).parameters)
        if given != len(PARAMETERS[name]):
            raise InputError(WHERE, name, f"takes {given} arguments, is asked with {', '.join(PARAMETERS[name])}")
    compiled = {name: _address(name, found[name]) for name in RUNNING if name in found}
    return OwnPolicy(merge=found.get("merge"), **compiled)


_alive: list[Any] = []  # what the addresses point into


def _address(name: str, function: Callable[..., int]) -> int:
    if DISABLE_JIT:
        answers[len(answers) + 1] = function
        return len(answers)
    signature = types.int64(*[types.int64] * ARGUMENTS)
    try:
        compiled: Any = cfunc(signature, error_model="numpy")(function)
    except NumbaError as error:
        raise InputError(WHERE, name, str(error).strip().splitlines()[-1]) from None
    _alive.append(compiled)
    return int(compiled.address)

"""A user's own policy: a Python file that answers the questions it wants to, compiled for the kernels to call.

See docs/policies.md for what each question is asked with. ``merge`` is asked while caches are laid out; the others
while a lane runs, as machine code that needs no interpreter.
"""

import inspect
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import FunctionType, MappingProxyType
from typing import Any, NamedTuple

from fastalloc.batch.policy_source import bounded
from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.errors import InputError, LaneError, told
from fastalloc.kernels.alloc.policy_hooks import ARGUMENTS, FAILED, answers

from numba import cfunc, njit, types  # isort: skip
from numba.core.errors import NumbaError  # isort: skip

RUNNING = ("entitlement", "depth", "fallback")
PARAMETERS = {
    "merge": ("cache", "other"),
    "entitlement": ("who", "gfp", "context", "owner", "depth"),
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
    functions: Mapping[str, Callable[..., Any]] = MappingProxyType({})  # as defined, to be asked again


class PolicyError(LaneError):
    """A user's policy raised, divided by zero, or did not come to an end."""


def failure(source: str, question: str, asked: Sequence[int]) -> str:
    """What went wrong when ``question`` was asked with ``asked``: the policy is asked again, by Python.

    Compiled code tells only that an exception was raised.
    """
    call = (
        f"{question}({', '.join(f'{name}={value}' for name, value in zip(PARAMETERS[question], asked, strict=True))})"
    )
    try:
        own_policy(source).functions[question](*asked)
    except Exception as error:
        return f"{call}: {': '.join(part for part in (_line_of(error), told(error)) if part)}"
    return f"{call}: it raised as compiled code alone does, at a division or a value too large"


def _line_of(error: BaseException) -> str:
    """The line of the policy that raised."""
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == WHERE]
    return f"line {lines[-1]}" if lines else ""


def _merge(function: Callable[[str, str], Any]) -> Callable[[str, str], bool]:
    def merge(cache: str, other: str) -> bool:
        try:
            return bool(function(cache, other))
        except Exception as error:
            told_line = ": ".join(part for part in (_line_of(error), told(error)) if part)
            raise PolicyError(f"{WHERE}: merge(cache={cache!r}, other={other!r}): {told_line}") from None

    return merge


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
    tree = bounded(source, WHERE, RUNNING)
    try:
        exec(compile(tree, WHERE, "exec"), namespace)
    except Exception as error:
        raise InputError(WHERE, _line_of(error), told(error)) from None
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
    return OwnPolicy(merge=_merge(found["merge"]) if "merge" in found else None, functions=found, **compiled)


_alive: list[Any] = []  # what the addresses point into


def _address(name: str, function: Callable[..., int]) -> int:
    if DISABLE_JIT:
        answers[len(answers) + 1] = _guarded(function)
        return len(answers)
    signature = types.int64(*[types.int64] * ARGUMENTS)
    try:
        checked = njit(signature, error_model="python")(function)
        compiled: Any = cfunc(signature)(_guarded(checked))
    except NumbaError as error:
        raise InputError(WHERE, *_why(name, str(error))) from None
    _alive.append(compiled)
    return int(compiled.address)


def _why(name: str, text: str) -> tuple[str, str]:
    """Where and why Numba does not compile a function, from the many lines that it says."""
    line = re.search(rf'File "{re.escape(WHERE)}", line (\d+)', text)
    lines = (part.strip() for part in text.splitlines())
    around = ("Failed in", "During", "File", "There are", "-", "^")
    said = (part for part in lines if part and not part.startswith(around))
    return f"{name}, line {line[1]}" if line else name, next(said, "cannot be compiled")


def _guarded(function: Callable[..., int]) -> Callable[..., int]:
    def guarded(a: int, b: int, c: int, d: int, e: int) -> int:
        try:
            return function(a, b, c, d, e)
        except Exception:
            return FAILED

    return guarded

"""Parts of Numba that are replaced while it compiles kernels, for a compilation in a third of the time.

They change neither what kernels compute nor any other function: each is in force only while a kernel is compiled, and
looks whether the code at hand is a kernel's. A version of Numba that they were not tried with compiles without them.
"""

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import numba
from llvmlite.ir import Constant, IntType
from numba import types
from numba.core.ir import Inst, Loc, Var

SWITCH = "FASTALLOC_UNPATCHED"  # an environment variable: set, Numba stays as it is
TRIED = ("0.60", "0.68")
COLLECTED_AFTER = 100_000  # objects that were made and are still there


class UntriedNumbaWarning(UserWarning):
    """Kernels compile slower than they could."""


def _are_used() -> bool:
    if os.environ.get(SWITCH):
        return False
    if ".".join(numba.__version__.split(".")[:2]) in TRIED:
        return True
    text = f"Numba {numba.__version__} was not tried (those were: {', '.join(TRIED)}): kernels compile slower"
    warnings.warn_explicit(text, UntriedNumbaWarning, "fastalloc", 0)
    return False


USED = _are_used()
"""Whether kernels are compiled with the replacements."""


def _import_without_scipy() -> None:
    """Numba imports scipy.linalg, a third of its own time, to see whether BLAS is at hand.

    It is, and whoever needs it imports it then.
    """
    from numba.np import linalg

    theirs = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        from numba.np import arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = theirs


if USED:
    _import_without_scipy()


def mark(module: Any) -> Any:
    """Says of an LLVM module that it is a kernel's."""
    module.of_a_kernel = True
    return module


def _is_kernel(builder: Any) -> bool:
    return getattr(builder.module, "of_a_kernel", False)


def _index_from_start(theirs):
    """An index of a kernel counts from the start: no test, at each access, for Python's indices from the end.

    Only a constant may be negative.
    """

    def fix_integer_index(context, builder, idxty, idx, size):
        constant = isinstance(idx, Constant) and isinstance(idx.constant, int) and idx.constant < 0
        if _is_kernel(builder) and not constant:
            return context.cast(builder, idx, idxty, types.intp)
        return theirs(context, builder, idxty, idx, size)

    return fix_integer_index


def _item_pointer(theirs):
    """The address of an item, by Horner's rule: Numba multiplies each index by the lengths of all axes behind it."""

    def get_item_pointer2(context, builder, data, shape, strides, layout, inds, wraparound=False, boundscheck=False):
        if layout != "C" or wraparound or boundscheck or not inds or not _is_kernel(builder):
            return theirs(context, builder, data, shape, strides, layout, inds, wraparound, boundscheck)
        place = inds[0]
        for index, length in zip_longest(inds[1:], shape[1:]):
            place = builder.mul(place, length)
            place = builder.add(place, index) if index else place
        return builder.gep(data, [place])

    return get_item_pointer2


def _values(theirs):
    """All options of a configuration. Numba compares them at each look for an overload, and reads them one by one."""
    defaults: dict[type, dict[str, Any]] = {}

    def values(config):
        kind = type(config)
        if kind not in defaults:
            defaults[kind] = {name: option.default for name, option in kind.options.items()}
        return {**defaults[kind], **config._values}

    return values


def _call_type(theirs):
    """The type of an operator on numbers and arrays, found once: each time Numba asks some fifty templates."""
    plain = (types.Number, types.Boolean, types.Array, types.UniTuple, types.SliceType)

    def get_call_type(function, context, args, kws):
        is_operator = getattr(function.typing_key, "__module__", None) == "_operator"
        if kws or not is_operator or not all(isinstance(arg, plain) for arg in args):
            return theirs(function, context, args, kws)
        known = function.__dict__.setdefault("_of_plain_values", {})
        if args not in known:
            known[args] = theirs(function, context, args, kws)
        return known[args]

    return get_call_type


def _load_additional_registries(theirs):
    """What was declared since. Numba also asks for its modules that declare: some forty import statements each time."""
    modules = [0]

    def load_additional_registries(context):
        if modules[0] != len(sys.modules):
            theirs(context)
            modules[0] = len(sys.modules)
        for registry in list(context._registries):
            context.install_registry(registry)

    return load_additional_registries


def _install_timer(theirs):
    """No listener for each function inside a kernel: all of them hear of every call into LLVM."""

    @contextmanager
    def install_timer(kind, callback):
        yield

    return install_timer


def _get_abi_sizeof(theirs):
    """The size of an integer, asked once: LLVM is given a module to read each time."""
    known: dict[int, int] = {}

    def get_abi_sizeof(context, kind):
        if type(kind) is not IntType:
            return theirs(context, kind)
        if kind.width not in known:
            known[kind.width] = theirs(context, kind)
        return known[kind.width]

    return get_abi_sizeof


def _rec_list_vars(theirs):
    """The variables of an instruction, in the same order, without a list for each part that holds none."""
    leaves = {str, int, bool, type(None), Loc}

    def gather(value, found):
        kind = type(value)
        if kind is Var:
            found.append(value)
        elif kind is dict or kind is list or kind is tuple:
            for part in value.values() if kind is dict else value:
                if type(part) is Var:
                    found.append(part)
                elif type(part) not in leaves:
                    gather(part, found)
        elif isinstance(value, Inst):
            found.extend(value.list_vars())

    def rec_list_vars(inst, value):
        found: list[Any] = []
        gather(value, found)
        return found

    return rec_list_vars


def _call_function(theirs):
    """A call, whose result has a place on the stack: Numba writes zero there before the call, and when the caller
    begins, whether it then calls or not."""

    from numba.core import cgutils

    places: Any = cgutils
    filled = places.alloca_once

    def call_function(convention, builder, *args, **kws):
        if not _is_kernel(builder):
            return theirs(convention, builder, *args, **kws)
        places.alloca_once = _empty_place
        try:
            return theirs(convention, builder, *args, **kws)
        finally:
            places.alloca_once = filled

    return call_function


def _empty_place(builder, kind, name=""):
    """A place on the stack that holds nothing yet."""
    with builder.goto_entry_block():
        return builder.alloca(kind, name=name)


def _places() -> Iterator[tuple[Any, str, Any]]:
    """What is replaced: a module or class, the name, and what makes ours of theirs."""
    from numba.core import cgutils, event
    from numba.core.base import BaseContext
    from numba.core.callconv import CPUCallConv
    from numba.core.cpu import CPUContext
    from numba.core.targetconfig import TargetConfig
    from numba.core.typing.context import Context
    from numba.np import arrayobj

    yield arrayobj, "fix_integer_index", _index_from_start
    yield cgutils, "get_item_pointer2", _item_pointer
    yield TargetConfig, "values", _values
    yield types.BaseFunction, "get_call_type", _call_type
    yield BaseContext, "get_abi_sizeof", _get_abi_sizeof
    yield Inst, "_rec_list_vars", _rec_list_vars
    yield CPUContext, "load_additional_registries", _load_additional_registries
    yield Context, "load_additional_registries", _load_additional_registries
    yield event, "install_timer", _install_timer
    yield CPUCallConv, "call_function", _call_function


def _both(place: Any, name: str, make: Any) -> tuple[Any, str, Any, Any]:
    theirs = getattr(place, name)
    return place, name, theirs, make(theirs)


_replaced = [_both(*found) for found in _places()] if USED else []
_depth = 0


@contextmanager
def applied() -> Iterator[None]:
    """Numba as kernels are compiled with. The caller holds Numba's compiler lock.

    Meanwhile cycles are looked for more rarely: nearly all that a compilation makes lives until it is over.
    """
    global _depth
    collects = gc.get_threshold()
    if _depth == 0:
        gc.set_threshold(COLLECTED_AFTER, *collects[1:])
        for place, name, _, ours in _replaced:
            setattr(place, name, ours)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            for place, name, theirs, _ in _replaced:
                setattr(place, name, theirs)
            gc.set_threshold(*collects)

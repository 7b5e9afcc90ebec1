"""The one decorator of every kernel: compiled once for all configurations, without the GIL, cached on disk."""

import hashlib
from functools import cache, wraps
from itertools import zip_longest
from types import FunctionType
from typing import Any

import fastalloc.compiler.cache_dir  # noqa: F401 - it names the cache folder before numba is imported

from llvmlite.binding import Linkage  # isort: skip
from llvmlite.ir import Constant  # isort: skip
from numba import config, njit, types  # isort: skip
from numba.core import cgutils  # isort: skip
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen  # isort: skip
from numba.core.registry import CPUDispatcher  # isort: skip
from numba.core.targetconfig import TargetConfig  # isort: skip
from numba.extending import intrinsic, overload  # isort: skip
from numba.np import arrayobj, linalg  # isort: skip

# Numba imports scipy.linalg, a third of its own time, to see whether BLAS is at hand. It is, and whoever needs it
# imports it then.
_ensure_blas = linalg.ensure_blas
linalg.ensure_blas = lambda: None
from numba.np import arraymath  # noqa: E402, F401  # isort: skip

linalg.ensure_blas = _ensure_blas

# Kernels allocate nothing, so they need no reference counts (``_nrt``): atomic operations on every array passed.
# An option not given passes from a function to those it calls: without the False, one inlined kernel inlines them all.
OPTIONS: Any = {"nogil": True, "error_model": "numpy", "_nrt": False, "forceinline": False, "no_cfunc_wrapper": True}
PART: Any = {"no_cpython_wrapper": True}  # of what Python does not call
INLINED: Any = {"forceinline": True}

DISABLE_JIT: bool = config.DISABLE_JIT  # type: ignore[attr-defined]

_NARROW = (types.int8, types.int16, types.int32, types.uint8, types.uint16, types.uint32)


def _argument(kind: Any) -> Any:
    """The type a kernel is compiled for: narrow integers are int64, a constant is no type of its own."""
    kind = types.unliteral(kind)
    return types.int64 if kind in _NARROW else kind


# Numba names the library of a function by its qualified name; these endings say what becomes of it.
_FOLDED = ".folded"
_ENTRY = ".entry"
# in the names that Numba gives their functions
_OF_KERNELS = ("9fastalloc7kernels", "9fastalloc5trace5order")
_optimize = CPUCodeLibrary._optimize_final_module
_finalize = CPUCodeLibrary._finalize_final_module
_set_env = JITCPUCodegen.set_env


def _marked(function, ending):
    """A copy of ``function`` whose library's name has the ending."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__doc__, copy.__module__, copy.__qualname__ = function.__doc__, function.__module__, function.__name__ + ending
    return copy


def _optimize_what_runs(library: Any) -> None:
    """Numba optimises every function by itself; a folded one runs only inside entries, which are optimised.

    What an entry calls becomes its own: LLVM then drops the arguments that a callee does not use.
    """
    if library.name.endswith(_FOLDED):
        return
    if library.name.endswith(_ENTRY):
        defined = [function for function in library._final_module.functions if not function.is_declaration]
        own = "".join(function.name for function in defined if function.linkage == Linkage.external)
        mark = hashlib.blake2b(own.encode(), digest_size=8).hexdigest()
        for function in defined:
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
                function.name += f".{mark}"  # the JIT's linker goes by name, local or not
    _optimize(library)


def _finalize_what_runs(library: Any) -> None:
    """Nor is machine code made of a folded function."""
    if library.name.endswith(_FOLDED):
        library._finalize_dynamic_globals()
        library._finalized = True
    else:
        _finalize(library)


def _set_env_of_what_runs(codegen: Any, name: str, env: Any) -> None:
    if codegen._engine.get_global_value_address(name):
        _set_env(codegen, name, env)


_fix_integer_index = arrayobj.fix_integer_index


def _index_of_kernels(context, builder, idxty, idx, size):
    """An index of a kernel counts from the start: no test, at each access, for Python's indices from the end.

    Only a constant may be negative. Other functions of the process keep the test.
    """
    constant = isinstance(idx, Constant) and isinstance(idx.constant, int) and idx.constant < 0
    if not constant and any(part in builder.function.name for part in _OF_KERNELS):
        return context.cast(builder, idx, idxty, types.intp)
    return _fix_integer_index(context, builder, idxty, idx, size)


_get_item_pointer = cgutils.get_item_pointer2


def _item_pointer(context, builder, data, shape, strides, layout, inds, wraparound=False, boundscheck=False):
    """The address of an item, by Horner's rule: Numba multiplies each index by the lengths of all axes behind it."""
    if layout != "C" or wraparound or boundscheck or not inds:
        return _get_item_pointer(context, builder, data, shape, strides, layout, inds, wraparound, boundscheck)
    place = inds[0]
    for index, length in zip_longest(inds[1:], shape[1:]):
        place = builder.mul(place, length)
        place = builder.add(place, index) if index else place
    return builder.gep(data, [place])


_DEFAULTS: dict[type, dict[str, Any]] = {}


def _values(config: Any) -> dict[str, Any]:
    """All options of a configuration. Numba compares them at each look for an overload, and reads them one by one."""
    kind = type(config)
    if kind not in _DEFAULTS:
        _DEFAULTS[kind] = {name: option.default for name, option in kind.options.items()}
    return {**_DEFAULTS[kind], **config._values}


TargetConfig.values = _values  # type: ignore[method-assign]
arrayobj.fix_integer_index = _index_of_kernels
cgutils.get_item_pointer2 = _item_pointer
CPUCodeLibrary._optimize_final_module = _optimize_what_runs  # type: ignore[method-assign]
CPUCodeLibrary._finalize_final_module = _finalize_what_runs  # type: ignore[method-assign]
JITCPUCodegen.set_env = _set_env_of_what_runs  # type: ignore[method-assign]


class _Part(CPUDispatcher):
    """A function that has no code of its own: called from Python it would end the process."""

    def __call__(self, *args, **kws):
        raise TypeError(f"{self.py_func.__name__}: only kernels call it; Python may call a `kernel` or an `entry`")


def _compiled(function, ending, **options):
    """``function``, to be compiled once for each kind of state it is called with.

    Left alone, Numba would compile it again for each constant and each width of integer among its arguments.
    """
    if DISABLE_JIT:
        function.py_func = function
        return function
    dispatcher = njit(**{**OPTIONS, **options})(_marked(function, ending))
    resolve = dispatcher.get_call_template

    def get_call_template(args, kws):
        return resolve([_argument(arg) for arg in args], {name: _argument(arg) for name, arg in kws.items()})

    dispatcher.get_call_template = get_call_template
    if ending == _FOLDED:
        dispatcher.__class__ = _Part
    return dispatcher


def entry(function):
    """A kernel that Python calls and no kernel does: one program with all that it calls, kept on disk."""
    return _compiled(function, _ENTRY, cache=True)


def internal(function):
    """A kernel that only kernels call: compiled as part of the entries that reach it, never by itself."""
    return _compiled(function, _FOLDED, **PART)


def folded(function):
    """An internal kernel that becomes part of each caller; for those with one or two callers."""
    return _compiled(function, _FOLDED, **PART, **INLINED)


def kernel(function, called_as=internal):
    """A kernel that kernels call, and Python may: then it is an entry."""
    from_python = entry(function)
    if not DISABLE_JIT:
        called = cache(lambda: called_as(function))  # a start that finds all compiled needs none of them
        from_python.get_call_template = lambda args, kws: called().get_call_template(args, kws)
        from_python.get_overload = lambda signature: called().get_overload(signature)
    return from_python


def by_type(stub, **options):
    """What is decorated gets types and returns the function that ``stub`` stands for in kernels; only they call it."""

    def chosen_by(choose):
        @wraps(choose)
        def marked(*args):
            return _marked(choose(*args), _FOLDED)

        merged: Any = {**OPTIONS, **PART, **options}
        overload(stub, jit_options=merged, strict=False)(marked)
        return choose

    return chosen_by


def _out_of_line(typingctx):
    """First statement of a large or rare kernel: callers call it, where LLVM would copy it into each of them."""

    def codegen(context, builder, signature, args):
        if "alwaysinline" not in builder.function.attributes:
            builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


def hint(codegen, interpreted) -> Any:
    """An intrinsic, or what stands for it where kernels are interpreted."""
    return interpreted if DISABLE_JIT else intrinsic(codegen)


out_of_line = hint(_out_of_line, lambda: None)

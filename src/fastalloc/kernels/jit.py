"""The one decorator of every kernel: compiled once for all configurations, without the GIL, cached on disk."""

import hashlib
from itertools import zip_longest
from types import FunctionType
from typing import Any

import fastalloc.kernels.cache_dir  # noqa: F401 - it names the cache folder before numba is imported

from llvmlite.binding import Linkage  # isort: skip
from llvmlite.ir import Constant  # isort: skip
from numba import config, njit, types  # isort: skip
from numba.core import cgutils  # isort: skip
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen  # isort: skip
from numba.extending import intrinsic  # isort: skip
from numba.np import arrayobj  # isort: skip

# Kernels allocate nothing, so they need no reference counts (``_nrt``): atomic operations on every array passed.
# An option not given passes from a function to those it calls: without the False, one inlined kernel inlines them all.
OPTIONS: Any = {"nogil": True, "error_model": "numpy", "_nrt": False, "forceinline": False, "no_cfunc_wrapper": True}
INLINED: Any = {**OPTIONS, "forceinline": True}

DISABLE_JIT: bool = config.DISABLE_JIT  # type: ignore[attr-defined]

_NARROW = (types.int8, types.int16, types.int32, types.uint8, types.uint16, types.uint32)


def _argument(kind: Any) -> Any:
    """The type a kernel is compiled for: narrow integers are int64, a constant is no type of its own."""
    kind = types.unliteral(kind)
    return types.int64 if kind in _NARROW else kind


def kernel(function, **options):
    """Compile ``function``, once for each kind of state it is called with.

    Left alone, Numba would compile it again for each constant and each width of integer among its arguments.
    """
    if DISABLE_JIT:
        function.py_func = function
        return function
    dispatcher = njit(**{"cache": True, **OPTIONS, **options})(function)
    resolve = dispatcher.get_call_template

    def get_call_template(args, kws):
        return resolve([_argument(arg) for arg in args], {name: _argument(arg) for name, arg in kws.items()})

    dispatcher.get_call_template = get_call_template
    return dispatcher


def inlined(function):
    """A kernel that becomes part of each caller: a call passes every array of every group, some hundred words."""
    return kernel(function, forceinline=True, cache=False)


# Numba names the library of a function by its qualified name; these endings say what becomes of it.
_FOLDED = ".folded"
_ENTRY = ".entry"
_OF_KERNELS = "9fastalloc7kernels"  # in the names that Numba gives their functions
_optimize = CPUCodeLibrary._optimize_final_module
_finalize = CPUCodeLibrary._finalize_final_module
_set_env = JITCPUCodegen.set_env


def _marked(function, ending):
    """A copy of ``function`` whose library's name has the ending."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__doc__, copy.__module__, copy.__qualname__ = function.__doc__, function.__module__, function.__name__ + ending
    return copy


def _optimize_what_runs(library: Any) -> None:
    """Numba optimises every function by itself; a folded one runs only inside its callers, which are optimised.

    What an entry calls becomes its own: LLVM then drops the arguments that a callee does not use, and most of the
    hundred words that describe the groups are such.
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
    if _OF_KERNELS in builder.function.name and not constant:
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


arrayobj.fix_integer_index = _index_of_kernels
cgutils.get_item_pointer2 = _item_pointer
CPUCodeLibrary._optimize_final_module = _optimize_what_runs  # type: ignore[method-assign]
CPUCodeLibrary._finalize_final_module = _finalize_what_runs  # type: ignore[method-assign]
JITCPUCodegen.set_env = _set_env_of_what_runs  # type: ignore[method-assign]


def folded(function):
    """A kernel with one or two callers, part of each of them and never run alone: a fifth less to compile."""
    return kernel(_marked(function, _FOLDED), forceinline=True, cache=False, no_cpython_wrapper=True)


def entry(function):
    """A kernel that Python calls and no kernel does: the program it makes with all that it calls is optimised whole."""
    return kernel(_marked(function, _ENTRY))


def internal(function):
    """A kernel that only kernels call: without the wrapper that would unpack every group from Python objects."""
    return kernel(_marked(function, _FOLDED), cache=False, no_cpython_wrapper=True)


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

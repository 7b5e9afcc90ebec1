"""The decorators of kernels: compiled once for all configurations, without the GIL, cached on disk."""

from functools import cache, partial, wraps
from typing import Any

from numba import config, njit, typeof, types
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic, overload

from fastalloc.compiler import cache_dir, patches

# An option not given passes from a function to those it calls: without the False, one inlined kernel inlines them all.
OPTIONS: Any = {"nogil": True, "error_model": "numpy", "forceinline": False}
PART: Any = {}  # of what Python does not call
ENTRY: Any = {}
INLINED: Any = {"forceinline": True}

DISABLE_JIT: bool = config.DISABLE_JIT  # type: ignore[attr-defined]
BOUNDSCHECK: bool = config.BOUNDSCHECK  # type: ignore[attr-defined]

if patches.USED and not DISABLE_JIT:
    from fastalloc.compiler.pipeline import EntryCompiler, PartCompiler

    # Kernels allocate nothing, so they need no reference counts (``_nrt``): atomic operations on every array passed.
    OPTIONS |= {"_nrt": False, "no_cfunc_wrapper": True}
    PART |= {"no_cpython_wrapper": True, "pipeline_class": PartCompiler}
    ENTRY |= {"pipeline_class": EntryCompiler}

_NARROW = (types.int8, types.int16, types.int32, types.uint8, types.uint16, types.uint32)


def _argument(kind: Any) -> Any:
    """The type a kernel is compiled for: narrow integers are int64, a constant is no type of its own."""
    kind = types.unliteral(kind)
    return types.int64 if kind in _NARROW else kind


class _Kernel(CPUDispatcher):
    """A function that is compiled once for each kind of state it is called with.

    Left alone, Numba would compile it again for each constant and each width of integer among its arguments.
    """

    def get_call_template(self, args, kws):
        return super().get_call_template(
            [_argument(arg) for arg in args], {name: _argument(arg) for name, arg in kws.items()}
        )


class _Internal(_Kernel):
    """A function that has no code of its own: called from Python it would end the process."""

    def __call__(self, *args, **kws):
        raise TypeError(f"{self.py_func.__name__}: only kernels call it; Python may call a `kernel` or an `entry`")


class _Entry(_Kernel):
    """A function that Python calls; one process at a time compiles it."""

    def compile(self, sig):
        with cache_dir.only_one(f"{self.py_func.__module__}.{self.py_func.__qualname__}"):
            return super().compile(sig)


class _Both(_Entry):
    """An entry to Python, and to kernels what ``called`` returns: a start that finds all compiled needs none of it."""

    called: Any

    def get_call_template(self, args, kws):
        return self.called().get_call_template(args, kws)

    def get_overload(self, signature):
        return self.called().get_overload(signature)


def _compiled(function, kind, options):
    if DISABLE_JIT:
        function.py_func = function
        return function
    dispatcher = njit(**{**OPTIONS, **options})(function)
    dispatcher.__class__ = kind
    return dispatcher


def _kept(function, kind):
    """An entry that is kept on disk."""
    with cache_dir.used():
        return _compiled(function, kind, {**ENTRY, "cache": True})


def entry(function):
    """A kernel that Python calls and no kernel does: one program with all that it calls, kept on disk."""
    return _kept(function, _Entry)


def compile_entry(program, *arguments):
    """Compile an entry for such arguments, or load it from disk, without a call."""
    if not DISABLE_JIT:
        program.compile(tuple(typeof(each) for each in arguments))


def internal(function):
    """A kernel that only kernels call: compiled as part of the entries that reach it, never by itself."""
    return _compiled(function, _Internal, PART)


def folded(function):
    """An internal kernel that becomes part of each caller; for those with one or two callers."""
    return _compiled(function, _Internal, {**PART, **INLINED})


def kernel(function, called_as=internal):
    """A kernel that kernels call, and Python may: then it is an entry."""
    from_python = _kept(function, _Both)
    if not DISABLE_JIT:
        from_python.called = cache(lambda: called_as(function))
    return from_python


called_folded = partial(kernel, called_as=folded)
"""A kernel that Python calls, and that becomes part of each kernel that does; for short ones."""


def by_type(stub, **options):
    """What is decorated gets types and returns the function that ``stub`` stands for in kernels; only they call it."""

    def chosen_by(choose):
        merged: Any = {**OPTIONS, **PART, **options}
        overload(stub, jit_options=merged, strict=False)(choose)
        return choose

    return chosen_by


def dispatched(choose, **options):
    """The decorated function, a name and its documentation, stands for what ``choose`` returns for its arguments.

    ``choose`` gets their types where kernels are compiled, and themselves where they are interpreted.
    """

    def stands_for(face):
        @wraps(face)
        def stub(*args):
            return choose(*args)(*args)

        by_type(stub, **options)(choose)
        return stub

    return stands_for


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

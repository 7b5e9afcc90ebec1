"""The one decorator of every kernel: compiled once for all configurations, without the GIL, cached on disk."""

import fastalloc.kernels.cache_dir  # noqa: F401 - it names the cache folder before numba is imported

from numba import njit, types  # isort: skip

_compile = njit(nogil=True, cache=True, error_model="numpy")


def _argument(kind):
    """The type a kernel is compiled for: every integer is an int64, a constant is no type of its own."""
    kind = types.unliteral(kind)
    return types.int64 if isinstance(kind, types.Integer) else kind


def kernel(function):
    """Compile ``function``, once for each kind of state it is called with.

    Left alone, Numba would compile it again for each constant and each width of integer among its arguments.
    """
    dispatcher = _compile(function)
    resolve = dispatcher.get_call_template

    def get_call_template(args, kws):
        return resolve([_argument(arg) for arg in args], {name: _argument(arg) for name, arg in kws.items()})

    dispatcher.get_call_template = get_call_template
    return dispatcher

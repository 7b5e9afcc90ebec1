"""Whole numbers of 64 bits that raise where C would wrap or trap: as policies compute, interpreted and compiled."""

from typing import Any

from llvmlite import ir  # isort: skip
from numba import njit, types  # isort: skip
from numba.extending import intrinsic  # isort: skip

LOWEST, LARGEST = -(1 << 63), (1 << 63) - 1
TOO_LARGE = "a whole number does not fit in 64 bits"
SHIFT = "a shift is by 0 to 63 bits"
BY_ZERO = "division by zero"  # each release of Python has its own words


def _within(value: int) -> int:
    if not LOWEST <= value <= LARGEST:
        raise OverflowError(TOO_LARGE)
    return value


def _lshift(a: int, b: int) -> int:
    if not 0 <= b <= 63:
        raise OverflowError(SHIFT)
    return _within(int(a) << int(b))


def _rshift(a: int, b: int) -> int:
    if not 0 <= b <= 63:
        raise OverflowError(SHIFT)
    return int(a) >> int(b)


def _by(b: int) -> int:
    if b == 0:
        raise ZeroDivisionError(BY_ZERO)
    return int(b)


INTERPRETED: dict[str, Any] = {
    "_own_add": lambda a, b: _within(int(a) + int(b)),
    "_own_sub": lambda a, b: _within(int(a) - int(b)),
    "_own_mul": lambda a, b: _within(int(a) * int(b)),
    "_own_floordiv": lambda a, b: _within(int(a) // _by(b)),
    "_own_mod": lambda a, b: int(a) % _by(b),
    "_own_lshift": _lshift,
    "_own_rshift": _rshift,
    "_own_abs": lambda a: _within(abs(int(a))),
}


def _with_overflow(name: str) -> Any:
    def checked(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            both = getattr(builder, f"{name}_with_overflow")(*args)
            value, wrapped = builder.extract_value(both, 0), builder.extract_value(both, 1)
            flag = builder.zext(wrapped, ir.IntType(64))
            return context.make_tuple(builder, signature.return_type, (value, flag))

        return types.UniTuple(types.int64, 2)(types.int64, types.int64), codegen

    return intrinsic(checked)


_sadd, _ssub, _smul = (_with_overflow(name) for name in ("sadd", "ssub", "smul"))


def _raising(compute: Any) -> Any:
    @njit
    def found(a: Any, b: Any) -> Any:
        value, wrapped = compute(a, b)
        if wrapped != 0:
            raise OverflowError(TOO_LARGE)
        return value

    return found


_add, _sub, _mul = (_raising(compute) for compute in (_sadd, _ssub, _smul))


@njit
def _floordiv(a: Any, b: Any) -> Any:
    if b == 0:
        raise ZeroDivisionError(BY_ZERO)
    return a // b if b != -1 else _sub(0, a)


@njit
def _mod(a: Any, b: Any) -> Any:
    if b == 0:
        raise ZeroDivisionError(BY_ZERO)
    return a % b if b != -1 else 0


@njit
def _left(a: Any, b: Any) -> Any:
    if b < 0 or b > 63:
        raise OverflowError(SHIFT)
    value = a << b
    if value >> b != a:
        raise OverflowError(TOO_LARGE)
    return value


@njit
def _right(a: Any, b: Any) -> Any:
    if b < 0 or b > 63:
        raise OverflowError(SHIFT)
    return a >> b


@njit
def _abs(a: Any) -> Any:
    return a if a >= 0 else _sub(0, a)


COMPILED: dict[str, Any] = {
    "_own_add": _add,
    "_own_sub": _sub,
    "_own_mul": _mul,
    "_own_floordiv": _floordiv,
    "_own_mod": _mod,
    "_own_lshift": _left,
    "_own_rshift": _right,
    "_own_abs": _abs,
}

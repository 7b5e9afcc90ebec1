"""Counter-based randomness: a draw is a pure function of (seed, stream, lane, time, n).

Philox4x32-10 [Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011]. There is no state
to carry, so a draw depends neither on threads nor on batches nor on what was drawn before, and the same event draws
the same number under two policies. Everything is unsigned 64-bit arithmetic; no float anywhere. Kernels pass every
integer as int64, so each function here first reads its arguments as the unsigned numbers that they are.
"""

import numpy as np

from fastalloc.compiler.jit import called_folded, folded, kernel

U32 = np.uint64(0xFFFFFFFF)
S32 = np.uint64(32)
ZERO = np.uint64(0)
ONE = np.uint64(1)

MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint64(0x9E3779B9)
WEYL_1 = np.uint64(0xBB67AE85)
ROUNDS = 10

# log2 of 1 + i/1024, in units of 2**-57, for linear interpolation.
LOG_BITS = 10
LOG_ONE = 57
LN2_Q64 = np.uint64(0xB17217F7D1CF79AB)  # ln 2 in units of 2**-64


def log2_table(bits: int, one: int) -> np.ndarray:
    """``floor(log2(1 + i / 2**bits) * 2**one)`` for i = 0 .. 2**bits, in whole numbers: bit by bit, by squaring."""
    work = one + 16
    rows = []
    for i in range((1 << bits) + 1):
        x = ((1 << bits) + i) << (work - bits)
        if i == 1 << bits:
            rows.append(1 << one)
            continue
        fraction = 0
        for _ in range(one):
            x = x * x >> work
            fraction <<= 1
            if x >> (work + 1):
                x >>= 1
                fraction |= 1
        rows.append(fraction)
    return np.array(rows, np.uint64)


LOG2 = log2_table(LOG_BITS, LOG_ONE)


@called_folded
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 of a 4 x 32-bit counter under a 2 x 32-bit key: four 32-bit words."""
    x0, x1, x2, x3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    key0, key1 = np.uint64(k0), np.uint64(k1)
    for _ in range(ROUNDS):
        p0 = MULTIPLIER_0 * x0
        p1 = MULTIPLIER_1 * x2
        x0 = (p1 >> S32) ^ x1 ^ key0
        x1 = p1 & U32
        x2 = (p0 >> S32) ^ x3 ^ key1
        x3 = p0 & U32
        key0 = (key0 + WEYL_0) & U32
        key1 = (key1 + WEYL_1) & U32
    return x0, x1, x2, x3


@folded
def drawn(seed, stream, lane, time, n):
    """:func:`draw` as part of its caller, for a loop of many."""
    key = np.uint64(seed)
    when = np.uint64(time)
    c0 = ((np.uint64(stream) & np.uint64(0xFFFF)) << np.uint64(16)) | (np.uint64(n) & np.uint64(0xFFFF))
    x0, x1, _x2, _x3 = philox(c0, np.uint64(lane) & U32, when & U32, when >> S32, key & U32, key >> S32)
    return (x1 << S32) | x0


@kernel
def draw(seed, stream, lane, time, n):
    """The ``n``-th 64-bit draw of ``stream`` on ``lane`` at ``time``.

    No two different argument tuples share a counter while seed and time are below 2**64, lane below 2**32, stream
    and n below 2**16.
    """
    return drawn(seed, stream, lane, time, n)


@called_folded
def multiply_high(a, b):
    """The upper 64 bits of the 128-bit product of two uint64."""
    a0 = np.uint64(a) & U32
    a1 = np.uint64(a) >> S32
    b0 = np.uint64(b) & U32
    b1 = np.uint64(b) >> S32
    middle = a1 * b0 + (a0 * b0 >> S32)
    carry = a0 * b1 + (middle & U32)
    return a1 * b1 + (middle >> S32) + (carry >> S32)


@called_folded
def below(number, bound):
    """A whole number in [0, bound) from one draw, as int64.

    Multiply-high: each value's probability is off 1/bound by less than 2**-64, so for bound up to 2**32 no
    statistic over fewer than 2**32 draws can see it. ``bound`` of 0 gives 0.
    """
    return np.int64(multiply_high(number, bound))


@kernel
def happens(number, parts, whole):
    """Whether an event of probability parts/whole happens: for yearly, per-tick and per-request chances alike."""
    return below(number, whole) < np.int64(parts)


@kernel
def minus_log2(number):
    """``-log2((number + 1/2) / 2**64)`` in units of 2**-57, from a table; at most 1.72e-7 too large."""
    top = np.uint64(number)
    if top == ZERO:
        return np.uint64(65) << np.uint64(LOG_ONE)
    shift = ZERO
    for step in (32, 16, 8, 4, 2, 1):
        if top < (ONE << np.uint64(64 - step)):
            top <<= np.uint64(step)
            shift += np.uint64(step)
    if shift != ZERO:
        top |= ONE << (shift - ONE)  # the half
    row = np.int64((top >> np.uint64(63 - LOG_BITS)) & np.uint64((1 << LOG_BITS) - 1))
    rest = (top << np.uint64(1 + LOG_BITS)) >> np.uint64(1 + LOG_BITS)
    # rest has 63 - LOG_BITS bits; a table step is below 2**(LOG_ONE - LOG_BITS + 1)
    slope = multiply_high(rest << np.uint64(1 + LOG_BITS), LOG2[row + 1] - LOG2[row])
    whole = (ONE + shift) << np.uint64(LOG_ONE)
    return whole - (LOG2[row] + slope)


@kernel
def exponential_ns(number, mean_ns):
    """The time to the next event of a Poisson process, rounded to whole nanoseconds, as int64.

    -ln(u) * mean with u = (number + 1/2) / 2**64. The table adds at most 1.2e-7 mean to a value; rounding moves the
    expectation by less than 1 ns / (24 mean). ``mean_ns`` must be below 2**57; the largest value is 45.1 means.
    """
    nats = multiply_high(minus_log2(number), LN2_Q64)  # units of 2**-57
    halves = multiply_high(nats << ONE, np.uint64(mean_ns) << np.uint64(7))
    return np.int64((halves + ONE) >> ONE)

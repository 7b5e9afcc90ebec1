"""What hints may change, and what they may not."""

import numba

from fastalloc.compiler.hints import likely, unlikely
from fastalloc.compiler.jit import DISABLE_JIT


@numba.njit
def sign(a):
    if unlikely(a < 0):
        return -1
    if likely(a > 0):
        return 1
    return 0


def test_likely_and_unlikely_are_their_condition_whether_they_are_right_or_wrong():
    assert [sign(a) for a in (-2, 0, 3)] == [-1, 0, 1]


def test_they_reach_the_compiler():
    sign(1)
    if not DISABLE_JIT:
        (text,) = sign.inspect_llvm().values()
        assert "branch_weights" in text or "llvm.expect" in text

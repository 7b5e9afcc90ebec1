"""Arrays that begin on a cache line."""

import numpy as np
import pytest

from fastalloc.compiler.aligned import LINE, zeros


@pytest.mark.parametrize("shape", [1, 7, (3, 5), (2, 3, 64), (1 << 16, 16)])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_zeros_begin_on_a_line(shape, dtype):
    made = zeros(shape, dtype)
    expected = np.zeros(shape, dtype)
    assert made.ctypes.data % LINE == 0
    assert (made.shape, made.dtype, made.strides) == (expected.shape, expected.dtype, expected.strides)
    assert made.flags.c_contiguous
    assert not made.any()

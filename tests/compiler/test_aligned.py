"""Arrays that begin on a cache line, and take memory for what is written to them."""

import gc
import mmap

import numpy as np
import pytest
from benchmarks.resident import resident

from fastalloc.compiler.aligned import LINE, MAPPED, copied, zeros


@pytest.mark.parametrize("shape", [1, 7, (3, 5), (2, 3, 64), (1 << 16, 16)])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_zeros_begin_on_a_line(shape, dtype):
    made = zeros(shape, dtype)
    expected = np.zeros(shape, dtype)
    assert made.ctypes.data % LINE == 0
    assert (made.shape, made.dtype, made.strides) == (expected.shape, expected.dtype, expected.strides)
    assert made.flags.c_contiguous
    assert not made.any()


def test_a_large_array_takes_memory_for_what_is_written():
    spent = zeros(1 << 22, np.uint8)
    spent[:] = 1
    del spent
    gc.collect()
    array = zeros((1 << 19, 2), np.int32)
    assert resident(array) == 0
    array[1000] = 7
    assert resident(array) == mmap.PAGESIZE


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
@pytest.mark.parametrize("size", [0, 1, MAPPED // 8 - 1, MAPPED + 3, (1 << 20) + 1])
def test_a_copy_is_equal_and_takes_memory_for_what_is_not_0(dtype, size):
    array = zeros(size, dtype)
    array[: size // 3 : 5] = 9
    array[size - 1 :] = 3
    copy = copied(array)
    assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
    assert (copy == array).all()
    assert not np.shares_memory(copy, array)
    if size > MAPPED:
        assert resident(copy) <= resident(array)


def test_what_cannot_be_written_is_copied_too():
    array = np.frombuffer(bytes(range(256)) * 1024, np.int16).reshape(-1, 4)
    copy = copied(array)
    assert copy.flags.writeable
    assert (copy == array).all()


def test_no_room_is_a_memory_error():
    with pytest.raises(MemoryError):
        zeros(1 << 62, np.int8)

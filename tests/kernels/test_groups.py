"""Groups of arrays as kernels get them: what cannot be one is refused, before anything is read by the wrong length."""

import numpy as np
import pytest
from numba import config
from numba.core.errors import TypingError

from fastalloc.kernels.alloc.page_alloc import alloc_pages
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.swap.lru import lru_add
from fastalloc.trace.lanes.lane import unlimited_mem

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="interpreted kernels get the arrays as they are")


def test_rows_of_another_length_are_refused():
    mem = unlimited_mem(1, 1)
    shorter = mem._replace(zone=np.ascontiguousarray(mem.zone[:, :-1]))
    assert alloc_pages(mem, 0, -1, 0, 0, 0) == 0
    with pytest.raises(ValueError, match=rf"Mem\.zone: rows of {ZONE.width}"):
        alloc_pages(shorter, 0, -1, 0, 0, 0)


def test_arrays_with_gaps_are_refused():
    mem = unlimited_mem(1, 1)
    with pytest.raises(TypingError, match=r"Mem\.ctl: a contiguous array"):
        alloc_pages(mem._replace(ctl=np.zeros(2 * MEMCTL.width, np.int64)[::2]), 0, -1, 0, 0, 0)


def test_changes_are_seen_through_the_group():
    mem = unlimited_mem(2, 2)
    for times in (1, 2, 3):
        assert alloc_pages(mem, 1, 1, 0, 2, 0) == 1
        assert mem.zone[:, ZONE.used].tolist() == [0, 4 * times]


def test_a_kernel_that_only_kernels_call_says_so_to_python():
    with pytest.raises(TypeError, match="lru_add: only kernels call it"):
        lru_add(unlimited_mem(1, 1), 0, True)

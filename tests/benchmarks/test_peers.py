"""The plain model of the benchmark `peers` still runs, and counts what the kernel counts."""

import numpy as np
import pytest
from benchmarks.peers import reference
from benchmarks.twin import KernelRun
from benchmarks.works import ERAS, synthetic


@pytest.mark.parametrize("name", ["random", "remote"])
def test_the_reference_counts_as_the_kernel_does(name):
    work = synthetic(name, ERAS[1], 3000)
    kernel = KernelRun(work)
    kernel.run()
    counted = kernel.outcome().stat
    assert counted.sum() > len(work.events)
    assert np.array_equal(reference(work)[1], counted)

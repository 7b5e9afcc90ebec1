"""A lane takes memory for what it has come to use, not for what it has room for."""

import pytest
from benchmarks.lanes import scenario
from benchmarks.resident import resident

from fastalloc.batch.lane import build_lane
from fastalloc.batch.snapshot import named_arrays, restore, take
from fastalloc.compiler.aligned import MAPPED
from fastalloc.kernels.lane.state import FILE, MAPPING, VM
from fastalloc.kernels.lane.tasks import TASK, TASK_KIND
from fastalloc.kernels.machine.run import run_lane

MEBIBYTE = 1 << 20


def taken(arrays) -> float:
    """MiB of the large arrays of a lane that are in memory."""
    large = (array for _, array in named_arrays(arrays) if array.nbytes >= MAPPED)
    return sum(resident(array) for array in large) / MEBIBYTE


@pytest.fixture(scope="module")
def arrays():
    """A lane of 512 MB after a minute under full load."""
    wanted = scenario("fix")
    booted = build_lane(wanted, 0, 1)
    assert taken(booted) < 0.7
    run_lane(*booted, 60_000_000_000)
    return booted


def test_a_minute_of_full_load_takes_less_than_six_mebibytes(arrays):
    assert taken(arrays) < 6


def test_a_snapshot_takes_no_more_than_its_lane(arrays):
    snapshot = take(0, arrays)
    assert taken(snapshot.arrays) <= taken(arrays)
    assert taken(restore(snapshot)) <= taken(arrays)


def test_a_file_that_was_never_made_has_no_record(arrays):
    vm = arrays.vm
    made = 0
    for task in vm.task[vm.task[:, TASK.kind] == TASK_KIND.copier]:
        if task[TASK.tree] > 0:
            continue
        first = task[TASK.file_base]
        behind = slice(first + task[TASK.file] + 1, first + vm.ctl[VM.tree_files])
        assert not vm.file[behind].any()
        assert not vm.mapping[behind].any()
        made += int(task[TASK.file])
    assert 0 < made <= (vm.file[:, FILE.inode] > 0).sum()
    assert (vm.mapping[:, MAPPING.nrpages] >= vm.mapping[:, MAPPING.first]).all()

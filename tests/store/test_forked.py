"""Forked workers: what would hang there is refused in a line; lanes run, and spawned workers do all."""

import multiprocessing
import os
import warnings

import pytest

from fastalloc.batch import run_lanes
from fastalloc.errors import InputError
from fastalloc.store import DatasetWriter, open_dataset
from fastalloc.trace.replay.recording import read_trace
from tests.closed_loop.small import image, small
from tests.faults.test_files import FAULTS

MOST_S = 60


def answer(path):
    """What a worker gets of a dataset: its lanes, or why not."""
    try:
        return open_dataset(path).runs.collect().height
    except InputError as error:
        return str(error)


def refused(path):
    told = [answer(path)]
    for use in (lambda: read_trace(FAULTS / "a.parquet"), lambda: DatasetWriter(path / "x", None, [], "")):
        try:
            use()
        except InputError as error:
            told.append(str(error))
    return told


def lane(number):
    (result,) = run_lanes(small("rc8", {"run.duration_s": 0.5}), [number], seed=1, threads=1)
    return image(result)


def pooled(kind, work, argument):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 on: of a fork beside threads
        with multiprocessing.get_context(kind).Pool(1) as pool:
            return pool.apply_async(work, (argument,)).get(MOST_S)


@pytest.fixture
def dataset(tmp_path):
    from fastalloc.runner import run

    return run(small("rc8", {"run.lanes": 2, "run.duration_s": 0.5}), tmp_path / "d", variants=["rc8"], threads=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_forked_worker_is_refused_what_would_hang(dataset):
    told = pooled("fork", refused, dataset.path)
    assert len(told) == 3
    assert all("forked process" in line and "spawn" in line for line in told)
    assert pooled("fork", lane, 1) == lane(1)


def test_a_spawned_worker_gets_a_dataset(dataset):
    assert pooled("spawn", answer, dataset.path) == 2

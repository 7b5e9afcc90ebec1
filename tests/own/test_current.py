"""Which task asks an allocator of one's own: the one that runs in the closed loop, the one recorded in a replay."""

import dataclasses

import numpy as np
import pytest

from fastalloc.batch.lane import build_lane
from fastalloc.errors import InputError
from fastalloc.kernels.lane.state import ROLE
from fastalloc.kernels.lane.tasks import TASK, TASK_KIND
from fastalloc.own.allocator import own_allocator
from fastalloc.own.lane import views
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.tasks import ALLOCATES, FREES, tasks_as_played, tasks_of
from fastalloc.trace.lanes.lane import cache_of_kind, samples_of
from fastalloc.trace.lanes.own_lane import OwnRun
from fastalloc.trace.replay.recording import beside, open_recording, read_trace
from fastalloc.verify.own.allocator_check import check_allocator
from fastalloc.verify.own.template import allocator_template
from tests.closed_loop.small import OWN_CORES, advance, small
from tests.geometry.shared import DATA

RUN = DATA / "traces" / "d_w4_k73_smp4.events.parquet"
SEEN = (
    allocator_template("mine")
    .replace("put_slot, slow,", "current, put_slot, slow,")
    .replace('"held": (1, 1),', '"held": (1, 1), "seen": ("TASKS * CACHES", 1),')
    .replace(
        "    if heap.list[c, 0]", "    heap.seen[current(zone) * len(heap.size) + c, 0] += 1\n    if heap.list[c, 0]"
    )
)


@pytest.fixture(scope="module")
def recording():
    return open_recording(RUN, beside(RUN, "slabstate"), None, "7.3", "")


def test_in_the_closed_loop_it_is_the_task_that_runs():
    own = {"policy.allocator": "own", "policy.questions": SEEN, "policy.questions_file": "seen.py"}
    scenario = small("rc8", OWN_CORES | {"run.duration_s": 12.0, "run.series_ms": 1000, "machine.cpus": 2} | own)
    lane = build_lane(scenario, 3, 1)
    asked = views(own_allocator(*scenario.policy.own), lane.heap).seen
    asked[:] = 0  # the pools were filled at boot
    advance(3, lane, 12_000)
    seen = asked.reshape(-1, len(lane.heap.counts))
    tasks = lane.vm.task[:, TASK.kind]
    assert len(seen) == 1 + len(tasks)
    for role, kinds in (
        ("inode", {TASK_KIND.copier}), ("dentry", {TASK_KIND.copier}),
        ("bio", {TASK_KIND.copier, TASK_KIND.writer, TASK_KIND.kswapd}),
    ):  # fmt: skip
        by = np.flatnonzero(seen[:, lane.vm.roles[getattr(ROLE, role)]])
        assert len(by) > 1, role
        assert 0 not in by, role
        assert {int(tasks[task - 1]) for task in by} <= {int(kind) for kind in kinds}, role
    senses = np.flatnonzero(seen[:, lane.vm.roles[ROLE.sense]])
    assert len(senses) > 2  # reclaimers, kblockd, and whom the completion of a command interrupted
    noise = np.flatnonzero(seen[:, lane.vm.roles[ROLE.noise]])
    assert len(noise) > 2  # an interrupt finds any task


def test_in_a_replay_it_is_the_task_that_was_recorded(recording, tmp_path):
    (tmp_path / "seen.py").write_text(SEEN)
    _, config = recording.configs([f"allocator={tmp_path / 'seen.py'}"])
    trace = recording.trace
    lane = OwnRun(trace, config, recording.start, samples_of(trace, None))
    before = lane.heap.seen.copy()
    lane.to(len(trace.events))
    pids, task = tasks_as_played(trace)
    cache = cache_of_kind(trace, config)[trace.events["kind"]]
    allocs = np.isin(trace.events["op"], (co.OP_ALLOC, co.OP_BULK_ALLOC, co.OP_SHEAF_ALLOC)) & (cache >= 0)
    expected = np.bincount(task[allocs] * np.int64(len(config.caches)) + cache[allocs], minlength=len(before))
    assert len(pids) > 20
    assert ((lane.heap.seen - before)[:, 0] == expected).all()


def test_events_woven_in_move_no_task():
    """Of a recording whose lists are not known, so that no address moves an operation."""
    trace = open_recording(RUN, None, None, "7.3", "").trace
    recorded = read_trace(RUN)
    assert len(trace.events) > len(recorded.events)
    own = trace.events["kind"] < len(recorded.kinds)  # the others came later
    pids, task = tasks_of(recorded)
    again, played = tasks_as_played(trace)
    moves = np.isin(trace.events["op"][own], (*ALLOCATES, *FREES))
    assert (pids == again).all()
    assert (played[own][moves] == task[moves]).all()
    assert not played[~own].any()


def test_another_order_moves_tasks_with_their_events(recording):
    recorded = read_trace(RUN)
    _, task = tasks_of(recorded)
    rng = np.random.default_rng(1)
    at = np.arange(len(task)) + rng.integers(0, 50, len(task))
    # what is at one address keeps its order
    by_object = np.lexsort((np.arange(len(task)), recorded.events["object"]))
    changes = np.flatnonzero(np.diff(recorded.events["object"][by_object])) + 1
    for part in np.split(by_object, changes):
        at[part] = np.maximum.accumulate(at[part])
    order = np.argsort(at, kind="stable")
    assert (order != np.arange(len(order))).any()
    moved = dataclasses.replace(recorded, events=recorded.events[order], drawn_from=recorded)
    moves = np.isin(moved.events["op"], (*ALLOCATES, *FREES))
    assert (tasks_as_played(moved)[1][moves] == task[order][moves]).all()


def test_a_trace_that_keeps_no_tasks_is_refused(recording, tmp_path):
    (tmp_path / "seen.py").write_text(SEEN)
    _, config = recording.configs([f"allocator={tmp_path / 'seen.py'}"])
    trace = recording.trace
    meta = {key: value for key, value in trace.meta.items() if key != "tasks"}
    bare = dataclasses.replace(trace, meta=meta)
    with pytest.raises(InputError, match="keeps no tasks; convert it again"):
        OwnRun(bare, config, recording.start, samples_of(trace, None))


@pytest.mark.usefixtures("still_clock")
def test_a_check_tells_tasks_apart(monkeypatch):
    monkeypatch.setattr("fastalloc.verify.own.allocator_check.LONG", 2400)
    wrong = SEEN.replace(
        "    return take_slot", "    heap.size[c, 0] += 8 if current(zone) == 3 else 0\n    return take_slot"
    )
    (fault,) = check_allocator(wrong, "mine.py", {}, 4.0).faults
    assert any("task 3: " in line for line in fault.lines())
    assert check_allocator(SEEN, "mine.py", {}, 0.5).faults == []

"""Statistics of one lane, of equal policies and of none: no interval and no front, and why."""

import json

import polars as pl
import pytest

from fastalloc.report.board import board, board_rows, no_front
from fastalloc.report.html import render
from fastalloc.report.pareto import pareto_charts
from fastalloc.report.sensitivity import Influence, _finite
from fastalloc.report.statistics import TOO_FEW, told_difference, told_share
from fastalloc.report.terminal import share
from fastalloc.report.verdict import verdict_rows, verdicts


def test_one_lane_has_no_interval():
    assert told_share(1, 1) is None
    assert told_share(0, 0) is None
    assert told_difference(1, 0, 1) is None
    assert told_share(1, 2) is not None
    assert share(1, 1, None) == "1 of 1"


@pytest.fixture(scope="module")
def single(make_dataset):
    return make_dataset(lanes=1)


def test_one_lane_says_so_in_json_and_page(single):
    rows = json.loads(json.dumps(verdict_rows(verdicts(single)), allow_nan=False))
    assert [row["livelocked_5s_interval"] for row in rows] == [None] * 3
    assert {row["no_interval"] for row in rows} == {TOO_FEW}
    rows = json.loads(json.dumps(board_rows(board(single)), allow_nan=False))
    assert [(row["interval"], row["difference_interval"], row["throughput_quartiles"]) for row in rows] == [
        (None,) * 3
    ] * 3
    page = render(single)
    assert "one lane" in page


def test_two_lanes_have_one(make_dataset):
    (row, *_) = verdict_rows(verdicts(make_dataset(lanes=2)))
    assert row["livelocked_5s_interval"]
    assert "no_interval" not in row


def fronts(found):
    return {reason for _, _, reason in pareto_charts(found)}


def test_no_front_where_nothing_ranks(single, make_dataset):
    found = board(single)
    assert fronts(found) == {"one lane a policy does not rank them"}
    assert '"front": true' not in json.dumps([spec for _, spec, _ in pareto_charts(found)])
    found = [row._replace(livelocked=0) for row in board(make_dataset(lanes=12))]
    assert fronts(found) == {""}
    same = [found[0]._replace(policy=name) for name in ("a", "b")]
    assert fronts(same) == {"all policies are equal in both"}
    assert fronts(found[:1]) == {"fewer than two of them go on"}
    assert no_front([], 0)


def test_a_run_that_did_nothing_says_nothing_of_memory(make_dataset):
    dataset = make_dataset(variants=("fix",), lanes=2)
    nothing = ("pages_swapped_out", "noise_allocations", "commands", "livelock_5s", "oom")
    still = dataset.runs.with_columns(pl.lit(0, pl.Int64).alias(name) for name in nothing)
    (found,) = verdicts(type(dataset)(**vars(dataset) | {"runs": still}))
    assert "tells nothing about memory" in found.sentence
    moved = still.with_columns(pl.lit(5, pl.Int64).alias("pages_copied"))
    (found,) = verdicts(type(dataset)(**vars(dataset) | {"runs": moved}))
    assert found.sentence == "Memory never ran short enough to swap a page out."


def test_an_interval_that_cannot_be_told_is_none():
    nan = float("nan")
    assert _finite(Influence("a", 0.5, nan, 0.7, 0.1)) == Influence("a", 0.5, None, 0.7, 0.1)
